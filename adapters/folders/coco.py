"""COCO from disk, as recipes and the command line read it: `CocoDataset`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from synthloader.adapters.folders.coco_index import check_files, make_coco, read_annotation_file
from synthloader.adapters.folders.image_files import read_image_file
from synthloader.adapters.items.coco_annotations import list_facts, make_fact_columns
from synthloader.adapters.items.segmentations import decode_masks, has_segmentation
from synthloader.adapters.items.target_dicts import KNOWN_FIELDS
from synthloader.checks import check_int
from synthloader.registry import register_plugin
from synthloader.sources import ItemFacts

__all__ = ["CocoDataset"]

_LOGGER = logging.getLogger("synthloader.adapters.folders.coco")
_USUAL_OF_IMAGES = frozenset(
    (
        "id",
        "file_name",
        "width",
        "height",
        "license",
        "flickr_url",
        "coco_url",
        "date_captured",
    )
)


class CocoDataset(Dataset[tuple[Any, Any]]):
    """Images and a COCO annotation file, as items of torchvision's detectors.

    An item is `(image, target)`: a uint8 tensor (3, H, W), RGB, and a dict of

    * `image_id`: the image's id in the file;
    * `boxes`: (N, 4) float32, x1 y1 x2 y2 in pixels; `labels`: (N,) int64, category ids as in the file;
    * `area`: (N,) float32; `iscrowd`: (N,) int64;
    * `masks`: (N, H, W) uint8, where every annotation of the file that is no crowd has a segmentation;
    * `keypoints`: (N, K, 3) float32, where every annotation of the file has as many;
    * the annotations' own fields and `attributes`, numbers as tensors and strings as lists, a row per instance: NaN or
      an empty string where an annotation lacks one; and the image's own numbers and strings (`weather`).

    Nothing is decoded at construction, but every reference is checked: images, ids, categories and files. Trainers that
    want floats take `transforms=torchvision.transforms.v2.ToDtype(torch.float32, scale=True)`.

    Args:
        images: Folder that the names in the file are relative to.
        annotations: COCO JSON file.
        transforms: Called with image and target; lifted by `MixedDataset`, which applies it after mixing.

    Attributes:
        root: The folder of images.
        coco: `pycocotools.coco.COCO` over the file.
        ids: Image ids, in the order of the items.
        classes: Category names, in the order of their ids.
        class_to_idx: Category name to category id.
        instance_fields: Names of the fields besides torchvision's that have a row per instance.
        has_masks: Whether items have masks.

    Raises:
        FileNotFoundError: The annotation file, or an image that it names, does not exist.
        ValueError: The file is broken or contradicts itself; the message names file, entry and remedy.
    """

    lifts_transforms = True

    def __init__(
        self,
        images: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        transforms: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.root = Path(images)
        path = Path(annotations)
        content = read_annotation_file(path)
        check_files(self.root, content["images"], path)
        self.transforms = transforms
        self.coco = make_coco(content)
        self.ids: list[int | str] = [record["id"] for record in content["images"]]
        if len({type(image_id) for image_id in self.ids}) == 1:
            self.ids.sort()
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.class_to_idx: dict[str, int] = {category["name"]: category["id"] for category in categories}
        self.classes: list[str] = list(self.class_to_idx)
        self.has_masks = _have_masks(content["annotations"], path)
        counts = {len(annotation.get("keypoints") or ()) for annotation in content["annotations"]}
        self._num_keypoints = counts.pop() // 3 if len(counts) == 1 else 0
        facts = make_fact_columns([list_facts(annotation) for annotation in content["annotations"]])
        taken = {*KNOWN_FIELDS, *_USUAL_OF_IMAGES, "image_id"}
        self._columns = {name: column.dtype for name, column in facts.items() if name not in taken}
        self.instance_fields = tuple(self._columns)
        told = (pair for record in content["images"] for pair in record.items())
        self._image_fields = {field for field, value in told if type(value) in (bool, int, float, str)}
        self._image_fields -= {*taken, *self._columns}
        # What decides of the form of every item, and so belongs to the annotation of each.
        kinds = {name: dtype.kind for name, dtype in self._columns.items()}
        self._form = [self.has_masks, self._num_keypoints, kinds, sorted(self._image_fields)]

    def __len__(self) -> int:
        """Number of images, those without objects included."""
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Image and target.

        Raises:
            OSError: The file is cut short or no image.
            ValueError: The image has another size than the annotation file says, or more than 8 bit.
        """
        record = self._find_record(index)
        path = self.root / record["file_name"]
        pixels = read_image_file(path)
        size_hw = (record["height"], record["width"])
        if pixels.shape[:2] != size_hw:
            raise ValueError(
                f"the image {path} must have the height and width {size_hw} that its record says, got "
                f"{pixels.shape[:2]}. Correct the record of image id {record['id']!r}, or restore the file that was "
                "annotated (annotations belong to the stored pixels, before any rotation by EXIF)."
            )
        image, target = torch.from_numpy(pixels).permute(2, 0, 1), self._read_target(record, size_hw)
        return (image, target) if self.transforms is None else self.transforms(image, target)

    def get_height_and_width(self, index: int, /) -> tuple[int, int]:
        """Size of an image as its record says, without opening it."""
        record = self._find_record(index)
        return record["height"], record["width"]

    def read_facts(self, index: int, /) -> ItemFacts:
        """What is known of an item without decoding its image."""
        record = self._find_record(index)
        annotations = self.coco.imgToAnns.get(record["id"], [])
        return ItemFacts(
            record["file_name"],
            str(self.root / record["file_name"]),
            [record, annotations, self._form],
            (record["height"], record["width"]),
            [annotation["category_id"] for annotation in annotations],
        )

    def __repr__(self) -> str:
        return f"CocoDataset({len(self)} images, {len(self.classes)} classes, root={str(self.root)!r})"

    def _find_record(self, index: int) -> dict[str, Any]:
        place = check_int("index", index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"index must lie in a dataset of {len(self)} images, got index={index}.")
        record: dict[str, Any] = self.coco.imgs[self.ids[place]]
        return record

    def _read_target(self, record: dict[str, Any], size_hw: tuple[int, int]) -> dict[str, Any]:
        annotations = self.coco.imgToAnns.get(record["id"], [])
        bboxes = np.array([annotation["bbox"] for annotation in annotations], np.float64).reshape(-1, 4)
        bboxes[:, 2:] += bboxes[:, :2]
        boxes = bboxes.astype(np.float32)
        area = [annotation.get("area", annotation["bbox"][2] * annotation["bbox"][3]) for annotation in annotations]
        target: dict[str, Any] = {
            "image_id": record["id"],
            "boxes": torch.from_numpy(boxes),
            "labels": torch.tensor([annotation["category_id"] for annotation in annotations], dtype=torch.int64),
            "area": torch.tensor(area, dtype=torch.float32),
            "iscrowd": torch.tensor([annotation.get("iscrowd", 0) for annotation in annotations], dtype=torch.int64),
        }
        if self.has_masks:
            height, width = size_hw
            inside = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
            names = [f"the segmentation of annotation id {annotation['id']!r}" for annotation in annotations]
            masks = decode_masks(annotations, boxes=inside, size_hw=size_hw, names=names)
            target["masks"] = torch.from_numpy(masks.view(np.uint8))
        if self._num_keypoints:
            numbers = np.array([annotation["keypoints"] for annotation in annotations], np.float32)
            target["keypoints"] = torch.from_numpy(numbers.reshape(-1, self._num_keypoints, 3))
        columns = make_fact_columns([list_facts(annotation) for annotation in annotations], names=list(self._columns))
        for name, dtype in self._columns.items():
            column = columns.get(name)
            if dtype.kind == "U":
                target[name] = column.tolist() if column is not None and column.dtype.kind == "U" else [""] * len(boxes)
            else:
                target[name] = torch.from_numpy(np.array(column if column is not None else [], dtype))
        return target | {field: record[field] for field in record if field in self._image_fields}


def _have_masks(annotations: list[dict[str, Any]], path: Path) -> bool:
    drawn = [has_segmentation(annotation) for annotation in annotations if not annotation.get("iscrowd", 0)]
    if any(drawn) and not all(drawn):
        _LOGGER.warning(
            "%s: %d of %d annotations have no segmentation, so the items come without masks.",
            path,
            len(drawn) - sum(drawn),
            len(drawn),
        )
    return bool(drawn) and all(drawn)


register_plugin("formats", CocoDataset, name="coco")
