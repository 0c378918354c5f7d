"""The Bhattacharyya distance, against its closed form and its own properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.attributes import MAX_DISTANCE, bhattacharyya_distance, gaussian_distance

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60).map(np.array)


@given(a=VALUES, b=VALUES)
def test_it_is_symmetric_and_bounded(a: np.ndarray, b: np.ndarray) -> None:
    distance = bhattacharyya_distance(a, b)
    assert 0 <= distance <= MAX_DISTANCE
    assert bhattacharyya_distance(b, a) == pytest.approx(distance, abs=1e-12)


@given(a=VALUES)
def test_a_set_is_at_no_distance_from_itself(a: np.ndarray) -> None:
    assert bhattacharyya_distance(a, np.random.default_rng(0).permutation(a)) == pytest.approx(0, abs=1e-12)


@given(a=st.lists(st.integers(-500, 500), min_size=1, max_size=40), shift=st.integers(-20, 20), scale=st.integers(1, 8))
def test_the_unit_does_not_matter(a: list[int], shift: int, scale: int) -> None:
    one, other = np.array(a, float), np.array(a[::2], float) + 3
    moved = bhattacharyya_distance(one * 2.0**scale + shift * 2.0**scale, other * 2.0**scale + shift * 2.0**scale)
    assert moved == pytest.approx(bhattacharyya_distance(one, other), abs=1e-9)


@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (1, 0.5), (2, 2)])
def test_histograms_of_many_values_agree_with_the_closed_form(mean: float, deviation: float) -> None:
    rng = np.random.default_rng(3)
    found = bhattacharyya_distance(rng.normal(0, 1, 40_000), rng.normal(mean, deviation, 40_000))
    assert found == pytest.approx(gaussian_distance(0, 1, mean, deviation), rel=0.05, abs=0.005)


def test_the_bias_of_few_values_is_what_the_docstring_says() -> None:
    rng = np.random.default_rng(5)
    found = [bhattacharyya_distance(rng.uniform(size=200), rng.uniform(size=200)) for _ in range(60)]
    # 2 x 0.5 / 200^(1/3) = 0.17: 8 bins, the least number; 7 / 800
    assert np.mean(found) == pytest.approx(7 / 800, rel=0.25)


def test_sets_without_a_common_bin_are_at_the_largest_distance() -> None:
    assert bhattacharyya_distance(np.zeros(3), np.ones(3)) == MAX_DISTANCE
    assert bhattacharyya_distance(np.full(3, 4.0), np.full(5, 4.0)) == 0


def test_two_gaussians_are_apart_by_mean_and_by_variance() -> None:
    assert gaussian_distance(5, 2, 5, 2) == 0
    assert gaussian_distance(0, 1, 4, 1) == 2
    assert gaussian_distance(0, 1, 0, 3) == pytest.approx(0.5 * np.log(10 / 6))
    assert gaussian_distance(1, 2, 3, 4) == gaussian_distance(3, 4, 1, 2)


@pytest.mark.parametrize("wrong", [np.zeros(0), np.array([1.0, np.nan]), np.array([np.inf])])
def test_sets_without_values_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError) as caught:
        bhattacharyya_distance(np.ones(2), wrong)
    assert str(caught.value) == (f"values_b must hold at least one value, all of them finite, got values_b={wrong!r}.")


def test_a_deviation_of_zero_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        gaussian_distance(0, 1, 0, 0)
    assert str(caught.value) == "deviation_b must be above 0, got deviation_b=0."
