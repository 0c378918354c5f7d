"""Which pools a cache was filled from: noted beside its entries, so that another pool is said before any work."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from synthloader.cache.layout import ENTRIES
from synthloader.cache.record_head import read_entry_head
from synthloader.cache.scan import scan
from synthloader.errors import CacheError
from synthloader.protocols import Cache, Pool

__all__ = ["count_stale", "note_pool"]

_LOGGER = logging.getLogger("synthloader.pool_notes")


def count_stale(cache: Cache, pool: Pool, /, *, fingerprints: Collection[str]) -> int:
    """How many entries of a generator were drawn from other pools and are not found with this one; 0 for a known pool.

    It is logged, once. Every entry is looked at for it, some 30 microseconds each.

    Args:
        cache: Of a folder; others have no notes.
        pool: What the generator draws from now.
        fingerprints: Of the generator.
    """
    known = _read(cache)
    if pool.identity in known or not any(note["generator"] in fingerprints for note in known.values()):
        return 0
    leases = getattr(cache, "leases", None)
    if leases is not None:
        makers = (maker for lease in leases for _, maker in scan(lease, ENTRIES, _read_maker))
        stale = sum(maker in fingerprints for maker in makers)
    else:
        stale = len(cache)
    if stale:
        _LOGGER.warning(
            "%d entries of the cache were made with donors from another pool (another recipe's, or this one's before "
            "it changed): they stay for that pool, and are not used with this one",
            stale,
        )
    return stale


def note_pool(cache: Cache, pool: Pool, /, *, fingerprint: str) -> None:
    """Keep the names of a pool beside the cache that is filled from it."""
    folder = getattr(cache, "path", None)
    known = _read(cache)
    if folder is None or pool.identity in known:
        return
    known[pool.identity] = {"generator": fingerprint, "names": [pool.name(index) for index in range(len(pool))]}
    file = Path(folder) / "pools.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_name(f".pools.{os.getpid()}")  # Several processes may write at once.
    written.write_text(json.dumps(known, indent=1), encoding="utf-8")
    written.replace(file)


def _read(cache: Cache) -> dict[str, Any]:
    folder = getattr(cache, "path", None)
    file = None if folder is None else Path(folder) / "pools.json"
    if file is None or not file.exists():
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # Notes only save a surprise.
    return known if isinstance(known, dict) else {}


def _read_maker(record: memoryview) -> str:
    try:
        origin = read_entry_head(record).origin
    except CacheError:
        return ""
    return "" if origin is None else origin.fingerprint
