"""Tiles among Ultralytics' rectangles, and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from synthloader.adapters.ultralytics import synth_trainer
from synthloader.epoch_index import EpochIndex
from synthloader.generators.tile import Tile
from synthloader.polygons import is_one_polygon
from tests.trainers.ultralytics.runs import build_dataset, get_trainer, write_data


def test_tiles_lie_in_the_rectangle_of_their_own_proportions(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect", 8)
    for number, file in enumerate(sorted((data.parent / "images" / "train").iterdir())):
        image: Any = cv2.imread(str(file))
        cv2.imwrite(str(file), cv2.resize(image, (128, 64) if number % 2 else (64, 128)))
        (data.parent / "labels" / "train" / f"{file.stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    for size_hw, tall in (((60, 30), True), ((30, 60), False)):
        tile = Tile(size_hw=size_hw, drop="instances", keep_empty=True)
        kind = synth_trainer(get_trainer("detect"), ratio=0.5, generator=tile)
        dataset: Any = build_dataset(kind, "detect", tmp_path, data, rect=True, batch=4)
        assert sorted(dataset.order.tolist()) == list(range(12))
        for epoch in range(2):
            for at in range(8, 12):
                height, width = dataset.batch_shapes[dataset.batch[at]]
                assert (height > width) == tall
                item = dataset[EpochIndex(at, epoch=epoch)]
                assert tuple(item["ori_shape"]) == size_hw
                assert list(item["img"].shape[1:]) == [height, width]


def test_masks_of_tiles_are_single_polygons(tmp_path: Path) -> None:
    data = write_data(tmp_path, "segment", 8)
    kind = synth_trainer(get_trainer("segment"), ratio=1.0, generator=Tile(size_hw=48, min_side=2, min_area=4))
    dataset: Any = build_dataset(kind, "segment", tmp_path, data)
    made = [dataset.mix.load(at, 0).sample for at in range(8, 16)]
    made = [sample for sample in made if sample is not None]
    assert len(made) > 4
    for sample in made:
        assert sample.size_hw == (48, 48)
        assert all(map(is_one_polygon, sample.target.masks))
        assert np.array_equal(sample.target.boxes[:, 2:] > sample.target.boxes[:, :2], np.ones((len(sample.target), 2)))
