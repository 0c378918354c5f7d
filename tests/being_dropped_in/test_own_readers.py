"""A class with a `__getitem__` of its own is not believed to read what it lists: no stale label comes from a cache."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import Dataset
from torchvision.datasets import CocoDetection, ImageFolder

from synthloader.cache import LMDBCache
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.plans import Balance
from synthloader.sources import Source
from tests.being_dropped_in.test_lacking_fields import Touch
from tests.shapes import write_coco_shapes, write_imagefolder

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


class Backwards(CocoDetection):
    """Items in another order than `ids`."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(len(self) - 1 - index)


class Renumbered(CocoDetection):
    def __getitem__(self, index: int) -> Any:
        image, annotations = super().__getitem__(index)
        return image, [{**annotation, "category_id": annotation["category_id"] + 5} for annotation in annotations]


class Pairs(Dataset[Any]):
    """The common idiom: (image file, mask file) in `samples`."""

    def __init__(self, folder: Path) -> None:
        self.samples = [(str(folder / "image.png"), str(folder / "mask.png"))]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        image, mask = self.samples[index]
        return PIL.Image.open(image).convert("RGB"), PIL.Image.open(mask)


class Boxed(ImageFolder):
    """Lists classes, and serves boxes from elsewhere."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image, {"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([label])}


class Elsewhere(Dataset[Any]):
    """`coco` and `ids` as of torchvision, the images in a folder that only the class knows."""

    def __init__(self, inner: CocoDetection) -> None:
        self.inner, self.coco, self.ids = inner, inner.coco, inner.ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        return self.inner[index]


def open_coco(folder: Path, kind: Any = CocoDetection) -> Any:
    if not (folder / "coco").exists():
        write_coco_shapes(folder / "coco", 5)
    (images,) = [path for path in (folder / "coco").iterdir() if path.is_dir()]
    (annotations,) = (folder / "coco").glob("*.json")
    with contextlib.redirect_stdout(io.StringIO()):
        return kind(str(images), str(annotations))


def make(name: str, folder: Path) -> Any:
    if name == "pairs":
        PIL.Image.fromarray(np.full((20, 30, 3), 80, np.uint8)).save(folder / "image.png")
        PIL.Image.fromarray(np.eye(20, 30, dtype=np.uint8)).save(folder / "mask.png")
        return Pairs(folder)
    if name == "boxed":
        return Boxed(str(write_imagefolder(folder / "pictures") / "train"))
    if name == "elsewhere":
        return Elsewhere(open_coco(folder))
    return open_coco(folder, {"backwards": Backwards, "renumbered": Renumbered}[name])


NAMES = ("backwards", "renumbered", "pairs", "boxed", "elsewhere")


@pytest.mark.parametrize("name", NAMES)
def test_a_persistent_cache_needs_a_version(name: str, tmp_path: Path) -> None:
    real = make(name, tmp_path)
    with LMDBCache(tmp_path / "cache") as cache:
        with pytest.raises(ValueError) as caught:
            GeneratedDataset(real, Touch(), cache=cache, variants=1)
        assert str(caught.value) == (
            f"version must be given for a persistent cache, because {type(real).__name__} reads its items in a way of "
            "its own, got version=None. Pass version='...', and change it whenever the data does: nothing else tells "
            "that a cache is stale."
        )
        made = GeneratedDataset(real, Touch(), cache=cache, variants=1, version="1")
        made[0]
        assert len(cache) == 1
        GeneratedDataset(real, Touch(), cache=cache, variants=1, version="2")[0]
        assert len(cache) == 2


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_told_of_an_item_that_only_the_class_knows(name: str, tmp_path: Path) -> None:
    real = make(name, tmp_path)
    train = MixedDataset(real, GeneratedDataset(real, Touch()), ratio=1.0)
    origin = train.origin(len(real))
    draw = train.draw(len(real))
    assert origin is not None
    assert draw is not None
    assert origin.source == str(draw.source)  # Its place, not the name of a file that it may not be.
    assert Source(real).size_hw(0) is None


def test_the_classes_are_those_of_the_items(tmp_path: Path) -> None:
    backwards = open_coco(tmp_path, Backwards)
    source = Source(backwards)
    for index in range(len(backwards)):
        assert source.class_ids(index).tolist() == [row["category_id"] for row in backwards[index][1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train = MixedDataset(backwards, GeneratedDataset(backwards, Touch()), plan=Balance(1.0))
    assert len(train) >= len(backwards)
    told = {name: ids.tolist() for name, ids in (("rows", Source(open_coco(tmp_path, Renumbered)).class_ids(0)),)}
    assert min(told["rows"]) > 5


def open_grey(path: str) -> Any:
    return PIL.Image.open(path).convert("L")


def test_another_loader_of_files_is_another_content(tmp_path: Path) -> None:
    folder = str(write_imagefolder(tmp_path / "pictures") / "train")
    with LMDBCache(tmp_path / "cache") as cache:
        GeneratedDataset(ImageFolder(folder), Touch(), cache=cache, variants=1)[0]
        GeneratedDataset(ImageFolder(folder), Touch(), cache=cache, variants=1)[0]
        assert len(cache) == 1
        grey = GeneratedDataset(ImageFolder(folder, loader=open_grey), Touch(), cache=cache, variants=1)
        assert grey[0][0].mode == "L"
        assert len(cache) == 2


def test_classes_are_those_that_are_read_and_not_a_copy_beside_them(tmp_path: Path) -> None:
    real = ImageFolder(str(write_imagefolder(tmp_path / "pictures") / "train"))
    real.samples = [(path, 1 - class_id if class_id < 2 else class_id) for path, class_id in real.samples]
    source = Source(real)
    for index in range(len(real)):
        assert source.class_ids(index).tolist() == [real[index][1]]
    assert source.labels is not None
    assert source.labels.tolist() == [real[index][1] for index in range(len(real))]


@pytest.mark.parametrize("names", [("target_transform",), ("transforms",)], ids=str)
def test_transforms_that_make_a_tensor_of_the_target_are_no_hindrance(names: tuple[str, ...], tmp_path: Path) -> None:
    def to_tensor(rows: Any) -> torch.Tensor:
        return torch.tensor([row["bbox"] for row in rows])

    def transform(image: Any, rows: Any) -> Any:
        return image, to_tensor(rows)

    open_coco(tmp_path)
    made = {"target_transform": to_tensor, "transforms": transform}
    real = open_coco(tmp_path, lambda *files: CocoDetection(*files, **{name: made[name] for name in names}))
    train = MixedDataset(real, GeneratedDataset(real, Touch()), ratio=1.0)
    for index in range(len(train)):
        draw = train.draw(index)
        assert torch.equal(train[index][1], real[index if draw is None else draw.source][1])
