"""Items as torchvision's detectors train on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

__all__ = ["BatchStream", "Prepare", "collate", "make_loader"]


class Prepare:
    """Images to floats in 0..1, class ids to 1..K, boxes without an area dropped, and only what training needs.

    Args:
        class_ids: The dataset's own ids; the first becomes 1, and 0 stays the background.
    """

    def __init__(self, class_ids: Iterable[int], /) -> None:
        self.numbers = {class_id: number for number, class_id in enumerate(sorted(class_ids), start=1)}

    def __call__(self, image: torch.Tensor, target: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """One item."""
        boxes = target["boxes"]
        good = (boxes[:, 2] - boxes[:, 0] > 1) & (boxes[:, 3] - boxes[:, 1] > 1) & (target["iscrowd"] == 0)
        labels = torch.tensor([self.numbers[int(label)] for label in target["labels"]], dtype=torch.int64)
        return image.float() / 255, {"boxes": boxes[good], "labels": labels[good]}


class BatchStream(Sampler[list[int]]):
    """So many batches at a time of a batch sampler that is passed over again and again.

    Args:
        batches: Gives the batches of one epoch each time that it is passed over.
        num_batches: Length of one pass of the stream.
    """

    def __init__(self, batches: Iterable[list[int]], num_batches: int) -> None:
        self.num_batches = num_batches
        self._endless = _repeat(batches)

    def __len__(self) -> int:
        """Number of batches of a pass."""
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        """The next batches of the stream."""
        return islice(self._endless, self.num_batches)


def collate(batch: list[tuple[Any, Any]]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Images of different sizes stay single."""
    images, targets = zip(*batch, strict=True)
    return images, targets


def make_loader(dataset: Any, batches: Any, *, num_workers: int, seed: int) -> DataLoader[Any]:
    """A loader that draws nothing from the global random state."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def _repeat(batches: Iterable[list[int]]) -> Iterator[list[int]]:
    while True:
        yield from batches
