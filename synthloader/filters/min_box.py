"""`MinBox`: are the boxes large enough to learn from?"""

from __future__ import annotations

import cv2
import numpy as np

from synthloader.checks import check_choice, check_number
from synthloader.keys import make_fingerprint
from synthloader.protocols import Verdict
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["MinBox"]


class MinBox:
    """Drop instances whose box is too small, or samples that have such instances.

    An instance is too small if the shorter side of its box is at most `min_side`, or its area (of the mask where there
    is one, else of the box) at most `min_area`: both bounds themselves are too small. All instances of the generated
    sample are judged, those that came unchanged from the source too. A dropped instance loses its label only; its few
    pixels stay in the image.

    The score is the shortest side of all boxes, in pixels. Samples without boxes (classification, semantic masks, no
    instances) are accepted.

    Args:
        min_side: In pixels, at least 0.
        min_area: In square pixels, at least 0.
        drop: `"instances"`: drop these; the sample is rejected if none is left. `"samples"`: reject the sample.

    Example:
        >>> boxes = np.array([[0, 0, 3, 9], [0, 0, 9, 9]], np.float32)
        >>> sample = Sample(np.zeros((9, 9, 3), np.uint8), Instances(np.array([1, 2]), boxes))
        >>> verdict = MinBox().judge(sample, sample)
        >>> verdict.accepted, verdict.score, verdict.sample.target.class_ids.tolist()
        (True, 3.0, [2])
        >>> MinBox(drop="samples").judge(sample, sample).reason
        'box too small'
    """

    def __init__(self, *, min_side: float = 5, min_area: float = 10, drop: str = "instances") -> None:
        self.min_side = check_number("min_side", min_side, minimum=0)
        self.min_area = check_number("min_area", min_area, minimum=0)
        self.drop = check_choice("drop", drop, ("instances", "samples"))

    @property
    def fingerprint(self) -> str:
        """Name, version and every parameter."""
        return make_fingerprint("MinBox", 1, min_side=self.min_side, min_area=self.min_area, drop=self.drop)

    def judge(self, generated: Sample, source: Sample, /) -> Verdict:
        """Measure the boxes of the generated sample; the source is not looked at."""
        target = generated.target
        if not isinstance(target, Instances) or not len(target):
            return Verdict(True)
        sides = target.boxes[:, 2:].astype(np.float64) - target.boxes[:, :2]
        areas = sides.prod(axis=1) if target.masks is None else _measure_masks(target.masks)
        large = (sides.min(axis=1) > self.min_side) & (areas > self.min_area)
        score = float(sides.min())
        if large.all():
            return Verdict(True, score=score)
        if self.drop == "samples" or not large.any():
            return Verdict(False, score=score, reason="box too small")
        return Verdict(True, score=score, sample=generated.replace(target=target.select(large)))

    def __repr__(self) -> str:
        """The fingerprint, without its version."""
        return self.fingerprint.replace("MinBox/1", "MinBox")


def _measure_masks(masks: np.ndarray) -> np.ndarray:
    return np.array([cv2.countNonZero(mask.view(np.uint8)) for mask in masks], np.int64)
