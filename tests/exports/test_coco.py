from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from torchvision.datasets import CocoDetection

from synthloader.adapters import CocoDataset, DetectionAdapter
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.exports.samples import (
    CLASS_NAMES,
    draw_instances,
    export,
    make_boxes,
    make_instances,
    make_no_instances,
    make_sample,
    name_samples,
)


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "annotations.json").read_bytes())


def load(folder: Path) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(folder / "annotations.json")


def read_back(folder: Path) -> list[Sample]:
    dataset = CocoDataset(folder / "images", folder / "annotations.json")
    adapter = DetectionAdapter().complete([dataset[place] for place in range(len(dataset))])
    return [adapter.to_sample(dataset[place], index=place) for place in range(len(dataset))]


def assert_equal(ours: Sample, theirs: Sample) -> None:
    assert isinstance(ours.target, Instances)
    assert isinstance(theirs.target, Instances)
    np.testing.assert_array_equal(ours.image, theirs.image)
    np.testing.assert_array_equal(ours.target.boxes, theirs.target.boxes)
    np.testing.assert_array_equal(ours.target.class_ids, theirs.target.class_ids)
    np.testing.assert_array_equal(ours.target.crowd, theirs.target.crowd)  # type: ignore[arg-type]
    if ours.target.masks is not None and len(ours.target):
        np.testing.assert_array_equal(ours.target.masks, theirs.target.masks)  # type: ignore[arg-type]


class TestAnnotations:
    def test_what_an_annotation_says(self, tmp_path: Path) -> None:
        report = export(
            [make_sample(0, make_no_instances()), make_sample(1, make_instances())], tmp_path, format="coco"
        )
        assert (report.num_written, report.num_left_out) == (2, 0)
        content = read(tmp_path)
        assert content["categories"] == [
            {"id": 2, "name": "fig & date", "supercategory": ""},
            {"id": 7, "name": "Größe", "supercategory": ""},
            {"id": 40, "name": "a: yes", "supercategory": ""},
        ]
        (name, _), (other, _) = name_samples([make_sample(0, None)] * 2)
        assert content["images"] == [
            {"id": 1, "file_name": f"{name}.png", "width": 32, "height": 24},
            {"id": 2, "file_name": f"{other}.png", "width": 32, "height": 24},
        ]
        first, second = content["annotations"]
        assert first.pop("segmentation")["size"] == [24, 32]
        assert first == {
            "id": 1, "image_id": 2, "category_id": 7, "bbox": [3.0, 2.0, 8.0, 6.0], "area": 48.0, "iscrowd": 0,
            "attributes": {"occluded": True, "shade": 0.25},
        }  # fmt: skip
        assert (second["id"], second["image_id"], second["attributes"]) == (2, 2, {"occluded": False})

    def test_boxes_keep_every_digit(self, tmp_path: Path) -> None:
        boxes = make_boxes([0.1, 0.2, 0.3, 23.999998], [1e-7, 1.1, 31.999998, 2.2], [5, 5, 5, 5])
        target = Instances(np.array([2, 2, 7]), boxes)
        export([make_sample(0, target)], tmp_path, format="coco")
        bbox = np.array([annotation["bbox"] for annotation in read(tmp_path)["annotations"]])
        assert (bbox[:, :2].astype(np.float32) == boxes[:, :2]).all()
        assert ((bbox[:, :2] + bbox[:, 2:]).astype(np.float32) == boxes[:, 2:]).all()

    def test_without_masks_the_area_is_that_of_the_box(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances(masks=None))], tmp_path, format="coco")
        assert [(entry["area"], entry["segmentation"]) for entry in read(tmp_path)["annotations"]] == [
            (48, []),
            (180, []),
        ]

    def test_boxes_without_area_and_masks_without_pixels_are_kept(self, tmp_path: Path) -> None:
        target = make_instances(masks=np.zeros((2, 24, 32), np.bool_), boxes=make_boxes([0, 0, 0, 5], [32, 24, 32, 24]))
        export([make_sample(0, target)], tmp_path, format="coco")
        annotations = read(tmp_path)["annotations"]
        assert [entry["bbox"] for entry in annotations] == [[0, 0, 0, 5], [32, 24, 0, 0]]
        assert [entry["area"] for entry in annotations] == [0, 0]
        assert not load(tmp_path).annToMask(annotations[0]).any()

    def test_crowds(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances(crowd=np.array([False, True])))], tmp_path, format="coco")
        assert [entry["iscrowd"] for entry in read(tmp_path)["annotations"]] == [0, 1]
        ((sample,), coco) = read_back(tmp_path), load(tmp_path)
        assert_equal(make_sample(0, make_instances(crowd=np.array([False, True]))), sample)
        assert len(coco.getAnnIds(iscrowd=True)) == 1

    def test_keypoints(self, tmp_path: Path) -> None:
        points = np.array([[[1.1, 2, 2], [3, 4, 0]], [[5, 6, 1], [0, 0, 0]]], np.float32)
        export([make_sample(0, make_instances(keypoints=points))], tmp_path, format="coco")
        annotations = read(tmp_path)["annotations"]
        assert annotations[0]["keypoints"] == [float(np.float32(1.1)), 2, 2, 3, 4, 0]
        assert [type(number) for number in annotations[0]["keypoints"][2::3]] == [int, int]
        assert [entry["num_keypoints"] for entry in annotations] == [1, 1]
        (sample,) = read_back(tmp_path)
        np.testing.assert_array_equal(sample.target.keypoints, points)  # type: ignore[union-attr, arg-type]

    def test_a_keypoint_that_is_no_number_is_refused(self, tmp_path: Path) -> None:
        points = np.zeros((2, 1, 3), np.float32)
        points[1, 0, 0] = np.nan
        (name, sample), *_ = name_samples([make_sample(0, make_instances(keypoints=points))])
        with pytest.raises(ValueError) as caught:
            export([sample], tmp_path / "out", format="coco")
        assert str(caught.value) == (
            f"keypoints[1] of sample {name!r} must be finite, got keypoints[1] of sample {name!r}=[[nan, 0.0, 0.0]]. A "
            "point that is not labelled is 0, 0, 0."
        )
        assert not (tmp_path / "out").exists()

    def test_only_what_json_holds_rides_along(self, tmp_path: Path) -> None:
        attributes = {
            "track": np.array([3, 2**60]), "name": np.array(["ä", ""]), "row": np.array([[1.5, np.inf], [2, 3]]),
            "depth": np.array([np.inf, 0.1], np.float32), "crop": np.zeros((2, 4, 4)), "when": np.array([0, 1], "M8[s]"),
            "native.boxes": np.zeros((2, 4)), "annotation": np.array(["{}", "{}"]), "area": np.array([1.0, 2.0]),
            "id": np.array([8, 9]), "kind": np.array([b"x", b"y"]),
        }  # fmt: skip
        export([make_sample(0, make_instances(attributes=attributes))], tmp_path, format="coco")
        assert [entry["attributes"] for entry in read(tmp_path)["annotations"]] == [
            {"track": 3, "name": "ä", "row": [1.5, None], "id": 8},
            {"track": 2**60, "name": "", "row": [2, 3], "depth": float(np.float32(0.1)), "id": 9},
        ]

    def test_metadata_are_fields_of_the_image(self, tmp_path: Path) -> None:
        metadata = {"weather": "fog", "exposure": np.float32(0.5), "broken": np.nan, "id": 70, "night": True}
        export([make_sample(0, make_instances(), metadata=metadata)], tmp_path, format="coco")
        (record,) = read(tmp_path)["images"]
        assert (record["weather"], record["exposure"], record["night"], record["id"]) == ("fog", 0.5, True, 1)
        assert "broken" not in record
        assert read_back(tmp_path)[0].metadata["weather"] == "fog"

    def test_the_file_is_ascii(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances())], tmp_path, format="coco")
        assert (tmp_path / "annotations.json").read_bytes().isascii()


class TestReaders:
    def test_pycocotools_draws_the_same_masks(self, tmp_path: Path) -> None:
        masks = np.zeros((2, 24, 32), np.bool_)
        masks[0, 2:20, 3:30] = True
        masks[0, 5:9, 6:10] = False  # a hole
        masks[1, 0, 0] = masks[1, 23, 31] = True  # two parts
        export([make_sample(0, make_instances(masks=masks))], tmp_path, format="coco")
        coco = load(tmp_path)
        drawn = [coco.annToMask(annotation) for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[1]))]
        np.testing.assert_array_equal(np.array(drawn, np.bool_), masks)

    def test_torchvision_reads_it(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances()), make_sample(1, make_no_instances())], tmp_path, format="coco")
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = CocoDetection(str(tmp_path / "images"), str(tmp_path / "annotations.json"))
        (image, annotations), (_, nothing) = dataset[0], dataset[1]
        np.testing.assert_array_equal(np.array(image), make_sample(0, None).image)
        assert [annotation["category_id"] for annotation in annotations] == [7, 2]
        assert nothing == []

    def test_our_own_dataset_reads_it(self, tmp_path: Path) -> None:
        samples = [make_sample(0, make_instances()), make_sample(1, make_no_instances((9, 8)), size_hw=(9, 8))]
        export(samples, tmp_path, format="coco")
        for ours, theirs in zip(samples, read_back(tmp_path), strict=True):
            assert_equal(ours, theirs)
        dataset = CocoDataset(tmp_path / "images", tmp_path / "annotations.json")
        assert dataset.class_to_idx == {"fig & date": 2, "Größe": 7, "a: yes": 40}
        assert set(CLASS_NAMES) == set(dataset.class_to_idx.values())

    def test_hundreds_of_objects(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        boxes = np.sort(rng.uniform(0, 24, (400, 2, 2)), axis=1).reshape(-1, 4).astype(np.float32)
        sample = make_sample(0, Instances(rng.choice([2, 7], 400), boxes, rng.random((400, 24, 32)) < 0.5))
        export([sample], tmp_path, format="coco")
        assert_equal(sample, read_back(tmp_path)[0])

    @given(st.lists(draw_instances(whole=True), min_size=1, max_size=3))
    @settings(max_examples=40)
    def test_what_is_read_back_is_what_was_written(self, samples: list[Sample]) -> None:
        # Boxes that all lie within one pixel of the corner are taken for normalised ones.
        assume(all(not len(each.target) or each.target.boxes.max() > 1 for each in samples))  # type: ignore[union-attr, arg-type]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            export(samples, folder, format="coco")
            for ours, theirs in zip(samples, read_back(folder), strict=True):
                assert_equal(ours, theirs)
                assert isinstance(ours.target, Instances)
                assert isinstance(theirs.target, Instances)
                if len(ours.target):
                    for field in ("shade", "name"):
                        assert theirs.target.attributes[field].tolist() == ours.target.attributes[field].tolist()

    @given(draw_instances(with_masks=False))
    @settings(max_examples=60)
    def test_boxes_of_any_numbers_come_back_exactly(self, sample: Sample) -> None:
        assert isinstance(sample.target, Instances)
        with tempfile.TemporaryDirectory() as name:
            export([sample], Path(name), format="coco")
            _, target = CocoDataset(Path(name) / "images", Path(name) / "annotations.json")[0]
        np.testing.assert_array_equal(target["boxes"].numpy(), sample.target.boxes)
