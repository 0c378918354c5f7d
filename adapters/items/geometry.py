"""Fields that show where things are on the image, and that no adapter knows how to move: kept, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import PIL.Image
import torch

from synthloader.errors import LabelContractError

__all__ = ["is_geometry", "is_tensor_geometry", "refuse_stale"]

_TENSORS = ("BoundingBoxes", "KeyPoints", "Mask")
_SMALLEST_MAP, _LARGEST_STRIDE = 8, 64
"""Smaller sides are those of matrices; larger strides than those of any detector."""


def is_tensor_geometry(value: Any, /) -> bool:
    """Whether it is a tensor that torchvision's transforms move with the image."""
    return isinstance(value, torch.Tensor) and type(value).__name__ in _TENSORS


def is_geometry(value: Any, size_hw: tuple[int, int], /) -> bool:
    """Whether a field of the target lies on the image: such a tensor, or a map or an image of its size or a part of it.

    Heat maps of a network's output have the image's size divided by a stride.
    """
    if isinstance(value, PIL.Image.Image):
        return _is_of_size((value.height, value.width), size_hw)
    if is_tensor_geometry(value):
        return True
    if not isinstance(value, torch.Tensor | np.ndarray) or value.ndim < 2:
        return False
    shape: tuple[int, ...] = tuple(value.shape)
    return _is_of_size(shape[-2:], size_hw) or _is_of_size(shape[:2], size_hw)


def _is_of_size(sides: tuple[int, ...], size_hw: tuple[int, int]) -> bool:
    if sides == size_hw:
        return True
    if min(sides) < _SMALLEST_MAP:
        return False
    return any(
        all(side in (whole // stride, -(-whole // stride)) for side, whole in zip(sides, size_hw, strict=True))
        for stride in range(2, _LARGEST_STRIDE + 1)
    )


def refuse_stale(fields: Iterable[str], /, *, is_same: Callable[[], bool]) -> None:
    """Refuse to carry such fields over to an image on which the instances are others.

    Raises:
        LabelContractError: There is such a field, and an instance was added, dropped, moved or covered.
    """
    fields = list(fields)
    if fields and not is_same():
        raise LabelContractError(
            f"{', '.join(map(repr, fields))} must be kept true for an image on which objects changed, and nothing is "
            "known of how. Leave the field out of the items, pass an adapter= of your own, or use a generator that "
            "moves no objects."
        )
