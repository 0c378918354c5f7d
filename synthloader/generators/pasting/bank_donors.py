"""`BankDonors`: objects to paste, drawn from cut-outs on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synthloader.generators.pasting.cut_out import CutOut
from synthloader.generators.pasting.cutout_bank import CutoutBank

__all__ = ["BankDonors"]


@dataclass(frozen=True, eq=False)
class BankDonors:
    """The cut-outs of a bank; the counterpart of `Donors`.

    Args:
        bank: Bound to a table of classes.
    """

    bank: CutoutBank

    def draw(
        self,
        count: int,
        /,
        *,
        rng: np.random.Generator,
        class_ids: frozenset[int] | None,
        maps: Mapping[str, np.ndarray],
        min_visible: float,
    ) -> list[CutOut]:
        """Draw `count` cut-outs, uniformly over the files, the same one perhaps twice; none where there are none."""
        places = self.bank.find(class_ids)
        if not len(places):
            return []
        return [self.bank.read(int(places[at])) for at in rng.integers(len(places), size=count)]

    def list_classes(self) -> frozenset[int]:
        """All classes of the cut-outs."""
        return frozenset(self.bank.class_ids)

    def list_names(self, class_id: int, /) -> list[str]:
        """Names of all cut-outs of a class, as `Origin.drawn` has them."""
        return [self.bank.name(int(at)) for at in self.bank.find(frozenset({class_id}))]

    def take(
        self,
        class_id: int,
        positions: Sequence[int],
        count: int,
        /,
        *,
        maps: Mapping[str, np.ndarray],
        min_visible: float,
    ) -> list[CutOut]:
        """The first `count` of these cut-outs, by their positions in `list_names`."""
        places = self.bank.find(frozenset({class_id}))
        return [self.bank.read(int(places[at])) for at in positions[:count]]
