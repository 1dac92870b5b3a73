"""Who had to do with what: users and items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from embedders.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Duplicates = Literal["sum", "last"]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Events of users with items, in order of time, or of the file where they have none.

    Parameters
    ----------
    users, items : unique names, in order of first appearance in the file.
    user, item : (n,) int32, places in them, an event each.
    weight : (n,) float32, positive; None when every event weighs 1.
    time : (n,) float64, seconds since 1970; None when nothing is known of it.
    duplicates : what `matrix` makes of several events of a user with an item.
    """

    users: Sequence[str]
    items: Sequence[str]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    weight: NDArray[np.float32] | None = None
    time: NDArray[np.float64] | None = None
    duplicates: Duplicates = "sum"

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.user, self.item, self.weight, self.time) if column is not None}
        if len(lengths) != 1:
            raise InputError(f"Got columns of {sorted(lengths)} events; expected the same number in each.")

    def __len__(self) -> int:
        """Events."""
        return len(self.user)

    @classmethod
    def of(
        cls,
        users: Sequence[str],
        items: Sequence[str],
        user: NDArray[np.int32],
        item: NDArray[np.int32],
        weight: NDArray[np.float32] | None = None,
        time: NDArray[np.float64] | None = None,
        *,
        duplicates: Duplicates = "sum",
    ) -> Self:
        """Put events in order of time; those of one time stay as they stood."""
        found = cls(users, items, user, item, weight, time, duplicates)
        if time is None or (np.diff(time) >= 0).all():
            return found
        return found.select(np.argsort(time, kind="stable"))

    def select(self, events: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Some of the events; users and items stay as they are, some of them without one."""
        return replace(
            self,
            user=self.user[events],
            item=self.item[events],
            weight=None if self.weight is None else self.weight[events],
            time=None if self.time is None else self.time[events],
        )

    def matrix(self) -> csr_array:
        """(users, items) float32 weights; of several events of a user with an item their sum, or the last one's.

        Raises
        ------
        InputError : a sum is more than a float32 can hold.
        """
        from scipy.sparse import coo_array, csr_array

        weight = np.ones(len(self), np.float32) if self.weight is None else self.weight
        user, item = self.user, self.item
        if self.duplicates == "last":
            pairs = user.astype(np.int64) * len(self.items) + item
            kept = len(self) - 1 - np.unique(pairs[::-1], return_index=True)[1]
            user, item, weight = user[kept], item[kept], weight[kept]
        found = csr_array(coo_array((weight, (user, item)), shape=(len(self.users), len(self.items))))
        found.sum_duplicates()
        if not np.isfinite(found.data).all():
            raise InputError("Got weights whose sum is more than a float32 can hold; expected less. Scale them down.")
        return found
