"""Pascal VOC annotations as torchvision's `VOCDetection` gives them: nested dicts of strings.

Every object travels whole, as JSON, in the attribute `voc.object`: one that nobody changed comes back equal to it. Of
one whose box changed `bndbox` is written anew, `pose` is `Unspecified`, and what has a place of its own (`part`,
`point`) is left out; the rest is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from synthloader.adapters.items.fields import dump_json, load_json, pack, unpack
from synthloader.checks import reject
from synthloader.errors import LabelContractError
from synthloader.targets import Instances

__all__ = ["VOC_CLASSES", "VOC_OBJECT", "is_voc_annotation", "pack_rest", "read_corners", "read_objects", "write_voc"]

VOC_OBJECT = "voc.object"

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's own classes; torchvision numbers them from 1 on, in this order."""

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_WITH_PLACES = ("part", "point")


def is_voc_annotation(value: Any, /) -> bool:
    """Whether a value is what `VOCDetection` has under `annotation`."""
    if not isinstance(value, Mapping) or not isinstance(value.get("object"), list):
        return False
    return all(
        isinstance(thing, Mapping) and "name" in thing and isinstance(thing.get("bndbox"), Mapping)
        for thing in value["object"]
    )


def read_corners(annotation: Mapping[str, Any], /, *, name: str) -> np.ndarray:
    """(N, 4) float64, xmin ymin xmax ymax as they stand there.

    Raises:
        ValueError: An edge is missing or no number.
    """
    rows = []
    for place, thing in enumerate(annotation["object"]):
        try:
            rows.append([float(thing["bndbox"][edge]) for edge in _EDGES])
        except (KeyError, TypeError, ValueError):
            reject(
                f"{name}['object'][{place}]['bndbox']",
                "have the numbers xmin, ymin, xmax and ymax",
                dict(thing["bndbox"]),
                "Correct the annotation.",
            )
    return np.array(rows, np.float64).reshape(-1, 4)


def read_objects(annotation: Mapping[str, Any], /) -> np.ndarray:
    """The column `voc.object`."""
    return np.array([dump_json(dict(thing)) for thing in annotation["object"]], np.str_)


def pack_rest(annotation: Mapping[str, Any], /) -> Any:
    """The annotation without its objects, for `Sample.fields`."""
    return pack({key: None if key == "object" else value for key, value in annotation.items()})


def write_voc(
    rest: Any,
    instances: Instances,
    /,
    *,
    same: np.ndarray,
    same_class: np.ndarray,
    num_before: int,
    size_hw: tuple[int, int],
    before_hw: tuple[int, int],
    first_pixel: int,
    class_ids: Mapping[str, int],
) -> dict[str, Any]:
    """The annotation of these instances; equal to the original one where nothing was changed.

    Args:
        rest: What `pack_rest` gave.
        instances: With the column `voc.object`; rows without one are written with VOC's usual five fields.
        same: (N,) bool, whose boxes are unchanged.
        same_class: (N,) bool, whose class is the one that its name stood for.
        num_before: Number of objects of the source.
        size_hw: Size of the image that is served.
        before_hw: Size of the source.
        first_pixel: What is added to x1 and y1: 1 where pixels are counted from 1, both ends included.
        class_ids: Class names to ids.

    Raises:
        LabelContractError: A class has no name.
    """
    annotation: dict[str, Any] = unpack(rest)
    names = {class_id: name for name, class_id in class_ids.items()}
    texts = instances.attributes.get(VOC_OBJECT, np.full(len(instances), "", np.str_))
    objects = []
    for row, text in enumerate(map(str, texts)):
        thing = load_json(text) if text.startswith("{") else {}
        is_new = not thing
        if is_new:
            thing = {"name": "", "pose": "Unspecified", "truncated": "0", "difficult": "0", "bndbox": {}}
        if is_new or not same_class[row]:
            class_id = int(instances.class_ids[row])
            if class_id not in names:
                raise LabelContractError(
                    f"class {class_id} of object {row} must have a name to be written, got classes={dict(class_ids)}. "
                    "Give the adapter all names: VocAdapter(classes=[...])."
                )
            thing["name"] = names[class_id]
        if is_new or not same[row]:
            _move(thing, instances.boxes[row], size_hw, first_pixel)
        objects.append(thing)
    annotation["object"] = objects
    size = annotation.get("size")
    if size_hw != before_hw and isinstance(size, dict):
        size |= {side: str(number) for side, number in zip(("height", "width"), size_hw, strict=True) if side in size}
    is_whole = size_hw == before_hw and len(objects) == num_before and bool(same.all())
    if not is_whole and "segmented" in annotation:
        annotation["segmented"] = "0"  # The masks on disk show the source's objects.
    return annotation


def _move(thing: dict[str, Any], box: np.ndarray, size_hw: tuple[int, int], first_pixel: int) -> None:
    """Another box, in whole pixels and at least one of them, and nothing that says where the object was."""
    height, width = size_hw
    corners = [math.floor(float(edge) + 0.5) for edge in box]
    for low, high, side in ((0, 2, width), (1, 3, height)):
        corners[low] = min(corners[low], side - 1)
        corners[high] = max(corners[high], corners[low] + 1)
    corners[:2] = [corners[0] + first_pixel, corners[1] + first_pixel]
    thing["bndbox"] = {**thing.get("bndbox", {}), **dict(zip(_EDGES, map(str, corners), strict=True))}
    for field in _WITH_PLACES:
        thing.pop(field, None)
    if "pose" in thing:
        thing["pose"] = "Unspecified"
