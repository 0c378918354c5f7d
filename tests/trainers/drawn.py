"""Drawn shapes as items of several forms, and mixes of them, for runs of trainers."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from tests.shapes import Drawn, Redraw, ShiftClasses, assert_boxes_true, draw_numbered, find_color, is_generated_ground

SIZE_HW = (48, 96)


class DrawnDetection(Dataset[Any]):
    """Torchvision detection items in memory; labels from 1."""

    def __init__(self, count: int = 10) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        drawn = draw_numbered(index, size_hw=SIZE_HW)
        return to_tensor(drawn), {
            "boxes": torch.from_numpy(drawn.boxes),
            "labels": torch.from_numpy(drawn.class_ids + 1),
            "image_id": index,
        }


class DrawnPairs(DrawnDetection):
    """Pairs of an image and a class from 0, one shape an image."""

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return to_tensor(draw_numbered(index, size_hw=SIZE_HW, only_class=index % 3, num_shapes=1)), index % 3


def to_tensor(drawn: Drawn) -> torch.Tensor:
    return torch.from_numpy(drawn.image).permute(2, 0, 1).contiguous()


def mix_detection(ratio: float = 0.5, count: int = 10, **options: Any) -> MixedDataset:
    real = DrawnDetection(count)
    return MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=ratio, mark="is_generated", **options)


def mix_pairs(ratio: float = 0.5, count: int = 10, **options: Any) -> MixedDataset:
    real = DrawnPairs(count)
    return MixedDataset(real, GeneratedDataset(real, Redraw()), ratio=ratio, **options)


def read_epochs(count: int, ratio: float = 0.5) -> list[list[str]]:
    """The images of every epoch, read from the mix directly."""
    train = mix_detection(ratio)
    epochs = []
    for epoch in range(count):
        train.set_epoch(epoch)
        epochs.append(sorted(hash_image(train[index][0]) for index in range(len(train))))
    return epochs


def stack(items: list[Any]) -> dict[str, Any]:
    """A batch of detection items, with what the mix added to them."""
    targets = [target for _, target in items]
    batch = {"images": torch.stack([image for image, _ in items]), "targets": targets}
    for name in ("is_generated", "weight"):
        if name in targets[0]:
            batch[name] = torch.stack([target[name] for target in targets])
    return batch


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of a (3, H, W) tensor of bytes or of floats in 0..1."""
    if image.is_floating_point():
        image = (image * 255).round().to(torch.uint8)
    return np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy())


def hash_image(image: torch.Tensor) -> str:
    return hashlib.blake2b(to_pixels(image).tobytes(), digest_size=8).hexdigest()


def check_detection(batch: dict[str, Any]) -> None:
    """Boxes hold what they say, and the mark says which images are generated."""
    for image, target in zip(batch["images"], batch["targets"], strict=True):
        pixels = to_pixels(image)
        assert_boxes_true(pixels, target["boxes"].numpy(), target["labels"].numpy() - 1)
        if "is_generated" in target:
            assert bool(target["is_generated"]) == is_generated_ground(pixels)


def check_class(image: torch.Tensor, class_id: int) -> None:
    """The image shows its class and no other."""
    shown = [int(find_color(to_pixels(image), other).sum()) for other in range(3)]
    assert shown[class_id] > 50
    assert sum(shown) == shown[class_id]
