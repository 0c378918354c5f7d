"""`Change`: what is to become of one record of an environment."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from synthloader.cache.layout import ENTRIES, LOG
from synthloader.cache.record import is_intact

__all__ = ["Change", "apply_change", "read_time"]


class Change(NamedTuple):
    """One record to be put or taken away.

    Attributes:
        database: Name of the database.
        key: Key of the record.
        value: Its bytes; None to take it away.
        replace: Put it also where there is an intact one.
        time_ms: When an entry was made, in milliseconds since 1970; None: now.
    """

    database: bytes
    key: bytes
    value: bytes | None
    replace: bool = False
    time_ms: int | None = None


def apply_change(change: Change, transaction: Any, databases: dict[bytes, Any], /) -> None:
    """Do it in a transaction of LMDB. Beside each entry the time is noted in the log, outside of the record."""
    database, key, value, replace, time_ms = change
    handle = databases[database]
    if value is None:
        transaction.delete(key, db=handle)
        if database == ENTRIES:
            transaction.delete(key, db=databases[LOG])
        return
    if not transaction.put(key, value, overwrite=replace, db=handle):
        if is_intact(transaction.get(key, db=handle)):
            return
        transaction.put(key, value, db=handle)
    if database == ENTRIES:
        now_ms = int(time.time() * 1000) if time_ms is None else time_ms
        transaction.put(key, now_ms.to_bytes(8, "little"), db=databases[LOG])


def read_time(value: memoryview, /) -> int:
    """The milliseconds since 1970 that the log has of an entry."""
    return int.from_bytes(value, "little")
