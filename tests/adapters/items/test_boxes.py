from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.adapters.items.boxes import BOX_FORMATS, find_same_boxes, from_xyxy, read_boxes

SIZE = (48, 64)


def read(rows: Any, box_format: str = "xyxy", *, drop: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
    return read_boxes(
        np.array(rows), box_format=box_format, size_hw=SIZE, drop_bad=drop, name="boxes",
        name_row=lambda row: f"boxes[{row}]",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("box_format", "box"),
    [
        ("xyxy", [16, 12, 48, 36]),
        ("xywh", [16, 12, 32, 24]),
        ("cxcywh", [32, 24, 32, 24]),
        ("xyxy_normalized", [0.25, 0.25, 0.75, 0.75]),
        ("xywh_normalized", [0.25, 0.25, 0.5, 0.5]),
        ("cxcywh_normalized", [0.5, 0.5, 0.5, 0.5]),
    ],
)
def test_every_format_says_the_same_box(box_format: str, box: list[float]) -> None:
    boxes, keep = read([box], box_format)
    assert boxes.tolist() == [[16, 12, 48, 36]]
    assert boxes.dtype == np.float32
    assert keep is None
    assert from_xyxy(boxes, box_format, size_hw=SIZE).tolist() == [box]


@given(
    box_format=st.sampled_from(BOX_FORMATS),
    corners=st.tuples(st.floats(0, 30), st.floats(0, 20), st.floats(2, 30), st.floats(2, 25)),
)
def test_a_box_that_was_read_is_known_to_be_unchanged(box_format: str, corners: tuple[float, ...]) -> None:
    x, y, width, height = corners
    native = from_xyxy(np.array([[x, y, x + width, y + height]]), box_format, size_hw=SIZE)
    boxes, _ = read(native.tolist(), box_format)
    assert find_same_boxes(boxes, native, box_format=box_format, size_hw=SIZE).all()
    assert not find_same_boxes(boxes + np.float32(0.5), native, box_format=box_format, size_hw=SIZE).any()


def test_a_normalised_box_on_an_image_of_another_size_is_a_changed_one() -> None:
    boxes, _ = read([[0.25, 0.25, 0.75, 0.75]], "xyxy_normalized")
    native = np.array([[0.25, 0.25, 0.75, 0.75]])
    assert not find_same_boxes(boxes, native, box_format="xyxy_normalized", size_hw=(96, 64)).any()


def test_boxes_that_stick_out_by_a_rounding_are_clipped() -> None:
    boxes, keep = read([[-1, -0.4, 65, 48.9]])
    assert boxes.tolist() == [[0, 0, 64, 48]]
    assert keep is None


def test_dropping_clips_boxes_and_drops_those_without_area() -> None:
    rows = [[1, 1, 5, 5], [60, 40, 90, 70], [70, 1, 90, 5], [3, 3, 3, 9], [9, 9, 2, 2], [1, 1, np.nan, 5]]
    boxes, keep = read(rows, drop=True)
    assert keep is not None
    assert keep.tolist() == [True, True, False, False, False, False]
    assert boxes[keep].tolist() == [[1, 1, 5, 5], [60, 40, 64, 48]]
    assert np.isfinite(boxes).all()


def test_a_whole_pixel_in_the_corner_is_no_normalised_box() -> None:
    boxes, _ = read_boxes(
        np.array([[0, 0, 1, 1]]), box_format="xyxy", size_hw=SIZE, drop_bad=False, name="boxes", name_row=str
    )
    assert boxes.tolist() == [[0, 0, 1, 1]]


FIX = (
    "Correct the annotation, or pass adapter=DetectionAdapter(bad_boxes='drop'), which clips boxes to the image and "
    "drops those without area."
)
STATE = " If the boxes have another format, state it: DetectionAdapter(boxes='xywh'), or 'cxcywh', or 'xyxy'."


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            [30.0, 20.0, 70.0, 40.0],
            "boxes[1] must lie inside the image of height 48 and width 64, got boxes[1]=[30.0, 20.0, 70.0, 40.0]. "
            + FIX + STATE,
        ),
        (
            [30.0, 20.0, 10.0, 10.0],
            "boxes[1] must have x1 < x2 and y1 < y2, got boxes[1]=[30.0, 20.0, 10.0, 10.0]. " + FIX + STATE,
        ),
        ([3.0, 2.0, 3.0, 10.0], "boxes[1] must have an area above 0, got boxes[1]=[3.0, 2.0, 3.0, 10.0]. " + FIX),
        ([3.0, 2.0, np.nan, 10.0], "boxes[1] must be finite, got boxes[1]=[3.0, 2.0, nan, 10.0]. " + FIX),
    ],
    ids=["outside", "width and height", "no area", "not finite"],
)  # fmt: skip
def test_wrong_boxes_are_refused_with_row_and_remedy(row: list[float], message: str) -> None:
    with pytest.raises(ValueError, match="boxes") as caught:
        read([[1.0, 1.0, 5.0, 5.0], row])
    assert str(caught.value) == message


def test_normalised_boxes_are_refused_unless_stated() -> None:
    with pytest.raises(ValueError, match="pixels") as caught:
        read([[0.25, 0.25, 0.5, 1.0]], drop=True)
    assert str(caught.value) == (
        "boxes must be in pixels, got boxes=[[0.25, 0.25, 0.5, 1.0]]. If they are normalised to 0..1, pass "
        "adapter=DetectionAdapter(boxes='xyxy_normalized'), or 'xywh_normalized', or 'cxcywh_normalized'."
    )
