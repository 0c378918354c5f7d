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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from synthloader.cells import Cell, Draw, SetShape, choose_version, know_nothing, make_cells
from synthloader.class_table import ClassTable
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


class Shortfall(NamedTuple):
    """A set that cannot give as many different samples as the plan asks for in an epoch.

    Attributes:
        name: The set.
        asked: Positions of the plan, in an epoch.
        available: Those for which there is a sample of their own.
        target_class: Their class, where the plan has one.
        num_donors: Donors of the class, where it is these that are too few.
        num_sources: Source images, where it is the cap on these that leaves too few.
        cap: Most uses of each.
        num_variants: Versions of each source; None for as many as asked.
        class_name: What the class is called.
    """

    name: str
    asked: int
    available: int
    target_class: int | None
    num_donors: int | None = None
    num_sources: int | None = None
    cap: int | None = None
    num_variants: int | None = None
    class_name: str | None = None

    def describe(self) -> str:
        """What is short, and what to do."""
        known = self.target_class if self.class_name is None else repr(self.class_name)
        target = "" if self.target_class is None else f" of class {known}"
        asked = f"samples{target} of set {self.name!r} in an epoch"
        if self.num_donors == 0:
            return (
                f"The plan asks for {self.asked} {asked}, and its generator has no donors of this class that can be "
                f"used. Give it some (cutouts= or pool=), or leave the class out with classes= of the plan."
            )
        if self.num_donors is not None:
            return (
                f"The plan asks for {self.asked} {asked}, and {self._count_uses(self.num_donors, 'donor', '')}. "
                f"Raise cap=, give the generator more donors (cutouts= or pool=), or lower to=."
            )
        if self.num_sources is not None:
            both = "cap= and variants=" if self.cap == self.num_variants else "cap="
            uses = self._count_uses(self.num_sources, "source image", " for all classes together")
            return f"The plan asks for {self.asked} {asked}, and {uses}. Raise {both}, add source images, or lower to=."
        goal = "the ratio" if self.target_class is None else "to="
        return (
            f"The plan asks for {self.asked} different {asked}, and its variants x sources give {self.available}. "
            f"Raise variants=, or lower {goal}."
        )

    def _count_uses(self, number: int, what: str, how: str) -> str:
        uses = "once" if self.cap == 1 else f"{self.cap} times"
        who, verb = (f"{number} {what}s, each", "are") if number > 1 else (f"one {what},", "is")
        return f"{who} used at most {uses}{how} (cap), {verb} enough for {self.available}"


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
    find_classes: Callable[[], ClassTable | None] = know_nothing
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

    def list_rationed(self) -> list[Draw]:
        """Every draw that a plan chose donors for, of all epochs, where the versions end: what a cache has to hold."""
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


class AppendLayout:
    """The real items, then the generated positions of all cells.

    Args:
        num_real: Number of real items.
        cells: Those of all sets.
        names: The sets' names.
        cap: Most uses of a source, where the plan has such a bound.
        class_names: What classes are called, for messages.
    """

    def __init__(
        self,
        num_real: int,
        cells: Sequence[Cell],
        *,
        names: Sequence[str],
        cap: int | None = None,
        class_names: Mapping[int, str] | None = None,
    ) -> None:
        self.cells = [cell for cell in cells if cell.count]
        self._ends = np.cumsum([cell.count for cell in self.cells]).tolist()
        self._num_real = num_real
        self._num_generated = self._ends[-1] if self._ends else 0
        self._by_set = [sum(cell.count for cell in self.cells if cell.set_index == at) for at in range(len(names))]
        self.length = num_real + self._num_generated
        self.num_laps = max((cell.num_laps for cell in self.cells), default=1)
        self.shortfalls = self._find_shortfalls(names, cap, class_names or {})

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
        """What the next positions of the same cell and class carry, around their end, with a version left.

        Each position keeps its own donors, so that no other's are used twice.
        """
        cell, position = self._locate(index - self._num_real)
        run = cell.find_run(position)
        first, room = run.start, cell.count_usable(cell.find_class(position), run)
        donors = cell.list_donors(epoch, position)
        if cell.rations is not None and donors is None:
            return
        for step in range(1, min(limit, room - 1 if position - first < room else room) + 1):
            draw = cell.draw(epoch, first + (position - first + step) % room, num_laps=self.num_laps)
            yield draw._replace(donors=donors)

    def list_rationed(self) -> list[Draw]:
        """Every draw that a plan chose donors for, of all epochs, where the versions end: what a cache has to hold."""
        cells = [cell for cell in self.cells if cell.rations is not None and cell.num_variants is not None]
        draws = (
            cell.draw(epoch, position, num_laps=self.num_laps)
            for cell in cells
            for epoch in range(cell.num_rounds or 1)
            for position in range(cell.count)
        )
        return [draw for draw in draws if draw.variant is not None]

    def find_generated(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's generated item number `position`."""
        return self._num_real + position

    def find_real(self, epoch: int, position: int, /) -> int:
        """The index of the epoch's real item number `position`."""
        return position

    def find_real_source(self, epoch: int, index: int, /) -> int:
        """The real item served where nothing could be generated and the set's source is none."""
        return (index - self._num_real) % self._num_real if index >= self._num_real else index

    def _find_shortfalls(
        self, names: Sequence[str], cap: int | None, class_names: Mapping[int, str]
    ) -> list[Shortfall]:
        found: dict[tuple[int, int | None], Shortfall] = {}
        num_sources: Counter[tuple[int, int | None]] = Counter()
        for cell in self.cells:
            for class_id, run in cell.list_runs():
                place = cell.set_index, class_id
                new = Shortfall(names[cell.set_index], 0, 0, class_id, cap=cap)
                if class_id is not None:
                    new = new._replace(class_name=class_names.get(class_id))
                if cap is not None:
                    new = new._replace(num_variants=cell.num_variants)
                so_far, usable = found.get(place, new), cell.count_usable(class_id, run)
                short = so_far._replace(asked=so_far.asked + len(run), available=so_far.available + usable)
                num_sources[place] += cell.num_sources if cell.capacity != 0 else 0  # counted where they are used
                if class_id in cell.barren:
                    short = short._replace(num_donors=0)
                elif cell.rations is not None and class_id is not None and usable < cell.count_versions(run):
                    short = short._replace(num_donors=cell.rations[class_id].budget.num_donors)
                found[place] = short
        return [
            # With fewer versions of a source than uses allowed, it is the versions that end.
            short._replace(num_sources=num_sources[place])
            if short.num_donors is None and cap is not None and cap <= (short.num_variants or cap)
            else short
            for place, short in found.items()
            if short.available < short.asked
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

    def list_rationed(self) -> list[Draw]:
        """None: there are no classes here."""
        return []

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
        variant = choose_version(epoch, 0, index, num_laps=self.num_laps, num_variants=num_variants)
        return Draw(set_index, index, variant, None)
