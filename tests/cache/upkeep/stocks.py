"""Small caches to look after: what is in them, to the byte, and records that are broken or of another version."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xxhash import xxh3_64

from synthloader.cache import LMDBCache
from synthloader.cache.changes import Change
from synthloader.cache.keys import make_verdict_key
from synthloader.cache.layout import DATABASES, ENTRIES, VERDICTS
from synthloader.cache.record import encode_entry, encode_verdict
from synthloader.cache.scan import scan
from synthloader.protocols import Verdict
from tests.cache.samples import make_sample

BOX, SHARP = "MinBox/1(min_side=5)", "Sharpness/1(min=2)"
BOTH = f"{BOX} | {SHARP}"


def dump(cache: LMDBCache) -> dict[str, dict[bytes, bytes]]:
    """Every byte of the cache and its shards, by database."""
    return {
        database.decode(): {key: data for lease in cache.leases for key, data in scan(lease, database, bytes)}
        for database in DATABASES
    }


def put_raw(
    cache: LMDBCache, key: bytes, data: bytes, *, database: bytes = ENTRIES, time_ms: int | None = None
) -> None:
    """Put bytes as they are, also broken ones, in place of what is there."""
    cache.leases[0].write([Change(database, key, data, replace=True, time_ms=time_ms)])


def fill(cache: LMDBCache, numbers: Iterable[int], *, filters: Iterable[str] = (), time_ms: int | None = None) -> None:
    """Put samples of these numbers, and a verdict of each filter on each."""
    for number in numbers:
        sample = make_sample(number)
        put_raw(cache, name(number), encode_entry(sample), time_ms=time_ms)
        for text in filters:
            record = encode_verdict(Verdict(accepted=number % 3 > 0, score=float(number)), text, of=sample)
            put_raw(cache, make_verdict_key(name(number), text), record, database=VERDICTS)


def name(number: int) -> bytes:
    """The key of a sample: 16 bytes, as real ones have."""
    return b"%016d" % number


def damage(record: bytes, at: int = -9) -> bytes:
    """The record with one bit changed."""
    changed = bytearray(record)
    changed[at] ^= 1
    return bytes(changed)


def forge(record: bytes, **head: int) -> bytes:
    """The record with another version or kind, and the checksum of that."""
    changed = bytearray(record)
    for part, value in head.items():
        changed[{"version": 4, "kind": 5, "flags": 6}[part]] = value
    changed[8:16] = struct.pack("<Q", xxh3_64(bytes(changed[:8] + changed[16:])).intdigest())
    return bytes(changed)


def read_files(folder: Path) -> dict[str, Any]:
    """Every file below a folder, to the byte."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
