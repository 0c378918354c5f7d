"""Lightning: a data module that keeps the ratio in every batch of every rank, and a callback that tells the epoch.

`lightning.pytorch` and `pytorch_lightning` are two packages with classes of their own. The one that is imported already
is taken; where neither is, or both are, `lightning.pytorch`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch.distributed
from torch.utils.data import DataLoader, DistributedSampler

from synthloader.adapters.mixes import check_mix, check_real, find_mixes
from synthloader.batches import MixedBatchSampler
from synthloader.checks import check_count, check_int, reject
from synthloader.errors import MissingExtraError, import_extra
from synthloader.mixed import MixedDataset

__all__ = ["EpochCallback", "MixedDataModule"]


def _import_lightning() -> Any:
    other = "pytorch_lightning"
    if other in sys.modules and "lightning.pytorch" not in sys.modules:
        return sys.modules[other]
    try:
        return import_extra("lightning.pytorch", extra="trainers", user="synthloader.adapters.lightning")
    except MissingExtraError:
        try:
            return import_extra(other, extra="trainers", user="synthloader.adapters.lightning")
        except MissingExtraError:
            pass
        raise


_lightning = _import_lightning()
_DataModule: Any = _lightning.LightningDataModule
_Callback: Any = _lightning.Callback


class MixedDataModule(_DataModule):  # type: ignore[misc]
    """A mix and a validation set for `Trainer.fit`.

    Batches are those of `MixedBatchSampler`: every one holds the ratio to within one item, the ranks of a distributed
    run take equal steps and share an epoch without overlap, with `use_distributed_sampler` on or off. The epoch is the
    trainer's, exact with workers of every kind and with `reload_dataloaders_every_n_epochs`. A checkpoint holds the
    place in the epoch: `Trainer.fit(..., ckpt_path=...)` goes on with the batch that follows.

    Args:
        train: The mix.
        batch_size: Items per batch, of each rank.
        val: Real items for validation; None: no validation, unless a subclass has a `val_dataloader`.
        num_workers: Loader processes, for each of the two loaders.
        collate_fn: As of `DataLoader`, for both.
        shuffle: Whether the order of training items changes with the epoch.
        drop_last: Leave out the last training batch where it is not full.
        seed: Seed of the order.
        options: More arguments of `DataLoader`, for both: `pin_memory`, `persistent_workers`, `worker_init_fn`, ...

    Raises:
        TypeError: `train` is not mixed, or `val` is.
        ValueError: An argument is out of range, or belongs to the sampler.

    Example:
        >>> import torch
        >>> from synthloader import ColorTransfer, GeneratedDataset, MixedDataset
        >>> boxes, labels = torch.tensor([[1.0, 1, 5, 5]]), torch.tensor([1])
        >>> real = [(torch.full((3, 8, 8), i, dtype=torch.uint8), {"boxes": boxes, "labels": labels}) for i in range(8)]
        >>> train = MixedDataset(real, GeneratedDataset(real, ColorTransfer()), ratio=0.5)
        >>> data = MixedDataModule(train, 3, collate_fn=list)
        >>> len(data.train_dataloader())
        4
    """

    def __init__(
        self,
        train: MixedDataset,
        batch_size: int,
        *,
        val: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[..., Any] | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.train = check_mix("train", train)
        check_real("val", val)
        self.val = val
        if val is None and type(self).val_dataloader is MixedDataModule.val_dataloader:
            self.__dict__["val_dataloader"] = None  # so that Lightning sees no validation, and says what is missing
        self.batch_size = check_count("batch_size", batch_size)
        self.shuffle, self.drop_last, self.seed = bool(shuffle), bool(drop_last), check_int("seed", seed)
        for name in ("sampler", "batch_sampler"):
            if name in options:
                reject(
                    name,
                    "be left to the data module",
                    options[name],
                    "Make the DataLoader yourself to choose it, and add EpochCallback(train) to the trainer.",
                )
        self.options = {**options, "num_workers": check_int("num_workers", num_workers, minimum=0)}
        if collate_fn is not None:
            self.options["collate_fn"] = collate_fn

    def train_dataloader(self) -> DataLoader[Any]:
        """A new loader over the same mix; calling it twice mixes nothing twice."""
        num_replicas, rank = self._find_rank()
        batches = MixedBatchSampler(
            self.train,
            self.batch_size,
            shuffle=self.shuffle,
            drop_last=self.drop_last,
            num_replicas=num_replicas,
            rank=rank,
            seed=self.seed,
        )
        order = _Order(batches, self._find_epoch)
        return _TrainLoader(
            self.train, batch_size=self.batch_size, sampler=order, drop_last=self.drop_last, **self.options
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation items in their order."""
        return DataLoader(self.val, batch_size=self.batch_size, **self.options)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: seed, plan and epoch of the mix."""
        return self.train.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the mix of a checkpoint.

        Raises:
            ValueError: The checkpoint was made with another plan or seed.
        """
        self.train.load_state_dict(state)

    def _find_rank(self) -> tuple[int, int]:
        trainer: Any = self.trainer
        if trainer is not None:
            return trainer.world_size, trainer.global_rank
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_world_size(), torch.distributed.get_rank()
        return 1, 0

    def _find_epoch(self) -> int | None:
        trainer: Any = self.trainer
        return _find_epoch(trainer) if trainer is not None and trainer.training else None


class EpochCallback(_Callback):  # type: ignore[misc]
    """Tells mixes their epoch, for those who make their own loaders: `Trainer(callbacks=[EpochCallback()])`.

    Works with every loader over a mix: shuffling ones, Lightning's distributed samplers, `Subset`, `ConcatDataset`.

    Args:
        train: The mix. None: every mix under the trainer's training loaders. Give it where a run with loader workers
            is to be resumed: these read ahead before the trainer's loaders can be looked at.

    Raises:
        TypeError: `train` is not a mix.
        ValueError: At the start of training: there is no mix to tell, or it was found too late.

    Example:
        >>> EpochCallback().train is None
        True
    """

    def __init__(self, train: MixedDataset | None = None) -> None:
        self.train = None if train is None else check_mix("train", train)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Mapping[str, Any]) -> None:
        """Tell the epoch of a resumed run before its loader starts."""
        del trainer, pl_module
        if self.train is not None:
            _tell(self.train, _read_epoch(checkpoint["loops"]["fit_loop"]))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Look for the mixes."""
        del pl_module
        epoch = _find_epoch(trainer)
        for mix in self._find_mixes(trainer):
            if self.train is None and mix.epoch != epoch and _reads_ahead(trainer.train_dataloader):
                reject(
                    "EpochCallback's train",
                    f"be given to resume in epoch {epoch} with loader workers",
                    self.train,
                    "They have read items of another epoch already. Pass EpochCallback(train), or use MixedDataModule.",
                )
            _tell(mix, epoch)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Tell the epoch that begins."""
        del pl_module
        for mix in self._find_mixes(trainer):
            _tell(mix, _find_epoch(trainer))

    def _find_mixes(self, trainer: Any) -> list[MixedDataset]:
        mixes = [self.train] if self.train is not None else find_mixes(trainer.train_dataloader)
        if not mixes:
            reject(
                "EpochCallback's train",
                "be given where the training loaders show no MixedDataset",
                self.train,
                "Pass EpochCallback(train), or leave the callback out where nothing is mixed.",
            )
        return mixes


class _Order(DistributedSampler[int]):
    """One rank's indices in the order of `MixedBatchSampler`.

    Lightning leaves a `DistributedSampler` as it is, whatever `use_distributed_sampler` says. A pass begins, and asks
    for its epoch, with its first index: the trainer makes iterators before it knows the epoch of a resumed run.
    """

    def __init__(self, batches: MixedBatchSampler, find_epoch: Callable[[], int | None]) -> None:
        self.batches = batches
        self.num_replicas, self.rank = batches.num_replicas, batches.rank
        self.epoch = batches.epoch
        self.start = 0  # batches of the pass that were trained on before the checkpoint
        self.resumed: Mapping[str, int] | None = None
        self._find_epoch = find_epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer, for some passes after they began; `_find_epoch` knows."""

    def __len__(self) -> int:
        batches = self.batches
        if batches.drop_last:
            return len(batches) * batches.batch_size
        return -(-len(batches.train) // batches.num_replicas)

    def __iter__(self) -> Iterator[int]:
        epoch = self._find_epoch()
        if epoch is not None:
            self.batches.set_epoch(epoch)
        resumed, self.resumed = self.resumed, None
        self.start = resumed["batches"] if resumed is not None and resumed["epoch"] == epoch else 0
        for batch in islice(self.batches, self.start, None):
            self.epoch = self.batches.epoch
            yield from batch


class _TrainLoader(DataLoader[Any]):
    """A loader that knows how many batches it gave, which is what Lightning keeps in a checkpoint."""

    _given = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for count, batch in enumerate(super().__iter__(), 1):
            self._given = count + (0 if self._order is None else self._order.start)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The same on all ranks, which take equal steps."""
        return {"epoch": 0 if self._order is None else self._order.epoch, "batches": self._given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        if self._order is not None:
            self._order.resumed, self._order.epoch, self._given = state, state["epoch"], state["batches"]

    @property
    def _order(self) -> _Order | None:
        """None where Lightning put another sampler in: `overfit_batches` does."""
        return self.sampler if isinstance(self.sampler, _Order) else None


def _find_epoch(trainer: Any) -> int:
    """The running epoch. Right at the start of a resumed run too, where `current_epoch` is still the last one's."""
    return int(trainer.fit_loop.epoch_progress.current.processed)


def _read_epoch(fit_loop: Mapping[str, Any]) -> int:
    """The epoch of the first batch after a checkpoint."""
    progress = fit_loop["epoch_progress"]
    # Saved by the last step or its validation: the epoch is over, and Lightning has not counted it yet.
    is_over = fit_loop["epoch_loop.batch_progress"]["is_last_batch"]
    is_counted = progress["total"]["processed"] == progress["total"]["started"]
    return int(progress["current"]["processed"]) + bool(is_over and not is_counted)


def _tell(mix: MixedDataset, epoch: int) -> None:
    if mix.epoch != epoch:
        mix.set_epoch(epoch)


def _reads_ahead(loaders: Any) -> bool:
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        return any(_reads_ahead(loader) for loader in loaders)
    return bool(getattr(loaders, "num_workers", 0))
