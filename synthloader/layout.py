"""Which source and variant a generated index of an epoch carries, in constant time: plans, bound to a dataset.

```
Add, Balance     index   0 .. n-1 real | n .. n+m-1 generated, one run of positions per cell
                 cell    some sources of one set (all, or those of one size and class), m positions
                 lap     positions 0 .. S-1 use every source once, S .. 2S-1 once more, each lap shuffled by its own key
Replace, Only    index   0 .. n-1, those that the epoch's permutation sends below m are generated
```
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from synthloader.class_table import ClassTable, share_out
from synthloader.permutation import Permutation, get_permutation
from synthloader.seeds import hash_numbers

__all__ = [
    "AppendLayout",
    "Cell",
    "Draw",
    "Layout",
    "PlanContext",
    "ReplaceLayout",
    "SetShape",
    "Shortfall",
    "make_cells",
]


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


def _know_nothing() -> None:
    """Nothing is known; a function that travels to other processes."""


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
    find_groups: Callable[[], np.ndarray | None] = _know_nothing
    find_classes: Callable[[], ClassTable | None] = _know_nothing


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
    find_classes: Callable[[], ClassTable | None] = _know_nothing
    class_to_idx: dict[str, int] | None = None


class Layout(Protocol):
    """A plan bound to a dataset. Every answer is a function of (seed, epoch, index)."""

    length: int
    num_laps: int
    """Most versions of one source in an epoch; versions are numbered on by this much from epoch to epoch."""

    @property
    def shortfalls(self) -> Sequence[Shortfall]:
        """The sets, and their classes where the plan tells these apart, that cannot give what it asks for."""
        ...

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
        classes: The class that positions are meant for, and how many of them, run after run; None for no class.
        laps_left: (S,) how often each source may be used, descending; None for no limit but `num_variants`.
        first_lap: (S,) versions of each source that are other cells'.
        key: Hash that tells this cell's permutations from others'.
    """

    set_index: int
    num_sources: int
    count: int
    key: int
    sources: np.ndarray | None = None
    num_variants: int | None = None
    classes: Mapping[int, int] | None = None
    laps_left: np.ndarray | None = None
    first_lap: np.ndarray | None = None
    _class_ids: list[int | None] = field(init=False, default_factory=lambda: [None])
    _class_ends: list[int] = field(init=False, default_factory=list)
    _lap_ends: list[int] | None = field(init=False, default=None)
    _lap_rooms: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.laps_left is not None and self.count:
            rooms = _count_per_lap(self.laps_left, self.count)
            ends = np.minimum(np.cumsum(rooms, dtype=np.int64), self.count).tolist()
            object.__setattr__(self, "_lap_rooms", rooms)
            object.__setattr__(self, "_lap_ends", ends)
        if self.classes is not None:
            object.__setattr__(self, "_class_ids", list(self.classes))
        runs = [self.count] if self.classes is None else list(self.classes.values())
        object.__setattr__(self, "_class_ends", np.cumsum(runs, dtype=np.int64).tolist())

    @property
    def capacity(self) -> int | None:
        """How many positions get a version of their own; None for all."""
        if self._lap_ends is not None:
            return self._lap_ends[-1] if self._lap_ends else 0
        return None if self.num_variants is None else self.num_variants * self.num_sources

    @property
    def room(self) -> int:
        """How many of the positions get a version of their own."""
        return self.count if self.capacity is None else min(self.count, self.capacity)

    @property
    def num_laps_own(self) -> int:
        """Most versions of one source that this cell uses in an epoch."""
        return -(-self.count // self.num_sources) if self._lap_ends is None else len(self._lap_ends)

    @property
    def num_laps(self) -> int:
        """The same, with those that other cells use before it."""
        return self.num_laps_own + (0 if self.first_lap is None else int(self.first_lap.max()))

    def list_runs(self) -> Iterator[tuple[int | None, range]]:
        """Each class with its positions."""
        for class_id, start, end in zip(self._class_ids, [0, *self._class_ends], self._class_ends, strict=False):
            yield class_id, range(start, end)

    def find_run(self, position: int) -> range:
        """The positions that are meant for the same class."""
        at = bisect_right(self._class_ends, position)
        return range(self._class_ends[at - 1] if at else 0, self._class_ends[at])

    def draw(self, epoch: int, position: int, *, num_laps: int) -> Draw:
        """What a position carries."""
        target_class = self._class_ids[bisect_right(self._class_ends, position)]
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
            return Draw(self.set_index, source, None, target_class)
        if self.first_lap is not None:
            lap += int(self.first_lap[row])
        variant = _choose_version(epoch, lap, source, num_laps=num_laps, num_variants=self.num_variants)
        return Draw(self.set_index, source, variant, target_class)


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
        self.shortfalls = self._find_shortfalls(names)

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
        """What the next positions of the same cell and class carry, around their end, with a version left."""
        cell, position = self._locate(index - self._num_real)
        run = cell.find_run(position)
        first, room = run.start, max(0, min(run.stop, cell.room) - run.start)
        for step in range(1, min(limit, room - 1 if position - first < room else room) + 1):
            yield cell.draw(epoch, first + (position - first + step) % room, num_laps=self.num_laps)

    def find_generated(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's generated item number `position`."""
        return self._num_real + position

    def find_real(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's real item number `position`."""
        return position

    def find_real_source(self, epoch: int, index: int, /) -> int:
        """The real item served where nothing could be generated and the set's source is none."""
        return (index - self._num_real) % self._num_real if index >= self._num_real else index

    def _find_shortfalls(self, names: Sequence[str]) -> list[Shortfall]:
        asked: Counter[tuple[int, int | None]] = Counter()
        available: Counter[tuple[int, int | None]] = Counter()
        for cell in self.cells:
            for class_id, run in cell.list_runs():
                asked[cell.set_index, class_id] += len(run)
                available[cell.set_index, class_id] += len(run[: max(0, cell.room - run.start)])
        return [
            Shortfall(names[set_index], asked[set_index, target_class], room, target_class)
            for (set_index, target_class), room in available.items()
            if room < asked[set_index, target_class]
        ]

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
        sets: Sequence[SetShape],
        seed: int,
    ) -> None:
        self.length = num_real
        self.num_laps = 1
        self.shortfalls: list[Shortfall] = []
        self._seed = seed
        self._counts = list(counts)
        self._ends = np.cumsum(self._counts).tolist() if self._counts else []
        self._num_generated = sum(self._counts)
        self._sets = list(sets)

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
        """What the set's next positions of the permutation carry, of the same size and class where these are known."""
        shuffle = self._shuffle(epoch)
        start = shuffle(index)
        set_index = bisect_right(self._ends, start)
        groups = self._sets[set_index].find_groups()
        count = self._counts[set_index]
        first = self._ends[set_index] - count
        for step in range(1, min(limit, count - 1) + 1):
            position = first + (start - first + step) % count
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
        num_variants = self._sets[set_index].num_variants
        variant = _choose_version(epoch, 0, index, num_laps=self.num_laps, num_variants=num_variants)
        return Draw(set_index, index, variant, None)


def make_cells(
    shape: SetShape,
    count: int,
    *,
    set_index: int,
    seed: int,
    sources: np.ndarray | None = None,
    classes: Mapping[int, int] | None = None,
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
        classes: The classes that the positions are meant for, and how many of them; spread over the cells alike.
        laps_left: (S,) how often each may be used; None for no limit but `num_variants`.
        first_lap: (S,) versions of each that are other cells'.
    """
    groups = shape.find_groups()
    if groups is None and laps_left is None and sources is None and classes is None:
        key = hash_numbers(seed, set_index)
        return [Cell(set_index, shape.num_sources, count, key, num_variants=shape.num_variants)]
    members = np.arange(shape.num_sources) if sources is None else sources
    labels = np.zeros(len(members), np.int64) if groups is None else groups[members]
    _, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    numbers = numbers.reshape(-1)
    # One sort for all groups: there may be as many as sources.
    parts = np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])
    cells = []
    waiting = np.array([count] if classes is None else list(classes.values()), np.int64)
    only_class = next(iter(classes)) if classes is not None and len(classes) == 1 else -1
    for number, share in enumerate(_apportion(numbers, sizes, count, laps_left)):
        if not share:
            continue
        rows = parts[number]
        runs = share_out(waiting, share)
        waiting -= runs
        if laps_left is not None:
            rows = rows[np.argsort(-laps_left[rows], kind="stable")]
        cells.append(
            Cell(
                set_index,
                len(rows),
                share,
                hash_numbers(seed, set_index, number, only_class),
                sources=members[rows],
                num_variants=shape.num_variants,
                classes=None
                if classes is None
                else {one: run for one, run in zip(classes, runs.tolist(), strict=True) if run},
                laps_left=None if laps_left is None else laps_left[rows],
                first_lap=None if first_lap is None else first_lap[rows],
            )
        )
    return cells


def _apportion(numbers: np.ndarray, sizes: np.ndarray, count: int, laps_left: np.ndarray | None) -> list[int]:
    """Split positions over groups so that over all of them each source is used floor or ceil of the mean."""
    shares, left = np.zeros(len(sizes), np.int64), count
    uses = np.zeros(0, np.int64) if laps_left is None else laps_left
    for lap in range(int(uses.max(initial=0))):
        room = np.bincount(numbers[uses > lap], minlength=len(sizes))
        share = share_out(room, min(left, int(room.sum())))
        shares += share
        left -= int(share.sum())
        if not left:
            break
    full, rest = divmod(left, int(sizes.sum()))  # what no version is left for is shared out all the same
    result: list[int] = (shares + full * sizes + share_out(sizes, rest)).tolist()
    return result


def _choose_version(epoch: int, lap: int, source: int, *, num_laps: int, num_variants: int | None) -> int:
    """The version that a source's use number `lap` in an epoch gets: another one for every lap.

    Without a limit they are numbered on for ever. Of a limited number each comes up equally often at each lap: where
    the laps of an epoch and the versions have a common divisor, the same few would come round for ever, so each round
    begins one later.
    """
    if num_variants is None:
        return epoch * num_laps + lap
    common = math.gcd(num_laps, num_variants)
    round_number = epoch * common // num_variants
    return (epoch * num_laps + round_number % common + lap + source * 0x9E3779B1) % num_variants


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
