"""No room: on the disk, in the map, in the address space, among the readers. What was put stays, and work goes on."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.upkeep.compact import compact
from synthloader.cache.upkeep.merge import merge
from synthloader.cache.upkeep.verify import verify
from synthloader.errors import CacheFullError
from synthloader.generated import GeneratedDataset
from synthloader.precompute import precompute
from synthloader.store import Store
from tests.cache.processes import run_elsewhere
from tests.cache.samples import assert_same, make_sample
from tests.cache.standby import list_records, put, put_into_shard
from tests.scenes import ScenesDataset, Shade

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

KEPT = "(make room and go on: what was put before is kept)"
SIZE_HW = (100, 100)


class Disk:
    """A small file system of our own; or, where none may be mounted, a limit on the size of files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Take all room but this."""
        with open(self.path / "filler", "ab", buffering=0) as stream, suppress(OSError):
            while stream.write(bytes(4096)):
                pass
        size = os.path.getsize(self.path / "filler")
        os.truncate(self.path / "filler", max(0, size - leave_bytes))

    def empty(self) -> None:
        (self.path / "filler").unlink()


def mount(path: Path, size_bytes: int) -> bool:
    path.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)]
    try:
        return subprocess.run(mounting, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    if not mount(path, 3 << 20):
        pytest.skip("Needs to mount a small file system: run it as root.")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill_with_samples(cache: LMDBCache, first: int = 0) -> tuple[int, str]:
    """Put samples until there is no room: how many there are then, and what was said."""
    for number in range(first, first + 1000):
        try:
            cache.put(b"%d" % number, make_sample(number, size_hw=SIZE_HW))
        except CacheFullError as error:
            return number, str(error)
    raise AssertionError("it never was full")


def matches(text: str, folder: Path) -> bool:
    what = rf"(Writing to|Opening|Compacting) the cache {re.escape(str(folder))}"
    reason = r"(No space left on device|Input/output error|File too large|\d+ bytes are to be written and the disk has \d+ left)"
    return re.fullmatch(rf"{what}: {reason} {re.escape(KEPT)}", text) is not None


def has(cache: LMDBCache, count: int) -> bool:
    for number in range(count):
        assert_same(cache.get(b"%d" % number), make_sample(number, size_hw=SIZE_HW))
    assert len(cache) == count
    return True


# ------------------------------------------------------------------------------------------------ the disk


def test_what_was_put_stays_and_the_same_cache_goes_on(disk: Disk) -> None:
    folder = disk.path / "cache"
    disk.fill(leave_bytes=1 << 20)
    with LMDBCache(folder, map_size_bytes=1 << 16) as cache:
        count, message = fill_with_samples(cache)
        assert matches(message, folder)
        assert count > 5
        for _ in range(3):
            assert fill_with_samples(cache, count)[0] == count
        assert has(cache, count)
        with cache.view(b"1") as sample:
            assert_same(sample, cache.get(b"1"))
        disk.empty()
        cache.put(b"%d" % count, make_sample(count, size_hw=SIZE_HW))
        assert has(cache, count + 1)
        assert verify(cache).findings == []


def test_a_commit_that_does_not_fit_leaves_nothing(disk: Disk) -> None:
    with LMDBCache(disk.path / "cache") as cache:
        cache.put(b"0", make_sample(0, size_hw=SIZE_HW))
        disk.fill(leave_bytes=100_000)
        with pytest.raises(CacheFullError):
            cache.put_many((b"%d" % number, make_sample(number, size_hw=SIZE_HW)) for number in range(1, 20))
        assert has(cache, 1)
        disk.empty()
        cache.put_many((b"%d" % number, make_sample(number, size_hw=SIZE_HW)) for number in range(1, 20))
        assert has(cache, 20)


@pytest.mark.parametrize(
    "use",
    [
        lambda cache: cache.put(b"9", make_sample(9, size_hw=SIZE_HW)),
        lambda cache: cache.open_shard(),
        lambda cache: compact(cache),
        lambda cache: merge(cache),
    ],
    ids=["put", "open_shard", "compact", "merge"],
)
def test_nothing_kills_the_interpreter_on_a_full_disk(disk: Disk, use: Callable[[LMDBCache], Any]) -> None:
    folder = disk.path / "cache"
    put(folder, *range(5), size_hw=SIZE_HW)
    with LMDBCache(folder) as cache, cache.open_shard("s") as shard:
        shard.put(b"5", make_sample(5, size_hw=SIZE_HW))
    disk.fill()

    def try_it() -> str:
        with LMDBCache(folder) as cache:
            try:
                use(cache)
            except CacheFullError as error:
                text = str(error)
            assert has(cache, 6)
        return text

    text = run_elsewhere(try_it)
    assert re.search(r"No space left on device|Input/output error|the disk has \d+ left", text)
    assert text.endswith(KEPT)
    disk.empty()
    with LMDBCache(folder) as cache:
        shard = use(cache)
        assert len(cache) >= 6
        if isinstance(shard, LMDBCache):
            shard.close()


def test_a_new_cache_on_a_full_disk_is_refused(disk: Disk) -> None:
    disk.fill()

    def try_it() -> list[str]:
        texts = []
        for use in (lambda cache: cache.put(b"1", make_sample(1)), lambda cache: cache.open_shard()):
            with LMDBCache(disk.path / "cache") as cache:
                try:
                    use(cache)
                except CacheFullError as error:
                    texts.append(str(error))
        return texts

    texts = run_elsewhere(try_it)
    assert len(texts) == 2
    assert all("No space left on device" in text for text in texts)
    disk.empty()
    put(disk.path / "cache", 1)


def test_a_cache_without_its_lock_file_is_refused_on_a_full_disk(disk: Disk) -> None:
    folder = disk.path / "cache"
    put(folder, 1)
    (folder / "lock.mdb").unlink()
    disk.fill()
    message = f"Opening the cache {folder}: No space left on device {KEPT}"

    def read() -> str:
        with LMDBCache(folder) as cache, pytest.raises(CacheFullError, match=f"^{re.escape(message)}$"):
            cache.get(b"1")
        return "refused"

    assert run_elsewhere(read) == "refused"
    disk.empty()
    with LMDBCache(folder) as cache:
        assert_same(cache.get(b"1"), make_sample(1))


def test_many_readers_find_a_place_on_a_full_disk(disk: Disk) -> None:
    put(disk.path / "cache", 1)
    disk.fill()

    def read() -> int:
        with LMDBCache(disk.path / "cache") as cache, ExitStack() as stack:
            for _ in range(1000):
                stack.enter_context(cache.view(b"1"))
            stack.close()
        return 1000

    assert run_elsewhere(read) == 1000


def test_a_precompute_that_found_no_room_goes_on_in_the_same_process(disk: Disk, tmp_path: Path) -> None:
    def make(folder: Path) -> GeneratedDataset:
        cache = LMDBCache(folder, codec="raw", map_size_bytes=1 << 16)
        return GeneratedDataset(ScenesDataset(40), Shade(), cache=cache, variants=2, version="1")

    whole = make(tmp_path / "whole")
    precompute(whole, progress=False)
    whole.cache.close()  # type: ignore[union-attr]
    folder = disk.path / "cache"
    for part in (None, (1, 1)):
        disk.fill(leave_bytes=400_000)
        generated = make(folder)
        with pytest.raises(CacheFullError):
            precompute(generated, progress=False, part=part)
        disk.empty()
        assert precompute(generated, progress=False, part=part).done == 80
        generated.cache.close()  # type: ignore[union-attr]
        with LMDBCache(folder) as cache:
            merge(cache)
        assert list_records(folder) == list_records(tmp_path / "whole")
        for file in folder.iterdir():
            file.unlink()


def test_workers_without_room_serve_all_the_same_and_say_so_once(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    disk.fill()
    made = GeneratedDataset(ScenesDataset(4), Shade(), cache=LMDBCache(disk.path / "cache"), variants=1, version="1")
    with caplog.at_level("WARNING", "synthloader"):
        served = [made.sample(index).image.tobytes() for index in range(4)]
    assert caplog.text.count("not kept in the cache: ") == 1
    disk.empty()
    assert [made.sample(index).image.tobytes() for index in range(4)] == served
    assert len(made.cache) == 4  # type: ignore[arg-type]
    made.cache.close()  # type: ignore[union-attr]


def test_a_shard_without_room_goes_on_when_there_is_some(disk: Disk) -> None:
    with LMDBCache(disk.path / "cache") as cache, cache.open_shard() as shard:
        disk.fill(leave_bytes=300_000)
        count, message = fill_with_samples(shard)
        assert matches(message, shard.path)
        assert has(cache, count)
        disk.empty()
        shard.put(b"%d" % count, make_sample(count, size_hw=SIZE_HW))
        assert has(cache, count + 1)


def test_a_limit_on_files_is_a_full_disk_for_shards_too(tmp_path: Path) -> None:
    def fill() -> tuple[int, str]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        with LMDBCache(tmp_path) as cache, cache.open_shard("s") as shard:
            shard.put(b"0", make_sample(0, size_hw=SIZE_HW))
            resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, limits[1]))
            count, message = fill_with_samples(shard, 1)
            assert has(cache, count)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            shard.put(b"%d" % count, make_sample(count, size_hw=SIZE_HW))
            assert has(cache, count + 1)
            return count, message

    count, message = run_elsewhere(fill)
    assert count > 5
    assert matches(message, tmp_path / "s")


def test_a_store_that_finds_room_again_keeps_again(disk: Disk) -> None:
    with LMDBCache(disk.path / "cache") as cache:
        store = Store(cache)
        disk.fill()
        from synthloader.store import Puts

        for is_full in (True, False):
            puts = Puts()
            store.add_entry(puts, b"1", make_sample(1))
            store.keep(puts)
            assert (b"1" in cache) is not is_full
            if is_full:
                disk.empty()


# ------------------------------------------------------------------------------------------------ map and addresses


def test_a_map_of_a_tebibyte_takes_addresses_only(disk: Disk) -> None:
    with LMDBCache(disk.path / "cache", map_size_bytes=1 << 40) as cache:
        count, message = fill_with_samples(cache)
        assert matches(message, disk.path / "cache")
        assert has(cache, count)
        assert (disk.path / "cache" / "data.mdb").stat().st_size < 3 << 20
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert resident < 8 << 30


def test_a_map_that_cannot_grow_leaves_the_cache_usable(tmp_path: Path) -> None:
    folder = tmp_path / "cache"

    def fill() -> tuple[str, int]:
        limits = resource.getrlimit(resource.RLIMIT_AS)
        with LMDBCache(folder, map_size_bytes=1 << 16) as cache:
            cache.put(b"0", make_sample(0, size_hw=SIZE_HW))
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (taken + (48 << 20), limits[1]))
            message, count = "", 1
            try:
                while count < 5000:
                    cache.put(b"%d" % count, make_sample(count, size_hw=SIZE_HW))
                    count += 1
            except Exception as error:  # noqa: BLE001 - compared outside
                message = f"{type(error).__name__}: {error}"
            assert has(cache, count)
            resource.setrlimit(resource.RLIMIT_AS, limits)
            cache.put(b"%d" % count, make_sample(count, size_hw=SIZE_HW))
            assert has(cache, count + 1)
            return message, count

    message, count = run_elsewhere(fill)
    assert message == (
        f"CacheError: Enlarging the map of the cache {folder}: Cannot allocate memory "
        "(check the folder and its permissions)"
    )
    assert count > 20


def test_a_map_too_large_for_the_address_space_is_refused_clearly(tmp_path: Path) -> None:
    message = f"Opening the cache {tmp_path / 'c'}: Cannot allocate memory (check the folder and its permissions)"
    for size in (1 << 47, 1 << 60):
        with LMDBCache(tmp_path / "c", map_size_bytes=size) as cache, pytest.raises(Exception) as caught:
            cache.put(b"1", make_sample(1))
        assert f"{type(caught.value).__name__}: {caught.value}" == f"CacheError: {message}"
    put(tmp_path / "c", 1)
    assert np.array_equal(LMDBCache(tmp_path / "c").get(b"1").image, make_sample(1).image)  # type: ignore[union-attr]
    put_into_shard(tmp_path / "c", "s", 2)
