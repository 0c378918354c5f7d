from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.attributes import Configurable
from synthloader.generators.color_transfer import ColorTransfer
from synthloader.generators.fog import Fog
from synthloader.generators.fourier_domain_adaptation import FourierDomainAdaptation
from synthloader.generators.metadata_alignment import MetadataAlignment
from synthloader.generators.night import Night
from synthloader.generators.rain import Rain
from synthloader.generators.snow import Snow
from synthloader.generators.tile import Tile
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel
from tests.contracts.generator_cases import APPEARANCE, TILING
from tests.generators.pictures import ListPool, make_classified, make_picture

CASES = {name: case for name, case in {**APPEARANCE, **TILING}.items() if case.changes and name not in ("Blend",)}
WEATHER = {Fog: "visibility_range", Rain: "rain_rate_range", Snow: "visibility_range", Night: "stops_range"}


def make_pool() -> ListPool:
    return ListPool([Sample(np.full((8, 8, 3), level, np.uint8)) for level in (40, 90, 200)])


def generate(generator: Any, source: Sample, seed: int = 0) -> np.ndarray:
    made: np.ndarray = generator.generate(source, rng=make_rng(seed, "s", 0, 0)).image
    return made


@pytest.mark.parametrize("name", CASES)
def test_a_copy_without_a_change_is_the_same_generator(name: str) -> None:
    for make in (CASES[name].make, *CASES[name].changes):
        generator = make()
        assert isinstance(generator, Configurable)
        copied = generator.replace()
        assert copied is not generator
        assert copied.fingerprint == generator.fingerprint


@pytest.mark.parametrize(
    ("generator", "options"),
    [
        (Fog(max_distance_m=70), {"strength_range": (0.1, 0.2)}),
        (Rain(angle_range=(-3, 3)), {"rain_rate_range": (5, 9)}),
        (Snow(fall_speed=1.5), {"visibility_range": (500, 900)}),
        (Night(vignetting=0.1), {"glow_range": (0, 0)}),
        (FourierDomainAdaptation(), {"beta_range": (0.1, 0.2)}),
        (ColorTransfer(), {"method": "histogram"}),
        (Tile(min_side=9), {"size_hw": (24, 32), "centred": True}),
    ],
)
def test_what_is_named_changes_and_nothing_else(generator: Any, options: dict[str, Any]) -> None:
    before = generator.fingerprint
    changed = generator.replace(**options)
    assert changed.fingerprint != before
    assert generator.fingerprint == before
    names = {name: getattr(generator, name, None) for name in ("max_distance_m", "angle_range", "fall_speed")}
    assert {name: getattr(changed, name, None) for name in names if name not in options} == names
    with pytest.raises(TypeError):
        generator.replace(colour=3)


@pytest.mark.parametrize("kind", WEATHER)
def test_strengths_take_the_place_of_their_other_unit(kind: Callable[..., Any]) -> None:
    other = WEATHER[kind]  # type: ignore[index]
    by_unit = kind(**{other: (2, 3)})
    assert by_unit.replace(strength_range=(0.1, 0.2)).fingerprint == kind(strength_range=(0.1, 0.2)).fingerprint
    both = by_unit.replace(**{"strength_range": (0.1, 0.2), other: (4, 5)})
    assert both.fingerprint == kind(**{other: (4, 5)}).fingerprint


@pytest.mark.parametrize(
    ("make", "options"),
    [(ColorTransfer, {"method": "histogram"}), (FourierDomainAdaptation, {"beta_range": (0.0, 0.1)})],
)
def test_references_stay_bound(make: Callable[..., Any], options: dict[str, Any]) -> None:
    source = make_picture(1)
    replaced = make().bind(make_pool(), classes=None).replace(**options)
    assert replaced.uses_pool
    for seed in range(3):
        expected = generate(make(**options).bind(make_pool(), classes=None), source, seed)
        assert np.array_equal(generate(replaced, source, seed), expected)
    others = replaced.replace(references=[make_classified(3)])
    assert not others.uses_pool
    assert np.array_equal(generate(others, source), generate(make(references=[make_classified(3)], **options), source))


def test_files_are_not_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), make_picture(2).image)
    given = ColorTransfer(references=tmp_path)
    fingerprint = given.fingerprint
    file.unlink()
    assert given.replace().fingerprint == fingerprint


def test_a_tile_stays_aimed_and_bound() -> None:
    tile = Tile(size_hw=50, classes=["date"]).bind(make_pool(), classes={"date": 2}).aim(2).keep_single_polygons()
    replaced = tile.replace(size_hw=30)
    expected = Tile(size_hw=30, classes=[2]).aim(2).keep_single_polygons()
    assert replaced.fingerprint == expected.fingerprint


def test_a_night_is_aligned_to_the_brightness_of_a_reference() -> None:
    rng = np.random.default_rng(0)
    pool = ListPool([Sample(rng.integers(0, 200, (40, 50, 3)).astype(np.uint8), ClassLabel(0)) for _ in range(24)])
    strong = Night(strength_range=(0.75, 0.85))
    reference = [sample.replace(image=generate(strong, sample, at)) for at, sample in enumerate(pool.samples)]
    aligned = MetadataAlignment(
        Night(),
        reference,
        attributes=["brightness"],
        parameters={"brightness": {"strength_range": [(0.1, 0.2), (0.75, 0.85)]}},
        num_probes=24,
        max_components=1,
    ).bind(pool, classes=None)
    assert {configuration.options["strength_range"] for configuration in aligned.configurations} == {(0.75, 0.85)}
    assert generate(aligned, pool.samples[0]).mean() < pool.samples[0].image.mean()
