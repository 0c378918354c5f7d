"""Which pixels of a picture belong to labelled objects."""

from __future__ import annotations

import numpy as np

from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask

__all__ = ["find_labelled_pixels"]


def find_labelled_pixels(sample: Sample, /) -> np.ndarray | None:
    """The objects of a sample: masks, boxes where there are no masks, or all but the background of a semantic mask.

    Boxes cover every pixel that they touch. Ignored pixels of a semantic mask count as objects, because they are the
    borders of objects in many datasets.

    Returns:
        (H, W) uint8, 1 for objects and 0 elsewhere; None where there are none, or where nobody knows.
    """
    target = sample.target
    if isinstance(target, SemanticMask):
        objects = target.mask != 0
    elif isinstance(target, Instances) and len(target):
        masks = target.masks
        objects = _draw_boxes(target.boxes, sample.size_hw) if masks is None else np.any(masks, axis=0)
    else:
        return None
    return objects.view(np.uint8) if objects.any() else None


def _draw_boxes(boxes: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    drawn = np.zeros(size_hw, np.bool_)
    corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(int)
    for left, top, right, bottom in corners.tolist():
        drawn[top:bottom, left:right] = True
    return drawn
