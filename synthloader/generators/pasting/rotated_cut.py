"""`cut_from_rotated_box`: the mask of an object of which only a rotated box is known, by GrabCut in its frame."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from synthloader.generators.pasting.grab_cut import (
    CONTEXT,
    MAX_FRONT,
    MIN_CONTEXT,
    BoxCut,
    cut_from_box,
    find_window,
)
from synthloader.targets import Instances

__all__ = ["cut_from_rotated_box"]

MIN_FILLED = 0.8
"""Share of its own rotated box that a mask must fill: what does not was cut off or covered, and is a box no more."""
MIN_KEPT = 0.9
"""Share of what was cut that must be left of it within the box and beside the other objects."""


def cut_from_rotated_box(image: np.ndarray, target: Instances, row: int, /) -> BoxCut:
    """Cut an object out of its rotated box; refuse where the result is doubtful.

    The picture is turned, so that the box stands upright, and cut there: an object fills its own box, and seldom the
    upright box around that, of which the extent and the share of a mask could not be judged. The mask is turned back.
    What lies outside of the rotated box is left out, and what lies nearer to the middle of another one.

    Args:
        image: (H, W, 3) uint8, RGB.
        target: Instances whose masks are filled rotated boxes.
        row: Which instance.

    Returns:
        The mask over the pixels that the instance's upright box touches, or the reason for which there is none: those
        of `cut_from_box`, and `"cut off"` where the mask is too little of a rotated box.
    """
    window = find_window(image, target.boxes[row])
    own = _find_shape(target, row)
    if own is None or own.area < MIN_FILLED * math.prod(own.sides):
        return BoxCut(None, window, "cut off")
    near = [_find_shape(target, other) for other in _find_near(target.boxes, row)]
    others = [shape for shape in near if shape is not None]

    width, height = (math.ceil(side) for side in own.sides)
    margin = max(MIN_CONTEXT, round(CONTEXT * max(width, height))) + 1
    size_wh = (width + 2 * margin, height + 2 * margin)
    to_frame = own.find_frame(middle=(size_wh[0] / 2, size_wh[1] / 2))
    corners = [shape.find_corners() @ to_frame[:, :2].T + to_frame[:, 2] for shape in others]
    found = cut_from_box(
        cv2.warpAffine(image, _to_indices(to_frame), size_wh, borderMode=cv2.BORDER_REPLICATE),
        np.array([margin, margin, margin + width, margin + height], np.float32),
        others=np.array([[*each.min(axis=0), *each.max(axis=0)] for each in corners], np.float32).reshape(-1, 4),
    )
    if found.mask is None:
        return BoxCut(None, window, found.reason)

    x1, y1, x2, y2 = window
    upright = np.zeros(size_wh[::-1], np.float32)
    upright[found.box[1] : found.box[3], found.box[0] : found.box[2]] = found.mask
    from_window = to_frame + np.stack([np.zeros(2), np.zeros(2), to_frame[:, :2] @ [x1, y1]], axis=1)
    turned = cv2.warpAffine(
        upright, _to_indices(from_window), (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    whole: np.ndarray = turned > 0.5
    mask: np.ndarray = whole & _read_mask(target, row, window)
    distance = own.measure_distance(window)
    for shape in others:
        other = shape.measure_distance(window)
        is_in_front = math.prod(shape.sides) < MAX_FRONT * math.prod(own.sides)
        mask &= ~((other <= 1) & ((other < distance) | is_in_front))
    if not mask.any() or mask.sum() < MIN_KEPT * whole.sum():
        return BoxCut(None, window, "leaves the box")
    return BoxCut(mask, window, "")


class _Shape(NamedTuple):
    """The smallest rotated box around the pixels of a mask.

    Args:
        center: x y of its middle in pixels.
        sides: Width and height in pixels.
        degrees: By how much it is turned.
        area: Pixels of the mask.
    """

    center: tuple[float, float]
    sides: tuple[float, float]
    degrees: float
    area: int

    def find_corners(self) -> np.ndarray:
        """(4, 2) float32 x y."""
        corners: np.ndarray = cv2.boxPoints((self.center, self.sides, self.degrees))
        return corners

    def find_frame(self, *, middle: tuple[float, float]) -> np.ndarray:
        """(2, 3) float64: from x y in the picture to x y where the box stands upright around this middle."""
        matrix: np.ndarray = cv2.getRotationMatrix2D(self.center, self.degrees, 1.0)
        matrix[:, 2] += np.array(middle) - np.array(self.center)
        return matrix

    def measure_distance(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """(h, w) squared distance from its middle, 1 on the ellipse that touches its sides."""
        x1, y1, x2, y2 = window
        frame = self.find_frame(middle=(0, 0))
        x, y = np.arange(x1, x2) + 0.5, (np.arange(y1, y2) + 0.5)[:, None]
        along, across = (line[0] * x + line[1] * y + line[2] for line in frame)
        distance: np.ndarray = (2 * along / self.sides[0]) ** 2 + (2 * across / self.sides[1]) ** 2
        return distance


def _find_shape(target: Instances, row: int) -> _Shape | None:
    """The shape of a mask, of what of it lies in the instance's box; None where that is nothing."""
    height, width = target.mask_size_hw or (0, 0)
    x1, y1 = (max(0, math.floor(value)) for value in target.boxes[row, :2])
    x2, y2 = min(width, math.ceil(target.boxes[row, 2])), min(height, math.ceil(target.boxes[row, 3]))
    mask = _read_mask(target, row, (x1, y1, x2, y2))
    area = cv2.countNonZero(mask.view(np.uint8)) if mask.size else 0
    if not area:
        return None
    rows = np.flatnonzero(mask.any(axis=1))
    left, right = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    ends = [np.stack([columns + x1, rows + down], axis=1) for columns in (left, right) for down in (y1, y1 + 1)]
    (x, y), (first, second), degrees = cv2.minAreaRect(np.concatenate(ends).astype(np.float32))
    return _Shape((x, y), (first, second), degrees, area)


def _read_mask(target: Instances, row: int, window: tuple[int, int, int, int]) -> np.ndarray:
    x1, y1, x2, y2 = window
    mask = target.masks[row, y1:y2, x1:x2] if target.masks is not None else np.zeros((0, 0), np.bool_)
    return mask


def _find_near(boxes: np.ndarray, row: int) -> list[int]:
    """Rows of the other boxes in the surroundings of one."""
    x1, y1, x2, y2 = boxes[row]
    reach = (x2 - x1) + (y2 - y1)
    is_near = (boxes[:, 0] < x2 + reach) & (boxes[:, 2] > x1 - reach)
    is_near &= (boxes[:, 1] < y2 + reach) & (boxes[:, 3] > y1 - reach)
    is_near[row] = False
    found: list[int] = np.flatnonzero(is_near).tolist()
    return found


def _to_indices(matrix: np.ndarray) -> np.ndarray:
    """The same for OpenCV's images, where the centre of pixel i lies at i, and not at i + 0.5 as in a label."""
    moved: np.ndarray = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return moved
