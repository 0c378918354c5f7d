"""Native forms of classification pairs, segmentation pairs, items that are one dict, and rows of `datasets`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torchvision import tv_tensors

from synthloader.adapters import ClassificationAdapter, DictAdapter, HuggingFaceAdapter, SemanticAdapter

HEIGHT, WIDTH = 12, 16
PIXELS = np.random.default_rng(9).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())
IDS = np.zeros((HEIGHT, WIDTH), np.uint8)
IDS[2:7, 3:9], IDS[8:11, 10:15], IDS[0, :] = 1, 3, 255
DEPTH = np.linspace(0, 9, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)


def make_pil() -> PIL.Image.Image:
    return PIL.Image.fromarray(PIXELS)


def make_palette_mask() -> PIL.Image.Image:
    mask = PIL.Image.fromarray(IDS).convert("P")
    mask.putpalette([0, 0, 0, 9, 8, 7, 30, 230, 30, 1, 2, 3])
    return mask


def make_wide_ids() -> np.ndarray:
    ids = IDS.astype(np.int32)
    ids[5, 5] = 700
    return ids


CLASSES: dict[str, Callable[[], Any]] = {
    "PIL and int": lambda: (make_pil(), 2),
    "PIL, grey": lambda: (PIL.Image.fromarray(PIXELS[..., 0]), 0),
    "a list": lambda: [TENSOR.clone(), 7],
    "tensor and 0-d tensor": lambda: (TENSOR.clone(), torch.tensor(3)),
    "tensor and int32": lambda: (TENSOR.float() / 255, torch.tensor(3, dtype=torch.int32)),
    "tensor of one label": lambda: (TENSOR.clone(), torch.tensor([3])),
    "tv_tensor": lambda: (tv_tensors.Image(TENSOR.clone()), 4),
    "array and numpy int": lambda: (PIXELS.copy(), np.int64(5)),
    "array and array": lambda: (PIXELS.astype(np.float32) / 255, np.array([5], np.uint8)),
    "channels first": lambda: (PIXELS.transpose(2, 0, 1).copy(), 1),
    "channels first, last in memory": lambda: (PIXELS.transpose(2, 0, 1), 1),
    "a path behind": lambda: (make_pil(), 2, Path("a/b.png")),
    "an index and a dict behind": lambda: (make_pil(), 2, 17, {"camera": "north", "at": (1, 2)}),
    "a depth map behind": lambda: (make_pil(), 2, torch.from_numpy(DEPTH.copy())),
}

MASKS: dict[str, Callable[[], Any]] = {
    "PIL, palette": lambda: (make_pil(), make_palette_mask()),
    "PIL, L": lambda: (make_pil(), PIL.Image.fromarray(IDS)),
    "PIL, I": lambda: (make_pil(), PIL.Image.fromarray(make_wide_ids())),
    "PIL, I;16": lambda: (make_pil(), PIL.Image.fromarray(make_wide_ids().astype(np.uint16))),
    "PIL, 1": lambda: (make_pil(), PIL.Image.fromarray(IDS == 1)),
    "a list": lambda: [make_pil(), PIL.Image.fromarray(IDS)],
    "wrapped": lambda: (make_pil(), tv_tensors.Mask(make_palette_mask())),
    "wrapped, float": lambda: (tv_tensors.Image(TENSOR.clone()), tv_tensors.Mask(torch.from_numpy(IDS).float())),
    "long": lambda: (TENSOR.clone(), torch.from_numpy(IDS).long()),
    "long, (1, H, W)": lambda: (TENSOR.float() / 255, torch.from_numpy(IDS).long()[None]),
    "uint8": lambda: (TENSOR.clone(), torch.from_numpy(IDS.copy())),
    "int16, negative": lambda: (TENSOR.clone(), torch.from_numpy(IDS.astype(np.int16) - 1)),
    "uint16": lambda: (TENSOR.clone(), torch.from_numpy(make_wide_ids().astype(np.uint16))),
    "bool": lambda: (TENSOR.clone(), torch.from_numpy(IDS == 1)),
    "array": lambda: (PIXELS.copy(), IDS.copy()),
    "array, (H, W, 1)": lambda: (PIXELS.copy(), IDS[..., None].astype(np.int64)),
    "channels first": lambda: (PIXELS.transpose(2, 0, 1).copy(), IDS[None].astype(np.int32)),
    "array, bool": lambda: (PIXELS.copy(), IDS == 3),
    "0 and 255": lambda: (make_pil(), PIL.Image.fromarray(np.uint8(255) * (IDS == 1))),
    "depth and a name behind": lambda: (make_pil(), PIL.Image.fromarray(IDS), DEPTH.astype(np.float32), "n.png"),
}

BOXES = [[2.0, 1.0, 7.0, 5.0], [8.25, 6.0, 15.0, 9.5]]

DICTS: dict[str, Callable[[], Any]] = {
    "class": lambda: {"image": make_pil(), "label": 2},
    "class, in order": lambda: OrderedDict(path="a.png", label=torch.tensor(1), img=TENSOR.clone(), at=Path("x")),
    "class, sizes": lambda: {"pixel_values": TENSOR.float() / 255, "labels": 1, "width": WIDTH, "size": [HEIGHT, WIDTH]},
    "mask": lambda: {"image": PIXELS.copy(), "mask": IDS.astype(np.int64)},
    "mask, channels first": lambda: {
        "image": PIXELS.transpose(2, 0, 1).copy(), "mask": (IDS == 1)[None].astype(np.float32),
        "trimap": IDS[None].copy(),
    },
    "mask, PIL": lambda: {"image": make_pil(), "annotation": make_palette_mask(), "scene_category": 4},
    "label that is a mask": lambda: {"image": make_pil(), "label": PIL.Image.fromarray(IDS), "image_id": 3},
    "boxes": lambda: {
        "image_id": 3, "image": TENSOR.clone(), "boxes": torch.tensor(BOXES), "labels": torch.tensor([3, 1]),
        "depth": DEPTH.astype(np.float32), "difficult": torch.tensor([True, False]), "weather": "rain",
        "height": HEIGHT,
    },
    "bbox and category": lambda: {
        "image": PIXELS.copy(), "bbox": np.array([[2.0, 1, 5, 4], [8.25, 6, 6.75, 3.5]]), "category": [3, 1]
    },
    "target dict": lambda: {"image": TENSOR.clone(), "target": {"boxes": BOXES, "labels": [3, 1]}, "name": "a"},
    "COCO annotations": lambda: {
        "image": make_pil(),
        "annotations": [{"bbox": [2.0, 1, 5, 4], "category_id": 3, "id": 4, "area": 20.0, "iscrowd": 0}],
    },
}  # fmt: skip


def make_objects(**more: Any) -> dict[str, Any]:
    return {"id": [11, 12], "area": [20, 24], "bbox": [[2.0, 1.0, 5.0, 4.0], [8.0, 6.0, 7.0, 3.5]],
            "category": [3, 1], "occluded": [True, False], **more}  # fmt: skip


ROWS: dict[str, Callable[[], Any]] = {
    "columns": lambda: {
        "image_id": 15, "image": make_pil(), "width": WIDTH, "height": HEIGHT, "objects": make_objects(),
        "caption": "two", "tags": ["a", "b"],
    },
    "whole numbers": lambda: {"image": make_pil(), "objects": {"bbox": [[2, 1, 5, 4]], "category": [0]}},
    "dicts": lambda: {
        "image": make_pil(),
        "objects": [{"category": 3, "bbox": [2.0, 1.0, 5.0, 4.0], "is_crowd": 0, "colour": "red"}],
    },
    "tensors": lambda: {
        "image": TENSOR.clone(),
        "objects": {"bbox": torch.tensor(make_objects()["bbox"]), "category": torch.tensor([3, 1])},
    },
    "arrays": lambda: {
        "image": PIXELS.copy(),
        "objects": {"bbox": np.array(make_objects()["bbox"], np.float32), "label": np.array([3, 1])},
    },
    "segmentation": lambda: {
        "image": make_pil(),
        "objects": make_objects(segmentation=[[[2.0, 1, 7, 1, 7, 5, 2, 5]], [[8.0, 6, 15, 6, 15, 9.5]]]),
    },
}  # fmt: skip

PAIRS_AND_DICTS: dict[type, dict[str, Callable[[], Any]]] = {
    ClassificationAdapter: CLASSES,
    SemanticAdapter: MASKS,
    DictAdapter: DICTS,
    HuggingFaceAdapter: ROWS,
}


def make_dict_adapter(item: Any) -> DictAdapter | None:
    """An adapter for the one form that is not recognised, because the format of `bbox` has to be stated."""
    return DictAdapter(boxes="xywh").complete([item]) if "bbox" in item else None
