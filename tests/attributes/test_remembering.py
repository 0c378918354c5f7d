"""A pool that holds what was read last, only while it is told to."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from synthloader.attributes.remembering import MOST_REMEMBERED, RememberingPool
from synthloader.protocols import Pool
from tests.generators.pictures import ListPool, make_picture


@pytest.fixture
def pool() -> ListPool:
    return ListPool([make_picture(0) for _ in range(MOST_REMEMBERED + 2)])


def test_it_is_the_pool_in_all_that_others_see(pool: ListPool) -> None:
    remembering = RememberingPool(pool)
    assert isinstance(remembering, Pool)
    assert remembering.identity == pool.identity
    assert len(remembering) == len(pool)
    assert remembering.name(3) == pool.name(3)
    assert remembering.class_ids(3).tolist() == pool.class_ids(3).tolist()
    assert remembering.labels_read == 2
    with pytest.raises(AttributeError, match="classes"):
        remembering.classes  # noqa: B018


def test_each_sample_is_read_once_while_it_remembers(pool: ListPool) -> None:
    remembering = RememberingPool(pool)
    with remembering.remember():
        for _ in range(3):
            assert all(remembering[at] is pool.samples[at] for at in range(4))
    assert pool.decoded == [0, 1, 2, 3]


def test_those_read_longest_ago_go_first(pool: ListPool) -> None:
    remembering = RememberingPool(pool)
    with remembering.remember():
        for at in [*range(MOST_REMEMBERED), 0, MOST_REMEMBERED]:
            remembering[at]
        pool.decoded.clear()
        remembering[0]
        remembering[1]
    assert pool.decoded == [1]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_held_afterwards(pool: ListPool, fails: bool) -> None:
    remembering = RememberingPool(pool)
    try:
        with remembering.remember():
            remembering[0]
            if fails:
                raise KeyError
    except KeyError:
        pass
    remembering[0]
    assert pool.decoded == [0, 0]


def test_samples_do_not_travel(pool: ListPool) -> None:
    remembering = RememberingPool(pool)
    before = len(pickle.dumps(remembering))
    with remembering.remember():
        remembering[0]
        copied: Any = pickle.loads(pickle.dumps(remembering))
        assert len(pickle.dumps(remembering)) < before + 20
    copied[0]
    copied[0]
    assert copied.decoded == [0, 0, 0]
