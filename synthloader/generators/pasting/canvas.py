"""`Canvas`: a picture that objects are pasted onto, and what stays visible of each object."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from synthloader.generators.pasting.blending import MARGINS, PADDING, blend_into
from synthloader.generators.pasting.cut_out import CutOut, find_filled_boxes, find_tight_box, hide_keypoints, read_share
from synthloader.polygons import is_one_polygon
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["Canvas", "Layer"]

BOX_FILL = 0.5
"""Share of a box that its object is taken to fill at least, where no mask says which pixels are its own: an ellipse
fills 0.79, a person with arms at the sides about 0.6."""


@dataclass(eq=False, slots=True)
class Layer:
    """A pasted object: what is visible of it, in a window of the image.

    Args:
        donor: The object.
        rows: Rows of the window.
        columns: Columns of the window.
        mask: (h, w) bool, its visible pixels; later pastes take theirs away.
        full: Pixels of the whole object.
        area: Visible pixels.
        keypoints: (K, 3) float32 in the image's pixels.
    """

    donor: CutOut
    rows: slice
    columns: slice
    mask: np.ndarray
    full: float
    area: int
    keypoints: np.ndarray | None

    def find_box(self) -> tuple[int, int, int, int]:
        """x1 y1 x2 y2 of the visible pixels in the image."""
        height, width = self.mask.shape
        left, top, right, bottom = find_tight_box(self.mask, near=(0, 0, width, height), area=self.area)
        x, y = self.columns.start, self.rows.start
        return left + x, top + y, right + x, bottom + y


class Canvas:
    """A copy of a picture to paste onto.

    Objects of the picture are followed by their masks. Where it has boxes only, or a mask is a rotated box, filled,
    every pixel of a box may be the object's: a paste may then cover so much of a box that `min_visible` of the object
    stays even if all that is covered was the object, which fills `BOX_FILL` of its box at least.

    Args:
        base: The picture with its labels; not modified.
        capacity: How many objects will be pasted at most.
        min_visible: Smallest share of an object's own pixels that may stay visible.
        blend: How pasted pixels are blended (see `blending`).
        in_one_piece: Refuse what would leave a mask that is not a single polygon.
        apart: Refuse what would cover any other object.
    """

    def __init__(
        self,
        base: Sample,
        /,
        *,
        capacity: int,
        min_visible: float,
        blend: str = "hard",
        in_one_piece: bool = False,
        apart: bool = False,
    ) -> None:
        self.image = base.image.copy()
        self.edited = np.zeros(base.size_hw, np.bool_)
        self.maps = {name: values.copy() for name, values in base.maps.items()}
        self.layers: list[Layer] = []
        self.target = base.target if isinstance(base.target, Instances) else None
        self.keypoints = None if self.target is None or self.target.keypoints is None else self.target.keypoints.copy()
        self.areas: dict[int, int] = {}
        """Visible pixels of the rows that a paste came near: of the mask, or of the box where there are no masks."""
        self.full_areas: dict[int, float] = {}
        self.changed: set[int] = set()
        self._capacity = capacity
        self._min_visible = min_visible
        self._blend = blend
        self._in_one_piece = in_one_piece
        self._apart = apart
        self._masks = None if self.target is None else self.target.masks
        self._owns_masks = False
        self._has_boxes_only = self.target is not None and self._masks is None and len(self.target) > 0
        self._covered = np.zeros(base.size_hw, np.bool_) if self._has_boxes_only else None
        self._is_filled_box = () if self.target is None else tuple(find_filled_boxes(self.target).tolist())
        self._corners: list[list[float]] = [] if self.target is None else self.target.boxes.tolist()

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.edited.shape[0], self.edited.shape[1]

    def paste(self, donor: CutOut, /, *, left: int, top: int) -> bool:
        """Paste an object with its corner at this column and row, which may lie outside; or leave all as it is.

        Returns:
            False where it, or an object that it would cover, would stay visible by less than `min_visible`, or where
            the canvas refuses what would become of a mask.
        """
        image_height, image_width = self.edited.shape
        height, width = donor.mask.shape
        rows = slice(max(top, 0), min(top + height, image_height))
        columns = slice(max(left, 0), min(left + width, image_width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return False
        part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        mask = donor.mask[part]
        visible = donor.area if mask.shape == donor.mask.shape else _count(mask)
        full = donor.area / donor.share
        if visible == 0 or self._is_too_little(visible, full):
            return False
        under = self._look_under(mask, rows, columns)
        if under is None or (self._in_one_piece and not self._stays_in_one_piece(mask, rows, columns, under)):
            return False

        row_losses, layer_losses = under
        self._take_from_rows(row_losses, mask, rows, columns)
        for layer, window, lost, count in layer_losses:
            layer.mask[window] ^= lost
            layer.area -= count
        self._put_pixels(donor, part, mask, rows, columns)
        self._put_keypoints(donor, mask, rows, columns, left=left, top=top, visible=visible, full=full)
        return True

    def copy_masks(self) -> np.ndarray:
        """(n + k, H, W) bool, the visible masks of the picture's own objects, then of the pasted ones in order."""
        count = 0 if self.target is None else len(self.target)
        masks = self._own_masks()
        for at, layer in enumerate(self.layers):
            masks[count + at, layer.rows, layer.columns] = layer.mask
        return masks[: count + len(self.layers)]

    def shrink_boxes(self) -> np.ndarray:
        """(n, 4) float32, boxes of a picture without masks, less the rows and columns that are wholly covered."""
        if self.target is None or self._covered is None:
            return np.zeros((0, 4), np.float32)
        boxes: np.ndarray = self.target.boxes.copy()
        for row in self.changed:
            x1, y1, x2, y2 = _round_out(self._corners[row])
            left, top, right, bottom = find_tight_box(~self._covered[y1:y2, x1:x2], near=(0, 0, x2 - x1, y2 - y1))
            if left > 0:
                boxes[row, 0] = x1 + left
            if top > 0:
                boxes[row, 1] = y1 + top
            if right < x2 - x1:
                boxes[row, 2] = x1 + right
            if bottom < y2 - y1:
                boxes[row, 3] = y1 + bottom
        return boxes

    def _is_too_little(self, visible: int, full: float) -> bool:
        return visible < self._min_visible * full - 1e-6

    def _look_under(self, mask: np.ndarray, rows: slice, columns: slice) -> _Under | None:
        """What each object would lose; None where one would lose too much."""
        layer_losses = []
        for layer in self.layers:
            found = _intersect(layer, rows, columns)
            if found is None:
                continue
            window, part = found
            lost = layer.mask[window] & mask[part]
            count = _count(lost)
            if count:
                if self._apart or self._is_too_little(layer.area - count, layer.full):
                    return None
                layer_losses.append((layer, window, lost, count))
        if self.target is None:
            return {}, layer_losses
        find = self._find_box_losses if self._has_boxes_only else self._find_mask_losses
        row_losses = find(mask, rows, columns)
        return None if row_losses is None else (row_losses, layer_losses)

    def _find_mask_losses(self, mask: np.ndarray, rows: slice, columns: slice) -> _Losses | None:
        """(h, w) bool of what each row would lose, and how many pixels that are."""
        if self._masks is None or self.target is None or not len(self.target):
            return {}
        near = self._masks[: len(self.target), rows, columns]
        shown = np.flatnonzero(near.any(axis=(1, 2))).tolist()
        losses = {}
        for row in shown:
            lost = near[row] & mask
            count = _count(lost)
            if not count:
                continue
            self._measure(row)
            if self._apart or self.areas[row] - count < self._find_least(row):
                return None
            losses[row] = lost, count
        return None if self._covers_box_without_mask(mask, rows, columns, shown) else losses

    def _find_box_losses(self, mask: np.ndarray, rows: slice, columns: slice) -> _Losses | None:
        """The same for boxes: what is newly covered of each."""
        if self._covered is None:
            return {}
        new = mask & ~self._covered[rows, columns]
        losses = {}
        for row, inside in self._find_near(rows, columns):
            lost = np.zeros_like(new)
            lost[inside] = new[inside]
            count = _count(lost)
            if not count:
                continue
            self._measure(row)
            if self._apart or self.areas[row] - count < self._find_least(row):
                return None
            losses[row] = lost, count
        return losses

    def _find_least(self, row: int) -> float:
        """Fewest pixels of a mask, or of a box without one, that must stay uncovered."""
        full = self.full_areas[row]
        if self._has_boxes_only or self._is_filled_box[row]:
            return full - BOX_FILL * (1 - self._min_visible) * full - 1e-6
        return self._min_visible * full - 1e-6

    def _measure(self, row: int) -> None:
        if row in self.areas or self.target is None:
            return
        if self._masks is not None:
            area = _count(self._masks[row])
        else:
            x1, y1, x2, y2 = _round_out(self._corners[row])
            area = (x2 - x1) * (y2 - y1)
        self.areas[row], self.full_areas[row] = area, area / read_share(self.target, row)

    def _find_near(self, rows: slice, columns: slice) -> list[tuple[int, tuple[slice, slice]]]:
        """Rows whose boxes meet a window, and where in the window they lie."""
        found = []
        left, top, right, bottom = columns.start, rows.start, columns.stop, rows.stop
        for row, box in enumerate(self._corners):
            if box[0] < right and box[2] > left and box[1] < bottom and box[3] > top:
                x1, y1, x2, y2 = _round_out(box)
                inside = (
                    slice(max(y1, top) - top, min(y2, bottom) - top),
                    slice(max(x1, left) - left, min(x2, right) - left),
                )
                found.append((row, inside))
        return found

    def _covers_box_without_mask(self, mask: np.ndarray, rows: slice, columns: slice, shown: list[int]) -> bool:
        """Whether an instance that has a box and not one mask pixel would be covered: its label could not follow."""
        for row, inside in self._find_near(rows, columns):
            if row not in shown and mask[inside].any():
                self._measure(row)
                if self.full_areas[row] == 0:
                    return True
        return False

    def _stays_in_one_piece(self, mask: np.ndarray, rows: slice, columns: slice, under: _Under) -> bool:
        row_losses, layer_losses = under
        left_over = [mask]
        if self._masks is not None:
            for row, (lost, _) in row_losses.items():
                kept = self._masks[row].copy()
                kept[rows, columns] &= ~lost
                left_over.append(kept)
        for layer, window, lost, _ in layer_losses:
            kept = layer.mask.copy()
            kept[window] &= ~lost
            left_over.append(kept)
        return all(is_one_polygon(each) for each in left_over if each.any())

    def _take_from_rows(self, losses: _Losses, mask: np.ndarray, rows: slice, columns: slice) -> None:
        if self._covered is not None:
            self._covered[rows, columns] |= mask
        masks = self._own_masks() if losses and self._covered is None else None
        for row, (lost, count) in losses.items():
            if masks is not None:
                window = masks[row, rows, columns]
                np.logical_xor(window, lost, out=window)
            self.areas[row] -= count
            self.changed.add(row)

    def _own_masks(self) -> np.ndarray:
        """The masks as an array of our own, with empty ones for the pasted objects behind them."""
        if self._masks is None or not self._owns_masks:
            count = 0 if self.target is None else len(self.target)
            masks = np.empty((count + self._capacity, *self.edited.shape), np.bool_)
            masks[count:] = False
            if self._masks is not None:
                masks[:count] = self._masks
            self._masks, self._owns_masks = masks, True
        return self._masks

    def _put_pixels(
        self, donor: CutOut, part: tuple[slice, slice], mask: np.ndarray, rows: slice, columns: slice
    ) -> None:
        padding = PADDING[self._blend]
        if self._blend == "hard":
            cv2.copyTo(donor.image[part], mask.view(np.uint8), self.image[rows, columns])
            self.edited[rows, columns] |= mask
        else:
            height, width = self.edited.shape
            wide_rows = slice(max(rows.start - padding, 0), min(rows.stop + padding, height))
            wide_columns = slice(max(columns.start - padding, 0), min(columns.stop + padding, width))
            inner = (
                slice(rows.start - wide_rows.start, rows.stop - wide_rows.start),
                slice(columns.start - wide_columns.start, columns.stop - wide_columns.start),
            )
            picture = self.image[wide_rows, wide_columns]
            before = picture.copy() if MARGINS[self._blend] else None
            pixels, wide_mask = np.zeros_like(picture), np.zeros(picture.shape[:2], np.bool_)
            pixels[inner], wide_mask[inner] = donor.image[part], mask
            blend_into(picture, pixels, wide_mask, how=self._blend)
            self.edited[rows, columns] |= mask
            if before is not None:
                self.edited[wide_rows, wide_columns] |= (picture != before).any(axis=2)
        for name, values in self.maps.items():
            values[rows, columns][mask] = donor.maps[name][part][mask]

    def _put_keypoints(
        self,
        donor: CutOut,
        mask: np.ndarray,
        rows: slice,
        columns: slice,
        *,
        left: int,
        top: int,
        visible: int,
        full: float,
    ) -> None:
        """Hide the keypoints under the paste, and add the layer with the donor's own."""
        for points in (self.keypoints, *(layer.keypoints for layer in self.layers)):
            if points is not None:
                hide_keypoints(points, mask, left=columns.start, top=rows.start)
        own = donor.keypoints
        if own is not None:
            own = own + np.array([left, top, 0], np.float32)
            height, width = self.edited.shape
            inside = (own[:, 0] >= 0) & (own[:, 0] < width) & (own[:, 1] >= 0) & (own[:, 1] < height)
            own[~inside | (own[:, 2] == 0)] = 0
            # Where no pixel of the object was pasted, as beside a mask that was found in a box, none of it is seen.
            shown = np.zeros(len(own), np.bool_)
            at = np.floor(own[:, :2]).astype(np.intp) - (columns.start, rows.start)
            near = (at >= 0).all(axis=1) & (at < mask.shape[::-1]).all(axis=1)
            shown[near] = mask[at[near, 1], at[near, 0]]
            own[~shown & (own[:, 2] == 2), 2] = 1
        self.layers.append(Layer(donor, rows, columns, mask.copy(), full, visible, own))


_Losses = dict[int, tuple[np.ndarray, int]]

_Under = tuple[_Losses, list[tuple[Layer, tuple[slice, slice], np.ndarray, int]]]


def _count(mask: np.ndarray) -> int:
    return cv2.countNonZero(mask.view(np.uint8))


def _intersect(layer: Layer, rows: slice, columns: slice) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Where a layer and a window meet, in the coordinates of each."""
    top, bottom = max(layer.rows.start, rows.start), min(layer.rows.stop, rows.stop)
    left, right = max(layer.columns.start, columns.start), min(layer.columns.stop, columns.stop)
    if top >= bottom or left >= right:
        return None
    own = (
        slice(top - layer.rows.start, bottom - layer.rows.start),
        slice(left - layer.columns.start, right - layer.columns.start),
    )
    return own, (slice(top - rows.start, bottom - rows.start), slice(left - columns.start, right - columns.start))


def _round_out(box: list[float]) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of the pixels that a box touches."""
    return math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
