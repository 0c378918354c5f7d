"""What datasets say of their items without decoding them: names, files, annotations, sizes, classes.

Found by the shape of the dataset, never by the name of its module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from synthloader.lifting import is_known_reader
from synthloader.row_tables import is_row_table, read_table_classes

__all__ = ["ItemFacts", "read_class_table", "read_facts", "read_labels"]


class ItemFacts(NamedTuple):
    """What is known of one item without decoding it; None where it is not.

    Classes are what the dataset lists at that place, and are to be compared with items before they are trusted. An
    annotation is whatever JSON can hold, or the `Path` of the file that it stands in.
    """

    name: str | None
    file: str | None
    annotation: Any
    size_hw: tuple[int, int] | None
    class_ids: list[int] | None


def read_facts(base: Any, at: int, /) -> ItemFacts:
    """What a dataset itself (no `Subset` of it) says of its item `at`."""
    told = getattr(base, "read_facts", None)
    if told is not None:
        facts: ItemFacts = told(at)
    else:
        facts = (_read_coco if hasattr(base, "coco") and hasattr(base, "ids") else _read_files)(base, at)
        if not is_known_reader(base):  # Which of its files the item is, only the class itself knows.
            facts = ItemFacts(None, None, None, None, facts.class_ids)
    if hasattr(base, "get_height_and_width"):
        height, width = base.get_height_and_width(at)
        facts = facts._replace(size_hw=(int(height), int(width)))
    return facts


def _read_coco(base: Any, at: int) -> ItemFacts:
    image_id = base.ids[at]
    record = base.coco.imgs[image_id]
    annotations = base.coco.imgToAnns.get(image_id, [])
    name = str(record["file_name"])
    size = (int(record["height"]), int(record["width"])) if "height" in record and "width" in record else None
    return ItemFacts(
        name,
        str(Path(getattr(base, "root", "")) / name),
        [record, annotations],
        size,
        _read_category_ids(annotations),
    )


def _read_category_ids(annotations: list[Any]) -> list[int] | None:
    """The class of every annotation that has one; None where one is no number, which is said when the item is read."""
    ids = [annotation["category_id"] for annotation in annotations if "category_id" in annotation]
    return ids if all(type(class_id) is int for class_id in ids) else None


def _read_files(base: Any, at: int) -> ItemFacts:
    """Facts of a dataset that lists its files as `samples` of (path, class), or as `images` beside `targets`."""
    count = len(base) if hasattr(base, "__len__") else -1
    lister = _find_lister(base)
    root = getattr(lister, "root", None)
    samples: Any = getattr(lister, "samples", None)
    targets: Any = getattr(base, "targets", None)
    labels = read_labels(base)
    label = None if labels is None else [int(labels[at])]
    if _is_sized(samples, count) and isinstance(samples[at], tuple | list) and isinstance(samples[at][0], str | Path):
        file = str(samples[at][0])
        annotation: Any = [*map(str, samples[at][1:]), *_name_loader(lister)]
        return ItemFacts(_shorten(file, root), file, annotation, None, label)
    files: Any = getattr(base, "images", None)
    if _is_sized(files, count) and isinstance(files[at], str | Path):
        file = str(files[at])
        beside = targets[at] if _is_sized(targets, count) else None
        annotation = None
        if isinstance(beside, str | Path) and os.path.isfile(beside):
            annotation = Path(beside)
        return ItemFacts(_shorten(file, root), file, annotation if label is None else label, None, label)
    return ItemFacts(None, None, None, None, label)


def _name_loader(lister: Any) -> list[str]:
    """What opens the files, where it is not torchvision's own."""
    loader = getattr(lister, "loader", None)
    if not callable(loader) or getattr(loader, "__module__", "").startswith("torchvision."):
        return []
    return [f"{getattr(loader, '__module__', '')}.{getattr(loader, '__qualname__', type(loader).__name__)}"]


def _find_lister(base: Any) -> Any:
    """What holds `samples` and `class_to_idx`: timm's datasets leave that to a reader."""
    reader = getattr(base, "reader", None)
    return reader if reader is not None and hasattr(reader, "samples") else base


def read_class_table(base: Any, /) -> dict[str, int]:
    """Class names to ids as the dataset has them; empty where it has none."""
    if is_row_table(base):
        return read_table_classes(base) or {}
    for holder in (base, getattr(base, "reader", None)):
        table = getattr(holder, "class_to_idx", None)
        if isinstance(table, Mapping):
            return {str(name): int(class_id) for name, class_id in table.items()}
    records = getattr(getattr(base, "coco", None), "cats", {})
    return {str(record["name"]): int(class_id) for class_id, record in records.items() if "name" in record}


def read_labels(base: Any, /) -> Any:
    """One class id for each item of a classification dataset: its `targets`, or what timm's reader lists."""
    count = len(base) if hasattr(base, "__len__") else -1
    lister = _find_lister(base)
    samples: Any = getattr(lister, "samples", None)
    if count and _is_sized(samples, count) and isinstance(samples[0], tuple | list):
        if isinstance(samples[0][-1], int):  # What is read; `targets` beside it is a copy.
            return _ReaderLabels(samples)
        if lister is not base:
            return None
    targets = getattr(base, "targets", None)
    return targets if _is_list_of_ints(targets, count) else None


class _ReaderLabels:
    """The second part of a reader's (path, class), looked up when asked for."""

    def __init__(self, samples: Sequence[Any]) -> None:
        self._samples = samples

    def __getitem__(self, at: int) -> int:
        return int(self._samples[at][-1])


def _shorten(file: str, root: Any) -> str:
    if isinstance(root, str | Path):
        try:
            return Path(file).resolve().relative_to(Path(root).resolve()).as_posix()
        except ValueError:
            pass
    return Path(file).as_posix()


def _is_sized(value: Any, count: int) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and len(value) == count


def _is_list_of_ints(value: Any, count: int) -> bool:
    if value is None or isinstance(value, str) or not hasattr(value, "__len__") or len(value) != count or not count:
        return False
    first = value[0]
    return (isinstance(first, int | np.integer) and not isinstance(first, bool)) or (
        getattr(first, "ndim", None) == 0 and not getattr(first, "is_floating_point", bool)()
    )
