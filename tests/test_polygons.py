from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from synthloader.polygons import MARGIN, NoOutlineError, trace_outline


def make_mask(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def fill_as_opencv(outline: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(size_hw, np.uint8)
    cv2.fillPoly(canvas, [outline.astype(np.int32)], (1,))
    return canvas.astype(np.bool_)


def fill_as_pycocotools(outline: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    return coco_mask.decode(coco_mask.frPyObjects([outline.ravel().tolist()], *size_hw)[0]).astype(np.bool_)


@st.composite
def draw_blob(draw: st.DrawFn) -> np.ndarray:
    """One part without holes, smooth or ragged, often at the border."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    noise = rng.random((height, width))
    if draw(st.booleans()):
        noise = cv2.blur(noise, (5, 5))
    _, parts = cv2.connectedComponents((noise > np.quantile(noise, 0.4)).astype(np.uint8))
    blob = (parts == parts.max()) & (parts > 0)
    if not blob.any():
        blob[rng.integers(height), rng.integers(width)] = True
    filled = np.zeros(blob.shape, np.uint8)
    contours, _ = cv2.findContours(blob.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(filled, contours, -1, (1,), -1)
    return filled.astype(np.bool_)


@given(draw_blob())
@settings(max_examples=300)
def test_a_mask_of_one_part_is_drawn_again_pixel_by_pixel(mask: np.ndarray) -> None:
    outline = trace_outline(mask)
    np.testing.assert_array_equal(fill_as_opencv(outline, mask.shape), mask)  # type: ignore[arg-type]
    np.testing.assert_array_equal(fill_as_pycocotools(outline, mask.shape), mask)  # type: ignore[arg-type]
    rows, columns = np.nonzero(mask)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs([*outline.min(axis=0), *outline.max(axis=0)] - box).max() <= MARGIN + 1e-9


@pytest.mark.parametrize(
    "rows",
    [("#",), ("###",), ("#", "#"), ("##", "#."), ("#..", ".#.", "..#"), ("###", "#..", "###"), (".#.", "###", ".#.")],
    ids="/".join,
)
def test_thin_shapes(rows: tuple[str, ...]) -> None:
    mask = np.pad(make_mask(*rows), 2)
    outline = trace_outline(mask)
    assert len(outline) >= 4
    np.testing.assert_array_equal(fill_as_opencv(outline, mask.shape), mask)  # type: ignore[arg-type]
    np.testing.assert_array_equal(fill_as_pycocotools(outline, mask.shape), mask)  # type: ignore[arg-type]


def test_a_mask_that_fills_the_image() -> None:
    assert trace_outline(np.ones((4, 6), np.bool_)).tolist() == [
        [MARGIN, MARGIN],
        [MARGIN, 4 - MARGIN],
        [6 - MARGIN, 4 - MARGIN],
        [6 - MARGIN, MARGIN],
    ]


def test_large_images() -> None:
    mask = np.zeros((3000, 9000), np.uint8)
    cv2.ellipse(mask, (8000, 1500), (990, 1400), 20, 0, 360, (1,), -1)
    outline = trace_outline(mask.astype(np.bool_))
    read = (outline / [9000, 3000]).astype(np.float32) * np.float32([9000, 3000])
    np.testing.assert_array_equal(fill_as_opencv(read, (3000, 9000)), mask)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (("...", "..."), "object without visible pixels"),
        (("###", "#.#", "###"), "object with holes"),
        ((".#.", "#.#", ".#."), "object with holes"),
        (("#.#",), "object in several parts"),
        (("#..", "...", "..#"), "object in several parts"),
    ],
    ids=lambda value: "/".join(value) if isinstance(value, tuple) else value,
)
def test_what_one_polygon_cannot_draw(rows: tuple[str, ...], reason: str) -> None:
    with pytest.raises(NoOutlineError) as caught:
        trace_outline(make_mask(*rows))
    assert str(caught.value) == reason
