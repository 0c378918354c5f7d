"""Pictures whose pixels say where they come from, and the real data sets as pools.

Pixel (row, column) of picture i is (column % 256, row % 256, 40 i + 20 * (column // 256) + 10 * (row // 256)), so that a
pasted pixel tells its donor and its place there: six pictures of up to 512 px a side. `paint_far` names the places of
three pictures of up to 2048 px.
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
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

NEAR = 512
"""Longest side of a picture that `paint` can name the places of."""

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
        if isinstance(target, SemanticMask):
            return np.setdiff1d(target.mask, [0, target.ignore_index]).astype(np.int64)
        if isinstance(target, SemanticMask):
            return np.setdiff1d(target.mask, [0, target.ignore_index]).astype(np.int64)
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


def paint_far(number: int, size_hw: tuple[int, int]) -> np.ndarray:
    """The same for pictures 0 to 2 of up to 2048 px a side."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    code = ((number + 1) << 22) + (rows << 11) + columns
    return np.ascontiguousarray(np.stack([code & 255, code >> 8 & 255, code >> 16], axis=2).astype(np.uint8))


def locate_far(pixels: np.ndarray) -> np.ndarray:
    """(M, 3) int: picture, row, column of pixels (M, 3) that `paint_far` made."""
    code = (pixels.astype(np.int64) << [0, 8, 16]).sum(axis=1)
    return np.stack([(code >> 22) - 1, code >> 11 & 2047, code & 2047], axis=1)


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
    far: bool = False,
) -> Sample:
    """A labelled picture. Attribute `row` is 100 x number + row, so that every instance can be traced.

    Args:
        number: Which picture.
        seed: Of what is drawn.
        size_hw: Height and width.
        num_objects: 0 to 100.
        kind: One of `KINDS`: how the masks lie to each other.
        num_keypoints: Of every instance; None: there are none.
        with_maps: Whether there are a depth map and a flow.
        share_crowd: Share of the instances that are crowds.
        sloppy_boxes: Boxes are a few pixels off, and some have no width or height.
        far: Painted with `paint_far`.
    """
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
        {"depth": (2 + 78 * rng.random(size_hw)).astype(np.float32), "flow": rng.random((*size_hw, 2))}
        if with_maps
        else {}
    )
    return Sample(
        (paint_far if far else paint)(number, size_hw),
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


def make_regions(
    number: int,
    *,
    seed: int = 0,
    size_hw: tuple[int, int] = (40, 56),
    num_objects: int = 4,
    far: bool = False,
    **_: Any,
) -> Sample:
    """A picture with a semantic mask of several regions of classes 1 to 4, some pixels of which count for nothing."""
    labelled = make_picture(number, seed=seed, size_hw=size_hw, num_objects=num_objects, far=far, with_maps=False)
    mask = np.zeros(size_hw, np.int32)
    target: Any = labelled.target
    for class_id, pixels in zip(target.class_ids, target.masks, strict=True):
        mask[pixels] = class_id
    mask[np.random.default_rng([seed, number, 1]).random(size_hw) < 0.02] = 255
    return labelled.replace(target=SemanticMask(mask))


def drop_masks(sample: Sample) -> Sample:
    """The same with boxes only."""
    assert isinstance(sample.target, Instances)
    return sample.replace(target=sample.target.replace(masks=None))


def make_flat(number: int, color: tuple[int, int, int], *, around: tuple[int, int, int], kind: type[Target]) -> Sample:
    """A picture of 48 x 64 with one object of class 1 + number % 4, all of one colour: an ellipse, or an L.

    Args:
        number: Which picture; attribute `row` is 100 times that.
        color: RGB of the object.
        around: RGB of all else.
        kind: Kind of the target.
    """
    pixels = np.zeros((48, 64), np.uint8)
    if number % 2:
        cv2.ellipse(pixels, (30, 24), (14 + number, 9), 20.0 * number, 0, 360, 1, -1)
    else:
        pixels[10:40, 20:30] = pixels[30:40, 20:50] = 1
    mask = pixels.astype(bool)
    image = np.where(mask[..., None], np.array(color, np.uint8), np.array(around, np.uint8))
    class_id = 1 + number % 4
    target: Target = ClassLabel(class_id)
    if kind is Instances:
        boxes = np.array([tight_box(mask)], np.float32)
        target = Instances(np.array([class_id]), boxes, mask[None], attributes={"row": np.array([100 * number])})
    elif kind is SemanticMask:
        target = SemanticMask(np.where(mask, class_id, 0).astype(np.int32))
    return Sample(np.ascontiguousarray(image), target)


def make_texture(seed: int, size_hw: tuple[int, int], levels: tuple[int, int] = (50, 206)) -> np.ndarray:
    """(H, W, 3) uint8: soft blobs of colour under fine grain, so that every part of it is like no other.

    Args:
        seed: Of what is drawn.
        size_hw: Height and width.
        levels: Lowest and highest level.
    """
    rng = np.random.default_rng([seed, 2])
    coarse = rng.random((4, 5, 3), dtype=np.float32)
    blobs = cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    shares = np.clip(0.4 * blobs + 0.6 * rng.random((*size_hw, 1), dtype=np.float32), 0, 1)
    return np.ascontiguousarray((levels[0] + shares * (levels[1] - levels[0])).astype(np.uint8))


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


def read_nuclei_classes(folder: Path, count: int) -> ListPool:
    """Every tenth picture with its semantic mask: background, inside, rim."""
    files = sorted((folder / "semantic").glob("*.png"))[::10][:count]
    masks: list[Any] = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
    samples = [
        Sample(read_rgb(folder / "images" / file.name), SemanticMask(mask.astype(np.int32)))
        for file, mask in zip(files, masks, strict=True)
    ]
    return ListPool(samples, [file.name for file in files])


def read_blood_cells(folder: Path, count: int) -> ListPool:
    """The first pictures of the training set, which has boxes only."""
    records = json.loads((folder / "coco" / "instances_train.json").read_text())
    samples: list[Sample] = []
    for picture in records["images"][:count]:
        found = [record for record in records["annotations"] if record["image_id"] == picture["id"]]
        boxes = np.array([record["bbox"] for record in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        class_ids = np.array([record["category_id"] for record in found], np.int64)
        rows = {"row": 1000 * len(samples) + np.arange(len(found))}
        image = read_rgb(folder / "JPEGImages" / picture["file_name"])
        samples.append(Sample(image, Instances(class_ids, boxes, attributes=rows)))
    return ListPool(samples, [picture["file_name"] for picture in records["images"][:count]])


def _label(image: np.ndarray, masks: np.ndarray, class_ids: np.ndarray, before: Sequence[Sample]) -> Sample:
    boxes = np.array([tight_box(mask) for mask in masks], np.float32).reshape(-1, 4)
    rows = 1000 * len(before) + np.arange(len(masks))
    return Sample(image, Instances(class_ids, boxes, masks, attributes={"row": rows}))


REAL_DATA: dict[str, Callable[[Path, int], ListPool]] = {
    "dried_fruit_instances": read_dried_fruit,
    "nuclei_dsb2018": read_nuclei,
}

REAL_SETS: dict[str, Callable[[Path, int], ListPool]] = {
    "dried fruit, polygons": lambda shared, count: read_dried_fruit(shared / "dried_fruit_instances", count),
    "nuclei, masks": lambda shared, count: read_nuclei(shared / "nuclei_dsb2018", count),
    "nuclei, classes": lambda shared, count: read_nuclei_classes(shared / "nuclei_dsb2018", count),
    "blood cells, boxes": lambda shared, count: read_blood_cells(shared / "bccd_blood_cells", count),
}
"""All real sets, from the folder that holds them: also those without instances or masks."""
