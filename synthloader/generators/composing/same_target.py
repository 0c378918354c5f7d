"""Whether two targets say the same."""

from __future__ import annotations

import numpy as np

from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["is_same_target"]


def is_same_target(one: Target | None, other: Target | None, /) -> bool:
    """Whether two targets are equal bit for bit, every field of them; nothing is unpacked that both share."""
    if one is other:
        return True
    match one, other:
        case ClassLabel(), ClassLabel():
            return one.class_id == other.class_id
        case SemanticMask(), SemanticMask():
            return one.ignore_index == other.ignore_index and _are_same(one.mask, other.mask)
        case Instances(), Instances():
            return _are_same_instances(one, other)
        case _:
            return False


def _are_same_instances(one: Instances, other: Instances) -> bool:
    if len(one) != len(other) or one.attributes.keys() != other.attributes.keys():
        return False
    pairs = [
        (one.class_ids, other.class_ids),
        (one.boxes, other.boxes),
        (one.keypoints, other.keypoints),
        (one.crowd, other.crowd),
        *((column, other.attributes[name]) for name, column in one.attributes.items()),
    ]
    if not all(_are_same(*pair) for pair in pairs):
        return False
    # From __dict__, so that masks which nobody has asked for stay packed.
    return vars(one)["masks"] is vars(other)["masks"] or _are_same(one.masks, other.masks)


def _are_same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None or one is other:
        return one is other
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    # Not by value where values can be NaN, which is no other label than NaN.
    return np.array_equal(one, other) or (one.dtype.kind == "f" and one.tobytes() == other.tobytes())
