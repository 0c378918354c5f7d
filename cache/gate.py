"""`Gate`: many threads inside at once, or one alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Gate"]


class Gate:
    """Lets many threads in at once, or one alone.

    A thread that is inside may go in again. One that wants to be alone comes before those that have yet to go in; it
    must not be inside itself, except to wait for the others.

    Example:
        >>> gate = Gate()
        >>> with gate.inside():
        ...     pass
        >>> with gate.alone():
        ...     gate.is_busy
        True
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._inside: dict[int, int] = {}
        self._waiting: int | None = None

    @property
    def is_busy(self) -> bool:
        """Whether this thread is inside or alone."""
        me = threading.get_ident()
        return me in self._inside or me == self._waiting

    def enter(self) -> None:
        """Go in, after whoever wants to be alone. `leave` must follow, whatever happens."""
        me = threading.get_ident()
        with self._changed:
            while self._waiting not in (None, me) and me not in self._inside:
                self._changed.wait()
            self._inside[me] = self._inside.get(me, 0) + 1

    def leave(self) -> None:
        """Go out."""
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                self._changed.notify_all()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside for the block."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other thread is inside, and keep them out."""
        me = threading.get_ident()
        with self._changed:
            while self._waiting not in (None, me):
                self._changed.wait()
            before, self._waiting = self._waiting, me
            try:
                while any(thread != me for thread in self._inside):
                    self._changed.wait()
                yield
            finally:
                self._waiting = before
                self._changed.notify_all()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads from going in or out for a moment, without waiting for those inside."""
        with self._changed:
            yield

    def reset(self) -> None:
        """Start afresh in a forked child, where no other thread lives."""
        self.__init__()  # type: ignore[misc]
