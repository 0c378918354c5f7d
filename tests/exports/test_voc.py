from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from torchvision.datasets import VOCDetection, VOCSegmentation

from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.exports.samples import (
    draw_instances,
    export,
    make_boxes,
    make_instances,
    make_name,
    make_no_instances,
    make_sample,
    read_tree,
)

EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_xml(folder: Path, number: int = 0) -> ElementTree.Element:
    return ElementTree.parse(folder / "Annotations" / f"{make_name(number)}.xml").getroot()


def read_boxes(folder: Path, number: int = 0) -> np.ndarray:
    """As detectron2 and others read VOC: whole numbers, 1 taken from the upper left corner."""
    corners = [[int(box.findtext(edge, "")) for edge in EDGES] for box in read_xml(folder, number).iter("bndbox")]
    return np.array(corners, np.float32).reshape(-1, 4) - [1, 1, 0, 0]


def read_ids(folder: Path, kind: str, number: int = 0) -> np.ndarray:
    with PIL.Image.open(folder / kind / f"{make_name(number)}.png") as image:
        return np.array(image)


class TestBoxes:
    def test_what_the_xml_says(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances())], tmp_path, format="voc")
        text = (tmp_path / "Annotations" / f"{make_name(0)}.xml").read_text(encoding="utf-8")
        assert text.startswith("<annotation>\n\t<folder>JPEGImages</folder>\n")
        root = read_xml(tmp_path)
        assert root.findtext("filename") == f"{make_name(0)}.jpg"
        assert [root.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["32", "24", "3"]
        assert root.findtext("segmented") == "1"
        first = root.findall("object")[0]
        assert [first.findtext(tag) for tag in ("name", "pose", "truncated", "difficult")] == [
            "Größe",
            "Unspecified",
            "0",
            "0",
        ]
        assert [first.findtext(f"bndbox/{edge}") for edge in EDGES] == ["4", "3", "11", "8"]

    @given(draw_instances(with_masks=False, whole=True))
    @settings(max_examples=40)
    def test_whole_boxes_come_back_exactly(self, sample: Sample) -> None:
        assert isinstance(sample.target, Instances)
        with tempfile.TemporaryDirectory() as name:
            export([sample], Path(name), format="voc")
            np.testing.assert_array_equal(read_boxes(Path(name)), sample.target.boxes)

    @given(draw_instances(with_masks=False))
    @settings(max_examples=80)
    def test_other_boxes_come_back_to_half_a_pixel(self, sample: Sample) -> None:
        assert isinstance(sample.target, Instances)
        with tempfile.TemporaryDirectory() as name:
            report = export([sample], Path(name), format="voc")
            if report.num_left_out:
                assert dict(report.left_out) == {"box too thin for whole pixels": 1}
                assert (sample.target.boxes[:, 2:] - sample.target.boxes[:, :2]).min() < 1
                return
            boxes = read_boxes(Path(name))
        assert np.abs(boxes - sample.target.boxes).max(initial=0) <= 0.5

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            (make_instances(crowd=np.array([False, True])), "crowd region"),
            (make_instances(boxes=make_boxes([3, 2, 11, 8], [5, 5, 5, 9])), "box too thin for whole pixels"),
            (make_instances(boxes=make_boxes([3, 2, 11, 8], [3.6, 5, 4.2, 9])), "box too thin for whole pixels"),
        ],
        ids=["crowd", "no area", "thin"],
    )
    def test_what_voc_cannot_say_leaves_the_image_out(self, tmp_path: Path, target: Instances, reason: str) -> None:
        report = export([make_sample(0, target), make_sample(1, make_instances())], tmp_path, format="voc")
        assert (report.num_written, dict(report.left_out)) == (1, {reason: 1})
        assert not any(make_name(0) in file for file in read_tree(tmp_path))
        assert (tmp_path / "ImageSets" / "Main" / "train.txt").read_text() == f"{make_name(1)}\n"

    @pytest.mark.parametrize("name", [" fig", "fig ", "a\nb", "a\x00b", "\ufffe"])
    def test_names_that_xml_does_not_keep_are_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError) as caught:
            export([make_sample(0, make_instances())], tmp_path / "out", format="voc", class_names={7: "x", 2: name})
        assert str(caught.value) == (
            "class_names[2] must have no control characters, and no spaces at its ends, to be written as 'voc', got "
            f"class_names[2]={name!r}. Rename the class."
        )
        assert not (tmp_path / "out").exists()


class TestMasks:
    def test_classes_and_objects(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances())], tmp_path, format="voc")
        masks = make_instances().masks
        assert masks is not None
        np.testing.assert_array_equal(read_ids(tmp_path, "SegmentationClass"), masks[0] * 2 + masks[1] * 1)
        np.testing.assert_array_equal(read_ids(tmp_path, "SegmentationObject"), masks[0] * 1 + masks[1] * 2)
        assert (tmp_path / "ImageSets" / "Segmentation" / "train.txt").read_text() == f"{make_name(0)}\n"

    def test_the_palette_is_that_of_voc(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances())], tmp_path, format="voc")
        with PIL.Image.open(tmp_path / "SegmentationClass" / f"{make_name(0)}.png") as image:
            assert image.mode == "P"
            palette = np.array(image.getpalette()).reshape(-1, 3)
        assert palette[[0, 1, 2, 3, 8, 15, 20]].tolist() == [
            [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [64, 0, 0], [192, 128, 128], [0, 64, 128],
        ]  # fmt: skip
        assert palette[255].tolist() == [224, 224, 192]

    @pytest.mark.parametrize(("class_ids", "shared"), [([7, 2], 255), ([7, 7], 2)])
    def test_overlaps_count_for_nothing_where_they_are_of_two_numbers(
        self, tmp_path: Path, class_ids: list[int], shared: int
    ) -> None:
        masks = np.zeros((2, 24, 32), np.bool_)
        masks[0, 2:8, 3:11] = masks[1, 5:12, 6:20] = True
        export([make_sample(0, make_instances(masks=masks, class_ids=np.array(class_ids)))], tmp_path, format="voc")
        both = masks[0] & masks[1]
        assert set(read_ids(tmp_path, "SegmentationClass")[both].tolist()) == {shared}
        assert set(read_ids(tmp_path, "SegmentationObject")[both].tolist()) == {255}
        assert set(read_ids(tmp_path, "SegmentationObject")[masks[0] & ~both].tolist()) == {1}

    def test_hundreds_of_objects(self, tmp_path: Path) -> None:
        masks = np.eye(400, dtype=np.bool_).reshape(400, 20, 20)
        rows, columns = np.divmod(np.arange(400), 20)
        boxes = np.stack([columns, rows, columns + 1, rows + 1], axis=1).astype(np.float32)
        sample = make_sample(0, Instances(np.full(400, 7), boxes, masks), size_hw=(20, 20))
        export([sample], tmp_path, format="voc")
        np.testing.assert_array_equal(read_ids(tmp_path, "SegmentationObject"), np.arange(1, 401).reshape(20, 20))
        np.testing.assert_array_equal(read_boxes(tmp_path), boxes)

    @pytest.mark.parametrize("masks", [True, False])
    def test_an_image_without_objects_has_masks_where_others_have(self, tmp_path: Path, masks: bool) -> None:
        full = make_instances() if masks else make_instances(masks=None)
        export([make_sample(0, make_no_instances()), make_sample(1, full)], tmp_path, format="voc")
        assert (tmp_path / "ImageSets" / "Main" / "train.txt").read_text().split() == [make_name(0), make_name(1)]
        assert read_xml(tmp_path).findtext("segmented") == str(int(masks))
        assert read_xml(tmp_path).findall("object") == []
        assert (tmp_path / "SegmentationClass" / f"{make_name(0)}.png").exists() == masks
        assert (tmp_path / "ImageSets" / "Segmentation").exists() == masks
        if masks:
            assert not read_ids(tmp_path, "SegmentationObject").any()

    def test_more_classes_than_a_palette_has(self, tmp_path: Path) -> None:
        names = {class_id: f"class {class_id}" for class_id in range(255)}
        export([make_sample(0, make_instances(masks=None))], tmp_path / "boxes", format="voc", class_names=names)
        with pytest.raises(
            ValueError, match=r"^class_names must have at most 254 classes for the masks of 'voc', got "
        ):
            export([make_sample(0, make_instances())], tmp_path / "masks", format="voc", class_names=names)


class TestReaders:
    def export(self, tmp_path: Path) -> Path:
        folder = tmp_path / "VOCdevkit" / "VOC2012"
        samples = [make_sample(0, make_instances()), make_sample(1, make_no_instances())]
        export(samples, folder, format="voc", image_format="jpeg")
        return folder

    def test_torchvision_reads_boxes(self, tmp_path: Path) -> None:
        self.export(tmp_path)
        dataset = VOCDetection(tmp_path, image_set="train")
        assert len(dataset) == 2
        image, target = dataset[0]
        assert image.size == (32, 24)
        objects: list[dict[str, Any]] = target["annotation"]["object"]
        assert [thing["name"] for thing in objects] == ["Größe", "fig & date"]
        assert objects[1]["bndbox"] == {"xmin": "13", "ymin": "11", "xmax": "30", "ymax": "20"}
        assert dataset[1][1]["annotation"]["object"] == []

    def test_torchvision_reads_masks(self, tmp_path: Path) -> None:
        self.export(tmp_path)
        dataset = VOCSegmentation(tmp_path, image_set="train")
        assert [np.unique(np.array(mask)).tolist() for _, mask in dataset] == [[0, 1, 2], [0]]  # type: ignore[attr-defined]
