"""A window of a picture, and a picture at another size, with all labels following exactly."""

from __future__ import annotations

import cv2
import numpy as np

from synthloader.checks import check_count, check_int, reject
from synthloader.generators.pasting.cut_out import find_tight_box, read_shares
from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask, Target

__all__ = ["WindowShares", "cut_window", "scale_to"]

_MORE_THAN_HALF = 128
"""Of 255. On the seam of two masks that share no pixel both give at most 127.5, rounded to 128: neither takes it."""


class WindowShares:
    """How much of each instance lies inside a window, for as many windows as are asked for.

    What counts is the mask's pixels, or the area of the box where there is no mask or it has no pixel. Whole masks are
    counted once, and only those that a window touches.

    Args:
        target: The instances of the whole picture.

    Example:
        >>> boxes = np.array([[0, 0, 4, 4], [8, 0, 9, 4]], np.float32)
        >>> WindowShares(Instances(np.array([1, 2]), boxes)).find(left=2, top=0, width=6, height=4).tolist()
        [0.5, 0.0]
    """

    def __init__(self, target: Instances, /) -> None:
        self._target = target
        self._areas: dict[int, int] = {}  # mask pixels in the whole picture

    def find(self, *, left: int, top: int, width: int, height: int) -> np.ndarray:
        """(N,) float64 in 0..1, the share of each instance inside the window; 0 too for what has no area at all."""
        shares = _find_box_shares(self._target.boxes, left=left, top=top, width=width, height=height)
        masks = self._target.masks
        if masks is None:
            return shares
        windows = masks[:, top : top + height, left : left + width].view(np.uint8)
        for row, window in enumerate(windows):
            inside = cv2.countNonZero(np.ascontiguousarray(window))  # half the time of counting in strides
            if inside or shares[row] > 0:
                area = self._measure(row, masks)
                if area:
                    shares[row] = inside / area
        return shares

    def _measure(self, row: int, masks: np.ndarray) -> int:
        if row not in self._areas:
            self._areas[row] = cv2.countNonZero(masks[row].view(np.uint8))
        return self._areas[row]


def cut_window(
    sample: Sample, /, left: int, top: int, width: int, height: int, *, shares: np.ndarray | None = None
) -> Sample:
    """Cut a window out of a picture; every label says of the window what it said of the picture.

    * Instances of which nothing lies inside are dropped (no mask pixel; without a mask, no area of the box), and no
      others. Masks are cut; the box of a mask that lost pixels is the tight box of what is left. Other boxes are
      moved, exactly, and cut at the border.
    * Keypoints outside become (0, 0, 0).
    * Attributes follow. The column `visible` (float32, share of the object's own pixels) is multiplied by the share
      inside, or added, unless the dataset uses that name for something else.
    * Semantic masks and maps are cut. A class of the whole image stays: whether it is still true, the caller knows.

    Args:
        sample: The picture; not modified, and no memory is shared with the window.
        left: Its first column.
        top: Its first row.
        width: In pixels, at least 1. The window lies inside the picture.
        height: Likewise.
        shares: What `WindowShares.find` gave for this window, where that is known already.

    Raises:
        ValueError: The window does not lie inside the picture.

    Example:
        >>> one = Instances(np.array([1]), np.array([[2, 2, 6, 4]], np.float32))
        >>> window = cut_window(Sample(np.zeros((6, 9, 3), np.uint8), one), left=4, top=1, width=4, height=4)
        >>> window.target.boxes.tolist(), window.target.attributes["visible"].tolist()
        ([[0.0, 1.0, 2.0, 3.0]], [0.5])
    """
    _check_window(sample, left, top, width, height)
    window = (slice(top, top + height), slice(left, left + width))
    target: Target | None = sample.target
    if isinstance(target, Instances):
        if shares is None:
            shares = WindowShares(target).find(left=left, top=top, width=width, height=height)
        target = _cut_instances(target, shares, window)
    elif isinstance(target, SemanticMask):
        target = SemanticMask(target.mask[window].copy(), target.ignore_index)
    maps = {name: values[window].copy() for name, values in sample.maps.items()}
    return sample.edit(image=sample.image[window].copy(), target=target, maps=maps)


def scale_to(sample: Sample, /, size_hw: tuple[int, int]) -> Sample:
    """The same picture at another size, with labels that follow.

    The image is averaged when it shrinks and interpolated when it grows. Masks likewise, and a pixel is theirs where
    more than half of it is: masks that share no pixel still share none. A mask that would vanish takes one pixel. The
    box of a mask is its new tight box; boxes without a mask pixel are scaled, and so are keypoints. Semantic masks and
    maps take the nearest value, so that no class, depth or number appears that was not there. No instance is dropped.

    Args:
        sample: The picture; not modified.
        size_hw: Height and width in pixels, at least 1.

    Returns:
        The scaled sample; `sample` itself where it has this size already.

    Example:
        >>> one = Instances(np.array([1]), np.array([[1, 0, 2, 2]], np.float32))
        >>> scale_to(Sample(np.zeros((2, 4, 3), np.uint8), one), (4, 4)).target.boxes.tolist()
        [[1.0, 0.0, 2.0, 4.0]]
    """
    new_height, new_width = check_count("height", size_hw[0]), check_count("width", size_hw[1])
    height, width = sample.size_hw
    if (height, width) == (new_height, new_width):
        return sample
    rows = np.minimum((np.arange(new_height) + 0.5) * height / new_height, height - 1).astype(np.intp)[:, None]
    columns = np.minimum((np.arange(new_width) + 0.5) * width / new_width, width - 1).astype(np.intp)
    target: Target | None = sample.target
    if isinstance(target, Instances):
        target = _scale_instances(target, (height, width), (new_height, new_width))
    elif isinstance(target, SemanticMask):
        target = SemanticMask(target.mask[rows, columns], target.ignore_index)
    shrinks = new_height * new_width < height * width
    image = cv2.resize(
        sample.image, (new_width, new_height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return sample.edit(
        image=image, target=target, maps={name: values[rows, columns] for name, values in sample.maps.items()}
    )


def _check_window(sample: Sample, left: int, top: int, width: int, height: int) -> None:
    image_height, image_width = sample.size_hw
    for name, start, length, end in (("width", left, width, image_width), ("height", top, height, image_height)):
        check_count(name, length)
        check_int({"width": "left", "height": "top"}[name], start, minimum=0)
        if start + length > end:
            reject(
                name,
                f"end inside the picture of height {image_height} and width {image_width}",
                length,
                f"The window begins at {start}.",
            )


def _find_box_shares(boxes: np.ndarray, *, left: int, top: int, width: int, height: int) -> np.ndarray:
    boxes = boxes.astype(np.float64)
    inside = np.maximum(
        np.minimum(boxes[:, 2:], [left + width, top + height]) - np.maximum(boxes[:, :2], [left, top]), 0
    )
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shares: np.ndarray = np.divide(inside.prod(axis=1), areas, out=np.zeros(len(boxes)), where=areas > 0)
    return shares


def _cut_instances(target: Instances, shares: np.ndarray, window: tuple[slice, slice]) -> Instances:
    rows = np.flatnonzero(shares > 0)
    height, width = window[0].stop - window[0].start, window[1].stop - window[1].start
    corner = np.array([window[1].start, window[0].start], np.float32)
    moved = target.boxes[rows] - np.tile(corner, 2)
    boxes = np.clip(moved, 0, np.array([width, height, width, height], np.float32))
    masks = None
    if target.masks is not None:
        masks = target.masks[rows, window[0], window[1]]
        # A box that was drawn too large may be cut though its mask is whole.
        for at in np.flatnonzero((shares[rows] < 1) | (boxes != moved).any(axis=1)):
            tight = find_tight_box(masks[at], near=boxes[at])
            if tight[2] > tight[0]:
                boxes[at] = tight
    keypoints = None
    if target.keypoints is not None:
        keypoints = target.keypoints[rows]
        keypoints[..., :2] -= corner
        _forget_outside(keypoints, height, width)
    attributes = {name: column[rows] for name, column in target.attributes.items()}
    known = read_shares(target)[rows].astype(np.float64)
    _note_visible(attributes, known, shares[rows])
    return Instances(
        class_ids=target.class_ids[rows],
        boxes=boxes,
        masks=masks,
        keypoints=keypoints,
        crowd=None if target.crowd is None else target.crowd[rows],
        attributes=attributes,
    )


def _note_visible(attributes: dict[str, np.ndarray], known: np.ndarray, shares: np.ndarray) -> None:
    """Write the column `visible`, in place: what was visible before, times what is inside."""
    stated = attributes.get("visible")
    made = (known * shares).astype(np.float32)
    if stated is None:
        attributes["visible"] = made
    elif stated.dtype == np.float32 and stated.ndim == 1:
        attributes["visible"] = np.where(shares < 1, made, stated)


def _forget_outside(keypoints: np.ndarray, height: int, width: int) -> None:
    """Set keypoints outside of a picture, and those without a label, to (0, 0, 0), in place."""
    x, y = keypoints[..., 0], keypoints[..., 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (keypoints[..., 2] > 0)
    keypoints[~inside] = 0


def _scale_instances(target: Instances, old_hw: tuple[int, int], new_hw: tuple[int, int]) -> Instances:
    new_height, new_width = new_hw
    factors = np.array([new_width / old_hw[1], new_height / old_hw[0]])
    boxes = (target.boxes * np.tile(factors, 2)).astype(np.float32)
    boxes = np.minimum(boxes, np.array([new_width, new_height] * 2, np.float32))
    masks = None
    if target.masks is not None:
        masks = _scale_masks(target.masks, new_hw)
        for at in np.flatnonzero(masks.any(axis=(1, 2))):
            boxes[at] = find_tight_box(masks[at], near=boxes[at])
    keypoints = target.keypoints
    if keypoints is not None:
        keypoints = (keypoints * np.array([*factors, 1])).astype(np.float32)
    return target.replace(boxes=boxes, masks=masks, keypoints=keypoints)


def _scale_masks(masks: np.ndarray, new_hw: tuple[int, int]) -> np.ndarray:
    """(N, H, W) bool; empty ones stay empty, and no other becomes so."""
    shrinks = new_hw[0] * new_hw[1] < 0.25 * masks.shape[1] * masks.shape[2]  # above, linear gives nearly the same
    scaled = np.zeros((len(masks), *new_hw), np.bool_)
    vanished: list[tuple[int, np.ndarray]] = []
    for at, mask in enumerate(masks):
        if not cv2.countNonZero(mask.view(np.uint8)):
            continue
        soft = cv2.resize(
            mask.view(np.uint8) * np.uint8(255),
            (new_hw[1], new_hw[0]),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        np.greater(soft, _MORE_THAN_HALF, out=scaled[at])
        if not cv2.countNonZero(scaled[at].view(np.uint8)):
            vanished.append((at, soft))
    given: set[tuple[int, int]] = set()
    for at, soft in vanished:
        row, column = _find_remnant(masks[at], soft, given)
        given.add((row, column))
        for other in np.flatnonzero(scaled[:, row, column]):
            if cv2.countNonZero(scaled[other].view(np.uint8)) > 1 and not (masks[at] & masks[other]).any():
                scaled[other, row, column] = False
        scaled[at, row, column] = True
    return scaled


def _find_remnant(mask: np.ndarray, soft: np.ndarray, given: set[tuple[int, int]]) -> tuple[int, int]:
    """Row and column of the one pixel that stands for a mask of which no pixel has more than half."""
    free = soft.copy()
    for row, column in given:
        free[row, column] = 0
    for values in (free, soft):
        if values.any():
            row, column = divmod(int(values.argmax()), soft.shape[1])
            return row, column
    row, column = divmod(int(mask.argmax()), mask.shape[1])
    return row * soft.shape[0] // mask.shape[0], column * soft.shape[1] // mask.shape[1]
