"""The items of torchvision's detectors, in their three usual shapes: `DetectionAdapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeAlias

from synthloader.adapters.items.boxes import BOX_FORMATS
from synthloader.adapters.items.coco_annotations import UNKNOWN_IMAGE_ID, read_annotations, write_annotations
from synthloader.adapters.items.fields import pack, unpack
from synthloader.adapters.items.images import is_image, read_image, write_image
from synthloader.adapters.items.pairs import check_target
from synthloader.adapters.items.places import find_place_field
from synthloader.adapters.items.rows import has_rows
from synthloader.adapters.items.target_dicts import (
    KNOWN_FIELDS,
    TargetOptions,
    find_form,
    find_instance_fields,
    find_renumbering,
    find_template,
    read_target,
    write_target,
)
from synthloader.adapters.items.target_rows import CLASS_FIELDS, find_class_field
from synthloader.checks import check_choice, check_type, reject
from synthloader.keys import make_fingerprint
from synthloader.lifting import find_base, read_bare
from synthloader.registry import describe_item, register_adapter
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["DetectionAdapter"]

DetectionItem: TypeAlias = Any
"""`(image, target)`, as a tuple or a list."""

_VERSION = 2


class DetectionAdapter:
    """Object detection and instance segmentation as torchvision has it.

    Three shapes of items are known by their form, whatever the dataset's class:

    * `(image, {"boxes", "labels", ...})`: boxes (N, 4), labels (N,) and, where there are any, masks (N, H, W),
      keypoints (N, K, 3) or (N, K, 2), area, iscrowd, image_id, sizes and fields of your own; tensors, tv_tensors,
      arrays or lists. Masks without boxes, boxes or masks without labels, and the other fields of
      `wrap_dataset_for_transforms_v2` (`bbox`, `segmentation`, `category_id`, VOC's `annotation`) are fine too;
    * `(image, [annotation, ...])`: `torchvision.datasets.CocoDetection`;
    * `(image, {"image_id", "annotations"})`: torchvision's references and DETR, before their own conversion.

    Images are PIL images (RGB or L), tensors (C, H, W) or arrays (H, W, C) with one or three channels, uint8 or floats
    in 0..1, and come back so. 8-bit images make the way there and back bit for bit; a generated float image has at most
    256 levels.

    Fields that have a row per instance follow the instances; `area` and COCO's `bbox` and `segmentation` are those of
    the annotation while box and mask are unchanged, and computed anew when not; sizes are those of the image served;
    everything else comes back as it was. A map of the image, or boxes and points under a name that is not known here,
    come back while no instance changed, and are refused when one did. Masks of COCO items are there for an image when
    each of its annotations that is no crowd has a segmentation.

    Class ids are taken as they are: torchvision's detectors keep 0 for the background, and do not say so when a label
    is 0. Where the items do not tell the classes (`knows_classes` is False) they are 0 inside, and never written.

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
        self.knows_classes = True
        self._form: tuple[str, ...] | None = None
        self._options = TargetOptions(boxes=boxes, drop_bad=bad_boxes == "drop", instance_fields=instance_fields)

    @property
    def fingerprint(self) -> str:
        """Name, version, options, and the form of the items: a cached sample lacks what its source did not have."""
        return self._fingerprint  # asked for every key

    @cached_property
    def _fingerprint(self) -> str:
        return make_fingerprint(
            "DetectionAdapter",
            _VERSION,
            boxes=self.boxes,
            bad_boxes=self.bad_boxes,
            instance_fields=self.instance_fields,
            form=self._form,
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
            return cls(instance_fields=()).complete(items)
        if not all(map(_is_target_dict, targets)):
            return None
        if not any(map(_has_places, targets)):
            annotated = _find_annotated(dataset)
            if annotated is None or not _is_pair(annotated) or not _has_places(annotated[1]):
                return None
            items = [*items, annotated]
        stated = getattr(dataset, "instance_fields", None)
        return cls(instance_fields=stated if isinstance(stated, list | tuple) else None).complete(items)

    def complete(self, items: Sequence[Any], /) -> DetectionAdapter:
        """A copy that knows what was left open, recognised on a few untransformed items."""
        if self._options.template or self._form is not None:
            return self
        targets = [item[1] for item in items if _is_pair(item) and _is_target_dict(item[1])]
        fields = self.instance_fields if self.instance_fields is not None else find_instance_fields(targets)
        made = DetectionAdapter(boxes=self.boxes, bad_boxes=self.bad_boxes, instance_fields=fields)
        with_places = [target for target in targets if _has_places(target)]
        template = find_template(with_places, instance_fields=fields)
        made._options = replace(made._options, template=template, renumbers=find_renumbering(with_places))
        kinds = {type(item[1]).__name__ for item in items if _is_pair(item)}
        made._form = find_form(with_places) or tuple(sorted(kinds))
        made.knows_classes = not with_places or any(find_class_field(target) for target in with_places)
        return made

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
            wanted = "be a dict with 'boxes' or 'masks', or a list of annotations"
            reject(f"{name}[1]", wanted, native, error=TypeError)
        if "annotations" in native and find_place_field(native) is None:
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

        Raises:
            LabelContractError: The sample is of another kind, or lacks what items have: masks, keypoints, classes.
        """
        check_target(sample, Instances)
        axes = sample.fields.get("form", {}).get("axes")
        image = write_image(sample.image, like=like[0], axes=axes)
        target: Any
        if isinstance(like[1], list):
            target = self._write_annotations(sample)
        elif "annotations" in like[1] and find_place_field(like[1]) is None:
            rest = sample.fields.get("target", {})
            names = sample.fields.get("form", {}).get("names", ("image_id", "annotations"))
            target = {field: unpack(rest[field]) if field in rest else None for field in names}
            target["annotations"] = self._write_annotations(sample)
        else:
            target = write_target(sample, like=like[1], options=self._options)
        return [image, target] if isinstance(like, list) else (image, target)

    def read_class_ids(self, item: DetectionItem, /) -> list[int]:
        """The classes of a native item, one for each object; empty where items do not tell them."""
        target = item[1]
        if isinstance(target, Mapping) and find_place_field(target) is None:
            target = target.get("annotations", [])
        if isinstance(target, list):
            return [int(annotation["category_id"]) for annotation in target]
        if not isinstance(target, Mapping):  # Transforms of the dataset may have made something else of it.
            return []
        labels: Any = next((target[field] for field in CLASS_FIELDS if field in target), [])
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
        return write_annotations(check_target(sample, Instances), size_hw=sample.size_hw, image_id=image_id)


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
    """Whether it is a target with boxes or masks, or what wrappers leave of one of an image without objects."""
    if not isinstance(target, Mapping) or not all(isinstance(field, str) for field in target):
        return False
    if _has_places(target):
        return all(has_rows(target[field]) for field in CLASS_FIELDS if field in target)
    return "image_id" in target and not {"annotations", *CLASS_FIELDS} & set(target)


def _has_places(target: Mapping[str, Any]) -> bool:
    """Whether a target dict says where its objects are, in a way that can be told from something else."""
    field = find_place_field(target)
    if field == "masks":
        return isinstance(target["masks"], list) or getattr(target["masks"], "ndim", 0) == 3
    if field in ("bbox", "segmentation") and "category_id" not in target:
        return field == "segmentation" or "image_id" in target
    return field is not None and has_rows(target[field])


def _find_annotated(dataset: Any) -> Any:
    """The first untransformed item of a COCO dataset that has annotations; None where that cannot be told."""
    for index in range(len(dataset) if hasattr(dataset, "__len__") else 0):
        base, at, _ = find_base(dataset, index)
        records = getattr(getattr(base, "coco", None), "imgToAnns", None)
        if records is None or not hasattr(base, "ids"):
            return None
        if records.get(base.ids[at]):
            return read_bare(dataset, index)
    return None
