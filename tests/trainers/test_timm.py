"""timm's own loader and models on a mix: its dataset, its transforms set after construction, mixup and AugMix."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthloader.adapters import ClassificationAdapter
from synthloader.batches import EpochSampler
from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.generators import ColorTransfer, CopyPaste
from synthloader.mixed import MixedDataset
from tests.shapes import NAMES, Redraw, find_color, is_generated_ground, write_imagefolder

timm = pytest.importorskip("timm")
timm_data = pytest.importorskip("timm.data")
timm_loss = pytest.importorskip("timm.loss")

SIDE = 64
PLAIN = {"no_aug": True, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
"""Transforms that keep colours, and leave pixels in 0..1."""

pytestmark = [
    pytest.mark.uses_global_rng,  # timm's loaders shuffle with the global state
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),  # timm leaves the files of images open
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_imagefolder(tmp_path, 12, size_hw=(SIDE, SIDE))


def make_real(folder: Path) -> Any:
    return timm_data.create_dataset("", root=str(folder), split="train", is_training=True, batch_size=6)


def make_mix(folder: Path, ratio: float = 0.5, generator: Any = None) -> MixedDataset:
    real = make_real(folder)
    return MixedDataset(real, GeneratedDataset(real, generator or Redraw()), ratio=ratio)


def make_loader(dataset: Any, **options: Any) -> Any:
    usual = {"is_training": True, "num_workers": 0, "device": torch.device("cpu"), "use_prefetcher": False, **PLAIN}
    return timm_data.create_loader(dataset, (3, SIDE, SIDE), batch_size=6, **{**usual, **options})


def to_pixels(image: torch.Tensor) -> np.ndarray:
    pixels: np.ndarray = (image.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
    return pixels


def see_class(pixels: np.ndarray) -> int:
    """The class whose colour fills most of an image."""
    return int(np.argmax([find_color(pixels, class_id).sum() for class_id in range(len(NAMES))]))


def train(loader: Any, epochs: int = 1) -> tuple[int, int]:
    """Train; count real and generated images among what the loss saw, and check their labels on the pixels."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=len(NAMES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    counts = [0, 0]
    for epoch in range(epochs):
        if hasattr(loader.dataset, "set_epoch"):  # as timm's train.py does
            loader.dataset.set_epoch(epoch)
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert torch.isfinite(loss)
            for image, label in zip(images, labels, strict=True):
                pixels = to_pixels(image)
                counts[is_generated_ground(pixels)] += 1
                assert see_class(pixels) == label
    return counts[0], counts[1]


@pytest.mark.parametrize("use_prefetcher", [False, True])
def test_the_asked_share_reaches_the_loss_and_every_label_is_true(folder: Path, use_prefetcher: bool) -> None:
    mix = make_mix(folder, ratio=0.5)
    assert train(make_loader(mix, use_prefetcher=use_prefetcher), epochs=2) == (24, 12)
    assert mix.report().realised_ratio == 0.5


def test_workers_serve_the_same_share(folder: Path) -> None:
    loader = make_loader(make_mix(folder, ratio=1.0), num_workers=2, persistent_workers=False)
    assert train(loader) == (12, 12)


def test_an_image_dataset_made_by_hand_works_too(folder: Path) -> None:
    real = timm_data.ImageDataset(str(folder / "train"))
    real.transform = timm_data.create_transform((3, SIDE, SIDE), is_training=True, **PLAIN)
    mix = MixedDataset(real, GeneratedDataset(real, Redraw()), ratio=0.5)
    sampler = EpochSampler(torch.utils.data.RandomSampler(mix), mix)
    assert train(torch.utils.data.DataLoader(mix, 6, sampler=sampler)) == (12, 6)
    assert isinstance(mix.source.adapter, ClassificationAdapter)


def seed_all() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_at_ratio_0_every_batch_is_that_of_the_unwrapped_run(folder: Path, num_workers: int) -> None:
    batches = []
    for dataset in (make_real(folder), make_mix(folder, ratio=0)):
        seed_all()
        options = {"no_aug": False, "auto_augment": "rand-m9", "re_prob": 0.5, "persistent_workers": False}
        loader = make_loader(dataset, num_workers=num_workers, **options)
        batches.append([batch for _ in range(2) for batch in loader])
    assert len(batches[0]) == len(batches[1]) == 4
    for bare, mixed in zip(*batches, strict=True):
        assert torch.equal(bare[0], mixed[0])
        assert torch.equal(bare[1], mixed[1])


def test_transforms_that_are_set_after_construction_reach_real_and_generated_images(folder: Path) -> None:
    mix = make_mix(folder, ratio=1.0)
    make_loader(mix, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    for index in (0, 12):
        image, _ = mix[index]
        assert isinstance(image, torch.Tensor)
        assert image.shape == (3, SIDE, SIDE)
        assert image.min() < 0


def test_mixup_and_cutmix_mix_the_labels_of_what_they_show(folder: Path) -> None:
    mix = make_mix(folder, ratio=0.5)
    collate = timm_data.FastCollateMixup(
        mixup_alpha=0.0, cutmix_alpha=1.0, mode="elem", label_smoothing=0.0, num_classes=len(NAMES)
    )
    seed_all()
    model = timm.create_model("test_resnet", pretrained=False, num_classes=len(NAMES))
    seen, mixed = 0, 0
    for images, targets in make_loader(mix, use_prefetcher=True, collate_fn=collate):
        timm_loss.SoftTargetCrossEntropy()(model(images), targets).backward()
        for image, target in zip(images, targets, strict=True):
            shown = {k for k in range(len(NAMES)) if find_color(to_pixels(image), k).sum() > 12}
            assert shown <= set(torch.nonzero(target > 0).ravel().tolist())
            mixed += int((target > 0).sum() == 2)
            seen += 1
    assert seen == 18
    assert mixed > 0
    assert mix.report().realised_ratio == 0.5


def test_augmix_gives_a_clean_version_of_every_item(folder: Path) -> None:
    mix = make_mix(folder, ratio=0.5)
    dataset = timm_data.AugMixDataset(mix, num_splits=2)
    options = {**PLAIN, "no_aug": False, "hflip": 0.0, "color_jitter": None, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    options |= {"auto_augment": "augmix-m1-w1", "num_aug_splits": 2, "use_prefetcher": True}
    generated = 0
    for images, labels in make_loader(dataset, **options):
        clean, label = images[:6], labels[:6]
        generated += sum(is_generated_ground(to_pixels(image)) for image in clean)
        assert [see_class(to_pixels(image)) for image in clean] == label.tolist()
    assert generated == 6


def test_the_class_of_a_generated_item_is_its_sources(folder: Path) -> None:
    mix = make_mix(folder, ratio=2.0)
    for index in range(12, 36):
        draw = mix.draw(index)
        assert draw is not None
        assert mix[index][1] == mix.real[draw.source][1]


def test_a_built_in_generator_trains_too(folder: Path) -> None:
    mix = make_mix(folder, ratio=0.5, generator=ColorTransfer())
    loader = make_loader(mix)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=len(NAMES))
    losses = [torch.nn.functional.cross_entropy(model(images), labels) for images, labels in loader]
    assert torch.isfinite(torch.stack(losses)).all()
    assert mix.report().generated == 6


def test_a_generator_of_objects_is_refused_for_classes(folder: Path) -> None:
    message = (
        "CopyPaste needs cut-outs for classification, got a source with a ClassLabel: nothing says which pixels of an "
        "image are its object. Give cutouts= (one folder per class), or use a generator that pastes nothing, such as "
        "ColorTransfer."
    )
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        make_mix(folder, ratio=0.5, generator=CopyPaste())[12]
