"""What holds where a part of the picture is shown, perhaps scaled: every label follows the pixels.

The pixels name their places, so the window is read from the picture and not from what the generator says of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask
from tests.generators.cut_contract import check_instances, check_rest, describe_cut, paint_places
from tests.generators.pictures import NEAR, locate, locate_far, tight_box

MIN_SIDE, MIN_AREA, MIN_VISIBLE = 5, 10, 0.2
"""What may be cut off without a label, if anything: less of an object than this."""

RAMP = 256
"""Longest side of a picture whose red and green grow evenly, so that places can be read after interpolation too."""

UNSURE = 0.02
"""By so little may a share of one half be missed in arithmetic of whole numbers."""


@dataclass(frozen=True)
class View:
    """The part of a source that a tile shows.

    Args:
        left: Its first column in the source.
        top: Its first row.
        width: In pixels of the source.
        height: In pixels of the source.
    """

    left: int
    top: int
    width: int
    height: int


def check_tile(source: Sample, made: Sample) -> None:
    """Labels say of the tile what they said of the picture.

    Of grey pictures, which name no places, only that is checked which is true wherever a tile lies.
    """
    if isinstance(source.target, Instances):
        _check_columns(source.target, made.target)
    if _is_grey(source.image):
        return
    view = find_view(source, made)
    if view is None:
        return
    if (view.height, view.width) == made.size_hw:
        _check_unscaled(source, made, view)
        return
    rows, columns = _find_places(view, made.size_hw)
    for name, values in source.maps.items():
        assert made.maps[name].dtype == values.dtype
        assert np.array_equal(made.maps[name], values[rows[:, None], columns]), "Maps follow the pixels."
    if isinstance(source.target, Instances):
        _check_scaled(source, made, view)
    elif isinstance(source.target, SemanticMask):
        target: Any = made.target
        assert target.ignore_index == source.target.ignore_index
        assert np.array_equal(target.mask, source.target.mask[rows[:, None], columns]), "Classes follow the pixels."


def _check_columns(before: Any, after: Any) -> None:
    """What a label says of an object without regard to its place stays with it."""
    assert set(after.attributes) == {*before.attributes, "visible"}, "Attributes follow their instance."
    rows = {int(row): at for at, row in enumerate(before.attributes["row"].tolist())} if len(before) else {}
    names = after.attributes["row"].tolist() if len(after) else []
    assert len(set(names)) == len(names), "An instance is there twice."
    assert set(names) <= rows.keys(), "An instance appeared."
    own = np.array([rows[name] for name in names], np.int64)
    assert np.array_equal(after.class_ids, before.class_ids[own]), "An instance has another class."
    assert np.array_equal(after.crowd, before.crowd[own]), "A crowd stays a crowd, and nothing else becomes one."
    for name, column in before.attributes.items():
        is_same = np.array_equal(after.attributes[name], column[own])
        assert name == "visible" or is_same, "Attributes follow their instance."


def find_view(source: Sample, made: Sample) -> View | None:
    """Where a tile was cut; None where its pixels do not tell it: it is too small, or from a large picture scaled."""
    height, width = made.size_hw
    far = max(source.size_hw) > NEAR
    places = (locate_far if far else locate)(made.image.reshape(-1, 3)).reshape(height, width, 3)
    top, left = int(places[0, 0, 1]), int(places[0, 0, 2])
    rows, columns = np.arange(top, top + height)[:, None], np.arange(left, left + width)
    if (places[..., 1] == rows).all() and (places[..., 2] == columns).all():
        assert np.array_equal(made.image, source.image[top : top + height, left : left + width])
        return View(left, top, width, height)
    if max(source.size_hw) > RAMP or min(height, width) < 16:
        return None
    rows = _find_span(made.image[..., 1].mean(axis=1), source.size_hw[0])
    columns = _find_span(made.image[..., 0].mean(axis=0), source.size_hw[1])
    if rows is None or columns is None:
        return None
    shown = made.image[..., :2].astype(float)
    expected = _read_ramp(columns[0], columns[1], width), _read_ramp(rows[0], rows[1], height)
    difference = np.maximum(np.abs(shown[..., 0] - expected[0]), np.abs(shown[..., 1] - expected[1][:, None]))
    assert difference.max() <= 1, "The pixels are no scaled part of the picture."
    return View(columns[0], rows[0], columns[1], rows[1])


def _find_span(values: np.ndarray, most: int) -> tuple[int, int] | None:
    """First pixel and length of the span, both whole, that numbers grow over evenly; None where two fit as well."""
    length = len(values) * (values[-1] - values[0]) / (len(values) - 1)
    lengths = range(max(1, int(length) - 3), min(most, int(length) + 4) + 1)
    errors = {}
    for span in lengths:
        for start in range(max(0, int(values[0]) - 3), min(most - span, int(values[0]) + 3) + 1):
            errors[start, span] = float(((_read_ramp(start, span, len(values)) - values) ** 2).sum())
    assert errors, "The pixels are no scaled part of the picture."
    best, *others = sorted(errors, key=lambda span: errors[span])
    is_ramp = (
        np.abs(_read_ramp(best[0], best[1], len(values)) - values).max() <= 1
    )  # Whoever asks says so where it is none.
    return None if is_ramp and others and errors[others[0]] < 1.5 * errors[best] + 0.5 else best


def _read_ramp(start: int, span: int, size: int) -> np.ndarray:
    """(size,) float64: what a span of pixels that are their own numbers becomes when it is scaled."""
    places = start + (np.arange(size) + 0.5) * span / size - 0.5
    scaled: np.ndarray = np.clip(places, start, start + span - 1)
    return scaled


def _check_unscaled(source: Sample, made: Sample, view: View) -> None:
    """The same as of any window (`tests/generators/cut_contract.py`)."""
    named = paint_places(source.size_hw)
    window = named[view.top : view.top + view.height, view.left : view.left + view.width]
    repainted, tile = source.replace(image=named), made.replace(image=np.ascontiguousarray(window))
    check_rest(repainted, tile)
    if not isinstance(source.target, Instances):
        return
    before, after = source.target, made.target
    assert isinstance(after, Instances)
    labelled = set(after.attributes["row"].tolist()) if len(after) else set()
    expected = []
    for wanted in describe_cut(repainted, tile):
        if wanted["share"] == 0:
            continue
        is_labelled = int(before.attributes["row"][wanted["row"]]) in labelled
        if not is_labelled:
            area = wanted["mask"].sum() if wanted["mask"] is not None and wanted["mask"].any() else None
            assert wanted["share"] < 1, "An object that is wholly there lost its label."
            assert _is_little(wanted["box"], area, wanted["visible"]), "A visible instance lost its label."
        else:
            expected.append(wanted)
    check_instances(repainted, tile, expected)


def _check_scaled(source: Sample, made: Sample, view: View) -> None:
    """Masks, boxes and keypoints of a close-up lie where the pixels of the source lie in it."""
    before: Any = source.target
    after: Any = made.target
    assert (after.masks is None) == (before.masks is None)
    scale = np.array([made.size_hw[1] / view.width, made.size_hw[0] / view.height])
    corner = np.array([view.left, view.top])
    size_wh = made.size_hw[::-1]
    places = {int(row): place for place, row in enumerate(after.attributes["row"].tolist())} if len(after) else {}
    ways = _list_ways(view, made.size_hw)
    for row in range(len(before)):
        place = places.get(int(before.attributes["row"][row]))
        moved = np.clip((before.boxes[row].reshape(2, 2) - corner) * scale, 0, size_wh).ravel()
        mask = None if before.masks is None or not before.masks[row].any() else before.masks[row]
        share = _find_share(before.boxes[row], mask, view)
        if place is None:
            area = None
            if mask is not None:  # what is thin may be gone when it shrinks
                surely = _erode(mask, view, made.size_hw)
                moved, area = (np.array(tight_box(surely)).reshape(2, 2) * scale).ravel(), surely.sum() * scale.prod()
            assert share == 0 or _is_little(moved.tolist(), area, share), "A visible instance lost its label."
            continue
        assert share > 0, "No instance without visible pixels."
        known = float(before.attributes["visible"][row]) if "visible" in before.attributes else 1.0
        assert abs(after.attributes["visible"][place] - known * share) < 1e-5, "`visible` is the share inside the tile."
        if mask is None:
            np.testing.assert_allclose(after.boxes[place], moved, atol=0.02, err_msg="Boxes follow the pixels.")
        else:
            _check_mask(after.masks[place], row, before.masks, view, ways)
            assert after.boxes[place].tolist() == tight_box(after.masks[place]), "The box is the tight box of the mask."
        if before.keypoints is not None:
            points = before.keypoints[row].copy()
            points[:, :2] = (points[:, :2] - corner) * scale
            points[((points[:, :2] < 0) | (points[:, :2] >= size_wh)).any(axis=1) | (points[:, 2] == 0)] = 0
            np.testing.assert_allclose(
                after.keypoints[place], points, atol=0.02, err_msg="Keypoints follow the pixels."
            )


_Way = tuple[np.ndarray, np.ndarray]


def _check_mask(after: np.ndarray, row: int, masks: np.ndarray, view: View, ways: list[_Way]) -> None:
    """A pixel is in the mask where more than half of what it shows is the object's, and nowhere else.

    Averaged or interpolated, this differs near corners alone; so masks that lie a single pixel beside are noticed.
    """
    before = masks[row]
    shares = _measure_shares(before, view, ways)
    missing = (np.minimum(*shares) > 0.5 + UNSURE) & ~after
    if missing.any():
        missing &= ~_find_given_away(masks, view, ways)
    assert not missing.any(), "A part of the object is not in its mask."
    beside = after & (np.maximum(*shares) < 0.5 - UNSURE)
    if after.sum() == 1:
        rows, columns = _find_places(view, after.shape)
        near = cv2.dilate(before.view(np.uint8), _make_square(view, after.shape)).astype(bool)
        beside &= ~near[np.ix_(rows, columns)]
    assert not beside.any(), "The mask lies where the object is not."


def _measure_shares(mask: np.ndarray, view: View, ways: list[_Way]) -> list[np.ndarray]:
    """(h, w) float32: how much of what each pixel of the tile shows is the object's, both ways."""
    window = mask[_window(view)].astype(np.float32)
    return [rows @ window @ columns.T for rows, columns in ways]


def _find_given_away(masks: np.ndarray, view: View, ways: list[_Way]) -> np.ndarray:
    """(h, w) bool: pixels one of which an object may have got that would have vanished, and perhaps was dropped then."""
    given = np.zeros((len(ways[0][0]), len(ways[0][1])), np.bool_)
    for mask in masks[masks.any(axis=(1, 2))]:
        shares = _measure_shares(mask, view, ways)
        if min(share.max() for share in shares) <= 0.5 + UNSURE and mask[_window(view)].any():
            given |= np.maximum(*shares) > 0
            row, column = np.argwhere(mask[_window(view)])[0]  # thin ones may have no share in any pixel
            given[row * given.shape[0] // view.height, column * given.shape[1] // view.width] = True
    return given


def _list_ways(view: View, size_hw: tuple[int, int]) -> list[_Way]:
    """Weights of the window's rows in the tile's, and of its columns: averaged, and interpolated."""
    height, width = size_hw
    return [(average(view.height, height), average(view.width, width)) for average in (_average, _interpolate)]


def _average(length: int, size: int) -> np.ndarray:
    """(size, length) float32: how much of what each pixel of the tile covers lies in each pixel of the window."""
    edges = np.arange(size + 1) * length / size
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: np.ndarray = (np.maximum(overlap, 0) * size / length).astype(np.float32)
    return weights


def _interpolate(length: int, size: int) -> np.ndarray:
    """(size, length) float32: each pixel of the tile between the two pixels whose middles are next to its own."""
    middles = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    weights: np.ndarray = np.maximum(1 - np.abs(middles[:, None] - np.arange(length)), 0).astype(np.float32)
    return weights


def _erode(mask: np.ndarray, view: View, size_hw: tuple[int, ...]) -> np.ndarray:
    """(h, w) bool: pixels in the window that are the object's with all their neighbours, at whatever scale."""
    eroded: np.ndarray = cv2.erode(mask[_window(view)].astype(np.uint8), _make_square(view, size_hw)).astype(bool)
    return eroded


def _make_square(view: View, size_hw: tuple[int, ...]) -> np.ndarray:
    reach = 1 + int(np.ceil(max(view.height / size_hw[0], view.width / size_hw[1])))
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def _find_places(view: View, size_hw: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the source that the tile's pixels show the middle of."""
    rows = view.top + (np.arange(size_hw[0]) + 0.5) * view.height / size_hw[0]
    columns = view.left + (np.arange(size_hw[1]) + 0.5) * view.width / size_hw[1]
    return rows.astype(int), columns.astype(int)


def _window(view: View) -> tuple[slice, slice]:
    return slice(view.top, view.top + view.height), slice(view.left, view.left + view.width)


def _find_share(box: np.ndarray, mask: np.ndarray | None, view: View) -> float:
    if mask is not None:
        return float(mask[_window(view)].sum() / mask.sum())
    x1, y1, x2, y2 = box.astype(float).tolist()
    area = (x2 - x1) * (y2 - y1)
    width = max(min(x2, view.left + view.width) - max(x1, view.left), 0)
    height = max(min(y2, view.top + view.height) - max(y1, view.top), 0)
    return width * height / area if area else 0.0


def _is_little(box: list[float], area: float | None, share: float) -> bool:
    """Whether so little of an object is left that `drop="instances"` may take its label."""
    sides = box[2] - box[0], box[3] - box[1]
    shown = sides[0] * sides[1] if area is None else float(area)
    return share < MIN_VISIBLE or min(sides) < MIN_SIDE + 1 or shown < MIN_AREA * 1.5


def _is_grey(image: np.ndarray) -> bool:
    return bool((image == image[..., :1]).all())
