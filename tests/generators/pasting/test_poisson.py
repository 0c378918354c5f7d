"""The membrane of Poisson blending, beside a sparse direct solution of the same equations."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, diags
from scipy.sparse.linalg import spsolve

from synthloader.generators.pasting.poisson import solve_membrane


def list_neighbours() -> list[Any]:
    """Pairs of windows: each pixel, and its neighbour below, above, right, left."""
    head, tail, whole = slice(None, -1), slice(1, None), slice(None)
    down: Any = ((head, whole), (tail, whole))
    across: Any = ((whole, head), (whole, tail))
    return [down, down[::-1], across, across[::-1]]


def collect_given(field: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count of the field's values outside the mask next to each pixel of the mask."""
    values, counts = np.zeros((*mask.shape, 3), np.float32), np.zeros(mask.shape, np.float32)
    for pixel, neighbour in list_neighbours():
        counts[pixel] += ~mask[neighbour]
        values[pixel] += field[neighbour] * ~mask[neighbour][..., None]
    return values * mask[..., None], counts * mask


def solve_directly(field: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The exact solution, (M, 3)."""
    numbers = np.full(mask.shape, -1)
    numbers[mask] = np.arange(mask.sum())
    degree = np.zeros(mask.shape)
    matrix: Any = csc_matrix((int(mask.sum()),) * 2)
    for pixel, neighbour in list_neighbours():
        degree[pixel] += 1
        linked = mask[pixel] & mask[neighbour]
        places = (numbers[pixel][linked], numbers[neighbour][linked])
        matrix = matrix - csc_matrix((np.ones(len(places[0])), places), matrix.shape)
    values, _ = collect_given(field, mask)
    solution: Any = spsolve((matrix + diags(degree[mask])).tocsc(), values[mask].astype(float))
    return solution.reshape(-1, 3)


def make_smooth_field(size_hw: tuple[int, int]) -> np.ndarray:
    """Values within -130..160 that vary slowly, as differences of two blurred pictures do."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]] / max(size_hw)
    return np.stack([100 * np.sin(3 * columns), 80 * np.cos(4 * rows) - 50, 100 + 60 * columns], axis=2)


def make_ellipse(size_hw: tuple[int, int], *, hole: float = 0) -> np.ndarray:
    """An ellipse that stays one pixel away from all sides, with a hole of this share of its axes."""
    height, width = size_hw
    rows, columns = np.mgrid[:height, :width]
    radii = ((rows - (height - 1) / 2) / (height / 2 - 1)) ** 2 + ((columns - (width - 1) / 2) / (width / 2 - 1)) ** 2
    return (radii <= 1) & (radii >= hole**2)


def make_random_mask(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Ellipses that overlap, with cracks and holes; they may touch every side."""
    height, width = size_hw
    canvas = np.zeros(size_hw, np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(1, width + 1)), int(rng.integers(1, height + 1)))
        cv2.ellipse(canvas, centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
    for _ in range(int(rng.integers(0, 5))):
        ends = [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(2)]
        cv2.line(canvas, ends[0], ends[1], 0, int(rng.integers(1, 3)))
    for _ in range(int(rng.integers(0, 5))):
        cv2.circle(canvas, (int(rng.integers(width)), int(rng.integers(height))), int(rng.integers(0, 4)), 0, -1)
    return canvas.astype(bool)


def find_error(field: np.ndarray, mask: np.ndarray) -> float:
    """Largest difference from the exact solution."""
    found = solve_membrane(mask, *collect_given(field, mask))
    assert found.dtype == np.float32
    assert not found[~mask].any()
    return float(np.abs(found[mask] - solve_directly(field, mask)).max())


@pytest.mark.parametrize("size_hw", [(8, 8), (20, 31), (64, 61), (103, 118), (140, 150), (12, 200)])
@pytest.mark.parametrize("hole", [0, 0.5])
def test_smooth_values_are_continued_within_two_levels_of_the_exact_solution(
    size_hw: tuple[int, int], hole: float
) -> None:
    assert find_error(make_smooth_field(size_hw), make_ellipse(size_hw, hole=hole)) < 2


@pytest.mark.parametrize("size_hw", [(20, 31), (64, 61), (140, 150)])
def test_noise_on_the_outline_is_continued_within_three_levels(size_hw: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).normal(80, 40, (*size_hw, 3))
    assert find_error(noise, make_ellipse(size_hw)) < 3


@given(seed=st.integers(0, 10**6), height=st.integers(1, 90), width=st.integers(1, 90))
@settings(max_examples=60)
def test_masks_with_cracks_holes_parts_and_cut_sides_are_solved_within_a_few_levels(
    seed: int, height: int, width: int
) -> None:
    mask = make_random_mask(np.random.default_rng(seed), (height, width))
    if mask.any() and not mask.all():
        assert find_error(make_smooth_field((height, width)), mask) < 6


def test_a_single_pixel_takes_the_mean_of_its_neighbours() -> None:
    mask = np.zeros((3, 3), bool)
    mask[1, 1] = True
    field = np.zeros((3, 3, 3))
    field[0, 1], field[1, 2], field[2, 2] = 40, 80, 999
    found = solve_membrane(mask, *collect_given(field, mask))
    np.testing.assert_allclose(found[1, 1], 30, atol=0.01)


def test_between_two_free_sides_values_run_straight_from_end_to_end() -> None:
    mask = np.ones((7, 42), bool)
    mask[:, [0, -1]] = False
    field = np.zeros((7, 42, 3))
    field[:, -1] = 205
    found = solve_membrane(mask, *collect_given(field, mask))
    exact = np.broadcast_to(5.0 * np.arange(42)[None, :, None], found.shape)
    np.testing.assert_allclose(found[:, 1:-1], exact[:, 1:-1], atol=1)


def test_a_crack_one_pixel_wide_that_coarse_grids_cannot_see_holds_its_value() -> None:
    mask = np.zeros((131, 131), bool)
    mask[1:-1, 1:-1] = True
    mask[:, 65] = False  # an odd column: no coarser grid has a pixel on it
    field = np.full((131, 131, 3), 200.0)
    field[:, 65] = 0
    assert find_error(field, mask) < 4


def test_equal_values_around_are_continued_unchanged() -> None:
    mask = make_ellipse((70, 90))
    found = solve_membrane(mask, *collect_given(np.full((70, 90, 3), -37.0), mask))
    np.testing.assert_allclose(found[mask], -37, atol=0.3)


def test_the_same_input_gives_the_same_bits() -> None:
    mask, field = make_ellipse((50, 60)), make_smooth_field((50, 60))
    first, second = (solve_membrane(mask, *collect_given(field, mask)) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("size_hw", [(60, 80), (150, 141), (9, 130)])
def test_an_object_that_the_image_cuts_off_takes_its_values_from_the_rest_of_its_outline(
    size_hw: tuple[int, int],
) -> None:
    mask = np.zeros(size_hw, bool)
    mask[: size_hw[0] - 2, 2:] = True  # nothing is given above and to the right
    assert find_error(make_smooth_field(size_hw), mask) < 2
