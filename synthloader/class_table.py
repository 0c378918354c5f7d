"""Which classes each item of a dataset holds, in two flat arrays, and how its uses are divided among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import pairwise

import numpy as np

from synthloader.checks import check_choice

__all__ = ["ClassTable", "find_contradiction", "share_out", "share_uses"]

_GOLDEN = 0.6180339887498949
_NUM_ADJUSTMENTS = 30
_LEAST_LOAD = 1e-100


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


def share_out(room: np.ndarray, total: int) -> np.ndarray:
    """Integers that add up to `total`, each the floor or ceil of its share in proportion to `room`.

    They are spread evenly along the array, and none is above its room as long as `total` is not above all room.
    """
    if not total:
        return np.zeros(len(room), np.int64)
    whole = int(room.sum())
    ends = np.cumsum(room, dtype=np.int64)
    if whole * total >= 1 << 62:
        ends = ends.astype(object)
    return np.diff((ends * total // whole).astype(np.int64), prepend=0)


def share_uses(
    holders: Mapping[int, np.ndarray], needed: Mapping[int, int], *, num_items: int, limit: int
) -> dict[int, np.ndarray]:
    """Divide the limited uses of items among classes, so that the classes lack as little as can be.

    All uses are given away. Each item's are first divided in proportion to what its classes ask of their holders. A
    class that then lacks some takes them from another one that has too many, or that can take them from a third.

    Args:
        holders: Class id to (S,) positions of the items that hold it, ascending.
        needed: Class id to the number of uses that it needs, at least 1; the same classes.
        num_items: Number of items.
        limit: Most uses of one item.

    Returns:
        Class id to (S,) int64, how often each of its holders may be used for it.

    Source:
        Ford and Fulkerson 1956, "Maximal flow through a network" (augmenting paths); ours moves many uses at once.

    Example:
        >>> both, one = np.arange(3), np.arange(2)
        >>> shares = share_uses({7: both, 8: one}, {7: 1, 8: 2}, num_items=3, limit=1)
        >>> shares[7].tolist(), shares[8].tolist()
        ([0, 0, 1], [1, 1])
    """
    division = _Division([holders[class_id] for class_id in needed], list(needed.values()), num_items, limit)
    for place in range(len(needed)):
        division.fill(place)
    return {class_id: division.uses_of(place) for place, class_id in enumerate(needed)}


class _Division:
    """Uses of items by classes, one entry for every pair of which the item holds the class."""

    def __init__(self, holders: list[np.ndarray], needed: list[int], num_items: int, limit: int) -> None:
        sizes = np.array([len(items) for items in holders])
        self._needed = np.array(needed, np.int64)
        self._items = np.concatenate(holders)
        self._classes = np.repeat(np.arange(len(holders)), sizes)
        self._ranges = [slice(end - size, end) for size, end in zip(sizes, np.cumsum(sizes), strict=True)]
        # All entries, item after item, and where those of each item begin.
        self._order = np.lexsort((self._classes, self._items))
        self._starts = np.searchsorted(self._items[self._order], np.arange(num_items + 1))
        self._uses = self._divide(sizes, min(limit, sum(needed)))
        self._totals = np.bincount(self._classes, self._uses).astype(np.int64)
        self._is_exhausted = np.zeros(len(holders), np.bool_)

    def uses_of(self, place: int) -> np.ndarray:
        return self._uses[self._ranges[place]]

    def fill(self, place: int) -> None:
        """Get a class what it lacks, as far as there is any."""
        while self._totals[place] < self._needed[place]:
            paths = self._find_paths(place)
            if not paths:
                return
            for path in paths:
                lack = self._needed[place] - self._totals[place]
                surplus = self._totals[path[-1]] - self._needed[path[-1]]
                steps = list(pairwise(path))
                amount = int(min(lack, surplus, *(self._uses[self._find_movable(*step)].sum() for step in steps)))
                for taker, giver in steps:
                    self._move(taker, giver, amount)

    def _divide(self, sizes: np.ndarray, limit: int) -> np.ndarray:
        """Every item's uses in proportion to its classes' loads, rounded this way for one item and that for another."""
        items, classes = self._items[self._order], self._classes[self._order]
        first = self._starts[:-1][np.diff(self._starts) > 0]
        counts = np.diff(first, append=len(items))
        loads, shares = self._needed / sizes, np.zeros(len(items))
        for _ in range(_NUM_ADJUSTMENTS):  # Whoever lacks something asks for more.
            asked = loads[classes]
            shares = limit * asked / np.repeat(np.add.reduceat(asked, first), counts)
            got = np.bincount(classes, shares, minlength=len(loads))
            if (got >= self._needed).all():
                break
            loads *= np.maximum(self._needed / got, 1.0)
            loads = np.maximum(loads / loads.max(), _LEAST_LOAD)
        ends = np.cumsum(shares)
        ends -= np.repeat(ends[first] - shares[first], counts)
        ends = np.minimum(np.floor(ends + items * _GOLDEN % 1.0).astype(np.int64), limit)
        ends[first + counts - 1] = limit
        uses = np.diff(ends, prepend=0)
        uses[first] = ends[first]
        result: np.ndarray = np.empty_like(uses)
        result[self._order] = uses
        return result

    def _find_paths(self, place: int) -> list[list[int]]:
        """From a class that lacks uses, over classes that can give some, to the nearest that have too many."""
        came_from, queue = {place: place}, [place]
        for taker in queue:
            entries = self._find_beside(taker)
            movable = np.bincount(self._classes[entries], self._uses[entries], minlength=len(self._needed))
            movable[self._is_exhausted] = 0
            found = [giver for giver in np.flatnonzero(movable > 0).tolist() if giver not in came_from]
            came_from.update(dict.fromkeys(found, taker))
            queue += found
            rich = [giver for giver in found if self._totals[giver] > self._needed[giver]]
            if rich:
                return [_walk_back(came_from, giver) for giver in rich]
        self._is_exhausted[queue] = True  # Nobody who can only turn to these will ever get more.
        return []

    def _find_beside(self, place: int) -> np.ndarray:
        """The entries, of all classes, of the items that a class holds."""
        items = self._items[self._ranges[place]]
        starts, counts = self._starts[items], self._starts[items + 1] - self._starts[items]
        before = np.cumsum(counts) - counts
        entries: np.ndarray = self._order[np.repeat(starts - before, counts) + np.arange(int(counts.sum()))]
        return entries

    def _find_movable(self, taker: int, giver: int) -> np.ndarray:
        """The giver's entries of items that the taker holds too."""
        entries = self._find_beside(taker)
        movable: np.ndarray = entries[self._classes[entries] == giver]
        return movable

    def _move(self, taker: int, giver: int, amount: int) -> None:
        entries = self._find_movable(taker, giver)
        moved = share_out(self._uses[entries], amount)
        mine = self._ranges[taker]
        self._uses[entries] -= moved
        self._uses[mine.start + np.searchsorted(self._items[mine], self._items[entries])] += moved
        self._totals[[giver, taker]] += [-amount, amount]


def _walk_back(came_from: Mapping[int, int], place: int) -> list[int]:
    path = [place]
    while came_from[path[-1]] != path[-1]:
        path.append(came_from[path[-1]])
    return path[::-1]


def find_contradiction(mine: Mapping[str, int], theirs: Mapping[str, int], /) -> tuple[str, str, str] | None:
    """What two tables of class names to ids say differently; None where they agree.

    Returns:
        The subject, what the first table says of it, and what the second says.
    """
    names = {class_id: name for name, class_id in mine.items()}
    for name, class_id in theirs.items():
        if names.get(class_id, name) != name and name not in mine:
            return f"class {class_id}", repr(names[class_id]), repr(name)
        if mine.get(name, class_id) != class_id:
            return f"class {name!r}", str(mine[name]), str(class_id)
    return None
