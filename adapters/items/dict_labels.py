"""Which entries of a dict are the image and its label: by name and form together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch

from synthloader.adapters.items.classification import is_class_id
from synthloader.adapters.items.detection import DetectionAdapter
from synthloader.adapters.items.images import is_image
from synthloader.adapters.items.planes import is_plane
from synthloader.adapters.items.rows import has_rows
from synthloader.adapters.items.semantic import may_hold_ids
from synthloader.checks import reject

__all__ = ["BOX_FIELDS", "CLASS_FIELDS", "find_class_field", "find_image_key", "find_label", "is_flat"]

IMAGE_KEYS = ("image", "img", "pixel_values", "picture", "photo", "input", "inputs", "x")
MASK_KEYS = (
    "mask",
    "masks",
    "label",
    "labels",
    "annotation",
    "annotations",
    "segmentation",
    "segmentation_mask",
    "segmentation_map",
    "semantic_mask",
    "semantic_segmentation",
    "semantic",
    "sem_seg",
    "gt_semantic_seg",
    "seg",
    "target",
    "targets",
    "gt",
    "y",
)
CLASS_KEYS = ("label", "labels", "target", "targets", "class", "class_id", "class_idx", "category", "category_id", "y")
TARGET_KEYS = ("target", "targets", "label", "labels", "annotation", "annotations")
"""Names under which a dict of boxes and labels, or a list of COCO annotations, may stand."""

BOX_FIELDS = ("boxes", "bboxes", "bbox")
CLASS_FIELDS = ("labels", "class_labels", "category_ids", "category_id", "class_ids", "categories", "category", "cls")
"""Names that the classes of boxes have, the usual one first."""


def find_image_key(item: Mapping[Any, Any], /) -> str | None:
    """The name of the image: the first of the usual names that holds one."""
    return next((key for key in IMAGE_KEYS if key in item and is_image(item[key])), None)


def is_flat(target: str, item: Mapping[str, Any], /) -> bool:
    """Whether boxes (or masks of objects) and their classes are entries of the item itself."""
    classes = find_class_field(item)
    if classes is None or not has_rows(item.get(target)):
        return False
    return target in BOX_FIELDS or (target == "masks" and np.ndim(item[target]) == 3 and not is_plane(item[target]))


def find_class_field(item: Mapping[str, Any], /) -> str | None:
    """The entry that holds the classes of boxes."""
    return next((name for name in CLASS_FIELDS if has_rows(item.get(name))), None)


def find_label(items: Sequence[Mapping[str, Any]], /, *, image: str) -> str | None:
    """The entry that holds the label in all of these items; None where there is none.

    Raises:
        TypeError: There are several.
    """
    first = items[0]
    boxes = [name for name in BOX_FIELDS if all(is_flat(name, item) for item in items)]
    if boxes or all(is_flat("masks", item) for item in items):
        _refuse_several(boxes)
        return boxes[0] if boxes else "masks"
    keys = [key for key in first if key != image and all(key in item for item in items)]
    found = [key for key in keys if _is_label(key, [(item[image], item[key]) for item in items])]
    _refuse_several(found)
    return found[0] if found else None


def _is_label(key: str, pairs: list[tuple[Any, Any]]) -> bool:
    labels = [label for _, label in pairs]
    if key in MASK_KEYS and all(_may_be_mask(key, label) for label in labels):
        return True
    if key in CLASS_KEYS and all(map(is_class_id, labels)):
        return True
    return (
        key in TARGET_KEYS
        and all(isinstance(label, dict | list) for label in labels)
        and any(map(bool, labels))
        and DetectionAdapter.recognize(None, pairs) is not None
    )


def _may_be_mask(key: str, label: Any) -> bool:
    """Whether it is a map of ids, or called a mask: then its form is refused, if at all, when it is read."""
    if "mask" in key or "seg" in key:
        return isinstance(label, PIL.Image.Image) or (isinstance(label, torch.Tensor | np.ndarray) and label.ndim >= 2)
    return may_hold_ids(label)


def _refuse_several(found: list[str]) -> None:
    if len(found) > 1:
        reject(
            "items",
            "have one label",
            found,
            f"A generator keeps one label true: pass adapter=DictAdapter(target={found[0]!r}), or {found[1]!r}; the "
            "other entry is then carried along, and must stay true by itself.",
            error=TypeError,
        )
