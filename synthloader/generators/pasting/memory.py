"""`Memory`: what was found in pictures, for as long as they stay what they were."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Memory"]

Found = TypeVar("Found")


class Memory(Generic[Found]):
    """Results of a search by what was searched, the oldest forgotten when there are too many.

    A pool may give another picture under the same number each time (a dataset that crops at random). So every result
    is kept with a hash of what was looked at, and found anew where that has changed.

    Args:
        size: Most results that are kept.

    Example:
        >>> memory = Memory[int](2)
        >>> [memory.find(7, pixels, lambda: len(pixels)) for pixels in (b"abc", b"abc", b"ab")]
        [3, 3, 2]
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[Hashable, tuple[int, Found]] = {}

    def find(self, place: Hashable, looked_at: bytes, make: Callable[[], Found], /) -> Found:
        """The result for this place, made where it is not known.

        Args:
            place: What is searched.
            looked_at: What the result depends on; only its hash is kept.
            make: Makes the result.
        """
        seen = hash(looked_at)
        known = self._known.get(place)
        if known is not None and known[0] == seen:
            return known[1]
        found = make()
        if len(self._known) >= self._size:
            self._known.pop(next(iter(self._known)))
        self._known[place] = seen, found
        return found
