"""`ShardList`: the environments that a cache reads: that of its own folder, and those of the shards in it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from synthloader.cache.environment import GATE
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
        self._gone: list[Lease] = []
        self._seen_ns: int | None = None
        self.main = main
        self.leases: tuple[Lease, ...] = (main,)

    def refresh(self) -> None:
        """Look for shards that came or went since the last look."""
        try:
            changed_ns = os.stat(self._folder).st_mtime_ns
        except OSError:
            return
        if changed_ns == self._seen_ns:
            return
        with GATE.locked():
            names, is_settled = self._list_names(changed_ns)
            gone = {name for name, lease in self._shards.items() if name not in names or lease.is_gone}
            self._gone += [self._shards.pop(name) for name in gone]
            new = names - self._shards.keys()
            for name in new:
                self._shards[name] = self._make_lease(self._folder / name)
            if gone or new:
                self.leases = (self.main, *(self._shards[name] for name in sorted(self._shards)))
            released = []
            if not GATE.is_busy:  # What a view shows is not closed under it.
                released, self._gone = self._gone, []
            self._seen_ns = changed_ns if is_settled and not self._gone else None
        for lease in released:
            lease.release()

    def _list_names(self, changed_ns: int) -> tuple[set[str], bool]:
        """The folders of shards, and whether they can be believed until the folder changes again."""
        names, is_settled = set(), abs(time.time_ns() - changed_ns) > _CLOCK_TICK_NS
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name not in OWN_FILES and not entry.name.startswith(".") and entry.is_dir():
                    if is_shard(Path(entry.path)):
                        names.add(entry.name)
                    else:
                        is_settled = False  # A shard's folder is there before its files.
        return names, is_settled

    def release(self) -> None:
        """Give all of them back."""
        for lease in (*self.leases, *self._gone):
            lease.release()
        self._gone = []
