"""Caches of every format version ever released are still read, to the last label."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from synthloader.cache import LMDBCache, open_cache
from synthloader.cache.codecs import LOSSLESS_CODECS
from synthloader.sample import Sample
from tests.cache.samples import assert_same
from tests.golden.caches.content import CODECS, FOLDER, list_entries, list_verdicts

VERSIONS = sorted(folder.name for folder in FOLDER.iterdir() if folder.name.startswith("v"))
MOST_CHANGE = 12
"""What JPEG may change of a pixel of these slopes."""


@pytest.fixture(params=[(version, codec) for version in VERSIONS for codec in CODECS], ids="-".join)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LMDBCache, str]:
    version, codec = request.param
    shutil.copytree(FOLDER / version / codec, tmp_path / "cache")
    return open_cache(tmp_path / "cache"), codec


def test_there_is_one_of_every_version() -> None:
    from synthloader.cache.record import RECORD_VERSION

    assert [f"v{number}" for number in range(1, RECORD_VERSION + 1)] == VERSIONS


def test_every_entry_is_read(golden: tuple[LMDBCache, str]) -> None:
    cache, codec = golden
    entries = dict(list_entries())
    assert list(cache) == sorted(entries)
    for key, expected in entries.items():
        found = cache.get(key)
        if codec not in LOSSLESS_CODECS and isinstance(expected, Sample):
            assert isinstance(found, Sample)
            assert np.abs(found.image.astype(int) - expected.image).max() <= MOST_CHANGE
            found = found.replace(image=expected.image)
        assert_same(found, expected)
    cache.close()


def test_every_verdict_is_read(golden: tuple[LMDBCache, str]) -> None:
    cache, _ = golden
    judged = cache.get(b"instances")
    assert isinstance(judged, Sample)
    for filters, verdict in list_verdicts(judged):
        assert_same(cache.get_verdict(b"instances", filters, of=judged), verdict)
    cache.close()


def test_old_caches_can_be_written_to(golden: tuple[LMDBCache, str]) -> None:
    cache, codec = golden
    new = Sample(np.full((4, 4, 3), 9, np.uint8))
    cache.put(b"new", new)
    assert_same(cache.get(b"new"), new)
    assert cache.encode(new) == LMDBCache(cache.path / "other", codec=codec).encode(new)
    cache.close()


def test_what_is_written_today_is_byte_for_byte_what_was_written_then(
    golden: tuple[LMDBCache, str],
) -> None:
    cache, codec = golden
    if codec != "raw":
        cache.close()
        pytest.skip("the bytes of zstd and JPEG may differ with the build that writes them")
    lease = cache.leases[0]
    for key, entry in list_entries():
        assert lease.look_up(b"entries", key, bytes) == cache.encode(entry)
    cache.close()
