"""What goes and what stays, and that it is said before it happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.keys import make_verdict_key
from synthloader.cache.layout import VERDICTS
from synthloader.cache.record import encode_entry, encode_verdict
from synthloader.cache.upkeep.prune import plan_prune, prune
from synthloader.errors import CacheError, CacheLockedError
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Origin
from tests.cache.processes import other_process, receive
from tests.cache.samples import make_sample
from tests.cache.upkeep.stocks import BOX, SHARP, dump, fill, forge, name, put_raw
from tests.cache.upkeep.test_merge import hold_shard

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

OLD, NEW = "Fog/1()", "Fog/2()"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[LMDBCache]:
    with LMDBCache(tmp_path / "cache") as made:
        yield made


def put_made_by(cache: LMDBCache, number: int, fingerprint: str, *, time_ms: int | None = None) -> None:
    put_raw(
        cache,
        name(number),
        encode_entry(make_sample(number).replace(origin=Origin(fingerprint=fingerprint))),
        time_ms=time_ms,
    )


def count_bytes(cache: LMDBCache, *numbers: int) -> int:
    records = dump(cache)
    return sum(
        len(data)
        for part in ("entries", "verdicts")
        for key, data in records[part].items()
        if key[:16] in set(map(name, numbers))
    )


def test_what_another_generator_made_goes_with_its_verdicts(cache: LMDBCache) -> None:
    fill(cache, range(4), filters=[BOX, SHARP])
    put_made_by(cache, 0, OLD)
    put_made_by(cache, 1, NEW)
    put_made_by(cache, 2, OLD)
    put_made_by(cache, 3, NEW)
    put_raw(cache, name(4), encode_entry(Rejected("no donor", Origin(fingerprint=OLD))))
    plan = plan_prune(cache, fingerprints=[NEW])
    assert plan.keys == [name(0), name(2), name(4)]
    assert (plan.num_samples, plan.num_verdicts, plan.num_kept) == (2, 4, 2)
    assert (plan.num_bytes, plan.num_kept_bytes) == (count_bytes(cache, 0, 2, 4), count_bytes(cache, 1, 3))
    assert dict(plan.fingerprints) == {OLD: 3}
    assert len(cache) == 5
    assert prune(cache, plan) == 3
    after = dump(cache)
    assert set(after["entries"]) == set(after["log"]) == {name(1), name(3)}
    assert set(after["verdicts"]) == {
        make_verdict_key(name(number), text) for number in (1, 3) for text in (BOX, SHARP)
    }


def test_what_says_nothing_of_its_maker_and_what_cannot_be_read_stays(cache: LMDBCache) -> None:
    cache.put(name(1), Rejected("no donor"))
    cache.put(name(2), make_sample(2).replace(origin=None))
    put_raw(cache, name(3), b"broken")
    put_raw(cache, name(4), forge(encode_entry(make_sample(4)), version=2))
    plan = plan_prune(cache, fingerprints=[NEW])
    assert (plan.is_empty, plan.num_unknown, plan.num_unreadable, plan.num_kept) == (True, 2, 2, 4)


def test_verdicts_without_an_entry_go_and_those_of_other_filters_stay(cache: LMDBCache) -> None:
    fill(cache, [1], filters=[BOX, "Nobody/1(asks=True)"])
    orphan = make_verdict_key(name(2), BOX)
    record = encode_verdict(Verdict(True), BOX, of=make_sample(2))
    put_raw(cache, orphan, record, database=VERDICTS)
    put_raw(cache, b"short", b"x", database=VERDICTS)
    plan = plan_prune(cache, max_size_bytes=1 << 30)
    assert (plan.keys, plan.orphans, plan.num_verdicts) == ([], [orphan, b"short"], 2)
    assert plan.num_bytes == len(record) + 1
    assert prune(cache, plan) == 0
    assert len(dump(cache)["verdicts"]) == 2


def test_the_oldest_go_until_the_rest_is_small_enough(cache: LMDBCache) -> None:
    for number, time_ms in enumerate([500, 100, 300, 100, 400]):
        put_made_by(cache, number, NEW, time_ms=time_ms)
        cache.put_verdict(name(number), BOX, Verdict(True), of=make_sample(number))
    total, each = count_bytes(cache, *range(5)), count_bytes(cache, 1)
    for limit, wanted in (
        (total, []),
        (total - 1, [1]),
        (total - each - 1, [1, 3]),
        (count_bytes(cache, 0), [1, 2, 3, 4]),
    ):
        plan = plan_prune(cache, max_size_bytes=limit)
        assert plan.keys == [name(number) for number in wanted]
        assert plan.num_oldest == len(wanted)
        assert plan.num_kept_bytes <= limit
    assert plan.time_range_ms == (100, 400)
    prune(cache, plan)
    assert list(cache) == [name(0)]
    plan = plan_prune(cache, max_size_bytes=0)
    assert plan.keys == [name(0)]


def test_entries_of_others_go_first_and_then_the_oldest(cache: LMDBCache) -> None:
    for number, (maker, time_ms) in enumerate([(NEW, 1), (OLD, 3), (NEW, 2)]):
        put_made_by(cache, number, maker, time_ms=time_ms)
    plan = plan_prune(cache, fingerprints=[NEW], max_size_bytes=count_bytes(cache, 2))
    assert (plan.keys, plan.num_oldest, dict(plan.fingerprints)) == ([name(0), name(1)], 1, {OLD: 1})


def test_all_copies_in_shards_go_and_count(cache: LMDBCache) -> None:
    put_made_by(cache, 1, OLD)
    put_made_by(cache, 2, NEW)
    with cache.open_shard("shard-a") as shard:
        for number in (1, 3):
            put_made_by(shard, number, OLD)
            shard.put_verdict(name(number), BOX, Verdict(True), of=make_sample(number))
    plan = plan_prune(cache, fingerprints=[NEW])
    num_bytes = sum(
        len(data)
        for lease in cache.leases
        for part in (b"entries", b"verdicts")
        for data in [
            lease.look_up(part, key, bytes)
            for key in (name(1), name(3), make_verdict_key(name(1), BOX), make_verdict_key(name(3), BOX))
        ]
        if data
    )
    assert plan.num_bytes == num_bytes
    steps: list[Any] = []
    assert prune(cache, plan, progress=lambda *step: steps.append(step)) == 2
    assert steps == [(2, 2)]
    assert list(cache) == [name(2)]
    assert dump(cache)["verdicts"] == {}


def test_a_shard_that_is_being_written_is_left_alone_where_nothing_of_it_goes(cache: LMDBCache) -> None:
    put_made_by(cache, 1, OLD)
    with cache.open_shard("shard-b") as shard:
        put_made_by(shard, 3, NEW)
    cache.close()
    with other_process(hold_shard, cache.path, method="spawn") as (connection, _):
        assert receive(connection) == "holding"
        everything = plan_prune(cache, max_size_bytes=0)
        with pytest.raises(CacheLockedError):
            prune(cache, everything)
        assert list(cache) == [name(1), name(2), name(3)]
        fingerprint = make_sample(2).origin.fingerprint  # type: ignore[union-attr]
        assert prune(cache, plan_prune(cache, fingerprints=[NEW, fingerprint])) == 1
        connection.send("end")
    assert list(cache) == [name(2), name(3)]


def test_wrong_arguments(cache: LMDBCache) -> None:
    fill(cache, [1])
    cache.close()
    for arguments, kind, message in (
        (
            {},
            ValueError,
            "fingerprints must be given where max_size_bytes is not, got fingerprints=None. Nothing would say what goes.",
        ),
        (
            {"fingerprints": "Fog/1()"},
            TypeError,
            "fingerprints must be several texts, got fingerprints='Fog/1()'. Write [fingerprint].",
        ),
        ({"max_size_bytes": -1}, ValueError, "max_size_bytes must be at least 0, got max_size_bytes=-1."),
    ):
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            plan_prune(cache, **arguments)  # type: ignore[arg-type]
    readonly = LMDBCache(cache.path, readonly=True)
    message = f"Pruning the cache {cache.path}: it was opened with readonly=True (open it without readonly)"
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        prune(readonly, plan_prune(readonly, max_size_bytes=0))
    assert list(cache) == [name(1)]
