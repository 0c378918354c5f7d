from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from pycocotools import mask as coco_mask

from synthloader.adapters.items.segmentations import decode_masks, encode_mask, has_segmentation, hash_masks

MASKS = st_numpy.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def decode(segmentation: Any, size_hw: tuple[int, int]) -> np.ndarray:
    box = np.array([[0, 0, 1, 1]], np.float32)
    return decode_masks([{"segmentation": segmentation}], boxes=box, size_hw=size_hw, names=["segmentation"])[0]


def draw_with_pycocotools(runs: Any) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 with numpy 2
        return np.asarray(coco_mask.decode(runs), bool)


@given(mask=MASKS)
def test_run_lengths_come_back_as_the_mask(mask: np.ndarray) -> None:
    runs = encode_mask(mask)
    assert (decode(runs, mask.shape) == mask).all()
    assert (draw_with_pycocotools(coco_mask.frPyObjects(runs, *mask.shape)) == mask).all()


@given(mask=MASKS)
def test_compressed_run_lengths_are_read_as_pycocotools_reads_them(mask: np.ndarray) -> None:
    compressed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert (decode(compressed, mask.shape) == mask).all()
    text = {**compressed, "counts": compressed["counts"].decode()}
    assert (decode(text, mask.shape) == mask).all()


def test_large_masks_with_long_runs_are_read() -> None:
    mask = np.zeros((700, 900), bool)
    mask[3:650, 100:800] = True
    mask[300, 300] = False
    assert (decode(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))), mask.shape) == mask).all()


@settings(max_examples=50)
@given(
    polygons=st.lists(
        st.lists(st.floats(0, 20), min_size=6, max_size=14).filter(lambda numbers: len(numbers) % 2 == 0),
        min_size=1, max_size=3,
    )
)  # fmt: skip
def test_polygons_are_drawn_as_pycocotools_draws_them(polygons: list[list[float]]) -> None:
    wanted = draw_with_pycocotools(coco_mask.merge(coco_mask.frPyObjects(polygons, 20, 20)))
    assert (decode(polygons, (20, 20)) == wanted).all()


def test_a_polygon_of_two_corners_is_no_segmentation() -> None:
    assert not has_segmentation({"segmentation": [[1, 1, 5, 5]]})
    assert not has_segmentation({"segmentation": []})
    assert not has_segmentation({"segmentation": None})
    assert not has_segmentation({})
    assert has_segmentation({"segmentation": [[1, 1, 5, 5], [1, 1, 5, 5, 1, 5]]})
    assert has_segmentation({"segmentation": {"counts": [4], "size": [2, 2]}})


def test_a_crowd_without_a_segmentation_is_drawn_as_its_box() -> None:
    box = np.array([[1, 2, 3, 4]], np.float32)
    mask = decode_masks([{"iscrowd": 1}], boxes=box, size_hw=(5, 5), names=[""])[0]
    assert np.argwhere(mask).tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]


@given(mask=MASKS, place=st.integers(0, 80))
def test_one_pixel_more_or_less_gives_another_hash(mask: np.ndarray, place: int) -> None:
    other = mask.copy()
    other.ravel()[place % mask.size] ^= True
    hashes = hash_masks(np.stack([mask, other, mask]))
    assert hashes[0] == hashes[2] != hashes[1]
    assert hashes.dtype == np.int64


def test_masks_of_another_size_have_another_hash() -> None:
    assert hash_masks(np.zeros((1, 2, 8), bool)) != hash_masks(np.zeros((1, 4, 4), bool))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (
            {"counts": [10], "size": [2, 5]},
            "the size of segmentation must be the image's, [4, 4], got the size of segmentation=[2, 5]. Correct the "
            "annotation.",
        ),
        (
            {"counts": [10], "size": [4, 4]},
            "the counts of segmentation must add up to the image's 16 pixels, got the counts of segmentation=[10]. "
            "Correct the annotation.",
        ),
        (
            {"counts": "35", "size": [4, 4]},
            "the counts of segmentation must add up to the image's 16 pixels, got the counts of segmentation='35'. "
            "Correct the annotation.",
        ),
        (
            {"counts": "", "size": [4, 4]},
            "the counts of segmentation must add up to the image's 16 pixels, got the counts of segmentation=''. "
            "Correct the annotation.",
        ),
        (
            [[1, 2, 3, 4, 1, 4, 2]],
            "segmentation must have two numbers for every corner, got segmentation=[1, 2, 3, 4, 1, 4, 2]. Correct the "
            "annotation.",
        ),
    ],
    ids=["another size", "runs that end early", "compressed runs that end early", "no runs", "half a corner"],
)
def test_broken_segmentations_are_refused(segmentation: Any, message: str) -> None:
    with pytest.raises(ValueError, match="segmentation") as caught:
        decode(segmentation, (4, 4))
    assert str(caught.value) == message
