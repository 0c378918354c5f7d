"""COCO's own fields beside the boxes of a target dict, a row per instance: `bbox`, `segmentation`, `category_id`.

`wrap_dataset_for_transforms_v2(CocoDetection, target_keys="all")` has them as lists. They say again what boxes, masks
and labels say, so they must follow these: a row comes back as it was while its instance is unchanged, and is written
anew when not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from synthloader.adapters.items.boxes import BOX_FORMATS, from_xyxy, to_xyxy
from synthloader.adapters.items.fields import JSON_ROW, dump_json, load_json, read_array, read_column
from synthloader.adapters.items.rows import has_rows
from synthloader.adapters.items.segmentations import decode_masks, encode_mask, has_segmentation
from synthloader.checks import reject
from synthloader.targets import Instances

__all__ = [
    "COCO_FIELDS",
    "find_bbox_format",
    "is_bbox_list",
    "read_coco_column",
    "read_segmentation_masks",
    "write_bboxes",
    "write_segmentations",
]

COCO_FIELDS = ("bbox", "segmentation", "category_id")
NO_ROW = JSON_ROW + "[]"

_NEAR = 1.0
_FIX = "Correct the annotation."


def is_bbox_list(value: Any, /) -> bool:
    """Whether a value is four numbers for each of one or more instances."""
    if not has_rows(value) or not len(value):
        return False
    if isinstance(value, list | tuple):
        return all(isinstance(row, list | tuple) and len(row) == 4 for row in value)
    return np.ndim(value) == 2 and value.shape[1] == 4


def read_coco_column(field: str, value: Any, /, *, name: str, num_rows: int) -> np.ndarray | None:
    """The column of one of `COCO_FIELDS`; None where the value is something of the image instead.

    Raises:
        ValueError: It is a list with more or fewer rows than there are instances: an annotation lacks the field.
    """
    if not has_rows(value) or (field == "segmentation" and not isinstance(value, list | tuple)):
        return None
    if len(value) != num_rows:
        reject(
            name,
            f"have a row for each of the {num_rows} instances",
            value,
            "Give every annotation this field, or leave it out of the items (target_keys=).",
        )
    if field == "bbox" and num_rows and not is_bbox_list(value):
        reject(name, "have four numbers in each row", value, _FIX)
    return read_column(value, name=name)


def find_bbox_format(value: Any, boxes: np.ndarray, /, *, size_hw: tuple[int, int], name: str) -> str:
    """The format in which `bbox` says what the boxes say: xywh as COCO has it, or another one.

    Args:
        value: The field, a row per box.
        boxes: (N, 4) float32 xyxy pixels.
        size_hw: Height and width of the image.
        name: What the field is called in messages.

    Raises:
        ValueError: It says something else, so that nothing is known of how to keep it true.
    """
    native = read_array(value, name=name).astype(np.float64).reshape(-1, 4)
    for box_format in ("xywh", *BOX_FORMATS):
        raw = to_xyxy(native, box_format, size_hw)
        if (np.abs(np.clip(raw, 0, [*size_hw[::-1], *size_hw[::-1]]) - boxes) <= _NEAR).all():
            return box_format
    reject(
        name,
        "say the same as 'boxes', as x, y, width, height or in another known format",
        native.tolist(),
        "Leave the field out of the items, or pass an adapter= of your own.",
    )


def read_segmentation_masks(
    value: Any, /, *, boxes: np.ndarray | None, size_hw: tuple[int, int], name: str, num_rows: int
) -> np.ndarray | None:
    """(N, H, W) bool, drawn from COCO's segmentations; None where one of the instances has none."""
    rows = [{"segmentation": row} for row in value]
    if not all(map(has_segmentation, rows)):
        return None
    places = np.zeros((num_rows, 4), np.float32) if boxes is None else boxes
    names = [f"{name}[{row}]" for row in range(num_rows)]
    return decode_masks(rows, boxes=places, size_hw=size_hw, names=names)


def write_bboxes(
    instances: Instances, /, *, same: np.ndarray, form: Mapping[str, Any], size_hw: tuple[int, int]
) -> np.ndarray:
    """The column `bbox`: of unchanged boxes as it was."""
    new = from_xyxy(instances.boxes, form.get("bbox_format", "xywh"), size_hw=size_hw)
    column = instances.attributes.get("bbox")
    if column is None:
        return new
    if column.dtype.kind == "U":
        return np.array(
            [
                str(text) if kept and str(text) else JSON_ROW + dump_json(box)
                for text, kept, box in zip(column, same.tolist(), new.tolist(), strict=True)
            ],
            np.str_,
        )
    if column.shape == new.shape:
        new[same] = column[same]
    return new


def write_segmentations(instances: Instances, /, *, same_box: np.ndarray, same_mask: np.ndarray) -> np.ndarray:
    """The column `segmentation`: as it was where nothing changed, else run lengths of the mask, or nothing."""
    column = instances.attributes.get("segmentation", np.full(len(instances), "", np.str_))
    texts = []
    for row, text in enumerate(map(str, column)):
        if text.startswith(JSON_ROW) and same_box[row] and same_mask[row]:
            texts.append(text)
        elif instances.masks is not None:
            texts.append(JSON_ROW + dump_json(encode_mask(instances.masks[row])))
        else:
            is_drawn = text.startswith(JSON_ROW) and has_segmentation(
                {"segmentation": load_json(text[len(JSON_ROW) :])}
            )
            texts.append(NO_ROW if is_drawn or not text else text)
    return np.array(texts, np.str_)
