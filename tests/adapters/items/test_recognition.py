"""Each known form is recognised by exactly one adapter; what may mean several things is refused with the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import tv_tensors

from synthloader import registry
from synthloader.adapters import DictAdapter
from synthloader.registry import find_adapter
from tests.contracts.adapter_forms import PAIRS_AND_DICTS
from tests.contracts.test_adapters import NATIVE_ITEMS

IMAGE = np.random.default_rng(2).integers(0, 256, (12, 16, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(IMAGE.transpose(2, 0, 1).copy())
PIL_IMAGE = PIL.Image.fromarray(IMAGE)
FORMS = [
    pytest.param(kind.__name__, make, id=f"{kind.__name__}, {name}")
    for kind, forms in PAIRS_AND_DICTS.items()
    for name, make in forms.items()
    if name != "bbox and category"  # its format has to be stated
] + [pytest.param("DetectionAdapter", make, id=f"DetectionAdapter, {name}") for name, make in NATIVE_ITEMS.items()]


def ask_all(items: list[Any]) -> list[str]:
    """Names of the adapters that recognise these items; an adapter that refuses them counts."""
    names = []
    for kind in registry._ADAPTERS:
        try:
            adapter = kind.recognize(object(), items)
        except TypeError:
            adapter = kind
        if adapter is not None:
            names.append(kind.__name__)
    return names


@pytest.mark.parametrize(("name", "make_item"), FORMS)
def test_a_form_is_recognised_by_exactly_one_adapter(name: str, make_item: Callable[[], Any]) -> None:
    assert ask_all([make_item(), make_item()]) == [name]


def test_adapters_that_have_not_seen_an_item_can_be_written_down() -> None:
    assert DictAdapter().fingerprint == "DictAdapter/1(adapter=null, boxes=null, image=null, target=null)"


ARGMAX = (
    "For masks with a channel for each class return masks.argmax(0); where classes overlap, pass an adapter= of your "
    "own."
)
AMBIGUOUS: dict[str, tuple[Any, str]] = {
    "float map": (
        (TENSOR, torch.rand(1, 12, 16)),
        "the second part of items must hold integers to be recognised as a mask, got the second part of items=<tensor "
        "of shape (1, 12, 16), torch.float32>. Floats may be depth. If they are class ids, pass "
        "adapter=SemanticAdapter(), or return mask.long().",
    ),
    "one-hot mask": (
        (TENSOR, torch.zeros(4, 12, 16, dtype=torch.uint8)),
        "the second part of items must have shape (H, W) or (1, H, W), got the second part of items=<tensor of shape "
        f"(4, 12, 16), torch.uint8>. {ARGMAX}",
    ),
    "two photographs": (
        (PIL_IMAGE, PIL_IMAGE),
        "the second part of items must be a mask with one channel of class ids to be recognised, got the second part "
        "of items='PIL image of mode RGB'. Colours that stand for classes are turned into ids in the dataset; a target "
        "image needs an adapter= of your own.",
    ),
    "float label": (
        (PIL_IMAGE, 0.5),
        "the labels must be integers to be recognised as classes, got the labels=0.5. If they are classes, pass "
        "adapter=ClassificationAdapter(), or return int(label); a quantity that an image is to predict needs an "
        "adapter= of your own.",
    ),
    "grey levels": (
        (PIL_IMAGE, PIL.Image.fromarray(np.arange(192, dtype=np.uint8).reshape(12, 16))),
        "masks must hold at most 128 different ids in one image to be recognised as classes, got masks=192. Depth, soft "
        "masks and numbers of objects look like this. If these are classes, pass adapter=SemanticAdapter().",
    ),
    "mask and class": (
        {"image": PIL_IMAGE, "mask": np.zeros((12, 16), np.uint8), "label": 1},
        "items must have one label, got items=['mask', 'label']. A generator keeps one label true: pass "
        "adapter=DictAdapter(target='mask'), or 'label'; the other entry is then carried along, and must stay true by "
        "itself.",
    ),
    "boxes of an unknown format": (
        {"image": PIL_IMAGE, "bbox": [[1, 2, 3, 4]], "category_id": [1]},
        "the format of 'bbox' must be stated, got the format of 'bbox'=None. Pass adapter=DictAdapter(boxes='xywh') for "
        "COCO's x, y, width, height, or 'xyxy', 'cxcywh', or these with '_normalized'.",
    ),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_may_mean_several_things_is_refused_with_the_remedy(name: str) -> None:
    item, message = AMBIGUOUS[name]
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        find_adapter(object(), [item, item])


@pytest.mark.parametrize(
    "item",
    [
        (TENSOR, torch.rand(5, 5)),  # rows of YOLO labels
        (TENSOR, torch.tensor([0, 1, 1])),  # several classes
        (TENSOR, "cat"),
        {"image": TENSOR, "target": torch.rand(1, 12, 16)},
        {"image": TENSOR},
        {"text": "no image", "label": 1},
        (tv_tensors.Image(TENSOR), None),
    ],
    ids=["rows", "vector", "text", "map to predict", "no label", "no image", "None"],
)
def test_other_formats_are_nobodys(item: Any) -> None:
    assert ask_all([item, item]) == []


def test_masks_of_other_sizes_than_the_image_are_no_masks() -> None:
    assert ask_all([(TENSOR, torch.zeros(7, 7, dtype=torch.int64))]) == []


def test_looking_at_items_changes_no_random_state() -> None:
    before = torch.get_rng_state()
    find_adapter(object(), [(PIL_IMAGE, 3)])
    assert torch.equal(torch.get_rng_state(), before)
