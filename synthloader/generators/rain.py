"""`Rain`: streaks of falling drops at several distances, and the veil of all the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from synthloader.checks import check_range
from synthloader.conditions.depth import check_positive_range
from synthloader.errors import NothingToGenerate
from synthloader.generators.appearance.edit import check_strength_range, edit_image, find_white, sample_pixels
from synthloader.generators.appearance.precipitation import add_veil, blend_light, draw_strokes, fit_drawing
from synthloader.generators.composing.replacing import replace_options
from synthloader.generators.labelling.contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["Rain"]

RATE_AT_FULL_STRENGTH = 100.0
"""Rain rate in mm/h at strength 1, a cloudburst; a strength s gives this times s squared, and 0 no rain."""

DRAWING_SIDE = 280
"""Pixels of the shorter side up to which streaks are drawn at full size; on larger pictures they are enlarged."""

MOST_ENLARGED = 3
"""By how much at most, so that streaks stay thin on pictures of any size."""

FIELD_OF_VIEW_DEGREES = 45.0
"""Vertical angle that a picture is taken to show."""

SMALLEST_DROP_MM, LARGEST_DROP_MM = 1.0, 5.0
"""Smaller drops leave no streak that is seen, larger ones break."""

EXPOSURE_OF_OPACITY = 0.02
"""Seconds of exposure for which opacities are stated."""


@dataclass(frozen=True)
class _Layer:
    """Drops between two distances.

    Args:
        near_m: Nearest distance in metres.
        far_m: Farthest distance in metres.
        count: How many drops at strength 1 on a picture of 4:3.
        groups: Into how many groups of one opacity they are parted.
    """

    near_m: float
    far_m: float
    count: int
    groups: int


_LAYERS = (_Layer(0.6, 1.2, 36, 1), _Layer(1.2, 3.0, 180, 2), _Layer(3.0, 9.0, 260, 1))
"""From the nearest on, which alone is out of focus."""


class Rain:
    """Let it rain on the source; nothing moves, so every label stays true.

    A drop falls while the shutter is open, so that it leaves a streak. It refracts light from nearly all of the scene,
    mostly sky, so the streak is brighter than what is behind it: hardly seen on a bright sky, clear on dark ground. It
    covers each point for a short part of the exposure, which is what makes it transparent. Streaks are drawn in three
    layers of distance, the nearest out of focus. Farther drops merge into a veil that grows with the distance of a
    plane (see `GroundPlane`), and the light under rain clouds is dimmer.

    Args:
        strength_range: 0..1. The rain rate is 100 mm/h x strength squared: 4 (moderate rain) at 0.2, 25 (heavy) at 0.5.
        rain_rate_range: mm/h, above 0, instead of strengths.
        exposure_range: Seconds that the shutter is open, above 0: longer ones give longer and fainter streaks.
        angle_range: Degrees from the vertical, within -80..80: wind.
        opacity_range: Opacity of a streak one pixel wide or wider, 0..1, at an exposure of 0.02 s; it falls with the
            exposure and with the width of thinner streaks.
        defocus_range: Blur of drops at one metre as a share of the picture's shorter side, 0..0.1.
        dimming_range: Share of the light that the clouds take at strength 1, 0..0.9.

    Raises:
        ValueError: An option is out of its range.
        TypeError: An option has another type.

    Source:
        Garg and Nayar 2007, "Vision and rain" (brightness and transparency of streaks); Marshall and Palmer 1948 (drop
        sizes); Atlas, Srivastava, Sekhon 1973 (speed of fall, 9.65 - 10.3 exp(-0.6 D)); Carbonneau and Wisely 1998
        (veil, 1.076 R^0.67 dB/km). Ours draws smooth strokes without the ripples of oscillating drops, and blends
        display values; how clear streaks are and how many are seen is set by eye, after photographs, and only scaled
        by exposure, width and rain rate.

    Example:
        >>> from synthloader.seeds import make_rng
        >>> road = Sample(np.full((60, 80, 3), 50, np.uint8))
        >>> made = Rain(rain_rate_range=(30, 30)).generate(road, rng=make_rng(0, "road.png", 0, 0))
        >>> bool(made.image.max() > 60)
        True
    """

    keeps: frozenset[type[Target]] = frozenset({ClassLabel, Instances, SemanticMask})

    def __init__(
        self,
        *,
        strength_range: tuple[float, float] = (0.3, 0.7),
        rain_rate_range: tuple[float, float] | None = None,
        exposure_range: tuple[float, float] = (0.01, 0.03),
        angle_range: tuple[float, float] = (-15.0, 15.0),
        opacity_range: tuple[float, float] = (0.6, 0.9),
        defocus_range: tuple[float, float] = (0.001, 0.004),
        dimming_range: tuple[float, float] = (0.2, 0.4),
    ) -> None:
        self.strength_range = check_strength_range(strength_range)
        self.rain_rate_range = rain_rate_range
        if rain_rate_range is not None:
            self.rain_rate_range = check_positive_range("rain_rate_range", rain_rate_range)
        self.exposure_range = check_positive_range("exposure_range", exposure_range)
        self.angle_range = check_range("angle_range", angle_range, minimum=-80.0, maximum=80.0)
        self.opacity_range = check_range("opacity_range", opacity_range, minimum=0.0, maximum=1.0)
        self.defocus_range = check_range("defocus_range", defocus_range, minimum=0.0, maximum=0.1)
        self.dimming_range = check_range("dimming_range", dimming_range, minimum=0.0, maximum=0.9)

    @property
    def fingerprint(self) -> str:
        """Name, version and every parameter."""
        return make_fingerprint("Rain", 1, **self._options())

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Let it rain on one source.

        Args:
            source: Any sample.
            rng: Draws rate, exposure, angle, focus, light and drops.

        Returns:
            The sample with another image; target, maps and metadata are the source's own objects.

        Raises:
            NothingToGenerate: The strength is 0.
        """
        check_kept("Rain", self.keeps, source)
        rate = self._draw_rate(rng)
        exposure = rng.uniform(*self.exposure_range)
        angle = math.radians(rng.uniform(*self.angle_range))
        opacity = rng.uniform(*self.opacity_range)
        defocus = rng.uniform(*self.defocus_range)
        dimming = rng.uniform(*self.dimming_range)
        horizon = rng.uniform(0.3, 0.5)
        if rate == 0:
            raise NothingToGenerate("strength is 0")

        size_hw = fit_drawing(source.size_hw, max_side=max(DRAWING_SIDE, min(source.size_hw) // MOST_ENLARGED))
        streaks: np.ndarray = np.zeros(size_hw, np.uint8)
        nearest, others = _draw_drops(size_hw, rate, exposure, opacity, rng)
        for each in nearest:
            draw_strokes(streaks, each.centres, each.lengths, angle=angle, opacity=each.opacity, width=each.width)
        sigma = defocus * min(size_hw)
        if sigma > 0.3:
            streaks = cv2.GaussianBlur(streaks, (0, 0), sigma)
        for each in others:
            draw_strokes(streaks, each.centres, each.lengths, angle=angle, opacity=each.opacity, width=each.width)
        cloudiness = min(1.0, rate / RATE_AT_FULL_STRENGTH) ** 0.25
        dimming *= cloudiness
        extinction = 1.076 * rate**0.67 / 4343  # dB/km to 1/m
        add_veil(streaks, extinction_per_m=extinction, horizon=horizon, max_distance_m=120.0)
        light = _find_drop_light(source.image, dimming)
        return edit_image(source, blend_light(source.image, streaks, light=light, dimming=dimming))

    def _draw_rate(self, rng: np.random.Generator) -> float:
        """Rain rate in mm/h."""
        if self.rain_rate_range is not None:
            return rng.uniform(*self.rain_rate_range)
        return RATE_AT_FULL_STRENGTH * rng.uniform(*self.strength_range) ** 2

    def replace(self, **options: Any) -> Rain:
        """A copy with other options.

        Args:
            **options: Options of the constructor. Strengths alone take the place of `rain_rate_range`.
        """
        return replace_options(self, options, instead={"strength_range": "rain_rate_range"})

    def _options(self) -> dict[str, Any]:
        return {
            "strength_range": None if self.rain_rate_range is not None else self.strength_range,
            "rain_rate_range": self.rain_rate_range,
            "exposure_range": self.exposure_range,
            "angle_range": self.angle_range,
            "opacity_range": self.opacity_range,
            "defocus_range": self.defocus_range,
            "dimming_range": self.dimming_range,
        }

    def __repr__(self) -> str:
        """All options."""
        return f"Rain({', '.join(f'{name}={value!r}' for name, value in self._options().items())})"


@dataclass(frozen=True, eq=False)
class _Streaks:
    """Streaks of one opacity and width.

    Args:
        centres: (N, 2) float32, column and row.
        lengths: (N,) float32, pixels.
        opacity: 0 or more; above 1 counts as 1.
        width: Whole pixels.
    """

    centres: np.ndarray
    lengths: np.ndarray
    opacity: float
    width: int


def _draw_drops(
    size_hw: tuple[int, int], rate: float, exposure: float, opacity: float, rng: np.random.Generator
) -> tuple[list[_Streaks], list[_Streaks]]:
    """The streaks before the focus, and the others.

    As many drops are drawn from `rng` at every rate: stronger rain has those of weaker rain, and more.
    """
    height, width = size_hw
    # What counts is the angle of view: a small picture of a scene shows as many drops as a large one.
    totals = [max(1, round(layer.count * width / height * 3 / 4)) for layer in _LAYERS]
    numbers = rng.random((4, sum(totals)), dtype=np.float32)
    cubes = np.repeat(np.array([[layer.near_m**3, layer.far_m**3] for layer in _LAYERS], np.float32), totals, axis=0)
    distances = np.cbrt(cubes[:, 0] + (cubes[:, 1] - cubes[:, 0]) * numbers[3])
    slope = np.float32(4.1 * rate**-0.21)  # Marshall and Palmer, per mm
    sizes_mm = np.minimum(SMALLEST_DROP_MM - np.log1p(-numbers[2]) / slope, LARGEST_DROP_MM)
    speeds = 9.65 - 10.3 * np.exp(np.float32(-0.6) * sizes_mm)
    focal_length = height / (2 * math.tan(math.radians(FIELD_OF_VIEW_DEGREES) / 2))
    pixels_per_m = np.float32(focal_length) / distances
    lengths = speeds * np.float32(exposure) * pixels_per_m
    widths = sizes_mm * np.float32(0.001) * pixels_per_m
    # Beyond the edges too, so that streaks enter the picture from above.
    reach = min(float(lengths.max()) / 2, float(height))
    centres = numbers[:2].T * np.array([width + 2 * reach, height + 2 * reach], np.float32) - np.float32(reach)
    # The number of drops that are large enough grows about as the root of the rate.
    visible = min(1.0, math.sqrt(rate / RATE_AT_FULL_STRENGTH))
    full_opacity = opacity * EXPOSURE_OF_OPACITY / exposure
    found: list[list[_Streaks]] = []
    start = 0
    for layer, total in zip(_LAYERS, totals, strict=True):
        stop = start + max(1, round(total * visible))
        parts = [slice(first, stop, layer.groups) for first in range(start, min(start + layer.groups, stop))]
        found.append([])
        for group, part in enumerate(parts):
            width_px = float(widths[part].mean())
            shade = 0.7 + 0.6 * (group + 1) / (layer.groups + 1)
            found[-1].append(
                _Streaks(
                    centres[part],
                    np.maximum(lengths[part], 1),
                    opacity=full_opacity * math.sqrt(min(width_px, 1.0)) * shade,
                    width=max(1, round(width_px)),
                )
            )
        start += total
    return found[0], [streaks for layer in found[1:] for streaks in layer]


def _find_drop_light(image: np.ndarray, dimming: float) -> int:
    """Brightness of a drop, which shows nearly all of the scene with much of the sky: between mean and brightest."""
    greens = sample_pixels(image)[..., 1]
    seen = 0.3 * float(greens.mean()) + 0.6 * find_white(greens)
    return min(255, 60 + round((1 - dimming) * seen))
