"""What `CopyPaste` pastes onto: the source, or a background with the form of its labels."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from synthloader.errors import LabelContractError
from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask, Target

__all__ = ["lay_ground"]


def lay_ground(background: Sample, source: Sample, /, *, name: str) -> Sample:
    """The background with labels in the form of the source's; the source's own objects are not in it.

    A background without a label is taken to show no object (class 0 where pixels are labelled).

    Args:
        background: Of the source's height and width.
        source: The sample whose place it takes.
        name: Name of the background, for errors.

    Raises:
        LabelContractError: The background's label is of another kind, or lacks what the source has.
    """
    return Sample(
        background.image,
        _find_target(background, source, name),
        metadata=source.metadata,
        maps={key: _find_map(background, key, values, name) for key, values in source.maps.items()},
        fields=source.fields,
    )


def _find_target(background: Sample, source: Sample, name: str) -> Target | None:
    before, own = source.target, background.target
    if isinstance(before, Instances):
        if own is None:
            return _make_empty(before, source.size_hw)
        if isinstance(own, Instances):
            if own.masks is None and before.masks is not None and len(own):
                _refuse(name, "instance masks", "boxes only", "Give it masks, or take images that show no object.")
            return own
    elif isinstance(before, SemanticMask):
        if own is None:
            return SemanticMask(np.zeros(source.size_hw, np.int32), before.ignore_index)
        if isinstance(own, SemanticMask):
            if own.ignore_index != before.ignore_index:
                remedy = "Give both one number for pixels that count for nothing."
                _refuse(name, f"ignore_index {before.ignore_index}", str(own.ignore_index), remedy)
            return own
    else:
        return before
    remedy = "Give backgrounds the kind of label that the dataset has, or none where they show no object."
    _refuse(name, type(before).__name__, type(own).__name__, remedy)


def _make_empty(before: Instances, size_hw: tuple[int, int]) -> Instances:
    keypoints = before.keypoints
    return Instances(
        class_ids=np.zeros(0, np.int64),
        boxes=np.zeros((0, 4), np.float32),
        masks=np.zeros((0, *size_hw), np.bool_),
        keypoints=None if keypoints is None else np.zeros((0, *keypoints.shape[1:]), np.float32),
        attributes={key: column[:0] for key, column in before.attributes.items()},
    )


def _find_map(background: Sample, key: str, values: np.ndarray, name: str) -> np.ndarray:
    own = background.maps.get(key)
    if own is None or own.dtype != values.dtype or own.shape != values.shape:
        found = "none" if own is None else f"{own.dtype} of shape {own.shape}"
        remedy = "Give backgrounds the maps that the dataset has, or paste onto the sources themselves."
        _refuse(name, f"the map {key!r}, {values.dtype} of shape {values.shape}", found, remedy)
    return own


def _refuse(name: str, wanted: str, found: str, remedy: str) -> NoReturn:
    raise LabelContractError(f"the background {name!r} of CopyPaste must have {wanted}, got {found}. {remedy}")
