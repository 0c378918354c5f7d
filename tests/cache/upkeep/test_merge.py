"""Caches that become one: nothing is lost, nothing is replaced, in whichever order."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloader.cache import LMDBCache
from synthloader.cache.keys import make_verdict_key
from synthloader.cache.layout import VERDICTS
from synthloader.cache.record import encode_entry, encode_verdict
from synthloader.cache.scan import find_time
from synthloader.cache.upkeep.merge import MergeReport, merge
from synthloader.errors import CacheCorruptError, CacheError, CacheLockedError, CacheVersionError
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Sample
from tests.cache.processes import other_process, receive, run_elsewhere
from tests.cache.samples import assert_same, make_sample
from tests.cache.upkeep.stocks import BOX, damage, dump, fill, forge, name, put_raw, read_files

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture
def caches(tmp_path: Path) -> Iterator[tuple[LMDBCache, LMDBCache]]:
    with LMDBCache(tmp_path / "into") as into, LMDBCache(tmp_path / "source") as source:
        yield into, source


Pair = tuple[LMDBCache, LMDBCache]


def read(cache: LMDBCache, number: int) -> Any:
    return cache.get(name(number))


def with_license(sample: Sample, terms: str | None) -> Sample:
    assert sample.origin is not None
    return sample.replace(origin=sample.origin.replace(license=terms))


# ------------------------------------------------------------------------------------------------ what comes in


def test_entries_verdicts_and_times_come_in_and_sources_stay_as_they_are(caches: Pair, tmp_path: Path) -> None:
    into, source = caches
    fill(into, [1, 2], filters=[BOX], time_ms=5000)
    fill(source, [2, 3], filters=[BOX], time_ms=4000)
    before = read_files(tmp_path / "source")
    report = merge(into, [source])
    assert report == MergeReport(num_entries=1, num_verdicts=1, num_bytes=report.num_bytes, num_known=2)
    assert list(into) == [name(1), name(2), name(3)]
    for number in (1, 2, 3):
        assert_same(read(into, number), make_sample(number))
        verdict = into.get_verdict(name(number), BOX, of=make_sample(number))
        assert verdict is not None
        assert verdict.score == number
    assert [find_time(into.leases[0], name(number)) for number in (1, 2, 3)] == [5000, 4000, 4000]
    after = read_files(tmp_path / "source")
    assert {file: after[file] for file in before if file != "lock.mdb"} == {
        file: content for file, content in before.items() if file != "lock.mdb"
    }


def test_a_second_merge_changes_nothing(caches: Pair) -> None:
    into, source = caches
    fill(source, range(5), filters=[BOX])
    merge(into, [source])
    before = dump(into)
    assert merge(into, [source]) == MergeReport(num_known=10)
    assert dump(into) == before


def test_shards_of_sources_come_in_too(caches: Pair) -> None:
    into, source = caches
    fill(source, [1])
    with source.open_shard("shard-a") as shard:
        fill(shard, [2])
        merge(into, [source])
    assert list(into) == [name(1), name(2)]
    assert (source.path / "shard-a" / "data.mdb").exists()


def test_a_folder_of_caches_is_a_source(tmp_path: Path) -> None:
    for number in (1, 2):
        with LMDBCache(tmp_path / "all" / f"machine-{number}") as cache:
            fill(cache, [number])
    with LMDBCache(tmp_path / "into") as into, LMDBCache(tmp_path / "all", readonly=True) as source:
        assert merge(into, [source]).num_entries == 2
    assert not (tmp_path / "all" / "data.mdb").exists()


def test_the_progress_ends_with_all(caches: Pair) -> None:
    into, source = caches
    fill(into, [1])
    fill(source, range(7), filters=[BOX])
    steps: list[tuple[int, int]] = []
    merge(into, [source], progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 14) for done in range(1, 15)]


# ------------------------------------------------------------------------------------------------ shards are folded


def test_shards_are_folded_and_removed(caches: Pair) -> None:
    into, _ = caches
    fill(into, [1])
    for shard_name, numbers in (("shard-a", [1, 2]), ("shard-b", [2, 3])):
        with into.open_shard(shard_name) as shard:
            fill(shard, numbers, filters=[BOX])
    before = dump(into)
    report = merge(into)
    assert (report.num_shards, report.num_entries, report.num_verdicts, report.num_known) == (2, 2, 3, 3)
    assert [lease.folder for lease in into.leases] == [into.path]
    assert not any(path.is_dir() for path in into.path.iterdir())
    after = dump(into)
    assert (after["entries"], after["verdicts"]) == (before["entries"], before["verdicts"])
    assert merge(into) == MergeReport()


def test_files_of_others_in_a_shard_stay_and_what_is_quarantined_moves_on(caches: Pair) -> None:
    into, _ = caches
    with into.open_shard("shard-a") as shard:
        fill(shard, [1])
        (shard.path / "notes.txt").write_text("mine")
        (shard.path / "quarantine").mkdir()
        (shard.path / "quarantine" / "0a.entry").write_bytes(b"broken")
        (shard.path / "compacted").mkdir()
    assert merge(into).num_shards == 1
    assert read_files(into.path / "shard-a") == {"notes.txt": b"mine"}
    assert read_files(into.path / "quarantine") == {"0a.entry": b"broken"}
    assert len(into.leases) == 1


def test_a_shard_that_was_half_removed_when_the_merge_was_killed_goes_with_the_next(caches: Pair) -> None:
    into, _ = caches
    fill(into, [1])
    (into.path / "shard-a").mkdir()
    (into.path / "shard-a" / "writer.lock").touch()
    assert [lease.folder.name for lease in into.leases] == ["into", "shard-a"]
    assert merge(into) == MergeReport(num_shards=1)
    assert not (into.path / "shard-a").exists()


def test_a_half_removed_shard_goes_even_when_the_next_merge_is_stopped_too(
    caches: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    into, _ = caches
    fill(into, [1])
    (into.path / "shard-a").mkdir()
    (into.path / "shard-a" / "writer.lock").touch()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module(merge.__module__), "remove_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            merge(into)
    into.close()
    assert (into.path / "shard-a" / "data.mdb").exists()  # It was claimed for writing, which makes one.
    assert merge(into) == MergeReport(num_shards=1)
    assert not (into.path / "shard-a").exists()


def test_a_reader_goes_on_while_shards_are_folded_and_sees_all_afterwards(caches: Pair) -> None:
    into, _ = caches
    with into.open_shard("shard-a") as shard:
        fill(shard, [1, 2])
    with LMDBCache(into.path, readonly=True) as reader:
        assert_same(read(reader, 1), make_sample(1))
        merge(into)
        assert_same(read(reader, 2), make_sample(2))
        assert list(reader) == [name(1), name(2)]


def hold_shard(connection: Connection, path: Path) -> None:
    with LMDBCache(path).open_shard("shard-b") as shard:
        fill(shard, [2])
        connection.send("holding")
        receive(connection)


@pytest.mark.parametrize("with_source", [False, True])
def test_a_shard_that_is_being_written_is_refused_before_anything_happens(caches: Pair, with_source: bool) -> None:
    into, source = caches
    fill(into, [0])
    fill(source, [9])
    with into.open_shard("shard-a") as shard:
        fill(shard, [1])
    into.close()
    with other_process(hold_shard, into.path, method="spawn") as (connection, process):
        assert receive(connection) == "holding"
        message = (
            rf"Writing to the cache {re.escape(str(into.path))}/shard-b: process {process.pid} on \S+ holds its lock "
            r"\(wait until it has ended, or use another folder\)"
        )
        with pytest.raises(CacheLockedError, match=f"^{message}$"):
            merge(into, [source] if with_source else [])
        into.close()
        assert sorted(lease.folder.name for lease in into.leases) == ["into", "shard-a", "shard-b"]
        connection.send("end")
    assert list(into) == [name(0), name(1), name(2)]
    assert merge(into).num_shards == 2


def test_a_shard_that_this_process_writes_is_refused(caches: Pair) -> None:
    into, _ = caches
    with into.open_shard("shard-a") as shard:
        fill(shard, [1])
        message = f"Writing to the cache {shard.path}: this process has it open for writing (close() it first)"
        with pytest.raises(CacheLockedError, match=f"^{re.escape(message)}$"):
            merge(into)
        fill(shard, [2])
    assert merge(into).num_entries == 2


# ------------------------------------------------------------------------------------------------ notes


def test_pools_and_stamps_are_united(caches: Pair) -> None:
    into, source = caches
    fill(into, [1])
    fill(source, [2])
    (into.path / "pools.json").write_text(json.dumps({"b": {"generator": "g", "names": ["1"]}}))
    (source.path / "pools.json").write_text(json.dumps({"a": {"generator": "h", "names": []}, "b": {"generator": "z"}}))
    lines = {
        into: [["/a", 1, 10, "old"], ["/b", 1, 30, "new"]],
        source: [["/a", 1, 20, "new"], ["/b", 1, 10, "old"], ["/c", 2, 5, "c"]],
    }
    for cache, stamps in lines.items():
        cache.stamps_path.write_text("\n".join(map(json.dumps, stamps)) + '\n["cut')
    merge(into, [source])
    pools = json.loads((into.path / "pools.json").read_text())
    assert pools == {"a": {"generator": "h", "names": []}, "b": {"generator": "g", "names": ["1"]}}
    found = {}
    for line in into.stamps_path.read_text().splitlines():
        if line.endswith("]"):
            stamp_name, *stamp = json.loads(line)
            found[stamp_name] = stamp
    assert found == {"/a": [1, 20, "new"], "/b": [1, 30, "new"], "/c": [2, 5, "c"]}
    size = into.stamps_path.stat().st_size
    merge(into, [source])
    assert into.stamps_path.stat().st_size == size


def test_notes_that_cannot_be_read_are_left_out(caches: Pair, caplog: pytest.LogCaptureFixture) -> None:
    into, source = caches
    fill(source, [2])
    (source.path / "pools.json").write_text("{")
    merge(into, [source])
    assert caplog.messages == [f"{source.path}/pools.json cannot be read and is left out"]
    assert not (into.path / "pools.json").exists()


# ------------------------------------------------------------------------------------------------ what says the same


def test_records_of_another_codec_say_the_same_and_the_shorter_stays(tmp_path: Path) -> None:
    sample = Sample(np.full((40, 60, 3), 7, np.uint8))
    for codecs in (("raw", "zstd"), ("zstd", "raw")):
        folder = tmp_path / "-".join(codecs)
        with LMDBCache(folder / "into", codec=codecs[0]) as into, LMDBCache(folder / "other", codec=codecs[1]) as other:
            into.put(name(1), sample)
            other.put(name(1), sample)
            merge(into, [other])
            assert dump(into)["entries"] == {name(1): encode_entry(sample, codec="zstd")}


def test_terms_are_no_difference_and_are_not_lost(caches: Pair) -> None:
    for into, source in (caches, caches[::-1]):
        put_raw(into, name(1), encode_entry(with_license(make_sample(1), None)))
        put_raw(source, name(1), encode_entry(with_license(make_sample(1), "CC0")))
        merge(into, [source])
        entry = read(into, 1)
        assert entry.origin.license == "CC0"


@given(st.data())
@settings(max_examples=25)
def test_the_order_does_not_matter(data: st.DataObject) -> None:
    contents = {
        number: make_sample(number, size_hw=(20, 30)).replace(image=np.full((20, 30, 3), number, np.uint8))
        for number in range(4)
    }
    records = st.tuples(st.sampled_from(["raw", "zstd"]), st.sampled_from([None, "CC0", "MIT"]), st.integers(1, 99))
    stocks = data.draw(st.lists(st.dictionaries(st.sampled_from(range(4)), records), min_size=2, max_size=3))
    judged = data.draw(st.lists(st.frozensets(st.sampled_from(range(4))), min_size=3, max_size=3))
    outcomes = []
    with tempfile.TemporaryDirectory() as root:
        sources = [LMDBCache(Path(root) / f"source-{place}", map_size_bytes=1 << 20) for place in range(len(stocks))]
        for source, stock, verdicts in zip(sources, stocks, judged, strict=False):
            for number, (codec, terms, time_ms) in stock.items():
                record = encode_entry(with_license(contents[number], terms), codec=codec)
                put_raw(source, name(number), record, time_ms=time_ms)
            for number in verdicts:
                darker = contents[number].replace(image=contents[number].image // 2)
                record = encode_verdict(
                    Verdict(True, sample=darker),
                    BOX,
                    of=contents[number],
                    codec=data.draw(st.sampled_from(["raw", "zstd"])),
                )
                put_raw(source, make_verdict_key(name(number), BOX), record, database=VERDICTS)
        for place, order in enumerate(itertools.permutations(sources)):
            with LMDBCache(Path(root) / f"into-{place}", map_size_bytes=1 << 20) as into:
                if place:
                    for source in order:
                        merge(into, [source])
                else:
                    merge(into, order)
                outcomes.append(dump(into))
        for source in sources:
            source.close()
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert set(outcomes[0]["entries"]) == {name(number) for stock in stocks for number in stock}
    assert outcomes[0]["log"] == {
        name(number): min(stock[number][2] for stock in stocks if number in stock).to_bytes(8, "little")
        for number in range(4)
        if any(number in stock for stock in stocks)
    }


# ------------------------------------------------------------------------------------------------ what does not


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({"image": np.full((12, 10, 3), 9, np.uint8)}, "image"),
        ({"metadata": {"weather": "rain"}}, "metadata"),
        ({"maps": {"depth": np.zeros((12, 10), np.float32)}}, "maps"),
        ({"image": np.full((12, 10, 3), 9, np.uint8), "fields": {}}, "image, fields"),
    ],
)
def test_two_records_that_differ_stop_the_merge_before_it(caches: Pair, changes: Any, differences: str) -> None:
    into, source = caches
    fill(into, [5, 7])
    fill(source, [1, 7])
    put_raw(source, name(5), encode_entry(make_sample(5).replace(**changes)))
    before = dump(into), dump(source)
    message = (
        f"Merging entry {name(5).hex()}: it is another one in {into.path} than in {source.path}: they differ in "
        f"{differences} (look at both with `synthloader cache inspect`, and merge without the cache that is wrong)"
    )
    with pytest.raises(CacheCorruptError) as error:
        merge(into, [source])
    assert str(error.value) == message
    assert (dump(into), dump(source)) == before


def test_verdicts_that_differ_stop_the_merge(caches: Pair) -> None:
    into, source = caches
    for cache, accepted in zip(caches, (True, False), strict=True):
        fill(cache, [1])
        cache.put_verdict(name(1), BOX, Verdict(accepted, reason="" if accepted else "small"), of=make_sample(1))
    key = make_verdict_key(name(1), BOX)
    message = (
        f"Merging verdict {key.hex()}: it is another one in {into.path} than in {source.path}: they differ in "
        "accepted, reason (look at both with `synthloader cache inspect`, and merge without the cache that is wrong)"
    )
    with pytest.raises(CacheCorruptError) as error:
        merge(into, [source])
    assert str(error.value) == message


def test_a_sample_and_a_rejected_candidate_differ(caches: Pair) -> None:
    into, source = caches
    into.put(name(1), make_sample(1))
    source.put(name(1), Rejected("no donor"))
    with pytest.raises(CacheCorruptError, match=r"they differ in kind \("):
        merge(into, [source])


def test_records_of_one_key_of_which_one_is_a_jpeg(caches: Pair) -> None:
    into, source = caches
    put_raw(into, name(1), encode_entry(make_sample(1), codec="raw"))
    put_raw(source, name(1), encode_entry(make_sample(1), codec="jpeg-444"))
    message = (
        f"Merging entry {name(1).hex()}: it is another one in {into.path} than in {source.path}: they differ in image, "
        "which are stored with codecs 'raw' and 'jpeg-444' (JPEG changes pixels: merge caches of one codec, and fill one "
        "of them again with the other's)"
    )
    with pytest.raises(CacheCorruptError) as error:
        merge(into, [source])
    assert str(error.value) == message


def test_caches_of_codecs_of_which_one_changes_pixels_are_refused(tmp_path: Path) -> None:
    with LMDBCache(tmp_path / "a", codec="zstd") as into, LMDBCache(tmp_path / "b", codec="jpeg") as source:
        fill(into, [1])
        source.put(name(2), make_sample(2))
        message = (
            f"Merging into the cache {into.path}: the images of {source.path} are stored with codec 'jpeg', those of "
            f"{into.path} with codec 'zstd', and JPEG changes pixels (merge caches of one codec: fill one of them again "
            "with the other's)"
        )
        with pytest.raises(CacheError) as error:
            merge(into, [source])
        assert str(error.value) == message
        assert list(into) == [name(1)]


@pytest.mark.parametrize(
    ("codecs", "wanted"), [(["jpeg", "jpeg"], "jpeg"), (["raw", "raw"], "raw"), (["raw", "zstd"], "zstd")]
)
def test_a_new_cache_takes_the_codec_of_its_sources(tmp_path: Path, codecs: list[str], wanted: str) -> None:
    sources = [LMDBCache(tmp_path / f"{place}", codec=codec) for place, codec in enumerate(codecs)]
    for number, source in enumerate(sources):
        source.put(name(number), make_sample(number))
    with LMDBCache(tmp_path / "into") as into:
        merge(into, sources)
        assert into.leases[0].find_codec() == into.codec == wanted
    for source in sources:
        source.close()


# ------------------------------------------------------------------------------------------------ broken and newer ones


def test_a_broken_record_gives_way_to_an_intact_one(caches: Pair) -> None:
    for into, source in (caches, caches[::-1]):
        put_raw(into, name(1), damage(encode_entry(make_sample(1))))
        put_raw(source, name(1), encode_entry(make_sample(1)))
        assert merge(into, [source]).num_broken == 1
        assert_same(read(into, 1), make_sample(1))


def test_a_broken_record_never_comes_in(caches: Pair) -> None:
    into, source = caches
    fill(source, [1, 3])
    put_raw(source, name(2), damage(encode_entry(make_sample(2))))
    message = (
        f"Merging entry {name(2).hex()} of the cache {source.path}: its bytes do not match its checksum, and no other "
        "cache has it (leave broken records out: skip_broken=True, or --skip-broken on the command line)"
    )
    with pytest.raises(CacheCorruptError) as error:
        merge(into, [source])
    assert str(error.value) == message
    assert list(into) == [name(1)]
    assert merge(into, [source], skip_broken=True).num_broken == 1
    assert list(into) == [name(1), name(3)]


def test_a_broken_record_of_a_shard_is_not_lost(caches: Pair) -> None:
    into, _ = caches
    broken = damage(encode_entry(make_sample(1)))
    with into.open_shard("shard-a") as shard:
        put_raw(shard, name(1), broken)
    with pytest.raises(CacheCorruptError):
        merge(into)
    assert len(into.leases) == 2
    assert merge(into, skip_broken=True) == MergeReport(num_broken=1, num_shards=1)
    assert read_files(into.path / "quarantine") == {f"{name(1).hex()}.entry": broken}
    assert len(into.leases) == 1


def test_records_of_a_newer_version_come_in_as_they_are_and_cannot_be_compared(caches: Pair) -> None:
    into, source = caches
    newer = forge(encode_entry(make_sample(1)), version=2)
    put_raw(source, name(1), newer)
    merge(into, [source])
    merge(into, [source])
    assert dump(into)["entries"] == {name(1): newer}
    put_raw(into, name(1), forge(encode_entry(make_sample(2)), version=2))
    with pytest.raises(
        CacheVersionError, match=r"it has format 2, and this version of synthloader reads formats up to 1"
    ):
        merge(into, [source])


# ------------------------------------------------------------------------------------------------ arguments


def test_a_source_must_lie_elsewhere(caches: Pair) -> None:
    into, source = caches
    fill(into, [1])
    with into.open_shard("shard-a") as shard:
        fill(shard, [2])
    for wrong, at in ((into, into.path), (LMDBCache(into.path / "shard-a", readonly=True), into.path / "shard-a")):
        message = (
            f"sources must lie elsewhere than the cache that they are merged into, got sources={str(at)!r}. Its shards "
            "are folded into it without being named."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            merge(into, [source, wrong])


def test_a_readonly_cache_takes_nothing(caches: Pair) -> None:
    into, source = caches
    fill(into, [1])
    into.close()
    message = f"Merging into the cache {into.path}: it was opened with readonly=True (open it without readonly)"
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        merge(LMDBCache(into.path, readonly=True), [source])


# ------------------------------------------------------------------------------------------------ stopped in the middle


def merge_slowly(connection: Connection, into: Path, source: Path | None) -> None:
    sys.modules["synthloader.cache.upkeep.merge"]._COMMIT_EVERY_S = 0.0  # type: ignore[attr-defined]
    with LMDBCache(into) as cache:
        sources = [] if source is None else [LMDBCache(source, readonly=True)]
        merge(cache, sources, progress=lambda done, total: connection.send(done))


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("until", [1, 25, 59])
def test_a_merge_that_was_killed_goes_on_to_the_same_end(tmp_path: Path, folds: bool, until: int) -> None:
    with LMDBCache(tmp_path / "into") as into:
        fill(into, range(3), time_ms=7)
    source = tmp_path / "into" / "shard-a" if folds else tmp_path / "source"
    with LMDBCache(tmp_path / "into").open_shard("shard-a") if folds else LMDBCache(source) as cache:
        fill(cache, range(2, 32), filters=[BOX], time_ms=5)
    shutil.copytree(tmp_path / "into", tmp_path / "copy")
    with other_process(merge_slowly, tmp_path / "into", None if folds else source) as (connection, process):
        while receive(connection) < until:
            pass
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    outcomes = []
    for folder in (tmp_path / "into", tmp_path / "copy"):
        sources = [] if folds else [LMDBCache(source, readonly=True)]
        with LMDBCache(folder) as cache:
            merge(cache, sources)
            assert len(cache.leases) == 1
            outcomes.append(dump(cache))
        for each in sources:
            each.close()
    assert outcomes[0] == outcomes[1]
    assert [len(records) for records in outcomes[0].values()] == [32, 30, 32]


def merge_on_a_full_disk(into: Path, source: Path) -> Any:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))
    with LMDBCache(into, map_size_bytes=1 << 20) as cache, LMDBCache(source, readonly=True) as other:
        return merge(cache, [other])


def test_a_full_disk_leaves_both_whole(tmp_path: Path) -> None:
    with LMDBCache(tmp_path / "into", map_size_bytes=1 << 20) as into, LMDBCache(tmp_path / "source") as source:
        fill(into, [1])
        fill(source, range(2, 300))
    before = dump(LMDBCache(tmp_path / "source", readonly=True))
    said = run_elsewhere(merge_on_a_full_disk, tmp_path / "into", tmp_path / "source")
    message = (
        f"CacheFullError: Writing to the cache {tmp_path}/into: {{}} (make room and go on: what was put before is kept)"
    )
    assert said in {message.format(text) for text in ("File too large", "Input/output error")}
    with LMDBCache(tmp_path / "into") as into, LMDBCache(tmp_path / "source", readonly=True) as source:
        assert_same(read(into, 1), make_sample(1))
        assert dump(source) == before
        merge(into, [source])
        assert len(into) == 299
