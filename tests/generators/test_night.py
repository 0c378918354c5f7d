from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.generators.night import Night
from synthloader.sample import Sample
from tests.contracts.generator_contract import Case
from tests.generators.weather import (
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
    Night,
    changes=[
        lambda: Night(strength_range=(0.1, 0.6)),
        lambda: Night(stops_range=(1, 3)),
        lambda: Night(stops_range=(1, 2)),
        lambda: Night(blue_range=(0, 0)),
        lambda: Night(electrons_range=(100, 200)),
        lambda: Night(read_noise_range=(0, 0)),
        lambda: Night(glow_range=(0, 0)),
        lambda: Night(sky_range=(0, 0)),
        lambda: Night(vignetting=0.0),
    ],
)


def night(**options: Any) -> Night:
    """Night by exposure alone, nearly without noise."""
    settings: dict[str, Any] = {
        "stops_range": (2, 2),
        "blue_range": (0, 0),
        "electrons_range": (1e9, 1e9),
        "read_noise_range": (0, 0),
        "glow_range": (0, 0),
        "sky_range": (0, 0),
        "vignetting": 0.0,
    }
    return Night(**{**settings, **options})


def paint_lamps(side: int = 12) -> Sample:
    """A dark scene with one lamp and, far from it, a white wall."""
    image = np.full((240, 320, 3), 60, np.uint8)
    image[40 : 40 + side, 60 : 60 + side] = 255
    image[120:, 200:] = 255
    return Sample(image)


def test_it_keeps_the_contract() -> None:
    check_contract(CASE)


def test_a_one_channel_picture_stays_one() -> None:
    check_grey(Night())


def test_stronger_nights_are_darker() -> None:
    check_strengths(lambda strengths: Night(strength_range=strengths), make_noise(0, (120, 160)))


def test_nothing_is_generated_at_strength_0() -> None:
    check_no_strength(Night(strength_range=(0, 0)))
    check_no_strength(Night(stops_range=(0, 0)))


@pytest.mark.parametrize("stops", [1.0, 2.0, 3.0])
def test_every_stop_halves_the_light(stops: float) -> None:
    source = make_noise(0, (64, 80), high=190)
    made = generate(night(stops_range=(stops, stops)), source).image
    assert np.abs(made - source.image * 0.5 ** (stops / 2)).max() <= 0.6


def test_noise_has_the_variance_of_photons_and_sensor() -> None:
    source = Sample(np.full((300, 400, 3), [180, 180, 170], np.uint8))
    made = generate(night(electrons_range=(500, 500), read_noise_range=(4, 4)), source).image[..., :2].astype(float)
    light = np.square(made / 255)
    expected = (180 / 255) ** 2 / 4
    assert light.mean() == pytest.approx(expected, rel=0.02)
    assert light.std() == pytest.approx(np.sqrt(expected * 500 + 16) / 500, rel=0.05)
    noise = light - light.mean()
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    channels = (noise[..., 0] * noise[..., 1]).mean() / noise.var()
    assert abs(neighbours) < 0.02
    assert abs(channels) < 0.02


def test_colours_fade_towards_blue() -> None:
    red = Sample(np.full((8, 8, 3), [180, 60, 40], np.uint8))
    plain, blue = (
        generate(night(blue_range=(share, share)), red).image.reshape(-1, 3).mean(axis=0) for share in (0, 0.8)
    )
    assert blue[2] / blue[0] > 2 * plain[2] / plain[0]


def test_lamps_stay_lit_and_walls_do_not() -> None:
    made = generate(night(), paint_lamps()).image
    assert made[46, 66].min() > 200
    assert made[200, 280].max() < 140


def test_lamps_glow_and_glow_fades_with_distance() -> None:
    plain, glowing = (generate(night(glow_range=(g, g)), paint_lamps()).image.astype(int) for g in (0, 1))
    added = (glowing - plain).mean(axis=2)[46]
    assert added[80] > 20
    assert added[80] > added[95] > added[120] >= 0
    assert np.abs(added[260:]).max() <= 1


def test_gaps_with_sky_in_them_are_no_lamps() -> None:
    image = np.full((240, 320, 3), 60, np.uint8)
    image[:120] = 255
    image[124:130, 100:106] = 255
    made = generate(night(), Sample(image)).image
    assert made[126, 103].max() < 140


def test_the_sky_gets_darker_than_the_ground() -> None:
    image = cv2.merge([np.repeat(np.repeat(np.uint8([[250], [100]]), 120, axis=0), 320, axis=1)] * 3)
    made = generate(night(sky_range=(0.8, 0.8)), Sample(image)).image.astype(float)
    plain = generate(night(), Sample(image)).image.astype(float)
    assert made[20, 160, 0] < 0.6 * plain[20, 160, 0]
    assert made[-20, 160, 0] > 0.9 * plain[-20, 160, 0]


@pytest.mark.parametrize("sky", [0.5, 0.8])
def test_the_sky_is_as_dark_beside_a_roof_as_elsewhere(sky: float) -> None:
    image = np.full((240, 320, 3), 225, np.uint8)
    image[180:] = 60
    tip = np.array([[160, 40], [250, 200], [70, 200]])  # A roof with a chimney beside it: corners with sky in them.
    cv2.fillPoly(image, [tip], (60, 50, 40), cv2.LINE_AA)
    image[90:200, 240:250] = 60
    plain, made = (generate(night(sky_range=(share, share)), Sample(image)).image.astype(float) for share in (0, sky))
    far = made[20, 20, 1]
    assert far < 0.85 * plain[20, 20, 1]
    is_sky = image[..., 1] == 225
    assert np.abs(made[is_sky][:, 1] - far).max() <= 2
    # Soft edges: nothing between roof and sky is brighter than the sky.
    assert made[..., 1].max() <= far + 3


def test_corners_are_darker() -> None:
    made = generate(night(vignetting=0.75), make_flat(200, (65, 65))).image.astype(float)
    assert made[0, 0, 0] == pytest.approx(0.5 * made[32, 32, 0], abs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength_range": (0, 2)}, "strength_range must be at most 1, got strength_range=2."),
        ({"stops_range": (0, 11)}, "stops_range must be at most 10, got stops_range=11."),
        ({"blue_range": (0, 2)}, "blue_range must be at most 1, got blue_range=2."),
        ({"electrons_range": (0, 1)}, "electrons_range must be above 0, got electrons_range=(0, 1)."),
        ({"read_noise_range": (-1, 1)}, "read_noise_range must be at least 0, got read_noise_range=-1."),
        ({"glow_range": (0, 2)}, "glow_range must be at most 1, got glow_range=2."),
        ({"sky_range": (0, 2)}, "sky_range must be at most 1, got sky_range=2."),
        ({"vignetting": 2}, "vignetting must be at most 1, got vignetting=2."),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    check_refused(lambda: Night(**options), ValueError, message)
