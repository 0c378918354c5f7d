"""What the generators are compared with: peers called through their public interfaces, and floors of the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from benchmarks._cache_samples import Item

NUM_PASTED = 3

Run = Callable[[int], object]
"""Make picture `index`, anew each time."""


@dataclass(frozen=True)
class Placed:
    """An object with the place where it is pasted, wholly inside the picture."""

    pixels: np.ndarray
    mask: np.ndarray
    label: int
    top: int
    left: int


def place_objects(items: Sequence[Item], rng: np.random.Generator) -> list[list[Placed]]:
    """For each picture three objects of others, and places for them; cut-outs have a rim of one pixel around them."""
    found = []
    for _ in items:
        placed: list[Placed] = []
        while len(placed) < NUM_PASTED:
            donor, row = items[int(rng.integers(len(items)))], int(rng.integers(8))
            x1, y1, x2, y2 = donor.boxes[row].astype(int)
            mask = np.pad(donor.masks[row, y1:y2, x1:x2], 1)
            pixels = np.pad(donor.image[y1:y2, x1:x2], ((1, 1), (1, 1), (0, 0)), mode="edge")
            top = int(rng.integers(donor.image.shape[0] - mask.shape[0]))
            left = int(rng.integers(donor.image.shape[1] - mask.shape[1]))
            placed.append(Placed(pixels, mask, int(donor.labels[row]), top, left))
        found.append(placed)
    return found


def paste_plainly(items: Sequence[Item], placed: Sequence[Sequence[Placed]]) -> Run:
    """The floor: copy the picture and the masks, three masked blits, masks and boxes updated."""

    def run(index: int) -> Item:
        item, count = items[index], len(items[index].masks)
        image = item.image.copy()
        masks = np.zeros((count + NUM_PASTED, *image.shape[:2]), np.bool_)
        masks[:count] = item.masks
        boxes = np.zeros((count + NUM_PASTED, 4), np.float32)
        boxes[:count] = item.boxes
        for number, each in enumerate(placed[index], start=count):
            height, width = each.mask.shape
            window = np.s_[each.top : each.top + height, each.left : each.left + width]
            cv2.copyTo(each.pixels, each.mask.view(np.uint8), image[window])
            parts = masks[:number, window[0], window[1]]
            touched = np.flatnonzero((parts & each.mask).reshape(number, -1).any(axis=1))
            parts &= ~each.mask
            masks[number, window[0], window[1]] = each.mask
            boxes[number] = (each.left + 1, each.top + 1, each.left + width - 1, each.top + height - 1)
            for row in touched:
                boxes[row] = _shrink(masks[row], boxes[row])
        labels = np.concatenate([item.labels, [each.label for each in placed[index]]])
        return Item(image, boxes, labels, masks)

    return run


def _shrink(mask: np.ndarray, box: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.astype(int)
    part = mask[y1:y2, x1:x2]
    columns, rows = np.flatnonzero(part.any(axis=0)), np.flatnonzero(part.any(axis=1))
    if not len(rows):
        return (0, 0, 0, 0)
    return (x1 + columns[0], y1 + rows[0], x1 + columns[-1] + 1, y1 + rows[-1] + 1)


def clone_seamlessly(items: Sequence[Item], placed: Sequence[Sequence[Placed]]) -> Run:
    """Three times OpenCV's Poisson blending; pixels only, no label is touched."""
    opaque = [[each.mask.view(np.uint8) * 255 for each in group] for group in placed]

    def run(index: int) -> np.ndarray:
        image: Any = items[index].image
        for each, mask in zip(placed[index], opaque[index], strict=True):
            height, width = mask.shape
            center = (each.left + width // 2, each.top + height // 2)
            image = cv2.seamlessClone(each.pixels, image, mask, center, cv2.NORMAL_CLONE)
        return np.asarray(image)

    return run


def blend_poisson(items: Sequence[Item], placed: Sequence[Sequence[Placed]]) -> Run:
    """Ours on the same cut-outs and places, pixels only."""
    from synthloader.generators.pasting.blending import blend_into

    def run(index: int) -> np.ndarray:
        image = items[index].image.copy()
        for each in placed[index]:
            height, width = each.mask.shape
            view = image[each.top : each.top + height, each.left : each.left + width]
            blend_into(view, each.pixels, each.mask, how="poisson")
        return image

    return run


def paste_dense_tensors(items: Sequence[Item]) -> Run:
    """Whole-image tensors: three objects of another picture, alpha by `where` on all pixels, all masks and boxes anew.

    Written after the description of simple copy-paste (Ghiasi et al. 2021) in the manner of torchvision's references,
    without their resizing and mirroring.
    """
    import torch
    from torchvision.ops import masks_to_boxes

    pictures = [torch.from_numpy(item.image).permute(2, 0, 1).contiguous() for item in items]
    masks = [torch.from_numpy(item.masks) for item in items]
    labels = [torch.from_numpy(item.labels) for item in items]
    chooser = torch.Generator().manual_seed(0)

    def run(index: int) -> Any:
        donor = (index + 1) % len(items)
        rows = torch.randperm(len(masks[donor]), generator=chooser)[:NUM_PASTED]
        pasted = masks[donor][rows]
        cover = pasted.any(dim=0)
        image = torch.where(cover, pictures[donor], pictures[index])
        left_over = masks[index] & ~cover
        visible = left_over.flatten(1).any(dim=1)
        all_masks = torch.cat([left_over[visible], pasted])
        all_labels = torch.cat([labels[index][visible], labels[donor][rows]])
        return image, masks_to_boxes(all_masks), all_labels, all_masks

    return run


def paste_with_ultralytics(items: Sequence[Item], *, with_masks: bool) -> Run | None:
    """Ultralytics' `CopyPaste`: mirrored objects of the picture itself, as polygons, or with the masks drawn.

    It pastes a share of the objects that overlap no other one; the share is chosen so that it pastes three, and
    pictures where it never does are replaced by ones where it does. None where there is no such picture.
    """
    from ultralytics.data.augment import CopyPaste
    from ultralytics.data.utils import polygons2masks
    from ultralytics.utils.instance import Instances
    from ultralytics.utils.ops import resample_segments

    def make_labels(index: int) -> dict[str, Any]:
        segments = np.stack(resample_segments(list(outlines[index]), n=1000)) if index in outlines else None
        instances = Instances(items[index].boxes.copy(), segments, bbox_format="xyxy", normalized=False)
        return {"img": items[index].image.copy(), "cls": items[index].labels[:, None].copy(), "instances": instances}

    outlines = {index: [_outline(mask) for mask in item.masks] for index, item in enumerate(items)}
    known: dict[int, tuple[Any, dict[str, Any]]] = {}
    for index in range(len(items)):
        for share in (3 / 8, 3 / 7, 3 / 6, 3 / 5, 3 / 4, 1.0):
            paste = CopyPaste(p=share, mode="flip")
            if len(paste(make_labels(index))["instances"]) == len(items[index].boxes) + NUM_PASTED:
                known[index] = (paste, make_labels(index))
                break
    if not known:
        return None
    usable = list(known)

    def run(index: int) -> Any:
        paste, labels = known[usable[index % len(usable)]]
        fresh = {**labels, "img": labels["img"].copy(), "instances": _copy_instances(labels["instances"])}
        made = paste(fresh)
        if not with_masks:
            return made
        return made, polygons2masks(made["img"].shape[:2], list(made["instances"].segments), color=1)

    return run


def _copy_instances(instances: Any) -> Any:
    from ultralytics.utils.instance import Instances

    return Instances(instances.bboxes.copy(), instances.segments.copy(), bbox_format="xyxy", normalized=False)


def _outline(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(contours, key=len).reshape(-1, 2).astype(np.float32)


def apply_albumentations(name: str, items: Sequence[Item], **options: Any) -> Run:
    """One of its transforms, always applied, through its `__call__`; `references`: these pictures."""
    import albumentations

    given: dict[str, Any] = {}
    if options.pop("references", False):
        given = {"references": [item.image for item in items]}
        options["metadata_key"] = "references"
    transform = getattr(albumentations, name)(**options, p=1.0)
    transform.set_random_seed(0)
    return lambda index: transform(image=items[index].image, **given)["image"]


def match_with_skimage(items: Sequence[Item]) -> Run:
    """scikit-image's histogram matching, channel by channel, to the next picture."""
    from skimage.exposure import match_histograms

    return lambda index: match_histograms(
        items[index].image, items[(index + 1) % len(items)].image, channel_axis=-1
    ).astype(np.uint8)


def transform_there_and_back(items: Sequence[Item]) -> Run:
    """The floor of Fourier domain adaptation: float32 rfft2 and irfft2 of three channels."""
    from scipy import fft

    def run(index: int) -> np.ndarray:
        planes = np.ascontiguousarray(items[index].image.transpose(2, 0, 1), np.float32)
        return np.asarray(fft.irfft2(fft.rfft2(planes), s=planes.shape[1:]))

    return run


def blend_once(items: Sequence[Item]) -> Run:
    """The floor of fog: one exponential of a depth map, and one blend with the airlight."""
    height, width = items[0].image.shape[:2]
    depth = np.repeat(np.linspace(0.1, 3, height, dtype=np.float32)[:, None], width, axis=1)
    airlight = np.full((height, width, 3), 220, np.uint8)

    def run(index: int) -> np.ndarray:
        transmission = cv2.exp(-depth)
        return cv2.blendLinear(items[index].image, airlight, transmission, 1 - transmission)

    return run


def look_up_in_lab(items: Sequence[Item]) -> Run:
    """The floor of colour transfer: to Lab, the statistics of the picture, 8-bit tables, and back."""
    table = np.clip(np.arange(256) * 0.9 + 10, 0, 255).astype(np.uint8).reshape(1, 256, 1).repeat(3, axis=2)

    def run(index: int) -> np.ndarray:
        lab = cv2.cvtColor(items[index].image, cv2.COLOR_RGB2LAB)
        cv2.meanStdDev(lab)
        return cv2.cvtColor(cv2.LUT(lab, table), cv2.COLOR_LAB2RGB)

    return run


def match_tables(items: Sequence[Item]) -> Run:
    """The floor of histogram matching: three histograms, 8-bit tables."""
    table = np.clip(np.arange(256) * 0.9 + 10, 0, 255).astype(np.uint8).reshape(1, 256, 1).repeat(3, axis=2)

    def run(index: int) -> np.ndarray:
        lab = cv2.cvtColor(items[index].image, cv2.COLOR_RGB2LAB)
        for channel in range(3):
            cv2.calcHist([lab], [channel], None, [256], [0, 256])
        return cv2.cvtColor(cv2.LUT(lab, table), cv2.COLOR_LAB2RGB)

    return run
