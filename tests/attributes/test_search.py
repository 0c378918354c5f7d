"""The search finds the configuration whose output has a component's mean and variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from synthloader.attributes import GaussianMixture1D, scale_values
from synthloader.attributes.search import Configurable, Probes, find_matches, weigh_jointly
from tests.attributes.squares import Squares, make_empty

RNG = np.random.default_rng(9)
AREAS = GaussianMixture1D((0.5, 0.5), (2 * np.log(0.05), 2 * np.log(0.4)), (0.1, 0.1))
SIDES = [{"side_range": (side, side * spread)} for side in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8) for spread in (1.0, 2.0)]


def search(name: str, mixture: GaussianMixture1D, grid: Any, generator: Squares, num_probes: int = 32) -> Any:
    probes = Probes(make_empty(), num_probes, "test")
    drawn = [
        RNG.normal(mean, deviation, round(500 * weight))
        for weight, mean, deviation in zip(mixture.weights, mixture.means, mixture.deviations, strict=True)
    ]
    like = np.exp(np.concatenate(drawn)) if name == "box_area" else np.concatenate(drawn)
    return find_matches(name, mixture, grid, lambda options: generator.replace(**options), probes, like=like)


def test_squares_can_be_configured() -> None:
    assert isinstance(Squares(), Configurable)


def test_the_nearest_configuration_is_found_for_each_component() -> None:
    small, large = search("box_area", AREAS, SIDES, Squares())
    assert small.options == {"side_range": (0.05, 0.05)}
    assert large.options == {"side_range": (0.4, 0.4)}
    assert small.num_values == large.num_values == 1


@pytest.mark.parametrize(("deviation", "width"), [(0.06, 0.2), (0.11, 0.4), (0.17, 0.6)])
def test_the_variance_is_matched_too(deviation: float, width: float) -> None:
    grid = [{"bottom_range": (0.6 - half / 2, 0.6 + half / 2)} for half in (0.0, 0.2, 0.4, 0.6)]
    (match,) = search("box_bottom", GaussianMixture1D((1.0,), (0.6,), (deviation,)), grid, Squares())
    assert match.options == {"bottom_range": (0.6 - width / 2, 0.6 + width / 2)}


def test_the_plain_generator_wins_where_nothing_is_better() -> None:
    (match,) = search("box_area", GaussianMixture1D((1.0,), (2 * np.log(0.4),), (0.1,)), SIDES[:4],
                      Squares(side_range=(0.36, 0.44)))  # fmt: skip
    assert match.options == {}


def test_donors_of_two_sizes_that_fit_already_are_left_alone() -> None:
    """Every configuration scales both sizes, so two of them would make four."""

    class TwoSizes(Squares):
        def replace(self, **options: Any) -> TwoSizes:
            return TwoSizes(**{**self.options, **options})

        def generate(self, source: Any, /, *, rng: np.random.Generator) -> Any:
            low, high = self.options["side_range"]
            factor = 0.05 if rng.random() < 0.5 else 0.4
            return Squares(side_range=(low * factor, high * factor)).generate(source, rng=rng)

    factors = [{"side_range": (0.95 * factor, 1.05 * factor)} for factor in (0.1, 0.3, 0.5, 1.0)]
    found = search("box_area", AREAS, factors, TwoSizes(side_range=(0.95, 1.05)))
    assert [match.options for match in found] == [{}, {}]


def test_a_configuration_that_seldom_makes_anything_is_left_out() -> None:
    grid = [{"side_range": (0.36, 0.44), "failures": 0.9}, {"side_range": (0.27, 0.33), "failures": 0.2}]
    (match,) = search("box_area", GaussianMixture1D((1.0,), (2 * np.log(0.4),), (0.2,)), grid, Squares())
    assert match.options["side_range"] == (0.27, 0.33)
    assert 0.6 < match.num_values < 1


def test_a_generator_that_makes_nothing_has_no_match() -> None:
    assert search("box_area", AREAS, SIDES, Squares(failures=1.0)) is None


def test_most_of_the_grid_is_tried_on_few_probes() -> None:
    generator = Squares()
    search("box_area", AREAS, SIDES * 4, generator, num_probes=64)
    assert generator.calls[0] < 0.5 * len(SIDES) * 4 * 64


def test_probes_lie_evenly_over_the_sources_however_many_are_used() -> None:
    class Noting(list[Any]):
        def __getitem__(self, at: Any) -> Any:
            seen.append(at)
            return super().__getitem__(at)

    for used in (8, 16, 64):
        seen: list[int] = []
        list(Probes(Noting(make_empty(100, size=8)), 64, "test").run([Squares()], ["box_area"], stop=used))
        assert max(np.diff(sorted(seen))) <= 2.7 * 100 / used
        assert len(set(seen)) >= 0.95 * used


def test_what_comes_together_is_drawn_together() -> None:
    rng = np.random.default_rng(0)
    near = rng.random(1000) < 0.3
    areas = np.where(near, 5.0, 0.0) + rng.normal(0, 0.1, 1000)
    bottoms = np.where(near, 0.9, 0.4) + rng.normal(0, 0.01, 1000)
    share = float(near.mean())
    mixtures = [
        GaussianMixture1D((1 - share, share), (0.0, 5.0), (0.1, 0.1)),
        GaussianMixture1D((1 - share, share), (0.4, 0.9), (0.01, 0.01)),
    ]
    weights = weigh_jointly([areas, bottoms], mixtures)
    assert weights == pytest.approx(np.array([[1 - share, 0], [0, share]]), abs=1e-6)
    assert weigh_jointly([areas], mixtures[:1]) == pytest.approx(np.array(mixtures[0].weights), abs=1e-6)
    apart = weigh_jointly([areas, rng.permutation(bottoms)], mixtures)
    assert apart == pytest.approx(np.outer(mixtures[0].weights, mixtures[1].weights), abs=0.05)


def test_areas_are_searched_on_their_own_scale() -> None:
    assert scale_values("box_area", np.array([0.4**2]), like=np.ones(1)) == pytest.approx([2 * np.log(0.4)])
