"""Targets check themselves once, say what is wrong in whole sentences, and never change what they were given."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.targets import ClassLabel, Instances, SemanticMask

PAIRS_OF_OBJECTS = np.array([(1, None)] * 3, [("a", int), ("b", object)])


def make_instances(count: int = 3, **changes: Any) -> Instances:
    corners = np.arange(count, dtype=np.float32)[:, None]
    fields: dict[str, Any] = {
        "class_ids": np.arange(count) + 1,
        "boxes": np.concatenate([corners, corners, corners + 2, corners + 3], axis=1),
        "masks": np.arange(count * 30).reshape(count, 5, 6) % 3 == 0,
        "keypoints": np.full((count, 2, 3), 1, np.float32),
        "crowd": np.arange(count) % 2 == 1,
        "attributes": {"depth": np.arange(count) * 0.5, "name": np.array([f"n{at}" for at in range(count)], "<U4")},
    }
    return Instances(**{**fields, **changes})


def list_arrays(target: Instances) -> dict[str, np.ndarray]:
    arrays = {name: getattr(target, name) for name in ("class_ids", "boxes", "masks", "keypoints", "crowd")}
    return {name: array for name, array in {**arrays, **target.attributes}.items() if array is not None}


# ---- ClassLabel


@pytest.mark.parametrize("class_id", [0, 7, np.int64(7), np.uint8(200)])
def test_a_class_is_held_as_a_plain_int(class_id: Any) -> None:
    assert type(ClassLabel(class_id).class_id) is int
    assert ClassLabel(class_id).class_id == class_id


@pytest.mark.parametrize(
    ("class_id", "error", "message"),
    [
        (-1, ValueError, "class_id must be at least 0, got class_id=-1."),
        (1.0, TypeError, "class_id must be an integer, got class_id=1.0."),
        (True, TypeError, "class_id must be an integer, got class_id=True."),
        ("cat", TypeError, "class_id must be an integer, got class_id='cat'."),
        (None, TypeError, "class_id must be an integer, got class_id=None."),
    ],
)
def test_a_class_that_is_none_is_refused(class_id: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        ClassLabel(class_id)
    assert str(caught.value) == message


# ---- SemanticMask


def test_a_mask_is_held_as_given() -> None:
    mask = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert SemanticMask(mask).mask is mask
    assert SemanticMask(mask).ignore_index == 255
    assert SemanticMask(mask, ignore_index=-1).ignore_index == -1


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.zeros((2, 3), np.uint8), TypeError, "mask must have dtype int32, got mask=dtype('uint8')."),
        (np.zeros((2, 3, 1), np.int32), ValueError, "mask must have shape (any, any), got mask=(2, 3, 1)."),
        ([[0, 1]], TypeError, "mask must be a numpy array, got mask=[[0, 1]]."),
    ],
)
def test_a_mask_of_another_kind_is_refused(mask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        SemanticMask(mask)
    assert str(caught.value) == message


def test_an_ignored_id_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError) as caught:
        SemanticMask(np.zeros((2, 2), np.int32), ignore_index=None)  # type: ignore[arg-type]
    assert str(caught.value) == "ignore_index must be an integer, got ignore_index=None."


# ---- Instances


def test_instances_hold_what_they_were_given() -> None:
    target = make_instances()
    assert len(target) == 3
    assert target.class_ids.tolist() == [1, 2, 3]
    assert target.attributes["name"].tolist() == ["n0", "n1", "n2"]


def test_all_but_classes_and_boxes_may_be_missing() -> None:
    target = Instances(class_ids=np.array([4]), boxes=np.zeros((1, 4), np.float32))
    assert target.masks is None
    assert target.keypoints is None
    assert target.crowd is not None
    assert target.crowd.tolist() == [False]
    assert target.attributes == {}


def test_there_may_be_no_instance_at_all() -> None:
    target = make_instances(0)
    assert len(target) == 0
    assert len(target.select(np.zeros(0, np.int64))) == 0


@pytest.mark.parametrize("box", [[1, 1, 1, 1], [0, 0, 0, 9], [-5, -5, 100, 100]])
def test_boxes_without_an_area_and_beyond_any_image_are_boxes(box: list[float]) -> None:
    # Whether they lie inside an image is the sample's question, and whether they are worth keeping a filter's.
    assert Instances(class_ids=np.array([1]), boxes=np.array([box], np.float32)).boxes.tolist() == [box]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"class_ids": [1, 2, 3]}, TypeError, "class_ids must be a numpy array, got class_ids=[1, 2, 3]."),
        ({"class_ids": np.array(1)}, ValueError, "class_ids must have shape (any), got class_ids=()."),
        (
            {"class_ids": np.array([1, 2, 3], np.int32)},
            TypeError,
            "class_ids must have dtype int64, got class_ids=dtype('int32').",
        ),
        (
            {"class_ids": np.zeros((3, 1), np.int64)},
            ValueError,
            "class_ids must have shape (any), got class_ids=(3, 1).",
        ),
        (
            {"boxes": np.zeros((2, 4), np.float32)},
            ValueError,
            "boxes must have shape (3, 4), got boxes=(2, 4).",
        ),
        ({"boxes": np.zeros((3, 4))}, TypeError, "boxes must have dtype float32, got boxes=dtype('float64')."),
        (
            {"boxes": np.array([[0, 0, 1, 1], [0, 0, 1, 1], [5, 0, 4, 1]], np.float32)},
            ValueError,
            "boxes[2] must be finite x1 y1 x2 y2 with x1 <= x2 and y1 <= y2, got boxes[2]=[5.0, 0.0, 4.0, 1.0]. "
            "Convert boxes of another format (xywh, cxcywh) to xyxy pixels first.",
        ),
        (
            {"boxes": np.array([[0, 0, 1, 1], [0, 3, 1, 1], [5, 0, 4, 1]], np.float32)},
            ValueError,
            "boxes[1] must be finite x1 y1 x2 y2 with x1 <= x2 and y1 <= y2, got boxes[1]=[0.0, 3.0, 1.0, 1.0]. "
            "Convert boxes of another format (xywh, cxcywh) to xyxy pixels first.",
        ),
        (
            {"boxes": np.array([[0, 0, np.nan, 1]] * 3, np.float32)},
            ValueError,
            "boxes[0] must be finite x1 y1 x2 y2 with x1 <= x2 and y1 <= y2, got boxes[0]=[0.0, 0.0, nan, 1.0]. "
            "Convert boxes of another format (xywh, cxcywh) to xyxy pixels first.",
        ),
        (
            {"boxes": np.array([[0, 0, np.inf, 1]] * 3, np.float32)},
            ValueError,
            "boxes[0] must be finite x1 y1 x2 y2 with x1 <= x2 and y1 <= y2, got boxes[0]=[0.0, 0.0, inf, 1.0]. "
            "Convert boxes of another format (xywh, cxcywh) to xyxy pixels first.",
        ),
        (
            {"masks": np.zeros((3, 5, 6), np.uint8)},
            TypeError,
            "masks must have dtype bool, got masks=dtype('uint8').",
        ),
        (
            {"masks": np.zeros((2, 5, 6), np.bool_)},
            ValueError,
            "masks must have shape (3, any, any), got masks=(2, 5, 6).",
        ),
        (
            {"keypoints": np.zeros((3, 2, 2), np.float32)},
            ValueError,
            "keypoints must have shape (3, any, 3), got keypoints=(3, 2, 2).",
        ),
        ({"crowd": np.zeros(3, np.int64)}, TypeError, "crowd must have dtype bool, got crowd=dtype('int64')."),
        ({"crowd": np.zeros(2, np.bool_)}, ValueError, "crowd must have shape (3), got crowd=(2,)."),
        (
            {"attributes": {"depth": np.zeros(2)}},
            ValueError,
            "attributes['depth'] must be an array of 3 rows, without Python objects, got "
            "attributes['depth']=array([0., 0.]).",
        ),
        (
            {"attributes": {"depth": [1, 2, 3]}},
            ValueError,
            "attributes['depth'] must be an array of 3 rows, without Python objects, got attributes['depth']=[1, 2, 3].",
        ),
        (
            {"attributes": {"names": np.array(["a", "b", None], object)}},
            ValueError,
            "attributes['names'] must be an array of 3 rows, without Python objects, got "
            "attributes['names']=array(['a', 'b', None], dtype=object).",
        ),
        (
            {"attributes": {"pairs": PAIRS_OF_OBJECTS}},
            ValueError,
            "attributes['pairs'] must be an array of 3 rows, without Python objects, got "
            f"attributes['pairs']={PAIRS_OF_OBJECTS!r}.",
        ),
        ({"attributes": None}, TypeError, "attributes must be a Mapping, got attributes=None."),
    ],
)
def test_instances_that_disagree_are_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make_instances(**changes)
    assert str(caught.value) == message


@given(st.lists(st.integers(-4, 3), max_size=8))
def test_selected_rows_take_everything_along(rows: list[int]) -> None:
    target = make_instances(4)
    some = target.select(np.array(rows, np.int64))
    assert len(some) == len(rows)
    for name, array in list_arrays(some).items():
        assert np.array_equal(array, list_arrays(target)[name][rows]), name
        assert array.dtype == list_arrays(target)[name].dtype


@given(st.lists(st.booleans(), min_size=4, max_size=4))
def test_a_bool_selects_as_in_numpy(keep: list[bool]) -> None:
    target = make_instances(4)
    by_position = target.select(np.flatnonzero(keep))
    by_bool = target.select(np.array(keep))
    for name, array in list_arrays(by_bool).items():
        assert np.array_equal(array, list_arrays(by_position)[name])


def test_what_is_missing_stays_missing_in_a_selection() -> None:
    some = make_instances(masks=None, keypoints=None, attributes={}).select(np.array([2]))
    assert some.masks is None
    assert some.keypoints is None


def test_a_selection_shares_no_memory_with_the_whole() -> None:
    target = make_instances()
    before = {name: array.copy() for name, array in list_arrays(target).items()}
    some = target.select(np.array([0, 1, 2]))
    for array in list_arrays(some).values():
        array[...] = array[::-1].copy()
    for name, array in list_arrays(target).items():
        assert np.array_equal(array, before[name]), name


def test_rows_that_do_not_exist_are_an_error() -> None:
    with pytest.raises(IndexError):
        make_instances().select(np.array([3]))


def test_a_changed_copy_is_checked_anew_and_the_first_stays() -> None:
    target = make_instances()
    changed = target.replace(class_ids=np.array([7, 8, 9]), masks=None)
    assert changed.class_ids.tolist() == [7, 8, 9]
    assert target.class_ids.tolist() == [1, 2, 3]
    assert target.masks is not None
    assert changed.boxes is target.boxes
    with pytest.raises(ValueError) as caught:
        target.replace(boxes=np.zeros((1, 4), np.float32))
    assert str(caught.value) == "boxes must have shape (3, 4), got boxes=(1, 4)."


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (ClassLabel(1), "class_id"),
        (make_instances(), "boxes"),
        (SemanticMask(np.zeros((2, 2), np.int32)), "mask"),
    ],
)
def test_fields_cannot_be_set(target: Any, name: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError) as caught:
        setattr(target, name, None)
    assert str(caught.value) == f"cannot assign to field {name!r}"
    with pytest.raises((AttributeError, TypeError)):
        target.anything_else = 1


def test_arrays_in_another_order_are_copied_and_the_callers_are_left_alone() -> None:
    masks = np.zeros((5, 6, 3), np.bool_).transpose(2, 0, 1)
    target = make_instances(masks=masks)
    assert target.masks is not None
    assert target.masks.flags.c_contiguous
    assert not masks.flags.c_contiguous
    class_ids = np.arange(3)
    assert make_instances(class_ids=class_ids).class_ids is class_ids


def test_read_only_arrays_are_taken() -> None:
    boxes = np.zeros((3, 4), np.float32)
    boxes.flags.writeable = False
    assert not make_instances(boxes=boxes).boxes.flags.writeable


@pytest.mark.parametrize("duplicate", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy, copy.copy])
def test_targets_survive_copies_and_pickles(duplicate: Any) -> None:
    target = make_instances()
    for name, array in list_arrays(duplicate(target)).items():
        assert np.array_equal(array, list_arrays(target)[name])
    assert duplicate(ClassLabel(4)).class_id == 4
    assert duplicate(SemanticMask(np.ones((2, 3), np.int32), ignore_index=9)).ignore_index == 9


def test_targets_are_compared_by_identity() -> None:
    target = make_instances()
    assert target == target
    assert target != make_instances()
    assert len({target, make_instances()}) == 2
