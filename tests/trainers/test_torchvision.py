"""Torchvision's detectors, trained for a few steps: what reaches the loss is generated at the asked share, and true."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, VOCDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN, fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2

from synthloader.adapters import VocAdapter
from synthloader.batches import MixedBatchSampler
from synthloader.cache import MemoryCache
from synthloader.generated import GeneratedDataset
from synthloader.generators import ColorTransfer, CopyPaste
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Replace
from tests.scenes import describe, keep_items, write_coco
from tests.shapes import (
    NAMES,
    Redraw,
    ShiftClasses,
    assert_boxes_true,
    assert_mask_true,
    draw_numbered,
    is_generated_ground,
    write_coco_shapes,
    write_voc,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools and numpy 2
    pytest.mark.uses_global_rng,  # weights, proposals and the user's own flips are drawn there
]

SIZE_HW = (72, 96)
Batch = tuple[list[torch.Tensor], list[dict[str, Any]]]


def open_coco(images: Path, file: Path, **options: Any) -> CocoDetection:
    with contextlib.redirect_stdout(io.StringIO()):
        return CocoDetection(str(images), str(file), **options)


def make_transforms(*, size_hw: tuple[int, int] = SIZE_HW) -> v2.Compose:
    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomHorizontalFlip(),
            v2.Resize(size_hw, antialias=True),
            v2.SanitizeBoundingBoxes(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


def collate(batch: list[Any]) -> Batch:
    """What torchvision's references do."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


class SmallBackbone(nn.Sequential):
    """Stride 8, a few channels: enough for a loss."""

    out_channels = 16

    def __init__(self) -> None:
        steps: list[nn.Module] = []
        for before, after in ((3, 8), (8, 16), (16, 16)):
            steps += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        super().__init__(*steps)


def make_small(kind: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """A Mask or Keypoint R-CNN of the size of the shapes."""
    sizes = {
        "min_size": SIZE_HW[0], "max_size": SIZE_HW[1], "rpn_pre_nms_top_n_train": 50, "rpn_post_nms_top_n_train": 30,
        "box_batch_size_per_image": 32, "image_mean": [0.0] * 3, "image_std": [1.0] * 3,
        "rpn_anchor_generator": AnchorGenerator(((16, 32),), ((0.5, 1.0, 2.0),)),
        "box_roi_pool": MultiScaleRoIAlign(["0"], 7, 2),
        "box_head": TwoMLPHead(SmallBackbone.out_channels * 49, 64), "box_predictor": FastRCNNPredictor(64, 4),
    }  # fmt: skip
    return kind(SmallBackbone(), **{**sizes, **options})


def make_small_mask_rcnn() -> nn.Module:
    return make_small(
        MaskRCNN,
        mask_roi_pool=MultiScaleRoIAlign(["0"], 14, 2),
        mask_head=MaskRCNNHeads(SmallBackbone.out_channels, (16,), 1),
        mask_predictor=MaskRCNNPredictor(16, 16, 4),
    )


def make_faster_rcnn(num_classes: int = 4) -> nn.Module:
    model: nn.Module = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=num_classes, min_size=SIZE_HW[0], max_size=SIZE_HW[1],
        image_mean=[0.0] * 3, image_std=[1.0] * 3,
    )  # fmt: skip
    return model


def make_small_faster_rcnn() -> nn.Module:
    return make_small(FasterRCNN)


def train_steps(model: nn.Module, loader: Any, *, num_steps: int = 3) -> tuple[list[Batch], list[float]]:
    """A few steps of SGD: the batches that the model's loss saw, as the model got them, and the losses."""
    seen: list[Batch] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        images, targets = arguments
        seen.append(([image.clone() for image in images], [dict(target) for target in targets]))

    model.train()
    handle = model.register_forward_pre_hook(note)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
    losses = []
    for images, targets in loader:
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if len(losses) == num_steps:
            break
    handle.remove()
    return seen, losses


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of what a model got."""
    return (image.as_subclass(torch.Tensor).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def assert_batches(seen: list[Batch], *, generated: list[int]) -> None:
    """Labels hold on the pixels, and as many images of each batch are generated as stated, by mark and by ground."""
    assert len(seen) == len(generated)
    for (images, targets), wanted in zip(seen, generated, strict=True):
        marks = [bool(target["is_generated"]) for target in targets]
        assert sum(marks) == wanted
        for image, target, is_generated in zip(images, targets, marks, strict=True):
            pixels = to_pixels(image)
            assert is_generated_ground(pixels) == is_generated
            class_ids = target["labels"].numpy() - 1
            assert_boxes_true(pixels, target["boxes"].numpy(), class_ids)
            if "masks" in target:
                ids = np.zeros(pixels.shape[:2], np.int64)
                for mask, class_id in zip(target["masks"].numpy(), class_ids, strict=True):
                    ids[mask > 0] = class_id + 1
                assert_mask_true(pixels, ids, most_wrong=0.03)


@pytest.fixture
def shapes(tmp_path: Path) -> Callable[..., Any]:
    images, file = write_coco_shapes(tmp_path / "shapes", 8)

    def wrap(keys: Any = None, *, transforms: Any = None) -> Any:
        return wrap_dataset_for_transforms_v2(open_coco(images, file, transforms=transforms), target_keys=keys)

    return wrap


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(1)


class TestTraining:
    @pytest.mark.parametrize(
        ("plan", "batch_size", "generated", "make_model"),
        [
            (Add(0.5), 3, [1, 1, 1, 1], make_small_faster_rcnn),
            (Add(1.0), 4, [2, 2, 2], make_faster_rcnn),
            (Replace.share(0.5), 4, [2, 2], make_small_faster_rcnn),
        ],
        ids=["half as many", "as many", "instead of half"],
    )
    def test_faster_rcnn_learns_from_the_asked_share_with_true_boxes(
        self,
        shapes: Callable[..., Any],
        plan: Any,
        batch_size: int,
        generated: list[int],
        make_model: Callable[[], nn.Module],
    ) -> None:
        real = shapes(transforms=make_transforms())
        made = GeneratedDataset(real, ShiftClasses(1))
        train = MixedDataset(real, made, plan=plan, mark="is_generated")
        loader = DataLoader(train, batch_sampler=MixedBatchSampler(train, batch_size), collate_fn=collate)
        seen, losses = train_steps(make_model(), loader, num_steps=len(generated))
        assert_batches(seen, generated=generated)
        assert all(map(math.isfinite, losses))
        assert all(type(target["boxes"]) is tv_tensors.BoundingBoxes for _, targets in seen for target in targets)

    def test_mask_rcnn_learns_from_the_asked_share_with_true_masks(self, shapes: Callable[..., Any]) -> None:
        real = shapes(("boxes", "labels", "masks"), transforms=make_transforms())
        train = MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=1.0, mark="is_generated")
        loader = DataLoader(train, batch_sampler=MixedBatchSampler(train, 4), collate_fn=collate)
        model = make_small_mask_rcnn()
        seen, losses = train_steps(model, loader)
        assert_batches(seen, generated=[2, 2, 2])
        assert all(map(math.isfinite, losses))

    def test_mask_rcnn_learns_from_pasted_objects_out_of_a_cache(self, shapes: Callable[..., Any]) -> None:
        real = shapes("all", transforms=make_transforms())
        paste = CopyPaste(num_range=(1, 2), scale_range=(1, 1))
        made = GeneratedDataset(real, paste, cache=MemoryCache(), variants=1)
        train = MixedDataset(real, made, ratio=1.0, mark="is_generated")
        loader = DataLoader(train, batch_sampler=MixedBatchSampler(train, 4), collate_fn=collate)
        model = make_small_mask_rcnn()
        for _ in range(2):  # The second epoch is served from the cache.
            seen, losses = train_steps(model, loader, num_steps=4)
            assert all(map(math.isfinite, losses))
            for images, targets in seen:
                assert sum(bool(target["is_generated"]) for target in targets) == 2
                for image, target in zip(images, targets, strict=True):
                    ids = np.zeros(SIZE_HW, np.int64)
                    for mask, label in zip(target["masks"].numpy(), target["labels"].tolist(), strict=True):
                        ids[mask > 0] = label
                    assert_mask_true(to_pixels(image), ids, most_wrong=0.03)
                    assert (len(target["boxes"]) > 3) == bool(target["is_generated"])
        assert train.report().sets["generated"].cache_hits >= 8

    def test_keypoint_rcnn_learns_from_the_asked_share_with_true_points(self) -> None:
        real = Corners(8)
        train = MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=1.0, mark="is_generated")
        loader = DataLoader(train, batch_sampler=MixedBatchSampler(train, 4), collate_fn=collate)
        model = make_small(
            KeypointRCNN,
            keypoint_roi_pool=MultiScaleRoIAlign(["0"], 14, 2),
            keypoint_head=KeypointRCNNHeads(SmallBackbone.out_channels, (32,)),
            keypoint_predictor=KeypointRCNNPredictor(32, num_keypoints=4),
        )
        seen, losses = train_steps(model, loader)
        assert_batches(seen, generated=[2, 2, 2])
        assert all(map(math.isfinite, losses))
        for _, targets in seen:
            for target in targets:  # The points are the corners of each box.
                low, high = target["keypoints"][:, 0, :2], target["keypoints"][:, 2, :2]
                assert torch.equal(torch.cat([low, high], dim=1), target["boxes"])
                assert (target["keypoints"][..., 2] == 2).all()

    def test_a_conversion_of_ones_own_after_raw_annotations_gets_true_ones(self, tmp_path: Path) -> None:
        def convert(image: Any, annotations: Any) -> Any:
            boxes = torch.tensor([each["bbox"] for each in annotations])
            boxes[:, 2:] += boxes[:, :2]
            labels = torch.tensor([each["category_id"] for each in annotations])
            return v2.functional.to_dtype(v2.functional.to_image(image), scale=True), {"boxes": boxes, "labels": labels}

        real = open_coco(*write_coco_shapes(tmp_path / "shapes", 6), transforms=convert)
        train = MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=1.0, mark="is_generated")
        loader = DataLoader(train, batch_sampler=MixedBatchSampler(train, 4), collate_fn=collate)
        seen, losses = train_steps(make_small_faster_rcnn(), loader)
        assert_batches(seen, generated=[2, 2, 2])
        assert all(map(math.isfinite, losses))

    def test_pascal_voc_with_a_conversion_of_ones_own(self, tmp_path: Path) -> None:
        real = VOCDetection(str(write_voc(tmp_path, 6)), "2012", transforms=convert_voc)
        train = MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=1.0, mark="is_generated")
        loader = DataLoader(train, batch_sampler=MixedBatchSampler(train, 4), collate_fn=collate)
        seen, losses = train_steps(make_small_faster_rcnn(), loader)
        assert_batches(seen, generated=[2, 2, 2])
        assert all(map(math.isfinite, losses))


class Corners(Dataset[Any]):
    """Shapes with the corners of their boxes as keypoints."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        drawn = draw_numbered(index, size_hw=SIZE_HW)
        points = np.concatenate([drawn.corners, np.full((len(drawn.corners), 4, 1), 2, np.float32)], axis=2)
        return torch.from_numpy(drawn.image).permute(2, 0, 1) / 255, {
            "boxes": torch.from_numpy(drawn.boxes),
            "labels": torch.from_numpy(drawn.class_ids) + 1,
            "keypoints": torch.from_numpy(points),
        }


def convert_voc(image: Any, target: Any) -> Any:
    things = target["annotation"]["object"]
    edges = [[int(thing["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")] for thing in things]
    names = [*NAMES, "RBC", "WBC", "Platelets"]
    labels = torch.tensor([names.index(thing["name"]) % 3 + 1 for thing in things])
    return v2.functional.to_dtype(v2.functional.to_image(image), scale=True), {
        "boxes": torch.tensor(edges, dtype=torch.float32),
        "labels": labels,
    }


class TestPublicData:
    """Blood cells: photographs, crowded boxes, three classes 11 : 1 : 1."""

    def test_faster_rcnn_on_coco_annotations(self, shared_data: Path) -> None:
        folder = shared_data / "bccd_blood_cells"
        bare = open_coco(folder / "JPEGImages", folder / "coco/instances_train.json", transforms=make_transforms())
        real = torch.utils.data.Subset(wrap_dataset_for_transforms_v2(bare), range(8))
        train = MixedDataset(real, GeneratedDataset(real, ColorTransfer()), ratio=0.5, mark="is_generated")
        loader = DataLoader(train, batch_sampler=MixedBatchSampler(train, 3), collate_fn=collate)
        seen, losses = train_steps(make_faster_rcnn(), loader, num_steps=4)
        assert [sum(bool(target["is_generated"]) for target in targets) for _, targets in seen] == [1] * 4
        assert all(map(math.isfinite, losses))
        assert min(losses[1:]) < losses[0]

    def test_faster_rcnn_on_voc_annotations(self, shared_data: Path) -> None:
        real = BloodCells(shared_data / "bccd_blood_cells", count=6)
        adapter = VocAdapter(classes=["RBC", "WBC", "Platelets"], bad_boxes="drop")
        made = GeneratedDataset(real, ColorTransfer(), adapter=adapter)
        train = MixedDataset(real, made, ratio=0.5, transforms=convert_voc, mark="is_generated")
        loader = DataLoader(train, batch_sampler=MixedBatchSampler(train, 3), collate_fn=collate)
        seen, losses = train_steps(make_small_faster_rcnn(), loader, num_steps=3)
        assert [sum(bool(target["is_generated"]) for target in targets) for _, targets in seen] == [1] * 3
        assert all(map(math.isfinite, losses))
        train.set_epoch(1)
        for index in range(6, 9):
            draw = train.draw(index)
            assert draw is not None
            source = convert_voc(*real[draw.source])[1]
            assert torch.equal(train[index][1]["boxes"], source["boxes"])
            assert torch.equal(train[index][1]["labels"], source["labels"])


class BloodCells(VOCDetection):
    """The data set lies in no VOCdevkit: the same reading, from its own folders."""

    def __init__(self, folder: Path, count: int) -> None:
        names = sorted(file.stem for file in (folder / "Annotations").iterdir())[:count]
        self.root = str(folder)
        self.transforms = self.transform = self.target_transform = None
        self.images = [str(folder / "JPEGImages" / f"{name}.jpg") for name in names]
        self.targets = [str(folder / "Annotations" / f"{name}.xml") for name in names]


class TestRealOnly:
    @pytest.mark.parametrize("plan", [Add(0), Replace(0)], ids=repr)
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_at_ratio_0_every_batch_is_that_of_the_unwrapped_loader(
        self, shapes: Callable[..., Any], plan: Any, num_workers: int
    ) -> None:
        def run(dataset: Any) -> list[Any]:
            torch.manual_seed(3)
            loader = DataLoader(
                dataset,
                3,
                shuffle=True,
                num_workers=num_workers,
                collate_fn=keep_items,
                multiprocessing_context="fork" if num_workers else None,
            )
            return [[describe(item) for item in batch] for _ in range(2) for batch in loader]

        keys = ("boxes", "labels", "masks")
        bare, real = (shapes(keys, transforms=make_transforms()) for _ in range(2))
        assert run(MixedDataset(real, GeneratedDataset(real, Redraw()), plan=plan)) == run(bare)


class TestAspectRatioGrouping:
    """`--aspect-ratio-group-factor` of torchvision's references, whose scripts are not a part of the package."""

    def test_images_of_a_batch_lie_on_one_side_of_the_square_in_every_epoch(self, tmp_path: Path) -> None:
        real = open_coco(*write_coco(tmp_path, 12))
        train = MixedDataset(real, GeneratedDataset(real, CopyPaste()), ratio=1.0)
        groups = group_by_aspect_ratio(train)
        for epoch in range(2):
            train.set_epoch(epoch)
            assert group_by_aspect_ratio(train) == groups
            sampler = GroupedBatchSampler(RandomSampler(train), groups, 3)
            for batch in sampler:
                sides = set()
                for index in batch:
                    image, _ = train[index]
                    assert train.get_height_and_width(index) == (image.height, image.width)
                    sides.add(image.width < image.height)
                assert len(sides) == 1

    def test_grouping_goes_through_the_epoch_sampler(self, tmp_path: Path) -> None:
        from synthloader.batches import EpochSampler

        real = open_coco(*write_coco(tmp_path, 12))
        train = MixedDataset(real, GeneratedDataset(real, CopyPaste()), ratio=1.0)
        sampler = GroupedBatchSampler(EpochSampler(SequentialSampler(train), train), group_by_aspect_ratio(train), 3)
        epochs = [{index.epoch for batch in sampler for index in batch} for _ in range(2)]
        assert epochs == [{0}, {1}]


def group_by_aspect_ratio(dataset: Any) -> list[bool]:
    """What `create_aspect_ratio_groups(dataset, k=0)` does where the dataset tells its sizes."""
    sizes = [dataset.get_height_and_width(index) for index in range(len(dataset))]
    return [width / height >= 1.0 for height, width in sizes]


class GroupedBatchSampler(BatchSampler):
    """Batches of one group; what is left at the end is dropped. The references fill it up instead."""

    def __init__(self, sampler: Any, groups: list[bool], batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=True)
        self.groups = groups

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[bool, list[int]] = {True: [], False: []}
        for index in self.sampler:
            row = waiting[self.groups[index]]
            row.append(index)
            if len(row) == self.batch_size:
                yield list(row)
                row.clear()


class TestFactsOfTorchvision:
    """What torchvision does without a word, and what arrives in spite of it."""

    def test_plain_boxes_are_not_flipped_and_generated_ones_are_of_the_real_ones_type(
        self, shapes: Callable[..., Any]
    ) -> None:
        flip = v2.RandomHorizontalFlip(1.0)
        wrapped = shapes(transforms=flip)
        plain = Corners(4)
        for real, kind in ((wrapped, tv_tensors.BoundingBoxes), (plain, torch.Tensor)):
            joint = None if real is wrapped else flip
            train = MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=1.0, transforms=joint)
            for index in (0, len(train) - 1):
                image, target = train[index]
                pixels = to_pixels(v2.functional.to_dtype(v2.functional.to_image(image), scale=True))
                boxes, class_ids = target["boxes"].numpy(), target["labels"].numpy() - 1
                assert type(target["boxes"]) is kind
                if kind is torch.Tensor:
                    boxes[:, [0, 2]] = pixels.shape[1] - boxes[:, [2, 0]]  # Torchvision left them where they were.
                assert_boxes_true(pixels, boxes, class_ids)

    def test_sanitizing_leaves_area_and_iscrowd_stale_unless_they_are_named(self) -> None:
        real = WithThinBoxes(6)
        plain = v2.SanitizeBoundingBoxes(min_size=9)
        named = v2.SanitizeBoundingBoxes(
            min_size=9, labels_getter=lambda item: tuple(item[1][name] for name in ("labels", "area", "iscrowd"))
        )
        generated = GeneratedDataset(real, ShiftClasses(1))
        lengths = set()
        for transforms in (plain, named):
            train = MixedDataset(real, generated, ratio=1.0, transforms=transforms)
            for index in range(12):
                target = train[index][1]
                assert len(target["boxes"]) == len(target["labels"])
                lengths.add((transforms is named, len(target["area"]) == len(target["boxes"])))
                if transforms is named:
                    x1, y1, x2, y2 = target["boxes"].unbind(1)
                    assert torch.equal(target["area"], (x2 - x1) * (y2 - y1))
                    assert len(target["iscrowd"]) == len(target["boxes"])
        assert (False, False) in lengths
        assert (True, False) not in lengths

    def test_coco_detection_refuses_numpy_indices_and_the_mix_takes_them(self, shapes: Callable[..., Any]) -> None:
        real = shapes()
        with pytest.raises(ValueError, match="Index must be of type integer"):
            real[np.int64(1)]
        train = MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=1.0)
        for index in (1, 9):
            assert describe(train[np.int64(index)]) == describe(train[index])
            assert describe(train[torch.tensor(index)]) == describe(train[index])

    def test_detectors_refuse_boxes_of_shape_0_and_take_what_is_written_for_no_objects(self) -> None:
        model = make_small_mask_rcnn().train()
        image = torch.rand(3, *SIZE_HW)
        nothing = {"labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, *SIZE_HW, dtype=torch.uint8)}
        real = [(image, {"boxes": torch.zeros(0), **nothing})] * 2
        with pytest.raises((AssertionError, ValueError), match="boxes"):
            model([image], [real[0][1]])
        train = MixedDataset(real, GeneratedDataset(real, ColourNoise()), ratio=1.0)
        made, target = train[3]
        assert target["boxes"].shape == (0, 4)
        losses = model([made], [target])
        assert all(torch.isfinite(loss) for loss in losses.values())

    def test_detectors_take_label_0_without_a_word(self) -> None:
        model = make_small_mask_rcnn().train()
        masks = torch.zeros(1, *SIZE_HW, dtype=torch.uint8)
        target = {"boxes": torch.tensor([[5.0, 5, 30, 30]]), "labels": torch.tensor([0]), "masks": masks}
        losses = model([torch.rand(3, *SIZE_HW)], [target])
        assert all(torch.isfinite(loss) for loss in losses.values())

    def test_boxes_of_another_canvas_are_refused(self) -> None:
        boxes = tv_tensors.BoundingBoxes([[1.0, 1, 5, 5]], format="XYXY", canvas_size=(96, 72))
        real = [(torch.zeros(3, *SIZE_HW, dtype=torch.uint8), {"boxes": boxes, "labels": torch.tensor([1])})] * 2
        train = MixedDataset(real, GeneratedDataset(real, ColourNoise()), ratio=1.0)
        draw = train.draw(2)
        assert draw is not None
        name = f"the canvas_size of dataset[{draw.source}][1]['boxes']"
        with pytest.raises(ValueError, match="canvas_size") as caught:
            train[2]
        assert str(caught.value) == (
            f"{name} must be the image's height and width, (72, 96), got {name}=(96, 72). Give the boxes and the image "
            "one size."
        )


class ColourNoise:
    """Another image; every label stays where it is."""

    keeps = Redraw.keeps
    fingerprint = "ColourNoise/1"

    def generate(self, source: Any, /, *, rng: np.random.Generator) -> Any:
        noise = rng.integers(1, 9, source.image.shape, dtype=np.uint8)
        return source.edit(image=source.image ^ noise, target=source.target)


class WithThinBoxes(Dataset[Any]):
    """Shapes, one of whose boxes is too thin to pass the check, with all fields as tensors."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        drawn = draw_numbered(index, size_hw=SIZE_HW)
        boxes = np.concatenate([drawn.boxes, [[1.0, 1.0, 3.0, 40.0]]]).astype(np.float32)
        return torch.from_numpy(drawn.image).permute(2, 0, 1), {
            "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=SIZE_HW),
            "labels": torch.from_numpy(np.append(drawn.class_ids, 0)) + 1,
            "area": torch.from_numpy(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)),
            "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
        }
