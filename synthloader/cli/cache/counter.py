"""The bar of a command that looks at many records: on stderr, where that is a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["count_steps"]

_SHOW_EVERY_S = 0.1


@contextmanager
def count_steps(label: str, /) -> Iterator[Callable[[int, int], None]]:
    """Give the function that takes the number of steps done and of all; the bar comes with the first, and goes at last.

    Args:
        label: What is done: `"verify"`.
    """
    with ExitStack() as stack:
        show: Callable[[int, str], None] | None = None
        shown = 0.0

        def follow(done: int, total: int) -> None:
            nonlocal show, shown
            now = time.monotonic()
            if now - shown < _SHOW_EVERY_S:  # To draw it takes longer than to read a record.
                return
            shown = now
            if show is None:
                from synthloader.progress import open_counter  # rich is loaded only where something is shown

                show = stack.enter_context(open_counter(label, total))
            show(done, "")

        yield follow
