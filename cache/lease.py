"""`Lease`: what a cache reads and writes one environment by. Nothing that it shows outlives the transaction."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from synthloader.cache.changes import Change
from synthloader.cache.environment import GATE, Environment, get_environment, never_close
from synthloader.cache.layout import refuse
from synthloader.errors import CacheError

__all__ = ["Lease", "Snapshot"]

Value = TypeVar("Value")


class Snapshot:
    """A read transaction; what it gives is a view of the file, valid until it ends.

    Args:
        transaction: LMDB's.
        databases: Handles of the databases by name.
    """

    def __init__(self, transaction: Any, databases: dict[bytes, Any]) -> None:
        self.transaction: Any = transaction
        self.databases = databases

    def forget(self) -> None:
        """Let go of the transaction: LMDB's object may not be destroyed while another thread closes the file."""
        self.transaction = None

    def get(self, database: bytes, key: bytes) -> memoryview | None:
        """The bytes of one record, or None."""
        view: memoryview | None = self.transaction.get(key, db=self.databases[database])
        return view

    def count(self, database: bytes) -> int:
        """The number of records."""
        return int(self.transaction.stat(self.databases[database])["entries"])

    def list_keys(self, database: bytes, *, after: bytes, limit: int) -> list[bytes]:
        """Up to `limit` keys that follow `after`, in their order."""
        cursor = self.transaction.cursor(db=self.databases[database])
        if not (cursor.set_range(after) if after else cursor.first()):
            return []
        keys: list[bytes] = []
        for view in cursor.iternext(keys=True, values=False):
            key = bytes(view)
            if key != after:
                keys.append(key)
            if len(keys) == limit:
                break
        return keys


class Lease:
    """A cache's part in the environment of a folder: from the first use to `release`, and from the next use on again.

    Args:
        folder: The environment's folder.
        map_size_bytes: Room that the file has at first.
        owner: The cache; when it is forgotten without `release`, its part ends.
        codec: The only codec that is accepted of the environment; None: whichever it has.
    """

    def __init__(self, folder: Path, /, *, map_size_bytes: int, owner: object, codec: str | None = None) -> None:
        self.folder = folder
        self.codec = codec
        self._map_size_bytes = map_size_bytes
        self._environment: Environment | None = None
        self._checked_handle: Any = None
        weakref.finalize(owner, self._abandon).atexit = False  # Daemon threads may still read then.

    def look_up(self, database: bytes, key: bytes, read: Callable[[memoryview], Value], /) -> Value | None:
        """What `read` makes of a record, of which it may keep nothing; None where there is none.

        The transaction is one of those that the environment keeps for the next reader, so it costs a microsecond: it
        sees all that is committed, and no page of the file is kept from being used again when nobody reads.
        """
        me, counts = threading.get_ident(), GATE.counts
        before = counts.get(me, 0)
        try:
            GATE.enter()
            environment = self._borrow()
            handle = environment.get_handle()
            if handle is None:
                return None
            if handle is not self._checked_handle:
                self._check(environment, handle)
            transaction = handle.begin(buffers=True)
            try:
                view = transaction.get(key, db=environment.databases[database])
                return None if view is None else read(view)
            finally:
                view = None
                transaction.abort()
                transaction = None
        except lmdb.Error:
            pass  # Seldom, and the slow way knows what to do.
        finally:
            counts[me] = before  # First, and without a call: no Ctrl-C comes before it.
            handle = None
            GATE.wake()
        with self.read() as snapshot:
            view = None if snapshot is None else snapshot.get(database, key)
            return None if view is None else read(view)

    @contextmanager
    def read(self) -> Iterator[Snapshot | None]:
        """A snapshot of what is committed, or None where nothing was ever written."""
        with ExitStack() as stack:
            snapshot = self._begin_read(stack)
            try:
                yield snapshot
            except GeneratorExit:  # Asked first: an interpreter that ends may have emptied lmdb when it comes here.
                raise
            except lmdb.Error as error:
                refuse(f"Reading the cache {self.folder}", error)

    def write(self, changes: Sequence[Change], /) -> None:
        """Commit changes: all of them, or none where an error is raised.

        The process is then the writer until all caches of this folder that wrote are closed.
        """
        self._check_no_view("Writing to")
        with GATE.alone():
            environment = self._borrow()
            environment.become_writer(self, codec=self.codec)
            self._check(environment, environment.get_handle())
            environment.write(changes)

    def claim(self, *, mark: str = "") -> None:
        """Become the writer of the folder, before there is anything to write.

        Args:
            mark: An empty file to make in it.

        Raises:
            CacheLockedError: Another process is.
        """
        self._check_no_view("Writing to")
        with GATE.alone():
            self._borrow().become_writer(self, codec=self.codec, mark=mark)

    @property
    def has_other_writers(self) -> bool:
        """Whether other caches of this process have written here and are not closed."""
        with GATE.inside():
            return bool(self._borrow().writers - {self})

    @property
    def is_gone(self) -> bool:
        """Whether the folder was removed while its environment is open here, though there may be another one by now."""
        environment = self._environment
        return environment is not None and environment.is_gone

    def sync(self) -> None:
        """Bring what is committed to the disk, where a crash of the machine cannot undo it either."""
        self._check_no_view("Writing to")
        with GATE.alone():
            self._borrow().sync(must_succeed=True)

    def compact(self) -> tuple[int, int]:
        """Write the file anew without its free pages; its size before and after, in bytes.

        Raises:
            CacheLockedError: Another process has it open.
        """
        self._check_no_view("Compacting")
        with GATE.alone():
            environment = self._borrow()
            environment.become_writer(self, codec=self.codec)
            return environment.compact()

    def find_codec(self) -> str | None:
        """How the environment stores images; None where it was never written."""
        with GATE.inside():
            environment = self._borrow()
            return environment.codec if environment.get_handle() is not None else None

    def release(self) -> None:
        """Give it back. The last one closes the environment, the last one that wrote lets other processes write."""
        self._check_no_view("Closing")
        with GATE.alone():
            if self.is_gone and self._environment is not None:
                self._environment.close()  # For its other users too.
            self._give_back()

    def _check_no_view(self, what: str) -> None:
        if GATE.is_busy:
            raise CacheError(
                f"{what} the cache {self.folder}",
                reason="this thread has a view of a cache open",
                hint="leave the `with cache.view(key)` block first",
            )

    def _check(self, environment: Environment, handle: Any) -> None:
        if self.codec is not None and environment.codec not in (None, self.codec):
            raise CacheError(
                f"Opening the cache {self.folder}",
                reason=f"its images are stored with codec {environment.codec!r}, not {self.codec!r}",
                hint=f"leave codec out or say codec={environment.codec!r}, or use another folder",
            )
        self._checked_handle = handle

    def _abandon(self) -> None:
        # At any moment, even in the middle of something else: so it waits for no other thread. Nobody reads by it.
        with GATE.locked():
            self._give_back()

    def _give_back(self) -> None:
        environment, self._environment, self._checked_handle = self._environment, None, None
        if environment is not None:
            environment.drop(self)

    def _borrow(self) -> Environment:
        """The environment; under the gate, so that nobody closes it meanwhile."""
        environment = self._environment
        if environment is None:
            with GATE.locked():
                environment = get_environment(self.folder, self, map_size_bytes=self._map_size_bytes)
                self._environment = environment
        return environment

    def _begin_read(self, stack: ExitStack) -> Snapshot | None:
        for may_retry in (True, True, False):
            with ExitStack() as attempt:
                attempt.enter_context(GATE.inside())
                environment = self._borrow()
                handle = environment.get_handle()
                if handle is None:
                    return None
                self._check(environment, handle)
                try:
                    transaction = handle.begin(buffers=True)
                except lmdb.Error as error:
                    failure = error
                else:
                    snapshot = Snapshot(transaction, environment.databases)
                    attempt.callback(snapshot.forget)
                    attempt.callback(_end_transaction, transaction, os.getpid())
                    stack.enter_context(attempt.pop_all())
                    return snapshot
            if not may_retry or not isinstance(failure, lmdb.MapResizedError | lmdb.ReadersFullError):
                refuse(f"Reading the cache {self.folder}", failure)
            self._check_no_view("Reading")  # A map cannot be opened anew under a view.
            with GATE.alone():
                self._borrow().recover()
        return None


def _end_transaction(transaction: Any, process: int) -> None:
    if process == os.getpid():
        transaction.abort()
    else:  # The fork came in the middle of it, and it is the parent's.
        never_close(transaction)
