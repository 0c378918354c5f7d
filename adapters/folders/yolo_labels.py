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
    found = []
    for row, mask in enumerate(masks):
        rows, columns = np.nonzero(mask)
        if len(rows) == 0:
            raise NoOutlineError("object without visible pixels")
        if known is not None and _encloses(known[row], mask):
            found.append(known[row].astype(np.float64))
            continue
        low = np.stack([columns, rows], axis=1)
        pixels = np.concatenate([low, np.add(low, [1, 0]), np.add(low, [0, 1]), np.add(low, [1, 1])])
        found.append(find_corners(cv2.convexHull(pixels.astype(np.float32))).astype(np.float64))
    return found


def _encloses(corners: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a mask is what lies between four corners; a flip or a rounded corner moves the pixels of the border."""
    height, width = mask.shape
    shares = (corners / [width, height]).astype(np.float32)
    drawn = draw_segments([shares], size_hw=(height, width))[0]
    differs = (drawn != mask).view(np.uint8)
    inner = cv2.erode(differs, np.ones((3, 3), np.uint8))
    return not inner.any() and int(differs.sum()) <= MOST_CHANGED * int(drawn.sum())
