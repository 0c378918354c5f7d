from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloader.generators.pasting.grab_cut import BoxCut, cut_from_box
from tests.generators.pictures import REAL_DATA, read_rgb

BOX = np.array([60, 50, 141, 111], np.float32)


def draw(seed: int = 0, *, noise: float = 8, object_color: tuple[int, int, int] = (150, 60, 40)) -> np.ndarray:
    """An ellipse that fills `BOX` on a background of two colours, with noise."""
    image = np.full((160, 200, 3), (120, 150, 90), np.uint8)
    image[:, 120:] = (110, 130, 110)
    cv2.ellipse(image, (100, 80), (40, 30), 0, 0, 360, object_color, -1)
    noisy = image + np.random.default_rng(seed).normal(0, noise, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def true_mask() -> np.ndarray:
    mask = np.zeros((160, 200), np.uint8)
    cv2.ellipse(mask, (100, 80), (40, 30), 0, 0, 360, 1, -1)
    return mask[50:111, 60:141].astype(bool)


def measure_iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


def check_form(cut: BoxCut, image: np.ndarray) -> None:
    x1, y1, x2, y2 = cut.box
    assert 0 <= x1 <= x2 <= image.shape[1]
    assert 0 <= y1 <= y2 <= image.shape[0]
    assert (cut.mask is None) == bool(cut.reason)
    if cut.mask is not None:
        assert cut.mask.shape == (y2 - y1, x2 - x1)
        assert cut.mask.dtype == np.bool_
        assert cut.mask.any()


@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_a_clear_object_is_cut_along_its_outline(scale: float) -> None:
    size_wh = (round(200 * scale), round(160 * scale))
    image = cv2.resize(draw(), size_wh, interpolation=cv2.INTER_LINEAR)
    cut = cut_from_box(image, BOX * scale)
    check_form(cut, image)
    assert cut.mask is not None
    expected = cv2.resize(true_mask().astype(np.uint8), cut.mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert measure_iou(cut.mask, expected) > 0.93


def test_neither_image_nor_boxes_are_modified() -> None:
    image, box, others = draw(), BOX.copy(), np.array([[10, 10, 70, 70]], np.float32)
    before = image.copy(), box.copy(), others.copy()
    cut_from_box(image, box, others=others)
    assert all(np.array_equal(*pair) for pair in zip((image, box, others), before, strict=True))


@pytest.mark.uses_global_rng
def test_nothing_that_happened_before_changes_a_bit() -> None:
    images = [draw(seed) for seed in range(4)]
    first = [cut_from_box(image, BOX).mask for image in images]
    num_threads = cv2.getNumThreads()
    try:
        for at, number in ((3, 1), (0, 4), (2, 2), (1, 1)):
            cv2.setNumThreads(number)
            cv2.setRNGSeed(at + 100)
            cv2.randu(np.zeros((50, 50), np.uint8), np.zeros(1), np.full(1, 255.0))
            mixtures = np.zeros((1, 65)), np.zeros((1, 65))
            labels = np.zeros(images[at].shape[:2], np.uint8)
            cv2.grabCut(images[at], labels, (60, 50, 81, 61), *mixtures, 1, cv2.GC_INIT_WITH_RECT)  # draws numbers
            again = cut_from_box(images[at], BOX).mask
            before = first[at]
            assert before is not None
            assert again is not None
            assert np.array_equal(again, before)
    finally:
        cv2.setNumThreads(num_threads)


@pytest.mark.uses_global_rng
def test_the_random_state_of_opencv_is_left_as_it_was() -> None:
    drawn = []
    for cuts in (True, False):
        cv2.setRNGSeed(7)
        assert not cuts or cut_from_box(draw(), BOX).mask is not None
        drawn.append(np.asarray(cv2.randu(np.zeros(8, np.uint8), np.zeros(1), np.full(1, 255.0))).tolist())
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("image", "box", "reason"),
    [
        (draw(), [60, 50, 69, 111], "too small"),
        (draw(), [60, 50, 60, 50], "too small"),
        (draw(), [0, 0, 200, 160], "no background"),
        (draw(), [30, 30, 180, 135], "another box"),
        (draw(), [85, 70, 115, 90], ("no object", "leaves the box", "no contrast")),
        (draw(object_color=(121, 149, 91), noise=1), BOX, ("no object", "no contrast", "too little", "in pieces")),
    ],
)
def test_what_is_doubtful_is_refused_with_a_reason(
    image: np.ndarray, box: list[int], reason: str | tuple[str, ...]
) -> None:
    cut = cut_from_box(image, np.array(box, np.float32))
    check_form(cut, image)
    assert cut.mask is None
    assert cut.reason in ((reason,) if isinstance(reason, str) else reason)


def test_two_objects_in_a_box_are_no_object() -> None:
    image = np.full((160, 200, 3), (120, 150, 90), np.uint8)
    for x in (75, 125):
        cv2.ellipse(image, (x, 80), (14, 30), 0, 0, 360, (150, 60, 40), -1)
    cut = cut_from_box(image, BOX)
    assert (cut.mask, cut.reason) == (None, "in pieces")


def test_a_thing_that_fills_its_box_is_cut_where_the_box_is_its_outline() -> None:
    image = draw()
    image[50:111, 60:141] = (150, 60, 40)
    mask = cut_from_box(image, BOX).mask
    assert mask is not None
    assert mask.mean() > 0.95


def test_a_ring_is_not_filled_and_not_pasted_with_what_shows_through() -> None:
    image = np.full((160, 200, 3), (120, 150, 90), np.uint8)
    cv2.ellipse(image, (100, 80), (33, 23), 0, 0, 360, (150, 60, 40), 14)
    assert cut_from_box(image, BOX).reason == "has holes"


def test_a_spot_of_glare_is_filled() -> None:
    image = draw()
    cv2.circle(image, (95, 75), 3, (120, 150, 90), -1)
    mask = cut_from_box(image, BOX).mask
    assert mask is not None
    assert mask[22:29, 32:39].all()


def test_a_touching_neighbour_is_left_out_where_its_box_is_known() -> None:
    image = draw()
    cv2.ellipse(image, (160, 80), (30, 30), 0, 0, 360, (150, 60, 40), -1)  # overlaps the box from 130 to 141
    neighbour = np.array([[130, 50, 191, 111]], np.float32)
    cut = cut_from_box(image, BOX, others=neighbour)
    assert cut.mask is not None
    assert measure_iou(cut.mask, true_mask()) > 0.9
    assert not cut.mask[:15, -6:].any()


def test_a_smaller_object_in_front_is_never_cut_out_with_the_larger_one() -> None:
    image = draw()
    cv2.circle(image, (112, 88), 9, (160, 70, 50), -1)
    small = np.array([[103, 79, 122, 98]], np.float32)
    cut = cut_from_box(image, BOX, others=small)
    assert cut.mask is None
    assert cut_from_box(image, BOX).mask is not None


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_any_picture_and_box_give_a_mask_of_the_window_or_a_reason(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(value) for value in rng.integers(1, 80, 2))
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    if rng.random() < 0.5:
        image[...] = image[0, 0]
    x, y = np.sort(rng.uniform(0, width, 2)), np.sort(rng.uniform(0, height, 2))
    others = np.sort(rng.uniform(0, 80, (int(rng.integers(0, 4)), 2, 2)), axis=1).reshape(-1, 4)
    check_form(cut_from_box(image, np.array([x[0], y[0], x[1], y[1]], np.float32), others=others), image)


def test_very_long_boxes_of_large_pictures_do_no_harm() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 3000, 3)).astype(np.uint8)
    check_form(cut_from_box(image, np.array([100, 10, 2900, 21], np.float32)), image)


def test_dried_fruit_is_cut_as_its_polygons_say(shared_data: Path) -> None:
    pool = REAL_DATA["dried_fruit_instances"](shared_data / "dried_fruit_instances", 3)
    ious, count = [], 0
    for sample in pool.samples:
        target: Any = sample.target
        for row in range(min(len(target), 6)):
            cut = cut_from_box(sample.image, target.boxes[row], others=np.delete(target.boxes, row, axis=0))
            count += 1
            if cut.mask is not None:
                x1, y1, x2, y2 = cut.box
                ious.append(measure_iou(cut.mask, target.masks[row, y1:y2, x1:x2]))
    assert len(ious) >= 0.8 * count
    assert np.median(ious) > 0.9
    assert min(ious) > 0.65


def test_blood_cells_that_have_only_boxes_get_masks_of_their_size(shared_data: Path) -> None:
    folder = shared_data / "bccd_blood_cells"
    records = json.loads((folder / "coco" / "instances_train.json").read_text())
    white = next(entry["id"] for entry in records["categories"] if entry["name"] == "WBC")
    accepted = count = 0
    for picture in records["images"][::16]:
        image = read_rgb(folder / "JPEGImages" / picture["file_name"])
        found = [entry for entry in records["annotations"] if entry["image_id"] == picture["id"]]
        boxes = np.array([entry["bbox"] for entry in found], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        for row, entry in enumerate(found):
            if entry["category_id"] == white:
                cut = cut_from_box(image, boxes[row], others=np.delete(boxes, row, axis=0))
                check_form(cut, image)
                count += 1
                accepted += cut.mask is not None
    assert accepted >= 0.4 * count > 0
