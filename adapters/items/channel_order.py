"""Arrays with the channels first, as segmentation_models_pytorch's data sets give them.

An array (3, H, W) is looked at as a tensor of the same memory, which has its channels first by custom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = ["from_tensor", "has_channels_first", "to_tensor"]


def has_channels_first(image: Any, /) -> bool:
    """Whether it is an array (3, H, W) or (1, H, W), and cannot be (H, W, 3) or (H, W, 1)."""
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        return False
    return image.shape[0] in (1, 3) and image.shape[2] not in (1, 3)


def to_tensor(image: Any, /) -> Any:
    """The image itself, or a tensor where it is an array with the channels first; no memory is copied if possible."""
    if not has_channels_first(image):
        return image
    is_plain = image.flags.writeable and all(stride > 0 for stride in image.strides)
    return torch.from_numpy(image if is_plain else image.copy())


def from_tensor(image: Any, /, *, like: Any) -> Any:
    """What `to_tensor` was given: an array where `like` is one with the channels first."""
    return image.numpy() if has_channels_first(like) else image
