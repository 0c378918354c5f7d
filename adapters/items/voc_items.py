"""The items of torchvision's `VOCDetection`, as XML has them: `VocAdapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from synthloader.adapters.items.boxes import find_same_boxes, read_boxes
from synthloader.adapters.items.fields import load_json
from synthloader.adapters.items.images import is_image, read_image, write_image
from synthloader.adapters.items.pairs import check_target
from synthloader.adapters.items.target_rows import NATIVE_BOXES
from synthloader.adapters.items.voc_annotations import list_class_names
from synthloader.adapters.items.voc_objects import (
    VOC_CLASSES,
    VOC_OBJECT,
    is_voc_annotation,
    pack_rest,
    read_corners,
    read_objects,
    write_voc,
)
from synthloader.checks import check_choice, check_int, check_type, reject
from synthloader.keys import make_fingerprint
from synthloader.lifting import find_base
from synthloader.registry import describe_item, register_adapter
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["VocAdapter"]

VocItem: TypeAlias = Any
"""`(image, {"annotation": {...}})`, as a tuple or a list."""

_VERSION = 1


class VocAdapter:
    """Object detection as `torchvision.datasets.VOCDetection` has it: `(image, {"annotation": {"object": [...]}})`.

    Objects that nobody changed come back with the very strings that they had. Of one whose box changed, `bndbox` is
    written anew in whole pixels, `pose` becomes `Unspecified`, and `part` and `point`, which say where pieces of it
    were, are left out. `size` is that of the image served; `segmented` becomes 0 where objects changed, since the masks
    on disk show the old ones; everything else is kept.

    Numbers of classes are used inside only (reports, `Balance`): items have names.

    Args:
        classes: Names, numbered from 1 in this order, or a dict of names and ids. None: VOC's own twenty as torchvision
            numbers them, if there are no others; else the names in all XML files of the dataset, in the alphabet's
            order. A dataset that does not list its files (`annotations`) needs them.
        coordinates: `"pixels"`: the first and the last pixel, counted from 1, as VOC says; `"edges"`: x1 y1 x2 y2 as
            they stand, which some tools for labelling write.
        bad_boxes: `"error"` refuses boxes that leave the image by more than a pixel or have no area; `"drop"` clips
            them to the image and drops the objects of which nothing is left.

    Attributes:
        class_to_idx: Class name to id.

    Example:
        >>> thing = {"name": "cat", "bndbox": {"xmin": "1", "ymin": "3", "xmax": "4", "ymax": "8"}}
        >>> item = np.zeros((8, 8, 3), np.uint8), {"annotation": {"filename": "a.jpg", "object": [thing]}}
        >>> sample = VocAdapter(classes=["cat"]).to_sample(item, index=0)
        >>> sample.target.boxes.tolist(), sample.target.class_ids.tolist()
        ([[0.0, 2.0, 4.0, 8.0]], [1])
    """

    def __init__(
        self,
        *,
        classes: Sequence[str] | Mapping[str, int] | None = None,
        coordinates: str = "pixels",
        bad_boxes: str = "error",
    ) -> None:
        self.class_to_idx = _number_classes(VOC_CLASSES if classes is None else classes)
        self.coordinates = check_choice("coordinates", coordinates, ("pixels", "edges"))
        self.bad_boxes = check_choice("bad_boxes", bad_boxes, ("error", "drop"))
        self._first_pixel = int(coordinates == "pixels")

    @property
    def fingerprint(self) -> str:
        """Name, version and options."""
        return make_fingerprint(
            "VocAdapter",
            _VERSION,
            classes=None if self.class_to_idx == _VOC_IDS else self.class_to_idx,
            coordinates=self.coordinates,
            bad_boxes=self.bad_boxes,
        )

    @classmethod
    def recognize(cls, dataset: Any, items: Sequence[Any], /) -> VocAdapter | None:
        """The adapter for these untransformed items; None when they have another format.

        Raises:
            ValueError: There are other classes than VOC's own, and the dataset does not list its XML files.
        """
        if not items or not all(map(_is_voc_item, items)):
            return None
        names = {thing["name"] for item in items for thing in item[1]["annotation"].get("object", [])}
        files = getattr(find_base(dataset, 0)[0], "annotations", None) if hasattr(dataset, "__getitem__") else None
        if isinstance(files, list) and files and all(isinstance(file, str | Path) for file in files):
            names |= {name for file in files for name in list_class_names(Path(file))}
            return cls() if names <= set(VOC_CLASSES) else cls(classes=sorted(names))
        if not names <= set(VOC_CLASSES):
            reject(
                "the classes of the dataset",
                "be known",
                sorted(names),
                f"Pass adapter=VocAdapter(classes={sorted(names)}), with all other names that there are.",
            )
        return cls()

    def to_sample(self, item: VocItem, /, *, index: int) -> Sample:
        """The sample of one untransformed item.

        Raises:
            ValueError: The image or the annotation is wrong, or a class is not in the table.
            TypeError: The item has another format.
        """
        name = f"dataset[{index}]"
        if not _is_voc_item(item):
            reject(f"the form of {name}", "be (image, {'annotation': ...})", describe_item(item), error=TypeError)
        pixels, axes = read_image(item[0], name=f"{name}[0]")
        size_hw = (pixels.shape[0], pixels.shape[1])
        annotation = dict(item[1]["annotation"])
        annotation.setdefault("object", [])
        name = f"{name}[1]['annotation']"
        corners = read_corners(annotation, name=name)
        corners[:, :2] -= self._first_pixel
        boxes, keep = read_boxes(
            corners,
            box_format="xyxy",
            size_hw=size_hw,
            drop_bad=self.bad_boxes == "drop",
            name=f"the boxes of {name}",
            name_row=lambda row: f"{name}['object'][{row}]['bndbox'], as x1 y1 x2 y2,",
            may_be_stated=False,
            adapter="VocAdapter",
        )
        names = [thing["name"] for thing in annotation["object"]]
        for row, each in enumerate(names):
            if each not in self.class_to_idx:
                reject(
                    f"{name}['object'][{row}]['name']",
                    f"be one of the classes {', '.join(self.class_to_idx)}",
                    each,
                    "Pass adapter=VocAdapter(classes=[...]) with all names.",
                )
        columns = {NATIVE_BOXES: corners, VOC_OBJECT: read_objects(annotation)}
        class_ids = np.array([self.class_to_idx[each] for each in names], np.int64)
        masks = None if names else np.zeros((0, *size_hw), np.bool_)
        instances = Instances(class_ids, boxes, masks, attributes=columns)
        if keep is not None:
            instances = instances.select(keep)
        form = {"axes": axes, "size_hw": list(size_hw), "num_rows": len(instances), "keys": list(item[1]["annotation"])}
        return Sample(pixels, instances, fields={"annotation": pack_rest(annotation), "form": form})

    def from_sample(self, sample: Sample, /, *, like: VocItem) -> VocItem:
        """An item of the dataset's own format, in memory of its own.

        Args:
            sample: A sample that came from an item of this dataset, perhaps through a generator and a cache.
            like: Any item of the dataset, for the types only.

        Raises:
            LabelContractError: The sample has another kind of target, or a class has no name.
        """
        form = sample.fields.get("form", {})
        image = write_image(sample.image, like=like[0], axes=form.get("axes"))
        instances = check_target(sample, Instances)
        native = instances.attributes.get(NATIVE_BOXES, np.full((len(instances), 4), np.nan))
        same = find_same_boxes(instances.boxes, native, box_format="xyxy", size_hw=sample.size_hw)
        annotation = write_voc(
            sample.fields.get("annotation", {}),
            instances,
            same=same,
            same_class=self._find_same_classes(instances),
            num_before=form.get("num_rows", -1),
            size_hw=sample.size_hw,
            before_hw=tuple(form.get("size_hw", sample.size_hw)),
            first_pixel=self._first_pixel,
            class_ids=self.class_to_idx,
        )
        if not annotation["object"] and "object" not in form.get("keys", ("object",)):
            del annotation["object"]
        target = {"annotation": annotation}
        return [image, target] if isinstance(like, list) else (image, target)

    def read_class_ids(self, item: VocItem, /) -> list[int]:
        """The classes of a native item, one for each object."""
        return [self.class_to_idx[thing["name"]] for thing in item[1]["annotation"].get("object", [])]

    def __repr__(self) -> str:
        return self.fingerprint

    def _find_same_classes(self, instances: Instances) -> np.ndarray:
        """(N,) bool, whose class is the one of the name that it came with."""
        texts = instances.attributes.get(VOC_OBJECT, np.full(len(instances), "", np.str_))
        names = [load_json(str(text))["name"] if str(text).startswith("{") else "" for text in texts]
        same: np.ndarray = (
            np.array([self.class_to_idx.get(name, -1) for name in names], np.int64) == instances.class_ids
        )
        return same


register_adapter(VocAdapter)

_VOC_IDS = {name: place for place, name in enumerate(VOC_CLASSES, start=1)}


def _number_classes(classes: Any) -> dict[str, int]:
    remedy = "Give a list of names, or a dict of names and ids."
    check_type("classes", classes, (list, tuple, Mapping), remedy)
    table = classes if isinstance(classes, Mapping) else {name: place for place, name in enumerate(classes, start=1)}
    if not table or len(table) != len(classes) or not all(isinstance(name, str) for name in table):
        reject("classes", "be different names, at least one", classes, remedy)
    numbered = {name: check_int(f"classes[{name!r}]", class_id, minimum=0) for name, class_id in table.items()}
    if len(set(numbered.values())) < len(numbered):
        reject("classes", "have a number of its own for each name", classes)
    return numbered


def _is_voc_item(item: Any) -> bool:
    if not isinstance(item, tuple | list) or len(item) != 2 or not is_image(item[0]):
        return False
    target = item[1]
    if (
        not isinstance(target, Mapping)
        or list(target) != ["annotation"]
        or not isinstance(target["annotation"], Mapping)
    ):
        return False
    return is_voc_annotation({"object": [], **target["annotation"]})
