"""How the pixels of a pasted object meet the picture: `hard`, `gaussian`, `poisson` or `multiband`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np

from synthloader.generators.pasting.poisson import solve_membrane

__all__ = ["BLENDS", "MARGINS", "PADDING", "blend_into"]

BLENDS = ("hard", "gaussian", "poisson", "multiband")

CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)

NUM_BANDS = 2
"""Bands above the coarsest picture of `multiband`."""

REACH = 4 * (2**NUM_BANDS - 1)
"""How far `multiband` reaches in pixels: each step of a pyramid sees two pixels of its own grid, down and up."""

MARGINS: Mapping[str, int] = MappingProxyType({"hard": 0, "gaussian": 0, "poisson": 0, "multiband": REACH})
"""How many pixels around the mask a blend may change; 0: the mask is exactly what changes."""

PADDING: Mapping[str, int] = MappingProxyType({"hard": 0, "gaussian": 1, "poisson": 1, "multiband": REACH})
"""How many pixels of the picture around the mask a blend wants to see, as far as there are any."""

FEATHER_SHARE = 0.02
"""Standard deviation of the feathered edge, as a share of the object's side (the root of its area)."""

FEATHER_RANGE = (0.5, 4.0)
"""Bounds of that standard deviation in pixels."""


def blend_into(picture: np.ndarray, donor: np.ndarray, mask: np.ndarray, /, *, how: str) -> None:
    """Paste an object into a part of a picture, in place.

    All three show the same window: the mask's tight box, grown by `PADDING[how]` pixels and clipped by the image. So
    where the mask touches a side of the window while the padding is at least 1, the image ends there.

    * `hard`: the donor's pixels.
    * `gaussian`: the edge is feathered inwards. The weight of the donor is the mask, blurred by 2 % of the object's
      side (0.5 to 4 pixels), but at least one half on the mask and 0 outside: label and pixels agree exactly. Where the
      image cuts the object off, the edge is not feathered.
    * `poisson`: the object keeps its gradients and takes the picture's colours from its outline. Exactly on the mask:
      the gradient across the outline is 0, and the image's border is a free end. A mask that fills the window has
      no outline, and is pasted hard.
    * `multiband`: fine details meet at once, coarse ones over up to `MARGINS["multiband"]` pixels on both sides.
      Outside its mask the donor is continued smoothly. Objects of less than 3 pixels in height or width have no coarse
      details, and are pasted hard.

    Args:
        picture: (h, w, 3) uint8, a writable view of the image; need not be contiguous.
        donor: (h, w, 3) uint8; what lies outside the mask does not count.
        mask: (h, w) bool, the visible pixels of the object.
        how: One of `BLENDS`.

    Source:
        gaussian: Dwibedi, Misra, Hebert 2017, "Cut, paste and learn"; theirs blurs the mask to both sides. poisson:
        Perez, Gangnet, Blake 2003, "Poisson image editing"; theirs takes the donor's gradient across the outline too,
        which here would be that of another background. multiband: Burt, Adelson 1983, "A multiresolution spline with
        application to image mosaics"; theirs has both pictures everywhere.

    Example:
        >>> picture, donor = np.zeros((3, 4, 3), np.uint8), np.full((3, 4, 3), 9, np.uint8)
        >>> blend_into(picture, donor, np.eye(3, 4, dtype=bool), how="hard")
        >>> picture[..., 0].tolist()
        [[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]]
    """
    _BLENDERS[how](picture, donor, mask)


def _blend_hard(picture: np.ndarray, donor: np.ndarray, mask: np.ndarray) -> None:
    cv2.copyTo(donor, mask.view(np.uint8), picture)


def _blend_gaussian(picture: np.ndarray, donor: np.ndarray, mask: np.ndarray) -> None:
    opaque = mask.view(np.uint8) * np.uint8(255)
    side = math.sqrt(cv2.countNonZero(opaque))
    sigma = min(max(FEATHER_SHARE * side, FEATHER_RANGE[0]), FEATHER_RANGE[1])
    taps = 2 * math.ceil(2.5 * sigma) + 1
    # Of bytes, so that OpenCV counts in whole numbers, which come out the same everywhere.
    weight = cv2.GaussianBlur(opaque, (taps, taps), sigma, borderType=cv2.BORDER_REPLICATE)
    np.maximum(weight, 128, out=weight)
    np.copyto(weight, 0, where=~mask)
    weights = cv2.merge([weight, weight, weight]).astype(np.uint16)
    mixed = donor * weights
    mixed += picture * (np.uint16(255) - weights)
    mixed += np.uint16(127)
    picture[...] = mixed // np.uint16(255)


def _blend_poisson(picture: np.ndarray, donor: np.ndarray, mask: np.ndarray) -> None:
    if mask.all():
        _blend_hard(picture, donor, mask)
        return
    outside = ~mask
    # Newly made and therefore 0 inside the mask.
    around = cv2.copyTo(picture, outside.view(np.uint8))
    values: np.ndarray = cv2.filter2D(around, cv2.CV_32F, CROSS, borderType=cv2.BORDER_CONSTANT)
    counts: np.ndarray = cv2.filter2D(outside.view(np.uint8), cv2.CV_32F, CROSS, borderType=cv2.BORDER_CONSTANT)
    counts *= mask
    # Around the mask the donor is continued by its nearest pixel, so the gradient across the outline is 0.
    values *= cv2.merge([mask.view(np.uint8)] * 3)
    values -= donor * cv2.merge([counts] * 3)
    membrane = solve_membrane(mask, values, counts)
    cv2.copyTo(cv2.add(donor, membrane, dtype=cv2.CV_8U), mask.view(np.uint8), picture)


def _blend_multiband(picture: np.ndarray, donor: np.ndarray, mask: np.ndarray) -> None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if min(rows[-1] - rows[0], columns[-1] - columns[0]) < 2:
        _blend_hard(picture, donor, mask)
        return
    weight = mask.astype(np.float32)
    donor = _continue_outwards(donor * weight[..., None], weight)
    weights: list[np.ndarray] = [weight]
    changes: list[np.ndarray] = [donor - picture]
    for _ in range(NUM_BANDS):
        weights.append(cv2.pyrDown(weights[-1]))
        changes.append(cv2.pyrDown(changes[-1]))
    # Pyramids are linear: that of the difference is the difference of both, and the picture's own is left alone.
    blended = changes[-1] * weights[-1][..., None]
    for at in reversed(range(NUM_BANDS)):
        band = changes[at]
        size_wh = (band.shape[1], band.shape[0])
        blended = cv2.pyrUp(blended, dstsize=size_wh)
        blended += (band - cv2.pyrUp(changes[at + 1], dstsize=size_wh)) * weights[at][..., None]
    blended += picture
    picture[...] = _round(blended)


def _continue_outwards(donor: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The donor, (h, w, 3) float32, 0 outside its mask, continued by averages of what is near: pull and push."""
    if min(weight.shape) == 1 or weight.all():
        return donor
    size_wh = (weight.shape[1], weight.shape[0])
    coarse_weight = cv2.pyrDown(weight)
    coarse = cv2.pyrDown(donor)
    known = np.minimum(coarse_weight * 4, 1)
    coarse *= np.divide(known, coarse_weight, out=np.zeros_like(known), where=coarse_weight > 0)[..., None]
    far: np.ndarray = cv2.pyrUp(_continue_outwards(coarse, known), dstsize=size_wh)
    far *= (1 - weight)[..., None]
    far += donor
    return far


def _round(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = cv2.convertScaleAbs(np.maximum(values, 0, out=values))
    return rounded


_BLENDERS: Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray], None]] = {
    "hard": _blend_hard,
    "gaussian": _blend_gaussian,
    "poisson": _blend_poisson,
    "multiband": _blend_multiband,
}
