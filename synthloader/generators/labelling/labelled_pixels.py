"""Which pixels of a picture belong to labelled objects."""

from __future__ import annotations

import numpy as np

from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask

__all__ = ["find_labelled_pixels", "soften_boxes"]


def find_labelled_pixels(sample: Sample, /) -> np.ndarray | None:
    """The objects of a sample: masks, or all but the background of a semantic mask.

    Ignored pixels of a semantic mask count as objects, because they are the
    borders of objects in many datasets.

    Returns:
        (H, W) uint8, 1 for objects and 0 elsewhere; None where there are none, or where nobody knows.
    """
    target = sample.target
    if isinstance(target, SemanticMask):
        objects = target.mask != 0
    elif isinstance(target, Instances) and len(target):
        masks = target.masks
        objects = np.zeros(sample.size_hw, np.bool_) if masks is None else np.any(masks, axis=0)
    else:
        return None
    return objects.view(np.uint8) if objects.any() else None


def soften_boxes(boxes: np.ndarray, size_hw: tuple[int, int], /) -> np.ndarray:
    """How surely each pixel is of an object of which only the box is known: 1 around the middles of boxes, 0 outside.

    It falls off along ellipses and is 0 at the sides already, so that nothing that follows it shows the boxes.

    Args:
        boxes: (N, 4) float32, xyxy pixels.
        size_hw: Height and width of the picture.

    Returns:
        (H, W) float32 in 0..1.
    """
    height, width = size_hw
    found = np.zeros(size_hw, np.float32)
    for x1, y1, x2, y2 in boxes.tolist():
        left, top, right, bottom = max(int(x1), 0), max(int(y1), 0), min(int(x2) + 1, width), min(int(y2) + 1, height)
        if right <= left or bottom <= top or x2 <= x1 or y2 <= y1:
            continue
        across = (np.arange(left, right, dtype=np.float32) + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2)
        down = (np.arange(top, bottom, dtype=np.float32) + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
        near = np.clip(1.5 * (1 - np.square(across) - np.square(down)[:, None]), 0, 1).astype(np.float32)
        window = found[top:bottom, left:right]
        np.maximum(window, near * near * (3 - 2 * near), out=window)
    return found
