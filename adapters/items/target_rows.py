"""The fields of a target dict that have a row per instance, written: of unchanged instances as they were."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from synthloader.adapters.items.boxes import find_box_format, find_same_boxes, from_xyxy
from synthloader.adapters.items.coco_columns import write_bboxes, write_segmentations
from synthloader.adapters.items.keypoints import VISIBILITY_FIELDS, write_points, write_visibility
from synthloader.adapters.items.segmentations import hash_masks
from synthloader.errors import LabelContractError
from synthloader.targets import Instances

__all__ = [
    "CLASS_FIELDS",
    "NATIVE_BOXES",
    "NATIVE_CLASSES",
    "NATIVE_MASKS",
    "NATIVE_POINTS",
    "WHOLE_AREAS",
    "RowWriter",
    "find_class_field",
    "name_column",
]

NATIVE_BOXES, NATIVE_MASKS = "native.boxes", "native.masks"
"""Columns that remember an instance's box and mask, so that what is unchanged comes back bit for bit."""
NATIVE_CLASSES, NATIVE_POINTS = "native.classes", "native.points"
"""Columns that remember the class, and the number of labelled keypoints, where another field depends on it."""
WHOLE_AREAS = "native.whole_areas"
"""Column that remembers which numbers of a list of areas were integers."""

CLASS_FIELDS = ("labels", "category_id", "class_labels")
"""Fields that say the class of each instance; the first one there is counts."""

_GENERATORS_OWN = ("generated", "visible")


def name_column(field: str, /) -> str:
    """The attribute that carries a field: `generated` and `visible` are the generators' own."""
    return f"fields.{field}" if field in _GENERATORS_OWN else field


def find_class_field(fields: Any, /) -> str | None:
    """The field that says the classes; None where they are unknown."""
    return next((field for field in CLASS_FIELDS if field in fields), None)


class RowWriter:
    """Values of fields that have a row per instance.

    Args:
        instances: The target of the sample.
        size_hw: Size of the image that is served.
        form: What was noted of the source's target, `Sample.fields["form"]`.
        boxes_form: Form of the dataset's boxes, from `describe_array`; None where it has none.
        stated_format: Format of boxes that do not say it themselves.
        names: Names of the fields that are written.
        shapes: Field to the shape of an array of it, for what the instances do not tell: keypoints.
    """

    def __init__(
        self,
        instances: Instances,
        /,
        *,
        size_hw: tuple[int, int],
        form: Mapping[str, Any],
        boxes_form: str | None,
        stated_format: str,
        names: list[str],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._instances = instances
        self._size_hw = size_hw
        self._form = form
        self._stated_format = stated_format
        known = "xyxy" if boxes_form is None else find_box_format(boxes_form, stated_format)
        self._native_format = known or stated_format
        self._names = names
        self._shapes = shapes
        self.class_field = find_class_field(names)

    def read(self, field: str, form: str) -> np.ndarray:
        """(N, ...) array of a field, to be written in this form."""
        instances, num_rows = self._instances, len(self._instances)
        if field == self.class_field:
            if num_rows and self._form.get("lacks_classes", False):
                self._refuse_invention(field, "class_ids", "tell the classes of their objects")
            return instances.class_ids
        match field:
            case "boxes":
                return self._read_boxes(find_box_format(form, self._stated_format) or self._native_format)
            case "masks":
                if instances.masks is None and num_rows:
                    self._refuse_invention(field, "masks", "have masks")
                return np.zeros((0, *self._size_hw), np.bool_) if instances.masks is None else instances.masks
            case "keypoints":
                return self._read_keypoints()
            case "iscrowd":
                crowd = np.zeros(num_rows, np.bool_) if instances.crowd is None else instances.crowd
                return crowd.astype(np.int64) if form in ("list", "tuple") else crowd
            case "area":
                return self._read_area(may_be_mixed=form in ("list", "tuple"))
            case "bbox":
                return write_bboxes(instances, same=self.same_boxes, form=self._form, size_hw=self._size_hw)
            case "segmentation":
                return write_segmentations(instances, same_box=self.same_boxes, same_mask=self._same_masks)
            case "category_id":
                return self._read_category_ids()
            case "num_keypoints" if instances.keypoints is not None and NATIVE_POINTS in instances.attributes:
                return self._count_keypoints()
        if field == self._form.get("visibility") and instances.keypoints is not None:
            return write_visibility(instances.keypoints, form=form)
        column = instances.attributes.get(name_column(field))
        if column is None:
            raise LabelContractError(
                f"attributes must keep {name_column(field)!r}, which the dataset has for every instance, got "
                f"attributes={sorted(instances.attributes)}. Carry the attributes of Instances on in the generator."
            )
        return column

    @cached_property
    def same_boxes(self) -> np.ndarray:
        """(N,) bool, which boxes are those that were read."""
        boxes = self._instances.boxes
        return find_same_boxes(boxes, self._native, box_format=self._native_format, size_hw=self._size_hw)

    @cached_property
    def is_same(self) -> bool:
        """Whether all instances that were read are there unchanged, on an image of that size, and no others."""
        whole = len(self._instances) == self._form.get("num_rows") and self._has_same_size
        return whole and bool((self.same_boxes & self._same_masks).all())

    @property
    def same_classes(self) -> np.ndarray:
        """(N,) bool, whose class is the one that was read, as far as it was noted."""
        known = self._instances.attributes.get(NATIVE_CLASSES)
        if known is None:
            return np.zeros(len(self._instances), np.bool_)
        same: np.ndarray = known == self._instances.class_ids
        return same

    @property
    def _has_same_size(self) -> bool:
        return list(self._size_hw) == list(self._form.get("size_hw", self._size_hw))

    @cached_property
    def _native(self) -> np.ndarray:
        native = self._instances.attributes.get(NATIVE_BOXES)
        return np.full((len(self._instances), 4), np.nan) if native is None else native

    @cached_property
    def _same_masks(self) -> np.ndarray:
        """(N,) bool, which masks are those that were read; all, where there are none."""
        masks, num_rows = self._instances.masks, len(self._instances)
        if masks is None:
            return np.full(num_rows, self._has_same_size)
        known = self._instances.attributes.get(NATIVE_MASKS)
        if known is None:
            return np.zeros(num_rows, np.bool_)
        same: np.ndarray = hash_masks(masks) == known
        return same

    def _refuse_invention(self, field: str, part: str, wanted: str) -> NoReturn:
        raise LabelContractError(
            f"Instances must keep {part}, because items of the dataset have {field!r}, got a sample without. Zeros "
            f"would be wrong labels: use a generator that keeps {part}, and sources whose items {wanted}."
        )

    def _read_boxes(self, box_format: str) -> np.ndarray:
        boxes = from_xyxy(self._instances.boxes, box_format, size_hw=self._size_hw)
        if box_format == self._native_format:
            boxes[self.same_boxes] = self._native[self.same_boxes]
        return boxes

    def _read_keypoints(self) -> np.ndarray:
        shape = self._shapes.get("keypoints", ())
        num_points, num_numbers = shape[1:] if len(shape) == 3 else (0, 3)
        points = self._instances.keypoints
        if points is None:
            if len(self._instances):
                self._refuse_invention("keypoints", "keypoints", "have keypoints")
            points = np.zeros((0, num_points, 3), np.float32)
        has_visibility = any(field in self._names for field in VISIBILITY_FIELDS)
        return write_points(points, num_numbers=num_numbers, has_visibility=has_visibility)

    def _read_area(self, *, may_be_mixed: bool) -> np.ndarray:
        instances = self._instances
        native = instances.attributes.get("area")
        same = self.same_boxes & (np.zeros(len(instances), np.bool_) if native is None else ~np.isnan(native))
        if instances.masks is None:
            area: np.ndarray = np.prod(instances.boxes[:, 2:].astype(np.float64) - instances.boxes[:, :2], axis=1)
        else:  # Counting takes longer than hashing: only where it is asked for.
            same = same & self._same_masks
            counts = [0 if kept else np.count_nonzero(mask) for mask, kept in zip(instances.masks, same, strict=True)]
            area = np.array(counts, np.float64)
        if native is not None:
            area[same] = native[same]
            whole = instances.attributes.get(WHOLE_AREAS)
            if may_be_mixed and whole is not None:
                kinds = zip(area.tolist(), (whole & same).tolist(), strict=True)
                return np.array([int(number) if is_whole else number for number, is_whole in kinds], object)
        return area

    def _read_category_ids(self) -> np.ndarray:
        """Of an instance whose class is the one that was read what stood there; of another its class."""
        class_ids: np.ndarray = self._instances.class_ids
        column = self._instances.attributes.get("category_id")
        same = self.same_classes
        if column is not None and same.all():
            return column
        if self._form.get("renumbers", False):
            raise LabelContractError(
                "'category_id' must follow the classes, but it is another number than 'labels' and an instance has a "
                "new class. Leave 'category_id' out of the items, or pass an adapter= of your own."
            )
        return class_ids

    def _count_keypoints(self) -> np.ndarray:
        points, column = self._instances.keypoints, self._instances.attributes.get("num_keypoints")
        counts = np.zeros(len(self._instances), np.int64) if points is None else (points[..., 2] > 0).sum(axis=1)
        if column is None:
            return counts
        return np.where(counts == self._instances.attributes[NATIVE_POINTS], column, counts)
