"""One line put into other people's scripts: every sentence of the design's section "Being dropped in"."""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from synthloader.generated import GeneratedDataset
from synthloader.lifting import preserve_random_state
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Replace
from tests.scenes import ScenesDataset, Shade, describe, keep_items, write_coco


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., CocoDetection]:
    images, annotations = write_coco(tmp_path, 6)
    return lambda **options: CocoDetection(str(images), str(annotations), **options)


def make_mix(real: Any, ratio: float = 1.0, **options: Any) -> MixedDataset:
    return MixedDataset(real, GeneratedDataset(real, Shade(), variants=2), ratio=ratio, **options)


class RandomlyFlipped(ScenesDataset):
    """Somebody's own class: augments inside `__getitem__`, from all three global random states."""

    def __getitem__(self, index: int) -> Any:
        image, target = super().__getitem__(index)
        noise = random.randrange(9) + np.random.randint(9) + int(torch.randint(9, ()))  # noqa: NPY002
        return (image // 2 + noise).to(torch.uint8), target


def read_states() -> tuple[Any, ...]:
    state = np.random.get_state()  # noqa: NPY002
    return random.getstate(), state[1].tobytes(), state[2:], torch.get_rng_state().numpy().tobytes()  # type: ignore[index]


class TestRandomStates:
    def test_making_a_mix_leaves_every_random_state_as_it_was(self, coco: Callable[..., CocoDetection]) -> None:
        for real in (RandomlyFlipped(5), coco(transform=v2.RandomHorizontalFlip())):
            before = read_states()
            train = make_mix(real)
            assert train.draw(len(real)) is not None
            train.report()
            assert read_states() == before

    @pytest.mark.uses_global_rng
    def test_a_generated_item_draws_only_what_its_source_draws(self) -> None:
        train = make_mix(RandomlyFlipped(5))
        train[6]  # recognises the format
        draw = train.draw(7)
        assert draw is not None
        with preserve_random_state():
            train.real[draw.source]
            expected = read_states()
        train[7]
        assert read_states() == expected

    @pytest.mark.uses_global_rng
    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("plan", [Add(0), Replace(0)], ids=repr)
    def test_at_ratio_0_every_batch_and_every_random_state_is_that_of_the_unwrapped_run(
        self, coco: Callable[..., CocoDetection], num_workers: int, plan: Any
    ) -> None:
        flips = v2.Compose([v2.PILToTensor(), v2.RandomHorizontalFlip(), v2.RandomPhotometricDistort()])
        makers: list[Callable[[], Any]] = [lambda: coco(transform=flips), lambda: RandomlyFlipped(7)]

        def run(dataset: Any) -> tuple[Any, ...]:
            torch.manual_seed(3)
            random.seed(3)
            np.random.seed(3)  # noqa: NPY002
            if isinstance(dataset, MixedDataset):
                assert dataset.report().planned["generated"] == 0
            loader = DataLoader(
                dataset,
                2,
                shuffle=True,
                num_workers=num_workers,
                collate_fn=keep_items,
                multiprocessing_context="fork" if num_workers else None,
            )
            batches = [[describe(item) for item in batch] for _ in range(2) for batch in loader]
            return batches, read_states()

        for make in makers:
            bare = make()
            mixed = MixedDataset(real := make(), GeneratedDataset(real, Shade()), plan=plan)
            assert run(mixed) == run(bare)

    def test_at_ratio_0_no_item_of_a_class_of_ones_own_is_looked_at(self) -> None:
        class Counting(ScenesDataset):
            reads = 0

            def __getitem__(self, index: int) -> Any:
                Counting.reads += 1
                return super().__getitem__(index)

        train = make_mix(Counting(4), ratio=0)
        train[1]
        assert Counting.reads == 1


class Convert:
    """What torchvision's references do first: annotations to boxes, labels and masks."""

    def __init__(self, data: CocoDetection) -> None:
        self.data = data

    def __call__(self, image: Any, target: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        boxes = torch.tensor([entry["bbox"] for entry in target["annotations"]]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([entry["category_id"] for entry in target["annotations"]])
        masks = torch.from_numpy(np.stack([self.data.coco.annToMask(entry) for entry in target["annotations"]]))
        return image, {"boxes": boxes, "labels": labels, "masks": masks, "image_id": torch.tensor([target["image_id"]])}


class Flip:
    """Mirrors everything, and says that it did."""

    def __call__(self, image: Any, target: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        image = v2.functional.pil_to_tensor(image).flip(-1)
        boxes = target["boxes"].clone()
        boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
        return image, {**target, "boxes": boxes, "flipped": True}


class References(CocoDetection):
    """The class of torchvision's references: `_transforms`, and items of image id and annotations."""

    def __init__(self, root: str, file: str, transforms: Any) -> None:
        super().__init__(root, file)
        self._transforms = transforms

    def __getitem__(self, index: int) -> Any:
        image, annotations = super().__getitem__(index)
        target: Any = {"image_id": self.ids[index], "annotations": annotations}
        if self._transforms is not None:
            image, target = self._transforms(image, target)
        return image, target


class Detr(References):
    """DETR's class: converts first, then `_transforms`."""

    def __getitem__(self, index: int) -> Any:
        image, annotations = CocoDetection.__getitem__(self, index)
        image, target = Convert(self)(image, {"image_id": self.ids[index], "annotations": annotations})
        if self._transforms is not None:
            image, target = self._transforms(image, target)
        return image, target


class TestTransforms:
    def test_an_image_transform_reaches_real_and_generated_items(self, coco: Callable[..., CocoDetection]) -> None:
        train = make_mix(coco(transform=v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])))
        for index in (0, 7):
            assert train[index][0].dtype == torch.float32
            assert train[index][0].max() <= 1
        assert isinstance(train[7][1], list)

    def test_normalised_images_are_fine_where_transforms_are_lifted(self, coco: Callable[..., CocoDetection]) -> None:
        steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.1] * 3)]
        train = make_mix(coco(transform=v2.Compose(steps)))
        assert train[7][0].min() < 0

    def test_joint_transforms_see_generated_pairs_once(self, coco: Callable[..., CocoDetection]) -> None:
        seen: list[int] = []

        def joint(image: Any, target: Any) -> tuple[Any, Any]:
            seen.append(len(target))
            return v2.functional.pil_to_tensor(image), target

        train = make_mix(coco(transforms=joint))
        assert seen == []
        assert torch.is_tensor(train[7][0])
        assert len(seen) == 1

    def test_transforms_are_read_as_they_are_now(self, coco: Callable[..., CocoDetection]) -> None:
        real = coco()
        train = make_mix(real)
        assert not torch.is_tensor(train[7][0])
        real.transforms = lambda image, target: (v2.functional.pil_to_tensor(image), target)
        assert torch.is_tensor(train[7][0])
        assert torch.is_tensor(train[0][0])

    @pytest.mark.uses_global_rng  # the user's own flip
    def test_wrapped_items_for_transforms_v2_stay_tv_tensors(self, coco: Callable[..., CocoDetection]) -> None:
        flips = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(1.0)])
        plain = coco()
        real = wrap_dataset_for_transforms_v2(
            coco(transforms=flips), target_keys=("boxes", "labels", "masks", "image_id")
        )
        train = make_mix(real)
        image, target = train[8]
        assert type(image) is tv_tensors.Image
        assert type(target["boxes"]) is tv_tensors.BoundingBoxes
        assert type(target["masks"]) is tv_tensors.Mask
        draw = train.draw(8)
        assert draw is not None
        _, unflipped = plain[draw.source]
        left = image.shape[-1] - unflipped[0]["bbox"][0] - unflipped[0]["bbox"][2]
        assert float(target["boxes"][0, 0]) == left

    @pytest.mark.parametrize("kind", [References, Detr])
    def test_the_transforms_of_references_and_detr_are_lifted(self, tmp_path: Path, kind: type[References]) -> None:
        images, file = map(str, write_coco(tmp_path, 6))
        steps: list[Any] = [Flip()] if kind is Detr else [Convert(CocoDetection(images, file)), Flip()]

        def transforms(image: Any, target: Any) -> Any:
            for step in steps:
                image, target = step(image, target)
            return image, target

        train = make_mix(kind(images, file, transforms))
        bare = kind(images, file, None if kind is Detr else steps[0])
        for index in range(6, 12):
            draw = train.draw(index)
            assert draw is not None
            image, target = train[index]
            size, source = bare[draw.source]
            assert target["flipped"]
            assert image.shape[-1] == size.width
            assert torch.equal(target["labels"], source["labels"])
            expected = source["boxes"].clone()
            expected[:, [0, 2]] = size.width - expected[:, [2, 0]]
            assert torch.equal(target["boxes"], expected)
            assert int(target["image_id"]) == int(source["image_id"])

    def test_an_attribute_of_that_name_on_a_class_of_ones_own_is_left_alone(self) -> None:
        class Own(ScenesDataset):
            def __init__(self, count: int) -> None:
                super().__init__(count)
                self.transforms = self.transform = self.target_transform = _explode

        train = make_mix(Own(4))
        assert torch.is_tensor(train[5][0])

    def test_they_are_found_through_subset_and_concat(self, coco: Callable[..., CocoDetection]) -> None:
        one, two = (
            coco(transform=v2.PILToTensor()),
            coco(transform=v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32)])),
        )
        real: Dataset[Any] = ConcatDataset([Subset(one, [0, 3]), two])
        train = make_mix(real, ratio=2.0)
        for index in range(len(real), len(train)):  # type: ignore[arg-type]
            draw = train.draw(index)
            assert draw is not None
            assert train[index][0].dtype == (torch.uint8 if draw.source < 2 else torch.float32)

    def test_normalised_items_of_a_class_of_ones_own_are_refused_with_both_ways_out(self) -> None:
        class Normalised(ScenesDataset):
            def __getitem__(self, index: int) -> Any:
                image, target = super().__getitem__(index)
                return (image / 255 - 0.5) / 0.2, target

        train = make_mix(Normalised(4))
        train[0]
        with pytest.raises(ValueError, match=r"0\.\.1") as caught:
            train[5]
        assert "transforms=" in str(caught.value)
        assert "adapter=" in str(caught.value)

    def test_the_way_out_works(self) -> None:
        def normalise(image: torch.Tensor, target: Any) -> tuple[torch.Tensor, Any]:
            return (image / 255 - 0.5) / 0.2, target

        train = make_mix(ScenesDataset(4), transforms=normalise)
        assert train[5][0].min() < 0
        assert train[0][0].min() < 0


class TestFields:
    def test_rows_follow_the_instances_and_the_rest_comes_back_unchanged(self) -> None:
        class Dropping:
            """A filter that drops the first instance of every generated sample."""

            fingerprint = "Dropping/1()"

            def judge(self, generated: Any, source: Any, /) -> Any:
                from synthloader.protocols import Verdict

                rows = np.arange(1, len(generated.target))
                return Verdict(True, sample=generated.replace(target=generated.target.select(rows)))

        real = ScenesDataset(6)
        train = MixedDataset(real, GeneratedDataset(real, Shade(), filters=[Dropping()]), ratio=1.0)
        for index in range(6, 12):
            draw = train.draw(index)
            assert draw is not None
            _, source = real[draw.source]
            _, target = train[index]
            for name in ("boxes", "labels", "masks", "area", "iscrowd", "confidence"):
                assert torch.equal(target[name], source[name][1:]), name
            assert target["camera"] == source["camera"]
            assert target["image_id"] == source["image_id"]

    def test_coco_annotations_come_back_equal_where_nothing_changed(self, coco: Callable[..., CocoDetection]) -> None:
        train = make_mix(coco())
        for index in range(6, 12):
            draw = train.draw(index)
            assert draw is not None
            assert train[index][1] == train.real[draw.source][1]
            assert train[index][0].mode == "RGB"


def test_recognition_is_by_shape_and_not_by_module_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("datasets")
    monkeypatch.setitem(sys.modules, "datasets", module)

    class Named(ScenesDataset):
        pass

    Named.__module__ = "datasets"
    assert describe(make_mix(Named(4))[5]) == describe(make_mix(ScenesDataset(4))[5])


def _explode(*parts: Any) -> Any:
    raise RuntimeError("the library called a transform that is not its to call")
