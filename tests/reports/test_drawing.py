"""Drawing: every kind of label is seen, and nothing is changed that was given."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.generators.pasting.cut_out import MASK_IS_BOX
from synthloader.reports import draw_sample
from synthloader.reports.drawing import PALETTE, draw_text, find_color, measure_text
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target
from tests.scenes import draw_scene

SIZE_HW = (120, 160)


def make_instances(**options: Any) -> Instances:
    scene = draw_scene(1, num_objects=2, size_hw=SIZE_HW)
    return Instances(scene["labels"], scene["boxes"], **options)


def make_masks() -> np.ndarray:
    return draw_scene(1, num_objects=2, size_hw=SIZE_HW)["masks"].astype(bool)


def make_sample(target: Target | None, **options: Any) -> Sample:
    return Sample(np.full((*SIZE_HW, 3), 128, np.uint8), target, **options)


SEMANTIC = np.zeros(SIZE_HW, np.int32)
SEMANTIC[20:60, 20:90], SEMANTIC[80:100, 20:90], SEMANTIC[:5] = 1, 2, 255
TARGETS = {
    "boxes": make_instances(),
    "masks": make_instances(masks=make_masks()),
    "keypoints": make_instances(keypoints=np.array([[[30, 40, 2], [50, 60, 1]], [[0, 0, 0], [70, 80, 2]]], np.float32)),
    "crowd": make_instances(crowd=np.array([True, False])),
    "class": ClassLabel(2),
    "semantic": SemanticMask(SEMANTIC),
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("size_hw", [None, (60, 80), (301, 399)])
def test_every_kind_of_label_is_seen(kind: str, size_hw: tuple[int, int] | None) -> None:
    sample = make_sample(TARGETS[kind])
    before = sample.image.copy()
    drawn = draw_sample(sample, {1: "disc", 2: "coin", 3: "cell"}, size_hw=size_hw)
    bare = draw_sample(make_sample(None), size_hw=size_hw)
    assert drawn.shape == (*(size_hw or SIZE_HW), 3)
    assert drawn.dtype == np.uint8
    assert (drawn != bare).any(axis=2).mean() > 0.005
    assert np.array_equal(sample.image, before)
    assert not np.shares_memory(drawn, sample.image)


def test_without_a_label_it_is_the_image() -> None:
    sample = make_sample(None)
    assert np.array_equal(draw_sample(sample), sample.image)


def test_no_instances_and_one_that_is_covered_completely() -> None:
    none = Instances(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    assert np.array_equal(draw_sample(make_sample(none)), make_sample(None).image)
    empty = Instances(np.array([1]), np.array([[5, 5, 5, 5]], np.float32), masks=np.zeros((1, *SIZE_HW), bool))
    assert draw_sample(make_sample(empty)).shape == (*SIZE_HW, 3)


def test_a_mask_is_tinted_with_the_colour_of_its_class_and_lets_the_picture_through() -> None:
    target = make_instances(masks=make_masks())
    names = {1: "disc", 2: "coin", 3: "cell"}
    drawn = draw_sample(make_sample(target), names)
    row, column = (int(value) for value in np.argwhere(make_masks()[0]).mean(axis=0))
    color = np.array(find_color(int(target.class_ids[0]), names))
    assert np.allclose(drawn[row, column], 128 * 0.9 + color * 0.1, atol=1)


def test_generated_instances_have_a_white_rim() -> None:
    plain = make_instances(attributes={"generated": np.array([False, True])})
    real, made = make_sample(plain), make_sample(plain, origin=Origin())
    white = (255, 255, 255)
    assert (draw_sample(made) == white).all(axis=2).sum() > (draw_sample(real) == white).all(axis=2).sum() + 50


def test_rotated_boxes_are_drawn_as_they_stand_in_the_label() -> None:
    points = np.array([[20, 60, 2], [60, 20, 2], [100, 60, 2], [60, 100, 2]], np.float32)
    mask = np.zeros(SIZE_HW, np.uint8)
    cv2.fillPoly(mask, [points[:, :2].astype(np.int32)], 1)
    hidden = np.array([[0, 0, 0], [60, 20, 1], [100, 60, 1], [60, 100, 1]], np.float32)
    for corners in (points, hidden):
        target = Instances(
            np.array([1]),
            np.array([[20, 20, 101, 101]], np.float32),
            masks=mask.astype(bool)[None],
            keypoints=corners[None],
            attributes={MASK_IS_BOX: np.array([True])},
        )
        drawn = draw_sample(make_sample(target))
        color = np.array(find_color(1, {}))
        for x, y in ((40, 40), (80, 40), (80, 80), (40, 80)):  # the middles of its sides
            assert (np.abs(drawn[y - 2 : y + 3, x - 2 : x + 3].astype(int) - color).max(axis=2) < 30).any()
        for x, y in ((60, 20), (100, 60)):  # an upright box would have its sides here, 10 pixels on
            assert (drawn[y - 3 : y + 3, x + 9 : x + 12] == 128).all()


def test_a_name_that_occurs_once_is_written_before_the_many_others() -> None:
    boxes = np.array(
        [[20, 20, 140, 110], *[[x, y, x + 14, y + 14] for x in range(20, 120, 16) for y in (20, 60)]], "f4"
    )
    class_ids = np.array([1] + [2] * (len(boxes) - 1))
    names = {1: "tray", 2: "coin"}
    drawn = draw_sample(make_sample(Instances(class_ids, boxes)), names)
    color = find_color(1, names)
    width, height = measure_text("tray", 11)
    area = (drawn[5:40, 15:80] == color).all(axis=2).sum()
    assert area > 0.4 * width * height


def test_colours_are_told_apart_and_follow_the_order_of_the_ids() -> None:
    names = {class_id: str(class_id) for class_id in (3, 7, 20)}
    assert [find_color(class_id, names) for class_id in (3, 7, 20)] == list(PALETTE[:3])
    many = {class_id: "" for class_id in range(28)}
    assert len({find_color(class_id, many) for class_id in many}) == 28
    assert find_color(5, {}) == PALETTE[5]
    for at, one in enumerate(PALETTE):
        for other in PALETTE[at + 1 :]:
            assert np.abs(np.array(one) - other).sum() > 60


def test_letters_scale_with_the_picture() -> None:
    small, large = measure_text("coin", 12), measure_text("coin", 36)
    assert 2.5 < large[0] / small[0] < 3.5
    assert 2.5 < large[1] / small[1] < 3.5


def test_text_with_other_letters_does_not_fail() -> None:
    canvas = np.full((40, 200, 3), 255, np.uint8)
    drawn = draw_text(canvas, "Größe, 猫, 🐈", (5, 5), 16, back=(0, 0, 0))
    assert (drawn != canvas).any()
    assert (canvas == 255).all()


def test_points_have_the_colour_of_their_class_and_hidden_ones_are_white() -> None:
    points = np.array([[[30, 40, 2], [50, 60, 1], [90, 20, 0]]], np.float32)
    target = Instances(np.array([3]), np.array([[100, 90, 150, 110]], np.float32), keypoints=points)
    drawn = draw_sample(make_sample(target), {3: "cell"})
    assert tuple(drawn[40, 30]) == find_color(3, {3: "cell"})
    assert tuple(drawn[60, 50]) == (255, 255, 255)
    assert tuple(drawn[20, 90]) == (128, 128, 128)


def test_a_region_of_a_semantic_mask_is_outlined() -> None:
    color = find_color(2, {1: "disc", 2: "coin"})
    drawn = draw_sample(make_sample(SemanticMask(SEMANTIC)), {1: "disc", 2: "coin"})
    outline = (drawn == color).all(axis=2)
    assert outline[80, 30:80].all()
    assert outline[99, 30:80].all()
    assert not outline[85:95, 30:80].any()


def test_a_name_does_not_hide_a_small_object() -> None:
    # Above the tray's box, where its name would be written first, lies a coin; there is room enough elsewhere.
    boxes = np.array([[40, 40, 140, 100], [42, 20, 56, 34]], "f4")
    drawn = draw_sample(make_sample(Instances(np.array([1, 2]), boxes)), {1: "tray", 2: "coin"})
    assert (drawn[24:30, 46:51] == 128).all()


def test_the_names_of_a_mask_stand_in_the_corner_with_the_fewest_labels() -> None:
    mask = np.zeros(SIZE_HW, np.int32)
    mask[:70, :120], mask[:40, 120:] = 1, 2
    drawn = draw_sample(make_sample(SemanticMask(mask)), {1: "disc", 2: "coin"})
    assert (drawn[-20:, :40] == find_color(2, {1: "disc", 2: "coin"})).all(axis=2).any()
    assert not (drawn[5:20, 5:40] == find_color(1, {1: "disc", 2: "coin"})).all(axis=2).any()
