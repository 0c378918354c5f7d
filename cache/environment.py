"""One LMDB environment per folder and process, shared by the caches that look at it, never carried over a fork.

Facts about LMDB that shape this file:

* A path may be open once per process, and a forked child counts as the same process while it has the parent's handle;
  the child must not use that handle to write or close it. So before each fork all environments are closed, which
  waits for transactions of other threads; parent and child open them again when they need them (some 70 microseconds).
* A reader without locks beside a writer reads wrong records. So readers go without only where they cannot write the
  lock file, and then hold a lock that keeps writers of this machine away.
* Pages of a truncated file kill the interpreter when they are read. So the file's length is checked on opening.
* What a read transaction shows is valid until it ends. Nothing of it leaves the `with` block.
"""

from __future__ import annotations

import errno
import json
import os
import weakref
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import lmdb

from synthloader.cache.folder_lock import FolderLock
from synthloader.cache.gate import Gate
from synthloader.cache.record import is_intact
from synthloader.errors import CacheCorruptError, CacheError, CacheFullError, CacheVersionError

__all__ = ["ENTRIES", "LAYOUT_VERSION", "OWN_FILES", "VERDICTS", "Lease", "Snapshot", "borrow_environment"]

LAYOUT_VERSION = 1
"""Version of what lies where in the folder and the environment; records have a version of their own."""

ENTRIES, VERDICTS = b"entries", b"verdicts"
"""Names of the two databases. The unnamed one holds `meta` besides them."""

OWN_FILES = frozenset(
    {"data.mdb", "lock.mdb", "writer.lock", "stamps.jsonl", "stamps.new", "pools.json", "pools.new"}
)
"""Files that a cache's folder may hold; with others in it, a folder without `data.mdb` is somebody else's."""

_META = b"meta"
_APPLICATION = "synthloader cache"
_MAX_READERS = 1024
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})  # EIO: LMDB's word for a write cut short.

_GATE = Gate()
_environments: dict[str, Environment] = {}
_never_closed: list[Any] = []
_fork_stack = ExitStack()


class Snapshot(NamedTuple):
    """A read transaction; what it gives is a view of the file, valid until it ends."""

    transaction: Any
    databases: dict[bytes, Any]

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
        keys = []
        for view in cursor.iternext(keys=True, values=False):
            key = bytes(view)
            if key != after:
                keys.append(key)
            if len(keys) == limit:
                break
        return keys


class Lease:
    """The right of one cache to use an environment, and whether it has written.

    Args:
        environment: What is lent.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.writes = False
        self.finalizer: weakref.finalize[..., Any] | None = None

    def release(self) -> None:
        """Give it back. The last one closes the environment, the last one that wrote lets other processes write."""
        if self.finalizer is not None:
            self.finalizer.detach()
        with _GATE.alone():
            self.environment.take_back(self)

    def abandon_with(self, owner: object) -> None:
        """Give it back at the latest when `owner` is forgotten."""
        self.finalizer = weakref.finalize(owner, self.abandon)

    def abandon(self) -> None:
        """Give it back when its cache was forgotten without `close`: at any moment, so it waits for no other thread."""
        with _GATE.locked():
            self.environment.take_back(self)


def borrow_environment(folder: Path, /, *, map_size_bytes: int) -> Lease:
    """A lease of the process's one environment of this folder; nothing is opened yet."""
    with _GATE.locked():
        name = os.path.realpath(folder)
        environment = _environments.get(name) or Environment(Path(name))
        lease = Lease(environment)
        environment.leases.add(lease)
        _environments[name] = environment  # Anew: the last lease may have been abandoned on the way here.
        environment.map_size_bytes = max(environment.map_size_bytes, map_size_bytes)
        return lease


class Environment:
    """The LMDB environment of a folder, opened when needed; use it through `borrow_environment`.

    Args:
        folder: Its folder, with links resolved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.map_size_bytes = 0
        self.leases: set[Lease] = set()
        self._process = os.getpid()
        self._handle: Any = None
        self._databases: dict[bytes, Any] = {}
        self._can_write = False
        self._lock: FolderLock | None = None

    @contextmanager
    def read(self) -> Iterator[Snapshot | None]:
        """A snapshot of what is committed, or None where nothing was ever written."""
        with ExitStack() as stack:
            snapshot = self._begin_read(stack)
            try:
                yield snapshot
            except lmdb.Error as error:
                self._refuse(f"Reading the cache {self.folder}", error)

    def write(self, lease: Lease, records: Sequence[tuple[bytes, bytes, bytes]], /) -> None:
        """Commit records: all of them, or none where an error is raised. Intact ones that are there already stay.

        Args:
            lease: Of the cache that writes; it is the writer until the lease is given back.
            records: Database, key, value.
        """
        with _GATE.alone():
            self._check_process()
            self._become_writer(lease)
            while True:
                try:
                    with self._handle.begin(write=True) as transaction:
                        for database, key, value in records:
                            _put(transaction, self._databases[database], key, value)
                    return
                except lmdb.MapFullError:
                    self._grow(sum(len(value) for _, _, value in records))
                except lmdb.MapResizedError:
                    self._handle.set_mapsize(0)
                except lmdb.Error as error:
                    self.close()  # LMDB may refuse all further work with a handle that failed to write.
                    self._refuse(f"Writing to the cache {self.folder}", error, full_codes=_DISK_FULL)

    def take_back(self, lease: Lease) -> None:
        """End a lease. Under the gate's lock; called twice, it changes nothing."""
        self.leases.discard(lease)
        if self._process != os.getpid():
            return
        if not self.leases:
            self.close()
            _environments.pop(str(self.folder), None)
        if self._lock is not None and not any(other.writes for other in self.leases):
            self._sync()
            if self._lock.exclusive or not self.leases:
                self._lock.release()
                self._lock = None

    def close(self) -> None:
        """Close the handle; the next use opens it again. Alone, or with nobody inside."""
        self._sync()
        if self._handle is not None:
            self._handle.close()
        self._handle = None
        self._databases = {}

    def _sync(self) -> None:
        """Bring the last commit to the disk, where a crash of the machine cannot undo it either."""
        if self._handle is not None and self._can_write:
            with suppress(lmdb.Error):
                self._handle.sync(True)

    def leave_to_parent(self) -> None:
        """In a forked child: forget what is the parent's."""
        if self._handle is not None:  # The fork came in the middle of a transaction of its own thread.
            _never_closed.append(self._handle)
        if self._lock is not None:
            self._lock.forget()
        self._handle, self._lock, self._databases, self._process = None, None, {}, os.getpid()
        for lease in self.leases:
            lease.writes = False

    def _check_process(self) -> None:
        """Notice a fork that went past Python's hooks."""
        if self._process != os.getpid():
            self.leave_to_parent()

    def _begin_read(self, stack: ExitStack) -> Snapshot | None:
        for may_retry in (True, True, False):
            with ExitStack() as attempt:
                attempt.enter_context(_GATE.inside())
                handle = self._get_handle()
                if handle is None:
                    return None
                try:
                    transaction = handle.begin(buffers=True)
                except lmdb.Error as error:
                    failure = error
                else:
                    attempt.enter_context(transaction)
                    stack.push(attempt.pop_all())
                    return Snapshot(transaction, self._databases)
            if not may_retry or not isinstance(failure, lmdb.MapResizedError | lmdb.ReadersFullError):
                self._refuse(f"Reading the cache {self.folder}", failure)
            with _GATE.alone():
                if self._handle is not None:
                    self._handle.set_mapsize(0)  # Another process has grown the map: take its size.
                    self._handle.reader_check()  # Killed readers leave their places taken.
        return None

    def _get_handle(self) -> Any:
        """The open handle, or None where there is nothing to read yet. Inside the gate."""
        if self._handle is None or self._process != os.getpid():
            with _GATE.locked():
                self._check_process()
                if self._handle is None:
                    self._open(write=self._is_writer)
        return self._handle

    @property
    def _is_writer(self) -> bool:
        return self._lock is not None and self._lock.exclusive

    def _become_writer(self, lease: Lease) -> None:
        if not self._is_writer:
            self.close()
            _claim_folder(self.folder)
            if self._lock is not None:
                self._lock.release()
                self._lock = None
            lease.writes = True
            try:
                self._lock = FolderLock(self.folder / "writer.lock", exclusive=True)
            finally:
                lease.writes = self._is_writer
        lease.writes = True
        if self._handle is not None and not self._can_write:
            self.close()
        if self._handle is None:
            self._open(write=True)

    def _open(self, *, write: bool) -> bool:
        """Open the handle; False where there is nothing to read yet."""
        if not write and not (self.folder / "data.mdb").exists():
            return False
        what = f"Opening the cache {self.folder}"
        locks = write or self._can_lock()
        try:
            handle: Any = lmdb.open(
                str(self.folder), map_size=self.map_size_bytes, max_dbs=8, max_readers=_MAX_READERS, mode=0o666,
                readonly=not write, create=write, lock=locks, metasync=False,
            )  # fmt: skip
        except lmdb.Error as error:
            self._refuse(what, error)
        try:
            self._check_length(handle)
            if locks:
                handle.reader_check()
            if not self._check_meta(handle, write=write):
                handle.close()
                return False
            self._databases = {name: handle.open_db(name, create=False) for name in (ENTRIES, VERDICTS)}
        except lmdb.Error as error:
            handle.close()
            self._refuse(what, error)
        except BaseException:
            handle.close()
            raise
        self._handle, self._can_write = handle, write
        return True

    def _can_lock(self) -> bool:
        """Whether LMDB can write its lock file. Where not, our own lock keeps writers away while we read."""
        lock_file = self.folder / "lock.mdb"
        if os.access(lock_file if lock_file.exists() else self.folder, os.W_OK, effective_ids=True):
            return True
        if self._lock is None and (self.folder / "writer.lock").exists():
            self._lock = FolderLock(self.folder / "writer.lock", exclusive=False)
        return False

    def _check_length(self, handle: Any) -> None:
        expected = (handle.info()["last_pgno"] + 1) * handle.stat()["psize"]
        found = os.stat(self.folder / "data.mdb").st_size
        if found < expected:
            self._refuse_corrupt(f"data.mdb has {found} bytes of {expected}: it was cut off")

    def _check_meta(self, handle: Any, *, write: bool) -> bool:
        with handle.begin() as transaction:
            data = transaction.get(_META)
            is_empty = transaction.stat()["entries"] == 0
        if data is not None:
            try:
                meta = json.loads(data)
                application, version = meta["application"], int(meta["version"])
            except (ValueError, TypeError, KeyError):
                self._refuse_corrupt("its entry `meta` is broken")
            if application == _APPLICATION and version <= LAYOUT_VERSION:
                return True
            raise CacheVersionError(
                f"Opening the cache {self.folder}",
                reason=f"it has format {version} of {application}, and this version of synthloader reads formats up to "
                f"{LAYOUT_VERSION}",
                hint="update synthloader: pip install -U synthloader",
            )
        if not is_empty:
            raise CacheError(
                f"Opening the cache {self.folder}",
                reason="it holds an LMDB database that synthloader did not make",
                hint="choose another folder",
            )
        if write:
            with handle.begin(write=True) as transaction:
                for name in (ENTRIES, VERDICTS):
                    handle.open_db(name, txn=transaction)
                transaction.put(_META, json.dumps({"application": _APPLICATION, "version": LAYOUT_VERSION}).encode())
        return write

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
            self._refuse(f"Enlarging the map of the cache {self.folder}", error)

    def _refuse(self, what: str, error: Exception, *, full_codes: Set[int] = frozenset()) -> NoReturn:
        code = getattr(error, "code", 0) or 0
        reason = os.strerror(code) if code > 0 else str(error)
        if isinstance(error, lmdb.DiskError) or code in full_codes:
            hint = "make room and go on: what was put before is kept"
            raise CacheFullError(what, reason=reason, hint=hint) from error
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError | lmdb.PanicError):
            self._refuse_corrupt(reason, error)
        hint = "check the folder and its permissions"
        if "already open in this process" in reason:
            hint = "close() the cache before the process is forked, or start workers with spawn"
        elif isinstance(error, lmdb.ReadersFullError):
            hint = f"no more than {_MAX_READERS} processes can read at once"
        raise CacheError(what, reason=reason, hint=hint) from error

    def _refuse_corrupt(self, reason: str, error: Exception | None = None) -> NoReturn:
        raise CacheCorruptError(
            f"Opening the cache {self.folder}",
            reason=reason,
            hint="restore data.mdb from a copy, or delete it and fill the cache again",
        ) from error


def _put(transaction: Any, database: Any, key: bytes, value: bytes) -> None:
    if not transaction.put(key, value, overwrite=False, db=database):
        present = transaction.get(key, db=database)
        if not is_intact(present):
            transaction.put(key, value, db=database)


def _claim_folder(folder: Path) -> None:
    """Make the folder, or refuse one that holds other things."""
    what = f"Writing to the cache {folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {name for name in os.listdir(folder) if not name.startswith(".")}
    except OSError as error:
        raise CacheError(what, reason=str(error.strerror), hint="choose a folder that can be written") from error
    if "data.mdb" not in names and (others := names - OWN_FILES):
        reason = f"the folder holds {len(others)} other files, among them {min(others)}"
        raise CacheError(what, reason=reason, hint="choose a new or an empty folder")


def _close_before_fork() -> None:
    is_busy = _GATE.is_busy
    _fork_stack.enter_context(_GATE.alone())
    if not is_busy:
        for environment in _environments.values():
            environment.close()


def _go_on_in_child() -> None:
    _fork_stack.close()
    _GATE.reset()
    for environment in _environments.values():
        environment.leave_to_parent()


os.register_at_fork(before=_close_before_fork, after_in_parent=_fork_stack.close, after_in_child=_go_on_in_child)
