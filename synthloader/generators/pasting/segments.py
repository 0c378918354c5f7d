"""Objects of a semantic mask: the connected parts of its classes."""

from __future__ import annotations

import cv2
import numpy as np

from synthloader.generators.pasting.cut_out import CutOut
from synthloader.sample import Sample
from synthloader.targets import SemanticMask

__all__ = ["MAX_SHARE", "MIN_PIXELS", "Segment", "cut_segment", "find_segments"]

MIN_PIXELS = 16
"""Smaller parts are specks of the labelling, not objects."""

MAX_SHARE = 0.25
"""Larger parts, as a share of the image, are ground, sky or walls, not objects."""

Segment = tuple[int, int, int, int, int]
"""Class id, then x1 y1 x2 y2 of its tight box in pixels; with its first pixel in row order it names a part."""


def find_segments(target: SemanticMask, class_ids: frozenset[int] | None, /) -> list[Segment]:
    """The parts of a mask that may be objects, by class and then in the order of the rows.

    Args:
        target: The mask. Class 0 (background) and `ignore_index` hold no objects.
        class_ids: Only these classes; None for all.
    """
    found: list[Segment] = []
    for class_id in np.unique(target.mask).tolist():
        if class_id in (0, target.ignore_index) or (class_ids is not None and class_id not in class_ids):
            continue
        _, _, statistics, _ = cv2.connectedComponentsWithStats((target.mask == class_id).view(np.uint8), connectivity=8)
        for left, top, width, height, area in statistics[1:].tolist():
            if MIN_PIXELS <= area <= MAX_SHARE * target.mask.size:
                found.append((class_id, left, top, left + width, top + height))
    return found


def cut_segment(sample: Sample, segment: Segment, /, *, name: str) -> CutOut | None:
    """Cut one part out of a picture; None where its box holds none that fills it.

    Args:
        sample: A sample whose target is a `SemanticMask`.
        segment: One of `find_segments`.
        name: Name of the sample.
    """
    class_id, left, top, right, bottom = segment
    window = (slice(top, bottom), slice(left, right))
    if not isinstance(sample.target, SemanticMask):
        return None
    inside = (sample.target.mask[window] == class_id).view(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    # Of the parts in the box only the one meant touches all four sides.
    for label in range(1, count):
        if statistics[label, :4].tolist() == [0, 0, right - left, bottom - top]:
            return CutOut(
                name=f"{name}#{class_id}@{left},{top}",
                class_id=class_id,
                image=sample.image[window],
                mask=labels == label,
                maps={key: values[window] for key, values in sample.maps.items()},
            )
    return None
