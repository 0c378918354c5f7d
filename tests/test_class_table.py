"""The class table agrees with counting by hand."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.class_table import ClassTable, share_uses

rows = st.lists(st.lists(st.integers(-2, 6) | st.sampled_from([90, 2**40]), max_size=6), max_size=12)


@given(rows=rows)
def test_instances_are_counted_as_by_hand(rows: list[list[int]]) -> None:
    assert ClassTable(rows).count("instances") == dict(Counter(one for row in rows for one in row))


@given(rows=rows)
def test_images_are_counted_as_by_hand(rows: list[list[int]]) -> None:
    assert ClassTable(rows).count("images") == dict(Counter(one for row in rows for one in set(row)))


@given(rows=rows)
def test_holders_are_those_that_hold_the_class(rows: list[list[int]]) -> None:
    table = ClassTable(rows)
    for class_id in {one for row in rows for one in row} | {0, 5}:
        assert table.find_holders(class_id).tolist() == [at for at, row in enumerate(rows) if class_id in row]


@given(rows=rows)
def test_the_primary_class_is_that_of_a_single_object(rows: list[list[int]]) -> None:
    assert ClassTable(rows).find_primary().tolist() == [row[0] if len(row) == 1 else -1 for row in rows]


@given(rows=rows)
def test_a_pickled_table_is_the_same(rows: list[list[int]]) -> None:
    table = ClassTable(rows)
    table.count("images")
    copy = pickle.loads(pickle.dumps(table))
    assert (copy.count("images"), copy.num_items) == (table.count("images"), len(rows))


def test_counts_are_plain_ints() -> None:
    ((class_id, count),) = ClassTable([np.array([3, 3])]).count("instances").items()
    assert (type(class_id), type(count)) == (int, int)


def test_a_table_of_nothing_counts_nothing() -> None:
    for table in (ClassTable([]), ClassTable([[], []])):
        assert table.count("images") == table.count("instances") == {}
        assert table.find_holders(0).tolist() == []
    assert ClassTable([[], []]).find_primary().tolist() == [-1, -1]


def test_rows_are_read_once() -> None:
    assert ClassTable(iter([iter([1, 2]), iter([2])])).count("images") == {1: 1, 2: 2}


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        ClassTable([[1]]).count("image")
    assert str(caught.value) == "count must be one of 'images', 'instances', got count='image'. Did you mean 'images'?"


# ---- how limited uses are shared out


def find_most(holders: list[set[int]], needed: list[int], *, num_items: int, limit: int) -> int:
    """The largest number of uses there can be, by the plainest flow: one unit along one path at a time."""
    given_to: list[list[int]] = [[] for _ in range(num_items)]

    def find_place(class_at: int, seen: set[int]) -> bool:
        for item in holders[class_at] - seen:
            seen.add(item)
            if len(given_to[item]) < limit:
                given_to[item].append(class_at)
                return True
            for place, other in enumerate(given_to[item]):
                if other != class_at and find_place(other, seen):
                    given_to[item][place] = class_at
                    return True
        return False

    return sum(find_place(class_at, set()) for class_at, need in enumerate(needed) for _ in range(need))


@given(
    holders=st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=5),
    needed=st.lists(st.integers(1, 9), min_size=5, max_size=5),
    limit=st.integers(1, 4),
)
def test_no_item_is_used_too_often_and_no_use_is_wasted(holders: list[set[int]], needed: list[int], limit: int) -> None:
    shares = share_uses(
        {at: np.array(sorted(some)) for at, some in enumerate(holders)},
        dict(enumerate(needed[: len(holders)])),
        num_items=6,
        limit=limit,
    )
    totals = np.zeros(6, np.int64)
    for at, share in shares.items():
        assert share.shape == (len(holders[at]),)
        assert share.min() >= 0
        totals[sorted(holders[at])] += share
    assert totals.max() <= limit
    served = sum(min(int(shares[at].sum()), needed[at]) for at in range(len(holders)))
    assert served == find_most(holders, needed[: len(holders)], num_items=6, limit=limit)


def test_what_is_left_over_is_shared_out_too_so_that_epochs_differ() -> None:
    everybody = np.arange(100)
    shares = share_uses({0: everybody, 1: everybody}, {0: 1, 1: 1}, num_items=100, limit=1)
    assert shares[0].sum() + shares[1].sum() == 100
    assert abs(shares[0].sum() - 50) <= 2


@pytest.mark.parametrize("measure", [np.min, np.max])
def test_a_limit_that_is_no_limit_leaves_everybody_everything(measure: Callable[..., int]) -> None:
    shares = share_uses({3: np.arange(4)}, {3: 2}, num_items=4, limit=2**62)
    assert measure(shares[3]) >= 1
