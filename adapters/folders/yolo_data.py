"""`data.yaml` and the folders of a YOLO data set: which images there are, and where their labels lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from synthloader.adapters.folders.image_files import IMAGE_SUFFIXES, list_image_files
from synthloader.checks import check_type, reject, suggest_name

__all__ = ["YoloData", "find_label_file", "find_yolo_images", "read_data_file", "read_names"]

_NOT_SPLITS = frozenset(
    ("path", "names", "nc", "kpt_shape", "flip_idx", "kpt_names", "download", "class_ids", "channels")
)


@dataclass(frozen=True)
class YoloData:
    """What a `data.yaml` says of one split.

    Args:
        root: The folder that paths are relative to.
        images: Folders of images, or `.txt` files that list some.
        names: Class id to name; None where none are given.
        kpt_shape: Points of an object and numbers of a point; None where it is not said.
    """

    root: Path
    images: tuple[Path, ...]
    names: dict[int, str] | None
    kpt_shape: tuple[int, int] | None


def read_data_file(path: str | os.PathLike[str], split: str, /) -> YoloData:
    """Read a `data.yaml`. `path` in it is relative to the file itself, and so are the splits where there is none.

    Raises:
        FileNotFoundError: The file, or a path that it names, does not exist.
        ValueError: It is no YAML, or lacks the split.
    """
    file = Path(path)
    if not file.is_file():
        reject("data", "name an existing data.yaml", str(path), error=FileNotFoundError)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must be YAML, but cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        reject(str(file), "be a mapping with 'train' and 'names'", content, error=TypeError)
    root = Path(os.path.abspath(file.parent / str(content.get("path") or ".")))
    if not root.is_dir():
        remedy = f"A relative path is relative to {file}."
        reject("'path'", "name an existing folder", content["path"], remedy, error=FileNotFoundError)
    if not content.get(split) or split in _NOT_SPLITS:
        splits = [name for name, value in content.items() if value and name not in _NOT_SPLITS]
        reject("split", f"be in {file}", split, suggest_name(split, splits))
    stated = content[split] if isinstance(content[split], list) else [content[split]]
    for entry in stated:
        check_type(f"{split!r} in {file}", entry, str, "Give a folder, a list of folders, or a .txt file of paths.")
    images = tuple(_find_path(root, entry, f"{split!r} in {file}") for entry in stated)
    return YoloData(root, images, read_names(content.get("names"), str(file)), _read_kpt_shape(content, file))


def read_names(names: Any, where: str, /) -> dict[int, str] | None:
    """Class id to name, in the order of the ids, from a list or a dict.

    Raises:
        ValueError: Ids are not 0, 1, 2, ..., or two classes have one name.
    """
    if names is None:
        return None
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping) or not names:
        reject("names", "be a list of names, or a dict of ids and names", names, f"Look at {where}.", error=TypeError)
    table = {_to_id(key, where): str(name) for key, name in names.items()}
    table = dict(sorted(table.items()))
    if list(table) != list(range(len(table))):
        reject("names", "number the classes 0, 1, 2, ...", list(table), f"Correct {where}.")
    twice = [name for name in table.values() if list(table.values()).count(name) > 1]
    if twice:
        reject("names", "be different for each class", twice[0], f"Correct {where}.")
    return table


def find_yolo_images(places: Sequence[Path], /, *, root: Path, name: str) -> list[tuple[Path, Path]]:
    """Images of folders and lists, and for each the folder that it was found in; sorted by path, each once.

    Paths in lists are relative to the list, or else to the root, and must lie below one of the two.

    Args:
        places: Folders, or `.txt` files of paths.
        root: The root of the data set.
        name: What they are called in messages.
    """
    found: dict[Path, Path] = {}
    for place in places:
        if place.suffix == ".txt" and place.is_file():
            found |= dict.fromkeys(_read_list(place, root), place.parent)
        else:
            found |= dict.fromkeys(list_image_files(place, name=name), place)
    return sorted(found.items(), key=lambda pair: pair[0].as_posix())


def find_label_file(image: Path, /, *, folder: Path, labels: Path | None) -> Path:
    """Where the labels of an image lie.

    Args:
        image: The image.
        folder: The folder in which it was found.
        labels: The folder of labels, with the same folders in it; None: beside that of the images, as Ultralytics has
            it: the last `images` in the path becomes `labels`.
    """
    if labels is not None:
        return (labels / image.relative_to(folder)).with_suffix(".txt")
    parts = list(image.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _read_list(file: Path, root: Path) -> list[Path]:
    found, allowed = [], {file.parent.resolve(), root.resolve()}
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        choices = [Path(os.path.abspath(base / line.strip())) for base in (file.parent, root)]
        image = next((choice for choice in choices if choice.is_file()), None)
        where = f"{file}:{number}"
        if image is None:
            reject(where, "name an existing image", line.strip(), error=FileNotFoundError)
        if not any(image.resolve().is_relative_to(base) for base in allowed):
            remedy = "Set 'path' in data.yaml to a folder that holds all images, or give folders instead of a list."
            reject(where, f"name an image below {root}", line.strip(), remedy)
        if image.suffix.lower() not in IMAGE_SUFFIXES:
            reject(where, f"name an image ({', '.join(sorted(IMAGE_SUFFIXES))})", line.strip())
        found.append(image)
    if not found:
        reject(str(file), "list at least one image", [])
    return found


def _find_path(root: Path, entry: str, name: str) -> Path:
    path = Path(os.path.abspath(root / entry))
    if not path.exists() and entry.startswith("../"):
        # Exports of a well-known labelling service write `../train/images` beside the folder `train`.
        path = Path(os.path.abspath(root / entry[3:]))
    if not path.exists():
        reject(name, f"name a folder or a file below {root}", entry, error=FileNotFoundError)
    return path


def _to_id(key: Any, where: str) -> int:
    try:
        return int(key)
    except (TypeError, ValueError):
        reject("names", "have whole numbers as ids", key, f"Correct {where}.")


def _read_kpt_shape(content: Mapping[str, Any], file: Path) -> tuple[int, int] | None:
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(side) is int for side in shape):
        reject("kpt_shape", "be [points of an object, numbers of a point]", shape, f"Correct {file}.")
    return shape[0], shape[1]
