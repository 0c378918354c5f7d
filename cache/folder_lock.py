"""`FolderLock`: one writer at a time in a folder, between processes; it ends with its process."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from synthloader.errors import CacheError, CacheLockedError

__all__ = ["FolderLock"]


class FolderLock:
    """Holds the lock file of a folder, from construction to `release`.

    The operating system's lock belongs to the open file, and forked children inherit that: a worker that outlives its
    parent would keep it. So `release` gives the lock up for all of them, and a child gives up its own handle at once
    with `forget`, which leaves the parent's lock alone.

    Args:
        file: The lock file; made where it is missing. The holder's process is written into it.
        exclusive: Of a writer. The other kind, which readers without LMDB's own locks take, needs an existing file.

    Raises:
        CacheLockedError: Another process holds it.
        CacheError: The file cannot be made or locked.
    """

    def __init__(self, file: Path, *, exclusive: bool) -> None:
        self.exclusive = exclusive
        what = f"{'Writing to' if exclusive else 'Reading'} the cache {file.parent}"
        try:
            flags = os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY
            self._handle = os.open(file, flags | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise CacheError(what, reason=f"{file}: {error.strerror}", hint="check the folder's permissions") from error
        try:
            fcntl.flock(self._handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._handle, 200, 0).decode(errors="replace")
            os.close(self._handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise CacheLockedError(
                    what,
                    reason=f"{holder or 'another process'} {'holds its lock' if exclusive else 'is writing to it'}",
                    hint="wait until it has ended, or use another folder",
                ) from None
            raise CacheError(
                what, reason=f"{file} cannot be locked: {error.strerror}", hint="use a file system that has locks"
            ) from error
        if exclusive:
            with suppress(OSError):  # On a full disk the lock holds all the same.
                self._note(f"process {os.getpid()} on {socket.gethostname()}")

    def release(self) -> None:
        """Give the lock up, also where children hold copies of the handle."""
        if self.exclusive:
            with suppress(OSError):
                self._note("")
        fcntl.flock(self._handle, fcntl.LOCK_UN)
        os.close(self._handle)

    def forget(self) -> None:
        """Close a forked child's copy of the handle; the parent still holds the lock."""
        os.close(self._handle)

    def _note(self, text: str) -> None:
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, text.encode(), 0)
