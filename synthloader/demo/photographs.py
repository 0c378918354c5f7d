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


class Photographs(NamedTuple):
    """Images and their annotations on disk.

    Attributes:
        images: Folder that the names in the annotations are relative to.
        annotations: COCO JSON file.
    """

    images: Path
    annotations: Path


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
    chosen = _leave_out(json.loads(text), SECOND_VIEW)
    annotations = out / "annotations.json"
    annotations.write_text(json.dumps(chosen, indent=1), encoding="utf-8")
    return Photographs(images, annotations)


def find_coco(data: Path, /) -> Photographs:
    """Images and annotations below a COCO folder, by what such folders are usually called.

    Args:
        data: The folder, or the annotation file itself where the folder has several.

    Raises:
        FileNotFoundError: There is no such folder, no annotation file in it, or no folder with the images.
        ValueError: Several files may be meant, or the file is no COCO file.
    """
    if not data.exists():
        raise FileNotFoundError(f"--data must name a folder that exists, got {data}.")
    annotations = data if data.is_file() else _find_annotations(data)
    name = _read_first_name(annotations)
    for folder in _list_image_folders(data, annotations):
        if (folder / name).is_file():
            return Photographs(folder.absolute(), annotations.absolute())
    raise FileNotFoundError(
        f"the images of {annotations} were not found: no folder near it holds {name!r}, the first one that it names. "
        f"Put them into a folder images beside it."
    )


def _leave_out(content: dict[str, Any], file_name: str) -> dict[str, Any]:
    gone = {record["id"] for record in content["images"] if record["file_name"] == file_name}
    return {
        **content,
        "images": [record for record in content["images"] if record["id"] not in gone],
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] not in gone],
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


def _read_first_name(annotations: Path) -> str:
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
        return str(content["images"][0]["file_name"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise ValueError(
            f"{annotations} is no COCO annotation file: it should be JSON with lists images, annotations and "
            f"categories, and at least one image with a file_name."
        ) from None


def _list_image_folders(data: Path, annotations: Path) -> list[Path]:
    """Folders that the names may be relative to, the likeliest first."""
    tops = [data] if data.is_dir() else []
    tops += [annotations.absolute().parent, annotations.absolute().parent.parent]
    found: list[Path] = []
    for top in tops:
        below = sorted(folder for folder in top.iterdir() if folder.is_dir())
        found += [top / "images", top, *below]
    return found
