from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from synthloader.adapters.items.fields import (
    describe_array,
    dump_json,
    load_json,
    make_array,
    pack,
    read_column,
    unpack,
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(max_size=3) | st.integers() | st.just("$tuple"), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    return bool(one == other)


@given(value=VALUES)
def test_packed_values_come_back_the_same(value: Any) -> None:
    assert same(unpack(pack(value)), value)


@given(value=VALUES)
def test_values_come_back_from_json_equal(value: Any) -> None:
    assert load_json(dump_json(value)) == value


@given(value=VALUES)
def test_columns_of_anything_come_back(value: Any) -> None:
    rows = [value, 5, "json:5", "text"]
    assert make_array(read_column(rows, name="rows"), "list", size_hw=(1, 1)) == rows


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
        torch.tensor(3, dtype=torch.int16),
        torch.zeros(0, 4),
        torch.tensor([True, False]),
        tv_tensors.Mask(torch.ones(2, 2, dtype=torch.uint8)),
    ],
    ids=lambda tensor: f"{type(tensor).__name__} {tensor.dtype}",
)
def test_tensors_come_back_with_type_and_dtype(tensor: torch.Tensor) -> None:
    back = unpack(pack({"a": [tensor]}))["a"][0]
    assert (type(back), back.dtype, back.shape) == (type(tensor), tensor.dtype, tensor.shape)
    assert torch.equal(back, tensor)


def test_numbers_of_numpy_and_paths_come_back() -> None:
    back = unpack(pack([np.float32(1.5), np.int64(3), Path("a/b.jpg")]))
    assert back == [1.5, 3, Path("a/b.jpg")]
    assert [type(value) for value in back[:2]] == [np.float32, np.int64]


def test_what_cannot_be_stored_is_kept_as_it_is() -> None:
    thing, objects = object(), np.array([None, "x"], object)
    packed = pack({"thing": thing, "objects": objects})
    assert packed["thing"] is thing
    assert packed["objects"] is objects


def test_json_keeps_the_order_of_keys() -> None:
    assert list(load_json(dump_json({"b": 1, "a": (1, 2)}))) == ["b", "a"]


def test_json_refuses_what_it_cannot_give_back() -> None:
    with pytest.raises(TypeError, match=r"^cannot write a object as JSON$"):
        dump_json([object()])


@pytest.mark.parametrize("rows", [[1, 2], [True, False], [0.5, 1.0], ["a", "bc"]], ids=str)
def test_plain_lists_become_plain_columns(rows: list[Any]) -> None:
    column = read_column(rows, name="rows")
    assert column.tolist() == rows
    assert make_array(column, "list", size_hw=(1, 1)) == rows


@pytest.mark.parametrize("rows", [[1, None], [2**70, 1], [[1], [2, 3]], [{"a": 1}, {}], [1, 1.0, True]], ids=str)
def test_other_lists_become_json(rows: list[Any]) -> None:
    column = read_column(rows, name="rows")
    assert column.dtype.kind == "U"
    assert same(make_array(column, "list", size_hw=(1, 1)), rows)


def test_integers_are_rounded_and_unknown_ones_are_zero() -> None:
    column = np.array([1.6, np.nan, 3.0])
    assert make_array(column, "Tensor int64 cpu", size_hw=(1, 1)).tolist() == [2, 0, 3]
    assert make_array(column, "ndarray <i4", size_hw=(1, 1)).tolist() == [2, 0, 3]
    assert make_array(column, "Tensor bool cpu", size_hw=(1, 1)).tolist() == [True, False, True]


def test_bounding_boxes_get_the_size_of_the_image_that_is_served() -> None:
    boxes = tv_tensors.BoundingBoxes([[1.0, 2.0, 3.0, 4.0]], format="XYWH", canvas_size=(10, 20))
    made = make_array(np.ones((2, 4)), describe_array(boxes), size_hw=(30, 40))
    assert (type(made), made.format, made.canvas_size) == (tv_tensors.BoundingBoxes, boxes.format, (30, 40))
