"""The names of donors are those of objects that can be used, and are found once."""

from __future__ import annotations

import pickle
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.generators.pasting import donors as donors_module
from synthloader.generators.pasting.donors import Donors
from synthloader.generators.pasting.grab_cut import BoxCut, cut_from_box
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.generators.pictures import ListPool, make_picture, make_segmented

CLEAR, EMPTY = [60.0, 50.0, 141.0, 111.0], [5.0, 5.0, 40.0, 40.0]
"""A box with an object, and one in which there is only background."""


def make_boxed(seed: int, *, crowd: bool = False) -> Sample:
    """Two objects of class 1, of which the first can be cut out; one of class 2; no masks."""
    image = np.full((160, 200, 3), (120, 150, 90), np.uint8)
    cv2.ellipse(image, (100, 80), (40, 30), 0, 0, 360, (150, 60, 40), -1)
    noisy = np.clip(image + np.random.default_rng(seed).normal(0, 8, image.shape), 0, 255).astype(np.uint8)
    boxes = np.array([CLEAR, EMPTY, CLEAR], np.float32)
    return Sample(noisy, Instances(np.array([1, 1, 2]), boxes, crowd=np.array([crowd, False, False])))


def make_masked(seed: int) -> Sample:
    """The same with masks, which are never empty."""
    sample = make_boxed(seed)
    masks = np.zeros((3, 160, 200), np.bool_)
    for mask, (x1, y1, x2, y2) in zip(masks, [CLEAR, EMPTY, CLEAR], strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = True
    target: Any = sample.target
    return sample.replace(target=target.replace(masks=masks))


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, ...]]:
    """The boxes that were cut."""
    made: list[tuple[float, ...]] = []

    def count(image: np.ndarray, box: np.ndarray, /, **options: Any) -> BoxCut:
        made.append(tuple(box.tolist()))
        return cut_from_box(image, box, **options)

    monkeypatch.setattr(donors_module, "cut_from_box", count)
    return made


def use_all(donors: Donors, class_id: int) -> list[str]:
    """The names of what each position gives, one after the other."""
    found = []
    for position in range(len(donors.list_names(class_id))):
        found += [each.name for each in donors.take(class_id, [position], 1, maps={}, min_visible=0.2)]
    return found


def test_boxes_without_a_mask_worth_having_and_crowds_are_not_named() -> None:
    donors = Donors(ListPool([make_boxed(0), make_boxed(1, crowd=True), make_boxed(2)]))
    assert list(donors.list_names(1)) == ["0.png#0", "2.png#0"]
    assert list(donors.list_names(2)) == ["0.png#2", "1.png#2", "2.png#2"]
    assert not donors.list_names(3)
    for class_id in (1, 2):
        assert use_all(donors, class_id) == list(donors.list_names(class_id))


def test_the_names_are_searched_for_once_and_known_in_other_processes(cuts: list[tuple[float, ...]]) -> None:
    donors = Donors(ListPool([make_boxed(0), make_boxed(1), make_boxed(2)]))
    names = donors.list_names(1)
    assert not cuts, "Only when they are asked for."
    assert bool(names)
    assert len(cuts) == 1, "The first is usable."
    listed = list(names)
    assert len(cuts) == 6
    assert donors.list_names(1) == listed == list(donors.list_names(1))
    assert use_all(donors, 1) == listed
    assert len(cuts) == 6
    other = pickle.loads(pickle.dumps(donors))
    assert list(other.list_names(1)) == listed
    assert len(cuts) == 6
    assert [each.name for each in other.take(1, [2], 1, maps={}, min_visible=0.2)] == ["2.png#0"]
    assert len(cuts) == 7, "What is used is cut, and nothing else."


def test_masks_and_known_labels_need_no_search(cuts: list[tuple[float, ...]]) -> None:
    pool = ListPool([make_masked(at) for at in range(9)])
    assert list(Donors(pool).list_names(2)) == [f"{at}.png#2" for at in range(9)]
    assert len(set(pool.decoded)) == 3
    assert not cuts


def test_pictures_with_and_without_masks_are_told_apart() -> None:
    donors = Donors(ListPool([make_masked(0), make_boxed(1), make_masked(2)]))
    assert list(donors.list_names(1)) == ["0.png#0", "0.png#1", "1.png#0", "2.png#0", "2.png#1"]
    assert use_all(donors, 1) == list(donors.list_names(1))


def test_names_compare_like_lists() -> None:
    pool = ListPool([make_picture(at, share_crowd=0) for at in range(3)])
    one, other = Donors(pool), Donors(ListPool(pool.samples, ["a", "b", "c"]))
    assert one.list_names(1) == Donors(pool).list_names(1)
    assert one.list_names(1) != one.list_names(2)
    assert one.list_names(1) != other.list_names(1)
    assert list(one.list_names(1)) == one.list_names(1)
    assert one.list_names(1)[:2] == list(one.list_names(1))[:2]


def test_parts_of_a_semantic_mask_are_named() -> None:
    donors = Donors(ListPool([make_segmented(at) for at in range(3)]))
    classes = sorted(donors.list_classes())
    assert classes
    for class_id in classes:
        names = donors.list_names(class_id)
        assert bool(names) == bool(list(names))
        assert use_all(donors, class_id) == list(names)


class ChangingPool(ListPool):
    """Gives another of its samples under the same number each time, as a dataset that crops at random does."""

    turn = 0

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any, /) -> Any:
        self.turn += 1
        return self.samples[self.turn % len(self.samples)]


@pytest.mark.parametrize("with_masks", [True, False])
def test_objects_are_looked_for_anew_where_a_picture_has_changed(with_masks: bool) -> None:
    first: Any = make_masked(1) if with_masks else make_boxed(1)
    moved = np.roll(first.image, (7, -9), axis=(0, 1))
    shift = np.array([-9, 7, -9, 7], np.float32) if with_masks else np.zeros(4, np.float32)
    masks = np.roll(first.target.masks, (7, -9), axis=(1, 2)) if with_masks else None
    second = Sample(moved, first.target.replace(boxes=np.maximum(first.target.boxes + shift, 0), masks=masks))
    pool = ChangingPool([first, second])

    def draw(donors: Donors, seed: int) -> list[Any]:
        rng, wanted = np.random.default_rng(seed), frozenset({1})
        return [
            (each.name, each.image.tobytes(), each.mask.tobytes())
            for each in donors.draw(2, rng=rng, class_ids=wanted, maps={}, min_visible=0)
        ]

    remembering = Donors(pool)
    for seed in range(6):
        pool.turn = seed
        found = draw(remembering, seed)
        pool.turn = seed
        assert found == draw(Donors(pool), seed)
