"""What the demo runs on: the installed photographs, or a COCO folder found by what it is usually called."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from synthloader.adapters import CocoDataset
from synthloader.demo import photographs
from synthloader.demo.photographs import find_coco, find_installed
from synthloader.errors import MissingExtraError
from tests.scenes import write_coco


def test_the_installed_photographs_fit_their_annotations(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    found = find_installed(tmp_path)
    real = CocoDataset(found.images, found.annotations)
    assert (len(real), found.num_found, real.has_masks) == (10, 10, True)
    names = {record["file_name"] for record in real.coco.imgs.values()}
    assert "motorcycle_left.png" in names
    assert "motorcycle_right.png" not in names
    assert set(real.class_to_idx.values()) == {entry["category_id"] for entry in real.coco.anns.values()}
    for index in range(len(real)):
        image, target = real[index]
        assert image.shape[1:] == target["masks"].shape[1:]
        assert (target["masks"].sum((1, 2)) > 0).all()


def test_scikit_image_is_found_and_not_imported(tmp_path: Path) -> None:
    loaded = "skimage" in sys.modules
    find_installed(tmp_path)
    assert ("skimage" in sys.modules) == loaded


def test_without_scikit_image_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        find_installed(tmp_path)
    assert str(caught.value) == (
        "The demo needs photographs of scikit-image. Install synthloader[demo], or pass --data with a COCO folder."
    )


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("images", "annotations.json"),
        ("images", "annotations/instances_train2017.json"),
        ("train2017", "annotations/instances_train2017.json"),
        ("images", "coco/instances_train.json"),
        ("train", "train/_annotations.coco.json"),
        (".", "labels_of_ours.json"),
        ("JPEGImages", "coco/instances_train.json"),
    ],
)
def test_usual_folders_are_found(tmp_path: Path, images: str, annotations: str) -> None:
    made = tmp_path / "made"
    write_coco(made, 3)
    data = tmp_path / "data"
    (data / annotations).parent.mkdir(parents=True)
    shutil.copytree(made / "images", data / images, dirs_exist_ok=True)
    shutil.copy(made / "annotations.json", data / annotations)
    for given in (data, data / annotations):
        found = find_coco(given, tmp_path)
        assert found.annotations == data / annotations
        assert len(CocoDataset(found.images, found.annotations)) == found.num_found == 3


def test_names_that_hold_their_folder_are_found(tmp_path: Path) -> None:
    _, file = write_coco(tmp_path, 2)
    content = json.loads(file.read_text())
    for record in content["images"]:
        record["file_name"] = f"images/{record['file_name']}"
    file.write_text(json.dumps(content))
    assert find_coco(tmp_path, tmp_path).images == tmp_path


def test_the_training_part_is_chosen_among_several(tmp_path: Path) -> None:
    _, file = write_coco(tmp_path, 2)
    for part in ("train", "val"):
        shutil.copy(file, tmp_path / f"instances_{part}.json")
    assert find_coco(tmp_path, tmp_path).annotations.name == "instances_train.json"


def test_of_a_large_dataset_some_images_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "MOST_IMAGES", 5)
    write_coco(tmp_path / "data", 12)
    found = find_coco(tmp_path / "data", tmp_path)
    assert (found.annotations, found.num_found) == (tmp_path / "annotations.json", 12)
    real = CocoDataset(found.images, found.annotations)
    assert real.ids == [100, 102, 104, 107, 109]
    monkeypatch.setattr(photographs, "MOST_IMAGES", 100)
    monkeypatch.setattr(photographs, "MOST_PIXELS", 1)
    assert len(CocoDataset(*find_coco(tmp_path / "data", tmp_path)[:2])) == 8


def test_what_is_said_when_nothing_is_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    nothing = tmp_path / "nothing"
    data.mkdir()
    with pytest.raises(FileNotFoundError) as missing:
        find_coco(nothing, tmp_path)
    assert str(missing.value) == f"--data must name a folder that exists, got {nothing}."
    with pytest.raises(FileNotFoundError) as bare:
        find_coco(data, tmp_path)
    assert str(bare.value) == (
        f"no COCO annotation file in {data}: it should hold annotations.json, annotations/instances_*.json or a single "
        f"JSON file. Name the file itself: --data {data}/my_annotations.json."
    )
    for name in ("a.json", "b.json"):
        (data / name).write_text("{}")
    with pytest.raises(ValueError, match="holds several annotation files") as several:
        find_coco(data, tmp_path)
    assert str(several.value) == (
        f"{data} holds several annotation files: a.json, b.json. Name one: --data {data}/a.json."
    )
    (data / "b.json").unlink()
    with pytest.raises(ValueError, match="is no COCO annotation file") as broken:
        find_coco(data, tmp_path)
    assert str(broken.value) == (
        f"{data}/a.json is no COCO annotation file: it should be JSON with lists images, annotations and categories, "
        "and at least one image with a file_name."
    )
    (data / "a.json").write_text('{"images": [{"id": 1, "file_name": "x.png"}], "annotations": [], "categories": []}')
    with pytest.raises(FileNotFoundError) as lost:
        find_coco(data, tmp_path)
    assert str(lost.value) == (
        f"the images of {data}/a.json were not found: no folder near it holds 'x.png', the first one that it names. "
        "Put them into a folder images beside it."
    )
