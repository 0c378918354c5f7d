"""One LMDB environment per folder and process, shared by the caches that look at it, never carried over a fork.

Facts about LMDB that shape this file:

* A path may be open once per process, and a forked child counts as the same process while it has the parent's handle;
  the child must not use that handle to write or close it. So before each fork all environments are closed, which
  waits for transactions of other threads; parent and child open them again when they need them (some 70 microseconds).
* A reader without locks beside a writer reads wrong records. So readers go without only where they cannot write the
  lock file, and then hold a lock that keeps writers of this machine away.
* Pages of a truncated file kill the interpreter when they are read. So the file's length is checked on opening.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import lmdb

from synthloader.cache.folder_lock import FolderLock
from synthloader.cache.gate import Gate
from synthloader.cache.layout import DISK_FULL, ENTRIES, VERDICTS, check_length, check_meta, claim_folder, refuse
from synthloader.cache.record import is_intact
from synthloader.errors import CacheFullError

__all__ = ["GATE", "MAX_READERS", "Environment", "get_environment"]

GATE = Gate()
"""Whoever has a transaction is inside; whoever opens another map, closes, writes or forks is alone."""

MAX_READERS = 1024
"""Places for processes and threads that read at once, set by the first process that opens a folder."""

_environments: dict[str, Environment] = {}
_never_closed: list[Any] = []
_fork_stack = ExitStack()


def get_environment(folder: Path, user: object, /, *, map_size_bytes: int) -> Environment:
    """The process's one environment of this folder, with one user more. Under the gate."""
    name = os.path.realpath(folder)
    environment = _environments.get(name) or Environment(Path(name))
    environment.users.add(user)
    _environments[name] = environment  # Anew: the last user may have been forgotten on the way here.
    environment.map_size_bytes = max(environment.map_size_bytes, map_size_bytes)
    return environment


class Environment:
    """The LMDB environment of a folder, opened when needed. All of it is used under the gate.

    Args:
        folder: Its folder, with links resolved.

    Attributes:
        users: Who uses it; the last one closes it.
        writers: Who has written; the last one lets other processes write.
        databases: Handles of the two databases while it is open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.map_size_bytes = 0
        self.users: set[object] = set()
        self.writers: set[object] = set()
        self.databases: dict[bytes, Any] = {}
        self._process = os.getpid()
        self._handle: Any = None
        self._can_write = False
        self._lock: FolderLock | None = None

    def get_handle(self) -> Any:
        """The open handle, or None where there is nothing to read yet."""
        if self._handle is None or self._process != os.getpid():
            with GATE.locked():
                self._check_process()
                if self._handle is None:
                    self._open(write=self._is_writer)
        return self._handle

    def write(self, user: object, records: Sequence[tuple[bytes, bytes, bytes]], /) -> None:
        """Commit records: all of them, or none where an error is raised. Alone.

        Args:
            user: Who writes; the process is the writer until `drop`.
            records: Database, key, value. Intact records that are there already stay.
        """
        self._check_process()
        self._become_writer(user)
        while True:
            try:
                with self._handle.begin(write=True) as transaction:
                    for database, key, value in records:
                        _put(transaction, self.databases[database], key, value)
                return
            except lmdb.MapFullError:
                self._grow(sum(len(value) for _, _, value in records))
            except lmdb.MapResizedError:
                self._handle.set_mapsize(0)
            except lmdb.Error as error:
                self.close()  # LMDB may refuse all further work with a handle that failed to write.
                refuse(f"Writing to the cache {self.folder}", error, full_codes=DISK_FULL)

    def recover(self) -> None:
        """Take the size of a map that another process has grown, and the places of readers that were killed. Alone."""
        if self._handle is not None:
            self._handle.set_mapsize(0)
            self._handle.reader_check()

    def drop(self, user: object, /) -> None:
        """Have one user less."""
        self.users.discard(user)
        self.writers.discard(user)
        if self._process != os.getpid():
            return
        if not self.writers:
            self._sync()
        if not self.users:
            self.close()
            _environments.pop(str(self.folder), None)
        if not self.users or (self._is_writer and not self.writers):
            self._unlock()

    def close(self) -> None:
        """Close the handle; the next use opens it again. Alone, or with nobody inside."""
        self._sync()
        handle, self._handle, self.databases = self._handle, None, {}
        if handle is not None:
            handle.close()

    def leave_to_parent(self) -> None:
        """In a forked child: forget what is the parent's."""
        if self._handle is not None:  # The fork came in the middle of a transaction of its own thread.
            _never_closed.append(self._handle)
        if self._lock is not None:
            self._lock.forget()
        self._handle, self._lock, self.databases, self._process = None, None, {}, os.getpid()
        self.writers.clear()

    def _check_process(self) -> None:
        """Notice a fork that went past Python's hooks."""
        if self._process != os.getpid():
            self.leave_to_parent()

    @property
    def _is_writer(self) -> bool:
        return self._lock is not None and self._lock.exclusive

    def _become_writer(self, user: object) -> None:
        self.writers.add(user)
        if not self._is_writer:
            try:
                self.close()
                claim_folder(self.folder)
                self._unlock()
                self._lock = FolderLock(self.folder / "writer.lock", exclusive=True)
            except BaseException:
                self.writers.discard(user)
                raise
        if self._handle is not None and not self._can_write:
            self.close()
        if self._handle is None:
            self._open(write=True)

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _sync(self) -> None:
        """Bring the last commit to the disk, where a crash of the machine cannot undo it either."""
        if self._handle is not None and self._can_write:
            with suppress(lmdb.Error):
                self._handle.sync(True)

    def _open(self, *, write: bool) -> None:
        """Open the handle, unless there is nothing to read yet."""
        data = self.folder / "data.mdb"
        if not write and (not data.exists() or data.stat().st_size == 0):  # Empty: its first writer was killed.
            return
        what = f"Opening the cache {self.folder}"
        locks = write or self._can_lock()
        try:
            handle: Any = lmdb.open(
                str(self.folder),
                map_size=self.map_size_bytes,
                max_dbs=8,
                max_readers=MAX_READERS,
                mode=0o666,
                readonly=not write,
                create=write,
                lock=locks,
                metasync=False,  # A killed process loses nothing by it, a crashed machine the last commit at most.
            )
        except lmdb.Error as error:
            refuse(what, error)
        with ExitStack() as stack:
            stack.callback(handle.close)
            try:
                check_length(handle, self.folder)
                if locks:
                    handle.reader_check()
                if not check_meta(handle, self.folder, write=write):
                    return
                databases = {name: handle.open_db(name, create=False) for name in (ENTRIES, VERDICTS)}
            except lmdb.Error as error:
                refuse(what, error)
            stack.pop_all()
        self._handle, self.databases, self._can_write = handle, databases, write

    def _can_lock(self) -> bool:
        """Whether LMDB can write its lock file. Where not, our own lock keeps writers away while we read."""
        lock_file = self.folder / "lock.mdb"
        if os.access(lock_file if lock_file.exists() else self.folder, os.W_OK, effective_ids=True):
            return True
        if self._lock is None and (self.folder / "writer.lock").exists():
            self._lock = FolderLock(self.folder / "writer.lock", exclusive=False)
        return False

    def _grow(self, num_bytes: int) -> None:
        """Double the map, which costs addresses and no memory, unless the disk could not hold what is to be written."""
        disk = os.statvfs(self.folder)
        free = disk.f_bavail * disk.f_frsize
        if num_bytes > free:
            raise CacheFullError(
                f"Writing to the cache {self.folder}",
                reason=f"{num_bytes} bytes are to be written and the disk has {free} left",
                hint="make room and go on: what was put before is kept",
            )
        self.map_size_bytes = 2 * max(int(self._handle.info()["map_size"]), self.map_size_bytes)
        try:
            self._handle.set_mapsize(self.map_size_bytes)
        except (lmdb.Error, OverflowError) as error:
            refuse(f"Enlarging the map of the cache {self.folder}", error)


def _put(transaction: Any, database: Any, key: bytes, value: bytes) -> None:
    if not transaction.put(key, value, overwrite=False, db=database):
        present = transaction.get(key, db=database)
        if not is_intact(present):
            transaction.put(key, value, db=database)


def _close_before_fork() -> None:
    is_busy = GATE.is_busy
    _fork_stack.enter_context(GATE.alone())
    if not is_busy:
        for environment in list(_environments.values()):
            environment.close()


def _go_on_in_child() -> None:
    _fork_stack.close()
    GATE.reset()
    for environment in list(_environments.values()):
        environment.leave_to_parent()


os.register_at_fork(before=_close_before_fork, after_in_parent=_fork_stack.close, after_in_child=_go_on_in_child)
