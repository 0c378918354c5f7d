from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.checks import show_value
from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators.fog import Fog
from synthloader.protocols import Demanding
from synthloader.sample import Sample
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


class Detector:
    """Knows a depth map; a stand-in for a network, which is a function of the image as well."""

    fingerprint = "Detector/1"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return image[..., 0].astype(np.float32)


class Distance:
    """Detectors that differ in what they know, not in their names."""

    def __init__(self, metres: float) -> None:
        self.metres = metres

    def predict(self, image: np.ndarray) -> np.ndarray:
        return detect_distance(image, self.metres)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.predict(image)


def make_detector(metres: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: detect_distance(image, metres)


def detect_distance(image: np.ndarray, metres: float = 9.0) -> np.ndarray:
    return np.full(image.shape[:2], metres)


def detect_nothing(image: np.ndarray) -> np.ndarray:
    return np.full(image.shape[:2], np.nan)


def detect_half(image: np.ndarray) -> np.ndarray:
    return np.ones((image.shape[0] // 2, image.shape[1]))


CASE = Case(
    lambda: Fog(depth_kind="relative"),
    changes=[
        lambda: Fog(),
        lambda: Fog(strength_range=(0.1, 0.5)),
        lambda: Fog(visibility_range=(50, 500)),
        lambda: Fog(visibility_range=(50, 400)),
        lambda: Fog(airlight=(200, 200, 200)),
        lambda: Fog(airlight=(200, 200, 210)),
        lambda: Fog(airlight_range=(0.5, 0.9)),
        lambda: Fog(horizon_range=(0.2, 0.5)),
        lambda: Fog(camera_height_range=(1, 2)),
        lambda: Fog(max_distance_m=90),
        lambda: Fog(patchiness_range=(0, 0)),
        lambda: Fog(min_transmission=0.2),
        lambda: Fog(depth=Detector()),
        lambda: Fog(depth=detect_nothing),
        lambda: Fog(depth_map="depth"),
        lambda: Fog(depth_map="distance"),
        lambda: Fog(depth_kind="inverse"),
        lambda: Fog(depth_kind="relative_inverse"),
        lambda: Fog(depth_scale=0.001),
        lambda: Fog(distance_range=(3, 200)),
    ],
)


def make_plain(visibility: float, **options: Any) -> Fog:
    """Even fog of a known colour and visibility."""
    settings: dict[str, Any] = {"airlight": (200, 210, 220), "patchiness_range": (0, 0), "min_transmission": 0.0}
    return Fog(visibility_range=(visibility, visibility), **{**settings, **options})


def with_depth(image: Sample, depth: np.ndarray, name: str = "depth") -> Sample:
    return image.replace(maps={name: depth})


def test_it_keeps_the_contract() -> None:
    check_contract(CASE)


def test_a_one_channel_picture_stays_one() -> None:
    check_grey(Fog())
    check_grey(Fog(airlight=(200, 210, 250)))


def test_stronger_fog_changes_more() -> None:
    check_strengths(lambda strengths: Fog(strength_range=strengths), make_noise(0, low=0, high=120))


def test_nothing_is_generated_at_strength_0() -> None:
    check_no_strength(Fog(strength_range=(0, 0)))


@given(
    seed=st.integers(0, 99),
    visibility=st.floats(5, 2000),
    airlight=st.tuples(*[st.floats(0, 255)] * 3),
    minimum=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_transmission_is_the_exponential_of_distance(
    seed: int, visibility: float, airlight: tuple[float, float, float], minimum: float
) -> None:
    rng = np.random.default_rng(seed)
    source = make_noise(seed, (20, 30))
    distances = rng.uniform(0.5, 200, (20, 30)).astype(np.float32)
    fog = make_plain(visibility, airlight=airlight, min_transmission=minimum)
    try:
        made = generate(fog, with_depth(source, distances))
    except NothingToGenerate:
        pytest.fail("Fog over 200 m is seen.")
    transmission = np.maximum(np.exp(-3.912 / visibility * distances.astype(float)), minimum)[..., None]
    expected = source.image.astype(float) ** 2 * transmission + np.square(airlight) * (1 - transmission)
    assert np.abs(np.sqrt(expected) - made.image).max() <= 1


@pytest.mark.parametrize("size_hw", [*SIZES_HW, (700, 900)])
def test_every_pixel_of_every_size_is_veiled_alike(size_hw: tuple[int, int]) -> None:
    source = make_noise(1, size_hw)
    made = generate(make_plain(100), with_depth(source, np.full(size_hw, 20.0)))
    transmission = np.exp(-3.912 / 100 * 20)
    expected = source.image.astype(float) ** 2 * transmission + np.square([200, 210, 220]) * (1 - transmission)
    assert np.abs(np.sqrt(expected) - made.image).max() <= 1


def test_2_percent_of_the_contrast_are_left_at_the_visibility() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = 255
    made = generate(make_plain(80, airlight=(120, 120, 120)), with_depth(Sample(image), np.full((2, 4), 80.0)))
    dark, light = made.image[0, 0, 0].astype(float), made.image[0, 3, 0].astype(float)
    assert (light**2 - dark**2) / 255**2 == pytest.approx(0.02, abs=0.003)


def test_what_is_farther_is_foggier_and_infinity_is_the_airlight() -> None:
    distances = np.array([[1, 10, 20, 40, 80, 160, 1000, np.inf]] * 3)
    made = generate(make_plain(100), with_depth(Sample(np.full((3, 8, 3), [10, 20, 30], np.uint8)), distances))
    assert (np.diff(made.image[0, :, 0].astype(int)) >= 0).all()
    assert made.image[0, -1].tolist() == [200, 210, 220]


def test_a_trace_of_everything_is_left() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, ::2] = 255
    distances = np.full((4, 8), np.inf)
    for seed in range(20):
        fog = Fog(strength_range=(1, 1), patchiness_range=(0, 1), depth_map="far")
        made = generate(fog, with_depth(Sample(image), distances, "far"), seed).image.astype(int)
        assert (made[:, ::2] - made[:, 1::2]).min() >= 8


def test_the_plane_is_foggier_towards_the_horizon_and_even_above_it() -> None:
    source = make_flat(20, (100, 10))
    made = generate(make_plain(100, horizon_range=(0.4, 0.4)), source).image[:, 0, 0].astype(int)
    assert (np.diff(made) <= 0).all()
    assert (made[:40] == made[0]).all()
    assert made[0] > 150
    assert made[-1] < made[0] - 50
    deeper = generate(make_plain(100, horizon_range=(0.8, 0.8)), source).image[:, 0, 0].astype(int)
    assert (deeper[:80] == made[0]).all()


def test_a_detector_that_works_in_place_changes_no_source() -> None:
    class Careless(Detector):
        fingerprint = "Careless/1"

        def __call__(self, image: np.ndarray) -> np.ndarray:
            image[:] = 7
            return super().__call__(image)

    source = make_noise(1, (6, 8), 30, 200)
    before = source.image.copy()
    generate(make_plain(60, depth=Careless()), source)
    assert np.array_equal(source.image, before)


def test_what_was_named_goes_before_the_map_depth_and_that_before_the_plane() -> None:
    source = make_noise(1, (6, 8), 30, 200)
    mapped = with_depth(source, np.full((6, 8), 50.0))
    plain = make_plain(60)
    detected = make_plain(60, depth=Detector())
    assert np.array_equal(generate(detected, mapped).image, generate(detected, source).image)
    assert not np.array_equal(generate(plain, mapped).image, generate(plain, source).image)
    assert not np.array_equal(generate(detected, source).image, generate(plain, source).image)
    seen = with_depth(source, source.image[..., 0].astype(np.float32))
    assert np.array_equal(generate(detected, source).image, generate(plain, seen).image)
    both = source.replace(maps={"depth": np.full((6, 8), 9.0), "distance": np.full((6, 8), 50.0)})
    found = generate(make_plain(60, depth_map="distance"), both).image
    assert np.array_equal(found, generate(plain, mapped).image)


def test_airlight_follows_the_pictures_own_light() -> None:
    fog = Fog(strength_range=(1, 1), airlight_range=(0.9, 0.9), patchiness_range=(0, 0), min_transmission=0.0)
    far = np.full((60, 80), np.inf)
    bright, dark = (generate(fog, with_depth(make_noise(0, high=high), far)).image.mean() for high in (256, 40))
    assert bright > 200
    assert 60 < dark < 130


def test_patches_vary_over_the_picture() -> None:
    far = np.full((60, 80), 60.0)
    even = generate(make_plain(100), with_depth(make_flat(10), far)).image
    patchy = generate(make_plain(100, patchiness_range=(0.5, 0.5)), with_depth(make_flat(10), far)).image
    assert np.ptp(even[..., 0]) == 0
    assert np.ptp(patchy[..., 0]) > 20
    assert np.abs(np.diff(patchy[..., 0].astype(int), axis=1)).max() < 12


def test_a_detector_is_known_by_its_fingerprint_or_its_name() -> None:
    detectors = [make_detector(5.0), make_detector(90.0)]
    for at, detector in enumerate(detectors):
        detector.fingerprint = f"{at}"  # type: ignore[attr-defined]
    fingerprints = {Fog(depth=each).fingerprint for each in (*detectors, detect_distance, detect_nothing, Detector())}
    assert len(fingerprints) == 5


def test_too_thin_a_fog_is_no_generated_sample() -> None:
    with pytest.raises(NothingToGenerate, match=r"^no visible change$"):
        generate(make_plain(1e6, max_distance_m=1), make_noise())


def test_a_detector_that_sees_nothing_generates_nothing() -> None:
    with pytest.raises(NothingToGenerate, match=r"^no measurement in the depth map$"):
        generate(Fog(depth=detect_nothing), make_noise())


class TestErrors:
    def test_a_relative_map_given_as_metres(self) -> None:
        source = with_depth(make_noise(), np.random.default_rng(0).random((60, 80)))
        message = (
            "maps['depth'] must hold metres for depth_kind='metric', got maps['depth']='no value above 1'. Say "
            "depth_kind='relative' for 0..1, 'relative_inverse' where near is large, or give depth_scale."
        )
        check_refused(lambda: generate(Fog(), source), ValueError, message)

    def test_a_map_of_vectors(self) -> None:
        source = with_depth(make_noise(), np.ones((60, 80, 2)))
        message = "maps['depth'] must have shape (height, width), got maps['depth']=(60, 80, 2). Give one number for each pixel."
        check_refused(lambda: generate(Fog(), source), ValueError, message)

    def test_a_detector_of_another_size(self) -> None:
        message = "depth must return a map of the image's height and width (60, 80), got depth=(30, 80)."
        check_refused(lambda: generate(Fog(depth=detect_half), make_noise()), ValueError, message)

    @pytest.mark.parametrize(
        "unnamed",
        [
            lambda image: image[..., 0],
            Distance(5.0).predict,
            Distance(5.0),
            make_detector(5.0),
            functools.partial(detect_distance, metres=5.0),
            functools.wraps(detect_nothing)(make_detector(5.0)),
        ],
    )
    def test_a_detector_that_shares_its_name_with_others(self, unnamed: Any) -> None:
        message = (
            f"depth must have an attribute fingerprint or be a function of a module, got depth={show_value(unnamed)}. "
            f"Give it a string `fingerprint` that changes when its output would."
        )
        check_refused(lambda: Fog(depth=unnamed), ValueError, message)

    @pytest.mark.parametrize(
        ("maps", "there_are"),
        [({}, "It has no maps."), ({"depth": 1, "albedo": 2}, "It has 'albedo', 'depth'.")],
    )
    def test_a_map_that_the_source_lacks(self, maps: dict[str, int], there_are: str) -> None:
        source = make_noise().replace(maps={name: np.full((60, 80), value) for name, value in maps.items()})
        message = (
            f"depth_map must be a map of every source, got depth_map='depht'. {there_are} "
            f"Give depth= instead, or leave both out for distances from a plane."
        )
        for ask in (lambda fog: fog.check_source(source), lambda fog: generate(fog, source)):
            check_refused(lambda ask=ask: ask(Fog(depth_map="depht")), LabelContractError, message)
        assert isinstance(Fog(), Demanding)

    def test_a_map_and_a_detector(self) -> None:
        message = "depth_map must be None where a detector is given, got depth_map='depth'. Give depth= or depth_map=."
        check_refused(lambda: Fog(depth=detect_nothing, depth_map="depth"), ValueError, message)

    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            (
                {"strength_range": (0.2, 1.5)},
                ValueError,
                "strength_range must be at most 1, got strength_range=1.5.",
            ),
            (
                {"strength_range": (0.5, 0.2)},
                ValueError,
                "strength_range must have low <= high, got strength_range=(0.5, 0.2). Exchange the two numbers.",
            ),
            (
                {"visibility_range": (0, 100)},
                ValueError,
                "visibility_range must be above 0, got visibility_range=(0, 100).",
            ),
            (
                {"airlight": 200},
                TypeError,
                "airlight must be three numbers (red, green, blue), got airlight=200.",
            ),
            ({"airlight": (200, 300, 0)}, ValueError, "airlight must be at most 255, got airlight=300."),
            ({"max_distance_m": 0}, ValueError, "max_distance_m must be above 0, got max_distance_m=0."),
            ({"min_transmission": 2}, ValueError, "min_transmission must be at most 1, got min_transmission=2."),
            ({"depth": 3}, TypeError, "depth must be a function from an image to a depth map, got depth=3."),
            ({"depth_map": 3}, TypeError, "depth_map must be a str, got depth_map=3."),
            (
                {"depth_kind": "relativ"},
                ValueError,
                "depth_kind must be one of 'metric', 'inverse', 'relative', 'relative_inverse', got "
                "depth_kind='relativ'. Did you mean 'relative'?",
            ),
        ],
    )
    def test_an_option(self, options: dict[str, Any], kind: type[Exception], message: str) -> None:
        check_refused(lambda: Fog(**options), kind, message)
