"""One object, cut out of its image: pixels, mask, and what is known of it; scaled and mirrored."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["Cutout", "cut_out", "find_tight_box"]


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object ready to be pasted.

    Args:
        image: (h, w, 3) uint8, the crop around it.
        mask: (h, w) bool, which of these pixels are the object; touches all four sides.
        class_id: Its class.
        keypoints: (K, 3) float32 relative to the crop; None where there are none.
        attributes: Name to array of one row.
        maps: Name to (h, w, ...) array.
    """

    image: np.ndarray
    mask: np.ndarray
    class_id: int
    keypoints: np.ndarray | None = None
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)


def cut_out(donor: Sample, row: int, /, *, factor: float, mirrored: bool, within_hw: tuple[int, int]) -> Cutout:
    """Cut one instance with a mask out of its sample.

    Args:
        donor: Sample whose target is `Instances` with masks.
        row: Which instance.
        factor: Scale; made smaller where the object would not fit.
        mirrored: Exchange left and right; left undone for objects with keypoints.
        within_hw: Height and width that the object must fit into.
    """
    target = donor.target
    if not isinstance(target, Instances) or target.masks is None:
        raise TypeError("a donor must have instances with masks")
    x1, y1, x2, y2 = find_tight_box(target.masks[row])
    window = np.s_[y1:y2, x1:x2]
    mask, image = target.masks[row][window], donor.image[window]
    factor = min(factor, within_hw[0] / (y2 - y1), within_hw[1] / (x2 - x1))
    size_hw = (max(1, round((y2 - y1) * factor)), max(1, round((x2 - x1) * factor)))
    scaled = _scale_mask(mask, size_hw)
    if scaled.any():
        image, mask = _scale(image, size_hw), scaled
        maps = {name: _scale_exactly(values[window], size_hw) for name, values in donor.maps.items()}
    else:  # too thin to survive the scaling: as it is
        maps = {name: values[window] for name, values in donor.maps.items()}
    keypoints = None if target.keypoints is None else target.keypoints[row].copy()
    if keypoints is not None:
        keypoints[:, :2] = (keypoints[:, :2] - (x1, y1)) * (mask.shape[1] / (x2 - x1), mask.shape[0] / (y2 - y1))
    if mirrored and keypoints is None:
        image, mask = image[:, ::-1], mask[:, ::-1]
        maps = {name: values[:, ::-1] for name, values in maps.items()}
    left, top, right, bottom = find_tight_box(mask)
    trim = np.s_[top:bottom, left:right]
    if keypoints is not None:
        keypoints[:, :2] -= (left, top)
    return Cutout(
        image=image[trim],
        mask=mask[trim],
        class_id=int(target.class_ids[row]),
        keypoints=keypoints,
        attributes={name: column[row : row + 1] for name, column in target.attributes.items()},
        maps={name: values[trim] for name, values in maps.items()},
    )


def find_tight_box(mask: np.ndarray, /) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of the pixels that are set, the last row and column not included; all 0 where none is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _scale(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size_hw:
        return image
    smaller = size_hw[0] < image.shape[0] or size_hw[1] < image.shape[1]
    return cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _scale_mask(mask: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The pixels of which the object covers more than half."""
    if mask.shape == size_hw:
        return mask
    covered: np.ndarray = _scale(np.where(mask, np.uint8(255), np.uint8(0)), size_hw) > 127
    return covered


def _scale_exactly(values: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Nearest values: a map's numbers (depth, ids) are never mixed."""
    rows = (np.arange(size_hw[0]) + 0.5) * values.shape[0] / size_hw[0]
    columns = (np.arange(size_hw[1]) + 0.5) * values.shape[1] / size_hw[1]
    return values[rows.astype(np.int64)][:, columns.astype(np.int64)]
