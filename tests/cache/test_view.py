"""`view`: the file's own memory, for a block, and nothing that happens meanwhile harms it."""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.codecs import CODECS
from synthloader.cache.environment import GATE
from synthloader.cache.upkeep.compact import compact
from synthloader.errors import CacheCorruptError, CacheError
from synthloader.protocols import Rejected
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.cache.processes import run_elsewhere
from tests.cache.samples import assert_same, make_sample
from tests.cache.standby import change_record, churn, delete, merge_shards, put, put_big, put_into_shard, standby

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

LEAVE_FIRST = "this thread has a view of a cache open (leave the `with cache.view(key)` block first)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> Iterator[LMDBCache]:
    with LMDBCache(folder, codec="raw") as made:
        made.put_many((b"%d" % number, make_sample(number)) for number in range(3))
        yield made
    assert not GATE.is_busy


def list_maps(folder: Path) -> list[range]:
    """The addresses at which this process sees the cache's file."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(folder / "data.mdb")):
            start, end = line.split()[0].split("-")
            found.append(range(int(start, 16), int(end, 16)))
    return found


def list_arrays(value: Any, at: str = "entry") -> Iterator[tuple[str, np.ndarray]]:
    match value:
        case np.ndarray():
            yield at, value
        case Sample():
            for name in ("image", "target", "origin", "maps", "fields"):
                yield from list_arrays(getattr(value, name), name)
        case Instances():
            for name in ("class_ids", "boxes", "masks", "keypoints", "crowd", "attributes"):
                yield from list_arrays(getattr(value, name), f"{at}.{name}")
        case SemanticMask():
            yield f"{at}.mask", value.mask
        case dict():
            for name, each in value.items():
                yield from list_arrays(each, f"{at}.{name}")
    if getattr(value, "edited", None) is not None:
        yield f"{at}.edited", value.edited


TARGETS: dict[str, Any] = {
    "instances": make_sample().target,
    "semantic": SemanticMask(np.arange(120, dtype=np.int32).reshape(12, 10)),
    "wide semantic": SemanticMask(np.arange(120, dtype=np.int32).reshape(12, 10) * 100_000),
    "label": ClassLabel(3),
    "none": None,
}


# ------------------------------------------------------------------------------------------------ what it shows


def test_raw_pixels_are_the_files_own(folder: Path, cache: LMDBCache) -> None:
    with cache.view(b"1") as sample:
        assert isinstance(sample, Sample)
        address = sample.image.__array_interface__["data"][0]
        assert any(address in each and address + sample.image.nbytes in each for each in list_maps(folder))
        with cache.view(b"1") as again:
            assert isinstance(again, Sample)
            assert np.shares_memory(sample.image, again.image)
        assert not np.shares_memory(sample.image, cache.get(b"1").image)  # type: ignore[union-attr]


def test_raw_pixels_take_no_memory(folder: Path) -> None:
    put(folder, 1, codec="raw", size_hw=(1000, 1000))

    def peak(path: Path) -> tuple[int, int]:
        import tracemalloc  # Slows the process down, so it runs elsewhere.

        with LMDBCache(path) as cache:
            for key in (b"0", b"1"):
                with cache.view(key):
                    pass
            tracemalloc.start()
            with cache.view(b"1"):
                viewed = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            cache.get(b"1")
            return viewed, tracemalloc.get_traced_memory()[1]

    viewed, got = run_elsewhere(peak, folder)
    assert viewed < 300_000  # The packed masks and the tree; depth is a view as well.
    assert got > 3_000_000


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", TARGETS)
def test_a_view_says_what_get_says(folder: Path, codec: str, kind: str) -> None:
    entry = make_sample(5).replace(target=TARGETS[kind])
    with LMDBCache(folder, codec=codec) as cache:
        cache.put(b"a", entry)
        with cache.view(b"a") as seen:
            assert_same(seen, cache.get(b"a"))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", TARGETS)
def test_nothing_in_a_view_can_be_written_to(folder: Path, codec: str, kind: str) -> None:
    with LMDBCache(folder, codec=codec) as cache:
        cache.put(b"a", make_sample(5).replace(target=TARGETS[kind]))
        with cache.view(b"a") as seen:
            found = dict(list_arrays(seen))
            assert "image" in found
            assert "origin.edited" in found
            assert [name for name, array in found.items() if array.flags.writeable] == []
            with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
                found["maps.depth"].flags.writeable = True
        assert [name for name, array in list_arrays(cache.get(b"a")) if not array.flags.writeable] == []


def test_a_view_of_what_is_not_there_is_none(folder: Path, cache: LMDBCache) -> None:
    with cache.view(b"x") as entry:
        assert entry is None
        cache.put(b"x", Rejected("why"))  # Nothing is shown, so nothing is in the way.
    with cache.view(b"x") as entry:
        assert entry == Rejected("why")
    with LMDBCache(folder.parent / "empty") as empty, empty.view(b"x") as entry:
        assert entry is None


def test_a_broken_record_is_named(folder: Path, cache: LMDBCache) -> None:
    cache.close()
    change_record(folder, b"entries", b"1", lambda value: value[:300] + bytes([value[300] ^ 1]) + value[301:])
    message = (
        f"Reading entry 31 of the cache {folder}: its bytes do not match its checksum "
        "(open the cache with on_corrupt='regenerate', or take it out: synthloader cache verify PATH --quarantine)"
    )
    with pytest.raises(CacheCorruptError, match=f"^{re.escape(message)}$"), cache.view(b"1"):
        raise AssertionError("shown")
    with LMDBCache(folder, on_corrupt="regenerate") as other, other.view(b"1") as entry:
        assert entry is None
    with cache.view(b"2") as entry:
        assert_same(cache.get(b"2"), entry)


# ------------------------------------------------------------------------------------------------ in the block


def test_get_and_views_work_inside(cache: LMDBCache) -> None:
    other = LMDBCache(cache.path)
    with cache.view(b"1") as one, cache.view(b"2") as two:
        assert_same(cache.get(b"0"), make_sample(0))
        assert_same(cache.get(b"1"), one)
        assert_same(other.get(b"2"), two)
        assert cache.get(b"none") is None
        assert list(cache) == [b"0", b"1", b"2"]
        assert len(cache) == 3
        assert b"2" in cache
    other.close()


@pytest.mark.parametrize(
    ("what", "use"),
    [
        ("Writing to", lambda cache: cache.put(b"9", make_sample(9))),
        ("Writing to", lambda cache: cache.put_many([(b"9", make_sample(9))])),
        ("Writing to", lambda cache: cache.delete([b"0"])),
        ("Writing to", lambda cache: cache.flush()),
        ("Closing", lambda cache: cache.close()),
        ("Compacting", compact),
    ],
    ids=["put", "put_many", "delete", "flush", "close", "compact"],
)  # fmt: skip
@pytest.mark.parametrize("is_same", [True, False])
def test_what_would_harm_a_view_is_refused_and_harms_nothing(
    folder: Path, cache: LMDBCache, what: str, use: Any, is_same: bool
) -> None:
    other = cache if is_same else LMDBCache(folder)
    message = f"{what} the cache {folder}: {LEAVE_FIRST}"
    with cache.view(b"1") as sample:
        for _ in range(2):
            with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
                use(other)
        assert_same(sample, make_sample(1))
        assert list(cache) == [b"0", b"1", b"2"]
    use(other)
    assert_same(cache.get(b"1"), make_sample(1))
    other.close()


def test_opening_a_shard_is_refused_inside(folder: Path, cache: LMDBCache) -> None:
    message = f"Writing to the cache {folder / 'x'}: {LEAVE_FIRST}"
    with cache.view(b"1"), pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        cache.open_shard("x")
    with cache.open_shard("x") as shard:
        shard.put(b"x", make_sample(4))
    assert_same(cache.get(b"x"), make_sample(4))


def test_an_error_out_of_the_block_ends_the_view(cache: LMDBCache) -> None:
    for error in (ValueError("mine"), KeyboardInterrupt(), CacheCorruptError("a", reason="b")):
        with pytest.raises(type(error)) as caught, cache.view(b"1"):
            raise error
        assert caught.value is error
    cache.put(b"9", make_sample(9))
    assert not GATE.is_busy


def test_leaving_the_block_early_ends_the_view(cache: LMDBCache) -> None:
    def first_pixel() -> int:
        with cache.view(b"1") as sample:
            return int(sample.image[0, 0, 0])  # type: ignore[union-attr]

    assert first_pixel() == make_sample(1).image[0, 0, 0]
    for key in cache:
        with cache.view(key):
            break
    cache.put(b"9", make_sample(9))


def test_a_view_that_is_forgotten_ends(cache: LMDBCache) -> None:
    block = cache.view(b"1")
    block.__enter__()
    del block
    gc.collect()
    assert not GATE.is_busy
    cache.put(b"9", make_sample(9))


def test_puts_of_other_threads_wait_until_the_view_ends(cache: LMDBCache) -> None:
    events: list[str] = []

    def write() -> None:
        cache.put(b"9", make_sample(9))
        events.append("put")

    with cache.view(b"1") as sample:
        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.2)
        assert_same(sample, make_sample(1))
        assert_same(cache.get(b"2"), make_sample(2))  # One that is inside goes in again, before who waits.
        events.append("end")
    thread.join(30)
    assert events == ["end", "put"]
    assert_same(cache.get(b"9"), make_sample(9))


def test_views_of_many_threads_beside_a_writer_show_what_was_put(folder: Path, cache: LMDBCache) -> None:
    done = threading.Event()
    errors: list[BaseException] = []
    seen = [0] * 3

    def look(at: int) -> None:
        try:
            while not done.is_set():
                with cache.view(b"%d" % at) as sample:
                    assert_same(sample, make_sample(at))
                    seen[at] += 1
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            errors.append(error)

    threads = [threading.Thread(target=look, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(40):
        cache.put(b"x%d" % turn, make_sample(turn, size_hw=(50, 50)))
        cache.delete([b"x%d" % turn])
        if turn % 10 == 0:
            compact(cache)
    done.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert min(seen) > 0


# ------------------------------------------------------------------------------------------------ other processes


def test_a_writer_elsewhere_does_not_disturb_it(folder: Path) -> None:
    with standby() as run:
        run(put, folder, *range(3))
        with LMDBCache(folder) as cache:
            with cache.view(b"1") as sample:
                assert run(delete, folder, 0, 1, 2) == 3
                run(churn, folder, 50)
                assert_same(sample, make_sample(1))
            assert cache.get(b"1") is None


def test_a_view_pins_pages_only_while_it_is_open(folder: Path) -> None:
    with standby() as run:
        run(put, folder, 1)
        with LMDBCache(folder) as cache:
            assert_same(cache.get(b"1"), make_sample(1))
            run(churn, folder, 20)
            small = (folder / "data.mdb").stat().st_size
            run(churn, folder, 60)
            assert (folder / "data.mdb").stat().st_size == small  # A reader that reads nothing pins nothing.
            with cache.view(b"1"):
                run(churn, folder, 60)
            pinned = (folder / "data.mdb").stat().st_size
            assert pinned > 1.5 * small
            run(churn, folder, 60)
            assert (folder / "data.mdb").stat().st_size == pinned


def test_a_map_that_outgrew_ours_cannot_be_read_inside_and_can_afterwards(folder: Path) -> None:
    message = f"Reading the cache {folder}: {LEAVE_FIRST}"
    with standby() as run:
        run(put, folder, 1)
        with LMDBCache(folder, map_size_bytes=1 << 16) as cache:
            with cache.view(b"1") as sample:
                run(put_big, folder, 2)
                with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
                    cache.get(b"2")
                assert_same(sample, make_sample(1))
            assert_same(cache.get(b"2"), make_sample(2, size_hw=(1000, 1000)))


def test_get_works_inside_while_shards_come_and_go(folder: Path) -> None:
    with standby() as run:
        run(put, folder, 1)
        run(put_into_shard, folder, "s", 2)
        with LMDBCache(folder) as cache:
            assert_same(cache.get(b"2"), make_sample(2))
            with cache.view(b"2") as sample:
                assert run(merge_shards, folder) == 1
                assert cache.get(b"none") is None
                assert_same(cache.get(b"2"), make_sample(2))
                run(put_into_shard, folder, "t", 3)
                assert_same(cache.get(b"3"), make_sample(3))
                run(churn, folder, 20)
                assert_same(sample, make_sample(2))
            assert cache.get(b"none") is None
            assert [lease.folder.name for lease in cache.leases] == ["cache", "t"]
            assert list(cache) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("leaves", [True, False])
def test_a_fork_inside_leaves_the_parents_view_alone(folder: Path, leaves: bool) -> None:
    closed = (
        f"Opening the cache {folder}: The environment '{folder}' is already open in this process. "
        "(close() the cache before the process is forked, or start workers with spawn)"
    )
    with standby() as run:
        run(put, folder, *range(3))
        cache = LMDBCache(folder)
        reading, writing = os.pipe()
        child = -1
        try:
            with cache.view(b"1") as sample:
                child = os.fork()
                if child == 0:
                    assert_same(sample, make_sample(1))
                    for use in (lambda: cache.get(b"2"), lambda: cache.put(b"9", make_sample(9))):
                        with pytest.raises(CacheError, match=f"^{re.escape(closed)}$"):
                            use()
                    if not leaves:
                        os.write(writing, b"ok")
                        os._exit(0)
                else:
                    os.close(writing)
                    assert os.waitpid(child, 0)[1] == 0
                    assert os.read(reading, 9) == b"ok"
                    assert run(delete, folder, 0, 1, 2) == 3
                    run(churn, folder, 60)
                    assert_same(sample, make_sample(1))
            if child == 0:  # Behind the block: the child ended a view that is its parent's.
                gc.collect()
                os.write(writing, b"ok")
                os._exit(0)
        finally:
            if child == 0:
                os._exit(1)
        os.close(reading)
        assert cache.get(b"1") is None
        cache.put(b"9", make_sample(9))
        assert_same(cache.get(b"9"), make_sample(9))
        cache.close()
