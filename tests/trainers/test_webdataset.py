"""WebDataset: real tar shards of drawn shapes, through `WebDataset` pipelines and `WebLoader`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import webdataset as wds
from PIL import Image
from torch import nn

from synthloader.generators import CopyPaste
from synthloader.streams import MixedStream, mix_stream
from tests.shapes import COLORS, Redraw, assert_boxes_true, draw_numbered, find_color, is_generated_ground

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    # webdataset leaves shards to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.uses_global_rng,  # webdataset seeds itself from it, and loaders their workers
]
COUNT = 24


@pytest.fixture(autouse=True)
def _shards_are_collected_under_the_filters_above() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six shards of four samples: `png`, `json` with boxes, `cls` with the class of the only shape of `one.png`."""
    folder = tmp_path_factory.mktemp("shards")
    with wds.ShardWriter(str(folder / "%06d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(COUNT):
            drawn = draw_numbered(number, size_hw=(48, 80))
            single = draw_numbered(number, size_hw=(48, 80), num_shapes=1, only_class=number % 3)
            writer.write(
                {
                    "__key__": f"{number:04d}",
                    "png": Image.fromarray(drawn.image),
                    "json": {"boxes": drawn.boxes.tolist(), "labels": drawn.class_ids.tolist(), "image_id": number},
                    "one.png": Image.fromarray(single.image),
                    "cls": number % 3,
                }
            )
    return str(folder / "{000000..000005}.tar")


def make_pipeline(shards: str, **options: Any) -> Any:
    return wds.WebDataset(shards, **{"shardshuffle": False, **options}).decode("pil").to_tuple("png", "json")


def describe(item: Any) -> tuple[Any, ...]:
    image, target = item
    return np.asarray(image).tobytes(), repr(sorted(target.items()))


def is_made(item: Any) -> bool:
    return is_generated_ground(np.asarray(item[0]))


def assert_true(item: Any) -> None:
    assert_boxes_true(np.asarray(item[0]), np.array(item[1]["boxes"]).reshape(-1, 4), np.array(item[1]["labels"]))


def keep(batch: list[Any]) -> list[Any]:
    return batch


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("idiom", ["wrapped", "composed"])
def test_every_item_is_served_once_and_generated_ones_at_the_asked_share(
    shards: str, num_workers: int, idiom: str
) -> None:
    pipeline = make_pipeline(shards)
    mixed: Any = (
        MixedStream(pipeline, Redraw(), 0.5) if idiom == "wrapped" else pipeline.compose(mix_stream(Redraw(), 0.5))
    )
    items = list(wds.WebLoader(mixed, batch_size=None, num_workers=num_workers))
    assert sorted(target["image_id"] for image, target in items if not is_made((image, target))) == list(range(COUNT))
    assert sum(map(is_made, items)) == COUNT // 2
    for item in items:
        assert_true(item)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_at_ratio_0_batches_are_bit_for_bit_the_same(shards: str, num_workers: int) -> None:
    def read(pipeline: Any) -> list[Any]:
        torch.manual_seed(0)
        loader = wds.WebLoader(pipeline, batch_size=4, num_workers=num_workers, collate_fn=keep)
        return [[describe(item) for item in batch] for batch in loader]

    def make() -> Any:
        return make_pipeline(shards, shardshuffle=10, seed=5)

    assert read(
        MixedStream(make(), CopyPaste(), 0.0, pool=[(torch.zeros(3, 4, 4), {"boxes": [], "labels": []})])
    ) == read(make())
    assert read(make().compose(mix_stream(Redraw(), 0.0))) == read(make())


def test_resampled_shards_go_on_without_end_and_without_a_repetition(shards: str) -> None:
    pipeline = make_pipeline(shards, resampled=True)
    mixed = pipeline.compose(mix_stream(Redraw(), 1.0)).with_epoch(60)
    loader = wds.WebLoader(mixed, batch_size=None, num_workers=2)
    items = [item for _ in range(2) for item in loader]
    made = [describe(item) for item in items if is_made(item)]
    assert (len(items), len(made)) == (240, 120)
    assert len(set(made)) == 120, "an item that comes again gets another version"
    for item in items[::7]:
        assert_true(item)


def test_samples_follow_their_key_whatever_the_order(shards: str) -> None:
    def read(**options: Any) -> set[Any]:
        stream = MixedStream(make_pipeline(shards, **options), Redraw(), 1.0, name="image_id")
        return {describe(item) for item in stream if is_made(item)}

    assert read() == read(shardshuffle=10, seed=8)


def test_several_workers_are_not_warned_of_where_the_pipeline_splits(shards: str) -> None:
    with pytest.warns(UserWarning, match="^2 processes read this DataPipeline") as caught:
        bare = wds.DataPipeline(wds.SimpleShardList(shards), wds.tarfile_to_samples())
        iter(MixedStream(bare, Redraw(), 1.0, num_replicas=2, rank=0))
        iter(MixedStream(make_pipeline(shards), Redraw(), 1.0, num_replicas=2, rank=0))
        iter(MixedStream(make_pipeline(shards, resampled=True), Redraw(), 1.0, num_replicas=2, rank=0))
    assert len(caught) == 1


def test_what_nobody_decoded_is_refused_with_the_remedy(shards: str) -> None:
    with pytest.raises(TypeError) as caught:
        list(wds.WebDataset(shards, shardshuffle=False).compose(mix_stream(Redraw(), 1.0)))
    assert str(caught.value).startswith("items must be decoded before they are mixed, got bytes in ")
    assert str(caught.value).endswith("Decode first: WebDataset(...).decode('pil').to_tuple('jpg', 'json').")


class Augment:
    """Flips in place, as somebody's own augmentation may."""

    def __call__(self, item: Any) -> Any:
        image, target = item
        width = image.width
        target["boxes"] = [[width - x2, y1, width - x1, y2] for x1, y1, x2, y2 in target["boxes"]]
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), target


def test_augmentation_behind_the_mix_reaches_both(shards: str) -> None:
    pipeline = make_pipeline(shards).compose(mix_stream(Redraw(), 1.0)).map(Augment()).shuffle(20)
    items = list(wds.WebLoader(pipeline, batch_size=None, num_workers=0))
    assert (len(items), sum(map(is_made, items))) == (2 * COUNT, COUNT)
    for item in items:
        assert_true(item)


def to_tensor(image: Any, label: int) -> tuple[torch.Tensor, int]:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, label


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_classifier_learns_with_generated_images_in_its_loss(shards: str, num_workers: int) -> None:
    pipeline = wds.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("one.png", "cls")
    train = MixedStream(pipeline, Redraw(), 0.5, transforms=to_tensor)
    loader = wds.WebLoader(train, batch_size=6, num_workers=num_workers)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses, num_made, num_items = [], 0, 0
    for _ in range(8):
        for images, labels in loader:
            pixels = [np.ascontiguousarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in images]
            num_made += sum(map(is_generated_ground, pixels))
            num_items += len(images)
            for shown, label in zip(pixels, labels.tolist(), strict=True):
                assert [find_color(shown, class_id).sum() > 20 for class_id in range(len(COLORS))] == [
                    class_id == label for class_id in range(3)
                ]
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert (num_items, num_made) == (8 * 36, 8 * 12)
    assert np.mean(losses[-6:]) < 0.7 * np.mean(losses[:6])
    assert train.report().generated == 8 * 12
