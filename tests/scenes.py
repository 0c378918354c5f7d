"""Small real-looking datasets and plug-ins for tests; importable, so that spawned workers find them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from synthloader.protocols import Verdict
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

SIZES_HW = ((48, 64), (64, 48), (40, 40))


def draw_scene(
    number: int, *, num_objects: int | None = None, size_hw: tuple[int, int] | None = None
) -> dict[str, Any]:
    """A textured background with filled ellipses: image, boxes, labels 1..3, masks; a function of the number."""
    rng = np.random.default_rng([number, 77])
    height, width = size_hw or SIZES_HW[number % len(SIZES_HW)]
    image = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (5, 5), 1.5) + np.uint8(number % 40)
    count = 1 + number % 3 if num_objects is None else num_objects
    boxes, labels, masks = [], [], []
    for part in range(count):
        center = (int(width * (part + 1) / (count + 1)), int(rng.integers(height // 3, 2 * height // 3)))
        axes = (max(3, width // (4 * count)), int(rng.integers(5, height // 4)))
        mask = np.zeros((height, width), np.uint8)
        cv2.ellipse(mask, center, axes, 0, 0, 360, 1, -1)
        label = 1 + (number + part) % 3
        image[mask > 0] = np.array([60 * label, 255 - 60 * label, 30 + 7 * part], np.uint8)
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        labels.append(label)
        masks.append(mask)
    return {
        "image": np.ascontiguousarray(image),
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array(labels, np.int64),
        "masks": np.array(masks, np.uint8).reshape(-1, height, width),
    }


class ScenesDataset(Dataset[Any]):
    """Torchvision detection items made in memory; no files, no class table, somebody's own class."""

    def __init__(self, count: int, *, with_masks: bool = True) -> None:
        self.count = count
        self.with_masks = with_masks

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = draw_scene(index)
        target: dict[str, Any] = {
            "boxes": torch.from_numpy(scene["boxes"]),
            "labels": torch.from_numpy(scene["labels"]),
            "image_id": index,
            "area": torch.from_numpy(
                (scene["boxes"][:, 2] - scene["boxes"][:, 0]) * (scene["boxes"][:, 3] - scene["boxes"][:, 1])
            ),
            "iscrowd": torch.zeros(len(scene["labels"]), dtype=torch.int64),
            "camera": "north",
            "confidence": torch.arange(len(scene["labels"]), dtype=torch.float32),
        }
        if self.with_masks:
            target["masks"] = torch.from_numpy(scene["masks"])
        return torch.from_numpy(scene["image"]).permute(2, 0, 1).contiguous(), target


def write_coco(folder: Path, count: int, *, num_objects: int | None = None) -> tuple[Path, Path]:
    """A COCO folder of PNG files; gives the image folder and the annotation file."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    records, annotations = [], []
    for number in range(count):
        scene = draw_scene(number, num_objects=num_objects)
        name = f"scene_{number:03d}.png"
        cv2.imwrite(str(images / name), scene["image"][:, :, ::-1])
        height, width = scene["image"].shape[:2]
        records.append({"id": 100 + number, "file_name": name, "height": height, "width": width})
        for box, label, mask in zip(scene["boxes"].tolist(), scene["labels"].tolist(), scene["masks"], strict=True):
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": [outlines[0].reshape(-1).astype(float).tolist()],
                    "attributes": {"occluded": bool(label == 2), "shade": label * 0.5},
                    "annotator": f"person {label}",
                }
            )
    categories = [{"id": label, "name": name} for label, name in ((1, "disc"), (2, "coin"), (3, "cell"))]
    file = folder / "annotations.json"
    file.write_text(json.dumps({"images": records, "annotations": annotations, "categories": categories}))
    return images, file


class Shade:
    """A generator for tests: adds rng noise to the image and leaves the target alone."""

    keeps = frozenset({Instances, ClassLabel, SemanticMask})

    def __init__(self, *, strength: int = 20) -> None:
        self.strength = strength
        self.fingerprint = f"Shade/1(strength={strength})"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        noise = rng.integers(1, 1 + self.strength, source.image.shape, dtype=np.uint8)
        return source.edit(image=source.image ^ noise, target=source.target)


class RejectBy:
    """A filter for tests: rejects what a stated share of samples' first pixel says."""

    def __init__(self, *, share: float) -> None:
        self.share = share
        self.fingerprint = f"RejectBy/1(share={share})"

    def judge(self, generated: Sample, source: Sample, /) -> Verdict:
        score = float(generated.image[:3, :3].sum() % 97) / 97
        return Verdict(score >= self.share, score, "" if score >= self.share else "first pixels")


class TwoClasses(Dataset[Any]):
    """Detection items of which one in ten holds the rare class 2; knows its classes."""

    def __init__(self, count: int, *, numbers: tuple[int, int] = (1, 2)) -> None:
        self.count = count
        self.classes = ["common", "rare"]
        self.class_to_idx = dict(zip(self.classes, numbers, strict=True))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        scene = draw_scene(index, num_objects=1, size_hw=(40, 40))
        target = {"boxes": torch.from_numpy(scene["boxes"]), "labels": torch.tensor([2 if index % 10 == 0 else 1])}
        return torch.from_numpy(scene["image"]).permute(2, 0, 1).contiguous(), target


def keep_items(batch: list[Any]) -> list[Any]:
    """A collate function that leaves items alone."""
    return batch


def describe(item: Any) -> tuple[Any, ...]:
    """Everything of a detection item as plain comparable values."""
    image, target = item
    return (bytes(np.asarray(image).tobytes()), _plain(target))


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return tuple((key, _plain(entry)) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return tuple(_plain(entry) for entry in value)
    return (type(value).__name__, value)
