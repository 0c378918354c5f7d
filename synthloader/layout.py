"""Which source and variant a generated index of an epoch carries, in constant time: plans, bound to a dataset.

```
Add, Balance     index   0 .. n-1 real | n .. n+m-1 generated, one run of positions per cell
                 cell    some sources of one set (all, or those of one size and class), m positions
                 lap     positions 0 .. S-1 use every source once, S .. 2S-1 once more, each lap shuffled by its own key
Replace, Only    index   0 .. n-1, those that the epoch's permutation sends below m are generated
```
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from synthloader.class_table import ClassTable
from synthloader.permutation import Permutation, get_permutation
from synthloader.seeds import hash_numbers

__all__ = ["AppendLayout", "Cell", "Draw", "Layout", "PlanContext", "ReplaceLayout", "SetShape", "Shortfall", "make_cells"]


class Draw(NamedTuple):
    """What a generated index carries.

    `variant` is None where the set has no version left that this epoch does not use already.
    """

    set_index: int
    source: int
    variant: int | None
    target_class: int | None


class Shortfall(NamedTuple):
    """A set that cannot give as many different samples as the plan asks for in an epoch."""

    name: str
    asked: int
    available: int
    target_class: int | None


@dataclass(frozen=True)
class SetShape:
    """What a plan must know of one generated set.

    Args:
        name: The set's name in the mix.
        num_sources: Number of sources S.
        num_variants: Versions of each source; None for as many as asked.
        own: Whether source i is the real item i.
        aimable: Whether its generator can be told which class is wanted.
        find_groups: Gives (S,) ints, sources of one size and class having one number; None where nothing is known.
        find_classes: Gives the classes of its sources.
    """

    name: str
    num_sources: int
    num_variants: int | None
    own: bool = True
    aimable: bool = False
    find_groups: Callable[[], np.ndarray | None] = field(default=lambda: None)
    find_classes: Callable[[], ClassTable | None] = field(default=lambda: None)


@dataclass(frozen=True)
class PlanContext:
    """What a plan is bound to.

    Args:
        num_real: Number of real items n.
        sets: The generated sets, in order.
        seed: Seed of the mix.
        find_classes: Gives the classes of the real items.
        class_to_idx: Class names to ids, where known.
    """

    num_real: int
    sets: tuple[SetShape, ...]
    seed: int = 0
    find_classes: Callable[[], ClassTable | None] = field(default=lambda: None)
    class_to_idx: dict[str, int] | None = None


class Layout(Protocol):
    """A plan bound to a dataset. Every answer is a function of (seed, epoch, index)."""

    length: int
    num_laps: int
    """Most versions of one source in an epoch; versions are numbered on by this much from epoch to epoch."""
    shortfalls: Sequence[Shortfall]

    def count_generated(self, epoch: int, /) -> int:
        """How many indices of the epoch are generated."""
        ...

    def count_by_set(self, epoch: int, /) -> list[int]:
        """The same for every set."""
        ...

    def draw(self, epoch: int, index: int, /) -> Draw | None:
        """What the index carries; None for a real item."""
        ...

    def draw_next(self, epoch: int, index: int, /, *, limit: int) -> Iterator[Draw]:
        """What the next positions of the epoch's permutation carry, for the policy `repeat`."""
        ...

    def find_generated(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's generated item number `position`."""
        ...

    def find_real(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's real item number `position`."""
        ...

    def find_real_source(self, epoch: int, index: int, /) -> int:
        """The real item served where nothing could be generated and the set's source is none."""
        ...


@dataclass(frozen=True, eq=False)
class Cell:
    """Some sources of one set, and how many positions they share.

    Args:
        set_index: The set.
        sources: (S,) positions in the set; None for 0..num_sources-1 without a table.
        num_sources: S.
        count: Number of positions m.
        num_variants: Versions of each source; None for as many as asked.
        target_class: The class that every position is meant for, if any.
        laps_left: (S,) how often each source may be used, descending; None for no limit but `num_variants`.
        first_lap: (S,) versions of each source that other cells use already.
        key: Hash that tells this cell's permutations from others'.
    """

    set_index: int
    num_sources: int
    count: int
    key: int
    sources: np.ndarray | None = None
    num_variants: int | None = None
    target_class: int | None = None
    laps_left: np.ndarray | None = None
    first_lap: np.ndarray | None = None
    _lap_ends: list[int] | None = field(init=False, default=None)
    _lap_rooms: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.laps_left is not None and self.count:
            rooms = _count_per_lap(self.laps_left, self.count)
            ends = np.minimum(np.cumsum(rooms, dtype=np.int64), self.count).tolist()
            object.__setattr__(self, "_lap_rooms", rooms)
            object.__setattr__(self, "_lap_ends", ends)

    @property
    def capacity(self) -> int | None:
        """How many positions get a version of their own; None for all."""
        if self._lap_ends is not None:
            return self._lap_ends[-1] if self._lap_ends else 0
        return None if self.num_variants is None else self.num_variants * self.num_sources

    @property
    def num_laps_own(self) -> int:
        """Most versions of one source that this cell uses in an epoch."""
        return -(-self.count // self.num_sources) if self._lap_ends is None else len(self._lap_ends)

    @property
    def num_laps(self) -> int:
        """The same, with those that other cells use before it."""
        return self.num_laps_own + (0 if self.first_lap is None or not len(self.first_lap) else int(self.first_lap.max()))

    def draw(self, epoch: int, position: int, *, num_laps: int) -> Draw:
        """What a position carries."""
        capacity = self.capacity
        short = capacity is not None and position >= capacity
        if self._lap_ends is None or short:
            lap, place = divmod(position, self.num_sources)
            size = self.num_sources
        else:
            lap = bisect_right(self._lap_ends, position)
            place, size = position - (self._lap_ends[lap - 1] if lap else 0), self._lap_rooms[lap]
        row = get_permutation(size, hash_numbers(self.key, epoch, lap))(place)
        source = row if self.sources is None else int(self.sources[row])
        if short:
            return Draw(self.set_index, source, None, self.target_class)
        slot = lap if self.first_lap is None else lap + int(self.first_lap[row])
        variant = epoch * num_laps + slot
        if self.num_variants is not None:
            variant = (variant + source * 0x9E3779B1) % self.num_variants
        return Draw(self.set_index, source, variant, self.target_class)


class AppendLayout:
    """The real items, then the generated positions of all cells."""

    def __init__(self, num_real: int, cells: Sequence[Cell], *, names: Sequence[str]) -> None:
        self.cells = [cell for cell in cells if cell.count]
        self._ends = np.cumsum([cell.count for cell in self.cells]).tolist()
        self._num_real = num_real
        self._num_generated = self._ends[-1] if self._ends else 0
        self._by_set = [sum(cell.count for cell in self.cells if cell.set_index == at) for at in range(len(names))]
        self.length = num_real + self._num_generated
        self.num_laps = max((cell.num_laps for cell in self.cells), default=1)
        self.shortfalls = [
            Shortfall(names[cell.set_index], cell.count, cell.capacity, cell.target_class)
            for cell in self.cells
            if cell.capacity is not None and cell.capacity < cell.count
        ]

    def count_generated(self, epoch: int, /) -> int:
        """How many indices of the epoch are generated."""
        return self._num_generated

    def count_by_set(self, epoch: int, /) -> list[int]:
        """The same for every set."""
        return list(self._by_set)

    def draw(self, epoch: int, index: int, /) -> Draw | None:
        """What the index carries; None for a real item."""
        if index < self._num_real:
            return None
        cell, position = self._locate(index - self._num_real)
        return cell.draw(epoch, position, num_laps=self.num_laps)

    def draw_next(self, epoch: int, index: int, /, *, limit: int) -> Iterator[Draw]:
        """What the next positions of the same cell carry, around its end; those without a version left are passed by."""
        cell, position = self._locate(index - self._num_real)
        room = cell.count if cell.capacity is None else min(cell.count, cell.capacity)
        for step in range(1, min(limit, room - 1 if position < room else room) + 1):
            yield cell.draw(epoch, (position + step) % room, num_laps=self.num_laps)

    def find_generated(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's generated item number `position`."""
        return self._num_real + position

    def find_real(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's real item number `position`."""
        return position

    def find_real_source(self, epoch: int, index: int, /) -> int:
        """The real item served where nothing could be generated and the set's source is none."""
        return (index - self._num_real) % self._num_real if index >= self._num_real else index

    def _locate(self, position: int) -> tuple[Cell, int]:
        at = bisect_right(self._ends, position)
        return self.cells[at], position - (self._ends[at - 1] if at else 0)


class ReplaceLayout:
    """Every index is its own real item, or a version of it; which ones changes with the epoch."""

    def __init__(
        self,
        num_real: int,
        counts: Sequence[int],
        *,
        num_variants: Sequence[int | None],
        seed: int,
        find_groups: Callable[[], np.ndarray | None],
    ) -> None:
        self.length = num_real
        self.num_laps = 1
        self.shortfalls: list[Shortfall] = []
        self._seed = seed
        self._counts = list(counts)
        self._ends = np.cumsum(self._counts).tolist() if self._counts else []
        self._num_generated = sum(self._counts)
        self._num_variants = list(num_variants)
        self._find_groups = find_groups

    def count_generated(self, epoch: int, /) -> int:
        """How many indices of the epoch are generated."""
        return self._num_generated

    def count_by_set(self, epoch: int, /) -> list[int]:
        """The same for every set."""
        return list(self._counts)

    def draw(self, epoch: int, index: int, /) -> Draw | None:
        """What the index carries; None for a real item."""
        if not self._num_generated:
            return None
        position = self._shuffle(epoch)(index)
        return self._draw_at(epoch, index, position) if position < self._num_generated else None

    def draw_next(self, epoch: int, index: int, /, *, limit: int) -> Iterator[Draw]:
        """What the next positions of the permutation carry, of the same size and class where these are known."""
        shuffle = self._shuffle(epoch)
        groups = self._find_groups()
        start = shuffle(index)
        for step in range(1, min(limit, self._num_generated - 1) + 1):
            position = (start + step) % self._num_generated
            other = shuffle.inverse(position)
            if groups is None or groups[other] == groups[index]:
                yield self._draw_at(epoch, other, position)

    def find_generated(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's generated item number `position`."""
        return self._shuffle(epoch).inverse(position)

    def find_real(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's real item number `position`."""
        return self._shuffle(epoch).inverse(self._num_generated + position)

    def find_real_source(self, epoch: int, index: int, /) -> int:
        """The real item served where nothing could be generated: its own."""
        return index

    def _shuffle(self, epoch: int) -> Permutation:
        return get_permutation(self.length, hash_numbers(self._seed, epoch))

    def _draw_at(self, epoch: int, index: int, position: int) -> Draw:
        set_index = bisect_right(self._ends, position)
        versions = self._num_variants[set_index]
        variant = epoch * self.num_laps
        if versions is not None:
            variant = (variant + index * 0x9E3779B1) % versions
        return Draw(set_index, index, variant, None)


def make_cells(
    shape: SetShape,
    count: int,
    *,
    set_index: int,
    seed: int,
    sources: np.ndarray | None = None,
    target_class: int | None = None,
    laps_left: np.ndarray | None = None,
    first_lap: np.ndarray | None = None,
) -> list[Cell]:
    """The cells in which `count` positions use these sources equally often, sizes and classes kept apart.

    Args:
        shape: The set.
        count: Number of positions.
        set_index: The set's place among the sets.
        seed: Seed of the mix.
        sources: (S,) positions in the set; None for all of them.
        target_class: The class that the positions are meant for.
        laps_left: (num_sources of the set,) how often each may still be used.
        first_lap: (num_sources of the set,) versions that are used already.
    """
    groups = shape.find_groups()
    if groups is None and laps_left is None and sources is None:
        return [Cell(set_index, shape.num_sources, count, hash_numbers(seed, set_index), num_variants=shape.num_variants)]
    members = np.arange(shape.num_sources) if sources is None else sources
    labels = np.zeros(len(members), np.int64) if groups is None else groups[members]
    parts = [members[labels == label] for label in np.unique(labels)]
    cells = []
    for number, (part, share) in enumerate(zip(parts, _apportion(parts, count, laps_left), strict=True)):
        left = None if laps_left is None else laps_left[part]
        order = None if left is None else np.argsort(-left, kind="stable")
        if order is not None:
            part = part[order]
        cells.append(
            Cell(
                set_index,
                len(part),
                share,
                hash_numbers(seed, set_index, number, -1 if target_class is None else target_class),
                sources=part,
                num_variants=shape.num_variants,
                target_class=target_class,
                laps_left=None if left is None or order is None else left[order],
                first_lap=None if first_lap is None else first_lap[part],
            )
        )
    return cells


def _apportion(parts: Sequence[np.ndarray], count: int, laps_left: np.ndarray | None) -> list[int]:
    """Split positions over groups so that over all of them each source is used floor or ceil of the mean."""
    sizes = np.array([len(part) for part in parts])
    if laps_left is None:
        full, rest = divmod(count, int(sizes.sum()))
        return (full * sizes + _share_out(sizes, rest)).tolist()
    shares, left = np.zeros(len(parts), np.int64), count
    for lap in range(int(max((laps_left[part].max() for part in parts), default=0))):
        room = np.array([np.count_nonzero(laps_left[part] > lap) for part in parts])
        if left <= room.sum():
            shares += _share_out(room, left)
            left = 0
            break
        shares += room
        left -= int(room.sum())
    full, rest = divmod(left, int(sizes.sum()))  # what no version is left for is shared out all the same
    return (shares + full * sizes + _share_out(sizes, rest)).tolist()


def _share_out(room: np.ndarray, total: int) -> np.ndarray:
    """Integers that add up to `total`, in proportion to `room` and never above it (largest remainders)."""
    if not total:
        return np.zeros(len(room), np.int64)
    floors = room.astype(object) * total // int(room.sum())
    rests = room.astype(object) * total % int(room.sum())
    shares = floors.astype(np.int64)
    for at in sorted(range(len(room)), key=lambda at: (-rests[at], at))[: total - int(shares.sum())]:
        shares[at] += 1
    return shares


def _count_per_lap(laps_left: np.ndarray, count: int) -> list[int]:
    """How many sources each lap can use, until there is room for `count` positions or no source is left."""
    rooms: list[int] = []
    while count > 0:
        available = int(np.count_nonzero(laps_left > len(rooms)))
        if not available:
            break
        rooms.append(available)
        count -= available
    return rooms
