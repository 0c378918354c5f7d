"""What a label says: `ClassLabel`, `Instances` or `SemanticMask`.

Everything is checked once, on construction. Arrays are kept as given (not copied): treat them as read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, cast

import numpy as np

from synthloader.checks import check_array, check_int, check_type, reject
from synthloader.lazy import LazyArray, LazyField

__all__ = ["ClassLabel", "Instances", "SemanticMask", "Target"]


@dataclass(frozen=True, slots=True, eq=False)
class ClassLabel:
    """One class for the whole image.

    Args:
        class_id: The dataset's own number of the class, at least 0.
    """

    class_id: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_id", check_int("class_id", self.class_id, minimum=0))


@dataclass(frozen=True, eq=False)
class Instances:
    """N labelled objects.

    Args:
        class_ids: (N,) int64, the dataset's own numbers.
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels, x1 <= x2 and y1 <= y2, finite. Pixel (row, column) covers the
            square from (column, row) to (column + 1, row + 1), so a mask of one pixel has a box of side 1.
        masks: (N, H, W) bool, the visible pixels of each; None where the dataset has no masks. A `LazyArray` is
            made when the attribute is first read.
        keypoints: (N, K, 3) float32, x y visibility (0 not labelled, 1 hidden, 2 visible); None where there are none.
        crowd: (N,) bool, a region that holds many objects; default none.
        attributes: Name to array of N rows: whatever else is known of each (ids, occlusion, depth). They follow the
            instances when these are kept, dropped or added.

    Raises:
        TypeError: An array has another dtype.
        ValueError: Lengths or shapes disagree, or a box is not a box.

    Example:
        >>> two = Instances(class_ids=np.array([1, 2]), boxes=np.array([[0, 0, 4, 4], [2, 2, 9, 5]], np.float32))
        >>> len(two), two.select(np.array([1])).class_ids.tolist()
        (2, [2])
    """

    class_ids: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray | None = cast("np.ndarray | None", LazyField())  # noqa: RUF009 - a descriptor
    keypoints: np.ndarray | None = None
    crowd: np.ndarray | None = None
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _set(self, "class_ids", check_array("class_ids", self.class_ids, dtype=np.int64, shape=(None,)))
        count = len(self.class_ids)
        _set(self, "boxes", check_array("boxes", self.boxes, dtype=np.float32, shape=(count, 4)))
        masks = self.__dict__["masks"]
        if isinstance(masks, LazyArray):
            if masks.shape[0] != count:
                reject("masks", f"have shape ({count}, any, any)", masks.shape)
        elif masks is not None:
            _set(self, "masks", check_array("masks", masks, dtype=np.bool_, shape=(count, None, None)))
        if self.keypoints is not None:
            _set(self, "keypoints", check_array("keypoints", self.keypoints, dtype=np.float32, shape=(count, None, 3)))
        crowd = np.zeros(count, np.bool_) if self.crowd is None else self.crowd
        _set(self, "crowd", check_array("crowd", crowd, dtype=np.bool_, shape=(count,)))
        _check_boxes(self.boxes)
        check_type("attributes", self.attributes, Mapping)
        for name, column in self.attributes.items():
            if not isinstance(column, np.ndarray) or column.dtype.hasobject or column.shape[:1] != (count,):
                reject(f"attributes[{name!r}]", f"be an array of {count} rows, without Python objects", column)

    def __len__(self) -> int:
        """Number of instances."""
        return len(self.class_ids)

    @property
    def mask_size_hw(self) -> tuple[int, int] | None:
        """Height and width of the masks, without unpacking them; None where there are none."""
        masks = self.__dict__["masks"]
        return None if masks is None else (masks.shape[1], masks.shape[2])

    def select(self, rows: np.ndarray, /) -> Instances:
        """These instances only, in this order; attributes and all.

        Args:
            rows: (M,) int positions or (N,) bool.
        """
        return Instances(
            class_ids=self.class_ids[rows],
            boxes=self.boxes[rows],
            masks=None if self.masks is None else self.masks[rows],
            keypoints=None if self.keypoints is None else self.keypoints[rows],
            crowd=self.crowd[rows] if self.crowd is not None else None,
            attributes={name: column[rows] for name, column in self.attributes.items()},
        )

    def replace(self, **changes: Any) -> Instances:
        """A copy with some fields changed, checked anew."""
        # From __dict__, so that masks which nobody has asked for stay packed.
        return Instances(**{**{each.name: self.__dict__[each.name] for each in fields(self)}, **changes})


@dataclass(frozen=True, slots=True, eq=False)
class SemanticMask:
    """One class for every pixel.

    Args:
        mask: (H, W) int32 class ids; 0 is the background.
        ignore_index: The id of pixels that count for nothing.
    """

    mask: np.ndarray
    ignore_index: int = 255

    def __post_init__(self) -> None:
        _set(self, "mask", check_array("mask", self.mask, dtype=np.int32, shape=(None, None)))
        _set(self, "ignore_index", check_int("ignore_index", self.ignore_index))


Target: TypeAlias = ClassLabel | Instances | SemanticMask


def _check_boxes(boxes: np.ndarray) -> None:
    if (boxes[:, 2:] >= boxes[:, :2]).all() and np.isfinite(boxes).all():
        return
    good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2] >= boxes[:, 0]) & (boxes[:, 3] >= boxes[:, 1])
    row = int(np.flatnonzero(~good)[0])
    reject(
        f"boxes[{row}]",
        "be finite x1 y1 x2 y2 with x1 <= x2 and y1 <= y2",
        boxes[row].tolist(),
        "Convert boxes of another format (xywh, cxcywh) to xyxy pixels first.",
    )


def _set(instance: object, name: str, value: object) -> None:
    object.__setattr__(instance, name, value)
