"""Photographs with annotated objects, out and in again through programs of others."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from torchvision.datasets import CocoDetection, VOCDetection

from synthloader.adapters import CocoDataset, DetectionAdapter
from synthloader.exports import export_samples
from synthloader.sample import Sample
from synthloader.targets import Instances


def read_samples(images: Path, annotations: Path) -> tuple[list[tuple[str, Sample]], dict[int, str]]:
    dataset = CocoDataset(images, annotations)
    adapter = DetectionAdapter().complete([dataset[0]])
    samples = [(f"{place:02x}", adapter.to_sample(dataset[place], index=place)) for place in range(len(dataset))]
    return samples, {class_id: name for name, class_id in dataset.class_to_idx.items()}


@pytest.fixture
def fruit(shared_data: Path) -> tuple[list[tuple[str, Sample]], dict[int, str]]:
    folder = shared_data / "dried_fruit_instances"
    return read_samples(folder, folder / "coco" / "instances_test.json")


def test_coco(fruit: tuple[list[tuple[str, Sample]], dict[int, str]], tmp_path: Path) -> None:
    samples, names = fruit
    export_samples(samples, tmp_path, format="coco", class_names=names)
    again, names_again = read_samples(tmp_path / "images", tmp_path / "annotations.json")
    assert names_again == names
    with contextlib.redirect_stdout(io.StringIO()):
        others = CocoDetection(str(tmp_path / "images"), str(tmp_path / "annotations.json"))
    for (_, ours), (_, theirs), (image, told) in zip(samples, again, others, strict=True):  # type: ignore[call-overload]
        assert isinstance(ours.target, Instances)
        assert isinstance(theirs.target, Instances)
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.image, np.array(image))
        np.testing.assert_array_equal(ours.target.boxes, theirs.target.boxes)
        np.testing.assert_array_equal(ours.target.class_ids, theirs.target.class_ids)
        np.testing.assert_array_equal(ours.target.masks, theirs.target.masks)  # type: ignore[arg-type]
        drawn = [others.coco.annToMask(annotation) for annotation in told]
        np.testing.assert_array_equal(np.array(drawn, np.bool_), ours.target.masks)  # type: ignore[arg-type]


def test_voc(fruit: tuple[list[tuple[str, Sample]], dict[int, str]], tmp_path: Path) -> None:
    samples, names = fruit
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    report = export_samples(samples, folder, format="voc", class_names=names, image_format="jpeg")
    assert report.num_written == len(samples)
    for (_, sample), (_, target) in zip(samples, VOCDetection(tmp_path), strict=True):  # type: ignore[call-overload]
        assert isinstance(sample.target, Instances)
        objects = target["annotation"]["object"]
        assert [thing["name"] for thing in objects] == [names[number] for number in sample.target.class_ids.tolist()]
        edges = [[float(thing["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")] for thing in objects]
        assert np.abs(np.array(edges) - [1, 1, 0, 0] - sample.target.boxes).max() <= 0.5


@pytest.mark.parametrize("format", ["yolo-detect", "yolo-segment"])
def test_yolo(fruit: tuple[list[tuple[str, Sample]], dict[int, str]], tmp_path: Path, format: str) -> None:
    samples, names = fruit
    report = export_samples(samples, tmp_path, format=format, class_names=names)
    assert report.num_written + report.num_left_out == len(samples)
    assert report.num_written == len(list((tmp_path / "images" / "train").iterdir())) > 0
    indices: dict[int, int] = yaml.safe_load((tmp_path / "data.yaml").read_text())["class_ids"]
    for name, sample in samples:
        assert isinstance(sample.target, Instances)
        file = tmp_path / "labels" / "train" / f"{name}.txt"
        if not file.exists():
            continue
        rows = [[float(number) for number in line.split()] for line in file.read_text().splitlines()]
        assert [indices[int(row[0])] for row in rows] == sample.target.class_ids.tolist()
        if format == "yolo-detect":
            numbers = np.array(rows)[:, 1:] * np.array([*sample.size_hw[::-1]] * 2)
            corners = np.concatenate([numbers[:, :2] - numbers[:, 2:] / 2, numbers[:, :2] + numbers[:, 2:] / 2], axis=1)
            assert np.abs(corners - sample.target.boxes).max() < 0.01
