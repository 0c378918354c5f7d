"""Keypoints as numbers that JSON holds."""

from __future__ import annotations

import numpy as np

from synthloader.checks import reject
from synthloader.targets import Instances

__all__ = ["read_keypoints"]


def read_keypoints(name: str, target: Instances, /) -> list[list[list[float]]] | None:
    """x, y in pixels and visibility of every point of every instance; None where there are no keypoints.

    Args:
        name: The sample's name, for messages.
        target: The instances.

    Raises:
        ValueError: A number is not finite.
    """
    if target.keypoints is None:
        return None
    if not np.isfinite(target.keypoints).all():
        row = int(np.flatnonzero(~np.isfinite(target.keypoints).all(axis=(1, 2)))[0])
        reject(
            f"keypoints[{row}] of sample {name!r}",
            "be finite",
            target.keypoints[row].tolist(),
            "A point that is not labelled is 0, 0, 0.",
        )
    return [[[x, y, _as_whole(seen)] for x, y, seen in points] for points in target.keypoints.tolist()]


def _as_whole(number: float) -> float:
    return int(number) if number.is_integer() else number
