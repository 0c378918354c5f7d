"""Fields that say how large the image is: `size`, `orig_size` and their like. They follow the image."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthloader.adapters.items.fields import describe_array, make_array, read_array
from synthloader.adapters.items.rows import has_rows

__all__ = ["SIZE_FIELDS", "resize_field"]

_SEQUENCES = (
    "size",
    "orig_size",
    "original_size",
    "image_size",
    "img_size",
    "canvas_size",
    "img_shape",
    "ori_shape",
    "image_shape",
)
_HEIGHTS = ("height", "h", "img_height", "image_height", "orig_height")
_WIDTHS = ("width", "w", "img_width", "image_width", "orig_width")

SIZE_FIELDS = frozenset([*_SEQUENCES, *_HEIGHTS, *_WIDTHS])
"""Names of fields that are sizes, whatever their length."""


def resize_field(field: str, value: Any, size_hw: tuple[int, int], /, *, before_hw: tuple[int, int]) -> Any:
    """The value of a size field on an image of another size, of the same type.

    Args:
        field: Its name.
        value: What it says of the source: a number, or height and width (or width and height, where that is what the
            source's size shows), perhaps followed by the number of channels.
        size_hw: Size of the image that is served.
        before_hw: Size of the source.
    """
    height, width = size_hw
    if field in _HEIGHTS or field in _WIDTHS:
        number = height if field in _HEIGHTS else width
        if has_rows(value):
            return make_array(np.full(np.shape(value), number), describe_array(value), size_hw=size_hw)
        return np.asarray(number, value.dtype)[()] if isinstance(value, np.generic) else _of_type(number, value)
    if not has_rows(value):
        return value
    numbers = read_array(value).ravel().tolist()
    turned = numbers[:2] == [before_hw[1], before_hw[0]] and before_hw[0] != before_hw[1]
    new = np.array([*((width, height) if turned else (height, width)), *numbers[2:]])[: len(numbers)]
    return make_array(new.reshape(np.shape(value)), describe_array(value), size_hw=size_hw)


def _of_type(number: int, value: Any) -> Any:
    if isinstance(value, int | float):
        return type(value)(number)
    return value.new_tensor(number) if hasattr(value, "new_tensor") else value
