"""`Night`: little light, blue and noisy, and lamps that glow."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np

from synthloader.checks import check_fraction, check_range
from synthloader.conditions.depth import check_positive_range
from synthloader.errors import NothingToGenerate
from synthloader.generators.appearance.edit import check_strength_range, edit_image, split_rows
from synthloader.generators.appearance.grey import is_grey
from synthloader.generators.composing.replacing import replace_options
from synthloader.generators.labelling.contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["Night"]

STOPS_AT_FULL_STRENGTH = 5.0
"""Stops of exposure that strength 1 takes; a strength s takes s times as many, and 0 none."""

SHRINK = 4
"""By how much the picture is smaller in which lamps are looked for: glow has no fine detail."""

LAMP_SHARE = 0.08
"""Widest lamp as a share of the shorter side: what is bright over more than this is sky or a wall."""

LAMP_LEVEL = 200
"""8-bit level from which something may be a lamp."""

SKY_STEPS = 4
"""How often the sky spreads by half of a lamp's width."""

ROD_TINT = (0.62, 0.92, 1.65)
"""Colour, red, green, blue, in which the light of rod vision is drawn; about that of a luminance of 1."""

GLOW_TINT = (1.25, 1.0, 0.6)
"""Colour of lamplight, of a luminance of about 1."""

_CUBES = np.power(np.arange(256, dtype=np.float32) / 255, 3)
"""b^3 of an 8-bit brightness b."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_ROD_LUMA = np.array([0.06, 0.60, 0.34], np.float32)


class Night:
    """Turn day to night; nothing moves, so every label stays true.

    In linear light (with the square as the display's curve): the exposure is lowered by some stops, and large bright
    parts (sky, walls) by more, as the sky is not what lights a night; colours fade towards blue as eyes see them in the
    dark (Purkinje); small parts that were saturated stay lit and glow as lamps; then come the noise of few photons and
    that of the sensor. A one-channel picture gets neither blue nor coloured noise.

    Strong settings hide dark objects whose labels stay: lower the strength, or drop such objects with a filter.

    Args:
        strength_range: 0..1. The exposure is lowered by 5 stops x strength.
        stops_range: Stops, 0..10, instead of strengths; each halves the light.
        blue_range: Share of rod vision, 0..1: 0 keeps the colours.
        electrons_range: Photo-electrons that a white pixel collects, above 0: fewer give more shot noise.
        read_noise_range: Standard deviation of the sensor's own noise in electrons, 0..100.
        glow_range: Light that lamps scatter around them, 0..1.
        sky_range: Share of its light that a large white part loses besides, 0..1; what is less bright loses less.
        vignetting: Share of the light that is missing in the corners, 0..1.

    Raises:
        ValueError: An option is out of its range.
        TypeError: An option has another type.

    Source:
        Thompson, Shirley, Ferwerda 2002, "A spatial post-processing algorithm for images of night scenes" (blue shift,
        noise); Healey and Kondepudy 1994, "Radiometric CCD camera calibration and noise estimation" (shot and read
        noise). Ours finds lamps and sky by the width of what is bright, and adds glow by two Gaussians.

    Example:
        >>> from synthloader.seeds import make_rng
        >>> road = Sample(np.full((60, 80, 3), 120, np.uint8))
        >>> made = Night(stops_range=(2, 2)).generate(road, rng=make_rng(0, "road.png", 0, 0))
        >>> bool(made.image.mean() < 80)
        True
    """

    keeps: frozenset[type[Target]] = frozenset({ClassLabel, Instances, SemanticMask})

    def __init__(
        self,
        *,
        strength_range: tuple[float, float] = (0.3, 0.6),
        stops_range: tuple[float, float] | None = None,
        blue_range: tuple[float, float] = (0.3, 0.7),
        electrons_range: tuple[float, float] = (400.0, 2000.0),
        read_noise_range: tuple[float, float] = (1.0, 4.0),
        glow_range: tuple[float, float] = (0.2, 0.6),
        sky_range: tuple[float, float] = (0.5, 0.8),
        vignetting: float = 0.25,
    ) -> None:
        self.strength_range = check_strength_range(strength_range)
        self.stops_range = stops_range
        if stops_range is not None:
            self.stops_range = check_range("stops_range", stops_range, minimum=0.0, maximum=10.0)
        self.blue_range = check_range("blue_range", blue_range, minimum=0.0, maximum=1.0)
        self.electrons_range = check_positive_range("electrons_range", electrons_range)
        self.read_noise_range = check_range("read_noise_range", read_noise_range, minimum=0.0, maximum=100.0)
        self.glow_range = check_range("glow_range", glow_range, minimum=0.0, maximum=1.0)
        self.sky_range = check_range("sky_range", sky_range, minimum=0.0, maximum=1.0)
        self.vignetting = check_fraction("vignetting", vignetting)

    @property
    def fingerprint(self) -> str:
        """Name, version and every parameter."""
        return make_fingerprint("Night", 1, **self._options())

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Turn one source to night.

        Args:
            source: Any sample.
            rng: Draws exposure, colour, noise and glow.

        Returns:
            The sample with another image; target, maps and metadata are the source's own objects.

        Raises:
            NothingToGenerate: The strength is 0.
        """
        check_kept("Night", self.keeps, source)
        stops = self._draw_stops(rng)
        blue = rng.uniform(*self.blue_range)
        electrons = rng.uniform(*self.electrons_range)
        read_noise = rng.uniform(*self.read_noise_range)
        glow = rng.uniform(*self.glow_range)
        sky = rng.uniform(*self.sky_range)
        if stops == 0:
            raise NothingToGenerate("strength is 0")

        image, grey = source.image, is_grey(source.image)
        darkness = min(1.0, stops / 2)  # Below two stops the rest comes in by degrees.
        exposure = 0.5**stops
        lights = _find_lights(image, glow * darkness, sky * darkness, grey=grey)
        vignette = _make_vignette(source.size_hw, self.vignetting * darkness)
        color = None if grey else _shift_to_blue(blue * darkness)
        noise = _Noise(electrons, read_noise, rng)
        night = np.empty_like(image)
        for rows in split_rows(image):
            light = np.multiply(image[rows], np.float32(1 / 255), dtype=np.float32)
            light *= light
            if color is not None:
                light = cv2.transform(light, color)
            gain = lights.find_gain(image, rows, exposure)
            gain *= vignette[0][rows] + vignette[1]
            light *= cv2.merge([gain, gain, gain]).reshape(light.shape)
            if lights.glow is not None:
                light += lights.glow[rows]
            noise.add(light, grey=grey)
            light *= np.float32(255 * 255)
            night[rows] = cv2.convertScaleAbs(cv2.sqrt(light, dst=light)).reshape(light.shape)
        return edit_image(source, night)

    def _draw_stops(self, rng: np.random.Generator) -> float:
        if self.stops_range is not None:
            return rng.uniform(*self.stops_range)
        return STOPS_AT_FULL_STRENGTH * rng.uniform(*self.strength_range)

    def replace(self, **options: Any) -> Night:
        """A copy with other options.

        Args:
            **options: Options of the constructor. Strengths alone take the place of `stops_range`.
        """
        return replace_options(self, options, instead={"strength_range": "stops_range"})

    def _options(self) -> dict[str, Any]:
        return {
            "strength_range": None if self.stops_range is not None else self.strength_range,
            "stops_range": self.stops_range,
            "blue_range": self.blue_range,
            "electrons_range": self.electrons_range,
            "read_noise_range": self.read_noise_range,
            "glow_range": self.glow_range,
            "sky_range": self.sky_range,
            "vignetting": self.vignetting,
        }

    def __repr__(self) -> str:
        """All options."""
        return f"Night({', '.join(f'{name}={value!r}' for name, value in self._options().items())})"


@dataclass(frozen=True, eq=False)
class _Lights:
    """What is bright in a picture, and what becomes of its light.

    Args:
        sky: (H, W) float32, 0 where there is no sky: by how much what is bright is dimmed; None for nowhere.
        lamps: (H, W) float32, 0..1; None where there are none.
        glow: (H, W, 3) float32, linear light that is added; None where there are no lamps.
    """

    sky: np.ndarray | None
    lamps: np.ndarray | None
    glow: np.ndarray | None

    def find_gain(self, image: np.ndarray, rows: slice, exposure: float) -> np.ndarray:
        """(h, W) float32, what linear light is multiplied by.

        Sky and what stands before it are told apart by each pixel's own brightness b: the gain is 1 / (1 + sky b^3).
        A mask of the sky, however fine, would leave a bright rim around roofs. b^2 being linear light, the result
        hardly ever falls where b rises, so that the soft edge between the two gets no line of its own either.
        """
        shape = image[rows].shape[:2]
        gain: np.ndarray
        if self.sky is None:
            gain = np.full(shape, exposure, np.float32)
        else:
            gain = cv2.LUT(cv2.cvtColor(image[rows], cv2.COLOR_RGB2GRAY), _CUBES).reshape(shape)
            gain *= self.sky[rows]
            gain += np.float32(1)
            np.divide(np.float32(exposure), gain, out=gain)
        if self.lamps is not None:
            gain += (1 - gain) * self.lamps[rows]
        return gain


def _find_lights(image: np.ndarray, glow: float, sky: float, *, grey: bool) -> _Lights:
    """Find sky and lamps, and the glow of these, in a smaller picture."""
    height, width = image.shape[:2]
    small_wh = max(1, width // SHRINK), max(1, height // SHRINK)
    small = cv2.resize(image, small_wh, interpolation=cv2.INTER_AREA)
    brightness = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    side = max(3, round(LAMP_SHARE * min(small_wh)))

    def enlarge(layer: np.ndarray) -> np.ndarray:
        return cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR)

    dimming = enlarge(_find_sky(brightness, side, sky)) if sky > 0 else None
    lamps = np.clip((brightness.astype(np.float32) - LAMP_LEVEL) / 40, 0, 1) * _find_lamps(brightness, side)
    if not lamps.any():
        return _Lights(dimming, None, None)
    if glow == 0:
        return _Lights(dimming, enlarge(lamps), None)
    colors = np.square(small.astype(np.float32) / 255) * lamps[..., None]
    tint = np.ones(3, np.float32) if grey else np.array(GLOW_TINT, np.float32)
    near, far = max(0.5, min(small_wh) / 40), max(0.5, min(small_wh) / 10)
    halo = cv2.GaussianBlur(colors, (0, 0), near) + 3 * cv2.GaussianBlur(colors, (0, 0), far)
    scattered = enlarge(halo * (tint * np.float32(glow)))
    return _Lights(dimming, enlarge(lamps), scattered.reshape(height, width, 3))


def _find_sky(brightness: np.ndarray, side: int, missing: float) -> np.ndarray:
    """(h, w) float32: the factor of `_Lights.find_gain`, by which a white sky loses the share `missing`."""
    # An opening leaves what is bright over more than a lamp's width, in squares. From there it spreads to all that is
    # bright beside it, into the corners between roofs and the gaps between leaves, but not onto what is darker.
    square = np.ones((side, side), np.uint8)
    sky: np.ndarray = cv2.morphologyEx(brightness, cv2.MORPH_OPEN, square)
    for _ in range(SKY_STEPS):
        sky = cv2.min(cv2.dilate(sky, square), brightness)
    # A little beyond the edge: there the brightness of single pixels decides.
    sky = cv2.blur(cv2.dilate(sky, np.ones((5, 5), np.uint8)), (3, 3))
    share = np.float32(missing) * np.square(sky.astype(np.float32) / 255)
    factor: np.ndarray = share / np.maximum(1 - share, np.float32(0.02))
    return factor


def _find_lamps(brightness: np.ndarray, side: int) -> np.ndarray:
    """(h, w) bool: bright spots no wider than `side`, and not beside larger ones: those are gaps with sky in them."""
    bright = cv2.threshold(brightness, LAMP_LEVEL, 255, cv2.THRESH_BINARY)[1]
    labels: np.ndarray
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    is_lamp = (boxes[:, cv2.CC_STAT_WIDTH] <= side) & (boxes[:, cv2.CC_STAT_HEIGHT] <= side)
    is_large = ~is_lamp
    is_lamp[0] = is_large[0] = False  # what is dark
    if is_large.any():
        beside = cv2.dilate(is_large[labels].view(np.uint8), np.ones((2 * side + 1, 2 * side + 1), np.uint8))
        is_lamp &= np.bincount(labels.ravel(), beside.ravel(), count) == 0
    found: np.ndarray = is_lamp[labels]
    return found


def _make_vignette(size_hw: tuple[int, int], missing: float) -> tuple[np.ndarray, np.ndarray]:
    """(H, 1) and (1, W) float32, whose sum is 1 in the middle and `missing` less in the corners."""
    rows, columns = (
        0.5 - np.float32(missing / 2) * np.square(np.linspace(-1, 1, side, dtype=np.float32)) for side in size_hw
    )
    return rows[:, None], columns[None]


def _shift_to_blue(share: float) -> np.ndarray:
    """(3, 3) float32: from linear RGB to a mix of it with the bluish light that rods see."""
    rods = np.outer(np.array(ROD_TINT, np.float32), _ROD_LUMA)
    mixed: np.ndarray = np.float32(1 - share) * np.eye(3, dtype=np.float32) + np.float32(share) * rods
    return mixed


@dataclass(frozen=True, eq=False)
class _Noise:
    """Shot and read noise: the variance is light x electrons + read noise squared, in electrons."""

    electrons: float
    read_noise: float
    rng: np.random.Generator

    def add(self, light: np.ndarray, *, grey: bool) -> None:
        """Add noise to linear light (h, w, 3) float32, in place, and cut it to 0..1."""
        shape = light.shape[:2] if grey else light.shape
        count = int(np.prod(shape))
        # A byte decides between 256 equally probable values of the normal distribution: far quicker than drawing it.
        raw = np.asarray(self.rng.bit_generator.random_raw(-(-count // 8)), dtype="<u8")
        noise = cv2.LUT(raw.view(np.uint8)[:count].reshape(shape), _NORMAL_VALUES)
        if grey:
            noise = cv2.merge([noise, noise, noise])
        noise = noise.reshape(light.shape)
        np.clip(light, 0, 1, out=light)
        deviation = light * np.float32(1 / self.electrons)
        deviation += np.float32((self.read_noise / self.electrons) ** 2)
        noise *= cv2.sqrt(deviation, dst=deviation)
        light += noise
        np.clip(light, 0, 1, out=light)


def _make_normal_values() -> np.ndarray:
    normal = NormalDist()
    values = np.array([normal.inv_cdf((level + 0.5) / 256) for level in range(256)])
    scaled: np.ndarray = (values / values.std()).astype(np.float32)
    return scaled


_NORMAL_VALUES = _make_normal_values()
