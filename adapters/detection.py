"""The items of torchvision's detectors, in their three usual shapes: `DetectionAdapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from synthloader.adapters.boxes import BOX_FORMATS
from synthloader.adapters.coco_annotations import UNKNOWN_IMAGE_ID, read_annotations, write_annotations
from synthloader.adapters.fields import pack, unpack
from synthloader.adapters.images import is_image, read_image, write_image
from synthloader.adapters.rows import has_rows
from synthloader.adapters.target_dicts import (
    KNOWN_FIELDS,
    TargetOptions,
    find_instance_fields,
    read_target,
    write_target,
)
from synthloader.checks import check_choice, check_type, reject
from synthloader.keys import make_fingerprint
from synthloader.registry import describe_item, register_adapter
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["DetectionAdapter"]

DetectionItem: TypeAlias = Any
"""`(image, target)`, as a tuple or a list."""

_VERSION = 1


class DetectionAdapter:
    """Object detection and instance segmentation as torchvision has it.

    Three shapes of items are known by their form, whatever the dataset's class:

    * `(image, {"boxes", "labels", ...})`: boxes (N, 4), labels (N,) and, where there are any, masks (N, H, W),
      keypoints (N, K, 3), area, iscrowd, image_id, sizes and fields of your own; tensors, tv_tensors, arrays or lists;
    * `(image, [annotation, ...])`: `torchvision.datasets.CocoDetection`;
    * `(image, {"image_id", "annotations"})`: torchvision's references and DETR, before their own conversion.

    Images are PIL images (RGB or L), tensors (C, H, W) or arrays (H, W, C) with one or three channels, uint8 or floats
    in 0..1, and come back so. 8-bit images make the way there and back bit for bit; a generated float image has at most
    256 levels.

    Fields that have a row per instance follow the instances; `area` and COCO's `bbox` and `segmentation` are those of
    the annotation while box and mask are unchanged, and computed anew when not; sizes are those of the image served;
    everything else comes back as it was. Masks of COCO items are there for an image when each of its annotations that
    is no crowd has a segmentation.

    Arrays of the samples may be views of the item's memory, and are read-only then.

    Args:
        boxes: Format of `boxes` in target dicts, one of `xyxy`, `xywh`, `cxcywh`, or these with `_normalized` where
            they are divided by width and height. torchvision's `BoundingBoxes` say it themselves, and COCO's `bbox` is
            always x, y, width, height.
        bad_boxes: `"error"` refuses boxes that leave the image by more than a pixel, have no area or are not finite;
            `"drop"` clips them to the image and drops the objects of which nothing is left.
        instance_fields: Names of your own fields that have a row per instance. None: recognised on a few items, by
            `recognize` or `complete`; an adapter that never saw any refuses a field that could be one.

    Example:
        >>> import torch
        >>> item = torch.zeros(3, 8, 8, dtype=torch.uint8), {"boxes": [[1.0, 1.0, 5.0, 4.0]], "labels": [2]}
        >>> adapter = DetectionAdapter()
        >>> sample = adapter.to_sample(item, index=0)
        >>> sample.target.class_ids.tolist(), adapter.from_sample(sample, like=item)[1]
        ([2], {'boxes': [[1.0, 1.0, 5.0, 4.0]], 'labels': [2]})
    """

    def __init__(
        self, *, boxes: str = "xyxy", bad_boxes: str = "error", instance_fields: Sequence[str] | None = None
    ) -> None:
        self.boxes = check_choice("boxes", boxes, BOX_FORMATS)
        self.bad_boxes = check_choice("bad_boxes", bad_boxes, ("error", "drop"))
        if instance_fields is not None:
            check_type("instance_fields", instance_fields, (list, tuple), "Give a list of names.")
            for field in instance_fields:
                check_type("instance_fields", field, str, "Give a list of names.")
                if field in KNOWN_FIELDS:
                    reject("instance_fields", "name fields of your own", field, "This one always has a row per box.")
            instance_fields = tuple(sorted(set(instance_fields)))
        self.instance_fields = instance_fields
        self._options = TargetOptions(boxes=boxes, drop_bad=bad_boxes == "drop", instance_fields=instance_fields)

    @property
    def fingerprint(self) -> str:
        """Name, version and options."""
        return make_fingerprint(
            "DetectionAdapter",
            _VERSION,
            boxes=self.boxes,
            bad_boxes=self.bad_boxes,
            instance_fields=self.instance_fields,
        )

    @classmethod
    def recognize(cls, dataset: Any, items: Sequence[Any], /) -> DetectionAdapter | None:
        """The adapter for these untransformed items; None when they have another format.

        A dataset may state its fields of instances in an attribute `instance_fields`; otherwise they are those unknown
        fields that have as many rows as there are boxes in all of these items.
        """
        if not items or not all(_is_pair(item) for item in items):
            return None
        targets = [item[1] for item in items]
        if all(map(_is_annotation_list, targets)) or all(map(_has_annotations, targets)):
            return cls(instance_fields=())
        if not all(map(_is_target_dict, targets)) or not any("boxes" in target for target in targets):
            return None
        stated = getattr(dataset, "instance_fields", None)
        return cls(instance_fields=stated) if isinstance(stated, list | tuple) else cls().complete(items)

    def complete(self, items: Sequence[Any], /) -> DetectionAdapter:
        """A copy that knows what was left open, recognised on a few untransformed items."""
        if self.instance_fields is not None:
            return self
        fields = find_instance_fields([item[1] for item in items if _is_target_dict(item[1])])
        return DetectionAdapter(boxes=self.boxes, bad_boxes=self.bad_boxes, instance_fields=fields)

    def to_sample(self, item: DetectionItem, /, *, index: int) -> Sample:
        """The sample of one untransformed item.

        Raises:
            ValueError: The image or the annotation is wrong; the message has index, row and remedy.
            TypeError: The item has another format.
        """
        name = f"dataset[{index}]"
        if not _is_pair(item):
            reject(f"the form of {name}", "be (image, target)", describe_item(item), error=TypeError)
        pixels, axes = read_image(item[0], name=f"{name}[0]")
        native, size_hw = item[1], (pixels.shape[0], pixels.shape[1])
        form: dict[str, Any] = {"axes": axes}
        if isinstance(native, list):
            target = self._read_annotations(native, size_hw, f"{name}[1]")
            form["image_id"] = _find_image_id(native, None)
            return Sample(pixels, target, fields={"target": {}, "form": form})
        if not isinstance(native, Mapping):
            wanted = "be a dict with 'boxes' and 'labels', or a list of annotations"
            reject(f"{name}[1]", wanted, native, error=TypeError)
        if "annotations" in native and "boxes" not in native:
            target = self._read_annotations(native["annotations"], size_hw, f"{name}[1]['annotations']")
            rest = {field: pack(value) for field, value in native.items() if field != "annotations"}
            image_id = _find_image_id(native["annotations"], native.get("image_id"))
            form |= {"image_id": image_id, "names": list(native)}
            return Sample(pixels, target, fields={"target": rest, "form": form})
        target, fields, metadata = read_target(native, size_hw=size_hw, name=f"{name}[1]", options=self._options)
        fields["form"] |= form
        return Sample(pixels, target, metadata=metadata, fields=fields)

    def from_sample(self, sample: Sample, /, *, like: DetectionItem) -> DetectionItem:
        """An item of the dataset's own format, in memory of its own.

        Args:
            sample: A sample that came from an item of this dataset, perhaps through a generator and a cache.
            like: Any item of the dataset, for the types only.
        """
        axes = sample.fields.get("form", {}).get("axes")
        image = write_image(sample.image, like=like[0], axes=axes)
        target: Any
        if isinstance(like[1], list):
            target = self._write_annotations(sample)
        elif "annotations" in like[1] and "boxes" not in like[1]:
            rest = sample.fields.get("target", {})
            names = sample.fields.get("form", {}).get("names", ("image_id", "annotations"))
            target = {field: unpack(rest[field]) if field in rest else None for field in names}
            target["annotations"] = self._write_annotations(sample)
        else:
            target = write_target(sample, like=like[1], options=self._options)
        return [image, target] if isinstance(like, list) else (image, target)

    def read_class_ids(self, item: DetectionItem, /) -> list[int]:
        """The classes of a native item, one for each object."""
        target = item[1]
        if isinstance(target, Mapping) and "boxes" not in target:
            target = target.get("annotations", [])
        if isinstance(target, list):
            return [int(annotation["category_id"]) for annotation in target]
        labels = target.get("labels", [])
        return [int(label) for label in (labels.tolist() if hasattr(labels, "tolist") else labels)]

    def __repr__(self) -> str:
        return self.fingerprint

    def _read_annotations(self, annotations: Any, size_hw: tuple[int, int], name: str) -> Instances:
        if not isinstance(annotations, list) or not all(isinstance(annotation, dict) for annotation in annotations):
            reject(name, "be a list of COCO annotations", annotations, error=TypeError)
        return read_annotations(annotations, size_hw=size_hw, name=name, drop_bad=self.bad_boxes == "drop")

    @staticmethod
    def _write_annotations(sample: Sample) -> list[dict[str, Any]]:
        image_id = sample.fields.get("form", {}).get("image_id", UNKNOWN_IMAGE_ID)
        if not isinstance(sample.target, Instances):
            return []
        return write_annotations(sample.target, size_hw=sample.size_hw, image_id=image_id)


register_adapter(DetectionAdapter)


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and is_image(item[0])


def _is_annotation_list(target: Any) -> bool:
    return isinstance(target, list) and all(
        isinstance(annotation, dict) and "bbox" in annotation and "category_id" in annotation for annotation in target
    )


def _has_annotations(target: Any) -> bool:
    return isinstance(target, Mapping) and "image_id" in target and _is_annotation_list(target.get("annotations"))


def _find_image_id(annotations: list[dict[str, Any]], stated: Any) -> int | str:
    """The image's id as its annotations have it, else as the target has it."""
    known = [annotation["image_id"] for annotation in annotations if "image_id" in annotation]
    for image_id in [*known[:1], stated]:
        if isinstance(image_id, int | str):
            return image_id
    return UNKNOWN_IMAGE_ID


def _is_target_dict(target: Any) -> bool:
    """Whether it is a target with boxes, or one of an image without objects, of which wrappers leave only the id."""
    if not isinstance(target, Mapping) or not all(isinstance(field, str) for field in target):
        return False
    if "boxes" in target or "labels" in target:
        return all(has_rows(target.get(field)) for field in ("boxes", "labels"))
    return "image_id" in target and "annotations" not in target
