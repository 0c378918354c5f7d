"""Numbers, strings, lists and dicts of what a sample knows, for JSON.

JSON is written in ASCII, other letters escaped: readers that open the file in the encoding of their machine, as
pycocotools does, get the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from synthloader.exports.run_lengths import encode_mask
from synthloader.targets import Instances

__all__ = ["dump_json", "list_attributes", "read_metadata", "to_plain"]

MAX_AXES = 2
"""Attributes with more axes, such as a picture for each instance, are left out."""

_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(", ", ": "))
_ADAPTERS_OWN = ("native.", "annotation")
"""What adapters remember of the item that a sample came from: it says nothing of the generated one."""


def dump_json(value: Any, /) -> str:
    """One line of JSON.

    Raises:
        ValueError: A number is not finite.
    """
    return _ENCODER.encode(value)


def to_plain(value: Any, /) -> Any:
    """A value as JSON has it.

    Tuples and sets become lists, keys become strings, numbers that are not finite become None, (H, W) bool arrays
    become run lengths, other arrays lists, and what else there is its `str`.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, np.ndarray):
        return encode_mask(value) if value.dtype == np.bool_ and value.ndim == 2 else to_plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): to_plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(content) for content in value]
    if isinstance(value, set | frozenset):
        return [to_plain(content) for content in sorted(value, key=str)]
    return str(value)


def read_metadata(metadata: Mapping[str, Any], /) -> dict[str, Any]:
    """The metadata of a sample without numbers that are not finite."""
    plain = {str(name): to_plain(value) for name, value in metadata.items()}
    return {name: value for name, value in plain.items() if value is not None}


def list_attributes(instances: Instances, /) -> list[dict[str, Any]]:
    """What is known of each instance: a dict for every one.

    Only numbers, strings, and short rows of these are there; numbers that are not finite are left out where they stand
    alone (readers of COCO take what is missing for NaN) and None in a row. The dataset's own `area`, which need not be
    that of a generated mask, and what adapters remember of the native item are left out.
    """
    rows: list[dict[str, Any]] = [{} for _ in range(len(instances))]
    for name, column in instances.attributes.items():
        if name == "area" or name == _ADAPTERS_OWN[1] or name.startswith(_ADAPTERS_OWN[0]):
            continue
        if column.dtype.kind not in "biufU" or column.ndim > MAX_AXES:
            continue
        for row, value in zip(rows, column.tolist(), strict=True):
            plain = to_plain(value)
            if plain is not None:
                row[name] = plain
    return rows
