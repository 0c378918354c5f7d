"""What is pasted into rotated boxes of Ultralytics: no object is hidden, and boxes are exact or around the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader import CopyPaste
from synthloader.adapters.ultralytics import synth_trainer
from synthloader.epoch_index import EpochIndex
from synthloader.generators.pasting.cut_out import MASK_IS_BOX
from tests.generators.pasting.rotated_scenes import find_hidden, make_scene
from tests.trainers.ultralytics.runs import PLAIN, build_dataset, get_trainer


@pytest.mark.parametrize("kind", ["drawn", pytest.param("fruit", marks=pytest.mark.slow)])
def test_boxes_of_the_loss_are_exact_where_nothing_is_covered(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    scene = make_scene(kind, tmp_path / "data", request, count=2)
    generator = CopyPaste(num_range=(3, 5), rotation_range=(-90, 90))
    trainer = synth_trainer(get_trainer("obb"), generator=generator, ratio=6.0)
    options: dict[str, Any] = {**PLAIN, "imgsz": 320, "fliplr": 0.0}
    dataset = build_dataset(trainer, "obb", tmp_path, tmp_path / "data/data.yaml", **options)
    num_real = len(scene.masks)
    untouched = pasted = 0
    for at in range(num_real, len(dataset)):
        load = dataset.mix.load(at, 0)
        if load.sample is None:
            continue
        target, picture = load.sample.target, load.place
        shares = find_hidden(scene, picture, target, load.sample.origin.edited)
        assert len(shares) == len(scene.masks[picture])
        assert min(shares) >= 0.2
        real = dataset[EpochIndex(dataset._real_places[picture], epoch=0)]["bboxes"].numpy()
        boxes = dataset[EpochIndex(at, epoch=0)]["bboxes"].numpy()
        assert len(boxes) == len(target)
        for row, (x, y, w, h, angle) in enumerate(boxes):
            if row < len(real) and target.attributes["visible"][row] == 1:
                assert np.allclose(boxes[row], real[row], atol=1e-3)
                untouched += 1
            elif target.attributes[MASK_IS_BOX][row]:
                assert w * h <= 1.01 * real[row, 2] * real[row, 3]
            else:
                check_tight((x, y, w, h, angle), target.masks[row])
                pasted += 1
    assert untouched > 10
    assert pasted > 10


def check_tight(box: tuple[float, ...], mask: np.ndarray) -> None:
    """The visible pixels of an object reach to the sides of its box, and not beyond; sides in shares of a square."""
    x, y, w, h, angle = box
    height, width = mask.shape
    side = max(height, width)
    rows, columns = np.nonzero(mask)
    pixels = np.stack([columns + 0.5 + (side - width) / 2, rows + 0.5 + (side - height) / 2], axis=1) - [
        x * side,
        y * side,
    ]
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for along, extent in zip((pixels @ axes.T).T, (w * side, h * side), strict=True):
        assert np.abs([along.min() + extent / 2, along.max() - extent / 2]).max() < 2.5
