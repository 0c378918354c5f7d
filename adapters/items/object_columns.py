"""Objects of a row, as a dict of columns or a list of dicts, to COCO annotations and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from synthloader.adapters.items.fields import describe_array, make_array
from synthloader.checks import reject
from synthloader.errors import LabelContractError

__all__ = ["check_classes", "describe_objects", "is_objects", "list_objects", "make_objects"]

_BOXES = ("bbox", "bboxes")
_CLASSES = (
    "category",
    "category_id",
    "categories",
    "category_ids",
    "label",
    "labels",
    "class",
    "class_id",
    "class_ids",
    "class_label",
    "class_labels",
)
_CROWDS = ("iscrowd", "is_crowd")
_BOX, _CLASS, _CROWD = "bbox", "category_id", "iscrowd"


def is_objects(value: Any, /) -> bool:
    """Whether a value holds objects with boxes and classes, as a dict of columns or a list of dicts, perhaps empty."""
    if isinstance(value, dict):
        return _find(value, _BOXES) is not None and _find(value, _CLASSES) is not None
    return isinstance(value, list) and all(isinstance(part, dict) and is_objects(part) for part in value)


def describe_objects(value: Any, /) -> dict[str, Any]:
    """The form of objects, for `make_objects`: names of the columns and what each is made of."""
    first = value if isinstance(value, dict) else (value[0] if value else {})
    form: dict[str, Any] = {"as_list": isinstance(value, list), "columns": list(first)}
    form["class_field"] = _find(first, _CLASSES) or "category"
    kinds = {}
    for name in first:
        rows = value[name] if isinstance(value, dict) else [part[name] for part in value if name in part]
        if isinstance(rows, torch.Tensor | np.ndarray):
            kinds[name] = f"{describe_array(rows)} rows {' '.join(map(str, rows.shape[1:]))}"
        else:
            kinds[name] = _find_number_kind(rows)
    return {**form, "kinds": kinds}


def list_objects(value: Any, /) -> list[dict[str, Any]]:
    """COCO annotations of these objects, in memory of their own.

    Raises:
        ValueError: Columns differ in length.
    """
    if isinstance(value, dict):
        columns = {name: _to_rows(rows) for name, rows in value.items()}
        lengths = {name: len(rows) for name, rows in columns.items()}
        if len(set(lengths.values())) > 1:
            reject("objects", "have as many entries in every column", lengths, "Correct the annotation.")
        count = next(iter(lengths.values()), 0)
        parts = [{name: rows[row] for name, rows in columns.items()} for row in range(count)]
    else:
        parts = [{name: _to_plain(entry) for name, entry in part.items()} for part in value]
    return [_rename(part) for part in parts]


def check_classes(annotations: list[dict[str, Any]], /, *, field: str, objects: str, name: str) -> None:
    """Refuse names in the place of ids.

    Args:
        annotations: COCO annotations, as `list_objects` gives them.
        field: What their column of classes is called in the row.
        objects: The column of objects.
        name: What the objects are called in messages: `dataset[17]['objects']`.

    Raises:
        TypeError: A class is a text.
    """
    for row, annotation in enumerate(annotations):
        if isinstance(annotation.get(_CLASS), str):
            reject(
                f"{name}[{row}][{field!r}]",
                "be an integer",
                annotation[_CLASS],
                f"Make ids of names: cast the column {field!r} in {objects!r} to datasets.ClassLabel (cast_column), or "
                "map it with a dict of names and ids.",
                error=TypeError,
            )


def make_objects(
    annotations: list[dict[str, Any]],
    attributes: Mapping[str, np.ndarray],
    *,
    form: Mapping[str, Any] | None,
    like: Any,
) -> Any:
    """Native objects of these annotations.

    Args:
        annotations: COCO annotations.
        attributes: Those of the instances: where a new object has what its annotation does not say.
        form: The source's form; None where it came from another kind of dataset.
        like: Objects of any row of the dataset.
    """
    known = describe_objects(like)
    names: list[str] = (form or {}).get("columns") or known["columns"] or ["bbox", "category"]
    kinds = {**(form or {}).get("kinds", {}), **known["kinds"]}
    rows = []
    for place, annotation in enumerate(annotations):
        rows.append({name: _find_entry(annotation, attributes, name, place, kinds.get(name)) for name in names})
    if known["as_list"]:
        return rows
    columns = {name: [row[name] for row in rows] for name in names}
    return {name: _make_column(entries, kinds.get(name)) for name, entries in columns.items()}


def _find(names: Mapping[str, Any], known: tuple[str, ...]) -> str | None:
    return next((name for name in known if name in names), None)


def _rename(part: dict[str, Any]) -> dict[str, Any]:
    usual = {_find(part, _BOXES): _BOX, _find(part, _CLASSES): _CLASS, _find(part, _CROWDS): _CROWD}
    return {usual.get(name, name): entry for name, entry in part.items()}


def _find_entry(
    annotation: dict[str, Any], attributes: Mapping[str, np.ndarray], name: str, place: int, kind: str | None
) -> Any:
    inside = name
    for known, usual in ((_BOXES, _BOX), (_CLASSES, _CLASS), (_CROWDS, _CROWD)):
        if name in known:
            inside = usual
    if inside in annotation:
        entry = annotation[inside]
    elif inside in attributes:
        entry = attributes[inside][place].tolist()
    else:
        raise LabelContractError(
            f"attributes must keep {inside!r}, which the dataset has for every object, got "
            f"attributes={sorted(attributes)}. Carry the attributes of Instances on in the generator."
        )
    return _round(entry) if kind == "int" else entry


def _find_number_kind(rows: Any) -> str:
    """`int` where all numbers are, so that boxes and areas of moved objects are whole numbers too."""
    flat = [number for row in rows for number in (row if isinstance(row, list | tuple) else [row])]
    return "int" if flat and all(type(number) is int for number in flat) else "list"


def _round(entry: Any) -> Any:
    if isinstance(entry, list | tuple):
        return [_round(number) for number in entry]
    return round(entry) if isinstance(entry, float) else entry


def _make_column(entries: list[Any], kind: str | None) -> Any:
    if kind is None or kind in ("int", "list"):
        return entries
    form, _, row_shape = kind.partition(" rows ")
    array = np.array(entries) if entries else np.zeros((0, *map(int, row_shape.split())))
    return make_array(array, form, size_hw=(0, 0))


def _to_rows(rows: Any) -> list[Any]:
    return [_to_plain(entry) for entry in rows]


def _to_plain(entry: Any) -> Any:
    """Numbers and lists of Python, as COCO files have them."""
    if isinstance(entry, torch.Tensor | np.ndarray | np.generic):
        return entry.tolist()
    if isinstance(entry, list | tuple):
        return [_to_plain(part) for part in entry]
    return entry
