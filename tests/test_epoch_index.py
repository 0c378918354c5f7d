"""An index that carries its epoch is an int to everybody else, and keeps its epoch on every way to a worker."""

from __future__ import annotations

import copy
import json
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.epoch_index import EpochIndex


@given(value=st.integers(), epoch=st.integers(0, 2**70))
def test_it_is_the_int_that_it_stands_for(value: int, epoch: int) -> None:
    index = EpochIndex(value, epoch=epoch)
    assert index == value
    assert hash(index) == hash(value)
    assert type(index + 0) is int
    assert isinstance(index, int)
    assert f"{index}" == repr(index) == json.dumps(index) == str(value)


def test_it_indexes_lists_arrays_and_dicts_like_any_int() -> None:
    index = EpochIndex(2, epoch=9)
    assert [10, 11, 12, 13][index] == 12
    assert np.arange(5)[index] == 2
    assert {2: "two"}[index] == "two"
    assert range(10)[EpochIndex(-1, epoch=0)] == 9


@pytest.mark.parametrize(
    "send",
    [
        pickle.dumps,
        lambda index: pickle.dumps(index, protocol=2),
        lambda index: bytes(ForkingPickler.dumps(index)),
    ],
    ids=["pickle", "an old pickle", "to a worker"],
)
@pytest.mark.parametrize("is_padding", [False, True])
def test_it_keeps_its_epoch_on_the_way_to_a_worker(send: Any, is_padding: bool) -> None:
    index = pickle.loads(send(EpochIndex(7, epoch=3, is_padding=is_padding)))
    assert type(index) is EpochIndex
    assert (int(index), index.epoch, index.is_padding) == (7, 3, is_padding)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_keeps_the_epoch(duplicate: Any) -> None:
    (index,) = duplicate([EpochIndex(7, epoch=3)])
    assert (int(index), index.epoch, index.is_padding) == (7, 3, False)


def test_numpy_integers_become_plain_ones() -> None:
    assert EpochIndex(np.int64(5), epoch=1) == 5  # type: ignore[arg-type]
