"""Classification pairs, as `ImageFolder`, CIFAR and timm give them: `ClassificationAdapter`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from synthloader.adapters.items.carried import carry
from synthloader.adapters.items.channel_order import to_tensor
from synthloader.adapters.items.images import read_image
from synthloader.adapters.items.pairs import check_pair, check_target, is_pair, name_extras, write_pair
from synthloader.checks import reject
from synthloader.keys import make_fingerprint
from synthloader.registry import register_adapter
from synthloader.sample import Sample
from synthloader.targets import ClassLabel

__all__ = ["ClassificationAdapter"]

ClassificationItem: TypeAlias = Any
"""`(image, label)`, as a tuple or a list, perhaps with more behind."""

_VERSION = 1


class ClassificationAdapter:
    """One class for each image: `(image, label)`.

    The label is an int, a numpy integer, or a tensor or array of one integer, and comes back as the same type. What
    stands behind it (`(image, label, path)`, `(image, label, index)`) is carried along. Images are PIL images (RGB or
    L), tensors (C, H, W) or arrays (H, W, C) or (C, H, W) with one or three channels, uint8 or floats in 0..1.

    A generated item has its source's label.

    Floats as labels are refused when the format is recognised, for they may be what a regression predicts; an adapter
    that is given takes them where they are whole.

    Example:
        >>> item = np.zeros((8, 8, 3), np.uint8), 2
        >>> adapter = ClassificationAdapter()
        >>> sample = adapter.to_sample(item, index=0)
        >>> sample.target, adapter.from_sample(sample, like=item)[1]
        (ClassLabel(class_id=2), 2)
    """

    @property
    def fingerprint(self) -> str:
        """Name and version."""
        return make_fingerprint("ClassificationAdapter", _VERSION)

    @classmethod
    def recognize(cls, dataset: Any, items: Sequence[Any], /) -> ClassificationAdapter | None:
        """The adapter for these untransformed items; None when they have another format.

        Raises:
            TypeError: The labels are floats, or vectors: their meaning cannot be told.
        """
        if not items or not all(is_pair(item) for item in items):
            return None
        labels = [item[1] for item in items]
        if all(map(is_class_id, labels)):
            return cls()
        if all(map(_is_number, labels)):
            reject(
                "the labels",
                "be integers to be recognised as classes",
                labels[0],
                "If they are classes, pass adapter=ClassificationAdapter(), or return int(label); a quantity that an "
                "image is to predict needs an adapter= of your own.",
                error=TypeError,
            )
        return None

    def to_sample(self, item: ClassificationItem, /, *, index: int) -> Sample:
        """The sample of one untransformed item.

        Raises:
            ValueError: The image is wrong, or the label is no class; the message has index and remedy.
            TypeError: The item has another format.
        """
        name = f"dataset[{index}]"
        check_pair(item, name, "be (image, label)")
        pixels, axes = read_image(to_tensor(item[0]), name=f"{name}[0]")
        class_id = _read_class_id(item[1], f"{name}[1]")
        carried = carry(name_extras(item), size_hw=(pixels.shape[0], pixels.shape[1]), name=name)
        return Sample(pixels, ClassLabel(class_id), maps=carried.maps, fields={"axes": axes, **carried.fields})

    def from_sample(self, sample: Sample, /, *, like: ClassificationItem) -> ClassificationItem:
        """An item of the dataset's own format, in memory of its own.

        Args:
            sample: A sample that came from an item of this dataset, perhaps through a generator and a cache.
            like: Any item of the dataset, for the types only.

        Raises:
            LabelContractError: The sample has another kind of target.
        """
        target = check_target(sample, ClassLabel)
        return write_pair(sample, _write_class_id(target.class_id, like[1]), like=like)

    def read_class_ids(self, item: ClassificationItem, /) -> list[int]:
        """The class of a native item."""
        return [_read_class_id(item[1], "label")]

    def __repr__(self) -> str:
        return self.fingerprint


register_adapter(ClassificationAdapter)


def is_class_id(value: Any, /) -> bool:
    """Whether a value is an integer in one of the forms that labels have."""
    if isinstance(value, torch.Tensor):
        is_whole = not value.dtype.is_floating_point and not value.dtype.is_complex and value.dtype != torch.bool
        return is_whole and value.ndim <= 1 and value.numel() == 1
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iu" and value.ndim <= 1 and value.size == 1
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.ndim == 0
    return isinstance(value, float | bool | np.generic)


def _read_class_id(label: Any, name: str) -> int:
    if not is_class_id(label) and not _is_number(label):
        remedy = "Vectors (one-hot, several classes, soft labels) need an adapter= of your own."
        reject(name, "be one integer, the class", label, remedy, error=TypeError)
    value = label.item() if isinstance(label, torch.Tensor | np.ndarray | np.generic) else label
    if int(value) != value:
        reject(name, "be a whole number, the class", value, "Return int(label).")
    if value < 0:
        reject(
            name,
            "be at least 0",
            value,
            "A negative label usually says that there is none: leave such images out with torch.utils.data.Subset.",
        )
    return int(value)


def _write_class_id(class_id: int, like: Any) -> Any:
    if isinstance(like, torch.Tensor):
        return torch.full_like(like, class_id)
    if isinstance(like, np.ndarray):
        return np.full_like(like, class_id)
    if type(like) is bool or isinstance(like, np.generic | float):
        return type(like)(class_id)
    return class_id
