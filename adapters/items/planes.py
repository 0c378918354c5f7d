"""One-channel maps of the image's size, such as masks and depth: to (H, W) arrays, and back in their own form.

The form is plain (strings and one array), so that it can be stored with a sample: mode and palette of a PIL image, or
dtype, device and axes of an array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image
import torch

from synthloader.adapters.items.fields import describe_array, make_array, read_array
from synthloader.checks import reject
from synthloader.errors import LabelContractError

__all__ = ["describe_plane", "find_plane_size", "is_plane", "make_plane", "read_plane"]

_MODES = {
    "1": np.dtype(bool),
    "L": np.dtype(np.uint8),
    "P": np.dtype(np.uint8),
    "I;16": np.dtype(np.uint16),
    "I": np.dtype(np.int32),
    "F": np.dtype(np.float32),
}
"""Modes of PIL images that have one channel, and what its values are."""


def is_plane(value: Any, /) -> bool:
    """Whether a value has one number for every place of an image."""
    return find_plane_size(value) is not None


def find_plane_size(value: Any, /) -> tuple[int, int] | None:
    """Height and width of a one-channel map; None for anything else.

    (H, W), (1, H, W) and, of arrays, (H, W, 1) are maps; so are PIL images of one channel.
    """
    if isinstance(value, PIL.Image.Image):
        return (value.height, value.width) if value.mode in _MODES else None
    axes = _find_axes(value) if isinstance(value, torch.Tensor | np.ndarray) else None
    if axes is None:
        return None
    first = 1 if axes == "1HW" else 0
    return int(value.shape[first]), int(value.shape[first + 1])


def read_plane(value: Any, /, *, name: str) -> np.ndarray:
    """The numbers of a map, of their own dtype; a read-only view where that is possible.

    Args:
        value: What `is_plane` says yes to.
        name: What it is called in messages.

    Returns:
        (H, W).
    """
    if isinstance(value, PIL.Image.Image):
        pixels: np.ndarray = np.asarray(value)
        return pixels
    axes = _find_axes(value)
    if axes is None:
        reject(name, "have shape (H, W) or (1, H, W)", value)
    array = read_array(value, name=name)
    plane: np.ndarray = array if axes == "HW" else array[0] if axes == "1HW" else array[..., 0]
    return plane


def describe_plane(value: Any, /) -> dict[str, Any]:
    """The form of a map, for `make_plane`."""
    if not isinstance(value, PIL.Image.Image):
        return {"array": describe_array(value), "axes": _find_axes(value)}
    form: dict[str, Any] = {"mode": value.mode}
    if value.palette is not None:
        kind = value.palette.mode
        form |= {"palette": np.array(value.getpalette(kind), np.uint8), "palette_mode": kind}
    if type(value.info.get("transparency")) is int:
        form["transparency"] = value.info["transparency"]
    return form


def make_plane(values: np.ndarray, form: Mapping[str, Any], /, *, like: Any, name: str) -> Any:
    """A native map, in memory of its own.

    Args:
        values: (H, W) numbers.
        form: The source's form; used among PIL images, where each file may have its own mode and palette.
        like: A map of the dataset. Arrays and tensors take its dtype and axes, so that batches can be put together.
        name: What it is called in messages.

    Raises:
        LabelContractError: The form cannot hold a value: class 300 in an 8-bit mask.
    """
    wanted = describe_plane(like)
    if "mode" in wanted:
        if "mode" in form:
            wanted = dict(form)
        dtype = _MODES[wanted["mode"]]
        _check_fits(values, dtype, f"a PIL image of mode {wanted['mode']}", name)
        image = PIL.Image.fromarray(values.astype(dtype))
        if "palette" in wanted:
            image.putpalette(wanted["palette"].tobytes(), wanted["palette_mode"])
        if "transparency" in wanted:
            image.info["transparency"] = wanted["transparency"]
        return image
    kind = wanted["array"].split()
    if kind[1] == "bfloat16":  # numpy has no such type; whole numbers up to 256 fit.
        if values.dtype.kind != "f" and max(-int(values.min()), int(values.max())) > 256:
            _refuse(values, "a tensor of bfloat16", name)
        values = values.astype(np.float32)
    else:
        holder = "an array" if kind[0] == "ndarray" else "a tensor"
        _check_fits(values, np.dtype(kind[1]), f"{holder} of {np.dtype(kind[1])}", name)
    shaped = {"HW": values, "1HW": values[None], "HW1": values[..., None]}[wanted["axes"]]
    return make_array(shaped, wanted["array"], size_hw=(values.shape[0], values.shape[1]))


def _find_axes(value: Any) -> str | None:
    """`HW`, `1HW` or `HW1`; None for any other shape."""
    if value.ndim == 2:
        return "HW"
    if value.ndim != 3:
        return None
    if value.shape[0] == 1:
        return "1HW"
    return "HW1" if isinstance(value, np.ndarray) and value.shape[2] == 1 else None


def _check_fits(values: np.ndarray, dtype: np.dtype[Any], holder: str, name: str) -> None:
    """Refuse values that would change in `dtype`; floats may be rounded to other floats."""
    if values.dtype == dtype:
        return
    if values.dtype.kind in "iub" and dtype.kind in "iub":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        fits = low <= values.min() and values.max() <= high
    elif dtype.kind == values.dtype.kind == "f":
        fits = True
    else:
        with np.errstate(invalid="ignore"):
            fits = np.array_equal(values.astype(dtype), values)
    if not fits:
        _refuse(values, holder, name)


def _refuse(values: np.ndarray, holder: str, name: str) -> None:
    raise LabelContractError(
        f"{name} must hold only values that the dataset's own form can hold, got values from {values.min()} to "
        f"{values.max()} for {holder}. Let the generator use the classes of the dataset, or let the dataset return "
        f"masks of a wider type."
    )
