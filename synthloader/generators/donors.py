"""`Donors`: which objects of a pool are pasted, drawn with as few pictures decoded as possible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthloader.class_table import ClassTable
from synthloader.errors import LabelContractError
from synthloader.generators.cut_out import CutOut, cut_out
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["Donors"]

MAX_DRAWS = 32
"""Pictures drawn in search of donors before giving up. Those known to hold none are not decoded again."""


@dataclass(eq=False)
class Donors:
    """The objects of a pool that can be pasted.

    What is remembered between calls (who holds which class, which pictures hold no donor) only saves decoding: what is
    drawn is a function of the pool and the rng alone.

    Args:
        pool: Samples with `Instances` and masks.
    """

    pool: Pool
    _table: ClassTable | None = field(default=None, repr=False)
    _holders: dict[frozenset[int] | None, np.ndarray] = field(default_factory=dict, repr=False)
    _barren: dict[frozenset[int] | None, set[int]] = field(default_factory=dict, repr=False)

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
        """Draw `count` objects: a picture, as many of its objects as are still wanted, then the next picture.

        Args:
            count: How many.
            rng: What to draw with.
            class_ids: Only these classes; None for all.
            maps: The maps that a donor must have too, with the same dtype and channels.
            min_visible: Smallest share of its own pixels that a donor must have (see `cut_out`).

        Returns:
            At most `count` objects; fewer where the pool has too few, none where it has none.
        """
        found: list[CutOut] = []
        for index in self._draw_pictures(rng, class_ids):
            sample = self.pool[index]
            rows = self._find_rows(sample, index, class_ids)
            if not len(rows):
                self._barren[class_ids].add(index)  # nothing was drawn for it: the next visit may skip it
                continue
            if not _have_same_maps(sample.maps, maps):
                continue
            for row in rng.permutation(rows).tolist():
                donor = cut_out(sample, row, name=self.pool.name(index), min_visible=min_visible)
                if donor is not None:
                    found.append(donor)
                if len(found) == count:
                    return found
        return found

    def _draw_pictures(self, rng: np.random.Generator, class_ids: frozenset[int] | None) -> Iterator[int]:
        """Positions in the pool, of those that hold one of the classes.

        Without classes all are drawn, and when many of these turn out to be empty, those that hold anything.
        """
        holders = None if class_ids is None else self._find_holders(class_ids)
        barren = self._barren.setdefault(class_ids, set())
        misses = 0
        for _ in range(MAX_DRAWS):
            if holders is None and misses >= MAX_DRAWS // 2:
                holders = self._find_holders(None)
            size = len(self.pool) if holders is None else len(holders)
            if size == 0:
                return
            drawn = int(rng.integers(size))
            index = drawn if holders is None else int(holders[drawn])
            if index not in barren:
                yield index
            misses += index in barren

    def _find_holders(self, class_ids: frozenset[int] | None) -> np.ndarray:
        """Positions of the pictures that hold one of these classes (None: any), read from the labels once."""
        if class_ids not in self._holders:
            if self._table is None:
                self._table = ClassTable(self.pool.class_ids(index).tolist() for index in range(len(self.pool)))
            wanted = self._table.count("images") if class_ids is None else sorted(class_ids)
            holders = [self._table.find_holders(class_id) for class_id in wanted]
            self._holders[class_ids] = np.unique(np.concatenate(holders)) if holders else np.zeros(0, np.int64)
        return self._holders[class_ids]

    def _find_rows(self, sample: Sample, index: int, class_ids: frozenset[int] | None) -> np.ndarray:
        """Rows of the instances that may be pasted, as far as the label alone can tell.

        Raises:
            LabelContractError: The sample has no masks, or another kind of target.
        """
        target = sample.target
        if target is None:
            return np.zeros(0, np.int64)
        if not isinstance(target, Instances):
            raise LabelContractError(
                f"donors of CopyPaste must have Instances with masks, got {type(target).__name__} in "
                f"{self.pool.name(index)!r}. Give it a pool of instance segmentation (pool=)."
            )
        if target.masks is None and len(target):
            raise LabelContractError(
                f"donors of CopyPaste must have masks, got boxes only in {self.pool.name(index)!r}. Add segmentation "
                f"to the annotations, give it a pool that has masks (pool=), or use ColorTransfer, which needs none."
            )
        wanted = ~target.crowd if target.crowd is not None else np.ones(len(target), np.bool_)
        if class_ids is not None:
            wanted = wanted & np.isin(target.class_ids, list(class_ids))
        return np.flatnonzero(wanted)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to other processes without what they can find themselves."""
        return {"pool": self.pool, "_table": None, "_holders": {}, "_barren": {}}


def _have_same_maps(donor: Mapping[str, np.ndarray], source: Mapping[str, np.ndarray]) -> bool:
    return all(
        name in donor and donor[name].dtype == values.dtype and donor[name].shape[2:] == values.shape[2:]
        for name, values in source.items()
    )
