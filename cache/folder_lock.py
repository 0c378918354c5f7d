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
    """Holds a lock file of a folder, from construction to `release`.

    The operating system's lock belongs to the open file, and forked children inherit that: a worker that outlives its
    parent would keep it. So `release` gives the lock up for all of them, and a child gives up its own handle at once
    with `forget`, which leaves the parent's lock alone.

    Args:
        file: The lock file; made where it is missing. The process of an exclusive lock is written into it.
        exclusive: For one alone. Any number can share the other kind; where the file cannot be written it must exist.
        what: What is being tried, for errors.
        when_held: What a holder that keeps us out does: `"is writing to it"`.

    Raises:
        CacheLockedError: Another process holds it.
        CacheError: The file cannot be made or locked.
    """

    def __init__(self, file: Path, *, exclusive: bool, what: str, when_held: str) -> None:
        self.exclusive = exclusive
        self._handle = self._open(file, what)
        try:
            fcntl.flock(self._handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._handle, 200, 0).decode(errors="replace")
            os.close(self._handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise CacheLockedError(
                    what,
                    reason=f"{holder or 'another process'} {when_held}",
                    hint="wait until it has ended, or use another folder",
                ) from None
            raise CacheError(
                what, reason=f"{file} cannot be locked: {error.strerror}", hint="use a file system that has locks"
            ) from error
        self._file = file
        if not self.is_current:  # Its folder was taken away meanwhile: this would lock nobody out.
            os.close(self._handle)
            reason = "another process has just merged it"
            raise CacheLockedError(what, reason=reason, hint="try again") from FileNotFoundError(file)
        if exclusive:
            with suppress(OSError):  # On a full disk the lock holds all the same.
                self._note(f"process {os.getpid()} on {socket.gethostname()}")

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one of its name."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self._file))
        except FileNotFoundError:
            return False

    def _open(self, file: Path, what: str) -> int:
        try:
            return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if not self.exclusive:
                with suppress(OSError):
                    return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            raise CacheError(what, reason=f"{file}: {error.strerror}", hint="check the folder's permissions") from error

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

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
