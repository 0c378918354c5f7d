"""What is true of LMDB, tried on the cache: processes, readers, ends of interpreters, interrupts."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.changes import Change
from synthloader.cache.layout import ENTRIES
from synthloader.cache.upkeep.verify import verify
from synthloader.errors import CacheCorruptError, CacheError, CacheVersionError
from synthloader.sample import Sample
from tests.cache.processes import other_process, receive, run_elsewhere
from tests.cache.samples import assert_same, make_sample
from tests.cache.standby import Run, change_record, churn, merge_shards, put, put_into_shard, standby

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

environment_module: Any = importlib.import_module("synthloader.cache.environment")
SMALL_MAP = 1 << 16
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def run() -> Iterator[Run]:
    with standby() as made:
        yield made


# ------------------------------------------------------------------------------------------------ one environment


def test_two_caches_of_one_path_are_one_environment(folder: Path) -> None:
    with LMDBCache(folder) as one, LMDBCache(folder) as two, LMDBCache(folder.parent / "." / "cache") as three:
        for number, cache in enumerate((one, two, three)):
            cache.put(b"%d" % number, make_sample(number))
        with one.view(b"0") as zero, two.view(b"1") as first, three.view(b"2") as second:
            for number, entry in enumerate((zero, first, second)):
                assert_same(entry, make_sample(number))
        assert len(environment_module._environments) == 1
    assert environment_module._environments == {}


def test_an_environment_cannot_be_pickled_and_a_cache_travels_without(folder: Path) -> None:
    with LMDBCache(folder) as cache:
        cache.put(b"1", make_sample(1))
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(next(iter(environment_module._environments.values()))._handle)
        data = pickle.dumps(cache)
        assert len(data) < 1000
        copy = pickle.loads(data)
        assert_same(copy.get(b"1"), make_sample(1))
        copy.put(b"2", make_sample(2))
        copy.close()
        assert_same(cache.get(b"2"), make_sample(2))


def write_and_read(connection: Connection, cache: LMDBCache) -> None:
    assert_same(cache.get(b"1"), make_sample(1))
    with cache.open_shard() as shard:
        shard.put(b"2", make_sample(2))
    connection.send(list(cache))


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(each, marks=pytest.mark.slow) for each in ("spawn", "forkserver"))]
)
def test_a_worker_of_any_kind_reads_and_writes_a_shard(folder: Path, method: str) -> None:
    with LMDBCache(folder) as cache:
        cache.put(b"1", make_sample(1))
        with other_process(write_and_read, cache, method=method) as (connection, _):
            assert receive(connection) == [b"1", b"2"]
        assert_same(cache.get(b"2"), make_sample(2))


def test_forked_grandchildren_read_and_write(folder: Path) -> None:
    def go_down(path: Path, cache: LMDBCache, depth: int) -> list[bytes]:
        with cache.open_shard() as shard:
            shard.put(b"%d" % depth, make_sample(depth))
        return list(cache) if depth == 0 else run_elsewhere(go_down, path, cache, depth - 1)  # type: ignore[no-any-return]

    with LMDBCache(folder) as cache:
        assert go_down(folder, cache, 3) == [b"0", b"1", b"2", b"3"]


# ------------------------------------------------------------------------------------------------ beside a writer


def read_on_and_on(connection: Connection, path: Path) -> None:
    """Read all keys, and what was found wrong; a key's sample is one of two, and the key 'stays' is always there."""
    read, wrong = 0, []
    cache = LMDBCache(path)
    connection.send("reading")
    while not connection.poll():
        for key in [*cache, b"stays"]:
            number = 7 if key == b"stays" else int(key)
            for look in (cache.get, lambda key: cache.view(key)):
                found = look(key)
                with ExitStack() as stack:
                    entry = found if isinstance(found, Sample) or found is None else stack.enter_context(found)
                    read += 1
                    if entry is None:
                        wrong += [f"{key!r} is missing"] * (key == b"stays")
                    elif entry.fields["image_id"] not in (number, number + 1000):
                        wrong.append(f"{key!r} is {entry.fields['image_id']}")
                    elif not np.array_equal(entry.image, make_sample(entry.fields["image_id"], size_hw=(40, 40)).image):
                        wrong.append(f"{key!r} has wrong pixels")
    cache.close()
    connection.send((read, wrong[:5]))


@pytest.mark.parametrize(
    ("num_readers", "seconds"),
    [(3, 1.0), pytest.param(8, 20.0, marks=[pytest.mark.slow, pytest.mark.timeout(300)])],
)
def test_readers_beside_a_writer_never_read_a_wrong_record(folder: Path, num_readers: int, seconds: float) -> None:
    rng = np.random.Generator(np.random.Philox(key=2))
    with LMDBCache(folder, map_size_bytes=SMALL_MAP, codec="raw") as cache:
        samples = {
            number: make_sample(number, size_hw=(40, 40)) for start in (0, 1000) for number in range(start, start + 30)
        }
        records = {number: cache.encode(sample) for number, sample in samples.items()}
        cache.put_encoded([(b"stays", records[7])])
        lease = cache.leases[0]
        with ExitStack() as stack:
            readers = [stack.enter_context(other_process(read_on_and_on, folder))[0] for _ in range(num_readers)]
            for reader in readers:
                assert receive(reader) == "reading"
            ends, turns = time.monotonic() + seconds, 0
            while time.monotonic() < ends:
                number = int(rng.integers(30))
                key, turns = b"%d" % number, turns + 1
                match int(rng.integers(4)):
                    case 0:
                        cache.delete([key])
                    case 1:
                        cache.put_encoded([(key, records[number])])
                    case 2:
                        lease.write([Change(ENTRIES, key, records[number + 1000], replace=True)])
                    case 3:
                        lease.write([Change(ENTRIES, b"stays", records[7 + 1000 * int(rng.integers(2))], replace=True)])
            for reader in readers:
                reader.send("stop")
            for reader in readers:
                read, wrong = receive(reader)
                assert wrong == []
                assert read > 50
        assert turns > 50
        assert verify(cache).findings == []


@pytest.mark.parametrize("turns", [200, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_a_reader_that_is_open_for_long_sees_all_and_keeps_the_file_small(folder: Path, run: Run, turns: int) -> None:
    run(put, folder, 1)
    with LMDBCache(folder) as cache:
        run(churn, folder, 30)
        assert_same(cache.get(b"1"), make_sample(1))
        keys = iter(cache)
        assert next(keys) == b"1"
        before = (folder / "data.mdb").stat().st_size
        for turn in range(2, 2 + turns // 50):
            run(churn, folder, 50)
            run(put, folder, turn)
            assert_same(cache.get(b"%d" % turn), make_sample(turn))
            assert len(cache) == turn
        grown = (folder / "data.mdb").stat().st_size - before
        assert grown < (turns // 50) * 3 * 4096 + 100_000  # What was put, and no more.
        assert next(keys, None) in (None, b"10", b"2")


# ------------------------------------------------------------------------------------------------ the table of readers


def hold_views(connection: Connection, path: Path, count: int) -> None:
    with LMDBCache(path) as cache, ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(cache.view(b"1"))
        connection.send("holding")
        connection.recv()


@pytest.fixture
def few_places(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(environment_module, "MAX_READERS", 8)
    monkeypatch.setattr(environment_module, "_LOCK_FILE_BYTES", 128 + 64 * 7)
    return 8


def test_a_full_table_of_readers_is_said_and_has_places_again(folder: Path, few_places: int) -> None:
    put(folder, 1)
    message = rf"(Opening|Reading) the cache {re.escape(str(folder))}: .*MDB_READERS_FULL.* \(fewer processes can read at once\)"
    with other_process(hold_views, folder, few_places) as (connection, _):
        assert receive(connection) == "holding"
        with LMDBCache(folder) as cache:
            for _ in range(2):
                with pytest.raises(CacheError, match=f"^{message}$"):
                    cache.get(b"1")
            connection.send("leave")
            time.sleep(0.3)
            assert_same(cache.get(b"1"), make_sample(1))


def test_the_places_of_killed_readers_are_taken_by_those_who_need_them(folder: Path, few_places: int) -> None:
    put(folder, 1)
    with LMDBCache(folder) as cache:
        for _ in range(4):
            with other_process(hold_views, folder, few_places - 1) as (connection, process):
                assert receive(connection) == "holding"
                process.kill()
                process.join()
            with ExitStack() as stack:
                for _ in range(few_places - 1):
                    assert_same(stack.enter_context(cache.view(b"1")), make_sample(1))
        churn(folder, 30)
        size = (folder / "data.mdb").stat().st_size
        churn(folder, 60)
        assert (folder / "data.mdb").stat().st_size == size  # No page is kept for those who are gone.


def test_many_threads_and_views_find_places(folder: Path) -> None:
    put(folder, 1)
    with LMDBCache(folder) as cache, ExitStack() as stack:
        for _ in range(900):
            stack.enter_context(cache.view(b"1"))
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(cache.get(b"1"))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(found) == 20
        stack.close()


# ------------------------------------------------------------------------------------------------ meta


def change_meta(path: Path, **changes: Any) -> None:
    def change(value: bytes) -> bytes:
        meta = {name: each for name, each in {**json.loads(value), **changes}.items() if each is not None}
        return json.dumps(meta).encode()

    change_record(path, None, b"meta", change)


def test_a_codec_of_a_newer_version_is_refused(folder: Path) -> None:
    put(folder, 1)
    change_meta(folder, codec="webp")
    message = (
        f"Opening the cache {folder}: its images are stored with codec 'webp', which this version of synthloader does "
        "not know (update synthloader: pip install -U synthloader)"
    )
    with LMDBCache(folder) as cache:
        for use in (
            lambda: cache.get(b"1"),
            lambda: cache.put(b"2", make_sample(2)),
            lambda: cache.recode(make_sample()),
        ):
            with pytest.raises(CacheVersionError, match=f"^{re.escape(message)}$"):
                use()


@pytest.mark.parametrize(
    "meta",
    [
        b"", b"{", b"\xff", b"null", b"[]", b"{}", b'"synthloader cache"', b"[" * 100_000,
        b'{"application": "synthloader cache", "version": 1e999, "codec": "zstd"}',
        b'{"application": "synthloader cache", "version": NaN, "codec": "zstd"}',
        b'{"application": "synthloader cache", "version": [1], "codec": "zstd"}',
        b'{"application": "synthloader cache", "version": 1}',
        b'{"application": "synthloader cache", "version": ' + b"9" * 5000 + b"}",
    ],
    ids=range(13),
)  # fmt: skip
def test_a_broken_meta_entry_is_a_corrupt_cache(folder: Path, meta: bytes) -> None:
    put(folder, 1)
    change_record(folder, None, b"meta", lambda _: meta)
    message = (
        f"Opening the cache {folder}: its entry `meta` is broken "
        "(restore data.mdb from a copy, or delete it and fill the cache again)"
    )
    with LMDBCache(folder) as cache:
        for use in (lambda: cache.get(b"1"), lambda: cache.put(b"2", make_sample(2)), lambda: len(cache)):
            with pytest.raises(CacheCorruptError, match=f"^{re.escape(message)}$"):
                use()
    assert not environment_module._environments


# ------------------------------------------------------------------------------------------------ codecs


@pytest.mark.parametrize("codec", ["raw", "jpeg", "jpeg-444"])
def test_another_codec_than_the_cache_has_is_refused_naming_both(folder: Path, codec: str) -> None:
    put(folder, 1, codec="zstd")
    message = (
        f"Opening the cache {folder}: its images are stored with codec 'zstd', not {codec!r} "
        "(leave codec out or say codec='zstd', or use another folder)"
    )
    with LMDBCache(folder, codec=codec) as cache, LMDBCache(folder) as other:
        for use in (lambda: cache.get(b"1"), lambda: cache.put(b"2", make_sample(2)), lambda: list(cache)):
            with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
                use()
        assert_same(other.get(b"1"), make_sample(1))
        assert other.recode(make_sample(2)).image.tobytes() == make_sample(2).image.tobytes()  # type: ignore[union-attr]
        assert other.codec == "zstd"


# ------------------------------------------------------------------------------------------------ ends and interrupts

DAEMONS = """
import sys, threading, time
sys.path.insert(0, {root!r})
from synthloader.cache import LMDBCache
cache = LMDBCache({path!r})
def read():
    while True:
        cache.get(b"1")
        with cache.view(b"1") as sample:
            sample.image.sum()
for _ in range(3):
    threading.Thread(target=read, daemon=True).start()
time.sleep({wait})
"""


@pytest.mark.parametrize("turns", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_an_interpreter_ends_well_while_daemon_threads_read(folder: Path, turns: int) -> None:
    put(folder, 1, size_hw=(1500, 1500))
    for turn in range(turns):
        code = DAEMONS.format(root=str(ROOT), path=str(folder), wait=0.1 + 0.017 * turn)
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=100, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")


def test_what_a_process_put_that_never_closed_is_there(folder: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.cache.samples import make_sample\nfrom synthloader.cache import LMDBCache\n"
        f"cache = LMDBCache({str(folder)!r}); cache.put(b'1', make_sample(1)); cache.get(b'1')\n"
        "block = cache.view(b'1'); sample = block.__enter__()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=100, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    put(folder, 2)
    with LMDBCache(folder) as cache:
        assert list(cache) == [b"1", b"2"]
        assert_same(cache.get(b"1"), make_sample(1))


def interrupt_at_random(path: Path, turns: int) -> list[str]:
    """Raise KeyboardInterrupt at random moments, and say where the cache was of no use afterwards."""
    rng = np.random.Generator(np.random.Philox(key=9))
    wrong = []

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    cache = LMDBCache(path)
    cache.put(b"1", make_sample(1))
    for turn in range(turns):
        try:
            signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(1e-5, 1e-3)))
            while True:
                cache.get(b"1")
                if turn % 3 == 1:
                    cache.put(b"%d" % (turn % 20), make_sample(2))
                elif turn % 3 == 2:
                    cache.get(b"none")
        except KeyboardInterrupt:
            pass
        thread = threading.Thread(target=cache.put, args=(b"thread%d" % (turn % 9), make_sample(3)), daemon=True)
        thread.start()
        thread.join(10)
        if thread.is_alive() or environment_module.GATE.is_busy:
            wrong.append(f"the gate is shut after {turn}")
            break
        assert_same(cache.get(b"1"), make_sample(1))
    cache.close()
    return wrong


@pytest.mark.parametrize("turns", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_ctrl_c_at_any_moment_leaves_the_cache_usable(folder: Path, turns: int) -> None:
    assert run_elsewhere(interrupt_at_random, folder, turns) == []


# ------------------------------------------------------------------------------------------------ read-only media


def test_a_folder_of_another_user_is_read_with_its_shards(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    put(folder, 1)
    put_into_shard(folder, "s", 2)
    parents = [each for each in folder.parents if each != Path("/") and not each.stat().st_mode & 0o005]
    modes = {each: each.stat().st_mode for each in (*parents, folder, folder / "s")}

    def read(path: Path) -> list[bytes]:
        if os.geteuid() == 0:
            os.seteuid(65534)
        with LMDBCache(path, readonly=True) as cache:
            assert_same(cache.get(b"1"), make_sample(1))
            assert_same(cache.get(b"2"), make_sample(2))
            with cache.view(b"2") as sample:
                assert_same(sample, make_sample(2))
            return list(cache)

    try:
        for each in modes:
            each.chmod(0o555)
        assert run_elsewhere(read, folder) == [b"1", b"2"]
    finally:
        for each, mode in modes.items():
            each.chmod(mode)
    assert merge_shards(folder) == 1
    with lmdb.open(str(folder), readonly=True) as raw:
        assert raw.reader_check() == 0
