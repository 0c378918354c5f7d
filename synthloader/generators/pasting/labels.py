"""The labels of a picture that objects were pasted onto, from what is visible on its canvas."""

from __future__ import annotations

import numpy as np

from synthloader.generators.pasting.attribute_columns import join_columns
from synthloader.generators.pasting.canvas import Canvas
from synthloader.generators.pasting.cut_out import find_tight_box, read_shares
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
    shares = np.concatenate([read_shares(target), np.ones(len(layers), np.float32)])
    if masks is None:
        boxes[:count] = canvas.shrink_boxes()
    for row in canvas.changed:
        if masks is not None:
            boxes[row] = find_tight_box(masks[row], near=boxes[row], area=canvas.areas[row])
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
    gone = [row for row in canvas.changed if canvas.areas[row] == 0]
    gone += [row for row, layer in enumerate(layers, start=count) if layer.area == 0]
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
    return np.concatenate([existing, np.array(own, np.float32).reshape(len(own), *size)])


def _join_attributes(canvas: Canvas, target: Instances, shares: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of source and donors, with `generated` and `visible` unless these mean other things."""
    count = len(target)
    columns = join_columns([(count, target.attributes), *((1, layer.donor.attributes) for layer in canvas.layers)])
    generated = columns.setdefault("generated", np.zeros(len(shares), np.bool_))
    if generated.dtype == np.bool_ and generated.ndim == 1:
        columns["generated"] = generated.copy()
        columns["generated"][count:] = True
    visible = columns.setdefault("visible", shares)
    if visible.dtype == np.float32 and visible.ndim == 1 and "visible" in target.attributes:
        stated = np.arange(len(shares)) < count
        stated[list(canvas.changed)] = False
        columns["visible"] = np.where(stated, visible, shares)
    elif visible.dtype == np.float32 and visible.ndim == 1:
        columns["visible"] = shares
    return columns
