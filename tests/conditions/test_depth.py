from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.conditions import DEPTH_KINDS, GroundPlane, convert_depth
from synthloader.errors import NothingToGenerate

NAN, INF = np.nan, np.inf


@given(st.integers(0, 999))
def test_all_kinds_agree_on_one_scene(seed: int) -> None:
    distances = np.random.default_rng(seed).uniform(2, 90, (9, 11))
    near, far = np.quantile(distances, [0.01, 0.99])
    inverse_near, inverse_far = 1 / np.quantile(1 / distances, [0.99, 0.01])
    metric = convert_depth(distances, kind="metric")
    assert metric.dtype == np.float32
    assert np.allclose(metric, distances)
    assert np.allclose(convert_depth(1 / distances, kind="inverse"), distances, rtol=1e-5)
    relative = convert_depth(distances * 7 - 3, kind="relative", distance_range=(near, far))
    assert np.allclose(relative, np.clip(distances, near, far), rtol=1e-3)
    disparity = convert_depth(500 / distances - 30, kind="relative_inverse", distance_range=(inverse_near, inverse_far))
    assert np.allclose(disparity, np.clip(distances, inverse_near, inverse_far), rtol=1e-3)


def test_a_scale_gives_metres() -> None:
    millimetres = np.array([[1500, 40_000]], np.uint16)
    assert convert_depth(millimetres, kind="metric", scale=0.001)[0].tolist() == pytest.approx([1.5, 40])
    pixels = np.array([[100, 10]], np.int32)
    distances = convert_depth(pixels, kind="inverse", scale=1 / (700 * 0.5))
    assert distances[0].tolist() == pytest.approx([3.5, 35])


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("metric", [[5, 0, NAN, 7, INF]], [5, 5, 7, 7, INF]),
        ("inverse", [[0.5, NAN, INF, 0.25, 0]], [2, 2, 4, 4, INF]),
        ("relative", [[0, NAN, INF, 10, -INF]], [2, 2, 12, 12, 12]),
        ("relative_inverse", [[10, NAN, 0, INF, 0]], [2, 2, 12, 12, 12]),
    ],
)
def test_what_is_missing_is_filled_from_the_nearest_pixel(
    kind: str, values: list[list[float]], expected: list[float]
) -> None:
    distances = convert_depth(np.array(values), kind=kind, distance_range=(2, 12))
    assert distances[0].tolist() == pytest.approx(expected, rel=1e-4)


def test_sparse_maps_are_filled_everywhere() -> None:
    rng = np.random.default_rng(0)
    known = rng.uniform(3, 80, (40, 60)) * (rng.random((40, 60)) < 0.03)
    filled = convert_depth(known, kind="metric")
    assert np.isin(filled, known[known > 0].astype(np.float32)).all()
    assert np.array_equal(filled[known > 0], known[known > 0].astype(np.float32))


def test_one_wrong_pixel_does_not_change_a_relative_map() -> None:
    plain = np.random.default_rng(0).random((50, 60))
    wrong = plain.copy()
    wrong[7, 7] = 1e6
    before, after = (convert_depth(values, kind="relative") for values in (plain, wrong))
    assert np.abs(np.delete(before - after, 7 * 60 + 7)).max() < 0.5
    assert after[7, 7] == 150


@pytest.mark.parametrize("kind", DEPTH_KINDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int64])
def test_no_map_is_changed_in_place(kind: str, dtype: Any) -> None:
    values = np.arange(2, 38).reshape(6, 6).astype(dtype)
    before = values.copy()
    distances = convert_depth(values, kind=kind)
    assert np.array_equal(values, before)
    assert not np.shares_memory(distances, values)
    assert (distances >= 0).all()


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        ("metric", [[0, NAN]], "no measurement in the depth map"),
        ("inverse", [[NAN, INF]], "no measurement in the depth map"),
        ("relative", [[3, 3]], "flat relative depth"),
        ("relative_inverse", [[3, NAN]], "flat relative depth"),
    ],
)
def test_empty_maps_generate_nothing(kind: str, values: list[list[float]], reason: str) -> None:
    with pytest.raises(NothingToGenerate, match=f"^{reason}$"):
        convert_depth(np.array(values), kind=kind)


@pytest.mark.parametrize(
    ("values", "kind", "error", "message"),
    [
        (
            np.array([[3.0, -1]]),
            "metric",
            ValueError,
            "depth must hold metres, at least 0, for depth_kind='metric', got depth='a lowest value of -1'. "
            "Mark missing pixels with NaN, or say which other depth_kind it is.",
        ),
        (
            np.array([[3.0, -1]]),
            "inverse",
            ValueError,
            "depth must hold 1 / metres, at least 0, for depth_kind='inverse', got depth='a lowest value of -1'. "
            "Mark missing pixels with NaN, or say which other depth_kind it is.",
        ),
        (
            np.array([[0.3, 1]]),
            "metric",
            ValueError,
            "depth must hold metres for depth_kind='metric', got depth='no value above 1'. Say "
            "depth_kind='relative' for 0..1, 'relative_inverse' where near is large, or give depth_scale.",
        ),
        (
            np.ones((2, 3, 1)),
            "metric",
            ValueError,
            "depth must have shape (height, width), got depth=(2, 3, 1). Give one number for each pixel.",
        ),
        (
            np.ones((2, 3), bool),
            "metric",
            TypeError,
            "depth must be an array of integers or floats, got depth=dtype('bool').",
        ),
        ([[1.0]], "metric", TypeError, "depth must be an array of integers or floats, got depth=[[1.0]]."),
        (
            np.ones((2, 3)),
            "metrical",
            ValueError,
            "kind must be one of 'metric', 'inverse', 'relative', 'relative_inverse', got kind='metrical'. "
            "Did you mean 'metric'?",
        ),
    ],
)
def test_maps_of_another_kind_are_refused(values: Any, kind: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        convert_depth(values, kind=kind)


@given(
    height=st.integers(1, 300),
    horizon=st.floats(-0.5, 1.5),
    camera=st.floats(0.5, 20),
    maximum=st.floats(10, 1000),
)
def test_the_plane_is_farther_towards_the_horizon_and_never_beyond_its_end(
    height: int, horizon: float, camera: float, maximum: float
) -> None:
    plane = GroundPlane(horizon, camera_height_m=camera, max_distance_m=maximum)
    distances = plane.measure(height)
    assert distances.shape == (height,)
    assert distances.dtype == np.float32
    assert (np.diff(distances) <= 0).all()
    assert distances.max() <= maximum * 1.0001
    rows = np.arange(height) + 0.5
    assert np.allclose(distances[rows <= horizon * height - 0.01], maximum)


def test_near_ground_is_where_the_pinhole_camera_sees_it() -> None:
    plane = GroundPlane(0.5, camera_height_m=1.5, field_of_view_degrees=90, max_distance_m=1000)
    distances = plane.measure(1000)
    # 45 degrees below the horizon the ground is as far ahead as the camera is high.
    assert distances[-1] == pytest.approx(1.5, rel=1e-2)
    assert distances[749] == pytest.approx(3.0, rel=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"camera_height_m": 0}, "camera_height_m must be above 0, got camera_height_m=0."),
        ({"field_of_view_degrees": 180}, "field_of_view_degrees must be at most 179, got field_of_view_degrees=180."),
        ({"max_distance_m": -1}, "max_distance_m must be above 0, got max_distance_m=-1."),
        ({"horizon": NAN}, "horizon must be finite, got horizon=nan."),
    ],
)
def test_impossible_planes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        GroundPlane(**options)
