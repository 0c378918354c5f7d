"""Which pass over a stream begins now, and which share of it this process reads."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch.utils.data import get_worker_info

from synthloader.checks import check_int

__all__ = ["PassClock", "Share", "find_phase", "find_ranks"]

_MOST_RANKS, _MOST_WORKERS = 64, 65
"""Ranks and workers of one machine; beyond these, two share a place and may begin the same epoch twice."""
_TOLD, _EPOCH, _NUM_HEADS = 0, 1, 2


class Share(NamedTuple):
    """Which of all readers this process is."""

    rank: int
    num_ranks: int
    worker: int
    num_workers: int
    is_loader: bool

    @property
    def slot(self) -> int:
        """A place for each reader; the process that makes the loaders has one beside its workers'."""
        place = self.worker + 1 if self.is_loader else 0
        return _NUM_HEADS + 2 * (self.rank % _MOST_RANKS * _MOST_WORKERS + place % _MOST_WORKERS)

    @classmethod
    def find(cls, ranks: tuple[int, int]) -> Share:
        """The share of this process; `ranks` is (rank, number of ranks)."""
        info = get_worker_info()
        return cls(*ranks, 0, 1, False) if info is None else cls(*ranks, info.id, info.num_workers, True)


class PassClock:
    """Every pass is the next epoch, unless one was set: for each reader by itself, known to all processes.

    Workers of a loader begin their passes themselves, and without persistent workers each pass has new ones: where a
    reader stands is kept in shared memory.

    Example:
        >>> clock, share = PassClock(), Share(0, 1, 0, 1, False)
        >>> first = clock.start(share), clock.start(share)
        >>> clock.set_epoch(7)
        >>> (*first, clock.start(share), clock.start(share))
        (0, 1, 7, 8)
    """

    def __init__(self) -> None:
        self._memory = torch.zeros(_NUM_HEADS + 2 * _MOST_RANKS * _MOST_WORKERS, dtype=torch.int64).share_memory_()
        self._memory[_TOLD] = 1
        self._home = os.getpid()

    @property
    def is_told(self) -> bool:
        """Whether an epoch was ever set."""
        return int(self._memory[_TOLD]) > 1

    @property
    def epoch(self) -> int:
        """The epoch of the last pass that any reader began, or the one that was set since."""
        places = self._memory[_NUM_HEADS:].reshape(-1, 2)
        passes = places[places[:, 0] == self._memory[_TOLD], 1]
        return int(self._memory[_EPOCH]) + (int(passes.max()) if len(passes) else 0)

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next pass of every reader."""
        epoch = check_int("epoch", epoch, minimum=0)
        if os.getpid() != self._home and get_worker_info() is None:
            # A rank that was started with a copy of this object goes its own way.
            self._memory, self._home = self._memory.clone().share_memory_(), os.getpid()
        self._memory[_EPOCH] = epoch
        self._memory[_TOLD] += 1

    def start(self, share: Share) -> int:
        """Begin a pass; gives its epoch."""
        epoch = self.find_next(share)
        self.resume(share, epoch)
        return epoch

    def find_next(self, share: Share) -> int:
        """The epoch of the pass that this reader begins next."""
        at = share.slot
        has_begun = int(self._memory[at]) == int(self._memory[_TOLD])
        return int(self._memory[_EPOCH]) + (int(self._memory[at + 1]) + 1 if has_begun else 0)

    def resume(self, share: Share, epoch: int) -> None:
        """Go on within a pass of this epoch: the next one that this reader begins is the epoch after it."""
        self._memory[share.slot] = self._memory[_TOLD]
        self._memory[share.slot + 1] = epoch - int(self._memory[_EPOCH])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attach to the memory that arrived; a copy by value is this process's own."""
        self.__dict__.update(state)
        if not self._memory.is_shared():
            self._memory, self._home = self._memory.clone().share_memory_(), os.getpid()


def find_ranks() -> tuple[int, int] | None:
    """Rank and number of ranks of this process, as torch knows them; None where it knows of none."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return None


def find_phase(worker: int, num_workers: int, /) -> Fraction:
    """Where in a cycle of the ratio a worker begins, so that all together are as near to the ratio as each is.

    The phases of all workers lie evenly between 0 and 1, those of the first few workers nearly so.

    Source:
        van der Corput 1935 (reversed bits); that evenly spread phases make the sum of the rounded parts the rounded
        sum is Hermite's identity.

    Example:
        >>> [str(find_phase(worker, 4)) for worker in range(4)]
        ['1/8', '5/8', '3/8', '7/8']
    """
    width = max(1, (num_workers - 1).bit_length())
    order = sorted(range(num_workers), key=lambda number: f"{number:0{width}b}"[::-1])
    return Fraction(2 * order.index(worker) + 1, 2 * num_workers)
