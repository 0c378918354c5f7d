"""Images without labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from synthloader.adapters import DetectionAdapter
from synthloader.adapters.folders.images_folder import ImagesDataset, UnlabelledAdapter
from synthloader.registry import find_adapter
from tests.shapes import draw_numbered, write_imagefolder

PIXELS = np.random.default_rng(1).integers(0, 256, (6, 10, 3), dtype=np.uint8)


def test_items_are_the_images_alone(tmp_path: Path) -> None:
    write_imagefolder(tmp_path / "data")
    dataset = ImagesDataset([tmp_path / "data/train", tmp_path / "data/val"])
    assert len(dataset) == 11
    (image,) = dataset[0]
    assert (image.permute(1, 2, 0).numpy() == draw_numbered(0, only_class=0, num_shapes=1).image).all()
    file = tmp_path / "data/train/box/0000.png"
    assert dataset.read_facts(0) == ("train/box/0000.png", str(file), [False], (96, 128), [])
    changed = ImagesDataset(tmp_path / "data/val", transform=torch.Tensor.float)
    assert changed[0][0].dtype == torch.float32


NATIVE: dict[str, Callable[[], Any]] = {
    "a tuple": lambda: (torch.from_numpy(PIXELS).permute(2, 0, 1),),
    "a list": lambda: [PIL.Image.fromarray(PIXELS)],
    "a PIL image": lambda: PIL.Image.fromarray(PIXELS),
    "a tensor": lambda: torch.from_numpy(PIXELS).permute(2, 0, 1).contiguous(),
    "an array": lambda: PIXELS.copy(),
}


@pytest.mark.parametrize("make", NATIVE.values(), ids=NATIVE)
def test_images_are_recognised_and_come_back(make: Callable[[], Any]) -> None:
    adapter = find_adapter(None, [make(), make()])
    assert isinstance(adapter, UnlabelledAdapter)
    sample = adapter.to_sample(make(), index=0)
    assert sample.target is None
    assert (sample.image == PIXELS).all()
    back: Any = adapter.from_sample(sample, like=make())
    assert type(back) is type(make())
    inner, wanted = (back[0], make()[0]) if isinstance(back, tuple | list) else (back, make())
    assert type(inner) is type(wanted)
    assert np.array_equal(np.asarray(inner), np.asarray(wanted))
    assert adapter.read_class_ids(back) == []


def test_what_is_no_image_is_not_taken_for_one() -> None:
    table = torch.zeros(4, 6)
    pair = torch.zeros(3, 4, 6), {"boxes": [[0.0, 0, 1, 1]], "labels": [1]}
    assert UnlabelledAdapter.recognize(None, [table]) is None
    assert UnlabelledAdapter.recognize(None, [pair]) is None
    assert isinstance(find_adapter(None, [pair]), DetectionAdapter)
    said = "the form of dataset[3] must be (image,), got the form of dataset[3]='(Tensor, Tensor)'."
    with pytest.raises(TypeError, match="^" + re.escape(said) + "$"):
        UnlabelledAdapter().to_sample((table, table), index=3)
