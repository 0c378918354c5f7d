"""Keypoints of target dicts: x y visibility, or x y alone with the visibility in a field beside them, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from synthloader.adapters.items.fields import read_array
from synthloader.adapters.items.rows import has_rows, read_rows
from synthloader.checks import reject
from synthloader.errors import LabelContractError

__all__ = ["VISIBILITY_FIELDS", "find_visibility", "read_keypoints", "write_points", "write_visibility"]

VISIBILITY_FIELDS = ("visibility", "visibilities", "keypoint_visibility", "keypoints_visibility", "keypoints_visible")
"""Names of a field (N, K) beside keypoints (N, K, 2): 0, 1, 2 as COCO has it, or bool."""

_LABELLED = 2.0


def find_visibility(target: Mapping[str, Any], /) -> str | None:
    """The name of the field that holds the visibility of keypoints that are x and y alone."""
    points = target.get("keypoints")
    if not has_rows(points) or read_array(points, name="keypoints").shape[2:] != (2,):
        return None
    for field in VISIBILITY_FIELDS:
        if has_rows(target.get(field)) and np.ndim(target[field]) == 2:
            return field
    return None


def read_keypoints(
    target: Mapping[str, Any], /, *, name: str, num_rows: int, size_hw: tuple[int, int]
) -> np.ndarray | None:
    """(N, K, 3) float32, x y visibility; points without one count as visible. None where there are no keypoints.

    Raises:
        ValueError: The shape is another one, or the points are those of an image of another size.
    """
    if "keypoints" not in target or (not num_rows and np.ndim(target["keypoints"]) != 3):
        return None
    value, name = target["keypoints"], f"{name}['keypoints']"
    canvas_hw = getattr(value, "canvas_size", size_hw)
    if tuple(canvas_hw) != size_hw:
        reject(
            f"the canvas_size of {name}",
            f"be the image's height and width, {size_hw}",
            tuple(canvas_hw),
            "Give the points and the image one size.",
        )
    side = 2 if read_array(value, name=name).shape[2:] == (2,) else 3
    points = read_rows(value, name=name, num_rows=num_rows, row_shape=(None, side))
    if side == 3:
        _refuse_normalised(points[points[..., 2] > 0][:, :2], name, size_hw)
        return points.astype(np.float32)
    seen = np.full(points.shape[:2], _LABELLED)
    field = find_visibility(target)
    if field is not None:
        stated = read_rows(
            target[field],
            name=name.replace("'keypoints'", repr(field)),
            num_rows=num_rows,
            row_shape=(points.shape[1],),
        )
        seen = stated * _LABELLED if stated.dtype == np.bool_ else stated
    _refuse_normalised(points[seen > 0], name, size_hw)
    return np.concatenate([points, seen[..., None]], axis=2).astype(np.float32)


def _refuse_normalised(labelled: np.ndarray, name: str, size_hw: tuple[int, int]) -> None:
    """Refuse several points that all lie within the first pixel."""
    if len(labelled) > 1 and min(size_hw) > 2 and ((labelled >= 0) & (labelled < 1)).all() and labelled.any():
        reject(
            name,
            "be in pixels",
            labelled.tolist(),
            "These are normalised to 0..1: multiply x by the image's width and y by its height in the dataset.",
        )


def write_points(keypoints: np.ndarray, /, *, num_numbers: int, has_visibility: bool) -> np.ndarray:
    """(N, K, 2 or 3) of keypoints (N, K, 3).

    Raises:
        LabelContractError: A point is not labelled, and the form of the items cannot say so.
    """
    if num_numbers != 2:
        return keypoints
    if not has_visibility and (keypoints[..., 2] == 0).any():
        raise LabelContractError(
            "keypoints must all be labelled where items have only x and y, got one that lies outside of the image, or "
            "that nobody labelled. Return keypoints (N, K, 3), or a field 'visibility' (N, K) beside them, or use a "
            "generator that moves no objects."
        )
    return keypoints[..., :2]


def write_visibility(keypoints: np.ndarray, /, *, form: str) -> np.ndarray:
    """(N, K) of the field beside keypoints: whether they are visible for a bool, else 0, 1, 2."""
    seen: np.ndarray = keypoints[..., 2]
    return seen == _LABELLED if " bool" in form or "|b1" in form else seen.astype(np.int64)
