"""Ids as text formats can carry them: percent-encoded where they would split a word or a line, as they are elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from embedders.errors import InputError
from storage.space import Version

SPLITS_WORDS = r"[\x00\t-\r ]|^$"  # white space as C's scanf has it, and what ends a C string
SPLITS_LINES = r"[\x00\t\n\r]|^[\s\pZ\x{feff}]*$"  # the projector passes over lines that are blank
ESCAPED = re.compile(r"[\s\x00\ufeff%]")


class Names:
    """Ids as a format can carry them: those that would split its words or lines are percent-encoded, no others.

    Parameters
    ----------
    unfit : what an id must not hold, a regular expression of RE2.
    """

    def __init__(self, version: Version, unfit: str) -> None:
        self.unfit = unfit
        self.encoded = 0
        self._taken = set(self._lookalikes(version)) if any(map(self._some_unfit, _ids(version))) else set()

    def __call__(self, ids: pa.StringArray) -> pa.StringArray:
        """The same ids, encoded where needed.

        Raises
        ------
        InputError : an id is empty, or becomes what another id is.
        """
        mask = pc.match_substring_regex(ids, self.unfit)
        found = ids.filter(mask).to_pylist()
        if not found:
            return ids
        self.encoded += len(found)
        return pc.replace_with_mask(ids, mask, pa.array(map(self._encode, found), pa.string()))

    def _encode(self, name: str) -> str:
        text = percent_encoded(name)
        if not text or text in self._taken:
            what = f"{name!r} and {text!r}, which would both be {text!r}" if text else "an empty id"
            raise InputError(
                f"Got {what} in this format; expected words that differ and are not empty. Export as parquet, npy or csv, "
                "which carry any id."
            )
        return text

    def _some_unfit(self, ids: pa.StringArray) -> bool:
        return bool(pc.any(pc.match_substring_regex(ids, self.unfit)).as_py())

    def _lookalikes(self, version: Version) -> Iterator[str]:
        """Ids that look as if they were encoded."""
        for ids in _ids(version):
            for name in ids.filter(pc.match_substring(ids, "%")).to_pylist():
                if (plain := unquote(name)) != name and percent_encoded(plain) == name:
                    yield name


def percent_encoded(name: str) -> str:
    """`name` without white space, NUL and bare percent signs; `urllib.parse.unquote` gives it back.

    >>> percent_encoded("100 % naïve")
    '100%20%25%20naïve'
    """
    return ESCAPED.sub(lambda found: quote(found[0], safe=""), name)


def _ids(version: Version) -> Iterator[pa.StringArray]:
    return (batch.column("id") for batch in version.batches(columns=("id",)))
