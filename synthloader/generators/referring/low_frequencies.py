"""The low frequencies of a picture, and a picture with other ones: what lies in a centred square of the spectrum.

A square of half-width k is (2 k + 1, k + 1, C) complex64: rows are the vertical frequencies -k..k, columns the
horizontal ones 0..k in cycles per image; those of -k..-1 follow from them, because pictures are real. Values are in
8-bit levels (divided by the number of pixels), so that squares of pictures of different sizes can be compared.

Only the square is ever computed: transforms of rows are cut to k + 1 columns before the columns are transformed, and a
picture with other low frequencies is the old one plus the inverse transform of what was added in the square.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

__all__ = ["add_low_frequencies", "read_low_frequencies"]

STRIP_PIXELS = 1 << 16
"""Rows are transformed so many pixels at a time, so that what is intermediate stays in the processor's cache."""


def read_low_frequencies(image: np.ndarray, half_width: int, /) -> np.ndarray:
    """The square of an image.

    Args:
        image: (H, W, C) uint8.
        half_width: k, at most half of the shorter side.

    Returns:
        (2 k + 1, k + 1, C) complex64, in levels.
    """
    from scipy import fft

    height, width, num_channels = image.shape
    columns = np.empty((height, half_width + 1, num_channels), np.complex64)
    for rows in _walk_strips(height, width):
        spectrum: Any = fft.rfft(image[rows].astype(np.float32), axis=1)
        columns[rows] = spectrum[:, : half_width + 1]
    spectrum = fft.fft(columns, axis=0)
    square: np.ndarray = spectrum[_find_rows(half_width, height)] / np.float32(height * width)
    return square


def add_low_frequencies(image: np.ndarray, square: np.ndarray, /) -> np.ndarray:
    """An image plus the picture that has these low frequencies and no others, rounded and clipped to 0..255.

    Args:
        image: (H, W, C) uint8.
        square: (2 k + 1, k + 1, C) complex64, in levels.
    """
    from scipy import fft

    height, width, num_channels = image.shape
    half_width = square.shape[1] - 1
    columns = np.zeros((height, half_width + 1, num_channels), np.complex64)
    columns[_find_rows(half_width, height)] = square * np.float32(height * width)
    whole_columns: Any = fft.ifft(columns, axis=0, overwrite_x=True)
    made = np.empty_like(image)
    for rows in _walk_strips(height, width):
        added: Any = fft.irfft(whole_columns[rows], n=width, axis=1)
        cv2.add(image[rows], added, dst=made[rows], dtype=cv2.CV_8U)
    return made


def _find_rows(half_width: int, height: int) -> np.ndarray:
    """Where the frequencies -k..k stand; -k and k are one row where k is half of the height."""
    rows: np.ndarray = np.arange(-half_width, half_width + 1) % height
    return rows


def _walk_strips(height: int, width: int) -> list[slice]:
    num_rows = max(1, STRIP_PIXELS // width)
    return [slice(top, top + num_rows) for top in range(0, height, num_rows)]
