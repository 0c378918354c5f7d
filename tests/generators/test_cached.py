from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader.cache import LMDBCache, MemoryCache
from synthloader.errors import NothingToGenerate
from synthloader.generated import GeneratedDataset
from synthloader.generators import Cached, Chain, ColorTransfer, CopyPaste, OneOf, Sometimes
from synthloader.generators.composing.stages import split_stages
from synthloader.mixed import MixedDataset
from synthloader.precompute import precompute
from synthloader.protocols import Verdict
from synthloader.reports import list_candidates
from synthloader.sample import Sample
from tests.contracts.generator_contract import Case, check_generator, check_sample
from tests.generators.composing.test_composition import Stamp
from tests.generators.pictures import ListPool, make_picture
from tests.scenes import RejectBy, ScenesDataset, Shade, describe


class Mark:
    """Writes what it draws into one row of the image, so that each part of a chain can be read off."""

    def __init__(self, row: int, *, keeps: Any = Shade.keeps, fails: float = 0.0) -> None:
        self.row = row
        self.keeps = keeps
        self.fails = fails
        self.fingerprint = f"Mark/1(row={row}, fails={fails})"
        self.count = 0

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        self.count += 1
        if rng.random() < self.fails:
            raise NothingToGenerate("no luck")
        image = source.image.copy()
        image[self.row] = rng.integers(0, 256, image[self.row].shape, dtype=np.uint8)
        return source.edit(image=image, target=source.target, drawn=(f"row {self.row}",))


def make_dataset(generator: Any, cache: Any = None, **options: Any) -> GeneratedDataset:
    return GeneratedDataset(ScenesDataset(5), generator, cache=cache, version="1", **{"variants": 2, **options})


def make_mix(generator: Any, cache: Any = None, **options: Any) -> MixedDataset:
    generated = make_dataset(generator, cache, **options)
    return MixedDataset(generated.source.dataset, generated, ratio=2.0)


def read_rows(mixed: MixedDataset, epoch: int) -> dict[tuple[int, int, int], tuple[bytes, bytes]]:
    """(index, source, variant) of the generated indices to what stands in rows 0 and 1."""
    mixed.set_epoch(epoch)
    found = {}
    for index in range(5, len(mixed)):
        draw = mixed.draw(index)
        assert draw is not None
        assert draw.variant is not None
        image = mixed[index][0]
        found[index, draw.source, draw.variant] = image[:, 0].numpy().tobytes(), image[:, 1].numpy().tobytes()
    return found


CHAINS = {
    "plain": lambda: Chain([Cached(Mark(0)), Mark(1)]),
    "more before": lambda: Chain([Mark(2), Cached(Mark(0)), Mark(1)]),
    "nested": lambda: Chain([Chain([Mark(2), Cached(Mark(0))]), Mark(3), Mark(1)]),
    "chain inside": lambda: Chain([Cached(Chain([Mark(2), Mark(0)])), Sometimes(Mark(3)), Mark(1)]),
    "later": lambda: Chain([Mark(2), Chain([Cached(Mark(0)), Mark(3)]), Mark(1)]),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("cache", [None, "memory", "disk"])
def test_what_is_cached_stays_and_what_follows_is_fresh(name: str, cache: str | None, tmp_path: Path) -> None:
    kept: Any = {"memory": MemoryCache(), "disk": LMDBCache(tmp_path / "cache")}.get(cache or "")
    mixed = make_mix(CHAINS[name](), kept)
    epochs = [read_rows(mixed, epoch) for epoch in range(3)]
    first: dict[tuple[int, int], bytes] = {}
    fresh: list[bytes] = []
    for rows in epochs:
        for (_, source, variant), (old, new) in rows.items():
            assert first.setdefault((source, variant), old) == old, "The cached part must stay as it was."
            fresh.append(new)
    assert len(first) == 10
    assert len(set(first.values())) == 10
    assert len(set(fresh)) == len(fresh) == 30, "What follows must be new for every epoch and index."
    assert [read_rows(mixed, epoch) for epoch in range(3)] == epochs
    if kept is not None:
        assert len(kept) == 10
        kept.close()


@pytest.mark.parametrize("name", CHAINS)
def test_the_cache_cannot_be_seen_in_the_bits(name: str, tmp_path: Path) -> None:
    filters = [RejectBy(share=0.3)]
    with LMDBCache(tmp_path / "cache") as disk:
        for cache in (MemoryCache(), disk):
            plain, cached = make_mix(CHAINS[name](), filters=filters), make_mix(CHAINS[name](), cache, filters=filters)
            for epoch in (1, 0, 2):
                plain.set_epoch(epoch)
                cached.set_epoch(epoch)
                for index in range(5, 15):
                    assert describe(cached[index]) == describe(plain[index])
                    one, other = cached.origin(index), plain.origin(index)
                    assert (one is None) == (other is None)
                    if one is not None and other is not None:
                        assert (one.drawn, one.fingerprint, one.scores) == (
                            other.drawn,
                            other.fingerprint,
                            other.scores,
                        )
            assert cached.report().sets["generated"].cache_hits > 10


def test_a_hit_runs_what_follows_alone() -> None:
    dear, cheap = Mark(0), Mark(1)
    mixed = make_mix(Chain([Cached(dear), cheap]), MemoryCache())
    for epoch in range(4):
        read_rows(mixed, epoch)
    assert (dear.count, cheap.count) == (10, 40)


def test_a_hit_does_not_decode_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    generated = make_dataset(Chain([Cached(Mark(0)), Mark(1)]), MemoryCache())
    generated.sample(3)
    monkeypatch.setattr(type(generated.source), "__getitem__", lambda self, index: pytest.fail("decoded"))
    assert generated.make(1, 1, epoch=7, index=20).sample is not None


def test_another_tail_finds_the_same_entries(tmp_path: Path) -> None:
    with LMDBCache(tmp_path / "cache") as cache:
        make_dataset(Mark(0), cache).sample(0)
        keys = list(cache)
        for tail in (Mark(1), Shade(), Chain([Mark(1), Shade()])):
            generated = make_dataset(Chain([Cached(Mark(0)), tail]), cache)
            outcome = generated.make(0, 0)
            assert (outcome.hits, outcome.misses) == (1, 0)
            assert generated.make_cache_key(0, 0) == keys[0]
            assert outcome.sample is not None
            assert outcome.sample.origin is not None
            assert outcome.sample.origin.fingerprint == generated.generator.fingerprint
        entry: Any = cache.get(keys[0])
        assert entry.origin.fingerprint == Mark(0).fingerprint
        assert list(cache) == keys


def test_filters_judge_the_finished_sample_each_time() -> None:
    class Odd:
        """Accepts by what the fresh part drew."""

        fingerprint = "Odd/1()"

        def judge(self, generated: Sample, source: Sample, /) -> Verdict:
            return Verdict(bool(generated.image[1, 0, 0] % 2), float(generated.image[1, 0, 0]), "even")

    cache = MemoryCache()
    generated = make_dataset(Chain([Cached(Mark(0)), Mark(1)]), cache, filters=[Odd()], attempts=4)
    verdicts = set()
    for epoch in range(12):
        outcome = generated.make(0, 0, epoch=epoch, index=9)
        attempts = len(outcome.rejections)
        assert outcome.sample is None or outcome.sample.image[1, 0, 0] % 2
        assert outcome.sample is None or outcome.sample.origin.attempt == attempts  # type: ignore[union-attr]
        verdicts.add(attempts)
        assert all(cache.get_verdict(key, Odd.fingerprint, of=generated.source[0]) is None for key in cache), (
            "A verdict on one epoch's sample must not be kept for another's."
        )
    assert len(verdicts) > 1


def test_where_what_follows_has_nothing_the_next_attempt_is_made() -> None:
    generated = make_dataset(Chain([Cached(Mark(0)), Mark(1, fails=0.5)]), MemoryCache(), attempts=5)
    reasons = []
    for epoch in range(20):
        outcome = generated.make(0, 0, epoch=epoch, index=3)
        reasons.append(outcome.rejections)
        assert outcome.sample is None or outcome.sample.origin.attempt == len(outcome.rejections)  # type: ignore[union-attr]
    assert {reason for each in reasons for reason in each} == {("Chain", "no luck")}
    assert len({len(each) for each in reasons}) > 2


def test_an_unchanged_prefix_is_no_hindrance_and_an_unchanged_sample_is_none() -> None:
    for cache in (None, MemoryCache()):
        chain = Chain([Cached(Sometimes(Mark(0))), Sometimes(Mark(1))])
        generated = make_dataset(chain, cache, variants=8, attempts=1)
        kinds = set()
        for _ in range(2):  # a miss, then a hit
            for at in range(len(generated)):
                outcome = generated.make(*generated.locate(at))
                if outcome.sample is None:
                    assert outcome.rejections == [("Chain", "unchanged")]
                    kinds.add(())
                else:
                    assert outcome.sample.origin is not None
                    kinds.add(outcome.sample.origin.drawn)
        assert kinds == {(), ("row 0",), ("row 1",), ("row 0", "row 1")}


def test_precompute_fills_what_is_kept_alone(tmp_path: Path) -> None:
    dear, cheap = Mark(0, fails=0.3), Mark(1)
    with LMDBCache(tmp_path / "cache") as cache:
        chain = Chain([Cached(dear), cheap])
        generated = make_dataset(chain, cache, filters=[RejectBy(share=1.1)], attempts=9)
        report = precompute(generated, progress=False)
        assert (report.total, report.accepted, cheap.count) == (10, 10, 0)
        assert report.generated == dear.count == len(cache)
        assert precompute(generated, progress=False).cached == len(cache)
        mixed = MixedDataset(generated.source.dataset, make_dataset(chain, cache, attempts=9), ratio=2.0)
        read_rows(mixed, 5)
        assert dear.count == len(cache)


def test_the_mark_without_anything_after_it_changes_no_sample() -> None:
    plain, marked = make_dataset(Chain([Mark(0), Mark(1)])), make_dataset(Cached(Chain([Mark(0), Mark(1)])))
    for at in range(10):
        assert np.array_equal(plain.sample(at).image, marked.sample(at).image)
    cache = MemoryCache()
    finished = make_dataset(Cached(Mark(0)), cache, filters=[RejectBy(share=0.5)], attempts=9)
    sample = finished.sample(0)
    assert sample.origin is not None
    key = finished.make_cache_key(0, 0, sample.origin.attempt)
    assert cache.get_verdict(key, RejectBy(share=0.5).fingerprint, of=sample) is not None


def test_the_preview_lists_finished_candidates() -> None:
    generated = make_dataset(
        Chain([Cached(Mark(0)), Mark(1)]), MemoryCache(), filters=[RejectBy(share=0.6)], attempts=6
    )
    listed = [each for source in range(5) for each in list_candidates(generated, source, 0, epoch=3, index=8)]
    assert any(each.who == "RejectBy" for each in listed)
    for each in listed:
        assert each.sample is not None
        assert each.sample.origin is not None
        assert each.sample.origin.drawn == ("row 0", "row 1")
    assert len(generated.cache) == 0  # type: ignore[arg-type]


def test_a_generator_is_divided_at_the_mark() -> None:
    chain = Chain([Stamp(1), Chain([Stamp(2), Cached(Stamp(3)), Stamp(4)]), Stamp(5)])
    stages = split_stages(chain)
    assert stages.whole is chain
    assert stages.kept.fingerprint == Chain([Stamp(1), Stamp(2), Stamp(3)]).fingerprint
    assert stages.fresh is not None
    assert stages.fresh.fingerprint == Chain([Stamp(4), Stamp(5)]).fingerprint
    whole = Chain([Stamp(1)])
    assert split_stages(whole) == (whole, whole, None)


def test_the_fingerprint_tells_a_mark() -> None:
    assert Cached(Stamp(3)).fingerprint == 'Cached/1(generator="Stamp(3)")'
    assert Chain([Cached(Stamp(3)), Stamp(4)]).fingerprint != Chain([Stamp(3), Stamp(4)]).fingerprint
    assert pickle.loads(pickle.dumps(Cached(Stamp(3)))).fingerprint == Cached(Stamp(3)).fingerprint
    assert re.fullmatch(r"Cached\(<.*Stamp object.*>\)", repr(Cached(Stamp(3))))


class Wrapper(Stamp):
    """Holds another generator, as somebody's own class might."""

    def __init__(self, generator: Any) -> None:
        super().__init__(1)
        self.generator = generator


@pytest.mark.parametrize(
    ("make", "owner"),
    [
        (lambda part: OneOf([(1, part), (1, Shade())]), "OneOf"),
        (lambda part: OneOf([(1, Chain([part, Shade()]))]), "OneOf"),
        (lambda part: Sometimes(part), "Sometimes"),
        (lambda part: Cached(part), "Cached"),
        (lambda part: make_dataset(Wrapper(part)), "Wrapper"),
        (lambda part: make_dataset(Chain([Shade(), Wrapper(Chain([part]))])), "Wrapper"),
    ],
)
def test_a_mark_that_no_chain_leads_to_is_refused(make: Any, owner: str) -> None:
    message = (
        rf"^Cached must be a part of a chain, and not lie inside of {owner}, got Cached=.*\. "
        rf"Write Chain\(\[Cached\({owner}\(\.\.\.\)\), \.\.\.\]\) to keep what {owner} makes\.$"
    )
    with pytest.raises(ValueError, match=message):
        make(Cached(Shade()))


def test_two_marks_in_a_chain_are_refused() -> None:
    message = r"^generators must hold at most one Cached, got .*\. The cache reaches as far as the last one: leave"
    for parts in ([Cached(Shade()), Cached(Shade())], [Chain([Cached(Shade())]), Shade(), Cached(Shade())]):
        with pytest.raises(ValueError, match=message):
            Chain(parts)


def test_it_keeps_the_contract_of_generators() -> None:
    case = Case(
        lambda: Cached(CopyPaste()),
        pastes=True,
        changes=[lambda: Cached(CopyPaste(flip=False)), lambda: Cached(ColorTransfer())],
    )
    check_generator(case)
    pool = ListPool([make_picture(1), make_picture(2)])
    assert all(check_sample(case, pool, make_picture(0), seed) is not None for seed in range(5))
