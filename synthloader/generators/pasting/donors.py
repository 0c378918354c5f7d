"""`Donors`: which objects of a pool are pasted, drawn with as few pictures decoded as possible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np

from synthloader.class_table import ClassTable
from synthloader.errors import LabelContractError
from synthloader.generators.pasting.cut_out import (
    MASK_IS_BOX,
    CutOut,
    Extent,
    cut_out,
    find_filled_boxes,
    measure_extent,
)
from synthloader.generators.pasting.grab_cut import BoxCut, cut_from_box, find_window
from synthloader.generators.pasting.memory import Memory
from synthloader.generators.pasting.rotated_cut import cut_from_rotated_box
from synthloader.generators.pasting.segments import cut_segment, find_segments
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

__all__ = ["Donors"]

MAX_DRAWS = 32
"""Pictures drawn in search of donors before giving up. Those known to hold none are not decoded again."""

MAX_EXTENTS = 16_384
"""Objects of which a process remembers where they lie: some hundred bytes, for a search through all masks."""

MAX_BOX_CUTS = 4096
"""Objects cut out of boxes that a process remembers: each took milliseconds, and a mask is a few kilobytes."""


@dataclass(eq=False)
class Donors:
    """The objects of a pool that can be pasted.

    Instances are cut out along their masks; where a picture has boxes only, or an instance a rotated box in place of a
    mask, along masks that GrabCut finds in the boxes (see `grab_cut`, `rotated_cut`); of a semantic mask the connected
    parts are taken.

    What is remembered between calls (who holds which class, which pictures hold no donor, where the objects lie in
    them, masks found in boxes) only saves work: what is drawn is a function of the pool and the rng alone. Names that
    were listed travel to other processes, which then cut only what they use.

    Args:
        pool: Samples with `Instances` or a `SemanticMask`.
    """

    pool: Pool
    _table: ClassTable | None = field(default=None, repr=False)
    _holders: dict[frozenset[int] | None, np.ndarray] = field(default_factory=dict, repr=False)
    _barren: dict[frozenset[int] | None, set[int]] = field(default_factory=dict, repr=False)
    _extents: Memory[Extent] = field(default_factory=lambda: Memory(MAX_EXTENTS), repr=False)
    _box_cuts: Memory[BoxCut] = field(default_factory=lambda: Memory(MAX_BOX_CUTS), repr=False)
    _places: dict[int, list[tuple[int, Any]]] = field(default_factory=dict, repr=False)

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
            objects = self._list_objects(sample, index, class_ids)
            if not objects:
                self._barren[class_ids].add(index)  # nothing was drawn for it: the next visit may skip it
                continue
            if not _have_same_maps(sample.maps, maps):
                continue
            for at in rng.permutation(len(objects)).tolist():
                donor = self._cut(sample, index, objects[at], min_visible)
                if donor is not None:
                    found.append(donor)
                if len(found) == count:
                    return found
        return found

    def list_classes(self) -> frozenset[int]:
        """All classes that the pool's objects have."""
        return frozenset(self._find_table().count("images"))

    def list_names(self, class_id: int, /) -> Sequence[str]:
        """Names of the objects of a class that can be used, as `Origin.drawn` has them.

        Where pictures have masks and the pool knows its labels without decoding, three are decoded, and a crowd or an
        object without pixels of its own is listed too. Elsewhere the pictures that hold the class are decoded, once,
        and of those with boxes alone every box of the class is cut: some 10 milliseconds each. A class that a plan
        raises has few. All this is done when the names or their number are asked for; whether there are any (`bool`)
        is known from the first that can be used.
        """
        return _Names(self, class_id)

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
        """The first `count` of these objects that can be used.

        Args:
            class_id: Their class.
            positions: Their positions in `list_names`.
            count: How many are wanted.
            maps: As in `draw`.
            min_visible: As in `draw`.
        """
        known, found = self._list_places(class_id), list[CutOut]()
        for position in positions:
            index, place = known[position]
            sample = self.pool[index]
            if place not in self._list_objects(sample, index, frozenset({class_id})):
                continue
            donor = self._cut(sample, index, place, min_visible) if _have_same_maps(sample.maps, maps) else None
            if donor is not None:
                found.append(donor)
            if len(found) == count:
                break
        return found

    def list_boxes(self, index: int, /) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Class ids (N,), boxes (N, 4) and the image's height and width of one picture."""
        sample = self.pool[index]
        target = sample.target
        if isinstance(target, Instances):
            rows = np.ones(len(target), np.bool_) if target.crowd is None else ~target.crowd
            return target.class_ids[rows], target.boxes[rows], sample.size_hw
        parts = find_segments(target, None) if isinstance(target, SemanticMask) else []
        columns = np.array(parts, np.float32).reshape(-1, 5)
        return columns[:, 0].astype(np.int64), columns[:, 1:], sample.size_hw

    def _list_places(self, class_id: int) -> list[tuple[int, Any]]:
        """Picture and row, or picture and part of its mask, of every object of a class."""
        if class_id not in self._places:
            holders = self._find_holders(frozenset({class_id})).tolist()
            probes = {holders[0], holders[len(holders) // 2], holders[-1]} if holders else set()
            if all(_has_masks_of_objects(self.pool[index]) for index in sorted(probes)):
                rows = (np.flatnonzero(self.pool.class_ids(index) == class_id).tolist() for index in holders)
                self._places[class_id] = [
                    (index, row) for index, found in zip(holders, rows, strict=True) for row in found
                ]
            else:
                self._places[class_id] = list(self._look_for(class_id))
        return self._places[class_id]

    def _look_for(self, class_id: int) -> Iterator[tuple[int, Any]]:
        """The same of those that can be used; their pictures are decoded."""
        wanted = frozenset({class_id})
        for index in self._find_holders(wanted).tolist():
            sample = self.pool[index]
            for place in self._list_objects(sample, index, wanted):
                if self._cut(sample, index, place, 0.0) is not None:
                    yield index, place

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
            table = self._find_table()
            wanted = table.count("images") if class_ids is None else sorted(class_ids)
            holders = [table.find_holders(class_id) for class_id in wanted]
            self._holders[class_ids] = np.unique(np.concatenate(holders)) if holders else np.zeros(0, np.int64)
        return self._holders[class_ids]

    def _find_table(self) -> ClassTable:
        if self._table is None:
            self._table = ClassTable(self.pool.class_ids(index).tolist() for index in range(len(self.pool)))
        return self._table

    def _list_objects(self, sample: Sample, index: int, class_ids: frozenset[int] | None) -> list[Any]:
        """What may be pasted, as far as the label alone can tell: rows of instances, or parts of a mask.

        Raises:
            LabelContractError: The sample has another kind of target.
        """
        target = sample.target
        if target is None:
            return []
        if isinstance(target, SemanticMask):
            return list(find_segments(target, class_ids))
        if isinstance(target, ClassLabel):
            raise LabelContractError(
                f"donors of CopyPaste must have Instances or a SemanticMask, got {type(target).__name__} in "
                f"{self.pool.name(index)!r}. Give it cut-outs (cutouts=), or a pool of instance segmentation (pool=)."
            )
        wanted = ~target.crowd if target.crowd is not None else np.ones(len(target), np.bool_)
        if class_ids is not None:
            wanted = wanted & np.isin(target.class_ids, list(class_ids))
        rows: list[int] = np.flatnonzero(wanted).tolist()
        return rows

    def _cut(self, sample: Sample, index: int, place: Any, min_visible: float) -> CutOut | None:
        """One object; None where it has too few pixels of its own, or GrabCut finds no mask worth having."""
        name, target = self.pool.name(index), sample.target
        if not isinstance(target, Instances):
            return cut_segment(sample, place, name=name)
        boxes = target.boxes.tobytes()
        if target.masks is not None and not find_filled_boxes(target)[place]:
            extent = self._extents.find((index, place), boxes, lambda: measure_extent(target, place))
            return cut_out(sample, place, name=name, min_visible=min_visible, extent=extent)
        box, others = target.boxes[place], np.delete(target.boxes, place, axis=0)
        looked_at = boxes + _read_some_rows(sample.image, box)
        if target.masks is not None:
            looked_at += _read_some_rows(target.masks[place], box)
            cut = partial(cut_from_rotated_box, sample.image, target, place)
        else:
            cut = partial(cut_from_box, sample.image, box, others=others)
        found = self._box_cuts.find((index, place), looked_at, cut)
        return None if found.mask is None else _cut_along(sample, place, found, name)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to other processes without what they can find themselves; a long search is not made again."""
        fresh = Donors(self.pool, _places=self._places)
        return {each.name: getattr(fresh, each.name) for each in fields(self)}


def _has_masks_of_objects(sample: Sample) -> bool:
    """Whether a picture has masks, and all of them are outlines."""
    target = sample.target
    return isinstance(target, Instances) and target.masks is not None and not find_filled_boxes(target).any()


class _Names(Sequence[str]):
    """The names of a class's objects, found when they are asked for."""

    def __init__(self, donors: Donors, class_id: int) -> None:
        self._donors = donors
        self._class_id = class_id

    def __len__(self) -> int:
        return len(self._donors._list_places(self._class_id))

    def __bool__(self) -> bool:
        known = self._donors._places.get(self._class_id)
        return bool(known) if known is not None else any(True for _ in self._donors._look_for(self._class_id))

    def __getitem__(self, at: Any) -> Any:
        places = self._donors._list_places(self._class_id)
        return [self._name(place) for place in places[at]] if isinstance(at, slice) else self._name(places[at])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Names) and other._donors.pool is self._donors.pool:
            return other._class_id == self._class_id  # known without a search
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))

    def _name(self, place: tuple[int, Any]) -> str:
        return f"{self._donors.pool.name(place[0])}#{_name_place(place[1])}"


def _name_place(place: Any) -> str:
    return f"{place[0]}@{place[1]},{place[2]}" if isinstance(place, tuple) else str(place)


def _cut_along(sample: Sample, row: int, found: BoxCut, name: str) -> CutOut | None:
    """The object along the mask that was found in its box, where the picture has none."""
    x1, y1, x2, y2 = found.box
    masks = np.zeros((1, *sample.size_hw), np.bool_)
    masks[0, y1:y2, x1:x2] = found.mask
    if not isinstance(sample.target, Instances):
        return None
    alone = sample.target.replace(masks=None).select(np.array([row])).replace(masks=masks)
    if MASK_IS_BOX in alone.attributes:
        alone = alone.replace(attributes={**alone.attributes, MASK_IS_BOX: np.zeros(1, np.bool_)})
    donor = cut_out(sample.replace(target=alone), 0, name=name, min_visible=0)
    return None if donor is None else donor.rename(f"{name}#{row}")


def _read_some_rows(image: np.ndarray, box: np.ndarray) -> bytes:
    """Pixels or mask of a box, at most some 64 rows of it: other pictures have others."""
    x1, y1, x2, y2 = find_window(image, box)
    return image[y1 : y2 : max(1, (y2 - y1) // 32), x1:x2].tobytes()


def _have_same_maps(donor: Mapping[str, np.ndarray], source: Mapping[str, np.ndarray]) -> bool:
    return all(
        name in donor and donor[name].dtype == values.dtype and donor[name].shape[2:] == values.shape[2:]
        for name, values in source.items()
    )
