"""`open_existing`: a cache that somebody filled before, for those who look after it."""

from __future__ import annotations

import os
from pathlib import Path

from synthloader.cache.layout import OWN_FILES, is_shard
from synthloader.cache.lmdb_cache import LMDBCache
from synthloader.errors import CacheError

__all__ = ["open_existing"]


def open_existing(path: str | os.PathLike[str], /, *, readonly: bool = True) -> LMDBCache:
    """The cache that lies in a folder; a folder without one is refused.

    Args:
        path: The folder of a cache, or one that holds folders of caches.
        readonly: Whether writing is refused. Another process may write to what is read.

    Raises:
        CacheError: There is no such folder, no cache in it, or it cannot be written.

    Example:
        >>> import tempfile
        >>> from synthloader.protocols import Rejected
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with LMDBCache(folder) as cache:
        ...         cache.put(b"key", Rejected("no donor"))
        ...     len(open_existing(folder))
        1
    """
    folder = Path(os.path.abspath(path))
    what = f"Opening the cache {folder}"
    if not folder.exists():
        raise CacheError(what, reason="there is no such folder", hint="correct the path")
    if not folder.is_dir():
        raise CacheError(what, reason="it is a file", hint="name the folder of the cache")
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise CacheError(what, reason=str(error.strerror), hint="check the folder's permissions") from error
    if not any(name == "data.mdb" or (name not in OWN_FILES and is_shard(folder / name)) for name in names):
        raise CacheError(
            what, reason="the folder holds no cache", hint="correct the path, or fill it: synthloader precompute"
        )
    return LMDBCache(folder, readonly=readonly)
