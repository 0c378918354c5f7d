"""Masks as COCO's compressed run lengths, which hold every mask exactly: holes, several parts and all."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["encode_mask"]


def encode_mask(mask: np.ndarray, /) -> dict[str, Any]:
    """Compressed run lengths of a mask, by pycocotools.

    Args:
        mask: (H, W) bool.

    Returns:
        `size`, height and width in pixels, and `counts`, a string.

    Example:
        >>> encode_mask(np.array([[False, True], [False, True]]))
        {'size': [2, 2], 'counts': '22'}
    """
    from pycocotools import mask as coco_mask  # type: ignore[import-untyped, unused-ignore]

    encoded: Any = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
    return {"size": [int(side) for side in mask.shape], "counts": encoded["counts"].decode("ascii")}
