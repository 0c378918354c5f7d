"""What the exports write, the data sets read: equal labels."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloader.adapters import ImageFolderDataset, MasksDataset, VocDataset, YoloDataset
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.exports.samples import CLASS_NAMES, draw_instances, export, make_name, make_sample

ORDERED = [CLASS_NAMES[class_id] for class_id in sorted(CLASS_NAMES)]
PLACES = {class_id: place for place, class_id in enumerate(sorted(CLASS_NAMES))}
few = settings(max_examples=25, deadline=None)


@contextmanager
def exported(samples: list[Sample], **options: Any) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        export(samples, folder / "out", **options)
        yield folder / "out"
    finally:
        shutil.rmtree(folder)


def find_written(dataset: Any, samples: list[Sample]) -> Iterator[tuple[Any, Any, Sample]]:
    """(image, label, sample) of every sample that the format could hold."""
    by_name = {make_name(number): sample for number, sample in enumerate(samples)}
    for index in range(len(dataset)):
        image, label = dataset[index]
        yield image.permute(1, 2, 0).numpy(), label, by_name[Path(dataset.read_facts(index).name).stem]


def get_instances(sample: Sample) -> Instances:
    assert isinstance(sample.target, Instances)
    return sample.target


def is_written_as_box(sample: Sample) -> bool:
    sides = get_instances(sample).boxes[:, 2:] - get_instances(sample).boxes[:, :2]
    return bool((sides > 0).all())


@few
@given(st.lists(draw_instances(with_masks=False), min_size=1, max_size=3))
def test_boxes_of_yolo(samples: list[Sample]) -> None:
    samples = [sample for sample in samples if is_written_as_box(sample)]
    if not samples:
        return
    with exported(samples, format="yolo-detect") as out:
        dataset = YoloDataset(out / "data.yaml")
        assert dataset.classes == ORDERED
        found = list(find_written(dataset, samples))
        assert len(found) == len(samples)
        for image, target, sample in found:
            truth = get_instances(sample)
            assert (image == sample.image).all()
            assert np.abs(target["boxes"].numpy() - truth.boxes).max(initial=0) < 1e-3
            assert target["labels"].tolist() == [PLACES[class_id] for class_id in truth.class_ids.tolist()]


@st.composite
def draw_blobs(draw: st.DrawFn) -> Sample:
    """An image with objects of one part and without holes, mostly: grown from a pixel."""
    height, width = draw(st.integers(3, 40)), draw(st.integers(3, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    masks = np.zeros((draw(st.integers(0, 4)), height, width), bool)
    boxes = []
    for mask in masks:
        row, column = int(rng.integers(height)), int(rng.integers(width))
        for _ in range(int(rng.integers(1, 8))):
            down, right = int(rng.integers(1, 9)), int(rng.integers(1, 9))
            mask[row : row + down, column : column + right] = True
            row, column = min(row + down, height) - 1, min(column + right, width) - 1
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    ids = rng.choice(list(CLASS_NAMES), len(masks)).astype(np.int64)
    return make_sample(0, Instances(ids, np.array(boxes, np.float32).reshape(-1, 4), masks), size_hw=(height, width))


@few
@given(st.lists(draw_blobs(), min_size=1, max_size=3))
def test_polygons_of_yolo(samples: list[Sample]) -> None:
    with exported(samples, format="yolo-segment") as out:
        if not (out / "images").exists():
            return
        for task in ("segment", "detect"):
            for _, target, sample in find_written(YoloDataset(out / "data.yaml", task=task), samples):
                truth = get_instances(sample)
                kept = [row for row in range(len(truth)) if not is_repeated(truth, row)]
                assert target["labels"].tolist() == [PLACES[int(truth.class_ids[row])] for row in kept]
                assert np.abs(target["boxes"].numpy() - truth.boxes[kept]).max(initial=0) < 0.011
                if kept:
                    assert (target["masks"].numpy().astype(bool) == truth.masks[kept]).all()  # type: ignore[index]


def is_repeated(truth: Instances, row: int) -> bool:
    """Whether an object before it has the same class and outline: YOLO's readers take equal rows for one."""
    assert truth.masks is not None
    return any(
        truth.class_ids[other] == truth.class_ids[row] and (truth.masks[other] == truth.masks[row]).all()
        for other in range(row)
    )


@few
@given(st.lists(draw_instances(with_masks=False, whole=True), min_size=1, max_size=3))
def test_boxes_of_voc(samples: list[Sample]) -> None:
    samples = [sample for sample in samples if is_written_as_box(sample)]
    if not samples:
        return
    names = {class_id: name.strip() for class_id, name in CLASS_NAMES.items()}
    with exported(samples, format="voc", class_names=names, image_format="png") as out:
        dataset = VocDataset(out, names=[names[class_id] for class_id in sorted(names)], image_set="train")
        found = list(find_written(dataset, samples))
        assert len(found) == len(samples)
        for image, target, sample in found:
            truth = get_instances(sample)
            assert (image == sample.image).all()
            assert (target["boxes"].numpy() == truth.boxes).all()
            assert target["labels"].tolist() == [PLACES[class_id] + 1 for class_id in truth.class_ids.tolist()]


@few
@given(st.lists(draw_blobs(), min_size=1, max_size=3))
def test_masks_of_voc(samples: list[Sample]) -> None:
    with exported(samples, format="voc", image_format="png") as out:
        dataset = VocDataset(out, names=ORDERED, image_set="train")
        assert dataset.has_masks == any(len(get_instances(sample)) for sample in samples)
        for _, target, sample in find_written(dataset, samples):
            truth = get_instances(sample)
            assert (target["boxes"].numpy() == truth.boxes).all()
            if dataset.has_masks and len(truth):
                assert truth.masks is not None
                alone = truth.masks.sum(axis=0) <= 1  # where masks overlap, VOC has no number
                assert ((target["masks"].numpy().astype(bool) == truth.masks) | ~alone).all()


@few
@given(st.lists(st.sampled_from(sorted(CLASS_NAMES)), min_size=1, max_size=8))
def test_folders_of_classes(class_ids: list[int]) -> None:
    samples = [make_sample(number, ClassLabel(class_id)) for number, class_id in enumerate(class_ids)]
    with exported(samples, format="imagefolder") as out:
        dataset = ImageFolderDataset(out, names=ORDERED)
        found = list(find_written(dataset, samples))
        assert len(found) == len(samples)
        for image, label, sample in found:
            assert (image == sample.image).all()
            assert isinstance(sample.target, ClassLabel)
            assert label == PLACES[sample.target.class_id]


@few
@given(st.integers(0, 2**32), st.sampled_from([255, 300, 7]), st.sampled_from([CLASS_NAMES, {**CLASS_NAMES, 300: "x"}]))
def test_semantic_masks(seed: int, ignore_index: int, names: dict[int, str]) -> None:
    rng = np.random.default_rng(seed)
    sizes = [(int(rng.integers(1, 30)), int(rng.integers(1, 30))) for _ in range(3)]
    samples = [
        make_sample(
            number,
            SemanticMask(rng.choice([0, *CLASS_NAMES, ignore_index], size_hw).astype(np.int32), ignore_index),
            size_hw=size_hw,
        )
        for number, size_hw in enumerate(sizes)
    ]
    with exported(samples, format="masks", class_names=names) as out:
        dataset = MasksDataset(out / "images", out / "masks", names=names, ignore_index=ignore_index, values={})
        found = list(find_written(dataset, samples))
        assert len(found) == len(samples)
        for image, mask, sample in found:
            assert (image == sample.image).all()
            assert isinstance(sample.target, SemanticMask)
            assert (mask.numpy() == sample.target.mask).all()
