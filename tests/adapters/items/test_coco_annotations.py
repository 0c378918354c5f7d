"""COCO annotation lists, as `CocoDetection` and torchvision's references return them."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.adapters import DetectionAdapter
from synthloader.adapters.items.segmentations import encode_mask
from synthloader.sample import Sample
from synthloader.targets import Instances

IMAGE = PIL.Image.new("RGB", (64, 48))
ADAPTER = DetectionAdapter()


def make_annotation(number: int, box: list[float], **fields: Any) -> dict[str, Any]:
    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {
        "id": number, "image_id": 7, "category_id": number, "segmentation": [polygon], "area": 1.5 * number,
        "bbox": box, "iscrowd": 0, **fields,
    }  # fmt: skip


def read(annotations: list[dict[str, Any]], image_id: int | None = None) -> tuple[Sample, Instances]:
    item: Any = (IMAGE, annotations if image_id is None else {"image_id": image_id, "annotations": annotations})
    sample = ADAPTER.to_sample(item, index=17)
    assert isinstance(sample.target, Instances)
    return sample, sample.target


def write(sample: Sample, **changes: Any) -> list[dict[str, Any]]:
    assert isinstance(sample.target, Instances)
    annotations: list[dict[str, Any]] = ADAPTER.from_sample(
        sample.replace(target=sample.target.replace(**changes)), like=(IMAGE, [])
    )[1]
    return annotations


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6,
)  # fmt: skip


@given(fields=st.lists(st.dictionaries(st.text(max_size=6), JSON, max_size=4), min_size=1, max_size=3))
def test_whatever_an_annotation_holds_comes_back(fields: list[dict[str, Any]]) -> None:
    annotations = [
        {**extra, **make_annotation(number + 1, [4.0 * number + 2, 5.1, 7.3, 9.7])}
        for number, extra in enumerate(fields)
    ]
    sample, _ = read(copy.deepcopy(annotations))
    back = write(sample)
    assert back == annotations
    assert [list(annotation) for annotation in back] == [list(annotation) for annotation in annotations]
    assert json.dumps(back) == json.dumps(annotations)


@given(attributes=st.lists(st.dictionaries(st.text(max_size=6), JSON, max_size=4), min_size=1, max_size=3))
def test_whatever_the_attributes_hold_comes_back(attributes: list[dict[str, Any]]) -> None:
    annotations = [
        make_annotation(number + 1, [4.0 * number + 2, 5.1, 7.3, 9.7], attributes=extra, colour="rot")
        for number, extra in enumerate(attributes)
    ]
    assert write(read(copy.deepcopy(annotations))[0]) == annotations


def test_boxes_classes_masks_and_crowds_are_read() -> None:
    crowd = make_annotation(2, [10, 10, 4, 4], iscrowd=1, segmentation=[])
    _, target = read([make_annotation(1, [2, 3, 5, 6]), crowd])
    assert target.class_ids.tolist() == [1, 2]
    assert target.boxes.tolist() == [[2, 3, 7, 9], [10, 10, 14, 14]]
    assert target.crowd is not None
    assert target.crowd.tolist() == [False, True]
    assert target.masks is not None
    assert target.masks.sum(axis=(1, 2)).tolist() == [30, 16]
    assert target.attributes["id"].tolist() == [1, 2]


def test_masks_are_there_only_where_every_object_has_one() -> None:
    assert read([make_annotation(1, [2, 3, 5, 6]), make_annotation(2, [9, 9, 5, 6], segmentation=[])])[1].masks is None
    empty = read([])[1]
    assert empty.masks is not None
    assert empty.masks.shape == (0, 48, 64)


def test_fields_and_attributes_become_columns() -> None:
    _, target = read([
        make_annotation(1, [2, 3, 5, 6], score=0.5, track=3, attributes={"occluded": True, "colour": "rot", "area": 1}),
        make_annotation(2, [2, 3, 5, 6], score=0.25, track=4, attributes={"occluded": False, "score": 9, "tags": [1]}),
        make_annotation(3, [2, 3, 5, 6], score=1, track=5, difficult=True, shape=[1, 2]),
    ])  # fmt: skip
    columns = target.attributes
    assert columns["score"].tolist() == [0.5, 0.25, 1.0]
    assert columns["track"].tolist() == [3, 4, 5]
    np.testing.assert_array_equal(columns["occluded"], [1, 0, np.nan])
    assert columns["colour"].tolist() == ["rot", "", ""]
    np.testing.assert_array_equal(columns["attributes.score"], [np.nan, 9, np.nan])
    np.testing.assert_array_equal(columns["attributes.area"], [1, np.nan, np.nan])
    np.testing.assert_array_equal(columns["difficult"], [np.nan, np.nan, 1])
    assert not {"shape", "tags", "attributes.tags"} & set(columns)


def test_a_changed_attribute_is_written_back_where_it_came_from() -> None:
    sample, target = read([
        make_annotation(1, [2, 3, 5, 6], score=0.5, attributes={"occluded": False, "score": 4, "colour": "rot"}),
        make_annotation(2, [2, 3, 5, 6], attributes={"occluded": False}),
    ])  # fmt: skip
    columns = dict(target.attributes)
    columns |= {
        "score": np.array([0.75, 0.1]), "occluded": np.array([True, False]), "attributes.score": np.array([5.0, 6.0]),
        "colour": np.array(["blau", "gelb"]), "generated": np.array([True, True]),
    }  # fmt: skip
    one, two = write(sample, attributes=columns)
    assert one["score"] == 0.75
    assert one["attributes"] == {"occluded": True, "score": 5, "colour": "blau"}
    assert type(one["attributes"]["score"]) is int
    assert two == make_annotation(2, [2, 3, 5, 6], attributes={"occluded": False})


def test_a_changed_mask_gets_new_run_lengths_and_area_and_the_rest_is_kept() -> None:
    annotations = [make_annotation(1, [2, 3, 5, 6], note="x"), make_annotation(2, [20, 20, 5, 6], area=30)]
    sample, target = read(copy.deepcopy(annotations))
    assert target.masks is not None
    masks = target.masks.copy()
    masks[1, 22, 21:24] = False
    one, two = write(sample, masks=masks)
    assert one == annotations[0]
    assert two == {**annotations[1], "segmentation": encode_mask(masks[1]), "area": 27}
    assert list(two) == list(annotations[1])
    assert type(two["area"]) is int


def test_a_moved_box_gets_a_new_bbox() -> None:
    sample, target = read([make_annotation(1, [2.5, 3, 5, 6], segmentation=[])])
    (moved,) = write(sample, boxes=target.boxes + np.float32(4))
    assert moved == make_annotation(1, [6.5, 7, 5, 6], segmentation=[], area=30.0)


def test_a_segmentation_that_cannot_follow_its_box_is_taken_away() -> None:
    plain = make_annotation(2, [9, 9, 5, 6], segmentation=[])
    sample, target = read([make_annotation(1, [2, 3, 5, 6]), plain])
    one, two = write(sample, boxes=target.boxes + np.array([[4], [0]], np.float32))
    assert (one["bbox"], one["segmentation"]) == ([6, 7, 5, 6], [])
    assert two == plain


def test_a_pasted_annotation_keeps_its_id_and_gets_the_image_of_the_source() -> None:
    sample, into = read([make_annotation(1, [2, 3, 5, 6])])
    donor = make_annotation(9, [20, 20, 5, 6], image_id=8, score=0.5)
    _, given = read([donor])
    columns = {
        name: np.concatenate([into.attributes[name], given.attributes[name]])
        for name in given.attributes if name in into.attributes
    }  # fmt: skip
    assert into.masks is not None
    assert given.masks is not None
    pasted = sample.replace(
        target=Instances(
            np.array([1, 9]), np.concatenate([into.boxes, given.boxes]), np.concatenate([into.masks, given.masks]),
            attributes=columns,
        )
    )  # fmt: skip
    assert ADAPTER.from_sample(pasted, like=(IMAGE, []))[1] == [
        make_annotation(1, [2, 3, 5, 6]),
        {**donor, "image_id": 7},
    ]


@pytest.mark.parametrize(("stated", "known"), [(None, -1), (5, 5)])
def test_an_image_without_annotations_tells_its_id_only_in_the_form_of_the_references(
    stated: int | None, known: int
) -> None:
    sample, _ = read([], stated)
    _, given = read([make_annotation(9, [20, 20, 5, 6], image_id=8)])
    item = ADAPTER.from_sample(sample.replace(target=given), like=(IMAGE, []))
    assert item[1] == [make_annotation(9, [20, 20, 5, 6], image_id=known)]


def test_an_instance_without_an_annotation_gets_a_new_one() -> None:
    target = Instances(np.array([3]), np.array([[1, 2, 4, 8]], np.float32))
    drawn = Sample(np.zeros((10, 10, 3), np.uint8), target)
    assert ADAPTER.from_sample(drawn, like=(IMAGE, []))[1] == [
        {"id": 0, "image_id": -1, "category_id": 3, "iscrowd": 0, "bbox": [1, 2, 3, 6], "area": 18.0}
    ]


def test_keypoints_are_read_where_all_have_them_and_written_when_they_move() -> None:
    annotations = [
        make_annotation(1, [2, 3, 5, 6], keypoints=[3, 4, 2, 0, 0, 0], num_keypoints=1),
        make_annotation(2, [9, 9, 5, 6], keypoints=[10, 11, 2, 12, 13, 1], num_keypoints=2),
    ]
    sample, target = read(copy.deepcopy(annotations))
    assert target.keypoints is not None
    points = target.keypoints.copy()
    points[1, 0] = 0
    one, two = write(sample, keypoints=points)
    assert one == annotations[0]
    assert two == {**annotations[1], "keypoints": [0, 0, 0, 12, 13, 1], "num_keypoints": 1}


def test_keypoints_that_cannot_follow_their_box_are_marked_as_not_labelled() -> None:
    first = make_annotation(1, [2, 3, 5, 6], keypoints=[3, 4, 2], num_keypoints=1, segmentation=[])
    sample, target = read([first, make_annotation(2, [9, 9, 5, 6])])
    assert target.keypoints is None
    one, _ = write(sample, boxes=target.boxes + np.float32(4))
    assert (one["keypoints"], one["num_keypoints"]) == ([0, 0, 0], 0)


def test_tuples_and_arrays_in_annotations_come_back() -> None:
    annotation = make_annotation(1, [2, 3, 5, 6], bbox=(2, 3, 5, 6), corner=np.array([1.5, 2.5]))
    (back,) = write(read([annotation])[0])
    assert back["bbox"] == (2, 3, 5, 6)
    assert back["corner"].tolist() == [1.5, 2.5]


def test_dropping_takes_whole_annotations() -> None:
    annotations = [
        make_annotation(1, [2, 3, 0, 6]),
        make_annotation(2, [9, 9, 5, 6]),
        make_annotation(3, [60, 9, 9, 6]),
    ]
    adapter = DetectionAdapter(bad_boxes="drop")
    sample = adapter.to_sample((IMAGE, annotations), index=0)
    one, two = adapter.from_sample(sample, like=(IMAGE, []))[1]
    assert one == annotations[1]
    assert (two["id"], two["bbox"]) == (3, [60, 9, 4, 6])


FIX = (
    "Correct the annotation, or pass adapter=DetectionAdapter(bad_boxes='drop'), which clips boxes to the image and "
    "drops those without area."
)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"bbox": [60, 1, 30, 5]},
            ValueError,
            "dataset[17][1][1]['bbox'] must lie inside the image of height 48 and width 64, got "
            "dataset[17][1][1]['bbox']=[60.0, 1.0, 30.0, 5.0]. " + FIX,
        ),
        (
            {"bbox": [60, 1, 0, 5]},
            ValueError,
            "dataset[17][1][1]['bbox'] must have an area above 0, got dataset[17][1][1]['bbox']=[60.0, 1.0, 0.0, 5.0]. "
            + FIX,
        ),
        (
            {"bbox": [60, 1, -3, 5]},
            ValueError,
            "dataset[17][1][1]['bbox'] must have a width and height above 0, got "
            "dataset[17][1][1]['bbox']=[60.0, 1.0, -3.0, 5.0]. " + FIX,
        ),
        (
            {"bbox": [1, 2, 3]},
            ValueError,
            "dataset[17][1][1]['bbox'] must be x, y, width, height, got dataset[17][1][1]['bbox']=[1, 2, 3]. Correct the "
            "annotation.",
        ),
        (
            {"category_id": "3"},
            TypeError,
            "dataset[17][1][1]['category_id'] must be an integer, got dataset[17][1][1]['category_id']='3'. Write ids "
            "without quotes.",
        ),
        (
            {"category_id": 3.5},
            TypeError,
            "dataset[17][1][1]['category_id'] must be an integer, got dataset[17][1][1]['category_id']=3.5. Correct the "
            "annotation.",
        ),
        (
            {"category_id": None},
            TypeError,
            "dataset[17][1][1]['category_id'] must be an integer, got dataset[17][1][1]['category_id']=None. Correct the "
            "annotation.",
        ),
        (
            {"segmentation": {"counts": [10], "size": [2, 5]}},
            ValueError,
            "the size of dataset[17][1][1]['segmentation'] must be the image's, [48, 64], got the size of "
            "dataset[17][1][1]['segmentation']=[2, 5]. Correct the annotation.",
        ),
    ],
    ids=[
        "outside", "no area", "negative", "three numbers", "class as text", "class with a fraction", "no class",
        "segmentation of another size",
    ],
)  # fmt: skip
def test_wrong_annotations_are_refused_with_index_row_and_remedy(
    fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        read([make_annotation(1, [2, 3, 5, 6]), make_annotation(2, [2, 3, 5, 6]) | fields])
    assert str(caught.value) == message


def test_an_annotation_without_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match="category_id") as caught:
        ADAPTER.to_sample((IMAGE, {"image_id": 3, "annotations": [{"bbox": [1, 1, 2, 2]}]}), index=4)
    assert str(caught.value) == (
        "dataset[4][1]['annotations'][0] must have 'category_id', got dataset[4][1]['annotations'][0]=['bbox']. Correct "
        "the annotation."
    )


def test_normalised_bboxes_are_refused() -> None:
    with pytest.raises(ValueError, match="pixels") as caught:
        read([make_annotation(1, [0.25, 0.25, 0.5, 0.5])])
    assert str(caught.value) == (
        "the boxes of dataset[17][1] must be in pixels, got the boxes of dataset[17][1]=[[0.25, 0.25, 0.5, 0.5]]. "
        "Multiply them by the image's width and height."
    )
