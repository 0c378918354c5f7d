"""Native forms of torchvision's wrapped data sets, of `VOCDetection`, and of keypoints."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import torch
from torchvision import tv_tensors

from synthloader.adapters import VocAdapter
from tests.contracts.adapter_forms import HEIGHT, TENSOR, WIDTH, make_pil

BOXES = [[2.0, 1.0, 7.0, 5.0], [8.0, 6.0, 15.0, 9.0]]
SEGMENTATION: list[Any] = [
    [[2.0, 1.0, 7.0, 1.0, 7.0, 5.0, 2.0, 5.0]],
    {"counts": [102, 3, 9, 3, 75], "size": [HEIGHT, WIDTH]},
]


def make_masks() -> torch.Tensor:
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.uint8)
    masks[0, 1:5, 2:7] = 1
    masks[1, 6:9, 8:15] = 1
    return masks


def make_boxes() -> Any:
    return tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=(HEIGHT, WIDTH))


def make_wrapped(*names: str) -> tuple[PIL.Image.Image, dict[str, Any]]:
    """What `wrap_dataset_for_transforms_v2` makes of COCO annotations, with these target keys."""
    target = {
        "image_id": 7,
        "boxes": make_boxes(),
        "masks": tv_tensors.Mask(make_masks()),
        "labels": torch.tensor([3, 1]),
        "segmentation": copy.deepcopy(SEGMENTATION),
        "bbox": [[2.0, 1.0, 5.0, 4.0], [8, 6, 7, 3]],
        "category_id": [3, 1],
        "area": [20.0, 21],
        "iscrowd": [0, 1],
    }
    return make_pil(), {name: target[name] for name in names or target}


def make_voc_annotation() -> dict[str, Any]:
    """What `VOCDetection` makes of XML: strings; pixels counted from 1, both ends included."""
    return {
        "folder": "VOC2012", "filename": "a.jpg", "source": {"database": "drawn"}, "segmented": "1",
        "size": {"width": str(WIDTH), "height": str(HEIGHT), "depth": "3"},
        "object": [
            {
                "name": "bird", "pose": "Left", "truncated": "0", "difficult": "1",
                "bndbox": {"xmax": "7", "xmin": "3", "ymax": "5", "ymin": "2"},
                "part": {"name": "head", "bndbox": {"xmin": "3", "ymin": "2", "xmax": "4", "ymax": "3"}},
            },
            {
                "name": "aeroplane", "actions": {"flying": "1"},
                "bndbox": {"xmin": "9.25", "ymin": "7", "xmax": "15", "ymax": "9.5"},
            },
        ],
    }  # fmt: skip


def make_wrapped_voc() -> tuple[PIL.Image.Image, dict[str, Any]]:
    corners = [[3, 2, 7, 5], [9, 7, 15, 9]]
    boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(HEIGHT, WIDTH))  # type: ignore[call-arg]
    return make_pil(), {"annotation": make_voc_annotation(), "boxes": boxes, "labels": torch.tensor([3, 1])}


def make_points(**more: Any) -> tuple[Any, dict[str, Any]]:
    points = [[[2.5, 1.5], [6.0, 4.0]], [[8.5, 6.5], [9.0, 7.0]]]
    keypoints = tv_tensors.KeyPoints(points, canvas_size=(HEIGHT, WIDTH))
    target = {"boxes": make_boxes(), "labels": torch.tensor([3, 1]), "keypoints": keypoints, **more}
    return tv_tensors.Image(TENSOR.clone()), target


WRAPPED: dict[str, Callable[[], Any]] = {
    "wrapped": lambda: make_wrapped("image_id", "boxes", "labels"),
    "wrapped, all keys": make_wrapped,
    "wrapped, masks and labels": lambda: make_wrapped("masks", "labels"),
    "wrapped, masks alone": lambda: make_wrapped("image_id", "masks"),
    "wrapped, COCO's lists": lambda: make_wrapped("image_id", "bbox", "category_id", "area", "iscrowd"),
    "wrapped, COCO's segmentation": lambda: make_wrapped("segmentation", "category_id"),
    "wrapped, boxes and segmentation": lambda: make_wrapped("boxes", "area", "segmentation"),
    "wrapped VOC, all keys": make_wrapped_voc,
    "key points": make_points,
    "key points, visibility": lambda: make_points(visibility=torch.tensor([[2, 1], [2, 0]])),
    "key points, seen or not": lambda: make_points(keypoints_visible=torch.tensor([[True, True], [True, False]])),
    "keypoints of arrays": lambda: (
        TENSOR.clone(),
        {"boxes": BOXES, "labels": [3, 1], "keypoints": np.arange(8.0).reshape(2, 2, 2)},
    ),
    "keypoints and their number": lambda: (
        TENSOR.clone(),
        {
            "boxes": torch.tensor(BOXES), "labels": torch.tensor([3, 1]), "num_keypoints": [1, 1],
            "keypoints": torch.tensor([[[2.0, 1, 2], [0, 0, 0]], [[8.0, 6, 1], [0, 0, 0]]]),
        },
    ),
    "classes as transformers calls them": lambda: (
        TENSOR.clone(),
        {"class_labels": torch.tensor([3, 1]), "boxes": torch.tensor(BOXES)},
    ),
}  # fmt: skip
"""Items that `DetectionAdapter` knows."""

VOC: dict[str, Callable[[], Any]] = {
    "VOCDetection": lambda: (make_pil(), {"annotation": make_voc_annotation()}),
    "VOCDetection, no objects": lambda: [make_pil(), {"annotation": {**make_voc_annotation(), "object": []}}],
}

TORCHVISION: dict[type, dict[str, Callable[[], Any]]] = {VocAdapter: VOC}
