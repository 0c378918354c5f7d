"""What an item has besides its image and its label: carried along, and given back true for the image that is served.

```
numbers, strings, lists, dicts, arrays    -> Sample.fields; what says something of the image also Sample.metadata
sizes (`width`, `orig_size`)              -> Sample.fields; given back as the size of the served image
one-channel maps of the image's size      -> Sample.maps, which generators carry through what they do
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthloader.adapters.items.fields import pack, unpack
from synthloader.adapters.items.planes import describe_plane, find_plane_size, make_plane, read_plane
from synthloader.adapters.items.sizes import SIZE_FIELDS, resize_field
from synthloader.errors import LabelContractError
from synthloader.sample import Sample

__all__ = ["CARRIED", "Carried", "carry", "give_back"]

CARRIED = "carried"
"""The name in `Sample.fields` under which all of this stands."""


@dataclass
class Carried:
    """Parts of a sample.

    Attributes:
        fields: To be put into `Sample.fields`.
        maps: Name to (H, W) array.
        metadata: Name to number or string.
    """

    fields: dict[str, Any]
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    metadata: dict[str, int | float | str | bool] = field(default_factory=dict)


def carry(values: Mapping[str, Any], /, *, size_hw: tuple[int, int], name: str) -> Carried:
    """Take up what is not understood.

    Args:
        values: Name to value.
        size_hw: Height and width of the image.
        name: What the item is called in messages: `dataset[17]`.
    """
    plain: dict[str, Any] = {}
    forms: dict[str, Any] = {}
    carried = Carried({CARRIED: {"plain": plain, "maps": forms, "size_hw": list(size_hw)}})
    for key, value in values.items():
        if key not in SIZE_FIELDS and find_plane_size(value) == size_hw:
            carried.maps[key] = read_plane(value, name=f"{name}[{key!r}]")
            forms[key] = describe_plane(value)
            continue
        plain[key] = pack(value)
        if is_fact(key, value):
            carried.metadata[key] = value
    return carried


def give_back(sample: Sample, name: str, /, *, like: Any) -> Any:
    """The native value of one name, in memory of its own.

    Args:
        sample: A sample that came from an item with this name, perhaps through a generator and a cache.
        name: The name.
        like: The value of this name in any item of the dataset, for its type only.

    Raises:
        LabelContractError: The sample does not have it.
    """
    held: Mapping[str, Any] = sample.fields.get(CARRIED, {})
    if name in held.get("maps", {}):
        if name not in sample.maps:
            raise LabelContractError(
                f"maps must keep {name!r}, which the dataset has for every image, got maps={sorted(sample.maps)}. "
                "Carry the maps of the sample on in the generator."
            )
        return make_plane(sample.maps[name], held["maps"][name], like=like, name=f"the map {name!r}")
    if name not in held.get("plain", {}):
        raise LabelContractError(
            f"a generated sample must have {name!r}, which the dataset has in every item, got "
            f"{sorted([*held.get('plain', {}), *held.get('maps', {})])}. Generate from a dataset with the same items."
        )
    value = unpack(held["plain"][name])
    if name in SIZE_FIELDS and list(sample.size_hw) != list(held["size_hw"]):
        return resize_field(name, value, sample.size_hw, before_hw=tuple(held["size_hw"]))
    return sample.metadata.get(name, value) if is_fact(name, value) else value


def is_fact(name: str, value: Any, /) -> bool:
    """Whether a value says something of the image that filters and reports may ask for."""
    return type(value) in (str, int, float, bool) and name != "image_id" and name not in SIZE_FIELDS
