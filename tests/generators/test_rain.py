from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from synthloader.generators.rain import Rain
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
    Rain,
    changes=[
        lambda: Rain(strength_range=(0.1, 0.6)),
        lambda: Rain(rain_rate_range=(5, 50)),
        lambda: Rain(rain_rate_range=(5, 40)),
        lambda: Rain(exposure_range=(0.01, 0.02)),
        lambda: Rain(angle_range=(-5, 5)),
        lambda: Rain(opacity_range=(0.3, 0.4)),
        lambda: Rain(defocus_range=(0, 0)),
        lambda: Rain(dimming_range=(0, 0)),
    ],
)


def rain(**options: Any) -> Rain:
    """Rain of one rate, without dimming."""
    settings: dict[str, Any] = {"rain_rate_range": (50, 50), "dimming_range": (0, 0)}
    return Rain(**{**settings, **options})


def find_streaks(image: np.ndarray) -> np.ndarray:
    """What stands out of each row of a picture of one level: the veil is even along a row."""
    levels = image[..., 1].astype(int)
    found: np.ndarray = levels - np.min(levels, axis=1, keepdims=True)
    return found


def test_it_keeps_the_contract() -> None:
    check_contract(CASE)


def test_a_one_channel_picture_stays_one() -> None:
    check_grey(Rain())


def test_stronger_rain_changes_more() -> None:
    check_strengths(lambda strengths: Rain(strength_range=strengths, dimming_range=(0, 0)), make_flat(30, (240, 320)))


def test_nothing_is_generated_at_strength_0() -> None:
    check_no_strength(Rain(strength_range=(0, 0)))


def test_streaks_are_clear_on_dark_ground_and_unseen_on_a_bright_sky() -> None:
    dark, bright = make_flat(30, (240, 320)), make_flat(254, (240, 320))
    assert find_streaks(generate(rain(exposure_range=(0.01, 0.01)), dark).image).max() > 15
    assert np.ptp(generate(rain(dimming_range=(0.01, 0.01)), bright).image) <= 4


@pytest.mark.parametrize("size_hw", [*SIZES_HW, (240, 320), (700, 900)])
def test_without_dimming_nothing_gets_darker_in_any_size(size_hw: tuple[int, int]) -> None:
    source = make_noise(0, size_hw, high=200)
    # Colours are mixed in whole levels, which may round down.
    made = generate(rain(), source).image.astype(int)
    assert (made - source.image).min() >= -1
    assert (made - source.image).mean() < 100


def test_far_ground_is_veiled_more_than_near_ground() -> None:
    made = generate(rain(), make_flat(30, (240, 320))).image[..., 1]
    assert np.median(made[20]) > np.median(made[-20])


def test_longer_exposures_give_longer_and_fainter_streaks() -> None:
    def measure(exposure: float) -> tuple[float, float]:
        made = generate(rain(exposure_range=(exposure, exposure), angle_range=(0, 0)), make_flat(30, (240, 320)))
        streaks = find_streaks(made.image)
        upright = np.abs(np.diff(streaks, axis=0)).mean()
        across = np.abs(np.diff(streaks, axis=1)).mean()
        return float(across / upright), float(np.quantile(streaks, 0.99))

    (short, clear), (long, faint) = measure(0.005), measure(0.03)
    assert long > 1.5 * short
    assert faint < clear


def test_streaks_lean_with_the_wind() -> None:
    def correlate(angle: float) -> np.ndarray:
        made = generate(rain(angle_range=(angle, angle)), make_flat(30, (240, 320)))
        streaks = find_streaks(made.image).astype(float)
        return np.array([(streaks[:-8, 8:-8] * np.roll(streaks, -shift, axis=1)[8:, 8:-8]).sum() for shift in (-6, 6)])

    left, right = correlate(30)
    assert right > 1.5 * left
    left, right = correlate(-30)
    assert left > 1.5 * right


def test_large_pictures_show_the_same_rain_as_small_ones() -> None:
    small = find_streaks(generate(rain(), make_flat(30, (480, 640))).image)
    large = find_streaks(generate(rain(), make_flat(30, (960, 1280))).image)
    assert large.mean() == pytest.approx(small.mean(), rel=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength_range": (-1, 1)}, "strength_range must be at least 0, got strength_range=-1."),
        ({"rain_rate_range": (0, 1)}, "rain_rate_range must be above 0, got rain_rate_range=(0, 1)."),
        ({"exposure_range": (0, 1)}, "exposure_range must be above 0, got exposure_range=(0, 1)."),
        ({"angle_range": (-90, 0)}, "angle_range must be at least -80, got angle_range=-90."),
        ({"opacity_range": (0, 2)}, "opacity_range must be at most 1, got opacity_range=2."),
        ({"defocus_range": (0, 1)}, "defocus_range must be at most 0.1, got defocus_range=1."),
        ({"dimming_range": (0, 1)}, "dimming_range must be at most 0.9, got dimming_range=1."),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    check_refused(lambda: Rain(**options), ValueError, message)
