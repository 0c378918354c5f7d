"""Rows of Hugging Face `datasets` with objects: `HuggingFaceAdapter`.

Rows with a class or a mask are items that are one dict, and `DictAdapter` knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from synthloader.adapters.items.boxes import BOX_FORMATS, from_xyxy, to_xyxy
from synthloader.adapters.items.carried import carry, give_back
from synthloader.adapters.items.coco_annotations import UNKNOWN_IMAGE_ID, read_annotations, write_annotations
from synthloader.adapters.items.detection import DetectionAdapter
from synthloader.adapters.items.dict_items import rename_in_errors
from synthloader.adapters.items.dict_labels import find_image_key
from synthloader.adapters.items.images import read_image, write_image
from synthloader.adapters.items.object_columns import (
    check_classes,
    describe_objects,
    is_objects,
    list_objects,
    make_objects,
)
from synthloader.adapters.items.pairs import check_target
from synthloader.checks import check_choice, check_type, reject
from synthloader.keys import make_fingerprint
from synthloader.registry import describe_item, register_adapter
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["HuggingFaceAdapter"]

Row: TypeAlias = Any
"""A dict, as `dataset[i]` gives it."""

_VERSION = 1
_OBJECT_KEYS = ("objects", "annotations", "instances")
_NATIVE = "native.bbox"
_TURNED = (
    "They fit if height and width are exchanged: where the image's EXIF has an orientation, 'datasets' turns it when "
    "decoding. Turn the boxes of such images too, or store the images without orientation."
)


class HuggingFaceAdapter:
    """Rows of Hugging Face `datasets` with objects: `{"image": ..., "objects": {"bbox": ..., "category": ...}}`.

    `objects` is a dict of lists or a list of dicts, of Python numbers or, with `with_format`, of arrays or tensors:

    * `bbox` (or `bboxes`): four numbers for each object, COCO's x, y, width, height in pixels unless `boxes=` says
      otherwise;
    * `category` (or `category_id`, `categories`, `label`, `labels`, `class_id`, ...): its class, an integer;
    * `area`, `iscrowd`, `segmentation`, `keypoints` as in COCO: those of the annotation while box and mask are
      unchanged, and computed anew when not;
    * whatever else has an entry for each object (`id`, `occluded`) follows the objects.

    The rest of the row (`image_id`, captions) comes back as it was; `width` and `height` are those of the image.

    Args:
        image: Name of the column with the image; None: recognised.
        objects: Name of the column with the objects; None: recognised.
        boxes: Format of `bbox`, as of `DetectionAdapter`.
        bad_boxes: `"error"` or `"drop"`, as of `DetectionAdapter`.

    Example:
        >>> objects = {"bbox": [[1.0, 1.0, 4.0, 3.0]], "category": [2], "id": [7]}
        >>> row = {"image_id": 5, "image": np.zeros((8, 8, 3), np.uint8), "objects": objects}
        >>> adapter = HuggingFaceAdapter()
        >>> sample = adapter.to_sample(row, index=0)
        >>> sample.target.boxes.tolist(), adapter.from_sample(sample, like=row)["objects"] == objects
        ([[1.0, 1.0, 5.0, 4.0]], True)
    """

    def __init__(
        self, *, image: str | None = None, objects: str | None = None, boxes: str = "xywh", bad_boxes: str = "error"
    ) -> None:
        for name, value in (("image", image), ("objects", objects)):
            if value is not None:
                check_type(name, value, str, "Give the name of a column.")
        self.image = image
        self.objects = objects
        self.boxes = check_choice("boxes", boxes, BOX_FORMATS)
        self.bad_boxes = check_choice("bad_boxes", bad_boxes, ("error", "drop"))

    @property
    def fingerprint(self) -> str:
        """Name, version and options."""
        return make_fingerprint(
            "HuggingFaceAdapter",
            _VERSION,
            image=self.image,
            objects=self.objects,
            boxes=self.boxes,
            bad_boxes=self.bad_boxes,
        )

    @classmethod
    def recognize(cls, dataset: Any, items: Sequence[Any], /) -> HuggingFaceAdapter | None:
        """The adapter for these untransformed items; None when they have another format."""
        if not items or not all(isinstance(item, dict) for item in items):
            return None
        if len({find_image_key(item) for item in items} | {None}) != 2:
            return None  # no image, or not under one name
        key = next((key for key in _OBJECT_KEYS if all(is_objects(item.get(key)) for item in items)), None)
        if key is None or not any(len(list_objects(item[key])) for item in items):
            return None
        image = str(find_image_key(items[0]))
        if key != "objects" and DetectionAdapter.recognize(None, [(item[image], item[key]) for item in items]):
            return None  # COCO's own annotations: an item that is one dict
        return cls(image=image, objects=key)

    def to_sample(self, item: Row, /, *, index: int) -> Sample:
        """The sample of one untransformed row.

        Raises:
            ValueError: The image or an object is wrong; the message has index, row and remedy.
            TypeError: The row has another format, or a class is a name.
        """
        name = f"dataset[{index}]"
        image, objects = self._find(item, name)
        pixels, axes = read_image(item[image], name=f"{name}[{image!r}]")
        size_hw = pixels.shape[0], pixels.shape[1]
        where = f"{name}[{objects!r}]"
        annotations = list_objects(item[objects])
        form = describe_objects(item[objects])
        check_classes(annotations, field=form["class_field"], objects=objects, name=where)
        native = [annotation["bbox"] for annotation in annotations]
        self._check_format(native, size_hw, where)
        if self.boxes != "xywh" and annotations:
            for annotation, bbox in zip(annotations, self._to_xywh(native, size_hw, where), strict=True):
                annotation[_NATIVE], annotation["bbox"] = annotation["bbox"], bbox
        with rename_in_errors({"'category_id'": repr(form["class_field"]), "DetectionAdapter(": "HuggingFaceAdapter("}):
            target = read_annotations(annotations, size_hw=size_hw, name=where, drop_bad=self.bad_boxes == "drop")
        carried = carry(
            {key: value for key, value in item.items() if key not in (image, objects)}, size_hw=size_hw, name=name
        )
        return Sample(
            pixels,
            target,
            metadata=carried.metadata,
            maps=carried.maps,
            fields={"axes": axes, "names": list(item), "objects": form, **carried.fields},
        )

    def from_sample(self, sample: Sample, /, *, like: Row) -> Row:
        """A row of the dataset's own format, in memory of its own.

        Args:
            sample: A sample that came from a row of this dataset, perhaps through a generator and a cache.
            like: Any row of the dataset, for the types only.

        Raises:
            LabelContractError: The sample has another kind of target, or lacks what every object has.
        """
        image, objects = self._find(like, "like")
        target = check_target(sample, Instances)
        annotations = write_annotations(target, size_hw=sample.size_hw, image_id=UNKNOWN_IMAGE_ID)
        for annotation in annotations:
            self._restore_box(annotation, sample.size_hw)
        form = sample.fields.get("objects")
        known = {
            image: write_image(sample.image, like=like[image], axes=sample.fields.get("axes")),
            objects: make_objects(annotations, target.attributes, form=form, like=like[objects]),
        }
        names = sample.fields.get("names") or list(like)
        names = [*names, *(name for name in known if name not in names)]
        return {name: known[name] if name in known else give_back(sample, name, like=like.get(name)) for name in names}

    def read_class_ids(self, item: Row, /) -> list[int]:
        """The classes of a native row, one for each object.

        Raises:
            TypeError: A class is a name.
        """
        objects = self._find(item, "row")[1]
        annotations = list_objects(item[objects])
        field = describe_objects(item[objects])["class_field"]
        check_classes(annotations, field=field, objects=objects, name=f"row[{objects!r}]")
        return [int(annotation["category_id"]) for annotation in annotations]

    def __repr__(self) -> str:
        return self.fingerprint

    def _find(self, item: Row, name: str) -> tuple[str, str]:
        """Names of image and objects."""
        if not isinstance(item, dict):
            reject(f"the form of {name}", "be a row with an image and objects", describe_item(item), error=TypeError)
        image = self.image or find_image_key(item)
        objects = self.objects or next((key for key in _OBJECT_KEYS if is_objects(item.get(key))), None)
        if image not in item or not is_objects(item.get(objects)):
            reject(
                name,
                "have an image, and objects with 'bbox' and 'category'",
                list(item),
                "Name the columns: adapter=HuggingFaceAdapter(image=..., objects=...). Rows with one class or a mask "
                "need DictAdapter.",
                error=TypeError,
            )
        return str(image), str(objects)

    def _check_format(self, native: list[Any], size_hw: tuple[int, int], where: str) -> None:
        """Refuse boxes that do not fit into the image as they are read, and would in another format."""
        numbers = _to_numbers(native)
        if numbers is None:
            return
        if _look_normalized(native, self.boxes, size_hw):
            reject(
                f"the boxes of {where}",
                f"be in pixels when read as {self.boxes}",
                native,
                "If they are shares of the image's width and height, pass adapter=HuggingFaceAdapter("
                "boxes='xywh_normalized'), or 'cxcywh_normalized', or 'xyxy_normalized'.",
            )
        if self.bad_boxes == "drop" or _fit_inside(numbers, self.boxes, size_hw):
            return
        requirement = f"lie inside the image of height {size_hw[0]} and width {size_hw[1]}"
        turned = _TURNED if _fit_inside(numbers, self.boxes, (size_hw[1], size_hw[0])) else ""
        fitting = [kind for kind in BOX_FORMATS[:3] if _fit_inside(numbers, kind, size_hw)]
        if fitting:
            remedy = (
                f"They fit as {fitting[0]}: if that is their format, pass adapter=HuggingFaceAdapter("
                f"boxes={fitting[0]!r})."
            )
            remedy = f"{remedy} {turned}".rstrip()
            reject(f"the boxes of {where}", f"{requirement} when read as {self.boxes}", numbers.tolist(), remedy)
        if turned:
            reject(f"the boxes of {where}", requirement, numbers.tolist(), turned)

    def _to_xywh(self, native: list[Any], size_hw: tuple[int, int], where: str) -> list[list[float]]:
        numbers = _to_numbers(native)
        if numbers is None:
            reject(f"the boxes of {where}", "be four numbers each", native, "Correct the annotation.")
        bboxes: list[list[float]] = from_xyxy(to_xyxy(numbers, self.boxes, size_hw), "xywh", size_hw=size_hw).tolist()
        return bboxes

    def _restore_box(self, annotation: dict[str, Any], size_hw: tuple[int, int]) -> None:
        """The box in the native format: the annotation's own where it says the same."""
        if self.boxes == "xywh":
            return
        native = annotation.pop(_NATIVE, None)
        if native is not None and self._to_xywh([native], size_hw, "")[0] == annotation["bbox"]:
            annotation["bbox"] = native
            return
        xyxy = to_xyxy(np.array([annotation["bbox"]], np.float64), "xywh", size_hw)
        annotation["bbox"] = from_xyxy(xyxy, self.boxes, size_hw=size_hw)[0].tolist()


register_adapter(HuggingFaceAdapter)


def _to_numbers(native: list[Any]) -> np.ndarray | None:
    """(N, 4) float64; None where these are no boxes."""
    if not native or not all(isinstance(bbox, list | tuple) and len(bbox) == 4 for bbox in native):
        return None
    try:
        return np.array(native, np.float64)
    except (TypeError, ValueError):
        return None


def _look_normalized(native: list[Any], box_format: str, size_hw: tuple[int, int]) -> bool:
    """Whether boxes that are read as pixels are shares of the image: all in 0..1, and fractions among them."""
    if box_format.endswith("_normalized") or max(size_hw) <= 2:
        return False
    numbers = np.array(native)
    return numbers.dtype.kind == "f" and bool((np.abs(numbers) <= 1).all())


def _fit_inside(numbers: np.ndarray, box_format: str, size_hw: tuple[int, int]) -> bool:
    xyxy = to_xyxy(numbers, box_format, size_hw)
    height, width = size_hw
    inside = (xyxy >= -1).all() and (xyxy[:, 2] <= width + 1).all() and (xyxy[:, 3] <= height + 1).all()
    return bool(inside and (xyxy[:, 2:] > xyxy[:, :2]).all())
