"""A COCO annotation file, read and checked: every fault is named with the file, the entry and what to do."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synthloader.checks import check_type, reject

__all__ = ["check_files", "make_coco", "read_annotation_file"]

_REQUIRED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"id": (int, str), "file_name": str, "height": int, "width": int},
    "annotations": {"id": (int, str), "image_id": (int, str), "category_id": int, "bbox": list},
    "categories": {"id": int, "name": str},
}


def read_annotation_file(path: Path, /) -> dict[str, Any]:
    """The content of a COCO file, with all references inside it checked.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON, or an entry is missing, repeated, or refers to one that does not exist.
        TypeError: An entry is of another type.
    """
    if not path.is_file():
        raise FileNotFoundError(f"annotations must name an existing file, got annotations={str(path)!r}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be JSON, but cannot be read: {error}. Export it again.") from None
    if not isinstance(content, dict):
        reject(
            "the annotation file",
            "be a dict with 'images', 'annotations' and 'categories'",
            content,
            f"Look at {path}.",
            error=TypeError,
        )
    for group, required in _REQUIRED.items():
        if not isinstance(content.get(group), list):
            reject("the annotation file", f"have a list {group!r}", list(content), f"Look at {path}.")
        _check_entries(group, content[group], required, path)
    if not content["images"]:
        reject("'images'", "have at least one entry", [], f"Look at {path}: an empty dataset cannot be mixed.")
    _check_references(content, path)
    return content


def check_files(root: Path, records: Iterable[Mapping[str, Any]], path: Path, /) -> None:
    """Every image lies below the root and exists; each folder is listed once, no image is opened.

    Raises:
        ValueError: A path leaves the root.
        FileNotFoundError: A file is missing.
    """
    folders: dict[str, set[str]] = {}
    missing = []
    for entry, record in enumerate(records):
        name = os.path.normpath(record["file_name"])
        if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir or "\0" in name:
            reject(
                f"images[{entry}]['file_name']",
                "stay below the folder of images",
                record["file_name"],
                f"Correct {path}: paths are relative to {root}.",
            )
        folder, file = os.path.split(os.path.join(root, name))
        if folder not in folders:
            folders[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if file not in folders[folder]:
            missing.append((entry, record["file_name"]))
    if missing:
        entry, name = missing[0]
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FileNotFoundError(
            f"images[{entry}]['file_name'] must name a file below {root}, got {name!r}{more}. Correct images=, the "
            f"folder that the names in {path} are relative to, or bring the missing files."
        )


def make_coco(content: dict[str, Any], /) -> Any:
    """`pycocotools.coco.COCO` over this content; it prints nothing."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped, unused-ignore]

    coco: Any = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _check_entries(group: str, entries: list[Any], required: Mapping[str, type | tuple[type, ...]], path: Path) -> None:
    seen: dict[Any, int] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            reject(f"{group}[{place}]", "be a dict", entry, f"Correct {path}.", error=TypeError)
        for field, kinds in required.items():
            if field not in entry:
                reject(f"{group}[{place}]", f"have {field!r}", list(entry), f"Correct {path}.")
            check_type(f"{group}[{place}][{field!r}]", entry[field], kinds, f"Correct {path}.")
        first = seen.setdefault(entry["id"], place)
        if first != place:
            reject(
                f"{group}[{place}]['id']",
                f"be of one entry only, but is that of {group}[{first}] too",
                entry["id"],
                f"Correct {path}.",
            )


def _check_references(content: Mapping[str, Any], path: Path) -> None:
    images = {record["id"] for record in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for place, annotation in enumerate(content["annotations"]):
        if annotation["image_id"] not in images:
            reject(
                f"annotations[{place}]['image_id']",
                "be the id of an image in the file",
                annotation["image_id"],
                f"Add the image to {path}, or remove the annotation.",
            )
        if annotation["category_id"] not in categories:
            reject(
                f"annotations[{place}]['category_id']",
                "be the id of a category in the file",
                annotation["category_id"],
                f"Add the category to {path}, or correct the annotation.",
            )
        if len(annotation["bbox"]) != 4:
            reject(f"annotations[{place}]['bbox']", "be x, y, width, height", annotation["bbox"], f"Correct {path}.")
        if not all(type(number) in (int, float) for number in annotation["bbox"]):
            reject(
                f"annotations[{place}]['bbox']",
                "be four numbers",
                annotation["bbox"],
                f"Write x, y, width and height of annotation id {annotation['id']!r} in {path} without quotes.",
                error=TypeError,
            )
    names: dict[str, int] = {}
    for place, category in enumerate(content["categories"]):
        if names.setdefault(category["name"], place) != place:
            reject(
                f"categories[{place}]['name']",
                f"be of one category only, but is that of categories[{names[category['name']]}] too",
                category["name"],
                f"Rename one of them in {path}.",
            )
