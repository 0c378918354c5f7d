from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.errors import NothingToGenerate
from synthloader.generators.fourier_domain_adaptation import FourierDomainAdaptation
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from tests.contracts.generator_contract import Case, check_generator, check_sample
from tests.generators.pictures import REAL_DATA, ListPool, make_classified, make_grey, make_picture, make_segmented

CASES = {
    "FourierDomainAdaptation": Case(
        FourierDomainAdaptation,
        changes=[
            lambda: FourierDomainAdaptation(references=[make_classified(1)]),
            lambda: FourierDomainAdaptation(references=[make_classified(2)]),
            lambda: FourierDomainAdaptation(beta_range=(0, 0.02)),
            lambda: FourierDomainAdaptation(beta_range=(0.001, 0.002)),
        ],
    ),
    "FourierDomainAdaptation, everything": Case(lambda: FourierDomainAdaptation(beta_range=(0.5, 0.5))),
    "FourierDomainAdaptation, references": Case(
        lambda: FourierDomainAdaptation(references=[make_classified(4), make_classified(5)], beta_range=(0, 0.3))
    ),
}


def make_scene(seed: int, size_hw: tuple[int, int] = (60, 80), mean: int = 128, spread: int = 18) -> Sample:
    """Soft noise with energy at all low frequencies, far from 0 and 255, so that nothing is clipped."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (*size_hw, 3)), (0, 0), 3)
    noise = noise / noise.std() * spread + rng.normal(0, 2, noise.shape)
    return Sample(np.clip(mean + noise + [5, 0, -5], 0, 255).round().astype(np.uint8))


def adapt_plainly(source: np.ndarray, reference: np.ndarray, beta: float) -> np.ndarray:
    """The paper's formula, written down as it stands there, for pictures of one size; unrounded.

    Exchanges the amplitudes in the centred square, puts the phases back, and transforms the whole picture back.
    """
    height, width = source.shape[:2]
    spectrum = np.fft.fft2(source.astype(float), axes=(0, 1))
    amplitude, phase = np.abs(spectrum), np.angle(spectrum)
    amplitude = np.fft.fftshift(amplitude, axes=(0, 1))
    theirs = np.fft.fftshift(np.abs(np.fft.fft2(reference.astype(float), axes=(0, 1))), axes=(0, 1))
    half_width = int(np.floor(min(height, width) * beta))
    top, left = height // 2 - half_width, width // 2 - half_width
    square = np.s_[max(0, top) : top + 2 * half_width + 1, max(0, left) : left + 2 * half_width + 1]
    amplitude[square] = theirs[square]
    amplitude = np.fft.ifftshift(amplitude, axes=(0, 1))
    made: np.ndarray = np.fft.ifft2(amplitude * np.exp(1j * phase), axes=(0, 1)).real
    return made


def generate(generator: Any, source: Sample, seed: int = 0) -> Sample:
    made = generator.generate(source, rng=make_rng(seed, "s", 0, 0))
    assert isinstance(made, Sample)
    return made


def adapt(source: Sample, reference: Sample, beta: float) -> Sample:
    return generate(FourierDomainAdaptation(references=[reference], beta_range=(beta, beta)), source)


@pytest.mark.parametrize("beta", [0, 0.02, 0.05, 0.09, 0.2, 0.4])
@pytest.mark.parametrize("size_hw", [(60, 80), (61, 80), (60, 81), (61, 83), (80, 60), (16, 300)])
def test_it_is_the_papers_formula(size_hw: tuple[int, int], beta: float) -> None:
    source, reference = make_scene(0, size_hw), make_scene(1, size_hw, 140, 12)
    plain = adapt_plainly(source.image, reference.image, beta)
    made = adapt(source, reference, beta).image
    assert np.abs(made - np.clip(plain, 0, 255)).max() < 0.505
    assert np.abs(made.astype(int) - source.image).max() > 5


@pytest.mark.parametrize("size_hw", [(60, 80), (61, 81), (9, 9), (8, 8)])
def test_the_square_may_reach_the_edge_of_the_spectrum(size_hw: tuple[int, int]) -> None:
    source, reference = make_scene(0, size_hw), make_scene(1, size_hw, 140, 12)
    plain = adapt_plainly(source.image, reference.image, 0.5)
    assert np.abs(adapt(source, reference, 0.5).image - np.clip(plain, 0, 255)).max() < 0.505


def test_amplitudes_in_the_square_are_the_references_and_everything_else_stays() -> None:
    source, reference = make_scene(0), make_scene(1, mean=140, spread=12)
    made = adapt(source, reference, 0.1).image
    spectra = [np.fft.fft2(image.astype(float), axes=(0, 1)) / 4800 for image in (source.image, reference.image, made)]
    before, wanted, after = spectra
    inside = np.zeros((60, 80), bool)
    rows, columns = np.fft.fftfreq(60, 1 / 60), np.fft.fftfreq(80, 1 / 80)
    inside[(np.abs(rows)[:, None] <= 6) & (np.abs(columns) <= 6)] = True
    rounding = 0.03  # 8 bits add noise of deviation 0.29 over 4800 pixels: 0.004 to each frequency.
    assert np.abs(np.abs(after[inside]) - np.abs(wanted[inside])).max() < rounding
    assert np.abs(np.abs(before[inside]) - np.abs(wanted[inside])).max() > 30 * rounding
    assert np.abs(after[~inside] - before[~inside]).max() < rounding
    strong = inside[..., None] & (np.abs(wanted) > 0.3) & (np.abs(before) > 0.1)
    assert strong.sum() > 100
    assert np.abs(np.angle(after[strong] / before[strong])).max() < 0.1


def test_beta_0_changes_the_mean_of_each_channel_alone() -> None:
    source, reference = make_scene(0), make_scene(1, mean=140)
    made = adapt(source, reference, 0).image.astype(float)
    shift = reference.image.mean(axis=(0, 1)) - source.image.mean(axis=(0, 1))
    assert np.abs(made - source.image - shift).max() < 0.51


@pytest.mark.parametrize("size_hw", [(120, 160), (45, 60), (90, 60)])
def test_a_reference_of_another_size_is_as_good_as_one_resized_to_the_source(size_hw: tuple[int, int]) -> None:
    source, reference = make_scene(0), make_scene(1, mean=140, spread=12)
    smooth = cv2.GaussianBlur(reference.image, (0, 0), 2)
    resized = cv2.resize(smooth, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    one = adapt(source, Sample(smooth), 0.05).image.astype(int)
    other = adapt(source, Sample(resized), 0.05).image
    assert np.abs(one - other).mean() < 1
    assert np.abs(one - source.image).mean() > 10


def test_the_square_ends_where_a_small_reference_does() -> None:
    source, small = make_scene(0), make_scene(1, (1, 1), 190)
    made = adapt(source, small, 0.2).image.astype(float)
    shift = small.image.astype(float)[0, 0] - source.image.mean(axis=(0, 1))
    assert np.abs(made - np.clip(source.image + shift, 0, 255)).max() < 0.51


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_flat_picture_has_no_phase_and_stays_flat(level: int) -> None:
    flat = np.full((40, 50, 3), [level, 30, 90], np.uint8)
    made = adapt(Sample(flat), make_scene(1), 0.2).image
    assert (made == made[0, 0]).all()
    assert np.abs(made[0, 0] - make_scene(1).image.mean(axis=(0, 1))).max() < 0.51


@pytest.mark.parametrize("reference", [make_scene(1), make_grey(make_scene(1, mean=150))])
def test_a_one_channel_picture_stays_one_and_takes_the_luma(reference: Sample) -> None:
    source = make_grey(make_scene(0))
    luma = cv2.cvtColor(reference.image, cv2.COLOR_RGB2GRAY)[..., None]
    made = adapt(source, reference, 0.1).image
    assert (made == made[..., :1]).all()
    assert np.abs(made[..., :1] - np.clip(adapt_plainly(source.image[..., :1], luma, 0.1), 0, 255)).max() < 0.505


def test_earlier_calls_do_not_matter() -> None:
    """A reference is measured for powers of two: which of them came first must not show."""
    pool = ListPool([make_scene(at, (100 + at, 90)) for at in range(1, 4)])
    sources = [make_scene(9, (size, size + 7)) for size in (130, 20, 60, 128)]
    first, second = (FourierDomainAdaptation(beta_range=(0, 0.3)).bind(pool, classes=None) for _ in range(2))
    forwards = [generate(first, source, seed).image for seed in range(3) for source in sources]
    backwards = [generate(second, source, seed).image for seed in (2, 1, 0) for source in reversed(sources)]
    assert all(np.array_equal(one, other) for one, other in zip(forwards, reversed(backwards), strict=True))


def test_it_never_draws_the_source_itself_where_there_is_another() -> None:
    bound = FourierDomainAdaptation().bind(ListPool([make_scene(0), make_scene(1)]), classes=None)
    for seed in range(20):
        origin = generate(bound, make_scene(0), seed).origin
        assert origin is not None
        assert origin.drawn == ("1.png",)


@pytest.mark.parametrize("pictures", [[], [make_scene(0)], [make_scene(0), make_scene(0)]])
def test_nothing_is_generated_from_the_source_alone(pictures: list[Sample]) -> None:
    bound = FourierDomainAdaptation(beta_range=(0, 0.5)).bind(ListPool(pictures), classes=None)
    for seed in range(5):
        with pytest.raises(NothingToGenerate, match=r"^no other reference$"):
            generate(bound, make_scene(0), seed)


def test_what_would_change_no_pixel_is_not_generated() -> None:
    source = make_scene(0)
    almost = source.image.copy()
    almost[:20] ^= 1
    with pytest.raises(NothingToGenerate, match=r"^(unchanged|no other reference)$"):
        adapt(source, Sample(almost), 0)


def test_each_reference_is_decoded_once_for_sources_of_one_size() -> None:
    pool = ListPool([make_scene(1), make_scene(2)])
    bound = FourierDomainAdaptation(beta_range=(0.05, 0.06)).bind(pool, classes=None)
    for seed in range(20):
        generate(bound, make_scene(0), seed)
    assert sorted(pool.decoded) == [0, 1]


def test_a_pickle_gives_the_same_bits() -> None:
    bound = FourierDomainAdaptation(beta_range=(0, 0.3)).bind(ListPool([make_scene(1), make_scene(2)]), classes=None)
    made = generate(bound, make_scene(0)).image
    assert np.array_equal(generate(pickle.loads(pickle.dumps(bound)), make_scene(0)).image, made)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (40, 56), (33, 21)])
def test_the_label_contract(name: str, size_hw: tuple[int, int]) -> None:
    check_generator(CASES[name])
    pool = ListPool([make_picture(at, size_hw=(20, 30)) for at in range(2)])
    sources = [
        make_picture(3, size_hw=size_hw, num_keypoints=2, with_maps=True),
        make_segmented(4, size_hw=size_hw),
        make_classified(5, size_hw=size_hw),
    ]
    for source in sources:
        for each in (source, make_grey(source)):
            assert check_sample(CASES[name], pool, each, 0) is not None


@pytest.mark.parametrize("data", REAL_DATA)
def test_real_pictures(data: str, shared_data: Path) -> None:
    pool = REAL_DATA[data](shared_data / data, 3)
    assert check_sample(CASES["FourierDomainAdaptation"], pool, pool.samples[0], 0) is not None


def test_its_repr_and_its_pool() -> None:
    free, given = FourierDomainAdaptation(), FourierDomainAdaptation(references=[make_scene(1)])
    assert repr(free) == "FourierDomainAdaptation(beta_range=(0.0, 0.002))"
    assert repr(given) == "FourierDomainAdaptation(references=<1 images>, beta_range=(0.0, 0.002))"
    assert (free.uses_pool, given.uses_pool) == (True, False)
    assert free.bind(ListPool([make_scene(2)]), classes=None).fingerprint == free.fingerprint


class TestErrors:
    def test_a_range_beyond_half_of_the_side(self) -> None:
        message = "beta_range must be at most 0.5, got beta_range=0.6."
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            FourierDomainAdaptation(beta_range=(0.1, 0.6))

    def test_a_number(self) -> None:
        message = "beta_range must be a pair (low, high), got beta_range=0.01."
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            FourierDomainAdaptation(beta_range=0.01)  # type: ignore[arg-type]

    def test_a_file_that_is_no_image(self, tmp_path: Path) -> None:
        file = tmp_path / "broken.png"
        file.write_bytes(b"no image")
        message = (
            f"references must be whole images, got references={str(file)!r}. "
            f"It is cut short, or of a format that OpenCV cannot read."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            FourierDomainAdaptation(references=tmp_path)

    def test_no_references(self) -> None:
        message = (
            "references must be given, or a pool be bound before generate, got references=None. "
            "Pass FourierDomainAdaptation to GeneratedDataset, call bind first, or give references=."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            generate(FourierDomainAdaptation(), make_scene(0))
