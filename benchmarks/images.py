"""Pictures to CNN features: the network alone, whole runs to a committed version, and decoding, each beside its peers.

The peers: a plain fp32 torch loop with the same network, preprocessing and Pillow, as img2vec-style scripts run it (one
picture or 32 at a time, torch on all cores), and OpenVINO in bf16 where the peers' environment holds it. `--full` measures
memory too.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import common, graph_scale
from benchmarks.common import Result, Row
from benchmarks.images_alone import BATCH, Alone, open_plain, plain
from embedders.data import Images

SMALL_FILES = 24
FILES = 2000
NETWORKS = {"resnet50": "random", "resnet18": "random", "efficientnet_lite0": "package"}


def photographs(small: bool) -> Images:
    """The clothing photographs, with digests made beforehand."""
    folder = common.data("images_clothing")
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        files = [folder / row["file"] for row in csv.DictReader(file)]
    files = files[:SMALL_FILES] if small else files
    return Images([path.name for path in files], files, [hashlib.sha256(p.read_bytes()).hexdigest() for p in files])


def alone(options: argparse.Namespace, images: Images, notes: list[str], runs: dict[str, Any]) -> list[Row]:
    """The network alone."""
    rows = []
    for name in list(NETWORKS)[-1:] if options.small else NETWORKS:
        bench = Alone(name, NETWORKS[name], images)
        every = bench.contenders()
        try:
            every["OpenVINO bf16"] = bench.openvino(options.peers)
        except common.SkippedError as reason:
            notes.append(f"OpenVINO skipped: {reason}")
        runs[name] = common.interleaved(every, options.rounds)
        found, near = common.medians(runs[name]), bench.nearness()
        what = f"{name}, network alone, bf16"
        rows += [Row(what, "images/s", found["ours bf16"], found[peer], f"plain fp32 torch {peer}" if "loop" in peer else peer, near) for peer in every if "loop" in peer or "Open" in peer]  # fmt: skip
        rows.append(Row(f"{name}, network alone, fp32", "images/s", found["ours fp32"], found[f"loop, batch {BATCH}"], f"plain fp32 torch loop, batch {BATCH}"))  # fmt: skip
        limit = found["bf16 product"] / bench.operations()
        rows.append(Row(f"{name}, part of the bf16 product's rate", "x", found["ours bf16"] / limit, quality=f"the product's rate would be {limit:.0f} images/s, {limit / found[f'loop, batch {BATCH}']:.1f} x the loop"))  # fmt: skip
    return rows


def copies(images: Images, number: int, folder: Path) -> None:
    """`number` files: the pictures under new names, each with bytes after its end that make it another content."""
    folder.mkdir()
    for i in range(number):
        source = images.files[i % len(images)]
        (folder / f"{i:05d}{source.suffix}").write_bytes(source.read_bytes() + f"copy {i}".encode())


PIPELINE = """store: ./{store}
datasets: {{photos: {{kind: images, path: photos}}}}
spaces: {{looks: {{dataset: photos, embedder: cnn, params: {{device: cpu}}}}}}
"""


def whole(options: argparse.Namespace, images: Images, runs: dict[str, Any]) -> list[Row]:
    """Files to a committed version, beside what decoding and the network take at least, and beside img2vec."""
    from flows.pipeline import Pipeline
    from flows.steps import embed

    number = SMALL_FILES if options.small else FILES
    few = images.select(range(min(len(images), 96)))
    bench = Alone("efficientnet_lite0", "package", few)
    found: dict[str, list[float]] = {"ours": [], "bound": [], "loop": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies(images, number, folder / "photos")
        for turn in range(options.rounds):
            file = folder / f"{turn}.yaml"
            file.write_text(PIPELINE.format(store=f"vectors{turn}"), encoding="utf-8")
            found["bound"].append(bound(bench, few))
            found["ours"].append(number / common.seconds(partial(embed, Pipeline.load(file), "looks", str(turn))))
            found["loop"].append(len(few) / common.seconds(partial(plain, bench.network, bench.look, few, 1)))
    runs["whole"] = found
    middle = common.medians(found)
    what = f"{number} JPEG files -> committed version, lite0"
    return [
        Row(what, "images/s", middle["ours"], middle["bound"], "cores / (decode + network core-seconds)"),
        Row(what, "images/s", middle["ours"], middle["loop"], "img2vec's loop: Pillow, fp32, batch 1"),
    ]


def bound(bench: Alone, images: Images) -> float:
    """Pictures a second if every core did nothing but decode and compute."""
    from embedders.image.decode import decode
    from embedders.image.precision import resolve_precision

    look = bench.look
    started = time.process_time()
    for row in range(len(images)):
        decode(images.location(row), images.read(row), short_side=look.short_side, crop=look.crop, interpolation=look.interpolation)  # fmt: skip
    decoding = (time.process_time() - started) / len(images)
    return common.cores() / (decoding + 1 / bench.fused(bf16=resolve_precision("auto", "cpu") == "bf16", cores=1))


def decoding(options: argparse.Namespace, runs: dict[str, Any]) -> list[Row]:
    """The camera files for a crop of 224, a file at a time in one thread."""
    from embedders.image.backbones import LITE0_PREPROCESSING as LOOK
    from embedders.image.decode import decode

    folder = common.data("images_camera")
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ratios: dict[str, list[float]] = {}
    found: dict[str, list[float]] = {"baseline": [], "progressive": []}
    for row in rows[:2] if options.small else rows:
        path = folder / row["file"]
        times = common.medians(common.interleaved({
            "ours": lambda path=path: common.seconds(lambda: decode(path, short_side=LOOK.short_side, crop=LOOK.crop)),
            "Pillow": lambda path=path: common.seconds(lambda: open_plain(path, LOOK)),
        }, options.rounds))  # fmt: skip
        ratios[row["file"]] = [times["ours"], times["Pillow"]]
        found[row["coding"]].append(times["Pillow"] / times["ours"])
    runs["decode"] = ratios
    return [
        Row(f"decoding {len(values)} {coding} camera files for a crop of 224, median", "x", float(median(values)), quality="times Pillow's full decode and resize; least " + f"{min(values):.1f}")
        for coding, values in found.items() if values
    ]  # fmt: skip


def peak(number: int, large: bool) -> int:
    """Most bytes of memory that a fresh process holds while it embeds so many files."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_embed, number, large).result()


def _embed(number: int, large: bool) -> int:
    from embedders.image.cnn import Cnn

    folder = common.data("images_camera" if large else "images_clothing")
    files = sorted(folder.rglob("*.jpg"))
    data = Images([str(i) for i in range(number)], [files[i % len(files)] for i in range(number)], [f"{i:064x}" for i in range(number)])  # fmt: skip
    recipe = {"backbone": "mobilenet_v3_small", "weights": "random", "device": "cpu"}
    for _ in Cnn.model_validate(recipe).fit(data).encode(data):
        pass
    return graph_scale.peak()


def memory(options: argparse.Namespace, runs: dict[str, Any]) -> list[Row]:
    """Peaks of few and many files, small and large."""
    few, many = (50, 500) if options.small else (1000, 20_000)
    counts = {
        "few": (few, False),
        "many": (many, False),
        "few large": (few // 25, True),
        "many large": (few // 5, True),
    }
    found = {name: peak(*asked) for name, asked in counts.items()}
    runs["peak_bytes"] = found
    return [
        Row(f"peak memory, {counts[f'many{kind}'][0]} files to {counts[f'few{kind}'][0]}, {'4 to 12 megapixels' if kind else 'clothing'}", "x", found[f"many{kind}"] / found[f"few{kind}"], quality=f"{found[f'many{kind}'] / 2**20:.0f} MiB")
        for kind in ("", " large")
    ]  # fmt: skip


def measure(options: argparse.Namespace) -> Result:
    """Everything by turns, medians quoted."""
    images = photographs(options.small)
    runs: dict[str, Any] = {}
    try:
        import torch

        from embedders.image.precision import resolve_precision

        notes = [f"precision auto is {resolve_precision('auto', 'cpu')} here", graphics(images)]
        common.say(
            f"{len(images)} photographs, {options.rounds} rounds, {common.cores()} cores, torch {torch.__version__}"
        )
        rows = [*alone(options, images, notes, runs), *whole(options, images, runs), *decoding(options, runs)]
    except ImportError as error:
        raise common.SkippedError(f"{error.name or 'embedders.image'} cannot be imported ({error}).") from error
    if options.full or options.small:
        rows += memory(options, runs)
    return Result("images", rows, {"files": len(images), "batch": BATCH, "networks": NETWORKS}, runs, notes)


def graphics(images: Images) -> str:
    """What a card does alone and from files, or that there is none."""
    import torch

    if not torch.cuda.is_available():
        return "no GPU here: its row is left out"
    from embedders.image.cnn import Cnn

    encoder = Cnn.model_validate({"device": "cuda"}).fit(images)
    list(encoder.encode(images))
    rate = len(images) / common.seconds(lambda: list(encoder.encode(images)))
    return f"GPU ({torch.cuda.get_device_name()}): {rate:.0f} images/s from files, lite0"


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is quoted")
    common.run("images", measure, parser.parse_args())


if __name__ == "__main__":
    main()
