"""Pictures whose pixels say where they come from, and the real data sets as pools.

Pixel (row, column) of picture i is (column % 256, row % 256, 40 i + 20 * (column // 256) + 10 * (row // 256)), so that a
pasted pixel tells its donor and its place there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from synthloader.keys import hash_content
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

KINDS = ("separate", "touching", "nested", "any")


class ListPool:
    """A pool over samples in memory, which counts what is decoded."""

    def __init__(self, samples: Sequence[Sample], names: Sequence[str] | None = None) -> None:
        self.samples = list(samples)
        self.names = list(names) if names is not None else [f"{at}.png" for at in range(len(self.samples))]
        self.decoded: list[int] = []
        self.labels_read = 0

    @property
    def identity(self) -> str:
        return hash_content(self.names).hex()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> Sample:
        self.decoded.append(index)
        return self.samples[index]

    def name(self, index: int, /) -> str:
        return self.names[index]

    def class_ids(self, index: int, /) -> np.ndarray:
        self.labels_read += 1
        target = self.samples[index].target
        if isinstance(target, Instances):
            return target.class_ids
        return np.array([target.class_id] if isinstance(target, ClassLabel) else [], np.int64)


def paint(number: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw picture `number`, every pixel of which tells its place."""
    height, width = size_hw
    rows, columns = np.mgrid[:height, :width]
    blue = 40 * number + 20 * (columns // 256) + 10 * (rows // 256)
    return np.ascontiguousarray(np.stack([columns % 256, rows % 256, blue % 256], axis=2).astype(np.uint8))


def locate(pixels: np.ndarray) -> np.ndarray:
    """(M, 3) int: picture, row, column of pixels (M, 3) that `paint` made."""
    blue = pixels[:, 2].astype(int)
    rows = pixels[:, 1].astype(int) + 256 * (blue % 20 // 10)
    columns = pixels[:, 0].astype(int) + 256 * (blue % 40 // 20)
    return np.stack([blue // 40, rows, columns], axis=1)


def tight_box(mask: np.ndarray) -> list[float]:
    """x1 y1 x2 y2 of a mask, the plain way; all 0 for an empty one."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return [0.0, 0.0, 0.0, 0.0]
    return [float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)]


def make_mask(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """A rectangle, an ellipse, a ring or scattered pixels; now and then nothing."""
    height, width = size_hw
    mask = np.zeros(size_hw, np.uint8)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    radii = (int(rng.integers(1, max(2, width // 3))), int(rng.integers(1, max(2, height // 3))))
    shape = rng.choice(["rectangle", "ellipse", "ring", "dots", "empty"], p=[0.3, 0.4, 0.15, 0.1, 0.05])
    if shape == "rectangle":
        mask[y : y + radii[1], x : x + radii[0]] = 1
    elif shape in ("ellipse", "ring"):
        cv2.ellipse(mask, (x, y), radii, float(rng.integers(180)), 0, 360, 1, 1 if shape == "ring" else -1)
    elif shape == "dots":
        mask[rng.random(size_hw) < 0.05] = 1
    return mask.astype(bool)


def arrange(rng: np.random.Generator, masks: list[np.ndarray], kind: str) -> None:
    """Make masks separate, touching (no pixel twice) or nested (each inside the one before), in place."""
    for at in range(1, len(masks)):
        taken = np.any(masks[:at], axis=0)
        if kind == "separate":
            taken = cv2.dilate(taken.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        if kind in ("separate", "touching"):
            masks[at] &= ~taken
        elif kind == "nested" and rng.random() < 0.7:
            masks[at] &= masks[at - 1]


def make_picture(
    number: int,
    *,
    seed: int = 0,
    size_hw: tuple[int, int] = (40, 56),
    num_objects: int = 4,
    kind: str = "any",
    num_keypoints: int | None = None,
    with_maps: bool = False,
    share_crowd: float = 0.1,
    sloppy_boxes: bool = False,
) -> Sample:
    """A labelled picture. Attribute `row` is 100 x number + row, so that every instance can be traced."""
    rng = np.random.default_rng([seed, number])
    height, width = size_hw
    masks = [make_mask(rng, size_hw) for _ in range(num_objects)]
    arrange(rng, masks, kind)
    boxes = np.array([tight_box(mask) for mask in masks], np.float32).reshape(-1, 4)
    if sloppy_boxes and num_objects:
        boxes += rng.integers(-3, 4, boxes.shape).astype(np.float32)
        boxes = np.clip(np.sort(boxes.reshape(-1, 2, 2), axis=1).reshape(-1, 4), 0, [width, height] * 2)
        boxes = boxes.astype(np.float32)
    keypoints = None
    if num_keypoints is not None:
        spots = rng.uniform(0, [width, height], (num_objects, num_keypoints, 2))
        keypoints = np.concatenate([spots, rng.integers(0, 3, (num_objects, num_keypoints, 1))], axis=2)
        keypoints = keypoints.astype(np.float32)
        keypoints[keypoints[..., 2] == 0] = 0
    target = Instances(
        class_ids=rng.integers(1, 5, num_objects),
        boxes=boxes,
        masks=np.array(masks, bool).reshape(num_objects, height, width),
        keypoints=keypoints,
        crowd=rng.random(num_objects) < share_crowd,
        attributes={
            "row": 100 * number + np.arange(num_objects),
            "name": np.array([f"{number}-{at}" for at in range(num_objects)], dtype="U8"),
        },
    )
    maps: dict[str, np.ndarray] = (
        {"depth": rng.random(size_hw).astype(np.float32), "flow": rng.random((*size_hw, 2))} if with_maps else {}
    )
    return Sample(
        paint(number, size_hw),
        target,
        metadata={"weather": "fog", "number": number},
        maps=maps,
        fields={"image_id": number, "nested": {"values": [1, 2.5, None]}},
    )


def make_classified(number: int, *, size_hw: tuple[int, int] = (40, 56)) -> Sample:
    """A picture with one class."""
    return Sample(paint(number, size_hw), ClassLabel(number))


def make_segmented(number: int, *, size_hw: tuple[int, int] = (40, 56)) -> Sample:
    """A picture with a semantic mask."""
    return Sample(paint(number, size_hw), SemanticMask(np.full(size_hw, number, np.int32)))


def make_grey(sample: Sample) -> Sample:
    """The same with three equal channels."""
    return sample.replace(image=np.ascontiguousarray(np.repeat(sample.image.max(axis=2, keepdims=True), 3, axis=2)))


def read_rgb(file: Path) -> np.ndarray:
    """Read an image file."""
    image: Any = cv2.imread(str(file))
    return np.ascontiguousarray(image[..., ::-1])


def read_dried_fruit(folder: Path, count: int) -> ListPool:
    """The first pictures of the training set, polygons drawn as masks."""
    records = json.loads((folder / "coco" / "instances_train.json").read_text())
    samples: list[Sample] = []
    for picture in records["images"][:count]:
        image = read_rgb(folder / picture["file_name"])
        found = [record for record in records["annotations"] if record["image_id"] == picture["id"]]
        masks = np.zeros((len(found), *image.shape[:2]), np.uint8)
        for mask, record in zip(masks, found, strict=True):
            polygons = [np.rint(np.reshape(polygon, (-1, 2))).astype(np.int32) for polygon in record["segmentation"]]
            cv2.fillPoly(mask, polygons, 1)
        samples.append(
            _label(image, masks.astype(bool), np.array([record["category_id"] for record in found]), samples)
        )
    return ListPool(samples, [picture["file_name"] for picture in records["images"][:count]])


def read_nuclei(folder: Path, count: int) -> ListPool:
    """Every tenth picture with its nuclei."""
    files = sorted((folder / "instance_ids").glob("*.png"))[::10][:count]
    samples: list[Sample] = []
    for file in files:
        numbers: Any = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        masks = numbers[None] == np.unique(numbers)[1:, None, None]
        image = read_rgb(folder / "images" / file.name)
        samples.append(_label(image, masks, np.ones(len(masks), np.int64), samples))
    return ListPool(samples, [file.name for file in files])


def _label(image: np.ndarray, masks: np.ndarray, class_ids: np.ndarray, before: Sequence[Sample]) -> Sample:
    boxes = np.array([tight_box(mask) for mask in masks], np.float32).reshape(-1, 4)
    rows = 1000 * len(before) + np.arange(len(masks))
    return Sample(image, Instances(class_ids, boxes, masks, attributes={"row": rows}))


REAL_DATA: dict[str, Callable[[Path, int], ListPool]] = {
    "dried_fruit_instances": read_dried_fruit,
    "nuclei_dsb2018": read_nuclei,
}
