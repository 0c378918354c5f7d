"""The contact sheet: even tiles, captions that fit, white around."""

from __future__ import annotations

import numpy as np
import pytest

from synthloader.reports import Tile, make_contact_sheet
from synthloader.reports.contact_sheet import find_fit


def make_tile(height: int = 30, width: int = 40, value: int = 90, **options: object) -> Tile:
    return Tile(np.full((height, width, 3), value, np.uint8), "a_picture.png", "source", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("num_pairs", "columns"), [(1, 1), (3, 1), (4, 2), (5, 2)])
def test_rows_and_columns(num_pairs: int, columns: int) -> None:
    one = make_contact_sheet([(make_tile(), make_tile())])
    sheet = make_contact_sheet([(make_tile(), make_tile())] * num_pairs)
    rows = -(-num_pairs // columns)
    assert (sheet.shape[1] > one.shape[1] * 1.5) == (columns == 2)
    assert abs(sheet.shape[0] / one.shape[0] - rows) < 0.5
    assert sheet.dtype == np.uint8


def test_margins_are_white() -> None:
    sheet = make_contact_sheet([(make_tile(), make_tile())] * 4)
    for edge in (sheet[:8], sheet[-8:], sheet[:, :8], sheet[:, -8:]):
        assert (edge == 255).all()


def test_pictures_keep_their_shape() -> None:
    assert find_fit((100, 400), (300, 400)) == (100, 400)
    assert find_fit((600, 600), (300, 400)) == (300, 300)
    assert find_fit((1, 4000), (300, 400)) == (1, 400)


def test_a_long_caption_stays_in_its_place() -> None:
    tile = Tile(np.full((30, 40, 3), 90, np.uint8), "a" * 300, "b" * 300, (190, 70, 0))
    bare = Tile(np.full((30, 40, 3), 90, np.uint8))
    with_text, without = (make_contact_sheet([(left, bare)]) for left in (tile, bare))
    middle = with_text.shape[1] // 2
    assert np.array_equal(with_text[:, middle + 5 :], without[:, middle + 5 :])
    assert (with_text[:, :middle] != without[:, :middle]).any()


def test_a_faded_tile_is_lighter() -> None:
    plain, faded = (make_contact_sheet([(make_tile(is_faded=flag), make_tile())]) for flag in (False, True))
    assert faded.mean() > plain.mean()


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        make_contact_sheet([])
    assert str(caught.value) == "pairs must have at least one pair, got pairs=[]."
