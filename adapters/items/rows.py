"""Fields with a row per instance: read, and checked against the number of instances."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from synthloader.adapters.items.fields import read_array
from synthloader.checks import reject

__all__ = ["count_rows", "has_rows", "read_masks", "read_rows", "read_whole_numbers"]

_FIX = "Correct the annotation."


def has_rows(value: Any, /) -> bool:
    """Whether a value is a list, an array or a tensor of any length."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.ndim > 0
    return isinstance(value, list | tuple)


def count_rows(value: Any, /) -> int:
    """Rows of a value that `has_rows`. One without any number has none, whatever its shape: (0,), (1, 0), (0, 4)."""
    if isinstance(value, torch.Tensor):
        return len(value) if value.numel() else 0
    return len(value) if not isinstance(value, np.ndarray) or value.size else 0


def read_rows(value: Any, /, *, name: str, num_rows: int, row_shape: tuple[int | None, ...]) -> np.ndarray:
    """An array of `num_rows` rows of this shape (None: any length); an empty one may lack the row's axes.

    Raises:
        TypeError: It is no array, tensor or list of numbers.
        ValueError: It has another shape.
    """
    array = read_array(value, name=name)
    if array.ndim == 0:
        reject(name, "have a row for each box", array.item(), _FIX, error=TypeError)
    if len(array) != num_rows:
        reject(f"len({name})", f"be the number of boxes, {num_rows}", len(array), _FIX)
    if num_rows == 0 and array.size == 0:
        return array.reshape(0, *(side or 0 for side in row_shape)) if array.ndim <= len(row_shape) else array
    have = array.shape[1:]
    if len(have) != len(row_shape) or any(want not in (None, side) for want, side in zip(row_shape, have, strict=True)):
        wanted = ", ".join([str(num_rows), *("any" if side is None else str(side) for side in row_shape)])
        reject(name, f"have shape ({wanted})", array.shape, _FIX)
    return array


def read_whole_numbers(value: Any, /, *, name: str, num_rows: int) -> np.ndarray:
    """(N,) int64; floats are taken where they are whole."""
    array = read_rows(value, name=name, num_rows=num_rows, row_shape=())
    if array.dtype.kind not in "iub" and (array.dtype.kind != "f" or not (array == np.rint(array)).all()):
        reject(name, "be whole numbers", array.tolist(), _FIX)
    return array.astype(np.int64)


def read_masks(value: Any, /, *, name: str, num_rows: int, size_hw: tuple[int, int]) -> np.ndarray:
    """(N, H, W) bool masks of the image's size, from zeros and ones of any type."""
    array = read_rows(value, name=name, num_rows=num_rows, row_shape=(None, None))
    if array.shape[1:] != size_hw:
        reject(
            f"the height and width of {name}",
            f"be the image's, {size_hw}",
            array.shape[1:],
            "Masks are drawn on the whole image.",
        )
    if array.dtype == np.bool_:
        return array
    if array.dtype == np.uint8:
        if array.max() <= 1:
            return array.view(np.bool_)
    elif ((array == 0) | (array == 1)).all():
        return array.astype(np.bool_)
    row = int(np.flatnonzero(((array != 0) & (array != 1)).any(axis=(1, 2)))[0])
    reject(
        f"{name}[{row}]",
        "hold only 0 and 1",
        np.unique(array[row])[:8].tolist(),
        "Return one mask for each object: (masks > 0) where 255 stands for the object.",
    )
