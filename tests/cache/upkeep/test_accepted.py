"""Which samples of a cache count as accepted: those that training would be served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.record import encode_entry
from synthloader.cache.upkeep.accepted import select_accepted
from synthloader.cache.upkeep.filter_chains import find_chains, list_steps, name_filter
from synthloader.filters import MinBox
from synthloader.generated import GeneratedDataset
from synthloader.generators import CopyPaste
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, SemanticMask
from tests.cache.samples import assert_same
from tests.cache.upkeep.stocks import BOTH, BOX, SHARP, name, put_raw
from tests.scenes import ScenesDataset


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[LMDBCache]:
    with LMDBCache(tmp_path / "cache") as made:
        yield made


def put(
    cache: LMDBCache, number: int, *, attempt: int = 0, variant: int = 0, verdicts: dict[str, bool] | None = None,
    time_ms: int = 1, origin: Origin | None = None,
) -> Sample:  # fmt: skip
    origin = Origin("a.jpg", "Fog/1()") if origin is None else origin
    sample = Sample(
        np.full((8, 6, 3), number, np.uint8), ClassLabel(number), origin.replace(attempt=attempt, variant=variant)
    )
    put_raw(cache, name(number), encode_entry(sample), time_ms=time_ms)
    for filters, accepted in (verdicts or {}).items():
        cache.put_verdict(name(number), filters, Verdict(accepted, score=1.0), of=sample)
    return sample


def test_a_sample_is_accepted_when_every_filter_accepted_it(cache: LMDBCache) -> None:
    put(cache, 1, variant=1, verdicts={BOX: True, BOTH: True})
    put(cache, 2, variant=2, verdicts={BOX: True, BOTH: False})
    put(cache, 3, variant=3, verdicts={BOX: False})
    put(cache, 4, variant=4, verdicts={BOX: True})
    put(cache, 5, variant=5)
    cache.put(name(6), Rejected("no donor", Origin("a.jpg", "Fog/1()", variant=6)))
    selection = select_accepted(cache)
    assert (selection.filters, selection.steps, selection.keys) == (BOTH, [BOX, BOTH], [name(1)])
    assert selection.to_dict() == {
        "filters": BOTH, "num_accepted": 1, "num_not_made": 1, "num_rejected": 2, "num_unjudged": 2,
        "num_superseded": 0, "num_others": 0,
    }  # fmt: skip
    ((key, sample),) = selection
    assert key == name(1)
    assert sample.origin is not None
    assert sample.origin.scores == {"MinBox": 1.0, "Sharpness": 1.0}


def test_what_a_filter_changed_is_what_counts(cache: LMDBCache) -> None:
    first = put(cache, 1)
    darker = first.replace(image=first.image // 2)
    cache.put_verdict(name(1), BOX, Verdict(True, 3.0, sample=darker), of=first)
    scored = darker.replace(origin=darker.origin.replace(scores={"MinBox": 3.0}))  # type: ignore[union-attr]
    cropped = Sample(np.full((3, 3, 3), 9, np.uint8), origin=scored.origin)
    cache.put_verdict(name(1), BOTH, Verdict(True, sample=cropped), of=scored)
    ((_, sample),) = select_accepted(cache)
    assert_same(sample, cropped)


def test_without_verdicts_all_samples_count(cache: LMDBCache) -> None:
    put(cache, 1)
    put(cache, 2, variant=1)
    selection = select_accepted(cache)
    assert (selection.filters, selection.keys) == ("", [name(1), name(2)])


def test_the_first_accepted_attempt_counts(cache: LMDBCache) -> None:
    put(cache, 1, attempt=2, verdicts={BOX: True})
    put(cache, 2, attempt=1, verdicts={BOX: True})
    put(cache, 3, attempt=0, verdicts={BOX: False})
    put(cache, 4, attempt=0, variant=1, verdicts={BOX: True})
    selection = select_accepted(cache)
    assert (selection.keys, selection.num_superseded, selection.num_rejected) == ([name(2), name(4)], 1, 1)


def test_of_one_attempt_made_twice_the_later_counts(cache: LMDBCache) -> None:
    for number, time_ms in ((1, 10), (2, 30), (3, 20)):  # The source or the pool has changed in between.
        put(cache, number, time_ms=time_ms)
    assert select_accepted(cache).keys == [name(2)]


def test_samples_that_say_nothing_of_their_source_all_count(cache: LMDBCache) -> None:
    for number in (1, 2):
        put(cache, number, origin=Origin())
    assert select_accepted(cache).keys == [name(1), name(2)]


def test_one_of_several_chains_must_be_named(cache: LMDBCache) -> None:
    put(cache, 1, verdicts={BOX: True, SHARP: False})
    put(cache, 2, variant=1, verdicts={BOX: False, BOTH: True, SHARP: True})
    message = (
        "filters must be given, for the cache has verdicts of 2 chains of filters, got filters=None. Say by filters= "
        f"(--filters or --recipe on the command line) which:\n  {BOTH}\n  {SHARP}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        select_accepted(cache)
    assert select_accepted(cache, filters=SHARP).keys == [name(2)]
    assert select_accepted(cache, filters=BOX).keys == [name(1)]
    assert select_accepted(cache, filters="").keys == [name(1), name(2)]
    message = (
        "filters must be a chain that the cache has verdicts of, got filters='Other/1()'. It has those of:\n"
        f"  {BOTH}\n  {SHARP}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        select_accepted(cache, filters="Other/1()")


def test_a_chain_of_which_only_the_beginning_has_said_something_accepts_nothing(cache: LMDBCache) -> None:
    put(cache, 1, verdicts={BOX: False})
    selection = select_accepted(cache, filters=BOTH)
    assert (selection.keys, selection.num_rejected) == ([], 1)
    message = (
        "filters must be a chain that the cache has verdicts of, got filters='MinBox/1(min_side=5)'. It has none at all: "
        "leave filters out to take every sample."
    )
    with LMDBCache(cache.path / "other") as other:
        put(other, 1)
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            select_accepted(other, filters=BOX)


def test_other_generators_and_seeds_are_left_out(cache: LMDBCache) -> None:
    put(cache, 1, origin=Origin("a.jpg", "Fog/1()", seed=3))
    put(cache, 2, origin=Origin("a.jpg", "Fog/1()", seed=4))
    put(cache, 3, origin=Origin("a.jpg", "Rain/1()", seed=3))
    selection = select_accepted(cache, fingerprints=["Fog/1()"], seed=3)
    assert (selection.keys, selection.num_others) == ([name(1)], 2)


def test_names_of_classes_are_united_and_must_agree(cache: LMDBCache) -> None:
    put(cache, 1, origin=Origin("a.jpg", class_names={1: "fig"}))
    put(cache, 2, variant=1, origin=Origin("a.jpg", class_names={2: "date"}))
    selection = select_accepted(cache)
    assert (selection.class_names, selection.class_ids) == ({1: "fig", 2: "date"}, {1, 2})
    put(cache, 3, variant=2, origin=Origin("a.jpg", "Fog/1()", class_names={1: "dog"}))
    message = (
        "class 1 must have one name, but is called 'fig' elsewhere, got class 1='dog'. Choose one generator by "
        "fingerprints= (--recipe on the command line): they are of two datasets."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        select_accepted(cache)


def test_ids_of_masks_are_found_by_reading_them(cache: LMDBCache) -> None:
    mask = np.array([[0, 3], [255, 7]], np.int32)
    cache.put(name(1), Sample(np.zeros((2, 2, 3), np.uint8), SemanticMask(mask), Origin("a.jpg")))
    selection = select_accepted(cache)
    assert (selection.class_ids, selection.list_mask_ids()) == (set(), {3, 7})


def test_it_is_what_training_is_served(cache: LMDBCache) -> None:
    generated = GeneratedDataset(
        ScenesDataset(8), CopyPaste(num_range=(1, 2)), filters=[MinBox(min_side=12, drop="samples")], cache=cache,
        variants=2, version="1",
    )  # fmt: skip
    served = {}
    for place in range(len(generated)):
        outcome = generated.make(*generated.locate(place))
        if outcome.sample is not None and outcome.sample.origin is not None:
            served[outcome.sample.origin.source, outcome.sample.origin.variant] = outcome.sample
    found = {
        (sample.origin.source, sample.origin.variant): sample for _, sample in select_accepted(cache) if sample.origin
    }
    assert 0 < len(served) < 16
    assert found.keys() == served.keys()
    for place_of, sample in served.items():
        assert_same(found[place_of], sample)


def test_chains_of_filters() -> None:
    assert find_chains([BOX, BOTH, SHARP]) == [BOTH, SHARP]
    assert find_chains([]) == []
    assert list_steps(BOTH, [BOX, BOTH, SHARP, "MinBox"]) == [BOX, BOTH]
    assert (name_filter(BOX), name_filter(BOTH, BOX)) == ("MinBox", "Sharpness")
