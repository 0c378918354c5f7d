"""What holds where a generator changes how a picture looks: nothing moves, neither in the label nor in the pixels."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from synthloader.sample import Sample
from tests.contracts.sample_hash import describe

BLOCKS = 4
"""Blocks along each side of a picture whose pixels are looked for one by one: fewer where it is small."""

MIN_BLOCK = 32
"""Shortest side of a block, if the picture is no smaller."""

MIN_GRAINS = 64
"""Fewest pixels of an object by which it is recognised."""

REACH = 3
"""Pixels by which a block is moved in search of the place where it agrees best with the source."""

RECOGNISED = 0.25
"""Correlation from which two blocks show the same: of grain that has nothing to do with the other it is below 0.15."""


def check_appearance(source: Sample, made: Sample) -> None:
    """Nothing moved: target, maps and edited region are as before."""
    assert describe(source.replace(image=made.image)) == describe(made.replace(origin=source.origin)), (
        "Only the image may change."
    )
    assert made.origin is not None
    assert made.origin.edited is None


def check_nothing_moved(before: np.ndarray, after: np.ndarray, *, except_for: np.ndarray | None = None) -> None:
    """Every part of a picture is where it was: of all small shifts, none agrees best with the source.

    Each block is compared by the correlation of its grain, which stays under fog, rain, night and other colours, be it
    weaker; and of which a shift by a single pixel leaves nothing. Its sign does not count: negatives are edits too.

    Args:
        before: (H, W, 3) uint8 with grain everywhere (`make_texture`), at least 32 px a side.
        after: (H, W, 3) uint8, what was made of it.
        except_for: (H, W) bool, pixels where something else was pasted: blocks that hold many of them do not count.
    """
    grain_before, grain_after = _find_grain(before), _find_grain(after)
    height, width = before.shape[:2]
    recognised = counted = 0
    for top, bottom in _split(height):
        for left, right in _split(width):
            rows, columns = slice(top + REACH, bottom - REACH), slice(left + REACH, right - REACH)
            if except_for is not None and except_for[rows, columns].mean() > 0.3:
                continue
            counted += 1
            own = grain_before[rows, columns]
            agreement = {
                (down, right): _correlate(own, grain_after[_move(rows, down), _move(columns, right)])
                for down in range(-REACH, REACH + 1)
                for right in range(-REACH, REACH + 1)
            }
            best = max(agreement, key=lambda shift: agreement[shift])
            if agreement[best] > RECOGNISED:
                recognised += 1
                assert best == (0, 0), f"What was at row {top} and column {left} moved by {best} pixels."
    assert recognised * 2 > counted, f"Only {recognised} of {counted} parts of the picture can be recognised."


def check_objects_are_seen(source: Sample, made: Sample) -> int:
    """Every labelled object is still to be seen: its own grain is where its mask is.

    That holds for all that changes how a picture looks, however thick the fog: the correlation stays above 0.45, and
    nothing is left of it where something else was painted over an object.

    Returns:
        How many objects were large enough to tell.
    """
    target: Any = source.target
    grain_before, grain_after = _find_grain(source.image), _find_grain(made.image)
    counted = 0
    for mask in target.masks:
        # The grain of its outermost pixels depends on what lies beside it.
        inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=(1,)).astype(bool)
        if inside.sum() >= MIN_GRAINS:
            counted += 1
            agreement = _correlate(grain_before[inside], grain_after[inside])
            assert agreement > RECOGNISED, "A labelled object cannot be seen any more."
    return counted


def _split(length: int) -> list[tuple[int, int]]:
    """Begin and end of the blocks along a side; they cover all of it."""
    edges = np.linspace(0, length, max(1, min(BLOCKS, length // MIN_BLOCK)) + 1).astype(int).tolist()
    return list(pairwise(edges))


def _find_grain(image: np.ndarray) -> np.ndarray:
    """(H, W) float64: luma without what is coarser than a few pixels."""
    luma: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    grain: np.ndarray = luma - cv2.blur(luma, (5, 5))
    return grain


def _correlate(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return abs(float((one * other).sum())) / norm if norm > 0 else 0.0


def _move(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)
