"""How far away every pixel is: from a depth map of a stated kind, or from a plane where there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from synthloader.checks import check_choice, check_number, check_range, reject
from synthloader.errors import NothingToGenerate

__all__ = ["DEPTH_KINDS", "GroundPlane", "convert_depth"]

DEPTH_KINDS = ("metric", "inverse", "relative", "relative_inverse")
"""What the numbers of a depth map say; see `convert_depth`."""

_MAX_SAMPLES = 4096
"""Pixels from which the ends of a relative map are read; enough for two quantiles, and quick."""


def convert_depth(
    values: np.ndarray,
    /,
    *,
    kind: str,
    scale: float = 1.0,
    distance_range: tuple[float, float] = (3.0, 150.0),
    name: str = "depth",
) -> np.ndarray:
    """Turn a depth map into distances.

    ```
    kind                 a larger number is   unit                             0 means          no measurement
    "metric"             farther              metres, after `scale`            no measurement   0, NaN
    "inverse"            nearer               1 / metres, after `scale`        infinitely far   NaN, inf
    "relative"           farther              none                             a number         NaN, inf
    "relative_inverse"   nearer               none (MiDaS, Depth Anything)     a number         NaN, inf
    ```

    In a metric map inf is infinitely far (sky). A disparity in pixels is `"inverse"` with a scale of 1 / (focal length
    in pixels x baseline in metres). Relative maps are stretched between the ends of `distance_range`, of distances or
    of their inverses; their ends are the 1 % and 99 % quantiles, so that single wrong pixels do no harm. Pixels
    without a measurement get the distance of the nearest pixel that has one.

    Args:
        values: (H, W), integers or floats.
        kind: One of `DEPTH_KINDS`.
        scale: What the numbers are multiplied by: 0.001 for millimetres. Relative maps need none.
        distance_range: Metres of the nearest and the farthest part of a relative map.
        name: What to call the map in errors.

    Returns:
        (H, W) float32, metres, at least 0; inf is infinitely far.

    Raises:
        TypeError: The map is no array of numbers.
        ValueError: Its shape or its values are not of the stated kind.
        NothingToGenerate: It has no measurement at all, or a relative one is flat.

    Example:
        >>> convert_depth(np.array([[1000, 2000, 0]], np.uint16), kind="metric", scale=0.001).tolist()
        [[1.0, 2.0, 2.0]]
        >>> convert_depth(np.array([[0.5, 0.1, 0.0]]), kind="inverse").tolist()
        [[2.0, 10.0, inf]]
    """
    check_choice("kind", kind, DEPTH_KINDS)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        kind_of_value = values.dtype if isinstance(values, np.ndarray) else values
        reject(name, "be an array of integers or floats", kind_of_value, error=TypeError)
    if values.ndim != 2:
        reject(name, "have shape (height, width)", values.shape, "Give one number for each pixel.")
    is_relative = kind.startswith("relative")
    numbers = values.astype(np.float32)
    if not is_relative and scale != 1:
        numbers *= np.float32(scale)
    if kind == "metric":
        known = numbers > 0
        known |= numbers < 0  # refused below; NaN is neither
    else:
        known = np.isfinite(numbers)
    has_gaps = not known.all()
    if has_gaps and not known.any():
        raise NothingToGenerate("no measurement in the depth map")
    if not is_relative:
        _check_absolute(name, numbers, known, kind)
    if has_gaps:
        numbers = _fill_gaps(numbers, known)
    if kind == "metric":
        return numbers
    near, far = distance_range
    if kind == "inverse":
        return _invert(numbers)
    share = _stretch(numbers)
    if kind == "relative":
        share *= np.float32(far - near)
        share += np.float32(near)
        return share
    share *= np.float32(1 / near - 1 / far)
    share += np.float32(1 / far)
    return _invert(share)


@dataclass(frozen=True)
class GroundPlane:
    r"""Distances in a picture of flat ground, for pictures without a depth map.

    ```
    row 0        ------------  max_distance_m     everything above the horizon is as far as the farthest ground
    horizon      ------------  max_distance_m
                  \          /   camera_height_m x focal length / (row - horizon)
    last row     ------------  some metres
    ```

    The two pass into each other smoothly, by 1 / d^2 = 1 / ground^2 + 1 / max_distance_m^2, so that no line is seen in
    a fog. The camera looks straight ahead. What stands on the ground is as far as the ground or the sky behind it,
    which is too far: a depth map knows better.

    Args:
        horizon: Row of the horizon as a share of the height; below 0 or above 1 it lies outside the picture.
        camera_height_m: Metres above the ground; above 0.
        field_of_view_degrees: Vertical angle that the picture shows; above 0 and below 180.
        max_distance_m: Metres of the horizon and of all above it; above 0.

    Raises:
        ValueError: A number is out of its range.

    Source:
        The pinhole camera; Hartley and Zisserman 2004, "Multiple View Geometry in Computer Vision", chapter 6.

    Example:
        >>> [round(metres, 1) for metres in GroundPlane(horizon=0.5, field_of_view_degrees=90).measure(4).tolist()]
        [100.0, 100.0, 6.0, 2.0]
    """

    horizon: float = 0.4
    camera_height_m: float = 1.5
    field_of_view_degrees: float = 45.0
    max_distance_m: float = 100.0

    def __post_init__(self) -> None:
        check_number("horizon", self.horizon)
        check_positive("camera_height_m", self.camera_height_m)
        check_positive("field_of_view_degrees", self.field_of_view_degrees)
        check_number("field_of_view_degrees", self.field_of_view_degrees, maximum=179.0)
        check_positive("max_distance_m", self.max_distance_m)

    def measure(self, height: int, /) -> np.ndarray:
        """Distances (H,) float32 in metres of the rows of a picture of this height."""
        focal_length = height / (2 * math.tan(math.radians(self.field_of_view_degrees) / 2))
        below = np.maximum(np.arange(height, dtype=np.float32) + np.float32(0.5 - self.horizon * height), 0)
        inverse = below / np.float32(self.camera_height_m * focal_length)
        distances: np.ndarray = 1 / np.sqrt(np.square(inverse) + np.float32(self.max_distance_m**-2))
        return distances


def check_positive(name: str, value: object) -> float:
    """A number above 0."""
    number = check_number(name, value)
    if number <= 0:
        reject(name, "be above 0", value)
    return number


def check_positive_range(name: str, value: object) -> tuple[float, float]:
    """A pair (low, high) with 0 < low <= high."""
    low, high = check_range(name, value)
    if low <= 0:
        reject(name, "be above 0", value)
    return low, high


def _check_absolute(name: str, numbers: np.ndarray, known: np.ndarray, kind: str) -> None:
    """Refuse numbers that cannot be metres, or one by metres: they would give a fog of another density in silence."""
    low = float(np.min(numbers, where=known, initial=np.inf))
    if low < 0:
        unit = "metres" if kind == "metric" else "1 / metres"
        reject(
            name,
            f"hold {unit}, at least 0, for depth_kind={kind!r}",
            f"a lowest value of {low:g}",
            "Mark missing pixels with NaN, or say which other depth_kind it is.",
        )
    if kind == "metric" and float(np.max(numbers, where=known, initial=0.0)) <= 1:
        reject(
            name,
            "hold metres for depth_kind='metric'",
            "no value above 1",
            "Say depth_kind='relative' for 0..1, 'relative_inverse' where near is large, or give depth_scale.",
        )


def _stretch(numbers: np.ndarray) -> np.ndarray:
    """To 0..1 between the quantiles, in place."""
    step = max(1, math.isqrt(numbers.size // _MAX_SAMPLES))
    low, high = np.quantile(numbers[::step, ::step], [0.01, 0.99])
    if not high > low:
        low, high = numbers.min(), numbers.max()
    if not high > low:
        raise NothingToGenerate("flat relative depth")
    numbers -= np.float32(low)
    numbers *= np.float32(1 / (high - low))
    clipped: np.ndarray = np.clip(numbers, 0, 1, out=numbers)
    return clipped


def _invert(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", over="ignore"):
        inverse: np.ndarray = np.divide(np.float32(1), numbers, out=numbers)
    return inverse


def _fill_gaps(numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Every pixel without a number gets that of the nearest pixel with one."""
    missing = (~known).view(np.uint8)
    labels: np.ndarray
    _, labels = cv2.distanceTransformWithLabels(missing, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    by_label = np.zeros(int(labels.max()) + 1, np.float32)
    known_labels: np.ndarray = labels[known]
    by_label[known_labels] = numbers[known]
    filled: np.ndarray = np.where(known, numbers, by_label[labels])
    return filled
