"""Folders of classes from disk."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from synthloader.adapters.folders.imagefolder import ImageFolderDataset
from synthloader.registry import find_adapter
from synthloader.targets import ClassLabel
from tests.shapes import COLORS, NAMES, write_imagefolder


def test_items_are_those_of_torchvision(tmp_path: Path) -> None:
    root = write_imagefolder(tmp_path / "data") / "train"
    ours, theirs = ImageFolderDataset(root), torchvision.datasets.ImageFolder(str(root))
    assert (ours.classes, ours.class_to_idx) == (theirs.classes, theirs.class_to_idx)
    assert ours.samples == theirs.samples
    assert ours.targets == theirs.targets
    for index in range(len(theirs)):
        assert (ours[index][0].permute(1, 2, 0).numpy() == np.array(theirs[index][0])).all()
        assert ours[index][1] == theirs[index][1]


def test_the_class_is_what_the_image_shows(tmp_path: Path) -> None:
    dataset = ImageFolderDataset(write_imagefolder(tmp_path / "data") / "train")
    for image, class_id in (dataset[index] for index in range(len(dataset))):
        color = torch.from_numpy(COLORS[NAMES.index(dataset.classes[class_id])])
        assert (image.permute(1, 2, 0) == color).all(dim=2).any()


def test_items_are_recognised(tmp_path: Path) -> None:
    dataset = ImageFolderDataset(write_imagefolder(tmp_path / "data") / "train")
    adapter = find_adapter(dataset, [dataset[0], dataset[1]])
    sample = adapter.to_sample(dataset[7], index=7)
    assert isinstance(sample.target, ClassLabel)
    assert sample.target.class_id == dataset.targets[7]
    image, class_id = adapter.from_sample(sample, like=dataset[0])
    assert torch.equal(image, dataset[7][0])
    assert class_id == dataset[7][1]


def test_facts_are_known_without_decoding(tmp_path: Path) -> None:
    dataset = ImageFolderDataset(write_imagefolder(tmp_path / "data") / "train")
    facts = dataset.read_facts(0)
    file = tmp_path / "data/train/box/0000.png"
    assert facts == ("box/0000.png", str(file), [0, False], (96, 128), [0])


def test_transforms_come_last(tmp_path: Path) -> None:
    root = write_imagefolder(tmp_path / "data") / "train"
    dataset = ImageFolderDataset(root, transform=torch.Tensor.float, target_transform=lambda label: -label)
    assert dataset.lifts_transforms
    assert (dataset[-1][0].dtype, dataset[-1][1]) == (torch.float32, -2)


def test_stated_names_give_the_numbers(tmp_path: Path) -> None:
    root = write_imagefolder(tmp_path / "data") / "train"
    dataset = ImageFolderDataset(root, names=["wedge", "none", "disc", "box"])
    assert dataset.class_to_idx == {"wedge": 0, "none": 1, "disc": 2, "box": 3}
    assert set(dataset.targets) == {0, 2, 3}
    assert dataset.targets == sorted(dataset.targets)
    said = f"names must have 'disc', a folder in {root}, got names=['box', 'wedge']. Add it."
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        ImageFolderDataset(root, names=["box", "wedge"])


def test_a_class_without_images_keeps_its_number(tmp_path: Path) -> None:
    root = write_imagefolder(tmp_path / "data") / "train"
    (root / "aaa").mkdir()
    assert ImageFolderDataset(root).class_to_idx == {"aaa": 0, "box": 1, "disc": 2, "wedge": 3}


def test_a_hidden_folder_is_never_left_out_of_the_numbers_in_silence(tmp_path: Path) -> None:
    root = write_imagefolder(tmp_path / "data") / "train"
    shutil.copytree(root / "box", root / ".cache")
    theirs = torchvision.datasets.ImageFolder(str(root)).class_to_idx
    assert theirs == {".cache": 0, "box": 1, "disc": 2, "wedge": 3}
    said = (
        f"root must hold no hidden folders, which torchvision's ImageFolder counts as classes, got root='{root}/.cache'. "
        "Remove it, or state the numbers of the classes: names=['box', 'disc', 'wedge']."
    )
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        ImageFolderDataset(root)
    stated = ImageFolderDataset(root, names=["box", "disc", "wedge"])
    assert stated.class_to_idx == {"box": 0, "disc": 1, "wedge": 2}
    assert not any(".cache" in file for file, _ in stated.samples)
    said = "names must be folders that are not hidden, got names=['.cache', 'box', 'disc', 'wedge']. Rename '.cache'."
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        ImageFolderDataset(root, names=list(theirs))


def test_an_image_outside_of_the_classes_is_an_error(tmp_path: Path) -> None:
    root = write_imagefolder(tmp_path / "data") / "train"
    (root / "box/0000.png").rename(root / "stray.png")
    said = (
        f"root must hold images in folders of classes only, got root='{root}/stray.png'. Move it into the folder of "
        "its class; a folder without classes is read as format 'images'."
    )
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        ImageFolderDataset(root)


def test_a_folder_without_classes_is_an_error(tmp_path: Path) -> None:
    said = (
        f"root must hold a folder for each class, got root={str(tmp_path)!r}. A folder without classes is read as "
        "format 'images'."
    )
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        ImageFolderDataset(tmp_path)
    said = f"root must name an existing folder, got root='{tmp_path}/none'."
    with pytest.raises(FileNotFoundError, match="^" + re.escape(said) + "$"):
        ImageFolderDataset(tmp_path / "none")
