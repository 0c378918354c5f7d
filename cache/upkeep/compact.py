"""`compact`: writes the files of a cache anew without the pages that nothing uses any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from synthloader.cache.lmdb_cache import LMDBCache
from synthloader.errors import CacheError

__all__ = ["Compacted", "compact"]


class Compacted(NamedTuple):
    """One file: its folder, and its size in bytes before and after."""

    folder: Path
    before: int
    after: int


def compact(cache: LMDBCache, /, *, progress: Callable[[int, int], None] | None = None) -> list[Compacted]:
    """Write the cache's file and those of its shards anew. Each needs room for a second one meanwhile.

    A process that is killed at it leaves the file as it was. What was deleted or replaced makes room for other records
    in any case; only after this it makes room for other files.

    Args:
        cache: The cache, not a read-only one.
        progress: Called with the number of files that are done and of all.

    Raises:
        CacheLockedError: Another process has one of them open; those before it are done.
        CacheFullError: The disk is full.
        CacheError: The cache is read-only.

    Example:
        >>> import tempfile
        >>> from synthloader.protocols import Rejected
        >>> with tempfile.TemporaryDirectory() as folder, LMDBCache(folder) as cache:
        ...     cache.put_many((b"%d" % number, Rejected("x" * 1000)) for number in range(100))
        ...     _ = cache.delete(list(cache))
        ...     ((_, before, after),) = compact(cache)
        ...     print(after < before)
        True
    """
    if cache.readonly:
        raise CacheError(
            f"Compacting the cache {cache.path}",
            reason="it was opened with readonly=True",
            hint="open it without readonly",
        )
    leases = [lease for lease in cache.leases if (lease.folder / "data.mdb").exists()]
    done: list[Compacted] = []
    for lease in leases:
        done.append(Compacted(lease.folder, *lease.compact()))
        if progress is not None:
            progress(len(done), len(leases))
    return done
