"""What a key of a cache is, and the key under which a verdict stands beside its entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthloader.cache.layout import VERDICTS
from synthloader.checks import check_type, reject
from synthloader.keys import hash_content

if TYPE_CHECKING:
    from synthloader.cache.lease import Snapshot

__all__ = ["MAX_KEY_BYTES", "check_key", "list_verdict_keys", "make_verdict_key"]

MAX_KEY_BYTES = 255
"""Longest key (`synthloader.keys.make_key` makes 16 bytes). LMDB takes 511, and a verdict's key has 16 more."""


def check_key(key: bytes, /) -> bytes:
    """Refuse what is no key.

    Raises:
        TypeError: It is not bytes.
        ValueError: It is empty or too long.
    """
    check_type("key", key, bytes)
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        reject("key", f"have 1 to {MAX_KEY_BYTES} bytes", key, "Make keys with synthloader.keys.make_key.")
    return key


def make_verdict_key(key: bytes, filters: str, /) -> bytes:
    """The key of a verdict: the entry's, so that they lie together, and a hash of the filters' fingerprint."""
    check_type("filters", filters, str)
    return check_key(key) + hash_content(filters)


def list_verdict_keys(snapshot: Snapshot, key: bytes, /) -> list[bytes]:
    """The keys of all verdicts on an entry."""
    length = len(make_verdict_key(key, ""))
    found: list[bytes] = []
    last = key  # No verdict has this key: it is shorter than theirs.
    while True:
        keys = snapshot.list_keys(VERDICTS, after=last, limit=100)
        found += [each for each in keys if each.startswith(key) and len(each) == length]
        if not keys or not keys[-1].startswith(key):
            return found
        last = keys[-1]
