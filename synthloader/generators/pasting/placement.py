"""Where pasted objects go and how large they become: anywhere, or as the objects of a data set lie in their images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["PLACEMENTS", "MeasuredPlaces", "Place", "draw_corner", "measure_places"]

PLACEMENTS = ("free", "non_overlapping", "measured")
"""Anywhere; anywhere but on other objects; as large and as high as objects of the class are in the pool."""

AREA_JITTER = 0.1
"""Standard deviation of the logarithm of the area around a measured one, so that no size is repeated exactly."""

BOTTOM_JITTER = 0.02
"""Standard deviation of the bottom edge around a measured one, as a share of the image's height."""

MAX_PICTURES = 256
"""Pictures of the pool that are measured, evenly spread over it."""

ListBoxes = Callable[[int], "tuple[np.ndarray, np.ndarray, tuple[int, int]]"]


@dataclass(frozen=True)
class Place:
    """What is asked of a pasted object's box.

    Args:
        area_share: Its area as a share of the image's; None where the object's own size and `scale_range` decide.
        bottom_range: Its bottom edge as a share of the image's height, drawn from this interval; None for its centre
            anywhere in the image.
    """

    area_share: float | None = None
    bottom_range: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class MeasuredPlaces:
    """Areas and bottom edges of the boxes of a data set, by class.

    Size and height in the image belong together (what is farther away is smaller and higher up), so that both are taken
    from one and the same real object.

    Args:
        rows: Class id to (N, 2) float64: area of the box as a share of the image's, bottom edge as a share of its
            height.
    """

    rows: Mapping[int, np.ndarray]
    _all: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = list(self.rows.values())
        object.__setattr__(self, "_all", np.concatenate(found) if found else np.zeros((0, 2)))

    def __len__(self) -> int:
        """Number of measured objects."""
        return len(self._all)

    def draw(self, class_id: int, /, *, rng: np.random.Generator) -> Place:
        """A place like that of a real object of the class; of any class where none of it was measured."""
        rows = self.rows.get(class_id, self._all)
        area, bottom = rows[int(rng.integers(len(rows)))].tolist()
        area_jitter, bottom_jitter = rng.standard_normal(2).tolist()
        area = min(area * float(np.exp(AREA_JITTER * area_jitter)), 1.0)
        # Boxes that end at the image's edge go on doing so: they are cut off there.
        bottom = bottom if bottom >= 1 else min(max(bottom + BOTTOM_JITTER * bottom_jitter, 0.0), 1.0)
        return Place(area, (bottom, bottom))


def measure_places(size: int, list_boxes: ListBoxes, /) -> MeasuredPlaces:
    """Measure the boxes of a pool.

    Args:
        size: Number of pictures, of which `MAX_PICTURES` are looked at.
        list_boxes: Gives class ids (N,), boxes (N, 4) xyxy in pixels and the image's (height, width) of one of them.
    """
    found: dict[int, list[tuple[float, float]]] = {}
    for index in _spread(size):
        class_ids, boxes, (height, width) = list_boxes(index)
        for class_id, (x1, y1, x2, y2) in zip(class_ids.tolist(), boxes.tolist(), strict=True):
            area = (x2 - x1) * (y2 - y1) / (height * width)
            if area > 0:
                found.setdefault(class_id, []).append((area, y2 / height))
    return MeasuredPlaces({class_id: np.array(rows) for class_id, rows in sorted(found.items())})


def draw_corner(
    size_hw: tuple[int, int], image_hw: tuple[int, int], place: Place, /, *, rng: np.random.Generator
) -> tuple[int, int]:
    """Column and row of the left upper corner of an object's box, which may lie outside of the image.

    Args:
        size_hw: Height and width of the box.
        image_hw: Those of the image.
        place: What is asked.
        rng: Draws the centre's column, and the centre's row or the bottom edge.
    """
    height, width = size_hw
    image_height, image_width = image_hw
    if place.bottom_range is None:
        centre_y, centre_x = int(rng.integers(image_height)), int(rng.integers(image_width))
        return centre_x - width // 2, centre_y - height // 2
    low, high = place.bottom_range
    bottom = round(image_height * (low + (high - low) * rng.random()))
    centre_x = int(rng.integers(image_width))
    return centre_x - width // 2, bottom - height


def _spread(size: int) -> Iterable[int]:
    count = min(size, MAX_PICTURES)
    return (at * size // count for at in range(count))
