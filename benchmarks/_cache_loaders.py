"""Loaders of whole batches: our cache under torch's `DataLoader`, and the peers' own datasets and loaders.

All give shuffled batches of uint8 images, boxes, labels and, unless they were written without, masks, collated by
torch's default. Workers stay alive between epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks import _cache_native as native
from benchmarks._cache_ours import fill
from benchmarks._cache_samples import NUM_INSTANCES, SIZE_HW, Photograph
from synthloader import GeneratedDataset, Instances, LMDBCache, Sample, precompute

NUM_SHARDS = 4
"""Tar files of WebDataset: each worker reads files of its own."""


class Loader(Protocol):
    """A dataset on the disk and how batches are loaded from it."""

    @property
    def name(self) -> str: ...

    @property
    def requires(self) -> tuple[str, ...]: ...

    def write(self, folder: Path, photographs: Sequence[Photograph], /) -> None: ...

    def open(self, folder: Path, /, *, batch_size: int, num_workers: int) -> Iterable[Any]: ...


class Indexed(Dataset[Any]):
    """A map-style dataset made of a function."""

    def __init__(self, length: int, fetch: Callable[[int], Any]) -> None:
        self.length = length
        self.fetch = fetch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.fetch(index)


def make_loader(dataset: Any, *, batch_size: int, num_workers: int) -> DataLoader[Any]:
    """torch's own loader, shuffled, drawing from a random state of its own."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator(),
    )


class CacheLoader:
    """Our cache under a dataset of five lines."""

    name = "synthloader, LMDBCache, jpeg"
    requires = ()

    def write(self, folder: Path, photographs: Sequence[Photograph], /) -> None:
        fill(folder, "jpeg", photographs)

    def open(self, folder: Path, /, *, batch_size: int, num_workers: int) -> Iterable[Any]:
        cache = LMDBCache(folder, codec="jpeg", readonly=True)
        keys = list(cache)
        cache.close()

        def fetch(index: int) -> tuple[Any, ...]:
            sample: Any = cache.get(keys[index])
            target = sample.target
            parts = sample.image, target.boxes, target.class_ids
            return parts if target.masks is None else (*parts, target.masks)

        return make_loader(Indexed(len(keys), fetch), batch_size=batch_size, num_workers=num_workers)


class OtherPixel:
    """A generator that changes one pixel, so that all load the same images: an unchanged source is no generated one."""

    keeps = frozenset({Instances})
    fingerprint = "benchmarks.OtherPixel/1"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        image = source.image.copy()
        image[0, 0] ^= 128
        return source.edit(image=image, target=source.target)


class GeneratedLoader:
    """`GeneratedDataset` over a filled cache: items in the form of the wrapped dataset, made from cached samples."""

    name = "synthloader, GeneratedDataset, jpeg"
    requires = ()

    def write(self, folder: Path, photographs: Sequence[Photograph], /) -> None:
        self.real = []
        for photograph in photographs:
            _, boxes, labels, masks = photograph.item
            target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels)}
            if photograph.has_masks:
                target["masks"] = torch.from_numpy(masks)
            self.real.append((photograph.picture, target))
        generated = self._wrap(LMDBCache(folder / "cache", codec="jpeg"))
        precompute(generated, progress=False)
        generated.cache.close()

    def open(self, folder: Path, /, *, batch_size: int, num_workers: int) -> Iterable[Any]:
        generated = self._wrap(LMDBCache(folder / "cache", codec="jpeg", readonly=True))
        return make_loader(generated, batch_size=batch_size, num_workers=num_workers)

    def _wrap(self, cache: LMDBCache) -> Any:
        return GeneratedDataset(self.real, OtherPixel(), cache=cache, variants=1, version="1")


class LitDataLoader(native.LitDataNative):
    """LitData's streaming dataset and loader."""

    name = "LitData"

    def open(self, folder: Path, /, *, batch_size: int, num_workers: int) -> Iterable[Any]:  # type: ignore[override]
        from litdata import StreamingDataLoader, StreamingDataset

        dataset = StreamingDataset(str(folder), shuffle=True)
        return StreamingDataLoader(
            dataset, batch_size=batch_size, num_workers=num_workers, persistent_workers=num_workers > 0
        )


class MdsLoader(native.MdsNative):
    """MosaicML Streaming's dataset under torch's loader."""

    name = "MosaicML Streaming"

    def open(self, folder: Path, /, *, batch_size: int, num_workers: int) -> Iterable[Any]:  # type: ignore[override]
        from streaming import StreamingDataset

        class Arrays(StreamingDataset):
            def __getitem__(self, at: Any) -> Any:
                sample = super().__getitem__(at)
                return {**sample, "image": np.array(sample["image"])}

        dataset = Arrays(local=str(folder), shuffle=True, batch_size=batch_size)
        return DataLoader(
            dataset,
            batch_size=batch_size,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),
        )


class WebDatasetLoader:
    """WebDataset's pipeline over tar files and its own loader."""

    name = "WebDataset"
    requires = ("webdataset",)

    def write(self, folder: Path, photographs: Sequence[Photograph], /) -> None:
        writer = native.WebDatasetNative()
        for shard in range(NUM_SHARDS):
            (folder / str(shard)).mkdir()
            writer.write(folder / str(shard), photographs[shard::NUM_SHARDS])

    def open(self, folder: Path, /, *, batch_size: int, num_workers: int) -> Iterable[Any]:
        import webdataset

        dataset = (
            webdataset.WebDataset([str(file) for file in sorted(folder.rglob("*.tar"))], shardshuffle=NUM_SHARDS)
            .shuffle(100)
            .decode("rgb8")
            .map(_take_apart)
        )
        return webdataset.WebLoader(
            dataset,
            batch_size=batch_size,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),
        )


def _take_apart(sample: dict[str, Any]) -> tuple[Any, ...]:
    target = sample["json"]
    boxes, labels = np.array(target["boxes"], np.float32), np.array(target["labels"])
    return sample["jpg"], boxes, labels, sample["masks.npy"]


class ArrowLoader(native.ArrowNative):
    """Hugging Face's dataset, as arrays, under torch's loader."""

    name = "Hugging Face datasets"

    def open(self, folder: Path, /, *, batch_size: int, num_workers: int) -> Iterable[Any]:  # type: ignore[override]
        from datasets import Dataset as Table

        table: Any = Table.from_file(str(folder / "data.arrow")).with_format("numpy")
        return make_loader(table, batch_size=batch_size, num_workers=num_workers)


class FfcvLoader(native.FfcvNative):
    """FFCV's own loader: threads instead of processes, at least one; its batches lie in memory that is used again."""

    name = "FFCV"

    def open(self, folder: Path, /, *, batch_size: int, num_workers: int) -> Iterable[Any]:  # type: ignore[override]
        from ffcv.loader import Loader as NativeLoader
        from ffcv.loader import OrderOption
        from ffcv.transforms import ToTensor

        pipelines = {name: [*steps, ToTensor()] for name, steps in native.make_ffcv_pipelines().items()}
        return NativeLoader(
            str(folder / "data.beton"),
            batch_size=batch_size,
            num_workers=max(1, num_workers),
            os_cache=True,
            order=OrderOption.RANDOM,
            drop_last=False,
            pipelines=pipelines,
        )


class CocoLoader(native.CocoNative):
    """JPEG files and COCO JSON through torchvision's `CocoDetection`."""

    name = "CocoDetection"

    def open(self, folder: Path, /, *, batch_size: int, num_workers: int) -> Iterable[Any]:  # type: ignore[override]
        from torchvision.datasets import CocoDetection

        with redirect_stdout(StringIO()):
            dataset = CocoDetection(folder, folder / "coco.json")
        fetch = native.make_coco_fetch(dataset)
        length = len(dataset)
        return make_loader(
            Indexed(length, lambda index: tuple(np.array(part) for part in fetch(index))),
            batch_size=batch_size,
            num_workers=num_workers,
        )


def check_batch(batch: Any, batch_size: int, /, *, with_masks: bool) -> int:
    """How many images a batch has; it must be whole.

    Raises:
        ValueError: A part has another shape.
    """
    parts = list(batch.values()) if isinstance(batch, dict) else _flatten(batch)
    shapes = {tuple(part.shape[1:]) for part in parts}
    count = len(parts[0])
    height, width = SIZE_HW
    expected = {(NUM_INSTANCES, 4), (NUM_INSTANCES,), *([(NUM_INSTANCES, *SIZE_HW)] if with_masks else [])}
    missing = expected - shapes
    is_image = {(height, width, 3), (3, height, width)} & shapes
    if missing or not is_image or any(len(part) != count for part in parts) or count > batch_size:
        raise ValueError(f"a batch of {[tuple(part.shape) for part in parts]}")
    return count


def _flatten(batch: Any) -> list[Any]:
    parts: list[Any] = []
    for part in batch:
        parts += list(part.values()) if isinstance(part, dict) else [part]
    return parts


LOADERS: tuple[Loader, ...] = (
    CacheLoader(),
    GeneratedLoader(),
    LitDataLoader(),
    MdsLoader(),
    WebDatasetLoader(),
    ArrowLoader(),
    FfcvLoader(),
    CocoLoader(),
)
