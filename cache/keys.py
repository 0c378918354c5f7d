"""What a key of a cache is, and the key under which a verdict stands beside its entry."""

from __future__ import annotations

from synthloader.checks import check_type, reject
from synthloader.keys import hash_content

__all__ = ["MAX_KEY_BYTES", "check_key", "make_verdict_key"]

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
