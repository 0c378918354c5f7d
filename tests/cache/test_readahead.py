"""Files that fit in memory are read ahead, larger ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthloader.cache import LMDBCache, readahead
from synthloader.protocols import Rejected


@pytest.mark.parametrize(("memory_bytes", "expected"), [(1 << 40, True), (10, False)])
def test_it_follows_the_size_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_bytes: int, expected: bool
) -> None:
    with LMDBCache(tmp_path / "cache") as cache:
        cache.put(b"a", Rejected())
    monkeypatch.setattr(readahead, "_count_memory_bytes", lambda: memory_bytes)
    with LMDBCache(tmp_path / "cache") as cache:
        assert b"a" in cache
        lease = cache.leases[0]
        assert lease._borrow().get_handle().flags()["readahead"] is expected


def test_a_file_that_is_not_there_yet_will_fit(tmp_path: Path) -> None:
    assert readahead.wants_readahead(tmp_path / "data.mdb")


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = readahead._count_memory_bytes.__wrapped__()
    for text, expected in (("1000000\n", 1_000_000), ("max\n", None), ("", None)):
        (tmp_path / "memory.max").write_text(text)
        monkeypatch.setattr(readahead, "_LIMIT", tmp_path / "memory.max")
        found = readahead._count_memory_bytes.__wrapped__()
        assert found == (expected if expected is not None else found)
        assert expected is not None or found >= whole
