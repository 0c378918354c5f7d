"""A mask as one polygon, drawn along the edges of its pixels."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["NoOutlineError", "is_one_polygon", "trace_outline"]

MARGIN = 0.01
"""Pixels by which the polygon lies inside the outer edges of the mask's pixels."""


class NoOutlineError(ValueError):
    """One polygon cannot say what the mask says; the message is the reason in a few words."""


def trace_outline(mask: np.ndarray, /) -> np.ndarray:
    """The outline of a mask without holes and of one part, as a polygon that draws the mask again.

    The polygon runs along the edges of the pixels, a hundredth of a pixel inside, so that

    * filled as a shape in the plane, by pycocotools for example, it covers exactly the mask's pixels;
    * its corners cut down to integers are the border pixels, so that `cv2.fillPoly` fills exactly the mask;
    * the box around it is that of the mask, to a hundredth of a pixel.

    The first two are tried on the corners as float32 shares of width and height, which is what readers of YOLO labels
    have; a polygon that is not exact (intersection over union of 1) in both is refused. Readers that round corners to
    the nearest integer instead get one more row and column at the bottom and the right.

    Parts that touch at a corner of a pixel only are one part.

    Args:
        mask: (H, W) bool.

    Returns:
        (K, 2) float64, x and y in pixels, K at least 4.

    Raises:
        NoOutlineError: The mask is empty, has holes or several parts, or is not drawn again exactly.

    Example:
        >>> mask = np.zeros((4, 6), bool)
        >>> mask[1:3, 2:5] = True
        >>> trace_outline(mask).tolist()
        [[2.01, 1.01], [2.01, 2.99], [4.99, 2.99], [4.99, 1.01]]
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        raise NoOutlineError("object without visible pixels")
    corner_xy = np.array([columns[0], rows[0]])
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].view(np.uint8)
    # On a grid of half pixels the left and the right edge of a pixel are different points of the contour.
    contours, hierarchy = cv2.findContours(
        crop.repeat(2, axis=0).repeat(2, axis=1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    if (hierarchy.reshape(-1, 4)[:, 3] != -1).any():
        raise NoOutlineError("object with holes")
    if len(contours) > 1:
        raise NoOutlineError("object in several parts")
    halves = _keep_corners(contours[0].reshape(-1, 2))
    outline: np.ndarray = corner_xy + halves // 2 + np.where(halves % 2 == 0, MARGIN, 1 - MARGIN)
    if not _is_drawn_again(outline, mask, corner_xy, crop):
        raise NoOutlineError("object whose outline does not draw it again")
    return outline


def is_one_polygon(mask: np.ndarray, /) -> bool:
    """Whether `trace_outline` can say the mask (H, W) bool."""
    try:
        trace_outline(mask)
    except NoOutlineError:
        return False
    return True


def _keep_corners(points: np.ndarray) -> np.ndarray:
    """The points of a contour at which it turns; all of those on slanted lines, which are stairs between pixels."""
    steps = np.roll(points, -1, axis=0) - points
    is_straight = (steps == np.roll(steps, 1, axis=0)).all(axis=1) & (steps == 0).any(axis=1)
    corners: np.ndarray = points[~is_straight]
    return corners


def _is_drawn_again(outline: np.ndarray, mask: np.ndarray, corner_xy: np.ndarray, crop: np.ndarray) -> bool:
    from pycocotools import mask as coco_mask  # type: ignore[import-untyped, unused-ignore]

    size_xy = np.array(mask.shape[::-1])
    read = (outline / size_xy).astype(np.float32) * size_xy.astype(np.float32)
    canvas = np.zeros_like(crop)
    cv2.fillPoly(canvas, [read.astype(np.int32) - corner_xy.astype(np.int32)], (1,))
    runs = coco_mask.frPyObjects([(read - corner_xy).ravel().tolist()], *crop.shape)
    return bool(np.array_equal(canvas, crop) and np.array_equal(coco_mask.decode(runs[0]), crop))
