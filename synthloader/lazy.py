"""Arrays that are made when they are first asked for, as attributes of a frozen data class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from synthloader.checks import check_array

__all__ = ["LazyArray", "LazyField"]


class LazyArray:
    """An array that is made when it is first asked for, once: a trainer that reads boxes never pays for masks.

    Args:
        shape: Its shape.
        make: Makes it. A function that can be pickled, or a `functools.partial` of one.
    """

    def __init__(self, shape: tuple[int, ...], make: Callable[[], np.ndarray]) -> None:
        self.shape = shape
        self._make: Callable[[], np.ndarray] | None = make
        self._array: np.ndarray | None = None

    def get(self) -> np.ndarray:
        """The array, bool."""
        make = self._make
        if make is not None:  # Two threads at once make it twice, which does no harm.
            self._array = check_array("masks", make(), dtype=np.bool_, shape=self.shape)
            self._make = None
        return cast(np.ndarray, self._array)


class LazyField:
    """An attribute that is an array or None to whoever reads it, also where a `LazyArray` was given."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> np.ndarray | None:
        value = None if instance is None else instance.__dict__[self._name]
        return value.get() if isinstance(value, LazyArray) else value

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self._name] = value
