"""A sample checks that image, target, maps and origin agree; `edit` carries the origin on and changes nothing."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

HEIGHT, WIDTH = 4, 6
IMAGE = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
flags = st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH)
regions = st.none() | flags.map(lambda bits: np.array(bits).reshape(HEIGHT, WIDTH))


def make_boxes(*boxes: list[float], masks: np.ndarray | None = None) -> Instances:
    return Instances(class_ids=np.ones(len(boxes), np.int64), boxes=np.array(boxes, np.float32), masks=masks)


def test_a_sample_may_be_nothing_but_an_image() -> None:
    sample = Sample(IMAGE)
    assert sample.image is IMAGE
    assert sample.size_hw == (HEIGHT, WIDTH)
    assert sample.target is None
    assert sample.origin is None
    assert sample.metadata == sample.maps == sample.fields == {}


@pytest.mark.parametrize(
    "target",
    [
        None,
        ClassLabel(3),
        make_boxes([0, 0, WIDTH, HEIGHT]),
        make_boxes([1, 1, 2, 2], masks=np.zeros((1, HEIGHT, WIDTH), np.bool_)),
        make_boxes([1, 1, 1, 1]),
        Instances(class_ids=np.zeros(0, np.int64), boxes=np.zeros((0, 4), np.float32)),
        Instances(
            class_ids=np.zeros(0, np.int64),
            boxes=np.zeros((0, 4), np.float32),
            masks=np.zeros((0, HEIGHT, WIDTH), np.bool_),
        ),
        SemanticMask(np.zeros((HEIGHT, WIDTH), np.int32)),
    ],
)
def test_every_kind_of_target_is_taken(target: Any) -> None:
    assert Sample(IMAGE, target).target is target


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"image": IMAGE.astype(np.float32)},
            TypeError,
            "image must have dtype uint8, got image=dtype('float32'). Images inside synthloader are uint8, "
            "(height, width, 3), RGB.",
        ),
        (
            {"image": IMAGE[:, :, 0]},
            ValueError,
            "image must have shape (any, any, 3), got image=(4, 6). Images inside synthloader are uint8, "
            "(height, width, 3), RGB.",
        ),
        (
            {"image": IMAGE.transpose(2, 0, 1)},
            ValueError,
            "image must have shape (any, any, 3), got image=(3, 4, 6). Images inside synthloader are uint8, "
            "(height, width, 3), RGB.",
        ),
        (
            {"image": "a.jpg"},
            TypeError,
            "image must be a numpy array, got image='a.jpg'. Images inside synthloader are uint8, "
            "(height, width, 3), RGB.",
        ),
        (
            {"image": np.zeros((0, 6, 3), np.uint8)},
            ValueError,
            "image must have at least one pixel, got image=(0, 6, 3).",
        ),
        (
            {"target": 3},
            TypeError,
            "target must be a ClassLabel or Instances or SemanticMask, got target=3.",
        ),
        (
            {"target": SemanticMask(np.zeros((6, 4), np.int32))},
            ValueError,
            "mask must have the image's height and width (4, 6), got mask=(6, 4).",
        ),
        (
            {"target": make_boxes([0, 0, 1, 1], masks=np.zeros((1, 6, 4), np.bool_))},
            ValueError,
            "masks must have the image's height and width (4, 6), got masks=(6, 4). Masks are drawn on the full image.",
        ),
        (
            {"target": make_boxes([0, 0, 1, 1], [0, 0, 6.5, 1])},
            ValueError,
            "boxes[1] must lie inside the image of height 4 and width 6, got boxes[1]=[0.0, 0.0, 6.5, 1.0]. "
            "Clip it to the image, or correct the annotation.",
        ),
        (
            {"target": make_boxes([0, -0.5, 1, 1])},
            ValueError,
            "boxes[0] must lie inside the image of height 4 and width 6, got boxes[0]=[0.0, -0.5, 1.0, 1.0]. "
            "Clip it to the image, or correct the annotation.",
        ),
        (
            {"maps": {"depth": np.zeros((6, 4))}},
            ValueError,
            "maps['depth'] must be an array with the image's height and width (4, 6), got "
            "maps['depth']=<array of shape (6, 4), float64>.",
        ),
        (
            {"maps": {"depth": [[0]]}},
            ValueError,
            "maps['depth'] must be an array with the image's height and width (4, 6), got maps['depth']=[[0]].",
        ),
        (
            {"origin": Origin(edited=np.zeros((6, 4), np.bool_))},
            ValueError,
            "edited must have the image's height and width (4, 6), got edited=(6, 4).",
        ),
    ],
)
def test_parts_that_disagree_are_refused(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        Sample(**{"image": IMAGE, **fields})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("edited", "error", "message"),
    [
        (np.zeros((4, 6), np.uint8), TypeError, "edited must have dtype bool, got edited=dtype('uint8')."),
        (np.zeros((4, 6, 1), np.bool_), ValueError, "edited must have shape (any, any), got edited=(4, 6, 1)."),
    ],
)
def test_an_edited_region_of_another_kind_is_refused(edited: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        Origin(edited=edited)
    assert str(caught.value) == message


def test_the_image_is_made_contiguous_and_the_callers_array_is_left_alone() -> None:
    flipped = IMAGE[:, ::-1]
    sample = Sample(flipped)
    assert sample.image.flags.c_contiguous
    assert np.array_equal(sample.image, flipped)
    sample.image[...] = 0
    assert IMAGE.any()


def test_fields_cannot_be_set() -> None:
    for thing, name in ((Sample(IMAGE), "image"), (Origin(), "source")):
        with pytest.raises(dataclasses.FrozenInstanceError) as caught:
            setattr(thing, name, None)
        assert str(caught.value) == f"cannot assign to field {name!r}"


def test_a_changed_copy_is_checked_anew_and_the_first_stays() -> None:
    sample = Sample(IMAGE, ClassLabel(1), metadata={"weather": "fog"})
    changed = sample.replace(target=ClassLabel(2))
    assert isinstance(changed.target, ClassLabel)
    assert changed.target.class_id == 2
    assert changed.metadata == {"weather": "fog"}
    assert isinstance(sample.target, ClassLabel)
    assert sample.target.class_id == 1
    with pytest.raises(ValueError) as caught:
        sample.replace(maps={"depth": np.zeros((1, 1))})
    assert str(caught.value) == (
        "maps['depth'] must be an array with the image's height and width (4, 6), got maps['depth']=array([[0.]])."
    )


# ---- edit


def test_an_edit_keeps_all_that_it_does_not_name() -> None:
    depth = np.zeros((HEIGHT, WIDTH))
    sample = Sample(IMAGE, ClassLabel(1), metadata={"weather": "fog"}, maps={"depth": depth}, fields={"id": [1]})
    target = ClassLabel(2)
    made = sample.edit(image=IMAGE + 1, target=target)
    assert np.array_equal(made.image, IMAGE + 1)
    assert made.target is target
    assert (made.metadata, made.fields) == ({"weather": "fog"}, {"id": [1]})
    assert made.maps["depth"] is depth
    assert made.origin is not None
    assert made.origin.edited is None
    assert made.origin.drawn == ()
    assert sample.origin is None
    assert sample.target is not target


def test_an_edit_changes_what_it_names_in_sample_and_origin() -> None:
    made = Sample(IMAGE).edit(
        image=IMAGE, target=None, prompt="in fog", model="m/1", metadata={"weather": "fog"}, drawn=("a.jpg",)
    )
    assert made.metadata == {"weather": "fog"}
    assert made.origin is not None
    assert (made.origin.prompt, made.origin.model, made.origin.drawn) == ("in fog", "m/1", ("a.jpg",))
    again = made.edit(image=IMAGE, target=None, drawn=("b.jpg",))
    assert again.origin is not None
    assert (again.origin.prompt, again.origin.model) == ("in fog", "m/1")


def test_an_edit_keeps_what_the_origin_says_already() -> None:
    origin = Origin(source="s", fingerprint="f", variant=3, attempt=1, seed=9, scores={"MinBox": 0.5})
    made = Sample(IMAGE, origin=origin).edit(image=IMAGE, target=None, edited=np.ones((HEIGHT, WIDTH), np.bool_))
    assert made.origin is not None
    assert (made.origin.source, made.origin.fingerprint, made.origin.variant) == ("s", "f", 3)
    assert (made.origin.attempt, made.origin.seed, made.origin.scores) == (1, 9, {"MinBox": 0.5})


@given(
    steps=st.lists(st.tuples(regions, st.lists(st.sampled_from(["a", "b", "c"]), max_size=2)), min_size=1, max_size=4)
)
def test_several_edits_name_the_union_of_their_regions_and_all_that_was_drawn(
    steps: list[tuple[np.ndarray | None, list[str]]],
) -> None:
    sample = Sample(IMAGE)
    copies = [None if region is None else region.copy() for region, _ in steps]
    for region, drawn in steps:
        sample = sample.edit(image=IMAGE, target=None, edited=region, drawn=tuple(drawn))
    assert sample.origin is not None
    assert sample.origin.drawn == tuple(name for _, drawn in steps for name in drawn)
    if any(region is None for region, _ in steps):
        assert sample.origin.edited is None
    else:
        assert sample.origin.edited is not None
        assert np.array_equal(sample.origin.edited, np.any([region for region, _ in steps], axis=0))
    for (region, _), before in zip(steps, copies, strict=True):
        assert region is None or np.array_equal(region, before)


def test_an_edit_is_checked() -> None:
    with pytest.raises(ValueError) as caught:
        Sample(IMAGE).edit(image=IMAGE, target=None, edited=np.zeros((2, 2), np.bool_))
    assert str(caught.value) == "edited must have the image's height and width (4, 6), got edited=(2, 2)."


def test_an_edit_with_an_unknown_field_is_an_error() -> None:
    with pytest.raises(TypeError):
        Sample(IMAGE).edit(image=IMAGE, target=None, wether="fog")


def test_an_edit_never_writes_into_what_it_was_given() -> None:
    image, other = IMAGE.copy(), IMAGE + 1
    metadata: Mapping[str, str] = MappingProxyType({"weather": "fog"})
    for array in (image, other):
        array.flags.writeable = False
    made = Sample(image, metadata=metadata).edit(image=other, target=None)
    assert made.edit(image=image, target=None).metadata is metadata


@pytest.mark.parametrize("duplicate", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy])
def test_a_sample_survives_copies_and_pickles(duplicate: Any) -> None:
    sample = Sample(
        IMAGE,
        make_boxes([0, 0, 1, 1]),
        Origin(source="s", drawn=("a",), edited=np.ones((HEIGHT, WIDTH), np.bool_)),
        metadata={"a": 1},
        maps={"depth": np.ones((HEIGHT, WIDTH))},
        fields={"x": [1, {"y": np.arange(2)}]},
    )
    copied = duplicate(sample)
    assert np.array_equal(copied.image, IMAGE)
    assert copied.target.boxes.tolist() == [[0, 0, 1, 1]]
    assert copied.origin.drawn == ("a",)
    assert copied.origin.edited.all()
    assert copied.metadata == {"a": 1}
    assert copied.fields["x"][1]["y"].tolist() == [0, 1]
