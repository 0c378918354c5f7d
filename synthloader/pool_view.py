"""`PoolView`: another pool with everything that it knows, to which subclasses add something."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthloader.protocols import Pool
from synthloader.sample import Sample

__all__ = ["PoolView"]


class PoolView:
    """Hands everything through to a pool.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @property
    def identity(self) -> str:
        """That of the pool."""
        return self._pool.identity

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._pool)

    def __getitem__(self, index: int, /) -> Sample:
        """Decode one sample."""
        return self._pool[index]

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
