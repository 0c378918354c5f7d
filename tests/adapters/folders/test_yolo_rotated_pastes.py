"""Corners of rotated boxes after pastes: exact where nothing is covered, and without what is wholly covered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader import CopyPaste, GeneratedDataset
from synthloader.adapters.folders.yolo_labels import find_quadrilaterals, make_record
from synthloader.generators.pasting.cut_out import MASK_IS_BOX
from synthloader.sources import Source
from synthloader.targets import Instances
from tests.generators.pasting.rotated_scenes import check_rotated_box, draw_scene, make_scene

SIZE_HW = (100, 140)
SHAPE = ((70.0, 50.0), (60.0, 24.0), 30.0)


def label(covered: np.ndarray, *, is_box: bool = True, shape: Any = SHAPE) -> Instances:
    """A rotated box, of which some is covered."""
    corners = cv2.boxPoints(shape)
    mask = np.zeros(SIZE_HW, np.uint8)
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1)
    points = np.concatenate([corners, np.full((4, 1), 2)], axis=1)[None].astype(np.float32)
    box = np.array([[*corners.min(axis=0), *corners.max(axis=0)]], np.float32)
    attributes = {MASK_IS_BOX: np.array([is_box])}
    return Instances(np.array([0]), box, (mask.astype(bool) & ~covered)[None], points, attributes=attributes)


def measure(shape: Any, size_hw: tuple[int, int] = SIZE_HW) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel lies along and across a rotated box, from its middle."""
    (x, y), _, degrees = shape
    angle = np.deg2rad(degrees)
    columns, rows = np.meshgrid(np.arange(size_hw[1]) + 0.5 - x, np.arange(size_hw[0]) + 0.5 - y)
    return columns * np.cos(angle) + rows * np.sin(angle), -columns * np.sin(angle) + rows * np.cos(angle)


def find(instances: Instances) -> np.ndarray:
    assert instances.masks is not None
    (corners,) = find_quadrilaterals(instances, list(instances.masks))
    return np.asarray(corners)


def order(corners: np.ndarray) -> np.ndarray:
    return corners[np.lexsort(corners.T)]


def test_a_covered_corner_or_middle_leaves_the_corners_as_they_are() -> None:
    along, across = measure(SHAPE)
    for covered in (
        (along > 10) & (across > 2),
        (np.abs(along) < 12) & (across > -2),
        (np.abs(along) < 8),
        (np.abs(along) < 20) & (np.abs(across) < 6),
    ):
        assert np.array_equal(find(label(covered)), cv2.boxPoints(SHAPE).astype(np.float64))


@pytest.mark.parametrize("side", ["end", "start", "above", "both"])
def test_sides_that_are_wholly_covered_are_cut_off_and_the_box_stays_turned(side: str) -> None:
    along, across = measure(SHAPE)
    covered, wanted = {
        "end": (along > 18, (-30, 18, -12, 12)),
        "start": (along < -18, (-18, 30, -12, 12)),
        "above": (across < -6, (-30, 30, -6, 12)),
        "both": ((along > 18) | (across < -6), (-30, 18, -6, 12)),
    }[side]
    angle = np.deg2rad(SHAPE[2])
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = (find(label(covered)) - SHAPE[0]) @ axes.T
    found = (moved[:, 0].min(), moved[:, 0].max(), moved[:, 1].min(), moved[:, 1].max())
    assert np.abs(np.subtract(found, wanted)).max() < 1.3
    sides = np.linalg.norm(np.roll(moved, -1, axis=0) - moved, axis=1)
    assert np.allclose(sides[:2], sides[2:])


def test_a_box_that_leaves_the_image_keeps_the_corners_outside() -> None:
    shape = ((10.0, 50.0), (60.0, 24.0), 30.0)
    along, across = measure(shape)
    corners = cv2.boxPoints(shape)
    assert corners.min() < 0
    assert np.array_equal(find(label((across > 0) & (along > 10), shape=shape)), corners.astype(np.float64))


def test_an_outline_gets_the_smallest_box_as_before() -> None:
    along, across = measure(SHAPE)
    covered = (along > 10) & (across > 2)
    instances = label(covered, is_box=False)
    assert instances.masks is not None
    rows, columns = np.nonzero(instances.masks[0])
    pixels = np.concatenate([np.stack([columns + x, rows + y], axis=1) for x in (0, 1) for y in (0, 1)])
    wanted = cv2.boxPoints(cv2.minAreaRect(cv2.convexHull(pixels.astype(np.float32))))
    assert np.allclose(order(find(instances)), order(wanted), atol=1e-3)


def test_four_corners_that_are_no_rectangle_get_the_smallest_box_around_the_rest() -> None:
    instances = label(np.zeros(SIZE_HW, bool))
    corners = np.array([[40, 20], [110, 30], [90, 70], [50, 60]], np.float32)
    mask = np.zeros(SIZE_HW, np.uint8)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
    mask[:, 80:] = 0
    points = np.concatenate([corners, np.full((4, 1), 2)], axis=1)[None].astype(np.float32)
    found = find(instances.replace(masks=mask[None].astype(bool), keypoints=points))
    assert found[:, 0].max() < 95


@pytest.mark.parametrize("kind", ["drawn", pytest.param("fruit", marks=pytest.mark.slow)])
def test_items_and_label_files_say_the_same_of_real_and_of_pasted_objects(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    scene = make_scene(kind, tmp_path / "data", request, count=4)
    generated = GeneratedDataset(scene.dataset, CopyPaste(num_range=(2, 5)), variants=3)
    untouched = partly = pasted = 0
    for at in range(len(generated)):
        sample, (_, target) = generated.sample(at), generated[at]
        truth: Any = sample.target
        real = scene.dataset[at // 3][1]["keypoints"].numpy()
        written = make_record(truth, size_hw=sample.size_hw, task="obb").segments or []
        height, width = sample.size_hw
        corners = target["keypoints"].numpy()
        assert (corners[..., 2] == 2).all()
        for row, (points, segment) in enumerate(zip(corners[..., :2], written, strict=True)):
            if row < len(real) and truth.attributes["visible"][row] == 1:
                assert np.array_equal(corners[row], real[row])
                untouched += 1
            elif row < len(real):
                now, before = (cv2.convexHull(np.ascontiguousarray(each)) for each in (points, real[row, :, :2]))
                assert cv2.contourArea(now) <= cv2.contourArea(before) + 1
                both, _ = cv2.intersectConvexConvex(now, before)
                assert both >= 0.97 * cv2.contourArea(now), "What is left of a box lies in it."
                partly += 1
            else:
                check_rotated_box(points, truth.masks[row])
                pasted += 1
            assert np.abs(segment * [width, height] - points).max() < 0.01, "As Ultralytics gets it."
    assert untouched > 10
    assert partly > 5
    assert pasted > 10


def test_samples_say_that_their_masks_are_boxes(tmp_path: Path) -> None:
    scene = draw_scene(tmp_path)
    source = Source(scene.dataset)
    target: Any = source[0].target
    assert target.attributes[MASK_IS_BOX].tolist() == [True] * 3
    item = scene.dataset[0]
    again = source.adapter.from_sample(source[0], like=item)
    assert list(again[1]) == list(item[1])
