"""What holds for a window that was cut out of a picture, read back from its pixels: each of them names its place."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask
from tests.generators.pictures import tight_box

SIDE_BITS = 11


def paint_places(size_hw: tuple[int, int]) -> np.ndarray:
    """A picture of at most 2048 px a side whose pixels are the number of their row and column."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    code = (rows << SIDE_BITS) + columns
    return np.ascontiguousarray(np.stack([code >> 16, code >> 8 & 255, code & 255], axis=2).astype(np.uint8))


def read_places(image: np.ndarray) -> np.ndarray:
    """(H, W, 2) int: row and column of every pixel of a picture that `paint_places` made."""
    code = (image.astype(np.int64) << [16, 8, 0]).sum(axis=2)
    return np.stack([code >> SIDE_BITS, code & ((1 << SIDE_BITS) - 1)], axis=2)


def find_corner(source: Sample, made: Sample) -> tuple[int, int]:
    """Row and column at which the window begins; fails where a pixel is not the source's own at its place."""
    places = read_places(made.image)
    top, left = (int(value) for value in places[0, 0])
    height, width = made.size_hw
    assert np.array_equal(places[..., 0], np.broadcast_to(np.arange(top, top + height)[:, None], (height, width)))
    assert np.array_equal(places[..., 1], np.broadcast_to(np.arange(left, left + width), (height, width)))
    assert np.array_equal(made.image, source.image[top : top + height, left : left + width])
    return top, left


def describe_cut(source: Sample, made: Sample) -> list[dict[str, Any]]:
    """What every instance of the source must be inside the window, one by one, the plain way.

    Those of which nothing is inside have a share of 0.
    """
    before: Any = source.target
    top, left = find_corner(source, made)
    height, width = made.size_hw
    expected = []
    for row in range(len(before)):
        x1, y1, x2, y2 = (float(value) for value in before.boxes[row])
        moved = [x1 - left, y1 - top, x2 - left, y2 - top]
        box = [min(max(moved[0], 0), width), min(max(moved[1], 0), height)]
        box += [min(max(moved[2], 0), width), min(max(moved[3], 0), height)]
        area, area_inside = (x2 - x1) * (y2 - y1), (box[2] - box[0]) * (box[3] - box[1])
        mask = None
        if before.masks is not None:
            mask = before.masks[row][top : top + height, left : left + width]
            if before.masks[row].any():
                area, area_inside = int(before.masks[row].sum()), int(mask.sum())
                if area_inside and (area_inside < area or box != moved):
                    box = tight_box(mask)
        share = area_inside / area if area else 0.0
        points = None
        if before.keypoints is not None:
            points = [
                [x - left, y - top, v] if v > 0 and 0 <= x - left < width and 0 <= y - top < height else [0, 0, 0]
                for x, y, v in before.keypoints[row].tolist()
            ]
        stated = before.attributes.get("visible")
        known = 1.0 if stated is None else float(stated[row])
        expected.append(
            {"row": row, "share": share, "visible": known * share, "box": box, "mask": mask, "keypoints": points}
        )
    return expected


def check_instances(source: Sample, made: Sample, expected: list[dict[str, Any]]) -> None:
    """The instances of the window are these, in their order, and everything that is said of them is true."""
    before: Any = source.target
    assert isinstance(made.target, Instances)
    after: Any = made.target
    assert len(after) == len(expected)
    for at, wanted in enumerate(expected):
        row = wanted["row"]
        assert after.class_ids[at] == before.class_ids[row]
        assert after.crowd[at] == before.crowd[row]
        np.testing.assert_allclose(after.boxes[at], wanted["box"], atol=1e-4, rtol=0)
        if wanted["share"] == 1 and (wanted["mask"] is None or not wanted["mask"].any()):
            sides, exact = after.boxes[at, 2:] - after.boxes[at, :2], before.boxes[row, 2:] - before.boxes[row, :2]
            np.testing.assert_allclose(sides, exact, atol=1e-4, rtol=0)
        if wanted["mask"] is not None:
            assert np.array_equal(after.masks[at], wanted["mask"])
        if wanted["keypoints"] is not None:
            np.testing.assert_allclose(after.keypoints[at], np.reshape(wanted["keypoints"], (-1, 3)), atol=1e-3, rtol=0)
        assert abs(after.attributes["visible"][at] - wanted["visible"]) < 1e-5
        for name, column in before.attributes.items():
            if name != "visible":
                assert after.attributes[name][at] == column[row]
    assert set(after.attributes) == {*before.attributes, "visible"}
    assert (after.masks is None) == (before.masks is None)


def check_rest(source: Sample, made: Sample) -> None:
    """Maps and semantic masks are the source's at the same places; the rest is what it was."""
    top, left = find_corner(source, made)
    window = (slice(top, top + made.size_hw[0]), slice(left, left + made.size_hw[1]))
    assert made.maps.keys() == source.maps.keys()
    for name, values in source.maps.items():
        assert made.maps[name].dtype == values.dtype
        assert np.array_equal(made.maps[name], values[window])
        assert not np.shares_memory(made.maps[name], values)
    if isinstance(source.target, SemanticMask):
        assert isinstance(made.target, SemanticMask)
        assert np.array_equal(made.target.mask, source.target.mask[window])
        assert made.target.ignore_index == source.target.ignore_index
    assert dict(made.metadata) == dict(source.metadata)
    assert made.fields == source.fields
    assert made.origin is not None
    assert made.origin.edited is None


def find_shown(source: Sample, made: Sample, *, min_visible: float) -> list[int]:
    """Rows of the source, crowds aside, that a window cuts so far that less than `min_visible` of them is seen in it."""
    before: Any = source.target
    return [
        wanted["row"]
        for wanted in describe_cut(source, made)
        if 0 < wanted["share"] < 1 and wanted["visible"] < min_visible - 1e-5 and not before.crowd[wanted["row"]]
    ]
