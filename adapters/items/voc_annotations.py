"""The annotations of Pascal VOC, one XML file for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from synthloader.checks import reject

__all__ = ["COORDINATES", "VocRecord", "list_class_names", "read_voc_file"]

COORDINATES = ("pixels", "edges")


@dataclass(frozen=True, slots=True, eq=False)
class VocRecord:
    """What an XML file says of its image.

    Args:
        file: The XML file.
        image_name: The name of the image, where it is said.
        size_hw: Height and width in pixels; None where they are not said, or 0.
        names: N names of classes.
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels.
        difficult: (N,) int64, whether an object is marked as hard to see.
        truncated: (N,) int64, whether it goes on beyond the box.
        places: (N,) int64, its place among the file's objects, counted from 0.
    """

    file: Path
    image_name: str | None
    size_hw: tuple[int, int] | None
    names: list[str]
    boxes: np.ndarray
    difficult: np.ndarray
    truncated: np.ndarray
    places: np.ndarray


def read_voc_file(path: Path, /, *, coordinates: str, drop_bad: bool) -> VocRecord:
    """Read and check one file.

    Args:
        path: The XML file.
        coordinates: `"pixels"`: the first and the last pixel, counted from 1, as VOC has it; `"edges"`: x1 y1 x2 y2.
        drop_bad: Whether boxes without area are left out instead of being refused.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no XML, or an object is wrong; the message has the file, the object and the remedy.
    """
    root = _parse(path)
    names, boxes, facts = [], [], []
    for place, thing in enumerate(root.findall("object")):
        where = f"object {place + 1} of {path}"
        name = (thing.findtext("name") or "").strip()
        if not name:
            reject(where, "have a name", name, "Correct the annotation.")
        box = [_read_number(thing, f"bndbox/{edge}", where) for edge in ("xmin", "ymin", "xmax", "ymax")]
        corners = [box[0] - 1, box[1] - 1, box[2], box[3]] if coordinates == "pixels" else box
        if corners[2] <= corners[0] or corners[3] <= corners[1]:
            if drop_bad:
                continue
            remedy = "Correct the annotation, or pass bad_boxes='drop', which leaves such boxes out."
            reject(f"the box of {where}", "have an area above 0", box, remedy)
        names.append(name)
        boxes.append(corners)
        facts.append([_read_flag(thing, "difficult"), _read_flag(thing, "truncated"), place])
    size = [_read_size(root, side) for side in ("height", "width")]
    columns = np.array(facts, np.int64).reshape(-1, 3)
    return VocRecord(
        path,
        (root.findtext("filename") or "").strip() or None,
        (size[0], size[1]) if all(size) else None,
        names,
        np.array(boxes, np.float32).reshape(-1, 4),
        *(np.ascontiguousarray(column) for column in columns.T),
    )


def list_class_names(path: Path, /) -> list[str]:
    """The names of a file's objects, without a look at their boxes."""
    return [(name.text or "").strip() for name in _parse(path).iterfind("object/name")]


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        reject("annotations", "hold a file for every image", str(path), error=FileNotFoundError)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} must be XML, but cannot be read: {error}. Restore the file.") from None


def _read_number(thing: ElementTree.Element, way: str, where: str) -> float:
    text = thing.findtext(way)
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        reject(f"{way} of {where}", "be a number", text, "Correct the annotation.")
    return number


def _read_flag(thing: ElementTree.Element, tag: str) -> int:
    return int((thing.findtext(tag) or "0").strip() not in ("0", "", "Unspecified"))


def _read_size(root: ElementTree.Element, side: str) -> int:
    text = (root.findtext(f"size/{side}") or "").strip()
    return int(text) if text.isdigit() else 0
