"""Values made of numbers, strings, arrays, lists and dicts as a JSON tree beside blobs of bytes. No pickle.

JSON has fewer types than Python, so what it would change is tagged with an object of one name:

| tag | stands for |
|---|---|
| `{"t": [...]}` | a tuple (a JSON array is a list) |
| `{"d": {...}}` | a dict whose names are all strings, in its order |
| `{"D": [[key, value], ...]}` | any other dict |
| `{"i": "-1f"}` | an integer of more than 64 bits, in base 16 |
| `{"f": "nan"}` | nan, inf or -inf |
| `{"s": blob}` | a string that is no valid Unicode (file names), UTF-8 with surrogates let through |
| `{"b": blob}` | bytes |
| `{"a": [dtype, shape, blob]}` | an array, in C order |
| `{"g": [dtype, blob]}` | a NumPy scalar |
| `{"u": string}`, `{"y": blob}` | NumPy's own str_ and bytes_ |

A `blob` is a position in the record's table of blobs. Everything else stands for itself.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["TreeReader", "TreeWriter", "UnstorableError"]

MAX_DEPTH = 64
"""Deeper nesting is not stored: it is a circle, or would overflow the stack of who reads it."""

MAX_ITEM_BYTES = 1 << 20
"""Largest size of one array element, so that an empty array of a forged type cannot ask for much memory."""

_SCALAR_TYPE = re.compile(r"[<>|][biufcmMSUV]\d{1,7}(\[[^\]]{0,20}\])?|[<>][mM]8")


class UnstorableError(TypeError):
    """A value has no place in the tree: an object of some class, or nested too deeply."""


class TreeWriter:
    """Turns values into JSON nodes and collects the blobs that they refer to.

    Example:
        >>> writer = TreeWriter()
        >>> writer.write({"id": 7, "size": (4, 6)}), writer.write(np.zeros(2, np.uint8)), len(writer.blobs)
        ({'d': {'id': 7, 'size': {'t': [4, 6]}}}, {'a': ['|u1', [2], 0]}, 1)
    """

    def __init__(self) -> None:
        self.blobs: list[bytes | memoryview] = []

    def add_blob(self, data: bytes | memoryview, /) -> int:
        """Append bytes to the table of blobs and return their position."""
        self.blobs.append(data)
        return len(self.blobs) - 1

    def add_array(self, array: np.ndarray, dtype: str, /) -> int:
        """Append the bytes of an array whose type the reader knows, in C order."""
        return self.add_blob(array.astype(dtype, copy=False).tobytes())

    def write(self, value: Any, /) -> Any:
        """The JSON node of a value.

        Raises:
            UnstorableError: It holds something else than numbers, strings, bytes, arrays, lists, tuples and dicts;
                the table of blobs is then as it was.
        """
        length = len(self.blobs)
        try:
            return self._write(value, MAX_DEPTH)
        except UnstorableError:
            del self.blobs[length:]
            raise

    def _write(self, value: Any, depth: int) -> Any:
        if depth == 0:
            raise UnstorableError(f"values nested more than {MAX_DEPTH} deep")
        kind = type(value)  # Never a subclass: it would come back as another type.
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -(1 << 63) <= value < 1 << 63 else {"i": f"{value:x}"}
        if kind is float:
            return value if math.isfinite(value) else {"f": repr(value)}
        if kind is str:
            return self._write_text(value)
        if kind is list:
            return [self._write(item, depth - 1) for item in value]
        if kind is tuple:
            return {"t": [self._write(item, depth - 1) for item in value]}
        if kind is dict:
            return self._write_dict(value, depth)
        if kind is bytes:
            return {"b": self.add_blob(value)}
        if kind is np.ndarray or kind is np.memmap:
            return {"a": [_describe_dtype(value.dtype), list(value.shape), self.add_blob(value.tobytes())]}
        if kind is np.str_:
            return {"u": self._write_text(str.__str__(value))}  # str() would cut trailing nulls.
        if kind is np.bytes_:
            return {"y": self.add_blob(bytes(value))}
        if isinstance(value, np.generic):
            return {"g": [_describe_dtype(value.dtype), self.add_blob(value.tobytes())]}
        raise UnstorableError(f"a {kind.__name__} cannot be stored")

    def _write_text(self, text: str) -> Any:
        if text.isascii():
            return text
        try:
            text.encode()
        except UnicodeEncodeError:
            return {"s": self.add_blob(text.encode("utf-8", "surrogatepass"))}
        return text

    def _write_dict(self, value: dict[Any, Any], depth: int) -> Any:
        keys = [self._write(key, depth - 1) for key in value]
        items = [self._write(item, depth - 1) for item in value.values()]
        if all(type(key) is str for key in keys):
            return {"d": dict(zip(keys, items, strict=True))}
        return {"D": [[key, item] for key, item in zip(keys, items, strict=True)]}


class TreeReader:
    """Turns JSON nodes back into values, with arrays of their own.

    Args:
        data: The record; nothing that is read refers to it afterwards.
        places: Start and end of each blob in it.
        view: Arrays share the memory of the blobs instead, and nobody can write to them.
    """

    def __init__(self, data: memoryview, places: Sequence[tuple[int, int]], /, *, view: bool = False) -> None:
        self._data = data
        self._places = places
        self.view = view

    @property
    def num_blobs(self) -> int:
        """Length of the table of blobs."""
        return len(self._places)

    def blob(self, position: Any, /) -> memoryview:
        """One blob; it must not outlive the record's bytes."""
        if type(position) is not int or not 0 <= position < len(self._places):
            raise ValueError(f"there is no blob {position!r}")
        start, end = self._places[position]
        return self._data[start:end]

    def read(self, node: Any, /) -> Any:
        """The value of a node.

        Raises:
            ValueError, TypeError, LookupError, RecursionError: The node is not one that `TreeWriter` makes.
        """
        kind = type(node)
        if kind is not dict:
            return [self.read(item) for item in node] if kind is list else node
        ((tag, content),) = node.items()
        match tag:
            case "d":
                return {key: self.read(item) for key, item in content.items()}
            case "D":
                return {self.read(key): self.read(item) for key, item in content}
            case "t":
                return tuple([self.read(item) for item in content])
            case "a":
                dtype, shape, blob = content
                return self.read_array(dtype, shape, blob)
            case "g":
                dtype, blob = content
                return self.read_array(dtype, [], blob)[()]
            case "b":
                return bytes(self.blob(content))
            case "s":
                return str(self.blob(content), "utf-8", "surrogatepass")
            case "i":
                return int(content, 16)
            case "f":
                return float(content)
            case "u":
                return np.str_(self.read(content))
            case "y":
                return np.bytes_(bytes(self.blob(content)))
        raise ValueError(f"there is no tag {tag!r}")

    def read_flat(self, dtype: str, blob: Any, /) -> np.ndarray:
        """(N,) what `TreeWriter.add_array` appended; memory as in `read_array`."""
        array = np.frombuffer(self.blob(blob), dtype)
        return array if self.view else array.copy()

    def read_array(self, dtype_text: Any, shape: Any, blob: Any, /) -> np.ndarray:
        """An array of this type and shape that shares no memory with the blob, unless `view` says so."""
        dtype = _parse_dtype(dtype_text)
        data = self.blob(blob)
        if any(type(side) is not int or side < 0 for side in shape):
            raise ValueError(f"an array cannot have the shape {shape!r}")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"an array of shape {shape!r} and type {dtype} has not {len(data)} bytes")
        array: np.ndarray = np.ndarray(tuple(shape), dtype, buffer=data)
        return array if self.view else array.copy()


def _describe_dtype(dtype: np.dtype[Any]) -> str:
    if dtype.metadata is not None or dtype.hasobject or dtype.char in "gG":  # Long doubles differ between machines.
        raise UnstorableError(f"arrays of {dtype} cannot be stored")
    try:
        text = dtype.str if dtype.names is None else repr(dtype.descr)
        if _parse_dtype(text) == dtype:
            return text
    except (TypeError, ValueError):
        pass
    raise UnstorableError(f"arrays of {dtype} cannot be stored")


@lru_cache(maxsize=256)
def _parse_dtype(text: str) -> np.dtype[Any]:
    """The type that a text describes: NumPy's short form, or its list of fields as in the `.npy` format."""
    if text[:1] != "[":
        if not _SCALAR_TYPE.fullmatch(text):
            raise ValueError(f"there is no array type {text!r}")
        dtype = np.dtype(text)
    elif len(text) > 10_000:
        raise ValueError("an array type of more than 10000 characters")
    else:
        try:
            dtype = np.lib.format.descr_to_dtype(ast.literal_eval(text))
        except (SyntaxError, MemoryError, AttributeError) as error:  # MemoryError: of the parser's stack
            raise ValueError(f"there is no array type {text!r}") from error
        for kind in _list_kinds(dtype):
            if kind not in "biufcmMSUV":
                raise ValueError(f"there is no array type {text!r}")
    if not 0 < dtype.itemsize <= MAX_ITEM_BYTES:
        raise ValueError(f"array elements of {dtype.itemsize} bytes")
    return dtype


def _list_kinds(dtype: np.dtype[Any]) -> list[str]:
    if dtype.subdtype is not None:
        return _list_kinds(dtype.subdtype[0])
    if dtype.names is None:
        return [dtype.kind]
    return [kind for name in dtype.names for kind in _list_kinds(dtype[name])]
