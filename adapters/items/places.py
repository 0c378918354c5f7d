"""Where the instances of a target dict are: its boxes and masks, or COCO's `bbox` and `segmentation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from synthloader.adapters.items.boxes import find_box_format, read_boxes, to_xyxy
from synthloader.adapters.items.coco_columns import is_bbox_list, read_segmentation_masks
from synthloader.adapters.items.fields import describe_array, read_array
from synthloader.adapters.items.rows import count_rows, has_rows, read_masks
from synthloader.checks import reject

__all__ = ["PLACE_FIELDS", "Places", "count_instances", "find_place_field", "read_places"]

PLACE_FIELDS = ("boxes", "masks", "bbox", "segmentation")
"""Fields that say where the instances are; the first one there is gives their number."""

_OF_INSTANCES = ("labels", "category_id", "class_labels", "keypoints", "iscrowd")
_ROTATED = (
    "A rotated box is not kept true: return the upright one around it as XYXY, and what needs the angle as masks or "
    "keypoints, or pass an adapter= of your own."
)


class Places(NamedTuple):
    """What is known of where the instances are.

    Attributes:
        num_rows: Number of instances, those included that are to be dropped.
        native: (N, 4) float64, boxes as the items have them; xyxy where items have no `boxes`.
        boxes: (N, 4) float32, xyxy pixels inside the image.
        keep: (N,) bool, or None for all.
        masks: (N, H, W) bool; None where there are none.
    """

    num_rows: int
    native: np.ndarray
    boxes: np.ndarray
    keep: np.ndarray | None
    masks: np.ndarray | None


def find_place_field(target: Mapping[str, Any], /) -> str | None:
    """The field that says where the instances are; None where there is none."""
    for field in PLACE_FIELDS:
        value = target.get(field)
        is_list = isinstance(value, list | tuple)
        if field not in target or (field == "segmentation" and not is_list):
            continue
        if field != "bbox" or is_bbox_list(value) or (is_list and not value):
            return field
    return None


def count_instances(target: Mapping[str, Any], /) -> int:
    """Number of instances of a target dict."""
    field = find_place_field(target)
    return count_rows(target[field]) if field is not None and has_rows(target[field]) else 0


def read_places(
    target: Mapping[str, Any], /, *, size_hw: tuple[int, int], name: str, stated_format: str, drop_bad: bool
) -> Places:
    """Boxes and masks, each made from the other kind where the target has one alone.

    Args:
        target: The native target.
        size_hw: Height and width of the image.
        name: What the target is called in messages.
        stated_format: Format of `boxes` that do not say it themselves.
        drop_bad: Whether boxes without area and empty masks are dropped instead of being refused.

    Raises:
        ValueError: A box or a mask is wrong.
        TypeError: Nothing says where the instances are, or it is no array.
    """
    field = find_place_field(target)
    if field is None:
        if has := [key for key in _OF_INSTANCES if has_rows(target.get(key)) and count_rows(target[key])]:
            remedy = "Return them too (target_keys=), or pass an adapter= of your own."
            wanted = f"have 'boxes' or 'masks' for what {', '.join(map(repr, has))} label"
            reject(name, wanted, list(target), remedy, error=TypeError)
        return Places(0, _NO_BOXES, _NO_BOXES.astype(np.float32), None, np.zeros((0, *size_hw), np.bool_))
    if not has_rows(target[field]):
        reject(f"{name}[{field!r}]", "be an array, a tensor or a list", target[field], error=TypeError)
    num_rows = count_rows(target[field])
    masks = np.zeros((0, *size_hw), np.bool_) if num_rows == 0 else None
    if num_rows and "masks" in target:
        masks = read_masks(target["masks"], name=f"{name}['masks']", num_rows=num_rows, size_hw=size_hw)
    known: _Boxes | None = None
    if field == "boxes":
        known = _read_boxes(target["boxes"], size_hw, f"{name}['boxes']", stated_format, drop_bad)
    elif "masks" not in target and is_bbox_list(target.get("bbox")):
        known = _read_bboxes(target["bbox"], size_hw, f"{name}['bbox']", drop_bad)
    segmentation = target.get("segmentation")
    if masks is None and isinstance(segmentation, list | tuple) and len(segmentation) == num_rows:
        masks = read_segmentation_masks(
            segmentation,
            boxes=None if known is None else known[1],
            size_hw=size_hw,
            name=f"{name}['segmentation']",
            num_rows=num_rows,
        )
    if known is None:
        if masks is None:
            reject(name, "draw every instance in 'segmentation', or have 'boxes' or 'bbox'", list(target))
        known = _make_boxes(masks, f"{name}[{field!r}]", drop_bad)
    return Places(num_rows, *known, masks)


_NO_BOXES = np.zeros((0, 4))
_Boxes = tuple[np.ndarray, np.ndarray, "np.ndarray | None"]


def _read_boxes(value: Any, size_hw: tuple[int, int], name: str, stated_format: str, drop_bad: bool) -> _Boxes:
    box_format = find_box_format(describe_array(value), stated_format)
    if box_format is None:
        reject(f"the format of {name}", "be XYXY, XYWH or CXCYWH", value.format.value, _ROTATED)
    canvas_hw = getattr(value, "canvas_size", size_hw)
    if tuple(canvas_hw) != size_hw:
        reject(
            f"the canvas_size of {name}",
            f"be the image's height and width, {size_hw}",
            tuple(canvas_hw),
            "Give the boxes and the image one size.",
        )
    native = read_array(value, name=name)
    if native.size == 0:
        return _NO_BOXES, _NO_BOXES.astype(np.float32), None
    if native.ndim != 2 or native.shape[1] != 4 or native.dtype.kind not in "iuf":
        reject(name, "be numbers of shape (N, 4)", native, "Correct the annotation.")
    boxes, keep = read_boxes(
        native,
        box_format=box_format,
        size_hw=size_hw,
        drop_bad=drop_bad,
        name=name,
        name_row=lambda row: f"{name}[{row}]",
    )
    return native.astype(np.float64), boxes, keep


def _read_bboxes(value: Any, size_hw: tuple[int, int], name: str, drop_bad: bool) -> _Boxes:
    native = read_array(value, name=name)
    if native.dtype.kind not in "iuf":
        reject(name, "be numbers", native, "Correct the annotation.", error=TypeError)
    boxes, keep = read_boxes(
        native,
        box_format="xywh",
        size_hw=size_hw,
        drop_bad=drop_bad,
        name=name,
        name_row=lambda row: f"{name}[{row}]",
        may_be_stated=False,
    )
    return to_xyxy(native.astype(np.float64), "xywh", size_hw), boxes, keep


def _make_boxes(masks: np.ndarray, name: str, drop_bad: bool) -> _Boxes:
    """The tight boxes of masks."""
    rows: np.ndarray = np.asarray(masks.any(axis=2))
    columns: np.ndarray = np.asarray(masks.any(axis=1))
    height, width = masks.shape[1:]
    boxes = np.zeros((len(masks), 4), np.float32)
    if len(masks):
        boxes[:, 0], boxes[:, 1] = columns.argmax(axis=1), rows.argmax(axis=1)
        boxes[:, 2] = width - columns[:, ::-1].argmax(axis=1)
        boxes[:, 3] = height - rows[:, ::-1].argmax(axis=1)
    shown: np.ndarray = np.asarray(rows.any(axis=1))
    boxes[~shown] = 0
    if not shown.all() and not drop_bad:
        reject(
            f"{name}[{int(np.flatnonzero(~shown)[0])}]",
            "show at least one pixel",
            0,
            "Correct the annotation, or pass adapter=DetectionAdapter(bad_boxes='drop'), which drops empty masks.",
        )
    return boxes.astype(np.float64), boxes, None if shown.all() else shown
