"""Files written anew without unused pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.upkeep.compact import compact
from synthloader.errors import CacheError, CacheLockedError
from tests.cache.processes import other_process, receive
from tests.cache.upkeep.stocks import dump, fill, name
from tests.cache.upkeep.test_merge import hold_shard

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def test_the_cache_and_its_shards_are_compacted_and_hold_what_they_held(tmp_path: Path) -> None:
    with LMDBCache(tmp_path) as cache:
        fill(cache, range(100))
        with cache.open_shard("shard-a") as shard:
            fill(shard, range(100, 200))
        cache.delete([name(number) for number in range(200) if number % 10])
        before = dump(cache)
        steps: list[tuple[int, int]] = []
        done = compact(cache, progress=lambda *step: steps.append(step))
        assert [each.folder for each in done] == [tmp_path, tmp_path / "shard-a"]
        assert all(each.after == (each.folder / "data.mdb").stat().st_size < each.before for each in done)
        assert steps == [(1, 2), (2, 2)]
        assert dump(cache) == before
        fill(cache, [7])
        assert len(cache) == 21


def test_a_folder_of_shards_gets_no_file_of_its_own(tmp_path: Path) -> None:
    with LMDBCache(tmp_path / "shard-a") as shard:
        fill(shard, [1])
    with LMDBCache(tmp_path) as cache:
        assert [each.folder.name for each in compact(cache)] == ["shard-a"]
    assert not (tmp_path / "data.mdb").exists()


def test_a_file_that_somebody_has_open_is_refused(tmp_path: Path) -> None:
    with other_process(hold_shard, tmp_path, method="spawn") as (connection, process):
        assert receive(connection) == "holding"
        message = (
            rf"Writing to the cache {re.escape(str(tmp_path))}/shard-b: process {process.pid} on \S+ holds its lock "
            r"\(wait until it has ended, or use another folder\)"
        )
        with LMDBCache(tmp_path) as cache, pytest.raises(CacheLockedError, match=f"^{message}$"):
            compact(cache)
        connection.send("end")


def test_a_readonly_cache_is_refused(tmp_path: Path) -> None:
    message = f"Compacting the cache {tmp_path}: it was opened with readonly=True (open it without readonly)"
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        compact(LMDBCache(tmp_path, readonly=True))
