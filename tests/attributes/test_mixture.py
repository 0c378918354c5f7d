"""Mixtures have as many components as the values fall into, and the right ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.attributes import GaussianMixture1D, fit_mixture
from synthloader.errors import MissingExtraError


def draw(seed: int, *parts: tuple[int, float, float]) -> np.ndarray:
    """Values of Gaussians (number, mean, deviation)."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(mean, deviation, number) for number, mean, deviation in parts])


@pytest.mark.parametrize("seed", range(5))
def test_two_modes_are_recovered(seed: int) -> None:
    mixture = fit_mixture(draw(seed, (700, -3.0, 0.5), (300, 2.0, 0.8)))
    assert len(mixture) == 2
    assert mixture.weights == pytest.approx((0.7, 0.3), abs=0.01)
    assert mixture.means == pytest.approx((-3, 2), abs=0.15)
    assert mixture.deviations == pytest.approx((0.5, 0.8), rel=0.15)
    assert mixture.silhouette is not None
    assert mixture.silhouette > 0.8


def test_four_modes_are_recovered_in_the_order_of_their_means() -> None:
    mixture = fit_mixture(draw(1, (100, 30, 1), (200, 0, 1), (300, 10, 1), (400, 20, 1)))
    assert mixture.weights == pytest.approx((0.2, 0.3, 0.4, 0.1), abs=0.01)
    assert mixture.means == pytest.approx((0, 10, 20, 30), abs=0.3)


def test_a_rare_mode_is_found() -> None:
    mixture = fit_mixture(draw(2, (950, 0, 1), (50, 12, 1)))
    assert mixture.weights == pytest.approx((0.95, 0.05), abs=0.005)


@pytest.mark.parametrize("number", [30, 200, 3000])
def test_one_gaussian_has_one_component(number: int) -> None:
    for seed in range(6):
        values = draw(seed, (number, 5, 2))
        mixture = fit_mixture(values)
        assert len(mixture) == 1
        assert mixture.silhouette is None
        assert mixture.means == pytest.approx((values.mean(),))
        assert mixture.deviations == pytest.approx((values.std(),))


def test_neither_a_uniform_nor_a_skewed_distribution_is_split() -> None:
    rng = np.random.default_rng(4)
    assert len(fit_mixture(rng.uniform(size=1000))) == 1
    assert len(fit_mixture(rng.exponential(size=1000))) == 1


def test_the_silhouette_that_is_asked_for_decides() -> None:
    values = draw(0, (500, 0, 1), (500, 4.5, 1))
    assert len(fit_mixture(values)) == 2
    assert len(fit_mixture(values, min_silhouette=0.8)) == 1
    assert len(fit_mixture(draw(0, (500, 0, 1)), min_silhouette=0.5)) > 1
    assert len(fit_mixture(values, max_components=1)) == 1


def test_too_few_values_for_a_component_are_no_component() -> None:
    assert len(fit_mixture(draw(0, (100, 0, 1), (9, 50, 1)))) == 1
    assert len(fit_mixture(draw(0, (100, 0, 1), (10, 50, 1)))) == 2


def test_two_single_values_are_two_components_with_a_small_deviation() -> None:
    mixture = fit_mixture(np.array([3.0] * 30 + [5.0] * 10))
    assert mixture.means == (3.0, 5.0)
    assert mixture.weights == (0.75, 0.25)
    assert all(0 < deviation < 0.02 for deviation in mixture.deviations)


@given(value=st.floats(-1e9, 1e9), number=st.integers(1, 50))
def test_values_that_are_all_alike_have_one_component(value: float, number: int) -> None:
    mixture = fit_mixture(np.full(number, value))
    assert mixture.weights == (1.0,)
    assert mixture.means == pytest.approx((value,), rel=1e-8)
    assert 0 < mixture.deviations[0] <= 1e-6 * max(1, abs(value)) + 1e-6


@given(values=st.lists(st.integers(-20, 20), min_size=1, max_size=80), seed=st.integers(0, 1000))
def test_the_order_of_the_values_does_not_matter(values: list[int], seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(np.array(values, float))
    mixture = fit_mixture(np.array(values, float), min_silhouette=0.3)
    assert fit_mixture(shuffled, min_silhouette=0.3) == mixture
    assert sum(mixture.weights) == pytest.approx(1)
    assert list(mixture.means) == sorted(mixture.means)
    assert min(mixture.deviations) > 0


def test_responsibilities_say_where_a_value_comes_from() -> None:
    mixture = GaussianMixture1D((0.5, 0.5), (0.0, 10.0), (1.0, 1.0))
    found = mixture.find_responsibilities(np.array([0.0, 5.0, 10.0, 1e6]))
    assert found == pytest.approx(np.array([[1, 0], [0.5, 0.5], [0, 1], [0, 1]]))


def test_the_mean_responsibilities_of_the_fitted_values_are_the_weights() -> None:
    values = draw(6, (600, 0, 1), (400, 6, 1))
    mixture = fit_mixture(values)
    assert mixture.find_responsibilities(values).mean(axis=0) == pytest.approx(mixture.weights, abs=1e-3)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(MissingExtraError) as caught:
        fit_mixture(np.ones(3))
    assert str(caught.value) == "MetadataAlignment needs sklearn. Install synthloader[alignment]."


@pytest.mark.parametrize("wrong", [np.zeros(0), np.array([0.0, np.nan])])
def test_sets_without_values_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError) as caught:
        fit_mixture(wrong)
    assert str(caught.value) == f"values must hold at least one value, all of them finite, got values={wrong!r}."


def test_options_are_checked() -> None:
    with pytest.raises(ValueError) as caught:
        fit_mixture(np.ones(3), max_components=0)
    assert str(caught.value) == "max_components must be at least 1, got max_components=0."
    with pytest.raises(ValueError) as caught:
        fit_mixture(np.ones(3), min_silhouette=1.5)
    assert str(caught.value) == "min_silhouette must be at most 1, got min_silhouette=1.5."
