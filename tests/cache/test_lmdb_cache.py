"""What is special about entries in a folder: folders, processes, damage."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import numpy as np
import pytest

from synthloader.cache import LMDBCache, open_cache
from synthloader.errors import CacheCorruptError, CacheError, CacheFullError, CacheVersionError
from synthloader.protocols import Rejected
from synthloader.sample import Sample
from tests.cache.processes import other_process, receive, run_elsewhere
from tests.cache.samples import assert_same, make_sample

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

SMALL_MAP = 1 << 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "cache"


@pytest.fixture
def cache(folder: Path) -> Iterator[LMDBCache]:
    with LMDBCache(folder) as made:
        yield made


def has(path: Path, *numbers: int) -> bool:
    """Whether the cache at this path has these samples, whole, in this process."""
    with LMDBCache(path) as cache:
        for number in numbers:
            assert_same(cache.get(b"%d" % number), make_sample(number))
    return True


def put(path: Path, *numbers: int) -> str:
    with LMDBCache(path) as cache:
        cache.put_many((b"%d" % number, make_sample(number)) for number in numbers)
    return "put"


def put_small_ones(path: Path, *numbers: int) -> None:
    with LMDBCache(path) as cache:
        for number in numbers:
            cache.put(b"%d" % number, make_sample(number))


# ------------------------------------------------------------------------------------------------ folders


def test_entries_outlive_the_cache(folder: Path) -> None:
    put(folder, 1, 2)
    assert has(folder, 1, 2)
    assert LMDBCache(folder).persistent is True


def test_reading_makes_no_files(folder: Path, cache: LMDBCache) -> None:
    assert cache.get(b"a") is None
    assert len(cache) == 0
    assert not folder.parent.exists()


def test_a_cache_made_by_another_object_is_seen(folder: Path, cache: LMDBCache) -> None:
    assert cache.get(b"1") is None
    put(folder, 1)
    assert_same(cache.get(b"1"), make_sample(1))


def test_side_files_and_hidden_ones_are_no_hindrance(folder: Path, cache: LMDBCache) -> None:
    folder.mkdir(parents=True)
    for name in (cache.stamps_path.name, "pools.json", ".gitignore"):
        (folder / name).touch()
    cache.put(b"a", Rejected())
    assert sorted(os.listdir(folder)) == [
        ".gitignore", "data.mdb", "lock.mdb", "pools.json", "readers.lock", "stamps.jsonl", "writer.lock",
    ]  # fmt: skip


def test_a_folder_of_other_things_is_left_alone(folder: Path, cache: LMDBCache) -> None:
    folder.mkdir(parents=True)
    (folder / "photo.jpg").touch()
    (folder / "notes.txt").touch()
    message = (
        f"Writing to the cache {folder}: the folder holds 2 other files, among them notes.txt "
        "(choose a new or an empty folder)"
    )
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        cache.put(b"a", Rejected())
    assert sorted(os.listdir(folder)) == ["notes.txt", "photo.jpg"]


def test_a_database_of_others_is_left_alone(folder: Path, cache: LMDBCache) -> None:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder)) as other, other.begin(write=True) as transaction:
        transaction.put(b"theirs", b"1")
    message = (
        f"Opening the cache {folder}: it holds an LMDB database that synthloader did not make (choose another folder)"
    )
    for use in (lambda: cache.get(b"a"), lambda: cache.put(b"a", Rejected())):
        with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
            use()
    with lmdb.open(str(folder)) as other, other.begin() as transaction:
        assert transaction.stat()["entries"] == 1


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        message = f"Opening the cache {path}: {file} is a file (choose a folder)"
        with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
            LMDBCache(path)


def test_what_cannot_be_written_is_refused_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    message = (
        f"Opening the cache {folder}: {folder.parent.parent} cannot be written: Read-only file system "
        "(choose another folder, or pass readonly=True to read what is there)"
    )
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        LMDBCache(folder)


def test_a_missing_folder_cannot_be_readonly(folder: Path) -> None:
    message = f"Opening the cache {folder}: there is no such folder (fill it first, or correct the path)"
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        open_cache(folder, readonly=True)


def test_a_readonly_cache_reads_and_does_not_write(folder: Path) -> None:
    put(folder, 1)
    message = (
        f"Writing to the cache {folder}: it was opened with readonly=True (open it without, or choose another folder)"
    )
    with open_cache(folder, readonly=True) as cache:
        assert_same(cache.get(b"1"), make_sample(1))
        with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
            cache.put(b"2", Rejected())


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"codec": "gif"}, ValueError, "codec must be one of 'raw', 'zstd', 'jpeg', 'jpeg-444', got codec='gif'."),
        ({"map_size_bytes": 100}, ValueError, "map_size_bytes must be at least 65536, got map_size_bytes=100."),
        ({"readonly": 1}, TypeError, "readonly must be a bool, got readonly=1."),
    ],
)
def test_wrong_options_are_refused(folder: Path, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        LMDBCache(folder, **options)


class ReadOnlyFolder(NamedTuple):
    """A folder that this test cannot write to, whoever runs it."""

    path: Path

    def run(self, function: Callable[..., Any]) -> Any:
        """Run a function as a user whom the folder's permissions bind."""

        def as_nobody() -> Any:
            if os.geteuid() == 0:
                os.seteuid(65534)
            return function(self.path)

        return run_elsewhere(as_nobody)


@pytest.fixture
def read_only_folder() -> Iterator[ReadOnlyFolder]:
    with tempfile.TemporaryDirectory() as name:  # tmp_path lies where nobody else may look.
        os.chmod(name, 0o755)
        path = Path(name) / "cache"
        put(path, 1)
        os.chmod(path, 0o555)
        for file in path.iterdir():
            file.chmod(0o444)
        yield ReadOnlyFolder(path)
        os.chmod(path, 0o755)
        for file in path.iterdir():
            file.chmod(0o644)


def read_only(path: Path) -> bool:
    with LMDBCache(path, readonly=True) as cache:
        assert_same(cache.get(b"1"), make_sample(1))
        assert cache.get(b"2") is None
    return True


def test_a_read_only_folder_is_read_without_locks(read_only_folder: ReadOnlyFolder) -> None:
    assert read_only_folder.run(read_only) is True


def test_a_read_only_folder_cannot_be_opened_for_writing(read_only_folder: ReadOnlyFolder) -> None:
    path = read_only_folder.path
    assert read_only_folder.run(LMDBCache) == (
        f"CacheError: Opening the cache {path}: {path} cannot be written: Permission denied "
        "(choose another folder, or pass readonly=True to read what is there)"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="Needs two users, of whom one can write: run it as root.")
def test_a_reader_without_locks_and_a_writer_exclude_each_other(read_only_folder: ReadOnlyFolder) -> None:
    path = read_only_folder.path
    with LMDBCache(path) as writer:
        writer.put(b"2", Rejected())
        assert read_only_folder.run(read_only) == (
            f"CacheLockedError: Reading the cache {path}: process {os.getpid()} on {os.uname().nodename} is writing to "
            "it (wait until it has ended, or use another folder)"
        )


# ------------------------------------------------------------------------------------------------ one process


def test_two_caches_of_one_folder_share_it(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder.parent)
    first, second, third = LMDBCache(folder), LMDBCache(folder), LMDBCache(link / "cache")
    first.put(b"1", make_sample(1))
    second.put(b"2", make_sample(2))
    third.put(b"3", make_sample(3))
    first.close()
    assert list(second) == [b"1", b"2", b"3"]
    second.close()
    third.close()


def test_a_reader_beside_does_not_keep_the_writers_lock(folder: Path, cache: LMDBCache) -> None:
    with LMDBCache(folder) as writer:
        writer.put(b"1", make_sample(1))
        assert_same(cache.get(b"1"), make_sample(1))
    assert run_elsewhere(put, folder, 2) == "put"
    assert_same(cache.get(b"2"), make_sample(2))


def test_a_forgotten_cache_lets_others_write(folder: Path) -> None:
    LMDBCache(folder).put(b"1", make_sample(1))
    circle: list[Any] = [LMDBCache(folder)]
    circle.append(circle)
    circle[0].put(b"2", make_sample(2))
    del circle
    gc.collect()
    assert run_elsewhere(put, folder, 3) == "put"
    assert has(folder, 1, 2, 3)


def test_many_threads_read_while_one_writes(folder: Path) -> None:
    done = threading.Event()
    errors: list[BaseException] = []

    def read(cache: LMDBCache) -> None:
        try:
            while not done.is_set():
                for key in cache:
                    assert_same(cache.get(key), make_sample(int(key)))
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            errors.append(error)

    with LMDBCache(folder, map_size_bytes=SMALL_MAP) as cache, LMDBCache(folder) as other:
        threads = [threading.Thread(target=read, args=(one,)) for one in (cache, other, cache)]
        for thread in threads:
            thread.start()
        for number in range(60):  # Grows the map several times under the readers.
            cache.put(b"%d" % number, make_sample(number))
        done.set()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(other) == 60


def test_closing_waits_for_those_who_read(folder: Path) -> None:
    put(folder, *range(5))
    cache = LMDBCache(folder)
    done = threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                assert_same(cache.get(b"3"), make_sample(3))
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        cache.close()
    done.set()
    for thread in threads:
        thread.join()
    cache.close()
    assert errors == []


def test_keys_come_whole_from_large_caches(cache: LMDBCache) -> None:
    keys = [b"%05d" % number for number in range(2500)]
    cache.put_many((key, Rejected()) for key in keys)
    assert list(cache) == keys
    assert len(cache) == 2500


# ------------------------------------------------------------------------------------------------ processes


def read_in_child(connection: Connection, cache: LMDBCache) -> None:
    assert_same(cache.get(b"1"), make_sample(1))
    connection.send(True)


@pytest.mark.parametrize("method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_workers_read_what_the_parent_has_open(folder: Path, cache: LMDBCache, method: str) -> None:
    cache.put(b"1", make_sample(1))
    with other_process(read_in_child, cache, method=method) as (connection, _):
        assert receive(connection) is True
    cache.put(b"2", make_sample(2))
    assert has(folder, 1, 2)


def test_a_worker_sees_what_the_parent_writes_afterwards(cache: LMDBCache) -> None:
    def work(connection: Connection) -> None:
        while (key := connection.recv()) is not None:
            entry = cache.get(key)
            connection.send(entry.image if isinstance(entry, Sample) else None)

    cache.put(b"1", make_sample(1))
    with other_process(work) as (connection, _):
        for number in range(1, 20):
            cache.put(b"%d" % number, make_sample(number))
            connection.send(b"%d" % number)
            np.testing.assert_array_equal(receive(connection), make_sample(number).image)
        connection.send(None)


def test_readers_follow_a_map_that_grows(folder: Path) -> None:
    def work(connection: Connection) -> None:
        cache = LMDBCache(folder, map_size_bytes=SMALL_MAP)
        while (number := connection.recv()) is not None:
            assert_same(cache.get(b"%d" % number), make_sample(number, size_hw=(200, 200)))
            connection.send(len(cache))

    with other_process(work) as (connection, _), LMDBCache(folder, map_size_bytes=SMALL_MAP) as writer:
        for number in range(12):
            writer.put(b"%d" % number, make_sample(number, size_hw=(200, 200)))
            connection.send(number)
            assert receive(connection) == number + 1
        connection.send(None)
    assert os.stat(folder / "data.mdb").st_size > 20 * SMALL_MAP


def test_one_large_entry_grows_the_map_as_often_as_needed(folder: Path) -> None:
    with LMDBCache(folder, map_size_bytes=SMALL_MAP) as cache:
        cache.put(b"a", make_sample(size_hw=(1000, 1000)))
        cache.put(b"b", Rejected())
        assert_same(cache.get(b"a"), make_sample(size_hw=(1000, 1000)))


def test_a_second_writer_is_told_who_the_first_is(folder: Path, cache: LMDBCache) -> None:
    cache.put(b"1", make_sample(1))
    assert run_elsewhere(put, folder, 2) == (
        f"CacheLockedError: Writing to the cache {folder}: process {os.getpid()} on {os.uname().nodename} holds its lock "
        "(wait until it has ended, or use another folder)"
    )
    cache.close()
    assert run_elsewhere(put, folder, 2) == "put"
    cache.put(b"3", make_sample(3))
    assert has(folder, 1, 2, 3)


def test_a_forked_child_does_not_write_for_its_parent(cache: LMDBCache) -> None:
    cache.put(b"1", make_sample(1))
    assert run_elsewhere(lambda: cache.put(b"2", make_sample(2))).startswith("CacheLockedError: Writing to the cache")


def test_a_worker_that_goes_on_does_not_keep_the_writers_lock(folder: Path, cache: LMDBCache) -> None:
    def work(connection: Connection) -> None:
        connection.send(len(cache))
        connection.recv()

    cache.put(b"1", make_sample(1))
    with other_process(work) as (connection, _):
        assert receive(connection) == 1
        cache.close()
        assert run_elsewhere(put, folder, 2) == "put"
        connection.send(None)


def test_a_worker_that_outlives_a_killed_writer_does_not_keep_its_lock(folder: Path) -> None:
    def write(connection: Connection) -> None:
        cache = LMDBCache(folder)
        cache.put(b"1", make_sample(1))
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        connection.send(child)
        time.sleep(60)

    with other_process(write) as (connection, process):
        worker = receive(connection)
        process.kill()
        process.join()
        try:
            os.kill(worker, 0)  # It lives.
            put(folder, 2)
        finally:
            os.kill(worker, 9)
    assert has(folder, 1, 2)


def test_forks_while_other_threads_read_and_write(folder: Path, cache: LMDBCache) -> None:
    done = threading.Event()
    cache.put(b"1", make_sample(1))

    def work() -> None:
        number = 100
        while not done.is_set():
            cache.put(b"%d" % number, make_sample(number))
            assert_same(cache.get(b"%d" % number), make_sample(number))
            number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(15):
            child = os.fork()
            if child == 0:
                try:
                    assert_same(cache.get(b"1"), make_sample(1))
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        thread.join()


def read_in_a_fork_past_pythons_hooks(folder: Path) -> str:
    with LMDBCache(folder) as cache:
        cache.put(b"1", make_sample(1))
        reading, writing = os.pipe()
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            try:
                cache.get(b"1")
            except CacheError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, encoding="utf-8") as stream:
            text = stream.read()
        assert os.waitpid(child, 0)[1] == 0
        cache.put(b"2", make_sample(2))
    return text


def test_a_fork_past_pythons_hooks_is_noticed(folder: Path) -> None:
    # In a process of its own: such a fork hangs in Python itself when another thread waits for the interpreter's lock.
    text = run_elsewhere(read_in_a_fork_past_pythons_hooks, folder, method="spawn")
    assert text in (
        f"Opening the cache {folder}: The environment '{folder}' is already open in this process. "
        "(close() the cache before the process is forked, or start workers with spawn)",
        "",  # Older versions of the lmdb package open it again, which is well.
    )
    assert has(folder, 1, 2)


# ------------------------------------------------------------------------------------------------ kills


def write_until_killed(connection: Connection, path: Path, first: int) -> None:
    cache = LMDBCache(path, map_size_bytes=SMALL_MAP)
    for number in range(first, first + 100_000, 3):
        cache.put(b"%d" % number, make_sample(number))
        connection.send([number])
        batch = [number + 1, number + 2]
        cache.put_many((b"%d" % one, make_sample(one)) for one in batch)
        connection.send(batch)


def kill_and_look(path: Path, *, rounds: int) -> None:
    rng = np.random.Generator(np.random.Philox(key=1))
    acknowledged: set[int] = set()
    for turn in range(rounds):
        with other_process(write_until_killed, path, turn * 100_000) as (connection, process):
            acknowledged.update(receive(connection))
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            process.join()
            while connection.poll():
                try:
                    acknowledged.update(connection.recv())
                except EOFError:
                    break
        with LMDBCache(path) as cache:
            found = {int(key) for key in cache}
            assert acknowledged <= found
            assert len(found) - len(acknowledged) <= 2 * (turn + 1)  # What was committed and not yet said.
            for number in found if turn == rounds - 1 else {number for number in found if number // 100_000 == turn}:
                assert_same(cache.get(b"%d" % number), make_sample(number))


def test_what_was_acknowledged_survives_kills(folder: Path) -> None:
    kill_and_look(folder, rounds=20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_many_kills(folder: Path) -> None:
    kill_and_look(folder, rounds=200)


def test_killed_readers_leave_no_places_taken(folder: Path, cache: LMDBCache) -> None:
    def read(connection: Connection) -> None:
        with LMDBCache(folder).leases[0].read():
            connection.send(True)
            time.sleep(60)

    cache.put(b"1", make_sample(1))
    for _ in range(3):
        with other_process(read) as (connection, process):
            receive(connection)
            process.kill()
    cache.close()
    assert has(folder, 1)
    with lmdb.open(str(folder), readonly=True) as raw:
        assert raw.reader_check() == 0


# ------------------------------------------------------------------------------------------------ full disks


def test_a_full_disk_keeps_what_was_put(folder: Path) -> None:
    def fill() -> tuple[str, int]:
        with LMDBCache(folder, map_size_bytes=SMALL_MAP) as cache:
            cache.put(b"0", make_sample(0, size_hw=(100, 100)))
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
            message, number = "", 1
            try:
                while number < 1000:
                    cache.put(b"%d" % number, make_sample(number, size_hw=(100, 100)))
                    number += 1
            except CacheFullError as error:
                message = str(error)
            for present in range(number):
                assert_same(cache.get(b"%d" % present), make_sample(present, size_hw=(100, 100)))
            assert len(cache) == number
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            cache.put(b"%d" % number, make_sample(number, size_hw=(100, 100)))
            assert len(cache) == number + 1
            return message, number

    message, number = run_elsewhere(fill)
    assert message in {
        f"Writing to the cache {folder}: {reason} (make room and go on: what was put before is kept)"
        for reason in ("Input/output error", "File too large")
    }
    assert number > 10


def test_the_map_does_not_grow_beyond_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk(NamedTuple):
        f_bavail: int = 10
        f_frsize: int = 1000

    with LMDBCache(folder, map_size_bytes=SMALL_MAP) as cache:
        cache.put(b"a", make_sample())
        monkeypatch.setattr(os, "statvfs", lambda _: Disk())
        message = (
            rf"^Writing to the cache {re.escape(str(folder))}: \d+ bytes are to be written and the disk has 10000 left "
            r"\(make room and go on: what was put before is kept\)$"
        )
        with pytest.raises(CacheFullError, match=message):
            cache.put(b"b", make_sample(size_hw=(300, 300)))
        monkeypatch.undo()
        assert list(cache) == [b"a"]
        cache.put(b"b", make_sample(size_hw=(300, 300)))
        assert list(cache) == [b"a", b"b"]


# ------------------------------------------------------------------------------------------------ damage


def change_value(path: Path, database: bytes | None, key: bytes, change: Callable[[bytes], bytes]) -> None:
    with lmdb.open(str(path), max_dbs=8) as raw:
        opened = raw.open_db(database, create=False) if database else None
        with raw.begin(write=True) as transaction:
            value = transaction.get(key, db=opened)
            assert value is not None
            transaction.put(key, change(bytes(value)), db=opened)


def test_a_broken_record_is_named_and_replaced_by_the_next_put(folder: Path) -> None:
    put(folder, 1, 2)
    change_value(folder, b"entries", b"1", lambda value: value[:500] + b"?" + value[501:])
    message = (
        f"Reading entry 31 of the cache {folder}: its bytes do not match its checksum "
        "(open the cache with on_corrupt='regenerate', or take it out: synthloader cache verify PATH --quarantine)"
    )
    with LMDBCache(folder) as cache:
        with pytest.raises(CacheCorruptError, match=f"^{re.escape(message)}$"):
            cache.get(b"1")
        assert_same(cache.get(b"2"), make_sample(2))
        cache.put(b"1", make_sample(1))
        assert_same(cache.get(b"1"), make_sample(1))


def test_bits_flipped_in_the_file_are_noticed(folder: Path) -> None:
    with LMDBCache(folder, codec="raw") as cache:
        cache.put(b"1", make_sample(1))
    image = make_sample(1).image.tobytes()
    data = (folder / "data.mdb").read_bytes()
    assert data.count(image) == 1
    position = data.index(image) + 77
    with open(folder / "data.mdb", "r+b") as stream:
        stream.seek(position)
        stream.write(bytes([data[position] ^ 4]))
    with LMDBCache(folder) as cache, pytest.raises(CacheCorruptError, match="its bytes do not match its checksum"):
        cache.get(b"1")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(folder: Path, share: float) -> None:
    put(folder, *range(20))
    size = os.stat(folder / "data.mdb").st_size
    os.truncate(folder / "data.mdb", int(size * share))
    hint = re.escape("(restore data.mdb from a copy, or delete it and fill the cache again)")
    reason = r"data\.mdb has \d+ bytes of \d+: it was cut off|.*MDB_INVALID.*"
    with LMDBCache(folder) as cache:
        for use in (lambda: cache.get(b"1"), lambda: cache.put(b"x", Rejected())):
            with pytest.raises(
                CacheCorruptError, match=f"^Opening the cache {re.escape(str(folder))}: ({reason}) {hint}$"
            ):
                use()


def test_a_file_of_something_else_is_refused(folder: Path, cache: LMDBCache) -> None:
    folder.mkdir(parents=True)
    (folder / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(CacheCorruptError, match=f"^Opening the cache {re.escape(str(folder))}: .*MDB_INVALID"):
        cache.get(b"a")


def test_a_newer_folder_is_refused(folder: Path) -> None:
    put(folder, 1)
    change_value(folder, None, b"meta", lambda value: value.replace(b'"version": 1', b'"version": 2'))
    message = (
        f"Opening the cache {folder}: it has format 2 of synthloader cache, and this version of synthloader reads "
        "formats up to 1 (update synthloader: pip install -U synthloader)"
    )
    with LMDBCache(folder) as cache:
        for use in (lambda: cache.get(b"1"), lambda: cache.put(b"2", Rejected())):
            with pytest.raises(CacheVersionError, match=f"^{re.escape(message)}$"):
                use()


def test_a_broken_meta_entry_is_refused(folder: Path) -> None:
    put(folder, 1)
    change_value(folder, None, b"meta", lambda value: b"[3]")
    message = (
        f"Opening the cache {folder}: its entry `meta` is broken "
        "(restore data.mdb from a copy, or delete it and fill the cache again)"
    )
    with LMDBCache(folder) as cache, pytest.raises(CacheCorruptError, match=f"^{re.escape(message)}$"):
        cache.get(b"1")


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_folder_whose_first_write_was_killed_can_be_written(folder: Path, cache: LMDBCache, is_empty: bool) -> None:
    folder.mkdir(parents=True)
    lmdb.open(str(folder)).close()
    if is_empty:
        os.truncate(folder / "data.mdb", 0)
    assert cache.get(b"1") is None
    cache.put(b"1", make_sample(1))
    assert_same(cache.get(b"1"), make_sample(1))


def test_a_copied_folder_is_the_same_cache(folder: Path, tmp_path: Path) -> None:
    put(folder, 1)
    shutil.copytree(folder, tmp_path / "copy")
    assert has(tmp_path / "copy", 1)
