"""Attributes of labelled pictures: size, shape and place of objects, and how the picture looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from synthloader.checks import check_choice, check_type
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["ATTRIBUTES", "Attribute", "measure", "scale_values"]

_ROUND = 1.1
"""A mask whose longer principal axis is less than this many times the shorter one points nowhere."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One number that can be measured of every object, or of every picture.

    Args:
        name: As users write it.
        meaning: What it is, with unit and normalisation.
        per: Whether an object or an image has one.
        scale: On which scale it is compared and its mixture fitted: `"log"` for quantities that are positive and skewed
            to the right, where factors count and not differences; `"axial"` for angles that come back after 180
            degrees.
        floor: On the log scale, smaller values count as this one.
    """

    name: str
    meaning: str
    per: Literal["object", "image"]
    scale: Literal["linear", "log", "axial"] = "linear"
    floor: float = 1e-9


ATTRIBUTES: dict[str, Attribute] = {
    attribute.name: attribute
    for attribute in (
        Attribute("box_area", "area of the box as a share of the image's area, 0..1", "object", "log"),
        Attribute("box_aspect", "width of the box by its height, in pixels", "object", "log"),
        Attribute("box_bottom", "lower edge of the box as a share of the image's height, 0 at the top", "object"),
        Attribute("box_center_y", "centre of the box as a share of the image's height, 0 at the top", "object"),
        Attribute(
            "orientation",
            "principal axis of the mask in degrees, -90 to below 90: 0 lies flat, 45 falls to the right, -90 stands "
            "upright; none without a mask, and none for a round one",
            "object",
            "axial",
        ),
        Attribute("count", "number of objects in the image", "image"),
        Attribute("brightness", "mean of the luma, 0..255", "image"),
        Attribute("contrast", "standard deviation of the luma, in levels of 0..255", "image"),
        Attribute("sharpness", "variance of the luma's Laplacian, in squared levels", "image", "log", floor=0.01),
        Attribute("entropy", "entropy of the luma's histogram of 256 levels, 0..8 bits", "image"),
    )
}
"""Everything that `measure` knows, by name. Luma is that of ITU-R BT.601, as OpenCV makes grey pictures."""


def measure(
    samples: Iterable[Sample], names: Sequence[str] = tuple(ATTRIBUTES), /, *, generated_only: bool = False
) -> dict[str, np.ndarray]:
    """Measure attributes of a set of samples.

    Crowds, and objects whose box has no width or no height, are left out. A sample whose target is not `Instances` has
    no objects to measure and no count, and adds only what its image shows.

    Args:
        samples: Read once, in order.
        names: Which attributes, of `ATTRIBUTES`.
        generated_only: Measure only objects with `generated` in their attributes, where the target says so (a bool
            column, as generators that paste add it). Attributes of the image, count too, are of the whole.

    Returns:
        Name to float64 values in the attribute's own unit. Those of objects line up, (number of objects,), with NaN
        where an object has none; those of images are as long as there are images that have one. No samples, no values.

    Raises:
        ValueError: There is no attribute of this name.

    Example:
        >>> boxes = np.array([[0, 0, 4, 2], [2, 1, 4, 5]], np.float32)
        >>> sample = Sample(np.zeros((5, 8, 3), np.uint8), Instances(np.array([1, 1]), boxes))
        >>> {name: values.tolist() for name, values in measure([sample], ["box_area", "box_bottom", "count"]).items()}
        {'box_area': [0.2, 0.2], 'box_bottom': [0.4, 1.0], 'count': [2.0]}
    """
    for at, name in enumerate(names):
        check_choice(f"names[{at}]", name, ATTRIBUTES)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    of_objects = [name for name in names if ATTRIBUTES[name].per == "object"]
    of_pixels = [name for name in names if name in _OF_LUMA]
    for at, sample in enumerate(samples):
        check_type(f"samples[{at}]", sample, Sample)
        if of_pixels:
            luma = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
            for name in of_pixels:
                found[name].append(np.array([_OF_LUMA[name](luma)]))
        if not isinstance(sample.target, Instances):
            continue
        target = sample.target
        rows = _find_rows(target)
        if "count" in found:
            found["count"].append(np.array([float(len(rows))]))
        if of_objects:
            rows = rows[_is_generated(target)[rows]] if generated_only else rows
            for name in of_objects:
                found[name].append(_OF_OBJECTS[name](target, rows, sample.size_hw))
    return {name: np.concatenate([np.zeros(0), *parts]).astype(np.float64) for name, parts in found.items()}


def scale_values(name: str, values: np.ndarray, /, *, like: np.ndarray) -> np.ndarray:
    """Values on the scale on which an attribute is compared; NaN are left out.

    Linear ones stay, logarithmic ones become natural logarithms. Angles are unwrapped at the angle that is emptiest in
    `like` (five neighbouring bins of 5 degrees), so that a mode at the border of -90 and 90 stays in one piece. A
    mixture on a line still knows no circle: where all angles are about equally frequent, it is cut through somewhere.

    Args:
        name: The attribute.
        values: (N,) in its own unit.
        like: Values of the set that it is compared with: two sets can only be compared when unwrapped at one angle.
    """
    attribute = ATTRIBUTES[check_choice("name", name, ATTRIBUTES)]
    known: np.ndarray = values[~np.isnan(values)]
    if attribute.scale == "log":
        known = np.log(np.maximum(known, attribute.floor))
    elif attribute.scale == "axial":
        cut = _find_emptiest_angle(like[~np.isnan(like)])
        known = (known - cut) % 180.0 + cut
    return known


def _find_emptiest_angle(angles: np.ndarray) -> float:
    counts = np.histogram(angles, bins=36, range=(-90, 90))[0]
    around = sum(np.roll(counts, shift) for shift in range(-2, 3))
    return -87.5 + 5.0 * int(np.argmin(around))


def _find_rows(target: Instances) -> np.ndarray:
    """Objects that can be measured: no crowds, no boxes without an area."""
    crowd = target.crowd if target.crowd is not None else np.zeros(len(target), np.bool_)
    sides = target.boxes[:, 2:] - target.boxes[:, :2]
    return np.flatnonzero(~crowd & (sides > 0).all(axis=1))


def _is_generated(target: Instances) -> np.ndarray:
    column = target.attributes.get("generated")
    if column is None or column.dtype != np.bool_ or column.ndim != 1:
        return np.ones(len(target), np.bool_)
    generated: np.ndarray = column
    return generated


def _measure_area(target: Instances, rows: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    width, height = _measure_sides(target, rows)
    areas: np.ndarray = width * height / (size_hw[0] * size_hw[1])
    return areas


def _measure_aspect(target: Instances, rows: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    width, height = _measure_sides(target, rows)
    aspects: np.ndarray = width / height
    return aspects


def _measure_bottom(target: Instances, rows: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    bottoms: np.ndarray = target.boxes[rows, 3].astype(np.float64) / size_hw[0]
    return bottoms


def _measure_center_y(target: Instances, rows: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    centers: np.ndarray = target.boxes[rows, 1::2].astype(np.float64).mean(axis=1) / size_hw[0]
    return centers


def _measure_sides(target: Instances, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = target.boxes[rows, 2:].astype(np.float64) - target.boxes[rows, :2]
    return sides[:, 0], sides[:, 1]


def _measure_orientation(target: Instances, rows: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    masks = target.masks
    if masks is None:
        return np.full(len(rows), np.nan)
    return np.array([_find_orientation(masks[row]) for row in rows.tolist()], np.float64)


def _find_orientation(mask: np.ndarray) -> float:
    """Angle of the principal axis from second moments, in degrees; y points down."""
    pixels = mask.view(np.uint8)
    left, top, width, height = cv2.boundingRect(pixels)  # moments of the crop alone: most of a mask is empty
    if width == 0:
        return math.nan
    # Every pixel is a square of side 1, which adds 1/12 to both variances and takes no side.
    found = cv2.moments(pixels[top : top + height, left : left + width], binaryImage=True)
    xx, yy, xy = found["mu20"] / found["m00"], found["mu02"] / found["m00"], found["mu11"] / found["m00"]
    mean, spread = (xx + yy) / 2 + 1 / 12, math.hypot((xx - yy) / 2, xy)
    if mean + spread < _ROUND**2 * (mean - spread):
        return math.nan
    angle = math.degrees(0.5 * math.atan2(2 * xy, xx - yy))
    return angle - 180 if angle >= 90 else angle


def _measure_brightness(luma: np.ndarray) -> float:
    return float(luma.mean())


def _measure_contrast(luma: np.ndarray) -> float:
    return float(luma.std())


def _measure_sharpness(luma: np.ndarray) -> float:
    return float(cv2.Laplacian(luma, cv2.CV_32F).var(dtype=np.float64))


def _measure_entropy(luma: np.ndarray) -> float:
    shares = np.bincount(luma.reshape(-1), minlength=256) / luma.size
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # never -0.0


_OF_OBJECTS: dict[str, Callable[[Instances, np.ndarray, tuple[int, int]], np.ndarray]] = {
    "box_area": _measure_area,
    "box_aspect": _measure_aspect,
    "box_bottom": _measure_bottom,
    "box_center_y": _measure_center_y,
    "orientation": _measure_orientation,
}
_OF_LUMA: dict[str, Callable[[np.ndarray], float]] = {
    "brightness": _measure_brightness,
    "contrast": _measure_contrast,
    "sharpness": _measure_sharpness,
    "entropy": _measure_entropy,
}
