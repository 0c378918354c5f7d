"""The form of served items: whether those of another dataset can stand beside the real ones in a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from synthloader.checks import reject
from synthloader.registry import describe_item
from synthloader.sources import Source

__all__ = ["add_field", "check_takes_fields", "find_difference"]

_Place: TypeAlias = tuple[str, ...]
_IMAGES = ("image", "img", "pixel_values")
_LABELS = ("boxes", "masks", "mask", "labels", "label", "keypoints", "annotations", "objects", "annotation")
"""Fields that say where things are; others may be of any type, as the collate function of the script allows."""


def add_field(item: Any, argument: str, name: str, value: Any, /) -> Any:
    """A copy of the item with one more field in its dict; the wrapped dataset's own object is left alone.

    Raises:
        ValueError: Items have a field of this name already.
        TypeError: The item has no dict.
    """
    if isinstance(item, Mapping):
        if name in item:
            reject(argument, "be a name that items do not use", name)
        return {**item, name: value}
    if isinstance(item, tuple) and item and isinstance(item[-1], Mapping):
        return (*item[:-1], add_field(item[-1], argument, name, value))
    raise _make_field_error(item)


def check_takes_fields(source: Source, /) -> None:
    """Refuse `mark` and `weight` at once where it is known that items have no dict to put them in."""
    item = source.peek(image=False)
    last = item[-1] if isinstance(item, tuple) and item else item
    if item is not None and not isinstance(last, Mapping):
        raise _make_field_error(item)


def _make_field_error(item: Any) -> TypeError:
    return TypeError(
        f"mark and weight need items that are a dict or end in one, got {describe_item(item)}. Ask "
        f"train.is_generated(i) instead, or make the target a dict by transforms=."
    )


def find_difference(real: Sequence[Any], others: Sequence[Any], /) -> str | None:
    """How items differ in form from real ones, in a few words; None where they could come from one dataset.

    Compared are the number of parts, the fields of dicts, the type, dtype and channels of images, and the kind of what
    says where things are. What varies among the real items themselves may vary among the others.
    """
    mine, theirs = [dict(_list_parts(item)) for item in real], [dict(_list_parts(item)) for item in others]
    containers, others_are = {parts[()] for parts in mine}, {parts[()] for parts in theirs}
    if not others_are & containers:
        return f"items are {' or '.join(sorted(others_are))}, and {' or '.join(sorted(containers))} in the real dataset"
    wanted, known = _find_common(mine), {part for parts in mine for part in parts}
    given, offered = _find_common(theirs), {part for parts in theirs for part in parts}
    for part in sorted(wanted - offered):
        return f"items have no {_name(part)}, which every real item has"
    for part in sorted(given - known):
        return f"items have {_name(part)}, which no real item has"
    for part in sorted(wanted & offered):
        kinds = {parts[part] for parts in mine if part in parts}
        other = {parts[part] for parts in theirs if part in parts}
        if len(kinds) == len(other) == 1 and kinds != other:
            return f"{_name(part)} is {other.pop()}, and {kinds.pop()} in the real items"
    return None


def _find_common(items: list[dict[_Place, str]]) -> set[_Place]:
    return {part for part in items[0] if all(part in parts for parts in items)}


def _list_parts(item: Any) -> list[tuple[_Place, str]]:
    """The parts of an item, each with its place and its kind."""
    if isinstance(item, Mapping):
        return [((), "a dict"), *_list_fields(item, ())]
    if not isinstance(item, tuple | list):
        return [((), _describe_image(item))]
    parts: list[tuple[_Place, str]] = [((), f"a {type(item).__name__} of {len(item)}")]
    for place, value in enumerate(item):
        at: _Place = (f"part {place}",)
        if isinstance(value, Mapping):
            parts += [(at, "a dict"), *_list_fields(value, at)]
        else:
            parts.append((at, _describe_image(value) if place == 0 else _describe(value)))
    return parts


def _list_fields(fields: Mapping[Any, Any], at: _Place) -> list[tuple[_Place, str]]:
    listed = []
    for name, value in fields.items():
        is_image = name in _IMAGES and not at
        kind = _describe_image(value) if is_image else _describe(value) if name in _LABELS else ""
        listed.append(((*at, repr(name)), kind))
    return listed


def _describe_image(value: Any) -> str:
    """Type, dtype and channels, which must agree within a batch; height and width may differ."""
    kind = _describe(value)
    if hasattr(value, "mode") and hasattr(value, "getbands"):
        return f"{kind} of mode {value.mode}"
    if hasattr(value, "dtype") and getattr(value, "ndim", 0) == 3:
        is_tensor = not isinstance(value, np.ndarray)
        return f"{kind}, {value.dtype}, {value.shape[0 if is_tensor else -1]} channels"
    return f"{kind}, {value.dtype}" if hasattr(value, "dtype") else kind


def _describe(value: Any) -> str:
    if hasattr(value, "mode") and hasattr(value, "getbands"):
        return "a PIL image"
    if isinstance(value, np.generic | int | float):
        return "a number"
    if hasattr(value, "ndim"):
        axes = "no axes" if value.ndim == 0 else f"{value.ndim} {'axis' if value.ndim == 1 else 'axes'}"
        return f"{'an' if type(value).__name__[0] in 'AEIOUaeiou' else 'a'} {type(value).__name__} with {axes}"
    return f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"


def _name(part: _Place) -> str:
    if not part:
        return "an item"
    return " of ".join(reversed([entry if entry.startswith("part") else f"field {entry}" for entry in part]))
