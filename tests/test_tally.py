"""Counts are exact over processes and threads of every kind, and the epoch is seen in workers that run."""

from __future__ import annotations

import copy
import io
import multiprocessing
import os
import pickle
import threading
import time
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, get_worker_info

from synthloader import tally as tally_module
from synthloader.tally import Tally

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12


class Counting(Dataset[Any]):
    """A dataset that counts what it serves, like a mix."""

    def __init__(self, size: int = 40, tally: Tally | None = None) -> None:
        self.size = size
        self.tally = Tally() if tally is None else tally

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, int]:
        worker = get_worker_info()
        self.tally.add("all")
        self.tally.add(f"worker/{'none' if worker is None else worker.id}")
        self.tally.add(f"index/{index}", 2)
        self.tally.add_fetch(self.tally.epoch)
        return index, self.tally.epoch


def read_once(dataset: Any, *, start_method: str | None = "fork", num_workers: int = 2, **more: Any) -> list[Any]:
    context = start_method if num_workers else None
    loader = DataLoader(
        dataset, 4, num_workers=num_workers, multiprocessing_context=context, generator=torch.Generator(), **more
    )
    return [place for places, _ in loader for place in places.tolist()]


def run(method: str, target: Any, *args: Any) -> Any:
    """Run a function in a process that is nobody's worker, and give back what it puts into the pipe."""
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *args))
    process.start()
    there.close()
    answer = here.recv()
    process.join(60)
    here.close()
    assert process.exitcode == 0
    return answer


# ---- one process


@given(st.lists(st.tuples(st.text(max_size=5), st.integers(1, 10**6)), max_size=30))
def test_it_counts_like_a_counter(steps: list[tuple[str, int]]) -> None:
    tally, plain = Tally(), Counter[str]()
    for name, amount in steps:
        tally.add(name, amount)
        plain[(name or "other").replace("\0", "\N{REPLACEMENT CHARACTER}")] += amount
    assert tally.read() == plain


def test_nothing_counted_is_nothing_read() -> None:
    assert Tally().read() == Counter()
    assert Tally().count_fetched(0) == 0
    assert Tally().epoch == 0


@pytest.mark.parametrize("name", ["ü" * 100, "rejected/" + "x" * 200, "line\nbreak", "\udcff.jpg", "日本語", " "])
def test_names_of_any_kind_are_kept(name: str) -> None:
    tally = Tally()
    tally.add(name, 3)
    assert tally.read() == {name.encode("utf-8", "backslashreplace").decode(): 3}


@pytest.mark.parametrize("letter", ["x", "ü", "日"])
def test_long_names_that_differ_only_at_their_end_are_counted_apart(letter: str) -> None:
    tally = Tally()
    names = [f"set/{letter * 300}/{end}" for end in ("asked", "generated", "failed")]
    for amount, name in enumerate(names, 1):
        tally.add(name, amount)
        tally.add(name, amount)
    counts = tally.read()
    assert sorted(counts.values()) == [2, 4, 6]
    assert all(name.startswith(f"set/{letter * 70}") for name in counts)
    assert all(len(name.encode()) <= 256 for name in counts)


def test_what_there_is_no_room_for_is_counted_as_other() -> None:
    tally = Tally()
    for number in range(2000):
        tally.add(f"name {number}", 2)
        tally.add(f"name {number}", 1)
    counts = tally.read()
    assert sum(counts.values()) == 6000
    assert counts["other"] == (2000 - 1023) * 3
    assert all(counts[f"name {number}"] == 3 for number in range(1023))


def test_the_fetches_of_an_epoch_are_counted_apart_from_those_of_the_one_before() -> None:
    tally = Tally()
    assert [tally.add_fetch(0) for _ in range(3)] == [1, 2, 3]
    assert [tally.add_fetch(1) for _ in range(2)] == [1, 2]
    assert (tally.count_fetched(0), tally.count_fetched(1), tally.count_fetched(2)) == (0, 2, 0)


def test_two_tallies_have_nothing_to_do_with_each_other() -> None:
    one, other = Tally(), Tally()
    one.add("a")
    one.epoch = 3
    assert (other.read(), other.epoch) == (Counter(), 0)


def test_threads_of_one_process_lose_nothing() -> None:
    tally = Tally()
    barrier = threading.Barrier(8)

    def work(place: int) -> None:
        barrier.wait()
        for number in range(2000):
            tally.add("all")
            tally.add(f"thread/{place}")
            tally.add(f"name/{number % 50}")

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = tally.read()
    assert counts["all"] == 16_000
    assert [counts[f"thread/{place}"] for place in range(8)] == [2000] * 8
    assert [counts[f"name/{number}"] for number in range(50)] == [320] * 50


def test_counting_takes_a_microsecond_or_two() -> None:
    tally = Tally()
    tally.add("a")

    def time_one() -> float:
        start = time.perf_counter()
        for _ in range(2000):
            tally.add("a")
        return (time.perf_counter() - start) / 2000

    assert min(time_one() for _ in range(5)) < 10e-6


# ---- workers of loaders


@pytest.mark.parametrize("start_method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_all_that_workers_served_is_counted(start_method: str) -> None:
    dataset = Counting()
    served = read_once(dataset, start_method=start_method)
    counts = dataset.tally.read()
    assert counts["all"] == len(served) == 40
    assert counts["worker/0"] + counts["worker/1"] == 40
    assert counts["worker/0"] == 20
    assert all(counts[f"index/{index}"] == 2 for index in range(40))
    assert dataset.tally.count_fetched(0) == 40


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_several_loaders_in_a_row_add_up(num_workers: int) -> None:
    dataset = Counting(12)
    for number in range(1, 6):
        read_once(dataset, num_workers=num_workers)
        read_once(dataset, num_workers=0)
        assert dataset.tally.read()["all"] == number * 24
        assert dataset.tally.count_fetched(0) == number * 24


def test_rows_of_workers_that_ended_are_used_again() -> None:
    dataset = Counting(8)
    for _ in range(5):
        read_once(dataset, num_workers=2)
    owners = dataset.tally._count_view[1:, 0]
    assert (owners != 0).sum() <= 2


def test_loaders_that_run_at_once_take_other_rows() -> None:
    dataset = Counting(60)
    loaders = [
        DataLoader(
            dataset, 2, num_workers=2, multiprocessing_context="fork", generator=torch.Generator(), prefetch_factor=1,
            persistent_workers=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    running = [iter(loader) for loader in loaders]
    for _ in range(30):
        for iterator in running:
            next(iterator)
    for _ in range(2):
        assert dataset.tally.read()["all"] == 180
        owners = dataset.tally._count_view[:, 0]
        taken = owners[owners != 0].tolist()
        assert len(taken) == len(set(taken)) == 6
    del running, loaders, iterator


def test_the_epoch_reaches_workers_that_are_running() -> None:
    dataset = Counting(16)
    loader = DataLoader(
        dataset, 4, num_workers=2, persistent_workers=True, multiprocessing_context="spawn", generator=torch.Generator()
    )
    for epoch in (0, 1, 5):
        dataset.tally.epoch = epoch
        assert [int(one) for _, epochs in loader for one in epochs] == [epoch] * 16
        assert dataset.tally.count_fetched(epoch) == 16


def test_an_epoch_that_a_worker_sets_is_everybodys() -> None:
    class Setting(Counting):
        def __getitem__(self, index: int) -> tuple[int, int]:
            self.tally.epoch = 7  # what loading a state does, which torchdata does in every worker
            return super().__getitem__(index)

    dataset = Setting(4)
    read_once(dataset)
    assert dataset.tally.epoch == 7
    assert dataset.tally.read()["all"] == 4


# ---- other processes


def count_here(pipe: Any, tally: Tally, times: int) -> None:
    for _ in range(times):
        tally.add("all")
        tally.add(f"pid/{os.getpid()}")
    pipe.send(os.getpid())
    pipe.close()


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_process_that_is_nobodys_worker_is_counted_too(method: str) -> None:
    tally = Tally()
    tally.add("all")
    pid = run(method, count_here, tally, 5)
    assert tally.read() == {"all": 6, f"pid/{pid}": 5}


def test_many_processes_at_once_lose_nothing_and_take_nothing_twice() -> None:
    tally = Tally()
    context = multiprocessing.get_context("fork")
    start = context.Event()

    def work(place: int) -> None:
        start.wait(60)
        for number in range(300):
            tally.add("all")
            tally.add(f"name/{(number + 37 * place) % 150}")

    processes = [context.Process(target=work, args=(place,)) for place in range(12)]
    for process in processes:
        process.start()
    start.set()
    for _ in range(20):
        assert tally.read()["all"] <= 12 * 300
    for process in processes:
        process.join(60)
    counts = tally.read()
    assert counts.pop("all") == 12 * 300
    assert counts == {f"name/{number}": 24 for number in range(150)}


def test_more_processes_than_rows_never_count_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module, "_NUM_ROWS", 3)
    tally = Tally()
    context = multiprocessing.get_context("fork")
    start = context.Event()

    def work(place: int) -> None:
        tally.add("started")
        start.wait(60)
        for _ in range(200):
            tally.add(f"place/{place}")

    processes = [context.Process(target=work, args=(place,)) for place in range(6)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(60)
    counts = tally.read()
    assert all(counts[f"place/{place}"] <= 200 for place in range(6))
    assert counts["started"] <= 6


def be_a_rank(pipe: Any, dataset: Counting, epoch: int) -> None:
    tally = dataset.tally
    tally.epoch = epoch
    read_once(dataset, num_workers=0)
    read_once(dataset, num_workers=2)
    before = tally.epoch
    pipe.send((before, tally.read()["all"], tally.count_fetched(epoch)))
    pipe.close()


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_rank_that_was_handed_the_dataset_counts_for_itself(method: str) -> None:
    # As torch.multiprocessing.spawn(train, args=(dataset,)) does: summed over ranks, nothing may be counted twice.
    dataset = Counting(10)
    dataset.tally.add("all", 1000)
    for epoch in (3, 4):
        assert run(method, be_a_rank, dataset, epoch) == (epoch, 20, 20)
    assert dataset.tally.read() == {"all": 1000}
    assert dataset.tally.epoch == 0


def set_an_epoch_after_counting(pipe: Any, tally: Tally) -> None:
    tally.count_fetched(0)  # As `MixedDataset.set_epoch` does before it sets one.
    tally.epoch = 5
    pipe.send(tally.epoch)
    pipe.close()


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_no_rank_sets_the_epoch_of_another(method: str) -> None:
    tally = Tally()
    tally.epoch = 3
    assert run(method, set_an_epoch_after_counting, tally) == 5
    assert tally.epoch == 3
    assert run(method, read_epoch, tally) == 3


def read_epoch(pipe: Any, tally: Tally) -> None:
    tally.read()
    pipe.send(tally.epoch)
    pipe.close()


def count_then_read(pipe: Any, tally: Tally) -> None:
    tally.add("all", 5)
    tally.add_fetch(0)
    pipe.send((dict(tally.read()), tally.count_fetched(0)))
    pipe.close()


def test_a_process_that_reads_takes_its_own_counts_with_it() -> None:
    tally = Tally()
    tally.add("all", 100)
    tally.add_fetch(0)
    assert run("fork", count_then_read, tally) == ({"all": 5}, 1)
    assert (tally.read(), tally.count_fetched(0)) == ({"all": 100}, 1)


# ---- copies


def _save_and_load(tally: Tally) -> Tally:
    file = io.BytesIO()
    torch.save(tally, file)
    file.seek(0)
    loaded: Tally = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize(
    "duplicate",
    [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy, _save_and_load],
    ids=["pickle", "deep", "save"],
)
def test_a_plain_copy_takes_the_counts_along_and_then_counts_for_itself(duplicate: Any) -> None:
    dataset = Counting(8)
    dataset.tally.epoch = 2
    read_once(dataset, num_workers=2)
    twin = duplicate(dataset.tally)
    assert (twin.read(), twin.epoch, twin.count_fetched(2)) == (dataset.tally.read(), 2, 8)
    twin.add("all")
    twin.add("new")
    twin.epoch = 9
    assert (twin.read()["all"], twin.read()["new"], dataset.tally.read()["all"]) == (9, 1, 8)
    assert dataset.tally.epoch == 2
    read_once(Counting(8, twin), num_workers=2)
    assert (twin.read()["all"], dataset.tally.read()["all"]) == (17, 8)


def read_a_pickle(pipe: Any, content: bytes) -> None:
    tally = pickle.loads(content)
    tally.add("all")
    pipe.send(dict(tally.read()))
    pipe.close()


@pytest.mark.slow
def test_a_pickle_can_be_read_in_another_process() -> None:
    tally = Tally()
    tally.add("all", 3)
    assert run("spawn", read_a_pickle, pickle.dumps(tally)) == {"all": 4}
    assert tally.read() == {"all": 3}


def _refuse_to_lock(*args: Any) -> None:
    raise OSError("No locks available")


def test_where_files_cannot_be_locked_it_counts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module.fcntl, "flock", _refuse_to_lock)
    dataset = Counting(8)
    read_once(dataset, num_workers=1)
    assert dataset.tally.read()["all"] == 8
