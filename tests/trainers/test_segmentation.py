"""segmentation_models_pytorch and torchvision's segmentation models on a mix, judged inside the batches of the loss."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.datasets import VOCSegmentation, wrap_dataset_for_transforms_v2
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from torchvision.transforms import v2

from synthloader.adapters import DictAdapter, SemanticAdapter
from synthloader.batches import MixedBatchSampler
from synthloader.generated import GeneratedDataset
from synthloader.generators import ColorTransfer, CopyPaste
from synthloader.mixed import MixedDataset
from synthloader.targets import SemanticMask
from tests.shapes import (
    NAMES,
    Redraw,
    assert_mask_true,
    draw_numbered,
    is_generated_ground,
    write_masks,
    write_voc,
)

SIZE_HW = (64, 96)
NUM_CLASSES = len(NAMES) + 1


def mix_half(real: Any, generator: Any = None, ratio: float = 0.5, **options: Any) -> MixedDataset:
    return MixedDataset(real, GeneratedDataset(real, generator or Redraw(), **options), ratio=ratio)


def make_loader(mix: Any, batch_size: int = 4) -> DataLoader[Any]:
    return DataLoader(mix, batch_size, shuffle=True, generator=torch.Generator().manual_seed(3))


def make_exact_loader(mix: Any, batch_size: int) -> DataLoader[Any]:
    sampler = MixedBatchSampler(mix, batch_size, seed=1)
    return DataLoader(mix, batch_sampler=sampler, generator=torch.Generator().manual_seed(3))


def judge(images: torch.Tensor, masks: torch.Tensor, **options: Any) -> list[int]:
    """Real and generated images of a batch (B, 3, H, W) in 0..1; every mask must be true on its pixels."""
    counts = [0, 0]
    for image, mask in zip(images, masks, strict=True):
        pixels = (image.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
        assert_mask_true(pixels, mask.squeeze().numpy(), **options)
        counts[is_generated_ground(pixels)] += 1
    return counts


def train(model: Any, batches: Any, take: Callable[[Any], tuple[torch.Tensor, torch.Tensor]], **options: Any) -> Any:
    """Train on every batch; counts of real and generated images that the loss saw."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    counts = np.zeros(2, int)
    for batch in batches:
        images, masks = take(batch)
        output = model(images)
        output = output["out"] if isinstance(output, dict) else output
        loss = torch.nn.functional.cross_entropy(output, masks.long(), ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
        counts += judge(images, masks, **options)
    return counts.tolist()


class TestSegmentationModelsPytorch:
    @staticmethod
    def make_model(classes: int = NUM_CLASSES) -> Any:
        smp = pytest.importorskip("segmentation_models_pytorch")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return smp.Unet("resnet18", encoder_weights=None, classes=classes, decoder_channels=(32, 16, 16, 8, 8))

    @pytest.mark.parametrize("form", ["dict, CHW", "dict, HWC", "pair, CHW", "pair, HWC"])
    def test_the_asked_share_reaches_the_loss_and_every_mask_is_true(self, tmp_path: Path, form: str) -> None:
        write_masks(tmp_path, 8, size_hw=SIZE_HW)
        mix = mix_half(OfOnesOwn(tmp_path, form))

        def take(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            images, masks = (batch["image"], batch["mask"]) if isinstance(batch, dict) else batch
            images = images if form.endswith("CHW") else images.permute(0, 3, 1, 2)
            return images.float() / 255, masks

        assert train(self.make_model(), make_exact_loader(mix, 6), take) == [8, 4]
        assert type(mix.source.adapter) is (DictAdapter if form.startswith("dict") else SemanticAdapter)

    def test_in_every_batch_of_the_sampler_the_share_is_exact(self, tmp_path: Path) -> None:
        write_masks(tmp_path, 8, size_hw=SIZE_HW)
        mix = mix_half(OfOnesOwn(tmp_path, "dict, CHW"))
        for batch in make_exact_loader(mix, 6):
            assert judge(batch["image"].float() / 255, batch["mask"]) == [4, 2]

    def test_the_shipped_pet_dataset(self, tmp_path: Path) -> None:
        datasets = pytest.importorskip("segmentation_models_pytorch.datasets")
        write_pets(tmp_path, 5)
        real = datasets.SimpleOxfordPetDataset(str(tmp_path), "train")
        mix = mix_half(real, generator=ColorTransfer(), ratio=1.0)
        item, made = real[0], mix_half(real, generator=ColorTransfer(), ratio=1.0)[len(real)]
        assert list(made) == list(item) == ["image", "mask", "trimap"]
        for key in item:
            assert (made[key].dtype, made[key].shape) == (item[key].dtype, item[key].shape)
        model = self.make_model(classes=1)
        for batch in make_exact_loader(mix, 4):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch["image"] / 255), batch["mask"])
            loss.backward()
            assert torch.isfinite(loss)
            assert torch.equal(batch["mask"], (batch["trimap"] != 2).float())
        assert (mix.report().generated, mix.report().real) == (len(real), len(real))
        assert mix.source.adapter.fingerprint == (
            'DictAdapter/1(adapter="SemanticAdapter/1(ignore_index=255)", boxes=null, image="image", target="mask")'
        )

    def test_at_ratio_0_every_batch_is_that_of_the_unwrapped_run(self, tmp_path: Path) -> None:
        write_masks(tmp_path, 6, size_hw=SIZE_HW)
        bare = OfOnesOwn(tmp_path, "dict, CHW")
        mixed = mix_half(OfOnesOwn(tmp_path, "dict, CHW"), ratio=0)
        for want, have in zip(make_loader(bare), make_loader(mixed), strict=True):
            assert list(want) == list(have)
            assert all(torch.equal(want[key], have[key]) for key in want)

    def test_three_classes_of_nuclei(self, shared_data: Path) -> None:
        real = Nuclei(shared_data / "nuclei_dsb2018", 6)
        mix = mix_half(real, generator=ColorTransfer())
        model, seen = self.make_model(classes=3), 0
        for images, masks in make_exact_loader(mix, 3):
            loss = torch.nn.functional.cross_entropy(model(images.float() / 255), masks)
            loss.backward()
            assert torch.isfinite(loss)
            seen += len(images)
        assert (mix.report().real, mix.report().generated, seen) == (6, 3, 9)
        mix.set_epoch(1)
        for index in range(6, 9):
            draw = mix.draw(index)
            assert draw is not None
            assert torch.equal(mix[index][1], real[draw.source][1])
            assert not torch.equal(mix[index][0], real[draw.source][0])


class TestTorchvision:
    @staticmethod
    def make_model() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=NUM_CLASSES)

    @staticmethod
    def make_real(folder: Path, transforms: Any = None) -> VOCSegmentation:
        if not (folder / "VOCdevkit").exists():
            write_voc(folder, 8, size_hw=SIZE_HW)
        return VOCSegmentation(str(folder), "2012", "train", transforms=transforms)

    @pytest.mark.uses_global_rng  # the flips
    def test_the_asked_share_reaches_the_loss_and_every_mask_is_true(self, tmp_path: Path) -> None:
        transforms = v2.Compose(
            [v2.ToImage(), v2.RandomHorizontalFlip(), v2.RandomResizedCrop((64, 64), scale=(0.6, 1)),
             v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True)]
        )  # fmt: skip
        mix = mix_half(wrap_dataset_for_transforms_v2(self.make_real(tmp_path, transforms)))

        def take(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            return batch[0], batch[1].squeeze(1)

        assert train(self.make_model(), make_exact_loader(mix, 6), take, most_wrong=0.08) == [8, 4]

    def test_the_references_way_with_transforms_of_both(self, tmp_path: Path) -> None:
        mix = mix_half(self.make_real(tmp_path, to_tensors))
        assert train(self.make_model(), make_loader(mix), tuple, most_wrong=0.03) == [8, 4]

    @pytest.mark.uses_global_rng
    def test_at_ratio_0_flips_and_batches_are_those_of_the_unwrapped_run(self, tmp_path: Path) -> None:
        flips = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(), v2.RandomPhotometricDistort()])
        batches = []
        for wrap in (lambda real: real, lambda real: mix_half(real, ratio=0)):
            real = wrap(wrap_dataset_for_transforms_v2(self.make_real(tmp_path, flips)))
            torch.manual_seed(1)
            random.seed(1)
            batches.append([batch for _ in range(2) for batch in DataLoader(real, 3, shuffle=True)])
        assert len(batches[0]) == 6
        for bare, mixed in zip(*batches, strict=True):
            assert torch.equal(bare[0], mixed[0])
            assert torch.equal(bare[1], mixed[1])


class TestFacts:
    def test_a_pil_mask_is_resized_bilinearly_and_gets_classes_that_nobody_drew(self, tmp_path: Path) -> None:
        mask = TestTorchvision.make_real(tmp_path)[0][1]
        grey = PIL.Image.fromarray(np.asarray(mask))  # as a mask of mode L
        before = set(np.unique(np.asarray(grey) * 40))
        after = set(np.unique(np.asarray(v2.Resize((31, 45))(PIL.Image.fromarray(np.asarray(grey) * 40)))))
        assert not after <= before

    def test_wrapped_masks_have_a_channel_axis_real_and_generated(self, tmp_path: Path) -> None:
        mix = mix_half(wrap_dataset_for_transforms_v2(TestTorchvision.make_real(tmp_path)))
        for index in (0, 8):
            mask = mix[index][1]
            assert type(mask) is tv_tensors.Mask
            assert (mask.shape, mask.dtype) == ((1, *SIZE_HW), torch.uint8)

    def test_wrapped_masks_are_resized_to_the_nearest_pixel_real_and_generated(self, tmp_path: Path) -> None:
        real = wrap_dataset_for_transforms_v2(TestTorchvision.make_real(tmp_path, v2.Resize((31, 45))))
        mix = mix_half(real, ratio=1.0)
        for index in range(16):
            draw = mix.draw(index)
            drawn = mix.source.read(index)[1] if draw is None else mix.sets[0].dataset.make(draw.source, draw.variant)
            before = drawn if draw is None else drawn.sample.target.mask
            assert set(np.unique(mix[index][1])) <= set(np.unique(before))

    def test_generated_palette_masks_keep_the_palette(self, tmp_path: Path) -> None:
        mix = mix_half(TestTorchvision.make_real(tmp_path))
        real, made = mix[0][1], mix[8][1]
        assert (real.mode, made.mode) == ("P", "P")
        assert made.getpalette() == real.getpalette()


def test_parts_of_the_masks_are_pasted_and_labelled(tmp_path: Path) -> None:
    generator = CopyPaste(num_range=(2, 2), scale_range=(1, 1), rotation_range=(0, 0))
    generated = GeneratedDataset(TestTorchvision.make_real(tmp_path), generator)
    pasted = 0
    for index in range(4):
        sample, source = generated.sample(index), generated.source[index]
        assert sample.origin is not None
        assert isinstance(sample.target, SemanticMask)
        assert isinstance(source.target, SemanticMask)
        edited = sample.origin.edited
        assert edited is not None
        assert np.array_equal(sample.target.mask[~edited], source.target.mask[~edited])
        assert (sample.target.mask[edited] > 0).all()
        pasted += len(sample.origin.drawn)
    assert pasted > 4


class OfOnesOwn(Dataset[Any]):
    """A dataset as the examples of segmentation_models_pytorch write it."""

    def __init__(self, folder: Path, form: str) -> None:
        self.files = sorted((folder / "images").glob("*.png"))
        self.is_dict, self.channels_first = form.startswith("dict"), form.endswith("CHW")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        file = self.files[index]
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        with PIL.Image.open(file.parent.parent / "masks" / file.name) as stored:
            mask = np.array(stored).astype(np.int64)
        image = image.transpose(2, 0, 1) if self.channels_first else image
        return {"image": image, "mask": mask} if self.is_dict else (image, mask)


class Nuclei(Dataset[Any]):
    """Quarters of the microscope images, with background, nucleus and border."""

    def __init__(self, folder: Path, count: int) -> None:
        self.masks = sorted((folder / "semantic").rglob("*.png"))[:count]
        self.images = {file.stem: file for file in (folder / "images").rglob("*.png")}

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        file = self.masks[index]
        with PIL.Image.open(self.images[file.stem]) as stored:
            image = np.array(stored.convert("RGB"))[:128, :128]
        with PIL.Image.open(file) as stored:
            mask = np.array(stored)[:128, :128]
        return torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(mask.astype(np.int64))


def write_pets(folder: Path, count: int) -> None:
    """The layout of the Oxford pets: JPEG images, trimaps 1 (pet), 2 (ground), 3 (border), a list of names."""
    (folder / "images").mkdir()
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    for number in range(count):
        drawn = draw_numbered(number, size_hw=SIZE_HW)
        cv2.imwrite(str(folder / "images" / f"pet_{number}.jpg"), drawn.image[..., ::-1])
        trimap = np.where(drawn.masks.any(axis=0), 1, 2).astype(np.uint8)
        trimap[(cv2.dilate(2 - trimap, np.ones((3, 3))) == 1) & (trimap == 2)] = 3
        cv2.imwrite(str(folder / "annotations" / "trimaps" / f"pet_{number}.png"), trimap)
    names = "".join(f"pet_{number} 1 1 1\n" for number in range(count))
    (folder / "annotations" / "trainval.txt").write_text(names)


def to_tensors(image: Any, mask: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What torchvision's references do to a pair at last."""
    return v2.functional.pil_to_tensor(image).float() / 255, torch.as_tensor(np.array(mask), dtype=torch.int64)
