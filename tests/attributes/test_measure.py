"""Attributes of labelled pictures, against what they are by hand."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.attributes import ATTRIBUTES, measure, scale_values
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

BLACK = np.zeros((20, 40, 3), np.uint8)


def make_sample(boxes: list[list[float]], image: np.ndarray = BLACK, **options: Any) -> Sample:
    return Sample(
        image, Instances(np.ones(len(boxes), np.int64), np.array(boxes, np.float32).reshape(-1, 4), **options)
    )


def draw_ellipse(angle: float, axes: tuple[int, int] = (60, 20)) -> np.ndarray:
    mask = np.zeros((200, 200), np.uint8)
    cv2.ellipse(mask, (100, 100), axes, angle, 0, 360, 1, -1)
    return mask.astype(bool)


def measure_orientation(mask: np.ndarray) -> float:
    sample = make_sample([[0, 0, 200, 200]], np.zeros((200, 200, 3), np.uint8), masks=mask[None])
    return float(measure([sample], ["orientation"])["orientation"][0])


def test_boxes_are_measured_as_shares_of_their_image() -> None:
    found = measure([make_sample([[0, 0, 20, 10], [10, 4, 14, 20]])])
    assert found["box_area"].tolist() == [0.25, 0.08]
    assert found["box_aspect"].tolist() == [2.0, 0.25]
    assert found["box_bottom"].tolist() == [0.5, 1.0]
    assert found["box_center_y"].tolist() == [0.25, 0.6]
    assert np.isnan(found["orientation"]).tolist() == [True, True]
    assert found["count"].tolist() == [2.0]


def test_sets_are_put_below_each_other_and_objects_line_up() -> None:
    samples = [make_sample([[0, 0, 4, 4]]), make_sample([]), make_sample([[0, 0, 8, 4], [0, 0, 4, 16]])]
    found = measure(samples)
    assert found["box_bottom"].tolist() == [0.2, 0.2, 0.8]
    assert {len(found[name]) for name in ATTRIBUTES if ATTRIBUTES[name].per == "object"} == {3}
    assert {len(found[name]) for name in ATTRIBUTES if ATTRIBUTES[name].per == "image"} == {3}
    assert found["count"].tolist() == [1.0, 0.0, 2.0]


def test_no_samples_have_no_values() -> None:
    assert {name: values.shape for name, values in measure([]).items()} == dict.fromkeys(ATTRIBUTES, (0,))


def test_crowds_and_boxes_without_an_area_are_left_out() -> None:
    sample = make_sample(
        [[0, 0, 20, 10], [0, 0, 40, 20], [3, 3, 3, 9], [3, 3, 9, 3], [5, 5, 5, 5]],
        crowd=np.array([False, True, False, False, False]),
    )
    found = measure([sample])
    assert found["box_area"].tolist() == [0.25]
    assert found["count"].tolist() == [1.0]


@pytest.mark.parametrize("target", [None, ClassLabel(3), SemanticMask(np.ones((20, 40), np.int32))])
def test_other_targets_have_no_objects_and_no_count(target: Any) -> None:
    found = measure([Sample(BLACK, target)])
    assert found["box_area"].tolist() == found["count"].tolist() == []
    assert found["brightness"].tolist() == [0.0]


def test_what_was_generated_is_measured_alone() -> None:
    columns = {"generated": np.array([False, True])}
    sample = make_sample([[0, 0, 20, 10], [10, 4, 14, 20]], attributes=columns)
    found = measure([sample], generated_only=True)
    assert found["box_area"].tolist() == [0.08]
    assert found["count"].tolist() == [2.0], "an attribute of the image is of the whole image"
    assert measure([sample])["box_area"].tolist() == [0.25, 0.08]


@pytest.mark.parametrize("column", [np.array([0, 1]), np.array(["no", "yes"]), np.zeros((2, 2), bool)])
def test_a_column_that_means_something_else_hides_nothing(column: np.ndarray) -> None:
    sample = make_sample([[0, 0, 20, 10], [10, 4, 14, 20]], attributes={"generated": column})
    assert measure([sample], ["box_area"], generated_only=True)["box_area"].tolist() == [0.25, 0.08]


@given(angle=st.integers(-90, 89))
def test_orientation_is_the_angle_of_the_long_axis_with_y_pointing_down(angle: int) -> None:
    found = measure_orientation(draw_ellipse(angle))
    assert -90 <= found < 90
    assert abs((found - angle + 90) % 180 - 90) < 1.0


def test_orientation_of_bars() -> None:
    flat, upright, falling = np.zeros((3, 200, 200), bool)
    flat[100:104, 20:180] = True
    upright[20:180, 100:104] = True
    for at in range(20, 180):
        falling[at, at : at + 3] = True
    assert measure_orientation(flat) == 0.0
    assert measure_orientation(upright) == -90.0
    assert abs(measure_orientation(falling) - 45) < 0.5


def test_what_is_round_or_empty_points_nowhere() -> None:
    single = np.zeros((200, 200), bool)
    single[7, 9] = True
    for mask in (draw_ellipse(30, (40, 40)), draw_ellipse(30, (40, 38)), single, np.zeros((200, 200), bool)):
        assert np.isnan(measure_orientation(mask))
    assert measure_orientation(draw_ellipse(0, (40, 30))) == pytest.approx(0, abs=1)


def test_the_look_of_a_picture_is_measured_on_its_luma() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (30, 50, 3)).astype(np.uint8)
    luma = np.rint(image @ [0.299, 0.587, 0.114])
    found = measure([Sample(image)])
    assert found["brightness"][0] == pytest.approx(luma.mean(), abs=0.05)
    assert found["contrast"][0] == pytest.approx(luma.std(), abs=0.05)
    padded = np.pad(luma, 1, mode="reflect")
    laplacian = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4 * luma
    assert found["sharpness"][0] == pytest.approx(laplacian.var(), rel=0.01)
    assert 6 < found["entropy"][0] < 8


def test_entropy_counts_bits() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    assert measure([Sample(image)], ["entropy"])["entropy"].tolist() == [0.0]
    image[::2] = 200
    assert measure([Sample(image)], ["entropy"])["entropy"].tolist() == [1.0]
    image[:, ::2] //= 2
    assert measure([Sample(image)], ["entropy"])["entropy"].tolist() == [1.5]


def test_a_picture_of_one_pixel_can_be_measured() -> None:
    sample = make_sample([[0, 0, 1, 1]], np.full((1, 1, 3), 7, np.uint8), masks=np.ones((1, 1, 1), bool))
    found = measure([sample])
    assert found["box_area"].tolist() == found["box_aspect"].tolist() == [1.0]
    assert found["brightness"].tolist() == [7.0]
    assert found["sharpness"].tolist() == [0.0]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError) as caught:
        measure([], ["box_area", "box_botom"])
    allowed = ", ".join(map(repr, ATTRIBUTES))
    assert str(caught.value) == (
        f"names[1] must be one of {allowed}, got names[1]='box_botom'. Did you mean 'box_bottom'?"
    )


def test_what_is_no_sample_is_refused() -> None:
    with pytest.raises(TypeError) as caught:
        measure([make_sample([]), 5])  # type: ignore[list-item]
    assert str(caught.value) == "samples[1] must be a Sample, got samples[1]=5."


def test_skewed_quantities_are_compared_by_their_logarithm() -> None:
    values = np.array([0.01, np.nan, 1.0])
    assert scale_values("box_area", values, like=values).tolist() == [np.log(0.01), 0.0]
    assert scale_values("box_bottom", values, like=values).tolist() == [0.01, 1.0]
    flat = scale_values("sharpness", np.zeros(1), like=np.zeros(1))
    assert flat.tolist() == [np.log(0.01)]


@given(mode=st.integers(-90, 89), seed=st.integers(0, 100))
def test_angles_around_any_mode_stay_in_one_piece(mode: int, seed: int) -> None:
    around = np.random.default_rng(seed).normal(mode, 12, 200)
    angles = (around + 90) % 180 - 90
    unwrapped = scale_values("orientation", angles, like=angles)
    assert np.ptp(unwrapped) <= np.ptp(around) + 1e-6
    assert np.allclose((unwrapped - angles) % 180 % 179.999999, 0, atol=1e-5)


def test_angles_of_two_sets_are_unwrapped_alike() -> None:
    upright = np.array([-89.0, -85, 85, 89] * 10)
    others = np.array([-80.0, 80])
    ours, theirs = (scale_values("orientation", values, like=upright) for values in (upright, others))
    assert np.ptp(ours) == 10
    assert sorted(theirs - ours.mean()) == [-10.0, 10.0]
