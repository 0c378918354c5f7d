"""The target dict of torchvision's detectors to `Instances` and back.

```
boxes, labels, masks, keypoints, iscrowd   -> Instances
area, fields with a row per instance       -> Instances.attributes: they follow the instances
everything else                            -> Sample.fields; its numbers and strings also Sample.metadata
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthloader.adapters.boxes import find_box_format, find_same_boxes, from_xyxy, read_boxes
from synthloader.adapters.fields import describe_array, make_array, pack, read_array, read_column, unpack
from synthloader.adapters.rows import has_rows, read_masks, read_rows, read_whole_numbers
from synthloader.adapters.segmentations import hash_masks
from synthloader.adapters.sizes import SIZE_FIELDS, resize_field
from synthloader.checks import reject
from synthloader.errors import LabelContractError
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["KNOWN_FIELDS", "TargetOptions", "find_instance_fields", "name_column", "read_target", "write_target"]

KNOWN_FIELDS = ("boxes", "labels", "masks", "keypoints", "iscrowd", "area")
"""Fields with a meaning of their own; all have a row per instance."""

NATIVE_BOXES, NATIVE_MASKS = "native.boxes", "native.masks"
"""Columns that remember an instance's box and mask, so that what is unchanged comes back bit for bit."""

_GENERATORS_OWN = ("generated", "visible")


@dataclass(frozen=True)
class TargetOptions:
    """How target dicts are read: the options of `DetectionAdapter`."""

    boxes: str
    drop_bad: bool
    instance_fields: tuple[str, ...] | None


def name_column(field: str, /) -> str:
    """The attribute that carries a field: `generated` and `visible` are the generators' own."""
    return f"fields.{field}" if field in _GENERATORS_OWN else field


def find_instance_fields(targets: list[Mapping[str, Any]], /) -> tuple[str, ...]:
    """Names of the unknown fields that have a row per instance in all of these targets."""
    lengths: dict[str, set[tuple[int, int]]] = {}
    for target in targets:
        num_rows = len(target["boxes"]) if "boxes" in target else 0
        for field, value in target.items():
            if field not in KNOWN_FIELDS and field != "image_id" and field not in SIZE_FIELDS:
                lengths.setdefault(field, set()).add((num_rows, len(value) if has_rows(value) else -1))
    return tuple(sorted(field for field, pairs in lengths.items() if all(rows == length for rows, length in pairs)))


def read_target(
    target: Mapping[str, Any], /, *, size_hw: tuple[int, int], name: str, options: TargetOptions
) -> tuple[Instances, dict[str, Any], dict[str, Any]]:
    """Instances, the fields that are carried along, and the image's metadata.

    Args:
        target: The native target.
        size_hw: Height and width of the image.
        name: What the target is called in messages: `dataset[17][1]`.
        options: Options of the adapter.
    """
    forms = {field: describe_array(value) if has_rows(value) else "" for field, value in target.items()}
    names = {field: f"{name}[{field!r}]" for field in target}
    num_rows = _count_rows(target, name)
    native, boxes, keep = _read_boxes(target, forms, size_hw, name, options) if "boxes" in target else _NO_BOXES
    columns: dict[str, np.ndarray] = {NATIVE_BOXES: native}
    masks = keypoints = crowd = None
    if num_rows == 0:
        masks = np.zeros((0, *size_hw), np.bool_)
    elif "masks" in target:
        masks = read_masks(target["masks"], name=names["masks"], num_rows=num_rows, size_hw=size_hw)
    if "keypoints" in target and num_rows:
        points = read_rows(target["keypoints"], name=names["keypoints"], num_rows=num_rows, row_shape=(None, 3))
        keypoints = points.astype(np.float32)
    if "iscrowd" in target:
        numbers = read_whole_numbers(target["iscrowd"], name=names["iscrowd"], num_rows=num_rows)
        if num_rows and not ((numbers == 0) | (numbers == 1)).all():
            reject(names["iscrowd"], "be 0 or 1", numbers.tolist(), "Correct the annotation.")
        crowd = numbers.astype(np.bool_)
    if "area" in target:
        columns["area"] = read_rows(target["area"], name=names["area"], num_rows=num_rows, row_shape=())
        if masks is not None:
            columns[NATIVE_MASKS] = hash_masks(masks)
    rest: dict[str, Any] = {}
    for field, value in target.items():
        if field in KNOWN_FIELDS:
            continue
        if _follows_instances(field, value, names[field], num_rows, options):
            columns[name_column(field)] = read_column(value, name=names[field])
        else:
            rest[field] = pack(value)
    class_ids = _NO_CLASSES
    if "labels" in target:
        class_ids = read_whole_numbers(target["labels"], name=names["labels"], num_rows=num_rows)
    instances = Instances(class_ids, boxes, masks, keypoints, crowd, columns)
    form = {"size_hw": list(size_hw), "names": list(forms), "forms": list(forms.values())}
    metadata = {field: value for field, value in rest.items() if _is_fact(field, value)}
    return instances if keep is None else instances.select(keep), {"target": rest, "form": form}, metadata


def write_target(sample: Sample, /, *, like: Mapping[str, Any], options: TargetOptions) -> dict[str, Any]:
    """The native target of a sample: the source's fields in the source's order, of the types that `like` has."""
    instances = sample.target if isinstance(sample.target, Instances) else Instances(_NO_CLASSES, _NO_BOXES[1])
    rest, form = sample.fields.get("target", {}), sample.fields.get("form", {})
    source_forms: dict[str, str] = dict(zip(form.get("names", ()), form.get("forms", ()), strict=True))
    forms = {field: describe_array(value) for field, value in like.items() if has_rows(value)}
    names = list(source_forms)
    if len(instances) or not names:  # A source without objects may lack the fields of objects: `{"image_id": 5}`.
        names += [field for field in forms if field not in names and _is_of_instances(field, instances)]
    rows = _RowWriter(instances, sample.size_hw, source_forms.get("boxes") or forms.get("boxes", ""), options)
    target: dict[str, Any] = {}
    for field in names:
        if field in KNOWN_FIELDS or field not in rest:
            shape = forms.get(field) or source_forms[field]
            if field not in KNOWN_FIELDS and name_column(field) not in instances.attributes:
                raise LabelContractError(
                    f"attributes must keep {name_column(field)!r}, which the dataset has for every instance, got "
                    f"attributes={sorted(instances.attributes)}. Carry the attributes of Instances on in the generator."
                )
            target[field] = make_array(rows.read(field, shape, like), shape, size_hw=sample.size_hw)
            continue
        value = unpack(rest[field])
        if field in SIZE_FIELDS and list(sample.size_hw) != list(form["size_hw"]):
            value = resize_field(field, value, sample.size_hw, before_hw=tuple(form["size_hw"]))
        target[field] = sample.metadata.get(field, value) if _is_fact(field, value) else value
    return target


class _RowWriter:
    """The values of fields that have a row per instance; of unchanged instances those of the annotation."""

    def __init__(self, instances: Instances, size_hw: tuple[int, int], boxes_form: str, options: TargetOptions) -> None:
        self._instances = instances
        self._size_hw = size_hw
        self._options = options
        self._native_format = find_box_format(boxes_form, options.boxes) or options.boxes
        native = instances.attributes.get(NATIVE_BOXES)
        self._native = np.full((len(instances), 4), np.nan) if native is None else native
        self._same = find_same_boxes(instances.boxes, self._native, box_format=self._native_format, size_hw=size_hw)

    def read(self, field: str, form: str, like: Mapping[str, Any]) -> np.ndarray:
        """(N, ...) array of a field."""
        instances, num_rows = self._instances, len(self._instances)
        match field:
            case "boxes":
                return self._read_boxes(find_box_format(form, self._options.boxes) or self._native_format)
            case "labels":
                return instances.class_ids
            case "masks":
                return np.zeros((num_rows, *self._size_hw), np.bool_) if instances.masks is None else instances.masks
            case "keypoints":
                shape = np.shape(like.get("keypoints", ()))
                num_points = shape[1] if len(shape) == 3 else 0
                return np.zeros((num_rows, num_points, 3)) if instances.keypoints is None else instances.keypoints
            case "iscrowd":
                return np.zeros(num_rows, np.bool_) if instances.crowd is None else instances.crowd
            case "area":
                return self._read_area()
            case _:
                return instances.attributes[name_column(field)]

    def _read_boxes(self, box_format: str) -> np.ndarray:
        boxes = from_xyxy(self._instances.boxes, box_format, size_hw=self._size_hw)
        if box_format == self._native_format:
            boxes[self._same] = self._native[self._same]
        return boxes

    def _read_area(self) -> np.ndarray:
        instances, same = self._instances, self._same
        if instances.masks is not None:
            area = np.array([np.count_nonzero(mask) for mask in instances.masks], np.float64)
            known = instances.attributes.get(NATIVE_MASKS)
            same = same & (hash_masks(instances.masks) == known) if known is not None else np.zeros(len(same), np.bool_)
        else:
            area = np.prod(instances.boxes[:, 2:].astype(np.float64) - instances.boxes[:, :2], axis=1)
        if (native := instances.attributes.get("area")) is not None:
            area[same] = native[same]
        return area


_NO_CLASSES = np.zeros(0, np.int64)
_NO_BOXES: tuple[np.ndarray, np.ndarray, np.ndarray | None] = (np.zeros((0, 4)), np.zeros((0, 4), np.float32), None)


def _read_boxes(
    target: Mapping[str, Any], forms: Mapping[str, str], size_hw: tuple[int, int], name: str, options: TargetOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The boxes as they are (N, 4) float64, those inside the image (N, 4) float32, and which are kept."""
    name = f"{name}['boxes']"
    box_format = find_box_format(forms["boxes"], options.boxes)
    if box_format is None:
        reject(
            f"the format of {name}",
            "be XYXY, XYWH or CXCYWH",
            target["boxes"].format.value,
            "Rotated boxes need an adapter= of your own.",
        )
    canvas_hw = getattr(target["boxes"], "canvas_size", size_hw)
    if tuple(canvas_hw) != size_hw:
        reject(
            f"the canvas_size of {name}",
            f"be the image's height and width, {size_hw}",
            tuple(canvas_hw),
            "Give the boxes and the image one size.",
        )
    native = read_array(target["boxes"], name=name)
    if native.size == 0:
        return _NO_BOXES
    if native.ndim != 2 or native.shape[1] != 4 or native.dtype.kind not in "iuf":
        reject(name, "be numbers of shape (N, 4)", native, "Correct the annotation.")
    boxes, keep = read_boxes(
        native,
        box_format=box_format,
        size_hw=size_hw,
        drop_bad=options.drop_bad,
        name=name,
        name_row=lambda row: f"{name}[{row}]",
    )
    return native.astype(np.float64), boxes, keep


def _count_rows(target: Mapping[str, Any], name: str) -> int:
    has = [field for field in ("boxes", "labels", "masks", "keypoints") if field in target]
    if has and not {"boxes", "labels"} <= set(has):
        reject(
            name,
            "have both 'boxes' and 'labels'",
            list(target),
            "Return both, or pass an adapter= of your own.",
            error=TypeError,
        )
    for field in has[:2]:
        if not has_rows(target[field]):
            reject(f"{name}[{field!r}]", "be an array, a tensor or a list", target[field], error=TypeError)
    return len(target["boxes"]) if has else 0


def _follows_instances(field: str, value: Any, name: str, num_rows: int, options: TargetOptions) -> bool:
    if field == "image_id" or field in SIZE_FIELDS:
        return False
    if options.instance_fields is None:
        if has_rows(value) and len(value) == num_rows:
            reject(
                name,
                "be known to have a row for each box, or not to",
                value,
                f"If it has, pass adapter=DetectionAdapter(instance_fields=[{field!r}]), else instance_fields=[].",
            )
        return False
    if field not in options.instance_fields:
        return False
    if not has_rows(value) or len(value) != num_rows:
        reject(
            name,
            f"have a row for each of the {num_rows} boxes",
            value,
            "Correct the annotation; or, if the field is not of instances, leave it out of "
            f"DetectionAdapter(instance_fields={list(options.instance_fields)}).",
        )
    return True


def _is_of_instances(field: str, instances: Instances) -> bool:
    return field in KNOWN_FIELDS or name_column(field) in instances.attributes


def _is_fact(field: str, value: Any) -> bool:
    return type(value) in (str, int, float, bool) and field != "image_id" and field not in SIZE_FIELDS
