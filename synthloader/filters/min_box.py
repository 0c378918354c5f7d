"""`MinBox`: is every object large enough to learn from?"""

from __future__ import annotations

import numpy as np

from synthloader.checks import check_choice, check_number
from synthloader.keys import make_fingerprint
from synthloader.protocols import Verdict
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["MinBox"]

_VERSION = 1
_REASON = "box too small"


class MinBox:
    """Drops generated objects, or whole samples, that are too small.

    An object is too small when the shorter side of its box is at most `min_side`, or its area (of the mask where there
    is one, else of the box) at most `min_area`. A sample whose objects are all too small is rejected; one that never had
    objects is accepted. The score is the smallest shorter side.

    Args:
        min_side: Pixels; a side of exactly this length is too small.
        min_area: Square pixels; an area of exactly this size is too small.
        drop: `"instances"` drops the labels of the too small objects, `"samples"` rejects a sample that has any.

    Example:
        >>> MinBox().fingerprint
        'MinBox/1(drop="instances", min_area=10.0, min_side=5.0)'
    """

    def __init__(self, *, min_side: float = 5, min_area: float = 10, drop: str = "instances") -> None:
        self.min_side = check_number("min_side", min_side, minimum=0)
        self.min_area = check_number("min_area", min_area, minimum=0)
        self.drop = check_choice("drop", drop, ("instances", "samples"))

    @property
    def fingerprint(self) -> str:
        """Name, version and thresholds."""
        return make_fingerprint("MinBox", _VERSION, min_side=self.min_side, min_area=self.min_area, drop=self.drop)

    def __repr__(self) -> str:
        """The fingerprint."""
        return self.fingerprint

    def judge(self, generated: Sample, source: Sample, /) -> Verdict:
        """Judge one sample."""
        target = generated.target
        if not isinstance(target, Instances) or not len(target):
            return Verdict(accepted=True)
        sides = target.boxes[:, 2:] - target.boxes[:, :2]
        shorter = sides.min(axis=1)
        areas = sides.prod(axis=1) if target.masks is None else np.count_nonzero(target.masks, axis=(1, 2))
        large = (shorter > self.min_side) & (areas > self.min_area)
        score = float(shorter.min())
        if large.all():
            return Verdict(accepted=True, score=score)
        if self.drop == "samples" or not large.any():
            return Verdict(accepted=False, score=score, reason=_REASON)
        return Verdict(
            accepted=True, score=score, sample=generated.replace(target=target.select(np.flatnonzero(large)))
        )
