"""The adapters that can recognise an item, and the names by which recipes know plug-ins.

Adapters register themselves when `synthloader.adapters` is imported, which `import synthloader` does; packages of third
parties announce generators, filters, formats and adapters through entry points (`synthloader.generators`, ...).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from synthloader.checks import reject, suggest_name
from synthloader.protocols import AnyAdapter

__all__ = ["find_adapter", "find_plugin", "list_plugins", "register_adapter", "register_plugin", "to_snake_case"]

AdapterKind = TypeVar("AdapterKind", bound=type)

_ADAPTERS: list[Any] = []
_PLUGINS: dict[str, dict[str, Any]] = {}


def register_adapter(adapter: AdapterKind, /) -> AdapterKind:
    """Class decorator: offer this adapter's `recognize(dataset, items)` to datasets whose format is not stated."""
    if adapter not in _ADAPTERS:
        _ADAPTERS.append(adapter)
    return adapter


def find_adapter(dataset: Any, items: Sequence[Any], /) -> AnyAdapter:
    """The adapter that knows this format, recognised by the shape of a few untransformed items.

    Raises:
        TypeError: No adapter knows the format.
    """
    announced = [entry.load() for entry in entry_points(group="synthloader.adapters")]
    for kind in [*_ADAPTERS, *announced]:
        adapter: AnyAdapter | None = kind.recognize(dataset, items)
        if adapter is not None:
            return adapter
    known = ", ".join(sorted(kind.__name__ for kind in _ADAPTERS))
    raise TypeError(
        f"items of {type(dataset).__name__} must have a format that an adapter knows, got {describe_item(items[0])}. "
        f"Pass adapter=, an object with to_sample and from_sample, or return items that one of these knows: {known}."
    )


def register_plugin(group: str, plugin: Any, /, *, name: str | None = None) -> Any:
    """Make a built-in class known to recipes, by the snake_case of its name where no other is given."""
    _PLUGINS.setdefault(group, {})[name or to_snake_case(plugin.__name__)] = plugin
    return plugin


def list_plugins(group: str, /) -> dict[str, Any]:
    """Names of one group (`"generators"`, `"filters"`, `"formats"`) to classes, or to entry points still unloaded."""
    announced = {entry.name: entry for entry in entry_points(group=f"synthloader.{group}")}
    return {**announced, **_PLUGINS.get(group, {})}


def find_plugin(group: str, name: str, /) -> Any:
    """The class that a recipe names.

    Raises:
        ValueError: There is none of this name; the nearest is suggested.
    """
    plugins = list_plugins(group)
    if name not in plugins:
        reject(group.removesuffix("s"), "be known", name, suggest_name(name, plugins))
    found = plugins[name]
    return found.load() if isinstance(found, EntryPoint) else found


def to_snake_case(name: str, /) -> str:
    """`CopyPaste` to `copy_paste`, `LMDBCache` to `lmdb_cache`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def describe_item(item: Any, /) -> str:
    """The shape of an item in a few words: `(Tensor, dict with 'boxes', 'labels')`."""
    if isinstance(item, tuple | list):
        return "(" + ", ".join(describe_item(part) for part in item[:4]) + (", ...)" if len(item) > 4 else ")")
    if isinstance(item, dict):
        return f"dict with {', '.join(map(repr, list(item)[:8]))}"
    return type(item).__name__
