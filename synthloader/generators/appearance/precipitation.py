"""Drops and flakes in front of a picture: many short strokes drawn at once, and the light that they scatter."""

from __future__ import annotations

import cv2
import numpy as np

from synthloader.conditions.depth import GroundPlane
from synthloader.generators.appearance.edit import split_rows
from synthloader.generators.appearance.grey import is_grey

__all__ = ["add_veil", "blend_light", "draw_dots", "draw_strokes", "fit_drawing"]

CAMERA_HEIGHT_M = 6.0
"""Of the plane that says how far one sees through rain or snow."""

_BLOCK_VALUES = 1 << 17
"""Values of a block: bytes, of which more find room in a core's own cache."""

_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)

_SHIFT = 3
"""Binary digits of a pixel's fraction in OpenCV's line drawing."""


def fit_drawing(size_hw: tuple[int, int], /, *, max_side: int) -> tuple[int, int]:
    """Height and width of the layer to draw for a picture of this size: its shorter side has `max_side` at most."""
    height, width = size_hw
    ratio = min(1.0, max_side / min(height, width))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def draw_strokes(
    layer: np.ndarray, /, centres: np.ndarray, lengths: np.ndarray, *, angle: float, opacity: float, width: int = 1
) -> None:
    """Draw strokes of one direction into a layer, in place, smooth to a fraction of a pixel.

    Args:
        layer: (h, w) uint8, opacity in 1/255.
        centres: (N, 2) floats, column and row.
        lengths: (N,) floats, pixels.
        angle: Radians from the vertical; positive leans to the right at the bottom.
        opacity: 0..1, of all strokes.
        width: Pixels.
    """
    value = round(255 * min(opacity, 1.0))
    if value == 0 or len(centres) == 0:
        return
    half = np.array([np.sin(angle), np.cos(angle)], np.float32) * (lengths[:, None] * np.float32(0.5))
    ends = np.stack([centres - half, centres + half], axis=1)
    points = np.rint(ends * np.float32(1 << _SHIFT)).astype(np.int32)
    cv2.polylines(layer, list(points), False, value, width, cv2.LINE_AA, _SHIFT)


def draw_dots(layer: np.ndarray, /, centres: np.ndarray, *, opacity: float, width: int = 1) -> None:
    """Draw square dots into a layer, in place, at whole pixels: far quicker than strokes.

    Args:
        layer: (h, w) uint8, opacity in 1/255.
        centres: (N, 2) floats, column and row, inside the layer.
        opacity: 0..1.
        width: Pixels.
    """
    columns, rows = centres.astype(np.intp).T
    height, across = layer.shape
    value = round(255 * min(opacity, 1.0))
    for down in range(width):
        for right in range(width):
            layer[np.minimum(rows + down, height - 1), np.minimum(columns + right, across - 1)] = value


def add_veil(layer: np.ndarray, /, *, extinction_per_m: float, horizon: float, max_distance_m: float) -> None:
    """Add what is too far to be seen one by one to a layer, in place: a veil that grows denser towards the horizon.

    Args:
        layer: (h, w) uint8, opacity in 1/255.
        extinction_per_m: Of the air, in 1 / metres.
        horizon: Its row as a share of the height.
        max_distance_m: Metres of the horizon and all above it.
    """
    plane = GroundPlane(horizon, camera_height_m=CAMERA_HEIGHT_M, max_distance_m=max_distance_m)
    opacity = 255 * (1 - np.exp(-extinction_per_m * plane.measure(len(layer))))
    veil = np.rint(opacity).astype(np.uint8)[:, None]
    np.minimum(layer, 255 - veil, out=layer)
    layer += veil


def blend_light(image: np.ndarray, layer: np.ndarray, /, *, light: int, dimming: float) -> np.ndarray:
    """Put a picture in the light under clouds, and lay scattered light over it.

    Args:
        image: (H, W, 3) uint8.
        layer: (h, w) uint8, opacity in 1/255 of the scattered light; enlarged where it is smaller than the picture.
        light: 0..255. Darker pixels move towards it, by the opacity; brighter ones stay as they are.
        dimming: 0..1, the share of display values that the clouds take, and half as much again of the colour.

    Returns:
        (H, W, 3) uint8; equal channels stay equal.
    """
    height, width = image.shape[:2]
    if layer.shape != (height, width):
        layer = cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR)
    grey = is_grey(image)
    faded = min(1.0, 1.5 * dimming)
    fading = np.float32(1 - dimming) * (np.float32(1 - faded) * np.eye(3, dtype=np.float32) + np.float32(faded) * _LUMA)
    blended = np.empty_like(image)
    lights = lacking = opacity = np.empty((0, 0, 3), np.uint8)
    for rows in split_rows(image, max_values=_BLOCK_VALUES):
        dimmed = blended[rows]
        if rows.start == 0:  # The first block is the largest: one allocation serves all.
            lights = np.full_like(dimmed, light)
            lacking, opacity = np.empty_like(dimmed), np.empty_like(dimmed)
        count = len(dimmed)
        # The three rows of `fading` are rounded each in its own way: no way to keep grey pictures grey.
        if grey:
            cv2.convertScaleAbs(image[rows], dst=dimmed, alpha=1 - dimming)
        else:
            cv2.transform(image[rows], fading, dst=dimmed)
        cv2.cvtColor(layer[rows], cv2.COLOR_GRAY2RGB, dst=opacity[:count])
        cv2.subtract(lights[:count], dimmed, dst=lacking[:count])  # 0 where the picture is brighter
        cv2.multiply(lacking[:count], opacity[:count], dst=lacking[:count], scale=1 / 255)
        np.add(dimmed, lacking[:count], out=dimmed)  # at most 255: nothing to saturate
    return blended
