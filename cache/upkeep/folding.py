"""What becomes of a shard whose records have all been taken over: its lock is held, and its folder removed."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from synthloader.cache.layout import OWN_FILES, SHARD_MARK
from synthloader.cache.lease import Lease
from synthloader.cache.upkeep.quarantine import FOLDER, keep_file
from synthloader.errors import CacheLockedError

__all__ = ["claim_shard", "remove_shard"]

_FIRST, _LAST = "data.mdb", "writer.lock"


def claim_shard(lease: Lease, /) -> None:
    """Hold the shard's lock, until the lease is released.

    Raises:
        CacheLockedError: Another process has it, or another cache of this process has written to it and is not closed.
    """
    lease.claim(mark=SHARD_MARK)
    if lease.has_other_writers:
        raise CacheLockedError(
            f"Writing to the cache {lease.folder}",
            reason="this process has it open for writing",
            hint="close() it first",
        )


def remove_shard(folder: Path, into: Path, /) -> None:
    """Remove what is ours in a shard's folder, whose lock we hold; files of others stay, and the folder with them.

    The entries go first and the lock last, so that whoever is stopped in between leaves a shard without entries, and
    nobody writes to one that is about to go.

    Args:
        folder: The shard's.
        into: Folder of the cache, which gets what the shard has in quarantine.
    """
    for file in sorted((folder / FOLDER).glob("*")):
        keep_file(into / FOLDER, file.name, file.read_bytes())
        file.unlink()
    for name in (_FIRST, *sorted(OWN_FILES - {_FIRST, _LAST}), _LAST):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
