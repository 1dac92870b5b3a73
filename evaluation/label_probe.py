"""How well a linear classifier reads labels from vectors: the probe of design.md, section 5."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Vectors
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from evaluation.base import Report, Score, size, wilson
from evaluation.knn import macro_f1
from evaluation.matching import labelled

FOLDS = 5
MAX_ITERATIONS = 1000


def label_probe(
    vectors: Vectors, labels: Mapping[str, str], *, trivial: Mapping[str, Any] | None = None,
    refit: Callable[[Sequence[str]], Any] | None = None,
) -> Report:  # fmt: skip
    """Accuracy and macro F1 of logistic regression on the vectors, out of fold.

    StandardScaler, LogisticRegression(C=0.1, max_iter=1000), StratifiedKFold(5, shuffle=True, random_state=0); both
    numbers are taken from the pooled out-of-fold predictions. The same input gives the same numbers.

    Parameters
    ----------
    vectors : n rows; those without a label are left out.
    labels : the label of each id. Classes of fewer than 5 members are left out and named in the notes.
    trivial : baselines by name ("pixels", "degrees", "one_hot"), each an (n, d) finite matrix aligned with
        `vectors.ids`; one in sparse rows (CSR) is scaled without being centred.
    refit : of vectors that were learned with labels: the vectors, aligned with `vectors.ids`, learned with the labels of
        some ids alone. Each fold is then judged on those learned without its labels (nested cross-validation).

    Returns
    -------
    Scores `accuracy` (with Wilson's 95 % interval), `macro_f1`, `majority` (share of the largest class), and
    `accuracy[NAME]` for each baseline. Notes: the counts, `dropped_classes` with their sizes, and
    `folds_not_converged` where the solver stopped early, `nested` where folds were refitted, and the `sizes` of the
    vectors and the baselines.

    Raises
    ------
    InputError : no id has both a vector and a label; fewer than two classes remain; a baseline has the wrong shape.
    """
    found = labelled(vectors, labels)
    small = found.sizes < FOLDS
    dropped = {name: int(size) for name, size in zip(found.classes, found.sizes, strict=True) if size < FOLDS}
    kept = found.keep(~small)
    if len(kept.classes) < 2:
        raise InputError(
            f"Got {len(found.classes)} classes in {len(found.rows)} labelled vectors, {len(kept.classes)} of them with "
            f"at least {FOLDS} members; expected at least two such classes. Use a coarser label, or label more rows."
        )
    baselines = {name: _baseline(name, matrix, len(vectors)) for name, matrix in (trivial or {}).items()}

    again = None
    if refit is not None:

        def again(train: NDArray[np.int64]) -> Any:
            return refit([vectors.ids[row] for row in kept.rows[train].tolist()])[kept.rows]

    guess, unfinished = _out_of_fold(vectors.matrix[kept.rows], kept.codes, again)
    hits = int((guess == kept.codes).sum())
    scores = [
        Score("accuracy", hits / len(guess), *wilson(hits, len(guess))),
        Score("macro_f1", macro_f1(kept.codes, guess)),
        Score("majority", float(kept.sizes.max() / len(guess))),
    ]
    not_converged = {"vectors": unfinished}
    for name, matrix in baselines.items():
        guess, not_converged[name] = _out_of_fold(matrix[kept.rows], kept.codes)
        hits = int((guess == kept.codes).sum())
        scores.append(Score(f"accuracy[{name}]", hits / len(guess), *wilson(hits, len(guess))))
    notes = {
        **kept.notes,
        "dropped_classes": dropped,
        "majority_class": kept.classes[int(kept.sizes.argmax())],
        "baselines": list(baselines),
        "sizes": {"vectors": size(vectors.matrix)} | {name: size(matrix) for name, matrix in baselines.items()},
    }
    if refit is not None:
        notes["nested"] = True
    if any(not_converged.values()):
        notes["folds_not_converged"] = {name: folds for name, folds in not_converged.items() if folds}
    return Report(tuple(scores), notes)


def _out_of_fold(
    matrix: Any, codes: NDArray[np.int64], refit: Callable[[NDArray[np.int64]], Any] | None = None
) -> tuple[NDArray[np.int64], int]:
    """The (n,) out-of-fold predictions, and in how many folds the solver stopped before it converged.

    refit : the matrix to take for a fold, by the rows it is trained on.
    """
    from scipy.sparse import issparse
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    guess = np.empty(len(codes), np.int64)
    unfinished = 0
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(codes, codes):
            model = LogisticRegression(C=0.1, max_iter=MAX_ITERATIONS)
            of_fold = matrix if refit is None else refit(train)
            probe = make_pipeline(StandardScaler(with_mean=not issparse(matrix)), model).fit(
                of_fold[train], codes[train]
            )
            guess[test] = probe.predict(of_fold[test])
            unfinished += int(max(model.n_iter_) >= MAX_ITERATIONS)
    return guess, unfinished


def _baseline(name: str, matrix: Any, n: int) -> Any:
    matrix = matrix if hasattr(matrix, "indptr") else np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != n or not matrix.shape[1]:
        raise InputError(
            f"Got the baseline {name!r} of shape {matrix.shape}; expected ({n}, d), one row for each vector."
        )
    if not np.isfinite(matrix.data if hasattr(matrix, "indptr") else matrix).all():
        raise InputError(f"The baseline {name!r} holds NaN or infinity; expected finite numbers.")
    return matrix
