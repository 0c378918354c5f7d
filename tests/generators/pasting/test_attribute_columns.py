from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from synthloader.generators.pasting.attribute_columns import join_columns


def join(first: Any, second: Any) -> np.ndarray:
    """Two blocks of one row each, of one column; None where it is absent."""
    blocks = [(1, {} if part is None else {"x": np.array(part)}) for part in (first, second)]
    return join_columns(blocks)["x"]


@pytest.mark.parametrize(
    ("first", "second", "expected", "kind"),
    [
        ([1], [2], [1, 2], "i"),
        ([1], None, [1, 0], "i"),
        (None, [1], [0, 1], "i"),
        ([True], None, [True, False], "b"),
        ([True], [False], [True, False], "b"),
        (["long"], ["longer"], ["long", "longer"], "U"),
        (["a"], None, ["a", ""], "U"),
        ([1], [2.5], [1.0, 2.5], "f"),
        ([True], [3], [1, 3], "i"),
        ([2**60 + 1], [2.5], [2**60 + 1, 0], "i"),
        ([2**63 - 1], [2.5], [2**63 - 1, 0], "i"),
        ([1], ["one"], [1, 0], "i"),
        (["one"], [1], ["one", ""], "U"),
        ([[1, 2]], [[3, 4]], [[1, 2], [3, 4]], "i"),
        ([[1, 2]], [3], [[1, 2], [0, 0]], "i"),
    ],
)  # fmt: skip
def test_values_stay_and_gaps_are_filled(first: Any, second: Any, expected: Any, kind: str) -> None:
    joined = join(first, second)
    assert joined.tolist() == expected
    assert joined.dtype.kind == kind


def test_missing_numbers_and_times_are_marked_as_such() -> None:
    assert np.isnan(join([1.5], None)[1])
    assert np.isnan(join([1.5], ["a"])[1])
    assert join([1.5], None).dtype == np.float64
    assert np.isnat(join(np.array(["2020-01-01"], "M8[D]"), None)[1])


def test_a_block_without_rows_says_nothing_of_the_dtype() -> None:
    joined = join_columns([(0, {"id": np.zeros(0)}), (2, {"id": np.array([1, 2])})])
    assert joined["id"].dtype == np.int64
    assert join_columns([(0, {"id": np.zeros(0, np.int8)})])["id"].dtype == np.int8


def test_nothing_joined_is_nothing() -> None:
    assert join_columns([(2, {}), (1, {})]) == {}
