"""Items that are one dict: what is stated, what is carried, and messages that name the entries of the item."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from synthloader.adapters import ClassificationAdapter, DetectionAdapter, DictAdapter, SemanticAdapter
from synthloader.cache.memory import MemoryCache
from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.generators import CopyPaste
from synthloader.mixed import MixedDataset
from tests.scenes import Shade
from tests.shapes import Redraw, assert_boxes_true, assert_mask_true, draw_numbered

SIZE_HW = (48, 96)


def draw_item(number: int) -> dict[str, Any]:
    drawn = draw_numbered(number, size_hw=SIZE_HW)
    return {
        "image": drawn.image,
        "mask": drawn.id_mask.astype(np.uint8),
        "label": number % 3,
        "weather": "rain",
        "camera": {"matrix": np.eye(3), "at": (1, 2)},
        "orig_size": list(SIZE_HW),
    }


def draw_objects(number: int) -> dict[str, Any]:
    drawn = draw_numbered(number, size_hw=SIZE_HW)
    return {
        "image": torch.from_numpy(drawn.image).permute(2, 0, 1).contiguous(),
        "boxes": torch.from_numpy(drawn.boxes),
        "labels": torch.from_numpy(drawn.class_ids),
        "masks": torch.from_numpy(drawn.masks.astype(np.uint8)),
        "depth": torch.from_numpy(drawn.id_mask.astype(np.float32)),  # another depth for each class
        "image_id": number,
    }


def test_the_stated_label_is_the_target_and_the_other_is_carried() -> None:
    real = [draw_item(number) for number in range(4)]
    generated = GeneratedDataset(real, Redraw(), DictAdapter(target="mask"), variants=1, cache=MemoryCache())
    mix = MixedDataset(real, generated, ratio=1.0)
    for index in range(8):
        item = mix[index]
        assert list(item) == list(real[0])
        assert_mask_true(item["image"], item["mask"])
        draw = mix.draw(index)
        source = real[index if draw is None else draw.source]
        assert (item["label"], item["weather"], item["orig_size"]) == (source["label"], "rain", list(SIZE_HW))
        assert np.array_equal(item["camera"]["matrix"], np.eye(3))
        assert item["camera"]["at"] == (1, 2)


def test_the_class_may_be_stated_instead_and_the_mask_is_then_a_map() -> None:
    adapter = DictAdapter(image="image", target="label").complete([draw_item(0)])
    sample = adapter.to_sample(draw_item(0), index=0)
    assert sample.target.class_id == 0
    assert list(sample.maps) == ["mask"]
    assert isinstance(adapter._inner, ClassificationAdapter)


def test_an_adapter_may_be_given_for_the_pair() -> None:
    adapter = DictAdapter(target="mask", adapter=SemanticAdapter(ignore_index=3)).complete([draw_item(0)])
    assert adapter.to_sample(draw_item(0), index=0).target.ignore_index == 3
    assert "SemanticAdapter/1(ignore_index=3)" in adapter.fingerprint


def test_boxes_among_the_entries_are_true_on_the_pixels_after_copy_paste() -> None:
    real = [draw_objects(number) for number in range(5)]
    mix = MixedDataset(real, GeneratedDataset(real, CopyPaste(num_range=(2, 3))), ratio=2.0)
    more = 0
    for index in range(15):
        item = mix[index]
        assert list(item) == list(real[0])
        pixels = item["image"].permute(1, 2, 0).numpy()
        assert_boxes_true(pixels, item["boxes"].numpy(), item["labels"].numpy(), slack=3.0)
        assert_mask_true(pixels, item["depth"].numpy(), most_wrong=0.04)  # the map is pasted with the object
        assert len(item["boxes"]) == len(item["labels"]) == len(item["masks"])
        more += len(item["boxes"]) - 3
    assert more > 0


def test_boxes_of_another_name_and_format_go_through_copy_paste() -> None:
    real = []
    for number in range(4):
        item = draw_objects(number)
        boxes = item["boxes"].clone()
        boxes[:, 2:] -= boxes[:, :2]
        real.append({"img": item["image"], "bboxes": boxes, "category_ids": item["labels"], "masks": item["masks"]})
    generated = GeneratedDataset(real, CopyPaste(), DictAdapter(boxes="xywh"))
    mix = MixedDataset(real, generated, ratio=1.0)
    for index in range(4, 8):
        item = mix[index]
        assert list(item) == ["img", "bboxes", "category_ids", "masks"]
        boxes = item["bboxes"].clone()
        boxes[:, 2:] += boxes[:, :2]
        assert_boxes_true(item["img"].permute(1, 2, 0).numpy(), boxes.numpy(), item["category_ids"].numpy(), slack=3.0)


def test_sizes_are_those_of_the_served_image() -> None:
    adapter = DictAdapter(target="label").complete([draw_item(0)])
    item = {**draw_item(0), "mask": None, "width": 96}
    sample = adapter.to_sample(item, index=0)
    back = adapter.from_sample(sample.replace(image=np.zeros((20, 30, 3), np.uint8)), like=item)
    assert (back["orig_size"], back["width"], back["image"].shape) == ([20, 30], 30, (20, 30, 3))


def test_what_filters_may_ask_for_is_metadata_and_may_change() -> None:
    adapter = DictAdapter(target="label").complete([draw_item(0)])
    sample = adapter.to_sample(draw_item(0), index=0)
    assert sample.metadata == {"weather": "rain"}
    foggy = sample.replace(metadata={"weather": "fog"})
    assert adapter.from_sample(foggy, like=draw_item(0))["weather"] == "fog"


MESSAGES: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = {
    "a mask of another size": (
        {"target": "mask"},
        {"image": np.zeros((4, 4, 3), np.uint8), "mask": np.zeros((2, 2), np.uint8)},
        ValueError,
        "the height and width of dataset[3]['mask'] must be the image's, (4, 4), got the height and width of "
        "dataset[3]['mask']=(2, 2). Resize image and mask together in the dataset, the mask to the nearest pixel.",
    ),
    "a box outside": (
        {"boxes": "xywh"},
        {"image": np.zeros((4, 4, 3), np.uint8), "bbox": [[1, 1, 9, 9]], "category": [1]},
        ValueError,
        "dataset[3]['bbox'][0] must lie inside the image of height 4 and width 4, got dataset[3]['bbox'][0]=[1.0, 1.0, "
        "9.0, 9.0]. Correct the annotation, or pass adapter=DictAdapter(adapter=DetectionAdapter(bad_boxes='drop')), "
        "which clips boxes to the image and drops those without area. If the boxes have another format, state it: "
        "DictAdapter(adapter=DetectionAdapter(boxes='xywh')), or 'cxcywh', or 'xyxy'.",
    ),
    "no such entry": (
        {"image": "photo", "target": "label"},
        {"image": np.zeros((4, 4, 3), np.uint8), "label": 1},
        TypeError,
        "dataset[3] must have the entry 'photo', got dataset[3]=['image', 'label']. Every item needs image and label.",
    ),
    "a mask in colours": (
        {},
        {"image": PIL.Image.new("RGB", (4, 4)), "mask": PIL.Image.new("RGB", (4, 4))},
        ValueError,
        "the mode of dataset[3]['mask'] must be P, L, I, I;16 or 1, got the mode of dataset[3]['mask']='RGB'. Turn "
        "colours into class ids in the dataset.",
    ),
    "no dict": (
        {},
        (np.zeros((4, 4, 3), np.uint8), 1),  # type: ignore[dict-item]
        TypeError,
        "the form of dataset[3] must be a dict, got the form of dataset[3]='(ndarray, int)'.",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_name_the_entries_of_the_item(name: str) -> None:
    options, item, kind, message = MESSAGES[name]
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        DictAdapter(**options).to_sample(item, index=3)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"image": "a", "target": "a"}, ValueError, "target must name another entry than image, got target='a'."),
        ({"image": 3}, TypeError, "image must be a str, got image=3. Give the name of an entry."),
        ({"adapter": 3}, TypeError, "adapter must have to_sample, from_sample and fingerprint, got adapter=3."),
        (
            {"adapter": DetectionAdapter(), "boxes": "xywh"},
            ValueError,
            "boxes must be left to the adapter that is given, got boxes='xywh'. Write DetectionAdapter(boxes=...).",
        ),
    ],
    ids=["same", "number", "no adapter", "both"],
)
def test_wrong_options_are_refused(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        DictAdapter(**options)


def test_a_sample_without_an_entry_is_refused() -> None:
    adapter = DictAdapter(target="label").complete([draw_item(0)])
    short = {"image": draw_item(0)["image"], "label": 1}
    sample = adapter.to_sample(short, index=0)
    assert list(adapter.from_sample(sample, like=draw_item(0))) == ["image", "label"]  # as its source
    foreign = ClassificationAdapter().to_sample((short["image"], 1), index=0)
    message = (
        "a generated sample must have 'mask', which the dataset has in every item, got []. Generate from a dataset with "
        "the same items."
    )
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        adapter.from_sample(foreign, like=draw_item(0))


def test_a_mix_of_dicts_takes_a_mark() -> None:
    real = [{"image": draw_item(number)["image"], "label": number} for number in range(3)]
    mix = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=1.0, mark="is_generated")
    assert [bool(mix[index]["is_generated"]) for index in range(6)] == [False] * 3 + [True] * 3
