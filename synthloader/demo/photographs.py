"""What the demo runs on: photographs that scikit-image installs, or a COCO folder of the user's own."""

from __future__ import annotations

import importlib.util
import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from synthloader.errors import MissingExtraError

__all__ = ["Photographs", "find_coco", "find_installed"]

SECOND_VIEW = "motorcycle_right.png"
"""The other half of a stereo pair: nearly the same picture, which would teach nothing more."""

MOST_IMAGES = 200
FEWEST_IMAGES = 8
MOST_PIXELS = 150_000_000
"""Of all images together, so that four versions of each, uncompressed, take less than 2 GB."""


class Photographs(NamedTuple):
    """Images and their annotations on disk.

    Attributes:
        images: Folder that the names in the annotations are relative to.
        annotations: COCO JSON file.
        num_found: How many images there were, of which the file may name some.
    """

    images: Path
    annotations: Path
    num_found: int


def find_installed(out: Path, /) -> Photographs:
    """The photographs of scikit-image, with this project's annotations, of which a copy is written to `out`.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    package = importlib.util.find_spec("skimage")  # found, and not imported
    folders = package.submodule_search_locations if package is not None else None
    if not folders:
        raise MissingExtraError(
            "The demo needs photographs of scikit-image. Install synthloader[demo], or pass --data with a COCO folder.",
            name="skimage",
        )
    images = Path(next(iter(folders))) / "data"
    text = (resources.files("synthloader.demo") / "annotations.json").read_text(encoding="utf-8")
    content = json.loads(text)
    chosen = {record["id"] for record in content["images"] if record["file_name"] != SECOND_VIEW}
    annotations = out / "annotations.json"
    annotations.write_text(json.dumps(_select(content, chosen), indent=1), encoding="utf-8")
    return Photographs(images, annotations, len(chosen))


def find_coco(data: Path, out: Path, /) -> Photographs:
    """Images and annotations below a COCO folder, by what such folders are usually called.

    Of a large dataset some images, evenly spread, are enough: annotations of these alone are written to `out`.

    Args:
        data: The folder, or the annotation file itself where the folder has several.
        out: Folder to write to.

    Raises:
        FileNotFoundError: There is no such folder, no annotation file in it, or no folder with the images.
        ValueError: Several files may be meant, or the file is no COCO file.
    """
    if not data.exists():
        raise FileNotFoundError(f"--data must name a folder that exists, got {data}.")
    annotations = data if data.is_file() else _find_annotations(data)
    content = _read_content(annotations)
    name = content["images"][0]["file_name"]
    for folder in _list_image_folders(data, annotations):
        if (folder / name).is_file():
            some = _write_some(content, annotations.absolute(), out)
            return Photographs(folder.absolute(), some, len(content["images"]))
    raise FileNotFoundError(
        f"the images of {annotations} were not found: no folder near it holds {name!r}, the first one that it names. "
        f"Put them into a folder images beside it."
    )


def _write_some(content: dict[str, Any], annotations: Path, out: Path) -> Path:
    """The annotation file itself, or one of fewer images where all of them would take too long or too much room."""
    records = content["images"]
    num_pixels = sum(int(record.get("width", 0)) * int(record.get("height", 0)) for record in records) / len(records)
    most = min(MOST_IMAGES, max(FEWEST_IMAGES, int(MOST_PIXELS / max(1.0, num_pixels))))
    if len(records) <= most:
        return annotations
    chosen = {records[at * len(records) // most]["id"] for at in range(most)}
    path = out / "annotations.json"
    path.write_text(json.dumps(_select(content, chosen)), encoding="utf-8")
    return path


def _select(content: dict[str, Any], image_ids: set[Any]) -> dict[str, Any]:
    return {
        **content,
        "images": [record for record in content["images"] if record["id"] in image_ids],
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] in image_ids],
    }


def _find_annotations(data: Path) -> Path:
    """The only file by one of the usual names, those for training first; else the only JSON file."""
    folders = [folder for folder in (data, data / "annotations", data / "coco", data / "train") if folder.is_dir()]
    for pattern in ("instances_train*.json", "instances*.json", "*annotations*.json", "*train*.json", "*.json"):
        found = sorted(file for folder in folders for file in folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(file.relative_to(data)) for file in found)
            raise ValueError(f"{data} holds several annotation files: {names}. Name one: --data {found[0]}.")
    raise FileNotFoundError(
        f"no COCO annotation file in {data}: it should hold annotations.json, annotations/instances_*.json or a single "
        f"JSON file. Name the file itself: --data {data / 'my_annotations.json'}."
    )


def _read_content(annotations: Path) -> dict[str, Any]:
    """The file's content, as far as it is looked at here; `CocoDataset` checks the rest."""
    try:
        content: dict[str, Any] = json.loads(annotations.read_text(encoding="utf-8"))
        parts = [*content["images"], *content["annotations"]]
        if all(isinstance(part, dict) for part in parts) and isinstance(content["images"][0]["file_name"], str):
            return content
    except (ValueError, KeyError, IndexError, TypeError):
        pass
    raise ValueError(
        f"{annotations} is no COCO annotation file: it should be JSON with lists images, annotations and categories, "
        f"and at least one image with a file_name."
    )


def _list_image_folders(data: Path, annotations: Path) -> list[Path]:
    """Folders that the names may be relative to, the likeliest first."""
    tops = [data] if data.is_dir() else []
    tops += [annotations.absolute().parent, annotations.absolute().parent.parent]
    found: list[Path] = []
    for top in tops:
        below = sorted(folder for folder in top.iterdir() if folder.is_dir())
        found += [top / "images", top, *below]
    return found
