from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms import v2

from synthloader import GeneratedDataset, LMDBCache
from synthloader.adapters import CocoDataset
from synthloader.registry import find_adapter, find_plugin
from tests.scenes import Shade

PIXELS = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]


def make_annotation(number: int, image_id: Any = 7, **fields: Any) -> dict[str, Any]:
    return {
        "id": number, "image_id": image_id, "category_id": 2, "bbox": [10, 10, 10, 10], "area": 100, "iscrowd": 0,
        "segmentation": SQUARE, **fields,
    }  # fmt: skip


def make_content(**changes: Any) -> dict[str, Any]:
    content = {
        "images": [
            {"id": 9, "file_name": "more/b.png", "width": 64, "height": 48},
            {"id": 7, "file_name": "a.png", "width": 64, "height": 48},
        ],
        "annotations": [make_annotation(1), make_annotation(2, bbox=[0, 0, 5, 5.5], category_id=1)],
        "categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat", "supercategory": "pet"}],
    }
    return {**content, **changes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    for name in ("a.png", "more/b.png"):
        PIL.Image.fromarray(PIXELS).save(tmp_path / name)
    return tmp_path


def make(folder: Path, transforms: Any = None, **changes: Any) -> CocoDataset:
    file = folder / "labels.json"
    file.write_text(json.dumps(make_content(**changes)))
    return CocoDataset(folder, file, transforms)


class TestItems:
    def test_images_are_uint8_tensors_of_the_stored_pixels(self, folder: Path) -> None:
        image, _ = make(folder)[0]
        assert image.dtype == torch.uint8
        assert (image.permute(1, 2, 0).numpy() == PIXELS).all()

    def test_targets_are_those_of_torchvision(self, folder: Path) -> None:
        _, target = make(folder)[0]
        assert list(target) == ["image_id", "boxes", "labels", "area", "iscrowd", "masks"]
        assert target["image_id"] == 7
        assert target["boxes"].tolist() == [[10, 10, 20, 20], [0, 0, 5, 5.5]]
        assert target["labels"].tolist() == [2, 1]
        assert target["masks"].sum(dim=(1, 2)).tolist() == [100, 100]
        assert {name: value.dtype for name, value in target.items() if name != "image_id"} == {
            "boxes": torch.float32, "labels": torch.int64, "area": torch.float32, "iscrowd": torch.int64,
            "masks": torch.uint8,
        }  # fmt: skip

    def test_an_image_without_objects_has_empty_fields_of_the_right_shape(self, folder: Path) -> None:
        _, target = make(folder)[1]
        assert target["image_id"] == 9
        assert {name: tuple(value.shape) for name, value in target.items() if name != "image_id"} == {
            "boxes": (0, 4), "labels": (0,), "area": (0,), "iscrowd": (0,), "masks": (0, 48, 64),
        }  # fmt: skip

    def test_items_come_in_the_order_of_their_ids(self, folder: Path) -> None:
        dataset = make(folder)
        assert dataset.ids == [7, 9]
        assert [dataset[place][1]["image_id"] for place in (0, 1, -1, -2, np.int64(1))] == [7, 9, 9, 7, 9]

    def test_iterating_ends(self, folder: Path) -> None:
        assert len(list(make(folder))) == 2  # type: ignore[call-overload]

    def test_ids_may_be_texts(self, folder: Path) -> None:
        images = [{"id": "x", "file_name": "a.png", "width": 64, "height": 48}]
        dataset = make(folder, images=images, annotations=[make_annotation(1, image_id="x")])
        assert dataset[0][1]["image_id"] == "x"

    def test_without_segmentations_there_are_no_masks(self, folder: Path) -> None:
        dataset = make(folder, annotations=[make_annotation(1, segmentation=[])])
        assert not dataset.has_masks
        assert "masks" not in dataset[0][1]

    def test_a_segmentation_that_is_missing_is_said(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, logger="synthloader"):
            dataset = make(folder, annotations=[make_annotation(1), make_annotation(2, segmentation=[])])
        assert not dataset.has_masks
        assert caplog.messages == [
            f"{folder}/labels.json: 1 of 2 annotations have no segmentation, so the items come without masks."
        ]

    def test_a_crowd_needs_no_segmentation(self, folder: Path) -> None:
        dataset = make(folder, annotations=[make_annotation(1), make_annotation(2, segmentation=[], iscrowd=1)])
        assert dataset[0][1]["masks"].sum(dim=(1, 2)).tolist() == [100, 100]
        assert dataset[0][1]["iscrowd"].tolist() == [0, 1]

    def test_an_area_that_is_missing_is_that_of_the_box(self, folder: Path) -> None:
        annotation = make_annotation(1)
        del annotation["area"]
        assert make(folder, annotations=[annotation])[0][1]["area"].tolist() == [100]

    def test_keypoints_are_there_where_all_have_as_many(self, folder: Path) -> None:
        annotations = [make_annotation(number, keypoints=[1, 2, 2, 3, 4, number]) for number in (1, 2)]
        dataset = make(folder, annotations=annotations)
        assert dataset[0][1]["keypoints"].tolist() == [[[1, 2, 2], [3, 4, 1]], [[1, 2, 2], [3, 4, 2]]]
        assert dataset[1][1]["keypoints"].shape == (0, 2, 3)

    def test_own_fields_of_annotations_and_images_are_there_in_every_item(self, folder: Path) -> None:
        content = make_content()
        content["images"][1]["weather"] = "rain"
        content["images"][0]["weather"] = "dry"
        annotations = [
            make_annotation(1, score=0.5, attributes={"occluded": True, "colour": "rot"}, track=1),
            make_annotation(2, track=2),
        ]
        dataset = make(folder, images=content["images"], annotations=annotations)
        assert dataset.instance_fields == ("score", "track", "occluded", "colour")
        full, empty = dataset[0][1], dataset[1][1]
        assert list(full) == list(empty)
        assert full["score"].tolist()[0] == 0.5
        assert full["score"].isnan().tolist() == [False, True]
        assert full["track"].tolist() == [1, 2]
        assert full["colour"] == ["rot", ""]
        assert (full["weather"], empty["weather"]) == ("rain", "dry")
        assert (empty["track"].dtype, empty["track"].shape, empty["colour"]) == (torch.int64, (0,), [])
        adapter = find_adapter(dataset, [dataset[0], dataset[1]])
        sample = adapter.to_sample(dataset[0], index=0)
        assert sample.metadata["weather"] == "rain"
        assert sample.target.attributes["colour"].tolist() == ["rot", ""]  # type: ignore[union-attr]
        assert adapter.from_sample(sample, like=dataset[1])[1]["colour"] == ["rot", ""]


class TestAroundItems:
    def test_what_others_read_of_it(self, folder: Path) -> None:
        dataset = make(folder)
        assert len(dataset) == 2
        assert dataset.classes == ["cat", "dog"]
        assert dataset.class_to_idx == {"cat": 1, "dog": 2}
        assert dataset.root == folder
        assert dataset.coco.imgs[7]["file_name"] == "a.png"
        assert [annotation["id"] for annotation in dataset.coco.loadAnns(dataset.coco.getAnnIds(7))] == [1, 2]
        assert repr(dataset) == f"CocoDataset(2 images, 2 classes, root='{folder}')"

    def test_nothing_is_printed(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        make(folder)
        captured = capsys.readouterr()
        assert captured.out == captured.err == ""

    def test_sizes_are_known_without_opening_files(self, folder: Path) -> None:
        dataset = make(folder)
        (folder / "a.png").unlink()
        assert dataset.get_height_and_width(0) == (48, 64)

    def test_facts_are_those_of_the_record(self, folder: Path) -> None:
        dataset = make(folder)
        facts = dataset.read_facts(0)
        assert (facts.name, facts.file, facts.size_hw, facts.class_ids) == (
            "a.png",
            str(folder / "a.png"),
            (48, 64),
            [2, 1],
        )
        assert dataset.read_facts(1).class_ids == []

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"segmentation": []}, {}),
            ({"keypoints": [1, 2, 2]}, {"keypoints": [1, 2, 2, 3, 4, 2]}),
            ({}, {"truncated": 1}),
            ({"truncated": 1}, {"truncated": 0.5}),
        ],
        ids=["masks", "keypoints", "a field", "the type of a field"],
    )
    def test_the_annotation_changes_when_the_items_change_because_of_another_image(
        self, folder: Path, before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        shared = (
            {"keypoints": [1, 2, 2]} if "keypoints" in before else {"truncated": 1} if "truncated" in before else {}
        )
        datasets = [
            make(folder, annotations=[make_annotation(1, **shared), make_annotation(2, 9, **fields)])
            for fields in (before, after)
        ]
        items = [
            {
                name: (value.dtype, value.shape) if isinstance(value, torch.Tensor) else value
                for name, value in target.items()
            }
            for _, target in (dataset[0] for dataset in datasets)
        ]
        assert items[0] != items[1]
        assert datasets[0].read_facts(0).annotation != datasets[1].read_facts(0).annotation

    def test_a_cache_serves_no_empty_masks_when_the_last_segmentation_is_added(self, folder: Path) -> None:
        for segmentation, has_masks in (([], False), (SQUARE, True)):
            dataset = make(folder, annotations=[make_annotation(1), make_annotation(2, 9, segmentation=segmentation)])
            with LMDBCache(folder / "cache") as cache:
                target = GeneratedDataset(dataset, Shade(), cache=cache, variants=1)[0][1]
            assert ("masks" in target) == has_masks
            if has_masks:
                assert torch.equal(target["masks"], dataset[0][1]["masks"])
                assert target["masks"].any()

    def test_the_annotation_stays_when_another_image_changes_and_the_items_do_not(self, folder: Path) -> None:
        datasets = [
            make(folder, annotations=[make_annotation(1, note="a"), make_annotation(2, 9, note=note)])
            for note in ("b", "longer")
        ]
        assert datasets[0].read_facts(0) == datasets[1].read_facts(0)
        assert datasets[0].read_facts(1) != datasets[1].read_facts(1)

    def test_transforms_get_image_and_target(self, folder: Path) -> None:
        def transform(image: Any, target: Any) -> Any:
            return v2.functional.to_dtype(image, torch.float32, scale=True), target["labels"]

        image, labels = make(folder, transform)[0]
        assert image.dtype == torch.float32
        assert labels.tolist() == [2, 1]

    def test_a_pickled_copy_has_the_same_items(self, folder: Path) -> None:
        dataset = make(folder)
        twin = pickle.loads(pickle.dumps(dataset))
        assert torch.equal(twin[0][0], dataset[0][0])
        assert torch.equal(twin[0][1]["masks"], dataset[0][1]["masks"])

    def test_recipes_know_it_as_coco(self) -> None:
        assert find_plugin("formats", "coco") is CocoDataset

    @pytest.mark.parametrize(
        ("index", "error", "message"),
        [
            (2, IndexError, "index must lie in a dataset of 2 images, got index=2."),
            (-3, IndexError, "index must lie in a dataset of 2 images, got index=-3."),
            ("a", TypeError, "index must be an integer, got index='a'."),
        ],
    )
    def test_wrong_indices(self, folder: Path, index: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error) as caught:
            make(folder)[index]
        assert str(caught.value) == message


class TestFiles:
    """Faults of the image files: found when the dataset is made where that is cheap, else when the image is read."""

    def make_of(self, folder: Path, name: str, **fields: Any) -> CocoDataset:
        return make(folder, images=[{"id": 7, "file_name": name, "width": 64, "height": 48, **fields}], annotations=[])

    def test_missing_files_are_found_at_once(self, folder: Path) -> None:
        (folder / "a.png").unlink()
        (folder / "more" / "b.png").unlink()
        with pytest.raises(FileNotFoundError) as caught:
            make(folder)
        assert str(caught.value) == (
            f"images[0]['file_name'] must name a file below {folder}, got 'more/b.png', and 1 more. Correct images=, the "
            f"folder that the names in {folder}/labels.json are relative to, or bring the missing files."
        )

    @pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "more/../../a.png", ".."])
    def test_paths_may_not_leave_the_root(self, folder: Path, name: str) -> None:
        with pytest.raises(ValueError, match="below") as caught:
            self.make_of(folder, name)
        assert str(caught.value) == (
            f"images[0]['file_name'] must stay below the folder of images, got images[0]['file_name']={name!r}. Correct "
            f"{folder}/labels.json: paths are relative to {folder}."
        )

    def test_paths_may_wander_inside_the_root(self, folder: Path) -> None:
        assert self.make_of(folder, "./more/../a.png")[0][0].shape == (3, 48, 64)

    @pytest.mark.parametrize(
        ("name", "keep"), [("cut.jpg", 0.5), ("cut.jpg", 0.98), ("cut.png", 0.6), ("cut.bmp", 0.5)]
    )
    def test_a_file_that_is_cut_short_is_never_served(self, folder: Path, name: str, keep: float) -> None:
        PIL.Image.fromarray(PIXELS).save(folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])
        dataset = self.make_of(folder, name)
        with pytest.raises(OSError, match="cannot read") as caught:
            dataset[0]
        start = f"cannot read the image {folder}/{name}: "
        assert str(caught.value).startswith(start)
        assert str(caught.value).endswith(" (replace the file, or leave it out)")

    def test_a_file_that_is_no_image(self, folder: Path) -> None:
        (folder / "text.jpg").write_text("hello")
        with pytest.raises(OSError, match="cannot read") as caught:
            self.make_of(folder, "text.jpg")[0]
        assert str(caught.value) == (
            f"cannot read the image {folder}/text.jpg: cannot identify image file '{folder}/text.jpg' (replace the file, "
            "or leave it out)"
        )

    def test_a_jpeg_with_something_behind_its_end_is_read_whole(self, folder: Path) -> None:
        PIL.Image.fromarray(PIXELS).save(folder / "plain.jpg", quality=95)
        content = (folder / "plain.jpg").read_bytes()
        (folder / "more.jpg").write_bytes(content + b"\0maker's note")
        plain, more = self.make_of(folder, "plain.jpg")[0][0], self.make_of(folder, "more.jpg")[0][0]
        assert (plain.int() - more.int()).abs().max() <= 3  # Two decoders round differently.

    def test_an_image_of_another_size_than_its_record(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="height") as caught:
            self.make_of(folder, "a.png", height=64)[0]
        assert str(caught.value) == (
            f"the image {folder}/a.png must have the height and width (64, 64) that its record says, got (48, 64). Correct "
            "the record of image id 7, or restore the file that was annotated (annotations belong to the stored pixels, "
            "before any rotation by EXIF)."
        )

    def test_a_16_bit_image_is_refused(self, folder: Path) -> None:
        for name, kind in (("deep.png", "16-bit PNG"), ("deep.tif", "image of mode I;16")):
            PIL.Image.fromarray(np.zeros((48, 64), np.uint16)).save(folder / name)
            with pytest.raises(ValueError, match="8 bit") as caught:
                self.make_of(folder, name)[0]
            assert str(caught.value) == (
                f"images must have 8 bit per channel, got a {kind}: {folder}/{name}. Convert it first: how its range is "
                "mapped to 8 bit is your choice."
            )

    def test_orientation_of_the_camera_is_not_applied(self, folder: Path) -> None:
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        PIL.Image.fromarray(PIXELS).save(folder / "turned.jpg", exif=exif)
        assert self.make_of(folder, "turned.jpg")[0][0].shape == (3, 48, 64)

    @pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "1", "CMYK"])
    @pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
    def test_every_8_bit_mode_gives_rgb(self, folder: Path, mode: str, suffix: str) -> None:
        try:
            PIL.Image.fromarray(PIXELS).convert(mode).save(folder / f"x.{suffix}")
        except OSError:
            pytest.skip(f"{suffix} knows no {mode}")
        image = self.make_of(folder, f"x.{suffix}")[0][0].permute(1, 2, 0).numpy()
        with PIL.Image.open(folder / f"x.{suffix}") as reference:
            wanted = np.asarray(reference.convert("RGB")).astype(int)
        if mode == "CMYK" and suffix == "jpg":
            return  # Decoders differ in how they turn inks into colours.
        assert np.abs(image - wanted).max() <= (4 if suffix == "jpg" else 0)


IMAGE = {"id": 7, "file_name": "a.png", "width": 64, "height": 48}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"images": [], "annotations": []},
            ValueError,
            "'images' must have at least one entry, got 'images'=[]. Look at LABELS: an empty dataset cannot be mixed.",
        ),
        (
            {"annotations": [make_annotation(1, image_id=8)]},
            ValueError,
            "annotations[0]['image_id'] must be the id of an image in the file, got annotations[0]['image_id']=8. Add the "
            "image to LABELS, or remove the annotation.",
        ),
        (
            {"annotations": [make_annotation(1, category_id=8)]},
            ValueError,
            "annotations[0]['category_id'] must be the id of a category in the file, got "
            "annotations[0]['category_id']=8. Add the category to LABELS, or correct the annotation.",
        ),
        (
            {"images": [IMAGE, IMAGE]},
            ValueError,
            "images[1]['id'] must be of one entry only, but is that of images[0] too, got images[1]['id']=7. Correct "
            "LABELS.",
        ),
        (
            {"annotations": [make_annotation(1), make_annotation(1)]},
            ValueError,
            "annotations[1]['id'] must be of one entry only, but is that of annotations[0] too, got "
            "annotations[1]['id']=1. Correct LABELS.",
        ),
        (
            {"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]},
            ValueError,
            "categories[1]['name'] must be of one category only, but is that of categories[0] too, got "
            "categories[1]['name']='cat'. Rename one of them in LABELS.",
        ),
        (
            {"annotations": [{"id": 1, "image_id": 7, "category_id": 1}]},
            ValueError,
            "annotations[0] must have 'bbox', got annotations[0]=['id', 'image_id', 'category_id']. Correct LABELS.",
        ),
        (
            {"annotations": [make_annotation(1, bbox=[1, 2, 3])]},
            ValueError,
            "annotations[0]['bbox'] must be x, y, width, height, got annotations[0]['bbox']=[1, 2, 3]. Correct LABELS.",
        ),
        (
            {"annotations": [make_annotation(1), make_annotation(5, bbox=["1", "2", "3", "4"])]},
            TypeError,
            "annotations[1]['bbox'] must be four numbers, got annotations[1]['bbox']=['1', '2', '3', '4']. Write x, y, "
            "width and height of annotation id 5 in LABELS without quotes.",
        ),
        (
            {"annotations": [make_annotation(5, bbox=[1, 2, None, 4])]},
            TypeError,
            "annotations[0]['bbox'] must be four numbers, got annotations[0]['bbox']=[1, 2, None, 4]. Write x, y, width "
            "and height of annotation id 5 in LABELS without quotes.",
        ),
        (
            {"images": [{**IMAGE, "height": "48"}]},
            TypeError,
            "images[0]['height'] must be an int, got images[0]['height']='48'. Correct LABELS.",
        ),
        ({"images": [3]}, TypeError, "images[0] must be a dict, got images[0]=3. Correct LABELS."),
        (
            {"categories": None},
            ValueError,
            "the annotation file must have a list 'categories', got the annotation file=['images', 'annotations', "
            "'categories']. Look at LABELS.",
        ),
    ],
    ids=[
        "empty", "unknown image", "unknown category", "image twice", "annotation twice", "name twice", "no bbox",
        "three numbers", "texts", "nothing", "text for a number", "no dict", "no categories",
    ],
)  # fmt: skip
def test_faults_of_the_annotation_file_are_named(
    folder: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        make(folder, **changes)
    assert str(caught.value) == message.replace("LABELS", str(folder / "labels.json"))


def test_an_annotation_file_that_is_missing_or_broken(folder: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        CocoDataset(folder, folder / "none.json")
    assert str(missing.value) == f"annotations must name an existing file, got annotations='{folder}/none.json'."
    (folder / "broken.json").write_text('{"images": [,]}')
    with pytest.raises(ValueError, match="JSON") as broken:
        CocoDataset(folder, folder / "broken.json")
    assert str(broken.value) == (
        f"{folder}/broken.json must be JSON, but cannot be read: Expecting value: line 1 column 13 (char 12). Export it "
        "again."
    )
    (folder / "list.json").write_text("[1]")
    with pytest.raises(TypeError) as listed:
        CocoDataset(folder, folder / "list.json")
    assert str(listed.value) == (
        "the annotation file must be a dict with 'images', 'annotations' and 'categories', got the annotation "
        f"file=[1]. Look at {folder}/list.json."
    )
