"""Whether a picture has one channel: three equal ones, as the library holds them."""

from __future__ import annotations

import numpy as np

__all__ = ["is_grey"]


def is_grey(image: np.ndarray, /) -> bool:
    """Whether the three channels of an image (H, W, 3) are equal."""
    # One row decides in nearly every colour picture.
    return all(
        np.array_equal(part[..., 0], part[..., 1]) and np.array_equal(part[..., 0], part[..., 2])
        for part in (image[:1], image)
    )
