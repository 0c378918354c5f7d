"""What a sample lacks is never filled with zeros: no masks, no keypoints, no classes that nobody labelled."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, ImageFolder, VOCDetection, wrap_dataset_for_transforms_v2

from synthloader.adapters import DetectionAdapter, YoloDataset
from synthloader.cache import LMDBCache
from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.generators import Chain, ColorTransfer, CopyPaste, OneOf
from synthloader.mixed import MixedDataset
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.shapes import draw_numbered, write_coco_shapes, write_imagefolder, write_voc, write_yolo

# PIL opens files lazily, and those of items that were refused are never read to their end.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"),
]


class Touch:
    """Inverts a row of pixels, and keeps or forgets parts of the target."""

    keeps = frozenset({ClassLabel, Instances, SemanticMask})

    def __init__(self, *forgotten: str) -> None:
        self.forgotten = forgotten
        self.fingerprint = f"Touch/1({forgotten})"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        image = source.image.copy()
        image[:1] = 255 - image[:1]
        target: Any = source.target
        if self.forgotten:
            target = target.replace(**dict.fromkeys(self.forgotten))
        return source.edit(image=image, target=target)


class Drawn(Dataset[Any]):
    """A dataset of somebody's own: target dicts with these fields."""

    def __init__(self, *fields: str, count: int = 6) -> None:
        self.fields, self.count = fields, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        drawn = draw_numbered(index)
        points = np.concatenate([drawn.boxes[:, None, :2] + 1, np.ones((len(drawn.boxes), 1, 1), np.float32)], axis=2)
        whole = {
            "boxes": torch.from_numpy(drawn.boxes),
            "labels": torch.from_numpy(drawn.class_ids),
            "masks": torch.from_numpy(drawn.masks.astype(np.uint8)),
            "keypoints": torch.from_numpy(points),
        }
        return torch.from_numpy(drawn.image).permute(2, 0, 1).clone(), {field: whole[field] for field in self.fields}


def write_keypointed(folder: Path) -> tuple[Path, Path]:
    images, annotations = write_coco_shapes(folder, 4)
    content = json.loads(Path(annotations).read_text())
    for annotation in content["annotations"]:
        annotation |= {"keypoints": [annotation["bbox"][0], annotation["bbox"][1], 2], "num_keypoints": 1}
    Path(annotations).write_text(json.dumps(content))
    return images, annotations


def open_wrapped(folder: Path, keys: Sequence[str] | None) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        bare = CocoDetection(str(folder / "images"), str(folder / "annotations.json"))
    return bare if keys is None else wrap_dataset_for_transforms_v2(bare, target_keys=keys)


def describe(item: Any) -> Any:
    if isinstance(item[1], list):
        return item[1]
    return {field: value.tolist() if hasattr(value, "tolist") else value for field, value in item[1].items()}


FORMS = {
    "boxes": ("boxes",),
    "boxes, labels": ("boxes", "labels"),
    "masks, labels": ("masks", "labels"),
    "boxes, labels, masks": ("boxes", "labels", "masks"),
    "with area and iscrowd": ("boxes", "labels", "area", "iscrowd"),
    "with image_id": ("boxes", "labels", "image_id"),
    "COCO's own": ("bbox", "category_id", "segmentation"),
    "raw": None,
}


@pytest.mark.parametrize("before", FORMS)
def test_a_cache_that_was_filled_from_items_of_another_form_gives_what_a_fresh_sample_is(
    before: str, tmp_path: Path
) -> None:
    images, annotations = write_keypointed(tmp_path / "coco")
    images.rename(tmp_path / "coco/images") if images.name != "images" else None
    Path(annotations).rename(tmp_path / "coco/annotations.json")
    real = {form: open_wrapped(tmp_path / "coco", keys) for form, keys in FORMS.items()}
    fresh = {form: describe(GeneratedDataset(each, Touch(), variants=1)[0]) for form, each in real.items()}
    for after in FORMS:
        with LMDBCache(tmp_path / after) as cache:
            GeneratedDataset(real[before], Touch(), cache=cache, variants=1)[0]
            served = GeneratedDataset(real[after], Touch(), cache=cache, variants=1)[0]
            assert describe(served) == fresh[after], after


@pytest.mark.parametrize(
    ("real", "generated", "part", "field"),
    [
        (("boxes", "labels", "masks"), ("boxes", "labels"), "masks", "masks"),
        (("boxes", "labels", "keypoints"), ("boxes", "labels"), "keypoints", "keypoints"),
        (("boxes", "labels"), ("boxes",), "class_ids", "labels"),
    ],
)
def test_sources_that_lack_what_real_items_have_are_refused(
    real: tuple[str, ...], generated: tuple[str, ...], part: str, field: str
) -> None:
    train = MixedDataset(Drawn(*real), GeneratedDataset(Drawn(*generated), Touch()), ratio=1.0)
    with pytest.raises(LabelContractError) as caught:
        train[6]
    wanted = {"masks": "have masks", "keypoints": "have keypoints", "class_ids": "tell the classes of their objects"}
    assert str(caught.value) == (
        f"Instances must keep {part}, because items of the dataset have {field!r}, got a sample without. Zeros would be "
        f"wrong labels: use a generator that keeps {part}, and sources whose items {wanted[part]}."
    )


def test_they_are_refused_when_the_mix_is_made_where_looking_draws_nothing(tmp_path: Path) -> None:
    write_keypointed(tmp_path / "coco")
    real = wrap_dataset_for_transforms_v2(_open(tmp_path), target_keys=("boxes", "labels", "masks"))
    boxes = wrap_dataset_for_transforms_v2(_open(tmp_path), target_keys=("boxes", "labels"))
    with pytest.raises(LabelContractError, match=r"^Instances must keep masks, because items"):
        MixedDataset(real, GeneratedDataset(boxes, Touch()), ratio=1.0)
    MixedDataset(real, GeneratedDataset(boxes, Touch()), ratio=0.0)  # nothing of it is served
    MixedDataset(boxes, GeneratedDataset(real, Touch()), ratio=1.0)  # more than is needed is left out


def _open(folder: Path) -> CocoDetection:
    (images,) = [path for path in (folder / "coco").iterdir() if path.is_dir()]
    (annotations,) = (folder / "coco").glob("*.json")
    with contextlib.redirect_stdout(io.StringIO()):
        return CocoDetection(str(images), str(annotations))


@pytest.mark.parametrize("forgotten", ["masks", "keypoints"])
def test_a_generator_that_forgets_them_is_refused(forgotten: str) -> None:
    real = Drawn("boxes", "labels", "masks", "keypoints")
    train = MixedDataset(real, GeneratedDataset(real, Touch(forgotten)), ratio=1.0)
    with pytest.raises(LabelContractError, match=f"^Instances must keep {forgotten}, because items of the dataset"):
        train[6]


class Semantic(Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        drawn = draw_numbered(index)
        image = tv_tensors.Image(torch.from_numpy(drawn.image).permute(2, 0, 1).clone())
        return image, tv_tensors.Mask(torch.from_numpy(drawn.masks.any(axis=0).astype(np.uint8)))


@pytest.mark.parametrize("real", ["target dicts", "raw COCO", "VOC"])
def test_images_with_semantic_masks_are_no_images_without_objects(real: str, tmp_path: Path) -> None:
    dataset: Any
    if real == "target dicts":
        dataset = Drawn("boxes", "labels")
    elif real == "raw COCO":
        write_keypointed(tmp_path / "coco")
        dataset = _open(tmp_path)
    else:
        dataset = VOCDetection(str(write_voc(tmp_path)), "2012")
    with pytest.raises(LabelContractError) as caught:
        MixedDataset(dataset, GeneratedDataset(Semantic(), Touch()), ratio=1.0)[len(dataset)]
    assert str(caught.value) == (
        "a generated sample must have a target of the kind Instances, as the real dataset has, got SemanticMask. Mix in "
        "samples that were generated from the same kind of dataset."
    )


class TestGeneratorsThatNeedMore:
    """A generator says what it needs of a source when the mix is made, not in a worker hours later."""

    generators = pytest.mark.parametrize(
        "generator", [CopyPaste(), Chain([CopyPaste(), ColorTransfer()]), OneOf({1: CopyPaste(), 2: ColorTransfer()})]
    )

    @generators
    def test_cut_outs(self, generator: Any, tmp_path: Path) -> None:
        real = ImageFolder(str(write_imagefolder(tmp_path) / "train"))
        with pytest.raises(LabelContractError, match=r"^CopyPaste needs cut-outs for classification, got a source"):
            MixedDataset(real, GeneratedDataset(real, generator), ratio=0.5)

    @generators
    def test_boxes_are_enough(self, generator: Any, tmp_path: Path) -> None:
        write_keypointed(tmp_path / "coco")
        real = wrap_dataset_for_transforms_v2(_open(tmp_path), target_keys=("boxes", "labels"))
        MixedDataset(real, GeneratedDataset(real, generator), ratio=0.5)

    def test_classes_that_there_are(self, tmp_path: Path) -> None:
        write_keypointed(tmp_path / "coco")
        with pytest.raises(LabelContractError, match="'apple'"):
            MixedDataset(_open(tmp_path), GeneratedDataset(_open(tmp_path), CopyPaste(classes=["apple"])), ratio=0.5)


class TestPartsOfADataset:
    """Real items that are a part of what is generated from."""

    def test_versions_of_the_other_items_are_warned_of(self) -> None:
        whole = Drawn("boxes", "labels")
        with pytest.warns(UserWarning) as caught:
            MixedDataset(Subset(whole, range(4)), GeneratedDataset(whole, Touch()), ratio=0.5)
        assert str(caught[0].message) == (
            "The set 'generated' is made from all 6 items of Drawn, of which the real dataset is 4: versions of the "
            "others, perhaps of your validation images, are mixed in. Pass the same Subset to GeneratedDataset, or use "
            "train.split(...)."
        )

    def test_the_same_part_and_a_split_are_silent(self) -> None:
        whole = Drawn("boxes", "labels")
        part = Subset(whole, range(4))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            MixedDataset(part, GeneratedDataset(part, Touch()), ratio=0.5)
            MixedDataset(whole, GeneratedDataset(whole, Touch()), ratio=0.5).split([4, 2], torch.Generator())
            MixedDataset(part, GeneratedDataset(Drawn("boxes", "labels"), Touch()), ratio=0.5)


class TestClassesOfAPool:
    """What is pasted brings its class along, so a pool must number classes as the sources do."""

    @pytest.mark.parametrize("first_class", [1, 0])
    def test_one_that_numbers_them_otherwise_is_refused(self, first_class: int, tmp_path: Path) -> None:
        data = write_yolo(tmp_path / "fruit", task="segment")
        real, pool = YoloDataset(data, task="segment"), YoloDataset(data, task="segment", first_class=first_class)
        made = GeneratedDataset(real, CopyPaste(), pool=pool)
        if not first_class:
            made[0]
            return
        with pytest.raises(LabelContractError) as caught:
            MixedDataset(real, made, ratio=0.5)
        assert str(caught.value) == (
            "class 'box' is 0 in the sources and 1 in the pool, from which CopyPaste pastes. Give both one table of "
            "classes, or renumber one of them."
        )

    def test_colours_may_come_from_a_pool_of_any_classes(self, tmp_path: Path) -> None:
        data = write_yolo(tmp_path / "fruit", task="segment")
        real, pool = YoloDataset(data, task="segment"), YoloDataset(data, task="segment", first_class=1)
        MixedDataset(real, GeneratedDataset(real, ColorTransfer(), pool=pool), ratio=0.5)[len(real)]


def test_an_image_without_objects_keeps_the_number_of_its_keypoints() -> None:
    item = (
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        {
            "boxes": torch.zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.int64),
            "keypoints": torch.zeros(0, 5, 3),
        },
    )
    target = DetectionAdapter(instance_fields=[]).to_sample(item, index=0).target
    assert isinstance(target, Instances)
    assert target.keypoints is not None
    assert target.keypoints.shape == (0, 5, 3)
    back = DetectionAdapter(instance_fields=[]).from_sample(Sample(np.zeros((8, 8, 3), np.uint8), target), like=item)
    assert back[1]["keypoints"].shape == (0, 5, 3)
