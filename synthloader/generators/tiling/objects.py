"""What a tile is made around, and whether it may be used: the objects of a picture, by its kind of target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from synthloader.generators.pasting.cut_out import read_shares
from synthloader.generators.tiling.window import WindowShares, cut_window, scale_to
from synthloader.polygons import is_one_polygon
from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask

__all__ = ["InstanceObjects", "NoObjects", "RegionObjects", "TileLimits", "TileObject", "TileObjects", "Window"]


class Window(NamedTuple):
    """A part of a picture, in whole pixels."""

    left: int
    top: int
    width: int
    height: int


class TileObject(NamedTuple):
    """An object that a tile is made around: its box in pixels, and its row (of a region: its class)."""

    row: int
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class TileLimits:
    """What a tile must show of an object that it cuts.

    Args:
        min_visible: Smallest share of the object.
        min_side: Shortest side of its box, in pixels of the tile.
        min_area: Smallest area (of the mask, else of the box), in square pixels of the tile.
        drop: `"tiles"` or `"instances"`, see `Tile`.
        keep_empty: Whether a tile without objects may be used.
    """

    min_visible: float
    min_side: float
    min_area: float
    drop: str
    keep_empty: bool


class TileObjects(Protocol):
    """The objects of one source."""

    def draw(self, rng: np.random.Generator, /) -> TileObject | None:
        """One of the objects that are wanted, each as likely as the others; None where there are none."""
        ...

    def may_fill(self) -> bool:
        """Whether any tile can hold an object."""
        ...

    def cut(self, window: Window, size_hw: tuple[int, int], /, *, around: TileObject | None) -> Sample | None:
        """The tile; None where it may not be used, or does not show the object that it was made around."""
        ...


class NoObjects:
    """A picture without a label."""

    def __init__(self, source: Sample) -> None:
        self._source = source

    def draw(self, rng: np.random.Generator, /) -> TileObject | None:
        """Nothing."""
        return None

    def may_fill(self) -> bool:
        """Unknown, and so no reason to refuse."""
        return True

    def cut(self, window: Window, size_hw: tuple[int, int], /, *, around: TileObject | None) -> Sample | None:
        """Any tile may be used."""
        return scale_to(cut_window(self._source, *window), size_hw)


class InstanceObjects:
    """Instances, with masks or with boxes only.

    Args:
        source: The picture.
        target: Its instances.
        wanted: The classes that tiles are made around; None for all.
        limits: What a tile must show.
        in_one_piece: Whether every mask of a tile must be one that a single polygon can say.
    """

    def __init__(
        self,
        source: Sample,
        target: Instances,
        /,
        *,
        wanted: frozenset[int] | None,
        limits: TileLimits,
        in_one_piece: bool = False,
    ) -> None:
        self._in_one_piece = in_one_piece
        self._source = source
        self._target = target
        self._limits = limits
        self._shares = WindowShares(target)
        self._single = np.ones(len(target), np.bool_) if target.crowd is None else ~target.crowd
        boxes = target.boxes
        centres = self._single & (boxes[:, 2:] > boxes[:, :2]).any(axis=1)
        if wanted is not None:
            centres &= np.isin(target.class_ids, list(wanted))
        self._rows = np.flatnonzero(centres)

    def draw(self, rng: np.random.Generator, /) -> TileObject | None:
        """One of the wanted instances; never a crowd."""
        if not len(self._rows):
            return None
        row = int(self._rows[rng.integers(len(self._rows))])
        return TileObject(row, *self._target.boxes[row].tolist())

    def may_fill(self) -> bool:
        """Whether there is an instance that is no crowd."""
        return self._limits.keep_empty or bool(self._single.any())

    def cut(self, window: Window, size_hw: tuple[int, int], /, *, around: TileObject | None) -> Sample | None:
        """The tile, its instances judged: those that it cuts, and all where it shrinks them."""
        left, top, width, height = window
        shares = self._shares.find(left=left, top=top, width=width, height=height)
        if around is not None and shares[around.row] == 0:
            return None
        rows = np.flatnonzero(shares > 0)
        is_cut = (shares[rows] < 1) & self._single[rows]
        known = read_shares(self._target)[rows].astype(np.float64)
        bad = is_cut & (known * shares[rows] < self._limits.min_visible - 1e-6)
        if bad.any() and self._limits.drop == "tiles":
            return None
        made = scale_to(cut_window(self._source, *window, shares=shares), size_hw)
        target = made.target
        if not isinstance(target, Instances):
            return None
        is_shrunk = size_hw[0] < height or size_hw[1] < width
        judged = self._single[rows] if is_shrunk else is_cut
        bad |= judged & self._find_small(target)
        if bad.any():
            if self._limits.drop == "tiles":
                return None
            target = target.select(~bad)
            made = made.replace(target=target)
        if self._in_one_piece and target.masks is not None and not all(map(is_one_polygon, target.masks)):
            return None
        left_over = rows[~bad & self._single[rows]]
        if around is not None:
            return made if around.row in left_over else None
        return made if len(left_over) or self._limits.keep_empty else None

    def _find_small(self, target: Instances) -> np.ndarray:
        sides = target.boxes[:, 2:].astype(np.float64) - target.boxes[:, :2]
        areas = sides.prod(axis=1)
        for row, mask in enumerate(() if target.masks is None else target.masks):
            areas[row] = cv2.countNonZero(mask.view(np.uint8)) or areas[row]
        small: np.ndarray = (sides.min(axis=1, initial=np.inf) < self._limits.min_side) | (
            areas < self._limits.min_area
        )
        return small


class RegionObjects:
    """The connected regions of a semantic mask, which are searched for only where a tile is made around one.

    Args:
        source: The picture.
        target: Its mask.
        wanted: The classes that tiles are made around; None for all but the background.
        limits: What a tile must show.
    """

    def __init__(
        self, source: Sample, target: SemanticMask, /, *, wanted: frozenset[int] | None, limits: TileLimits
    ) -> None:
        self._source = source
        self._target = target
        self._wanted = wanted
        self._limits = limits
        self._classes: list[int] | None = None
        self._regions: dict[int, np.ndarray] = {}

    def draw(self, rng: np.random.Generator, /) -> TileObject | None:
        """A region of a class, both drawn uniformly; regions below the least side or area are left out."""
        if self._classes is None:
            self._classes = self._list_classes()
        while self._classes:
            class_id = self._classes[int(rng.integers(len(self._classes)))]
            regions = self._find_regions(class_id)
            if len(regions):
                left, top, width, height = regions[int(rng.integers(len(regions)))].tolist()
                return TileObject(class_id, left, top, left + width, top + height)
            self._classes.remove(class_id)
        return None

    def may_fill(self) -> bool:
        """Unknown without a look at all pixels, which the tiles take."""
        return True

    def cut(self, window: Window, size_hw: tuple[int, int], /, *, around: TileObject | None) -> Sample | None:
        """The tile, where it shows what it was made around, or anything at all."""
        left, top, width, height = window
        part = self._target.mask[top : top + height, left : left + width]
        if around is not None:
            is_full = (part == around.row).any()
        else:
            is_full = self._limits.keep_empty or ((part != 0) & (part != self._target.ignore_index)).any()
        return scale_to(cut_window(self._source, *window), size_hw) if is_full else None

    def _list_classes(self) -> list[int]:
        mask, ignored = self._target.mask, self._target.ignore_index
        low, high = int(mask.min()), int(mask.max())
        if high - low < 256:  # counting costs a hundredth of sorting all pixels
            counts = cv2.calcHist([(mask - low).astype(np.uint8)], [0], None, [256], [0, 256])
            found = np.flatnonzero(counts) + low
        else:
            found = np.unique(mask)
        classes = {class_id for class_id in found.tolist() if class_id not in (0, ignored)}
        return sorted(classes if self._wanted is None else classes & self._wanted)

    def _find_regions(self, class_id: int) -> np.ndarray:
        """(M, 4) int: left, top, width, height of each."""
        if class_id not in self._regions:
            pixels = (self._target.mask == class_id).view(np.uint8)
            # Twenty times as fast as cv2.connectedComponentsWithStats.
            outlines, tree = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            regions = []
            for outline, links in zip(outlines, tree[0] if len(outlines) else (), strict=True):
                left, top, width, height = cv2.boundingRect(outline)
                # Pick's theorem: pixels inside of the outline and on it, holes counted.
                area = int(cv2.contourArea(outline) + len(outline) / 2 + 1)
                is_outer = links[3] < 0
                if is_outer and min(width, height) >= self._limits.min_side and area >= self._limits.min_area:
                    regions.append((left, top, width, height))
            # In one order, whichever way they were found.
            self._regions[class_id] = np.array(sorted(regions), np.int64).reshape(-1, 4)
        return self._regions[class_id]
