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


def is_tensor_geometry(value: Any, /) -> bool:
    """Whether it is a tensor that torchvision's transforms move with the image."""
    return isinstance(value, torch.Tensor) and type(value).__name__ in _TENSORS


def is_geometry(value: Any, size_hw: tuple[int, int], /) -> bool:
    """Whether a field of the target lies on the image: such a tensor, or a map or an image of the same size."""
    if isinstance(value, PIL.Image.Image):
        return (value.height, value.width) == size_hw
    if is_tensor_geometry(value):
        return True
    if not isinstance(value, torch.Tensor | np.ndarray) or value.ndim < 2:
        return False
    return size_hw in (tuple(value.shape[-2:]), tuple(value.shape[:2]))


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
