"""Look at every record of a cache, shard by shard, without decoding more than is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from synthloader.cache.changes import read_time
from synthloader.cache.layout import LOG
from synthloader.cache.lease import Lease

__all__ = ["find_time", "list_keys", "scan"]

Value = TypeVar("Value")
_KEYS_AT_ONCE = 1000


def list_keys(lease: Lease, database: bytes, /) -> Iterator[bytes]:
    """The keys of one database, in their order; those put meanwhile may be among them. No transaction stays open."""
    last = b""
    while True:
        with lease.read() as snapshot:
            keys = [] if snapshot is None else snapshot.list_keys(database, after=last, limit=_KEYS_AT_ONCE)
        if not keys:
            return
        yield from keys
        last = keys[-1]


def scan(lease: Lease, database: bytes, read: Callable[[memoryview], Value], /) -> Iterator[tuple[bytes, Value]]:
    """Key and what `read` makes of the bytes, of which it may keep nothing, for every record of one database."""
    for key in list_keys(lease, database):
        value = lease.look_up(database, key, read)
        if value is not None:
            yield key, value


def find_time(lease: Lease, key: bytes, /) -> int | None:
    """When an entry was put, in milliseconds since 1970."""
    return lease.look_up(LOG, key, read_time)
