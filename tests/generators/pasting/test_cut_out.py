from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.generators.pasting.cut_out import CutOut, cut_out, find_tight_box
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.generators.pictures import make_classified, make_mask, make_picture, tight_box


def make_cut_out(height: int = 10, width: int = 16) -> CutOut:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = 200
    mask = np.ones((height, width), bool)
    mask[:, -2:] = False
    return CutOut(
        "a#0", 1, image, mask, keypoints=np.array([[2, 3, 2]], np.float32), maps={"depth": np.eye(height, width)}
    )


@given(seed=st.integers(0, 10**6), shift=st.integers(-20, 20))
def test_the_tight_box_is_right_whatever_the_hint(seed: int, shift: int) -> None:
    mask = make_mask(np.random.default_rng(seed), (30, 40))
    expected = tight_box(mask)
    near = np.clip(np.array(expected) + shift, 0, 30).astype(np.float32)
    assert list(find_tight_box(mask, near=near)) == expected
    assert list(find_tight_box(mask, near=np.array([0, 0, 0, 0], np.float32))) == expected


@pytest.mark.parametrize("factor", [0.01, 0.3, 0.5, 0.9, 1.1, 2.5])
def test_resizing_keeps_everything_aligned(factor: float) -> None:
    made = make_cut_out().resize(factor)
    height, width = max(1, round(10 * factor)), max(1, round(16 * factor))
    assert made.mask.shape == (height, width)
    assert made.image.shape == (height, width, 3)
    assert made.maps["depth"].shape == (height, width)
    assert set(np.unique(made.maps["depth"])) <= {0.0, 1.0}
    assert made.keypoints is not None
    assert np.allclose(made.keypoints[0], [2 * width / 16, 3 * height / 10, 2])
    if factor > 0.3:
        assert abs(made.mask.mean() - 14 / 16) < 0.1


def test_a_factor_that_changes_no_side_changes_nothing() -> None:
    before = make_cut_out()
    assert before.resize(1.01) is before


def test_mirrored_twice_it_is_the_same() -> None:
    before = make_cut_out()
    once = before.flip()
    assert once.mask[0].tolist() == before.mask[0, ::-1].tolist()
    assert once.keypoints is not None
    assert once.keypoints[0].tolist() == [14, 3, 2]
    twice = once.flip()
    assert np.array_equal(twice.image, before.image)
    assert np.array_equal(twice.maps["depth"], before.maps["depth"])


def test_a_target_without_masks_gives_nothing() -> None:
    assert cut_out(make_classified(0), 0, name="a", min_visible=0) is None


def test_a_keypoint_under_an_object_in_front_is_hidden() -> None:
    masks = np.zeros((2, 20, 20), bool)
    masks[0, 2:12, 2:12] = True
    masks[1, 4:6, 4:6] = True
    boxes = np.array([[2, 2, 12, 12], [4, 4, 6, 6]], np.float32)
    points = np.array([[[5, 5, 2], [9, 9, 2]], [[5, 5, 2], [0, 0, 0]]], np.float32)
    sample = Sample(np.zeros((20, 20, 3), np.uint8), Instances(np.array([1, 2]), boxes, masks, points))
    behind, in_front = (cut_out(sample, row, name="a", min_visible=0.2) for row in range(2))
    assert behind is not None
    assert in_front is not None
    assert behind.keypoints is not None
    assert in_front.keypoints is not None
    assert behind.keypoints.tolist() == [[3, 3, 1], [7, 7, 2]]
    assert in_front.keypoints.tolist() == [[1, 1, 2], [0, 0, 0]]
    assert points[0, 0, 2] == 2


def test_a_cut_out_holds_what_the_label_says() -> None:
    sample = make_picture(2, kind="separate", num_keypoints=2, with_maps=True, seed=5)
    made = cut_out(sample, 1, name="a.png", min_visible=0.2)
    assert made is not None
    target: Any = sample.target
    assert made.name == "a.png#1"
    assert made.class_id == target.class_ids[1]
    assert made.attributes["row"].tolist() == [201]
    assert made.area == target.masks[1].sum()
    assert set(made.maps) == {"depth", "flow"}
