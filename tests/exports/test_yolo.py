from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings

from synthloader.exports import ExportReport
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.exports.samples import (
    CLASS_NAMES,
    draw_instances,
    export,
    make_boxes,
    make_instances,
    make_name,
    make_no_instances,
    make_sample,
    read_tree,
)


def read_labels(folder: Path, number: int = 0) -> list[list[float]]:
    lines = (folder / "labels" / "train" / f"{make_name(number)}.txt").read_text().splitlines()
    return [[float(number) for number in line.split()] for line in lines]


def read_boxes(rows: list[list[float]], size_hw: tuple[int, int]) -> np.ndarray:
    """As readers do: centre and size in single precision to corners in pixels."""
    numbers = np.array(rows, np.float32).reshape(-1, 5)[:, 1:] * np.float32([*size_hw[::-1], *size_hw[::-1]])
    return np.concatenate([numbers[:, :2] - numbers[:, 2:] / 2, numbers[:, :2] + numbers[:, 2:] / 2], axis=1)


def list_kinds(folder: Path) -> set[str]:
    return {Path(file).parts[0] for file in read_tree(folder)}


class TestFolder:
    def test_images_labels_and_data(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances()), make_sample(1, make_instances())], tmp_path, format="yolo-detect")
        assert list(read_tree(tmp_path)) == sorted(
            [
                "data.yaml",
                "export.json",
                "provenance.jsonl",
                *(f"images/train/{make_name(number)}.png" for number in (0, 1)),
                *(f"labels/train/{make_name(number)}.txt" for number in (0, 1)),
            ]
        )

    def test_classes_are_counted_in_the_order_of_their_ids(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances())], tmp_path, format="yolo-detect")
        assert yaml.safe_load((tmp_path / "data.yaml").read_text(encoding="utf-8")) == {
            "train": "images/train",
            "val": "images/train",
            "nc": 3,
            "names": {0: "fig & date", 1: "Größe", 2: "a: yes"},
            "class_ids": {0: 2, 1: 7, 2: 40},
        }
        assert [row[0] for row in read_labels(tmp_path)] == [1, 0]

    @pytest.mark.parametrize("format", ["yolo-detect", "yolo-segment"])
    @pytest.mark.parametrize("with_masks", [True, False])
    def test_an_image_without_objects_has_an_empty_file(self, tmp_path: Path, format: str, with_masks: bool) -> None:
        export([make_sample(0, make_no_instances(with_masks=with_masks))], tmp_path, format=format)
        assert read_labels(tmp_path) == []


def assert_left_out(report: ExportReport, folder: Path, reason: str) -> None:
    """The first of two samples is not there, image and all."""
    assert (report.num_written, dict(report.left_out)) == (1, {reason: 1})
    files = read_tree(folder)
    assert not any(make_name(0) in file for file in files)
    assert f"labels/train/{make_name(1)}.txt" in files
    assert make_name(0).encode() not in files["provenance.jsonl"]


class TestDetect:
    def test_boxes_are_centre_and_size(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances())], tmp_path, format="yolo-detect")
        assert read_labels(tmp_path)[0] == pytest.approx([1, 7 / 32, 5 / 24, 8 / 32, 6 / 24], abs=1e-12)

    @given(draw_instances(with_masks=False))
    @settings(max_examples=80)
    def test_boxes_come_back(self, sample: Sample) -> None:
        assert isinstance(sample.target, Instances)
        with tempfile.TemporaryDirectory() as name:
            report = export([sample], Path(name), format="yolo-detect")
            if report.num_left_out:
                assert (sample.target.boxes[:, 2:] - sample.target.boxes[:, :2]).min() < 1e-9
                return
            rows = read_labels(Path(name))
        assert np.abs(read_boxes(rows, sample.size_hw) - sample.target.boxes).max(initial=0) < 0.01
        places = sorted(CLASS_NAMES)
        assert [places[int(row[0])] for row in rows] == sample.target.class_ids.tolist()
        assert all(0 <= number <= 1 for row in rows for number in row[1:])

    def test_boxes_of_large_images_come_back(self, tmp_path: Path) -> None:
        boxes = make_boxes([0.1, 1.7, 9999.875, 2.3], [9998.5, 0, 9999.25, 4])
        sample = make_sample(0, Instances(np.array([2, 7]), boxes), size_hw=(4, 10000))
        export([sample], tmp_path, format="yolo-detect")
        assert np.abs(read_boxes(read_labels(tmp_path), (4, 10000)) - boxes).max() < 0.01

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            (make_instances(crowd=np.array([False, True])), "crowd region"),
            (make_instances(boxes=make_boxes([0, 0, 5, 5], [4, 4, 4, 9])), "box without area"),
        ],
        ids=["crowd", "no area"],
    )
    def test_what_a_box_cannot_say_leaves_the_image_out(self, tmp_path: Path, target: Instances, reason: str) -> None:
        report = export([make_sample(0, target), make_sample(1, make_instances())], tmp_path, format="yolo-detect")
        assert_left_out(report, tmp_path, reason)


class TestSegment:
    def test_polygons_draw_the_masks_again(self, tmp_path: Path) -> None:
        masks = np.zeros((2, 60, 80), np.uint8)
        cv2.ellipse(masks[0], (30, 30), (20, 9), 30, 0, 360, (1,), -1)
        cv2.circle(masks[1], (78, 50), 14, (1,), -1)
        sample = make_sample(0, make_instances(masks=masks.astype(np.bool_)), size_hw=(60, 80))
        export([sample], tmp_path, format="yolo-segment")
        for row, mask, place in zip(read_labels(tmp_path), masks, (1, 0), strict=True):
            assert row[0] == place
            points = np.array(row[1:], np.float32).reshape(-1, 2) * np.float32([80, 60])
            drawn = np.zeros((60, 80), np.uint8)
            cv2.fillPoly(drawn, [points.astype(np.int32)], (1,))
            np.testing.assert_array_equal(drawn, mask)

    def test_one_bad_object_leaves_the_image_out(self, tmp_path: Path) -> None:
        masks = np.copy(make_instances().masks)  # type: ignore[arg-type]
        masks[1, 12:14, 14:16] = False
        samples = [make_sample(0, make_instances(masks=masks)), make_sample(1, make_instances())]
        assert_left_out(export(samples, tmp_path, format="yolo-segment"), tmp_path, "object with holes")

    def test_crowds_leave_the_image_out(self, tmp_path: Path) -> None:
        samples = [make_sample(0, make_instances(crowd=np.array([True, False]))), make_sample(1, make_instances())]
        assert_left_out(export(samples, tmp_path, format="yolo-segment"), tmp_path, "crowd region")

    def test_objects_without_masks_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError) as caught:
            export([make_sample(0, make_instances(masks=None))], tmp_path / "out", format="yolo-segment")
        name = f"the masks of sample {make_name(0)!r}"
        assert str(caught.value) == (
            f"{name} must be there to be exported as 'yolo-segment', got {name}=None. Formats for objects without masks: "
            "'coco', 'yolo-detect', 'voc', 'webdataset'."
        )
        assert not (tmp_path / "out").exists()
