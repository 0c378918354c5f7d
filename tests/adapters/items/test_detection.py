"""Target dicts of torchvision's detectors: what follows the instances, what follows the image, what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import tv_tensors

from synthloader.adapters import DetectionAdapter
from synthloader.adapters.items.target_dicts import NATIVE_BOXES
from synthloader.errors import LabelContractError
from synthloader.registry import find_adapter
from synthloader.sample import Sample
from synthloader.targets import Instances

IMAGE = torch.zeros(3, 48, 64, dtype=torch.uint8)
BOXES = [[1.0, 1.0, 5.0, 5.0], [10.0, 10.0, 30.0, 20.0], [40.0, 4.0, 60.0, 44.0]]


def make_item(count: int = 3, **fields: Any) -> tuple[Any, dict[str, Any]]:
    boxes = torch.tensor(BOXES[:count]).reshape(-1, 4)
    return IMAGE, {"boxes": boxes, "labels": torch.arange(1, count + 1), **fields}


def read(item: Any, **options: Any) -> Instances:
    target = DetectionAdapter(**{"instance_fields": [], **options}).to_sample(item, index=17).target
    assert isinstance(target, Instances)
    return target


def paste(sample: Sample, donor: Sample, row: int, at: tuple[float, float]) -> Sample:
    """Put one instance of another sample beside those of this one, with all that both know of theirs."""
    into, given = sample.target, donor.target
    assert isinstance(into, Instances)
    assert isinstance(given, Instances)
    one = given.select(np.array([row]))
    shift = np.array([*at, *at], np.float32) - np.tile(one.boxes[0, :2], 2)
    columns = {
        name: np.concatenate([column, one.attributes[name]])
        for name, column in into.attributes.items() if name in one.attributes
    }  # fmt: skip
    masks = None
    if into.masks is not None and one.masks is not None:
        masks = np.concatenate([into.masks, np.roll(one.masks, shift[[1, 0]].astype(int), axis=(1, 2))])
    return sample.replace(
        target=Instances(
            np.concatenate([into.class_ids, one.class_ids]), np.concatenate([into.boxes, one.boxes + shift]), masks,
            attributes={**columns, "generated": np.arange(len(into) + 1) >= len(into)},
        )
    )  # fmt: skip


class TestRecognition:
    def test_target_dicts_coco_lists_and_references_are_known(self) -> None:
        annotation = {"bbox": [1, 1, 5, 5], "category_id": 1}
        for item in (make_item(), (IMAGE, [annotation]), (IMAGE, {"image_id": 3, "annotations": [annotation]})):
            assert isinstance(DetectionAdapter.recognize(object(), [item]), DetectionAdapter)

    @pytest.mark.parametrize(
        "item",
        [
            (IMAGE, 3),
            (IMAGE, "a caption"),
            (IMAGE, ["one caption", "another"]),
            (IMAGE, [{"caption": "a cat", "id": 3}]),
            (IMAGE, {"masks": torch.zeros(48, 64)}),
            (IMAGE, {"labels": torch.tensor([1])}),
            (IMAGE, {"image_id": 3, "labels": torch.tensor([1])}),
            (IMAGE, {"image_id": 3}),
            (IMAGE, {"bbox": [[1.0, 2.0, 3.0, 4.0]]}),
            (IMAGE, torch.zeros(48, 64)),
            (IMAGE, make_item()[1], 5),
            {"image": IMAGE, **make_item()[1]},
            ("a.jpg", make_item()[1]),
            IMAGE,
        ],
        ids=lambda item: type(item[1]).__name__ if isinstance(item, tuple) else type(item).__name__,
    )
    def test_other_items_are_left_to_other_adapters(self, item: Any) -> None:
        assert DetectionAdapter.recognize(object(), [item]) is None

    def test_no_items_are_not_recognised(self) -> None:
        assert DetectionAdapter.recognize(object(), []) is None

    def test_an_image_of_which_a_wrapper_left_only_the_id_has_no_objects(self) -> None:
        items = [(IMAGE, {"image_id": 4}), make_item(image_id=5)]
        adapter = find_adapter(object(), items)
        empty = adapter.to_sample(items[0], index=0)
        assert isinstance(empty.target, Instances)
        assert len(empty.target) == 0
        assert empty.target.masks is not None
        assert adapter.from_sample(empty, like=items[1])[1] == {"image_id": 4}
        pasted = paste(empty, adapter.to_sample(items[1], index=1), 0, (8, 8))
        target = adapter.from_sample(pasted, like=items[1])[1]
        assert list(target) == ["image_id", "boxes", "labels"]
        assert target["image_id"] == 4
        assert target["boxes"].tolist() == [[8, 8, 12, 12]]

    def test_fields_of_instances_are_those_that_are_as_long_as_the_boxes_everywhere(self) -> None:
        items = [
            make_item(2, difficult=[0, 1], place=(1.0, 2.0), size=[48, 64], name="x", tags=["a", "b"]),
            make_item(3, difficult=[0, 1, 1], place=(1.0, 2.0), size=[48, 64], name="abc", tags=["a", "b", "c"]),
        ]
        assert find_adapter(object(), items).fingerprint == (
            'DetectionAdapter/2(bad_boxes="error", boxes="xyxy", form=["boxes", "labels", "size"], '
            'instance_fields=["difficult", "tags"])'
        )

    def test_a_dataset_may_state_its_fields_of_instances(self) -> None:
        class Stating:
            instance_fields = ("difficult",)

        adapter = DetectionAdapter.recognize(Stating(), [make_item(2, difficult=[0, 1], camera=[1, 2])])
        assert adapter is not None
        assert adapter.instance_fields == ("difficult",)

    def test_complete_keeps_the_options_and_finds_what_was_left_open(self) -> None:
        given = DetectionAdapter(bad_boxes="drop", boxes="xywh")
        completed = given.complete([make_item(2, difficult=[0, 1])])
        assert completed.fingerprint == (
            'DetectionAdapter/2(bad_boxes="drop", boxes="xywh", form=["boxes", "labels"], '
            'instance_fields=["difficult"])'
        )
        assert completed.complete([make_item(2, other=[0, 1])]) is completed


class TestInstances:
    @pytest.mark.parametrize("side", [2, 3])
    def test_normalised_keypoints_are_refused(self, side: int) -> None:
        points = torch.tensor([[[0.5, 0.25, 2.0], [0.9, 0.75, 1.0]]] * 3)[..., :side]
        item = make_item()
        with pytest.raises(ValueError) as caught:
            read((item[0], {**item[1], "keypoints": points}))
        assert str(caught.value).startswith("dataset[17][1]['keypoints'] must be in pixels, got")
        assert str(caught.value).endswith(
            "These are normalised to 0..1: multiply x by the image's width and y by its height in the dataset."
        )

    def test_lists_arrays_and_tensors_say_the_same(self) -> None:
        for boxes, labels in ((BOXES, [1, 2, 3]), (np.array(BOXES), np.arange(1, 4)), make_item()[1].values()):
            target = read((IMAGE, {"boxes": boxes, "labels": labels}))
            assert target.boxes.tolist() == BOXES
            assert target.class_ids.tolist() == [1, 2, 3]
            assert target.masks is None

    def test_masks_keypoints_and_crowds_are_read(self) -> None:
        masks = torch.zeros(3, 48, 64, dtype=torch.uint8)
        masks[1, 10:20, 10:30] = 1
        target = read(make_item(masks=masks, keypoints=torch.ones(3, 5, 3), iscrowd=torch.tensor([0, 1, 0])))
        assert target.masks is not None
        assert target.masks.sum(axis=(1, 2)).tolist() == [0, 200, 0]
        assert target.keypoints is not None
        assert target.keypoints.shape == (3, 5, 3)
        assert target.crowd is not None
        assert target.crowd.tolist() == [False, True, False]

    def test_boxes_of_torchvision_say_their_format_themselves(self) -> None:
        boxes = tv_tensors.BoundingBoxes([[10.0, 10.0, 20.0, 10.0]], format="XYWH", canvas_size=(48, 64))
        item = (IMAGE, {"boxes": boxes, "labels": torch.tensor([1])})
        assert read(item).boxes.tolist() == [[10, 10, 30, 20]]

    def test_stated_formats_come_back_as_they_were(self) -> None:
        item = (IMAGE, {"boxes": torch.tensor([[0.3, 0.7, 0.11, 0.13]]), "labels": torch.tensor([1])})
        adapter = DetectionAdapter(boxes="cxcywh_normalized", instance_fields=[])
        sample = adapter.to_sample(item, index=0)
        assert torch.equal(adapter.from_sample(sample, like=item)[1]["boxes"], item[1]["boxes"])

    def test_dropped_objects_take_their_rows_with_them(self) -> None:
        item = make_item(
            boxes=torch.tensor([[1.0, 1, 5, 5], [70, 1, 90, 5], [40, 4, 90, 44]]), difficult=[0, 1, 2],
            masks=torch.ones(3, 48, 64, dtype=torch.bool), iscrowd=torch.tensor([0, 0, 1]), area=[16.0, 80.0, 99.0],
        )  # fmt: skip
        adapter = DetectionAdapter(bad_boxes="drop", instance_fields=["difficult"])
        sample = adapter.to_sample(item, index=0)
        target = adapter.from_sample(sample, like=item)[1]
        assert target["boxes"].tolist() == [[1, 1, 5, 5], [40, 4, 64, 44]]
        assert target["labels"].tolist() == [1, 3]
        assert target["difficult"] == [0, 2]
        assert target["iscrowd"].tolist() == [0, 1]
        assert target["masks"].shape == (2, 48, 64)
        assert target["area"] == [16.0, 48.0 * 64]  # The box that was clipped is a changed one.

    def test_a_box_that_sticks_out_by_a_rounding_comes_back_as_it_was(self) -> None:
        item = make_item(1, boxes=torch.tensor([[40.0, 4.0, 64.6, 48.5]]), area=torch.tensor([1094.0]))
        adapter = DetectionAdapter(instance_fields=[])
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        assert sample.target.boxes.tolist() == [[40, 4, 64, 48]]
        target = adapter.from_sample(sample, like=item)[1]
        assert torch.equal(target["boxes"], item[1]["boxes"])
        assert target["area"].tolist() == [1094.0]


class TestChanges:
    adapter = DetectionAdapter(instance_fields=["difficult", "names"])

    def make_full_item(self, count: int, image_id: int) -> Any:
        masks = torch.zeros(count, 48, 64, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, np.array(BOXES, int), strict=False):
            mask[y1:y2, x1:x2] = 1
        return make_item(
            count, masks=masks, area=torch.arange(count) + 0.5, iscrowd=torch.zeros(count, dtype=torch.int64),
            image_id=torch.tensor([image_id]), difficult=torch.arange(count), names=[f"n{row}" for row in range(count)],
        )  # fmt: skip

    def test_a_pasted_instance_brings_its_fields_and_the_rest_stays_verbatim(self) -> None:
        item, other = self.make_full_item(2, 5), self.make_full_item(3, 6)
        donor = self.adapter.to_sample(other, index=1)
        sample = paste(self.adapter.to_sample(item, index=0), donor, 2, (20, 2))
        target = self.adapter.from_sample(sample, like=other)[1]
        assert list(target) == list(item[1])
        assert target["boxes"].tolist() == [*BOXES[:2], [20, 2, 40, 42]]
        assert target["labels"].tolist() == [1, 2, 3]
        assert target["area"].tolist() == [0.5, 1.5, 800.0]
        assert target["difficult"].tolist() == [0, 1, 2]
        assert target["names"] == ["n0", "n1", "n2"]
        assert target["image_id"].tolist() == [5]
        assert target["masks"].sum(dim=(1, 2)).tolist() == [16, 200, 800]
        assert {field: value.dtype for field, value in target.items() if isinstance(value, torch.Tensor)} == {
            field: value.dtype for field, value in item[1].items() if isinstance(value, torch.Tensor)
        }

    def test_a_covered_mask_gets_a_new_area_and_its_neighbour_keeps_its_own(self) -> None:
        item = self.make_full_item(2, 5)
        sample = self.adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        assert sample.target.masks is not None
        masks = sample.target.masks.copy()
        masks[1, 12:14, 12:20] = False
        target = self.adapter.from_sample(sample.replace(target=sample.target.replace(masks=masks)), like=item)[1]
        assert target["area"].tolist() == [0.5, 184.0]

    def test_without_masks_the_area_is_that_of_the_box(self) -> None:
        item = make_item(1, area=[7])
        adapter = DetectionAdapter(instance_fields=[])
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        moved = sample.target.replace(boxes=sample.target.boxes * np.float32(2))
        assert adapter.from_sample(sample.replace(target=moved), like=item)[1]["area"] == [64.0]

    def test_dropping_all_instances_leaves_empty_fields_of_the_right_shape(self) -> None:
        item = self.make_full_item(2, 5)
        sample = self.adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        target = self.adapter.from_sample(
            sample.replace(target=sample.target.select(np.zeros(0, np.int64))), like=item
        )[1]
        assert target["boxes"].shape == (0, 4)
        assert target["masks"].shape == (0, 48, 64)
        assert target["names"] == []
        assert target["boxes"].dtype == torch.float32

    def test_sizes_are_those_of_the_image_served(self) -> None:
        item = make_item(
            size=torch.tensor([48, 64]), orig_size=(48, 64), img_size=[64, 48], image_size=np.array([48, 64, 3]),
            height=48, w=torch.tensor(64), scale=[48, 64],
        )  # fmt: skip
        adapter = DetectionAdapter(instance_fields=[])
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        smaller = Sample(
            np.zeros((24, 32, 3), np.uint8), sample.target.replace(boxes=sample.target.boxes / 2), fields=sample.fields
        )
        target = adapter.from_sample(smaller, like=item)[1]
        assert target["size"].tolist() == [24, 32]
        assert target["orig_size"] == (24, 32)
        assert target["img_size"] == [32, 24]
        assert target["image_size"].tolist() == [24, 32, 3]
        assert (target["height"], target["w"].item()) == (24, 32)
        assert target["scale"] == [48, 64]

    def test_facts_of_the_image_are_metadata_and_may_be_changed_there(self) -> None:
        item = make_item(weather="dry", camera=3, image_id=9, height=48)
        adapter = DetectionAdapter(instance_fields=[])
        sample = adapter.to_sample(item, index=0)
        assert dict(sample.metadata) == {"weather": "dry", "camera": 3}
        foggy = sample.replace(metadata={"weather": "fog", "of the generator": 1})
        target = adapter.from_sample(foggy, like=item)[1]
        assert (target["weather"], target["camera"]) == ("fog", 3)
        assert "of the generator" not in target

    def test_fields_named_as_the_columns_of_generators_do_not_meet_them(self) -> None:
        item = make_item(1, visible=[7], generated=["yes"])
        adapter = DetectionAdapter(instance_fields=["visible", "generated"])
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        columns = {**sample.target.attributes, "visible": np.array([0.5]), "generated": np.array([True])}
        marked = sample.replace(target=sample.target.replace(attributes=columns))
        assert adapter.from_sample(marked, like=item)[1]["visible"] == [7]
        assert adapter.from_sample(marked, like=item)[1]["generated"] == ["yes"]

    def test_what_cannot_be_stored_comes_back_as_the_object(self) -> None:
        thing = PIL.Image.new("L", (2, 2))
        item = make_item(depth=thing)
        adapter = DetectionAdapter(instance_fields=[])
        assert adapter.from_sample(adapter.to_sample(item, index=0), like=item)[1]["depth"] is thing

    def test_a_sample_from_elsewhere_gets_the_fields_that_can_be_known(self) -> None:
        item = make_item(2, image_id=3, area=[1.0, 2.0], weather="dry")
        drawn = Sample(np.zeros((8, 8, 3), np.uint8), Instances(np.array([4]), np.array([[0, 0, 2, 3]], np.float32)))
        target = DetectionAdapter(instance_fields=[]).from_sample(drawn, like=item)[1]
        assert list(target) == ["boxes", "labels", "area"]
        assert target["area"] == [6.0]

    def test_a_generator_that_forgets_the_attributes_is_told_so(self) -> None:
        item = make_item(2, difficult=[0, 1])
        adapter = DetectionAdapter(instance_fields=["difficult"])
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        bare = sample.replace(target=sample.target.replace(attributes={NATIVE_BOXES: np.zeros((2, 4))}))
        message = (
            "attributes must keep 'difficult', which the dataset has for every instance, got "
            "attributes=['native.boxes']. Carry the attributes of Instances on in the generator."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            adapter.from_sample(bare, like=item)


FIX = " Correct the annotation."


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"boxes": torch.tensor([[30.0, 20.0, 70.0, 40.0]]), "labels": torch.tensor([1])},
            ValueError,
            "dataset[17][1]['boxes'][0] must lie inside the image of height 48 and width 64, got "
            "dataset[17][1]['boxes'][0]=[30.0, 20.0, 70.0, 40.0]. Correct the annotation, or pass "
            "adapter=DetectionAdapter(bad_boxes='drop'), which clips boxes to the image and drops those without area. If "
            "the boxes have another format, state it: DetectionAdapter(boxes='xywh'), or 'cxcywh', or 'xyxy'.",
        ),
        (
            {"labels": torch.tensor([1])},
            ValueError,
            "len(dataset[17][1]['labels']) must be the number of boxes, 3, got len(dataset[17][1]['labels'])=1." + FIX,
        ),
        (
            {"labels": torch.tensor([1, 2.5, 3])},
            ValueError,
            "dataset[17][1]['labels'] must be whole numbers, got dataset[17][1]['labels']=[1.0, 2.5, 3.0]." + FIX,
        ),
        (
            {"masks": torch.zeros(3, 24, 32)},
            ValueError,
            "the height and width of dataset[17][1]['masks'] must be the image's, (48, 64), got the height and width of "
            "dataset[17][1]['masks']=(24, 32). Masks are drawn on the whole image.",
        ),
        (
            {"masks": torch.zeros(2, 48, 64)},
            ValueError,
            "len(dataset[17][1]['masks']) must be the number of boxes, 3, got len(dataset[17][1]['masks'])=2." + FIX,
        ),
        (
            {"masks": torch.full((3, 48, 64), 255, dtype=torch.uint8)},
            ValueError,
            "dataset[17][1]['masks'][0] must hold only 0 and 1, got dataset[17][1]['masks'][0]=[255]. Return one mask "
            "for each object: (masks > 0) where 255 stands for the object.",
        ),
        (
            {"keypoints": torch.zeros(3, 5, 4)},
            ValueError,
            "dataset[17][1]['keypoints'] must have shape (3, any, 3), got dataset[17][1]['keypoints']=(3, 5, 4)." + FIX,
        ),
        (
            {"iscrowd": torch.tensor([0, 2, 0])},
            ValueError,
            "dataset[17][1]['iscrowd'] must be 0 or 1, got dataset[17][1]['iscrowd']=[0, 2, 0]." + FIX,
        ),
        (
            {"boxes": torch.zeros(3, 5)},
            ValueError,
            "dataset[17][1]['boxes'] must be numbers of shape (N, 4), got "
            "dataset[17][1]['boxes']=<array of shape (3, 5), float32>." + FIX,
        ),
        (
            {"boxes": 3},
            TypeError,
            "dataset[17][1]['boxes'] must be an array, a tensor or a list, got dataset[17][1]['boxes']=3.",
        ),
        (
            {"boxes": tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=(64, 48))},
            ValueError,
            "the canvas_size of dataset[17][1]['boxes'] must be the image's height and width, (48, 64), got the "
            "canvas_size of dataset[17][1]['boxes']=(64, 48). Give the boxes and the image one size.",
        ),
        (
            {"difficult": [1]},
            ValueError,
            "dataset[17][1]['difficult'] must have a row for each of the 3 boxes, got dataset[17][1]['difficult']=[1]. "
            "Correct the annotation; or, if the field is not of instances, leave it out of "
            "DetectionAdapter(instance_fields=['difficult']).",
        ),
        (
            {"difficult": 1},
            ValueError,
            "dataset[17][1]['difficult'] must have a row for each of the 3 boxes, got dataset[17][1]['difficult']=1. "
            "Correct the annotation; or, if the field is not of instances, leave it out of "
            "DetectionAdapter(instance_fields=['difficult']).",
        ),
    ],
    ids=[
        "outside", "lengths", "half labels", "masks of another size", "too few masks", "masks of 255", "flat keypoints",
        "crowds", "rotated boxes", "no boxes", "canvas", "short field", "scalar field",
    ],
)  # fmt: skip
def test_wrong_targets_are_refused_with_index_and_remedy(
    fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        DetectionAdapter(instance_fields=["difficult"]).to_sample(make_item(**fields), index=17)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            (IMAGE, {"image_id": 3, "labels": torch.tensor([1])}),
            "dataset[2][1] must have 'boxes' or 'masks' for what 'labels' label, got dataset[2][1]=['image_id', "
            "'labels']. Return them too (target_keys=), or pass an adapter= of your own.",
        ),
        (
            (IMAGE, "cat"),
            "dataset[2][1] must be a dict with 'boxes' or 'masks', or a list of annotations, got dataset[2][1]='cat'.",
        ),
        (
            (IMAGE, 1, 2),
            "the form of dataset[2] must be (image, target), got the form of dataset[2]='(Tensor, int, int)'.",
        ),
        (
            (IMAGE, ["cat"]),
            "dataset[2][1] must be a list of COCO annotations, got dataset[2][1]=['cat'].",
        ),
    ],
    ids=["labels of nothing", "a caption", "three parts", "captions"],
)
def test_items_of_another_form_are_refused(item: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        DetectionAdapter().to_sample(item, index=2)
    assert str(caught.value) == message


def test_an_adapter_that_saw_no_items_refuses_to_guess() -> None:
    with pytest.raises(ValueError, match="other") as caught:
        DetectionAdapter().to_sample(make_item(other=[1, 2, 3]), index=2)
    assert str(caught.value) == (
        "dataset[2][1]['other'] must be known to have a row for each box, or not to, got "
        "dataset[2][1]['other']=[1, 2, 3]. If it has, pass adapter=DetectionAdapter(instance_fields=['other']), else "
        "instance_fields=[]."
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"boxes": "xyhw"},
            ValueError,
            "boxes must be one of 'xyxy', 'xywh', 'cxcywh', 'xyxy_normalized', 'xywh_normalized', 'cxcywh_normalized', "
            "got boxes='xyhw'. Did you mean 'xywh'?",
        ),
        ({"bad_boxes": "skip"}, ValueError, "bad_boxes must be one of 'error', 'drop', got bad_boxes='skip'."),
        (
            {"instance_fields": "difficult"},
            TypeError,
            "instance_fields must be a list or tuple, got instance_fields='difficult'. Give a list of names.",
        ),
        (
            {"instance_fields": [3]},
            TypeError,
            "instance_fields must be a str, got instance_fields=3. Give a list of names.",
        ),
        (
            {"instance_fields": ["boxes"]},
            ValueError,
            "instance_fields must name fields of your own, got instance_fields='boxes'. This one always has a row per box.",
        ),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        DetectionAdapter(**options)
    assert str(caught.value) == message
