"""What counts as the same content, whichever way it was packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.cache.record import encode_entry, encode_verdict
from synthloader.cache.upkeep.content import list_differences, rank_record
from synthloader.errors import CacheCorruptError, CacheVersionError
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Sample
from tests.cache.samples import entries, make_sample, samples
from tests.cache.upkeep.stocks import BOX, SHARP, damage, forge


@given(entries())
def test_an_entry_says_the_same_in_every_lossless_codec(entry: Sample | Rejected) -> None:
    assert list_differences(encode_entry(entry, codec="raw"), encode_entry(entry, codec="zstd")) == []


@given(samples(), samples(), st.sampled_from(["raw", "zstd"]))
def test_entries_differ_where_their_records_do(one: Sample, other: Sample, codec: str) -> None:
    first, second = (
        encode_entry(sample if sample.origin is None else sample.replace(origin=sample.origin.replace(license=None)))
        for sample in (one, other)
    )
    assert bool(list_differences(first, second)) == (first != second)
    assert list_differences(first, encode_entry(other, codec=codec)) == list_differences(
        encode_entry(one, codec=codec), second
    )


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({"image": np.zeros((12, 10, 3), np.uint8)}, ["image"]),
        ({"image": np.zeros((13, 10, 3), np.uint8), "target": None, "origin": None, "maps": {}}, ["image"]),
        ({"target": None}, ["target"]),
        ({"origin": None}, ["origin"]),
        ({"maps": {"depth": np.zeros((12, 10), np.float32)}}, ["maps"]),
        ({"metadata": {"weather": "fog", "temperature": 3.50001}}, ["metadata"]),
        ({"fields": {"image_id": 1.0}}, ["fields"]),
    ],
)
def test_the_parts_that_differ_are_named(changes: dict[str, Any], differences: list[str]) -> None:
    sample = make_sample(1)
    other = sample.replace(**changes)
    assert list_differences(encode_entry(sample), encode_entry(other)) == differences


def test_whole_and_fractional_numbers_differ() -> None:
    one, other = (make_sample(1).replace(fields={"id": value}) for value in (1, 1.0))
    assert list_differences(encode_entry(one), encode_entry(other)) == ["fields"]


def test_verdicts_are_compared_with_their_samples() -> None:
    judged = make_sample(1)
    darker, lighter = (judged.replace(image=judged.image // 2 + shade) for shade in (0, 9))

    def write(verdict: Verdict, filters: str = BOX, codec: str = "zstd") -> bytes:
        return encode_verdict(verdict, filters, of=judged, codec=codec)

    accepted = write(Verdict(True, 1.0, sample=darker))
    assert list_differences(accepted, write(Verdict(True, 1.0, sample=darker), codec="raw")) == []
    assert list_differences(accepted, write(Verdict(True, 1.0, sample=lighter))) == ["arrays"]
    assert list_differences(accepted, write(Verdict(True, 2.0, sample=darker))) == ["score"]
    assert list_differences(accepted, write(Verdict(True, 1.0))) != []
    assert list_differences(accepted, write(Verdict(True, 1.0, sample=darker), SHARP)) == ["filters"]


def test_broken_and_newer_records_cannot_be_compared() -> None:
    record = encode_entry(make_sample(1))
    with pytest.raises(CacheCorruptError, match=r"^Reading the second: its bytes do not match its checksum \("):
        list_differences(record, damage(record), names=("the first", "the second"))
    with pytest.raises(CacheVersionError, match=r"^Reading the first: it has format 2, "):
        list_differences(forge(record, version=2), record, names=("the first", "the second"))


def test_one_with_terms_is_kept_and_then_the_shorter() -> None:
    sample = make_sample(1)
    assert sample.origin is not None
    free = sample.replace(origin=sample.origin.replace(license="CC0"))
    ranked = sorted(
        [encode_entry(each, codec=codec) for each in (sample, free) for codec in ("raw", "zstd")], key=rank_record
    )
    assert [b"CC0" in record for record in ranked] == [True, True, False, False]
    assert len(ranked[0]) <= len(ranked[1])
    assert rank_record(b"no record") == (True, 9, b"no record")
