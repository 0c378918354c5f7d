"""`EmptyAlarm`: says aloud that a set makes nothing at all, which the report alone would tell."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable

__all__ = ["EmptyAlarm"]

ENOUGH = 32
"""Positions in a row, from the first on, of which nothing could be made."""


class EmptyAlarm:
    """Watches the sets of a mix, each until it has made something, and warns once where none of `ENOUGH` could be made.

    A generator without donors, or filters that let nothing through, would otherwise look like a run on real items. Each
    process watches for itself.
    """

    def __init__(self) -> None:
        self._failed: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}
        self._done: set[str] = set()

    def note_made(self, name: str, /) -> None:
        """The set made something."""
        self._done.add(name)

    def note_failed(self, name: str, reasons: Iterable[str], /) -> None:
        """Nothing could be made at a position, for these reasons."""
        if name in self._done:
            return
        self._failed[name] += 1
        self._reasons.setdefault(name, Counter()).update(set(reasons))
        if self._failed[name] < ENOUGH:
            return
        self._done.add(name)
        told = ", ".join(f"{reason} ({times} times)" for reason, times in self._reasons[name].most_common(3))
        warnings.warn(
            f"Nothing could be generated at the first {ENOUGH} positions of the set {name!r}: {told}. Real items were "
            f"served in their place. Look at what the generator and the filters ask for, in `synthloader preview` or "
            f"with on_shortfall='error', before training goes on.",
            UserWarning,
            stacklevel=2,
        )
