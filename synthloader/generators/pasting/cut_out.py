"""`CutOut`: one object cut out of a picture along its mask, with all that its label says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["MASK_IS_BOX", "CutOut", "Extent", "cut_out", "find_filled_boxes", "find_tight_box", "measure_extent"]

MASK_IS_BOX = "native.mask_is_box"
"""Column (N,) bool of instances whose mask is no outline of the object but a rotated box, filled: which of its pixels
are the object's is not known. Adapters write it, and it is not exported."""


@dataclass(frozen=True, slots=True, eq=False)
class CutOut:
    """One object, in the coordinates of the tight box of its mask.

    Args:
        name: Where it comes from: name of the picture, `#`, row of the instance.
        class_id: Its class.
        image: (h, w, 3) uint8, RGB; what lies outside the mask does not count.
        mask: (h, w) bool, its visible pixels.
        share: How much of the object is visible in its own picture, 0..1; 1 for a real one.
        keypoints: (K, 3) float32, x y visibility; None where there are none.
        maps: Name to (h, w) array, as in `Sample.maps`.
        attributes: Name to array of one row.
    """

    name: str
    class_id: int
    image: np.ndarray
    mask: np.ndarray
    share: float = 1.0
    keypoints: np.ndarray | None = None
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    area: int = field(init=False)
    """Number of pixels of the mask."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", cv2.countNonZero(self.mask.view(np.uint8)))

    @property
    def has_keypoints(self) -> bool:
        """Whether any keypoint is labelled."""
        return self.keypoints is not None and bool((self.keypoints[:, 2] > 0).any())

    def rename(self, name: str, /) -> CutOut:
        """A copy of another name."""
        return replace(self, name=name)

    def resize(self, factor: float, /) -> CutOut:
        """A copy `factor` times as large; each side at least one pixel.

        The image is averaged when it shrinks and interpolated when it grows, the mask likewise and then cut at one
        half; maps take the nearest value, so that no depth or number appears that was not there.
        """
        height, width = self.mask.shape
        new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
        if (new_height, new_width) == (height, width):
            return self
        size_wh = (new_width, new_height)
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        how_mask = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR  # nearly the same, and several times faster
        soft_mask = cv2.resize(self.mask.view(np.uint8) * np.uint8(255), size_wh, interpolation=how_mask)
        rows = np.minimum((np.arange(new_height) + 0.5) * height / new_height, height - 1).astype(np.intp)
        columns = np.minimum((np.arange(new_width) + 0.5) * width / new_width, width - 1).astype(np.intp)
        keypoints = self.keypoints
        if keypoints is not None:
            keypoints = keypoints * np.array([new_width / width, new_height / height, 1], np.float32)
        return replace(
            self,
            image=cv2.resize(self.image, size_wh, interpolation=how),
            mask=soft_mask > 127,
            keypoints=keypoints,
            maps={name: values[rows[:, None], columns] for name, values in self.maps.items()},
        )

    def flip(self) -> CutOut:
        """The mirror image, left and right exchanged.

        Keypoints are moved, not renamed: a left hand stays called left. `CopyPaste` does not flip what has keypoints.
        """
        keypoints = self.keypoints
        if keypoints is not None:
            keypoints = keypoints.copy()
            keypoints[:, 0] = self.mask.shape[1] - keypoints[:, 0]
        return replace(
            self,
            image=np.ascontiguousarray(self.image[:, ::-1]),
            mask=np.ascontiguousarray(self.mask[:, ::-1]),
            keypoints=keypoints,
            maps={name: values[:, ::-1] for name, values in self.maps.items()},
        )


@dataclass(frozen=True, slots=True)
class Extent:
    """Where an instance lies in its picture: what `cut_out` must search all masks for.

    Args:
        box: x1 y1 x2 y2, the tight box of its mask; all 0 where the mask is empty.
        in_front: Rows of smaller instances that share pixels with it.
    """

    box: tuple[int, int, int, int]
    in_front: tuple[int, ...]


def measure_extent(target: Instances, row: int, /) -> Extent:
    """Find the tight box of a mask, and what lies in front of it.

    Annotated boxes may be off, so all is read from the pixels of all masks.

    Args:
        target: Instances with masks.
        row: Which instance.
    """
    masks: Any = target.masks
    box = find_tight_box(masks[row], near=target.boxes[row])
    near = masks[:, box[1] : box[3], box[0] : box[2]]
    own, area, in_front = near[row], -1, list[int]()
    for other in np.flatnonzero(near.any(axis=(1, 2))).tolist():
        if other == row or not (near[other] & own).any():
            continue
        if area < 0:
            area = cv2.countNonZero(own.view(np.uint8))
        if cv2.countNonZero(masks[other].view(np.uint8)) < area:
            in_front.append(other)
    return Extent(box, tuple(in_front))


def cut_out(
    sample: Sample, row: int, /, *, name: str, min_visible: float, extent: Extent | None = None
) -> CutOut | None:
    """Cut one instance out of a picture.

    Where masks overlap, a smaller object is taken to lie in front of a larger one (a tie on a shirt, an apple on a
    plate), and its pixels are left out: pasted with the larger object they would be an object without a label.

    Args:
        sample: A sample whose target is `Instances` with masks.
        row: Which instance.
        name: Name of the sample.
        min_visible: None is returned where less than this share of the mask is the object itself.
        extent: What `measure_extent` gives, where it is known.

    Returns:
        The object; None where it has no pixels, or too few of its own.
    """
    target = sample.target
    if not isinstance(target, Instances) or target.masks is None:
        return None
    extent = extent or measure_extent(target, row)
    left, top, right, bottom = extent.box
    if right == left:
        return None
    window = (slice(top, bottom), slice(left, right))
    mask = target.masks[row][window]
    keypoints = None
    if target.keypoints is not None:
        keypoints = target.keypoints[row] - np.array([left, top, 0], np.float32)
        keypoints[keypoints[:, 2] == 0] = 0
    if extent.in_front:
        in_front = np.logical_or.reduce(target.masks[list(extent.in_front), top:bottom, left:right])
        area = cv2.countNonZero(mask.view(np.uint8))
        mask = mask & ~in_front
        own = cv2.countNonZero(mask.view(np.uint8))
        if own == 0 or own < min_visible * area:
            return None
        if keypoints is not None:
            hide_keypoints(keypoints, in_front)
    attributes = {key: column[row : row + 1] for key, column in target.attributes.items()}
    return CutOut(
        name=f"{name}#{row}",
        class_id=int(target.class_ids[row]),
        image=sample.image[window],
        mask=mask,
        share=read_share(target, row),
        keypoints=keypoints,
        maps={key: values[window] for key, values in sample.maps.items()},
        attributes=attributes,
    )


def find_tight_box(
    mask: np.ndarray, /, *, near: Sequence[float] | np.ndarray, area: int | None = None
) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of the True pixels of a mask; all 0 where there are none.

    Args:
        mask: (H, W) bool.
        near: Box x1 y1 x2 y2 that may hold all of them, as annotated. It saves time where it does, and changes
            nothing else.
        area: Number of True pixels, where it is known.
    """
    x1, y1 = max(math.floor(near[0]), 0), max(math.floor(near[1]), 0)
    x2, y2 = min(math.ceil(near[2]), mask.shape[1]), min(math.ceil(near[3]), mask.shape[0])
    window = mask[y1:y2, x1:x2]
    if not window.size or (window.shape != mask.shape and not _holds_all(window, mask, area)):
        window, x1, y1 = mask, 0, 0
    elif _has_any(window[0]) and _has_any(window[-1]) and _has_any(window[:, 0]) and _has_any(window[:, -1]):
        return x1, y1, x2, y2
    # Not cv2.boundingRect: in OpenCV 4.9 it is wrong for some masks that are a few pixels wide.
    rows, columns = np.asarray(window.any(axis=1)), np.asarray(window.any(axis=0))
    if not rows.any():
        return 0, 0, 0, 0
    left, right = int(columns.argmax()), len(columns) - int(columns[::-1].argmax())
    top, bottom = int(rows.argmax()), len(rows) - int(rows[::-1].argmax())
    return left + x1, top + y1, right + x1, bottom + y1


def hide_keypoints(keypoints: np.ndarray, cover: np.ndarray, *, left: int = 0, top: int = 0) -> None:
    """Turn visible keypoints into hidden ones, in place, where they lie under a cover.

    Args:
        keypoints: (..., 3) float32, x y visibility.
        cover: (h, w) bool.
        left: Column of the cover's corner.
        top: Row of the cover's corner.
    """
    height, width = cover.shape
    columns = np.floor(keypoints[..., 0]) - left
    rows = np.floor(keypoints[..., 1]) - top
    near = (keypoints[..., 2] == 2) & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    if near.any():
        near[near] = cover[rows[near].astype(np.intp), columns[near].astype(np.intp)]
        keypoints[near, 2] = 1


def find_filled_boxes(target: Instances) -> np.ndarray:
    """(N,) bool, which instances have a mask that is a filled rotated box."""
    column = target.attributes.get(MASK_IS_BOX)
    if target.masks is None or column is None or column.dtype != np.bool_ or column.ndim != 1:
        return np.zeros(len(target), np.bool_)
    return column


def read_share(target: Instances, row: int) -> float:
    """How much of an instance is visible: the column `visible` of a generated sample; 1 where there is none."""
    column = _find_shares(target)
    share = 1.0 if column is None else float(column[row])
    return share if 0 < share <= 1 else 1.0


def read_shares(target: Instances) -> np.ndarray:
    """(N,) float32, the same of all instances."""
    column = _find_shares(target)
    if column is None:
        return np.ones(len(target), np.float32)
    return np.where((column > 0) & (column <= 1), column, np.float32(1))


def _find_shares(target: Instances) -> np.ndarray | None:
    column = target.attributes.get("visible")
    return None if column is None or column.dtype != np.float32 or column.ndim != 1 else column


def _holds_all(window: np.ndarray, mask: np.ndarray, area: int | None) -> bool:
    """Whether no pixel of a mask, which has `area` of them, lies outside of its window."""
    whole = cv2.countNonZero(mask.view(np.uint8)) if area is None else area
    return cv2.countNonZero(window.view(np.uint8)) == whole


def _has_any(line: np.ndarray) -> bool:
    """`line.any()`, which takes three times as long for some hundred pixels."""
    return bool(line[line.argmax()])
