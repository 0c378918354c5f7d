"""The target dict of torchvision's detectors to `Instances` and back.

```
boxes, labels, masks, keypoints, iscrowd   -> Instances; boxes are made from masks where there are none
area, fields with a row per instance       -> Instances.attributes: they follow the instances
bbox, segmentation, category_id            -> the same, and written anew where box, mask or class changed
everything else                            -> Sample.fields; its numbers and strings also Sample.metadata
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthloader.adapters.items.coco_columns import COCO_FIELDS, find_bbox_format, read_coco_column
from synthloader.adapters.items.fields import describe_array, make_array, pack, read_column, unpack
from synthloader.adapters.items.geometry import is_geometry, is_tensor_geometry, refuse_stale
from synthloader.adapters.items.keypoints import VISIBILITY_FIELDS, find_visibility, read_keypoints
from synthloader.adapters.items.pairs import check_target
from synthloader.adapters.items.places import PLACE_FIELDS, count_instances, read_places
from synthloader.adapters.items.rows import count_rows, has_rows, read_rows, read_whole_numbers
from synthloader.adapters.items.segmentations import hash_masks
from synthloader.adapters.items.sizes import SIZE_FIELDS, resize_field
from synthloader.adapters.items.target_rows import (
    CLASS_FIELDS,
    NATIVE_BOXES,
    NATIVE_CLASSES,
    NATIVE_MASKS,
    NATIVE_POINTS,
    WHOLE_AREAS,
    RowWriter,
    find_class_field,
    name_column,
)
from synthloader.adapters.items.voc_objects import (
    VOC_CLASSES,
    VOC_OBJECT,
    is_voc_annotation,
    pack_rest,
    read_objects,
    write_voc,
)
from synthloader.checks import reject
from synthloader.errors import LabelContractError
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = [
    "KNOWN_FIELDS",
    "NATIVE_BOXES",
    "NATIVE_MASKS",
    "TargetOptions",
    "find_form",
    "find_instance_fields",
    "find_renumbering",
    "find_template",
    "name_column",
    "read_target",
    "write_target",
]

KNOWN_FIELDS = ("boxes", "labels", "masks", "keypoints", "iscrowd", "area")
"""Fields with a meaning of their own; all have a row per instance."""

_ROW_FIELDS = frozenset((*KNOWN_FIELDS, *CLASS_FIELDS, *COCO_FIELDS, *VISIBILITY_FIELDS, "num_keypoints"))
_VOC_IDS = {name: place for place, name in enumerate(VOC_CLASSES, start=1)}


@dataclass(frozen=True)
class TargetOptions:
    """How target dicts are read: the options of `DetectionAdapter`, and what it saw of the dataset.

    Attributes:
        boxes: Format of boxes that do not say it themselves.
        drop_bad: Whether bad boxes are clipped or dropped.
        instance_fields: Fields of the user's own that have a row per instance; None where that is not known.
        template: Field to its form and an array of no rows: what items with objects have. Items without any may lack
            these fields, and get them when they get objects.
        renumbers: Whether `category_id` is another number than the label.
    """

    boxes: str
    drop_bad: bool
    instance_fields: tuple[str, ...] | None
    template: Mapping[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    renumbers: bool = False


def find_instance_fields(targets: list[Mapping[str, Any]], /) -> tuple[str, ...]:
    """Names of the unknown fields that have a row per instance in all of these targets."""
    lengths: dict[str, set[tuple[int, int]]] = {}
    for target in targets:
        num_rows = count_instances(target)
        for name, value in target.items():
            if name not in _ROW_FIELDS and name != "image_id" and name not in SIZE_FIELDS:
                lengths.setdefault(name, set()).add((num_rows, len(value) if has_rows(value) else -1))
    return tuple(sorted(name for name, pairs in lengths.items() if all(rows == length for rows, length in pairs)))


def find_form(targets: list[Mapping[str, Any]], /) -> tuple[str, ...]:
    """Names of the fields with a meaning of their own that any of these targets has: what a sample is read from."""
    known = {"image_id", *_ROW_FIELDS, *SIZE_FIELDS}
    return tuple(sorted({name for target in targets for name in target if name in known}))


def find_template(
    targets: list[Mapping[str, Any]], /, *, instance_fields: Sequence[str]
) -> dict[str, tuple[str, np.ndarray]]:
    """Form and an array of no rows of every field that has a row per instance, as these targets have it."""
    template: dict[str, tuple[str, np.ndarray]] = {}
    for target in targets:
        num_rows = count_instances(target)
        for name, value in target.items():
            if name in template or not (name in _ROW_FIELDS or name in instance_fields) or not has_rows(value):
                continue
            if num_rows and len(value) == num_rows:
                try:
                    rows = read_column(value, name=name)[:0].copy()
                except TypeError:  # said when the item is read
                    continue
                template[name] = (describe_array(value), rows)
    return template


def find_renumbering(targets: list[Mapping[str, Any]], /) -> bool:
    """Whether one of these targets has a `category_id` that is another number than its label."""
    both = [target for target in targets if {"category_id", "labels"} <= set(target)]
    return any(_to_list(target["category_id"]) != _to_list(target["labels"]) for target in both)


def read_target(
    target: Mapping[str, Any], /, *, size_hw: tuple[int, int], name: str, options: TargetOptions
) -> tuple[Instances, dict[str, Any], dict[str, Any]]:
    """Instances, the fields that are carried along, and the image's metadata.

    Classes that the target does not tell are 0.

    Args:
        target: The native target.
        size_hw: Height and width of the image.
        name: What the target is called in messages: `dataset[17][1]`.
        options: Options of the adapter.
    """
    places = read_places(target, size_hw=size_hw, name=name, stated_format=options.boxes, drop_bad=options.drop_bad)
    num_rows, masks = places.num_rows, places.masks
    names = {key: f"{name}[{key!r}]" for key in target}
    form: dict[str, Any] = {
        "size_hw": list(size_hw),
        "names": list(target),
        "forms": [describe_array(value) if has_rows(value) else "" for value in target.values()],
        "num_rows": num_rows,
    }
    columns: dict[str, np.ndarray] = {NATIVE_BOXES: places.native}
    keypoints = read_keypoints(target, name=name, num_rows=num_rows, size_hw=size_hw)
    crowd = None
    if "iscrowd" in target:
        numbers = read_whole_numbers(target["iscrowd"], name=names["iscrowd"], num_rows=num_rows)
        if num_rows and not ((numbers == 0) | (numbers == 1)).all():
            reject(names["iscrowd"], "be 0 or 1", numbers.tolist(), "Correct the annotation.")
        crowd = numbers.astype(np.bool_)
    if "area" in target:
        areas = target["area"]
        columns["area"] = read_rows(areas, name=names["area"], num_rows=num_rows, row_shape=())
        if isinstance(areas, list | tuple):
            columns[WHOLE_AREAS] = np.array([isinstance(area, int) for area in areas], np.bool_)
    class_ids, class_field = np.zeros(num_rows, np.int64), find_class_field(target)
    if class_field is not None:
        class_ids = read_whole_numbers(target[class_field], name=names[class_field], num_rows=num_rows)
    elif num_rows:
        form["lacks_classes"] = True
    visibility = find_visibility(target)
    if visibility is not None:
        form["visibility"] = visibility
    rest: dict[str, Any] = {}
    for key, value in target.items():
        if key in KNOWN_FIELDS or key in (class_field, visibility):
            continue
        column = None
        if key in COCO_FIELDS:
            column = read_coco_column(key, value, name=names[key], num_rows=num_rows)
        elif is_tensor_geometry(value):
            pass  # Rows of it would not move with the instances.
        elif _follows_instances(key, value, names[key], num_rows, options):
            column = read_column(value, name=names[key])
        if column is not None:
            columns[name_column(key)] = column
            if key not in COCO_FIELDS and is_geometry(value, size_hw):  # Maps for each object, or just as many.
                form.setdefault("geometry", []).append(key)
        elif key == "annotation" and is_voc_annotation(value) and len(value["object"]) == num_rows:
            columns[VOC_OBJECT], rest[key] = read_objects(value), pack_rest(value)
            form["voc"] = all(
                _VOC_IDS.get(thing["name"]) == class_id
                for thing, class_id in zip(value["object"], class_ids.tolist(), strict=True)
            )
        else:
            rest[key] = pack(value)
            if is_geometry(value, size_hw):
                form.setdefault("geometry", []).append(key)
    if "bbox" in columns and "boxes" in target and num_rows:
        form["bbox_format"] = find_bbox_format(target["bbox"], places.boxes, size_hw=size_hw, name=names["bbox"])
    if "category_id" in columns or VOC_OBJECT in columns:
        columns[NATIVE_CLASSES] = class_ids
    form["renumbers"] = options.renumbers or not np.array_equal(columns.get("category_id", class_ids), class_ids)
    if "num_keypoints" in columns and keypoints is not None:
        columns[NATIVE_POINTS] = (keypoints[..., 2] > 0).sum(axis=1)
    if masks is not None and ("area" in columns or "segmentation" in columns or "geometry" in form):
        columns[NATIVE_MASKS] = hash_masks(masks)
    if not num_rows:
        _add_missing_columns(columns, options)
    instances = Instances(class_ids, places.boxes, masks, keypoints, crowd, columns)
    if places.keep is not None:
        instances = instances.select(places.keep)
        form["num_rows"] = len(instances)
    metadata = {key: value for key, value in rest.items() if _is_fact(key, value)}
    return instances, {"target": rest, "form": form}, metadata


def write_target(sample: Sample, /, *, like: Mapping[str, Any], options: TargetOptions) -> dict[str, Any]:
    """The native target of a sample: the source's fields in the source's order, of the types that `like` has.

    Raises:
        LabelContractError: A field cannot be kept true for what a generator made.
    """
    instances = check_target(sample, Instances)
    rest, form = sample.fields.get("target", {}), sample.fields.get("form", {})
    source_forms: dict[str, str] = dict(zip(form.get("names", ()), form.get("forms", ()), strict=True))
    liked = {key: value for key, value in like.items() if has_rows(value)}
    forms = {key: shape for key, (shape, _) in options.template.items()}
    forms |= {key: describe_array(value) for key, value in liked.items()}
    names = list(source_forms)
    if len(instances) or not names:  # A source without objects may lack the fields of objects: `{"image_id": 5}`.
        names += [
            key for key in forms if key not in names and _is_of_instances(key, liked.get(key), instances, options)
        ]
        if len(instances) and not set(names) & set(PLACE_FIELDS):
            raise LabelContractError(
                f"an image without objects got some, and no item is known that says how they are written, got fields "
                f"{names}. Let the first item of the dataset be one with objects."
            )
    rows = RowWriter(
        instances,
        size_hw=sample.size_hw,
        form=form,
        boxes_form=source_forms.get("boxes", forms.get("boxes")),
        stated_format=options.boxes,
        names=names,
        shapes=_find_shapes(liked, options),
    )
    refuse_stale(form.get("geometry", ()), is_same=lambda: rows.is_same)
    written: dict[str, Any] = {}
    for key in names:
        if key in KNOWN_FIELDS or key not in rest:
            shape = forms.get(key) or source_forms[key]
            written[key] = make_array(rows.read(key, shape), shape, size_hw=sample.size_hw)
            continue
        if "voc" in form and key == "annotation":
            written[key] = write_voc(
                rest[key],
                instances,
                same=rows.same_boxes,
                same_class=rows.same_classes,
                num_before=form["num_rows"],
                size_hw=sample.size_hw,
                before_hw=tuple(form["size_hw"]),
                first_pixel=0,
                class_ids=_VOC_IDS if form["voc"] else {},
            )
            continue
        value = unpack(rest[key])
        if key in SIZE_FIELDS and list(sample.size_hw) != list(form["size_hw"]):
            value = resize_field(key, value, sample.size_hw, before_hw=tuple(form["size_hw"]))
        written[key] = sample.metadata.get(key, value) if _is_fact(key, value) else value
    return written


def _add_missing_columns(columns: dict[str, np.ndarray], options: TargetOptions) -> None:
    """Columns without rows that a target without objects lacks, so that every sample of a dataset has the same."""
    for key, (_, rows) in options.template.items():
        if key not in KNOWN_FIELDS and key not in CLASS_FIELDS[:1]:
            columns.setdefault(name_column(key), rows)


def _find_shapes(liked: Mapping[str, Any], options: TargetOptions) -> dict[str, tuple[int, ...]]:
    shapes = {key: rows.shape for key, (_, rows) in options.template.items()}
    shapes |= {key: np.shape(liked[key]) for key in ("keypoints",) if key in liked}
    return shapes


def _follows_instances(key: str, value: Any, name: str, num_rows: int, options: TargetOptions) -> bool:
    if key == "image_id" or key in SIZE_FIELDS:
        return False
    if key == "num_keypoints" and has_rows(value) and len(value) == num_rows:
        return True
    if options.instance_fields is None:
        if has_rows(value) and len(value) == num_rows:
            reject(
                name,
                "be known to have a row for each box, or not to",
                value,
                f"If it has, pass adapter=DetectionAdapter(instance_fields=[{key!r}]), else instance_fields=[].",
            )
        return False
    if key not in options.instance_fields:
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


def _is_of_instances(key: str, liked: Any, instances: Instances, options: TargetOptions) -> bool:
    if key in KNOWN_FIELDS or key in options.template or name_column(key) in instances.attributes:
        return True
    return (key in COCO_FIELDS or key in CLASS_FIELDS) and has_rows(liked) and count_rows(liked) > 0


def _to_list(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else list(value) if isinstance(value, tuple) else value


def _is_fact(key: str, value: Any) -> bool:
    return type(value) in (str, int, float, bool) and key != "image_id" and key not in SIZE_FIELDS
