"""From instances back to YOLO numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloader.adapters.folders.yolo_labels import YoloRecord, draw_segments, make_record, to_pixels
from synthloader.polygons import NoOutlineError
from synthloader.targets import Instances
from tests.shapes import SIZE_HW, draw_numbered

HEIGHT, WIDTH = 40, 60
SIZE = np.array([WIDTH, HEIGHT], np.float32)


def make(mask: np.ndarray, corners: np.ndarray | None = None) -> Instances:
    rows, columns = np.nonzero(mask)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 1, 1]
    points = None if corners is None else np.concatenate([corners, np.full((4, 1), 2)], axis=1)[None]
    return Instances(
        np.array([3]),
        np.array([box], np.float32),
        mask[None],
        None if points is None else points.astype(np.float32),
    )


def turn(center: tuple[float, float], sides: tuple[float, float], degrees: float) -> np.ndarray:
    """(4, 2) corners of a rotated box in pixels."""
    return cv2.boxPoints((center, sides, degrees))


def draw(corners: np.ndarray) -> np.ndarray:
    mask: np.ndarray = draw_segments([(corners / SIZE).astype(np.float32)], size_hw=(HEIGHT, WIDTH))[0]
    return mask


def find_overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


class TestBoxes:
    def test_they_are_centre_and_size_in_shares(self) -> None:
        instances = Instances(np.array([4]), np.array([[6, 10, 30, 20]], np.float32))
        record = make_record(instances, size_hw=(HEIGHT, WIDTH), task="detect", first_class=1, image_file=Path("a"))
        assert record.class_ids.tolist() == [3]
        assert np.allclose(record.boxes, [[0.3, 0.375, 0.4, 0.25]])
        assert (record.segments, record.keypoints, record.image_file) == (None, None, Path("a"))

    @given(st.integers(0, 2**32))
    def test_they_come_back(self, seed: int) -> None:
        corners = np.sort(np.random.default_rng(seed).uniform(0, 1, (5, 2, 2)), axis=1) * SIZE
        boxes = corners.reshape(5, 4).astype(np.float32)
        record = make_record(Instances(np.arange(5), boxes), size_hw=(HEIGHT, WIDTH), task="detect")
        assert np.abs(to_pixels(record.boxes, size_hw=(HEIGHT, WIDTH)) - boxes).max() < 1e-4

    def test_without_instances_there_are_no_rows(self) -> None:
        none = Instances(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
        for task in ("detect", "segment", "pose", "obb"):
            record = make_record(none, size_hw=(HEIGHT, WIDTH), task=task)
            assert len(record) == 0
            assert record.segments == ([] if task in ("segment", "obb") else None)


class TestPolygons:
    def test_they_draw_the_masks_again(self) -> None:
        for number in range(6):
            drawn = draw_numbered(number)
            instances = Instances(drawn.class_ids, drawn.boxes, drawn.masks)
            for task, asked in (("segment", None), ("detect", True)):
                record = make_record(instances, size_hw=SIZE_HW, task=task, has_segments=asked)
                assert record.segments is not None
                assert (draw_segments(record.segments, size_hw=SIZE_HW) == drawn.masks).all()
                assert np.abs(to_pixels(record.boxes, size_hw=SIZE_HW) - drawn.boxes).max() < 0.02

    @pytest.mark.parametrize(
        "reason", ["object with holes", "object in several parts", "object without visible pixels"]
    )
    def test_what_one_polygon_cannot_say_is_an_error(self, reason: str) -> None:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        if "visible" not in reason:
            mask[5:15, 5:15] = True
            mask[8:11, 8:11] = reason != "object with holes"
            mask[20:25, 20:25] = reason == "object in several parts"
        with pytest.raises(NoOutlineError, match=f"^{reason}$"):
            make_record(make(mask), size_hw=(HEIGHT, WIDTH), task="segment")

    def test_masks_must_be_there(self) -> None:
        bare = Instances(np.array([1]), np.array([[0, 0, 5, 5]], np.float32))
        said = (
            "masks must be there for the polygons of task 'segment', got masks=None. Use a generator that makes masks."
        )
        with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
            make_record(bare, size_hw=(HEIGHT, WIDTH), task="segment")


class TestKeypoints:
    def test_they_are_shares_and_those_without_a_label_zeros(self) -> None:
        points = np.array([[[30, 10, 2], [15, 20, 1], [7, 7, 0]]], np.float32)
        instances = Instances(np.array([0]), np.array([[6, 10, 30, 20]], np.float32), keypoints=points)
        record = make_record(instances, size_hw=(HEIGHT, WIDTH), task="pose")
        assert record.keypoints is not None
        assert record.keypoints.tolist() == [[[0.5, 0.25, 2], [0.25, 0.5, 1], [0, 0, 0]]]

    def test_they_must_be_there(self) -> None:
        bare = Instances(np.array([1]), np.array([[0, 0, 5, 5]], np.float32))
        said = "keypoints must be there for task 'pose', got keypoints=None. Use a generator that keeps them."
        with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
            make_record(bare, size_hw=(HEIGHT, WIDTH), task="pose")


class TestRotatedBoxes:
    @given(
        st.tuples(st.floats(20, 40), st.floats(15, 25)),
        st.tuples(st.floats(6, 16), st.floats(6, 16)),
        st.floats(0, 90),
    )
    @settings(max_examples=60)
    def test_corners_come_back_while_the_object_is_whole(self, center: Any, sides: Any, degrees: float) -> None:
        corners = turn(center, sides, degrees)
        record = make_record(make(draw(corners), corners), size_hw=(HEIGHT, WIDTH), task="obb")
        assert record.segments is not None
        assert np.abs(record.segments[0] * SIZE - corners).max() < 1e-4
        low, high = corners.min(axis=0), corners.max(axis=0)
        assert np.abs(to_pixels(record.boxes, size_hw=(HEIGHT, WIDTH))[0] - [*low, *high]).max() < 1e-3

    @given(
        st.tuples(st.floats(20, 40), st.floats(15, 25)),
        st.tuples(st.floats(6, 16), st.floats(6, 16)),
        st.floats(0, 90),
    )
    @settings(max_examples=60)
    def test_a_flipped_object_keeps_its_corners(self, center: Any, sides: Any, degrees: float) -> None:
        corners = turn(center, sides, degrees)
        flipped = np.stack([WIDTH - corners[:, 0], corners[:, 1]], axis=1)
        record = make_record(make(draw(corners)[:, ::-1].copy(), flipped), size_hw=(HEIGHT, WIDTH), task="obb")
        assert record.segments is not None
        found = record.segments[0] * SIZE
        assert find_overlap(draw(found), draw(flipped)) > 0.8
        assert min(np.abs(found - np.roll(flipped, turns, axis=0)).max() for turns in range(4)) < 2

    def test_an_object_that_is_half_hidden_gets_the_box_of_what_is_seen(self) -> None:
        corners = turn((30, 20), (24, 10), 30)
        mask = draw(corners)
        mask[:, 30:] = False
        record = make_record(make(mask, corners), size_hw=(HEIGHT, WIDTH), task="obb")
        assert record.segments is not None
        found = record.segments[0] * SIZE
        assert found[:, 0].max() < 36 < corners[:, 0].max()
        seen = draw(found)
        assert (seen & mask).sum() / mask.sum() > 0.95
        assert find_overlap(seen, mask) > 0.6

    def test_an_object_whose_end_is_cut_off_gets_the_box_of_what_is_seen(self) -> None:
        corners = turn((30, 20), (40, 10), 0)
        mask = draw(corners)
        mask[:, 42:] = False
        record = make_record(make(mask, corners), size_hw=(HEIGHT, WIDTH), task="obb")
        assert record.segments is not None
        assert np.allclose(np.sort((record.segments[0] * SIZE)[:, 0]), [10, 10, 42, 42], atol=1e-3)

    def test_a_thin_object_that_is_half_hidden_gets_the_box_of_what_is_seen(self) -> None:
        corners = turn((30, 20), (40, 2), 0)
        mask = draw(corners)
        mask[:, 30:] = False
        record = make_record(make(mask, corners), size_hw=(HEIGHT, WIDTH), task="obb")
        assert record.segments is not None
        assert np.allclose(np.sort((record.segments[0] * SIZE)[:, 0]), [10, 10, 30, 30], atol=1e-3)

    def test_without_corners_the_mask_says_it(self) -> None:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[10:20, 6:30] = True
        record = make_record(make(mask), size_hw=(HEIGHT, WIDTH), task="obb")
        assert record.segments is not None
        assert {tuple(np.rint(corner).tolist()) for corner in record.segments[0] * SIZE} == {
            (6, 10), (30, 10), (30, 20), (6, 20)
        }  # fmt: skip
        assert np.abs(record.segments[0] * SIZE - np.rint(record.segments[0] * SIZE)).max() < 1e-3

    def test_a_hidden_object_is_an_error(self) -> None:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        with pytest.raises(NoOutlineError, match=r"^object without visible pixels$"):
            make_record(make(mask, turn((30, 20), (24, 10), 30)), size_hw=(HEIGHT, WIDTH), task="obb")


class TestRasterising:
    @given(st.integers(0, 2**32), st.integers(3, 9))
    @settings(max_examples=60)
    def test_foreign_polygons_are_drawn_within_half_a_pixel(self, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        angles = np.sort(rng.uniform(0, 2 * np.pi, count))
        spokes = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(4, 15, (count, 1))
        polygon = np.array([WIDTH, HEIGHT]) / 2 + spokes
        mask = draw_segments([(polygon / SIZE).astype(np.float32)], size_hw=(HEIGHT, WIDTH))[0]
        contour = polygon.astype(np.float32).reshape(-1, 1, 2)
        for row in range(HEIGHT):
            for column in range(WIDTH):
                depth = cv2.pointPolygonTest(contour, (column + 0.5, row + 0.5), True)
                if abs(depth) > 0.75:  # half a pixel along x and along y
                    assert mask[row, column] == (depth > 0)


class TestYoloRecord:
    def test_shapes_are_checked(self) -> None:
        boxes = np.zeros((2, 4), np.float32)
        said = "len(segments) must be the number of boxes, 2, got len(segments)=1."
        with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
            YoloRecord(Path("a"), None, np.array([0, 1]), boxes, [np.zeros((3, 2), np.float32)])
        with pytest.raises(TypeError, match=r"^class_ids must have dtype int64, got class_ids=dtype\('float64'\)\.$"):
            YoloRecord(Path("a"), None, np.array([0.0, 1.0]), boxes)
