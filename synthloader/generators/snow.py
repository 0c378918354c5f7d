"""`Snow`: falling flakes at several distances, and the veil of all the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from synthloader.checks import check_range
from synthloader.conditions.depth import check_positive, check_positive_range
from synthloader.errors import NothingToGenerate
from synthloader.generators.appearance.edit import check_strength_range, edit_image, find_white, sample_pixels
from synthloader.generators.appearance.precipitation import add_veil, blend_light, draw_dots, draw_strokes, fit_drawing
from synthloader.generators.composing.replacing import replace_options
from synthloader.generators.labelling.contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["Snow"]

VISIBILITY_CONTRAST = 3.912
VISIBILITY_AT_FULL_STRENGTH_M = 150.0
"""Visibility in metres at strength 1; a strength s gives this divided by s squared, and 0 no snow."""

DRAWING_SIDE = 360
"""Pixels of the shorter side up to which flakes are drawn at full size; on larger pictures they are enlarged."""

FIELD_OF_VIEW_DEGREES = 45.0
"""Vertical angle that a picture is taken to show."""


@dataclass(frozen=True)
class _Layer:
    """Flakes between two distances, drawn in a layer that is smaller than the picture's.

    Args:
        near_m: Nearest distance in metres.
        far_m: Farthest distance in metres.
        count: How many flakes at strength 1 on a picture of 4:3.
        shrink: By how much the layer is smaller: what is out of focus needs few pixels.
        opacity: 0..1, of a flake as large as a pixel or larger.
    """

    near_m: float
    far_m: float
    count: int
    shrink: int
    opacity: float


_LAYERS = (
    _Layer(0.8, 1.8, 80, 4, 0.75),
    _Layer(1.8, 4.0, 500, 2, 1.0),
    _Layer(4.0, 12.0, 1400, 1, 0.95),
)
"""From the nearest on."""


class Snow:
    """Let it snow on the source; nothing moves, so every label stays true.

    Flakes are drawn in three layers of distance, each flake as large and as elongated as its size, its fall and the
    exposure make it, and blurred the more the nearer it is. They are white: clear on a dark background, hardly seen on
    a bright sky. Farther flakes merge into a veil that grows with the distance of a plane (see `GroundPlane`). Snow
    that lies on things is not made: it would hide them.

    Args:
        strength_range: 0..1. Visibility is 150 m / strength squared: 3750 m (light snow) at 0.2, 600 m (heavy) at 0.5.
        visibility_range: Metres, above 0, instead of strengths; drawn evenly in 1 / visibility.
        flake_size_range: Diameters in millimetres, above 0.
        fall_speed: Metres per second, above 0.
        exposure_range: Seconds that the shutter is open, above 0: longer ones give longer and fainter flakes.
        angle_range: Degrees from the vertical, within -80..80: wind.
        defocus_range: Blur of flakes at one metre as a share of the picture's shorter side, 0..0.1.
        dimming_range: Share of the light that the clouds take at strength 1, 0..0.9.

    Raises:
        ValueError: An option is out of its range.
        TypeError: An option has another type.

    Source:
        Koschmieder 1924 for the veil; Barnum, Narasimhan, Kanade 2010, "Analysis of rain and snow in frequency space",
        for flakes as blurred strokes whose size and length follow from distance, focus and speed. Ours draws round
        strokes and blends display values; numbers of flakes are those that are seen in photographs.

    Example:
        >>> from synthloader.seeds import make_rng
        >>> road = Sample(np.full((60, 80, 3), 50, np.uint8))
        >>> made = Snow(strength_range=(0.5, 0.5)).generate(road, rng=make_rng(0, "road.png", 0, 0))
        >>> bool(made.image.max() > 60)
        True
    """

    keeps: frozenset[type[Target]] = frozenset({ClassLabel, Instances, SemanticMask})

    def __init__(
        self,
        *,
        strength_range: tuple[float, float] = (0.3, 0.7),
        visibility_range: tuple[float, float] | None = None,
        flake_size_range: tuple[float, float] = (4.0, 24.0),
        fall_speed: float = 1.2,
        exposure_range: tuple[float, float] = (0.004, 0.016),
        angle_range: tuple[float, float] = (-35.0, 35.0),
        defocus_range: tuple[float, float] = (0.002, 0.006),
        dimming_range: tuple[float, float] = (0.15, 0.35),
    ) -> None:
        self.strength_range = check_strength_range(strength_range)
        self.visibility_range = visibility_range
        if visibility_range is not None:
            self.visibility_range = check_positive_range("visibility_range", visibility_range)
        self.flake_size_range = check_positive_range("flake_size_range", flake_size_range)
        self.fall_speed = check_positive("fall_speed", fall_speed)
        self.exposure_range = check_positive_range("exposure_range", exposure_range)
        self.angle_range = check_range("angle_range", angle_range, minimum=-80.0, maximum=80.0)
        self.defocus_range = check_range("defocus_range", defocus_range, minimum=0.0, maximum=0.1)
        self.dimming_range = check_range("dimming_range", dimming_range, minimum=0.0, maximum=0.9)

    @property
    def fingerprint(self) -> str:
        """Name, version and every parameter."""
        return make_fingerprint("Snow", 1, **self._options())

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Let it snow on one source.

        Args:
            source: Any sample.
            rng: Draws strength, exposure, angle, focus and flakes.

        Returns:
            The sample with another image; target, maps and metadata are the source's own objects.

        Raises:
            NothingToGenerate: The strength is 0.
        """
        check_kept("Snow", self.keeps, source)
        strength = self._draw_strength(rng)
        exposure = rng.uniform(*self.exposure_range)
        angle = math.radians(rng.uniform(*self.angle_range))
        defocus = rng.uniform(*self.defocus_range)
        dimming = rng.uniform(*self.dimming_range)
        horizon = rng.uniform(0.3, 0.5)
        if strength == 0:
            raise NothingToGenerate("strength is 0")

        height, width = fit_drawing(source.size_hw, max_side=DRAWING_SIDE)
        motion = self.fall_speed * exposure / math.cos(angle)
        layer: np.ndarray = np.zeros((1, 1), np.uint8)
        for each in _LAYERS:  # Each is larger than the one before.
            flakes = self._draw_flakes(each, (height, width), strength, motion, angle, defocus, rng)
            layer = cv2.add(flakes, cv2.resize(layer, flakes.shape[::-1], interpolation=cv2.INTER_LINEAR), dst=flakes)
        extinction = VISIBILITY_CONTRAST * strength**2 / VISIBILITY_AT_FULL_STRENGTH_M
        add_veil(layer, extinction_per_m=extinction, horizon=horizon, max_distance_m=60.0)
        dimming *= min(1.0, math.sqrt(strength))
        light = _find_flake_light(source.image)
        return edit_image(source, blend_light(source.image, layer, light=light, dimming=dimming))

    def _draw_strength(self, rng: np.random.Generator) -> float:
        if self.visibility_range is not None:
            low, high = self.visibility_range
            return math.sqrt(VISIBILITY_AT_FULL_STRENGTH_M * rng.uniform(1 / high, 1 / low))
        return rng.uniform(*self.strength_range)

    def _draw_flakes(
        self,
        flakes: _Layer,
        size_hw: tuple[int, int],
        strength: float,
        motion: float,
        angle: float,
        defocus: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """(h, w) uint8, the opacity of the flakes of one layer, shrunk as it says; `motion` is in metres."""
        height, width = size_hw
        small: np.ndarray = np.zeros((max(1, height // flakes.shrink), max(1, width // flakes.shrink)), np.uint8)
        ratio = small.shape[0] / height
        total = max(1, round(flakes.count * width / height * 3 / 4))
        # As many are drawn at every strength: a stronger snow has the flakes of a weaker one, and more.
        numbers = rng.random((4, total), dtype=np.float32)
        count = max(1, round(total * min(strength, 1.5)))
        focal_length = small.shape[0] / (2 * math.tan(math.radians(FIELD_OF_VIEW_DEGREES) / 2))
        near, far = np.float32(flakes.near_m**3), np.float32(flakes.far_m**3)
        distances = np.cbrt(near + (far - near) * numbers[2])
        low, high = self.flake_size_range
        sizes = (np.float32(low) + np.float32(high - low) * np.square(numbers[3])) * np.float32(0.001 * focal_length)
        sizes /= distances
        lengths = np.float32(motion * focal_length) / distances
        centres = numbers[:2].T * np.array([small.shape[1], small.shape[0]], np.float32)
        # Far flakes are drawn clearer than they are, but not so that they cover all of a tiny picture.
        faintest = 0.5 * min(1.0, height / 240) ** 2
        # A stroke is at least a pixel wide: what is smaller is fainter instead, and so is what moves.
        widths = np.clip(np.rint(sizes[:count]), 1, 5)
        for wide in range(1, 6):
            chosen = np.flatnonzero(widths == wide)
            if len(chosen):
                size, length = float(sizes[chosen].mean()), float(lengths[chosen].mean())
                opacity = flakes.opacity * max(faintest, min(1.0, size) * size / (size + 0.3 * length))
                if wide <= 2 and length < wide + 1:
                    draw_dots(small, centres[chosen], opacity=opacity, width=wide)
                else:
                    draw_strokes(small, centres[chosen], lengths[chosen], angle=angle, opacity=opacity, width=wide)
        sigma = max(0.55, defocus * min(height, width) * ratio / (flakes.near_m * flakes.far_m) ** 0.5)
        return cv2.GaussianBlur(small, (3, 3) if sigma < 0.8 else (0, 0), sigma)

    def replace(self, **options: Any) -> Snow:
        """A copy with other options.

        Args:
            **options: Options of the constructor. Strengths alone take the place of `visibility_range`.
        """
        return replace_options(self, options, instead={"strength_range": "visibility_range"})

    def _options(self) -> dict[str, Any]:
        return {
            "strength_range": None if self.visibility_range is not None else self.strength_range,
            "visibility_range": self.visibility_range,
            "flake_size_range": self.flake_size_range,
            "fall_speed": self.fall_speed,
            "exposure_range": self.exposure_range,
            "angle_range": self.angle_range,
            "defocus_range": self.defocus_range,
            "dimming_range": self.dimming_range,
        }

    def __repr__(self) -> str:
        """All options."""
        return f"Snow({', '.join(f'{name}={value!r}' for name, value in self._options().items())})"


def _find_flake_light(image: np.ndarray) -> int:
    """Brightness of a flake: white, as bright as the scene's light allows."""
    return min(255, 100 + round(0.58 * find_white(sample_pixels(image)[..., 1])))
