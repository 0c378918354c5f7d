"""Photographs: dried fruit with pasted objects and polygons, blood cells with colours transferred."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from synthloader import ColorTransfer, CopyPaste, LMDBCache
from synthloader.adapters.ultralytics import synth_trainer
from tests.trainers.ultralytics.runs import PLAIN, get_trainer, list_rows, paint_ids, train


def write_split(folder: Path, images: Path, annotations: Path, count: int, *, polygons: bool) -> Path:
    """A COCO data set as a YOLO one; objects of several polygons are left out."""
    content = json.loads(annotations.read_text())
    classes = {record["id"]: place for place, record in enumerate(content["categories"])}
    rows = defaultdict(list)
    for annotation in content["annotations"]:
        rows[annotation["image_id"]].append(annotation)
    for split, records in (("train", content["images"][:count]), ("val", content["images"][-2:])):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for record in records:
            width, height = record["width"], record["height"]
            (folder / "images" / split / Path(record["file_name"]).name).symlink_to(images / record["file_name"])
            lines = []
            for annotation in rows[record["id"]]:
                x, y, w, h = annotation["bbox"]
                numbers = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
                if polygons:
                    if len(annotation["segmentation"]) > 1:
                        continue
                    numbers = (
                        (np.reshape(annotation["segmentation"][0], (-1, 2)) / [width, height]).reshape(-1).tolist()
                    )
                if min(numbers) >= 0 and (polygons or min(numbers[2:]) > 0):
                    lines.append(" ".join(map(str, [classes[annotation["category_id"]], *numbers])))
            name = Path(record["file_name"]).with_suffix(".txt").name
            (folder / "labels" / split / name).write_text("\n".join(lines))
    names = {place: record["name"] for place, record in enumerate(content["categories"])}
    (folder / "data.yaml").write_text(
        yaml.safe_dump({"path": str(folder), "train": "images/train", "val": "images/val", "names": names})
    )
    return folder / "data.yaml"


def test_dried_fruit_is_pasted_and_polygons_are_those_of_the_sample(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "dried_fruit_instances"
    data = write_split(tmp_path / "fruit", root, root / "coco" / "instances_train.json", 6, polygons=True)
    kind = synth_trainer(get_trainer("segment"), ratio=1.0, generator=CopyPaste(), mark="made", seed=1)
    trainer = train(kind, "segment", tmp_path, data, imgsz=320, mask_ratio=1, fliplr=0.0, batch=3, **PLAIN)
    marks = [float(mark) for _, batch in trainer.seen for mark in batch["made"]]
    assert (len(marks), sum(marks)) == (12, 6)
    mix = trainer.mix
    samples = {mix.load(at, 0).sample.origin.source: mix.load(at, 0).sample for at in range(6, 12)}
    root_folder = tmp_path / "fruit"
    num_checked = 0
    for _, batch in trainer.seen:
        for at, mark in enumerate(batch["made"].tolist()):
            if not mark:
                continue
            sample = samples[Path(batch["im_file"][at]).relative_to(root_folder).as_posix()]
            # What was pasted is there, and under the mask of its class: compare with the sample's own masks, resized.
            height, width = 240, 320
            wanted = np.zeros((height, width), np.int64)
            order = np.argsort([-mask.sum() for mask in sample.target.masks])
            for row in order:
                small = cv2.resize(
                    sample.target.masks[row].astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA
                )
                wanted[small > 0] = int(sample.target.class_ids[row]) + 1
            ids = paint_ids(batch, at)
            top = (ids.shape[0] - height) // 2
            assert (ids[:top] == 0).all()
            assert (ids[top : top + height] != wanted).mean() < 0.02
            assert len(list_rows(batch, at)[1]) == len(sample.target)
            num_checked += 1
    assert num_checked == 6


def test_blood_cells_get_other_colours_and_keep_their_boxes(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "bccd_blood_cells"
    data = write_split(
        tmp_path / "cells", root / "JPEGImages", root / "coco" / "instances_train.json", 8, polygons=False
    )
    cache = LMDBCache(tmp_path / "cache")
    kind = synth_trainer(
        get_trainer("detect"), ratio=0.5, generator=ColorTransfer(), cache=cache, variants=2, mark="made"
    )
    trainer = train(kind, "detect", tmp_path, data, imgsz=160, epochs=2, fliplr=0.0, **PLAIN)
    found: dict[str, dict[float, Any]] = defaultdict(dict)
    for _, batch in trainer.seen:
        for at, mark in enumerate(batch["made"].tolist()):
            boxes, class_ids = list_rows(batch, at)
            found[batch["im_file"][at]][mark] = (batch["img"][at], boxes, class_ids)
    assert sum(1.0 in pair for pair in found.values()) >= 4
    for pair in found.values():
        if 1.0 in pair:
            np.testing.assert_allclose(pair[1.0][1], pair[0.0][1], atol=1e-5)
            assert pair[1.0][2].tolist() == pair[0.0][2].tolist()
            assert not torch.equal(pair[1.0][0], pair[0.0][0])
    report = trainer.mix.report()
    assert (report.real, report.generated) == (16, 8)
    cache.close()


@pytest.mark.slow
def test_a_longer_run_on_fruit_with_every_mixture(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "dried_fruit_instances"
    data = write_split(tmp_path / "fruit", root, root / "coco" / "instances_train.json", 10, polygons=True)
    kind = synth_trainer(get_trainer("segment"), ratio=0.5, generator=CopyPaste(), mark="made")
    changes = {"mosaic": 1.0, "mixup": 0.5, "cutmix": 0.5, "copy_paste": 0.5, "close_mosaic": 1}
    trainer = train(kind, "segment", tmp_path, data, imgsz=160, epochs=3, **changes)
    assert len([mark for _, batch in trainer.seen for mark in batch["made"]]) == 45
    report = trainer.mix.report()
    assert report.real + report.generated == 45
    assert report.sets["generated"].asked == 15
    assert all(torch.isfinite(batch["bboxes"]).all() for _, batch in trainer.seen)
