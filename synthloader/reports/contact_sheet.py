"""Pictures in pairs on one sheet: the source beside what was made of it, with a caption below each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from synthloader.checks import check_count, reject
from synthloader.reports.drawing import Color, draw_text, measure_text

__all__ = ["Tile", "make_contact_sheet"]

BLACK: Color = (30, 30, 30)
GREY: Color = (110, 110, 110)


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a sheet.

    Args:
        image: (H, W, 3) uint8, RGB.
        title: The first line of the caption.
        caption: The second line.
        color: Of the bar beside the caption; None for no bar.
        is_faded: Whether the picture is washed out: there is nothing to see in it.
    """

    image: np.ndarray
    title: str = ""
    caption: str = ""
    color: Color | None = None
    is_faded: bool = False


def make_contact_sheet(
    pairs: Sequence[tuple[Tile, Tile]], /, *, tile_hw: tuple[int, int] = (300, 400), num_columns: int | None = None
) -> np.ndarray:
    """A sheet of pairs on white, row by row.

    ```
    [source | generated]   [source | generated]
     title    title         title    title
     caption  caption       caption  caption
    ```

    Args:
        pairs: At least one.
        tile_hw: Height and width of every picture's place in pixels; pictures keep their shape inside.
        num_columns: Pairs beside each other; None for one up to three pairs, else two.

    Returns:
        (H, W, 3) uint8, RGB.

    Example:
        >>> tile = Tile(np.zeros((30, 40, 3), np.uint8), "chelsea.png", "source")
        >>> make_contact_sheet([(tile, tile)], tile_hw=(60, 80)).shape[2]
        3
    """
    if not len(pairs):
        reject("pairs", "have at least one pair", pairs)
    columns = check_count("num_columns", (1 if len(pairs) <= 3 else 2) if num_columns is None else num_columns)
    columns = min(columns, len(pairs))
    size = round(np.clip(tile_hw[1] / 24, 11, 40))
    gap, margin = max(4, tile_hw[1] // 50), max(12, tile_hw[1] // 12)
    caption_height = round(2 * 1.35 * size + size)
    cell_hw = tile_hw[0] + caption_height, 2 * tile_hw[1] + gap
    rows = -(-len(pairs) // columns)
    height = 2 * margin + rows * cell_hw[0] + (rows - 1) * (margin // 2) - size // 2
    width = 2 * margin + columns * cell_hw[1] + (columns - 1) * margin
    sheet = np.full((height, width, 3), 255, np.uint8)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, columns)
        top = margin + row * (cell_hw[0] + margin // 2)
        left = margin + column * (cell_hw[1] + margin)
        for side, tile in enumerate(pair):
            _put(sheet, tile, (left + side * (tile_hw[1] + gap), top), tile_hw, size)
    return sheet


def find_fit(size_hw: tuple[int, int], tile_hw: tuple[int, int], /) -> tuple[int, int]:
    """The largest height and width of a picture's own shape that a tile holds."""
    scale = min(tile_hw[0] / size_hw[0], tile_hw[1] / size_hw[1])
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def _put(sheet: np.ndarray, tile: Tile, at_xy: tuple[int, int], tile_hw: tuple[int, int], size: int) -> None:
    """Draw one tile and its caption into the sheet."""
    left, top = at_xy
    place = sheet[top : top + tile_hw[0], left : left + tile_hw[1]]
    place[:] = 246
    height, width = find_fit((tile.image.shape[0], tile.image.shape[1]), tile_hw)
    image = tile.image
    if image.shape[:2] != (height, width):
        interpolation = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
        image = cv2.resize(image, (width, height), interpolation=interpolation)
    if tile.is_faded:
        image = (image // 4 + 184).astype(np.uint8)
    row, column = (tile_hw[0] - height) // 2, (tile_hw[1] - width) // 2
    place[row : row + height, column : column + width] = image
    _write_caption(sheet, tile, (left, top + tile_hw[0]), tile_hw[1], size)


def _write_caption(sheet: np.ndarray, tile: Tile, at_xy: tuple[int, int], width: int, size: int) -> None:
    left, top = at_xy[0], at_xy[1] + size // 2
    line = round(1.35 * size)
    text_left = left
    if tile.color is not None:
        bar = max(3, size // 4)
        sheet[top : top + 2 * line, left : left + bar] = tile.color
        text_left = left + 2 * bar + 1
    strip = sheet[top : top + 2 * line + size // 2, text_left : left + width]
    for number, (text, color) in enumerate(((tile.title, BLACK), (tile.caption, tile.color or GREY))):
        shown = _shorten(text, strip.shape[1], size)
        strip[:] = draw_text(np.ascontiguousarray(strip), shown, (0, number * line), size, color=color)


def _shorten(text: str, width: int, size: int) -> str:
    """The text, its middle left out where it is too wide."""
    if measure_text(text, size)[0] <= width:
        return text
    keep = len(text) - 1
    while keep > 1 and measure_text(_cut(text, keep), size)[0] > width:
        keep -= 1
    return _cut(text, keep)


def _cut(text: str, keep: int) -> str:
    head = -(-keep // 2)
    return f"{text[:head]}...{text[len(text) - (keep - head) :]}"
