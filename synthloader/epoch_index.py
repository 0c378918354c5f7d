"""An index that carries its epoch, so that workers that run ahead know which one they work for."""

from __future__ import annotations

from typing import Any

__all__ = ["EpochIndex"]


class EpochIndex(int):
    """A plain index for everybody, with the epoch it belongs to for `MixedDataset`.

    Example:
        >>> index = EpochIndex(7, epoch=3)
        >>> index + 1, index.epoch
        (8, 3)
    """

    epoch: int
    is_padding: bool

    def __new__(cls, value: int, /, *, epoch: int, is_padding: bool = False) -> EpochIndex:
        """An index of this epoch; `is_padding` for one that a sampler repeats to give all ranks equal steps."""
        index = super().__new__(cls, value)
        index.epoch = epoch
        index.is_padding = is_padding
        return index

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to worker processes with the epoch."""
        return _make_index, (int(self), self.epoch, self.is_padding)


def _make_index(value: int, epoch: int, is_padding: bool) -> EpochIndex:
    return EpochIndex(value, epoch=epoch, is_padding=is_padding)
