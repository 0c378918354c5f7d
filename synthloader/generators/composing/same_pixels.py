"""Whether two pictures are the same."""

from __future__ import annotations

import numpy as np

__all__ = ["are_same_pixels"]


def are_same_pixels(one: np.ndarray, other: np.ndarray, /) -> bool:
    """Whether two images of one size are equal in every pixel."""
    # One row decides in nearly all cases, and comparing whole pictures takes as long as some generators.
    return np.array_equal(one[:1], other[:1]) and np.array_equal(one, other)
