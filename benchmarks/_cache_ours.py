"""Our cache as a contender, and the floor: the same bytes decoded from memory, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._cache_samples import SIZE_HW, Item, Photograph, decode_jpeg
from benchmarks._cache_stores import BATCH, Read
from synthloader import LMDBCache
from synthloader.cache.bitmasks import pack_masks, unpack_masks


class Ours:
    """`LMDBCache.get`, and all arrays of the sample.

    Args:
        codec: The cache's.
        with_masks: Also ask for the masks, which are unpacked only then.
    """

    requires = ()

    def __init__(self, codec: str, /, *, with_masks: bool = True) -> None:
        self.codec = codec
        self.with_masks = with_masks
        self.keys: list[bytes] = []
        self.name = f"synthloader, {codec}" + ("" if with_masks else ", masks not asked for")

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        self.keys = [record.key for record in records]
        fill(folder, self.codec, records)

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        with LMDBCache(folder, codec=self.codec, readonly=True) as cache:

            def fetch(index: int) -> Item:
                sample: Any = cache.get(self.keys[index])
                target = sample.target
                return Item(sample.image, target.boxes, target.class_ids, target.masks if self.with_masks else None)

            yield lambda indices: map(fetch, indices)


class Floor:
    """JPEG bytes and packed masks in memory, decoded by the fastest decoders.

    Args:
        own_arrays: Each image has an array of its own, as whatever keeps it needs; else all go into one buffer.
    """

    requires = ()

    def __init__(self, *, own_arrays: bool) -> None:
        self.own_arrays = own_arrays
        self.name = "floor, " + ("arrays of its own" if own_arrays else "into one buffer")
        self.records: list[tuple[bytes, np.ndarray, bytes, Photograph]] = []

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        """Keep them in memory."""
        self.records = [(record.jpeg, *pack_masks(record.item.masks), record) for record in records]

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        yield self._read

    def _read(self, indices: Sequence[int]) -> Iterable[Item]:
        buffer = None if self.own_arrays else np.empty((*SIZE_HW, 3), np.uint8)
        for index in indices:
            jpeg, extents, bits, record = self.records[index]
            image = decode_jpeg(jpeg, buffer)
            masks = unpack_masks(extents, bits, size_hw=SIZE_HW)
            yield Item(image, record.item.boxes, record.item.labels, masks)


def fill(folder: Path, codec: str, records: Sequence[Photograph], /) -> None:
    """Put all samples into a cache, in batches, and close it."""
    with LMDBCache(folder, codec=codec) as cache:
        for start in range(0, len(records), BATCH):
            cache.put_many([(record.key, record.to_sample(codec=codec)) for record in records[start : start + BATCH]])
