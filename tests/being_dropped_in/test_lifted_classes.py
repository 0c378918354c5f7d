"""timm's datasets, `wrap_dataset_for_transforms_v2` and torchvision's VOC and ImageFolder: transforms, facts, states."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torchvision import tv_tensors
from torchvision.datasets import (
    CocoDetection,
    ImageFolder,
    VOCDetection,
    VOCSegmentation,
    wrap_dataset_for_transforms_v2,
)
from torchvision.transforms import v2

from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.plans import Add
from synthloader.sources import Source
from tests.scenes import keep_items
from tests.shapes import NAMES, Redraw, ShiftClasses, assert_boxes_true, write_coco_shapes, write_imagefolder, write_voc

# timm and torchvision open files that PIL closes when it has read them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"),
]


def make_mix(real: Any, ratio: float = 1.0, *, generator: Any = None, **options: Any) -> MixedDataset:
    return MixedDataset(real, GeneratedDataset(real, generator or Redraw()), ratio=ratio, **options)


def to_image(image: Any) -> np.ndarray:
    return np.asarray(image.convert("RGB") if hasattr(image, "convert") else torch.as_tensor(image).permute(1, 2, 0))


def read_states() -> tuple[Any, ...]:
    state = np.random.get_state()  # noqa: NPY002
    return random.getstate(), state[1].tobytes(), torch.get_rng_state().numpy().tobytes()  # type: ignore[index]


def plainly(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (type(value).__name__, tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return {name: plainly(entry) for name, entry in value.items()}
    return tuple(map(plainly, value)) if isinstance(value, tuple | list) else value


RANDOM = v2.Compose([v2.PILToTensor(), v2.RandomHorizontalFlip(), v2.RandomPhotometricDistort()])


@pytest.fixture
def timm_dataset(tmp_path: Path) -> Callable[..., Any]:
    folder = write_imagefolder(tmp_path, 9)
    return lambda **options: timm.data.ImageDataset(str(folder / "train"), **options)


@pytest.fixture
def wrapped(tmp_path: Path) -> Callable[..., Any]:
    images, file = map(str, write_coco_shapes(tmp_path / "coco", 6))

    def make(target_keys: Any = None, kind: type[CocoDetection] = CocoDetection, **options: Any) -> Any:
        return wrap_dataset_for_transforms_v2(kind(images, file, **options), target_keys=target_keys)

    return make


class TestTimm:
    def test_a_transform_set_after_construction_is_read_as_it_is_now(self, timm_dataset: Callable[..., Any]) -> None:
        real = timm_dataset()
        train = make_mix(real)
        assert train[12][0].mode == "RGB"
        real.transform = v2.PILToTensor()
        for index in (0, 12):
            assert torch.is_tensor(train[index][0])

    @pytest.mark.uses_global_rng  # timm's own augmentation
    def test_create_loader_over_a_mix_transforms_real_and_generated_items(
        self, timm_dataset: Callable[..., Any]
    ) -> None:
        real = timm_dataset()
        train = make_mix(Subset(real, list(range(8))))
        loader = timm.data.create_loader(
            train, (3, 32, 32), 4, is_training=True, use_prefetcher=False, num_workers=0, device=torch.device("cpu")
        )
        batches = list(loader)
        assert real.transform is not None
        assert [tuple(images.shape) for images, _ in batches] == [(4, 3, 32, 32)] * 4
        assert (train.report().real, train.report().generated) == (8, 8)

    def test_target_transforms_leave_images_without_a_label_alone(self, timm_dataset: Callable[..., Any]) -> None:
        train = make_mix(timm_dataset(target_transform=lambda label: label + 10))
        for index in range(18):
            draw = train.draw(index)
            place = index if draw is None else draw.source
            assert train[index][1] == place // 3 + 10

    def test_facts_are_those_of_the_reader(self, timm_dataset: Callable[..., Any]) -> None:
        source = Source(timm_dataset(transform=RANDOM))
        assert source.classes == {name: place for place, name in enumerate(NAMES)}
        assert source.name(4) == "disc/0004.png"
        assert source.size_hw(4) == (96, 128)
        assert source.class_ids(4).tolist() == [1]
        assert source.labels is not None
        assert source.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert len({source.stamp(index) for index in range(9)}) == 9

    def test_a_transform_that_nothing_would_call_is_refused(self) -> None:
        train = make_mix([(torch.zeros(3, 8, 8, dtype=torch.uint8), 1)] * 3, ratio=0)
        with pytest.raises(AttributeError) as caught:
            train.transform = RANDOM
        assert str(caught.value) == (
            "list has no attribute transform, so that it would be called for no item. Pass "
            "MixedDataset(..., transforms=...), which is called as transforms(*item)."
        )


class TestWrappedForTransformsV2:
    @pytest.mark.uses_global_rng  # the user's own flip
    @pytest.mark.parametrize("keys", [None, "all", ("boxes", "labels"), ("image_id", "boxes", "labels", "masks")])
    def test_any_target_keys_come_back_as_tv_tensors_that_tell_the_truth(
        self, wrapped: Callable[..., Any], keys: Any
    ) -> None:
        flip = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(1.0)])
        real = wrapped(keys, transforms=flip)
        train = make_mix(real, generator=ShiftClasses(1))
        for index in range(6, 12):
            image, target = train[index]
            assert type(image) is tv_tensors.Image
            assert type(target["boxes"]) is tv_tensors.BoundingBoxes
            assert target["boxes"].canvas_size == image.shape[-2:]
            assert set(target) == set(train[0][1])
            assert_boxes_true(to_image(image), target["boxes"].numpy(), target["labels"].numpy() - 1)
            if "masks" in target:
                assert type(target["masks"]) is tv_tensors.Mask

    def test_transforms_are_stripped_and_read_live(self, wrapped: Callable[..., Any]) -> None:
        calls: list[int] = []

        def count(image: Any, target: Any) -> Any:
            calls.append(1)
            return image, target

        real = wrapped(transforms=count)
        train = make_mix(real, generator=ShiftClasses(1))
        train[7]
        assert len(calls) == 1
        real.transforms = None
        train[8]
        assert len(calls) == 1
        real.transforms = count
        train[9]
        assert len(calls) == 2

    def test_facts_are_found_through_the_wrapper(self, wrapped: Callable[..., Any], tmp_path: Path) -> None:
        source = Source(wrapped(("boxes", "labels")))
        assert (source.name(2), source.size_hw(2)) == ("0002.png", (96, 128))
        assert source.classes == {name: place + 1 for place, name in enumerate(NAMES)}
        assert sorted(source.class_ids(2).tolist()) == sorted(source.dataset[2][1]["labels"].tolist())
        assert source.stamp(2) != source.stamp(3)
        folder = write_imagefolder(tmp_path / "classes", 6)
        labelled = Source(wrap_dataset_for_transforms_v2(ImageFolder(str(folder / "train"))))
        assert (labelled.name(1), labelled.class_ids(5).tolist()) == ("box/0003.png", [2])

    def test_an_inner_class_that_draws_at_random_is_not_looked_at_early(self, wrapped: Callable[..., Any]) -> None:
        class Jittered(CocoDetection):
            reads = 0

            def __getitem__(self, index: int) -> Any:
                Jittered.reads += 1
                random.random()
                return super().__getitem__(index)

        before = random.getstate()
        make_mix(wrapped(kind=Jittered), ratio=0)
        assert (Jittered.reads, random.getstate()) == (0, before)

    def test_it_travels(self, wrapped: Callable[..., Any]) -> None:
        train = make_mix(wrapped(("boxes", "labels")), generator=ShiftClasses(1))
        assert plainly(pickle.loads(pickle.dumps(train))[8][1]) == plainly(train[8][1])


class TestRandomStates:
    @pytest.mark.uses_global_rng
    @pytest.mark.parametrize("kind", ["timm", "wrapped", "folder"])
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_at_ratio_0_every_batch_is_that_of_the_unwrapped_run(
        self, timm_dataset: Callable[..., Any], wrapped: Callable[..., Any], tmp_path: Path, kind: str, num_workers: int
    ) -> None:
        makers: dict[str, Callable[[], Any]] = {
            "timm": lambda: timm_dataset(transform=RANDOM),
            "wrapped": lambda: wrapped(("boxes", "labels"), transforms=RANDOM),
            "folder": lambda: ImageFolder(str(tmp_path / "train"), transform=RANDOM),
        }

        def run(dataset: Any) -> Any:
            torch.manual_seed(3)
            random.seed(3)
            loader = DataLoader(
                dataset,
                2,
                shuffle=True,
                num_workers=num_workers,
                collate_fn=keep_items,
                multiprocessing_context="fork" if num_workers else None,
            )
            return [plainly(item) for _ in range(2) for batch in loader for item in batch], read_states()

        assert run(make_mix(makers[kind](), ratio=0)) == run(makers[kind]())

    @pytest.mark.parametrize("kind", ["timm", "wrapped"])
    def test_making_a_mix_leaves_every_random_state_as_it_was(
        self, timm_dataset: Callable[..., Any], wrapped: Callable[..., Any], kind: str
    ) -> None:
        before = read_states()
        train = make_mix(timm_dataset(transform=RANDOM) if kind == "timm" else wrapped(transforms=RANDOM))
        train.report()
        assert read_states() == before


class TestTorchvisionFacts:
    def test_voc_names_files_annotations_and_sizes(self, tmp_path: Path) -> None:
        root = str(write_voc(tmp_path, 4))
        for kind in (VOCDetection, VOCSegmentation):
            real = kind(root, year="2012", image_set="train")
            wrapped = wrap_dataset_for_transforms_v2(kind(root, year="2012", image_set="train"))
            sources = [Source(real), Source(wrapped, look=False)]  # torchvision's wrapper knows VOC's own classes only
            for source in (*sources, Source(ConcatDataset([Subset(real, [0, 1, 2])]))):
                assert source.name(2).endswith("0002.jpg")
                assert source.size_hw(2) == (96, 128)
                assert source.facts(2).annotation == Path(real.targets[2])
            stamp = sources[0].stamp(2)
            Path(real.targets[2]).write_bytes(Path(real.targets[2]).read_bytes() + b"\n")
            assert Source(real).stamp(2) != stamp

    def test_two_image_folders_with_other_classes_are_refused(self, tmp_path: Path) -> None:
        real = ImageFolder(str(write_imagefolder(tmp_path / "real", 6) / "train"))
        (tmp_path / "real" / "train" / "disc").rename(tmp_path / "real" / "train" / "a_disc")
        other = ImageFolder(str(tmp_path / "real" / "train"))
        with pytest.raises(LabelContractError) as caught:
            MixedDataset(real, other, ratio=0.5)
        assert str(caught.value) == (
            "class 0 is 'box' in the real dataset and 'a_disc' in the generated set 'generated'. Give both one table "
            "of classes, or renumber one of them."
        )

    def test_targets_are_of_the_kind_that_the_dataset_has(self, tmp_path: Path) -> None:
        real = ImageFolder(str(write_imagefolder(tmp_path, 6) / "train"))
        for kind in (list, np.array, torch.tensor):
            real.targets = kind([0, 0, 1, 1, 2, 2])  # type: ignore[assignment]
            train = make_mix(real, ratio=0.5)
            assert type(train.targets) is type(real.targets)
            assert list(map(int, train.targets)) == [train[index][1] for index in range(9)]
        for name in ("samples", "imgs"):
            with pytest.raises(AttributeError, match=rf"^{name} has one entry for each of the 6 real items"):
                getattr(train, name)

    def test_plans_reach_every_class_of_a_folder(self, tmp_path: Path) -> None:
        train = make_mix(ImageFolder(str(write_imagefolder(tmp_path, 6) / "train")))
        assert train.plan == Add(1.0)
        assert {train[index][1] for index in range(6, 12)} == {0, 1, 2}
