"""The keyed permutation: a bijection of every size, with an inverse, even over keys, in constant time and memory."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.permutation import Permutation, get_permutation

keys = st.integers(-(2**64), 2**64)
SIZES_WITH_CORNERS = sorted({*range(1, 70), *(2**k + d for k in range(6, 12) for d in (-1, 0, 1)), 4999, 5000})


def chi_square(counts: np.ndarray, expected: float) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


def bound_of(freedom: int) -> float:
    """Far beyond what chance does: mean plus eight standard deviations and a little."""
    return freedom + 8 * (2 * freedom) ** 0.5 + 20


@pytest.mark.parametrize("size", SIZES_WITH_CORNERS)
def test_every_position_is_taken_exactly_once(size: int) -> None:
    shuffle = Permutation(size, key=size * 7 + 1)
    assert sorted(map(shuffle, range(size))) == list(range(size))


@given(size=st.integers(1, 5000), key=keys)
def test_it_is_a_bijection_of_any_size_and_key(size: int, key: int) -> None:
    shuffle = Permutation(size, key=key)
    images = [shuffle(index) for index in range(size)]
    assert sorted(images) == list(range(size))
    assert [shuffle.inverse(image) for image in images] == list(range(size))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_it_is_a_bijection_of_every_size_up_to_five_thousand(part: int) -> None:
    for size in range(1 + part, 5001, 10):
        shuffle = Permutation(size, key=~size)
        seen = np.fromiter(map(shuffle, range(size)), np.int64, size)
        assert np.array_equal(np.sort(seen), np.arange(size)), size


@given(data=st.data(), size=st.integers(1, 10**12), key=keys)
def test_the_inverse_leads_back_in_large_sets(data: st.DataObject, size: int, key: int) -> None:
    shuffle = Permutation(size, key=key)
    index = data.draw(st.integers(0, size - 1))
    image = shuffle(index)
    assert 0 <= image < size
    assert shuffle.inverse(image) == index
    assert shuffle(shuffle.inverse(index)) == index


@pytest.mark.parametrize("size", [2**31, 10**9 + 7, 10**12, 2**40 + 1])
def test_no_two_of_many_positions_of_a_large_set_meet(size: int) -> None:
    shuffle = Permutation(size, key=5)
    some = {index * (size // 20_000) for index in range(20_000)}
    images = [shuffle(index) for index in some]
    assert len(set(images)) == len(some)
    assert min(images) >= 0
    assert max(images) < size
    # Spread evenly over the whole range.
    counts = np.bincount(np.array(images) * 20 // size, minlength=20)
    assert chi_square(counts, len(some) / 20) < bound_of(19)


def test_equal_arguments_give_the_same_permutation_and_other_keys_another() -> None:
    def whole(key: int) -> tuple[int, ...]:
        return tuple(map(Permutation(50, key=key), range(50)))

    assert whole(3) == whole(3)
    assert len({whole(key) for key in range(-200, 200)}) == 400


def test_keys_that_differ_only_in_sign_or_high_bits_differ() -> None:
    images = [tuple(map(Permutation(40, key=key), range(40))) for key in (1, -1, 1 + 2**32, 1 + 2**64, 1 + 2**128)]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("size", [2, 3, 5, 7, 8, 10, 16, 17, 33, 64])
def test_every_position_goes_everywhere_equally_often(size: int) -> None:
    rounds = 3000
    counts = np.zeros((size, size))
    for key in range(rounds):
        counts[range(size), [*map(Permutation(size, key=key), range(size))]] += 1
    for index in range(size):
        assert chi_square(counts[index], rounds / size) < bound_of(size - 1), index


@pytest.mark.parametrize("size", [3, 4, 5, 8, 13])
def test_pairs_of_positions_go_everywhere_equally_often(size: int) -> None:
    rounds = 6000
    whole = np.array([[*map(Permutation(size, key=key), range(size))] for key in range(rounds)])
    for left in range(size):
        for right in range(left + 1, size):
            pairs = np.bincount(whole[:, left] * size + whole[:, right], minlength=size * size)
            free = size * (size - 1)
            assert chi_square(pairs[pairs > 0], rounds / free) < bound_of(free - 1)
            assert np.count_nonzero(pairs) == free


@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_orders_of_a_small_set_come_up_equally_often(size: int) -> None:
    rounds = 4800
    seen = Counter(tuple(map(Permutation(size, key=key), range(size))) for key in range(rounds))
    orders = {2: 2, 3: 6, 4: 24}[size]
    assert len(seen) == orders
    assert chi_square(np.array(list(seen.values())), rounds / orders) < bound_of(orders - 1) + 0.05 * rounds


@pytest.mark.parametrize("size", [100, 1000, 4097])
def test_neighbours_do_not_stay_neighbours(size: int) -> None:
    steps = []
    for key in range(30):
        images = [*map(Permutation(size, key=key), range(size))]
        steps += [(after - before) % size for before, after in pairwise(images)]
    counts = np.bincount(np.array(steps) * 10 // size, minlength=10)
    assert chi_square(counts, len(steps) / 10) < bound_of(9)
    assert Counter(steps).most_common(1)[0][1] < 4 * 30 + 8 * 30**0.5


def test_fixed_points_are_as_rare_as_in_a_shuffled_deck() -> None:
    fixed = [sum(Permutation(100, key=key)(index) == index for index in range(100)) for key in range(300)]
    assert 0.7 < np.mean(fixed) < 1.3


@pytest.mark.parametrize("size", [10**8, 10**9, 10**12])
def test_a_position_of_a_huge_set_takes_microseconds_and_no_memory(size: int) -> None:
    def time_one(of: int) -> float:
        shuffle = Permutation(of, key=1)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            for index in range(of - 2000, of):
                shuffle(index)
            times.append((time.perf_counter() - start) / 2000)
        return min(times)

    assert time_one(size) < 100e-6
    assert time_one(size) < 20 * time_one(5000) + 5e-6
    tracemalloc.start()
    shuffle = Permutation(size, key=2)
    for index in range(1000):
        shuffle.inverse(shuffle(index))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000


def test_the_kept_permutation_is_the_same_as_a_new_one() -> None:
    assert get_permutation(77, 9) is get_permutation(77, 9)
    assert [*map(get_permutation(77, 9), range(77))] == [*map(Permutation(77, key=9), range(77))]
