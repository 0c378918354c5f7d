"""Data sets with rotated boxes whose true masks are known: drawn pictures, and photographs of dried fruit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.adapters.folders.yolo import YoloDataset
from synthloader.generators.pasting.cut_out import MASK_IS_BOX
from synthloader.targets import Instances
from tests.generators.pictures import make_texture, read_dried_fruit

SIZE_HW = (160, 220)
COLORS = ((200, 60, 50), (60, 170, 80), (70, 90, 210))
NAMES = ("long", "round", "bar")


@dataclass
class Scene:
    """A data set, and the masks (N, H, W) bool of its objects in every picture, true to the pixel."""

    dataset: YoloDataset
    masks: list[np.ndarray]


def draw_scene(folder: Path, *, count: int = 4, min_gap: int = 0) -> Scene:
    """Pictures with an ellipse, a rounder one and a rectangle, turned by any angle; their boxes may overlap."""
    images, masks, corners = [], [], []
    for number in range(count):
        rng = np.random.default_rng(number)
        image = np.clip(make_texture(number, SIZE_HW, (105, 135)).astype(int), 0, 255).astype(np.uint8)
        drawn = np.zeros((3, *SIZE_HW), np.uint8)
        boxes = []
        for at, mask in enumerate(drawn):
            center = (38 + (66 + min_gap) * at + float(rng.uniform(-5, 5)), float(rng.uniform(55, 105)))
            sides = ((64.0, 26.0), (46.0, 34.0), (56.0, 20.0))[at]
            shape = (center, sides, float(rng.uniform(0, 180)))
            boxes.append(cv2.boxPoints(shape))
            if at < 2:
                cv2.ellipse(mask, shape, 1, -1)
            else:
                cv2.fillPoly(mask, [np.rint(boxes[-1]).astype(np.int32)], 1)
            image[mask > 0] = COLORS[at]
            drawn[:at][:, mask > 0] = 0
        noise = rng.normal(0, 4, image.shape)
        images.append(np.clip(image + noise, 0, 255).astype(np.uint8))
        masks.append(drawn.astype(bool))
        corners.append(boxes)
    return Scene(write_rotated(folder, images, corners, [[0, 1, 2]] * count), masks)


def make_scene(kind: str, folder: Path, request: pytest.FixtureRequest, *, count: int) -> Scene:
    """`"drawn"` or `"fruit"`; a test that asks for fruit is skipped where the photographs are absent."""
    if kind == "drawn":
        return draw_scene(folder, count=count)
    return read_fruit(request.getfixturevalue("shared_data"), folder, count=count)


def read_fruit(shared: Path, folder: Path, *, count: int = 8, factor: float = 0.4) -> Scene:
    """The fruit, smaller, with the smallest rotated boxes around its masks."""
    pool = read_dried_fruit(shared / "dried_fruit_instances", count)
    images, masks, corners, classes = [], [], [], []
    for at in range(len(pool)):
        sample = pool[at]
        target: Any = sample.target
        size_wh = round(sample.size_hw[1] * factor), round(sample.size_hw[0] * factor)
        images.append(cv2.resize(sample.image, size_wh, interpolation=cv2.INTER_AREA))
        small = [
            cv2.resize(mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA) > 0.5 for mask in target.masks
        ]
        shapes = [np.argwhere(mask)[:, ::-1].astype(np.float32) + 0.5 for mask in small]
        kept = [row for row, shape in enumerate(shapes) if len(shape) > 20]
        masks.append(np.array([small[row] for row in kept], bool).reshape(-1, *size_wh[::-1]))
        corners.append([cv2.boxPoints(cv2.minAreaRect(shapes[row])) for row in kept])
        classes.append([int(target.class_ids[row]) - int(target.class_ids.min()) for row in kept])
    return Scene(write_rotated(folder, images, corners, classes), masks)


def write_rotated(folder: Path, images: Any, corners: Any, class_ids: Any) -> YoloDataset:
    """YOLO files of rotated boxes; corners in pixels, of what leaves the image the polygon inside, as readers want."""
    for split in ("images", "labels"):
        (folder / split).mkdir(parents=True)
    for number, (image, boxes, classes) in enumerate(zip(images, corners, class_ids, strict=True)):
        size = np.array([image.shape[1], image.shape[0]])
        border = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], np.float32)
        boxes = [
            box if box.min() >= 0 and (box <= size).all() else cv2.intersectConvexConvex(box, border)[1].reshape(-1, 2)
            for box in boxes
        ]
        lines = [
            " ".join([str(class_id), *(f"{value:.7f}" for value in (box / size).ravel())])
            for box, class_id in zip(boxes, classes, strict=True)
        ]
        cv2.imwrite(str(folder / f"images/{number:02}.png"), np.ascontiguousarray(image[..., ::-1]))
        (folder / f"labels/{number:02}.txt").write_text("\n".join(lines) + "\n")
    names = ", ".join(f"{at}: {name}" for at, name in enumerate(NAMES))
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images\nval: images\nnames: {{{names}}}\n")
    return YoloDataset(folder / "data.yaml", task="obb")


def find_hidden(scene: Scene, picture: int, target: Instances, edited: np.ndarray) -> list[float]:
    """The visible shares of the true masks of a picture's own objects that kept their label.

    Args:
        scene: Where the picture is from.
        picture: Which one.
        target: The label of what was made of it, with the picture's own objects first.
        edited: (H, W) bool, what was pasted over.
    """
    shares = []
    for row in np.flatnonzero(target.attributes[MASK_IS_BOX]).tolist():
        true = scene.masks[picture][row]
        shares.append(float((true & ~edited).sum() / true.sum()))
    return shares


def measure_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / max((one | other).sum(), 1))


def check_rotated_box(corners: np.ndarray, visible: np.ndarray) -> None:
    """It holds all pixels of an object, and each of its sides is near one of them."""
    rows, columns = np.nonzero(visible)
    pixels = np.stack([columns + 0.5, rows + 0.5], axis=1)
    center = corners.mean(axis=0)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
        normal = np.array([-along[1], along[0]])
        normal = normal if (center - start) @ normal >= 0 else -normal
        distances = (pixels - start) @ normal
        assert distances.min() > -1.2, "A pixel of the object lies outside of its rotated box."
        assert distances.min() < 2, "The rotated box is larger than what is visible of the object."
