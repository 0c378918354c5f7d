"""Histogram matching, as tables from level to level: the whole distribution of each channel of YCrCb.

What is measured is (256, C) uint32: the number of pixels at each level.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["FROM_RGB", "TO_RGB", "are_same", "make_grey_table", "make_table", "measure", "measure_reference"]

# The Y of a grey pixel is its own level, so that one table serves grey pictures without another space.
FROM_RGB, TO_RGB = cv2.COLOR_RGB2YCrCb, cv2.COLOR_YCrCb2RGB


def measure(channels: np.ndarray, /) -> np.ndarray:
    """Histograms of an image (H, W, C) uint8."""
    counts = [cv2.calcHist([channels], [at], None, [256], [0, 256]) for at in range(channels.shape[2])]
    # OpenCV hands out float32, whole up to 16 million pixels of one level; (256, 1) before version 5, (256,) since.
    return np.stack([count.reshape(256) for count in counts], axis=1).astype(np.uint32)


def measure_reference(image: np.ndarray, /) -> np.ndarray:
    """The same of an RGB image."""
    return measure(cv2.cvtColor(image, FROM_RGB))


def are_same(before: np.ndarray, after: np.ndarray, /) -> bool:
    """Whether the shares of all levels are equal: matching would change nothing."""
    here, there = before.astype(np.int64), after.astype(np.int64)
    return np.array_equal(here * there.sum(axis=0), there * here.sum(axis=0))


def make_table(before: np.ndarray, after: np.ndarray, /) -> np.ndarray:
    """(256, C) uint8: the new level of each level of each channel.

    A level goes where the middle of its ranks lies in the reference. At every level, the share of pixels up to it then
    differs from the reference's by at most half of the largest share that one level has in the source: no table from
    level to level can promise less.
    """
    table = np.empty((256, before.shape[1]), np.uint8)
    for channel in range(before.shape[1]):
        here, there = before[:, channel].astype(np.int64), np.cumsum(after[:, channel], dtype=np.int64)
        up_to = np.cumsum(here)
        # Ranks as whole numbers: (up_to - here / 2) / up_to[-1] against there / there[-1], both by 2 N M.
        table[:, channel] = np.searchsorted(2 * up_to[-1] * there, (2 * up_to - here) * there[-1])
    return table


def make_grey_table(before: np.ndarray, after: np.ndarray, /) -> np.ndarray:
    """(256,) uint8 from grey to grey."""
    return make_table(before, after)[:, 0]
