"""Peers that keep bytes: each stores the same JPEG, packed masks and raw arrays, and the same decoders read them.

What is left is the cost of the store itself, through its public interface. Peers are imported where they are used.
"""

from __future__ import annotations

import struct
import tarfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks._cache_samples import FIELD_NAMES, Fields, Item, decode_fields, join_fields, split_fields

Read = Callable[[Sequence[int]], Iterable[Item]]
"""Gives the items at these positions, one after the other."""

BATCH = 32
"""Samples per commit, where a store has commits."""

CHUNK_BYTES = 64 << 20


class Store(Protocol):
    """One way to keep records in a folder."""

    @property
    def name(self) -> str: ...

    @property
    def requires(self) -> tuple[str, ...]:
        """The modules without which it cannot run."""
        ...

    def write(self, folder: Path, records: Sequence[Any], /) -> None:
        """Make the store, as it is made by default where it has to do with the disk."""
        ...

    def open(self, folder: Path, /) -> AbstractContextManager[Read]:
        """Read from it."""
        ...


class LmdbByHand:
    """One value per sample and a transaction per read: what our cache costs more is what it does more."""

    name = "LMDB by hand"
    requires = ("lmdb",)

    def write(self, folder: Path, records: Sequence[Fields], /) -> None:
        import lmdb

        environment: Any = lmdb.open(str(folder), map_size=1 << 34)
        for start in range(0, len(records), BATCH):
            with environment.begin(write=True) as transaction:
                for index in range(start, min(start + BATCH, len(records))):
                    transaction.put(struct.pack(">Q", index), join_fields(records[index]))
        environment.close()

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        import lmdb

        environment: Any = lmdb.open(str(folder), readonly=True, lock=False, readahead=True)

        def fetch(index: int) -> Item:
            with environment.begin(buffers=True) as transaction:
                return decode_fields(split_fields(transaction.get(struct.pack(">Q", index))))

        yield lambda indices: map(fetch, indices)
        environment.close()


class LitDataBytes:
    """LitData's chunks, read by index."""

    name = "LitData"
    requires = ("litdata",)

    def write(self, folder: Path, records: Sequence[Fields], /) -> None:
        from litdata.streaming import Cache

        cache = Cache(str(folder), chunk_bytes=CHUNK_BYTES)
        for index in range(len(records)):
            cache[index] = records[index]
        cache.done()
        cache.merge()

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        from litdata import StreamingDataset

        dataset = StreamingDataset(str(folder))
        yield lambda indices: (decode_fields(dataset[index]) for index in indices)


class MdsBytes:
    """MosaicML Streaming's shards as a local dataset."""

    name = "MosaicML Streaming"
    requires = ("streaming",)

    def write(self, folder: Path, records: Sequence[Fields], /) -> None:
        from streaming import MDSWriter

        with MDSWriter(out=str(folder), columns=dict.fromkeys(FIELD_NAMES, "bytes")) as writer:
            for index in range(len(records)):
                writer.write(records[index])

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        from streaming import LocalDataset

        dataset = LocalDataset(str(folder))
        yield lambda indices: (decode_fields(dataset[index]) for index in indices)


class WebDatasetBytes:
    """A WebDataset tar file, read by index through wids."""

    name = "WebDataset (wids)"
    requires = ("webdataset", "wids")

    def write(self, folder: Path, records: Sequence[Fields], /) -> None:
        from webdataset import TarWriter

        with TarWriter(str(folder / "data.tar"), encoder=False) as writer:
            for index in range(len(records)):
                writer.write({"__key__": f"{index:06d}", **records[index]})

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        dataset = open_tar(folder, [])

        def fetch(index: int) -> Item:
            files = dataset[index]
            return decode_fields({name: files[f".{name}"].getbuffer() for name in FIELD_NAMES})

        yield lambda indices: map(fetch, indices)
        dataset.close()


def open_tar(folder: Path, transformations: list[Callable[[Any], Any]], /) -> Any:
    """The tar file of a folder by index; wids tells on stderr what it opens."""
    from wids import ShardListDataset

    path = folder / "data.tar"
    with tarfile.open(path) as file:
        count = len({name.partition(".")[0] for name in file.getnames()})
    shard = {"url": str(path), "nsamples": count}
    with redirect_stderr(StringIO()):
        return ShardListDataset([shard], localname=lambda url: url, keep=True, transformations=transformations)


class ArrowBytes:
    """Hugging Face datasets: a table of binary columns, mapped from its Arrow file."""

    name = "Hugging Face datasets"
    requires = ("datasets",)

    def write(self, folder: Path, records: Sequence[Fields], /) -> None:
        from datasets import Features, Value
        from datasets.arrow_writer import ArrowWriter

        features = Features({name: Value("binary") for name in FIELD_NAMES})
        with ArrowWriter(features=features, path=str(folder / "data.arrow"), writer_batch_size=BATCH) as writer:
            for index in range(len(records)):
                writer.write(records[index])
            writer.finalize()

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        from datasets import Dataset

        dataset: Any = Dataset.from_file(str(folder / "data.arrow"))
        yield lambda indices: (decode_fields(dataset[index]) for index in indices)


class Hdf5Bytes:
    """HDF5: one array of byte strings of varying length."""

    name = "HDF5 (h5py)"
    requires = ("h5py",)

    def write(self, folder: Path, records: Sequence[Fields], /) -> None:
        import h5py

        with h5py.File(folder / "data.h5", "w") as file:
            data = file.create_dataset("samples", (len(records),), dtype=h5py.vlen_dtype(np.uint8))
            for index in range(len(records)):
                data[index] = np.frombuffer(join_fields(records[index]), np.uint8)

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        import h5py

        with h5py.File(folder / "data.h5", "r") as file:
            data = file["samples"]
            yield lambda indices: (decode_fields(split_fields(data[index])) for index in indices)


class ZarrBytes:
    """Zarr: an array of byte strings, a chunk for each so that one can be read without its neighbours."""

    name = "zarr"
    requires = ("zarr",)

    def write(self, folder: Path, records: Sequence[Fields], /) -> None:
        import zarr

        with warnings.catch_warnings():
            # Zarr tells that other programs may not know this type.
            warnings.simplefilter("ignore")
            array: Any = zarr.create_array(
                store=str(folder / "data.zarr"), shape=(len(records),), chunks=(1,), dtype="bytes", compressors=None
            )
        for index in range(len(records)):
            array[index] = np.array([join_fields(records[index])], dtype=object)

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        import zarr

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array: Any = zarr.open_array(str(folder / "data.zarr"), mode="r")

        def fetch(index: int) -> Item:
            return decode_fields(split_fields(array[index : index + 1][0]))

        yield lambda indices: map(fetch, indices)


class FfcvBytes:
    """FFCV: it has no access by index, so its loader is given the order and a batch of one."""

    name = "FFCV"
    requires = ("ffcv",)

    def write(self, folder: Path, records: Sequence[Fields], /) -> None:
        from ffcv.fields import BytesField
        from ffcv.writer import DatasetWriter

        writer = DatasetWriter(str(folder / "data.beton"), {"sample": BytesField()}, num_workers=1)
        with redirect_stderr(StringIO()):
            writer.from_indexed_dataset(_Joined(records))

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        from ffcv.fields.bytes import BytesDecoder

        loaders = FfcvLoaders(folder, {"sample": [BytesDecoder()]})
        yield lambda indices: (decode_fields(split_fields(np.asarray(batch[0]))) for (batch,) in loaders.load(indices))


class FfcvLoaders:
    """FFCV's loaders, one for each order of positions: making one compiles it, which is not what is measured."""

    def __init__(self, folder: Path, pipelines: dict[str, list[Any]], /, *, batch_size: int = 1) -> None:
        self.path = str(folder / "data.beton")
        self.pipelines = pipelines
        self.batch_size = batch_size
        self.loaders: dict[tuple[int, ...], Any] = {}

    def load(self, indices: Sequence[int], /) -> Iterator[Any]:
        """The batches of these positions, in this order; a thread reads ahead."""
        from ffcv.loader import Loader, OrderOption

        order = tuple(indices)
        if order not in self.loaders:
            self.loaders[order] = Loader(
                self.path,
                batch_size=self.batch_size,
                num_workers=1,
                os_cache=True,
                order=OrderOption.SEQUENTIAL,
                indices=np.array(order),
                pipelines=self.pipelines,
            )
        return iter(self.loaders[order])


class _Joined:
    """Records as FFCV's writer wants them."""

    def __init__(self, records: Sequence[Fields]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        return (np.frombuffer(join_fields(self.records[index]), np.uint8),)


class FilesBytes:
    """Plain files: the JPEG, and one with the rest."""

    name = "files"
    requires = ()

    def write(self, folder: Path, records: Sequence[Fields], /) -> None:
        for index in range(len(records)):
            record = records[index]
            (folder / f"{index}.jpg").write_bytes(record["jpeg"])
            (folder / f"{index}.bin").write_bytes(join_fields({**record, "jpeg": b""}))

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        name = str(folder)

        def fetch(index: int) -> Item:
            with open(f"{name}/{index}.bin", "rb") as rest, open(f"{name}/{index}.jpg", "rb") as jpeg:
                return decode_fields({**split_fields(rest.read()), "jpeg": jpeg.read()})

        yield lambda indices: map(fetch, indices)


STORES: tuple[Store, ...] = (
    LmdbByHand(),
    LitDataBytes(),
    MdsBytes(),
    WebDatasetBytes(),
    ArrowBytes(),
    FfcvBytes(),
    Hdf5Bytes(),
    ZarrBytes(),
    FilesBytes(),
)
