"""Fields of a native target that are carried along: to plain values that can be stored without pickle, and back.

A tensor among the fields becomes a dict that names its type, so that it comes back with dtype and class; an array that
has a row per instance becomes a column, and its *form* (`"Tensor float32 cpu"`, `"list"`) says how to make it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from synthloader.checks import reject

__all__ = [
    "JSON_ROW",
    "describe_array",
    "dump_json",
    "load_json",
    "make_array",
    "pack",
    "read_array",
    "read_column",
    "unpack",
]

_TENSORS = ("Tensor", "Image", "Mask", "Video", "BoundingBoxes", "KeyPoints")
JSON_ROW = "json:"
"""Begins the rows of a column of strings that stand for something else than a string."""


def pack(value: Any, /) -> Any:
    """A value as numbers, strings, arrays, lists and dicts of strings; what cannot be put so is kept as it is."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        form = describe_array(value)
        return value if form.split()[0] in ("BoundingBoxes", "KeyPoints") else {"$tensor": [form, read_array(value)]}
    if isinstance(value, np.ndarray):
        return value if value.dtype == object else _protect(value)
    if isinstance(value, np.generic):
        return {"$number": np.array([value])}
    if type(value) is list:
        return [pack(item) for item in value]
    if type(value) is tuple:
        return {"$tuple": [pack(item) for item in value]}
    if type(value) is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: pack(item) for key, item in value.items()}
        return {"$dict": [[pack(key), pack(item)] for key, item in value.items()]}
    if type(value) is bytes:
        return {"$bytes": np.frombuffer(value, np.uint8)}
    return {"$path": str(value)} if isinstance(value, PurePath) else value


def unpack(value: Any, /) -> Any:
    """What `pack` was given; arrays and tensors have memory of their own."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, content),) = value.items()
            if key in _UNPACK:
                return _UNPACK[key](content)
        return {key: unpack(item) for key, item in value.items()}
    return value


_UNPACK: dict[str, Callable[[Any], Any]] = {
    "$tensor": lambda content: make_array(content[1], content[0], size_hw=(0, 0)),
    "$number": lambda content: content[0],
    "$tuple": lambda content: tuple(unpack(content)),
    "$dict": lambda content: {unpack(key): unpack(item) for key, item in content},
    "$bytes": lambda content: content.tobytes(),
    "$path": Path,
}


def dump_json(value: Any, /) -> str:
    """One line of JSON that `load_json` turns into an equal value: tuples, arrays and tensors too.

    Raises:
        TypeError: A part of the value is neither number, string, array, list nor dict of these.
    """
    try:
        text = json.dumps(value, separators=(",", ":"))
        if '"$' not in text and json.loads(text) == value:
            return text
    except (TypeError, ValueError):
        pass  # not plain JSON: arrays and their like are written as dicts
    return json.dumps(pack(value), separators=(",", ":"), default=_array_to_json)


def load_json(text: str, /) -> Any:
    """The value that `dump_json` wrote."""
    value = json.loads(text)
    return unpack(_json_to_array(value)) if '"$' in text else value


def describe_array(value: Any, /) -> str:
    """The form of a native array: its container, dtype, device, and what a tv_tensor says besides."""
    if isinstance(value, torch.Tensor):
        kind = type(value).__name__
        form = f"{kind if kind in _TENSORS else 'Tensor'} {str(value.dtype).removeprefix('torch.')} {value.device}"
        if kind == "BoundingBoxes":
            stated: Any = value
            form += f" {stated.format.value} {getattr(value, 'clamping_mode', None)}"
        return form
    if isinstance(value, np.ndarray):
        return f"ndarray {value.dtype.str if value.dtype.kind not in 'US' else value.dtype.kind}"
    return "tuple" if isinstance(value, tuple) else "list"


def make_array(array: np.ndarray, form: str, /, *, size_hw: tuple[int, int]) -> Any:
    """A native array of this form, in memory of its own; numbers are rounded where the form has integers.

    Args:
        array: The values.
        form: From `describe_array`.
        size_hw: Size of the image, which bounding boxes and key points of torchvision carry with them.
    """
    kind, *rest = form.split()
    if kind in ("list", "tuple"):
        rows = array.tolist()
        if array.dtype.kind == "U":
            rows = [load_json(row[len(JSON_ROW) :]) if row.startswith(JSON_ROW) else row for row in rows]
        return rows if kind == "list" else tuple(rows)
    if kind == "ndarray":
        return _cast(array, np.dtype(rest[0])) if rest[0] not in "US" else array.astype(rest[0])
    dtype: torch.dtype = getattr(torch, rest[0])
    is_whole = not dtype.is_floating_point and not dtype.is_complex
    owned = _cast(array, np.dtype(rest[0])) if is_whole else np.array(array)
    tensor = torch.from_numpy(owned).to(device=rest[1], dtype=dtype)
    if kind == "Tensor":
        return tensor
    from torchvision import tv_tensors  # type: ignore[import-untyped, unused-ignore]

    if kind == "KeyPoints":
        make_points: Any = tv_tensors.KeyPoints  # since torchvision 0.23, and so is the form
        return make_points(tensor, canvas_size=size_hw)
    if kind != "BoundingBoxes":
        return tensor.as_subclass(getattr(tv_tensors, kind))
    make_boxes: Any = tv_tensors.BoundingBoxes
    boxes = make_boxes(tensor, format=rest[2], canvas_size=size_hw)
    if hasattr(boxes, "clamping_mode"):
        boxes.clamping_mode = None if rest[3] == "None" else rest[3]
    return boxes


def read_array(value: Any, /, *, name: str = "value") -> np.ndarray:
    """A native array, list or tensor as a numpy array: a read-only view where that is possible.

    Raises:
        TypeError: It holds something else than numbers or strings.
    """
    if isinstance(value, torch.Tensor):
        plain = value.detach().as_subclass(torch.Tensor).cpu()
        values: np.ndarray = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
        return _protect(values)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        array = np.empty(0, object)
    if array.dtype == object:
        reject(name, "be an array, a tensor or a list of numbers", value, error=TypeError)
    return _protect(array)


def read_column(value: Any, /, *, name: str) -> np.ndarray:
    """A field that has a row per instance as an array with these rows; rows that are no numbers or strings as JSON.

    Raises:
        TypeError: A row is neither number, string, array, list nor dict of these.
    """
    if not isinstance(value, list | tuple):
        return read_array(value, name=name)
    kinds = {type(row) for row in value}
    if len(kinds) == 1 and kinds <= {bool, int, float, str}:
        array = np.array(value)
        is_text = array.dtype.kind == "U" and array.tolist() == list(value)  # Arrays lose zeros at the end of a text.
        if array.dtype.kind in "bif" or (is_text and not any(row.startswith(JSON_ROW) for row in value)):
            return array
    try:
        return np.array([JSON_ROW + dump_json(row) for row in value], np.str_)
    except TypeError:
        reject(
            name,
            "have rows of numbers, strings, arrays, or lists and dicts of these",
            value,
            "Leave the field out of the items, or pass an adapter= of your own.",
            error=TypeError,
        )


def _cast(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind in "iub" and array.dtype.kind == "f":
        array = np.nan_to_num(array) if dtype.kind == "b" else np.rint(np.nan_to_num(array))
    if dtype == np.uint8 and array.dtype == np.bool_:
        array = array.view(np.uint8)
    cast: np.ndarray = array.astype(dtype)
    return cast


def _protect(array: np.ndarray) -> np.ndarray:
    view: np.ndarray = array.view()
    view.flags.writeable = False
    return view


def _array_to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype != object:
        return {"$array": [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes().hex()]}
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def _json_to_array(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_to_array(item) for item in value]
    if isinstance(value, dict):
        if list(value) == ["$array"]:
            dtype, shape, content = value["$array"]
            return np.frombuffer(bytes.fromhex(content), dtype).reshape(shape)
        return {key: _json_to_array(item) for key, item in value.items()}
    return value
