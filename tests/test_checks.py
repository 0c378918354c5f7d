"""The wording of argument errors, whole; and that nothing is converted in silence."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthloader import checks
from synthloader.checks import (
    check_array,
    check_choice,
    check_count,
    check_fraction,
    check_int,
    check_number,
    check_range,
    check_type,
    reject,
    show_value,
    suggest_name,
)
from synthloader.errors import LabelContractError


def read_error(error: type[Exception], function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert type(caught.value) is error
    return str(caught.value)


def test_an_error_names_the_argument_the_requirement_the_value_and_the_remedy() -> None:
    assert read_error(ValueError, reject, "ratio", "be at least 0", -1, "Take 0.5.") == (
        "ratio must be at least 0, got ratio=-1. Take 0.5."
    )
    assert read_error(ValueError, reject, "ratio", "be at least 0", -1) == "ratio must be at least 0, got ratio=-1."
    with pytest.raises(LabelContractError) as caught:
        reject("a", "be b", "c", error=LabelContractError)
    assert str(caught.value) == "a must be b, got a='c'."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.arange(3), "array([0, 1, 2])"),
        (np.zeros((3, 4, 3), np.uint8), "<array of shape (3, 4, 3), uint8>"),
        (torch.zeros(2, 3), "<tensor of shape (2, 3), torch.float32>"),
        ("a" * 300, "'" + "a" * 116 + "..."),
        ("a" * 118, "'" + "a" * 118 + "'"),
        (None, "None"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_values_are_shown_in_a_short_text(value: Any, text: str) -> None:
    assert show_value(value) == text


@given(st.text() | st.lists(st.text()))
def test_no_value_makes_a_long_text(value: Any) -> None:
    assert len(show_value(value)) <= 120


@pytest.mark.parametrize(
    ("name", "allowed", "text"),
    [
        ("ad", ["only", "add"], "Did you mean 'add'? Allowed: add, only."),
        ("xyz", ["only", "add"], "Allowed: add, only."),
        ("xyz", [], "None are allowed here."),
        ("colour_transfer", {"color_transfer": 1, "copy_paste": 2}, "Did you mean 'color_transfer'? Allowed: "
         "color_transfer, copy_paste."),
    ],
)  # fmt: skip
def test_the_nearest_name_is_suggested(name: str, allowed: Any, text: str) -> None:
    assert suggest_name(name, allowed) == text


def test_kinds_are_named() -> None:
    check_type("x", 1, int)
    check_type("x", "a", (int, str))
    assert read_error(TypeError, check_type, "mark", 1, str) == "mark must be a str, got mark=1."
    assert read_error(TypeError, check_type, "mark", "a", int) == "mark must be an int, got mark='a'."
    assert read_error(TypeError, check_type, "x", 1.0, (list, tuple), "Make it one.") == (
        "x must be a list or tuple, got x=1.0. Make it one."
    )


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.int32(3)])
def test_integers_of_all_kinds_come_back_plain(value: Any) -> None:
    assert check_int("x", value) == 3
    assert type(check_int("x", value)) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float32(3), "3", None, [3], np.array([3]), 3j, Fraction(3)])
def test_what_only_looks_like_an_integer_is_refused(value: Any) -> None:
    assert read_error(TypeError, check_int, "x", value) == f"x must be an integer, got x={value!r}."


def test_bounds_of_integers_are_named() -> None:
    assert check_int("x", -5) == -5
    assert check_int("x", 0, minimum=0) == 0
    assert check_int("x", 10**400) == 10**400
    assert read_error(ValueError, check_int, "x", -1, minimum=0) == "x must be at least 0, got x=-1."
    assert read_error(ValueError, check_int, "x", -1, minimum=0, remedy="Raise it.") == (
        "x must be at least 0, got x=-1. Raise it."
    )
    assert check_count("x", 1) == 1
    assert read_error(ValueError, check_count, "x", 0) == "x must be at least 1, got x=0."


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60) | st.fractions())
def test_finite_numbers_come_back_as_floats(value: Any) -> None:
    assert check_number("x", value) == float(value)
    assert type(check_number("x", value)) is float


@pytest.mark.parametrize("value", [np.float32(0.5), np.int8(2), np.float64(1)])
def test_numpy_numbers_come_back_as_floats(value: Any) -> None:
    assert type(check_number("x", value)) is float
    assert check_number("x", value) == value


@pytest.mark.parametrize("value", [True, np.False_, "0.5", None, [0.5], np.array(0.5), 1j, Decimal("0.5")])
def test_what_only_looks_like_a_number_is_refused(value: Any) -> None:
    assert read_error(TypeError, check_number, "x", value) == f"x must be a number, got x={value!r}."


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_numbers_without_an_end_are_refused(value: Any) -> None:
    assert read_error(ValueError, check_number, "x", value) == f"x must be finite, got x={value!r}."


def test_an_integer_beyond_all_floats_is_refused_too() -> None:
    assert read_error(ValueError, check_number, "x", 10**400) == f"x must be finite, got x=1{'0' * 116}...."


def test_bounds_of_numbers_are_named() -> None:
    assert read_error(ValueError, check_number, "x", -0.1, minimum=0) == "x must be at least 0, got x=-0.1."
    assert read_error(ValueError, check_number, "x", 1.5, maximum=1.25) == "x must be at most 1.25, got x=1.5."
    assert check_number("x", 0, minimum=0, maximum=0) == 0.0
    assert (check_fraction("x", 0), check_fraction("x", 1)) == (0.0, 1.0)
    assert read_error(ValueError, check_fraction, "x", 1.01) == "x must be at most 1, got x=1.01."
    assert read_error(ValueError, check_fraction, "x", -0.01, "Ha.") == "x must be at least 0, got x=-0.01. Ha."


def test_ranges_are_pairs_in_order() -> None:
    assert check_range("x", [1, 2]) == (1, 2)
    assert check_range("x", (0.5, 0.5), minimum=0, maximum=1) == (0.5, 0.5)
    for wrong in (1, (1,), (1, 2, 3), "12", None, {1, 2}):
        assert read_error(TypeError, check_range, "x", wrong) == f"x must be a pair (low, high), got x={wrong!r}."
    assert read_error(ValueError, check_range, "x", (2, 1)) == (
        "x must have low <= high, got x=(2, 1). Exchange the two numbers."
    )
    assert read_error(ValueError, check_range, "x", (-1, 1), minimum=0) == "x must be at least 0, got x=-1."
    assert read_error(ValueError, check_range, "x", (0, 2), maximum=1) == "x must be at most 1, got x=2."
    assert read_error(TypeError, check_range, "x", (0.5, 2), whole=True) == "x must be an integer, got x=0.5."
    assert read_error(ValueError, check_range, "x", (0, math.nan)) == "x must be finite, got x=nan."
    assert read_error(TypeError, check_range, "x", (None, 1)) == "x must be a number, got x=None."


def test_choices_are_listed_and_the_nearest_suggested() -> None:
    assert check_choice("x", "a", ("a", "b")) == "a"
    assert check_choice("x", "b", iter(["a", "b"])) == "b"
    assert read_error(ValueError, check_choice, "count", "imges", ("images", "instances")) == (
        "count must be one of 'images', 'instances', got count='imges'. Did you mean 'images'?"
    )
    assert read_error(ValueError, check_choice, "count", "x", ("images", "instances")) == (
        "count must be one of 'images', 'instances', got count='x'."
    )
    assert read_error(ValueError, check_choice, "count", None, ("images", "instances")) == (
        "count must be one of 'images', 'instances', got count=None."
    )


def test_arrays_are_checked_and_nothing_is_converted() -> None:
    array = np.zeros((2, 3), np.float32)
    assert check_array("x", array, dtype=np.float32, shape=(None, 3)) is array
    assert check_array("x", array.T, dtype=np.float32, shape=(3, 2)).flags.c_contiguous
    assert read_error(TypeError, check_array, "x", [1], dtype=np.float32, shape=(1,)) == (
        "x must be a numpy array, got x=[1]."
    )
    assert read_error(TypeError, check_array, "x", torch.zeros(2), dtype=np.float32, shape=(2,), remedy="Ha.") == (
        "x must be a numpy array, got x=<tensor of shape (2,), torch.float32>. Ha."
    )
    assert read_error(TypeError, check_array, "x", array, dtype=np.float64, shape=(2, 3)) == (
        "x must have dtype float64, got x=dtype('float32')."
    )
    assert read_error(ValueError, check_array, "x", array, dtype=np.float32, shape=(None, 4)) == (
        "x must have shape (any, 4), got x=(2, 3)."
    )
    assert read_error(ValueError, check_array, "x", array, dtype=np.float32, shape=(None,)) == (
        "x must have shape (any), got x=(2, 3)."
    )


def test_every_check_is_public_and_tested_here() -> None:
    here = globals()
    assert [name for name in checks.__all__ if name not in here] == []
