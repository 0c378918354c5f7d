"""`YoloRecord`, the labels of one image in the numbers of a label file; and these numbers as pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from synthloader.adapters.items.segmentations import decode_masks
from synthloader.checks import check_array, reject

__all__ = ["YoloRecord", "draw_segments", "enclose", "find_corners", "find_quadrilateral", "to_pixels"]


@dataclass(frozen=True, slots=True, eq=False)
class YoloRecord:
    """One image and its labels, in the numbers of a label file.

    Args:
        image_file: The image.
        size_hw: Height and width in pixels; None where they are not known yet.
        class_ids: (N,) int64, from 0.
        boxes: (N, 4) float32: centre x, centre y, width and height, as shares of width and height.
        segments: N arrays (K, 2) float32, x and y as shares: polygons, or the corners of rotated boxes (or polygons
            that these are around); None where there are only boxes.
        keypoints: (N, K, 2 or 3) float32, x and y as shares, and visibility; None where there are none.

    Raises:
        TypeError: An array has another dtype.
        ValueError: An array has another shape.
    """

    image_file: Path
    size_hw: tuple[int, int] | None
    class_ids: np.ndarray
    boxes: np.ndarray
    segments: list[np.ndarray] | None = None
    keypoints: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_array("class_ids", self.class_ids, dtype=np.int64, shape=(None,))
        count = len(self.class_ids)
        check_array("boxes", self.boxes, dtype=np.float32, shape=(count, 4))
        if self.segments is not None:
            if len(self.segments) != count:
                reject("len(segments)", f"be the number of boxes, {count}", len(self.segments))
            for segment in self.segments:
                check_array("segments", segment, dtype=np.float32, shape=(None, 2))
        if self.keypoints is not None:
            check_array("keypoints", self.keypoints, dtype=np.float32, shape=(count, None, None))

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.class_ids)

    def list_numbers(self) -> list[object]:
        """All labels as plain numbers: equal where the labels are."""
        return [
            self.class_ids.tolist(),
            self.boxes.tolist(),
            None if self.segments is None else [segment.tolist() for segment in self.segments],
            None if self.keypoints is None else self.keypoints.tolist(),
        ]

    def select(self, rows: np.ndarray, /) -> YoloRecord:
        """These objects only.

        Args:
            rows: (N,) bool.
        """
        return YoloRecord(
            self.image_file,
            self.size_hw,
            self.class_ids[rows],
            self.boxes[rows],
            None if self.segments is None else [self.segments[row] for row in np.flatnonzero(rows)],
            None if self.keypoints is None else self.keypoints[rows],
        )


def enclose(points: np.ndarray, /) -> np.ndarray:
    """(4,) centre x, centre y, width and height of the box around points (K, 2)."""
    low, high = points.min(axis=0), points.max(axis=0)
    box: np.ndarray = np.concatenate([(low + high) / 2, high - low])
    return box


def to_pixels(boxes: np.ndarray, /, *, size_hw: tuple[int, int]) -> np.ndarray:
    """(N, 4) float32 x1 y1 x2 y2 in pixels, inside the image, from boxes (N, 4) in shares."""
    height, width = size_hw
    shares = boxes.astype(np.float64)
    corners = np.concatenate([shares[:, :2] - shares[:, 2:] / 2, shares[:, :2] + shares[:, 2:] / 2], axis=1)
    inside: np.ndarray = (np.clip(corners, 0, 1) * [width, height, width, height]).astype(np.float32)
    return inside


def draw_segments(segments: list[np.ndarray], /, *, size_hw: tuple[int, int]) -> np.ndarray:
    """(N, H, W) bool: the pixels of polygons (K, 2) in shares, as pycocotools draws them.

    Polygons that the export `yolo-segment` wrote draw the masks again that they were made of, pixel by pixel.
    """
    height, width = size_hw
    scale = np.array([width, height], np.float32)
    drawn = [{"segmentation": [(segment * scale).astype(np.float64).ravel().tolist()]} for segment in segments]
    names = [f"polygon {row}" for row in range(len(segments))]
    return decode_masks(drawn, boxes=np.zeros((len(segments), 4), np.float32), size_hw=size_hw, names=names)


def find_corners(points: np.ndarray, /) -> np.ndarray:
    """(4, 2) float32 corners of the smallest rotated box around points (K, 2) in pixels."""
    corners: np.ndarray = cv2.boxPoints(cv2.minAreaRect(np.ascontiguousarray(points, np.float32)))
    return corners


def find_quadrilateral(segment: np.ndarray, /, *, size_hw: tuple[int, int]) -> np.ndarray:
    """(4, 2) float32 corners of a rotated box in shares, from its label (K, 2) in shares.

    Four corners are kept. Of others, they are those of the smallest rotated box in pixels, as Ultralytics finds it:
    what is a rectangle in shares is none in pixels, unless the image is a square.
    """
    if len(segment) == 4:
        return segment
    scale = np.array([size_hw[1], size_hw[0]], np.float32)
    return find_corners(segment * scale) / scale
