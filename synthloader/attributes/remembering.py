"""`RememberingPool`: a pool that does not decode the same few pictures again for each configuration of a search."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from synthloader.protocols import Pool
from synthloader.sample import Sample

__all__ = ["RememberingPool"]

MOST_REMEMBERED = 16
"""Samples that are held. Each probe has one rng for all configurations, so all of them draw the same few donors."""


class RememberingPool:
    """A pool with everything that it knows, which holds the samples last read while `remember` says so.

    Nothing is held at other times, nor in other processes.

    Args:
        pool: Gives equal samples whenever it is asked, which nobody modifies.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._samples: OrderedDict[int, Sample] | None = None

    @contextmanager
    def remember(self) -> Iterator[None]:
        """Hold the samples last read until the block ends."""
        self._samples = OrderedDict()
        try:
            yield
        finally:
            self._samples = None

    @property
    def identity(self) -> str:
        """That of the pool."""
        return self._pool.identity

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._pool)

    def __getitem__(self, index: int, /) -> Sample:
        """Decode one sample, or give the one that is held."""
        held = self._samples
        if held is None:
            return self._pool[index]
        sample = held.pop(index, None)
        held[index] = sample = self._pool[index] if sample is None else sample
        if len(held) > MOST_REMEMBERED:
            held.popitem(last=False)
        return sample

    def name(self, index: int, /) -> str:
        """The stable name of a sample."""
        return self._pool.name(index)

    def class_ids(self, index: int, /) -> np.ndarray:
        """Class ids of its objects."""
        return self._pool.class_ids(index)

    def __getattr__(self, name: str) -> Any:
        """What some pools know besides: their classes, their files."""
        if name.startswith("_"):  # Also while a copy is being made, which has no pool yet.
            raise AttributeError(name)
        return getattr(self._pool, name)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without samples."""
        return {"_pool": self._pool, "_samples": None}
