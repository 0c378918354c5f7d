"""Which classes each item of a dataset holds, in two flat arrays: what `Balance` counts with."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from synthloader.checks import check_choice

__all__ = ["ClassTable"]


class ClassTable:
    """Class ids of every item, without the images.

    Args:
        rows: For each item the class ids of its objects, repeated as often as they occur.

    Example:
        >>> table = ClassTable([[1, 1, 2], [2], []])
        >>> table.count("images"), table.count("instances"), table.find_holders(2).tolist()
        ({1: 1, 2: 2}, {1: 2, 2: 2}, [0, 1])
    """

    def __init__(self, rows: Iterable[Iterable[int]]) -> None:
        lists = [np.asarray(list(row), np.int64) for row in rows]
        self.num_items = len(lists)
        self._class_ids = np.concatenate(lists) if lists else np.zeros(0, np.int64)
        self._items = np.repeat(np.arange(len(lists)), [len(row) for row in lists])

    def count(self, unit: str, /) -> dict[int, int]:
        """Class id to the number of `"images"` that hold it, or of `"instances"`."""
        check_choice("count", unit, ("images", "instances"))
        class_ids = self._pairs[:, 0] if unit == "images" else self._class_ids
        found, counts = np.unique(class_ids, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))

    def find_holders(self, class_id: int, /) -> np.ndarray:
        """(M,) positions of the items that hold at least one object of the class, ascending."""
        pairs = self._pairs
        low, high = np.searchsorted(pairs[:, 0], [class_id, class_id + 1])
        return pairs[low:high, 1]

    def find_primary(self) -> np.ndarray:
        """(num_items,) int64, the class of each item that has exactly one object; -1 for the others."""
        primary = np.full(self.num_items, -1, np.int64)
        single = np.bincount(self._items, minlength=self.num_items)[self._items] == 1
        primary[self._items[single]] = self._class_ids[single]
        return primary

    @cached_property
    def _pairs(self) -> np.ndarray:
        """(P, 2) different (class id, item), sorted by class."""
        if not len(self._class_ids):
            return np.zeros((0, 2), np.int64)
        return np.unique(np.stack([self._class_ids, self._items], axis=1), axis=0)
