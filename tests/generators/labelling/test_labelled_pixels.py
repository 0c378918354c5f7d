from __future__ import annotations

import numpy as np
import pytest

from synthloader.generators.labelling.labelled_pixels import find_labelled_pixels, soften_boxes
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

IMAGE = np.zeros((4, 6, 3), np.uint8)


def make_instances(boxes: list[list[float]], masks: np.ndarray | None = None) -> Instances:
    return Instances(np.ones(len(boxes), np.int64), np.array(boxes, np.float32).reshape(-1, 4), masks)


def test_masks_count_where_there_are_some() -> None:
    masks = np.zeros((2, 4, 6), bool)
    masks[0, 1, 2] = masks[1, 3, :2] = True
    found = find_labelled_pixels(Sample(IMAGE, make_instances([[0, 0, 6, 4], [0, 0, 6, 4]], masks)))
    assert found is not None
    assert found.dtype == np.uint8
    assert np.argwhere(found).tolist() == [[1, 2], [3, 0], [3, 1]]


def test_of_boxes_only_nobody_knows_the_pixels() -> None:
    assert find_labelled_pixels(Sample(IMAGE, make_instances([[1.5, 0.25, 3.1, 1], [5, 3, 6, 4]]))) is None


def test_soft_boxes_are_sure_in_the_middle_and_show_no_side() -> None:
    boxes = np.array([[10, 10, 50, 30], [40, 20, 90, 60], [5, 5, 5, 9]], np.float32)
    found = soften_boxes(boxes, (70, 80))
    assert found.dtype == np.float32
    assert found[20, 30] == found[40, 65] == 1
    outside = np.ones((70, 80), bool)
    outside[10:30, 10:50] = outside[20:60, 40:90] = False
    assert not found[outside].any()
    assert found[10, 10:40].max() < 0.1
    assert max(np.abs(np.diff(found, axis=axis)).max() for axis in (0, 1)) < 0.5


def test_all_but_the_background_of_a_semantic_mask() -> None:
    mask = np.zeros((4, 6), np.int32)
    mask[0, 0], mask[2, 3] = 7, 255
    found = find_labelled_pixels(Sample(IMAGE, SemanticMask(mask)))
    assert found is not None
    assert np.argwhere(found).tolist() == [[0, 0], [2, 3]]


@pytest.mark.parametrize(
    "target",
    [
        None,
        ClassLabel(3),
        make_instances([]),
        make_instances([[2, 2, 2, 2]]),
        make_instances([[0, 0, 2, 2]], np.zeros((1, 4, 6), bool)),
        SemanticMask(np.zeros((4, 6), np.int32)),
    ],
)
def test_there_may_be_none(target: Target | None) -> None:
    assert find_labelled_pixels(Sample(IMAGE, target)) is None
