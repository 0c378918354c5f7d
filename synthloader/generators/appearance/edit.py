"""What generators share that change how a picture looks and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from synthloader.checks import check_range
from synthloader.errors import NothingToGenerate
from synthloader.sample import Sample

__all__ = ["check_strength_range", "edit_image", "find_white", "sample_pixels", "split_rows"]

_BLOCK_VALUES = 1 << 16
"""What is computed in float32 from so many values stays in a core's own cache, and no large array is allocated."""


def edit_image(source: Sample, image: np.ndarray, /) -> Sample:
    """The source with another image, and all else its own.

    Raises:
        NothingToGenerate: The image is the source's: an unchanged source never counts as generated.
    """
    # The middle rows differ in nearly every case, and are quick to compare.
    middle = slice(source.image.shape[0] // 2, source.image.shape[0] // 2 + 1)
    if np.array_equal(image[middle], source.image[middle]) and np.array_equal(image, source.image):
        raise NothingToGenerate("no visible change")
    return source.edit(image=image, target=source.target)


def check_strength_range(value: object, /) -> tuple[float, float]:
    """A pair (low, high) in 0..1."""
    low, high = check_range("strength_range", value, minimum=0.0, maximum=1.0)
    return low, high


def split_rows(image: np.ndarray, /, *, max_values: int = _BLOCK_VALUES) -> Iterator[slice]:
    """Blocks of rows to work on one after the other, several times as fast as whole float arrays."""
    height, width = image.shape[:2]
    step = max(1, max_values // (3 * width))
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def sample_pixels(image: np.ndarray, /) -> np.ndarray:
    """(h, w, 3) uint8: a view of pixels on a grid over the picture, a few thousand of them."""
    step_y, step_x = (max(1, side // 48) for side in image.shape[:2])
    return image[::step_y, ::step_x]


def find_white(levels: np.ndarray, /) -> float:
    """The level that 5 % of some numbers lie above: the picture's own white, without single highlights."""
    rank = round(0.95 * (levels.size - 1))
    return float(np.partition(levels, rank, axis=None)[rank])
