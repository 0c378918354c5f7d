"""A flipped bit in what is stored is noticed wherever it lies, named, and healed where that was asked."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from synthloader.cache import LMDBCache
from synthloader.cache.codecs import CODECS
from synthloader.cache.layout import ENTRIES, VERDICTS
from synthloader.cache.scan import scan
from synthloader.cache.upkeep.merge import merge
from synthloader.cache.upkeep.verify import verify
from synthloader.errors import CacheCorruptError
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.plans import Only
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Sample
from tests.cache.processes import run_elsewhere
from tests.cache.samples import assert_same, make_sample
from tests.cache.standby import change_record
from tests.scenes import RejectBy, ScenesDataset, Shade, describe, keep_items

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

HINT = "(open the cache with on_corrupt='regenerate', or take it out: synthloader cache verify PATH --quarantine)"


def flip(record: bytes, bit: int) -> bytes:
    changed = bytearray(record)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def make_small(codec: str) -> Sample:
    """Two pixels, not gray, one label and one field: all of its bits can be tried."""
    sample = make_sample(1, size_hw=(12, 10))
    return Sample(sample.image[:2, :1], fields={"a": 1}) if codec else sample


def list_misread(
    path: Path, records: Iterable[bytes], codec: str, *, is_verdict: bool = False
) -> tuple[int, list[str]]:
    """How many records were tried, and what was not refused in the right words."""
    wrong: list[str] = []
    number = 0
    with LMDBCache(path, codec=codec) as cache:
        of = make_sample(1)
        keys = [b"%06d" % number for number, _ in enumerate(records)]
        if is_verdict:
            cache.put_encoded([], [(key, "f", record) for key, record in zip(keys, records, strict=True)])
        else:
            cache.put_encoded(list(zip(keys, records, strict=True)))
        for key in keys:
            what = f"a verdict on entry {key.hex()}" if is_verdict else f"entry {key.hex()}"
            begins = f"Reading {what} of the cache {path}: "
            reasons = (r"its bytes do not match its checksum", r"it begins with b'.*', not with b'SLRC'")
            for use in [lambda key: cache.get_verdict(key, "f", of=of)] if is_verdict else [cache.get, look(cache)]:
                number += 1
                try:
                    wrong.append(f"{key!r} was read as {use(key)!r}")
                except CacheCorruptError as error:
                    if not re.fullmatch(f"{re.escape(begins)}({'|'.join(reasons)}) {re.escape(HINT)}", str(error)):
                        wrong.append(str(error))
    return number, wrong


def look(cache: LMDBCache) -> Any:
    def look_at(key: bytes) -> Any:
        with cache.view(key) as entry:
            return entry

    return look_at


@pytest.mark.parametrize("codec", [*CODECS, "rejected"])
def test_every_bit_of_a_small_entry(tmp_path: Path, codec: str) -> None:
    def try_all() -> tuple[int, list[str]]:
        with LMDBCache(tmp_path / "codec", codec="raw" if codec == "rejected" else codec) as cache:
            record = cache.encode(Rejected("why") if codec == "rejected" else make_small(codec))
            records = [flip(record, bit) for bit in range(8 * len(record))]
            return list_misread(tmp_path / "cache", records, cache.codec)

    number, wrong = run_elsewhere(try_all)
    assert number > 500
    assert wrong == []


@pytest.mark.parametrize("is_changed", [True, False])
def test_every_bit_of_a_verdict(tmp_path: Path, is_changed: bool) -> None:
    def try_all() -> tuple[int, list[str]]:
        of = make_sample(1)
        with LMDBCache(tmp_path / "codec", codec="jpeg") as cache:
            changed = of.replace(metadata={"changed": 1}) if is_changed else None
            record = cache.encode_verdict(Verdict(True, 0.5, "why", changed), "f", of=of)
        records = [flip(record, bit) for bit in range(8 * len(record))]
        return list_misread(tmp_path / "cache", records, "jpeg", is_verdict=True)

    number, wrong = run_elsewhere(try_all)
    assert number > 500
    assert wrong == []


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("number", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_any_bit_of_a_large_entry(tmp_path: Path, codec: str, number: int) -> None:
    def try_some() -> tuple[int, list[str]]:
        with LMDBCache(tmp_path / "codec", codec=codec) as cache:
            record = cache.encode(make_sample(1, size_hw=(80, 90)))
        rng = np.random.Generator(np.random.Philox(key=3))
        records = [flip(record, int(bit)) for bit in rng.integers(0, 8 * len(record), number)]
        return list_misread(tmp_path / "cache", records, codec)

    assert run_elsewhere(try_some) == (2 * number, [])


@pytest.mark.parametrize("codec", CODECS)
def test_bits_that_flip_in_the_file_while_it_is_open(tmp_path: Path, codec: str) -> None:
    sample, rng = make_sample(1, size_hw=(90, 80)), np.random.Generator(np.random.Philox(key=4))
    with LMDBCache(tmp_path, codec=codec) as cache:
        cache.put(b"1", sample)
        record, data = cache.encode(sample), (tmp_path / "data.mdb").read_bytes()
        assert data.count(record) == 1
        start, expected = data.index(record), cache.get(b"1")
        with open(tmp_path / "data.mdb", "r+b", buffering=0) as stream:
            for bit in rng.integers(0, 8 * len(record), 50).tolist():
                for value, is_whole in ((flip(record, bit), False), (record, True)):
                    stream.seek(start)
                    stream.write(value)
                    if is_whole:
                        assert_same(cache.get(b"1"), expected)
                        continue
                    for use in (cache.get, look(cache)):
                        with pytest.raises(CacheCorruptError, match=r"^Reading entry 31 of the cache "):
                            use(b"1")


# ------------------------------------------------------------------------------------------------ under datasets

COUNT = 6


def make_mix(folder: Path, on_corrupt: str = "error", codec: str = "jpeg") -> MixedDataset:
    real = ScenesDataset(COUNT)
    cache = LMDBCache(folder, codec=codec, on_corrupt=on_corrupt)
    generated = GeneratedDataset(
        real, Shade(), cache=cache, variants=1, version="1", filters=[RejectBy(share=0.2)], attempts=4
    )
    return MixedDataset(real, generated, plan=Only())


def close(train: MixedDataset) -> None:
    train.sets[0].dataset.cache.close()  # type: ignore[union-attr]


def make_loader(train: MixedDataset, num_workers: int) -> DataLoader[Any]:
    return DataLoader(
        train, 2, num_workers=num_workers, collate_fn=keep_items, generator=torch.Generator(), timeout=60 * (num_workers > 0)
    )  # fmt: skip


def read_all(train: MixedDataset, num_workers: int) -> list[Any]:
    return [describe(item) for batch in make_loader(train, num_workers) for item in batch]


def break_all(folder: Path) -> int:
    """Flip one bit in every record of the cache; how many there are."""
    rng = np.random.Generator(np.random.Philox(key=5))
    keys: list[tuple[bytes, bytes]] = []
    with LMDBCache(folder) as cache:
        for database in (ENTRIES, VERDICTS):
            keys += [(database, key) for key, _ in scan(cache.leases[0], database, bytes)]
    for database, key in keys:
        change_record(folder, database, key, lambda record: flip(record, int(rng.integers(8 * len(record)))))
    return len(keys)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_is_to_be_made_anew_is_and_heals(
    tmp_path: Path, codec: str, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    train = make_mix(folder, codec=codec)
    expected = read_all(train, 0)
    close(train)
    with LMDBCache(folder) as cache:
        whole = {key: data for key, data in scan(cache.leases[0], ENTRIES, bytes)}
    number = break_all(folder)
    with LMDBCache(folder) as cache:
        assert verify(cache).num_broken == number
    again = make_mix(folder, "regenerate", codec=codec)
    with caplog.at_level(logging.WARNING, "synthloader"):
        assert read_all(again, num_workers) == expected
    close(again)
    if num_workers == 0:
        assert caplog.text.count("generated anew: Reading ") == number
    with LMDBCache(folder) as cache:
        merge(cache)  # What workers made anew stands in their shards.
        assert verify(cache).findings == []
        assert {key: data for key, data in scan(cache.leases[0], ENTRIES, bytes)} == whole
    quiet = make_mix(folder, codec=codec)
    assert read_all(quiet, 0) == expected
    assert quiet.report().sets["generated"].cache_misses == 0
    close(quiet)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_where_it_was_not_asked_the_error_comes_out_of_the_loader(tmp_path: Path, num_workers: int) -> None:
    folder = tmp_path / "cache"
    train = make_mix(folder)
    read_all(train, 0)
    close(train)
    break_all(folder)
    again = make_mix(folder)
    kind, text = object, ""
    try:
        read_all(again, num_workers)
    except Exception as error:  # noqa: BLE001 - looked at below, where it no longer holds the loader
        kind, text = type(error), str(error)
        error.__traceback__ = None  # It lies in a circle with the loader, whose workers would be waited for in vain.
    close(again)
    assert re.search(r"Reading entry [0-9a-f]{32} of the cache .*: (its bytes do not match|it begins with)", text)
    assert kind is CacheCorruptError
