"""`Tile`: tiles of large pictures, at random or as close-ups of single objects."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from synthloader.checks import (
    check_choice,
    check_count,
    check_fraction,
    check_number,
    check_range,
    check_type,
    reject,
)
from synthloader.errors import NothingToGenerate
from synthloader.generators.labelling.class_choice import ClassChoice
from synthloader.generators.labelling.contract import check_kept
from synthloader.generators.tiling.objects import (
    InstanceObjects,
    NoObjects,
    RegionObjects,
    TileLimits,
    TileObject,
    TileObjects,
    Window,
)
from synthloader.keys import make_fingerprint
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask, Target

__all__ = ["Tile"]


class Tile:
    """Cut a tile out of the source, with labels that follow.

    A random tile lies anywhere, and its pixels are the source's own, never scaled. A centred one is a close-up: an
    object is drawn, the part of the picture around it is cut and scaled, so that the object's longer side becomes the
    drawn share of the tile's shorter side. The object lies in the middle, unless the border of the picture is near.

    A tile has the size `size_hw`, less where the source is smaller: the size follows from the source's size alone
    (`find_size_hw`). Of a source that is not larger than the tile no random tile can be made.

    What happens to the labels:

    * Masks, boxes and keypoints are cut at the border of the tile. The box of a mask that was cut or scaled is the
      tight box of what is left; other boxes keep their exact sides. Keypoints outside become (0, 0, 0). Crowds are cut
      likewise. The column `visible` says how much of each object is left.
    * Nothing stays visible without its label: a tile that shows less than `min_visible` of an object (of its mask, else
      of its box), or cuts it down to a box below `min_side` or `min_area`, is tried elsewhere, `max_tries` in all.
      With `drop="instances"` it is used, and such an object loses its label while its few pixels stay in the image, as
      the filter `MinBox` does. An object that the tile holds whole keeps its label, however small, unless the tile
      shrinks it. Crowds are kept whatever is left of them: what is said of a region is true of its parts.
    * Instances with neither a mask pixel nor a box of any area are dropped.
    * Semantic masks and maps are cut; where a close-up is scaled they take the nearest value, and depths stay what they
      are. The class of a whole picture is not kept: a tile of a photograph of a cat may show no cat.

    Args:
        size_hw: Height and width of a tile in pixels; one number for both.
        centred: Whether tiles are close-ups of single objects. Of a semantic mask these are connected regions with at
            least `min_side` and `min_area`.
        object_range: Close-ups only: least and largest share of the tile's shorter side that the object's longer side
            takes up, drawn uniformly; above 0, at most 2 (above 1 the object is cut). A close-up never reaches beyond
            the picture, so that an object of nearly the picture's size may come out larger than drawn.
        max_zoom: Close-ups only: most that pixels are magnified, 0.1 to 10. An object that would need more comes out
            smaller than drawn.
        classes: Objects that close-ups are made of, names or ids; random tiles then contain the centre of one of them.
            None for all. Names are looked up in the dataset's table by `bind`.
        min_visible: Smallest share of an object's own pixels that a tile may show of what it cuts, 0..1.
        min_side: Least shorter side of the box of what it cuts, in pixels of the tile.
        min_area: Least area of what it cuts (of the mask, else of the box), in square pixels of the tile.
        drop: What is dropped where an object is below these: `"tiles"` or `"instances"`.
        keep_empty: Whether random tiles without objects are used. A tile of crowds alone, or of background and ignored
            pixels, is one. Tiles of pictures without a target are always used.
        max_tries: Tiles tried for a sample.

    Raises:
        ValueError: An argument is out of its bounds.
        TypeError: An argument has another type.

    Source:
        Akyon, Altinuc, Temizel 2022, "Slicing aided hyper inference and fine-tuning for small object detection", cuts
        pictures along a grid and drops what is cut to less than a share of its box. Ours draws the place at random, has
        close-ups, and by default leaves nothing visible without its label.

    Example:
        >>> boxes = np.array([[10, 10, 20, 40], [60, 60, 90, 90]], np.float32)
        >>> source = Sample(np.zeros((100, 100, 3), np.uint8), Instances(np.array([1, 2]), boxes))
        >>> tile = Tile(size_hw=50, centred=True, object_range=(0.6, 0.6)).aim(1)
        >>> close_up = tile.generate(source, rng=np.random.default_rng(0))
        >>> close_up.size_hw, close_up.target.boxes.tolist()
        ((50, 50), [[10.0, 10.0, 20.0, 40.0]])
    """

    keeps: frozenset[type[Target]] = frozenset({Instances, SemanticMask})
    uses_pool = False
    aims_within_source = True

    def __init__(
        self,
        *,
        size_hw: int | tuple[int, int] = (512, 512),
        centred: bool = False,
        object_range: tuple[float, float] = (0.3, 0.9),
        max_zoom: float = 2.0,
        classes: Sequence[str | int] | None = None,
        min_visible: float = 0.2,
        min_side: float = 5,
        min_area: float = 10,
        drop: str = "tiles",
        keep_empty: bool = False,
        max_tries: int = 20,
    ) -> None:
        self._size_hw = _check_size(size_hw)
        check_type("centred", centred, bool)
        self._centred = centred
        low, high = check_range("object_range", object_range, minimum=0, maximum=2)
        if low == 0:
            reject("object_range", "begin above 0", object_range, "An object of no size cannot be seen.")
        self._object_range = (float(low), float(high))
        self._max_zoom = check_number("max_zoom", max_zoom, minimum=0.1, maximum=10)
        self._choice = ClassChoice.read(classes, purpose="make tiles of")
        check_type("keep_empty", keep_empty, bool)
        self._limits = TileLimits(
            min_visible=check_fraction("min_visible", min_visible),
            min_side=check_number("min_side", min_side, minimum=0),
            min_area=check_number("min_area", min_area, minimum=0),
            drop=check_choice("drop", drop, ("tiles", "instances")),
            keep_empty=keep_empty,
        )
        self._max_tries = check_count("max_tries", max_tries)
        self._in_one_piece = False

    @property
    def fingerprint(self) -> str:
        """Name, version and every parameter; what it is aimed at and told; ids instead of names once bound."""
        return make_fingerprint(
            "Tile",
            1,
            size_hw=self._size_hw,
            centred=self._centred,
            object_range=self._object_range,
            max_zoom=self._max_zoom,
            classes=self._choice.classes,
            min_visible=self._limits.min_visible,
            min_side=self._limits.min_side,
            min_area=self._limits.min_area,
            drop=self._limits.drop,
            keep_empty=self._limits.keep_empty,
            max_tries=self._max_tries,
            aim=self._choice.aim,
            in_one_piece=self._in_one_piece,
        )

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int]:
        """Height and width of a tile of a source of this height and width."""
        return min(self._size_hw[0], source_hw[0]), min(self._size_hw[1], source_hw[1])

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> Tile:
        """A copy whose `classes` are ids; nothing is drawn from the pool.

        Args:
            pool: Any pool.
            classes: Class names to ids; None where the dataset has no table.

        Raises:
            LabelContractError: A name in `classes=` is not in the table, or there is none.
        """
        bound = copy.copy(self)
        bound._choice = self._choice.bind(classes)
        return bound

    def aim(self, class_id: int, /) -> Tile:
        """A copy whose tiles hold an object of this class: a close-up of it, or a random tile that shows its centre.

        The source must have one. (`aims_within_source` tells plans so.)

        Raises:
            ValueError: `classes=` leaves this class out.
        """
        aimed = copy.copy(self)
        aimed._choice = self._choice.aim_at(class_id)
        return aimed

    def replace(self, **options: Any) -> Tile:
        """A copy with other options, bound and aimed as this one is.

        Args:
            **options: Options of the constructor. Names in `classes` have to be bound again.
        """
        own = {
            "size_hw": self._size_hw,
            "centred": self._centred,
            "object_range": self._object_range,
            "max_zoom": self._max_zoom,
            "classes": self._choice.classes,
            "min_visible": self._limits.min_visible,
            "min_side": self._limits.min_side,
            "min_area": self._limits.min_area,
            "drop": self._limits.drop,
            "keep_empty": self._limits.keep_empty,
            "max_tries": self._max_tries,
        }
        made = Tile(**{**own, **options})
        if self._choice.aim is not None:
            made._choice = made._choice.aim_at(self._choice.aim)
        made._in_one_piece = self._in_one_piece
        return made

    def keep_single_polygons(self) -> Tile:
        """A copy that tries elsewhere where a mask would have holes or several parts, for labels of one polygon."""
        made = copy.copy(self)
        made._in_one_piece = True
        return made

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Cut one tile.

        Args:
            source: A sample with `Instances`, with a `SemanticMask`, or without a target.
            rng: Every draw comes from here.

        Raises:
            LabelContractError: The source has another kind of target.
            NothingToGenerate: The source is no larger than the tile, has no object (of the wanted classes), or no tile
                that was tried could be used.
        """
        check_kept("Tile", self.keeps, source)
        size_hw = self.find_size_hw(source.size_hw)
        if size_hw == source.size_hw and not self._centred:
            raise NothingToGenerate("source not larger than the tile")
        objects = self._find_objects(source)
        wanted = self._choice.wanted
        if not objects.may_fill():
            raise NothingToGenerate("no object")
        for _ in range(self._max_tries):
            around = None
            if self._centred or wanted is not None:
                around = objects.draw(rng)
                if around is None:
                    raise NothingToGenerate("no object")
            if self._centred and around is not None:
                window = self._draw_close_up(around, size_hw, source.size_hw, rng)
            else:
                window = _draw_window(around, size_hw, source.size_hw, rng)
            if (window.height, window.width) == source.size_hw == size_hw:
                continue  # the whole picture, as it was
            made = objects.cut(window, size_hw, around=around)
            if made is not None:
                return made
        raise NothingToGenerate("no tile that shows enough of its objects")

    def _find_objects(self, source: Sample) -> TileObjects:
        target = source.target
        if isinstance(target, Instances):
            return InstanceObjects(
                source, target, wanted=self._choice.wanted, limits=self._limits, in_one_piece=self._in_one_piece
            )
        if isinstance(target, SemanticMask):
            return RegionObjects(source, target, wanted=self._choice.wanted, limits=self._limits)
        return NoObjects(source)

    def _draw_close_up(
        self, around: TileObject, size_hw: tuple[int, int], source_hw: tuple[int, int], rng: np.random.Generator
    ) -> Window:
        """The part of the picture that becomes the tile; it has the tile's proportions."""
        longer_side = max(around.x2 - around.x1, around.y2 - around.y1)
        zoom = min(rng.uniform(*self._object_range) * min(size_hw) / longer_side, self._max_zoom)
        zoom = max(zoom, size_hw[0] / source_hw[0], size_hw[1] / source_hw[1])  # no more than the picture has
        height = min(max(1, round(size_hw[0] / zoom)), source_hw[0])
        width = min(max(1, round(size_hw[1] / zoom)), source_hw[1])
        left = min(max(0, round((around.x1 + around.x2 - width) / 2)), source_hw[1] - width)
        top = min(max(0, round((around.y1 + around.y2 - height) / 2)), source_hw[0] - height)
        return Window(left, top, width, height)

    def __repr__(self) -> str:
        """The fingerprint, without its version."""
        return self.fingerprint.replace("Tile/1", "Tile")


def _check_size(size_hw: Any) -> tuple[int, int]:
    if isinstance(size_hw, list | tuple):
        if len(size_hw) != 2:
            reject("size_hw", "be a number or a pair (height, width)", size_hw, error=TypeError)
        return check_count("size_hw[0]", size_hw[0]), check_count("size_hw[1]", size_hw[1])
    side = check_count("size_hw", size_hw)
    return side, side


def _draw_window(
    around: TileObject | None, size_hw: tuple[int, int], source_hw: tuple[int, int], rng: np.random.Generator
) -> Window:
    """A window of the tile's own size, uniform over those that contain the object's centre."""
    starts = []
    centre = None if around is None else ((around.y1 + around.y2) / 2, (around.x1 + around.x2) / 2)
    for axis, (length, end) in enumerate(zip(size_hw, source_hw, strict=True)):
        low, high = 0, end - length
        if centre is not None:
            pixel = min(int(centre[axis]), end - 1)
            low, high = max(low, pixel - length + 1), min(high, pixel)
        starts.append(int(rng.integers(low, high + 1)))
    return Window(left=starts[1], top=starts[0], width=size_hw[1], height=size_hw[0])
