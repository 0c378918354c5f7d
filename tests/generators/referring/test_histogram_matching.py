from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synthloader.generators.referring import histogram_matching as matching

HISTOGRAMS = arrays.arrays(np.uint32, (256, 2), elements=st.integers(0, 1000) | st.just(0)).filter(
    lambda counts: bool(counts.any(axis=0).all())
)


def apply(table: np.ndarray, before: np.ndarray) -> np.ndarray:
    after = np.zeros_like(before, np.int64)
    for channel in range(before.shape[1]):
        np.add.at(after[:, channel], table[:, channel], before[:, channel])
    return after


@given(HISTOGRAMS, HISTOGRAMS)
def test_no_level_is_further_off_than_half_of_the_largest_one(before: np.ndarray, wanted: np.ndarray) -> None:
    table = matching.make_table(before, wanted)
    shares = apply(table, before) / before.sum(axis=0)
    distance = np.abs(np.cumsum(shares - wanted / wanted.sum(axis=0), axis=0)).max(axis=0)
    assert (distance <= before.max(axis=0) / before.sum(axis=0) / 2 + 1e-9).all()
    assert (np.diff(table.astype(int), axis=0) >= 0).all(), "What was lighter stays lighter."


@given(HISTOGRAMS, st.integers(1, 50))
def test_its_own_histogram_changes_no_level(counts: np.ndarray, factor: int) -> None:
    table = matching.make_table(counts, counts * np.uint32(factor))
    for channel in range(2):
        there = np.flatnonzero(counts[:, channel])
        assert table[there, channel].tolist() == there.tolist()
    assert matching.are_same(counts, counts * np.uint32(factor))


@given(HISTOGRAMS, HISTOGRAMS)
def test_others_are_not_the_same(one: np.ndarray, other: np.ndarray) -> None:
    equal = np.allclose(one / one.sum(axis=0), other / other.sum(axis=0), rtol=0, atol=1e-12)
    assert matching.are_same(one, other) == equal


def test_it_counts_every_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    plain = np.stack([np.bincount(image[..., at].ravel(), minlength=256) for at in range(3)], axis=1)
    assert np.array_equal(matching.measure(image), plain)


def test_the_luma_of_a_grey_level_is_the_level_itself() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert (matching.measure_reference(ramp)[:, 0] == 1).all()
