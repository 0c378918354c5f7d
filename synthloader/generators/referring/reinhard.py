"""Reinhard's transfer of colours, as tables from level to level: the mean and the deviation of each channel of Lab.

What is measured is (2, C) float64: means and standard deviations in 8-bit levels.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["FROM_RGB", "TO_RGB", "are_same", "make_grey_table", "make_table", "measure", "measure_reference"]

FROM_RGB, TO_RGB = cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB

STRIP_PIXELS = 1 << 15
"""Squares are summed so many pixels at a time, so that they stay in the processor's cache."""


def measure(lab: np.ndarray, /) -> np.ndarray:
    """Means and standard deviations of an image (H, W, 3) uint8; `cv2.meanStdDev` in half of its time."""
    height, width, num_channels = lab.shape
    num_rows = max(1, STRIP_PIXELS // width)
    squares = np.zeros(4)
    for top in range(0, height, num_rows):
        strip = lab[top : top + num_rows].astype(np.uint16)
        squares += cv2.sumElems(np.multiply(strip, strip, out=strip))
    # Sums of whole numbers, hence exact, whatever the strips.
    mean = np.array(cv2.sumElems(lab)) / (height * width)
    deviation = np.sqrt(np.maximum(squares / (height * width) - mean * mean, 0))
    return np.stack([mean, deviation])[:, :num_channels]


def measure_reference(image: np.ndarray, /) -> np.ndarray:
    """The same of an RGB image."""
    return measure(cv2.cvtColor(image, FROM_RGB))


def are_same(before: np.ndarray, after: np.ndarray, /) -> bool:
    """Whether a transfer would change nothing."""
    return np.array_equal(before, after)


def make_table(before: np.ndarray, after: np.ndarray, /) -> np.ndarray:
    """(256, C) uint8: the new level of each level of each channel."""
    table: np.ndarray = np.rint(_map_levels(np.arange(256.0), before, after)).astype(np.uint8)
    return table


def make_grey_table(before: np.ndarray, after: np.ndarray, /) -> np.ndarray:
    """(256,) uint8 from grey to grey, by way of the lightness, unrounded on the way."""
    greys = np.repeat(np.arange(256, dtype=np.float32)[None, :, None] / 255, 3, axis=2)
    lightness = cv2.cvtColor(greys, cv2.COLOR_RGB2LAB)[0, :, 0] * 2.55
    lab = np.zeros((1, 256, 3), np.float32)
    lab[0, :, 0] = _map_levels(lightness, before, after)[:, 0] / 2.55
    new_greys = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)[0, :, 1]
    table: np.ndarray = np.rint(np.clip(new_greys, 0, 1) * 255).astype(np.uint8)
    return table


def _map_levels(levels: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(L, C): `(level - mean) * ratio + mean of the reference`, unrounded."""
    ratio = np.where(before[1] < 1, 1, after[1] / np.maximum(before[1], 1))
    mapped: np.ndarray = np.clip((levels[:, None] - before[0]) * ratio + after[0], 0, 255)
    return mapped
