"""The labels of a picture that objects were pasted onto, from what is visible on its canvas."""

from __future__ import annotations

import numpy as np

from synthloader.generators.attribute_columns import join_columns
from synthloader.generators.canvas import Canvas
from synthloader.generators.cut_out import read_share
from synthloader.targets import Instances, SemanticMask

__all__ = ["label_instances", "label_pixels"]


def label_instances(canvas: Canvas, target: Instances, /) -> Instances:
    """What is visible of the picture's own objects, then of the pasted ones.

    Args:
        canvas: The finished canvas.
        target: The label of the picture before.
    """
    count, layers = len(target), canvas.layers
    with_masks = target.masks is not None or not count
    masks = canvas.copy_masks() if with_masks else None
    boxes = np.concatenate([target.boxes, np.zeros((len(layers), 4), np.float32)])
    shares = np.array([read_share(target, row) for row in range(count)] + [1.0] * len(layers), np.float32)
    if masks is None:
        boxes[:count] = canvas.shrink_boxes()
    for row in canvas.changed:
        if masks is not None:
            boxes[row] = _find_box(masks[row], boxes[row], canvas.areas[row])
        shares[row] = canvas.areas[row] / canvas.full_areas[row]
    for row, layer in enumerate(layers, start=count):
        boxes[row] = layer.find_box()
        shares[row] = layer.area / layer.full
    class_ids = np.array([layer.donor.class_id for layer in layers], np.int64)
    crowd = np.zeros(count, np.bool_) if target.crowd is None else target.crowd
    made = Instances(
        class_ids=np.concatenate([target.class_ids, class_ids]),
        boxes=boxes,
        masks=masks,
        keypoints=_join_keypoints(canvas),
        crowd=np.concatenate([crowd, np.zeros(len(layers), np.bool_)]),
        attributes=_join_attributes(canvas, target, shares),
    )
    areas = [canvas.areas.get(row, 1) for row in range(count)] + [layer.area for layer in layers]
    gone = [row for row in (*canvas.changed, *range(count, len(areas))) if areas[row] == 0]
    return made.select(np.delete(np.arange(len(made)), gone)) if gone else made


def label_pixels(canvas: Canvas, target: SemanticMask, /) -> SemanticMask:
    """The classes of the pixels, those of pasted objects where these are visible.

    Args:
        canvas: The finished canvas.
        target: The label of the picture before.
    """
    mask = target.mask.copy()
    for layer in canvas.layers:
        mask[layer.rows, layer.columns][layer.mask] = layer.donor.class_id
    return SemanticMask(mask, target.ignore_index)


def _find_box(mask: np.ndarray, before: np.ndarray, area: int) -> tuple[int, int, int, int]:
    """The tight box of a mask of which the number of pixels is known."""
    x1, y1 = (int(value) for value in np.floor(before[:2]))
    x2, y2 = (int(value) for value in np.ceil(before[2:]))
    window = mask[y1:y2, x1:x2]
    if int(np.count_nonzero(window)) != area:
        window, x1, y1 = mask, 0, 0
    rows, columns = np.flatnonzero(window.any(axis=1)), np.flatnonzero(window.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]) + x1, int(rows[0]) + y1, int(columns[-1]) + 1 + x1, int(rows[-1]) + 1 + y1


def _join_keypoints(canvas: Canvas) -> np.ndarray | None:
    """The keypoints of all; a row of zeros for a pasted object that has none, or another number of them."""
    existing = canvas.keypoints
    pasted = [layer.keypoints for layer in canvas.layers]
    labelled = [layer.keypoints for layer in canvas.layers if layer.donor.has_keypoints and layer.keypoints is not None]
    if existing is None:
        if not labelled:
            return None
        existing = np.zeros((0 if canvas.target is None else len(canvas.target), len(labelled[0]), 3), np.float32)
    size = existing.shape[1:]
    own = [points if points is not None and points.shape == size else np.zeros(size, np.float32) for points in pasted]
    return np.concatenate([existing, np.array(own, np.float32).reshape(-1, *size)])


def _join_attributes(canvas: Canvas, target: Instances, shares: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of source and donors, with `generated` and `visible` unless these mean other things."""
    rows = np.arange(len(shares))
    columns = join_columns(
        [(len(target), target.attributes), *((1, layer.donor.attributes) for layer in canvas.layers)]
    )
    generated = columns.setdefault("generated", np.zeros(len(rows), np.bool_))
    if generated.dtype == np.bool_ and generated.ndim == 1:
        columns["generated"] = generated | (rows >= len(target))
    visible = columns.setdefault("visible", shares)
    if visible.dtype == np.float32 and visible.ndim == 1:
        stated = (rows < len(target)) & ~np.isin(rows, list(canvas.changed)) & ("visible" in target.attributes)
        columns["visible"] = np.where(stated, visible, shares)
    return columns
