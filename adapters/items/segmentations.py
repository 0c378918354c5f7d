"""COCO's ways to write a mask: polygons, run lengths as a list, and compressed run lengths."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import xxhash

from synthloader.checks import reject

__all__ = ["decode_masks", "encode_mask", "has_segmentation", "hash_masks"]


def has_segmentation(annotation: dict[str, Any], /) -> bool:
    """Whether an annotation draws its object: a polygon of three corners or more, or run lengths."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return "counts" in segmentation
    return isinstance(segmentation, list) and any(_is_polygon(part) for part in segmentation)


def decode_masks(
    annotations: list[dict[str, Any]], /, *, boxes: np.ndarray, size_hw: tuple[int, int], names: list[str]
) -> np.ndarray:
    """The masks of annotations, drawn exactly as pycocotools' `annToMask` draws them.

    Args:
        annotations: COCO annotations. One without a segmentation (a crowd) is drawn as its box.
        boxes: (N, 4) float32 xyxy pixels inside the image.
        size_hw: Height and width of the image.
        names: What the segmentations are called in messages.

    Returns:
        (N, H, W) bool.

    Raises:
        ValueError: Run lengths are of another size or broken, or a polygon has a half corner.
    """
    height, width = size_hw
    masks = np.zeros((len(annotations), height, width), np.bool_)
    for mask, annotation, box, name in zip(masks, annotations, boxes, names, strict=True):
        if has_segmentation(annotation):
            _draw(mask, annotation["segmentation"], name)
        else:
            x1, y1, x2, y2 = np.rint(box).astype(int)
            mask[y1:y2, x1:x2] = True
    return masks


def encode_mask(mask: np.ndarray, /) -> dict[str, Any]:
    """Uncompressed run lengths, column by column, the first of zeros: `annToMask` and torchvision's references read it.

    Args:
        mask: (H, W) bool.

    Example:
        >>> encode_mask(np.array([[False, True], [False, True]]))
        {'counts': [2, 2], 'size': [2, 2]}
    """
    columns = cv2.transpose(np.ascontiguousarray(mask).view(np.uint8)).ravel()
    ends = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    counts = np.diff(ends, prepend=0, append=len(columns)).tolist()
    return {"counts": [0, *counts] if columns[0] else counts, "size": list(mask.shape)}


def hash_masks(masks: np.ndarray, /) -> np.ndarray:
    """(N,) int64: a number that stands for the pixels and the size of each mask."""
    width = masks.shape[2]
    hashes = [xxhash.xxh3_64_intdigest(np.ascontiguousarray(mask).data, seed=width) for mask in masks]
    return np.array(hashes, np.uint64).view(np.int64)


def _is_polygon(part: Any) -> bool:
    return isinstance(part, list | tuple) and len(part) >= 6


def _draw(mask: np.ndarray, segmentation: Any, name: str) -> None:
    """Draw a segmentation on an empty mask (H, W)."""
    height, width = mask.shape
    if isinstance(segmentation, list):
        polygons = [part for part in segmentation if _is_polygon(part)]
        if odd := [part for part in polygons if len(part) % 2]:
            reject(name, "have two numbers for every corner", odd[0], "Correct the annotation.")
        counts = _draw_polygons(polygons, height, width)
    else:
        given, size = segmentation["counts"], segmentation.get("size")
        if size is None or list(size) != [height, width]:
            reject(f"the size of {name}", f"be the image's, {[height, width]}", size, "Correct the annotation.")
        if isinstance(given, list | tuple):
            counts = np.array(given, np.int64)
        else:
            counts = _decompress(given.encode() if isinstance(given, str) else bytes(given))
        if counts.sum() != height * width or counts.min() < 0:
            reject(
                f"the counts of {name}",
                f"add up to the image's {height * width} pixels",
                given,
                "Correct the annotation.",
            )
    ends = np.cumsum(counts)
    starts, ends = ends[0:-1:2], ends[1::2]
    if len(starts) == 0:
        return
    first, last = int(starts[0]) // height, (int(ends[-1]) - 1) // height + 1  # The columns that are not empty.
    columns = np.zeros((last - first) * height, np.bool_)
    for start, end in zip((starts - first * height).tolist(), (ends - first * height).tolist(), strict=True):
        columns[start:end] = True
    mask[:, first:last] = columns.reshape(-1, height).T


def _draw_polygons(polygons: list[Any], height: int, width: int) -> np.ndarray:
    """Run lengths of the polygons' union, rasterised by pycocotools."""
    from pycocotools import mask as coco_mask  # type: ignore[import-untyped, unused-ignore]

    runs: Any = coco_mask.frPyObjects(polygons, height, width)
    merged: Any = coco_mask.merge(runs) if len(runs) > 1 else runs[0]
    return _decompress(merged["counts"])


def _decompress(counts: bytes) -> np.ndarray:
    """Run lengths of COCO's compressed text: 5 bits to a character, low ones first; from the fourth run on differences.

    pycocotools' own `decode` leaves pixels to chance where the runs end early, so the counts are looked at first.
    """
    characters = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    is_last = (characters & 0x20) == 0
    if len(characters) == 0 or not is_last[-1]:
        return np.array([-1])
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(characters)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:
        return np.array([-1])
    runs = np.add.reduceat((characters & 0x1F) << (5 * place), starts)
    is_negative = (characters[ends] & 0x10) != 0
    runs -= np.where(is_negative, np.int64(1) << (5 * (place[ends] + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
