"""`SynthYOLODataset`: Ultralytics' dataset of boxes, masks, keypoints or rotated boxes, with generated images in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from synthloader.adapters.folders.yolo_record import YoloRecord
from synthloader.adapters.ultralytics.labels import LabelForm, make_view, write_labels
from synthloader.adapters.ultralytics.mix import Load, MixOptions
from synthloader.checks import reject
from synthloader.epoch_index import EpochIndex
from synthloader.errors import import_extra
from synthloader.filters import SinglePolygon
from synthloader.lifting import preserve_random_state
from synthloader.sample import Sample

__all__ = ["SynthYOLODataset"]

_YOLODataset: Any = import_extra(
    "ultralytics.data.dataset", extra="yolo", user="synthloader.adapters.ultralytics"
).YOLODataset


@dataclass(slots=True)
class _Tile:
    """A generated image as it lies in the mosaic buffer, and its labels."""

    epoch: int
    place: int  # the real item that it was made from; -1 where that is foreign
    counts: tuple[tuple[str, int], ...]
    image: np.ndarray  # (h, w, C) uint8, BGR, resized
    size_hw: tuple[int, int]  # before resizing
    record: YoloRecord


class SynthYOLODataset(_YOLODataset):  # type: ignore[misc]
    """Real images as Ultralytics reads them, and generated ones at the positions that a plan says.

    Everything that Ultralytics does at construction sees real images only: `labels.cache`, `fraction`, `classes`,
    `single_cls`, caching in memory or on disk, `rect`. Positions 0..n-1 are the real images, in Ultralytics' order. The
    labels, file names and rectangles of positions behind them are those of the source that they start from in epoch 0;
    what has another size than its source gets the rectangle of the real image of the nearest aspect ratio.

    A generated image takes the place that a real one has: it is resized as `load_image` resizes, lies in the mosaic
    buffer once and leaves it in its turn, and tiles of mosaics, mixup and the like are generated wherever the plan has
    a generated position. It never enters the caches of images in memory and on disk.

    Attributes:
        mix: The plan and what was served (`mix.report()`): one position for each item, tiles not counted.
        order: (N,) the positions in the order of `rect`, real and generated ones by aspect ratio; None without `rect`.
    """

    mix: Any = None
    order: np.ndarray | None = None
    labels: list[dict[str, Any]]
    im_files: list[str]
    npy_files: list[Any]
    batch: np.ndarray
    batch_shapes: np.ndarray

    @classmethod
    def adopt(cls, dataset: Any, options: MixOptions, /, *, task: str, classes: Any = None) -> SynthYOLODataset:
        """Turn a dataset of real images, just built, into a mixed one: the very same object.

        Args:
            dataset: A `YOLODataset` for training.
            options: What is mixed in.
            task: `detect`, `segment`, `pose` or `obb`.
            classes: Ultralytics' `classes=`: ids of the classes that are kept.

        Raises:
            TypeError: The dataset is of another class.
            LabelContractError: The generator cannot make what this data set needs.
        """
        if type(dataset) is not _YOLODataset:
            remedy = "Datasets of other classes make their items in their own way: mix with Ultralytics' own trainers."
            reject("the dataset of the trainer", "be a YOLODataset", type(dataset).__name__, remedy, error=TypeError)
        if dataset.channels not in (1, 3):
            reject("channels", "be 1 or 3", dataset.channels, "Generated images have three channels, or one.")
        dataset.__class__ = cls
        dataset._extend(options, task, classes)
        made: SynthYOLODataset = dataset
        return made

    def _extend(self, options: MixOptions, task: str, classes: Any) -> None:
        view, places = make_view(self, task=task)
        has_segments = any(len(label["segments"]) for label in self.labels)
        shape = self.data.get("kpt_shape") or (0, 0)
        self._form = LabelForm(
            task=task,
            has_segments=has_segments,
            num_classes=len(self.data["names"]),
            keep_classes=None if classes is None else tuple(np.asarray(classes, np.int64).reshape(-1).tolist()),
            single_class=bool(self.single_cls),
            num_points=int(shape[0]) if task == "pose" else 0,
            has_visibility=int(shape[1]) != 2,
        )
        self._view = view
        self._real_places = places
        self._mix_places = np.empty(len(places), np.int64)
        self._mix_places[places] = np.arange(len(places))
        self.mark, self.weight = options.mark, options.weight
        self.counts_items = True
        self._tiles: dict[int, _Tile] = {}
        self._failed: dict[int, tuple[int, Load]] = {}
        self._epoch, self._serves_real = 0, False
        self._main: Any = None
        self._drawn: list[bool] = []
        mix = options.make_mix(view, filters=[SinglePolygon()] if self._form.has_polygons else [])
        self._lengthen(mix)
        self.mix = mix
        first = mix.find_first()
        if first is not None:  # what can never work is said now, and not by a worker at the first step
            with preserve_random_state():
                load = mix.load(first[1], first[0])
                if load.sample is not None:
                    self._make_tile(load, load.sample, first[0])

    def _lengthen(self, mix: Any) -> None:
        """Let everything that Ultralytics keeps per image reach to the length of the mix."""
        num_real, length = len(self.labels), len(mix)
        sources = [self._real_places[mix.find_place(0, at)] for at in range(num_real, length)]
        if self.rect:
            self._arrange(self._find_ranks(mix, np.concatenate([np.arange(num_real), np.array(sources, np.int64)])))
        self.labels = [*self.labels, *(dict(self.labels[place]) for place in sources)]
        self.im_files = [*self.im_files, *(self.im_files[place] for place in sources)]
        self.npy_files = [*self.npy_files, *(self.npy_files[place] for place in sources)]
        for name in ("ims", "im_hw0", "im_hw"):
            images = getattr(self, name)
            if isinstance(images, list):  # else the cache of real images in memory
                images += [None] * len(sources)
        self.ni = length
        if self.augment:
            self.max_buffer_length = min(length, self.batch_size * 8, 1000)

    def _find_ranks(self, mix: Any, ranks: np.ndarray) -> np.ndarray:
        """Put what has another size than its source beside the real image of the nearest aspect ratio.

        Args:
            mix: The mix.
            ranks: (N,) for each position the real one that it is, or that it starts from.
        """
        sizes = mix.source.sizes_hw
        if sizes is None or not any(part.resizes for part in mix.sets):
            return ranks
        aspects = np.empty(len(sizes))
        aspects[self._real_places] = np.log(sizes[:, 0] / sizes[:, 1])
        ranks = ranks.copy()
        for at in range(len(sizes), len(ranks)):
            draw = mix.draw(EpochIndex(at, epoch=0))
            made = mix.sets[draw.set_index].sizes_hw
            if made is not None:
                height, width = made[draw.source]
                ranks[at] = np.abs(aspects - np.log(height / width)).argmin()
        return ranks

    def _arrange(self, ranks: np.ndarray) -> None:
        """Batches of near aspect ratio, generated images beside those that they start from.

        Args:
            ranks: (N,) for each position the real one, in Ultralytics' order of aspect ratios, that it has the size of.
        """
        self.order = np.argsort(ranks, kind="stable")
        batch = np.empty(len(ranks), np.int64)
        batch[self.order] = np.arange(len(ranks)) // self.batch_size
        shapes = self.batch_shapes[self.batch[ranks]]
        self.batch_shapes = np.array([shapes[batch == at].max(axis=0) for at in range(int(batch.max()) + 1)])
        self.batch = batch

    # ---- items

    def __getitem__(self, index: Any) -> dict[str, Any]:
        """The item at a position of the epoch that the index carries, else of the mix's current epoch."""
        if self.mix is None:
            item: dict[str, Any] = super().__getitem__(index)
            return item
        self._epoch = index.epoch if isinstance(index, EpochIndex) else self.mix.epoch
        self._main, self._drawn = index, []
        item = super().__getitem__(int(index))
        share = sum(self._drawn) / len(self._drawn)
        if self.mark is not None:
            item[self.mark] = torch.tensor(share)
        if self.weight is not None:
            item["weight"] = torch.tensor(1.0 + share * (self.weight - 1.0))
        return item

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """Image and labels at a position, for an item or for a tile of one."""
        tile = self._find_tile(index)
        is_generated = isinstance(tile, _Tile)
        self._drawn.append(is_generated)
        if self._main is not None and self.counts_items:
            self._count(tile)
        self._main = None
        label: dict[str, Any]
        if not isinstance(tile, _Tile):
            self._serves_real = True
            try:
                label = super().get_image_and_label(self._real_places[tile.place])
            finally:
                self._serves_real = False
            if self.rect:
                label["rect_shape"] = self.batch_shapes[self.batch[index]]
            return label
        record, (height, width), place = tile.record, tile.size_hw, tile.place
        label = {name: value for name, value in self.labels[index].items() if name != "shape"}
        if place >= 0:
            label["im_file"] = self.im_files[self._real_places[place]]
        label["cls"] = record.class_ids.astype(np.float32).reshape(-1, 1)
        label["bboxes"] = record.boxes.copy()
        label["segments"] = [] if record.segments is None else [segment.copy() for segment in record.segments]
        label["keypoints"] = None if record.keypoints is None else record.keypoints.copy()
        label["img"], label["ori_shape"], label["resized_shape"] = (
            tile.image.copy(),
            (height, width),
            tile.image.shape[:2],
        )
        label["ratio_pad"] = (tile.image.shape[0] / height, tile.image.shape[1] / width)
        if self.rect:
            label["rect_shape"] = self.batch_shapes[self.batch[index]]
        made: dict[str, Any] = self.update_labels_info(label)
        return made

    def load_image(self, i: int, *args: Any, **options: Any) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """The image at a position (h, w, C) uint8 BGR, its size before and after resizing.

        Args:
            i: The position.
            *args: Ultralytics' own, like the following: `rect_mode`, `resize_short`.
            **options: See there.
        """
        if self.mix is None:
            return self._load_real(i, *args, **options)
        if not self._serves_real:
            tile = self._find_tile(i, *args, **options)
            if isinstance(tile, _Tile):
                height, width = tile.image.shape[:2]
                return tile.image, tile.size_hw, (height, width)
            i = self._real_places[tile.place]
        self._forget_tile(i)
        first = self.buffer[0] if self.buffer else None
        loaded = self._load_real(i, *args, **options)
        if first is not None and (not self.buffer or self.buffer[0] != first):
            self._tiles.pop(first, None)
        return loaded

    def _load_real(self, i: int, *args: Any, **options: Any) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        loaded: tuple[np.ndarray, tuple[int, int], tuple[int, int]] = super().load_image(i, *args, **options)
        return loaded

    # ---- generated ones

    def _find_tile(self, index: int, *args: Any, **options: Any) -> _Tile | Load:
        """What a position carries in this epoch: a generated tile, or which real item."""
        index, epoch = range(len(self.labels))[index], self._epoch
        tile = self._tiles.get(index)
        if tile is not None and tile.epoch == epoch:
            return tile
        failed = self._failed.get(index)
        if failed is not None and failed[0] == epoch:
            return failed[1]
        load: Load = self.mix.load(self._to_mix(index), epoch)
        if load.sample is None:
            self._forget_tile(index)
            if load.counts:
                self._failed = {at: pair for at, pair in self._failed.items() if pair[0] == epoch}
                self._failed[index] = epoch, load
            return load
        tile = self._make_tile(load, load.sample, epoch, *args, **options)
        self._keep(index, tile)
        return tile

    def _make_tile(self, load: Load, sample: Sample, epoch: int, *args: Any, **options: Any) -> _Tile:
        record = write_labels(sample, self._form, find_source=self._find_record)
        code = cv2.COLOR_RGB2BGR if self.channels == 3 else cv2.COLOR_RGB2GRAY
        image = _resize(cv2.cvtColor(sample.image, code), self.imgsz, *args, **options)
        image = image[..., None] if image.ndim == 2 else image
        return _Tile(epoch, load.place, load.counts, image, sample.size_hw, record)

    def _keep(self, index: int, tile: _Tile) -> None:
        """Put a tile into the mosaic buffer, where its position is not there already, and let the oldest go."""
        if not self.augment or self.cache == "ram":
            return  # partners are drawn from all positions then
        is_there = index in self._tiles
        if index < len(self._real_places) and self.ims[index] is not None:
            self.ims[index], self.im_hw0[index], self.im_hw[index] = None, None, None
            is_there = True
        self._tiles[index] = tile
        if is_there:
            return
        self.buffer.append(index)
        if 1 < len(self.buffer) >= self.max_buffer_length:
            oldest = self.buffer.pop(0)
            self._tiles.pop(oldest, None)
            self.ims[oldest], self.im_hw0[oldest], self.im_hw[oldest] = None, None, None

    def _forget_tile(self, index: int) -> None:
        """Take a position's generated tile, one of an earlier epoch, out of the buffer."""
        if self._tiles.pop(index, None) is not None:
            self.buffer.remove(index)

    def _to_mix(self, index: int) -> int:
        return int(self._mix_places[index]) if index < len(self._mix_places) else index

    def _find_record(self, sample: Sample) -> YoloRecord | None:
        place = self.mix.find_own_source(sample)
        return self._view.records[place] if place >= 0 else None

    def _count(self, tile: _Tile | Load) -> None:
        is_generated = isinstance(tile, _Tile)
        if isinstance(tile, _Tile):
            class_ids = tile.record.class_ids
        else:
            class_ids = self.labels[self._real_places[tile.place]]["cls"].astype(np.int64).reshape(-1)
        self.mix.count_served(self._main, self._epoch, tile.counts, class_ids.tolist(), is_generated=is_generated)

    @staticmethod
    def collate_fn(batch: list[dict[str, Any]]) -> dict[str, Any]:
        """Ultralytics' own, and the fields of `mark=` and `weight=` as tensors (B,)."""
        collated: dict[str, Any] = _YOLODataset.collate_fn(batch)
        for name, values in collated.items():
            if isinstance(values, tuple | list) and values and all(_is_number(value) for value in values):
                collated[name] = torch.stack(list(values))
        return collated


def _is_number(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 0


def _resize(image: np.ndarray, size: Any, rect_mode: bool = True, resize_short: bool = False) -> np.ndarray:
    """An image in the size that `load_image` gives it.

    Args:
        image: (H, W) or (H, W, C).
        size: Ultralytics' `imgsz`.
        rect_mode: Keep the aspect ratio; else stretch.
        resize_short: Let the shorter side have the size, and not the longer one.
    """
    height, width = image.shape[:2]
    wanted_hw = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if not rect_mode:
        new_hw = wanted_hw
    else:
        side = max(wanted_hw)
        ratio = side / (min(height, width) if resize_short else max(height, width))
        if ratio == 1:
            return image
        new_hw = (math.ceil(height * ratio), math.ceil(width * ratio))
        if resize_short:
            new_hw = (new_hw[0], side) if height >= width else (side, new_hw[1])
        else:
            new_hw = (min(new_hw[0], side), min(new_hw[1], side))
    if new_hw == (height, width):
        return image
    return cv2.resize(image, new_hw[::-1], interpolation=cv2.INTER_LINEAR)
