"""COCO annotations, as lists of dicts, to `Instances` and back.

Every annotation travels whole, as JSON, in the attribute `annotation`: an instance that nobody changed comes back equal
to it, and one with another box or mask gets a new `bbox`, `area` and `segmentation`, the rest kept. Numbers and strings
among its unknown fields, and in its dict `attributes`, are attributes of their own as well, to be read and written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthloader.adapters.items.boxes import find_same_boxes, from_xyxy, read_boxes
from synthloader.adapters.items.fields import dump_json, load_json
from synthloader.adapters.items.rows import read_rows
from synthloader.adapters.items.segmentations import decode_masks, encode_mask, has_segmentation, hash_masks
from synthloader.adapters.items.target_rows import NATIVE_MASKS
from synthloader.checks import reject
from synthloader.targets import Instances

__all__ = [
    "ANNOTATION",
    "UNKNOWN_IMAGE_ID",
    "is_whole_number",
    "list_facts",
    "make_fact_columns",
    "read_annotations",
    "write_annotations",
]

ANNOTATION = "annotation"
UNKNOWN_IMAGE_ID = -1
"""Image id of objects that were pasted into an image whose own list is empty, and so does not tell its id."""

_KNOWN = frozenset(
    (
        "id",
        "image_id",
        "category_id",
        "bbox",
        "area",
        "segmentation",
        "iscrowd",
        "keypoints",
        "num_keypoints",
        "attributes",
    )
)
_TAKEN = frozenset((ANNOTATION, NATIVE_MASKS, "id", "generated", "visible"))


def read_annotations(
    annotations: list[dict[str, Any]], /, *, size_hw: tuple[int, int], name: str, drop_bad: bool
) -> Instances:
    """The instances of one image.

    Masks are there where every annotation that is no crowd has a segmentation, keypoints where every annotation has
    some; `masks` is None for an image where one of them lacks it.

    Args:
        annotations: COCO annotations; their `bbox` is x, y, width, height in pixels.
        size_hw: Height and width of the image.
        name: What the list is called in messages: `dataset[17][1]`.
        drop_bad: Whether boxes are clipped and those without area dropped, instead of being refused.

    Raises:
        ValueError: A box, a segmentation or keypoints are wrong; the message has row and remedy.
        TypeError: A box or a class is no number.
    """
    if not annotations:
        return Instances(
            np.zeros(0, np.int64),
            np.zeros((0, 4), np.float32),
            np.zeros((0, *size_hw), np.bool_),
            attributes={ANNOTATION: np.zeros(0, np.str_), NATIVE_MASKS: np.zeros(0, np.int64)},
        )
    num_rows = len(annotations)
    native = _read_bboxes(annotations, name)
    boxes, keep = read_boxes(
        native,
        box_format="xywh",
        size_hw=size_hw,
        drop_bad=drop_bad,
        name=f"the boxes of {name}",
        name_row=lambda row: f"{name}[{row}]['bbox']",
        may_be_stated=False,
    )
    columns = make_fact_columns([list_facts(annotation) for annotation in annotations])
    ids = [annotation.get("id", -1) for annotation in annotations]
    columns["id"] = np.array(ids if all(type(number) is int for number in ids) else [str(number) for number in ids])
    columns[ANNOTATION] = np.array([dump_json(annotation) for annotation in annotations], np.str_)
    is_crowd = [bool(annotation.get("iscrowd", 0)) for annotation in annotations]
    masks = None
    if all(crowd or has_segmentation(annotation) for crowd, annotation in zip(is_crowd, annotations, strict=True)):
        names = [f"{name}[{row}]['segmentation']" for row in range(num_rows)]
        masks = decode_masks(annotations, boxes=boxes, size_hw=size_hw, names=names)
        columns[NATIVE_MASKS] = hash_masks(masks)
    class_ids = [annotation["category_id"] for annotation in annotations]
    instances = Instances(
        np.array(class_ids, np.int64),
        boxes,
        masks,
        _read_keypoints(annotations, name),
        np.array(is_crowd, np.bool_),
        columns,
    )
    return instances if keep is None else instances.select(keep)


def write_annotations(instances: Instances, /, *, size_hw: tuple[int, int], image_id: Any) -> list[dict[str, Any]]:
    """COCO annotations of these instances; equal to the original ones where nothing was changed."""
    texts = instances.attributes.get(ANNOTATION, np.full(len(instances), "", np.str_))
    annotations = [load_json(str(text)) if str(text) else {} for text in texts]
    native = np.array([annotation.get("bbox", _NO_BOX) for annotation in annotations], np.float64).reshape(-1, 4)
    same_box = find_same_boxes(instances.boxes, native, box_format="xywh", size_hw=size_hw)
    same_mask = np.ones(len(instances), np.bool_)
    if instances.masks is not None:
        known = instances.attributes.get(NATIVE_MASKS)
        same_mask = hash_masks(instances.masks) == known if known is not None else ~same_mask
    new_boxes = from_xyxy(instances.boxes, "xywh", size_hw=size_hw).tolist()
    for row, annotation in enumerate(annotations):
        is_new = not annotation
        if is_new:
            annotation.update(id=0, image_id=image_id, category_id=0, iscrowd=0, bbox=None, area=0.0)
        if "image_id" in annotation:
            annotation["image_id"] = image_id
        if not same_box[row]:
            annotation["bbox"] = new_boxes[row]
        if not (same_box[row] and same_mask[row]):
            _redraw(annotation, instances, row, is_new=is_new, same_mask=bool(same_mask[row]))
        _write_class(annotation, instances, row)
        _write_keypoints(annotation, instances, row, same_box=bool(same_box[row]))
        _write_facts(annotation, instances, row)
    return annotations


def list_facts(annotation: dict[str, Any], /) -> dict[str, bool | int | float | str]:
    """Numbers and strings that an annotation says besides the usual: column name to value.

    Those of its dict `attributes` have their own name, or `attributes.<name>` where the annotation has a field of that
    name, or the name is taken.
    """
    facts = {
        field: value
        for field, value in annotation.items()
        if field not in _KNOWN and field not in _TAKEN and _is_fact(value)
    }
    attributes = annotation.get("attributes")
    if isinstance(attributes, dict):
        for field, value in attributes.items():
            if _is_fact(value):
                facts[_name_attribute(annotation, field)] = value
    return facts


def make_fact_columns(
    rows: list[dict[str, bool | int | float | str]], /, *, names: list[str] | None = None
) -> dict[str, np.ndarray]:
    """A column for every name: NaN or an empty string where a row lacks it. Numbers beside strings are left out."""
    columns = {}
    for name in names if names is not None else dict.fromkeys(name for row in rows for name in row):
        kinds = {type(row[name]) for row in rows if name in row}
        is_whole = all(name in row for row in rows)
        if kinds == {str}:
            columns[name] = np.array([row.get(name, "") for row in rows], np.str_)
        elif str not in kinds:
            dtype = "float64"
            if is_whole and kinds in ({bool}, {int}):
                dtype = "bool" if kinds == {bool} else "int64"
            columns[name] = np.array([row.get(name, np.nan) for row in rows], dtype)
    return columns


def is_whole_number(value: Any, /) -> bool:
    """Whether a value is a number without a fraction, of Python, or an array or tensor of one."""
    plain = value.item() if hasattr(value, "item") and np.size(value) == 1 else value
    return isinstance(plain, int | float) and float(plain).is_integer()


_NO_BOX = [np.nan] * 4


def _is_fact(value: Any) -> bool:
    return type(value) in (bool, float, str) or (type(value) is int and abs(value) < 2**53)


def _name_attribute(annotation: dict[str, Any], field: str) -> str:
    is_free = field not in annotation and field not in _KNOWN and field not in _TAKEN
    return field if is_free else f"attributes.{field}"


def _read_bboxes(annotations: list[dict[str, Any]], name: str) -> np.ndarray:
    for row, annotation in enumerate(annotations):
        for field in ("bbox", "category_id"):
            if field not in annotation:
                reject(f"{name}[{row}]", f"have {field!r}", list(annotation), "Correct the annotation.")
        bbox = annotation["bbox"]
        if not isinstance(bbox, list | tuple | np.ndarray) or len(bbox) != 4:
            reject(f"{name}[{row}]['bbox']", "be x, y, width, height", bbox, "Correct the annotation.")
        class_id = annotation["category_id"]
        if not is_whole_number(class_id):
            remedy = "Write ids without quotes." if isinstance(class_id, str) else "Correct the annotation."
            reject(f"{name}[{row}]['category_id']", "be an integer", class_id, remedy, error=TypeError)
    bboxes = np.array([annotation["bbox"] for annotation in annotations])
    if bboxes.dtype.kind not in "iuf":
        reject(f"the boxes of {name}", "be numbers", bboxes.tolist(), "Correct the annotation.", error=TypeError)
    return bboxes


def _read_keypoints(annotations: list[dict[str, Any]], name: str) -> np.ndarray | None:
    lists = [annotation.get("keypoints") or () for annotation in annotations]
    if not all(lists):
        return None
    for row, numbers in enumerate(lists):
        if len(numbers) % 3 or len(numbers) != len(lists[0]):
            reject(
                f"{name}[{row}]['keypoints']",
                f"have three numbers for each of {len(lists[0]) // 3} points",
                numbers,
                "Correct the annotation.",
            )
    points = read_rows(lists, name=f"the keypoints of {name}", num_rows=len(lists), row_shape=(None,))
    return points.astype(np.float32).reshape(len(lists), -1, 3)


def _redraw(annotation: dict[str, Any], instances: Instances, row: int, *, is_new: bool, same_mask: bool) -> None:
    """Area and segmentation of an instance whose box or mask changed."""
    if instances.masks is not None:
        mask = instances.masks[row]
        area = float(np.count_nonzero(mask))
        if not same_mask and ("segmentation" in annotation or is_new):
            annotation["segmentation"] = encode_mask(mask)
    else:
        x1, y1, x2, y2 = instances.boxes[row].tolist()
        area = (x2 - x1) * (y2 - y1)
        if has_segmentation(annotation):
            annotation["segmentation"] = []  # It showed where the object was: nothing is better than something false.
    if "area" in annotation:
        annotation["area"] = round(area) if type(annotation["area"]) is int else area


def _write_class(annotation: dict[str, Any], instances: Instances, row: int) -> None:
    class_id = int(instances.class_ids[row])
    if annotation.get("category_id") != class_id:
        annotation["category_id"] = class_id
    is_crowd = instances.crowd is not None and bool(instances.crowd[row])
    if bool(annotation.get("iscrowd", 0)) != is_crowd:
        annotation["iscrowd"] = int(is_crowd)


def _write_keypoints(annotation: dict[str, Any], instances: Instances, row: int, *, same_box: bool) -> None:
    before = annotation.get("keypoints")
    if instances.keypoints is None:
        if not before or same_box:
            return
        points = np.zeros((len(before) // 3, 3))
    else:
        points = instances.keypoints[row]
        if before and np.array_equal(np.asarray(before, np.float32), points.ravel()):
            return
    annotation["keypoints"] = [number for x, y, seen in points.tolist() for number in (x, y, int(seen))]
    annotation["num_keypoints"] = int((points[:, 2] > 0).sum())


def _write_facts(annotation: dict[str, Any], instances: Instances, row: int) -> None:
    """Attributes that a generator changed, into the places that they came from."""
    facts = list_facts(annotation)
    if not facts:
        return
    attributes = annotation.get("attributes")
    places = {field: (annotation, field) for field in facts if field in annotation}
    if isinstance(attributes, dict):
        places |= {_name_attribute(annotation, field): (attributes, field) for field in attributes}
    for name, before in facts.items():
        column = instances.attributes.get(name)
        if column is None or (column.dtype.kind == "U") != (type(before) is str):
            continue
        value = column[row].item()
        if value == before or value != value:  # The same, or NaN: not known.
            continue
        holder, field = places[name]
        holder[field] = _of_kind(value, before)


def _of_kind(value: Any, before: bool | int | float | str) -> Any:
    if isinstance(before, bool) or (isinstance(before, int) and float(value).is_integer()):
        return type(before)(value)
    return float(value) if isinstance(before, float) else value
