"""Reading all of a cache, and taking out what is broken."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.keys import make_verdict_key
from synthloader.cache.layout import VERDICTS
from synthloader.cache.record import encode_entry, encode_verdict
from synthloader.cache.upkeep.verify import Finding, verify
from synthloader.errors import CacheCorruptError, CacheError, CacheLockedError
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Sample
from tests.cache.processes import other_process, receive
from tests.cache.samples import assert_same, make_sample
from tests.cache.upkeep.stocks import BOTH, BOX, SHARP, damage, dump, fill, forge, name, put_raw, read_files
from tests.cache.upkeep.test_merge import hold_shard

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

CHECKSUM = "its bytes do not match its checksum"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[LMDBCache]:
    with LMDBCache(tmp_path / "cache") as made:
        yield made


def list_findings(cache: LMDBCache) -> list[tuple[str, bytes, str, bool]]:
    return [(each.kind, each.key, each.reason, each.is_newer) for each in verify(cache).findings]


def test_a_whole_cache_has_no_findings(cache: LMDBCache) -> None:
    fill(cache, range(4), filters=[BOX])
    cache.put(name(9), Rejected("no donor"))
    with cache.open_shard("shard-a") as shard:
        fill(shard, [5])
        steps: list[tuple[int, int]] = []
        report = verify(cache, progress=lambda done, total: steps.append((done, total)))
    assert (report.num_entries, report.num_verdicts, report.num_environments, report.findings) == (6, 4, 2, [])
    assert report.num_bytes == sum(len(data) for part in ("entries", "verdicts") for data in dump(cache)[part].values())
    assert steps == [(done, 10) for done in range(1, 11)]


def test_nothing_at_all_is_whole(tmp_path: Path) -> None:
    report = verify(LMDBCache(tmp_path / "nothing"))
    assert (report.num_environments, report.findings) == (0, [])
    assert not (tmp_path / "nothing").exists()


def test_broken_entries_are_found(cache: LMDBCache) -> None:
    fill(cache, range(3))
    record = encode_entry(make_sample(1))
    put_raw(cache, name(1), damage(record))
    put_raw(cache, name(2), b"SLRC")
    put_raw(cache, name(3), b"X" + record[1:])
    put_raw(cache, name(4), encode_verdict(Verdict(True), BOX, of=make_sample(4)))
    assert list_findings(cache) == [
        ("entry", name(1), CHECKSUM, False),
        ("entry", name(2), "4 bytes are too few for a record", False),
        ("entry", name(3), "it begins with b'XLRC', not with b'SLRC'", False),
        ("entry", name(4), "it is a verdict, not a sample", False),
    ]


def test_pixels_that_cannot_be_decoded_are_found_behind_a_right_checksum(cache: LMDBCache) -> None:
    record = encode_entry(make_sample(1), codec="raw")
    put_raw(cache, name(1), forge(record.replace(b'"codec":"raw"', b'"codec":"zst"')))
    put_raw(cache, name(2), forge(record.replace(b'"size_hw":[12,10]', b'"size_hw":[12,11]')))
    put_raw(cache, name(3), forge(record.replace(b'"class_ids":1', b'"class_ids":9999'[:13])))
    found = list_findings(cache)
    assert [each[:1] + each[3:] for each in found] == [("entry", True), ("entry", False), ("entry", False)]
    assert found[0][2] == "it has an image of codec 'zst', which this version does not know"
    assert found[1][2].startswith("it is not made as records are: ValueError: ")


def test_verdicts_are_checked_against_what_they_judged(cache: LMDBCache) -> None:
    fill(cache, [1, 2])
    sample = make_sample(1)
    cropped = Sample(np.ascontiguousarray(sample.image[:6, :6]))
    deeper = cropped.replace(maps={"depth": np.zeros((6, 6), np.float32)})
    cache.put_verdict(name(1), BOX, Verdict(True, 1.0, sample=cropped), of=sample)
    cache.put_verdict(name(1), BOTH, Verdict(True, 2.0, sample=deeper), of=cropped)
    assert list_findings(cache) == []
    of_another = encode_verdict(Verdict(True, sample=deeper), SHARP, of=cropped)
    put_raw(cache, make_verdict_key(name(2), SHARP), of_another, database=VERDICTS)
    ((kind, key, reason, is_newer),) = list_findings(cache)
    assert (kind, key, is_newer) == ("verdict", make_verdict_key(name(2), SHARP), False)
    assert reason.startswith("it is not made as records are: ValueError: maps['depth'] must be an array with")


def test_a_verdict_whose_entry_is_missing_is_checked_as_far_as_it_goes(cache: LMDBCache) -> None:
    sample = make_sample(1)
    changed = sample.replace(image=sample.image // 2)
    dropped = sample.replace(target=None)
    for number, verdict in enumerate([Verdict(True), Verdict(True, sample=changed), Verdict(True, sample=dropped)]):
        cache.put_verdict(name(number), BOX, verdict, of=sample)
    assert list_findings(cache) == []
    key = make_verdict_key(name(1), BOX)
    put_raw(cache, key, damage(dump(cache)["verdicts"][key]), database=VERDICTS)
    assert list_findings(cache) == [("verdict", key, CHECKSUM, False)]


def test_a_verdict_under_another_key_is_found(cache: LMDBCache) -> None:
    fill(cache, [1])
    record = encode_verdict(Verdict(True), BOX, of=make_sample(1))
    for key in (make_verdict_key(name(1), BOTH), b"short"):
        put_raw(cache, key, record, database=VERDICTS)
    assert list_findings(cache) == [
        ("verdict", make_verdict_key(name(1), BOTH), "it does not stand under the key of its filters", False),
        ("verdict", b"short", "it does not stand under the key of its filters", False),
    ]


def test_broken_records_are_moved_out_and_nothing_is_lost(cache: LMDBCache, tmp_path: Path) -> None:
    fill(cache, [1, 2, 3], filters=[BOX])
    verdict_key = make_verdict_key(name(3), BOX)
    broken = {name(1): damage(encode_entry(make_sample(1)))}
    put_raw(cache, name(1), broken[name(1)])
    put_raw(cache, verdict_key, b"too short", database=VERDICTS)
    with cache.open_shard("shard-a") as shard:
        put_raw(shard, name(7), b"another")
        shard.close()
        report = verify(cache, quarantine=True)
    folder = tmp_path / "cache" / "quarantine"
    assert [each.file for each in report.findings] == [
        folder / f"{name(1).hex()}.entry",
        folder / f"{verdict_key.hex()}.verdict",
        tmp_path / "cache" / "shard-a" / "quarantine" / f"{name(7).hex()}.entry",
    ]
    assert (report.num_broken, report.num_moved) == (3, 3)
    assert read_files(folder) == {
        f"{name(1).hex()}.entry": broken[name(1)],
        f"{verdict_key.hex()}.verdict": b"too short",
    }
    assert list(cache) == [name(2), name(3)]
    assert set(dump(cache)["log"]) == {name(2), name(3)}
    assert verify(cache).findings == []
    assert_same(cache.get(name(2)), make_sample(2))


def test_an_earlier_file_is_never_written_over(cache: LMDBCache) -> None:
    for content in (b"first", b"second", b"first", b"third"):
        put_raw(cache, name(1), content)
        verify(cache, quarantine=True)
    file = f"{name(1).hex()}.entry"
    assert read_files(cache.path / "quarantine") == {file: b"first", f"{file}.1": b"second", f"{file}.2": b"third"}


def test_a_long_key_has_a_name_that_a_file_can_have(cache: LMDBCache) -> None:
    for last in (b"a", b"b"):
        put_raw(cache, b"k" * 254 + last, b"broken")
    verify(cache, quarantine=True)
    assert len(read_files(cache.path / "quarantine")) == 2


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ({"version": 2}, "it has format 2, and this version of synthloader reads formats up to 1"),
        ({"kind": 4}, "it is of kind 4 (layer), which this version does not read"),
        ({"kind": 77}, "it is of kind 77 (unknown), which this version does not read"),
        ({"flags": 1}, "it has flags 0x1, which this version does not know"),
    ],
)
def test_what_a_newer_version_wrote_is_said_and_stays(cache: LMDBCache, head: dict[str, int], reason: str) -> None:
    put_raw(cache, name(1), forge(encode_entry(make_sample(1)), **head))
    before = dump(cache)
    report = verify(cache, quarantine=True)
    assert report.findings == [Finding(cache.path, "entry", name(1), reason, is_newer=True)]
    assert (report.num_broken, report.num_newer) == (0, 1)
    assert dump(cache) == before
    assert not (cache.path / "quarantine").exists()


def test_a_shard_that_cannot_be_opened_is_said_and_the_others_are_read(cache: LMDBCache) -> None:
    fill(cache, [1])
    for shard_name in ("shard-a", "shard-b"):
        with cache.open_shard(shard_name) as shard:
            fill(shard, range(60))
    cache.close()
    os.truncate(cache.path / "shard-a" / "data.mdb", 40_000)
    put_raw(cache, name(2), b"broken")
    report = verify(cache, quarantine=True)
    assert [(each.folder.name, each.kind, each.file is None) for each in report.findings] == [
        ("shard-a", "environment", True),
        ("cache", "entry", False),
    ]
    assert re.fullmatch(r"data\.mdb has 40000 bytes of \d+: it was cut off", report.findings[0].reason)
    assert (report.num_entries, report.num_environments) == (62, 3)


def test_nothing_is_taken_from_a_shard_that_is_being_written(cache: LMDBCache) -> None:
    with cache.open_shard("shard-b") as shard:
        put_raw(shard, name(1), b"broken")
    cache.close()
    with other_process(hold_shard, cache.path, method="spawn") as (connection, _):
        assert receive(connection) == "holding"
        assert len(verify(cache).findings) == 1
        with pytest.raises(CacheLockedError):
            verify(cache, quarantine=True)
        cache.close()
        connection.send("end")
    assert set(dump(cache)["entries"]) == {name(1), name(2)}


def test_a_readonly_cache_is_read_and_left_alone(cache: LMDBCache) -> None:
    put_raw(cache, name(1), b"broken")
    cache.close()
    readonly = LMDBCache(cache.path, readonly=True)
    assert len(verify(readonly).findings) == 1
    message = f"Taking broken records out of the cache {cache.path}: it was opened with readonly=True (open it without readonly)"
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        verify(readonly, quarantine=True)


def test_the_hint_of_a_broken_entry_is_true(cache: LMDBCache) -> None:
    put_raw(cache, name(1), damage(encode_entry(make_sample(1))))
    with pytest.raises(CacheCorruptError, match=r"synthloader cache verify PATH --quarantine\)$"):
        cache.get(name(1))
    verify(cache, quarantine=True)
    assert cache.get(name(1)) is None


def test_semantic_masks_and_edited_regions_are_unpacked(cache: LMDBCache) -> None:
    sample = make_sample(1)
    assert sample.origin is not None
    record = encode_entry(sample.replace(origin=sample.origin.replace(edited=np.ones((12, 10), np.bool_))))
    put_raw(cache, name(1), record)
    assert list_findings(cache) == []
