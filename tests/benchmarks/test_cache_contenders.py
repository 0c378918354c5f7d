"""What the suites of the cache share: the samples, the stores that need no extra, and how contenders are checked."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks._cache_contenders import choose, prepare
from benchmarks._cache_native import NATIVE
from benchmarks._cache_ours import Floor, Ours
from benchmarks._cache_samples import (
    Photograph,
    decode_fields,
    describe_difference,
    encode_fields,
    join_fields,
    load_photographs,
    split_fields,
)
from benchmarks._cache_stores import STORES
from benchmarks.harness import find_missing, interleave, tabulate


@pytest.fixture(scope="module")
def photographs() -> list[Photograph]:
    return load_photographs(3)


def test_fields_give_back_the_sample_that_they_were_made_of(photographs: list[Photograph]) -> None:
    for photograph in photographs:
        fields = split_fields(join_fields(encode_fields(photograph)))
        assert describe_difference(decode_fields(fields), photograph.item) == 0


def test_encoding_anew_gives_the_same_bytes(photographs: list[Photograph]) -> None:
    assert encode_fields(photographs[0], anew=True) == encode_fields(photographs[0])


@pytest.mark.parametrize("name", ["boxes", "labels", "masks"])
def test_a_contender_that_changes_a_target_is_refused(photographs: list[Photograph], name: str) -> None:
    item = photographs[0].item
    changed = getattr(item, name).copy()
    changed.flat[0] = not changed.flat[0]
    with pytest.raises(ValueError, match=f"^{name} came back as other ones$"):
        describe_difference(item._replace(**{name: changed}), item)


def test_the_largest_difference_of_a_pixel_is_told(photographs: list[Photograph]) -> None:
    item = photographs[0].item
    image = item.image.copy()
    image[0, 0, 0] ^= 4
    assert describe_difference(item._replace(image=image), item) == 4


@pytest.mark.parametrize("store", [store for store in STORES if not store.requires or store.requires == ("lmdb",)])
def test_stores_give_back_what_they_were_given(tmp_path: Path, photographs: list[Photograph], store: Any) -> None:
    fields = [encode_fields(photograph) for photograph in photographs]
    with ExitStack() as stack:
        reads, facts = prepare([(store, fields)], photographs, tmp_path, stack)
        assert len(list(reads[store.name]([2, 0]))) == 2
    assert facts[store.name]["pixels"] == "exact"


@pytest.mark.parametrize(
    "contender",
    [Floor(own_arrays=False), Floor(own_arrays=True), Ours("jpeg"), Ours("jpeg", with_masks=False), Ours("raw")],
    ids=lambda contender: contender.name,
)
def test_the_floor_and_ours_give_the_same_items(tmp_path: Path, photographs: list[Photograph], contender: Any) -> None:
    with ExitStack() as stack:
        _, facts = prepare([(contender, photographs)], photographs, tmp_path, stack)
    assert facts[contender.name]["pixels"] == "exact"


def test_coco_files_give_the_same_items(tmp_path: Path, photographs: list[Photograph]) -> None:
    with ExitStack() as stack:
        prepare([(NATIVE[-1], photographs)], photographs, tmp_path, stack)


def test_a_stripped_sample_has_no_masks(photographs: list[Photograph]) -> None:
    stripped = photographs[0].strip()
    assert photographs[0].has_masks
    assert not stripped.has_masks
    assert stripped.to_sample(codec="raw").target.masks is None
    assert np.array_equal(stripped.item.boxes, photographs[0].item.boxes)
    assert replace(stripped, item=photographs[0].item).has_masks


def test_a_missing_package_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    class Absent:
        name = "absent peer"
        requires = ("there_is_no_such_module",)

    skipped: dict[str, str] = {}
    assert choose([Absent()], skipped) == []
    assert skipped == {
        "absent peer": "ModuleNotFoundError: No module named 'there_is_no_such_module' (install synthloader[bench])"
    }
    assert "skipped: absent peer: " in capsys.readouterr().out
    assert find_missing(["json"]) is None


def test_what_comes_before_a_turn_is_not_timed_and_happens_before_each() -> None:
    told: list[str] = []
    timings = interleave({"a": lambda: 1, "b": lambda: 2}, turns=3, warm_up=1, before=told.append)
    assert told == ["a", "b", "b", "a", "a", "b", "b", "a"]
    rows = tabulate(timings, timings["a"], setting="test")
    assert [row["what"] for row in rows] == ["a", "b"]
    assert rows[0]["ratio"] == 1
