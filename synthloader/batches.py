"""Samplers that know the mix: `MixedBatchSampler` keeps the ratio in every batch, `EpochSampler` tells the epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed
from torch.utils.data import BatchSampler, DistributedSampler, Sampler, SequentialSampler

from synthloader.checks import check_count, check_int, reject
from synthloader.epoch_index import EpochIndex
from synthloader.lifting import preserve_random_state
from synthloader.mixed import MixedDataset
from synthloader.permutation import get_permutation
from synthloader.seeds import hash_numbers

__all__ = ["EpochSampler", "MixedBatchSampler"]


_UNDER_SUBSET = "Samplers over a Subset of a mix use EpochSampler(sampler, mix)."
_FROM_LIGHTNING = (
    "Lightning makes the batch sampler anew with a sampler of its own, and cannot where the loader is not made in "
    "train_dataloader(): make it there, or pass num_replicas= and rank=, and Trainer(use_distributed_sampler=False)."
)


class _EpochClock:
    """Which epoch the next pass belongs to: what was set last, on the sampler or on the dataset, else one more."""

    def __init__(self, train: MixedDataset) -> None:
        self.train = train
        self.epoch = train.epoch
        self._told = train.epoch
        self._is_due = True

    def set_epoch(self, epoch: int) -> None:
        self.epoch = check_int("epoch", epoch, minimum=0)
        self._is_due = True
        self._tell()

    def start(self) -> int:
        """Begin a pass and tell the dataset its epoch."""
        if not self._is_due:
            self.epoch = self.train.epoch if self.train.epoch != self._told else self.epoch + 1
        elif self.train.epoch != self._told:
            self.epoch = self.train.epoch
        self._is_due = False
        self._tell()
        return self.epoch

    def resume(self, epoch: int) -> None:
        """Go on within a pass of this epoch."""
        self.epoch, self._is_due = epoch, False
        self._tell()

    def _tell(self) -> None:
        if self.train.epoch != self.epoch:
            self.train.set_epoch(self.epoch)
        self._told = self.epoch


class _EpochEar(SequentialSampler):
    """What stands in `batch_sampler.sampler`: Lightning and Accelerate tell the epoch there, and nowhere else."""

    def __init__(self, train: MixedDataset, clock: _EpochClock) -> None:
        super().__init__(train)
        self._clock = clock

    def set_epoch(self, epoch: int) -> None:
        self._clock.set_epoch(epoch)


class MixedBatchSampler(BatchSampler):
    """Batches that all hold the mix's ratio, to within one item.

    ```
    slots of an epoch    R R G R R G R R G ...     slot t is generated when t * G / N passes a whole number
    batches of 4         [R R G R] [R G R R] ...   any run of slots holds its share, rounded up or down
    two ranks            [rank 0 | rank 1] [rank 0 | rank 1] ...
    ```

    Real and generated items are each shuffled by a keyed permutation, so an epoch of any length starts at once. Indices
    carry their epoch, exact also for workers that run ahead. Every pass is the next epoch, unless one was set.

    Args:
        train: The mix.
        batch_size: Items per batch, of each rank.
        shuffle: Whether the order changes with the epoch.
        drop_last: Leave out what does not fill a batch on every rank.
        num_replicas: Number of ranks to shard for. Leave it out where somebody else shards: Accelerate, Lightning with
            `use_distributed_sampler=True`.
        rank: This process's rank; given together with `num_replicas`. Ranks get equal steps by repeating a few items,
            as `DistributedSampler` does; the report counts these apart.
        seed: Seed of the order.
        sampler: A sampler of which only `num_replicas` and `rank` are taken, where these are not given themselves:
            Lightning passes its `DistributedSampler` here when it makes the loader of a `train_dataloader()` anew.

    Example:
        >>> import torch
        >>> from synthloader import ColorTransfer, GeneratedDataset
        >>> boxes, labels = torch.tensor([[1.0, 1, 5, 5]]), torch.tensor([1])
        >>> real = [(torch.full((3, 8, 8), i, dtype=torch.uint8), {"boxes": boxes, "labels": labels}) for i in range(8)]
        >>> train = MixedDataset(real, GeneratedDataset(real, ColorTransfer()), ratio=0.5)
        >>> [sum(train.is_generated(index) for index in batch) for batch in MixedBatchSampler(train, 3)]
        [1, 1, 1, 1]
    """

    def __init__(
        self,
        train: MixedDataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
        sampler: Any = None,
    ) -> None:
        _check_mix(train)
        batch_size = check_count("batch_size", batch_size)
        self._clock = _EpochClock(train)
        super().__init__(_EpochEar(train, self._clock), batch_size, bool(drop_last))
        if num_replicas is None and rank is None and isinstance(sampler, DistributedSampler):
            num_replicas, rank = sampler.num_replicas, sampler.rank
        if (num_replicas is None) != (rank is None):
            reject("rank", "be given together with num_replicas", rank, "Leave both out for global batches.")
        self.num_replicas = 1 if num_replicas is None else check_count("num_replicas", num_replicas)
        self.rank = 0 if rank is None else check_int("rank", rank, minimum=0)
        if self.rank >= self.num_replicas:
            reject("rank", f"be below num_replicas={self.num_replicas}", rank)
        self.train = train
        self.shuffle = bool(shuffle)
        self.seed = check_int("seed", seed)

    @property
    def epoch(self) -> int:
        """The epoch of the running pass, or of the first."""
        return self._clock.epoch

    def set_epoch(self, epoch: int, /) -> None:
        """The epoch of the next pass."""
        self._clock.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches of one pass, the same on every rank."""
        size, group = self.train._length, self.batch_size * self.num_replicas
        return size // group if self.drop_last else -(-size // group)

    def __iter__(self) -> Iterator[list[int]]:
        """One pass: the next epoch."""
        return _BatchIterator(self, self._clock)

    def make_batch(self, epoch: int, step: int, /) -> list[int]:
        """The indices of batch number `step` of an epoch on this rank."""
        size, replicas = self.train._length, self.num_replicas
        group = self.batch_size * replicas
        padded = -(-size // replicas) * replicas
        start = step * group
        share = min(group, padded - start) // replicas
        start += self.rank * share
        return [self._find_index(epoch, slot) for slot in range(start, start + share)]

    def state_dict(self) -> dict[str, Any]:
        """Seed and epoch of the running pass; the place in it is the iterator's."""
        return {"seed": self.seed, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """The next pass is the saved epoch.

        Raises:
            ValueError: The state has another seed.
        """
        if state.get("seed") != self.seed:
            reject(
                "state['seed']", f"be this sampler's {self.seed}", state.get("seed"), "The order would be another one."
            )
        self._clock.set_epoch(state["epoch"])

    def _find_index(self, epoch: int, slot: int) -> EpochIndex:
        train, size = self.train, self.train._length
        is_padding = slot >= size
        slot %= size
        num_generated = train.count_generated(epoch)
        position = slot * num_generated // size
        if (slot + 1) * num_generated // size > position:
            index = train.find_generated(epoch, self._shuffle(num_generated, epoch, 1, position))
        else:
            index = train.find_real(epoch, self._shuffle(size - num_generated, epoch, 0, slot - position))
        return EpochIndex(index, epoch=epoch, is_padding=is_padding)

    def _shuffle(self, size: int, epoch: int, stream: int, position: int) -> int:
        if not self.shuffle:
            return position
        return get_permutation(size, hash_numbers(self.seed, epoch, stream, 0x5A))(position)


class EpochSampler(Sampler[int]):
    """Any sampler over a mix, with indices that carry the epoch, and the dataset told.

    Every pass is the next epoch, unless one was set, on this sampler or by `train.set_epoch`. In a distributed run, a
    random sampler without a generator of its own gets one, keyed by the mix's seed and the epoch: all ranks must draw
    the same order where Accelerate or Lightning divides it among them.

    Args:
        sampler: Gives indices of `train`: `RandomSampler(train)`, `DistributedSampler(train)`, a list.
        train: The mix.

    Example:
        >>> import torch
        >>> from synthloader import ColorTransfer, GeneratedDataset
        >>> boxes, labels = torch.tensor([[1.0, 1, 5, 5]]), torch.tensor([1])
        >>> real = [(torch.full((3, 8, 8), i, dtype=torch.uint8), {"boxes": boxes, "labels": labels}) for i in range(8)]
        >>> train = MixedDataset(real, GeneratedDataset(real, ColorTransfer()), ratio=0.5)
        >>> sampler = EpochSampler(torch.utils.data.SequentialSampler(train), train)
        >>> [{index.epoch for index in sampler} for _ in range(3)]
        [{0}, {1}, {2}]
    """

    def __init__(self, sampler: Iterable[Any], train: MixedDataset) -> None:
        _check_mix(train)
        if not hasattr(sampler, "__iter__") or not hasattr(sampler, "__len__"):
            reject(
                "sampler",
                "give indices and have a length",
                sampler,
                "EpochSampler(RandomSampler(train), train).",
                error=TypeError,
            )
        self.sampler: Any = sampler
        self.train = train
        self._clock = _EpochClock(train)

    @property
    def epoch(self) -> int:
        """The epoch of the running pass, or of the first."""
        return self._clock.epoch

    def set_epoch(self, epoch: int, /) -> None:
        """The epoch of the next pass, told to the inner sampler too."""
        self._clock.set_epoch(epoch)

    def __len__(self) -> int:
        """Indices of one pass."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        """One pass: the next epoch."""
        return _IndexIterator(self.sampler, self._clock, seed=self.train.seed)

    def state_dict(self) -> dict[str, Any]:
        """Epoch of the running pass, and the inner sampler's state where it has one."""
        inner = self.sampler.state_dict() if hasattr(self.sampler, "state_dict") else None
        return {"epoch": self.epoch, "sampler": inner}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """The next pass is the saved epoch."""
        self._clock.set_epoch(state["epoch"])
        if state.get("sampler") is not None and hasattr(self.sampler, "load_state_dict"):
            self.sampler.load_state_dict(state["sampler"])


class _BatchIterator(Iterator[list[int]]):
    """A pass over the batches that can say and set its place.

    The epoch begins with the first batch: loaders with workers ask for an iterator twice before they use one.
    """

    def __init__(self, sampler: MixedBatchSampler, clock: _EpochClock) -> None:
        self._sampler = sampler
        self._clock = clock
        self._epoch: int | None = None
        self._step = 0

    def __next__(self) -> list[int]:
        if self._epoch is None:
            self._epoch = self._clock.start()
        if self._step >= len(self._sampler):
            raise StopIteration
        self._step += 1
        return self._sampler.make_batch(self._epoch, self._step - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._step = state["epoch"], int(state["step"])
        if self._epoch is not None:
            self._clock.resume(self._epoch)


class _IndexIterator(Iterator[int]):
    """A pass over an inner sampler, each index with its epoch; begins like `_BatchIterator`."""

    def __init__(self, sampler: Any, clock: _EpochClock, *, seed: int) -> None:
        self._sampler = sampler
        self._clock = clock
        self._seed = seed
        self._inner: Any = None
        self._epoch = -1
        self._yielded = 0
        self._random: torch.Tensor | None = None

    def __next__(self) -> int:
        if self._inner is None:
            self._random = self._read_random()
            self._begin(self._clock.start())
        inner: Any = self._inner
        index = next(inner)
        self._yielded += 1
        return EpochIndex(int(index), epoch=self._epoch)

    def state_dict(self) -> dict[str, Any]:
        inner = self._inner.state_dict() if hasattr(self._inner, "state_dict") else None
        return {"epoch": self._epoch, "yielded": self._yielded, "inner": inner, "random": self._random}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if int(state["epoch"]) < 0:
            return  # saved before the first index
        self._clock.resume(int(state["epoch"]))
        self._random = state.get("random")
        own = self._own_generator()
        if self._random is not None and own is not None:
            own.set_state(self._random)
        with preserve_random_state():
            if self._random is not None and own is None:
                torch.set_rng_state(self._random)
            self._begin(int(state["epoch"]))
            inner: Any = self._inner
            if state["inner"] is not None and hasattr(inner, "load_state_dict"):
                inner.load_state_dict(state["inner"])
            else:
                for _ in range(int(state["yielded"])):
                    next(inner)
        self._yielded = int(state["yielded"])

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        if hasattr(self._sampler, "set_epoch"):
            self._sampler.set_epoch(epoch)
        sampler = self._sampler
        if self._own_generator() is None and hasattr(sampler, "generator") and _count_ranks() > 1:
            sampler = copy.copy(sampler)
            sampler.generator = torch.Generator()
            sampler.generator.manual_seed(hash_numbers(self._seed, epoch, 0xE5))
        self._inner = iter(sampler)

    def _own_generator(self) -> torch.Generator | None:
        generator = getattr(self._sampler, "generator", None)
        return generator if isinstance(generator, torch.Generator) else None

    def _read_random(self) -> torch.Tensor | None:
        """The random state from which the inner sampler is about to draw its order, so that a resume finds it again."""
        if not hasattr(self._sampler, "generator"):
            return None
        own = self._own_generator()
        return torch.get_rng_state() if own is None else own.get_state()


def _count_ranks() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def _check_mix(train: object) -> None:
    if not isinstance(train, MixedDataset):
        reject(
            "train",
            "be a MixedDataset",
            train,
            _FROM_LIGHTNING if isinstance(train, Sampler) else _UNDER_SUBSET,
            error=TypeError,
        )
