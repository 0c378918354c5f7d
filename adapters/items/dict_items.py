"""Items that are one dict, with image and label among its entries: `DictAdapter`."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import PIL.Image

from synthloader.adapters.items.boxes import BOX_FORMATS
from synthloader.adapters.items.carried import CARRIED, carry, give_back
from synthloader.adapters.items.channel_order import from_tensor, to_tensor
from synthloader.adapters.items.classification import ClassificationAdapter
from synthloader.adapters.items.detection import DetectionAdapter
from synthloader.adapters.items.dict_labels import (
    BOX_FIELDS,
    find_class_field,
    find_image_key,
    find_label,
    is_flat,
)
from synthloader.adapters.items.planes import find_plane_size, is_plane
from synthloader.adapters.items.semantic import SemanticAdapter
from synthloader.checks import check_choice, check_type, reject
from synthloader.keys import make_fingerprint
from synthloader.protocols import AnyAdapter
from synthloader.registry import describe_item, register_adapter
from synthloader.sample import Sample

__all__ = ["DictAdapter", "rename_in_errors"]

DictItem: TypeAlias = Any
"""A dict with an image."""

_VERSION = 1
_IN_SAMPLE = "item"
_ADAPTERS_INSIDE = re.compile(r"((?:Detection|Semantic|Classification)Adapter\([^()]*\))")


class DictAdapter:
    """An item that is one dict: `{"image": ..., "mask": ...}`.

    Image and label are found by their names and their form, and handed to the adapter of such pairs:

    * a mask under `mask`, `masks`, `label`, `labels`, `annotation`, `segmentation_mask`, ...: `SemanticAdapter`, whole
      floats included, for the name says what they are;
    * a class under `label`, `labels`, `target`, `class_id`, ...: `ClassificationAdapter`;
    * `boxes` and `labels` (masks, keypoints, ...) among the entries: `DetectionAdapter` on all but the image;
    * a target dict or a list of COCO annotations under `target`, `annotations`, ...: `DetectionAdapter`.

    Everything else comes back as it was, in the order of the source: sizes follow the image, and one-channel maps of
    its size (depth, trimaps) follow what a generator does to it.

    Args:
        image: Name of the entry that holds the image; None: recognised.
        target: Name of the entry that holds the label (for boxes among the entries the name of the boxes); None:
            recognised. An item with a mask and a class needs it, for a generator keeps one label true.
        adapter: The adapter of (image, label); None: chosen by the label's form.
        boxes: Format of the boxes, as of `DetectionAdapter`. Boxes under another name than `boxes` need it: `bbox` is
            written in many formats.

    Example:
        >>> import numpy as np
        >>> item = {"image": np.zeros((8, 8, 3), np.uint8), "mask": np.eye(8, dtype=np.uint8), "camera": "north"}
        >>> adapter = DictAdapter(image="image", target="mask")
        >>> sample = adapter.to_sample(item, index=0)
        >>> sample.metadata, list(adapter.from_sample(sample, like=item))
        ({'camera': 'north'}, ['image', 'mask', 'camera'])
    """

    def __init__(
        self,
        *,
        image: str | None = None,
        target: str | None = None,
        adapter: AnyAdapter | None = None,
        boxes: str | None = None,
    ) -> None:
        for name, value in (("image", image), ("target", target)):
            if value is not None:
                check_type(name, value, str, "Give the name of an entry.")
        if image is not None and image == target:
            reject("target", "name another entry than image", target)
        if boxes is not None:
            check_choice("boxes", boxes, BOX_FORMATS)
        if adapter is not None and not (hasattr(adapter, "to_sample") and hasattr(adapter, "from_sample")):
            reject("adapter", "have to_sample, from_sample and fingerprint", adapter, error=TypeError)
        if adapter is not None and boxes is not None:
            reject("boxes", "be left to the adapter that is given", boxes, "Write DetectionAdapter(boxes=...).")
        self.image = image
        self.target = target
        self.boxes = boxes
        self._given = adapter
        self._inner: AnyAdapter | None = adapter if not hasattr(adapter, "complete") else None

    @property
    def fingerprint(self) -> str:
        """Name, version, entries, and the fingerprint of the adapter inside."""
        inner = self._inner if self._inner is not None else self._given
        return make_fingerprint(
            "DictAdapter",
            _VERSION,
            image=self.image,
            target=self.target,
            boxes=self.boxes,
            adapter=None if inner is None else inner.fingerprint,
        )

    @classmethod
    def recognize(cls, dataset: Any, items: Sequence[Any], /) -> DictAdapter | None:
        """The adapter for these untransformed items; None when they have another format.

        Raises:
            TypeError: They may be read in several ways.
        """
        if not items or not all(isinstance(item, dict) for item in items):
            return None
        images = {find_image_key(item) for item in items}
        if len(images) > 1 or (image := images.pop()) is None or find_label(items, image=image) is None:
            return None  # no image, or not under one name
        return cls().complete(items)

    def complete(self, items: Sequence[Any], /) -> DictAdapter:
        """A copy that knows what was left open, recognised on a few untransformed items.

        Raises:
            TypeError: Image or label are not there, or there are several.
        """
        if self.image is not None and self.target is not None and self._inner is not None:
            return self
        first = items[0]
        if not isinstance(first, dict):
            reject("the form of dataset[0]", "be a dict", describe_item(first), error=TypeError)
        image = self.image or find_image_key(first)
        if image is None:
            remedy = "Name its entry: adapter=DictAdapter(image=..., target=...)."
            reject("dataset[0]", "have an entry that is an image", list(first), remedy, error=TypeError)
        target = self.target or find_label(items, image=image)
        if target is None:
            remedy = "Name its entry: adapter=DictAdapter(image=..., target=...)."
            reject("dataset[0]", "have an entry that is a label", list(first), remedy, error=TypeError)
        found = DictAdapter(image=image, target=target, boxes=self.boxes if self._given is None else None)
        found._given = self._given
        found._inner = found._choose([item for item in items if image in item and (target in item)])
        return found

    def to_sample(self, item: DictItem, /, *, index: int) -> Sample:
        """The sample of one untransformed item.

        Raises:
            ValueError: Image or label are wrong; the message has index and remedy.
            TypeError: The item has another format.
        """
        adapter = self._fit(item, f"dataset[{index}]")
        inner, image, target = adapter._parts()
        flat = is_flat(target, item)
        pair, rest = adapter._take_apart(item)
        names = _name_parts(index, image, None if flat else target, item)
        with rename_in_errors(names, wrap=r"DictAdapter(adapter=\1)"):
            sample = inner.to_sample(pair, index=index)
        carried = carry(rest, size_hw=sample.size_hw, name=f"dataset[{index}]")
        return sample.replace(
            metadata={**sample.metadata, **carried.metadata},
            maps={**sample.maps, **carried.maps},
            fields={**sample.fields, _IN_SAMPLE: {"names": list(item), CARRIED: carried.fields[CARRIED]}},
        )

    def from_sample(self, sample: Sample, /, *, like: DictItem) -> DictItem:
        """An item of the dataset's own format, in memory of its own.

        Args:
            sample: A sample that came from an item of this dataset, perhaps through a generator and a cache.
            like: Any item of the dataset, for the types only.

        Raises:
            LabelContractError: The sample has another kind of target.
        """
        adapter = self._fit(like, "like")
        inner, image, target = adapter._parts()
        pair, _ = adapter._take_apart(like)
        made_image, made = inner.from_sample(sample, like=pair)
        known = {image: from_tensor(made_image, like=like[image])}
        if is_flat(target, like):
            known |= adapter._name_flat(made, like)
        else:
            known[target] = made
        held = sample.fields.get(_IN_SAMPLE, {})
        outer = sample.replace(fields={CARRIED: held.get(CARRIED, {})})
        names = [name for name in held.get("names", list(like))]
        names += [name for name in known if name not in names]
        item = {name: known[name] if name in known else give_back(outer, name, like=like.get(name)) for name in names}
        return OrderedDict(item) if isinstance(like, OrderedDict) else item

    def read_class_ids(self, item: DictItem, /) -> list[int]:
        """The classes of a native item."""
        adapter = self._fit(item, "item")
        read: Any = getattr(adapter._parts()[0], "read_class_ids", None)
        return [] if read is None else list(read(adapter._take_apart(item)[0]))

    def __repr__(self) -> str:
        return self.fingerprint

    def _fit(self, item: DictItem, name: str) -> DictAdapter:
        """This adapter, or one that has looked at the item where something was left open."""
        if not isinstance(item, dict):
            reject(f"the form of {name}", "be a dict", describe_item(item), error=TypeError)
        adapter = self.complete([item])
        for entry in (adapter.image, adapter.target):
            if entry not in item:
                reject(
                    name, f"have the entry {entry!r}", list(item), "Every item needs image and label.", error=TypeError
                )
        return adapter

    def _parts(self) -> tuple[AnyAdapter, str, str]:
        if self._inner is None or self.image is None or self.target is None:
            reject("adapter", "have seen an item", self, error=TypeError)
        return self._inner, self.image, self.target

    def _choose(self, items: Sequence[Any]) -> AnyAdapter:
        """The adapter of (image, label)."""
        given: Any = self._given
        pairs = [self._take_apart(item)[0] for item in items]
        if given is not None:
            completed: AnyAdapter = given.complete(pairs) if hasattr(given, "complete") else given
            return completed
        labels = [pair[1] for pair in pairs]
        if self.target in BOX_FIELDS[1:] and is_flat(str(self.target), items[0]) and self.boxes is None:
            reject(
                f"the format of {self.target!r}",
                "be stated",
                None,
                "Pass adapter=DictAdapter(boxes='xywh') for COCO's x, y, width, height, or 'xyxy', 'cxcywh', or these "
                "with '_normalized'.",
                error=TypeError,
            )
        if all(isinstance(label, Mapping | list) for label in labels):
            return DetectionAdapter(boxes=self.boxes or "xyxy").complete(pairs)
        if all(isinstance(label, PIL.Image.Image) or getattr(label, "ndim", 0) >= 2 for label in labels):
            return SemanticAdapter.for_masks(labels) if all(map(is_plane, labels)) else SemanticAdapter()
        return ClassificationAdapter()

    def _take_apart(self, item: DictItem) -> tuple[tuple[Any, Any], dict[str, Any]]:
        """(image, label) as the adapter inside knows them, and the other entries."""
        image, target = str(self.image), str(self.target)
        pixels = to_tensor(item[image])
        others = {name: value for name, value in item.items() if name != image}
        if not is_flat(target, item):
            label = others.pop(target)
            return (pixels, label), others
        size_hw = _find_size(pixels)
        maps = {name: value for name, value in others.items() if size_hw and find_plane_size(value) == size_hw}
        names = self._name_inside(item)
        return (pixels, {names.get(name, name): others[name] for name in others if name not in maps}), maps

    def _name_inside(self, item: DictItem) -> dict[str, str]:
        """Names of entries to the names that the target dict of torchvision has for them."""
        boxes = {str(self.target): "boxes"} if self.target in BOX_FIELDS else {}
        return {**boxes, str(find_class_field(item)): "labels"}

    def _name_flat(self, made: Mapping[str, Any], like: DictItem) -> dict[str, Any]:
        outside = {inside: name for name, inside in self._name_inside(like).items()}
        return {outside.get(name, name): value for name, value in made.items()}


register_adapter(DictAdapter)


@contextmanager
def rename_in_errors(names: Mapping[str, str], /, *, wrap: str = "") -> Iterator[None]:
    r"""Call things in messages what they are called in the item, and not what they are handed on as.

    Args:
        names: Text to the text that replaces it.
        wrap: What replaces an adapter that a remedy proposes, written `\1`.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if error.args and isinstance(error.args[0], str):
            text = error.args[0]
            for inside, outside in names.items():
                text = text.replace(inside, outside)
            text = _ADAPTERS_INSIDE.sub(wrap, text) if wrap else text
            error.args = (text, *error.args[1:])
        raise


def _name_parts(index: int, image: str, target: str | None, item: Mapping[str, Any]) -> dict[str, str]:
    names = {f"dataset[{index}][0]": f"dataset[{index}][{image!r}]"}
    if target is not None:
        return {**names, f"dataset[{index}][1]": f"dataset[{index}][{target!r}]"}
    names[f"dataset[{index}][1]"] = f"dataset[{index}]"
    boxes, classes = next((name for name in BOX_FIELDS if name in item), "boxes"), find_class_field(item)
    outside = {"boxes": boxes, "labels": classes or "labels"}
    return {
        **names,
        **{f"dataset[{index}][{name!r}]": f"dataset[{index}][{known!r}]" for name, known in outside.items()},
    }


def _find_size(image: Any) -> tuple[int, int] | None:
    """Height and width of an image with any number of channels."""
    if hasattr(image, "height"):
        return image.height, image.width
    if image.ndim == 2:
        return int(image.shape[0]), int(image.shape[1])
    sides = image.shape[-2:] if hasattr(image, "numpy") else image.shape[:2]
    return int(sides[0]), int(sides[1])
