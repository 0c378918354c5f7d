"""`RememberingPool`: a pool that does not decode the same few pictures again for each configuration of a search."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from synthloader.pool_view import PoolView
from synthloader.protocols import Pool
from synthloader.sample import Sample

__all__ = ["RememberingPool"]

MOST_REMEMBERED = 16
"""Samples that are held. Each probe has one rng for all configurations, so all of them draw the same few donors."""


class RememberingPool(PoolView):
    """A pool with everything that it knows, which holds the samples last read while `remember` says so.

    Nothing is held at other times, nor in other processes.

    Args:
        pool: Gives equal samples whenever it is asked, which nobody modifies.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._samples: OrderedDict[int, Sample] | None = None

    @contextmanager
    def remember(self) -> Iterator[None]:
        """Hold the samples last read until the block ends."""
        self._samples = OrderedDict()
        try:
            yield
        finally:
            self._samples = None

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

    def __getstate__(self) -> dict[str, Any]:
        """Travel without samples."""
        return {"_pool": self._pool, "_samples": None}
