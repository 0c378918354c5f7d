"""Objects of one bright colour on dark ground: whatever was done to them, the picture tells which pixels are theirs.

So masks are followed through scaling, turning, bending, feathering and other backgrounds, where no pixel can name its
place any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target
from tests.contracts.generator_cases import COLORS
from tests.contracts.generator_contract import bind, check_made, generate
from tests.generators.pictures import ListPool, drop_masks, make_flat, make_texture, tight_box

if TYPE_CHECKING:
    from tests.contracts.generator_contract import Case

DARK = 60
"""Brightest level of the ground."""

LABELS_OF_FLAT = ("masks", "boxes", "boxes in the pool too", "keypoints in boxes", "regions", "class")

BOXES_IN_THE_POOL = ("boxes in the pool too", "keypoints in boxes")
"""Of these no mask says where an object ends, neither in the source nor in the pool: GrabCut finds it."""


def check_flat(case: Case, seed: int, kind: str) -> Sample | None:
    """Make one sample from flat pictures, and compare its labels with its pixels. Returns what was made."""
    source, pool = make_flat_scene(seed, kind)
    if kind == "class" and not case.cutouts:
        return None
    generator = bind(case.make(), pool)
    made = generate(generator, source, seed)
    if made is None:
        return None
    check_made(case, pool, source, made)
    check_bright(case, made, is_cut_out=kind in BOXES_IN_THE_POOL and not case.cutouts)
    return made


def make_flat_scene(seed: int, kind: str) -> tuple[Sample, ListPool]:
    """A dark source with two objects of class 1 and 2, and a pool of four bright objects of classes 1 to 4.

    Where the pool has masks (or the label counts by pixels), the pictures are of one colour all over: the mask alone
    says where an object ends. Where it has boxes, GrabCut finds bright objects on black; their keypoints, if they have
    any, lie at the corners of the box, a step inside of it, and in its middle: on the object and beside it.
    """
    kinds: dict[str, type[Target]] = {"regions": SemanticMask, "class": ClassLabel}
    target_type = kinds.get(kind, Instances)
    black = (0, 0, 0) if kind in BOXES_IN_THE_POOL else None
    numbers = range(4, 8)  # class 1 + number % 4
    donors = [
        make_flat(number, COLORS[at], around=black or COLORS[at], kind=target_type) for at, number in enumerate(numbers)
    ]
    size_hw = (60, 80)
    source = Sample(make_texture(seed, size_hw, (0, DARK)), _label(size_hw, target_type, seed))
    if kind in ("boxes", *BOXES_IN_THE_POOL):
        source = drop_masks(source)
    if kind in BOXES_IN_THE_POOL:
        donors = [drop_masks(donor) for donor in donors]
    if kind == "keypoints in boxes":
        source, *donors = map(_add_keypoints, (source, *donors))
    return source, ListPool(donors)


def _add_keypoints(sample: Sample) -> Sample:
    """Every instance with nine visible points: on the border of its box, a little inside of it, and in its middle."""
    target: Any = sample.target
    steps = np.array([[x, y] for x in (0.02, 0.5, 0.98) for y in (0.02, 0.5, 0.98)])
    corners, sides = target.boxes[:, None, :2], target.boxes[:, None, 2:] - target.boxes[:, None, :2]
    places = corners + steps * sides
    keypoints = np.concatenate([places, np.full((*places.shape[:2], 1), 2)], axis=2).astype(np.float32)
    return sample.replace(target=target.replace(keypoints=keypoints))


def _label(size_hw: tuple[int, int], kind: type[Target], seed: int) -> Target:
    if kind is ClassLabel:
        return ClassLabel(1 + seed % 4)
    masks = np.zeros((2, *size_hw), bool)
    masks[0, 5:25, 10:30] = masks[1, 30:55, 40:75] = True
    if kind is SemanticMask:
        return SemanticMask((masks[0] * 1 + masks[1] * 2).astype(np.int32))
    boxes = np.array([tight_box(mask) for mask in masks], np.float32)
    return Instances(np.array([1, 2]), boxes, masks, attributes={"row": np.array([9000, 9001])})


def check_bright(case: Case, made: Sample, *, is_cut_out: bool) -> None:
    """What is bright was pasted, and what was pasted is bright; each colour belongs to one class.

    Args:
        case: The generator under test.
        made: What it made.
        is_cut_out: Whether objects were found by GrabCut, on black: then edges are darker, and may be a pixel off.
    """
    bright = made.image.min(axis=2) > DARK
    target: Any = made.target
    assert made.origin is not None
    edited = made.origin.edited
    if isinstance(target, Instances) and target.masks is not None:
        union = target.masks[target.attributes["generated"]].any(axis=0)
        assert _covers(union, bright, tolerance=0.25 * is_cut_out), "The masks must cover exactly what was pasted."
    if edited is not None:
        assert _covers(edited, bright, tolerance=0.25 * is_cut_out), "The edited region must be what was pasted."
    pixels = [(made.image == color).all(axis=2) for color in COLORS]
    is_pure = np.array_equal(np.any(pixels, axis=0), bright)
    for class_id, own in enumerate(pixels, start=1):
        _check_color(target, class_id, own, is_pure=is_pure)
        if isinstance(target, Instances) and target.keypoints is not None:
            others = np.any([each for each in pixels if each is not own], axis=0)
            _check_keypoints(target, class_id, others)


def _check_keypoints(target: Any, class_id: int, others: np.ndarray) -> None:
    """No visible keypoint of a pasted object lies on a pixel (H, W) that has the colour of another class."""
    points = target.keypoints[target.attributes["generated"] & (target.class_ids == class_id)].reshape(-1, 3)
    columns, rows = np.floor(points[points[:, 2] == 2, :2]).astype(int).T
    assert not others[rows, columns].any(), "A keypoint is visible under another object."


def _covers(region: np.ndarray, bright: np.ndarray, *, tolerance: float) -> bool:
    """Whether a region holds all bright pixels, and at most this share of others."""
    return not (bright & ~region).any() and (region & ~bright).sum() <= tolerance * region.sum()


def _check_color(target: Any, class_id: int, own: np.ndarray, *, is_pure: bool) -> None:
    """The label of all pixels of one colour; `is_pure` where no other pixel is the object's."""
    if isinstance(target, SemanticMask):
        assert (target.mask[own] == class_id).all(), "A pixel of the object has not its class."
    elif isinstance(target, ClassLabel):
        assert not own.any() or class_id == target.class_id, "An object of another class is to be seen."
    else:
        rows = target.attributes["generated"] & (target.class_ids == class_id)
        if target.masks is not None:
            mask = target.masks[rows].any(axis=0)
            assert not (own & ~mask).any(), "A pixel of the object is not in its mask."
        elif is_pure and rows.any():
            boxes = target.boxes[rows]
            around = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
            assert tight_box(own) == around, "The boxes must be around the object's pixels."
        else:
            assert rows.any() or not own.any(), "An object without a label."
