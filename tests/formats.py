"""Every format that recipes read: what stands in the recipe, and who writes such a data set of shapes as `data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import shapes

FORMATS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "coco": ("{format: coco, images: data/images, annotations: data/annotations.json}", shapes.write_coco_shapes),
    "voc": ("{format: voc, root: data/VOCdevkit/VOC2012, image_set: train}", shapes.write_voc),
    "yolo detect": ("{format: yolo, data: data/data.yaml}", lambda folder: shapes.write_yolo(folder)),
    "yolo segment": (
        "{format: yolo, data: data/data.yaml, split: train, task: segment}",
        lambda folder: shapes.write_yolo(folder, task="segment"),
    ),
    "yolo pose": (
        "{format: yolo, data: data/data.yaml, task: pose}",
        lambda folder: shapes.write_yolo(folder, task="pose"),
    ),
    "yolo obb": (
        "{format: yolo, data: data/data.yaml, task: obb}",
        lambda folder: shapes.write_yolo(folder, task="obb"),
    ),
    "yolo folders": (
        "{format: yolo, images: [data/images/train], labels: [data/labels/train], names: [box, disc, wedge]}",
        lambda folder: shapes.write_yolo(folder),
    ),
    "yolo classify": ("{format: yolo, data: data, task: classify}", shapes.write_imagefolder),
    "imagefolder": ("{format: imagefolder, root: data/train}", shapes.write_imagefolder),
    "masks": (
        "{format: masks, images: data/images, masks: data/masks, names: [ground, box, disc, wedge]}",
        shapes.write_masks,
    ),
}
