"""From the names and options of a recipe to generators, filters and formats."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from synthloader.checks import show_value, suggest_name
from synthloader.generators import Chain, OneOf
from synthloader.protocols import Filter, Generator
from synthloader.recipe_document import REPEATABLE, Place
from synthloader.registry import find_plugin, list_plugins
from synthloader.sources import Source

__all__ = ["PATH_OPTIONS", "build", "read_dataset", "read_filters", "read_generator", "read_options", "resolve_path"]

PATH_OPTIONS = frozenset(
    {
        "annotations",
        "backgrounds",
        "cutouts",
        "data",
        "file",
        "files",
        "folder",
        "images",
        "labels",
        "masks",
        "path",
        "reference",
        "references",
        "root",
    }
)
"""Options of plug-ins by these names hold paths, or lists of paths, relative to the recipe."""

NESTED = "generator"
"""An option of this name holds a generator, written as the recipe's own: one entry, a list, or `one_of`."""

NESTED_SET = "reference"
"""An option of this name may hold a dataset, written as the recipe's own: a mapping with its format."""


def read_generator(place: Place) -> Generator:
    """One entry, a list applied in order, or `one_of` with weights.

    Raises:
        RecipeError: A name or an option is not known, or a value is refused.
    """
    if place.is_list:
        parts = [read_generator(item) for item in place.items()]
        return parts[0] if len(parts) == 1 else build(place, lambda: Chain(parts))
    name, options = _read_entry(place, "generators", extra=[REPEATABLE])
    if name == REPEATABLE:
        return _read_choice(options)
    made: Generator = _make_plugin(place, "generators", name, options)
    return made


def read_filters(place: Place) -> tuple[Filter, ...]:
    """A list of filters, applied in order.

    Raises:
        RecipeError: A name or an option is not known, or a value is refused.
    """
    if not place.is_list:
        place.fail(f"filters must be a list, got {show_value(place.value)}. Write a dash before each filter.")
    found = []
    for item in place.items():
        name, options = _read_entry(item, "filters")
        found.append(_make_plugin(item, "filters", name, options))
    return tuple(found)


def read_dataset(place: Place) -> Callable[[], Any]:
    """A dataset on disk, its paths checked at once, to be opened later.

    Raises:
        RecipeError: The format or an option is not known, or a path does not exist.
    """
    entries = place.entries("options")
    if "format" not in entries:
        place.fail(f"{place.way} needs the option 'format', one of: {', '.join(sorted(list_plugins('formats')))}.")
    kind = entries.pop("format")
    name, known = kind.value, list_plugins("formats")
    if not isinstance(name, str) or name not in known:
        kind.fail(f"there is no format {show_value(name)}. {suggest_name(str(name), known)}")
    plugin = build(kind, lambda: find_plugin("formats", name))
    leave_out = ("transforms", "transform", "target_transform")
    values = read_options(place, entries, plugin, leave_out=leave_out, besides=["format"])
    for option in sorted(PATH_OPTIONS & set(entries)):
        given = entries[option]
        told, paths = (given.value, values[option]) if given.is_list else ([given.value], [values[option]])
        for value, path in zip(told, paths, strict=True):
            if isinstance(path, str) and "://" not in path and not os.path.exists(path):
                meant = "" if value == path else f", which is {path}"
                given.fail(f"{given.way} must exist, got {value!r}{meant}. Paths are relative to the recipe.")
    return lambda: build(place, lambda: plugin(**values), options=entries)


def read_options(
    place: Place,
    options: Mapping[str, Place],
    make: Callable[..., Any],
    *,
    leave_out: Iterable[str] = (),
    besides: Iterable[str] = (),
) -> dict[str, Any]:
    """The options of a constructor by name, paths resolved.

    Args:
        place: What the options are for.
        options: Where they stand.
        make: The constructor, which says what is allowed and what is required.
        leave_out: Parameters that recipes cannot give.
        besides: Keys that stand among the options and are none.

    Raises:
        RecipeError: An option is not known, or a required one is missing.
    """
    known = {
        name: parameter
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.kind is not parameter.POSITIONAL_ONLY and name not in leave_out
    }
    named = [name for name, parameter in known.items() if parameter.kind not in _VARIADIC]
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in known.values()):
        place.refuse_others([*besides, *named], "option")
    for name in named:
        if known[name].default is inspect.Parameter.empty and name not in options:
            place.fail(f"{place.way} needs the option {name!r}. Allowed: {', '.join(sorted(named))}.")
    return {name: _read_option(name, option) for name, option in options.items()}


def resolve_path(place: Place) -> Any:
    """A path, or a list or a mapping of paths, relative to the recipe's folder; anything else as it is."""
    return _resolve_all(place, place.value)


def build(place: Place, make: Callable[[], Any], *, options: Mapping[str, Place] | None = None) -> Any:
    """What `make` returns; its complaint gets the file and the line of the option that it names.

    Raises:
        RecipeError: The constructor refused a value.
    """
    try:
        return make()
    except (ValueError, TypeError, OSError) as error:
        culprit = place
        for name, option in (options or {}).items():
            if str(error).startswith((f"{name} ", f"{name}[")):
                culprit = option
        raise culprit.word(f"{place.way}: {error}" if place.way else str(error)) from error


_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _read_entry(place: Place, group: str, *, extra: Iterable[str] = ()) -> tuple[str, Place]:
    """The name of a plug-in, and the place of its options: `name`, or `{name: {option: value}}`."""
    if place.is_mapping:
        pairs = list(place.pairs())
        if len(pairs) != 1:
            names = ", ".join(str(key.value) for key, _ in pairs) or "none"
            place.fail(f"an entry of {place.way} must have one name, got {names}. Write a dash before each.")
        key, options = pairs[0]
        name = key.value
    else:
        key, name = place, place.value
        options = place.follow(str(name), place.node)
    known = [*list_plugins(group), *extra]
    if not isinstance(name, str) or name not in known:
        key.fail(f"there is no {group.removesuffix('s')} {show_value(name)}. {suggest_name(str(name), known)}")
    return name, options


def _read_choice(place: Place) -> Generator:
    """`one_of`: weights, two of which may be equal, and what is drawn by them."""
    if not place.is_mapping:
        place.fail(f"{place.way} must be a mapping of weights to generators. Write 0.5: {{copy_paste: {{}}}}.")
    pairs = [(key.value, read_generator(Place(value.file, value.node, place.way))) for key, value in place.pairs()]
    made: Generator = build(place, lambda: OneOf(pairs))
    return made


def _make_plugin(entry: Place, group: str, name: str, place: Place) -> Any:
    options = place.entries("options") if entry.is_mapping else {}
    plugin = build(place, lambda: find_plugin(group, name))
    # What only Python can give: a function, samples.
    values = read_options(place, options, plugin, leave_out=getattr(plugin, "NOT_IN_RECIPES", ()))
    return build(place, lambda: plugin(**values), options=options)


def _read_option(name: str, option: Place) -> Any:
    if name == NESTED:
        return read_generator(option)
    if name == NESTED_SET and option.is_mapping:
        dataset = read_dataset(option)()
        return build(option, lambda: Source(dataset))
    return resolve_path(option) if name in PATH_OPTIONS else option.value


def _resolve_all(place: Place, value: Any) -> Any:
    if isinstance(value, list):
        return [_resolve_all(place, part) for part in value]
    if isinstance(value, dict):
        return {name: _resolve_all(place, part) for name, part in value.items()}
    return _resolve(place, value)


def _resolve(place: Place, value: Any) -> Any:
    if not isinstance(value, str) or "://" in value:
        return value
    return os.path.normpath(place.file.absolute().parent / os.path.expanduser(value))
