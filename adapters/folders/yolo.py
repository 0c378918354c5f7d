"""YOLO from disk, as recipes and the command line read it: `YoloDataset`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from synthloader.adapters.folders.image_files import read_image_file, read_image_size, show_path
from synthloader.adapters.folders.imagefolder import ImageFolderDataset
from synthloader.adapters.folders.yolo_data import (
    YoloData,
    find_label_file,
    find_yolo_images,
    read_data_file,
    read_names,
)
from synthloader.adapters.folders.yolo_labels import (
    YOLO_TASKS,
    YoloRecord,
    draw_segments,
    find_quadrilateral,
    read_label_file,
    to_pixels,
)
from synthloader.adapters.folders.yolo_rotated import RotatedBoxAdapter
from synthloader.checks import check_choice, check_int, reject
from synthloader.keys import hash_content
from synthloader.protocols import AnyAdapter
from synthloader.registry import register_plugin
from synthloader.sources import ItemFacts

__all__ = ["YoloDataset", "open_yolo"]

_LOGGER = logging.getLogger("synthloader.adapters.folders.yolo")


class YoloDataset(Dataset[tuple[Any, Any]]):
    """Images and YOLO label files, as items of torchvision's detectors.

    An item is `(image, target)`: a uint8 tensor (3, H, W), RGB, turned as EXIF says (so Ultralytics reads it), and a
    dict of

    * `image_id`: the path of the image below the root;
    * `boxes`: (N, 4) float32, x1 y1 x2 y2 in pixels, inside the image; `area`: (N,) float32; `iscrowd`: zeros;
    * `labels`: (N,) int64, **class ids as in the files, counted from 0**. torchvision's detectors take 0 for the
      background: give them `first_class=1`;
    * `masks`: (N, H, W) uint8, where all labels are polygons (in `detect` too, so that objects can be cut out);
    * `keypoints`: (N, K, 3) float32 in pixels, for `pose` (visibility 2 where the files have none, and 0 for points
      below 0); for `obb` the four corners, with masks of what they enclose and boxes around the labels. Generators
      take such a mask for a box, not for an outline: see `RotatedBoxAdapter`. Four corners stand as in the file; of
      fewer or more, they are those of the smallest rotated box in pixels. Ultralytics fits that box, also to four
      corners that are no rectangle, when the image is resized: it differs from ours by rounding, or in direction where
      two boxes are equally small.

    Labels are found as Ultralytics finds them: in the path of the image the last `images` becomes `labels`. An image
    without a label file has no objects; rows that occur twice count once; images come in the order of their paths.
    No image is opened at construction, but every label is read and checked.

    Args:
        data: A `data.yaml`; `path` in it is relative to the file. Classification has folders: see
            `ImageFolderDataset`.
        split: Which images of it: `train`, `val`, `test`.
        task: `detect`, `segment`, `pose` or `obb`.
        images: Instead of `data`: a folder of images, or a list of folders.
        labels: The folder of labels that goes with `images`, or a list; None: found as above.
        names: Class names, a list or a dict of ids and names; None: those of `data`, else the ids.
        transforms: Called with image and target; lifted by `MixedDataset`, which applies it after mixing.
        first_class: What class 0 of the files is called in `labels`: 0, or 1 for torchvision's detectors.
        kpt_shape: Points of an object and numbers of a point; None: that of `data`.
        bad_boxes: `"error"` refuses boxes without area, `"drop"` leaves them out.

    Attributes:
        root: The folder that names of images are relative to.
        records: `YoloRecord` of every image.
        classes: Class names, in the order of their ids.
        class_to_idx: Class name to id, `first_class` added.
        instance_fields: Fields besides torchvision's that have a row per instance: none.
        has_masks: Whether items have masks.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: A label is wrong; the message has file, line and remedy.
    """

    lifts_transforms = True
    instance_fields: tuple[str, ...] = ()

    def __init__(
        self,
        data: str | os.PathLike[str] | None = None,
        *,
        split: str = "train",
        task: str = "detect",
        images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        labels: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        names: Sequence[str] | Mapping[int, str] | None = None,
        transforms: Callable[[Any, Any], Any] | None = None,
        first_class: int = 0,
        kpt_shape: Sequence[int] | None = None,
        bad_boxes: str = "error",
    ) -> None:
        if task == "classify":
            reject("task", "be detect, segment, pose or obb", task, "Classes are folders: use ImageFolderDataset.")
        check_choice("task", task, YOLO_TASKS)
        drop_bad = check_choice("bad_boxes", bad_boxes, ("error", "drop")) == "drop"
        told, folders = _find_data(data, split, images, labels)
        found = find_yolo_images(told.images, root=told.root, name="images" if data is None else repr(split))
        table = read_names(names, "names=") or told.names
        points = told.kpt_shape if kpt_shape is None else (int(kpt_shape[0]), int(kpt_shape[1]))
        if task == "pose" and (points is None or points[0] < 1 or points[1] not in (2, 3)):
            remedy = "Write it into data.yaml, or pass kpt_shape=[17, 3]."
            reject("kpt_shape", "be given for task 'pose': the points, and 2 or 3 numbers for each", points, remedy)
        records = [
            read_label_file(
                find_label_file(image, folder=folder, labels=folders.get(folder)),
                image_file=image,
                task=task,
                num_classes=None if table is None else len(table),
                kpt_shape=points,
                drop_bad=drop_bad,
            )
            for image, folder in found
        ]
        top = max((int(record.class_ids.max()) for record in records if len(record)), default=-1)
        table = table or {class_id: str(class_id) for class_id in range(top + 1)}
        root = told.root
        if not all(image.is_relative_to(root) for image, _ in found):
            root = Path(os.path.commonpath([root, *(folder for _, folder in found)]))
        self._fill(records, root, table, task, first_class, points)
        self.transforms = transforms

    @classmethod
    def from_records(
        cls,
        records: Sequence[YoloRecord],
        *,
        root: str | os.PathLike[str],
        names: Mapping[int, str],
        task: str,
        first_class: int = 0,
    ) -> YoloDataset:
        """The data set of labels that a trainer has already read; its images are read from their files.

        Args:
            records: One for each image, in this order.
            root: The folder that names of images are relative to.
            names: Class id to name.
            task: `detect`, `segment`, `pose` or `obb`.
            first_class: As above.
        """
        made = cls.__new__(cls)
        table = read_names(names, "names=") or {}
        made._fill(list(records), Path(root), table, check_choice("task", task, YOLO_TASKS), first_class, None)
        made.transforms = None
        return made

    def _fill(
        self,
        records: list[YoloRecord],
        root: Path,
        names: dict[int, str],
        task: str,
        first_class: int,
        kpt_shape: tuple[int, int] | None,
    ) -> None:
        self.records, self.root, self.task, self.kpt_shape = records, root, task, kpt_shape
        if first_class not in (0, 1):
            reject("first_class", "be 0 or 1", first_class)
        self.first_class = first_class
        self.class_to_idx: dict[str, int] = {name: class_id + first_class for class_id, name in names.items()}
        self.classes: list[str] = list(names.values())
        self.has_masks = task != "pose" and _have_polygons(records, task)
        for record in records:
            _check_record(record, task)
        self._sizes: dict[int, tuple[int, int]] = {}
        self._facts: dict[int, ItemFacts] = {}

    def __len__(self) -> int:
        """Number of images, those without objects included."""
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Image and target.

        Raises:
            OSError: The file is cut short or no image.
            ValueError: The image has more than 8 bit.
        """
        place = self._check_index(index)
        record = self.records[place]
        pixels = read_image_file(record.image_file, apply_orientation=True)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        target = self._read_target(record, (pixels.shape[0], pixels.shape[1]))
        return (image, target) if self.transforms is None else self.transforms(image, target)

    def get_height_and_width(self, index: int, /) -> tuple[int, int]:
        """Size of an image, from the header of its file."""
        place = self._check_index(index)
        if place not in self._sizes:
            record = self.records[place]
            known = record.size_hw or read_image_size(record.image_file, apply_orientation=True)
            self._sizes[place] = known
        return self._sizes[place]

    def refine_adapter(self, adapter: AnyAdapter, /) -> AnyAdapter:
        """The adapter of its items: for `obb`, one that draws corners around what is visible."""
        return RotatedBoxAdapter(adapter) if self.task == "obb" else adapter

    def read_facts(self, index: int, /) -> ItemFacts:
        """What is known of an item without decoding its image."""
        place = self._check_index(index)
        if place not in self._facts:  # asked at every cache hit; records do not change
            record = self.records[place]
            self._facts[place] = ItemFacts(
                show_path(record.image_file, self.root),
                str(record.image_file),
                self._hash_annotation(record),
                self.get_height_and_width(place),
                (record.class_ids + self.first_class).tolist(),
            )
        return self._facts[place]

    def __repr__(self) -> str:
        return f"YoloDataset({len(self)} images, {len(self.classes)} classes, {self.task!r}, root={str(self.root)!r})"

    def _hash_annotation(self, record: YoloRecord) -> str:
        """Labels, and what decides of the form of all items: another image's labels may give masks to this one."""
        points = None if record.keypoints is None else list(record.keypoints.shape[1:])
        return hash_content([self.task, self.first_class, self.has_masks, points, *record.list_numbers()]).hex()

    def _check_index(self, index: int) -> int:
        place = check_int("index", index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"index must lie in a dataset of {len(self)} images, got index={index}.")
        return place % len(self)

    def _read_target(self, record: YoloRecord, size_hw: tuple[int, int]) -> dict[str, Any]:
        boxes = to_pixels(record.boxes, size_hw=size_hw)
        has_area: np.ndarray = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        if not has_area.all():
            record, boxes = record.select(has_area), boxes[has_area]
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        target: dict[str, Any] = {
            "image_id": show_path(record.image_file, self.root),
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(record.class_ids + self.first_class),
            "area": torch.from_numpy(area),
            "iscrowd": torch.zeros(len(record), dtype=torch.int64),
        }
        scale = np.array([size_hw[1], size_hw[0]], np.float32)
        segments = record.segments or []
        if self.task == "obb":
            segments = [find_quadrilateral(segment, size_hw=size_hw) for segment in segments]
        if self.has_masks:
            masks = draw_segments(segments, size_hw=size_hw)
            target["masks"] = torch.from_numpy(masks.view(np.uint8))
            target["area"] = torch.from_numpy(masks.sum(axis=(1, 2)).astype(np.float32))
        points = record.keypoints if self.task == "pose" else None
        if self.task == "obb":
            points = np.array(segments, np.float32).reshape(-1, 4, 2)
        if points is not None:
            seen = points[..., 2:] if points.shape[2] == 3 else np.full((*points.shape[:2], 1), 2, np.float32)
            target["keypoints"] = torch.from_numpy(np.concatenate([points[..., :2] * scale, seen], axis=2))
        return target


def _find_data(data: Any, split: str, images: Any, labels: Any) -> tuple[YoloData, dict[Path, Path]]:
    """What the arguments say of images, and folders of images to those of labels."""
    if (data is None) == (images is None):
        reject("data", "be given, or images=, and not both", data, "data=data.yaml names the folders of all splits.")
    if data is not None:
        if labels is not None:
            reject("labels", "be given with images= only", labels, "With data=, labels lie beside the images.")
        return read_data_file(data, split), {}
    places = [Path(os.path.abspath(each)) for each in (images if isinstance(images, list | tuple) else [images])]
    if not places:
        reject("images", "name at least one folder", images)
    stated = [] if labels is None else labels if isinstance(labels, list | tuple) else [labels]
    folders = [Path(os.path.abspath(each)) for each in stated]
    if folders and len(folders) != len(places):
        reject("labels", f"be as many folders as there are of images, {len(places)}", labels)
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        reject("labels", "name an existing folder", str(missing[0]), error=FileNotFoundError)
    root = Path(os.path.commonpath([each.parent if each.suffix == ".txt" else each for each in places]))
    return YoloData(root, tuple(places), None, None), dict(zip(places, folders, strict=False))


def _check_record(record: YoloRecord, task: str) -> None:
    """Whether the labels of an image are those that a task needs."""
    if not len(record):
        return
    if task == "pose" and (record.keypoints is None or record.keypoints.shape[2] not in (2, 3)):
        reject(f"the labels of {record.image_file}", "have keypoints for task 'pose'", record.keypoints)
    if task in ("segment", "obb") and record.segments is None:
        remedy = "Labels of boxes are read with task='detect'."
        reject(f"the labels of {record.image_file}", f"be polygons for task {task!r}", "boxes", remedy)
    if task == "obb" and any(len(segment) < 3 for segment in record.segments or ()):
        reject(f"the labels of {record.image_file}", "have three corners or more for task 'obb'", "polygons")


def _have_polygons(records: Sequence[YoloRecord], task: str) -> bool:
    """Whether every object has a polygon; where only some have, that is said."""
    filled = [record for record in records if len(record)]
    drawn = [record for record in filled if record.segments is not None]
    if drawn and len(drawn) < len(filled):
        _LOGGER.warning(
            "%d of %d images with objects have labels that are boxes, so the items come without masks.",
            len(filled) - len(drawn),
            len(filled),
        )
    return bool(filled or task != "detect") and len(drawn) == len(filled)


def open_yolo(
    data: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    task: str = "detect",
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    labels: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    names: Sequence[str] | Mapping[int, str] | None = None,
    first_class: int = 0,
    kpt_shape: Sequence[int] | None = None,
    bad_boxes: str = "error",
) -> YoloDataset | ImageFolderDataset:
    """The format `yolo` of recipes: `YoloDataset`, or, for the task `classify`, the folders of a split.

    Args:
        data: A `data.yaml`; for `classify` the folder that holds one folder for each split.
        split: Which part of it.
        task: `detect`, `segment`, `pose`, `obb` or `classify`.
        images: Instead of `data`: a folder of images, or a list of folders.
        labels: The folder of labels that goes with `images`, or a list; None: the last `images` of a path becomes
            `labels`.
        names: Class names, a list or a dict of ids and names; None: those of `data`, else the ids. For `classify` the
            folders of classes in the order of their ids.
        first_class: What class 0 of the files is called in the items: 0, or 1 for torchvision's detectors.
        kpt_shape: Points of an object and numbers of a point, for `pose`; None: that of `data`.
        bad_boxes: `"error"` refuses boxes without area, `"drop"` leaves them out.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: A label is wrong, or an option is not one of this task.
    """
    if check_choice("task", task, (*YOLO_TASKS, "classify")) != "classify":
        return YoloDataset(
            data,
            split=split,
            task=task,
            images=images,
            labels=labels,
            names=names,
            first_class=first_class,
            kpt_shape=kpt_shape,
            bad_boxes=bad_boxes,
        )
    stated = {"images": images, "labels": labels, "kpt_shape": kpt_shape}
    for option, value in stated.items():
        if value is not None:
            reject(option, "be left out for task 'classify'", value, "Its labels are folders, which data= holds.")
    if data is None:
        reject("data", "name the folder that holds the folder of the split", None)
    folder = Path(data) / split
    if not folder.is_dir():
        remedy = "A folder of classes without splits is read as format 'imagefolder'."
        reject("data", f"name a folder that holds the folder {split!r}", str(data), remedy, error=FileNotFoundError)
    ordered = [names[class_id] for class_id in sorted(names)] if isinstance(names, Mapping) else names
    return ImageFolderDataset(folder, names=ordered, apply_orientation=True)


register_plugin("formats", open_yolo, name="yolo")
