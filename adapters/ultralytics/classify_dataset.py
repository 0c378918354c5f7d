"""`SynthClassificationDataset`: Ultralytics' dataset of classified images, with generated ones in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from synthloader.adapters.folders.imagefolder import ImageFolderDataset
from synthloader.adapters.ultralytics.mix import MixOptions
from synthloader.checks import reject
from synthloader.epoch_index import EpochIndex
from synthloader.errors import LabelContractError, import_extra
from synthloader.lifting import preserve_random_state
from synthloader.sample import Sample
from synthloader.targets import ClassLabel

__all__ = ["SynthClassificationDataset"]

_ClassificationDataset: Any = import_extra(
    "ultralytics.data.dataset", extra="yolo", user="synthloader.adapters.ultralytics"
).ClassificationDataset


class SynthClassificationDataset(_ClassificationDataset):  # type: ignore[misc]
    """Real images as Ultralytics reads them, and generated ones at the positions that a plan says.

    Positions 0..n-1 are the real images, in Ultralytics' order. What `samples` says of positions behind them is that of
    the source that they start from in epoch 0. Generated images get the same `torch_transforms`.

    Attributes:
        mix: The plan and what was served (`mix.report()`).
    """

    mix: Any = None
    order = None
    samples: list[Any]

    @classmethod
    def adopt(cls, dataset: Any, options: MixOptions, /) -> SynthClassificationDataset:
        """Turn a dataset of real images, just built, into a mixed one: the very same object.

        Raises:
            TypeError: The dataset is of another class.
            LabelContractError: The generator cannot make what this data set needs.
        """
        if type(dataset) is not _ClassificationDataset:
            remedy = "Datasets of other classes make their items in their own way: mix with Ultralytics' own trainers."
            reject(
                "the dataset of the trainer",
                "be a ClassificationDataset",
                type(dataset).__name__,
                remedy,
                error=TypeError,
            )
        dataset.__class__ = cls
        dataset._extend(options)
        made: SynthClassificationDataset = dataset
        return made

    def _extend(self, options: MixOptions) -> None:
        view = _View(self)
        self._real_places = view.places
        self._mix_places = {place: at for at, place in enumerate(view.places)}
        # Class ids of the folders to those of the trainer, which may follow the model's names, or be one for all.
        self._class_ids = {view.targets[at]: int(self.samples[place][1]) for at, place in enumerate(view.places)}
        self.mark, self.weight = options.mark, options.weight
        self.counts_items = True
        mix = options.make_mix(view)
        sources = [view.places[mix.find_place(0, at)] for at in range(len(self.samples), len(mix))]
        self.samples = [*self.samples, *(list(self.samples[place]) for place in sources)]
        first = mix.find_first()
        if first is not None:  # what can never work is said now, and not by a worker at the first step
            with preserve_random_state():
                load = mix.load(first[1], first[0])
                if load.sample is not None:
                    self._find_class(load.sample)
        self.mix = mix

    def __getitem__(self, i: Any) -> dict[str, Any]:
        """The item at a position of the epoch that the index carries, else of the mix's current epoch."""
        if self.mix is None:
            item: dict[str, Any] = super().__getitem__(i)
            return item
        epoch = i.epoch if isinstance(i, EpochIndex) else self.mix.epoch
        at = range(len(self.samples))[int(i)]
        load = self.mix.load(self._mix_places.get(at, at), epoch)
        is_generated = load.sample is not None
        if load.sample is None:
            place = self._real_places[load.place]
            item, class_id = super().__getitem__(place), int(self.samples[place][1])
        else:
            class_id = self._find_class(load.sample)
            item = {"img": self.torch_transforms(Image.fromarray(load.sample.image)), "cls": class_id}
        if self.counts_items:
            self.mix.count_served(i, epoch, load.counts, [class_id], is_generated=is_generated)
        if self.mark is not None:
            item[self.mark] = torch.tensor(float(is_generated))
        if self.weight is not None:
            item["weight"] = torch.tensor(self.weight if is_generated else 1.0)
        return item

    def _find_class(self, sample: Sample) -> int:
        target = sample.target
        if not isinstance(target, ClassLabel):
            raise LabelContractError(
                f"the target of a generated sample must be a ClassLabel for the task 'classify', got "
                f"{type(target).__name__}. Use a generator that keeps ClassLabel."
            )
        if target.class_id not in self._class_ids:
            raise LabelContractError(
                f"the class of a generated sample must be one of the training images' {sorted(self._class_ids)}, got "
                f"{target.class_id}. Ids follow the alphabet of the folders."
            )
        return self._class_ids[target.class_id]


class _View(ImageFolderDataset):
    """The training images as `ImageFolderDataset` has them: the same items, names and stamps as in a recipe."""

    def __init__(self, dataset: Any) -> None:
        self.root = Path(os.path.abspath(dataset.root))
        self.transform = self.target_transform = None
        self.apply_orientation = True
        self.classes = list(dataset.base.classes)
        self.class_to_idx = dict(dataset.base.class_to_idx)
        files = [os.path.abspath(row[0]) for row in dataset.samples]
        ids = [self.class_to_idx[Path(file).relative_to(self.root).parts[0]] for file in files]
        self.places = sorted(range(len(files)), key=lambda place: (ids[place], Path(files[place]).as_posix()))
        self.samples = [(files[place], ids[place]) for place in self.places]
        self.targets = [ids[place] for place in self.places]
        self._sizes = {}
