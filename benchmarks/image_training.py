"""Networks trained here, beside pretrained features: garments drawn in 28 x 28 grey pixels, and photographs of clothing.

Fashion-MNIST: a small network is trained on the 10,000 training pictures, with their labels and (SimCLR) without; beside
it EfficientNet-Lite0 as it comes and the pixels after PCA. All are judged by one probe, logistic regression, on the
10,000 test pictures, which no network has seen: in 5 folds of them, and fitted on the training pictures.

Photographs: in each of 5 folds EfficientNet-Lite0 is fine-tuned on the other four, and the probe is fitted on these and
scored on the fold; beside it the same without fine-tuning.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Result, Row
from embedders.base import Matrix, Vectors
from embedders.data import Images

EPOCHS = {"labels": 20, "simclr": 12}
GARMENTS = {"labels": "dataset", "crop": 0.7, "jitter": 0}
"""Of three settings, the one that told pictures held out of the training ones best (3,000 pictures, 10 epochs). Scores of 2,000
test pictures were seen beside, with the same winner."""
FINE_TUNE = {"labels": "dataset", "layers": "last", "epochs": 12, "batch_size": 32, "validation": 0}
FOLDS = 5
TRAINED, SIMCLR, RANDOM, LITE0, PCA = (
    "small, trained on the labels", "small, SimCLR", "small, random weights", "EfficientNet-Lite0", "pixels + PCA",
)  # fmt: skip


def garments(name: str, count: int, folder: Path) -> tuple[Images, NDArray[np.uint8]]:
    """Pictures of Fashion-MNIST with their labels, as files; and their pixels."""
    from PIL import Image

    root = common.data("images_fashion_mnist")
    pixels, labels = (
        np.frombuffer(gzip.decompress((root / f"{name}-{part}-ubyte.gz").read_bytes())[skip:], np.uint8)
        for part, skip in (("images-idx3", 16), ("labels-idx1", 8))
    )
    pixels = pixels.reshape(-1, 28, 28)[:count]
    files = [folder / f"{name}-{i:05}.png" for i in range(len(pixels))]
    for file, picture in zip(files, pixels, strict=True):
        Image.fromarray(picture).save(file, compress_level=1)
    return of(files, [str(label) for label in labels[:count]]), pixels


def photographs() -> Images:
    """The clothing photographs with their labels."""
    folder = common.data("images_clothing")
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return of([folder / row["file"] for row in rows], [row["label"] for row in rows])


def of(files: Sequence[Path], labels: Sequence[str]) -> Images:
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return Images([file.name for file in files], files, digests, labels)


def encoded(encoder: Any, data: Images) -> Matrix:
    return np.concatenate([batch.vectors.matrix for batch in encoder.encode(data)])


def fitted(data: Images, threads: int, **options: Any) -> Any:
    from embedders.image.cnn import Cnn

    return Cnn.model_validate({"threads": threads, "device": "cpu", **options}).fit(data)


def small(data: Images, threads: int, seed: int, train: Mapping[str, Any] | None) -> Any:
    """Our small network at 28 pixels."""
    return fitted(data, threads, backbone="small", weights="random", size=28, seed=seed, train=train)


def right(train: Matrix, labels: Sequence[str], test: Matrix) -> NDArray[Any]:
    """What the probe of `evaluation.label_probe`, fitted on some rows, says of others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(train, labels)
    found: NDArray[Any] = probe.predict(test)
    return found


def judged(train: Matrix, test: Matrix, learned: Images, seen: Images) -> dict[str, float]:
    """The probe in folds of the test pictures, and fitted on the training pictures."""
    from evaluation.label_probe import label_probe

    assert learned.labels is not None and seen.labels is not None
    labels = {id: str(label) for id, label in zip(seen.ids, seen.labels, strict=True)}
    return {
        "folds": label_probe(Vectors("image", seen.ids, test), labels).headline.value,
        "fitted on training pictures": float((right(train, learned.labels, test) == seen.labels).mean()),  # type: ignore[arg-type]
    }


def fashion(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The scores of all contenders on Fashion-MNIST, and how long the networks took."""
    from sklearn import decomposition

    most, least = (600, 400) if options.small else (10_000, 10_000)
    (learned, pixels), (seen, test_pixels) = (
        garments("train10k", most, folder), garments("t10k", least, folder),
    )  # fmt: skip
    epochs = dict.fromkeys(EPOCHS, 2) if options.small else EPOCHS
    found: dict[str, Any] = {TRAINED: [], SIMCLR: []}
    for seed in range(options.seeds):
        for name, train in (
            (TRAINED, {**GARMENTS, "epochs": epochs["labels"]}),
            (SIMCLR, {"method": "simclr", "epochs": epochs["simclr"]}),
        ):
            started = time.perf_counter()
            made = small(learned, options.threads, seed, train)
            seconds = time.perf_counter() - started
            scores = judged(encoded(made, learned), encoded(made, seen), learned, seen)
            rate = (len(learned) * len(made.mode["training"]["losses"])) / seconds
            found[name].append(scores | {"seconds": seconds, "pictures/s": rate, "training": made.mode["training"]})
            common.say(f"{name}, seed {seed}: {told(scores)}, {seconds:.0f} s")
    still = {RANDOM: small(learned, options.threads, 0, None), LITE0: fitted(learned, options.threads)}
    for name, encoder in still.items():
        found[name] = [judged(encoded(encoder, learned), encoded(encoder, seen), learned, seen)]
        common.say(f"{name}: {told(found[name][0])}")
    components = decomposition.PCA(100, random_state=0).fit(pixels.reshape(len(pixels), -1) / 255)
    flat = [
        components.transform(array.reshape(len(array), -1) / 255).astype(np.float32) for array in (pixels, test_pixels)
    ]
    found[PCA] = [judged(flat[0], flat[1], learned, seen)]
    common.say(f"{PCA}: {told(found[PCA][0])}")
    return found


def told(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


def clothing(options: argparse.Namespace) -> dict[str, Any]:
    """Accuracy over all photographs, each judged in the fold that it was not learned from."""
    from sklearn.model_selection import StratifiedKFold

    data = photographs()
    labels = np.array(data.labels)
    frozen = encoded(fitted(data, options.threads), data)
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(frozen, labels))[
        : 1 if options.small else FOLDS
    ]
    train = {**FINE_TUNE, **({"epochs": 1} if options.small else {})}
    runs = []
    for seed in range(1 if options.small else options.seeds):
        hits: dict[str, list[float]] = {"frozen": [], "fine-tuned": []}
        for learned, seen in folds:
            encoder = fitted(data.select(learned), options.threads, seed=seed, train=train)
            for name, matrix in (("frozen", frozen), ("fine-tuned", encoded(encoder, data))):
                hits[name] += (right(matrix[learned], labels[learned], matrix[seen]) == labels[seen]).tolist()
        runs.append({name: mean(values) for name, values in hits.items()})
        common.say(f"clothing, seed {seed}: {told(runs[-1])}")
    return {"runs": runs, "train": train}


def measure(options: argparse.Namespace) -> Result:
    """Both tables."""
    with tempfile.TemporaryDirectory() as folder:
        found = fashion(options, Path(folder)) if "fashion" in options.parts else {}
    worn = clothing(options) if "clothing" in options.parts else {}

    def score(name: str, how: str = "folds") -> float:
        return mean(run[how] for run in found[name])

    rows = [
        Row(f"Fashion-MNIST, 10,000 test pictures: {name}", "accuracy", score(name), score(other), other,
            f"probe fitted on the training pictures {score(name, 'fitted on training pictures'):.4f} / {score(other, 'fitted on training pictures'):.4f}")
        for name, others in ((TRAINED, (LITE0, PCA)), (SIMCLR, (LITE0, PCA, RANDOM)))
        for other in others if found
    ]  # fmt: skip
    rows += [
        Row("200 photographs of clothing, 5 folds: fine-tuned", "accuracy", mean(run["fine-tuned"] for run in worn["runs"]), mean(run["frozen"] for run in worn["runs"]), "the same network frozen", f"each seed: {', '.join(format(run['fine-tuned'], '.3f') for run in worn['runs'])}")
        for _ in worn.get("runs", [])[:1]
    ]  # fmt: skip
    notes = [
        f"{name}: {mean(run['pictures/s'] for run in found[name]):.0f} pictures/s, {mean(run['seconds'] for run in found[name]):.0f} s"
        for name in (TRAINED, SIMCLR) if found
    ]  # fmt: skip
    settings = {
        "threads": options.threads,
        "seeds": options.seeds,
        "epochs": EPOCHS,
        "garments": GARMENTS,
        "fine-tuning": FINE_TUNE,
    }
    return Result("image_training", rows, settings, {"fashion": found, "clothing": worn}, notes)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each; their mean is quoted")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--parts", nargs="+", default=["fashion", "clothing"], choices=["fashion", "clothing"])
    common.run("image_training", measure, parser.parse_args())


if __name__ == "__main__":
    main()
