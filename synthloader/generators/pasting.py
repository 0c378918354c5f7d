"""An image that objects are pasted into, with its labels kept true paste by paste."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthloader.errors import LabelContractError
from synthloader.generators.cutouts import Cutout, find_tight_box
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["Scene"]

_OWN_COLUMNS = ("generated", "visible")


class Scene:
    """A copy of a sample that grows by pasted objects.

    Args:
        source: The sample that is pasted onto; it is not modified.
        target: Its instances, with masks unless there are none.
        min_visible: Least share of its own area that every object stays visible by.
    """

    def __init__(self, source: Sample, target: Instances, *, min_visible: float) -> None:
        self.size_hw = source.size_hw
        self._source = source
        self._target = target
        self._min_visible = min_visible
        self._image = source.image.copy()
        self._edited = np.zeros(self.size_hw, np.bool_)
        self._masks: list[np.ndarray] = [] if target.masks is None else list(target.masks)
        self._boxes: list[Any] = list(target.boxes)
        self._areas = [int(np.count_nonzero(mask)) for mask in self._masks]
        shares = _read_shares(source, target)
        self._whole_areas = [area / share for area, share in zip(self._areas, shares, strict=True)]
        self._changed: set[int] = set()
        self._keypoints = None if target.keypoints is None else target.keypoints.copy()
        self._maps = {name: values.copy() for name, values in source.maps.items()}
        self._pasted: list[tuple[Cutout, int, int]] = []

    def paste(self, cutout: Cutout, /, *, top: int, left: int) -> bool:
        """Paste an object with its upper left corner here; False, with nothing done, where it would hide another."""
        height, width = cutout.mask.shape
        window = np.s_[top : top + height, left : left + width]
        covered = self._count_covered(cutout.mask, window)
        for row, count in covered.items():
            if self._areas[row] - count < self._min_visible * self._whole_areas[row]:
                return False
        for row, count in covered.items():
            self._uncover(row, count, cutout.mask, window)
        np.copyto(self._image[window], cutout.image, where=cutout.mask[..., None])
        self._edited[window] |= cutout.mask
        self._hide_keypoints(cutout.mask, top, left)
        for name, values in self._maps.items():
            _paste_map(values[window], cutout.maps.get(name), cutout.mask)
        self._append(cutout, top, left)
        return True

    def finish(self, drawn: tuple[str, ...], /) -> Sample:
        """The sample as it is now, with everything pasted named in its origin."""
        return self._source.edit(
            image=self._image, target=self._make_target(), edited=self._edited, drawn=drawn, maps=self._maps
        )

    def _count_covered(self, mask: np.ndarray, window: tuple[slice, slice]) -> dict[int, int]:
        """Pixels that each object would lose; objects that lose none are left out."""
        rows, columns = window
        covered = {}
        for row, (x1, y1, x2, y2) in enumerate(self._boxes):
            if x1 < columns.stop and x2 > columns.start and y1 < rows.stop and y2 > rows.start:
                count = int(np.count_nonzero(self._masks[row][window] & mask))
                if count:
                    covered[row] = count
        return covered

    def _uncover(self, row: int, count: int, mask: np.ndarray, window: tuple[slice, slice]) -> None:
        if row not in self._changed:
            self._masks[row] = self._masks[row].copy()
            self._changed.add(row)
        self._masks[row][window] &= ~mask
        self._areas[row] -= count
        self._boxes[row] = np.array(find_tight_box(self._masks[row]), np.float32)

    def _hide_keypoints(self, mask: np.ndarray, top: int, left: int) -> None:
        """Visible keypoints under the paste become hidden, those of earlier pastes too."""
        for points in (
            *(() if self._keypoints is None else self._keypoints),
            *(c.keypoints for c, _, _ in self._pasted),
        ):
            if points is None:
                continue
            place = np.floor(points[:, :2]).astype(np.int64) - (left, top)
            inside = (place >= 0).all(axis=1) & (place < mask.shape[::-1]).all(axis=1)
            under = np.zeros(len(points), np.bool_)
            under[inside] = mask[place[inside, 1], place[inside, 0]]
            points[under & (points[:, 2] == 2), 2] = 1

    def _append(self, cutout: Cutout, top: int, left: int) -> None:
        height, width = cutout.mask.shape
        mask = np.zeros(self.size_hw, np.bool_)
        mask[top : top + height, left : left + width] = cutout.mask
        self._masks.append(mask)
        self._changed.add(len(self._masks) - 1)
        self._boxes.append(np.array([left, top, left + width, top + height], np.float32))
        self._areas.append(int(np.count_nonzero(cutout.mask)))
        self._whole_areas.append(float(self._areas[-1]))
        points = cutout.keypoints
        if points is not None:
            points[:, :2] += (left, top)
            outside = (points[:, :2] < 0).any(axis=1) | (points[:, :2] >= self.size_hw[::-1]).any(axis=1)
            points[outside] = 0
        self._pasted.append((cutout, top, left))

    def _make_target(self) -> Instances:
        target, count = self._target, len(self._pasted)
        made = Instances(
            class_ids=np.concatenate(
                [target.class_ids, np.array([cutout.class_id for cutout, _, _ in self._pasted], np.int64)]
            ),
            boxes=np.stack(self._boxes).astype(np.float32),
            masks=np.stack(self._masks),
            keypoints=self._join_keypoints(),
            crowd=np.concatenate(
                [np.zeros(len(target), np.bool_) if target.crowd is None else target.crowd, np.zeros(count, np.bool_)]
            ),
            attributes=self._join_attributes(),
        )
        gone = np.array([area == 0 and row in self._changed for row, area in enumerate(self._areas)])
        return made.select(np.flatnonzero(~gone)) if gone.any() else made

    def _join_keypoints(self) -> np.ndarray | None:
        """Rows of the source and of the pasted; an object without keypoints has none that are labelled."""
        donors = [cutout.keypoints for cutout, _, _ in self._pasted]
        if self._keypoints is None:
            if len(self._target) or all(points is None for points in donors):
                return None
            num_points = next(len(points) for points in donors if points is not None)
            own = np.zeros((0, num_points, 3), np.float32)
        else:
            own, num_points = self._keypoints, self._keypoints.shape[1]
        for points in donors:
            if points is not None and len(points) != num_points:
                raise LabelContractError(
                    f"a donor has {len(points)} keypoints and the source {num_points}. Paste between datasets with the "
                    f"same keypoints, or leave them out of both."
                )
        rows = [np.zeros((num_points, 3), np.float32) if points is None else points for points in donors]
        return np.concatenate([own, np.stack(rows)])

    def _join_attributes(self) -> dict[str, np.ndarray]:
        """Columns of the source and of the donors, and `generated` and `visible` where the dataset has none of its own."""
        own, count = self._target.attributes, len(self._target)
        parts = [cutout.attributes for cutout, _, _ in self._pasted]
        columns = {}
        for name in dict.fromkeys([*own, *(name for part in parts for name in part)]):
            if name in _OWN_COLUMNS and self._is_our_column(name):
                continue
            like = own[name] if name in own else next(part[name] for part in parts if name in part)
            pieces = [own.get(name, _fill(like, count)), *(part.get(name, _fill(like, 1)) for part in parts)]
            columns[name] = _concatenate(pieces)
        if self._is_our_column("generated"):
            before = own.get("generated", np.zeros(count, np.bool_))
            columns["generated"] = np.concatenate([before, np.ones(len(parts), np.bool_)])
        if self._is_our_column("visible"):
            shares = [
                area / whole if whole else 1.0 for area, whole in zip(self._areas, self._whole_areas, strict=True)
            ]
            columns["visible"] = np.array(shares, np.float32)
        return columns

    def _is_our_column(self, name: str) -> bool:
        return self._source.origin is not None or name not in self._target.attributes


def _read_shares(source: Sample, target: Instances) -> np.ndarray:
    """(N,) the share by which each object is visible already, when an earlier paste wrote it down."""
    shares = target.attributes.get("visible") if source.origin is not None else None
    if shares is None or shares.dtype != np.float32 or shares.ndim != 1:
        return np.ones(0 if target.masks is None else len(target), np.float32)
    return np.where(shares > 0, shares, np.float32(1))


def _paste_map(window: np.ndarray, values: np.ndarray | None, mask: np.ndarray) -> None:
    if values is not None and values.dtype == window.dtype and values.shape == window.shape:
        window[mask] = values[mask]
    else:
        window[mask] = np.nan if window.dtype.kind == "f" else 0


def _fill(like: np.ndarray, count: int) -> np.ndarray:
    """Rows that say "not known": NaN, 0, False or an empty string."""
    made = np.zeros((count, *like.shape[1:]), like.dtype)
    if like.dtype.kind == "f":
        made[...] = np.nan
    return made


def _concatenate(pieces: list[np.ndarray]) -> np.ndarray:
    if len({piece.dtype.kind in "US" for piece in pieces}) > 1:
        pieces = [piece.astype(np.str_) for piece in pieces]
    return np.concatenate(pieces)
