"""Detectron2: `mix_dataset_dicts` mixes generated images into dataset dicts, `MixedTrainingSampler` gives the epoch.

```python
train = mix_dataset_dicts(get_detection_dataset_dicts("my_train"), CopyPaste(), ratio=0.5)
sampler = MixedTrainingSampler(TrainingSampler(len(train)), train)
loader = build_detection_train_loader(train, mapper=DatasetMapper(cfg, is_train=True), sampler=sampler, ...)
```

Mappers read the image themselves, from `file_name`. That of a generated dict is `synthloader://...`, a path that
Detectron2's `PathManager` opens through a handler registered here: every mapper that reads by `PathManager` or by
`detection_utils.read_image` works unchanged. One that reads files in another way finds no file of this name, and so
cannot show the source's image under new labels.
"""

from __future__ import annotations

import importlib
import io
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch.distributed
from torch.utils.data import Dataset, Sampler

from synthloader.adapters.items.coco_annotations import read_annotations, write_annotations
from synthloader.adapters.items.fields import pack, unpack
from synthloader.adapters.items.pairs import check_target
from synthloader.checks import check_choice, check_type, reject
from synthloader.epoch_index import EpochIndex
from synthloader.errors import LabelContractError, MissingExtraError
from synthloader.generated import GeneratedDataset
from synthloader.keys import make_fingerprint
from synthloader.mix_report import MixReport
from synthloader.mixed import MixedDataset
from synthloader.plans import Plan
from synthloader.polygons import NoOutlineError, trace_outline
from synthloader.protocols import Cache, Filter, Generator
from synthloader.sample import Sample
from synthloader.sources import ItemFacts
from synthloader.targets import Instances

__all__ = ["DatasetDictAdapter", "MixedDicts", "MixedTrainingSampler", "mix_dataset_dicts"]

_VERSION = 1
_PREFIX = "synthloader://"
_PIXELS = "synthloader pixels"
_XYXY_ABS, _XYWH_ABS = 0, 1
"""Values of detectron2's `BoxMode`, an `IntEnum` that its documentation fixes."""
_MOST_IMAGES = 32
"""Generated images that wait for their mapper, in each process; each is read at once, perhaps more than once."""
_OF_OTHERS = ("sem_seg_file_name", "pan_seg_file_name", "segments_info", "proposal_boxes")
_IMAGES: OrderedDict[str, bytes] = OrderedDict()
_MANAGERS: list[Any] = []
"""The `PathManager`s that know how to open them."""


def mix_dataset_dicts(
    dataset_dicts: Sequence[dict[str, Any]],
    generator: Generator,
    ratio: float | None = None,
    *,
    plan: Plan | None = None,
    classes: Sequence[str] | None = None,
    filters: Sequence[Filter] = (),
    cache: Cache | None = None,
    variants: int | None = None,
    attempts: int = 3,
    seed: int = 0,
    on_shortfall: str = "real",
    mark: str | None = None,
    bad_boxes: str = "error",
    read_image: Callable[[str], np.ndarray] | None = None,
) -> MixedDicts:
    """Dataset dicts with generated ones mixed in: what `build_detection_train_loader(dataset=...)` takes.

    Args:
        dataset_dicts: In Detectron2's format, as `get_detection_dataset_dicts` or `DatasetCatalog.get` gives them.
        generator: Makes a sample from a sample.
        ratio: Generated images per real one; short for `plan=Add(ratio)`.
        plan: `Add`, `Replace`, `Only`, `Balance` or `Schedule`.
        classes: `MetadataCatalog.get(name).thing_classes`, for generators and plans that name classes.
        filters: Decide whether a candidate may be used.
        cache: Where candidates are kept; a persistent one needs `variants`.
        variants: Versions of each source; None: fresh ones in every epoch.
        attempts: Most candidates for one place.
        seed: Everything random follows from it.
        on_shortfall: `"real"`, `"repeat"` or `"error"`, as of `MixedDataset`.
        mark: Name of a field that every dict gets: whether it is generated.
        bad_boxes: `"error"` or `"drop"`, as of `DetectionAdapter`.
        read_image: From a file's name to (H, W, 3) uint8 RGB; None: Detectron2's own `read_image`.

    Raises:
        MissingExtraError: Detectron2 is not installed.
        TypeError: `dataset_dicts` is not a list of dicts.
        ValueError: A dict holds labels or proposals that no generator keeps true.
    """
    _register_handler()
    dicts = _check_dicts(dataset_dicts)
    real = _DictList(dicts, classes)
    adapter = DatasetDictAdapter(read_image or _read_rgb, bad_boxes=bad_boxes)
    generated = GeneratedDataset(
        real, generator, adapter, filters=filters, cache=cache, variants=variants, attempts=attempts, seed=seed
    )
    return MixedDicts(MixedDataset(real, generated, ratio, plan=plan, seed=seed, on_shortfall=on_shortfall, mark=mark))


class MixedDicts(Dataset[dict[str, Any]]):
    """Real dataset dicts, equal to those that were given, and generated ones; made by `mix_dataset_dicts`.

    An index at or beyond the length is one of a later epoch: index n x e + i is index i of epoch e. `int(index)`, which
    Detectron2's `MapDataset` takes of every index, would lose an epoch that is carried in any other way.
    """

    def __init__(self, mix: MixedDataset) -> None:
        self.mix = mix

    def __len__(self) -> int:
        """Dicts of one epoch."""
        return len(self.mix)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A dict whose image a mapper can read in this process."""
        item: dict[str, Any] = self.mix[self._carry_epoch(int(index))]
        pixels = item.pop(_PIXELS, None)
        if pixels is not None:
            _register_handler()  # A spawned worker has not yet.
            _IMAGES[item["file_name"]] = _encode(pixels)
            while len(_IMAGES) > _MOST_IMAGES:
                _IMAGES.popitem(last=False)
        return item

    def is_generated(self, index: int) -> bool:
        """Whether the plan has a generated image at `index`, of whichever epoch."""
        return self.mix.is_generated(self._carry_epoch(int(index)))

    def set_epoch(self, epoch: int, /) -> None:
        """The epoch of indices below the length; `MixedTrainingSampler` needs none."""
        self.mix.set_epoch(epoch)

    def report(self, *, reduce: bool = False) -> MixReport:
        """What was asked and what was served."""
        return self.mix.report(reduce=reduce)

    def _carry_epoch(self, index: int) -> int:
        epoch, at = divmod(index, len(self.mix))
        return EpochIndex(at, epoch=epoch) if epoch > 0 else index


class MixedTrainingSampler(Sampler[int]):
    """A sampler without end over `MixedDicts`, whose indices say their epoch: `len(train)` images of all ranks.

    Without generated dicts it gives exactly what the inner sampler gives.

    Args:
        sampler: Gives the indices of this rank without end: `TrainingSampler(len(train))`.
        train: The mix.
        num_replicas: Number of ranks; None: as torch.distributed says.
        rank: This process's rank; given together with `num_replicas`.

    Raises:
        TypeError: `train` is not what `mix_dataset_dicts` gives.
    """

    def __init__(
        self, sampler: Iterable[int], train: MixedDicts, *, num_replicas: int | None = None, rank: int | None = None
    ) -> None:
        check_type("train", train, MixedDicts, "Pass what mix_dataset_dicts gives.")
        if (num_replicas is None) != (rank is None):
            reject("rank", "be given together with num_replicas", rank, "Leave both out: torch.distributed knows them.")
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if num_replicas is None and is_distributed:
            num_replicas, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        self.sampler = sampler
        self.train = train
        self.num_replicas = num_replicas or 1
        self.rank = rank or 0

    def __iter__(self) -> Iterator[int]:
        """Indices without end."""
        size = len(self.train)
        if not self.train.mix.count_generated():
            yield from self.sampler
            return
        for position, index in enumerate(self.sampler):
            epoch = (position * self.num_replicas + self.rank) // size
            yield int(index) + size * epoch


class DatasetDictAdapter:
    """Dicts in Detectron2's format with `annotations`: boxes, masks (polygons or run lengths), keypoints, crowds.

    Boxes are `XYXY_ABS` or `XYWH_ABS`. A generated dict's have the mode of its source's. Masks that changed are
    polygons where the source's are, and compressed run lengths where these are.

    Args:
        read_image: From a file's name to (H, W, 3) uint8 RGB.
        bad_boxes: `"error"` or `"drop"`, as of `DetectionAdapter`.
    """

    def __init__(self, read_image: Callable[[str], np.ndarray], *, bad_boxes: str = "error") -> None:
        self._read_image = read_image
        self.bad_boxes = check_choice("bad_boxes", bad_boxes, ("error", "drop"))

    @property
    def fingerprint(self) -> str:
        """Name, version and options."""
        return make_fingerprint("DatasetDictAdapter", _VERSION, bad_boxes=self.bad_boxes)

    def to_sample(self, item: dict[str, Any], /, *, index: int) -> Sample:
        """The sample of one dict.

        Raises:
            ValueError: The annotation is wrong.
        """
        pixels = np.ascontiguousarray(self._read_image(item["file_name"]))
        name = f"dataset_dicts[{index}]['annotations']"
        modes = {int(annotation["bbox_mode"]) for annotation in item["annotations"]}
        if not modes <= {_XYXY_ABS, _XYWH_ABS} or len(modes) > 1:
            reject(f"bbox_mode of {name}", "be BoxMode.XYXY_ABS, or BoxMode.XYWH_ABS, for all", sorted(modes))
        mode = modes.pop() if modes else _XYXY_ABS
        annotations = [_to_coco(annotation, mode) for annotation in item["annotations"]]
        size_hw = (pixels.shape[0], pixels.shape[1])
        target = read_annotations(annotations, size_hw=size_hw, name=name, drop_bad=self.bad_boxes == "drop")
        as_runs = any(isinstance(annotation.get("segmentation"), dict) for annotation in annotations)
        rest = {key: pack(value) for key, value in item.items() if key != "annotations"}
        return Sample(pixels, target, fields={"dict": rest, "form": {"mode": mode, "as_runs": as_runs}})

    def from_sample(self, sample: Sample, /, *, like: dict[str, Any]) -> dict[str, Any]:
        """A dict with the pixels in it, for `MixedDicts` to hand to the mapper."""
        form, origin = sample.fields["form"], sample.origin
        made: dict[str, Any] = {key: unpack(value) for key, value in sample.fields["dict"].items()}
        height, width = sample.size_hw
        if origin is not None:
            place = f"{origin.seed}/{origin.variant}/{origin.attempt}/{origin.fingerprint}"
            made["file_name"] = f"{_PREFIX}{place}/{origin.source}"
            made[_PIXELS] = sample.image
        made |= {"height": height, "width": width, "annotations": self._write_annotations(sample, form)}
        return made

    def read_class_ids(self, item: dict[str, Any], /) -> list[int]:
        """The classes of a dict's objects."""
        return [int(annotation["category_id"]) for annotation in item["annotations"]]

    def _write_annotations(self, sample: Sample, form: Mapping[str, Any]) -> list[dict[str, Any]]:
        target = check_target(sample, Instances)
        written = []
        for row, annotation in enumerate(write_annotations(target, size_hw=sample.size_hw, image_id=0)):
            annotation = {key: value for key, value in annotation.items() if key not in ("id", "image_id", "area")}
            x1, y1, x2, y2 = (float(number) for number in target.boxes[row])
            annotation["bbox"] = [x1, y1, x2, y2] if form["mode"] == _XYXY_ABS else [x1, y1, x2 - x1, y2 - y1]
            annotation["bbox_mode"] = _make_box_mode(form["mode"])
            if isinstance(annotation.get("segmentation"), dict) and target.masks is not None:
                annotation["segmentation"] = _encode_mask(target.masks[row], as_runs=form["as_runs"])
            written.append(annotation)
        return written


class _DictList(Dataset[dict[str, Any]]):
    """The list as a dataset, with what the dicts say without their images."""

    def __init__(self, dicts: Sequence[dict[str, Any]], classes: Sequence[str] | None) -> None:
        self.dicts = dicts
        self.class_to_idx = {str(name): number for number, name in enumerate(classes or ())}

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.dicts[index])

    def read_facts(self, index: int, /) -> ItemFacts:
        item = self.dicts[index]
        size_hw = (int(item["height"]), int(item["width"])) if "height" in item and "width" in item else None
        class_ids = [int(annotation["category_id"]) for annotation in item["annotations"]]
        file = item["file_name"]
        name = f"{os.path.basename(os.path.dirname(file))}/{os.path.basename(file)}"
        return ItemFacts(name, file if os.path.isfile(file) else None, item["annotations"], size_hw, class_ids)


def _check_dicts(dataset_dicts: Any) -> Sequence[dict[str, Any]]:
    if not isinstance(dataset_dicts, list | tuple) or not all(isinstance(each, dict) for each in dataset_dicts):
        remedy = "Pass get_detection_dataset_dicts(cfg.DATASETS.TRAIN)."
        reject("dataset_dicts", "be a list of dicts", dataset_dicts, remedy, error=TypeError)
    for index, each in enumerate(dataset_dicts):
        if "file_name" not in each or "annotations" not in each:
            reject(f"dataset_dicts[{index}]", "have 'file_name' and 'annotations'", list(each))
        if others := [key for key in _OF_OTHERS if key in each]:
            reject(
                f"dataset_dicts[{index}]",
                "have no labels but 'annotations'",
                others,
                "They would be the source's on a generated image: leave them out where the model does without.",
            )
    return dataset_dicts


def _to_coco(annotation: dict[str, Any], mode: int) -> dict[str, Any]:
    coco = {key: value for key, value in annotation.items() if key != "bbox_mode"}
    numbers = [float(number) for number in annotation["bbox"]]
    if mode == _XYXY_ABS:
        numbers = [numbers[0], numbers[1], numbers[2] - numbers[0], numbers[3] - numbers[1]]
    return coco | {"bbox": numbers}


def _encode_mask(mask: np.ndarray, *, as_runs: bool) -> Any:
    if as_runs:
        from pycocotools import mask as coco_mask  # type: ignore[import-untyped, unused-ignore]

        return coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
    try:
        return [trace_outline(mask).reshape(-1).tolist()]
    except NoOutlineError as error:
        raise LabelContractError(
            f"a generated mask must be one polygon, as the masks of its source are, got an {error}. Pass "
            f"filters=[SinglePolygon()], or use run lengths: INPUT.MASK_FORMAT='bitmask'."
        ) from error


def _encode(pixels: np.ndarray) -> bytes:
    """An uncompressed BMP: a fraction of a PNG's time, and it lives for one image only."""
    done, encoded = cv2.imencode(".bmp", pixels[:, :, ::-1])
    if not done:
        raise OSError("OpenCV could not write a BMP")
    return encoded.tobytes()


# ---- detectron2 itself, imported where it is used


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            "mix_dataset_dicts needs detectron2. Install it as its own page says: it is on no package index.",
            name="detectron2",
        ) from error


def _read_rgb(file: str) -> np.ndarray:
    pixels: np.ndarray = _import("detectron2.data.detection_utils").read_image(file, format="RGB")
    return pixels


def _make_box_mode(mode: int) -> Any:
    return _import("detectron2.structures").BoxMode(mode)


def _register_handler() -> None:
    """Let `PathManager` open generated images; again in every process that has not yet."""
    paths = _import("detectron2.utils.file_io")
    if any(manager is paths.PathManager for manager in _MANAGERS):
        return
    handler_class: Any = paths.PathHandler

    class GeneratedImages(handler_class):  # type: ignore[misc]
        """Opens `synthloader://...` from this process's memory."""

        def _get_supported_prefixes(self) -> list[str]:
            return [_PREFIX]

        def _open(self, path: str, mode: str = "r", buffering: int = -1, **options: Any) -> io.BytesIO:
            if path not in _IMAGES:
                raise FileNotFoundError(f"{path} is not, or no more, in the memory of this process")
            return io.BytesIO(_IMAGES[path])

        def _exists(self, path: str, **options: Any) -> bool:
            return path in _IMAGES

        def _isfile(self, path: str, **options: Any) -> bool:
            return path in _IMAGES

    paths.PathManager.register_handler(GeneratedImages(), allow_override=True)
    _MANAGERS.append(paths.PathManager)
