"""All that is known of one entry."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.record import encode_entry
from synthloader.cache.upkeep.entry_report import describe_entry, find_keys
from synthloader.errors import CacheCorruptError
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.targets import SemanticMask
from tests.cache.samples import make_sample
from tests.cache.upkeep.stocks import BOTH, BOX, damage, name, put_raw


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[LMDBCache]:
    with LMDBCache(tmp_path / "cache") as made:
        yield made


def test_an_entry_says_everything(cache: LMDBCache) -> None:
    sample = make_sample(5)
    sample = sample.replace(fields={**sample.fields, "open file": object()})
    assert sample.origin is not None
    sample = sample.replace(origin=sample.origin.replace(class_names={1: "fig"}, license="CC0"))
    record = encode_entry(sample)
    put_raw(cache, name(5), record, time_ms=1_700_000_000_000)
    cache.put_verdict(name(5), BOX, Verdict(True, 3.0, sample=sample.replace(target=None)), of=sample)
    cache.put_verdict(name(5), BOTH, Verdict(False, 0.5, "blurred"), of=sample)
    report = describe_entry(cache, name(5))
    assert report is not None
    content = report.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content == {
        "key": name(5).hex(),
        "kind": "sample",
        "reason": "",
        "num_bytes": len(record),
        "time": "2023-11-14T22:13:20Z",
        "shards": ["."],
        "codec": "zstd",
        "size_hw": [12, 10],
        "target": "instances",
        "has_masks": True,
        "classes": [
            {"id": 1, "name": "fig", "count": 1},
            {"id": 2, "name": None, "count": 1},
            {"id": 5, "name": None, "count": 1},
        ],
        "origin": {
            "source": "images/5.jpg",
            "fingerprint": "CopyPaste/1(num_range=[1, 3])",
            "variant": 1,
            "attempt": 2,
            "seed": 5,
            "drawn": ["a.jpg", "b.jpg"],
            "scores": {"sharpness": 0.25},
            "prompt": "fog",
            "model": None,
            "weights": None,
            "license": "CC0",
            "class_names": {"1": "fig"},
        },
        "edited_share": 9 / 120,
        "metadata": {"weather": "fog", "temperature": 3.5},
        "maps": ["depth"],
        "fields": ["image_id", "size", "area", "nested"],
        "unstored": ["open file"],
        "verdicts": [
            {"filters": BOX, "accepted": True, "score": 3.0, "reason": "", "changes": ["target"]},
            {"filters": BOTH, "accepted": False, "score": 0.5, "reason": "blurred", "changes": []},
        ],
    }


def test_a_rejected_candidate_and_a_shard(cache: LMDBCache) -> None:
    cache.put(name(1), make_sample(1))
    with cache.open_shard("shard-a") as shard:
        shard.put(name(2), Rejected("no donor", Origin("a.jpg")))
        report = describe_entry(cache, name(2))
    assert report is not None
    assert (report.head.kind, report.head.reason, report.sample, report.shards) == (
        "rejected", "no donor", None, ("shard-a",),
    )  # fmt: skip
    assert describe_entry(cache, name(3)) is None


def test_pixels_of_a_mask_are_counted(cache: LMDBCache) -> None:
    cache.put(name(1), Sample(np.zeros((2, 2, 3), np.uint8), SemanticMask(np.array([[0, 3], [3, 255]], np.int32))))
    report = describe_entry(cache, name(1))
    assert report is not None
    assert report.class_counts == {0: 1, 3: 2, 255: 1}


def test_a_broken_entry_is_an_error(cache: LMDBCache) -> None:
    put_raw(cache, name(1), damage(encode_entry(make_sample(1))))
    with pytest.raises(CacheCorruptError):
        describe_entry(cache, name(1))


def test_keys_are_found_by_their_first_digits(cache: LMDBCache) -> None:
    keys = [bytes.fromhex(text) for text in ("0a", "0a01", "0a1b", "0b", "a0", "ff", "ffff")]
    cache.put_many((key, Rejected()) for key in keys[::2])
    with cache.open_shard("shard-a") as shard:
        shard.put_many((key, Rejected()) for key in keys[1:])
        for prefix in ("", "0", "0a", "0a0", "0A1", "0a1b", "0a1b0", "1", "f", "fff", "ffff"):
            assert find_keys(cache, prefix) == [key for key in keys if key.hex().startswith(prefix.lower())]
    assert find_keys(cache, "", limit=2) == keys[:2]


def test_digits_beyond_one_page_of_keys(cache: LMDBCache) -> None:
    cache.put_many((number.to_bytes(2, "big"), Rejected()) for number in range(700))
    assert find_keys(cache, "02b") == [number.to_bytes(2, "big") for number in range(0x2B0, 700)][:20]


@pytest.mark.parametrize("prefix", ["x", "0g", "0a ", "é"])
def test_what_is_not_hexadecimal_is_refused(cache: LMDBCache, prefix: str) -> None:
    cache.put(name(1), Rejected())
    message = f"key must be digits and letters a to f, got key={prefix!r}. Keys are written in hexadecimal."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        find_keys(cache, prefix)
