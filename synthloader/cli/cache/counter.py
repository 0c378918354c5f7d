"""The bar of a command that looks at many records: on stderr, where that is a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["count_steps"]

_SHOW_EVERY_S = 0.1
_PATIENCE_S = 0.4  # What is done by then needs no bar.


@contextmanager
def count_steps(label: str, /) -> Iterator[Callable[[int, int], None]]:
    """Give the function that takes the number of steps done and of all; the bar comes where it takes long.

    Args:
        label: What is done: `"verify"`.
    """
    with ExitStack() as stack:
        show: Callable[[int, str], None] | None = None
        shown = time.monotonic() + _PATIENCE_S

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
