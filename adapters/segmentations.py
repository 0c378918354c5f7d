"""COCO's ways to write a mask: polygons, run lengths as a list, and compressed run lengths."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import xxhash
from pycocotools import mask as coco_mask  # type: ignore[import-untyped, unused-ignore]

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
            drawn = _decode(annotation["segmentation"], size_hw, name)
            cv2.transpose(drawn.T, dst=mask.view(np.uint8))
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


def _decode(segmentation: Any, size_hw: tuple[int, int], name: str) -> np.ndarray:
    height, width = size_hw
    if isinstance(segmentation, list):
        polygons = [part for part in segmentation if _is_polygon(part)]
        if odd := [part for part in polygons if len(part) % 2]:
            reject(name, "have two numbers for every corner", odd[0], "Correct the annotation.")
        runs = coco_mask.frPyObjects(polygons, height, width)
        return _draw(coco_mask.merge(runs) if len(runs) > 1 else runs[0])
    counts, size = segmentation["counts"], segmentation.get("size")
    if size is None or list(size) != [height, width]:
        reject(f"the size of {name}", f"be the image's, {[height, width]}", size, "Correct the annotation.")
    if isinstance(counts, list | tuple):
        if sum(counts) != height * width or min(counts) < 0:
            reject(f"the counts of {name}", f"add up to {height * width}, the image's pixels", sum(counts),
                   "Correct the annotation.")
        lengths: Any = {"counts": list(counts), "size": [height, width]}
        return _draw(coco_mask.frPyObjects(lengths, height, width))
    try:
        drawn = _draw({"counts": counts, "size": [height, width]})
    except (ValueError, TypeError):
        drawn = np.full((1, 1), 2, np.uint8)
    if drawn.max() > 1:
        reject(f"the counts of {name}", "be run lengths that pycocotools can read", counts, "Correct the annotation.")
    return drawn


def _draw(runs: Any) -> np.ndarray:
    """(H, W) uint8, column by column in memory."""
    drawn: np.ndarray = coco_mask.decode(runs)
    return drawn
