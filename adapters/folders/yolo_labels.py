"""The numbers of YOLO labels: read from label files, and made of instances."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from synthloader.adapters.folders.yolo_files import read_label_file
from synthloader.adapters.folders.yolo_record import (
    YoloRecord,
    draw_segments,
    enclose,
    find_corners,
    find_quadrilateral,
    to_pixels,
)
from synthloader.checks import check_choice, reject
from synthloader.generators.pasting.cut_out import find_filled_boxes
from synthloader.polygons import NoOutlineError, trace_outline
from synthloader.targets import Instances

__all__ = [
    "YOLO_TASKS",
    "YoloRecord",
    "draw_segments",
    "enclose",
    "find_corners",
    "find_quadrilateral",
    "find_quadrilaterals",
    "make_record",
    "read_label_file",
    "to_pixels",
]

YOLO_TASKS = ("detect", "segment", "pose", "obb")

MOST_CHANGED = 0.25
"""Share of a rotated box's pixels that may differ along its border: more than that of a thin one is hidden, or cut."""

MAX_ROUNDING = 1.0
"""A side of a rotated box moves where more than so many pixels are missing along all of it: they are whole squares."""

MAX_SKEW = 0.05
"""Largest cosine between two sides of four corners that are taken for a rectangle: some three degrees."""


def make_record(
    instances: Instances,
    /,
    *,
    size_hw: tuple[int, int],
    task: str,
    image_file: Path = Path(),
    has_segments: bool | None = None,
    first_class: int = 0,
) -> YoloRecord:
    """The labels of instances, in the numbers of a label file.

    * Boxes are those of the instances; with polygons, the boxes around these.
    * Polygons run along the outline of each mask and draw it again exactly.
    * Rotated boxes are the four keypoints where the mask is still what these enclose (but for the pixels along its
      border), and the smallest rotated box around the mask where it is not: an object that is partly hidden or cut.
      Where the mask is all that is left of a filled rotated box, sides that are wholly hidden are cut off from it.
    * Points that are not labelled are 0, 0, 0.

    Args:
        instances: N instances; masks are needed for polygons, keypoints for `pose`.
        size_hw: Height and width of the image.
        task: One of `YOLO_TASKS`.
        image_file: Kept in the record.
        has_segments: Whether polygons are made; None: for `segment` and `obb`.
        first_class: What class 0 of the label files is called in `instances`.

    Returns:
        A record; its keypoints have 3 numbers each.

    Raises:
        NoOutlineError: One polygon cannot say what a mask says: no visible pixels, holes, or several parts.
        ValueError: Masks or keypoints are asked for and not there.
    """
    check_choice("task", task, YOLO_TASKS)
    height, width = size_hw
    scale = np.array([width, height], np.float64)
    corners = instances.boxes.astype(np.float64) / np.tile(scale, 2)
    sides = corners[:, 2:] - corners[:, :2]
    boxes = np.concatenate([corners[:, :2] + sides / 2, sides], axis=1)
    segments = keypoints = None
    if (task in ("segment", "obb")) if has_segments is None else has_segments:
        masks = instances.masks
        if masks is None and len(instances):
            reject("masks", f"be there for the polygons of task {task!r}", None, "Use a generator that makes masks.")
        shapes = [] if masks is None else list(masks)
        outlines = find_quadrilaterals(instances, shapes) if task == "obb" else [trace_outline(m) for m in shapes]
        boxes = np.array([enclose(outline / scale) for outline in outlines]).reshape(-1, 4)
        segments = [(outline / scale).astype(np.float32) for outline in outlines]
    if task == "pose":
        if instances.keypoints is None and len(instances):
            reject("keypoints", "be there for task 'pose'", None, "Use a generator that keeps them.")
        points = np.zeros((0, 0, 3), np.float32) if instances.keypoints is None else instances.keypoints
        keypoints = np.concatenate([points[..., :2] / scale, points[..., 2:]], axis=2).astype(np.float32)
        keypoints[points[..., 2] == 0] = 0
    return YoloRecord(
        image_file, size_hw, instances.class_ids - first_class, boxes.astype(np.float32), segments, keypoints
    )


def find_quadrilaterals(instances: Instances, masks: list[np.ndarray]) -> list[np.ndarray]:
    """The corners (4, 2) of each rotated box, in pixels."""
    points = instances.keypoints
    known = points[..., :2] if points is not None and points.shape[1] == 4 else None
    labelled = np.zeros(len(masks), np.bool_) if points is None else (points[..., 2] > 0).all(axis=1)
    is_box = find_filled_boxes(instances) & labelled
    found = []
    for row, mask in enumerate(masks):
        rows, columns = np.nonzero(mask)
        if len(rows) == 0:
            raise NoOutlineError("object without visible pixels")
        if known is not None and _encloses(known[row], mask):
            found.append(known[row].astype(np.float64))
            continue
        if known is not None and is_box[row] and _is_rectangle(known[row]):
            found.append(_cut_off_sides(known[row].astype(np.float64), mask))
            continue
        low = np.stack([columns, rows], axis=1)
        pixels = np.concatenate([low, np.add(low, [1, 0]), np.add(low, [0, 1]), np.add(low, [1, 1])])
        found.append(find_corners(cv2.convexHull(pixels.astype(np.float32))).astype(np.float64))
    return found


def _encloses(corners: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a mask is what lies between four corners; a flip or a rounded corner moves the pixels of the border."""
    drawn = _draw(corners, mask)
    differs = (drawn != mask).view(np.uint8)
    inner = cv2.erode(differs, np.ones((3, 3), np.uint8))
    return not inner.any() and int(differs.sum()) <= MOST_CHANGED * int(drawn.sum())


def _is_rectangle(corners: np.ndarray) -> bool:
    """Whether four corners are those of a rectangle, up to rounding."""
    sides = np.roll(corners, -1, axis=0) - corners
    lengths = np.linalg.norm(sides, axis=1)
    if lengths.min() < 1:
        return False
    cosines = (sides * np.roll(sides, -1, axis=0)).sum(axis=1) / (lengths * np.roll(lengths, -1))
    return bool(np.abs(cosines).max() <= MAX_SKEW)


def _cut_off_sides(corners: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(4, 2) corners of a rectangle without what is hidden along the whole of a side.

    Args:
        corners: (4, 2) float64.
        mask: (H, W) bool, what of the rectangle is visible; not empty.
    """
    drawn = _draw(corners, mask)
    shares = np.empty((2, 2))  # along the first and the second side: from where to where, 0..1
    for at, end in enumerate((1, 3)):
        side = corners[end] - corners[0]
        length = float(np.linalg.norm(side))
        before, after = (_measure_along(pixels, corners[0], side / length) for pixels in (drawn | mask, mask))
        low = after[0] if after[0] > before[0] + MAX_ROUNDING else 0.0
        high = after[1] if after[1] < before[1] - MAX_ROUNDING else length
        shares[at] = low / length, high / length
    first, second = corners[1] - corners[0], corners[3] - corners[0]
    (left, right), (top, bottom) = shares
    cut = [corners[0] + x * first + y * second for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]
    is_whole = (shares == [0, 1]).all()
    return corners if is_whole else np.array(cut)


def _measure_along(mask: np.ndarray, start: np.ndarray, direction: np.ndarray) -> tuple[float, float]:
    """From where to where, in pixels from a point in a direction, the squares of a mask's pixels reach."""
    rows, columns = np.nonzero(mask)
    along = (columns + 0.5 - start[0]) * direction[0] + (rows + 0.5 - start[1]) * direction[1]
    half = float(np.abs(direction).sum()) / 2
    return float(along.min()) - half, float(along.max()) + half


def _draw(corners: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W) bool, what lies between corners in pixels, in the size of a mask."""
    height, width = mask.shape
    drawn: np.ndarray = draw_segments([(corners / [width, height]).astype(np.float32)], size_hw=(height, width))[0]
    return drawn
