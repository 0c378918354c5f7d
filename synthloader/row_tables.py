"""Tables of rows as Hugging Face `datasets` has them, known by their shape: rows without their batch transform.

`set_transform` and `with_transform` keep a function that works on batches, dicts of lists. A bare row is what the table
gives without it; the function is then applied to real and generated rows alike, to a whole batch of them at once where
a loader asks for a batch, and to a batch of one elsewhere. Built-in formats (`with_format("torch")`) belong to the row.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthloader.checks import reject
from synthloader.keys import StampBook, hash_content

__all__ = [
    "apply_batch_transform",
    "has_batch_transform",
    "is_row_table",
    "make_row_stamp",
    "read_row_class_ids",
    "read_rows",
    "read_table_classes",
]

_SHAPE = ("with_transform", "set_format", "with_format", "features", "column_names", "format")
_CLASS_COLUMNS = ("label", "labels", "category", "categories", "category_id", "class", "class_id", "classes")


def is_row_table(dataset: Any, /) -> bool:
    """Whether it has the shape of a `datasets.Dataset`, whatever its module is called."""
    kind = type(dataset)
    return all(hasattr(kind, name) for name in _SHAPE)


def has_batch_transform(table: Any, /) -> bool:
    """Whether a function is applied to its rows now."""
    return bool(table.format["type"] == "custom")


def read_rows(table: Any, places: Sequence[int], /) -> list[dict[str, Any]]:
    """Rows without the batch transform: all columns, decoded."""
    bare = _reformat(table, None) if has_batch_transform(table) else table
    if len(places) == 1:
        return [bare[places[0]]]
    rows: list[dict[str, Any]] = bare.__getitems__(list(places))
    return rows


def apply_batch_transform(table: Any, rows: Sequence[Mapping[str, Any]], /) -> list[Any]:
    """The table's own function on a batch of bare rows, as the table itself would apply it.

    Raises:
        TypeError: The function gives no dict, or another number of rows.
    """
    form = table.format
    chosen = form["columns"]
    batch = {name: [row[name] for row in rows] for name in rows[0] if name in chosen}
    made = form["format_kwargs"]["transform"](batch)
    if not hasattr(made, "items") or not all(hasattr(values, "__len__") for _, values in made.items()):
        reject("what the transform of the rows returns", "be a dict of sequences", type(made).__name__, error=TypeError)
    columns = dict(made.items())
    if form["output_all_columns"]:
        columns |= {name: [row[name] for row in rows] for name in rows[0] if name not in chosen}
    counts = {name: len(values) for name, values in columns.items()}
    if any(count != len(rows) for count in counts.values()):
        reject(
            "what the transform of the rows returns",
            f"have one entry for each of the {len(rows)} rows",
            counts,
            "A transform that makes several rows of one, or drops some, is applied with `map` before mixing.",
            error=TypeError,
        )
    return [{name: values[place] for name, values in columns.items()} for place in range(len(rows))]


def read_table_classes(table: Any, /) -> dict[str, int] | None:
    """Class names to ids, from the one `ClassLabel` of its features; None where there is none, or several."""
    found = _find_class_feature(table)
    return None if found is None else {str(name): class_id for class_id, name in enumerate(found[1])}


def read_row_class_ids(table: Any, places: Sequence[int] | None = None, /) -> list[list[int]] | None:
    """Class ids of these rows, or of all, read without decoding images; None where no column is known to hold them."""
    found = _find_class_feature(table)
    if found is None:
        return None
    path, _ = found
    column = _reformat(table, None, columns=[path[0]])
    values = column[slice(None) if places is None else list(places)][path[0]]
    return [_list_ids(value, path[1:]) for value in values]


def make_row_stamp(table: Any, place: int, stamps: StampBook, /) -> str:
    """Hash of the row's content as it is stored, images undecoded: the same on every machine and in every run.

    The table's own `_fingerprint` would not do: it is drawn at random where a step of its making cannot be hashed, and
    for tables on disk it changes with the time and the place of the file.
    """
    row = _reformat(table, "arrow")[place].to_pylist()[0]
    return hash_content([str(table.features), _to_plain(row, stamps)]).hex()


def _reformat(table: Any, kind: str | None, *, columns: list[str] | None = None) -> Any:
    """The same table in another format; what `with_format` gives, without its deep copy."""
    other = copy.copy(table)
    other.set_format(kind, columns=columns)
    return other


def _find_class_feature(table: Any) -> tuple[tuple[str, ...], list[str]] | None:
    found = list(_list_class_features(table.features, ()))
    usual = [entry for entry in found if entry[0][-1] in _CLASS_COLUMNS]
    if len(found) == 1 or len(usual) == 1:
        return (found if len(found) == 1 else usual)[0]
    return None


def _list_class_features(feature: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    if isinstance(feature, Mapping):
        for name, inner in feature.items():
            yield from _list_class_features(inner, (*path, name))
    elif isinstance(feature, list | tuple):
        for inner in feature:
            yield from _list_class_features(inner, path)
    elif hasattr(feature, "int2str") and isinstance(getattr(feature, "names", None), list):
        yield path, feature.names
    elif hasattr(feature, "feature"):
        yield from _list_class_features(feature.feature, path)


def _list_ids(value: Any, path: tuple[str, ...]) -> list[int]:
    ids = [int(entry) for entry in _walk(value, path) if entry is not None]
    return [class_id for class_id in ids if class_id >= 0]  # -1 is a row without a label


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The values at the end of a path, through lists on the way."""
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _walk(entry, path)
    elif isinstance(value, Mapping) and path:
        yield from _walk(value[path[0]], path[1:])
    else:
        yield value


def _to_plain(value: Any, stamps: StampBook) -> Any:
    """What can be hashed, with the content of a file in the place of its path."""
    if isinstance(value, Mapping):
        if set(value) == {"bytes", "path"}:
            if value["bytes"] is not None:
                return value["bytes"]
            return None if value["path"] is None else stamps.stamp(value["path"])
        return {name: _to_plain(entry, stamps) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(entry, stamps) for entry in value]
    return value if value is None or isinstance(value, bool | int | float | str | bytes) else str(value)
