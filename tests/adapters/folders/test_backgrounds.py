from __future__ import annotations

import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from synthloader import CopyPaste, GeneratedDataset, MixedDataset, Only, load_recipe
from synthloader.adapters.folders.backgrounds import BackgroundsDataset
from synthloader.errors import RecipeError
from tests.generators.test_copy_paste_sources import RED, make_cutout, make_field


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), make_field((60, 80 + number)).image)
    make_cutout(tmp_path / "cutouts" / "apple" / "1.png", RED)
    return tmp_path / "images"


def test_items_have_the_form_of_detection_and_no_objects(images: Path) -> None:
    dataset = BackgroundsDataset(images, ["pear", "apple"])
    image, target = dataset[1]
    assert image.shape == (3, 60, 81)
    assert target["masks"].shape == (0, 60, 81)
    assert target["boxes"].shape == (0, 4)
    assert target["image_id"] == 1
    assert dataset.class_to_idx == {"pear": 1, "apple": 2}
    assert pickle.loads(pickle.dumps(dataset))[2][1]["labels"].tolist() == []


def test_cut_outs_on_them_are_a_detection_set(images: Path) -> None:
    dataset = BackgroundsDataset(images, {7: "apple"})
    generated = GeneratedDataset(dataset, CopyPaste(cutouts=images.parent / "cutouts"), variants=2)
    train = MixedDataset(dataset, generated, plan=Only())
    assert len(train) == 3
    for index in range(3):
        image, target = train[index]
        assert set(target["labels"].tolist()) == {7}
        assert len(target["masks"]) == len(target["boxes"]) > 0
        red = (image[0] > 190) & (image[1] < 70)
        assert torch.equal(red, target["masks"].any(dim=0))


def test_a_recipe_reads_them(images: Path) -> None:
    (images.parent / "recipe.yaml").write_text(
        "source: {format: backgrounds, images: images, names: [apple]}\n"
        "generator: {copy_paste: {cutouts: {apple: [cutouts/apple/1.png]}, num_range: [1, 1]}}\n"
        "plan: only\n"
    )
    train = load_recipe(images.parent / "recipe.yaml").mixed()
    assert train[0][1]["labels"].tolist() == [1]


def test_transforms_see_image_and_target(images: Path) -> None:
    dataset = BackgroundsDataset(images, ["apple"], transforms=lambda image, target: (image.float() / 255, target))
    assert dataset[0][0].dtype == torch.float32
    generated = GeneratedDataset(dataset, CopyPaste(cutouts=images.parent / "cutouts"))
    assert generated[0][0].dtype == torch.float32


def test_without_names(images: Path) -> None:
    message = "names must name at least one class, got names=[]."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        BackgroundsDataset(images, [])


def test_images_are_what_the_files_hold(images: Path) -> None:
    image, _ = BackgroundsDataset(images, ["apple"])[0]
    expected = np.ascontiguousarray(cv2.imread(str(images / "0.png"))[..., ::-1])
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


class TestBlankImages:
    MESSAGE = (
        "images must show something: a detector learns nothing on a blank or one-coloured background, got "
        "images='white.png'. Remove it, or pass allow_blank_backgrounds=True."
    )
    ALLOWED = (
        "images hold blank or one-coloured pictures, such as 'white.png': detectors trained on such a set have failed on "
        "real pictures. Use photographs of the place of use."
    )

    @pytest.fixture
    def blank(self, images: Path) -> Path:
        cv2.imwrite(str(images / "white.png"), np.full((60, 80, 3), 255, np.uint8))
        return images

    def test_they_are_refused(self, blank: Path) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(self.MESSAGE)}$"):
            BackgroundsDataset(blank, ["apple"])

    def test_when_allowed_they_are_warned_of_once(self, blank: Path) -> None:
        cv2.imwrite(str(blank / "z.png"), np.zeros((60, 80, 3), np.uint8))
        with pytest.warns(UserWarning, match=f"^{re.escape(self.ALLOWED)}$") as caught:
            dataset = BackgroundsDataset(blank, ["apple"], allow_blank_backgrounds=True)
            assert [len(dataset[index][1]["labels"]) for index in range(5)] == [0] * 5
        assert len(caught) == 1
        assert caught[0].filename == __file__

    def test_a_recipe_refuses_them_too_unless_they_are_allowed(self, blank: Path) -> None:
        recipe = blank.parent / "recipe.yaml"
        text = (
            "source: {{format: backgrounds, images: images, names: [apple]{}}}\n"
            "generator: {{copy_paste: {{cutouts: cutouts, num_range: [1, 1]}}}}\n"
            "plan: only\n"
        )
        recipe.write_text(text.format(""))
        with pytest.raises(RecipeError, match=f"{re.escape(self.MESSAGE)}$"):
            load_recipe(recipe).mixed()
        recipe.write_text(text.format(", allow_blank_backgrounds: true"))
        with pytest.warns(UserWarning, match=f"^{re.escape(self.ALLOWED)}$"):
            train = load_recipe(recipe).mixed()
        assert len(train) == 4

    def test_one_that_is_found_in_the_run_is_warned_of_once_and_handed_out(self, tmp_path: Path) -> None:
        for number in range(200):
            image = make_field((12, 16)).image
            cv2.imwrite(str(tmp_path / f"{number:03d}.bmp"), np.zeros_like(image) if number in (100, 102) else image)
        dataset = BackgroundsDataset(tmp_path, ["apple"])
        message = (
            "images hold a blank or one-coloured picture, '100.bmp', which was found in the run and is handed out. "
            "Remove it, and others like it, or pass allow_blank_backgrounds=True."
        )
        with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
            assert [int(dataset[index][0].max()) for index in (100, 102, 100)] == [0, 0, 0]
        assert len(caught) == 1

    def test_a_broken_file_is_left_to_whoever_asks_for_it(self, images: Path) -> None:
        (images / "1.png").write_bytes(b"no picture")
        dataset = BackgroundsDataset(images, ["apple"])
        assert dataset[0][0].shape == (3, 60, 80)
        with pytest.raises(OSError, match=r"^cannot read the image .*1\.png: "):
            dataset[1]
