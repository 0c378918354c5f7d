"""A sample with its label drawn in: outlined masks, boxes, class names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from synthloader.generators.pasting.cut_out import MASK_IS_BOX
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

__all__ = ["Color", "draw_sample", "draw_text", "find_color", "measure_text"]

Color: TypeAlias = tuple[int, int, int]

PALETTE: tuple[Color, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (204, 121, 167),  # reddish purple
    (213, 94, 0),  # vermilion
    (0, 114, 178),  # blue
)
"""Seven colours that colour-blind readers tell apart. Source: Okabe and Ito 2008, "Color Universal Design"."""

MANY_LABELS = 12
"""Above this many, names are written smaller."""

_INSTANCE_OPACITY = 0.1
"""Of a mask with an outline and a box: a hint, under which the object keeps its own colours."""
_REGION_OPACITY = 0.2
"""Of a class of a semantic mask, which has no box."""


def draw_sample(
    sample: Sample, class_names: Mapping[int, str] | None = None, *, size_hw: tuple[int, int] | None = None
) -> np.ndarray:
    """The image with its label drawn in; lines and letters follow the size of the picture.

    Generated instances (the attribute `generated`) have a white rim around their boxes. Where names would lie
    on each other, some are left out: the colour says the class.

    Args:
        sample: Any sample; without a target it is the image alone.
        class_names: Class id to name; ids without a name are shown as numbers. The order of the ids gives the colours.
        size_hw: Height and width of the drawing in pixels; None for those of the image.

    Returns:
        (H, W, 3) uint8, RGB.

    Example:
        >>> sample = Sample(np.zeros((40, 60, 3), np.uint8), Instances(np.array([3]), np.array([[9, 9, 30, 30]], "f4")))
        >>> drawing = draw_sample(sample, {3: "cell"}, size_hw=(80, 120))
        >>> drawing.shape, bool(drawing.any())
        ((80, 120, 3), True)
    """
    names = {} if class_names is None else dict(class_names)
    canvas = _resize(sample.image, sample.size_hw if size_hw is None else size_hw)
    match sample.target:
        case Instances():
            return _draw_instances(canvas, sample, sample.target, names)
        case ClassLabel(class_id=class_id):
            text = _name(class_id, names)
            return draw_text(canvas, text, (0, 0), _letter_size(canvas), back=find_color(class_id, names))
        case SemanticMask():
            return _draw_semantic(canvas, sample.target, names)
        case _:
            return canvas


def find_color(class_id: int, class_names: Mapping[int, str], /) -> Color:
    """The colour of a class: by its place among the known ids, darker on each further round through the palette."""
    order = sorted({*class_names, class_id})
    turn, place = divmod(order.index(class_id) if class_names else class_id, len(PALETTE))
    share = 0.72 ** (turn % 4)
    red, green, blue = PALETTE[place]
    return round(red * share), round(green * share), round(blue * share)


def draw_text(
    canvas: np.ndarray,
    text: str,
    at_xy: tuple[int, int],
    size: int,
    *,
    color: Color | None = None,
    back: Color | None = None,
) -> np.ndarray:
    """A copy with a line of text.

    Args:
        canvas: (H, W, 3) uint8, RGB.
        text: One line.
        at_xy: Its left upper corner.
        size: Height of the letters in pixels, about.
        color: Of the letters; None for black or white, whichever is read better on `back`.
        back: Of the box behind it; None for none.
    """
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    pad = max(1, size // 5) if back is not None else 0
    if back is not None:
        width, height = measure_text(text, size)
        draw.rectangle((*at_xy, at_xy[0] + width + 2 * pad, at_xy[1] + height + 2 * pad), fill=back)
    ink = color if color is not None else _pick_ink(back or (255, 255, 255))
    draw.text((at_xy[0] + pad, at_xy[1] + pad), text, font=_load_font(size), fill=ink, anchor="la")
    return np.ascontiguousarray(picture)


def measure_text(text: str, size: int, /) -> tuple[int, int]:
    """Width and height in pixels of a line of text."""
    font = _load_font(size)
    left, _, right, _ = font.getbbox(text, anchor="la")
    _, _, _, bottom = font.getbbox("Ag", anchor="la")
    return round(right - left), round(bottom)


@lru_cache(maxsize=16)
def _load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    shrinks = size_hw[0] < image.shape[0]
    resized: np.ndarray = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return resized


def _letter_size(canvas: np.ndarray) -> int:
    return int(np.clip(min(canvas.shape[:2]) / 20, 11, 40))


def _draw_instances(canvas: np.ndarray, sample: Sample, target: Instances, names: dict[int, str]) -> np.ndarray:
    height, width = canvas.shape[:2]
    scale = np.array([width / sample.size_hw[1], height / sample.size_hw[0]] * 2)
    boxes = np.rint(target.boxes * scale).astype(int)
    colors = [find_color(int(class_id), names) for class_id in target.class_ids]
    thin = max(2, round(min(height, width) / 200))
    added = _find_generated(sample, target)
    order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable")
    is_rotated = MASK_IS_BOX in target.attributes and target.masks is not None and target.keypoints is not None
    if target.masks is not None:
        _draw_masks(canvas, target.masks[order], [colors[row] for row in order], thin)
    for row in order:
        left, top, right, bottom = (int(edge) for edge in boxes[row])
        right, bottom = min(right, width) - 1, min(bottom, height) - 1
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        if is_rotated:
            corners = np.rint(_find_rotated_box(target, row) * scale[:2]).astype(int)
        if added[row]:
            cv2.polylines(canvas, [corners], True, (255, 255, 255), 2 * thin + 1, cv2.LINE_AA)
        cv2.polylines(canvas, [corners], True, colors[row], thin, cv2.LINE_AA)
    if target.keypoints is not None and not is_rotated:
        _draw_keypoints(canvas, target.keypoints, colors, scale[:2], thin)
    labels = [_name(int(class_id), names) for class_id in target.class_ids]
    return _draw_labels(canvas, boxes[order], [labels[row] for row in order], [colors[row] for row in order])


def _find_rotated_box(target: Instances, row: int) -> np.ndarray:
    """(4, 2) corners in pixels: those of the label; where one is hidden, of the smallest box around the mask."""
    points: Any = target.keypoints
    masks: Any = target.masks
    rows, columns = np.nonzero(masks[row])
    if (points[row, :, 2] == 2).all() or not len(rows):
        corners: np.ndarray = points[row, :, :2]
        return corners
    low = np.stack([columns, rows], axis=1)
    squares = np.concatenate([np.add(low, step) for step in ((0, 0), (1, 0), (0, 1), (1, 1))])
    return cv2.boxPoints(cv2.minAreaRect(cv2.convexHull(squares.astype(np.float32))))


def _draw_masks(canvas: np.ndarray, masks: np.ndarray, colors: list[Color], thin: int) -> None:
    for visible, color in zip(masks, colors, strict=True):
        mask = cv2.resize(visible.view(np.uint8), canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        _blend(canvas, mask.astype(bool), color, _INSTANCE_OPACITY)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, color, max(1, thin // 2), cv2.LINE_AA)


def _find_generated(sample: Sample, target: Instances) -> np.ndarray:
    column = target.attributes.get("generated")
    if sample.origin is None or column is None or column.dtype != np.bool_ or column.ndim != 1:
        return np.zeros(len(target), np.bool_)
    return column


def _draw_keypoints(
    canvas: np.ndarray, keypoints: np.ndarray, colors: list[Color], scale_xy: np.ndarray, thin: int
) -> None:
    """Dots of the class's colour with a white rim; hidden points are white with a coloured rim."""
    radius = thin + 2
    for points, color in zip(keypoints, colors, strict=True):
        for x, y, visibility in points:
            if visibility > 0:
                at = (round(float(x * scale_xy[0])), round(float(y * scale_xy[1])))
                rim, fill = ((255, 255, 255), color) if visibility > 1 else (color, (255, 255, 255))
                cv2.circle(canvas, at, radius + 1, rim, -1, cv2.LINE_AA)
                cv2.circle(canvas, at, radius - 1, fill, -1, cv2.LINE_AA)


def _draw_labels(canvas: np.ndarray, boxes: np.ndarray, labels: list[str], colors: list[Color]) -> np.ndarray:
    """Each name at its box, on no other name, where it hides the least of an object; where there is no room, none.

    Names that occur seldom have the first choice, then those of small boxes.
    """
    height, width = canvas.shape[:2]
    size = round(_letter_size(canvas) * (0.8 if len(labels) > MANY_LABELS else 1.0))
    pad = max(1, size // 5)
    taken: list[tuple[int, int, int, int]] = []
    for row in sorted(range(len(labels)), key=lambda row: (labels.count(labels[row]), -row)):
        text_width, text_height = (side + 2 * pad for side in measure_text(labels[row], size))
        left, top, right, bottom = boxes[row].tolist()
        inside = max(0, min(left, width - text_width - 1))
        corners = [(inside, y) for y in (top - text_height, top, bottom - text_height, bottom)]
        corners += [(right, top), (left - text_width, top)]
        spots = [(x, y, x + text_width, y + text_height) for x, y in corners]
        spots = [spot for spot in spots if min(spot[:2]) >= 0 and spot[2] < width and spot[3] < height]
        spots = [spot for spot in spots if not any(_overlap(spot, other) for other in taken)]
        if spots:
            spot = min(spots, key=lambda spot: _find_hidden_share(spot, boxes))
            canvas = draw_text(canvas, labels[row], spot[:2], size, back=colors[row])
            taken.append(spot)
    return canvas


def _find_hidden_share(spot: tuple[int, int, int, int], boxes: np.ndarray) -> float:
    """The share of the box of which the spot hides most, in tenths: less makes no difference."""
    sides = np.minimum(boxes[:, 2:], spot[2:]) - np.maximum(boxes[:, :2], spot[:2])
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1), axis=1)
    return round(float((np.prod(np.maximum(sides, 0), axis=1) / areas).max()), 1)


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _draw_semantic(canvas: np.ndarray, target: SemanticMask, names: dict[int, str]) -> np.ndarray:
    mask = cv2.resize(target.mask, canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    found = [int(class_id) for class_id in np.unique(mask) if class_id not in (0, target.ignore_index)]
    thin = max(2, round(min(canvas.shape[:2]) / 200))
    for class_id in found:
        _blend(canvas, mask == class_id, find_color(class_id, names), _REGION_OPACITY)
    _blend(canvas, mask == target.ignore_index, (128, 128, 128), _REGION_OPACITY)
    for class_id in found:
        # A tint alone is not seen on things of a strong colour of their own.
        region = (mask == class_id).astype(np.uint8)
        outlines, _ = cv2.findContours(region, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, find_color(class_id, names), thin, cv2.LINE_AA)
    return _draw_legend(canvas, mask, [(_name(class_id, names), find_color(class_id, names)) for class_id in found])


def _draw_legend(canvas: np.ndarray, mask: np.ndarray, entries: list[tuple[str, Color]]) -> np.ndarray:
    """Names of classes in the corner where they hide the fewest labelled pixels."""
    size = _letter_size(canvas)
    pad = max(1, size // 5)
    widths = [measure_text(text, size)[0] + 2 * pad + 1 for text, _ in entries]
    line = measure_text("Ag", size)[1] + 2 * pad + 1
    height, width = min(line * len(entries), canvas.shape[0]), min(max(widths, default=0), canvas.shape[1])
    corners = [(x, y) for y in (0, canvas.shape[0] - height) for x in (0, canvas.shape[1] - width)]
    left, top = min(corners, key=lambda at: np.count_nonzero(mask[at[1] : at[1] + height, at[0] : at[0] + width]))
    for number, (text, color) in enumerate(entries):
        canvas = draw_text(canvas, text, (left, top + number * line), size, back=color)
    return canvas


def _blend(canvas: np.ndarray, where: np.ndarray, color: Color, opacity: float) -> None:
    canvas[where] = np.rint(canvas[where] * (1 - opacity) + np.array(color) * opacity).astype(np.uint8)


def _name(class_id: int, names: Mapping[int, str]) -> str:
    return names.get(class_id, str(class_id))


def _pick_ink(back: Color) -> Color:
    return (0, 0, 0) if 0.299 * back[0] + 0.587 * back[1] + 0.114 * back[2] > 120 else (255, 255, 255)
