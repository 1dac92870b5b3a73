"""Turn the files of MovieLens 100K into the tables that polyvec.yaml beside this script reads.

    python examples/movielens/prepare.py PATH/TO/ml-100k
    polyvec run -f examples/movielens/polyvec.yaml

The files may not be redistributed (https://grouplens.org/datasets/movielens/100k/), so none are here: download
ml-100k.zip from there and unpack it. Only the standard library is needed.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent / "data"


def lines(folder: Path, name: str) -> list[str]:
    """The lines of a file, or of the same one compressed."""
    for path, opened in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.is_file():
            with opened(path, "rt", encoding="latin-1", newline="\n") as file:
                return file.read().splitlines()
    sys.exit(f"Got {folder}, where {name} is missing; expected the folder that ml-100k.zip holds.")


def titles(folder: Path) -> dict[str, str]:
    """Number to title of each film; a title that two films have gets the number behind it."""
    named = dict(line.split("|")[:2] for line in lines(folder, "u.item"))
    uses = Counter(named.values())
    return {film: title if uses[title] == 1 else f"{title} #{film}" for film, title in named.items()}


def write(name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with a header."""
    HERE.mkdir(exist_ok=True)
    with (HERE / name).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
    print(f"wrote {HERE / name}")  # noqa: T201


def main() -> None:
    """Write two tables beside this script."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    film = titles(folder)
    people = {line.split("|")[0]: line.split("|")[1:] for line in lines(folder, "u.user")}
    ratings = [line.split("\t") for line in lines(folder, "u.data")]
    write("ratings.tsv", ("user", "film", "rating", "time"), ((u, film[i], r, t) for u, i, r, t in ratings))
    seen = ((str(n), u, film[i], *people[u][1:], r) for n, (u, i, r, _) in enumerate(ratings))
    write("seen.tsv", ("id", "user", "film", "gender", "occupation", "zip", "rating"), seen)


if __name__ == "__main__":
    main()
