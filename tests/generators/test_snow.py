from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from synthloader.generators.snow import Snow
from tests.contracts.generator_contract import Case
from tests.generators.weather import (
    SIZES_HW,
    check_contract,
    check_grey,
    check_no_strength,
    check_refused,
    check_strengths,
    generate,
    make_flat,
    make_noise,
)

CASE = Case(
    Snow,
    changes=[
        lambda: Snow(strength_range=(0.1, 0.6)),
        lambda: Snow(visibility_range=(200, 2000)),
        lambda: Snow(visibility_range=(200, 1000)),
        lambda: Snow(flake_size_range=(2, 5)),
        lambda: Snow(fall_speed=1.5),
        lambda: Snow(exposure_range=(0.01, 0.02)),
        lambda: Snow(angle_range=(-5, 5)),
        lambda: Snow(defocus_range=(0, 0)),
        lambda: Snow(dimming_range=(0, 0)),
    ],
)


def snow(**options: Any) -> Snow:
    """Snow of one strength, without dimming."""
    settings: dict[str, Any] = {"strength_range": (0.6, 0.6), "dimming_range": (0, 0)}
    return Snow(**{**settings, **options})


def find_flakes(image: np.ndarray) -> np.ndarray:
    """What stands out of each row of a picture of one level: the veil is even along a row."""
    levels = image[..., 1].astype(int)
    found: np.ndarray = levels - np.min(levels, axis=1, keepdims=True)
    return found


def test_it_keeps_the_contract() -> None:
    check_contract(CASE)


def test_a_one_channel_picture_stays_one() -> None:
    check_grey(Snow())


def test_stronger_snow_changes_more() -> None:
    check_strengths(lambda strengths: Snow(strength_range=strengths, dimming_range=(0, 0)), make_flat(30, (240, 320)))


def test_nothing_is_generated_at_strength_0() -> None:
    check_no_strength(Snow(strength_range=(0, 0)))


def test_flakes_are_clear_on_dark_ground_and_unseen_on_white() -> None:
    assert find_flakes(generate(snow(), make_flat(30, (480, 640))).image).max() > 50
    assert np.ptp(generate(snow(dimming_range=(0.01, 0.01)), make_flat(254, (240, 320))).image) <= 4


@pytest.mark.parametrize("size_hw", [*SIZES_HW, (240, 320), (700, 900)])
def test_without_dimming_nothing_gets_darker_in_any_size(size_hw: tuple[int, int]) -> None:
    source = make_noise(0, size_hw, high=200)
    # Colours are mixed in whole levels, which may round down.
    made = generate(snow(), source).image.astype(int)
    assert (made - source.image).min() >= -1
    assert (made - source.image).mean() < 100


def test_far_ground_is_veiled_more_than_near_ground() -> None:
    made = generate(snow(), make_flat(30, (240, 320))).image[..., 1]
    assert np.median(made[20]) > np.median(made[-20]) + 10


def test_most_of_the_ground_stays_in_sight() -> None:
    for seed in range(5):
        made = generate(Snow(strength_range=(0.6, 0.6)), make_flat(30, (240, 320)), seed).image[120:, :, 1]
        assert (made < 120).mean() > 0.85


def test_larger_flakes_cover_more() -> None:
    small, large = (
        find_flakes(generate(snow(flake_size_range=sizes), make_flat(30, (480, 640))).image).mean()
        for sizes in ((2, 3), (15, 20))
    )
    assert large > 1.5 * small


def test_visibility_is_another_word_for_strength() -> None:
    by_strength = generate(snow(strength_range=(0.5, 0.5)), make_flat(30)).image
    by_visibility = generate(snow(visibility_range=(600, 600)), make_flat(30)).image
    assert np.array_equal(by_strength, by_visibility)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength_range": (0, 2)}, "strength_range must be at most 1, got strength_range=2."),
        ({"visibility_range": (0, 1)}, "visibility_range must be above 0, got visibility_range=(0, 1)."),
        ({"flake_size_range": (0, 1)}, "flake_size_range must be above 0, got flake_size_range=(0, 1)."),
        ({"fall_speed": 0}, "fall_speed must be above 0, got fall_speed=0."),
        ({"exposure_range": (0, 1)}, "exposure_range must be above 0, got exposure_range=(0, 1)."),
        ({"angle_range": (0, 90)}, "angle_range must be at most 80, got angle_range=90."),
        ({"defocus_range": (0, 1)}, "defocus_range must be at most 0.1, got defocus_range=1."),
        ({"dimming_range": (0, 1)}, "dimming_range must be at most 0.9, got dimming_range=1."),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    check_refused(lambda: Snow(**options), ValueError, message)
