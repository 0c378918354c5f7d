"""Cells: some sources of one set, and what each of the positions carries that they share."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from synthloader.budget import DonorList, Ration
from synthloader.class_table import ClassTable, share_out
from synthloader.permutation import get_permutation
from synthloader.seeds import hash_numbers

__all__ = ["Cell", "Draw", "SetShape", "choose_version", "know_nothing", "make_cells"]


class Draw(NamedTuple):
    """What a generated index carries.

    `variant` is None where the set has no version left that this epoch does not use already, or the target class no
    donor. `donors` are the donors that may be used, where the plan has a cap (see `synthloader.protocols.Budgeted`).
    """

    set_index: int
    source: int
    variant: int | None
    target_class: int | None
    donors: tuple[int, ...] | None = None


def know_nothing() -> None:
    """Nothing is known; a function that travels to other processes."""


def _know_no_donors(class_id: int, /) -> None:
    """The same of donors."""


def _agree(class_id: int = 0, /) -> bool:
    """There is nothing to be said against it."""
    return True


def _allow(class_id: int, /) -> None:
    """The same of a class."""


@dataclass(frozen=True)
class SetShape:
    """What a plan must know of one generated set.

    Args:
        name: The set's name in the mix.
        num_sources: Number of sources S.
        num_variants: Versions of each source; None for as many as asked.
        own: Whether source i is the real item i.
        aimable: Whether its generator can be told which class is wanted.
        confirm_aim: Says whether that goes for these sources too; asked by plans that want a class.
        check_aim: Raises `ValueError` where its generator refuses a class.
        has_donors: Says whether there are donors of a class; it takes less than finding all.
        find_groups: Gives (S,) ints, sources of one size and class having one number; None where nothing is known.
        find_classes: Gives the classes of its sources.
        find_donors: Gives the donors of a class; None where the generator cannot be told which to use.
    """

    name: str
    num_sources: int
    num_variants: int | None
    own: bool = True
    aimable: bool = False
    find_groups: Callable[[], np.ndarray | None] = know_nothing
    find_classes: Callable[[], ClassTable | None] = know_nothing
    find_donors: Callable[[int], DonorList | None] = _know_no_donors
    confirm_aim: Callable[[], bool] = _agree
    check_aim: Callable[[int], None] = _allow
    has_donors: Callable[[int], bool] = _agree

    @property
    def can_aim(self) -> bool:
        """Whether a class can be wanted of it."""
        return self.aimable and self.confirm_aim()


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
        rations: The turns at donors of each class; None where any donor may be used.
        barren: Classes of which there are no donors: nothing can be made for them.
        num_rounds: After so many epochs all comes round again, donors and versions; None where nothing does.
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
    rations: Mapping[int, Ration] | None = None
    num_rounds: int | None = None
    barren: frozenset[int] = frozenset()
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

    @property
    def most_rounds(self) -> int | None:
        """How many epochs have versions of their own where these come round; None where versions never end."""
        if self.num_variants is None or not self.num_laps_own:
            return None
        return self.num_variants * self._rounds_per_lap // min(self.num_laps_own, self.num_variants)

    @property
    def _rounds_per_lap(self) -> int:
        """How many epochs share a lap through all sources; one that needs more than a lap begins with a new one."""
        return max(1, self.num_sources // self.count) if self._lap_ends is None else 1

    def list_runs(self) -> Iterator[tuple[int | None, range]]:
        """Each class with its positions."""
        for class_id, start, end in zip(self._class_ids, [0, *self._class_ends], self._class_ends, strict=False):
            yield class_id, range(start, end)

    def find_class(self, position: int) -> int | None:
        """The class that a position is meant for."""
        return self._class_ids[bisect_right(self._class_ends, position)]

    def find_run(self, position: int) -> range:
        """The positions that are meant for the same class."""
        at = bisect_right(self._class_ends, position)
        return range(self._class_ends[at - 1] if at else 0, self._class_ends[at])

    def count_usable(self, class_id: int | None, run: range) -> int:
        """How many positions of a run, the first ones, have a version and donors of their own."""
        room = 0 if class_id in self.barren else self.count_versions(run)
        return room if self.rations is None or class_id is None else min(room, self.rations[class_id].count)

    def count_versions(self, run: range) -> int:
        """How many positions of a run, the first ones, have a version of their own."""
        return max(0, min(run.stop, self.room) - run.start)

    def list_donors(self, epoch: int, position: int) -> tuple[int, ...] | None:
        """The donors that a position may use; None for any, and where it has none."""
        if self.rations is None:
            return None
        class_id, run = self.find_class(position), self.find_run(position)
        if class_id is None or position - run.start >= self.count_usable(class_id, run):
            return None
        ration = self.rations[class_id]
        round_number = epoch if self.num_rounds is None else epoch % self.num_rounds
        return ration.budget.list_donors(round_number, ration.first + position - run.start)

    def draw(self, epoch: int, position: int, *, num_laps: int) -> Draw:
        """What a position carries."""
        target_class = self.find_class(position)
        lap, place, size = self._find_place(position)
        comes_round = self.num_rounds is not None and self.num_variants is not None
        start = epoch
        if comes_round:
            start, lap, place = 0, *self._find_round(epoch, lap, place)
        row = get_permutation(size, hash_numbers(self.key, start, lap))(place)
        source = row if self.sources is None else int(self.sources[row])
        donors = self.list_donors(epoch, position)
        is_barren = target_class in self.barren or (self.rations is not None and donors is None)
        if position >= self.room or is_barren:
            return Draw(self.set_index, source, None, target_class)
        if self.first_lap is not None:
            lap += int(self.first_lap[row])
        if comes_round:
            start, num_laps = 0, 1
        variant = choose_version(start, lap, source, num_laps=num_laps, num_variants=self.num_variants)
        return Draw(self.set_index, source, variant, target_class, donors)

    def _find_place(self, position: int) -> tuple[int, int, int]:
        """The lap of a position, its place there, and how many places the lap has."""
        if self._lap_ends is None or position >= self.room:
            return *divmod(position, self.num_sources), self.num_sources
        lap = bisect_right(self._lap_ends, position)
        return lap, position - (self._lap_ends[lap - 1] if lap else 0), self._lap_rooms[lap]

    def _find_round(self, epoch: int, lap: int, place: int) -> tuple[int, int]:
        """Lap and place, counted on from the first epoch of those that come round.

        So a version carries the same donors whenever it comes up, and a cache finds it. An epoch of more than a lap
        begins with a lap of its own, so that it uses no source oftener than others do.
        """
        round_number = epoch % (self.num_rounds or 1)
        lap_number, part = divmod(round_number, self._rounds_per_lap)
        laps = min(self.num_laps_own, self.num_variants or 1)
        return lap_number * laps + lap, place + part * self.count


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


def choose_version(epoch: int, lap: int, source: int, *, num_laps: int, num_variants: int | None) -> int:
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
