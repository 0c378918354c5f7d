"""The membrane of Poisson blending: a harmonic function inside a mask, by multigrid on the crop."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["solve_membrane"]

CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)

STRONG, WEAK = np.float32(1 / 0.72), np.float32(1 / 1.78)
"""Relaxation of a pair of sweeps: one over the zeros of the Chebyshev polynomial of degree 2 on 0.5..2, the part of the
spectrum that the next coarser grid cannot see."""

STRONG_KERNEL, WEAK_KERNEL = (
    CROSS + 4 * (1 - relaxation) / relaxation * np.diag([0, 1, 0]).astype(np.float32) for relaxation in (STRONG, WEAK)
)

MAX_COARSEST_SIDE = 6
"""A larger grid is not solved by sweeps alone."""

MAX_COARSEST_SIDE_CUT, NUM_CYCLES_CUT = 3, 2
"""The same, and the number of V-cycles, where the image cuts the object off: values are given on a part of the outline
only, and are felt from farther away."""

NUM_COARSEST_SWEEPS = 2
"""Pairs of sweeps on the coarsest grid, of which only a correction is asked."""

NUM_LONE_SWEEPS = 20
"""Pairs of sweeps where the window is so small that there is no coarser grid."""

HIDDEN_SHARE = np.float32(2.75)
"""4 would be all that the finer grid feels, and corrects too little; below 2 the correction may be far too large."""


def solve_membrane(mask: np.ndarray, values: np.ndarray, counts: np.ndarray, /) -> np.ndarray:
    """Solve the discrete Laplace equation on the pixels of a mask, with given values around it.

    For each pixel q of the mask, over its neighbours p (left, right, above, below) inside the window:
    `sum of (u[q] - u[p]) = 0`, where u[p] is given if p lies outside the mask (Dirichlet). Nothing flows across the
    window's sides (Neumann). One pass from coarse to fine, then one V-cycle, or two. For given values within
    -130..160 that vary smoothly, the largest error on the mask was 0.7 in the median of 826 random shapes with cracks,
    holes and cut sides, 3.0 in 99 of 100, 6.2 in the worst.

    Args:
        mask: (h, w) bool, with at least one pixel inside and one outside.
        values: (h, w, 3) float32, for each q the sum of the given u[p]; 0 outside the mask.
        counts: (h, w) float32, for each q how many p lie outside the mask; 0 outside the mask.

    Returns:
        (h, w, 3) float32, u inside the mask, 0 outside.

    Source:
        Brandt 1977, "Multi-level adaptive solutions to boundary-value problems" (full multigrid). Pixels of a coarser
        grid whose way to the next is cut by the outline feel it at half of the distance (Shortley, Weller 1938).
    """
    is_cut = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    max_coarsest_side, num_cycles = (MAX_COARSEST_SIDE_CUT, NUM_CYCLES_CUT) if is_cut else (MAX_COARSEST_SIDE, 1)
    grids = _build_grids(mask.astype(np.float32), counts, max_coarsest_side)
    solution = _guess(grids, values, counts)
    for _ in range(num_cycles):
        solution = _run_cycle(grids, 0, values, solution)
    return solution


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Every second pixel of the next finer grid. All (h, w, 3) float32; what lies outside the mask is 0."""

    solid: np.ndarray  # 1 inside the mask
    degree: np.ndarray | np.float32  # weights of all neighbours; this times u, minus the neighbours' u, is flow
    ground: np.ndarray | None  # weights of those outside; not needed on the finest
    strong: np.ndarray  # relaxation / degree
    weak: np.ndarray


def _build_grids(solid: np.ndarray, ground: np.ndarray, max_coarsest_side: int) -> list[_Grid]:
    links = _sum_neighbours(solid)
    grids = [_Grid(_spread(solid), np.float32(4), None, _spread(solid * (STRONG / 4)), _spread(solid * (WEAK / 4)))]
    while max(solid.shape) > max_coarsest_side:
        # Ground: 1 for each neighbour outside, 2 where the outline already lies between. And never less than what the
        # finer grid feels around: a crack or a hole may lie between all pixels of this one.
        hidden: np.ndarray = cv2.pyrDown(ground)
        hidden *= HIDDEN_SHARE
        ground = np.float32(8) - links[::2, ::2]
        solid = np.ascontiguousarray(solid[::2, ::2])
        links = _sum_neighbours(solid)
        ground -= links
        np.maximum(ground, hidden, out=ground)
        ground *= solid
        degree = links + ground
        inverse = np.divide(solid, degree, out=np.zeros_like(solid), where=degree > 0)
        grids.append(
            _Grid(
                _spread(solid),
                _spread(degree),
                _spread(ground),
                _spread(inverse * STRONG),
                _spread(inverse * WEAK),
            )
        )
    return grids


def _sum_neighbours(field: np.ndarray) -> np.ndarray:
    """At the window's sides a pixel is its own neighbour, and nothing flows between the two."""
    return cv2.filter2D(field, -1, CROSS, borderType=cv2.BORDER_REPLICATE)


def _spread(plane: np.ndarray) -> np.ndarray:
    return cv2.merge([plane, plane, plane])


def _guess(grids: list[_Grid], values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """A first solution: solved on the coarsest grid, refined from grid to grid."""
    given = [(values, counts)]
    for _ in grids[1:]:
        given.append((cv2.pyrDown(given[-1][0]), cv2.pyrDown(given[-1][1])))
    solution = np.zeros_like(given[-1][0])
    for at in reversed(range(1, len(grids))):
        grid, (values, counts) = grids[at], given[at]
        around = values * _spread(1 / np.maximum(counts, np.float32(1e-6)))
        wanted = around * grid.ground
        if at + 1 == len(grids):
            solution = around * grid.solid
        if at == 1:
            solution = _run_cycle(grids, at, wanted, solution)
        else:
            for _ in range(2):
                solution = _sweep(grid, solution, wanted, STRONG)
                solution = _sweep(grid, solution, wanted, WEAK)
        around *= 1 - grid.solid
        solution += around
        finer = grids[at - 1].solid
        solution = cv2.pyrUp(solution, dstsize=(finer.shape[1], finer.shape[0]))
        solution *= finer
    return solution


def _run_cycle(grids: list[_Grid], at: int, wanted: np.ndarray, solution: np.ndarray | None = None) -> np.ndarray:
    """One V-cycle on `degree x u - neighbours = wanted`, from this grid downwards; writes into the solution given."""
    grid = grids[at]
    solution = wanted * grid.weak if solution is None else _sweep(grid, solution, wanted, WEAK)
    solution = _sweep(grid, solution, wanted, STRONG)
    if at + 1 == len(grids):
        for _ in range(NUM_COARSEST_SWEEPS if at else NUM_LONE_SWEEPS):
            solution = _sweep(grid, solution, wanted, WEAK)
            solution = _sweep(grid, solution, wanted, STRONG)
        return solution
    missing = _sum_neighbours(solution)
    missing += wanted
    missing -= grid.degree * solution
    missing *= grid.solid
    missing = cv2.pyrDown(missing)
    missing *= grids[at + 1].solid
    missing *= 4  # a pixel of the coarser grid stands for four
    height, width = solution.shape[:2]
    correction = cv2.pyrUp(_run_cycle(grids, at + 1, missing), dstsize=(width, height))
    correction *= grid.solid
    solution += correction
    solution = _sweep(grid, solution, wanted, STRONG)
    solution = _sweep(grid, solution, wanted, WEAK)
    return solution


def _sweep(grid: _Grid, solution: np.ndarray, wanted: np.ndarray, relaxation: np.float32) -> np.ndarray:
    """One step of relaxed Jacobi iteration; overwrites the solution given."""
    factor = grid.strong if relaxation > 1 else grid.weak
    if grid.ground is None:  # All degrees are 4, so the old solution goes into the same sum.
        kernel = STRONG_KERNEL if relaxation > 1 else WEAK_KERNEL
        solution = cv2.filter2D(solution, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        solution += wanted
        solution *= factor
        return solution
    update = _sum_neighbours(solution)
    update += wanted
    update *= factor
    solution *= np.float32(1) - relaxation
    solution += update
    return solution
