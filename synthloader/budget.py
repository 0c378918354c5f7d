"""How often each donor of a class may be used in an epoch, and which donors each position of a plan may use.

```
uses     0 .. D-1  every donor once | D .. 2D-1  once more | ...      `cap` laps, each shuffled by its own key
turns    turn t has the uses  t w .. t w + w-1                        one turn for each position, w donors wide
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from synthloader.class_table import share_out
from synthloader.permutation import get_permutation
from synthloader.seeds import hash_numbers

__all__ = ["Budget", "DonorList", "Ration", "share_budget"]


class DonorList(NamedTuple):
    """The donors of one class that a generator draws from.

    Attributes:
        names: As `Origin.drawn` has them.
        most: How many one sample uses at most.
    """

    names: Sequence[str]
    most: int


@dataclass(frozen=True)
class Budget:
    """All uses of the donors of one class in an epoch: D x cap.

    Args:
        num_donors: Number of donors D.
        cap: Most uses of each.
        width: Donors w of one turn, at least 1 and at most D.
        key: Hash that tells this budget's permutations from others'.
    """

    num_donors: int
    cap: int
    width: int
    key: int

    @property
    def num_turns(self) -> int:
        """Turns for which there are donors."""
        return self.num_donors * self.cap // self.width

    def list_donors(self, round_number: int, turn: int, /) -> tuple[int, ...]:
        """Positions of the donors of a turn, each once, 1 to w of them; over all turns each comes up `cap` times."""
        uses = range(turn * self.width, (turn + 1) * self.width)
        return tuple(dict.fromkeys(self._find_donor(round_number, use) for use in uses))

    def _find_donor(self, round_number: int, use: int) -> int:
        lap, place = divmod(use, self.num_donors)
        return get_permutation(self.num_donors, hash_numbers(self.key, round_number, lap))(place)


@dataclass(frozen=True)
class Ration:
    """The turns of a budget that belong to one run of positions.

    Args:
        budget: What they are of.
        first: The first turn.
        count: How many; the positions beyond have none.
    """

    budget: Budget
    first: int
    count: int


def share_budget(rooms: Sequence[int], donors: DonorList, /, *, cap: int, key: int) -> list[Ration]:
    """Share the uses of a class's donors out among runs of positions.

    Every position gets a turn, as wide as there are donors for, or one donor; where there are fewer uses than
    positions, some positions of every run get none.

    Args:
        rooms: Number of positions of each run.
        donors: The donors.
        cap: Most uses of each in an epoch.
        key: Hash that tells this budget's permutations from others'.

    Example:
        >>> first, second = share_budget([2, 2], DonorList(["a#0", "b#0", "b#3"], 2), cap=3, key=7)
        >>> [len(first.budget.list_donors(0, turn)) for turn in range(4)], second.first, second.count
        ([2, 2, 2, 2], 2, 2)
    """
    size, total = len(donors.names), sum(rooms)
    width = max(1, min(donors.most, size, size * cap // total if total else 1))
    budget = Budget(size, cap, width, key)
    counts = share_out(np.array(rooms, np.int64), min(total, budget.num_turns)).tolist()
    starts = np.cumsum([0, *counts]).tolist()
    return [Ration(budget, start, count) for start, count in zip(starts, counts, strict=False)]
