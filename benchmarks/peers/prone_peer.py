"""nodevectors' ProNE (0.1.23), as published; the clock is around `fit_transform`, the graph is a CSR by then.

stdin: {"graph": .npz with data, indices, indptr, "dim", "repeats", "out": .npy or null}. stdout: {"seconds": [...]}.
`nodevectors` and `csrgraph` install on Python 3.11 by `pip install nodevectors==0.1.23`.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from nodevectors import ProNE
from scipy.sparse import csr_matrix


def main() -> None:
    asked = json.load(sys.stdin)
    with np.load(asked["graph"]) as file:
        n = len(file["indptr"]) - 1
        joined = csr_matrix((file["data"].astype(np.float64), file["indices"], file["indptr"]), shape=(n, n))
    seconds = []
    for _ in range(asked.get("repeats", 1)):
        started = time.perf_counter()
        vectors = ProNE(n_components=asked["dim"], verbose=False).fit_transform(joined.copy())
        seconds.append(time.perf_counter() - started)
    if asked.get("out"):
        np.save(asked["out"], vectors.astype(np.float32))
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
