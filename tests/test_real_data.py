"""Real photographs and real detectors: precompute, mix, and one training pass, the realised ratio asserted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection import maskrcnn_resnet50_fpn, ssdlite320_mobilenet_v3_large
from torchvision.transforms import v2

from synthloader import (
    Balance,
    CocoDataset,
    ColorTransfer,
    CopyPaste,
    GeneratedDataset,
    LMDBCache,
    MinBox,
    MixedBatchSampler,
    MixedDataset,
    precompute,
)

TO_FLOAT = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def train_one_pass(model: Any, train: MixedDataset, *, batch_size: int, num_workers: int = 2) -> list[float]:
    """One epoch over the mix with a torchvision detector; gives the losses."""
    loader = DataLoader(
        train,
        batch_sampler=MixedBatchSampler(train, batch_size),
        num_workers=num_workers,
        collate_fn=_to_lists,
        generator=torch.Generator(),
        multiprocessing_context="fork",
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    model.train()
    for images, targets in loader:
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _to_lists(batch: list[Any]) -> tuple[list[Any], list[Any]]:
    return [image for image, _ in batch], [target for _, target in batch]


@pytest.mark.uses_global_rng
@pytest.mark.parametrize("count", [24, pytest.param(None, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_bccd_boxes_train_an_ssdlite(shared_data: Path, tmp_path: Path, count: int | None) -> None:
    root = shared_data / "bccd_blood_cells"
    whole = CocoDataset(root / "JPEGImages", root / "coco" / "instances_train.json", transforms=_scale)
    real = whole if count is None else Subset(whole, list(range(count)))
    cache = LMDBCache(tmp_path / "cache")
    generated = GeneratedDataset(real, ColorTransfer(), filters=[MinBox()], cache=cache, variants=1)
    filled = precompute(generated, num_workers=2, progress=False)
    assert filled.accepted == len(real)
    train = MixedDataset(real, generated, ratio=0.5)
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    losses = train_one_pass(model, train, batch_size=8)
    assert all(map(math.isfinite, losses))
    report = train.report()
    assert (report.real, report.generated) == (len(real), round(len(real) * 0.5))
    assert report.sets["generated"].cache_misses == 0
    cache.close()


@pytest.mark.uses_global_rng
@pytest.mark.parametrize("size", [64, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_dried_fruit_masks_train_a_mask_r_cnn(shared_data: Path, tmp_path: Path, size: int) -> None:
    root = shared_data / "dried_fruit_instances"
    plain = CocoDetection(str(root), str(root / "coco" / "instances_train.json"), transforms=TO_FLOAT)
    real = wrap_dataset_for_transforms_v2(plain, target_keys=("boxes", "labels", "masks"))
    cache = LMDBCache(tmp_path / "cache")
    generated = GeneratedDataset(real, CopyPaste(), filters=[MinBox()], cache=cache, variants=2)
    precompute(generated, num_workers=2, progress=False)
    train = MixedDataset(real, generated, ratio=0.5)
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        min_size=size,
        max_size=size * 2,
        rpn_post_nms_top_n_train=100,
        box_batch_size_per_image=32,
    )
    losses = train_one_pass(model, train, batch_size=3)
    assert all(map(math.isfinite, losses))
    report = train.report()
    assert (report.real, report.generated, report.realised_ratio) == (12, 6, 0.5)
    assert report.sets["generated"].cache_misses == 0
    assert sum(report.classes["generated"].values()) > sum(report.classes["real"].values()) / 2
    cache.close()


def test_bccd_cells_are_cut_out_of_their_boxes_and_pasted(shared_data: Path) -> None:
    root = shared_data / "bccd_blood_cells"
    real = Subset(CocoDataset(root / "JPEGImages", root / "coco" / "instances_train.json"), range(6))
    generated = GeneratedDataset(real, CopyPaste(num_range=(2, 2)))
    for index in range(2):
        (image, target), (_, made) = real[index], generated[index]
        assert set(made) == set(target)
        assert len(made["boxes"]) > len(target["boxes"])
        assert len(made["labels"]) == len(made["boxes"]) == len(made["area"])
        height, width = image.shape[-2:]
        assert (made["boxes"] >= 0).all()
        assert (made["boxes"][:, [0, 2]] <= width).all()
        assert (made["boxes"][:, [1, 3]] <= height).all()


def test_bccd_balance_raises_platelets_by_annotation_counts_alone(shared_data: Path) -> None:
    root = shared_data / "bccd_blood_cells"
    real = CocoDataset(root / "JPEGImages", root / "coco" / "instances_train.json")
    generated = GeneratedDataset(real, ColorTransfer())
    generated.source.read = _explode  # type: ignore[method-assign, assignment]
    train = MixedDataset(real, generated, plan=Balance(1.0, classes=("Platelets", "WBC")))
    table = generated.source.class_table.count("images")
    names = {name: class_id for name, class_id in real.class_to_idx.items()}
    largest = max(table.values())
    wanted = [train.draw(index).target_class for index in range(len(real), len(train))]  # type: ignore[union-attr]
    for name in ("Platelets", "WBC"):
        assert wanted.count(names[name]) == largest - table[names[name]]


@pytest.mark.parametrize("kind", ["rle", "polygon"])
def test_nuclei_masks_are_pasted_true(shared_data: Path, kind: str) -> None:
    root = shared_data / "nuclei_dsb2018"
    file = next((root / "coco").glob(f"*train*_{kind}.json"))
    real = Subset(CocoDataset(root, file), [0, 7, 20])
    generated = GeneratedDataset(real, CopyPaste(num_range=(2, 4)), variants=1)
    for index in range(3):
        sample, source = generated.sample(index), generated.source[index]
        target: Any = sample.target
        assert sample.origin is not None
        assert sample.origin.edited is not None
        changed = (sample.image != source.image).any(axis=2)
        assert not (changed & ~sample.origin.edited).any()
        assert target.masks.any(axis=(1, 2)).all()


def _scale(image: torch.Tensor, target: Any) -> Any:
    return image / 255, target


def _explode(index: int) -> Any:
    raise RuntimeError(f"item {index} was decoded")
