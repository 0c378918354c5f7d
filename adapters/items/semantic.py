"""Segmentation pairs, an image with a mask that names a class for every pixel: `SemanticAdapter`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import torch

from synthloader.adapters.items.carried import carry
from synthloader.adapters.items.channel_order import to_tensor
from synthloader.adapters.items.images import read_image
from synthloader.adapters.items.pairs import check_pair, check_target, is_pair, name_extras, write_pair
from synthloader.adapters.items.planes import describe_plane, find_plane_size, is_plane, make_plane, read_plane
from synthloader.checks import check_int, reject
from synthloader.keys import make_fingerprint
from synthloader.lifting import find_base
from synthloader.registry import register_adapter
from synthloader.sample import Sample
from synthloader.targets import SemanticMask

__all__ = ["SemanticAdapter", "find_ids", "may_hold_ids"]

SemanticItem: TypeAlias = Any
"""`(image, mask)`, as a tuple or a list, perhaps with more behind."""

_LOGGER = logging.getLogger("synthloader.adapters.items.semantic")
_VERSION = 1
_NOTHING_IGNORED = -(2**31)
"""The `ignore_index` of samples whose dataset ignores nothing: no mask of a dataset holds it."""
_MOST_IDS = 128
"""A mask with more different values than this is taken for a depth map, a soft mask or numbers of objects."""

_ARGMAX = (
    "For masks with a channel for each class return masks.argmax(0); where classes overlap, pass an adapter= of your "
    "own."
)


class SemanticAdapter:
    """A class for every pixel: `(image, mask)`.

    The mask is a PIL image of mode P, L, I, I;16 or 1, a tensor or `tv_tensors.Mask` (H, W) or (1, H, W), or an array
    (H, W), (1, H, W) or (H, W, 1), of integers, booleans or whole floats; 0 is the background. It comes back in its own
    form, palette included. Images are PIL images (RGB or L), tensors (C, H, W) or arrays (H, W, C) or (C, H, W) with
    one or three channels, uint8 or floats in 0..1. What stands behind the mask is carried along; one-channel maps of
    the image's size among it (depth) follow what a generator does to the image.

    torchvision's v2 transforms resize a mask bilinearly, and so invent classes, unless it is a `tv_tensors.Mask`: use
    `wrap_dataset_for_transforms_v2`, whose masks are (1, H, W). Generated masks are wrapped like the dataset's own.

    Recognised automatically are masks of integers, booleans, or wrapped ones. Float maps, which may be depth, and masks
    with more than 128 different values are refused then; an adapter that is given takes whole floats.

    Args:
        ignore_index: The id of pixels that count for nothing; None: there are none, so that in masks of 0 and 255 the
            255 is a class. Recognition takes None where all that it sees are these two values, and logs it.

    Example:
        >>> item = np.zeros((8, 8, 3), np.uint8), np.eye(8, dtype=np.uint8)
        >>> adapter = SemanticAdapter()
        >>> sample = adapter.to_sample(item, index=0)
        >>> sample.target.mask.dtype, adapter.from_sample(sample, like=item)[1].dtype, adapter.read_class_ids(item)
        (dtype('int32'), dtype('uint8'), [1])
    """

    def __init__(self, *, ignore_index: int | None = 255) -> None:
        self.ignore_index = None if ignore_index is None else check_int("ignore_index", ignore_index)

    @property
    def fingerprint(self) -> str:
        """Name, version and options."""
        return make_fingerprint("SemanticAdapter", _VERSION, ignore_index=self.ignore_index)

    @classmethod
    def recognize(cls, dataset: Any, items: Sequence[Any], /) -> SemanticAdapter | None:
        """The adapter for these untransformed items; None when they have another format.

        A dataset may state its `ignore_index` in an attribute of this name.

        Raises:
            TypeError: It may be a mask, and may be something else.
        """
        if not items or not all(is_pair(item) for item in items):
            return None
        masks = [item[1] for item in items]
        if not all(isinstance(mask, PIL.Image.Image | torch.Tensor | np.ndarray) for mask in masks):
            return None
        _refuse_ambiguous(items[0])
        states_itself = all(isinstance(mask, PIL.Image.Image) or _is_wrapped(mask) for mask in masks)
        if not all(map(may_hold_ids, masks)) or not (states_itself or any(map(_is_of_one_size, items))):
            return None
        stated = getattr(find_base(dataset, 0)[0], "ignore_index", None)
        return cls(ignore_index=stated) if type(stated) is int else cls.for_masks(masks)

    @classmethod
    def for_masks(cls, masks: Sequence[Any], /) -> SemanticAdapter:
        """An adapter with the `ignore_index` that a few masks show.

        Raises:
            TypeError: A mask has so many values that it may be something else.
        """
        seen: set[int] = set()
        for mask in masks:
            ids = find_ids(read_plane(mask, name="the mask"))
            if len(ids) > _MOST_IDS:
                reject(
                    "masks",
                    f"hold at most {_MOST_IDS} different ids in one image to be recognised as classes",
                    len(ids),
                    "Depth, soft masks and numbers of objects look like this. If these are classes, pass "
                    "adapter=SemanticAdapter().",
                    error=TypeError,
                )
            seen.update(ids)
        negative = [class_id for class_id in seen if class_id < 0]
        if len(negative) == 1 and 255 not in seen:
            return cls(ignore_index=negative[0])  # -1, or the -100 of torch's losses
        if seen != {0, 255}:
            return cls()
        if len(masks) > 1:
            _LOGGER.warning(
                "The first masks hold only 0 and 255: 255 is taken for a class. If it marks pixels to ignore, pass "
                "adapter=SemanticAdapter(ignore_index=255); if not, SemanticAdapter(ignore_index=None) says so."
            )
        return cls(ignore_index=None)

    def to_sample(self, item: SemanticItem, /, *, index: int) -> Sample:
        """The sample of one untransformed item.

        Raises:
            ValueError: Image or mask are wrong, or of different sizes; the message has index and remedy.
            TypeError: The item has another format.
        """
        name = f"dataset[{index}]"
        check_pair(item, name, "be (image, mask)")
        pixels, axes = read_image(to_tensor(item[0]), name=f"{name}[0]")
        size_hw = pixels.shape[0], pixels.shape[1]
        mask = _read_mask(item[1], f"{name}[1]", size_hw)
        carried = carry(name_extras(item), size_hw=size_hw, name=name)
        ignored = _NOTHING_IGNORED if self.ignore_index is None else self.ignore_index
        if mask.size and mask.min() < 0:
            _check_negative(mask[mask != ignored], self.ignore_index, f"{name}[1]")
        return Sample(
            pixels,
            SemanticMask(mask, ignored),
            maps=carried.maps,
            fields={"axes": axes, "mask": describe_plane(item[1]), **carried.fields},
        )

    def from_sample(self, sample: Sample, /, *, like: SemanticItem) -> SemanticItem:
        """An item of the dataset's own format, in memory of its own.

        Args:
            sample: A sample that came from an item of this dataset, perhaps through a generator and a cache.
            like: Any item of the dataset, for the types only.

        Raises:
            LabelContractError: The sample has another kind of target, or a class that the mask's type cannot hold.
        """
        target = check_target(sample, SemanticMask)
        mask, ignored = target.mask, self.ignore_index
        if ignored is not None and target.ignore_index != ignored:
            mask = np.where(mask == target.ignore_index, np.int32(ignored), mask)
        native = make_plane(mask, sample.fields.get("mask", {}), like=like[1], name="the generated mask")
        return write_pair(sample, native, like=like)

    def read_class_ids(self, item: SemanticItem, /) -> list[int]:
        """The classes in a native mask, background and ignored pixels left out."""
        ids = find_ids(read_plane(item[1], name="mask"))
        return [class_id for class_id in ids if class_id not in (0, self.ignore_index)]

    def __repr__(self) -> str:
        return self.fingerprint


register_adapter(SemanticAdapter)


def may_hold_ids(value: Any, /) -> bool:
    """Whether a value is a one-channel map of integers or booleans, or wrapped as a mask."""
    if not is_plane(value):
        return False
    if isinstance(value, PIL.Image.Image):
        return value.mode != "F"
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iub"
    return _is_wrapped(value) or not (value.dtype.is_floating_point or value.dtype.is_complex)


def find_ids(mask: np.ndarray, /) -> list[int]:
    """The different values of a map of whole numbers, in order.

    Args:
        mask: (H, W) integers, booleans or whole floats; other floats are none.
    """
    if mask.dtype.kind == "f":
        if not (mask == np.rint(mask)).all():
            return []
        mask = mask.astype(np.int64)
    if mask.size == 0:
        return []
    low, high = int(mask.min()), int(mask.max())
    if high - low >= 4096:
        found: list[int] = np.unique(mask).tolist()
        return found
    counts = np.bincount(np.subtract(mask, low, dtype=np.int64).ravel())  # much faster than sorting
    return [int(place) + low for place in np.flatnonzero(counts)]


def _is_wrapped(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and type(value).__name__ == "Mask"


def _is_of_one_size(item: Any) -> bool:
    image = to_tensor(item[0])
    if isinstance(image, PIL.Image.Image):
        return find_plane_size(item[1]) == (image.height, image.width)
    sides = image.shape[-2:] if isinstance(image, torch.Tensor) or image.ndim == 2 else image.shape[:2]
    return find_plane_size(item[1]) == tuple(sides)


def _refuse_ambiguous(item: Any) -> None:
    """Refuse what looks like a pair of images, and would be guessed wrong."""
    first = item[1]
    if isinstance(first, PIL.Image.Image):
        if first.mode in ("RGB", "RGBA", "F"):
            reject(
                "the second part of items",
                "be a mask with one channel of class ids to be recognised",
                f"PIL image of mode {first.mode}",
                "Colours that stand for classes are turned into ids in the dataset; a target image needs an adapter= "
                "of your own.",
                error=TypeError,
            )
    elif is_plane(first) and not may_hold_ids(first) and _is_of_one_size(item):
        reject(
            "the second part of items",
            "hold integers to be recognised as a mask",
            first,
            "Floats may be depth. If they are class ids, pass adapter=SemanticAdapter(), or return mask.long().",
            error=TypeError,
        )
    elif first.ndim == 3 and not is_plane(first):
        reject("the second part of items", "have shape (H, W) or (1, H, W)", first, _ARGMAX, error=TypeError)


def _read_mask(native: Any, name: str, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) int32."""
    if not isinstance(native, PIL.Image.Image | torch.Tensor | np.ndarray):
        reject(name, "be a mask: a PIL image, a tensor or an array", native, error=TypeError)
    if not is_plane(native):
        if isinstance(native, PIL.Image.Image):
            remedy = "Turn colours into class ids in the dataset."
            reject(f"the mode of {name}", "be P, L, I, I;16 or 1", native.mode, remedy)
        reject(name, "have shape (H, W) or (1, H, W)", native, _ARGMAX)
    values = read_plane(native, name=name)
    if values.shape != size_hw:
        reject(
            f"the height and width of {name}",
            f"be the image's, {size_hw}",
            values.shape,
            "Resize image and mask together in the dataset, the mask to the nearest pixel.",
        )
    mask: np.ndarray = values.astype(np.int32, copy=False) if values.dtype.kind != "f" else _round(values)
    if not np.array_equal(mask, values):
        limits = [float(values.min()), float(values.max())]
        reject(f"the values of {name}", "be class ids: whole numbers of 32 bit", limits, "Return mask.long().")
    return np.ascontiguousarray(mask)


def _check_negative(ids: np.ndarray, ignore_index: int | None, name: str) -> None:
    lowest = int(ids.min(initial=0))
    if lowest < 0:
        reject(
            f"the ids in {name}",
            f"be 0 or more, or the ignore_index {ignore_index}",
            lowest,
            f"If {lowest} marks pixels that count for nothing, pass adapter=SemanticAdapter(ignore_index={lowest}).",
        )


def _round(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        rounded: np.ndarray = values.astype(np.int32)
    return rounded
