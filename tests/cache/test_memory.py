"""What is special about entries in memory."""

from __future__ import annotations

import pickle

import pytest

from synthloader.cache import MemoryCache
from synthloader.cache.record import encode_entry
from synthloader.errors import CacheFullError
from synthloader.protocols import Rejected, Verdict
from tests.cache.samples import assert_same, make_sample


def test_it_ends_with_the_process() -> None:
    assert MemoryCache().persistent is False


def test_a_copy_has_the_content_and_then_a_life_of_its_own() -> None:
    cache = MemoryCache()
    cache.put(b"a", make_sample())
    copy = pickle.loads(pickle.dumps(cache))
    copy.put(b"b", Rejected())
    assert_same(copy.get(b"a"), make_sample())
    assert list(cache) == [b"a"]


def test_a_full_one_says_so_and_keeps_what_it_has() -> None:
    size = len(encode_entry(make_sample(), codec="raw"))
    cache = MemoryCache(max_size_bytes=size + 100)
    cache.put(b"a", make_sample())
    cache.put(b"a", make_sample())
    assert cache.size_bytes == size
    message = (
        rf"^Writing to MemoryCache\(max_size_bytes={size + 100}\): {size} bytes are to be added to {size} "
        r"\(raise max_size_bytes, or use LMDBCache\)$"
    )
    with pytest.raises(CacheFullError, match=message):
        cache.put(b"b", make_sample())
    with pytest.raises(CacheFullError, match=r"^Writing to MemoryCache"):
        cache.put_verdict(b"b", "f" * 100, Verdict(True), of=make_sample())
    assert list(cache) == [b"a"]
    assert cache.size_bytes == size
    cache.put(b"b", Rejected())


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^max_size_bytes must be at least 1, got max_size_bytes=0\.$"):
        MemoryCache(max_size_bytes=0)
