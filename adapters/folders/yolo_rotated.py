"""`RotatedBoxAdapter`: items of `YoloDataset(task="obb")`, whose rotated boxes follow what is visible."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from synthloader.adapters.folders.yolo_labels import find_quadrilaterals
from synthloader.generators.pasting.cut_out import MASK_IS_BOX, find_filled_boxes, read_shares
from synthloader.keys import make_fingerprint
from synthloader.protocols import AnyAdapter
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["RotatedBoxAdapter"]

_VERSION = 2


class RotatedBoxAdapter:
    """Another adapter, with the four corners of every object drawn anew around what is visible of it.

    Corners stand in the items as keypoints. They are no points of an object that could be hidden or lie outside: where
    one of them was covered or cut off, all four are those of the smallest rotated box around the rest of the mask, and
    may lie outside of the image.

    A mask of a real object is its rotated box, filled, and the column `MASK_IS_BOX` says so: generators then take it
    for a box, and not for an outline. Of such a box a side is cut off where it is wholly covered; the others stay.

    Args:
        adapter: That of detection items.
    """

    def __init__(self, adapter: AnyAdapter, /) -> None:
        self._adapter = adapter

    @property
    def fingerprint(self) -> str:
        """Name, version and the other adapter's fingerprint."""
        return make_fingerprint("RotatedBoxAdapter", _VERSION, adapter=self._adapter.fingerprint)

    def to_sample(self, item: Any, /, *, index: int) -> Sample:
        """The sample of one untransformed item."""
        sample: Sample = self._adapter.to_sample(item, index=index)
        if not isinstance(sample.target, Instances):
            return sample
        attributes = {**sample.target.attributes, MASK_IS_BOX: np.ones(len(sample.target), np.bool_)}
        return sample.replace(target=sample.target.replace(attributes=attributes))

    def from_sample(self, sample: Sample, /, *, like: Any) -> Any:
        """An item of the dataset's own form."""
        image, target = self._adapter.from_sample(sample, like=like)
        instances = sample.target
        if isinstance(instances, Instances) and instances.masks is not None and instances.keypoints is not None:
            points = instances.keypoints.copy()
            is_covered = find_filled_boxes(instances) & (read_shares(instances) < 1)
            hidden = np.flatnonzero((points[..., 2] != 2).any(axis=1) | is_covered)
            if len(hidden):
                rest = instances.select(hidden)
                points[hidden, :, :2] = find_quadrilaterals(rest, list(instances.masks[hidden]))
                points[..., 2] = 2
                target = {**target, "keypoints": torch.from_numpy(points)}
        return image, target

    def __getattr__(self, name: str) -> Any:
        """What else the other adapter has."""
        if name.startswith("__") or name == "_adapter":
            raise AttributeError(name)
        return getattr(self._adapter, name)

    def __repr__(self) -> str:
        return f"RotatedBoxAdapter({self._adapter!r})"
