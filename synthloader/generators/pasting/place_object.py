"""`place_object`: an object scaled, mirrored, turned, bent, and pasted at the first place that takes it."""

from __future__ import annotations

import math

import numpy as np

from synthloader.generators.pasting.canvas import Canvas
from synthloader.generators.pasting.cut_out import CutOut
from synthloader.generators.pasting.options import FACTORS, PasteOptions
from synthloader.generators.pasting.placement import MeasuredPlaces, Place, draw_corner
from synthloader.generators.pasting.warping import bend, rotate
from synthloader.polygons import is_one_polygon

__all__ = ["place_object"]


def place_object(
    donor: CutOut,
    canvas: Canvas,
    options: PasteOptions,
    /,
    *,
    places: MeasuredPlaces | None,
    names_image: bool,
    in_one_piece: bool,
    rng: np.random.Generator,
) -> None:
    """Paste an object, or leave the canvas as it is where no place that was tried takes it.

    Args:
        donor: The object.
        canvas: What it is pasted onto.
        options: How it is shaped, and how often a place is tried.
        places: Sizes and places of real objects, where these are asked for.
        names_image: Whether the image's one class is the object's.
        in_one_piece: Whether its mask must be a single polygon.
        rng: Draws shape and places.
    """
    place = Place(bottom_range=options.bottom_range)
    if places is not None:
        place = places.draw(donor.class_id, rng=rng)
    height, width = canvas.size_hw
    factor = _draw_factor(donor, canvas.size_hw, place, options, names_image, rng)
    flipped = rng.random() < 0.5
    degrees = float(rng.uniform(*options.rotation_range))
    if donor.area * factor**2 * options.min_visible > 2 * height * width:
        return  # too large for any place; the factor 2 leaves room for rounding
    donor = donor.resize(factor)
    if options.flip and flipped and not donor.has_keypoints:
        donor = donor.flip()
    changed = rotate(donor, degrees)
    if changed is not None and options.elastic_range[1] > 0 and not donor.has_keypoints:
        changed = bend(changed, float(rng.uniform(*options.elastic_range)), rng=rng)
    if changed is None or (in_one_piece and not is_one_polygon(changed.mask)):
        return
    size_hw = changed.mask.shape[0], changed.mask.shape[1]
    for _ in range(options.max_tries):
        left, top = draw_corner(size_hw, canvas.size_hw, place, rng=rng)
        if canvas.paste(changed, left=left, top=top):
            return


def _draw_factor(
    donor: CutOut,
    image_hw: tuple[int, int],
    place: Place,
    options: PasteOptions,
    names_image: bool,
    rng: np.random.Generator,
) -> float:
    height, width = donor.mask.shape
    if place.area_share is not None:
        factor = math.sqrt(place.area_share * image_hw[0] * image_hw[1] / (height * width))
    else:
        low, high = options.find_scales(names_image=names_image)
        factor = math.exp(rng.uniform(math.log(low), math.log(high)))
        if options.is_share:
            factor *= min(image_hw) / max(height, width)
    return min(max(factor, FACTORS[0]), FACTORS[1])
