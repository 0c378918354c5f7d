"""Drawn shapes whose fill and position are known, written as every trainer's own data set, and judged on pixels.

Red rectangles, green discs and blue triangles on a dark, grey, textured ground: whatever a trainer does to an image
(mosaics, flips, crops, resizing), a label is right when its box or mask holds the colour of its class, and no colour
stays outside. `Redraw` makes generated images of the same kind on a bright ground, with shapes at other places: a
label of the source on a generated image is caught, and generated pixels can be counted in a batch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from PIL import Image

from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

NAMES = ("box", "disc", "wedge")
COLORS = np.array([[230, 30, 30], [30, 230, 30], [30, 30, 230]], np.uint8)
"""RGB fill of each class. Use them with colour augmentation switched off."""
DARK, BRIGHT = 60, 170
"""Grey level of the ground of real and of generated images."""
SIZE_HW = (96, 128)


@dataclass
class Drawn:
    """One image with all that is known of it."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    class_ids: np.ndarray  # (N,) int64, from 0
    boxes: np.ndarray  # (N, 4) float32 xyxy
    masks: np.ndarray  # (N, H, W) bool, disjoint
    corners: np.ndarray  # (N, 4, 2) float32, the box's corners, clockwise from the top left

    @property
    def id_mask(self) -> np.ndarray:
        """(H, W) int32: 0 is the ground, class k is k + 1."""
        mask = np.zeros(self.image.shape[:2], np.int32)
        for class_id, shape in zip(self.class_ids.tolist(), self.masks, strict=True):
            mask[shape] = class_id + 1
        return mask


def draw_shapes(
    rng: np.random.Generator,
    *,
    size_hw: tuple[int, int] = SIZE_HW,
    ground: int = DARK,
    num_shapes: int = 3,
    only_class: int | None = None,
) -> Drawn:
    """Shapes that touch neither each other nor the border, at random places."""
    height, width = size_hw
    image = np.repeat(rng.integers(ground - 12, ground + 12, (height, width, 1), dtype=np.uint8), 3, axis=2)
    class_ids, boxes, masks = [], [], []
    for part in range(num_shapes):
        left, right = part * width // num_shapes, (part + 1) * width // num_shapes
        side_x, side_y = int(rng.integers(14, (right - left) - 6)), int(rng.integers(14, height // 2))
        x, y = int(rng.integers(left + 2, right - side_x - 2)), int(rng.integers(2, height - side_y - 2))
        class_id = int(rng.integers(len(NAMES))) if only_class is None else only_class
        mask = np.zeros((height, width), np.uint8)
        if class_id == 0:
            mask[y : y + side_y, x : x + side_x] = 1
        elif class_id == 1:
            cv2.ellipse(mask, (x + side_x // 2, y + side_y // 2), (side_x // 2 - 1, side_y // 2 - 1), 0, 0, 360, 1, -1)
        else:
            points = np.array([[x, y + side_y - 1], [x + side_x - 1, y + side_y - 1], [x + side_x // 2, y]])
            cv2.fillPoly(mask, [points], 1)
        rows, columns = np.nonzero(mask)
        image[mask > 0] = COLORS[class_id]
        class_ids.append(class_id)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        masks.append(mask > 0)
    box = np.array(boxes, np.float32).reshape(-1, 4)
    return Drawn(
        image,
        np.array(class_ids, np.int64),
        box,
        np.array(masks, np.bool_).reshape(-1, height, width),
        box[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2),
    )


def draw_numbered(number: int, **options: Any) -> Drawn:
    """Real image number `number`, always the same."""
    return draw_shapes(np.random.default_rng([number, 4]), **options)


class Redraw:
    """A generator for tests: another drawing of the same kind and size on a bright ground, labels drawn with it.

    Keypoints, where the source has them, are the four corners of each box.
    """

    keeps = frozenset({ClassLabel, Instances, SemanticMask})
    fingerprint = "Redraw/1"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        before = source.target
        only_class = before.class_id if isinstance(before, ClassLabel) else None
        drawn = draw_shapes(rng, size_hw=source.size_hw, ground=BRIGHT, only_class=only_class)
        if isinstance(before, ClassLabel):
            return source.edit(image=drawn.image, target=before)
        if isinstance(before, SemanticMask):
            return source.edit(image=drawn.image, target=SemanticMask(drawn.id_mask, before.ignore_index))
        assert isinstance(before, Instances)
        count = len(drawn.class_ids)
        points = np.concatenate([drawn.corners, np.full((count, 4, 1), 2, np.float32)], axis=2)
        target = Instances(
            class_ids=drawn.class_ids,
            boxes=drawn.boxes,
            masks=None if before.masks is None else drawn.masks,
            keypoints=None if before.keypoints is None else points.astype(np.float32),
            attributes={
                name: np.zeros((count, *rows.shape[1:]), rows.dtype) for name, rows in before.attributes.items()
            },
        )
        return source.edit(image=drawn.image, target=target)


class ShiftClasses:
    """`Redraw` for data sets that number the classes from `first` on."""

    keeps = Redraw.keeps

    def __init__(self, first: int) -> None:
        self.first = first
        self.fingerprint = f"ShiftClasses/1(first={first})"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        made = Redraw().generate(source, rng=rng)
        if not isinstance(made.target, Instances):
            return made
        return made.replace(target=made.target.replace(class_ids=made.target.class_ids + self.first))


# ---- judged on pixels


def find_color(image: np.ndarray, class_id: int, /, *, tolerance: int = 60) -> np.ndarray:
    """(H, W) bool, where an RGB uint8 image has the colour of a class."""
    difference = np.abs(image.astype(np.int32) - COLORS[class_id].astype(np.int32))
    found: np.ndarray = (difference <= tolerance).all(axis=2)
    return found


def assert_boxes_true(image: np.ndarray, boxes: np.ndarray, class_ids: np.ndarray, *, slack: float = 2.0) -> None:
    """Every box is filled by the colour of its class up to its sides, and no colour lies outside of all boxes.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) xyxy in pixels of this image.
        class_ids: (N,) from 0.
        slack: Pixels by which interpolation may blur a border.
    """
    height, width = image.shape[:2]
    explained = np.zeros((len(NAMES), height, width), np.bool_)
    for box, class_id in zip(np.asarray(boxes, np.float64), np.asarray(class_ids).astype(int), strict=True):
        x1, y1 = np.floor(box[:2] - slack).clip(0).astype(int)
        x2, y2 = np.ceil(box[2:] + slack).astype(int)
        explained[class_id, y1:y2, x1:x2] = True
        inner = find_color(image, class_id)[y1:y2, x1:x2]
        rows, columns = np.nonzero(inner)
        assert len(rows), f"no {NAMES[class_id]} in the box {box.tolist()}"
        if (box[2:] - box[:2]).min() >= 8:
            extent = [columns.min() + x1, rows.min() + y1, columns.max() + x1 + 1, rows.max() + y1 + 1]
            off = np.abs(np.array(extent) - box)
            assert off.max() <= slack + 1, f"the box {box.tolist()} of a {NAMES[class_id]} that covers {extent}"
    for class_id in range(len(NAMES)):
        stray = find_color(image, class_id) & ~explained[class_id]
        assert stray.sum() <= 12, f"{int(stray.sum())} pixels of {NAMES[class_id]} without a label"


def assert_mask_true(image: np.ndarray, ids: np.ndarray, *, most_wrong: float = 0.02) -> None:
    """A mask of ids (0 ground, k + 1 class k) agrees with the colours but for blurred borders."""
    painted = np.zeros(ids.shape, np.int64)
    for class_id in range(len(NAMES)):
        painted[find_color(image, class_id)] = class_id + 1
    wrong = (painted != ids) & (ids != 255)
    assert wrong.mean() <= most_wrong, f"{wrong.mean():.3f} of the mask is not what the image shows"


def is_generated_ground(image: np.ndarray, /) -> bool:
    """Whether the grey pixels of an RGB uint8 image are those of a generated one (most of them, in a mosaic)."""
    grey = image[np.ptp(image.astype(np.int32), axis=2) < 20].mean(axis=-1)
    return bool(np.mean(grey > (DARK + BRIGHT) / 2) > 0.5)


# ---- on disk


def write_yolo(folder: Path, count: int = 8, *, task: str = "detect", num_val: int = 2, **options: Any) -> Path:
    """A YOLO data set of PNG files; gives `data.yaml` (for `classify` the folder). Keypoints are the box's corners."""
    if task == "classify":
        return write_imagefolder(folder, count)
    for split, numbers in (("train", range(count)), ("val", range(1000, 1000 + num_val))):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for number in numbers:
            drawn = draw_numbered(number, **options)
            _write_image(folder / "images" / split / f"{number:04d}.png", drawn.image)
            lines = "".join(f"{line}\n" for line in _make_lines(drawn, task))
            (folder / "labels" / split / f"{number:04d}.txt").write_text(lines)
    content: dict[str, Any] = {"path": str(folder), "train": "images/train", "val": "images/val"}
    content |= {"names": dict(enumerate(NAMES))}
    if task == "pose":
        content |= {"kpt_shape": [4, 3], "flip_idx": [1, 0, 3, 2]}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml"


def write_coco_shapes(folder: Path, count: int = 8, *, first_class: int = 1, **options: Any) -> tuple[Path, Path]:
    """A COCO data set; gives the image folder and the annotation file."""
    (folder / "images").mkdir(parents=True)
    records, annotations = [], []
    for number in range(count):
        drawn = draw_numbered(number, **options)
        height, width = drawn.image.shape[:2]
        _write_image(folder / "images" / f"{number:04d}.png", drawn.image)
        records.append({"id": number + 1, "file_name": f"{number:04d}.png", "height": height, "width": width})
        for class_id, box, mask in zip(drawn.class_ids.tolist(), drawn.boxes.tolist(), drawn.masks, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": class_id + first_class,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": float(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": [_find_outline(mask).reshape(-1).tolist()],
                }
            )
    categories = [{"id": place + first_class, "name": name} for place, name in enumerate(NAMES)]
    file = folder / "annotations.json"
    file.write_text(json.dumps({"images": records, "annotations": annotations, "categories": categories}))
    return folder / "images", file


def write_imagefolder(folder: Path, count: int = 8, *, num_val: int = 3, **options: Any) -> Path:
    """`train/<class>/<number>.png` and `val/...`, one shape an image; gives the folder."""
    for split, numbers in (("train", range(count)), ("val", range(1000, 1000 + num_val))):
        for number in numbers:
            class_id = number % len(NAMES)
            (folder / split / NAMES[class_id]).mkdir(parents=True, exist_ok=True)
            drawn = draw_numbered(number, only_class=class_id, num_shapes=1, **options)
            _write_image(folder / split / NAMES[class_id] / f"{number:04d}.png", drawn.image)
    return folder


def write_masks(folder: Path, count: int = 8, **options: Any) -> tuple[Path, Path]:
    """Images, and masks of ids as palette PNG files of the same names; gives both folders."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        drawn = draw_numbered(number, **options)
        _write_image(folder / "images" / f"{number:04d}.png", drawn.image)
        mask = Image.fromarray(drawn.id_mask.astype(np.uint8)).convert("P")
        mask.putpalette([0, 0, 0, *COLORS.reshape(-1).tolist()])
        mask.save(folder / "masks" / f"{number:04d}.png")
    return folder / "images", folder / "masks"


def write_voc(folder: Path, count: int = 8, **options: Any) -> Path:
    """`VOCdevkit/VOC2012` with JPEGImages (PNG content is not allowed there: lossless enough JPEG), Annotations,
    SegmentationClass and ImageSets; gives the folder that torchvision calls root."""
    base = folder / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (base / name).mkdir(parents=True)
    for number in range(count):
        drawn = draw_numbered(number, **options)
        height, width = drawn.image.shape[:2]
        _write_image(base / "JPEGImages" / f"{number:04d}.jpg", drawn.image)
        objects = "".join(
            f"<object><name>{NAMES[class_id]}</name><pose>Unspecified</pose><truncated>0</truncated>"
            f"<difficult>0</difficult><bndbox><xmin>{int(x1) + 1}</xmin><ymin>{int(y1) + 1}</ymin>"
            f"<xmax>{int(x2)}</xmax><ymax>{int(y2)}</ymax></bndbox></object>"
            for class_id, (x1, y1, x2, y2) in zip(drawn.class_ids.tolist(), drawn.boxes.tolist(), strict=True)
        )
        (base / "Annotations" / f"{number:04d}.xml").write_text(
            f"<annotation><folder>VOC2012</folder><filename>{number:04d}.jpg</filename><size><width>{width}</width>"
            f"<height>{height}</height><depth>3</depth></size><segmented>0</segmented>{objects}</annotation>"
        )
        mask = Image.fromarray(drawn.id_mask.astype(np.uint8)).convert("P")
        mask.putpalette([0, 0, 0, *COLORS.reshape(-1).tolist()])
        mask.save(base / "SegmentationClass" / f"{number:04d}.png")
    names = "".join(f"{number:04d}\n" for number in range(count))
    for group in ("Main", "Segmentation"):
        (base / "ImageSets" / group / "train.txt").write_text(names)
    return folder


def _write_image(path: Path, image: np.ndarray) -> None:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 98] if path.suffix == ".jpg" else []
    cv2.imwrite(str(path), image[:, :, ::-1], quality)


def _find_outline(mask: np.ndarray) -> np.ndarray:
    """(K, 2) float, corners along the outer edges of the pixels."""
    from synthloader.polygons import trace_outline

    return trace_outline(mask)


def _make_lines(drawn: Drawn, task: str) -> list[str]:
    height, width = drawn.image.shape[:2]
    size = np.array([width, height], np.float64)
    lines = []
    for row, class_id in enumerate(drawn.class_ids.tolist()):
        low, high = drawn.boxes[row, :2] / size, drawn.boxes[row, 2:] / size
        numbers: list[float] = [*((low + high) / 2), *(high - low)]
        if task == "segment":
            numbers = (_find_outline(drawn.masks[row]) / size).reshape(-1).tolist()
        elif task == "obb":
            numbers = (drawn.corners[row] / size).reshape(-1).tolist()
        elif task == "pose":
            for x, y in (drawn.corners[row] / size).tolist():
                numbers += [x, y, 2]
        lines.append(" ".join([str(class_id), *(f"{number:.8f}" for number in numbers)]))
    return lines
