"""`RotatedBoxAdapter`: items of `YoloDataset(task="obb")`, whose rotated boxes follow the masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from synthloader.adapters.folders.yolo_labels import find_quadrilaterals
from synthloader.keys import make_fingerprint
from synthloader.protocols import AnyAdapter
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["RotatedBoxAdapter"]

_VERSION = 1


class RotatedBoxAdapter:
    """Another adapter, with the four corners of every object drawn anew around what is visible of it.

    Corners stand in the items as keypoints. They are no points of an object that could be hidden or lie outside: where
    one of them was covered or cut off, all four are those of the smallest rotated box around the rest of the mask, and
    may lie outside of the image.

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
        return sample

    def from_sample(self, sample: Sample, /, *, like: Any) -> Any:
        """An item of the dataset's own form."""
        image, target = self._adapter.from_sample(sample, like=like)
        instances = sample.target
        if isinstance(instances, Instances) and instances.masks is not None and instances.keypoints is not None:
            points = instances.keypoints.copy()
            hidden = np.flatnonzero((points[..., 2] != 2).any(axis=1))
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
