"""`PasteOptions`: how `CopyPaste` shapes and places objects, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from synthloader.checks import check_choice, check_count, check_fraction, check_range, check_type, reject
from synthloader.generators.pasting.blending import BLENDS
from synthloader.generators.pasting.placement import PLACEMENTS

__all__ = ["FACTORS", "PasteOptions"]

DONOR_SCALES = (0.8, 1.25)
"""`scale_range` of donors of the pool: a factor."""

CUTOUT_SCALES = (0.1, 0.4)
"""`scale_range` of cut-outs: their longer side as a share of the image's shorter side."""

CLASS_SCALES = (0.4, 0.9)
"""The same in classification: what the image is named after should be seen at once."""

CLASS_MIN_VISIBLE = 0.6
"""Least `min_visible` in classification."""

FACTORS = (0.01, 10.0)
"""Least and largest factor by which an object is ever scaled."""


@dataclass(frozen=True, slots=True)
class PasteOptions:
    """What `CopyPaste` means by these options.

    Args:
        num_range: Least and largest number of objects.
        scale_range: A factor, or a share where `is_share`; None for the defaults.
        rotation_range: Degrees.
        flip: Whether half of the objects are mirrored.
        placement: One of `PLACEMENTS`.
        blend: One of `BLENDS`.
        min_visible: Smallest share of an object that may stay visible.
        max_tries: Places tried for each object.
        elastic_range: Displacement as a share of the object's shorter side.
        bottom_range: Bottom edge as a share of the image's height; None: the placement decides.
        is_share: Whether scales are shares of the image's shorter side: those of cut-outs are.

    Raises:
        ValueError: One is out of its bounds.
        TypeError: One has another type.
    """

    num_range: tuple[int, int]
    scale_range: tuple[float, float] | None
    rotation_range: tuple[float, float]
    flip: bool
    placement: str
    blend: str
    min_visible: float
    max_tries: int
    elastic_range: tuple[float, float]
    bottom_range: tuple[float, float] | None
    is_share: bool

    def __post_init__(self) -> None:
        for name in ("scale_range", "bottom_range"):
            value = getattr(self, name)
            if self.placement == "measured" and value is not None:
                remedy = "Sizes and heights are those of real objects."
                reject(name, "be left out with placement='measured'", value, remedy)
        low, high = check_range("num_range", self.num_range, minimum=1, whole=True)
        _set(self, "num_range", (int(low), int(high)))
        if self.scale_range is not None:
            least, largest = (0.01, 1.0) if self.is_share else FACTORS
            _set(self, "scale_range", _check_pair("scale_range", self.scale_range, least, largest))
        _set(self, "rotation_range", _check_pair("rotation_range", self.rotation_range, -180, 180))
        check_type("flip", self.flip, bool)
        check_choice("placement", self.placement, PLACEMENTS)
        check_choice("blend", self.blend, BLENDS)
        _set(self, "min_visible", check_fraction("min_visible", self.min_visible))
        _set(self, "max_tries", check_count("max_tries", self.max_tries))
        _set(self, "elastic_range", _check_pair("elastic_range", self.elastic_range, 0, 0.5))
        if self.bottom_range is not None:
            _set(self, "bottom_range", _check_pair("bottom_range", self.bottom_range, 0, 1))

    def list_parameters(self) -> Mapping[str, Any]:
        """All of them by name, for the fingerprint."""
        return asdict(self)

    def find_scales(self, *, names_image: bool) -> tuple[float, float]:
        """The range of scales; `names_image`: in classification."""
        if self.scale_range is not None:
            return self.scale_range
        if names_image:
            return CLASS_SCALES
        return CUTOUT_SCALES if self.is_share else DONOR_SCALES

    def find_min_visible(self, *, names_image: bool) -> float:
        """The smallest share of an object that may stay visible; `names_image`: in classification."""
        return max(self.min_visible, CLASS_MIN_VISIBLE) if names_image else self.min_visible


def _check_pair(name: str, value: object, minimum: float, maximum: float) -> tuple[float, float]:
    low, high = check_range(name, value, minimum=minimum, maximum=maximum)
    return float(low), float(high)


def _set(instance: object, name: str, value: object) -> None:
    object.__setattr__(instance, name, value)
