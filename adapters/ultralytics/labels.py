"""Ultralytics' labels and the library's: the training images as a data set of samples, and labels of generated ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from synthloader.adapters.folders.yolo import YoloDataset
from synthloader.adapters.folders.yolo_data import find_label_file
from synthloader.adapters.folders.yolo_files import read_label_file
from synthloader.adapters.folders.yolo_labels import make_record
from synthloader.adapters.folders.yolo_record import YoloRecord, draw_segments, enclose
from synthloader.errors import LabelContractError
from synthloader.polygons import NoOutlineError, trace_outline
from synthloader.sample import Sample
from synthloader.sources import ItemFacts
from synthloader.targets import Instances

__all__ = ["LabelForm", "make_view", "write_labels"]


@dataclass(frozen=True)
class LabelForm:
    """How the labels of a data set look, the same for all of its images.

    Args:
        task: `detect`, `segment`, `pose` or `obb`.
        has_segments: Whether labels have polygons: of the whole data set, for polygons on one side only break shapes
            under mosaic.
        num_classes: Class ids are below it.
        keep_classes: Ids that are kept (Ultralytics' `classes=`); None for all.
        single_class: Whether all classes become 0 (Ultralytics' `single_cls`).
        num_points: Keypoints of an object.
        has_visibility: Whether label files have a visibility for each keypoint; else Ultralytics knows 0 and 1 only.
    """

    task: str
    has_segments: bool
    num_classes: int
    keep_classes: tuple[int, ...] | None = None
    single_class: bool = False
    num_points: int = 0
    has_visibility: bool = True

    @property
    def has_polygons(self) -> bool:
        """Whether each object's mask must be said by one polygon."""
        return self.has_segments and self.task != "obb"


def make_view(dataset: Any, /, *, task: str) -> tuple[YoloDataset, list[int]]:
    """The images of an Ultralytics dataset as samples are made from them, in the order of their files.

    Labels are read from their files again, so that names, stamps and samples are those of a recipe with
    `source: {format: yolo, ...}`: whatever `precompute` made is found, also under `classes=` and `single_cls`.

    Args:
        dataset: A `YOLODataset` of real images.
        task: `detect`, `segment`, `pose` or `obb`.

    Returns:
        The view, and for each of its items the position in the dataset.
    """
    files = [Path(file) for file in dataset.im_files]
    order = sorted(range(len(files)), key=lambda place: files[place].as_posix())
    stated = dataset.img_path if isinstance(dataset.img_path, list | tuple) else [dataset.img_path]
    folders = [Path(entry) if os.path.isdir(entry) else Path(entry).parent for entry in stated]
    shape = dataset.data.get("kpt_shape")
    points = (int(shape[0]), int(shape[1])) if task == "pose" and shape else None
    records = []
    for place in order:
        labels = find_label_file(files[place], folder=folders[0], labels=None)
        record = read_label_file(labels, image_file=files[place], task=task, kpt_shape=points, drop_bad=True)
        size = dataset.labels[place].get("shape")  # `rect` takes it away; it is read from the file then
        records.append(record if size is None else replace(record, size_hw=(int(size[0]), int(size[1]))))
    names = dict(dataset.data["names"])
    top = max((int(record.class_ids.max()) for record in records if len(record)), default=-1)
    if top >= len(names):  # `single_cls` leaves one name
        names = {class_id: str(class_id) for class_id in range(top + 1)}
    return _View.from_records(records, root=_find_root(dataset, files, folders), names=names, task=task), order


class _View(YoloDataset):
    """A `YoloDataset` that remembers the facts that were asked for last: a key asks for name and stamp in turn."""

    _last: tuple[int, ItemFacts] | None = None

    def read_facts(self, index: int, /) -> ItemFacts:
        """What is known of an item without decoding its image."""
        if self._last is None or self._last[0] != index:
            self._last = index, super().read_facts(index)
        return self._last[1]


def write_labels(
    sample: Sample, form: LabelForm, /, *, find_source: Callable[[Sample], YoloRecord | None]
) -> YoloRecord:
    """The labels of a generated sample.

    Args:
        sample: The generated sample.
        form: How the data set's labels look.
        find_source: Gives the label of the sample's source, for masks of it that no polygon traces.

    Raises:
        LabelContractError: The sample's labels cannot be those of this data set.
    """
    target = sample.target
    if not isinstance(target, Instances):
        raise LabelContractError(
            f"the target of a generated sample must be Instances for the task {form.task!r}, got "
            f"{type(target).__name__}. Use a generator that keeps Instances."
        )
    kept = np.ones(len(target), np.bool_)
    if target.crowd is not None:
        kept &= ~target.crowd  # Ultralytics leaves crowd regions out, too
    if form.task == "obb" and target.masks is not None and len(target):
        kept &= target.masks.any(axis=(1, 2))
    if not kept.all():
        target = target.select(kept)
    _check(target, form)
    task = "detect" if form.has_polygons else form.task
    record = make_record(target, size_hw=sample.size_hw, task=task, has_segments=form.task == "obb")
    if form.has_polygons:
        segments = _find_outlines(target, sample, find_source)
        boxes = np.array([enclose(segment.astype(np.float64)) for segment in segments], np.float32).reshape(-1, 4)
        record = replace(record, segments=segments, boxes=boxes)
    if form.task == "obb":
        segments = [_cut_at_border(segment, sample.size_hw) for segment in record.segments or []]
        boxes = np.array([enclose(segment.astype(np.float64)) for segment in segments], np.float32).reshape(-1, 4)
        record = replace(record, segments=segments, boxes=boxes)
    if record.keypoints is not None and not form.has_visibility:
        record.keypoints[..., 2] = np.minimum(record.keypoints[..., 2], 1)
    if form.keep_classes is not None:
        record = record.select(np.isin(record.class_ids, form.keep_classes))
    if form.single_class:
        record = replace(record, class_ids=np.zeros_like(record.class_ids))
    return record


def _check(target: Instances, form: LabelForm) -> None:
    top = int(target.class_ids.max()) if len(target) else -1
    if top >= form.num_classes and not form.single_class:
        raise LabelContractError(
            f"class ids of generated samples must be below the number of names in data.yaml, {form.num_classes}, got "
            f"{top}. Ids count from 0 there: let the generator number classes as data.yaml does."
        )
    if form.has_segments and target.masks is None and len(target):
        raise LabelContractError(
            "generated samples must have masks, because the labels of this data set are polygons, got boxes only. Use "
            "a generator that keeps masks."
        )
    if form.task == "pose" and len(target):
        count = 0 if target.keypoints is None else target.keypoints.shape[1]
        if count != form.num_points:
            raise LabelContractError(
                f"generated samples must have {form.num_points} keypoints for each object (kpt_shape), got {count}. "
                f"Use a generator that keeps keypoints."
            )


def _cut_at_border(segment: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """A rotated box (4, 2) in shares, or, where it leaves the image, the polygon of what lies inside.

    Older releases of Ultralytics clip corners, each alone, which makes another box of them. The smallest box around the
    polygon is still the box itself: none is smaller around what is seen of the object, and that lies in the polygon.
    """
    if segment.min() >= 0 and segment.max() <= 1:
        return segment
    scale = np.array(size_hw[::-1], np.float32)
    inside = cv2.convexHull((segment * scale).astype(np.float32)).reshape(-1, 2).astype(np.float64) / scale
    for axis in (0, 1):
        for sign, bound in ((1, 0.0), (-1, -1.0)):
            inside = _cut_at_line(inside, sign * inside[:, axis] - bound)
            if len(inside) < 3:
                return segment
    shares: np.ndarray = np.clip(inside, 0, 1).astype(np.float32)
    return shares


def _cut_at_line(corners: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """A convex polygon's part on one side of a line. OpenCV's own takes a wrong one where a side lies on the border.

    Args:
        corners: (K, 2) x y.
        distances: (K,) of each from the line, above 0 on the side that stays.

    Source:
        Sutherland, Hodgman 1974, "Reentrant polygon clipping".
    """
    made = []
    for at, (corner, here) in enumerate(zip(corners, distances, strict=True)):
        before, there = corners[at - 1], distances[at - 1]
        if min(here, there) < 0 < max(here, there):
            made.append(before + (corner - before) * (there / (there - here)))
        if here >= 0:
            made.append(corner)
    return np.array(made).reshape(-1, 2)


def _find_outlines(
    target: Instances, sample: Sample, find_source: Callable[[Sample], YoloRecord | None]
) -> list[np.ndarray]:
    """A polygon (K, 2) float32 in shares for each mask."""
    height, width = sample.size_hw
    found: list[np.ndarray] = []
    known: list[tuple[np.ndarray, np.ndarray]] | None = None
    for mask in [] if target.masks is None else target.masks:
        try:
            found.append((trace_outline(mask) / [width, height]).astype(np.float32))
            continue
        except NoOutlineError as error:
            problem = error
        if known is None:  # a mask of the label file that falls into parts when it is drawn: its polygon is at hand
            record = find_source(sample)
            segments = [] if record is None or record.segments is None else record.segments
            known = list(zip(segments, draw_segments(segments, size_hw=sample.size_hw), strict=True))
        same = next((segment for segment, drawn in known if np.array_equal(drawn, mask)), None)
        if same is None:
            raise LabelContractError(
                f"one polygon cannot say a mask of a generated sample: {problem}. Add SinglePolygon() to filters=."
            ) from problem
        found.append(same)
    return found


def _find_root(dataset: Any, files: Sequence[Path], folders: Sequence[Path]) -> Path:
    """What names of images are relative to: the data set's `path`, or the folder that holds all."""
    root = Path(dataset.data.get("path") or os.path.commonpath(folders)).resolve()
    if all(file.is_relative_to(root) for file in files):
        return root
    return Path(os.path.commonpath([root, *folders]))
