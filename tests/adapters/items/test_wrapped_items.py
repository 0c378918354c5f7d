"""Items of `wrap_dataset_for_transforms_v2` with any target keys: what each field says is true of the image served."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, VOCDetection, wrap_dataset_for_transforms_v2

from synthloader.adapters import DetectionAdapter
from synthloader.adapters.items.segmentations import decode_masks
from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.generators import CopyPaste
from synthloader.mixed import MixedDataset
from synthloader.registry import find_adapter
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.contracts.torchvision_forms import make_points, make_wrapped, make_wrapped_voc
from tests.shapes import ShiftClasses, assert_boxes_true, assert_mask_true, is_generated_ground, write_coco_shapes

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools and numpy 2

KEYS: dict[str, Any] = {
    "default": None,
    "all": "all",
    "masks alone": ("image_id", "masks"),
    "masks and labels": ("masks", "labels"),
    "boxes alone": ("boxes",),
    "COCO's lists": ("bbox", "category_id", "area", "iscrowd"),
    "COCO's segmentation": ("segmentation", "category_id"),
    "boxes and segmentation": ("image_id", "boxes", "labels", "segmentation", "area"),
}


@pytest.fixture
def shapes(tmp_path: Path) -> Any:
    images, file = write_coco_shapes(tmp_path / "shapes", 6)
    return lambda keys: wrap_dataset_for_transforms_v2(CocoDetection(str(images), str(file)), target_keys=keys)


def assert_true(image: Any, target: dict[str, Any]) -> None:
    """Judge every field that there is on the pixels."""
    pixels = np.asarray(image)
    size_hw = pixels.shape[:2]
    class_ids = None
    for name in ("labels", "category_id"):
        if name in target:
            class_ids = np.asarray(target[name]) - 1
    masks = None
    if "segmentation" in target:
        rows = [{"segmentation": row} for row in target["segmentation"]]
        boxes = np.zeros((len(rows), 4), np.float32)
        masks = decode_masks(rows, boxes=boxes, size_hw=size_hw, names=["segmentation"] * len(rows))
    if "masks" in target:
        assert type(target["masks"]) is tv_tensors.Mask
        assert masks is None or np.array_equal(masks, target["masks"].numpy() > 0)
        masks = target["masks"].numpy() > 0
    if class_ids is None:  # Told by the colour in the middle of each object.
        places = [np.argwhere(mask) for mask in masks] if masks is not None else []
        middles = [place[len(place) // 2] for place in places] or [
            [round((y1 + y2) / 2), round((x1 + x2) / 2)] for x1, y1, x2, y2 in target["boxes"].tolist()
        ]
        class_ids = np.array([int(pixels[y, x].argmax()) for y, x in middles])
    if masks is not None:
        ids = np.zeros(size_hw, np.int64)
        for mask, class_id in zip(masks, class_ids, strict=True):
            ids[mask] = class_id + 1
        assert_mask_true(pixels, ids, most_wrong=0.0)
    if "boxes" in target:
        assert type(target["boxes"]) is tv_tensors.BoundingBoxes
        assert target["boxes"].canvas_size == size_hw
        assert_boxes_true(pixels, target["boxes"].numpy(), class_ids, slack=0.0)
    if "bbox" in target:
        corners = np.array(target["bbox"], np.float64)
        corners[:, 2:] += corners[:, :2]
        assert_boxes_true(pixels, corners, class_ids, slack=0.0)
    if "area" in target and masks is not None:
        assert list(target["area"]) == [mask.sum() for mask in masks]
    if "iscrowd" in target:
        assert target["iscrowd"] == [0] * len(class_ids)
        assert {type(number) for number in target["iscrowd"]} == {int}


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_every_field_of_a_redrawn_image_is_true_on_its_pixels(shapes: Any, keys: Any) -> None:
    real = shapes(keys)
    train = MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=1.0)
    for index in range(6):
        assert_true(*train[index])
    for index in range(6, 12):
        image, target = train[index]
        assert is_generated_ground(np.asarray(image))
        assert_true(image, target)
        assert set(target) == set(real[0][1])
        assert {name: type(value) for name, value in target.items()} == {
            name: type(value) for name, value in real[0][1].items()
        }


@pytest.mark.parametrize("keys", ["all", ("image_id", "masks"), ("masks", "labels"), ("segmentation", "category_id")])
def test_every_field_of_an_image_with_pasted_objects_is_true_on_its_pixels(shapes: Any, keys: Any) -> None:
    real = shapes(keys)
    paste = CopyPaste(num_range=(2, 3), scale_range=(1, 1), rotation_range=(0, 0))
    train = MixedDataset(real, GeneratedDataset(real, paste), ratio=1.0)
    for index in range(6, 12):
        image, target = train[index]
        rows = {len(value) for name, value in target.items() if name != "image_id"}
        assert len(rows) == 1
        assert min(rows) > 3
        pixels = np.asarray(image)
        masks = target.get("masks")
        if masks is None:
            segments = [{"segmentation": row} for row in target["segmentation"]]
            where = np.zeros((len(segments), 4), np.float32)
            masks = decode_masks(segments, boxes=where, size_hw=pixels.shape[:2], names=[""] * len(segments))
        masks = np.asarray(masks) > 0
        assert (masks.sum(axis=0) <= 1).all()
        ids = np.zeros(pixels.shape[:2], np.int64)
        for mask in masks:  # Each mask holds one colour, and every coloured pixel is in a mask.
            colours = set(pixels[mask].argmax(axis=1).tolist())
            assert len(colours) == 1
            ids[mask] = colours.pop() + 1
        assert_mask_true(pixels, ids, most_wrong=0.0)
        for name in {"labels", "category_id"} & set(target):
            assert [int(ids[mask][0]) for mask in masks] == [int(number) for number in target[name]]
        if "boxes" in target:
            x, y, width, height = np.array(target["bbox"], np.float64).T
            assert np.allclose(np.stack([x, y, x + width, y + height], axis=1), target["boxes"])
            assert np.allclose(target["area"], masks.sum(axis=(1, 2)))


def test_of_unchanged_objects_coco_lists_come_back_as_they_were(shapes: Any) -> None:
    real = shapes("all")
    train = MixedDataset(real, GeneratedDataset(real, CopyPaste(num_range=(1, 1), min_visible=1.0)), ratio=1.0)
    draw = train.draw(7)
    assert draw is not None
    source, target = real[draw.source][1], train[7][1]
    for name in ("bbox", "segmentation", "area", "category_id"):
        assert target[name][:3] == source[name]
    assert target["segmentation"][3]["size"] == [96, 128]


class TestImagesWithoutAnnotations:
    """The wrapper leaves nothing but `{"image_id"}` of them."""

    @pytest.fixture
    def mostly_empty(self, tmp_path: Path) -> Any:
        images, file = write_coco_shapes(tmp_path / "shapes", 9)
        import json

        content = json.loads(file.read_text())
        content["annotations"] = [each for each in content["annotations"] if each["image_id"] == 3]
        file.write_text(json.dumps(content))
        return lambda keys: wrap_dataset_for_transforms_v2(CocoDetection(str(images), str(file)), target_keys=keys)

    @pytest.mark.parametrize("keys", [None, "all", ("image_id", "masks"), ("image_id", "boxes")], ids=str)
    def test_they_are_served_so_and_get_all_fields_with_their_objects(self, mostly_empty: Any, keys: Any) -> None:
        real = mostly_empty(keys)
        assert real[0][1] == {
            "image_id": 1
        }  # The item that gives the form has no objects; neither have the six probed.
        train = MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=1.0)
        assert train[0][1] == {"image_id": 1}
        full = real[2][1]
        for index in range(9, 18):
            draw = train.draw(index)
            assert draw is not None
            image, target = train[index]
            assert_true(image, target)
            assert set(target) == set(full)
            assert {name: type(value) for name, value in target.items()} == {
                name: type(value) for name, value in full.items()
            }
            assert target["image_id"] == draw.source + 1

    def test_where_no_item_with_objects_was_seen_it_is_said(self) -> None:
        image = Image.new("RGB", (64, 48))
        adapter = DetectionAdapter().complete([(image, {"image_id": 5})])
        empty = adapter.to_sample((image, {"image_id": 5}), index=0)
        one = Instances(np.array([1]), np.array([[0, 0, 2, 3]], np.float32))
        message = (
            "an image without objects got some, and no item is known that says how they are written, got fields "
            "['image_id']. Let the first item of the dataset be one with objects."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            adapter.from_sample(empty.replace(target=one), like=(image, {"image_id": 5}))


def move(sample: Sample, row: int, box: list[float]) -> Sample:
    target = sample.target
    assert isinstance(target, Instances)
    boxes = target.boxes.copy()
    boxes[row] = box
    return sample.replace(target=target.replace(boxes=boxes))


class TestFieldsBesideTheBoxes:
    def test_a_moved_object_without_a_mask_has_no_segmentation(self) -> None:
        item = make_wrapped("boxes", "labels", "segmentation")
        item[1]["segmentation"][1] = []
        adapter = find_adapter(object(), [item])
        target = adapter.from_sample(move(adapter.to_sample(item, index=0), 0, [0, 0, 5, 4]), like=item)[1]
        assert target["segmentation"] == [[], []]

    def test_a_category_that_is_not_the_label_follows_its_object(self) -> None:
        item = make_wrapped("boxes", "labels", "category_id")
        item[1]["category_id"] = [90, 17]
        adapter = find_adapter(object(), [item])
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        assert sample.target.class_ids.tolist() == [3, 1]
        turned = sample.replace(target=sample.target.select(np.array([1, 0])))
        assert adapter.from_sample(turned, like=item)[1]["category_id"] == [17, 90]
        changed = sample.replace(target=sample.target.replace(class_ids=np.array([3, 2])))
        message = (
            "'category_id' must follow the classes, but it is another number than 'labels' and an instance has a new "
            "class. Leave 'category_id' out of the items, or pass an adapter= of your own."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            adapter.from_sample(changed, like=item)

    def test_a_list_that_lacks_rows_is_refused(self) -> None:
        item = make_wrapped("boxes", "labels", "area", "segmentation")
        del item[1]["segmentation"][0]
        with pytest.raises(ValueError, match="segmentation") as caught:
            DetectionAdapter(instance_fields=[]).to_sample(item, index=3)
        assert str(caught.value) == (
            "dataset[3][1]['segmentation'] must have a row for each of the 2 instances, got "
            "dataset[3][1]['segmentation']=[{'counts': [102, 3, 9, 3, 75], 'size': [12, 16]}]. Give every annotation "
            "this field, or leave it out of the items (target_keys=)."
        )

    def test_a_bbox_that_contradicts_the_boxes_is_refused(self) -> None:
        item = make_wrapped("boxes", "labels", "bbox")
        item[1]["bbox"] = [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
        with pytest.raises(ValueError, match="bbox") as caught:
            DetectionAdapter(instance_fields=[]).to_sample(item, index=3)
        assert str(caught.value) == (
            "dataset[3][1]['bbox'] must say the same as 'boxes', as x, y, width, height or in another known format, got "
            "dataset[3][1]['bbox']=[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]. Leave the field out of the items, or "
            "pass an adapter= of your own."
        )

    def test_a_bbox_in_another_format_is_written_in_that_format(self) -> None:
        item = make_wrapped("boxes", "labels", "bbox")
        item[1]["bbox"] = [[4.5, 3.0, 5.0, 4.0], [11.5, 7.5, 7.0, 3.0]]
        adapter = find_adapter(object(), [item])
        target = adapter.from_sample(move(adapter.to_sample(item, index=0), 1, [0, 0, 4, 2]), like=item)[1]
        assert target["bbox"] == [[4.5, 3.0, 5.0, 4.0], [2.0, 1.0, 4.0, 2.0]]

    def test_a_map_of_the_image_is_refused_once_an_object_moved(self) -> None:
        item = make_wrapped("boxes", "labels")
        item[1]["depth"] = torch.ones(12, 16)
        item[1]["rois"] = tv_tensors.BoundingBoxes([[0.0, 0, 3, 3]], format="XYXY", canvas_size=(12, 16))
        adapter = find_adapter(object(), [item])
        sample = adapter.to_sample(item, index=0)
        back = adapter.from_sample(sample, like=item)[1]
        assert torch.equal(back["depth"], item[1]["depth"])
        message = (
            "'depth', 'rois' must be kept true for an image on which objects changed, and nothing is known of how. "
            "Leave the field out of the items, pass an adapter= of your own, or use a generator that moves no objects."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            adapter.from_sample(move(sample, 0, [0, 0, 3, 3]), like=item)

    @pytest.mark.parametrize("shape", [(24, 32), (2, 24, 32), (24, 32, 5), (2, 48, 64), (1, 7, 9)], ids=str)
    def test_so_is_a_map_of_a_part_of_its_size_or_one_for_each_object(self, shape: tuple[int, ...]) -> None:
        image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        boxes = torch.tensor([[4.0, 4, 20, 20], [30, 10, 50, 40]])
        item = image, {"boxes": boxes, "labels": torch.tensor([1, 2]), "heat": torch.ones(shape)}
        adapter = find_adapter(object(), [item])
        sample = adapter.to_sample(item, index=0)
        assert torch.equal(adapter.from_sample(sample, like=item)[1]["heat"], item[1]["heat"])
        moved = move(sample, 0, [0, 0, 10, 10])
        if shape == (1, 7, 9):  # No size that the image has at any stride.
            assert torch.equal(adapter.from_sample(moved, like=item)[1]["heat"], item[1]["heat"])
            return
        with pytest.raises(
            LabelContractError, match=r"^'heat' must be kept true for an image on which objects changed"
        ):
            adapter.from_sample(moved, like=item)

    @pytest.mark.parametrize(
        "keys", [("masks", "labels"), ("segmentation", "category_id"), ("bbox", "category_id")], ids=str
    )
    def test_boxes_are_made_from_what_else_says_where_objects_are(self, shapes: Any, keys: Any) -> None:
        real, boxed = shapes(keys), shapes(None)
        adapter = find_adapter(real, [real[0], real[1]])
        for index in range(6):
            target = adapter.to_sample(real[index], index=index).target
            assert isinstance(target, Instances)
            assert (target.masks is None) == (keys[0] == "bbox")
            assert np.array_equal(target.boxes, boxed[index][1]["boxes"].numpy())
            assert np.array_equal(target.class_ids, boxed[index][1]["labels"].numpy())

    def test_an_empty_mask_is_refused_or_dropped(self) -> None:
        item = make_wrapped("masks", "labels")
        item[1]["masks"][1] = 0
        with pytest.raises(ValueError, match="masks") as caught:
            DetectionAdapter(instance_fields=[]).to_sample(item, index=3)
        assert str(caught.value) == (
            "dataset[3][1]['masks'][1] must show at least one pixel, got dataset[3][1]['masks'][1]=0. Correct the "
            "annotation, or pass adapter=DetectionAdapter(bad_boxes='drop'), which drops empty masks."
        )
        target = DetectionAdapter(instance_fields=[], bad_boxes="drop").to_sample(item, index=3).target
        assert isinstance(target, Instances)
        assert target.class_ids.tolist() == [3]

    def test_without_labels_the_adapter_says_that_it_knows_no_classes(self) -> None:
        known: Any = find_adapter(object(), [make_wrapped("boxes", "labels")])
        unknown: Any = find_adapter(object(), [make_wrapped("masks", "image_id")])
        assert known.knows_classes
        assert not unknown.knows_classes
        assert unknown.read_class_ids(make_wrapped("masks", "image_id")) == []

    @pytest.mark.parametrize("boxes", [torch.zeros(0), torch.zeros(0, 4), [], np.zeros((0,)), torch.zeros(1, 0)])
    def test_boxes_of_any_empty_shape_are_no_boxes_and_are_written_with_four_columns(self, boxes: Any) -> None:
        image = torch.zeros(3, 12, 16, dtype=torch.uint8)
        item = (image, {"boxes": boxes, "labels": torch.zeros(0, dtype=torch.int64)})
        adapter = DetectionAdapter(instance_fields=[])
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        assert sample.target.boxes.shape == (0, 4)
        written = adapter.from_sample(sample, like=item)[1]["boxes"]
        assert np.shape(written) == ((0,) if isinstance(boxes, list) else (0, 4))


class TestProcessedItems:
    """What image processors of DETR make: centres divided by the size of the image."""

    image = torch.zeros(3, 12, 16)

    def make_item(self) -> Any:
        labels = {"boxes": torch.tensor([[0.5, 0.5, 0.25, 0.5]]), "class_labels": torch.tensor([4])}
        return self.image, labels

    def test_they_are_refused_with_the_option_that_takes_them(self) -> None:
        adapter = find_adapter(object(), [self.make_item()])
        with pytest.raises(ValueError, match="in pixels") as caught:
            adapter.to_sample(self.make_item(), index=2)
        assert str(caught.value) == (
            "dataset[2][1]['boxes'] must be in pixels, got dataset[2][1]['boxes']=[[0.5, 0.5, 0.25, 0.5]]. If they are "
            "normalised to 0..1, pass adapter=DetectionAdapter(boxes='xyxy_normalized'), or 'xywh_normalized', or "
            "'cxcywh_normalized'."
        )

    def test_with_the_format_stated_boxes_and_classes_are_read_and_written(self) -> None:
        item = self.make_item()
        adapter = DetectionAdapter(boxes="cxcywh_normalized").complete([item])
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        assert sample.target.boxes.tolist() == [[6, 3, 10, 9]]
        assert sample.target.class_ids.tolist() == [4]
        changed = move(sample, 0, [0, 0, 8, 3])
        assert isinstance(changed.target, Instances)
        changed = changed.replace(target=changed.target.replace(class_ids=np.array([9])))
        target = adapter.from_sample(changed, like=item)[1]
        assert target["boxes"].tolist() == [[0.25, 0.125, 0.5, 0.25]]
        assert target["class_labels"].tolist() == [9]


class TestKeypoints:
    def test_points_without_visibility_count_as_visible_and_stay_key_points(self) -> None:
        item = make_points()
        adapter = find_adapter(object(), [item])
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        assert sample.target.keypoints is not None
        assert (sample.target.keypoints[..., 2] == 2).all()
        points = adapter.from_sample(sample, like=item)[1]["keypoints"]
        assert type(points) is tv_tensors.KeyPoints
        assert points.canvas_size == (12, 16)

    def test_a_point_that_is_lost_is_refused_where_it_cannot_be_said(self) -> None:
        item = make_points()
        adapter = find_adapter(object(), [item])
        sample = self.lose_a_point(adapter.to_sample(item, index=0))
        message = (
            "keypoints must all be labelled where items have only x and y, got one that lies outside of the image, or "
            "that nobody labelled. Return keypoints (N, K, 3), or a field 'visibility' (N, K) beside them, or use a "
            "generator that moves no objects."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            adapter.from_sample(sample, like=item)

    def test_the_visibility_beside_the_points_follows_them(self) -> None:
        for name, seen, lost in (
            ("visibility", [[2, 1], [2, 0]], [[2, 0], [2, 0]]),
            ("keypoints_visible", [[True, True], [True, False]], [[True, False], [True, False]]),
        ):
            item = make_points(**{name: torch.tensor(seen)})
            adapter = find_adapter(object(), [item])
            target = adapter.from_sample(self.lose_a_point(adapter.to_sample(item, index=0)), like=item)[1]
            assert target[name].tolist() == lost
            assert target[name].dtype == item[1][name].dtype

    def test_the_number_of_points_follows_them(self) -> None:
        item = make_points(
            keypoints=torch.tensor([[[2.5, 1.5, 2], [6, 4, 2]], [[8, 6, 1], [9, 7, 0]]]), num_keypoints=[2, 1]
        )
        adapter = find_adapter(object(), [item])
        target = adapter.from_sample(self.lose_a_point(adapter.to_sample(item, index=0)), like=item)[1]
        assert target["num_keypoints"] == [1, 1]

    def test_points_of_another_canvas_are_refused(self) -> None:
        item = make_points(keypoints=tv_tensors.KeyPoints([[[1.0, 2]], [[3, 4]]], canvas_size=(16, 12)))
        with pytest.raises(ValueError, match="canvas_size") as caught:
            DetectionAdapter(instance_fields=[]).to_sample(item, index=1)
        assert str(caught.value) == (
            "the canvas_size of dataset[1][1]['keypoints'] must be the image's height and width, (12, 16), got the "
            "canvas_size of dataset[1][1]['keypoints']=(16, 12). Give the points and the image one size."
        )

    @staticmethod
    def lose_a_point(sample: Sample) -> Sample:
        target = sample.target
        assert isinstance(target, Instances)
        assert target.keypoints is not None
        points = target.keypoints.copy()
        points[0, 1] = 0
        return sample.replace(target=target.replace(keypoints=points))


class TestWrappedVoc:
    def test_the_annotation_beside_the_boxes_follows_them(self) -> None:
        item = make_wrapped_voc()
        adapter = find_adapter(object(), [item])
        moved = move(adapter.to_sample(item, index=0), 0, [4, 1, 6.4, 3])
        target = adapter.from_sample(moved, like=item)[1]
        first, second = target["annotation"]["object"]
        assert first == {
            "name": "bird", "pose": "Unspecified", "truncated": "0", "difficult": "1",
            "bndbox": {"xmax": "6", "xmin": "4", "ymax": "3", "ymin": "1"},
        }  # fmt: skip
        assert second == item[1]["annotation"]["object"][1]
        assert target["annotation"]["segmented"] == "0"
        assert target["boxes"][0].tolist() == [4, 1, 6, 3]  # Its boxes are whole numbers, as torchvision makes them.

    @pytest.mark.parametrize("keys", [None, "all"], ids=str)
    def test_items_of_the_wrapper_itself_are_known(self, tmp_path: Path, keys: Any) -> None:
        from tests.adapters.items.test_voc_items import write_birds

        real = wrap_dataset_for_transforms_v2(VOCDetection(str(write_birds(tmp_path)), "2012"), target_keys=keys)
        train = MixedDataset(real, GeneratedDataset(real, CopyPasteNothing()), ratio=1.0)
        for index in range(len(real), len(train)):
            draw = train.draw(index)
            assert draw is not None
            _, source = real[draw.source]
            _, target = train[index]
            assert target.get("annotation") == source.get("annotation")
            assert torch.equal(target["boxes"], source["boxes"])


class CopyPasteNothing:
    """Inverts the image, and leaves every label as it is."""

    keeps = frozenset({Instances})
    fingerprint = "CopyPasteNothing/1"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        return source.edit(image=255 - source.image, target=source.target)
