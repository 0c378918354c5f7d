"""`Store`: what a generated dataset keeps in its cache, and where each process may write it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch.distributed
from torch.utils.data import get_worker_info

from synthloader.errors import CacheError, CacheLockedError
from synthloader.protocols import Cache, CacheEntry, Verdict
from synthloader.sample import Sample

__all__ = ["Puts", "Store"]

_MOST_SECONDS = 1.0
_LOGGER = logging.getLogger("synthloader.store")


@dataclass
class Puts:
    """What a cache should keep, in the form that `Store` made for it: records where it can encode in any process.

    Attributes:
        entries: (key, record or entry).
        verdicts: (key, fingerprint of the filters, record or (verdict, what was judged)).
    """

    entries: list[tuple[bytes, Any]] = field(default_factory=list)
    verdicts: list[tuple[bytes, str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of entries and verdicts."""
        return len(self.entries) + len(self.verdicts)

    def add(self, other: Puts, /) -> None:
        """Take over what another holds."""
        self.entries += other.entries
        self.verdicts += other.verdicts

    def clear(self) -> None:
        """Forget everything."""
        self.entries, self.verdicts = [], []


class Store:
    """Keeps entries and verdicts in a cache.

    A persistent cache is written by the main process of a run of one process. Loader workers and ranks never take its
    lock: each opens a shard of its own when it first has something to keep, and the cache reads shards with the rest.
    Training goes on where nothing can be written; that is said once.

    Args:
        cache: The cache.
        before_first: Called once, before the first thing is kept.
    """

    def __init__(self, cache: Cache, *, before_first: Callable[[], None] | None = None) -> None:
        self.cache = cache
        self._before_first = before_first
        self._can_encode = all(hasattr(cache, name) for name in ("encode", "encode_verdict", "decode", "put_encoded"))
        self._waiting: Puts | None = None
        self._waiting_since = 0.0
        self._shard: Any = None
        self._shard_process = 0
        self._has_warned = False
        self._is_crowded = False

    def add_entry(self, puts: Puts, key: bytes, entry: CacheEntry, /) -> CacheEntry:
        """Add an entry to what is to be kept; what the cache will give back for it, so that a miss is as a hit."""
        if not self._can_encode:
            puts.entries.append((key, entry))
            return self.cache.recode(entry)
        record = self.cache.encode(entry)  # type: ignore[attr-defined]
        puts.entries.append((key, record))
        given_back: CacheEntry = self.cache.decode(record)  # type: ignore[attr-defined]
        return given_back

    def add_verdict(self, puts: Puts, key: bytes, filters: str, verdict: Verdict, /, *, of: Sample) -> None:
        """Add a verdict to what is to be kept."""
        kept = self.cache.encode_verdict(verdict, filters, of=of) if self._can_encode else (verdict, of)  # type: ignore[attr-defined]
        puts.verdicts.append((key, filters, kept))

    def read_entries(self, puts: Puts, /) -> dict[bytes, CacheEntry]:
        """The entries that are to be kept, by key, as the cache will give them back."""
        return {key: self.cache.decode(kept) if self._can_encode else kept for key, kept in puts.entries}  # type: ignore[attr-defined]

    def keep(self, puts: Puts, /) -> None:
        """Keep it now, or at the end of the `batch`. Nothing is raised where that cannot be."""
        if not puts or getattr(self.cache, "readonly", False):
            return
        if self._waiting is not None:
            self._waiting.add(puts)
            if time.monotonic() - self._waiting_since < _MOST_SECONDS:
                return
            puts, self._waiting, self._waiting_since = self._waiting, Puts(), time.monotonic()
        try:
            if self._before_first is not None:
                self._before_first()
                self._before_first = None
            self._write_somewhere(puts)
        except (CacheError, OSError) as error:
            if not self._has_warned:
                _LOGGER.warning("not kept in the cache: %s", error)
                self._has_warned = True

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Keep what comes in the block in one commit at its end, or one every second where it lasts longer."""
        if self._waiting is not None:
            yield
            return
        self._waiting, self._waiting_since = Puts(), time.monotonic()
        try:
            yield
        finally:
            waiting, self._waiting = self._waiting, None
            self.keep(waiting)

    def write(self, puts: Puts, cache: Any = None, /) -> None:
        """Write to the cache, or to a shard of it, in one commit where it can.

        Raises:
            CacheError: It cannot be written.
        """
        cache = self.cache if cache is None else cache
        if self._can_encode:
            cache.put_encoded(puts.entries, puts.verdicts)
            return
        for key, entry in puts.entries:
            cache.put(key, entry)
        for key, filters, (verdict, of) in puts.verdicts:
            cache.put_verdict(key, filters, verdict, of=of)

    def _write_somewhere(self, puts: Puts) -> None:
        try:
            self.write(puts, self._find_writable())
        except CacheLockedError:
            if self._shard is not None or not hasattr(self.cache, "open_shard"):
                raise
            self._is_crowded = True  # Another process fills the cache: this one takes a shard.
            self.write(puts, self._find_writable())

    def _find_writable(self) -> Any:
        open_shard = getattr(self.cache, "open_shard", None)
        is_alone = _is_only_process() and not self._is_crowded
        if not self.cache.persistent or is_alone or open_shard is None:
            return self.cache
        if self._shard is None or self._shard_process != os.getpid():  # A fork's shard is its parent's.
            self._shard = open_shard()
            self._shard_process = os.getpid()
        return self._shard

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the shard, which is this process's."""
        return {**self.__dict__, "_shard": None, "_waiting": None}


def _is_only_process() -> bool:
    if get_worker_info() is not None:
        return False
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not distributed or torch.distributed.get_world_size() == 1
