"""SIGKILL at random moments: what was said to be kept is kept, and what goes on ends as if nothing had happened."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.upkeep.compact import compact
from synthloader.cache.upkeep.merge import merge
from synthloader.cache.upkeep.verify import verify
from synthloader.generated import GeneratedDataset
from synthloader.precompute import precompute
from synthloader.protocols import Verdict
from synthloader.sample import Sample
from tests.cache.processes import PATIENCE_S, other_process, receive
from tests.cache.samples import assert_same, make_sample
from tests.cache.standby import list_records, put, put_into_shard
from tests.scenes import RejectBy, ScenesDataset, Shade

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

# By their names: functions are called as their modules are.
environment, merge_module, precompute_module = map(
    importlib.import_module,
    ("synthloader.cache.environment", "synthloader.cache.upkeep.merge", "synthloader.precompute"),
)

SMALL_MAP = 1 << 16
FEW, MANY = 12, 200
rounds_of = pytest.mark.parametrize(
    "rounds", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=7))


def kill_at(moment_s: float, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a process and those of its group had said when all of them were killed, this long after they began."""
    said: list[Any] = []
    with other_process(_lead_group, function, *arguments) as (connection, process):
        assert receive(connection) == "ready"
        time.sleep(moment_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        with suppress(EOFError, ConnectionResetError):  # Cut off in the middle of a message: nothing was said.
            while connection.poll():
                said.append(connection.recv())
        assert process.exitcode in (-signal.SIGKILL, 0)
    return said


def go_on(rounds: int, count: Callable[[], int]) -> Iterator[int]:
    """Count at least so many rounds, and on until more than that was done: a busy machine kills many at their start."""
    for turn in range(10 * rounds):
        if turn >= rounds and count() > rounds:
            return
        yield turn
    raise AssertionError(f"{10 * rounds} processes were killed, and hardly one at work")


def _lead_group(connection: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    os.setpgid(0, 0)
    connection.send("ready")
    function(connection, *arguments)


def check_whole(path: Path) -> None:
    with LMDBCache(path) as cache:
        report = verify(cache)
        assert [finding.to_dict() for finding in report.findings] == []


# ------------------------------------------------------------------------------------------------ a writer


def write_everything(connection: Connection, path: Path, first: int) -> None:
    """Put, put many, judge, delete and flush, and say what has returned."""
    with LMDBCache(path, map_size_bytes=SMALL_MAP, codec="raw") as cache:
        for number in range(first, first + 100_000, 5):
            cache.put(b"%d" % number, make_sample(number))
            connection.send(("put", [number]))
            many = [number + 1, number + 2, number + 3]
            cache.put_many((b"%d" % each, make_sample(each)) for each in many)
            connection.send(("put", many))
            cache.put_verdict(b"%d" % number, "f", Verdict(True, float(number)), of=make_sample(number))
            connection.send(("judged", [number]))
            connection.send(("deleting", [number + 1]))
            cache.delete([b"%d" % (number + 1)])
            connection.send(("deleted", [number + 1]))
            cache.put(b"%d" % (number + 4), make_sample(number + 4))
            cache.flush()
            connection.send(("put", [number + 4]))


@rounds_of
def test_what_a_killed_writer_had_said_is_true(folder: Path, rng: np.random.Generator, rounds: int) -> None:
    sure: set[int] = set()
    judged: set[int] = set()
    deleted: set[int] = set()
    unsure: set[int] = set()
    for turn in go_on(rounds, lambda: len(judged)):
        said = kill_at(float(rng.uniform(0, 0.06)), write_everything, folder, turn * 100_000)
        for what, numbers in said:
            sure.update(numbers if what == "put" else ())
            judged.update(numbers if what == "judged" else ())
            unsure.update(numbers if what == "deleting" else ())
            deleted.update(numbers if what == "deleted" else ())
        assert not said or said[-1]
        sure -= unsure
        with LMDBCache(folder) as cache:
            found = {int(key) for key in cache}
            assert sure <= found
            assert not deleted & found
            assert len(found - sure - unsure) <= 3 * (turn + 1)  # What was committed and not yet said.
            for number in sorted(found)[-8:]:
                assert_same(cache.get(b"%d" % number), make_sample(number))
            for number in sorted(judged)[-2:]:
                verdict = cache.get_verdict(b"%d" % number, "f", of=make_sample(number))
                assert_same(verdict, Verdict(True, float(number)))
        if turn % 10 == 0:
            check_whole(folder)
    check_whole(folder)
    with LMDBCache(folder) as cache:
        for number in found:
            assert_same(cache.get(b"%d" % number), make_sample(number))


def test_what_a_killed_writer_had_not_committed_is_gone_and_its_lock_is_free(folder: Path) -> None:
    def write_half(connection: Connection) -> None:
        apply = environment.apply_change

        def apply_and_stop(change: Any, *rest: Any) -> None:
            apply(change, *rest)
            if change.key == b"3":
                connection.send("in the middle")
                time.sleep(PATIENCE_S)

        environment.apply_change = apply_and_stop
        with LMDBCache(folder) as cache:
            cache.put(b"1", make_sample(1))
            cache.put_many((b"%d" % number, make_sample(number)) for number in (2, 3, 4))

    with other_process(write_half) as (connection, process):
        assert receive(connection) == "in the middle"
        with LMDBCache(folder, readonly=True) as cache:
            assert list(cache) == [b"1"]
        process.kill()
        process.join()
        put(folder, 5)  # At once.
    with LMDBCache(folder) as cache:
        assert list(cache) == [b"1", b"5"]
    check_whole(folder)


def delete_one_by_one(connection: Connection, path: Path, count: int) -> None:
    with LMDBCache(path) as cache:
        for number in range(count):
            connection.send(("deleting", number))
            cache.delete([b"%d" % number])
            connection.send(("deleted", number))


@rounds_of
def test_what_a_killed_process_had_deleted_is_gone_and_the_rest_is_whole(
    tmp_path: Path, rng: np.random.Generator, rounds: int
) -> None:
    count = 60
    put(tmp_path / "template", *range(count))
    put_into_shard(tmp_path / "template", "s", *range(0, count, 2))
    stopped = 0
    for _ in range(rounds):
        path = tmp_path / "cache"
        shutil.copytree(tmp_path / "template", path)
        said = dict(reversed(each) for each in kill_at(float(rng.uniform(0, 0.04)), delete_one_by_one, path, count))
        deleted = {number for number, what in said.items() if what == "deleted"}
        unsure = {number for number, what in said.items() if what == "deleting"}
        stopped += 0 < len(deleted) < count
        check_whole(path)
        with LMDBCache(path) as cache:
            found = {int(key) for key in cache}
            assert set(range(count)) - deleted - unsure <= found
            assert not found & deleted
            for number in sorted(found)[:3]:
                assert_same(cache.get(b"%d" % number), make_sample(number))
        shutil.rmtree(path)
    assert stopped >= rounds // 4


# ------------------------------------------------------------------------------------------------ compact and merge


def compact_on_and_on(connection: Connection, path: Path) -> None:
    with LMDBCache(path) as cache:
        while True:
            compact(cache)
            cache.put(b"extra", make_sample(1))
            cache.delete([b"extra"])


@rounds_of
def test_a_file_whose_compaction_was_killed_is_whole(folder: Path, rng: np.random.Generator, rounds: int) -> None:
    put(folder, *range(40))
    put_into_shard(folder, "s", 100, 101)
    expected = list_records(folder)
    for _ in range(rounds):
        kill_at(float(rng.uniform(0, 0.05)), compact_on_and_on, folder)
        with LMDBCache(folder) as cache:
            assert_same(cache.get(b"7"), make_sample(7))
            assert_same(cache.get(b"100"), make_sample(100))
            cache.delete([b"extra"])
    check_whole(folder)
    assert list_records(folder) == expected
    with LMDBCache(folder) as cache:
        compact(cache)
    assert not (folder / "compacted").exists()
    assert list_records(folder) == expected


def merge_in_small_steps(connection: Connection, path: Path) -> None:
    merge_module._COMMIT_EVERY_S = 0.0
    with LMDBCache(path) as cache:
        connection.send("merging")
        merge(cache)
        connection.send("merged")


@rounds_of
def test_a_merge_that_was_killed_goes_on_to_the_same_end(tmp_path: Path, rng: np.random.Generator, rounds: int) -> None:
    template, path = tmp_path / "template", tmp_path / "cache"
    put(template, *range(10))
    for name, start in (("a", 5), ("b", 20), ("c", 30)):
        put_into_shard(template, name, *range(start, start + 15))
    with LMDBCache(template) as cache, cache.open_shard("b") as shard:
        shard.put_verdict(b"20", "f", Verdict(False, 0.25, "why"), of=make_sample(20))
    shutil.copytree(template, tmp_path / "whole")
    with LMDBCache(tmp_path / "whole") as cache:
        began = time.monotonic()
        merge(cache)
        took_s = time.monotonic() - began
    expected = list_records(tmp_path / "whole")
    stopped = 0
    for _ in range(rounds):
        shutil.copytree(template, path)
        while kill_at(float(rng.uniform(0, 1.5 * took_s + 0.02)), merge_in_small_steps, path)[-1:] != ["merged"]:
            stopped += 1
            with LMDBCache(path) as cache:
                assert {int(key) for key in cache} == {int(key) for kind, key in expected if kind == b"entries"}
            check_whole(path)
        assert list_records(path) == expected
        left = [each for each in path.iterdir() if each.is_dir()]
        assert [file for each in left for file in each.iterdir()] == []  # Killed just before it was removed: no shard.
        shutil.rmtree(path)
    assert stopped >= rounds // 4


# ------------------------------------------------------------------------------------------------ shards and precompute


def write_to_a_shard(connection: Connection, path: Path, first: int) -> None:
    with LMDBCache(path) as cache, cache.open_shard() as shard:
        for number in range(first, first + 100_000):
            shard.put(b"%d" % number, make_sample(number))
            connection.send(number)


@rounds_of
def test_killed_writers_of_shards_lose_nothing_and_leave_their_places(
    folder: Path, rng: np.random.Generator, rounds: int
) -> None:
    said: set[int] = set()

    def write_beside(connection: Connection, path: Path, first: int) -> None:
        if os.fork() == 0:
            first += 50_000
        write_to_a_shard(connection, path, first)

    for turn in go_on(rounds, lambda: len(said)):
        said.update(kill_at(float(rng.uniform(0, 0.08)), write_beside, folder, turn * 100_000))
        with LMDBCache(folder) as cache:
            found = {int(key) for key in cache}
            assert said <= found
            assert len(found - said) <= 2 * (turn + 1)
    assert len([path for path in folder.iterdir() if path.is_dir()]) <= 2
    check_whole(folder)
    with LMDBCache(folder) as cache:
        for number in sorted(said)[:: max(1, len(said) // 200)]:
            assert_same(cache.get(b"%d" % number), make_sample(number))


class SlowShade(Shade):
    """Takes its time, so that there is something to be killed."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        time.sleep(0.002)
        return super().generate(source, rng=rng)


def make_generated(path: Path) -> GeneratedDataset:
    return GeneratedDataset(
        ScenesDataset(30),
        SlowShade(),
        cache=LMDBCache(path, map_size_bytes=SMALL_MAP),
        variants=3,
        version="1",
        filters=[RejectBy(share=0.4)],
    )


def fill(connection: Connection | None, path: Path, num_workers: int) -> None:
    precompute_module._MOST_PENDING, precompute_module._MOST_SECONDS = 5, 0.01  # Many commits, to be hit.
    generated = make_generated(path)
    precompute(generated, num_workers=num_workers, progress=False)
    generated.cache.close()  # type: ignore[union-attr]
    if connection is not None:
        connection.send("filled")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_precompute_that_was_killed_ends_with_the_same_bytes(
    tmp_path: Path, rng: np.random.Generator, num_workers: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precompute_module, "_MOST_PENDING", 5)
    monkeypatch.setattr(precompute_module, "_MOST_SECONDS", 0.01)
    whole, path = tmp_path / "whole", tmp_path / "cache"
    began = time.monotonic()
    fill(None, whole, 0)
    took_s = time.monotonic() - began
    expected = list_records(whole)
    assert len(expected) > 150
    before: dict[tuple[bytes, bytes], bytes] = {}
    stopped = 0
    for _ in range(rounds):
        moment_s = float(rng.uniform(0.1 * (num_workers > 0), 0.5 * took_s + 0.1 * num_workers))
        is_filled = kill_at(moment_s, fill, path, num_workers)[-1:] == ["filled"]
        check_whole(path)
        now = list_records(path)
        assert before.items() <= now.items() <= expected.items()
        assert now == expected or not is_filled
        stopped += len(before) < len(now) < len(expected)
        before = now
        if len(now) == len(expected):
            shutil.rmtree(path)
            before = {}
    assert stopped > 1
    fill(None, path, num_workers)
    assert list_records(path) == expected
