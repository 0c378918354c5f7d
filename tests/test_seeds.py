"""Random generators are functions of their names and numbers: independent, equal everywhere, and nobody else's."""

from __future__ import annotations

import multiprocessing
import os
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthloader.seeds import hash_numbers, make_rng
from tests.guards import GlobalRandomState

# File names can hold bytes that are no UTF-8, which Python shows as lone surrogates.
names = st.text(st.characters(codec=None, exclude_categories=[]), max_size=20)
streams = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
ints = st.integers(-(2**70), 2**70)
places = st.tuples(ints, names, ints, ints, streams)


def draw(seed: int, source: str, variant: int, attempt: int, stream: str = "") -> tuple[int, ...]:
    rng = make_rng(seed, source, variant, attempt, stream=stream)
    return tuple(rng.integers(2**63, size=4).tolist())


def run_in_child(place: tuple[Any, ...], answers: Any) -> None:
    answers.put((os.getpid(), draw(*place), hash_numbers(1, -2, 3)))


@given(place=places)
def test_equal_arguments_give_the_same_stream(place: tuple[Any, ...]) -> None:
    assert draw(*place) == draw(*place)


@given(one=places, other=places)
def test_any_other_argument_gives_another_stream(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert (draw(*one) == draw(*other)) == (one == other)


@given(place=places, at=st.integers(0, 4), data=st.data())
def test_each_part_counts(place: tuple[Any, ...], at: int, data: st.DataObject) -> None:
    other = list(place)
    other[at] = data.draw([ints, names, ints, ints, streams][at].filter(lambda value: value != place[at]))
    assert draw(*place) != draw(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, "a", 23, 0), (12, "a", 3, 0)),
        ((1, "a", 2, 3), (1, "a", 23, 0)),
        ((0, "1a", 1, 0), (0, "a", 1, 1)),
        ((0, "a", 0, 0, "b"), (0, "ba", 0, 0)),
        ((0, "a", 0, 0, "b"), (0, "b", 0, 0, "a")),
        ((0, "b\0a", 0, 0), (0, "a", 0, 0, "b")),
        ((0, "é", 0, 0), (0, "e\N{COMBINING ACUTE ACCENT}", 0, 0)),
        ((0, "a/b", 0, 0), (0, "a\\b", 0, 0)),
    ],
)
def test_parts_do_not_run_into_each_other(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert draw(*one) != draw(*other)


def test_numpy_integers_count_as_what_they_are() -> None:
    assert draw(np.int64(3), "a", np.int32(2), np.uint8(1)) == draw(3, "a", 2, 1)  # type: ignore[arg-type]
    assert hash_numbers(np.int64(3), 4) == hash_numbers(3, 4)


def test_the_stream_is_the_recorded_one() -> None:
    # Whatever changes these numbers changes every sample that anybody ever generated.
    rng = make_rng(0, "cat.jpg", 1, 0)
    assert rng.bit_generator.state["bit_generator"] == "Philox"
    assert rng.integers(1000, size=5).tolist() == [611, 163, 724, 614, 319]
    assert hash_numbers(1, 2, 3) == 1869576123884218947


def test_neighbouring_places_are_uncorrelated() -> None:
    size = 4000
    firsts = np.array([make_rng(0, "a.jpg", variant, 0).random() for variant in range(size)])
    assert abs(np.corrcoef(firsts[:-1], firsts[1:])[0, 1]) < 6 / size**0.5
    counts = np.histogram(firsts, bins=20, range=(0, 1))[0]
    assert ((counts - size / 20) ** 2 / (size / 20)).sum() < 19 + 8 * 38**0.5
    one, other = (make_rng(seed, "a.jpg", 0, 0).standard_normal(20_000) for seed in (0, 1))
    assert abs(np.corrcoef(one, other)[0, 1]) < 6 / 20_000**0.5


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12 and newer
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_draw_the_same(method: str) -> None:
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    place = (7, "träger/ünïcode.jpg", 3, 1, "after")
    child = context.Process(target=run_in_child, args=(place, answers))
    child.start()
    pid, drawn, hashed = answers.get(timeout=60)
    child.join()
    answers.close()
    answers.join_thread()
    assert pid != os.getpid()
    assert drawn == draw(*place)
    assert hashed == hash_numbers(1, -2, 3)


def test_the_global_random_states_are_neither_read_nor_changed() -> None:
    before = GlobalRandomState.read()
    drawn = draw(0, "a", 0, 0)
    assert before.differences(GlobalRandomState.read()) == []
    try:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        assert draw(0, "a", 0, 0) == drawn
    finally:
        before.restore()


@given(numbers=st.lists(ints, max_size=5), other=st.lists(ints, max_size=5))
def test_hashes_of_numbers_are_64_bits_and_differ_where_the_numbers_do(numbers: list[int], other: list[int]) -> None:
    assert 0 <= hash_numbers(*numbers) < 2**64
    assert (hash_numbers(*numbers) == hash_numbers(*other)) == (numbers == other)


def test_hashes_do_not_run_numbers_into_each_other() -> None:
    assert len({hash_numbers(12, 3), hash_numbers(1, 23), hash_numbers(123), hash_numbers(-12, 3)}) == 4
