"""Images and masks of ids from disk."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import Subset
from torchvision import tv_tensors

from synthloader.adapters.folders.masks import MasksDataset
from synthloader.registry import find_adapter
from synthloader.sources import Source
from synthloader.targets import SemanticMask
from tests.shapes import NAMES, assert_mask_true, draw_numbered, write_masks

ALL_NAMES = ["ground", *NAMES]


def write(folder: Path, ids: np.ndarray, *, mode: str | None = None, name: str = "a.png") -> tuple[Path, Path]:
    for part in ("images", "masks"):
        (folder / part).mkdir(exist_ok=True)
    PIL.Image.fromarray(np.full((*ids.shape[:2], 3), 90, np.uint8)).save(folder / "images/a.png")
    PIL.Image.fromarray(ids, mode).save(folder / "masks" / name)
    return folder / "images", folder / "masks"


def test_masks_are_true_on_pixels(tmp_path: Path) -> None:
    dataset = MasksDataset(*write_masks(tmp_path / "data"), names=ALL_NAMES)
    assert len(dataset) == 8
    assert dataset.class_to_idx == {"ground": 0, "box": 1, "disc": 2, "wedge": 3}
    for index in range(8):
        image, mask = dataset[index]
        assert isinstance(mask, tv_tensors.Mask)
        assert mask.dtype == torch.int64
        assert (mask.numpy() == draw_numbered(index).id_mask).all()
        assert_mask_true(image.permute(1, 2, 0).numpy(), mask.numpy(), most_wrong=0)


def test_items_are_recognised_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    dataset = MasksDataset(*write_masks(tmp_path / "data"))
    adapter = find_adapter(dataset, [dataset[0], dataset[1]])
    sample = adapter.to_sample(dataset[4], index=4)
    assert isinstance(sample.target, SemanticMask)
    image, mask = adapter.from_sample(sample, like=dataset[0])
    assert type(mask) is tv_tensors.Mask
    assert torch.equal(image, dataset[4][0])
    assert torch.equal(mask, dataset[4][1])


@pytest.mark.parametrize(
    ("ids", "mode"),
    [
        (np.array([[0, 1, 2]], np.uint8), None),
        (np.array([[0, 1, 2]], np.uint8), "P"),
        (np.array([[0, 300, 2]], np.uint16), None),
        (np.array([[False, True, True]]), None),
    ],
    ids=["8 bit", "palette", "16 bit", "1 bit"],
)
def test_masks_of_one_channel_are_ids(tmp_path: Path, ids: np.ndarray, mode: str | None) -> None:
    folders = write(tmp_path, ids)
    if mode is not None:
        picture = PIL.Image.fromarray(ids).convert(mode)
        picture.putpalette([9, 9, 9, 0, 200, 0, 200, 0, 0])
        picture.putdata(ids.ravel().tolist())
        picture.save(folders[1] / "a.png")
    assert MasksDataset(*folders)[0][1].tolist() == ids.astype(int).tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_masks_of_colours_are_refused(tmp_path: Path, mode: str) -> None:
    folders = write(tmp_path, np.zeros((2, 3, len(mode)), np.uint8))
    name = f"the mode of the mask {folders[1]}/a.png"
    said = (
        f"{name} must be one channel or a palette, got {name}={mode!r}. Convert colours to ids first: one channel, in "
        "which a number stands for a class."
    )
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        MasksDataset(*folders)[0]


def test_masks_with_loss_are_refused(tmp_path: Path) -> None:
    folders = write(tmp_path, np.zeros((8, 8), np.uint8), name="a.jpg")
    name = f"the format of the mask {folders[1]}/a.jpg"
    said = f"{name} must be without loss, got {name}='JPEG'. JPEG blurs ids into others: save masks as PNG."
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        MasksDataset(*folders)[0]


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    folders = write(tmp_path, np.zeros((8, 8), np.uint8))
    PIL.Image.fromarray(np.zeros((4, 8), np.uint8)).save(folders[1] / "a.png")
    name = f"the height and width of the mask {folders[1]}/a.png"
    said = f"{name} must be the image's, (8, 8), got {name}=(4, 8). Masks are drawn on the whole image."
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        MasksDataset(*folders)[0]


def test_ids_without_a_name_are_refused(tmp_path: Path) -> None:
    folders = write(tmp_path, np.array([[0, 1, 7, 255]], np.uint8))
    assert MasksDataset(*folders)[0][1].tolist() == [[0, 1, 7, 255]]
    name = f"the ids in the mask {folders[1]}/a.png"
    said = f"{name} must be in names, 0, or the ignore_index 255, got {name}=[7]. Add the names, or correct the mask."
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        MasksDataset(*folders, names={1: "cell"})[0]


def test_a_white_object_is_not_ignored_in_silence(tmp_path: Path) -> None:
    folders = write(tmp_path, np.array([[0, 255, 255]], np.uint8))
    name = f"the ids in the mask {folders[1]}/a.png"
    said = (
        f"{name} must be others than 0 and the ignore_index, got {name}=[0, 255]. Pass values={{255: 1}} if the object "
        "is white, or values={} if these pixels count for nothing."
    )
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        MasksDataset(*folders)[0]
    assert MasksDataset(*folders, values={255: 1})[0][1].tolist() == [[0, 1, 1]]
    assert MasksDataset(*folders, values={})[0][1].tolist() == [[0, 255, 255]]


def test_values_are_exchanged_at_once(tmp_path: Path) -> None:
    folders = write(tmp_path, np.array([[0, 1, 2]], np.uint8))
    assert MasksDataset(*folders, values={1: 2, 2: 1})[0][1].tolist() == [[0, 2, 1]]


def test_a_missing_mask_and_two_of_one_name_are_errors(tmp_path: Path) -> None:
    folders = write(tmp_path, np.zeros((8, 8), np.uint8), name="b.png")
    said = f"masks must hold a mask for {folders[0]}/a.png, got masks={str(folders[1])!r}. Bring a.png."
    with pytest.raises(FileNotFoundError, match="^" + re.escape(said) + "$"):
        MasksDataset(*folders)
    write(tmp_path, np.zeros((8, 8), np.uint8))
    write(tmp_path, np.zeros((8, 8), np.uint8), name="a.bmp")
    said = f"masks must hold one mask for {folders[0]}/a.png, got masks=['a.bmp', 'a.png']. Remove the others."
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        MasksDataset(*folders)


def test_stamps_change_with_the_mask_and_what_its_values_mean(tmp_path: Path) -> None:
    folders = write(tmp_path, np.zeros((8, 8), np.uint8))
    dataset = MasksDataset(*folders)
    facts = dataset.read_facts(0)
    assert (facts.name, facts.file) == ("a.png", str(folders[0] / "a.png"))
    assert (facts.size_hw, facts.class_ids) == ((8, 8), None)
    options: list[dict[str, Any]] = [{}, {"values": {1: 2}}, {"ignore_index": 7}]
    before = [Source(MasksDataset(*folders, **chosen)).stamp(0) for chosen in options]
    assert before == [Source(MasksDataset(*folders, **chosen)).stamp(0) for chosen in options]
    write(tmp_path, np.ones((8, 8), np.uint8))
    os.utime(folders[1] / "a.png", ns=(1, 1))
    after = [Source(MasksDataset(*folders, **chosen)).stamp(0) for chosen in options]
    assert len({*before, *after}) == 6


@pytest.mark.parametrize("ignore_index", [7, 255])
def test_samples_have_the_ignore_index(tmp_path: Path, ignore_index: int) -> None:
    folders = write(tmp_path, np.array([[0, 7, 255]], np.uint8))
    dataset = MasksDataset(*folders, ignore_index=ignore_index)
    for source in (Source(dataset), Source(Subset(dataset, [0]))):
        target = source[0].target
        assert isinstance(target, SemanticMask)
        assert target.ignore_index == ignore_index
        assert source.class_ids(0).tolist() == [262 - ignore_index]
