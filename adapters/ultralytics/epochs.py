"""The epoch in Ultralytics' loader, whose workers run ahead over the epoch border: handed over with every index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler

from synthloader.batches import EpochSampler
from synthloader.checks import reject

__all__ = ["EpochHand"]


class EpochHand:
    """Tells the loader of a mixed dataset which epoch its next pass is.

    ```
    trainer       epoch 0 | epoch 1 | epoch 2, mosaic closed: the loader starts anew | ...
    workers       0 0 0 0 1 1 1 1 1 2 2                                              | 2 2 2 2 3 3
    ```

    Ultralytics' loader draws from its sampler without end, so the pass that a worker makes is ahead of the one that is
    trained on. Every index carries the epoch of its own pass. Where the trainer does not go on with the next epoch
    (a run that is resumed, an epoch that is done again after an error), the loader is started anew.

    Args:
        loader: Ultralytics' loader, of a dataset with `mix`.
    """

    def __init__(self, loader: Any) -> None:
        batches: Any = getattr(getattr(loader, "batch_sampler", None), "sampler", None)  # which Ultralytics repeats
        inner = getattr(batches, "sampler", None)
        if inner is None or not hasattr(loader, "reset"):
            remedy = "Let the trainer's get_dataloader return what Ultralytics' own returns."
            reject("the trainer's loader", "be Ultralytics' InfiniteDataLoader", loader, remedy, error=TypeError)
        dataset = loader.dataset
        order = getattr(dataset, "order", None)
        if order is not None and not _shuffles(inner):
            inner = _Ordered(inner, order.tolist())
        self._loader = loader
        self._sampler = EpochSampler(inner, dataset.mix)
        batches.sampler = self._sampler
        self._next = 0
        dataset.counts_items = True
        self.restart(0)

    def begin(self, epoch: int, /) -> None:
        """The trainer begins an epoch."""
        if epoch != self._next:
            self.restart(epoch)
        self._next = epoch + 1

    def restart(self, epoch: int, /) -> None:
        """Drop what workers have made ahead, and let the next pass be this epoch."""
        self.rewind(epoch)
        self._loader.reset()

    def rewind(self, epoch: int, /) -> None:
        """Let the next pass be this epoch; somebody else starts the loader anew."""
        self._sampler.set_epoch(epoch)


class _Ordered(Sampler[int]):
    """A sampler's indices as places in a list of positions."""

    def __init__(self, sampler: Any, order: Sequence[int]) -> None:
        self.sampler = sampler
        self._order = order

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        return (self._order[place] for place in self.sampler)

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


def _shuffles(sampler: Any) -> bool:
    """Whether it gives indices in a random order; Ultralytics does so with `rect` where all rectangles are equal."""
    return bool(getattr(sampler, "shuffle", type(sampler).__name__ == "RandomSampler"))
