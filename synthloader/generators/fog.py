"""`Fog`: light scattered on the way from the scene, more of it the farther away something is."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import cv2
import numpy as np

from synthloader.checks import check_choice, check_fraction, check_range, check_type, reject
from synthloader.conditions.depth import (
    DEPTH_KINDS,
    GroundPlane,
    check_positive,
    check_positive_range,
    convert_depth,
)
from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators.appearance.edit import (
    check_strength_range,
    edit_image,
    find_white,
    sample_pixels,
    split_rows,
)
from synthloader.generators.appearance.grey import is_grey
from synthloader.generators.composing.replacing import replace_options
from synthloader.generators.labelling.contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["Fog"]

VISIBILITY_CONTRAST = 3.912
"""-ln(0.02): Koschmieder's visibility is where 2 % of the contrast is left."""

VISIBILITY_AT_FULL_STRENGTH_M = 40.0
"""Visibility in metres at strength 1; a strength s gives this divided by s squared, and 0 no fog."""

_MAX_OPTICAL_DEPTH = 80.0
"""What lies deeper is hidden; infinite distances stay out of the arithmetic."""

PATCHES_HW = (4, 5)
"""Cells of the random field by which the fog varies over the picture."""


class Fog:
    """Veil the source in fog, by the distance of every pixel; nothing moves, so every label stays true.

    The light that arrives is I = J t + A (1 - t): J the scene, A the airlight, t = exp(-beta d) the transmission over
    the distance d. It is computed in linear light, with the square as the display's curve. beta is 3.912 divided by the
    meteorological visibility, the distance at which 2 % of the contrast is left.

    Distances come from the source's map `depth_map` or from the detector `depth`, whichever is given; else from a map
    by the name "depth", where the source has one; else from a plane (see `GroundPlane`): the ground below a horizon,
    and what is above it far away.

    Strong fog hides far objects whose labels stay. `min_transmission` leaves a trace of all of them; where that is too
    little to learn from, lower the strength, or drop such objects with a filter.

    Args:
        strength_range: 0..1. Visibility is 40 m / strength squared: 1000 m (where meteorologists begin to say fog) at
            0.2, 160 m at 0.5, 111 m at 0.6.
        visibility_range: Metres, above 0, instead of strengths; drawn evenly in 1 / visibility.
        airlight: Colour of the fog, RGB in 0..255. None: as bright as `airlight_range` says, with a little of the
            colour of the picture's bright parts. On a one-channel picture it is grey.
        airlight_range: Brightness of the fog, 0..1, as a share of a white that follows the picture's own: a picture
            taken at dusk gets a darker fog.
        horizon_range: Row of the horizon as a share of the height, for sources without depth.
        camera_height_range: Metres above the ground, above 0, for sources without depth.
        max_distance_m: Metres of the horizon and all above it, for sources without depth.
        patchiness_range: By how much the density varies over the picture, 0..1; 0 is even fog.
        min_transmission: Smallest share of the scene's own light that stays, 0..1.
        depth: Detector of depth: takes an image (H, W, 3) uint8, RGB, and returns a map (H, W) of the kind
            `depth_kind`. It must be a function of a module, or have an attribute `fingerprint` (a string): two
            detectors that differ in a state or a setting have one name and would share their cached pictures. Not
            together with `depth_map`.
        depth_map: Name of the source's map, which every source must have then. None: the map "depth" of sources that
            have one, unless there is a detector.
        depth_kind: What the numbers of map and detector say: "metric", "inverse", "relative" or "relative_inverse"
            (MiDaS, Depth Anything); see `convert_depth`.
        depth_scale: What metric and inverse maps are multiplied by to give metres or 1 / metres.
        distance_range: Metres of the nearest and farthest part of a relative map.

    Raises:
        ValueError: An option is out of its range, `depth` cannot be named, or both it and `depth_map` are given.
        TypeError: An option has another type.

    Source:
        Koschmieder 1924, "Theorie der horizontalen Sichtweite"; used so by Sakaridis, Dai, Van Gool 2018, "Semantic
        foggy scene understanding with synthetic data". They blend display values and need depth; ours blends linear
        light, varies the density, caps the transmission, and falls back to a plane.

    Example:
        >>> from synthloader.seeds import make_rng
        >>> road = Sample(np.zeros((4, 4, 3), np.uint8))
        >>> fog = Fog(visibility_range=(60, 60), airlight=(200, 200, 200), patchiness_range=(0, 0))
        >>> made = fog.generate(road, rng=make_rng(0, "road.png", 0, 0))
        >>> bool(made.image[0, 0, 0] > made.image[3, 0, 0])
        True
    """

    keeps: frozenset[type[Target]] = frozenset({ClassLabel, Instances, SemanticMask})

    NOT_IN_RECIPES = ("depth",)

    def __init__(
        self,
        *,
        strength_range: tuple[float, float] = (0.2, 0.5),
        visibility_range: tuple[float, float] | None = None,
        airlight: tuple[float, float, float] | None = None,
        airlight_range: tuple[float, float] = (0.75, 0.95),
        horizon_range: tuple[float, float] = (0.3, 0.5),
        camera_height_range: tuple[float, float] = (2.0, 10.0),
        max_distance_m: float = 80.0,
        patchiness_range: tuple[float, float] = (0.0, 0.3),
        min_transmission: float = 0.1,
        depth: Callable[[np.ndarray], np.ndarray] | None = None,
        depth_map: str | None = None,
        depth_kind: str = "metric",
        depth_scale: float = 1.0,
        distance_range: tuple[float, float] = (3.0, 150.0),
    ) -> None:
        self.strength_range = check_strength_range(strength_range)
        self.visibility_range = visibility_range
        if visibility_range is not None:
            self.visibility_range = check_positive_range("visibility_range", visibility_range)
        self.airlight = None if airlight is None else _check_color("airlight", airlight)
        self.airlight_range = check_range("airlight_range", airlight_range, minimum=0.0, maximum=1.0)
        self.horizon_range = check_range("horizon_range", horizon_range)
        self.camera_height_range = check_positive_range("camera_height_range", camera_height_range)
        self.max_distance_m = check_positive("max_distance_m", max_distance_m)
        self.patchiness_range = check_range("patchiness_range", patchiness_range, minimum=0.0, maximum=1.0)
        self.min_transmission = check_fraction("min_transmission", min_transmission)
        self._depth_name = None if depth is None else _name_detector(depth)
        self.depth = depth
        if depth_map is not None:
            check_type("depth_map", depth_map, str)
            if depth is not None:
                reject("depth_map", "be None where a detector is given", depth_map, "Give depth= or depth_map=.")
        self.depth_map = depth_map
        self.depth_kind = check_choice("depth_kind", depth_kind, DEPTH_KINDS)
        self.depth_scale = check_positive("depth_scale", depth_scale)
        self.distance_range = check_positive_range("distance_range", distance_range)

    @property
    def fingerprint(self) -> str:
        """Name, version and every parameter, the detector by its own fingerprint."""
        return make_fingerprint("Fog", 1, **self._options())

    def check_source(self, source: Sample, /) -> None:
        """Refuse a source without the map that was named.

        Raises:
            LabelContractError: The message names the maps that there are.
        """
        if self.depth_map is not None and self.depth_map not in source.maps:
            there_are = f"It has {', '.join(map(repr, sorted(source.maps)))}." if source.maps else "It has no maps."
            reject(
                "depth_map",
                "be a map of every source",
                self.depth_map,
                f"{there_are} Give depth= instead, or leave both out for distances from a plane.",
                error=LabelContractError,
            )

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Veil one source.

        Args:
            source: Any sample.
            rng: Draws strength, airlight, plane and patches.

        Returns:
            The sample with another image; target, maps and metadata are the source's own objects.

        Raises:
            LabelContractError: The source lacks the map that was named.
            NothingToGenerate: The strength is 0, all is too near for fog, or the depth map is empty.
            ValueError: The depth map is not of the stated kind.
        """
        check_kept("Fog", self.keeps, source)
        self.check_source(source)
        extinction = self._draw_extinction(rng)
        brightness = rng.uniform(*self.airlight_range)
        plane = GroundPlane(
            horizon=rng.uniform(*self.horizon_range),
            camera_height_m=rng.uniform(*self.camera_height_range),
            max_distance_m=self.max_distance_m,
        )
        patchiness = rng.uniform(*self.patchiness_range)
        patches = rng.standard_normal(PATCHES_HW, dtype=np.float32)
        if extinction == 0:
            raise NothingToGenerate("strength is 0")
        distances = self._find_distances(source, plane)
        patches *= np.float32(patchiness)
        transmission = _find_transmission(distances, extinction, patches, source.size_hw, self.min_transmission)
        airlight = self._find_airlight(source.image, brightness)
        return edit_image(source, _blend(source.image, transmission, airlight))

    def _draw_extinction(self, rng: np.random.Generator) -> float:
        """Extinction coefficient in 1 / metres."""
        if self.visibility_range is not None:
            low, high = self.visibility_range
            return VISIBILITY_CONTRAST * rng.uniform(1 / high, 1 / low)
        strength = rng.uniform(*self.strength_range)
        return VISIBILITY_CONTRAST * strength**2 / VISIBILITY_AT_FULL_STRENGTH_M

    def _find_distances(self, source: Sample, plane: GroundPlane) -> np.ndarray:
        """(H, W) or, of a plane, (H, 1) float32 metres."""
        name = "depth" if self.depth_map is None else self.depth_map
        if self.depth is None and name in source.maps:
            return self._convert(source.maps[name], f"maps[{name!r}]")
        if self.depth is not None:
            found = self.depth(source.image.copy())  # its own: a detector may work in place
            if isinstance(found, np.ndarray) and found.shape != source.size_hw:
                reject("depth", f"return a map of the image's height and width {source.size_hw}", found.shape)
            return self._convert(found, "depth")
        return plane.measure(source.size_hw[0])[:, None]

    def _convert(self, values: np.ndarray, name: str) -> np.ndarray:
        return convert_depth(
            values, kind=self.depth_kind, scale=self.depth_scale, distance_range=self.distance_range, name=name
        )

    def _find_airlight(self, image: np.ndarray, brightness: float) -> np.ndarray:
        """(3,) float32 in 0..255; three equal numbers for a one-channel picture."""
        grey = is_grey(image)
        if self.airlight is not None:
            given = np.array(self.airlight, np.float32)
            return np.full(3, (given * _LUMA).sum(), np.float32) if grey else given
        return _estimate_airlight(image, brightness, grey=grey)

    def replace(self, **options: Any) -> Fog:
        """A copy with other options.

        Args:
            **options: Options of the constructor. Strengths alone take the place of `visibility_range`.
        """
        return replace_options(self, options, instead={"strength_range": "visibility_range"})

    def _options(self) -> dict[str, Any]:
        return {
            "strength_range": None if self.visibility_range is not None else self.strength_range,
            "visibility_range": self.visibility_range,
            "airlight": self.airlight,
            "airlight_range": self.airlight_range,
            "horizon_range": self.horizon_range,
            "camera_height_range": self.camera_height_range,
            "max_distance_m": self.max_distance_m,
            "patchiness_range": self.patchiness_range,
            "min_transmission": self.min_transmission,
            "depth": self._depth_name,
            "depth_map": self.depth_map,
            "depth_kind": self.depth_kind,
            "depth_scale": self.depth_scale,
            "distance_range": self.distance_range,
        }

    def __repr__(self) -> str:
        """All options."""
        return f"Fog({', '.join(f'{name}={value!r}' for name, value in self._options().items())})"


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _check_color(name: str, value: Any) -> tuple[float, float, float]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        reject(name, "be three numbers (red, green, blue)", value, error=TypeError)
    for channel in value:
        check_range(name, (0, channel), minimum=0.0, maximum=255.0)
    red, green, blue = value
    return (red, green, blue)


def _name_detector(depth: Any) -> str:
    """What stands for a detector in the fingerprint."""
    if not callable(depth):
        reject("depth", "be a function from an image to a depth map", depth, error=TypeError)
    given = getattr(depth, "fingerprint", None)
    if isinstance(given, str) and given:
        return given
    # Methods, closures, lambdas, partials and objects share one name with others that know other numbers.
    if not isinstance(depth, FunctionType) or depth.__closure__ or "<" in depth.__qualname__:
        reject(
            "depth",
            "have an attribute fingerprint or be a function of a module",
            depth,
            "Give it a string `fingerprint` that changes when its output would.",
        )
    return f"{depth.__module__}.{depth.__qualname__}"


def _find_transmission(
    distances: np.ndarray, extinction: float, patches: np.ndarray, size_hw: tuple[int, int], minimum: float
) -> np.ndarray:
    """(H, W) float32 in `minimum`..1, from distances of all pixels or of rows alone."""
    height, width = size_hw
    # Rows alone vary along a row by their patches only, which a few columns can hold.
    num_columns = width if distances.shape[1] > 1 else min(width, 16 * patches.shape[1])
    if patches.any():
        # The density varies by a factor, as often above 1 as below. In two steps: bent curves are costly.
        some_wh = min(num_columns, 16 * patches.shape[1]), min(height, 16 * patches.shape[0])
        density = cv2.resize(np.exp(patches), some_wh, interpolation=cv2.INTER_CUBIC)
        exponent: np.ndarray = cv2.resize(density, (num_columns, height), interpolation=cv2.INTER_LINEAR)
        np.maximum(exponent, np.float32(0.1), out=exponent)
        exponent *= distances
    else:
        exponent = np.repeat(distances, num_columns // distances.shape[1], axis=1)
    exponent *= np.float32(-extinction)
    np.maximum(exponent, np.float32(-_MAX_OPTICAL_DEPTH), out=exponent)
    transmission: np.ndarray = cv2.exp(exponent, dst=exponent)
    np.maximum(transmission, np.float32(minimum), out=transmission)
    if num_columns < width:
        transmission = cv2.resize(transmission, (width, height), interpolation=cv2.INTER_LINEAR)
    return transmission.reshape(size_hw)


def _estimate_airlight(image: np.ndarray, brightness: float, *, grey: bool) -> np.ndarray:
    colors = sample_pixels(image).reshape(-1, 3).astype(np.float32)
    luma = colors[:, 0] * _LUMA[0] + colors[:, 1] * _LUMA[1] + colors[:, 2] * _LUMA[2]
    white = find_white(luma)
    level = brightness * np.sqrt(max(white, 1.0) * 255)
    if grey:
        return np.full(3, level, np.float32)
    bright = colors[luma >= 0.8 * white].mean(axis=0)
    tint = bright / max(float((bright * _LUMA).sum()), 1.0) - 1
    airlight: np.ndarray = np.clip(level * (1 + 0.35 * tint), 0, 255).astype(np.float32)
    return airlight


def _blend(image: np.ndarray, transmission: np.ndarray, airlight: np.ndarray) -> np.ndarray:
    """I = J t + A (1 - t), in squares of 8-bit levels.

    Args:
        image: (H, W, 3) uint8.
        transmission: (H, W) float32, 0..1.
        airlight: (3,) float32 in 0..255.
    """
    height, width = transmission.shape
    values = image.reshape(height, width * 3)
    scattered = np.tile(np.square(airlight), width)[None]
    blended = np.empty_like(values)
    buffer = np.empty((0, 0), np.float32)
    for rows in split_rows(image):
        if buffer.size == 0:  # The first block is the largest: one allocation serves all.
            buffer = np.empty(values[rows].shape, np.float32)
        part = transmission[rows]
        light = buffer[: len(part)]
        np.copyto(light, values[rows])
        light *= light
        light -= scattered
        light *= cv2.merge([part, part, part]).reshape(light.shape)
        light += scattered
        cv2.convertScaleAbs(cv2.sqrt(light, dst=light), dst=blended[rows])
    return blended.reshape(image.shape)
