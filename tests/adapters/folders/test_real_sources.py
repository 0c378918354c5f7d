"""Data sets from disk on public data: two formats of one set say the same."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from synthloader.adapters import CocoDataset, ImagesDataset, MasksDataset, VocDataset, YoloDataset
from synthloader.exports import export_samples
from synthloader.generators import CopyPaste
from synthloader.recipe import load_recipe
from synthloader.registry import find_adapter
from synthloader.sources import Source
from synthloader.targets import Instances, SemanticMask

BLOOD = "bccd_blood_cells"
NAMES = ["RBC", "WBC", "Platelets"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_blood_cells_are_the_same_in_voc_and_coco(shared_data: Path, split: str) -> None:
    root = shared_data / BLOOD
    voc = VocDataset(root, image_set=split, names=NAMES, coordinates="edges", bad_boxes="drop")
    coco = CocoDataset(root / "JPEGImages", root / f"coco/instances_{split}.json")
    assert voc.class_to_idx == coco.class_to_idx
    names = [coco.coco.imgs[image_id]["file_name"] for image_id in coco.ids]
    assert sorted(names) == [voc.read_facts(index).name for index in range(len(voc))]
    for place, index in enumerate(np.argsort(names)[:20].tolist()):
        theirs, ours = coco[index], voc[place]
        assert torch.equal(theirs[0], ours[0])
        for field in ("boxes", "labels", "area"):
            assert torch.equal(theirs[1][field], ours[1][field])
    total = sum(len(record.names) for record in voc.records)
    assert total == len(coco.coco.anns)


def test_boxes_without_area_are_named_unless_they_are_dropped(shared_data: Path) -> None:
    file = shared_data / BLOOD / "Annotations/BloodImage_00338.xml"
    lists = ["trainval", "test"]
    with pytest.raises(ValueError, match=rf"object \d+ of {re.escape(str(file))} must have an area above 0"):
        VocDataset(shared_data / BLOOD, image_set=lists, coordinates="edges")
    assert len(VocDataset(shared_data / BLOOD, image_set=lists, coordinates="edges", bad_boxes="drop")) == 364


def test_blood_cells_of_all_lists_are_not_mixed_up_silently(shared_data: Path) -> None:
    with pytest.raises(ValueError, match=r"Lists: test, train, trainval, val; several can be joined"):
        VocDataset(shared_data / BLOOD, coordinates="edges", bad_boxes="drop")


def test_a_recipe_of_blood_cells_in_voc(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / BLOOD
    (tmp_path / "recipe.yaml").write_text(
        f"source: {{format: voc, root: {root}, image_set: val, coordinates: edges, bad_boxes: drop}}\n"
        "generator: color_transfer\nplan: {add: 0.1}\n"
    )
    train = load_recipe(tmp_path / "recipe.yaml").mixed()
    assert len(train) == 87 + 9
    source = train.draw(90)
    assert source is not None
    assert torch.equal(train[90][1]["boxes"], train[source.source][1]["boxes"])
    assert train.get_height_and_width(90) == (480, 640)


def test_fruit_comes_back_from_yolo_polygons(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "dried_fruit_instances"
    source = Source(CocoDataset(root, root / "coco/instances_train.json"))
    names = {class_id: name for name, class_id in (source.classes or {}).items()}
    samples = [(f"{index:04d}", source[index]) for index in range(len(source))]
    report = export_samples(samples, tmp_path / "out", format="yolo-segment", class_names=names)
    dataset = YoloDataset(tmp_path / "out/data.yaml", task="segment", first_class=1)
    assert len(dataset) == report.num_written > 0
    assert dataset.class_to_idx == source.classes
    truth = dict(samples)
    for index in range(len(dataset)):
        image, target = dataset[index]
        sample = truth[Path(target["image_id"]).stem]
        assert isinstance(sample.target, Instances)
        assert sample.target.masks is not None
        assert (image.permute(1, 2, 0).numpy() == sample.image).all()
        assert (target["masks"].numpy().astype(bool) == sample.target.masks).all()
        assert target["labels"].tolist() == sample.target.class_ids.tolist()


def test_fruit_is_pasted_between_yolo_images(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "dried_fruit_instances"
    source = Source(CocoDataset(root, root / "coco/instances_train.json"))
    names = {class_id: name for name, class_id in (source.classes or {}).items()}
    samples = ((f"{index:04d}", source[index]) for index in range(len(source)))
    export_samples(samples, tmp_path / "data", format="yolo-segment", class_names=names)
    (tmp_path / "recipe.yaml").write_text(
        "source: {format: yolo, data: data/data.yaml}\ngenerator: {copy_paste: {num_range: [2, 3]}}\nplan: {add: 0.5}\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert isinstance(recipe.generator, CopyPaste)
    train = recipe.mixed()
    place = len(train.real)
    draw = train.draw(place)
    assert draw is not None
    before, after = train[draw.source][1], train[place][1]
    assert len(after["labels"]) > len(before["labels"]) - 3
    assert after["masks"].shape[0] == len(after["labels"])


def test_nuclei_as_semantic_masks(shared_data: Path) -> None:
    root = shared_data / "nuclei_dsb2018"
    dataset = MasksDataset(root / "images", root / "semantic", names=["background", "inside", "rim"])
    assert len(dataset) == 151
    adapter = find_adapter(dataset, [dataset[0], dataset[1]])
    for index in (0, 40, 150):
        image, mask = dataset[index]
        assert image.shape[0] == 3
        assert set(np.unique(mask.numpy())) <= {0, 1, 2}
        assert dataset.get_height_and_width(index) == tuple(mask.shape)
        assert isinstance(adapter.to_sample((image, mask), index=index).target, SemanticMask)


def test_numbers_of_nuclei_agree_with_their_masks_in_coco(shared_data: Path) -> None:
    root = shared_data / "nuclei_dsb2018"
    coco = CocoDataset(root, root / "coco/instances_val_rle.json")
    ids = MasksDataset(root / "images", root / "instance_ids", values={})
    places = {ids.read_facts(index).name: index for index in range(len(ids))}
    for index in range(6):
        image, target = coco[index]
        name = Path(coco.coco.imgs[coco.ids[index]]["file_name"]).name
        ours, numbers = ids[places[name]]
        assert torch.equal(image, ours)
        covered = target["masks"].sum(dim=0) > 0
        assert torch.equal(covered, torch.as_tensor(numbers) > 0)


def test_photographs_without_labels(shared_data: Path) -> None:
    dataset = ImagesDataset([shared_data / "dried_fruit_instances/images", shared_data / BLOOD / "JPEGImages"])
    assert len(dataset) == 18 + 364
    assert dataset.get_height_and_width(0) == (480, 640)
    assert Source(dataset)[0].target is None
