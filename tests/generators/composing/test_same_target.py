from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from synthloader.generators.composing.same_target import is_same_target
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.generators.pictures import make_picture


def make_instances() -> Instances:
    target = make_picture(0, num_keypoints=2).target
    assert isinstance(target, Instances)
    depth = np.array([0.5, np.nan, 2, 3], np.float32)
    return target.replace(attributes={**target.attributes, "depth": depth})


def change(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed.flat[0] = not changed.flat[0] if changed.dtype == bool else changed.flat[0] + 1
    return changed


INSTANCES: Any = make_instances()
MASK = np.zeros((3, 4), np.int32)


@pytest.mark.parametrize("target", [None, ClassLabel(1), SemanticMask(MASK), INSTANCES, INSTANCES.replace(masks=None)])
def test_a_copy_is_the_same(target: Any) -> None:
    assert is_same_target(target, copy.deepcopy(target))


OTHERS = {
    "class": (ClassLabel(1), ClassLabel(2)),
    "kind": (ClassLabel(1), SemanticMask(MASK)),
    "none": (ClassLabel(1), None),
    "mask": (SemanticMask(MASK), SemanticMask(change(MASK))),
    "ignored": (SemanticMask(MASK), SemanticMask(MASK, ignore_index=254)),
    "size": (SemanticMask(MASK), SemanticMask(MASK[:2].copy())),
    "class ids": (INSTANCES, INSTANCES.replace(class_ids=change(INSTANCES.class_ids))),
    "boxes": (INSTANCES, INSTANCES.replace(boxes=INSTANCES.boxes + np.array([0, 0, 0.25, 0], np.float32))),
    "masks": (INSTANCES, INSTANCES.replace(masks=change(INSTANCES.masks))),
    "no masks": (INSTANCES, INSTANCES.replace(masks=None)),
    "keypoints": (INSTANCES, INSTANCES.replace(keypoints=change(INSTANCES.keypoints))),
    "no keypoints": (INSTANCES, INSTANCES.replace(keypoints=None)),
    "crowd": (INSTANCES, INSTANCES.replace(crowd=change(INSTANCES.crowd))),
    "attribute": (INSTANCES, INSTANCES.replace(attributes={**INSTANCES.attributes, "row": np.arange(4)[::-1].copy()})),
    "lost attribute": (INSTANCES, INSTANCES.replace(attributes={"row": INSTANCES.attributes["row"]})),
    "order": (INSTANCES, INSTANCES.select(np.array([1, 0, 2, 3]))),
    "fewer": (INSTANCES, INSTANCES.select(np.array([0, 1, 2]))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_difference_counts(name: str) -> None:
    one, other = OTHERS[name]
    assert not is_same_target(one, other)
    assert not is_same_target(other, one)


def test_shared_masks_stay_packed() -> None:
    from synthloader.lazy import LazyArray

    def unpack() -> np.ndarray:
        raise AssertionError("Nobody asked for them.")

    packed = INSTANCES.replace(masks=LazyArray(INSTANCES.masks.shape, unpack))
    assert is_same_target(packed, packed.replace(boxes=packed.boxes.copy()))
