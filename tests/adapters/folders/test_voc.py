"""Pascal VOC from disk: what is read of it is what the pixels show."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.datasets import VOCDetection

from synthloader.adapters.folders.voc import VocDataset
from synthloader.registry import find_adapter
from synthloader.targets import Instances
from tests.shapes import NAMES, assert_boxes_true, draw_numbered, write_voc


def write(folder: Path, name: str, *objects: str, size: str = "", image: str = "", suffix: str = ".png") -> None:
    for part in ("JPEGImages", "Annotations"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((20, 40, 3), 90, np.uint8)).save(folder / "JPEGImages" / f"{name}{suffix}")
    (folder / "Annotations" / f"{name}.xml").write_text(
        f"<annotation><filename>{image}</filename>{size}{''.join(objects)}</annotation>"
    )


def write_lists(folder: Path, **lists: str) -> None:
    """Four annotated images a, b, c, d, and lists of them."""
    for name in "abcd":
        write(folder, name, make_object("cat"))
    for name, stems in lists.items():
        (folder / "ImageSets" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / f"{name}.txt").write_text("".join(f"{stem} 1\n" for stem in stems))


def make_object(name: str, box: Any = (3, 4, 10, 12), more: str = "") -> str:
    edges = "".join(
        f"<{edge}>{number}</{edge}>" for edge, number in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{more}<bndbox>{edges}</bndbox></object>"


class TestItems:
    def test_boxes_are_true_on_pixels(self, tmp_path: Path) -> None:
        root = write_voc(tmp_path / "data") / "VOCdevkit/VOC2012"
        dataset = VocDataset(root, image_set="train")
        assert len(dataset) == 8
        assert dataset.class_to_idx == {name: place for place, name in enumerate(sorted(NAMES), start=1)}
        for index in range(8):
            image, target = dataset[index]
            drawn = draw_numbered(index)
            ids = np.array([NAMES.index(dataset.classes[label - 1]) for label in target["labels"].tolist()])
            assert ids.tolist() == drawn.class_ids.tolist()
            assert target["boxes"].tolist() == drawn.boxes.tolist()
            assert_boxes_true(image.permute(1, 2, 0).numpy(), target["boxes"].numpy(), ids)

    def test_images_are_those_of_torchvision(self, tmp_path: Path) -> None:
        root = write_voc(tmp_path / "data")
        theirs = VOCDetection(str(root), year="2012", image_set="train")
        ours = VocDataset(root / "VOCdevkit/VOC2012", image_set="train")
        for index in range(3):
            difference = ours[index][0].permute(1, 2, 0).numpy().astype(int) - np.array(theirs[index][0])
            assert np.abs(difference).max() <= 2  # two decoders of JPEG

    def test_items_are_recognised_and_come_back_bit_for_bit(self, tmp_path: Path) -> None:
        dataset = VocDataset(write_voc(tmp_path / "data") / "VOCdevkit/VOC2012")
        adapter = find_adapter(dataset, [dataset[0], dataset[1]])
        for index in range(3):
            item = dataset[index]
            sample = adapter.to_sample(item, index=index)
            assert isinstance(sample.target, Instances)
            assert set(sample.target.attributes) >= {"difficult", "truncated"}
            image, target = adapter.from_sample(sample, like=dataset[5])
            assert torch.equal(image, item[0])
            for field, value in item[1].items():
                same = torch.equal(target[field], value) if isinstance(value, torch.Tensor) else target[field] == value
                assert same, field

    def test_pixels_are_counted_from_one_both_ends_included(self, tmp_path: Path) -> None:
        write(tmp_path, "a", make_object("cat", (1, 1, 40, 20)), make_object("cat", (5, 5, 5, 5)))
        assert VocDataset(tmp_path)[0][1]["boxes"].tolist() == [[0, 0, 40, 20], [4, 4, 5, 5]]

    def test_edges_are_taken_as_they_stand(self, tmp_path: Path) -> None:
        write(tmp_path, "a", make_object("cat", (0, 2.5, 40, 20)))
        assert VocDataset(tmp_path, coordinates="edges")[0][1]["boxes"].tolist() == [[0, 2.5, 40, 20]]

    def test_difficult_and_truncated_follow_the_objects(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            "a",
            make_object("cat", more="<difficult>1</difficult>"),
            make_object("dog", more="<truncated>1</truncated>"),
        )
        target = VocDataset(tmp_path)[0][1]
        assert (target["difficult"].tolist(), target["truncated"].tolist()) == ([1, 0], [0, 1])

    def test_an_image_without_objects(self, tmp_path: Path) -> None:
        write(tmp_path, "a")
        write(tmp_path, "b", make_object("cat"))
        dataset = VocDataset(tmp_path)
        assert dataset[0][1]["boxes"].shape == (0, 4)
        sample = find_adapter(dataset, [dataset[0], dataset[1]]).to_sample(dataset[0], index=0)
        assert isinstance(sample.target, Instances)
        assert len(sample.target) == 0

    def test_masks_of_objects_are_found(self, tmp_path: Path) -> None:
        write(tmp_path, "a", make_object("cat"), make_object("dog", (20, 4, 30, 12)))
        (tmp_path / "SegmentationObject").mkdir()
        ids = np.zeros((20, 40), np.uint8)
        ids[3:12, 2:10], ids[3:12, 19:30], ids[3:12, 30] = 1, 2, 255
        PIL.Image.fromarray(ids).save(tmp_path / "SegmentationObject/a.png")
        dataset = VocDataset(tmp_path)
        assert dataset.has_masks
        assert (dataset[0][1]["masks"].numpy().astype(bool) == [ids == 1, ids == 2]).all()

    def test_masks_keep_to_their_objects_when_one_is_left_out(self, tmp_path: Path) -> None:
        write(tmp_path, "a", make_object("cat", (9, 9, 3, 3)), make_object("dog", (20, 4, 30, 12)))
        (tmp_path / "SegmentationObject").mkdir()
        ids = np.zeros((20, 40), np.uint8)
        ids[3:12, 19:30] = 2
        PIL.Image.fromarray(ids).save(tmp_path / "SegmentationObject/a.png")
        target = VocDataset(tmp_path, bad_boxes="drop")[0][1]
        assert target["boxes"].tolist() == [[19, 3, 30, 12]]
        assert (target["masks"].numpy()[0] == (ids == 2)).all()

    def test_it_can_be_sent_to_workers(self, tmp_path: Path) -> None:
        write(tmp_path, "a", make_object("cat"))
        dataset = VocDataset(tmp_path)
        assert repr(pickle.loads(pickle.dumps(dataset))) == repr(dataset)
        assert repr(dataset) == f"VocDataset(1 images, 1 classes, root='{tmp_path}/JPEGImages')"


class TestFolders:
    def test_images_are_found_by_name_or_by_what_the_file_says(self, tmp_path: Path) -> None:
        write(tmp_path, "a", make_object("cat"), suffix=".jpg")
        write(tmp_path, "b", make_object("cat"), image="C:/photos/../x.png")
        (tmp_path / "JPEGImages/b.png").rename(tmp_path / "JPEGImages/x.png")
        dataset = VocDataset(images=tmp_path / "JPEGImages", annotations=tmp_path / "Annotations")
        assert [dataset.read_facts(index).name for index in range(2)] == ["a.jpg", "x.png"]

    def test_classes_are_those_of_all_files_not_only_of_the_list(self, tmp_path: Path) -> None:
        write(tmp_path, "a", make_object("dog"))
        write(tmp_path, "b", make_object("cat"))
        (tmp_path / "ImageSets/Main").mkdir(parents=True)
        (tmp_path / "ImageSets/Main/train.txt").write_text("a 1\n")
        dataset = VocDataset(tmp_path, image_set="train")
        assert (len(dataset), dataset.class_to_idx) == (1, {"cat": 1, "dog": 2})
        assert VocDataset(tmp_path, image_set="train", names=["dog", "cat"]).class_to_idx == {"dog": 1, "cat": 2}

    def test_lists_can_be_joined(self, tmp_path: Path) -> None:
        write_lists(tmp_path, **{"Main/train": "ab", "Main/val": "bc", "Main/test": "d"})
        dataset = VocDataset(tmp_path, image_set=["train", "val"])
        assert [dataset.read_facts(index).name for index in range(len(dataset))] == ["a.png", "b.png", "c.png"]

    def test_all_annotated_images_are_taken_where_no_list_leaves_one_out(self, tmp_path: Path) -> None:
        write_lists(tmp_path, **{"Main/train": "abcd", "Main/trainval": "abcd", "Segmentation/train": "abcd"})
        assert len(VocDataset(tmp_path)) == 4

    @pytest.mark.parametrize("given", ["root", "annotations"])
    @pytest.mark.parametrize(
        ("lists", "advice", "said"),
        [
            ({"Main/train": "abc", "Main/val": "d"}, "train", "train, val"),
            ({"Main/val": "d"}, "val", "val"),
            ({"Main/train": "abc", "Main/cat_train": "abc", "Main/my_set": "d"}, "train", "my_set, train"),
            ({"Segmentation/train": "ab"}, "Segmentation/train", "Segmentation/train"),
        ],
    )
    def test_images_that_a_list_leaves_out_are_never_trained_on_unasked(
        self, tmp_path: Path, given: str, lists: dict[str, str], advice: str, said: str
    ) -> None:
        write_lists(tmp_path, **lists)
        message = (
            f"image_set must be chosen: {tmp_path}/ImageSets has lists that leave annotated images out, got "
            f"image_set=None. Write image_set: {advice}. Lists: {said}; several can be joined: [train, val]."
        )
        root = tmp_path if given == "root" else None
        folders = {} if root else {"images": tmp_path / "JPEGImages", "annotations": tmp_path / "Annotations"}
        with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
            VocDataset(root, **folders)

    def test_sizes_are_those_of_the_annotation_or_of_the_file(self, tmp_path: Path) -> None:
        write(tmp_path, "a", size="<size><width>40</width><height>20</height><depth>3</depth></size>")
        write(tmp_path, "b", size="<size><width>0</width><height>0</height></size>")
        dataset = VocDataset(tmp_path)
        assert [dataset.get_height_and_width(index) for index in range(2)] == [(20, 40)] * 2
        (tmp_path / "JPEGImages/a.png").unlink()
        assert dataset.read_facts(0).size_hw == (20, 40)


class TestErrors:
    @pytest.mark.parametrize(
        ("thing", "said"),
        [
            (make_object(""), "object 2 of {file} must have a name, got object 2 of {file}=''. Correct the annotation."),
            (make_object("dog", (9, 4, 8, 12)),
             "the box of object 2 of {file} must have an area above 0, got the box of object 2 of {file}=[9.0, 4.0, "
             "8.0, 12.0]. Correct the annotation, or pass bad_boxes='drop', which leaves such boxes out."),
            (make_object("dog", (9, "x", 8, 12)),
             "bndbox/ymin of object 2 of {file} must be a number, got bndbox/ymin of object 2 of {file}='x'. Correct "
             "the annotation."),
        ],
    )  # fmt: skip
    def test_a_wrong_object_is_named(self, tmp_path: Path, thing: str, said: str) -> None:
        write(tmp_path, "a", make_object("cat"), thing)
        said = said.format(file=tmp_path / "Annotations/a.xml")
        with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
            VocDataset(tmp_path)

    def test_a_broken_file(self, tmp_path: Path) -> None:
        write(tmp_path, "a")
        (tmp_path / "Annotations/a.xml").write_text("<annotation>")
        said = (
            rf"^{re.escape(str(tmp_path))}/Annotations/a\.xml must be XML, but cannot be read: .*\. Restore the file\.$"
        )
        with pytest.raises(ValueError, match=said):
            VocDataset(tmp_path)

    def test_an_image_of_another_size(self, tmp_path: Path) -> None:
        write(tmp_path, "a", size="<size><width>20</width><height>40</height></size>")
        dataset = VocDataset(tmp_path)
        with pytest.raises(
            ValueError, match=r"must have the height and width \(40, 20\) that .*a\.xml says, got \(20, 40\)"
        ):
            dataset[0]

    def test_a_missing_image(self, tmp_path: Path) -> None:
        write(tmp_path, "a")
        (tmp_path / "JPEGImages/a.png").unlink()
        said = (
            f"images must hold an image for {tmp_path}/Annotations/a.xml, got images='{tmp_path}/JPEGImages'. "
            "Bring a.*."
        )
        with pytest.raises(FileNotFoundError, match="^" + re.escape(said) + "$"):
            VocDataset(tmp_path)

    def test_an_unknown_list(self, tmp_path: Path) -> None:
        write(tmp_path, "a")
        said = f"image_set must name a list of images, got image_set='val'. Lists in {tmp_path}/ImageSets/Main: none."
        with pytest.raises(FileNotFoundError, match="^" + re.escape(said) + "$"):
            VocDataset(tmp_path, image_set="val")

    def test_a_list_may_not_lead_out_of_the_data_set(self, tmp_path: Path) -> None:
        write(tmp_path, "a")
        (tmp_path / "ImageSets/Main").mkdir(parents=True)
        file = tmp_path / "ImageSets/Main/train.txt"
        file.write_text("../../a\n")
        said = (
            f"a name in {file} must stay below the folder of annotations, got a name in {file}='../../a'. "
            "Correct the list."
        )
        with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
            VocDataset(tmp_path, image_set="train")

    def test_a_class_without_a_number(self, tmp_path: Path) -> None:
        write(tmp_path, "a", make_object("cat"))
        said = f"names must have 'cat', which occurs in {tmp_path}/Annotations/a.xml, got names=['dog']. Add it."
        with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
            VocDataset(tmp_path, names=["dog"])
