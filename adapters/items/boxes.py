"""Boxes as annotations have them, in several formats, to x1 y1 x2 y2 in pixels inside the image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synthloader.checks import reject

__all__ = ["BOX_FORMATS", "find_box_format", "find_same_boxes", "from_xyxy", "read_boxes", "to_xyxy"]

BOX_FORMATS = ("xyxy", "xywh", "cxcywh", "xyxy_normalized", "xywh_normalized", "cxcywh_normalized")
"""`xywh` has the corner first, `cxcywh` the centre; `_normalized` ones are divided by the image's width and height."""

ROUNDING_TOLERANCE = 1.0
"""Pixels by which a box may stick out: rounded annotations, and conventions that count pixels from 1."""

_DROP = "(bad_boxes='drop'), which clips boxes to the image and drops those without area"

_OF_TENSORS = {"XYXY": "xyxy", "XYWH": "xywh", "CXCYWH": "cxcywh"}


def find_box_format(form: str, stated: str, /) -> str | None:
    """The format of boxes whose form `describe_array` gave: torchvision's `BoundingBoxes` say it themselves.

    Returns:
        One of `BOX_FORMATS`; None for a format that is not known, such as rotated boxes.
    """
    kind, *rest = form.split() or [""]
    return _OF_TENSORS.get(rest[2]) if kind == "BoundingBoxes" else stated


def read_boxes(
    native: np.ndarray,
    /,
    *,
    box_format: str,
    size_hw: tuple[int, int],
    drop_bad: bool,
    name_row: Callable[[int], str],
    name: str,
    may_be_stated: bool = True,
    adapter: str = "DetectionAdapter",
) -> tuple[np.ndarray, np.ndarray | None]:
    """Boxes inside the image, and which of them count.

    Args:
        native: (N, 4) numbers, boxes as the annotation has them.
        box_format: One of `BOX_FORMATS`.
        size_hw: Height and width of the image.
        drop_bad: Whether boxes are clipped and those without area dropped, instead of being refused.
        name_row: Gives the name of a row in messages.
        name: The name of all boxes in messages.
        may_be_stated: Whether messages may propose to state another format.
        adapter: Whose option `bad_boxes` messages propose.

    Returns:
        (N, 4) float32, zeros where a box is to be dropped; and (N,) bool, the rows to keep, None for all.

    Raises:
        ValueError: A box is wrong, and is not to be dropped.
    """
    if len(native) == 0:
        return np.zeros((0, 4), np.float32), None
    may_be_normalized = native.dtype.kind == "f" and not box_format.endswith("_normalized") and max(size_hw) > 2
    native = native.astype(np.float64)
    raw = to_xyxy(native, box_format, size_hw)
    boxes = _clip(raw, size_hw)
    with np.errstate(invalid="ignore"):
        has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        is_near = _is_near(raw, size_hw)
        looks_normalized = may_be_normalized and bool((np.abs(native) <= 1).all())
    if looks_normalized:
        remedy = "Multiply them by the image's width and height."
        if may_be_stated:
            remedy = (
                "If they are normalised to 0..1, pass adapter=DetectionAdapter(boxes='xyxy_normalized'), or "
                "'xywh_normalized', or 'cxcywh_normalized'."
            )
        reject(name, "be in pixels", native.tolist(), remedy)
    good = has_area & is_near
    if good.all():
        return boxes, None
    if drop_bad:
        boxes[~has_area] = 0
        return boxes, has_area
    row = int(np.flatnonzero(~good)[0])
    fix = f"Correct the annotation, or pass adapter={adapter}{_DROP}."
    _reject_row(native[row], raw[row], box_format, size_hw, name_row(row), fix, may_be_stated)
    return boxes, None


def find_same_boxes(
    boxes: np.ndarray, native: np.ndarray, /, *, box_format: str, size_hw: tuple[int, int]
) -> np.ndarray:
    """(N,) bool, which native boxes say the same as `boxes` on an image of this size, and so can be given back."""
    raw = to_xyxy(native, box_format, size_hw)
    with np.errstate(invalid="ignore"):
        same: np.ndarray = (_clip(raw, size_hw) == boxes).all(axis=1) & _is_near(raw, size_hw)
    return same


def from_xyxy(boxes: np.ndarray, box_format: str, /, *, size_hw: tuple[int, int]) -> np.ndarray:
    """(N, 4) float64 boxes of a native format from xyxy in pixels."""
    native = boxes.astype(np.float64)
    kind, _, normalized = box_format.partition("_")
    if kind != "xyxy":
        native[:, 2:] -= native[:, :2]
    if kind == "cxcywh":
        native[:, :2] += native[:, 2:] / 2
    return native / _scale(size_hw) if normalized else native


def to_xyxy(native: np.ndarray, box_format: str, size_hw: tuple[int, int], /) -> np.ndarray:
    """(N, 4) float64 boxes of a native format as xyxy in pixels, neither checked nor clipped."""
    kind, _, normalized = box_format.partition("_")
    boxes = native * _scale(size_hw) if normalized else native
    if kind == "xyxy":
        return boxes
    low = boxes[:, :2] - boxes[:, 2:] / 2 if kind == "cxcywh" else boxes[:, :2]
    return np.concatenate([low, low + boxes[:, 2:]], axis=1)


def _scale(size_hw: tuple[int, int]) -> np.ndarray:
    height, width = size_hw
    return np.array([width, height, width, height], np.float64)


def _clip(raw: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    clipped: np.ndarray = np.clip(raw, 0.0, _scale(size_hw)).astype(np.float32)
    return clipped


def _is_near(raw: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Which boxes are finite and stick out by rounding at most."""
    low, high = raw >= -ROUNDING_TOLERANCE, raw <= _scale(size_hw) + ROUNDING_TOLERANCE
    near: np.ndarray = np.all(low & high, axis=1)
    return near


def _reject_row(
    native: np.ndarray,
    raw: np.ndarray,
    box_format: str,
    size_hw: tuple[int, int],
    name: str,
    fix: str,
    may_be_stated: bool,
) -> None:
    value = native.tolist()
    stated = " If the boxes have another format, state it: DetectionAdapter(boxes='xywh'), or 'cxcywh', or 'xyxy'."
    if not np.isfinite(raw).all():
        reject(name, "be finite", value, fix)
    height, width = size_hw
    inside = bool(_is_near(raw[None], size_hw)[0])
    if raw[2] < raw[0] or raw[3] < raw[1]:
        requirement = "have x1 < x2 and y1 < y2" if box_format.startswith("xyxy") else "have a width and height above 0"
    elif not inside:
        requirement = f"lie inside the image of height {height} and width {width}"
    else:
        reject(name, "have an area above 0", value, fix)
    reject(name, requirement, value, fix + (stated if may_be_stated else ""))
