"""Generators that are broken on purpose, each in one way: the contract must notice all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from synthloader.generators.copy_paste import CopyPaste
from synthloader.generators.fog import Fog
from synthloader.generators.tile import Tile
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, SemanticMask
from tests.contracts.pasting_contract import grow
from tests.generators.pictures import ListPool, tight_box

Change = Callable[[Sample], Sample]


def same(made: Sample) -> Sample:
    """Nothing broken."""
    return made


def edit(made: Sample, **columns: Any) -> Sample:
    """The same with other columns of its instances."""
    target: Any = made.target
    return made.replace(target=target.replace(**columns))


def add_a_phantom_box(made: Sample) -> Sample:
    """A second label for what is there once."""
    target: Any = made.target
    return made.replace(target=target.select(np.append(np.arange(len(target)), len(target) - 1)))


def loosen_the_box(made: Sample) -> Sample:
    """A box of a pasted object that is a pixel too large on each side."""
    target: Any = made.target
    boxes = target.boxes.copy()
    boxes[-1, 2:] = np.minimum(boxes[-1, 2:] + 1, made.size_hw[::-1])
    boxes[-1, :2] = np.maximum(boxes[-1, :2] - 1, 0)
    return edit(made, boxes=boxes)


def shift_the_pasted_mask(made: Sample) -> Sample:
    """A mask that lies one column beside its object."""
    target: Any = made.target
    masks = target.masks.copy()
    masks[-1] = np.roll(masks[-1], 1, axis=1)
    return edit(made, masks=masks)


def widen_the_pasted_mask(made: Sample) -> Sample:
    """A mask wider than what was pasted."""
    target: Any = made.target
    masks = target.masks.copy()
    masks[-1, :, 1:] |= masks[-1, :, :-1]
    return edit(made, masks=masks)


def swap_the_class(made: Sample) -> Sample:
    """A pasted object of another class than it has."""
    target: Any = made.target
    class_ids = target.class_ids.copy()
    class_ids[-1] = 1 + class_ids[-1] % 4
    return edit(made, class_ids=class_ids)


def leave_masks_whole_under_the_paste(made: Sample) -> Sample:
    """A mask that goes on under what covers it."""
    target: Any = made.target
    masks = target.masks.copy()
    masks[0] |= masks[-1]
    return edit(made, masks=masks)


def forget_a_label(made: Sample) -> Sample:
    """One of the source's objects, visible and without a label."""
    target: Any = made.target
    return made.replace(target=target.select(np.arange(1, len(target))))


def change_a_pixel_elsewhere(made: Sample) -> Sample:
    """Pixels that changed outside of what is said to be edited."""
    image, origin = made.image.copy(), made.origin
    assert origin is not None
    assert origin.edited is not None
    image[~origin.edited] ^= 1
    return made.replace(image=image)


def mix_up_an_attribute(made: Sample) -> Sample:
    """An attribute that wanders to the next instance."""
    target: Any = made.target
    return edit(made, attributes={**target.attributes, "name": np.roll(target.attributes["name"], 1)})


def crop_the_image(made: Sample) -> Sample:
    """A picture of another size."""
    assert made.origin is not None
    return Sample(np.ascontiguousarray(made.image[:-1]), origin=made.origin.replace(edited=None))


def shrink_the_edited_region(made: Sample) -> Sample:
    """An edited region that lacks the border of what was pasted."""
    assert made.origin is not None
    assert made.origin.edited is not None
    smaller = ~grow(~made.origin.edited, 1)
    return made.replace(origin=made.origin.replace(edited=smaller))


def blur_around_the_paste(made: Sample) -> Sample:
    """A blend that reaches two pixels farther than it says, and owns up to it in `edited`."""
    assert made.origin is not None
    assert made.origin.edited is not None
    wider = grow(made.origin.edited, 2)
    image = made.image.copy()
    image[wider & ~made.origin.edited] ^= 3
    return made.replace(image=image, origin=made.origin.replace(edited=wider))


def show_covered_keypoints(made: Sample) -> Sample:
    """Points that are still visible where something was pasted over them."""
    target: Any = made.target
    keypoints = target.keypoints.copy()
    keypoints[..., 2][keypoints[..., 2] == 1] = 2
    return edit(made, keypoints=keypoints)


def show_keypoints_beside_the_mask(made: Sample) -> Sample:
    """Points of a pasted object that are visible where none of its pixels is."""
    target: Any = made.target
    keypoints = target.keypoints.copy()
    hidden = target.attributes["generated"][:, None] & (keypoints[..., 2] == 1)
    keypoints[..., 2][hidden] = 2
    return edit(made, keypoints=keypoints)


def swap_left_and_right(made: Sample) -> Sample:
    """The first two points of the pasted object, exchanged."""
    target: Any = made.target
    keypoints = target.keypoints.copy()
    keypoints[-1, :2] = keypoints[-1, 1::-1]
    return edit(made, keypoints=keypoints)


def forget_pixels(made: Sample) -> Sample:
    """A semantic mask in which a part of what was pasted still has the class that was there, or none."""
    target: Any = made.target
    assert made.origin is not None
    assert made.origin.edited is not None
    mask = target.mask.copy()
    mask[made.origin.edited & ~np.roll(made.origin.edited, 1, axis=1)] = 0
    return made.replace(target=SemanticMask(mask, target.ignore_index))


def widen_the_class(made: Sample) -> Sample:
    """A semantic mask whose pasted class reaches a pixel beyond the object."""
    target: Any = made.target
    assert made.origin is not None
    assert made.origin.edited is not None
    wider = cv2.dilate(target.mask.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
    mask = np.where(grow(made.origin.edited, 1), wider, target.mask)
    return made.replace(target=SemanticMask(mask, target.ignore_index))


def name_another_donor(made: Sample) -> Sample:
    """An origin that does not say what was drawn."""
    assert made.origin is not None
    return made.replace(origin=made.origin.replace(drawn=("0.png#99",) * len(made.origin.drawn)))


def keep_the_box_of_the_source(made: Sample) -> Sample:
    """Boxes of a tile that were cut to its size and not moved with it."""
    target: Any = made.target
    height, width = made.size_hw
    moved = np.clip(target.boxes + np.float32(2), 0, np.array([width, height] * 2, np.float32))
    return edit(made, boxes=moved)


def move_masks_and_boxes(made: Sample, *, by: int = 5) -> Sample:
    """Labels that agree with each other, a few pixels beside the objects."""
    target: Any = made.target
    masks = np.zeros_like(target.masks)
    masks[:, :, by:] = target.masks[:, :, :-by]
    seen = target.replace(masks=masks, boxes=np.array([tight_box(mask) for mask in masks], np.float32).reshape(-1, 4))
    return made.replace(target=seen.select(masks.any(axis=(1, 2))))


def drop_half_of_the_instances(made: Sample) -> Sample:
    """Objects in a tile without their labels."""
    target: Any = made.target
    return made.replace(target=target.select(np.arange(0, len(target), 2)))


def forget_the_crowds(made: Sample) -> Sample:
    """Crowds that became single objects."""
    target: Any = made.target
    return edit(made, crowd=np.zeros(len(target), bool))


def call_all_visible(made: Sample) -> Sample:
    """A share `visible` of 1, whatever the tile cut off."""
    target: Any = made.target
    return edit(made, attributes={**target.attributes, "visible": np.ones(len(target), np.float32)})


def empty_the_maps(made: Sample) -> Sample:
    """Maps of nothing but zeros."""
    return made.replace(maps={name: np.zeros_like(values) for name, values in made.maps.items()})


def move_the_picture(made: Sample) -> Sample:
    """A picture one column beside its labels."""
    return made.replace(image=np.roll(made.image, 1, axis=1))


def move_pictures_of_odd_width(made: Sample) -> Sample:
    """A picture one column beside its labels, where its width is odd."""
    return move_the_picture(made) if made.size_hw[1] % 2 else made


def paint_over_an_object(made: Sample) -> Sample:
    """A labelled object, the largest, that is one flat colour and cannot be seen any more."""
    target: Any = made.target
    mask = max(target.masks, key=np.count_nonzero)
    image = made.image.copy()
    image[mask] = image.mean(axis=(0, 1))
    return made.replace(image=image)


def mirror_the_picture(made: Sample) -> Sample:
    """A mirrored picture under labels that were not."""
    return made.replace(image=np.ascontiguousarray(made.image[:, ::-1]))


def move_a_corner(made: Sample) -> Sample:
    """A quarter of a picture two rows below its labels."""
    image = made.image.copy()
    height, width = made.size_hw
    image[2 : height // 2, : width // 2] = made.image[: height // 2 - 2, : width // 2]
    return made.replace(image=image)


def move_a_label(made: Sample) -> Sample:
    """Boxes one pixel beside their objects."""
    target: Any = made.target
    return edit(made, boxes=np.maximum(target.boxes - 1, 0))


class Mutant:
    """A generator with something broken behind it; CopyPaste of the donors' own pixels unless another is given."""

    uses_pool = True

    def __init__(self, change: Change = same, inner: Any = None) -> None:
        self.change = change
        self.inner = inner or CopyPaste(num_range=(2, 2), scale_range=(1, 1), rotation_range=(0, 0), flip=False)
        self.keeps = self.inner.keeps
        self.fingerprint = f"Mutant of {self.inner.fingerprint}"

    def bind(self, pool: Any, /, *, classes: Any) -> Any:
        """A copy whose inner generator is bound."""
        inner = self.inner.bind(pool, classes=classes) if hasattr(self.inner, "bind") else self.inner
        return type(self)(self.change, inner)

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """What the inner one makes, broken."""
        return self.change(self.inner.generate(source, rng=rng))


class BrokenTile(Mutant):
    """Tile with something broken behind it."""

    def __init__(self, change: Change = same, inner: Any = None) -> None:
        super().__init__(change, inner or Tile(size_hw=(24, 32)))

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int]:
        """As Tile says."""
        size_hw: tuple[int, int] = self.inner.find_size_hw(source_hw)
        return size_hw


class BrokenFog(Mutant):
    """Fog with something broken behind it."""

    def __init__(self, change: Change = same, inner: Any = None) -> None:
        super().__init__(change, inner or Fog(depth_map=None))


class WritesOnTheSource(Mutant):
    """Changes a pixel of its source."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample, and spoil the source."""
        made = super().generate(source, rng=rng)
        source.image[0, 0] ^= 1
        return made


class MovesTheSourcesBoxes(Mutant):
    """Changes the boxes of its source."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample, and spoil the source's label."""
        made = super().generate(source, rng=rng)
        source.target.boxes[:, 0] = 0  # type: ignore[union-attr]
        return made


class DrawsFromTheGlobalState(Mutant):
    """Changes NumPy's global random state."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample, and draw a number for nobody."""
        np.random.random()  # noqa: NPY002
        return super().generate(source, rng=rng)


class DrawsFromOpenCV(Mutant):
    """Draws noise with OpenCV's own generator, which nobody seeds."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample of which one pixel was drawn elsewhere."""
        made = super().generate(source, rng=rng)
        image = made.image.copy()
        cv2.randu(image[:1, :1], 0, 255)
        return made.replace(image=image)


class DrawsFromNowhere(Mutant):
    """Draws from an rng of its own."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample that nobody can make again."""
        return super().generate(source, rng=np.random.default_rng())


class CountsItsCalls(Mutant):
    """Makes something else with every call."""

    calls = 0

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample of the next number."""
        type(self).calls += 1
        return super().generate(source, rng=make_rng(self.calls, "", 0, 0))


class RemembersTheLast(Mutant):
    """Keeps state of its own between calls: what was made before is mixed in."""

    last: Any = None

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample with a pixel of the one before."""
        made = super().generate(source, rng=rng)
        image = made.image.copy()
        if self.last is not None:
            image[:1, :1] = self.last
        self.last = made.image[:1, :1] ^ 77
        return made.replace(image=image)


class ReturnsTheSourcesMemory(Mutant):
    """Hands out the source's own pixels as a new picture."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample and put the source's image back in."""
        return super().generate(source, rng=rng).replace(image=source.image)


class HandsOutOneBuffer(Mutant):
    """Writes all pictures of a size into one array, so that a picture changes when the next one is made."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample in the memory of the last one."""
        made = super().generate(source, rng=rng)
        return made.replace(image=self.reuse(made.image))

    def reuse(self, values: np.ndarray) -> np.ndarray:
        """The same in an array that is handed out again and again."""
        buffers: dict[Any, np.ndarray] = self.__dict__.setdefault("buffers", {})
        buffer = buffers.setdefault((values.shape, values.dtype), np.empty_like(values))
        buffer[:] = values
        return buffer


class HandsOutOneLabel(HandsOutOneBuffer):
    """Writes all boxes into one array."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make a sample whose boxes are in the memory of the last one's."""
        made = Mutant.generate(self, source, rng=rng)
        target: Any = made.target
        return edit(made, boxes=self.reuse(target.boxes))


class MirrorsKeypoints(Mutant):
    """Pastes mirror images of what has keypoints, whose left and right keep their names."""

    def bind(self, pool: ListPool, /, *, classes: Any) -> Any:
        """A copy that draws from the mirrored pool."""
        mirrored = ListPool([_mirror(sample) for sample in pool.samples], pool.names)
        return type(self)(self.change, self.inner.bind(mirrored, classes=classes))


def _mirror(sample: Sample) -> Sample:
    target: Any = sample.target
    width = sample.size_hw[1]
    keypoints = target.keypoints.copy()
    keypoints[..., 0] = np.where(keypoints[..., 2] > 0, width - keypoints[..., 0], 0)
    turned = target.replace(
        masks=np.ascontiguousarray(target.masks[:, :, ::-1]),
        boxes=np.stack([width - target.boxes[:, 2], target.boxes[:, 1], width - target.boxes[:, 0], target.boxes[:, 3]], 1),
        keypoints=keypoints,
    )  # fmt: skip
    return sample.replace(image=np.ascontiguousarray(sample.image[:, ::-1]), target=turned)


class KeepsClasses:
    """For classification only: where the objects are, nobody would know afterwards. Refuses nothing by itself."""

    keeps = frozenset({ClassLabel})
    fingerprint = "KeepsClasses/1()"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """The picture upside down."""
        return source.edit(image=np.ascontiguousarray(source.image[::-1]), target=source.target)
