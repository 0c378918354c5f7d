"""`Blend`: part of the way from the source to what another generator makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import cv2
import numpy as np

from synthloader.checks import check_fraction, check_range, reject
from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators.composing.composition import (
    bind_part,
    check_part,
    check_part_source,
    draws_from_pool,
    find_aim,
)
from synthloader.generators.composing.same_pixels import are_same_pixels
from synthloader.generators.composing.same_target import is_same_target
from synthloader.generators.labelling.contract import check_kept
from synthloader.generators.labelling.labelled_pixels import find_labelled_pixels, soften_boxes
from synthloader.keys import make_fingerprint
from synthloader.protocols import Generator, Pool
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, Target

__all__ = ["Blend"]

TRANSITION = 0.02
"""Way from an object's rim to its inside, as a share of the image's shorter side."""

DeltaLike: TypeAlias = "float | tuple[float, float]"

_REMEDY = (
    "Half of a pasted or moved object under a whole label would be a wrong label: "
    "blend only what changes the appearance, and put the other generator beside the blend in a list."
)


class Blend:
    """Mix what another generator makes with the source: `image = source + delta * (made - source)`.

    Delta 0 would be the source, 1 is the edit; between them lie the intermediate domains that help a detector across a
    wide gap. With `object_delta`, labelled objects are kept nearer to the source than the background, so that an edit
    that is careless with them (a strong style, a diffusion model) leaves them recognisable. Objects are the masks of
    the instances, and what is not background in a semantic mask (ignored pixels included). The way from the
    background's delta is smooth and lies inside their rims, 2 % of the shorter side wide and at most half the way to
    the middle: around the objects would stay a halo of the old background. So their rims take on more of the edit than
    their insides, as things do in another light. Of instances with boxes only, the middle of a box counts as the
    object, and fades towards its sides along an ellipse, so that no box is drawn into the picture.

    It keeps the kinds of target that the generator keeps, and only where the target comes back as it was.

    Args:
        generator: What makes the edit; it may change the appearance only.
        delta: Share of the edit, above 0 and at most 1: a number, or a pair (low, high) to draw from.
        object_delta: The same for labelled objects; it may be 0, and its high must not exceed delta's low. None: as
            delta. With it, sources with a `ClassLabel` are refused: nobody knows where their object is.

    Raises:
        LabelContractError: The generator adds objects.
        TypeError: It is no generator.
        ValueError: A delta is out of range.

    Source:
        Huang, Huang, Ku, Chen 2024, "BlenDA: domain adaptive object detection through diffusion-based blending". Theirs
        blends with the output of a diffusion model and gives the domain classifier a soft label; ours wraps any
        generator, and the delta of objects is ours.

    Example:
        >>> from synthloader.generators.color_transfer import ColorTransfer
        >>> from synthloader.seeds import make_rng
        >>> dark, light = Sample(np.full((2, 2, 3), 40, np.uint8)), Sample(np.full((2, 2, 3), 200, np.uint8))
        >>> half = Blend(ColorTransfer(references=[light]), delta=0.5)
        >>> half.generate(dark, rng=make_rng(0, "dark.png", 0, 0)).image[0, 0].tolist()
        [120, 120, 120]
    """

    def __init__(
        self, generator: Generator, *, delta: DeltaLike = (0.3, 0.7), object_delta: DeltaLike | None = None
    ) -> None:
        self.generator = check_part("generator", generator)
        if find_aim(self.generator) is not None:
            raise LabelContractError(f"Blend wants a generator that adds no objects, got {generator!r}. {_REMEDY}")
        self.delta = _check_delta("delta", delta)
        if self.delta[1] == 0:
            reject("delta", "be above 0", delta, "At 0 nothing is generated: ask for fewer generated samples instead.")
        self.object_delta = None if object_delta is None else _check_delta("object_delta", object_delta)
        if self.object_delta is not None and self.object_delta[1] > self.delta[0]:
            reject(
                "object_delta",
                f"be at most the lowest delta, {self.delta[0]:g}",
                object_delta,
                "Objects are kept nearer to the source than the background.",
            )
        self.keeps: frozenset[type[Target]] = frozenset(self.generator.keeps)
        if self.object_delta is not None:
            self.keeps -= {ClassLabel}
            if not self.keeps:
                reject("object_delta", "be None where the generator keeps ClassLabel only", object_delta)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the generator, and both deltas."""
        return make_fingerprint(
            "Blend", 1, generator=self.generator.fingerprint, delta=self.delta, object_delta=self.object_delta
        )

    @property
    def uses_pool(self) -> bool:
        """Whether the generator draws from the pool."""
        return draws_from_pool(self.generator)

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> Blend:
        """A copy whose generator is bound."""
        return Blend(bind_part(self.generator, pool, classes), delta=self.delta, object_delta=self.object_delta)

    def check_source(self, source: Sample, /) -> None:
        """Refuse a source whose objects cannot be told from the background, after the generator had its word.

        Raises:
            LabelContractError: There is an `object_delta`, and the source has a ClassLabel.
        """
        check_part_source(self.generator, source)
        if self.object_delta is not None and isinstance(source.target, ClassLabel):
            raise LabelContractError(
                "Blend with object_delta= keeps labelled objects nearer to the source, got a source with a ClassLabel, "
                "which does not say where its object is. Leave object_delta= out."
            )

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Let the generator make its edit, and go part of the way.

        Args:
            source: A sample whose kind of target the generator keeps.
            rng: Draws the deltas, then serves the generator.

        Returns:
            What the generator made, with another image and the source's own target.

        Raises:
            LabelContractError: The generator moved, added or lost a label, or does not keep this kind of target.
            NothingToGenerate: The generator can make nothing, or nothing of it is left.
        """
        check_kept("Blend", self.keeps, source)
        delta = rng.uniform(*self.delta)
        object_delta = None if self.object_delta is None else rng.uniform(*self.object_delta)
        made = self.generator.generate(source, rng=rng)
        self._check_made(made, source)
        objects = None if object_delta is None else find_labelled_pixels(source)
        target = source.target
        if object_delta is not None and isinstance(target, Instances) and target.masks is None and len(target):
            near = soften_boxes(target.boxes, source.size_hw)
            deltas = np.float32(delta) - np.float32(delta - object_delta) * near
            image = cv2.blendLinear(made.image, source.image, deltas, 1 - deltas)
        elif object_delta is None or objects is None:
            image = cv2.addWeighted(made.image, delta, source.image, 1 - delta, 0)
        else:
            deltas = _spread(objects, object_delta, delta)
            image = cv2.blendLinear(made.image, source.image, deltas, 1 - deltas)
        if are_same_pixels(image, source.image):
            raise NothingToGenerate("unchanged")
        return made.replace(image=image, target=source.target)

    def _check_made(self, made: Sample, source: Sample) -> None:
        if made.size_hw != source.size_hw:
            what = f"a picture of another size, {made.size_hw} from {source.size_hw},"
        elif not is_same_target(made.target, source.target):
            what = "another target than the source's"
        else:
            return
        raise LabelContractError(f"Blend got {what} from {self.generator!r}. {_REMEDY}")

    def __repr__(self) -> str:
        """The generator and the deltas."""
        objects = "" if self.object_delta is None else f", object_delta={self.object_delta}"
        return f"Blend({self.generator!r}, delta={self.delta}{objects})"


def _check_delta(name: str, value: object) -> tuple[float, float]:
    if isinstance(value, list | tuple):
        return check_range(name, value, minimum=0, maximum=1)
    number = check_fraction(name, value, "Give a number, or a pair (low, high).")
    return (number, number)


def _spread(objects: np.ndarray, object_delta: float, delta: float) -> np.ndarray:
    """(H, W) float32: the delta of every pixel.

    Args:
        objects: (H, W) uint8, 1 where there is an object.
        object_delta: The delta inside the objects.
        delta: The delta outside.
    """
    width = max(1.0, TRANSITION * min(objects.shape))
    # The 3 x 3 distance is a few percent off the Euclidean one, which nobody sees here. Where there is no background in
    # the picture it is as good as infinite. 255 stands for twice the width.
    distance = cv2.distanceTransform(objects, cv2.DIST_L2, cv2.DIST_MASK_3)
    _, distance = cv2.threshold(distance, 2 * width, 0, cv2.THRESH_TRUNC)
    inside = cv2.convertScaleAbs(distance, alpha=127.5 / width)
    # How thick the object is here: where that is less than twice the width, the way ends half-way to the middle.
    reach = 2 * math.ceil(2 * width) + 1
    thickness = cv2.dilate(inside, np.ones((reach, reach), np.uint8))
    steps = np.linspace(0, 1, 256)
    ramp = delta + (object_delta - delta) * steps * steps * (3 - 2 * steps)
    # Both outside, where 0 / 0 is 0 for OpenCV, and inside: shares of the way, of 255.
    return cv2.LUT(cv2.divide(inside, thickness, scale=510), ramp.astype(np.float32))
