"""Classification pairs: labels of every type, what stands behind them, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.datasets import ImageFolder

from synthloader.adapters import ClassificationAdapter
from synthloader.cache.memory import MemoryCache
from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.sample import Sample
from synthloader.targets import ClassLabel
from tests.scenes import Shade
from tests.shapes import write_imagefolder

IMAGE = PIL.Image.fromarray(np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3))
ADAPTER = ClassificationAdapter()


@pytest.mark.parametrize(
    "label",
    [4, np.int64(4), np.uint8(4), torch.tensor(4), torch.tensor([4], dtype=torch.int32), np.array(4), np.array([4])],
    ids=repr,
)
def test_a_new_class_comes_back_as_the_labels_type(label: Any) -> None:
    sample = ADAPTER.to_sample((IMAGE, label), index=0)
    made = ADAPTER.from_sample(sample.replace(target=ClassLabel(2)), like=(IMAGE, label))[1]
    assert type(made) is type(label)
    assert getattr(made, "dtype", None) == getattr(label, "dtype", None)
    assert getattr(made, "shape", None) == getattr(label, "shape", None)
    assert np.asarray(made).item() == 2
    assert np.asarray(label).item() == 4


@pytest.mark.parametrize("label", [2.0, np.float32(2), torch.tensor(2.0), True], ids=repr)
def test_an_adapter_that_is_given_takes_whole_floats(label: Any) -> None:
    sample = ADAPTER.to_sample((IMAGE, label), index=0)
    back = ADAPTER.from_sample(sample, like=(IMAGE, label))[1]
    assert sample.target.class_id == int(label)
    assert type(back) is type(label)
    assert back == label


@pytest.mark.parametrize(
    ("item", "kind", "message"),
    [
        (
            (IMAGE, -1),
            ValueError,
            "dataset[5][1] must be at least 0, got dataset[5][1]=-1. A negative label usually says that there is none: "
            "leave such images out with torch.utils.data.Subset.",
        ),
        (
            (IMAGE, 0.5),
            ValueError,
            "dataset[5][1] must be a whole number, the class, got dataset[5][1]=0.5. Return int(label).",
        ),
        (
            (IMAGE, {"boxes": []}),
            TypeError,
            "dataset[5][1] must be one integer, the class, got dataset[5][1]={'boxes': []}. Vectors (one-hot, several "
            "classes, soft labels) need an adapter= of your own.",
        ),
        (
            {"image": IMAGE},
            TypeError,
            "the form of dataset[5] must be (image, label), got the form of dataset[5]=\"dict with 'image'\".",
        ),
        (
            (np.full((12, 16, 3), -2.5), 1),
            ValueError,
            "the values of dataset[5][0] must lie in 0..1, got the values of dataset[5][0]=[-2.5, -2.5]. Hand the "
            "normalisation over with transforms=, which is applied after mixing, or pass adapter=, an object that "
            "undoes and repeats it.",
        ),
    ],
    ids=["negative", "half", "boxes", "dict", "normalised"],
)
def test_wrong_items_are_refused_with_index_and_remedy(item: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        ADAPTER.to_sample(item, index=5)


def test_a_sample_of_another_kind_is_refused() -> None:
    message = (
        "a generated sample must have a target of the kind ClassLabel, as the real dataset has, got NoneType. Mix in samples that were "
        "generated from the same kind of dataset."
    )
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        ADAPTER.from_sample(Sample(np.zeros((4, 4, 3), np.uint8)), like=(IMAGE, 1))


def test_a_sample_of_shorter_items_is_refused() -> None:
    sample = ADAPTER.to_sample((IMAGE, 1), index=0)
    message = (
        "a generated sample must have '2', which the dataset has in every item, got []. Generate from a dataset with "
        "the same items."
    )
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        ADAPTER.from_sample(sample, like=(IMAGE, 1, "a.png"))


@pytest.mark.parametrize("variants", [None, 2])
def test_what_stands_behind_the_label_is_the_sources_also_out_of_a_cache(variants: int | None) -> None:
    real = [(IMAGE, index % 3, f"{index}.png", index) for index in range(4)]
    cache = None if variants is None else MemoryCache()
    generated = GeneratedDataset(real, Shade(), variants=variants, cache=cache)
    mix = MixedDataset(real, generated, ratio=1.0)
    for epoch in (0, 1):
        mix.set_epoch(epoch)
        for index in range(4, 8):
            draw = mix.draw(index)
            assert draw is not None
            assert mix[index][1:] == real[draw.source][1:]


def test_image_folder_keeps_its_transforms_and_class_table(tmp_path: Path) -> None:
    real = ImageFolder(str(write_imagefolder(tmp_path, 6) / "train"), transform=lambda image: image.size)
    mix = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=1.0)
    assert [mix[index] for index in range(6)] == [real[index] for index in range(6)]
    for index in range(6, 12):
        draw = mix.draw(index)
        assert draw is not None
        assert mix[index] == real[draw.source]
        assert mix.origin(index).class_names == {real[draw.source][1]: real.classes[real[draw.source][1]]}


def test_the_fingerprint_is_readable() -> None:
    assert ADAPTER.fingerprint == repr(ADAPTER) == "ClassificationAdapter/1()"
