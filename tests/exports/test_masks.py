from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from tests.exports.samples import HUGE_NAMES, export, make_name, make_sample, make_semantic, read_tree

MASK = [[0, 7, 2], [255, 7, 40]]


def read_mask(folder: Path, number: int = 0) -> np.ndarray:
    with PIL.Image.open(folder / "masks" / f"{make_name(number)}.png") as image:
        return np.array(image)


def test_ids_are_kept_in_8_bit(tmp_path: Path) -> None:
    sample = make_sample(0, make_semantic(MASK), size_hw=(2, 3))
    export([sample], tmp_path, format="masks")
    mask = read_mask(tmp_path)
    assert (mask.dtype, mask.tolist()) == (np.uint8, MASK)
    image = cv2.imread(str(tmp_path / "images" / f"{make_name(0)}.png"), cv2.IMREAD_COLOR)
    assert image is not None
    np.testing.assert_array_equal(image[:, :, ::-1], sample.image)
    assert json.loads((tmp_path / "classes.json").read_text()) == {
        "classes": {"2": "fig & date", "7": "Größe", "40": "a: yes"},
        "background": 0,
        "ignore_index": 255,
    }


def test_ids_are_kept_in_16_bit_where_one_class_needs_it(tmp_path: Path) -> None:
    masks = [make_semantic([[0, 300, 255]]), make_semantic([[0, 1, 255]])]
    samples = [make_sample(number, mask, size_hw=(1, 3)) for number, mask in enumerate(masks)]
    export(samples, tmp_path, format="masks", class_names=HUGE_NAMES)
    for number, mask in enumerate(masks):
        content = cv2.imread(str(tmp_path / "masks" / f"{make_name(number)}.png"), cv2.IMREAD_UNCHANGED)
        assert content is not None
        assert content.dtype == np.uint16
        np.testing.assert_array_equal(content, mask.mask)


def test_an_ignore_index_that_is_large(tmp_path: Path) -> None:
    export([make_sample(0, make_semantic([[2, 65535]], 65535), size_hw=(1, 2))], tmp_path, format="masks")
    assert read_mask(tmp_path).tolist() == [[2, 65535]]


@pytest.mark.parametrize(
    ("ids", "ignore_index", "end"),
    [
        ([2, -100], -100, "=-100. It is the ignore_index: give the mask another one, 255 for example."),
        ([2, 65536], 255, "=65536. PNGs hold no other."),
    ],
)
def test_ids_that_no_png_holds(tmp_path: Path, ids: list[int], ignore_index: int, end: str) -> None:
    sample = make_sample(0, make_semantic([ids], ignore_index), size_hw=(1, 2))
    for format in ("masks", "webdataset"):
        with pytest.raises(ValueError) as caught:
            export([sample], tmp_path / "out", format=format)
        name = f"the ids in the mask of sample {make_name(0)!r}"
        assert str(caught.value) == f"{name} must be from 0 to 65535, got {name}{end}"
        assert not (tmp_path / "out").exists()


def test_an_ignore_index_that_never_occurs_may_be_any(tmp_path: Path) -> None:
    export([make_sample(0, make_semantic([[2, 7]], -100), size_hw=(1, 2))], tmp_path, format="masks")
    assert json.loads((tmp_path / "classes.json").read_text())["ignore_index"] == -100


def test_two_meanings_of_a_number_are_refused(tmp_path: Path) -> None:
    samples = [
        make_sample(number, make_semantic([[2]], index), size_hw=(1, 1)) for number, index in enumerate((255, 7))
    ]
    with pytest.raises(ValueError) as caught:
        export(samples, tmp_path / "out", format="masks")
    name = f"the ignore_index of sample {make_name(1)!r}"
    assert str(caught.value) == (
        f"{name} must be that of the samples before, 255, got {name}=7. In one set of masks a number has one meaning: "
        "bring the masks to one ignore_index."
    )
    assert not (tmp_path / "out").exists()


def test_the_files(tmp_path: Path) -> None:
    export([make_sample(0, make_semantic(MASK), size_hw=(2, 3))], tmp_path, format="masks", image_format="jpeg")
    assert list(read_tree(tmp_path)) == [
        "classes.json",
        "export.json",
        f"images/{make_name(0)}.jpg",
        f"masks/{make_name(0)}.png",
        "provenance.jsonl",
    ]
