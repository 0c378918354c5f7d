"""One LMDB environment per folder and process, shared by the caches that look at it, never carried over a fork.

Facts about LMDB that shape this file:

* A path may be open once per process, and a forked child counts as the same process while it has the parent's handle;
  the child must not use that handle to write or close it, nor end a transaction, for that would end the parent's. So
  before each fork all environments are closed, which waits for transactions of other threads; parent and child open
  them again when they need them (some 70 microseconds).
* A reader without locks beside a writer reads wrong records. So readers go without only where they cannot write the
  lock file, and then hold a lock that keeps writers of this machine away.
* Pages of a truncated file kill the interpreter when they are read. So the file's length is checked on opening.
* The lock file is mapped too, and LMDB makes it with holes: on a full disk the first reader to touch one would kill the
  interpreter. So a new one is written beforehand.
* Closing the file under a reader kills the interpreter, and daemon threads still read while it ends. So what is open
  then stays open.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import lmdb

from synthloader.cache.changes import Change, apply_change
from synthloader.cache.codecs import DEFAULT_CODEC
from synthloader.cache.folder_lock import FolderLock
from synthloader.cache.gate import Gate
from synthloader.cache.layout import DATABASES, DISK_FULL, check_length, check_meta, claim_folder, refuse
from synthloader.cache.readahead import wants_readahead
from synthloader.errors import CacheError, CacheFullError

__all__ = ["GATE", "MAX_READERS", "Environment", "get_environment", "never_close"]

GATE = Gate()
"""Whoever has a transaction is inside; whoever opens another map, closes, writes or forks is alone."""

MAX_READERS = 1024
"""Places for processes and threads that read at once, set by the first process that opens a folder."""

_SPARE_TRANSACTIONS = 8
"""Read transactions that are kept for the next readers: ended, so that they pin no page, with their place in the table
of readers, so that to begin one is no more than to look up the newest commit."""

_LOCK_FILE_BYTES = 128 + 64 * MAX_READERS
"""Size of LMDB's lock file: a line of the processor's cache for each reader, and two for the rest."""

_environments: dict[str, Environment] = {}
_fork_stack = ExitStack()


def get_environment(folder: Path, user: object, /, *, map_size_bytes: int) -> Environment:
    """The process's one environment of this folder, with one user more. Under the gate."""
    name = os.path.realpath(folder)
    environment = _environments.get(name) or Environment(Path(name))
    environment.users.add(user)
    _environments[name] = environment  # Anew: the last user may have been forgotten on the way here.
    environment.map_size_bytes = max(environment.map_size_bytes, map_size_bytes)
    return environment


def never_close(handle: Any, /) -> None:
    """Keep one of LMDB's objects from being closed, even when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))


class Environment:
    """The LMDB environment of a folder, opened when needed. All of it is used under the gate.

    Args:
        folder: Its folder, with links resolved.

    Attributes:
        users: Who uses it; the last one closes it.
        writers: Who has written; the last one lets other processes write.
        databases: Handles of the databases while it is open.
        codec: How it stores images; None until it was opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.map_size_bytes = 0
        self.users: set[object] = set()
        self.writers: set[object] = set()
        self.databases: dict[bytes, Any] = {}
        self.codec: str | None = None
        self._process = os.getpid()
        self._handle: Any = None
        self._can_write = False
        self._lock: FolderLock | None = None
        self._presence: FolderLock | None = None

    def get_handle(self) -> Any:
        """The open handle, or None where there is nothing to read yet."""
        if self._handle is None or self._process != os.getpid():
            with GATE.locked():
                self._check_process()
                if self._handle is None:
                    self._open(write=False)  # Also where we are the writer: a full disk keeps nobody from reading.
        return self._handle

    def write(self, changes: Sequence[Change], /) -> None:
        """Commit changes: all of them, or none where an error is raised. Alone, and as the writer."""
        while True:
            try:
                with self._handle.begin(write=True) as transaction:
                    for change in changes:
                        apply_change(change, transaction, self.databases)
                return
            except lmdb.MapFullError:
                self._grow(sum(len(change.value or b"") for change in changes))
            except lmdb.MapResizedError:
                self._handle.set_mapsize(0)
            except lmdb.Error as error:
                self.close()  # LMDB may refuse all further work with a handle that failed to write.
                refuse(f"Writing to the cache {self.folder}", error, full_codes=DISK_FULL)

    def compact(self) -> tuple[int, int]:
        """Write the file anew without free pages; its size before and after. Alone, and as the writer.

        Whoever has the old file open would go on with it, and with a table of readers that counts its commits; so
        nobody may.
        """
        data, scratch = self.folder / "data.mdb", self.folder / "compacted"
        before = data.stat().st_size
        what = f"Compacting the cache {self.folder}"
        self.close()
        with FolderLock(self.folder / "readers.lock", exclusive=True, what=what, when_held="has it open"):
            try:
                shutil.rmtree(scratch, ignore_errors=True)  # Of a process that was killed at it.
                scratch.mkdir()
                handle = self._open_handle(write=True)
                try:
                    handle.copy(str(scratch), compact=True)
                finally:
                    handle.close()
                with open(scratch / "data.mdb", "rb") as stream:
                    os.fsync(stream.fileno())
                os.replace(scratch / "data.mdb", data)
                (self.folder / "lock.mdb").unlink(missing_ok=True)  # It counts the commits of the old file.
            except (lmdb.Error, OSError) as error:
                refuse(what, error, full_codes=DISK_FULL)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return before, data.stat().st_size

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
            self.sync()
        if not self.users:
            self.close()
            _environments.pop(str(self.folder), None)
        if not self.users or (self._is_writer and not self.writers):
            self._unlock()

    def close(self) -> None:
        """Close the handle; the next use opens it again. Alone, or with nobody inside."""
        self.sync()
        handle, self._handle, self.databases = self._handle, None, {}
        if handle is not None:
            handle.close()
        presence, self._presence = self._presence, None
        if presence is not None:
            presence.release()

    @property
    def is_gone(self) -> bool:
        """Whether the files that are open here are no longer those of the folder, which was removed meanwhile."""
        return self._presence is not None and not self._presence.is_current

    def leave_open(self) -> None:
        """Keep the handle from being closed when the interpreter ends."""
        self.sync()
        if self._handle is not None:
            never_close(self._handle)

    def leave_to_parent(self) -> None:
        """In a forked child: forget what is the parent's."""
        if self._handle is not None:  # The fork came in the middle of a transaction of its own thread.
            never_close(self._handle)
        for lock in (self._lock, self._presence):
            if lock is not None:
                lock.forget()
        self._handle, self._lock, self._presence, self.databases, self._process = None, None, None, {}, os.getpid()
        self.writers.clear()

    def _check_process(self) -> None:
        """Notice a fork that went past Python's hooks."""
        if self._process != os.getpid():
            self.leave_to_parent()

    @property
    def _is_writer(self) -> bool:
        return self._lock is not None and self._lock.exclusive

    def become_writer(self, user: object, /, *, codec: str | None, mark: str = "") -> None:
        """Make the process the writer until `drop`. Alone.

        Args:
            user: Who writes.
            codec: How images will be stored where the environment is new; None: the default.
            mark: An empty file to make in the folder. It is there before the environment: whoever is killed in between
                leaves a folder that is marked, or has nothing but locks.

        Raises:
            CacheLockedError: Another process is the writer.
        """
        self._check_process()
        self.writers.add(user)
        if not self._is_writer:
            try:
                self.close()
                claim_folder(self.folder)
                self._unlock()
                self._lock = FolderLock(
                    self.folder / "writer.lock",
                    exclusive=True,
                    what=f"Writing to the cache {self.folder}",
                    when_held="holds its lock",
                )
            except BaseException:
                self.writers.discard(user)
                raise
        if mark:
            (self.folder / mark).touch()
        if self._handle is not None and not self._can_write:
            self.close()
        if self._handle is None:
            self._open(write=True, codec=codec or DEFAULT_CODEC)

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def sync(self, *, must_succeed: bool = False) -> None:
        """Bring the last commit to the disk, where a crash of the machine cannot undo it either."""
        if self._handle is not None and self._can_write:
            try:
                self._handle.sync(True)
            except lmdb.Error as error:
                if must_succeed:
                    refuse(f"Writing to the cache {self.folder}", error, full_codes=DISK_FULL)

    def _open(self, *, write: bool, codec: str = DEFAULT_CODEC) -> None:
        """Open the handle, unless there is nothing to read yet."""
        if write:
            self._open_files(write=True, codec=codec)
            return
        for may_retry in (True,) * 9 + (False,):
            found = self._identify()
            if found is None:
                return
            try:
                self._open_files(write=False, codec=codec)
            except (CacheError, OSError):
                if not may_retry or self._identify() == found:
                    raise
            else:
                if not self.is_gone:
                    return
                self.close()  # Its shard was merged meanwhile, and there may be another one of its name.

    def _identify(self) -> tuple[int, int] | None:
        """What tells the file from another one in its place; None where there is nothing to read."""
        try:
            status = os.stat(self.folder / "data.mdb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return (status.st_ino, status.st_ctime_ns) if status.st_size else None  # Empty: its first writer was killed.

    def _open_files(self, *, write: bool, codec: str) -> None:
        what = f"Opening the cache {self.folder}"
        presence = self._be_present(write=write)
        with ExitStack() as stack:
            if presence is not None:
                stack.callback(presence.release)
            try:
                handle = self._open_handle(write=write)
            except lmdb.Error as error:
                refuse(what, error)
            stack.callback(handle.close)
            try:
                check_length(handle, self.folder)
                if handle.flags()["lock"]:
                    handle.reader_check()
                found = check_meta(handle, self.folder, codec=codec if write else None)
                if found is None:
                    return
                databases = {name: handle.open_db(name, create=False) for name in DATABASES}
            except lmdb.Error as error:
                refuse(what, error)
            stack.pop_all()
        self._handle, self.databases, self._can_write = handle, databases, write
        self.codec, self._presence = found, presence

    def _open_handle(self, *, write: bool) -> Any:
        can_lock = write or self._can_lock()
        if can_lock:
            self._make_lock_file()
        return lmdb.open(
            str(self.folder),
            map_size=self.map_size_bytes,
            max_dbs=8,
            max_readers=MAX_READERS,
            max_spare_txns=_SPARE_TRANSACTIONS,
            mode=0o666,
            readonly=not write,
            create=write,
            readahead=wants_readahead(self.folder / "data.mdb"),
            lock=can_lock,
            metasync=False,  # A killed process loses nothing by it, a crashed machine the last commit at most.
        )

    def _be_present(self, *, write: bool) -> FolderLock | None:
        """A lock that all who have the file open share, so that nobody writes it anew under them."""
        file = self.folder / "readers.lock"
        if not write and not file.exists():
            return None  # Of a folder that cannot be written.
        return FolderLock(file, exclusive=False, what=f"Opening the cache {self.folder}", when_held="is compacting it")

    def _can_lock(self) -> bool:
        """Whether LMDB can write its lock file. Where not, our own lock keeps writers away while we read."""
        lock_file = self.folder / "lock.mdb"
        if os.access(lock_file if lock_file.exists() else self.folder, os.W_OK, effective_ids=True):
            return True
        if self._lock is None and (self.folder / "writer.lock").exists():
            self._lock = FolderLock(
                self.folder / "writer.lock",
                exclusive=False,
                what=f"Reading the cache {self.folder}",
                when_held="is writing to it",
            )
        return False

    def _make_lock_file(self) -> None:
        file = self.folder / "lock.mdb"
        if file.exists():
            return
        new = self.folder / f".lock-{os.getpid()}-{threading.get_ident()}"
        try:
            with open(new, "wb") as stream:
                stream.write(bytes(_LOCK_FILE_BYTES))
            with suppress(OSError):  # Another process has made one, or the file system has no links.
                os.link(new, file)
        except OSError as error:
            refuse(f"Opening the cache {self.folder}", error, full_codes=DISK_FULL)
        finally:
            new.unlink(missing_ok=True)

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
        size = 2 * max(int(self._handle.info()["map_size"]), self.map_size_bytes)
        try:
            self._handle.set_mapsize(size)
        except (lmdb.Error, OverflowError) as error:
            self.close()  # It has no map any more; the next use opens one of the former size.
            refuse(f"Enlarging the map of the cache {self.folder}", error)
        self.map_size_bytes = size


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


@atexit.register
def _leave_open_at_exit() -> None:
    for environment in list(_environments.values()):
        environment.leave_open()


os.register_at_fork(before=_close_before_fork, after_in_parent=_fork_stack.close, after_in_child=_go_on_in_child)
