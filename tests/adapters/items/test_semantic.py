"""Segmentation pairs: masks of every form, ids to ignore, masks of 0 and 255, maps behind, and what is refused."""

from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import tv_tensors

from synthloader.adapters import SemanticAdapter
from synthloader.adapters.items.semantic import find_ids
from synthloader.cache.memory import MemoryCache
from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.registry import find_adapter
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, SemanticMask
from tests.scenes import ScenesDataset, Shade
from tests.shapes import Redraw, assert_mask_true, draw_numbered

IMAGE = PIL.Image.fromarray(np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3))
IDS = np.zeros((12, 16), np.uint8)
IDS[2:5, 3:9], IDS[7:, :4] = 2, 255


def make_pair(number: int, **options: Any) -> tuple[Any, Any]:
    drawn = draw_numbered(number, size_hw=(48 + 2 * number, 96))
    return drawn.image, drawn.id_mask.astype(np.uint8, **options)


def test_masks_of_generated_items_are_true_on_their_pixels_and_sizes_may_differ() -> None:
    real = [make_pair(number) for number in range(5)]
    mix = MixedDataset(real, GeneratedDataset(real, Redraw(), variants=2, cache=MemoryCache()), ratio=2.0)
    for index in range(len(mix)):
        image, mask = mix[index]
        assert_mask_true(image, mask)
        assert (type(mask), mask.dtype) == (np.ndarray, np.uint8)
    assert mix.report().realised_ratio == 2.0


def test_ids_to_ignore_are_kept_apart() -> None:
    sample = SemanticAdapter().to_sample((IMAGE, PIL.Image.fromarray(IDS)), index=0)
    assert isinstance(sample.target, SemanticMask)
    assert sample.target.ignore_index == 255
    assert SemanticAdapter().read_class_ids((IMAGE, IDS)) == [2]
    assert SemanticAdapter(ignore_index=2).read_class_ids((IMAGE, IDS)) == [255]
    assert SemanticAdapter(ignore_index=None).read_class_ids((IMAGE, IDS)) == [2, 255]


def test_a_sample_with_another_id_to_ignore_gets_the_datasets() -> None:
    ids = np.where(IDS == 255, -1, IDS).astype(np.int32)
    sample = Sample(np.asarray(IMAGE), SemanticMask(ids, -1))
    assert np.array_equal(SemanticAdapter().from_sample(sample, like=(IMAGE, IDS))[1], IDS)


class TestZeroAnd255:
    MASKS = (np.uint8(255) * (IDS == 2), np.uint8(255) * (IDS == 255))

    def test_255_is_a_class_where_nothing_else_is_seen_and_that_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "synthloader.adapters.items.semantic"):
            adapter = find_adapter(object(), [(IMAGE, mask) for mask in self.MASKS])
        assert isinstance(adapter, SemanticAdapter)
        assert adapter.ignore_index is None
        assert caplog.messages == [
            "The first masks hold only 0 and 255: 255 is taken for a class. If it marks pixels to ignore, pass "
            "adapter=SemanticAdapter(ignore_index=255); if not, SemanticAdapter(ignore_index=None) says so."
        ]
        sample = adapter.to_sample((IMAGE, self.MASKS[0]), index=0)
        assert (sample.target.mask == self.MASKS[0]).all()
        assert sample.target.ignore_index != 255

    def test_255_is_to_ignore_where_another_mask_has_classes(self, caplog: pytest.LogCaptureFixture) -> None:
        adapter = find_adapter(object(), [(IMAGE, self.MASKS[0]), (IMAGE, IDS)])
        assert adapter.ignore_index == 255  # type: ignore[attr-defined]
        assert caplog.messages == []

    def test_a_generator_that_ignores_pixels_there_is_refused(self) -> None:
        adapter = SemanticAdapter(ignore_index=None)
        sample = adapter.to_sample((IMAGE, self.MASKS[0]), index=0)
        mask = sample.target.mask.copy()
        mask[0, 0] = sample.target.ignore_index
        message = (
            "the generated mask must hold only values that the dataset's own form can hold, got values from -2147483648 "
            "to 255 for an array of uint8. Let the generator use the classes of the dataset, or let the dataset return "
            "masks of a wider type."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            adapter.from_sample(
                sample.replace(target=SemanticMask(mask, sample.target.ignore_index)), like=(IMAGE, self.MASKS[0])
            )


@pytest.mark.parametrize(
    ("like", "holder"),
    [
        (PIL.Image.fromarray(IDS == 2), "a PIL image of mode 1"),
        (torch.from_numpy(IDS == 2), "a tensor of bool"),
        (torch.from_numpy(IDS.copy()), "a tensor of uint8"),
        (tv_tensors.Mask(torch.from_numpy(IDS).bfloat16()), "a tensor of bfloat16"),
    ],
    ids=["1", "bool", "uint8", "bfloat16"],
)
def test_a_class_that_the_masks_type_cannot_hold_is_refused(like: Any, holder: str) -> None:
    sample = Sample(np.asarray(IMAGE), SemanticMask(np.full((12, 16), 700, np.int32)))
    message = (
        "the generated mask must hold only values that the dataset's own form can hold, got values from 700 to 700 for "
        f"{holder}. Let the generator use the classes of the dataset, or let the dataset return masks of a wider type."
    )
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        SemanticAdapter().from_sample(sample, like=(IMAGE, like))


def test_each_palette_mask_keeps_its_own_mode_and_palette() -> None:
    masks = []
    for shade in (9, 90):
        mask = PIL.Image.fromarray(IDS).convert("P")
        mask.putpalette([0, 0, 0, shade, shade, shade])
        mask.info["transparency"] = 255
        masks.append(mask)
    adapter = SemanticAdapter()
    for mask in (*masks, PIL.Image.fromarray(IDS)):
        back = adapter.from_sample(adapter.to_sample((IMAGE, mask), index=0), like=(IMAGE, masks[0]))[1]
        assert (back.mode, back.getpalette(), back.tobytes()) == (mask.mode, mask.getpalette(), mask.tobytes())
        assert back.info == mask.info


def test_a_map_behind_the_mask_follows_the_image() -> None:
    depth = np.arange(12 * 16, dtype=np.float32).reshape(12, 16)
    adapter = SemanticAdapter()
    sample = adapter.to_sample((IMAGE, IDS, depth), index=0)
    assert list(sample.maps) == ["2"]
    flipped = sample.replace(maps={"2": depth[:, ::-1].astype(np.float64)})
    back = adapter.from_sample(flipped, like=(IMAGE, IDS, depth))[2]
    assert back.dtype == np.float32
    assert np.array_equal(back, depth[:, ::-1])
    message = (
        "maps must keep '2', which the dataset has for every image, got maps=[]. Carry the maps of the sample on in the "
        "generator."
    )
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        adapter.from_sample(sample.replace(maps={}), like=(IMAGE, IDS, depth))


ARGMAX = (
    "For masks with a channel for each class return masks.argmax(0); where classes overlap, pass an adapter= of your "
    "own."
)


@pytest.mark.parametrize(
    ("mask", "kind", "message"),
    [
        (
            np.zeros((6, 8), np.uint8),
            ValueError,
            "the height and width of dataset[7][1] must be the image's, (12, 16), got the height and width of "
            "dataset[7][1]=(6, 8). Resize image and mask together in the dataset, the mask to the nearest pixel.",
        ),
        (
            torch.zeros(4, 12, 16),
            ValueError,
            "dataset[7][1] must have shape (H, W) or (1, H, W), got dataset[7][1]=<tensor of shape (4, 12, 16), "
            f"torch.float32>. {ARGMAX}",
        ),
        (
            IMAGE,
            ValueError,
            "the mode of dataset[7][1] must be P, L, I, I;16 or 1, got the mode of dataset[7][1]='RGB'. Turn colours "
            "into class ids in the dataset.",
        ),
        (
            np.full((12, 16), 0.5),
            ValueError,
            "the values of dataset[7][1] must be class ids: whole numbers of 32 bit, got the values of "
            "dataset[7][1]=[0.5, 0.5]. Return mask.long().",
        ),
        (
            torch.full((12, 16), 2**40),
            ValueError,
            "the values of dataset[7][1] must be class ids: whole numbers of 32 bit, got the values of "
            "dataset[7][1]=[1099511627776.0, 1099511627776.0]. Return mask.long().",
        ),
        (
            {"boxes": []},
            TypeError,
            "dataset[7][1] must be a mask: a PIL image, a tensor or an array, got dataset[7][1]={'boxes': []}.",
        ),
    ],
    ids=["size", "one-hot", "RGB", "half", "wide", "boxes"],
)
def test_wrong_masks_are_refused_with_index_and_remedy(mask: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        SemanticAdapter().to_sample((IMAGE, mask), index=7)


def test_detection_data_with_a_semantic_adapter_is_refused() -> None:
    generated = GeneratedDataset(ScenesDataset(3), Shade(), adapter=SemanticAdapter())
    with pytest.raises(TypeError, match=r"^dataset\[1\]\[1\] must be a mask: a PIL image, a tensor or an array, got "):
        generated[1]


def test_samples_of_boxes_in_a_dataset_of_masks_are_refused() -> None:
    real = [make_pair(number) for number in range(3)]
    with pytest.raises(LabelContractError) as caught:
        MixedDataset(real, GeneratedDataset(ScenesDataset(3), Shade()), ratio=1.0)[3]
    assert "SemanticMask" in str(caught.value)
    assert "Instances" in str(caught.value)


def test_a_generator_that_returns_another_kind_is_refused() -> None:
    class Classify(Shade):
        def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
            return super().generate(source, rng=rng).replace(target=ClassLabel(1))

    message = (
        "Classify must return the kind of target that it was given, got ClassLabel for SemanticMask at index 0. Return "
        "the source's target where it is still true."
    )
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        GeneratedDataset([make_pair(0)], Classify())[0]


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (np.array([[3, -1], [3, 0]], np.int16), [-1, 0, 3]),
        (np.array([[1e6, 0]]), [0, 1_000_000]),
        (np.array([[True, False]]), [0, 1]),
        (np.array([[0.5, 0.0]]), []),
        (np.array([[np.nan, 0.0]]), []),
        (np.zeros((0, 3), np.uint8), []),
    ],
    ids=["negative", "wide", "bool", "half", "not a number", "empty"],
)
def test_ids_are_found_in_order(values: np.ndarray, ids: list[int]) -> None:
    assert find_ids(values) == ids


def test_the_option_is_part_of_the_fingerprint() -> None:
    assert SemanticAdapter(ignore_index=None).fingerprint == "SemanticAdapter/1(ignore_index=null)"
    assert SemanticAdapter().fingerprint == repr(SemanticAdapter()) == "SemanticAdapter/1(ignore_index=255)"


class TestNegativeIds:
    """-1 and -100 stand for pixels that count for nothing in most losses, and for no class anywhere."""

    MASK = torch.from_numpy(np.where(IDS == 255, -100, IDS.astype(np.int64)))

    def test_one_that_is_seen_is_the_id_to_ignore(self) -> None:
        adapter: Any = find_adapter(object(), [(IMAGE, self.MASK)])
        assert adapter.ignore_index == -100
        assert adapter.read_class_ids((IMAGE, self.MASK)) == [2]
        assert torch.equal(
            adapter.from_sample(adapter.to_sample((IMAGE, self.MASK), index=0), like=(IMAGE, self.MASK))[1], self.MASK
        )

    @pytest.mark.parametrize("ignore_index", [255, None, -1])
    def test_one_that_was_not_expected_is_refused(self, ignore_index: int | None) -> None:
        with pytest.raises(ValueError) as caught:
            SemanticAdapter(ignore_index=ignore_index).to_sample((IMAGE, self.MASK), index=3)
        assert str(caught.value) == (
            f"the ids in dataset[3][1] must be 0 or more, or the ignore_index {ignore_index}, got the ids in "
            "dataset[3][1]=-100. If -100 marks pixels that count for nothing, pass "
            "adapter=SemanticAdapter(ignore_index=-100)."
        )
