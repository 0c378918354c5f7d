from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloader.generators.referring import low_frequencies
from synthloader.generators.referring.low_frequencies import add_low_frequencies, read_low_frequencies

SIZES = [(1, 1), (1, 2), (2, 1), (7, 8), (8, 7), (8, 8), (9, 9), (30, 41), (2, 300)]


def make_image(size_hw: tuple[int, int], num_channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 166, (*size_hw, num_channels), dtype=np.uint8)


def transform(image: np.ndarray) -> np.ndarray:
    """The whole spectrum by numpy, in levels."""
    return np.fft.fft2(image.astype(float), axes=(0, 1)) / (image.shape[0] * image.shape[1])


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("num_channels", [1, 3])
def test_the_square_is_the_middle_of_the_whole_spectrum(size_hw: tuple[int, int], num_channels: int) -> None:
    image = make_image(size_hw, num_channels)
    for half_width in range(min(size_hw) // 2 + 1):
        square = read_low_frequencies(image, half_width)
        assert square.shape == (2 * half_width + 1, half_width + 1, num_channels)
        rows = np.arange(-half_width, half_width + 1)
        assert np.abs(square - transform(image)[rows][:, : half_width + 1]).max() < 1e-4


@pytest.mark.parametrize("size_hw", SIZES)
def test_what_is_added_has_these_frequencies_and_no_others(size_hw: tuple[int, int]) -> None:
    """With random amplitudes: those of another picture, so that the square is that of a real picture."""
    image = make_image(size_hw)
    for half_width in range(min(size_hw) // 2 + 1):
        added = 0.3 * read_low_frequencies(make_image(size_hw, seed=1), half_width)
        made = add_low_frequencies(image, added).astype(float) - image
        spectrum = np.zeros((*size_hw, 3), complex)
        for y in range(-half_width, half_width + 1):
            for x in range(half_width + 1):
                spectrum[y, x] = added[y + half_width, x]
                spectrum[-y, -x] = added[y + half_width, x].conj()
        plain = np.fft.ifft2(spectrum, axes=(0, 1)).real * size_hw[0] * size_hw[1]
        assert np.abs(made - plain).max() < 0.51


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 400), st.data())
def test_strips_change_nothing(height: int, width: int, strip: int, data: st.DataObject) -> None:
    half_width = data.draw(st.integers(0, min(height, width) // 2))
    image = make_image((height, width))
    square = read_low_frequencies(image, half_width)
    made = add_low_frequencies(image, square)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(low_frequencies, "STRIP_PIXELS", strip)
        assert np.array_equal(read_low_frequencies(image, half_width), square)
        assert np.array_equal(add_low_frequencies(image, square), made)


def test_sums_outside_of_8_bits_are_clipped() -> None:
    image = np.full((4, 4, 3), 200, np.uint8)
    mean = np.full((1, 1, 3), 100, np.complex64)
    assert (add_low_frequencies(image, mean) == 255).all()
    assert (add_low_frequencies(image, -3 * mean) == 0).all()
