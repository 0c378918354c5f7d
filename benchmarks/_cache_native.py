"""Peers with types of their own: images, arrays and lists as their users would give them, decoded by their decoders.

Pixels, boxes, labels and masks come out whole: what is read lazily is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from benchmarks._cache_samples import NUM_CLASSES, NUM_INSTANCES, Item, Photograph
from benchmarks._cache_stores import CHUNK_BYTES, FfcvLoaders, Read, open_tar


class LitDataNative:
    """LitData: the JPEG as an image, the rest as arrays."""

    name = "LitData, native"
    requires = ("litdata",)

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        from litdata import Jpeg
        from litdata.streaming import Cache

        cache = Cache(str(folder), chunk_bytes=CHUNK_BYTES)
        for index, photograph in enumerate(records):
            item = photograph.item
            cache[index] = {
                "image": Jpeg(bytes=photograph.jpeg),
                "boxes": item.boxes,
                "labels": item.labels,
                "masks": item.masks,
            }
        cache.done()
        cache.merge()

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        from litdata import StreamingDataset

        dataset = StreamingDataset(str(folder))

        def fetch(index: int) -> Item:
            sample = dataset[index]
            return Item(sample["image"].permute(1, 2, 0), sample["boxes"], sample["labels"], sample["masks"])

        yield lambda indices: map(fetch, indices)


class MdsNative:
    """MosaicML Streaming: a column `jpeg`, and arrays."""

    name = "MosaicML Streaming, native"
    requires = ("streaming",)

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        from streaming import MDSWriter

        columns = {"image": "jpeg", "boxes": "ndarray:float32", "labels": "ndarray:int64", "masks": "ndarray:uint8"}
        with MDSWriter(out=str(folder), columns=columns) as writer:
            for photograph in records:
                item = photograph.item
                writer.write(
                    {
                        "image": open_jpeg(photograph, folder),
                        "boxes": item.boxes,
                        "labels": item.labels,
                        "masks": item.masks.view(np.uint8),
                    }
                )
        (folder / "image.jpg").unlink()

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        from streaming import LocalDataset

        dataset = LocalDataset(str(folder))

        def fetch(index: int) -> Item:
            sample = dataset[index]
            return Item(np.asarray(sample["image"]), sample["boxes"], sample["labels"], sample["masks"])

        yield lambda indices: map(fetch, indices)


class WebDatasetNative:
    """WebDataset: a JPEG, boxes and labels as JSON, the masks as `.npy`; decoded to NumPy by wids."""

    name = "WebDataset (wids), native"
    requires = ("webdataset", "wids")

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        from webdataset import TarWriter

        with TarWriter(str(folder / "data.tar")) as writer:
            for index, photograph in enumerate(records):
                item = photograph.item
                target = {"boxes": item.boxes.tolist(), "labels": item.labels.tolist()}
                key = f"{index:06d}"
                writer.write({"__key__": key, "jpg": photograph.jpeg, "json": target, "masks.npy": item.masks})

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        from wids.wids_decode import default_decoder

        dataset = open_tar(folder, [partial(default_decoder, format="numpy")])

        def fetch(index: int) -> Item:
            sample = dataset[index]
            target = sample[".json"]
            boxes, labels = np.array(target["boxes"], np.float32), np.array(target["labels"])
            return Item(np.asarray(sample[".jpg"]), boxes, labels, sample[".masks.npy"])

        yield lambda indices: map(fetch, indices)
        dataset.close()


class ArrowNative:
    """Hugging Face datasets: an `Image`, lists, and an array of three axes; read as NumPy."""

    name = "Hugging Face datasets, native"
    requires = ("datasets",)

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        import datasets
        from datasets.arrow_writer import ArrowWriter

        features = datasets.Features(
            {
                "image": datasets.Image(),
                "boxes": datasets.Array2D((NUM_INSTANCES, 4), "float32"),
                "labels": datasets.Sequence(datasets.Value("int64")),
                "masks": datasets.Array3D(records[0].item.masks.shape, "uint8"),
            }
        )
        with ArrowWriter(features=features, path=str(folder / "data.arrow"), writer_batch_size=8) as writer:
            for photograph in records:
                item = photograph.item
                writer.write(
                    {
                        "image": {"bytes": photograph.jpeg, "path": None},
                        "boxes": item.boxes,
                        "labels": item.labels,
                        "masks": item.masks.view(np.uint8),
                    }
                )
            writer.finalize()

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        from datasets import Dataset

        dataset: Any = Dataset.from_file(str(folder / "data.arrow")).with_format("numpy")

        def fetch(index: int) -> Item:
            sample = dataset[index]
            return Item(np.asarray(sample["image"]), sample["boxes"], sample["labels"], sample["masks"])

        yield lambda indices: map(fetch, indices)


class FfcvNative:
    """FFCV: its image field in JPEG mode, which encodes anew, and arrays."""

    name = "FFCV, native"
    requires = ("ffcv",)

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        from ffcv.fields import NDArrayField, RGBImageField
        from ffcv.writer import DatasetWriter

        fields = {
            "image": RGBImageField("jpg", jpeg_quality=95),
            "boxes": NDArrayField(np.dtype("float32"), (NUM_INSTANCES, 4)),
            "labels": NDArrayField(np.dtype("int64"), (NUM_INSTANCES,)),
            "masks": NDArrayField(np.dtype("uint8"), records[0].item.masks.shape),
        }
        with redirect_stderr(StringIO()):
            DatasetWriter(str(folder / "data.beton"), fields, num_workers=1).from_indexed_dataset(_Tuples(records))

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        loaders = FfcvLoaders(folder, make_ffcv_pipelines())
        yield lambda indices: (Item(*(column[0] for column in batch)) for batch in loaders.load(indices))


def make_ffcv_pipelines() -> dict[str, list[Any]]:
    """FFCV's decoders of what `FfcvNative` wrote."""
    from ffcv.fields.decoders import NDArrayDecoder, SimpleRGBImageDecoder

    arrays = {name: [NDArrayDecoder()] for name in ("boxes", "labels", "masks")}
    return {"image": [SimpleRGBImageDecoder()], **arrays}


class _Tuples:
    """Photographs as FFCV's writer wants them."""

    def __init__(self, records: Sequence[Photograph]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        image, boxes, labels, masks = self.records[index].item
        return image, boxes, labels, masks.view(np.uint8)


class Hdf5Native:
    """HDF5: it has no JPEG, so pixels and masks lie there as they are, a chunk for each sample."""

    name = "HDF5 (h5py), raw pixels"
    requires = ("h5py",)

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        import h5py

        with h5py.File(folder / "data.h5", "w") as file:
            for name, array in records[0].item._asdict().items():
                shape = (len(records), *array.shape)
                file.create_dataset(name, shape, array.dtype, chunks=(1, *array.shape) if array.ndim > 2 else None)
            for index, photograph in enumerate(records):
                for name, array in photograph.item._asdict().items():
                    file[name][index] = array

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        import h5py

        with h5py.File(folder / "data.h5", "r") as file:
            columns = [file[name] for name in Item._fields]
            yield lambda indices: (Item(*(column[index] for column in columns)) for index in indices)


class ZarrNative:
    """Zarr: pixels and masks as arrays with a chunk for each sample, compressed as it does by default."""

    name = "zarr, compressed pixels"
    requires = ("zarr",)

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        import zarr

        group: Any = zarr.open_group(str(folder / "data.zarr"), mode="w")
        arrays = {
            name: group.create_array(
                name, shape=(len(records), *array.shape), chunks=(1, *array.shape), dtype=array.dtype
            )
            for name, array in records[0].item._asdict().items()
        }
        for index, photograph in enumerate(records):
            for name, array in photograph.item._asdict().items():
                arrays[name][index] = array

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        import zarr

        group: Any = zarr.open_group(str(folder / "data.zarr"), mode="r")
        columns = [group[name] for name in Item._fields]
        yield lambda indices: (Item(*(column[index] for column in columns)) for index in indices)


class CocoNative:
    """JPEG files and a COCO file with run-length masks, as torchvision's `CocoDetection` reads them."""

    name = "JPEG files and COCO JSON"
    requires = ("pycocotools",)

    def write(self, folder: Path, records: Sequence[Photograph], /) -> None:
        from pycocotools import mask as run_lengths

        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index, photograph in enumerate(records):
            (folder / f"{index}.jpg").write_bytes(photograph.jpeg)
            _, boxes, labels, masks = photograph.item
            height, width = masks.shape[1:]
            images.append({"id": index, "file_name": f"{index}.jpg", "height": height, "width": width})
            for box, label, mask in zip(boxes.tolist(), labels.tolist(), masks, strict=True):
                code = run_lengths.encode(np.asfortranarray(mask.view(np.uint8)))
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": label,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                }
                annotations.append(annotation)
        categories = [{"id": number, "name": str(number)} for number in range(NUM_CLASSES)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "coco.json").write_text(json.dumps(document))

    @contextmanager
    def open(self, folder: Path, /) -> Iterator[Read]:
        from torchvision.datasets import CocoDetection

        with redirect_stdout(StringIO()):
            dataset = CocoDetection(folder, folder / "coco.json")
        fetch = make_coco_fetch(dataset)
        yield lambda indices: map(fetch, indices)


def make_coco_fetch(dataset: Any, /) -> Callable[[int], Item]:
    """How to get whole items from a `CocoDetection`."""

    def fetch(index: int) -> Item:
        image, annotations = dataset[index]
        boxes = np.array([annotation["bbox"] for annotation in annotations], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([annotation["category_id"] for annotation in annotations])
        masks = np.stack([dataset.coco.annToMask(annotation) for annotation in annotations])
        return Item(np.asarray(image), boxes, labels, masks)

    return fetch


def open_jpeg(photograph: Photograph, folder: Path, /) -> JpegImageFile:
    """The JPEG as Pillow's image of a file: peers that are given one keep the file's bytes."""
    path = folder / "image.jpg"
    path.write_bytes(photograph.jpeg)
    image = Image.open(path)
    if not isinstance(image, JpegImageFile):
        raise TypeError(f"{path} is no JPEG")
    return image


NATIVE = (
    LitDataNative(),
    MdsNative(),
    WebDatasetNative(),
    ArrowNative(),
    FfcvNative(),
    Hdf5Native(),
    ZarrNative(),
    CocoNative(),
)
