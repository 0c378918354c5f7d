"""Wrong use is refused early, with the remedy."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import CocoDetection, ImageFolder, VOCSegmentation, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from synthloader.cache import MemoryCache
from synthloader.errors import GenerationError, LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.generators import Chain
from synthloader.item_forms import find_difference
from synthloader.mixed import MixedDataset
from synthloader.plans import Balance
from synthloader.precompute import precompute
from synthloader.sample import Sample
from synthloader.targets import SemanticMask
from tests.scenes import ScenesDataset, Shade, keep_items
from tests.shapes import write_coco_shapes, write_imagefolder, write_voc

# PIL opens files lazily, and those of items that were refused are never read to their end.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"),
]


class OnlyMasks(Shade):
    keeps = frozenset({SemanticMask})


class OnGpu(Shade):
    """Says that it is on a GPU, and complains as torch does where it is used in a forked process."""

    device = "cuda:0"
    complains = False

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        if self.complains:
            raise RuntimeError(
                "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the "
                "'spawn' start method"
            )
        return super().generate(source, rng=rng)


class Complaining(OnGpu):
    device = "cpu"  # type: ignore[assignment]
    complains = True


class TestForms:
    def test_boxes_in_a_dataset_of_masks_are_refused_at_construction(self, tmp_path: Path) -> None:
        real = VOCSegmentation(str(write_voc(tmp_path / "voc", 4)), year="2012", image_set="train")
        boxes = CocoDetection(*map(str, write_coco_shapes(tmp_path / "coco", 4)))
        with pytest.raises(LabelContractError) as caught:
            MixedDataset(real, boxes, ratio=0.5)
        assert str(caught.value) == (
            "the generated set 'generated' cannot stand beside the real items: its part 1 is a list, and a PIL image "
            "in the real items. Give CocoDetection items of the form of VOCSegmentation, transforms included, or make "
            "samples from it by a generator: GeneratedDataset(...)."
        )

    def test_where_items_are_drawn_at_random_they_are_compared_when_the_first_is_served(self) -> None:
        class Boxes(ScenesDataset):
            def __getitem__(self, index: int) -> Any:
                random.random()
                return super().__getitem__(index)

        before = random.getstate()
        train = MixedDataset(Boxes(4), Boxes(4, with_masks=False), ratio=1.0)
        assert random.getstate() == before
        random_state = random.getstate()
        try:
            train[0]
            with pytest.raises(
                LabelContractError, match=r"its items have no field 'masks' of part 1, which every real"
            ):
                train[5]
        finally:
            random.setstate(random_state)

    def test_an_image_transform_that_one_side_lacks_is_noticed(self, tmp_path: Path) -> None:
        images, file = map(str, write_coco_shapes(tmp_path, 4))
        real = CocoDetection(images, file, transform=v2.PILToTensor())
        train = MixedDataset(real, CocoDetection(images, file), ratio=1.0)
        with pytest.raises(
            LabelContractError, match=r"its part 0 is a PIL image of mode RGB, and a Tensor with 3 axes"
        ):
            train[5]
        assert torch.is_tensor(MixedDataset(real, Subset(real, [0, 1]), ratio=0.5)[5][0])

    @pytest.mark.parametrize(
        ("other", "difference"),
        [
            ((torch.zeros(3, 4, 4), 1), None),
            ((torch.zeros(3, 9, 7), np.int64(1)), None),
            ((torch.zeros(1, 4, 4), 1), "part 0 is a Tensor with 3 axes, torch.float32, 1 channels, and a Tensor with"),
            (
                (torch.zeros(3, 4, 4, dtype=torch.uint8), 1),
                "part 0 is a Tensor with 3 axes, torch.uint8, 3 channels, and",
            ),
            ((np.zeros((4, 4, 3), np.float32), 1), "part 0 is a ndarray with 3 axes"),
            (
                (torch.zeros(3, 4, 4), torch.zeros(4, 4)),
                "part 1 is a Tensor with 2 axes, and a number in the real items",
            ),
            ((torch.zeros(3, 4, 4), 1, 2), "items are a tuple of 3, and a tuple of 2 in the real dataset"),
            ({"image": torch.zeros(3, 4, 4)}, "items are a dict, and a tuple of 2 in the real dataset"),
        ],
        ids=repr,
    )
    def test_what_must_agree_in_a_pair(self, other: Any, difference: str | None) -> None:
        found = find_difference([(torch.zeros(3, 4, 4), 1)], [other])
        assert (found is None) if difference is None else (found or "").startswith(difference)

    def test_what_varies_among_the_real_items_may_vary(self) -> None:
        grey, colour = Image.new("L", (4, 4)), Image.new("RGB", (4, 4))
        real = [(grey, {"boxes": []}), (colour, {"image_id": 1})]
        assert find_difference(real, [(colour, {"image_id": 3})]) is None
        assert find_difference(real[:1], [(colour, {"boxes": []})]) is not None
        extra = find_difference(real, [(colour, {"image_id": 3, "poses": []})])
        assert extra == "items have field 'poses' of part 1, which no real item has"


class TestKeeps:
    @pytest.mark.uses_global_rng  # the user's own flip
    def test_a_generator_that_does_not_keep_the_targets_is_refused_at_construction(self, tmp_path: Path) -> None:
        real = ImageFolder(str(write_imagefolder(tmp_path, 3) / "train"), transform=v2.RandomHorizontalFlip())
        made = GeneratedDataset(real, OnlyMasks())
        with pytest.raises(LabelContractError) as caught:
            MixedDataset(real, made, ratio=0.5)
        assert str(caught.value) == (
            "OnlyMasks does not keep ClassLabel true, which item 0 (box/0000.png) has. It keeps SemanticMask: use a "
            "generator that keeps ClassLabel, or another dataset."
        )
        assert MixedDataset(real, made, ratio=0)[0][1] == 0

    def test_elsewhere_at_the_first_generated_item(self) -> None:
        real = ScenesDataset(3)
        train = MixedDataset(real, GeneratedDataset(real, OnlyMasks()), ratio=1.0)
        with pytest.raises(LabelContractError, match=r"^OnlyMasks does not keep Instances true"):
            train[4]


class TestMarks:
    @pytest.mark.parametrize("options", [{"mark": "made"}, {"weight": 0.5}])
    def test_items_without_a_dict_are_refused_at_construction(self, tmp_path: Path, options: Any) -> None:
        real = ImageFolder(str(write_imagefolder(tmp_path, 3) / "train"), transform=v2.RandomHorizontalFlip())
        with pytest.raises(TypeError) as caught:
            MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5, **options)
        assert str(caught.value) == (
            "mark and weight need items that are a dict or end in one, got (Image, int). Ask train.is_generated(i) "
            "instead, or make the target a dict by transforms=."
        )

    def test_the_way_out_works(self, tmp_path: Path) -> None:
        real = ImageFolder(str(write_imagefolder(tmp_path, 3) / "train"))
        made = GeneratedDataset(real, Shade())
        train = MixedDataset(
            real, made, ratio=1.0, mark="made", transforms=lambda image, label: (image, {"label": label})
        )
        assert [bool(train[index][1]["made"]) for index in range(6)] == [False] * 3 + [True] * 3

    def test_where_transforms_may_make_a_dict_it_is_said_at_the_first_item(self, tmp_path: Path) -> None:
        images, file = map(str, write_coco_shapes(tmp_path, 3))
        real = CocoDetection(images, file, transforms=lambda image, target: (image, {"annotations": target}))
        assert "made" in MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5, mark="made")[0][1]
        lists = CocoDetection(images, file, transforms=lambda image, target: (image, target))
        train = MixedDataset(lists, GeneratedDataset(lists, Shade()), ratio=0.5, mark="made")
        with pytest.raises(
            TypeError, match=r"^mark and weight need items that are a dict or end in one, got \(Image, \(dict"
        ):
            train[0]


class TestForkedGpu:
    REMEDY = (
        "{} runs on a GPU, which a forked loader worker cannot use. Fill a cache beforehand (synthloader.precompute), "
        "or pass num_workers=0 or multiprocessing_context='spawn' to the DataLoader."
    )

    def load(self, train: MixedDataset, start_method: str = "fork") -> list[Any]:
        loader = DataLoader(
            train,
            4,
            num_workers=1,
            multiprocessing_context=start_method,
            collate_fn=keep_items,
            generator=torch.Generator(),
        )
        try:
            return [item for batch in loader for item in batch]
        except GenerationError as error:
            # Its traceback lies in a circle with the loader's iterator: collected there, workers are waited for in vain.
            raise error.with_traceback(None) from None

    def make_mix(self, generator: Any, cache: Any = None) -> MixedDataset:
        real = ScenesDataset(4)
        return MixedDataset(real, GeneratedDataset(real, generator, cache=cache, variants=1), ratio=1.0)

    @pytest.mark.parametrize("kind", [OnGpu, Complaining])
    def test_a_forked_worker_names_the_ways_out(self, kind: type[Shade]) -> None:
        with pytest.raises(GenerationError) as caught:
            self.load(self.make_mix(kind()))
        assert self.REMEDY.format(kind.__name__) in str(caught.value)

    def test_a_part_of_a_chain_counts(self) -> None:
        with pytest.raises(GenerationError, match="Chain runs on a GPU"):
            self.load(self.make_mix(Chain([Shade(), OnGpu()])))

    def test_the_ways_out_work(self) -> None:
        assert len(list(self.make_mix(OnGpu()).__getitems__(list(range(8))))) == 8
        train = self.make_mix(OnGpu(), MemoryCache())
        precompute(train.sets[0].dataset, progress=False)
        assert len(self.load(train)) == 8
        assert train.report().generated == 4

    @pytest.mark.slow
    def test_a_spawned_worker_may(self) -> None:
        assert len(self.load(self.make_mix(OnGpu()), "spawn")) == 8

    def test_the_error_travels(self) -> None:
        error = GenerationError("words", fingerprint="a")
        assert str(pickle.loads(pickle.dumps(error))) == "words"


def test_a_mix_in_a_function_that_is_called_twice_is_refused() -> None:
    class Module:
        def __init__(self) -> None:
            self.data: Any = ScenesDataset(4)

        def train_dataloader(self) -> DataLoader[Any]:
            self.data = MixedDataset(self.data, GeneratedDataset(ScenesDataset(4), Shade()), ratio=0.5)
            return DataLoader(self.data)

    module = Module()
    module.train_dataloader()
    with pytest.raises(TypeError) as caught:
        module.train_dataloader()
    assert str(caught.value) == (
        "real must not be mixed already, got real='MixedDataset'. Make the mix once, outside of functions that are "
        "called again, or pass its real dataset: train.real."
    )


def test_getitems_that_collate_are_refused() -> None:
    class Collating(ScenesDataset):
        def __getitems__(self, indices: list[int]) -> Any:
            return {"images": [self[index][0] for index in indices]}

    real: Dataset[Any] = Collating(4)
    train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5)
    with pytest.raises(TypeError, match=r"^Collating\.__getitems__ must return a list of one item for each index, got"):
        train.__getitems__([0, 1])


def test_balance_needs_items_that_tell_their_classes(tmp_path: Path) -> None:
    real = wrap_dataset_for_transforms_v2(
        CocoDetection(*map(str, write_coco_shapes(tmp_path, 4))), target_keys={"image_id", "masks"}
    )
    assert len(MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5)) == 6
    with pytest.raises(LabelContractError) as caught:
        MixedDataset(real, GeneratedDataset(real, Shade()), plan=Balance(1.0))
    assert str(caught.value) == (
        "items of WrappedCocoDetection must tell the classes of their objects, which this plan or generator asks for, "
        "got items of WrappedCocoDetection=['image_id', 'masks']. Add their labels to the items (target_keys=)."
    )
