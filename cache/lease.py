"""`Lease`: what a cache reads and writes its environment by. Nothing that it shows outlives the `with` block."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lmdb

from synthloader.cache.environment import GATE, Environment, get_environment
from synthloader.cache.layout import refuse

__all__ = ["Lease", "Snapshot"]


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
    """A cache's part in the environment of its folder: from the first use to `release`, and from the next use on again.

    Args:
        folder: Folder of the cache.
        map_size_bytes: Room that the file has at first.
        owner: The cache; when it is forgotten without `release`, its part ends.
    """

    def __init__(self, folder: Path, /, *, map_size_bytes: int, owner: object) -> None:
        self._folder = folder
        self._map_size_bytes = map_size_bytes
        self._environment: Environment | None = None
        weakref.finalize(owner, self._abandon)

    @contextmanager
    def read(self) -> Iterator[Snapshot | None]:
        """A snapshot of what is committed, or None where nothing was ever written."""
        with ExitStack() as stack:
            snapshot = self._begin_read(stack)
            try:
                yield snapshot
            except lmdb.Error as error:
                refuse(f"Reading the cache {self._folder}", error)

    def write(self, records: Sequence[tuple[bytes, bytes, bytes]], /) -> None:
        """Commit records: all of them, or none where an error is raised. Intact ones that are there already stay.

        The process is then the writer until all caches of this folder that wrote are closed.

        Args:
            records: Database, key, value.
        """
        with GATE.alone():
            self._borrow().write(self, records)

    def release(self) -> None:
        """Give it back. The last one closes the environment, the last one that wrote lets other processes write."""
        with GATE.alone():
            self._give_back()

    def _abandon(self) -> None:
        # At any moment, even in the middle of something else: so it waits for no other thread. Nobody reads by it.
        with GATE.locked():
            self._give_back()

    def _give_back(self) -> None:
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.drop(self)

    def _borrow(self) -> Environment:
        """The environment; under the gate, so that nobody closes it meanwhile."""
        if self._environment is None:
            with GATE.locked():
                self._environment = get_environment(self._folder, self, map_size_bytes=self._map_size_bytes)
        return self._environment

    def _begin_read(self, stack: ExitStack) -> Snapshot | None:
        for may_retry in (True, True, False):
            with ExitStack() as attempt:
                attempt.enter_context(GATE.inside())
                environment = self._borrow()
                handle = environment.get_handle()
                if handle is None:
                    return None
                try:
                    transaction = handle.begin(buffers=True)
                except lmdb.Error as error:
                    failure = error
                else:
                    snapshot = Snapshot(transaction, environment.databases)
                    attempt.callback(snapshot.forget)
                    attempt.enter_context(transaction)
                    stack.enter_context(attempt.pop_all())
                    return snapshot
            if not may_retry or not isinstance(failure, lmdb.MapResizedError | lmdb.ReadersFullError):
                refuse(f"Reading the cache {self._folder}", failure)
            with GATE.alone():
                self._borrow().recover()
        return None
