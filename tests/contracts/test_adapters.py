"""What every adapter promises, on every native form that it knows."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import tv_tensors

import synthloader.adapters
from synthloader.adapters import DetectionAdapter, UnlabelledAdapter
from synthloader.adapters.items.dict_labels import IMAGE_KEYS
from synthloader.protocols import Adapter
from synthloader.registry import find_adapter
from synthloader.sample import Sample
from synthloader.targets import Instances, SemanticMask
from tests.contracts.adapter_forms import PAIRS_AND_DICTS, make_dict_adapter
from tests.contracts.torchvision_forms import TORCHVISION, WRAPPED

HEIGHT, WIDTH = 12, 16


def make_pixels(channels: int = 3) -> np.ndarray:
    shape = (HEIGHT, WIDTH, channels) if channels else (HEIGHT, WIDTH)
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def make_masks() -> np.ndarray:
    masks = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    masks[0, 1:5, 2:7] = 1
    masks[1, 6:9, 8:15] = 1
    return masks


BOXES = [[2.0, 1.0, 7.0, 5.0], [8.25, 6.0, 15.0, 9.5]]


def make_target() -> dict[str, Any]:
    """Every field that is known, and some that are not; in an order of their own."""
    return {
        "image_id": 7,
        "labels": torch.tensor([3, 1]),
        "boxes": torch.tensor(BOXES),
        "weather": "rain",
        "masks": torch.from_numpy(make_masks()),
        "keypoints": torch.arange(18, dtype=torch.float32).reshape(2, 3, 3) % 12,
        "area": torch.tensor([17.5, 21.25]),
        "iscrowd": torch.tensor([0, 1]),
        "orig_size": torch.tensor([HEIGHT, WIDTH]),
        "difficult": torch.tensor([True, False]),
        "names": ["a", "bcd"],
        "shapes": [{"corners": (1, 2)}, {"corners": (3, 4, 5)}],
        "scale": torch.tensor(0.5, dtype=torch.bfloat16),
        "camera": {"matrix": np.eye(3), "model": None, "place": (1.0, 2.0, 3.0), 5: b"raw"},
    }


ANNOTATIONS: list[dict[str, Any]] = [
    {
        "segmentation": [[2.0, 1.0, 7.0, 1.0, 7.0, 5.0, 2.0, 5.0]], "iscrowd": 0, "id": 11, "image_id": 7,
        "category_id": 3, "bbox": [2.0, 1.0, 5.0, 4.0], "area": 20.0, "score": 0.1 + 0.2, "truncated": True,
        "keypoints": [3, 2, 2, 0, 0, 0], "num_keypoints": 1, "attributes": {"occluded": False, "colour": "rot"},
    },
    {
        "id": 12, "image_id": 7, "category_id": 1, "iscrowd": 1, "area": 15, "bbox": [8, 6, 7, 3],
        "segmentation": {"counts": [102, 3, 9, 3, 75], "size": [HEIGHT, WIDTH]}, "keypoints": [9, 7, 1, 12, 8, 2],
        "num_keypoints": 2, "truncated": False, "attributes": {"occluded": True, "tags": ["x", "y"]},
    },
]  # fmt: skip

TENSOR = torch.from_numpy(make_pixels()).permute(2, 0, 1)
NATIVE_ITEMS: dict[str, Callable[[], Any]] = {
    "tensors": lambda: (TENSOR.contiguous(), make_target()),
    "channels last in memory": lambda: (TENSOR, {"boxes": torch.tensor(BOXES), "labels": torch.tensor([3, 1])}),
    "a list of two": lambda: [TENSOR.clone(), {"labels": [3, 1], "boxes": BOXES}],
    "floats": lambda: (TENSOR.float() / 255, make_target()),
    "doubles": lambda: (TENSOR.double().contiguous() / 255, make_target()),
    "one channel": lambda: (torch.from_numpy(make_pixels(1)).permute(2, 0, 1), make_target()),
    "no channel axis": lambda: (torch.from_numpy(make_pixels(0)), make_target()),
    "PIL": lambda: (PIL.Image.fromarray(make_pixels()), make_target()),
    "PIL, grey": lambda: (PIL.Image.fromarray(make_pixels(0)), make_target()),
    "arrays": lambda: (
        make_pixels(),
        {"boxes": np.array(BOXES), "labels": np.array([3, 1], np.int32), "masks": make_masks().astype(bool)},
    ),
    "arrays of one channel": lambda: (make_pixels(1), {"boxes": np.array(BOXES), "labels": (3, 1)}),
    "float arrays": lambda: (make_pixels().astype(np.float32) / 255, {"boxes": BOXES, "labels": [3, 1]}),
    "tv_tensors": lambda: (
        tv_tensors.Image(TENSOR.contiguous()),
        {
            "boxes": tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=(HEIGHT, WIDTH)),
            "masks": tv_tensors.Mask(torch.from_numpy(make_masks())),
            "labels": torch.tensor([3, 1]),
        },
    ),
    "tv_tensors, centres": lambda: (
        tv_tensors.Image(TENSOR.clone()),
        {
            "boxes": tv_tensors.BoundingBoxes([[3.3, 4.1, 2.2, 3.7]], format="CXCYWH", canvas_size=(HEIGHT, WIDTH)),
            "labels": torch.tensor([2], dtype=torch.int32),
        },
    ),
    "integer boxes": lambda: (TENSOR, {"boxes": torch.tensor([[2, 1, 7, 5]]), "labels": torch.tensor([3])}),
    "no objects": lambda: (
        TENSOR,
        {
            "boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64),
            "masks": torch.zeros(0, HEIGHT, WIDTH, dtype=torch.uint8), "area": torch.zeros(0), "image_id": 3,
        },
    ),
    "COCO annotations": lambda: (PIL.Image.fromarray(make_pixels()), copy.deepcopy(ANNOTATIONS)),
    "no COCO annotations": lambda: (PIL.Image.fromarray(make_pixels()), []),
    "torchvision's references": lambda: (
        PIL.Image.fromarray(make_pixels()), {"image_id": 7, "annotations": copy.deepcopy(ANNOTATIONS)},
    ),
}  # fmt: skip
UNLABELLED: dict[str, Callable[[], Any]] = {
    "an image alone": lambda: PIL.Image.fromarray(make_pixels()),
    "a tuple of an image": lambda: (TENSOR.clone(),),
    "a list of an image": lambda: [TENSOR.float() / 255],
}
ADAPTERS = {
    DetectionAdapter: NATIVE_ITEMS | WRAPPED, **TORCHVISION, **PAIRS_AND_DICTS, UnlabelledAdapter: UNLABELLED,
}  # fmt: skip
CASES = [pytest.param(kind, make, id=f"{kind.__name__}, {name}") for kind, forms in ADAPTERS.items()
         for name, make in forms.items()]  # fmt: skip


def look(make_item: Callable[[], Any]) -> Any:
    item = make_item()
    if isinstance(item, dict) and (stated := make_dict_adapter(item)) is not None:
        return stated
    adapter: Any = find_adapter(object(), [item])
    return adapter


def assert_same(have: Any, want: Any, where: str = "item") -> None:
    """Equal in value, type, dtype, memory order, class and the order of keys."""
    assert type(have) is type(want), where
    if isinstance(want, torch.Tensor):
        assert (have.dtype, have.shape, have.device) == (want.dtype, want.shape, want.device), where
        assert torch.equal(have.as_subclass(torch.Tensor), want.as_subclass(torch.Tensor)), where
        assert have.is_contiguous() == want.is_contiguous(), where
        for attribute in ("format", "canvas_size", "clamping_mode"):
            assert getattr(have, attribute, None) == getattr(want, attribute, None), where
    elif isinstance(want, np.ndarray):
        assert (have.dtype, have.shape) == (want.dtype, want.shape), where
        np.testing.assert_array_equal(have, want, err_msg=where)
    elif isinstance(want, PIL.Image.Image):
        assert (have.mode, have.size, have.tobytes()) == (want.mode, want.size, want.tobytes()), where
    elif isinstance(want, dict):
        assert list(have) == list(want), where
        for key in want:
            assert_same(have[key], want[key], f"{where}[{key!r}]")
    elif isinstance(want, list | tuple):
        assert len(have) == len(want), where
        for place, (one, other) in enumerate(zip(have, want, strict=True)):
            assert_same(one, other, f"{where}[{place}]")
    else:
        assert have == want, where


def test_every_public_adapter_is_in_the_list() -> None:
    public = {getattr(synthloader.adapters, name) for name in synthloader.adapters.__all__}
    assert {kind for kind in public if hasattr(kind, "to_sample")} == set(ADAPTERS)


@pytest.mark.parametrize(("kind", "make_item"), CASES)
class TestAdapterContract:
    def test_it_has_the_methods_of_the_protocol(self, kind: type, make_item: Callable[[], Any]) -> None:
        assert isinstance(look(make_item), kind)
        assert isinstance(look(make_item), Adapter)

    def test_an_untouched_sample_comes_back_as_the_item(self, kind: type, make_item: Callable[[], Any]) -> None:
        adapter, item = look(make_item), make_item()
        assert_same(adapter.from_sample(adapter.to_sample(item, index=0), like=make_item()), item)

    def test_images_inside_are_8_bit_rgb(self, kind: type, make_item: Callable[[], Any]) -> None:
        image = look(make_item).to_sample(make_item(), index=0).image
        assert (image.shape, image.dtype, image.flags.c_contiguous) == ((HEIGHT, WIDTH, 3), np.uint8, True)

    def test_the_item_is_not_modified(self, kind: type, make_item: Callable[[], Any]) -> None:
        adapter, item = look(make_item), make_item()
        adapter.from_sample(adapter.to_sample(item, index=0), like=item)
        assert_same(item, make_item())

    def test_the_new_item_shares_no_memory_with_the_old_one(self, kind: type, make_item: Callable[[], Any]) -> None:
        adapter, item = look(make_item), make_item()
        spoil(adapter.from_sample(adapter.to_sample(item, index=0), like=item))
        assert_same(item, make_item())

    def test_two_items_of_one_sample_share_no_memory(self, kind: type, make_item: Callable[[], Any]) -> None:
        adapter, item = look(make_item), make_item()
        sample = adapter.to_sample(item, index=0)
        spoil(adapter.from_sample(sample, like=item))
        assert_same(adapter.from_sample(sample, like=item), item)

    def test_it_draws_nothing_at_random(self, kind: type, make_item: Callable[[], Any]) -> None:
        adapter, item = look(make_item), make_item()
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        adapter.from_sample(adapter.to_sample(item, index=0), like=item)
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002

    def test_a_pickled_copy_does_the_same(self, kind: type, make_item: Callable[[], Any]) -> None:
        adapter, item = look(make_item), make_item()
        twin = pickle.loads(pickle.dumps(adapter))
        assert twin.fingerprint == adapter.fingerprint
        assert_same(twin.from_sample(twin.to_sample(item, index=0), like=item), item)

    def test_fields_can_be_stored_without_pickle(self, kind: type, make_item: Callable[[], Any]) -> None:
        sample = look(make_item).to_sample(make_item(), index=0)
        check_plain(dict(sample.fields))
        check_plain(dict(sample.metadata))

    def test_class_ids_are_read_from_the_item(self, kind: type, make_item: Callable[[], Any]) -> None:
        adapter, item = look(make_item), make_item()
        target = adapter.to_sample(item, index=0).target
        if isinstance(target, Instances):
            expected = target.class_ids.tolist() if getattr(adapter, "knows_classes", True) else []
        elif isinstance(target, SemanticMask):
            expected = sorted(set(target.mask.ravel().tolist()) - {0, target.ignore_index})
        else:
            expected = [] if target is None else [target.class_id]
        assert adapter.read_class_ids(item) == expected

    def test_a_generated_sample_has_exactly_the_fields_of_the_dataset(
        self, kind: type, make_item: Callable[[], Any]
    ) -> None:
        adapter, item = look(make_item), make_item()
        sample = adapter.to_sample(item, index=0)
        target = sample.target
        if not isinstance(target, Instances):  # only instances have attributes
            assert_same(adapter.from_sample(sample.edit(image=sample.image, target=target), like=item), item)
            return
        more = {"generated": np.ones(len(target), bool), "visible": np.full(len(target), 0.5, np.float32)}
        marked = sample.replace(target=target.replace(attributes={**target.attributes, **more}))
        assert_same(adapter.from_sample(marked, like=item), item)

    def test_a_changed_instance_and_image_come_back_in_the_same_types(
        self, kind: type, make_item: Callable[[], Any]
    ) -> None:
        adapter, item = look(make_item), make_item()
        changed = adapter.from_sample(flip(adapter.to_sample(item, index=0)), like=item)
        again = adapter.from_sample(flip(adapter.to_sample(changed, index=0)), like=item)
        if isinstance(sample_of(adapter, item).target, Instances):
            assert_same(*(find_image(again), find_image(item)))
        else:
            assert_same(again, item)
        assert_forms(changed, item)


def sample_of(adapter: Any, item: Any) -> Sample:
    sample: Sample = adapter.to_sample(item, index=0)
    return sample


def find_image(item: Any) -> Any:
    return item[0] if isinstance(item, tuple | list) else next(item[key] for key in item if key in IMAGE_KEYS)


def flip(sample: Sample) -> Sample:
    target = sample.target
    maps = {name: np.ascontiguousarray(values[:, ::-1]) for name, values in sample.maps.items()}
    sample = sample.replace(image=np.ascontiguousarray(sample.image[:, ::-1]), target=None, maps=maps)
    if isinstance(target, SemanticMask):
        return sample.replace(target=SemanticMask(np.ascontiguousarray(target.mask[:, ::-1]), target.ignore_index))
    if not isinstance(target, Instances):
        return sample.replace(target=target)
    boxes = target.boxes.copy()
    boxes[:, [0, 2]] = sample.size_hw[1] - boxes[:, [2, 0]]
    masks = None if target.masks is None else np.ascontiguousarray(target.masks[:, :, ::-1])
    return sample.replace(target=target.replace(boxes=boxes, masks=masks))


def spoil(value: Any) -> None:
    """Overwrite everything that can be."""
    if isinstance(value, torch.Tensor):
        value.as_subclass(torch.Tensor).zero_()
    elif isinstance(value, np.ndarray):
        value[...] = 0
    elif isinstance(value, dict):
        for part in value.values():
            spoil(part)
        value.clear()
    elif isinstance(value, list | tuple):
        for part in value:
            spoil(part)


def check_plain(value: Any) -> None:
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            check_plain(part)
    elif isinstance(value, np.ndarray):
        assert value.dtype != object
    else:
        assert value is None or type(value) in (bool, int, float, str)


def assert_forms(have: Any, want: Any) -> None:
    assert type(have) is type(want)
    if isinstance(want, dict):
        assert list(have) == list(want)
        for key in want:
            assert_forms(have[key], want[key])
    elif isinstance(want, list | tuple):
        assert len(have) == len(want)
    elif isinstance(want, torch.Tensor | np.ndarray):
        assert (have.dtype, have.shape) == (want.dtype, want.shape)


def test_an_ordered_dict_of_fields_is_read_too() -> None:
    item = (TENSOR, OrderedDict(boxes=torch.tensor(BOXES), labels=torch.tensor([3, 1])))
    adapter = find_adapter(object(), [item])
    assert list(adapter.from_sample(adapter.to_sample(item, index=0), like=item)[1]) == ["boxes", "labels"]


@pytest.mark.parametrize(
    "options",
    [{"boxes": "xywh"}, {"bad_boxes": "drop"}, {"instance_fields": []}, {"instance_fields": ["b", "a"]}],
    ids=str,
)
def test_every_option_is_part_of_the_fingerprint(options: dict[str, Any]) -> None:
    assert DetectionAdapter(**options).fingerprint != DetectionAdapter().fingerprint


def test_a_fingerprint_is_readable() -> None:
    adapter = DetectionAdapter(instance_fields=["b", "a"])
    assert adapter.fingerprint == (
        'DetectionAdapter/2(bad_boxes="error", boxes="xyxy", form=null, instance_fields=["a", "b"])'
    )
