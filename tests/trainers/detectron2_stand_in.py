"""Stand-ins for what of Detectron2 the adapter touches, with the documented interfaces: the package itself cannot be
installed from an index. Written from its documentation and public sources' behaviour, not copied.
"""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info


class BoxMode(IntEnum):
    XYXY_ABS = 0
    XYWH_ABS = 1

    @staticmethod
    def convert(box: Any, from_mode: BoxMode, to_mode: BoxMode) -> list[float]:
        assert isinstance(from_mode, BoxMode)
        assert to_mode == BoxMode.XYXY_ABS
        x, y, a, b = box
        return [x, y, a, b] if from_mode == BoxMode.XYXY_ABS else [x, y, x + a, y + b]


class PathHandler:
    """As iopath's: a prefix, and how paths that begin with it are opened."""


class _Paths:
    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def register_handler(self, handler: Any, allow_override: bool = False) -> None:
        assert isinstance(handler, PathHandler)
        for prefix in handler._get_supported_prefixes():
            assert allow_override or prefix not in self.handlers
            self.handlers[prefix] = handler

    def open(self, path: str, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        for prefix, handler in self.handlers.items():
            if path.startswith(prefix):
                return handler._open(path, mode, buffering=buffering, **options)
        return open(path, mode)


PathManager = _Paths()


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    with PathManager.open(file_name, "rb") as file:
        image = np.asarray(Image.open(file).convert("RGB"))
    return image[:, :, ::-1] if format == "BGR" else image


class DatasetMapper:
    """Dict in, `{"image": (C, H, W) BGR, "instances": ...}` out; instances are a plain dict here."""

    def __init__(self, *, flip: bool = False) -> None:
        self.flip = flip

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        dataset_dict = copy.deepcopy(dataset_dict)
        image = read_image(dataset_dict["file_name"], format="BGR")
        height, width = image.shape[:2]
        assert (dataset_dict["width"], dataset_dict["height"]) == (width, height), "SizeMismatchError"
        flips = self.flip and bool(torch.rand(()) < 0.5)
        boxes, masks, points = [], [], []
        for annotation in dataset_dict.pop("annotations"):
            box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            boxes.append([width - box[2], box[1], width - box[0], box[3], annotation["category_id"]] if flips
                         else [*box, annotation["category_id"]])  # fmt: skip
            given = annotation["segmentation"]
            if isinstance(given, dict):
                assert isinstance(given["counts"], bytes | str), "compressed run lengths only"
                mask = coco_mask.decode(given)
            else:
                assert isinstance(given, list)
                assert all(len(polygon) % 2 == 0 and len(polygon) >= 6 for polygon in given)
                mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(given, height, width)))
            masks.append(mask[:, ::-1] if flips else mask)
            points.append(annotation.get("keypoints"))
        numbers = np.array(boxes, np.float32).reshape(-1, 5)
        dataset_dict["image"] = torch.from_numpy(
            np.ascontiguousarray((image[:, ::-1] if flips else image).transpose(2, 0, 1))
        )
        dataset_dict["instances"] = {
            "gt_boxes": torch.from_numpy(numbers[:, :4]),
            "gt_classes": torch.from_numpy(numbers[:, 4].astype(np.int64)),
            "gt_masks": np.array(masks, bool).reshape(-1, height, width),
            "gt_keypoints": points,
        }
        return dataset_dict


class MapDataset(Dataset[Any]):
    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset, self._map_func = dataset, map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: Any) -> Any:
        return self._map_func(self._dataset[int(idx)])


class TrainingSampler(Sampler[int]):
    """Shuffled indices without end, every rank its share."""

    def __init__(self, size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.size, self.seed, self.rank, self.world_size = size, seed, rank, world_size

    def __iter__(self) -> Iterator[int]:
        generator, position = torch.Generator().manual_seed(self.seed), 0
        while True:
            for index in torch.randperm(self.size, generator=generator).tolist():
                if position % self.world_size == self.rank:
                    yield index
                position += 1


class ToIterableDataset(IterableDataset[Any]):
    def __init__(self, dataset: Any, sampler: Any) -> None:
        assert isinstance(sampler, Sampler)
        self.dataset, self.sampler = dataset, sampler

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for position, index in enumerate(self.sampler):
            if position % step == first:
                yield self.dataset[index]


def build_detection_train_loader(
    dataset: Any, *, mapper: Callable[[Any], Any], sampler: Any = None, total_batch_size: int, num_workers: int = 0
) -> Any:
    sampler = sampler if sampler is not None else TrainingSampler(len(dataset))
    return torch.utils.data.DataLoader(
        ToIterableDataset(MapDataset(dataset, mapper), sampler), batch_size=total_batch_size, num_workers=num_workers,
        collate_fn=list, drop_last=True, generator=torch.Generator(),
    )  # fmt: skip


@contextmanager
def installed() -> Iterator[None]:
    """As if Detectron2 were installed."""
    here = sys.modules[__name__]
    names = ("detectron2", "detectron2.data", "detectron2.data.detection_utils", "detectron2.data.samplers",
             "detectron2.structures", "detectron2.utils", "detectron2.utils.file_io")  # fmt: skip
    for name in names:
        module = types.ModuleType(name)
        module.__dict__.update({key: value for key, value in vars(here).items() if not key.startswith("__")})
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
