"""`fit_to`: a picture scaled to cover a size and cut to a random window of it, with its labels."""

from __future__ import annotations

import cv2
import numpy as np

from synthloader.errors import NothingToGenerate
from synthloader.generators.cut_out import find_tight_box, read_share
from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask, Target

__all__ = ["fit_to"]

MAX_WINDOWS = 10
"""Windows that are tried in search of one that cuts no labelled object to a scrap."""
MIN_SHARE = 0.2
"""Smallest share of a labelled object that a window may leave."""
_FULL = np.uint8(254)
"""Full coverage of a pixel by a mask: even, so that of two masks that share no pixel never both round up to a half."""


def fit_to(sample: Sample, size_hw: tuple[int, int], rng: np.random.Generator, /) -> Sample:
    """Scale a picture so that it just covers a size, and cut a random window of exactly that size.

    Labels follow. An object outside of the window is dropped; one of which the window would leave less than a fifth
    makes another window be tried, so that nothing stays visible without its label.

    Args:
        sample: Any sample; not modified. The result may share memory with it.
        size_hw: Height and width that are wanted.
        rng: Draws the window.

    Raises:
        NothingToGenerate: Ten windows were tried, and each cuts an object to a scrap.
    """
    height, width = size_hw
    factor = max(height / sample.size_hw[0], width / sample.size_hw[1])
    scaled_hw = max(height, round(sample.size_hw[0] * factor)), max(width, round(sample.size_hw[1] * factor))
    image = sample.image
    if scaled_hw != sample.size_hw:
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, scaled_hw[::-1], interpolation=how)
    scaled = None
    if isinstance(sample.target, Instances):
        scaled = _scale_instances(sample.target, sample.size_hw, scaled_hw)
    for _ in range(1 if scaled_hw == size_hw else MAX_WINDOWS):
        top = int(rng.integers(scaled_hw[0] - height + 1))
        left = int(rng.integers(scaled_hw[1] - width + 1))
        window = (slice(top, top + height), slice(left, left + width))
        try:
            target = _cut_target(sample.target, scaled, window, scaled_hw)
        except _CutsObject:
            continue
        origin = sample.origin
        if origin is not None and origin.edited is not None:
            origin = origin.replace(edited=_pick_nearest(origin.edited, scaled_hw, window))
        return sample.replace(
            image=np.ascontiguousarray(image[window]),
            target=target,
            origin=origin,
            maps={name: _pick_nearest(values, scaled_hw, window) for name, values in sample.maps.items()},
        )
    raise NothingToGenerate("background cuts objects")


class _CutsObject(Exception):  # noqa: N818 - a signal, as StopIteration is
    """A window would leave a scrap of an object."""


def _pick_nearest(values: np.ndarray, scaled_hw: tuple[int, int], window: tuple[slice, slice]) -> np.ndarray:
    """The window of an array (H, W, ...) scaled to `scaled_hw`, each pixel with the nearest value."""
    rows, columns = (
        np.minimum((np.arange(part.start, part.stop) + 0.5) * old / new, old - 1).astype(np.intp)
        for part, old, new in zip(window, values.shape, scaled_hw, strict=False)
    )
    picked: np.ndarray = values[rows[:, None], columns]
    return picked


def _cut_target(
    target: Target | None, scaled: Instances | None, window: tuple[slice, slice], scaled_hw: tuple[int, int]
) -> Target | None:
    """The labels of a window.

    Raises:
        _CutsObject: An object would be cut to a scrap.
    """
    if scaled is not None:
        return _cut_instances(scaled, window)
    if isinstance(target, SemanticMask):
        mask = np.ascontiguousarray(_pick_nearest(target.mask, scaled_hw, window))
        return SemanticMask(mask, ignore_index=target.ignore_index)
    return target


def _scale_instances(target: Instances, size_hw: tuple[int, int], scaled_hw: tuple[int, int]) -> Instances:
    if size_hw == scaled_hw:
        return target
    ratio_y, ratio_x = scaled_hw[0] / size_hw[0], scaled_hw[1] / size_hw[1]
    boxes = target.boxes * np.array([ratio_x, ratio_y] * 2, np.float32)
    keypoints = target.keypoints
    if keypoints is not None:
        keypoints = keypoints * np.array([ratio_x, ratio_y, 1], np.float32)
    masks = None if target.masks is None else _scale_masks(target.masks, scaled_hw)
    return target.replace(boxes=boxes, masks=masks, keypoints=keypoints)


def _scale_masks(masks: np.ndarray, scaled_hw: tuple[int, int]) -> np.ndarray:
    """(N, h, w) bool: the pixels that a mask covers by more than half, and one at least."""
    scaled = np.zeros((len(masks), *scaled_hw), np.bool_)
    how = cv2.INTER_AREA if scaled_hw[0] < 0.5 * masks.shape[1] else cv2.INTER_LINEAR
    for row, mask in enumerate(masks):
        soft = cv2.resize(mask.view(np.uint8) * _FULL, scaled_hw[::-1], interpolation=how)
        np.greater(soft, _FULL // 2, out=scaled[row])
    for row in np.flatnonzero(~scaled.reshape(len(masks), -1).any(axis=1)).tolist():
        if masks[row].any():
            _keep_one_pixel(masks, scaled, row)
    return scaled


def _keep_one_pixel(masks: np.ndarray, scaled: np.ndarray, row: int) -> None:
    """Give an object that covers no pixel by half the one that it covers most, and take that from its neighbours.

    Raises:
        NothingToGenerate: It is all that a neighbour has.
    """
    size_wh = scaled.shape[2], scaled.shape[1]
    covered = cv2.resize(masks[row].astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    y, x = np.unravel_index(int(covered.argmax()), covered.shape)
    for other in np.flatnonzero(scaled[:, y, x]).tolist():
        if not (masks[other] & masks[row]).any():  # Those that overlapped may go on overlapping.
            if scaled[other].sum() == 1:
                raise NothingToGenerate("background cuts objects")
            scaled[other, y, x] = False
    scaled[row, y, x] = True


def _cut_instances(scaled: Instances, window: tuple[slice, slice]) -> Instances:
    height, width = (part.stop - part.start for part in window)
    shift = np.array([window[1].start, window[0].start] * 2, np.float32)
    moved = scaled.boxes - shift
    boxes = np.clip(moved, 0, np.array([width, height] * 2, np.float32))
    shares = _measure_shares(moved, boxes)
    masks = None if scaled.masks is None else np.ascontiguousarray(scaled.masks[:, window[0], window[1]])
    if scaled.masks is not None and masks is not None:
        for row in range(len(masks)):
            full = cv2.countNonZero(scaled.masks[row].view(np.uint8))
            if full:
                shares[row] = cv2.countNonZero(masks[row].view(np.uint8)) / full
                boxes[row] = find_tight_box(masks[row], near=boxes[row])
    is_crowd = np.zeros(len(scaled), np.bool_) if scaled.crowd is None else scaled.crowd
    visible = np.array([read_share(scaled, row) for row in range(len(scaled))])
    if ((shares > 0) & (shares < 1) & (shares * visible < MIN_SHARE) & ~is_crowd).any():
        raise _CutsObject
    keypoints = scaled.keypoints
    if keypoints is not None:
        keypoints = keypoints - np.append(shift[:2], np.float32(0))
        x, y = keypoints[..., 0], keypoints[..., 1]
        keypoints[(x < 0) | (x >= width) | (y < 0) | (y >= height) | (keypoints[..., 2] == 0)] = 0
    attributes = dict(scaled.attributes)
    column = attributes.get("visible")
    if column is not None and column.dtype == np.float32 and column.ndim == 1:
        attributes["visible"] = column * shares.astype(np.float32)
    cut = scaled.replace(boxes=boxes, masks=masks, keypoints=keypoints, attributes=attributes)
    return cut if (shares > 0).all() else cut.select(shares > 0)


def _measure_shares(moved: np.ndarray, clipped: np.ndarray) -> np.ndarray:
    """(N,) float64, how much of each box lies in the window; a box without area lies there wholly or not at all."""
    areas, left_over = (np.prod((boxes[:, 2:] - boxes[:, :2]).astype(np.float64), axis=1) for boxes in (moved, clipped))
    is_inside = (moved == clipped).all(axis=1)
    shares: np.ndarray = np.where(areas > 0, left_over / np.where(areas > 0, areas, 1), is_inside)
    return shares
