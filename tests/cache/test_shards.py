"""Shards: writers of their own, read with the rest, merged while others read."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.codecs import CODECS
from synthloader.cache.environment import _environments
from synthloader.cache.upkeep.merge import merge
from synthloader.cache.upkeep.prune import plan_prune
from synthloader.cache.upkeep.verify import verify
from synthloader.errors import CacheError, CacheLockedError
from synthloader.protocols import Verdict
from tests.cache.processes import other_process, receive, run_elsewhere
from tests.cache.samples import assert_same, make_sample
from tests.cache.standby import Run, list_records, merge_shards, put, put_into_shard, standby

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def run() -> Iterator[Run]:
    with standby() as made:
        yield made


def hold_shard(connection: Connection, path: Path, name: str | None = None) -> None:
    """Open a shard when told, say its name, put what is asked for, and keep it."""
    connection.recv()
    with LMDBCache(path) as cache, cache.open_shard(name) as shard:
        connection.send(shard.path.name)
        while (number := connection.recv()) is not None:
            shard.put(b"%d" % number, make_sample(number))
            connection.send(number)


def has(cache: LMDBCache, *numbers: int) -> bool:
    for number in numbers:
        assert_same(cache.get(b"%d" % number), make_sample(number))
    return True


# ------------------------------------------------------------------------------------------------ who gets which


def test_processes_that_open_shards_at_once_get_different_ones(folder: Path) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(other_process(hold_shard, folder)) for _ in range(6)]
        for connection, _ in others:
            connection.send("go")
        names = [receive(connection) for connection, _ in others]
        host = re.sub(r"[^\w-]", "-", os.uname().nodename)
        assert sorted(names) == [f"shard-{host}-{number:03}" for number in range(6)]
        for number, (connection, _) in enumerate(others):
            connection.send(number)
        for connection, _ in others:
            receive(connection)
        with LMDBCache(folder) as cache:
            assert has(cache, *range(6))
            assert list(cache) == [b"%d" % number for number in range(6)]
        for connection, _ in others:
            connection.send(None)


def test_a_cache_opens_while_another_process_makes_a_folder_for_its_first_shard(folder: Path) -> None:
    (folder / "shard-other-000").mkdir(parents=True)
    with LMDBCache(folder) as cache:
        cache.put(b"1", make_sample(1))
        assert has(cache, 1)


def test_the_place_of_a_killed_writer_is_taken_by_the_next(folder: Path) -> None:
    names = []
    for number in range(3):
        with other_process(hold_shard, folder) as (connection, process):
            connection.send("go")
            names.append(receive(connection))
            connection.send(number)
            receive(connection)
            process.kill()
    assert len(set(names)) == 1
    with LMDBCache(folder) as cache:
        assert has(cache, 0, 1, 2)


def test_a_shard_that_another_process_writes_to_is_locked(folder: Path) -> None:
    with other_process(hold_shard, folder, "mine") as (connection, process):
        connection.send("go")
        assert receive(connection) == "mine"
        message = (
            f"Writing to the cache {folder / 'mine'}: process {process.pid} on {os.uname().nodename} holds its lock "
            "(wait until it has ended, or use another folder)"
        )
        with LMDBCache(folder) as cache, pytest.raises(CacheLockedError, match=f"^{re.escape(message)}$"):
            cache.open_shard("mine")
        connection.send(None)
    with LMDBCache(folder) as cache:
        cache.open_shard("mine").close()


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b"])
def test_a_name_that_is_none_is_refused(folder: Path, name: str) -> None:
    message = f"name must be letters, digits, dots, dashes and underscores, got name={name!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LMDBCache(folder).open_shard(name)


def test_a_readonly_cache_has_no_shard_of_its_own(folder: Path) -> None:
    put(folder, 1)
    put_into_shard(folder, "s", 2)
    (folder / "s" / "writer.lock").unlink()
    message = (
        f"Writing to the cache {folder}: it was opened with readonly=True (open it without, or choose another folder)"
    )
    with LMDBCache(folder, readonly=True) as cache:
        for name in ("s", "t", None):
            with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
                cache.open_shard(name)
        assert has(cache, 1, 2)
    assert not (folder / "s" / "writer.lock").exists()


# ------------------------------------------------------------------------------------------------ reading


def test_entries_of_shards_are_read_by_caches_that_were_open_before(folder: Path, run: Run) -> None:
    run(put, folder, 1)
    with LMDBCache(folder) as cache:
        assert cache.get(b"2") is None
        for number in range(2, 6):
            run(put_into_shard, folder, f"s{number}", number)
            assert b"%d" % number in cache
            assert has(cache, 1, number)
            run(put_into_shard, folder, f"s{number}", number + 100)  # Into one that is known.
            assert has(cache, number + 100)
        assert len(cache) == 9


def test_a_folder_of_shards_is_a_cache(folder: Path, run: Run) -> None:
    run(put, folder / "one", 1, 2)
    run(put, folder / "two", 2, 3)
    with LMDBCache(folder) as cache, LMDBCache(folder, readonly=True) as reader:
        assert has(cache, 1, 2, 3)
        assert list(cache) == list(reader) == [b"1", b"2", b"3"]
        assert len(cache) == 3
        assert not (folder / "data.mdb").exists()
        assert verify(cache).num_entries == 4
        message = (
            f"Merging the shards of the cache {folder}: one, two in it are caches of their own "
            f"(to unite them, name another cache and them: synthloader cache merge OUT {folder}/one {folder}/two)"
        )
        with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
            merge(cache)
        with LMDBCache(folder.parent / "all") as whole:
            assert merge(whole, [cache]).num_entries == 3
            assert has(whole, 1, 2, 3)
        message = f"Deleting from the cache {folder}: one in it is a cache of its own (open that one and delete there)"
        with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
            cache.delete([b"1"])
        message = f"Pruning the cache {folder}: one, two in it are caches of their own (prune each by itself)"
        with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
            plan_prune(cache, max_size_bytes=0)
        assert has(reader, 1, 2, 3)


@pytest.mark.parametrize("codec", CODECS)
def test_a_folder_of_shards_has_the_codec_of_its_shards(folder: Path, codec: str) -> None:
    put(folder / "one", 1, codec=codec)
    with LMDBCache(folder) as cache:
        assert_same(cache.recode(make_sample(1)), cache.get(b"1"))
        cache.put(b"2", make_sample(2))
        assert cache.codec == codec
        with cache.open_shard() as shard:
            assert shard.codec == codec
            shard.put(b"3", make_sample(3))
        assert merge(cache).num_shards == 1
        assert [path.name for path in folder.iterdir() if path.is_dir()] == ["one"]


def test_every_key_comes_once_and_in_order(folder: Path) -> None:
    put(folder, 5, 1, 3)
    put_into_shard(folder, "a", 1, 2, 3)
    put_into_shard(folder, "b", 3, 4)
    with LMDBCache(folder) as cache:
        assert list(cache) == [b"1", b"2", b"3", b"4", b"5"]
        assert len(cache) == 5


def test_a_cache_that_is_only_iterated_leaves_nothing_open(folder: Path) -> None:
    put(folder, 1, 2)
    put_into_shard(folder, "a", 3)
    assert [key for key in LMDBCache(folder)] == [b"1", b"2", b"3"]
    assert _environments == {}
    for _ in LMDBCache(folder):
        break
    assert _environments == {}


def test_verdicts_of_shards_are_read(folder: Path, run: Run) -> None:
    sample = make_sample(1)
    run(put, folder, 1)
    with LMDBCache(folder) as cache:
        assert cache.get_verdict(b"1", "f", of=sample) is None
        with cache.open_shard("s") as shard:
            shard.put_verdict(b"1", "f", Verdict(True, 0.5), of=sample)
        assert_same(cache.get_verdict(b"1", "f", of=sample), Verdict(True, 0.5))


def test_threads_that_miss_at_once_all_see_a_new_shard(folder: Path, run: Run) -> None:
    run(put, folder, 0)
    for turn in range(1, 25):
        missed: list[int] = []
        with LMDBCache(folder) as cache:
            together = threading.Barrier(5, timeout=30)

            def look(cache: LMDBCache, number: int, together: Any, missed: list[int]) -> None:
                together.wait()
                together.wait()
                if cache.get(b"%d" % number) is None:
                    missed.append(number)

            threads = [threading.Thread(target=look, args=(cache, turn, together, missed)) for _ in range(4)]
            for thread in threads:
                thread.start()
            together.wait()
            run(put_into_shard, folder, f"s{turn}", turn)
            together.wait()
            for thread in threads:
                thread.join(30)
            cache.close()
            assert _environments == {}
        assert missed == []


# ------------------------------------------------------------------------------------------------ delete and merge


def test_delete_reaches_every_shard(folder: Path) -> None:
    sample = make_sample(1)
    put(folder, 1, 2)
    put_into_shard(folder, "a", 1, 3)
    put_into_shard(folder, "b", 1, 3, 4)
    with LMDBCache(folder) as cache:
        with cache.open_shard("b") as shard:
            shard.put_verdict(b"1", "f", Verdict(True), of=sample)
        assert cache.delete([b"1", b"3", b"3", b"nothing"]) == 2
        assert list(cache) == [b"2", b"4"]
        assert cache.get_verdict(b"1", "f", of=sample) is None
        cache.put(b"1", make_sample(1))
        assert has(cache, 1, 2, 4)
        assert verify(cache).findings == []


def test_delete_says_which_shard_is_locked_and_harms_nothing(folder: Path) -> None:
    put(folder, 1)
    with other_process(hold_shard, folder, "mine") as (connection, process):
        connection.send("go")
        receive(connection)
        connection.send(2)
        receive(connection)
        message = (
            f"Writing to the cache {folder / 'mine'}: process {process.pid} on {os.uname().nodename} holds its lock "
            "(wait until it has ended, or use another folder)"
        )
        with LMDBCache(folder) as cache:
            with pytest.raises(CacheLockedError, match=f"^{re.escape(message)}$"):
                cache.delete([b"2"])
            assert has(cache, 1, 2)
            assert cache.delete([b"1"]) == 1
        connection.send(None)
    with LMDBCache(folder) as cache:
        assert cache.delete([b"2"]) == 1
        assert len(cache) == 0


def test_a_shard_that_is_merged_under_a_reader_is_still_read(folder: Path, run: Run) -> None:
    run(put, folder, 1)
    run(put_into_shard, folder, "s", 2, 3)
    with LMDBCache(folder) as cache:
        assert has(cache, 1, 2, 3)
        keys = iter(cache)
        assert next(keys) == b"1"
        assert run(merge_shards, folder) == 1
        assert not (folder / "s").exists()
        assert list(keys) == [b"2", b"3"]
        assert has(cache, 1, 2, 3)
        assert cache.get(b"none") is None
        assert len(cache) == 3
        assert [lease.folder for lease in cache.leases] == [folder]


def test_a_shard_that_was_merged_and_made_again_is_read(folder: Path, run: Run) -> None:
    run(put_into_shard, folder, "s", 0)
    with LMDBCache(folder) as cache, LMDBCache(folder) as other:
        for number in range(5):
            assert has(cache, *range(number + 1))
            assert has(other, number)
            if number % 2:
                time.sleep(0.03)  # Let the folder's time settle.
            assert cache.get(b"none") is None
            assert run(merge_shards, folder) == 1
            assert run(put_into_shard, folder, "s", number + 1) == "s"
        assert has(cache, *range(6))
        assert len(other) == 6


def read_until_told(connection: Connection, path: Path) -> None:
    """Get every number that was announced, over and over; send how many were missing and how many were looked for."""
    cache = LMDBCache(path)
    announced = missing = looked = 0
    while announced is not None:
        if connection.poll():
            announced = connection.recv()
            continue
        for number in range(max(0, announced - 8), announced):
            entry = cache.get(b"%d" % number)
            looked += 1
            missing += entry is None
            if entry is not None:
                assert_same(entry, make_sample(number))
        if looked % 5 == 0:
            cache.close()
    connection.send((missing, looked))


def test_nothing_is_ever_missing_while_shards_are_merged(folder: Path) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(other_process(read_until_told, folder))[0] for _ in range(2)]
        with LMDBCache(folder) as cache:
            for number in range(60):
                with cache.open_shard(f"s{number % 3}") as shard:
                    shard.put(b"%d" % number, make_sample(number))
                for reader in readers:
                    reader.send(number + 1)
                if number % 2:
                    merge(cache)
                time.sleep(0.005)
        for reader in readers:
            reader.send(None)
        for reader in readers:
            missing, looked = receive(reader)
            assert missing == 0
            assert looked > 100


def test_opening_shards_while_others_are_merged_loses_nothing(folder: Path) -> None:
    def fill(path: Path, first: int) -> None:
        cache = LMDBCache(path)
        for number in range(first, first + 40):
            with cache.open_shard() as shard:
                shard.put(b"%d" % number, make_sample(number))

    with ExitStack() as stack:
        writers = [
            stack.enter_context(other_process(lambda connection, first: connection.send(fill(folder, first)), first))
            for first in (0, 1000, 2000)
        ]
        put(folder, 9999)
        with LMDBCache(folder) as cache:
            while any(process.is_alive() for _, process in writers):
                try:
                    merge(cache)
                except CacheLockedError:
                    time.sleep(0.001)
        assert [process.exitcode for _, process in writers] == [0, 0, 0]
    merge_shards(folder)
    expected = [number for first in (0, 1000, 2000) for number in range(first, first + 40)] + [9999]
    assert sorted(int(key) for kind, key in list_records(folder) if kind == b"entries") == expected


def test_a_cache_can_be_asked_in_a_fork_for_what_its_shards_hold(folder: Path) -> None:
    with LMDBCache(folder) as cache:
        shard = cache.open_shard()
        shard.put(b"1", make_sample(1))
        assert has(cache, 1)
        assert run_elsewhere(has, cache, 1) is True
        shard.put(b"2", make_sample(2))
        assert has(cache, 1, 2)
        shard.close()
