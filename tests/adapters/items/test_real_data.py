"""Both readers on public data sets: what torchvision and pycocotools read of them is what samples hold."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from synthloader.adapters import CocoDataset
from synthloader.registry import find_adapter
from synthloader.targets import Instances

SETS = {
    "blood cells, boxes": ("bccd_blood_cells/JPEGImages", "bccd_blood_cells/coco/instances_val.json", False),
    "nuclei, run lengths": ("nuclei_dsb2018", "nuclei_dsb2018/coco/instances_val_rle.json", True),
    "nuclei, polygons": ("nuclei_dsb2018", "nuclei_dsb2018/coco/instances_val_polygon.json", True),
    "dried fruit, polygons": ("dried_fruit_instances", "dried_fruit_instances/coco/instances_train.json", True),
    "dried fruit, as published": ("dried_fruit_instances/images", "dried_fruit_instances/trainval.json", True),
}
NUM_ITEMS = 8
each_set = pytest.mark.parametrize(("images", "labels", "has_masks"), SETS.values(), ids=SETS)


def open_with_torchvision(images: Path, labels: Path) -> CocoDetection:
    with contextlib.redirect_stdout(io.StringIO()):
        return CocoDetection(str(images), str(labels))


@each_set
def test_samples_hold_what_pycocotools_reads(shared_data: Path, images: str, labels: str, has_masks: bool) -> None:
    dataset = open_with_torchvision(shared_data / images, shared_data / labels)
    adapter = find_adapter(dataset, [dataset[0], dataset[1]])
    for index in range(NUM_ITEMS):
        item = dataset[index]
        target = adapter.to_sample(item, index=index).target
        assert isinstance(target, Instances)
        assert target.class_ids.tolist() == [annotation["category_id"] for annotation in item[1]]
        assert (target.masks is not None) == has_masks
        for row, annotation in enumerate(item[1]):
            x, y, width, height = annotation["bbox"]
            assert np.abs(target.boxes[row] - [x, y, x + width, y + height]).max() < 1e-3
            if target.masks is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 with numpy 2
                    assert (target.masks[row] == dataset.coco.annToMask(annotation)).all()


@each_set
def test_untouched_items_come_back(shared_data: Path, images: str, labels: str, has_masks: bool) -> None:
    dataset = open_with_torchvision(shared_data / images, shared_data / labels)
    adapter = find_adapter(dataset, [dataset[0], dataset[1]])
    for index in range(NUM_ITEMS):
        image, annotations = dataset[index]
        back = adapter.from_sample(adapter.to_sample((image, annotations), index=index), like=dataset[0])
        assert back[0].tobytes() == image.tobytes()
        assert json.dumps(back[1]) == json.dumps(annotations)


@each_set
def test_the_reader_for_recipes_says_the_same_as_torchvision(
    shared_data: Path, images: str, labels: str, has_masks: bool
) -> None:
    theirs = open_with_torchvision(shared_data / images, shared_data / labels)
    ours = CocoDataset(shared_data / images, shared_data / labels)
    assert (len(ours), ours.ids, ours.has_masks) == (len(theirs), theirs.ids, has_masks)
    for index in range(NUM_ITEMS):
        image, target = ours[index]
        their_image, annotations = theirs[index]
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - np.asarray(their_image)).mean() < 1.0
        assert target["labels"].tolist() == [annotation["category_id"] for annotation in annotations]
        assert target["image_id"] == theirs.ids[index]
        adapter = find_adapter(ours, [ours[0], ours[1]])
        back = adapter.from_sample(adapter.to_sample((image, target), index=index), like=ours[0])
        assert torch.equal(back[0], image)
        assert list(back[1]) == list(target)
        assert all(torch.equal(back[1][name], value) for name, value in target.items() if torch.is_tensor(value))


def test_items_of_torchvisions_own_wrapper_come_back(shared_data: Path) -> None:
    images, labels, _ = SETS["dried fruit, polygons"]
    keys: Any = ("boxes", "labels", "image_id", "area", "iscrowd")  # Its masks need a pycocotools without warnings.
    bare = open_with_torchvision(shared_data / images, shared_data / labels)
    wrapped = wrap_dataset_for_transforms_v2(bare, target_keys=keys)
    items = [wrapped[index] for index in range(4)]
    adapter = find_adapter(wrapped, items)
    assert adapter.fingerprint == (
        'DetectionAdapter/2(bad_boxes="error", boxes="xyxy", form=["area", "boxes", "image_id", "iscrowd", "labels"], '
        "instance_fields=[])"
    )
    image, target = adapter.from_sample(adapter.to_sample(items[2], index=2), like=items[0])
    assert image.tobytes() == items[2][0].tobytes()
    assert type(target["boxes"]) is type(items[2][1]["boxes"])
    assert torch.equal(target["boxes"], items[2][1]["boxes"])
    assert target["iscrowd"] == items[2][1]["iscrowd"]
    flipped, moved = v2.functional.horizontal_flip(image), v2.functional.horizontal_flip(target["boxes"])
    assert flipped.size == image.size
    assert torch.equal(moved[:, 0], 800 - target["boxes"][:, 2])
