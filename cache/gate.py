"""`Gate`: many threads inside at once, or one alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Gate"]

_PATIENCE_S = 1.0
"""How long it takes to notice that another thread has gone out without a word, interrupted by Ctrl-C."""


class Gate:
    """Lets many threads in at once, or one alone.

    A thread that is inside may go in again. One that wants to be alone comes before those that have yet to go in; it
    must not be inside itself, except to wait for the others. Ctrl-C at any moment leaves it as it was.

    Attributes:
        counts: Thread to how often it is inside.

    Example:
        >>> gate = Gate()
        >>> with gate.inside():
        ...     pass
        >>> with gate.alone():
        ...     gate.is_busy
        True
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: int | None = None
        self.counts: dict[int, int] = {}

    @property
    def is_busy(self) -> bool:
        """Whether this thread is inside or alone."""
        me = threading.get_ident()
        return self.counts.get(me, 0) > 0 or me == self._waiting

    def enter(self) -> None:
        """Go in, after whoever wants to be alone.

        Whoever calls it gives back to `counts` what it had for this thread, whatever happens, and calls `wake`: Ctrl-C
        comes between any two calls, but not before a dict is stored to.
        """
        me = threading.get_ident()
        with self._lock:
            while self._waiting not in (None, me) and not self.counts.get(me):
                self._changed.wait()
            self.counts[me] = self.counts.get(me, 0) + 1

    def wake(self) -> None:
        """Tell who waits to be alone that this thread has gone out."""
        if self._waiting is not None:
            with self._lock:
                self._changed.notify_all()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside for the block."""
        me, counts = threading.get_ident(), self.counts
        before, has_entered = counts.get(me, 0), False
        try:
            try:
                self.enter()
            finally:
                has_entered = counts.get(me, 0) > before
            yield
        finally:
            if has_entered:  # Blocks may end in any order, so what stood there before does not count.
                counts[me] -= 1
            self.wake()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other thread is inside, and keep them out."""
        me = threading.get_ident()
        with self._lock:
            while self._waiting not in (None, me):
                self._changed.wait()
            before = self._waiting
            try:
                self._waiting = me
                while any(count > 0 and thread != me for thread, count in list(self.counts.items())):
                    self._changed.wait(_PATIENCE_S)
                for thread in [thread for thread, count in list(self.counts.items()) if not count]:
                    del self.counts[thread]
                yield
            finally:
                self._waiting = before
                self._changed.notify_all()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads from going in or out for a moment, without waiting for those inside."""
        with self._lock:
            yield

    def reset(self) -> None:
        """Start afresh in a forked child, where no other thread lives."""
        self.__init__()  # type: ignore[misc]
