"""`ShardList`: the environments that a cache reads: that of its own folder, and those of the shards in it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from synthloader.cache.layout import OWN_FILES, is_shard
from synthloader.cache.lease import Lease

__all__ = ["ShardList"]

_CLOCK_TICK_NS = 20_000_000
"""Longest step of a file system's clock: a folder changed as lately as this may change again without another time."""


class ShardList:
    """The leases of a cache: its own first, then those of its shards by name.

    Args:
        folder: Folder of the cache.
        main: Lease of the environment in the folder itself.
        make_lease: Makes that of a shard.
    """

    def __init__(self, folder: Path, main: Lease, make_lease: Callable[[Path], Lease]) -> None:
        self._folder = folder
        self._make_lease = make_lease
        self._shards: dict[str, Lease] = {}
        self._seen_ns: int | None = None
        self.main = main
        self.leases: tuple[Lease, ...] = (main,)

    def refresh(self) -> bool:
        """Look for shards that came or went since the last look; whether there are others now."""
        try:
            changed_ns = os.stat(self._folder).st_mtime_ns
        except OSError:
            return False
        if changed_ns == self._seen_ns:
            return False
        names, is_settled = [], abs(time.time_ns() - changed_ns) > _CLOCK_TICK_NS
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name not in OWN_FILES and not entry.name.startswith(".") and entry.is_dir():
                    if is_shard(Path(entry.path)):
                        names.append(entry.name)
                    else:
                        is_settled = False  # A shard's folder is there before its files.
        self._seen_ns = changed_ns if is_settled else None
        if set(names) == self._shards.keys():
            return False
        for name in self._shards.keys() - set(names):
            self._shards.pop(name).release()
        for name in set(names) - self._shards.keys():
            self._shards[name] = self._make_lease(self._folder / name)
        self.leases = (self.main, *(self._shards[name] for name in sorted(self._shards)))
        return True

    def release(self) -> None:
        """Give all of them back."""
        for lease in self.leases:
            lease.release()
