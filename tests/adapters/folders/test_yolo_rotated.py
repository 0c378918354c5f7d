"""Rotated boxes of YOLO items after pastes and tiles: around what is visible of each object, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from torch.utils.data import Subset

from synthloader import CopyPaste, GeneratedDataset, MixedDataset, ShortfallError, Tile
from synthloader.adapters.folders.yolo import YoloDataset


@pytest.fixture
def rotated(tmp_path: Path) -> YoloDataset:
    """Six pictures with three turned rectangles each."""
    rng = np.random.Generator(np.random.Philox(key=3))
    for number in range(6):
        image = np.full((160, 200, 3), 40 + 10 * number, np.uint8)
        lines = []
        for at in range(3):
            centre = (40 + 60 * at, 80 + float(rng.uniform(-30, 30)))
            corners = cv2.boxPoints((centre, (50, 22), float(rng.uniform(0, 180))))
            cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], (200, 60 * at, 90))
            lines.append(f"{at} " + " ".join(f"{x / 200:.6f} {y / 160:.6f}" for x, y in corners))
        for folder, name in (("images", f"{number}.png"), ("labels", f"{number}.txt")):
            (tmp_path / folder).mkdir(exist_ok=True)
            if folder == "images":
                cv2.imwrite(str(tmp_path / folder / name), image)
            else:
                (tmp_path / folder / name).write_text("\n".join(lines))
    return YoloDataset(
        images=str(tmp_path / "images"), labels=str(tmp_path / "labels"), names=["a", "b", "c"], task="obb"
    )


def check(item: Any) -> int:
    """Compare the corners of every object with its mask; how many objects."""
    target = item[1]
    for corners, mask in zip(target["keypoints"].numpy(), target["masks"].numpy(), strict=True):
        assert (corners[:, 2] == 2).all()
        height, width = mask.shape
        around = np.zeros((height + 400, width + 400), np.uint8)  # Corners may lie outside of the image.
        cv2.fillPoly(around, [np.rint(corners[:, :2] + 200).astype(np.int32)], 1)
        around = cv2.dilate(around, np.ones((5, 5), np.uint8))[200 : 200 + height, 200 : 200 + width]
        outside = mask.astype(bool) & ~around.astype(bool)
        assert not outside.any(), f"{outside.sum()} visible pixels lie outside of the box."
        y, x = np.nonzero(mask)
        _, (side, other), _ = cv2.minAreaRect(np.stack([x, y], axis=1).astype(np.float32))
        assert cv2.contourArea(np.ascontiguousarray(corners[:, :2])) <= 1.1 * (side + 2) * (other + 2) + 4, (
            "The box is not the smallest."
        )
    return len(target["masks"])


@pytest.mark.parametrize("whole", [True, False])
def test_corners_follow_pastes(rotated: YoloDataset, whole: bool) -> None:
    real: Any = rotated if whole else Subset(rotated, range(4))
    generated = GeneratedDataset(real, CopyPaste(num_range=(3, 3)), variants=4)
    mixed = MixedDataset(real, generated, ratio=2.0)
    assert sum(check(mixed[index]) for index in range(len(real), len(mixed))) > 6 * 4


def test_corners_follow_tiles(rotated: YoloDataset) -> None:
    generated = GeneratedDataset(rotated, Tile(size_hw=(110, 120)), variants=2)
    made = 0
    for index in range(len(generated)):
        try:
            made += check(generated[index])
        except ShortfallError:
            continue
    assert made > 4


def test_what_was_not_touched_keeps_its_corners(rotated: YoloDataset) -> None:
    generated = GeneratedDataset(rotated, CopyPaste(num_range=(1, 1), placement="non_overlapping", max_tries=50))
    for index in range(3):
        before = rotated[index][1]["keypoints"]
        assert np.allclose(generated[index][1]["keypoints"][:3].numpy(), before.numpy(), atol=1e-4)
