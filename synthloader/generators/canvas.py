"""`Canvas`: a picture that objects are pasted onto, and the labels that follow."""

from __future__ import annotations

import cv2
import numpy as np

from synthloader.generators.attribute_columns import join_columns
from synthloader.generators.cut_out import CutOut, find_tight_box, hide_keypoints, read_share
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["Canvas"]


class Canvas:
    """A copy of a source to paste onto.

    ```
    row of masks    0 .. n-1  instances of the source      n ..  pasted ones, in order; a later one lies on top
    full_areas[row]           pixels of the whole object, so that covering adds up: visible share = now / full
    ```

    Args:
        source: The sample; not modified.
        target: Its target, with masks unless it is empty.
        capacity: How many objects will be pasted at most.
        min_visible: Smallest share of an object's own pixels that may stay visible.
    """

    def __init__(self, source: Sample, target: Instances, /, *, capacity: int, min_visible: float) -> None:
        self._source = source
        self._target = target
        self._min_visible = min_visible
        self._image = source.image.copy()
        self._maps = {name: values.copy() for name, values in source.maps.items()}
        self._edited = np.zeros(source.size_hw, np.bool_)
        self._masks = np.zeros((len(target) + capacity, *source.size_hw), np.bool_)
        if target.masks is not None:
            self._masks[: len(target)] = target.masks
        self._keypoints = None if target.keypoints is None else target.keypoints.copy()
        # Counted only for the rows that a paste touches.
        self._areas_now: dict[int, int] = {}
        self._full_areas: dict[int, float] = {}
        self._changed: set[int] = set()
        self._pasted: list[CutOut] = []
        self._pasted_boxes: list[tuple[int, int, int, int]] = []

    @property
    def num_pasted(self) -> int:
        """How many objects were pasted."""
        return len(self._pasted)

    def paste(self, donor: CutOut, /, *, left: int, top: int) -> bool:
        """Paste an object with its corner at this column and row, which may lie outside; or leave all as it is.

        Returns:
            False where it, or an object that it would cover, would stay visible by less than `min_visible`.
        """
        image_height, image_width = self._edited.shape
        height, width = donor.mask.shape
        rows = slice(max(top, 0), min(top + height, image_height))
        columns = slice(max(left, 0), min(left + width, image_width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return False
        part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        mask = donor.mask[part]
        visible, full = cv2.countNonZero(mask.view(np.uint8)), donor.area / donor.share
        if visible == 0 or self._is_too_little(visible, full):
            return False
        losses = self._find_losses(mask, rows, columns)
        if losses is None:
            return False

        for row, covered in losses.items():
            window = self._masks[row, rows, columns]
            np.logical_xor(window, covered, out=window)
            self._areas_now[row] -= cv2.countNonZero(covered.view(np.uint8))
            self._changed.add(row)
        new_row = len(self._target) + len(self._pasted)
        self._masks[new_row, rows, columns] = mask
        self._areas_now[new_row], self._full_areas[new_row] = visible, full
        self._changed.add(new_row)
        cv2.copyTo(donor.image[part], mask.view(np.uint8), self._image[rows, columns])
        np.logical_or(self._edited[rows, columns], mask, out=self._edited[rows, columns])
        for name, values in self._maps.items():
            values[rows, columns][mask] = donor.maps[name][part][mask]
        self._paste_keypoints(donor, mask, rows, columns, left=left, top=top)
        self._pasted.append(donor)
        self._pasted_boxes.append((columns.start, rows.start, columns.stop, rows.stop))
        return True

    def finish(self) -> Sample:
        """The pasted picture, with labels of what is visible."""
        target, count = self._target, len(self._target)
        class_ids = np.array([donor.class_id for donor in self._pasted], np.int64)
        boxes = np.concatenate([target.boxes, np.zeros((self.num_pasted, 4), np.float32)])
        shares = np.array([read_share(target, row) for row in range(count)] + [1.0] * self.num_pasted, np.float32)
        boxes[count:] = self._pasted_boxes
        for row in self._changed:
            boxes[row] = find_tight_box(self._masks[row], near=boxes[row])
            shares[row] = self._areas_now[row] / self._full_areas[row]
        crowd = np.zeros(count, np.bool_) if target.crowd is None else target.crowd
        made = Instances(
            class_ids=np.concatenate([target.class_ids, class_ids]),
            boxes=boxes,
            masks=self._masks[: count + self.num_pasted],
            keypoints=self._keypoints,
            crowd=np.concatenate([crowd, np.zeros(self.num_pasted, np.bool_)]),
            attributes=self._join_attributes(shares),
        )
        gone = [row for row in self._changed if self._areas_now[row] == 0]
        if gone:
            made = made.select(np.delete(np.arange(len(made)), gone))
        drawn = tuple(donor.name for donor in self._pasted)
        return self._source.edit(image=self._image, target=made, edited=self._edited, drawn=drawn, maps=self._maps)

    def _is_too_little(self, visible: int, full: float) -> bool:
        return visible < self._min_visible * full - 1e-6

    def _find_losses(self, mask: np.ndarray, rows: slice, columns: slice) -> dict[int, np.ndarray] | None:
        """What each instance would lose, (h, w) bool by row; None where one would lose too much."""
        num_rows = len(self._target) + len(self._pasted)
        covered = self._masks[:num_rows, rows, columns] & mask
        touched = np.flatnonzero(covered.reshape(num_rows, mask.size).any(axis=1)).tolist()
        for row in touched:
            self._measure(row)
            left_over = self._areas_now[row] - cv2.countNonZero(covered[row].view(np.uint8))
            if self._is_too_little(left_over, self._full_areas[row]):
                return None
        if self._covers_box_without_mask(mask, rows, columns, set(touched)):
            return None
        return {row: covered[row] for row in touched}

    def _measure(self, row: int) -> None:
        if row not in self._areas_now:
            area = cv2.countNonZero(self._masks[row].view(np.uint8))
            self._areas_now[row], self._full_areas[row] = area, area / read_share(self._target, row)

    def _covers_box_without_mask(self, mask: np.ndarray, rows: slice, columns: slice, touched: set[int]) -> bool:
        """Whether an instance that has a box and not one mask pixel would be covered: its label could not follow."""
        boxes = self._target.boxes
        near = (boxes[:, 0] < columns.stop) & (boxes[:, 2] > columns.start)
        near &= (boxes[:, 1] < rows.stop) & (boxes[:, 3] > rows.start)
        for row in np.flatnonzero(near).tolist():
            if row in touched:
                continue
            self._measure(row)
            if self._full_areas[row] == 0:
                x1, y1 = np.floor(boxes[row, :2]).astype(int) - (columns.start, rows.start)
                x2, y2 = np.ceil(boxes[row, 2:]).astype(int) - (columns.start, rows.start)
                if mask[max(y1, 0) : y2, max(x1, 0) : x2].any():
                    return True
        return False

    def _paste_keypoints(
        self, donor: CutOut, mask: np.ndarray, rows: slice, columns: slice, *, left: int, top: int
    ) -> None:
        """Hide the keypoints under the paste, and add a row for the donor's own."""
        existing = self._keypoints
        if existing is None and not donor.has_keypoints:
            return
        points = donor.keypoints if donor.keypoints is not None else np.zeros((0, 3), np.float32)
        if existing is None:
            existing = np.zeros((len(self._target) + len(self._pasted), len(points), 3), np.float32)
        hide_keypoints(existing, mask, left=columns.start, top=rows.start)
        own = np.zeros((1, existing.shape[1], 3), np.float32)
        if len(points) == existing.shape[1]:
            own[0] = points + np.array([left, top, 0], np.float32)
            height, width = self._edited.shape
            inside = (own[..., 0] >= 0) & (own[..., 0] < width) & (own[..., 1] >= 0) & (own[..., 1] < height)
            own[~inside | (own[..., 2] == 0)] = 0
        self._keypoints = np.concatenate([existing, own])

    def _join_attributes(self, shares: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of source and donors, with `generated` and `visible` unless these mean other things."""
        target, rows = self._target, np.arange(len(shares))
        columns = join_columns([(len(target), target.attributes), *((1, donor.attributes) for donor in self._pasted)])
        generated = columns.setdefault("generated", np.zeros(len(rows), np.bool_))
        if generated.dtype == np.bool_ and generated.ndim == 1:
            columns["generated"] = generated | (rows >= len(target))
        visible = columns.setdefault("visible", shares)
        if visible.dtype == np.float32 and visible.ndim == 1:
            stated = (rows < len(target)) & ~np.isin(rows, list(self._changed)) & ("visible" in target.attributes)
            columns["visible"] = np.where(stated, visible, shares)
        return columns
