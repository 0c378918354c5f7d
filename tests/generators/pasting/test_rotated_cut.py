"""Objects are cut out of rotated boxes along their own outlines, at every angle, or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from synthloader.generators.pasting.grab_cut import cut_from_box
from synthloader.generators.pasting.rotated_cut import cut_from_rotated_box
from synthloader.sources import Source
from synthloader.targets import Instances
from tests.generators.pasting.rotated_scenes import draw_scene, measure_overlap, read_fruit
from tests.generators.pictures import tight_box

SIZE_HW = (160, 200)


def fill(corners: np.ndarray, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    mask = np.zeros(size_hw, np.uint8)
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1)
    return mask.astype(bool)


def label(masks: list[np.ndarray]) -> Instances:
    boxes = np.array([tight_box(mask) for mask in masks], np.float32)
    return Instances(np.ones(len(masks), np.int64), boxes, np.array(masks))


def draw_ellipse(shape: tuple[tuple[float, float], tuple[float, float], float], color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Image and true mask of an ellipse on grain."""
    image = np.full((*SIZE_HW, 3), (120, 130, 120), np.uint8)
    mask = np.zeros(SIZE_HW, np.uint8)
    cv2.ellipse(mask, shape, 1, -1)
    image[mask > 0] = color
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask.astype(bool)


def whole(found: tuple[np.ndarray | None, tuple[int, int, int, int], str]) -> np.ndarray:
    mask, (x1, y1, x2, y2), reason = found
    assert mask is not None, reason
    made = np.zeros(SIZE_HW, bool)
    made[y1:y2, x1:x2] = mask
    return made


@pytest.mark.parametrize("degrees", [0, 17, 45, 70, 90, 128, 179])
@pytest.mark.parametrize("sides", [(70, 40), (96, 18)])
def test_an_object_is_cut_along_its_outline_at_every_angle(degrees: float, sides: tuple[float, float]) -> None:
    shape = ((100, 80), sides, degrees)
    image, true = draw_ellipse(shape, (180, 60, 50))
    target = label([fill(cv2.boxPoints(shape))])
    mask = whole(cut_from_rotated_box(image, target, 0))
    assert measure_overlap(mask, true) > 0.85
    assert not (mask & ~fill(cv2.boxPoints(shape))).any()


def test_a_thin_object_across_would_be_refused_in_its_upright_box() -> None:
    shape = ((100, 80), (96, 18), 45)
    image, _ = draw_ellipse(shape, (180, 60, 50))
    target = label([fill(cv2.boxPoints(shape))])
    assert cut_from_box(image, target.boxes[0]).mask is None
    assert cut_from_rotated_box(image, target, 0).mask is not None


def test_a_box_without_an_object_in_it_gives_none() -> None:
    shape = ((100, 80), (70, 30), 30)
    image, _ = draw_ellipse(shape, (120, 130, 120))
    found = cut_from_rotated_box(image, label([fill(cv2.boxPoints(shape))]), 0)
    assert found.mask is None
    assert found.reason


def test_a_box_that_is_half_hidden_gives_none() -> None:
    shape = ((100, 80), (70, 30), 30)
    image, _ = draw_ellipse(shape, (180, 60, 50))
    mask = fill(cv2.boxPoints(shape))
    mask[:80, 100:] = False
    mask[85:, :95] = False
    assert cut_from_rotated_box(image, label([mask]), 0).reason == "cut off"


def test_a_neighbour_of_the_same_colour_is_left_out() -> None:
    first, second = ((80, 80), (64, 30), 20), ((118, 84), (50, 24), 110)
    image, true = draw_ellipse(first, (180, 60, 50))
    other = np.zeros(SIZE_HW, np.uint8)
    cv2.ellipse(other, second, 1, -1)
    image[other > 0] = (180, 60, 50)
    other[true] = 0
    target = label([fill(cv2.boxPoints(first)), fill(cv2.boxPoints(second))])
    found = cut_from_rotated_box(image, target, 0)
    if found.mask is not None:
        assert (whole(found) & (other > 0)).sum() < 0.03 * found.mask.sum()


def test_equal_arguments_give_equal_bits() -> None:
    shape = ((100, 80), (70, 30), 30)
    image, _ = draw_ellipse(shape, (180, 60, 50))
    target = label([fill(cv2.boxPoints(shape))])
    assert np.array_equal(whole(cut_from_rotated_box(image, target, 0)), whole(cut_from_rotated_box(image, target, 0)))


@pytest.mark.parametrize("kind", ["drawn", "fruit"])
def test_patches_hold_next_to_nothing_of_other_objects(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "drawn":
        scene, least = draw_scene(tmp_path), 0.7
    else:
        scene, least = read_fruit(request.getfixturevalue("shared_data"), tmp_path, count=3), 0.6
    source = Source(scene.dataset)
    overlaps, total = [], 0
    for at, masks in enumerate(scene.masks):
        sample = source[at]
        target = sample.target
        assert isinstance(target, Instances)
        assert target.masks is not None
        for row, true in enumerate(masks):
            total += 1
            found = cut_from_rotated_box(sample.image, target, row)
            if found.mask is None:
                continue
            x1, y1, x2, y2 = found.box
            mask = np.zeros(sample.size_hw, bool)
            mask[y1:y2, x1:x2] = found.mask
            assert not (mask & ~target.masks[row]).any(), "Outside of its rotated box."
            foreign = np.delete(masks, row, axis=0).any(axis=0) & ~true & mask
            assert foreign.sum() <= 0.1 * mask.sum(), f"{at} {row}"
            overlaps.append((measure_overlap(mask, true), foreign.sum() / mask.sum()))
    assert len(overlaps) > least * total, "Most can be cut out."
    assert np.mean([overlap for overlap, _ in overlaps]) > 0.85
    assert np.mean([share for _, share in overlaps]) < 0.02
