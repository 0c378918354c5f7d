"""One image with its label and everything known of it: `Sample`; where a generated one came from: `Origin`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import numpy as np

from synthloader.checks import check_array, check_type, reject
from synthloader.lazy import LazyArray, LazyField
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["Origin", "Sample"]


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a generated sample came from. Generators fill in what they know; `GeneratedDataset` completes it.

    Args:
        source: Name of the source sample.
        fingerprint: Fingerprint of the generator.
        variant: Which of several generated versions of the source.
        attempt: Which candidate at this place, counted from 0.
        seed: Seed of the generated dataset.
        drawn: Names of the pool's samples that went into it (donors, reference images).
        scores: Score of every filter, by the filter's name.
        prompt: The prompt, where there is one.
        model: Id of the model, where there is one.
        weights: Hash of the model's weights, where there is one.
        license: Under which terms the images and models may be used, as the recipe says it.
        class_names: Class id to name, for the classes of the target, where the dataset has names.
        edited: (H, W) bool, the generated region; None where it is the whole image.
    """

    source: str = ""
    fingerprint: str = ""
    variant: int = 0
    attempt: int = 0
    seed: int = 0
    drawn: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    prompt: str | None = None
    model: str | None = None
    weights: str | None = None
    license: str | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)
    edited: np.ndarray | None = cast("np.ndarray | None", LazyField())  # noqa: RUF009 - a descriptor

    def __post_init__(self) -> None:
        edited = self.__dict__["edited"]
        if edited is not None and not isinstance(edited, LazyArray):
            object.__setattr__(self, "edited", check_array("edited", edited, dtype=np.bool_, shape=(None, None)))

    @property
    def edited_size_hw(self) -> tuple[int, int] | None:
        """Height and width of the edited region, without unpacking it; None where it is the whole image."""
        edited = self.__dict__["edited"]
        return None if edited is None else (edited.shape[0], edited.shape[1])

    def replace(self, **changes: Any) -> Origin:
        """A copy with some fields changed, checked anew."""
        # From __dict__, so that a region which nobody has asked for stays packed.
        return Origin(**{**{each.name: self.__dict__[each.name] for each in fields(self)}, **changes})


@dataclass(frozen=True, eq=False)
class Sample:
    """An image, its target and what else is known of it. Nothing in it is ever modified in place.

    Args:
        image: (H, W, 3) uint8, RGB, C-contiguous. One-channel images are held as three equal channels.
        target: What the label says; None for an unlabelled image.
        origin: Where a generated sample came from; None for a real one.
        metadata: Name to number or string: weather, time of day, camera.
        maps: Name to (H, W) array: depth and the like.
        fields: What the adapter does not know of the native item: numbers, strings, arrays, lists and dicts of these.

    Raises:
        TypeError: The image or a map has another type.
        ValueError: Sizes disagree, or a box lies outside the image.

    Example:
        >>> sample = Sample(np.zeros((4, 6, 3), np.uint8), metadata={"weather": "fog"})
        >>> sample.size_hw
        (4, 6)
    """

    image: np.ndarray
    target: Target | None = None
    origin: Origin | None = None
    metadata: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        image = check_array(
            "image",
            self.image,
            dtype=np.uint8,
            shape=(None, None, 3),
            remedy="Images inside synthloader are uint8, (height, width, 3), RGB.",
        )
        if image.size == 0:
            reject("image", "have at least one pixel", image.shape)
        object.__setattr__(self, "image", image)
        size_hw = image.shape[:2]
        if self.target is not None:
            check_type("target", self.target, (ClassLabel, Instances, SemanticMask))
        if isinstance(self.target, Instances):
            _check_instances(self.target, size_hw)
        elif isinstance(self.target, SemanticMask) and self.target.mask.shape != size_hw:
            reject("mask", f"have the image's height and width {size_hw}", self.target.mask.shape)
        for name, values in self.maps.items():
            if not isinstance(values, np.ndarray) or values.shape[:2] != size_hw:
                reject(f"maps[{name!r}]", f"be an array with the image's height and width {size_hw}", values)
        if self.origin is not None and self.origin.edited_size_hw not in (None, size_hw):
            reject("edited", f"have the image's height and width {size_hw}", self.origin.edited_size_hw)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def replace(self, **changes: Any) -> Sample:
        """A copy with some fields changed, checked anew."""
        return replace(self, **changes)

    def edit(
        self,
        *,
        image: np.ndarray,
        target: Target | None,
        edited: np.ndarray | None = None,
        drawn: tuple[str, ...] = (),
        **changes: Any,
    ) -> Sample:
        """What a generator returns: this sample with another image, its origin carried on.

        After several generators in a row the edited region is the union of theirs, and everything drawn is named.

        Args:
            image: (H, W, 3) uint8, the new image.
            target: The target, still true for the new image.
            edited: (H, W) bool, which pixels were generated; None for the whole image.
            drawn: Names of the pool's samples that went into it.
            **changes: Other fields of `Sample` that change (`metadata`, `maps`), or of `Origin` (`prompt`, `model`,
                `weights`).
        """
        before = self.origin
        if before is not None and edited is not None:
            same_size = before.edited is not None and before.edited.shape == edited.shape
            edited = before.edited | edited if same_size else None
        known = {name: changes.pop(name) for name in ("prompt", "model", "weights") if name in changes}
        if before is None:
            origin = Origin(edited=edited, drawn=drawn, **known)
        else:
            origin = before.replace(edited=edited, drawn=(*before.drawn, *drawn), **known)
        return replace(self, image=image, target=target, origin=origin, **changes)


def _check_instances(target: Instances, size_hw: tuple[int, int]) -> None:
    if target.mask_size_hw not in (None, size_hw):
        reject(
            "masks",
            f"have the image's height and width {size_hw}",
            target.mask_size_hw,
            "Masks are drawn on the full image.",
        )
    if len(target) == 0:
        return
    height, width = size_hw
    right, bottom = target.boxes[:, 2:].max(axis=0)  # x1 <= x2 and y1 <= y2 hold already.
    if target.boxes.min() < 0 or right > width or bottom > height:
        boxes = target.boxes
        outside = (boxes[:, 0] < 0) | (boxes[:, 1] < 0) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
        row = int(np.flatnonzero(outside)[0])
        reject(
            f"boxes[{row}]",
            f"lie inside the image of height {height} and width {width}",
            boxes[row].tolist(),
            "Clip it to the image, or correct the annotation.",
        )
