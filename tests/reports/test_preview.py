"""The preview: every candidate with its verdict, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader.cache import LMDBCache, MemoryCache
from synthloader.errors import NothingToGenerate
from synthloader.generated import GeneratedDataset
from synthloader.generators import Chain, CopyPaste, OneOf
from synthloader.precompute import precompute
from synthloader.reports import list_candidates, preview_generated
from synthloader.reports.preview import _describe, spread_positions
from synthloader.sample import Sample
from tests.scenes import RejectBy, ScenesDataset, Shade, TwoClasses


class Fussy(Shade):
    """Makes nothing in half of the cases."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        if rng.random() < 0.5:
            raise NothingToGenerate("not in the mood")
        return super().generate(source, rng=rng)


def make_generated(**options: Any) -> GeneratedDataset:
    options = {"filters": [RejectBy(share=0.6)], "variants": 2, "attempts": 3, **options}
    return GeneratedDataset(ScenesDataset(6), options.pop("generator", Fussy()), version="1", **options)


@pytest.mark.parametrize("cache", [None, "memory", "disk"])
def test_every_candidate_is_listed_as_it_was_made(cache: str | None, tmp_path: Path) -> None:
    kept = {"memory": MemoryCache(), "disk": LMDBCache(tmp_path / "cache")}.get(cache or "")
    generated = make_generated(cache=kept)
    reasons = set()
    for source in range(6):
        for variant in range(2):
            outcome = generated.make(source, variant, collect=True)
            found = list_candidates(generated, source, variant)
            assert [candidate.attempt for candidate in found] == list(range(len(found)))
            assert [(one.who, one.reason) for one in found if one.who] == outcome.rejections
            assert bool(found[-1].who) == (outcome.sample is None)
            assert all((one.sample is None) == (one.reason == "not in the mood") for one in found)
            if outcome.sample is not None:
                assert found[-1].sample is not None
                assert np.array_equal(found[-1].sample.image, outcome.sample.image)
            reasons |= {one.reason for one in found}
    assert reasons == {"", "not in the mood", "first pixels"}
    assert kept is None or len(kept) == 0


def test_a_filled_cache_shows_the_same(tmp_path: Path) -> None:
    empty, filled = make_generated(cache=LMDBCache(tmp_path / "a")), make_generated(cache=LMDBCache(tmp_path / "b"))
    precompute(filled, progress=False)
    assert np.array_equal(preview_generated(empty), preview_generated(filled))
    filled.cache.close()  # type: ignore[union-attr]


def test_rejected_candidates_are_on_the_sheet() -> None:
    generated = make_generated()
    all_rejected = make_generated(filters=[RejectBy(share=2.0)])
    assert preview_generated(all_rejected, count=1).shape[0] > preview_generated(generated, count=1).shape[0]
    assert preview_generated(all_rejected, count=1).shape[2] == 3


def test_a_generator_may_be_aimed() -> None:
    real = TwoClasses(20)
    scenes = ScenesDataset(4)
    generated = GeneratedDataset(scenes, CopyPaste(num_range=(1, 1)), pool=scenes, version="1")
    (candidate,) = list_candidates(generated, 0, 0, target_class=2)
    assert candidate.sample is not None
    assert 2 in candidate.sample.target.class_ids  # type: ignore[union-attr]
    assert preview_generated(generated, [(0, 0, 2)]).any()
    assert preview_generated(GeneratedDataset(real, Shade(), version="1"), count=2).any()


def test_sources_are_spread_evenly() -> None:
    assert [source for source, _, _ in spread_positions(10, 4)] == [0, 2, 5, 7]
    assert spread_positions(2, 4, variant=3) == [(0, 3, None), (1, 3, None)]


def test_generators_are_named_as_they_are_put_together() -> None:
    paste, shade = CopyPaste(), Shade()
    assert _describe(paste) == "CopyPaste"
    assert _describe(Chain([paste, shade])) == "CopyPaste + Shade"
    assert _describe(OneOf([(2, paste), (1, Chain([paste, shade]))])) == "CopyPaste or (CopyPaste + Shade)"
    assert _describe(Chain([OneOf([(1, paste), (1, shade)]), shade])) == "(CopyPaste or Shade) + Shade"


class Refuse(Shade):
    """Makes nothing, and says two reasons in turn."""

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        self.calls = getattr(self, "calls", 0) + 1
        raise NothingToGenerate("no donor" if self.calls % 3 else "no room")


def test_attempts_that_made_nothing_for_one_reason_share_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[Any] = []
    monkeypatch.setattr("synthloader.reports.preview.make_contact_sheet", lambda found, **_: pairs.extend(found))
    preview_generated(make_generated(generator=Refuse(), attempts=6), [(2, 1)])
    assert [right.caption for _, right in pairs] == [
        "nothing made: no donor (variant 1, 4 attempts)",
        "nothing made: no room (variant 1, 2 attempts)",
    ]
    pairs.clear()
    preview_generated(make_generated(generator=Shade(), filters=[RejectBy(share=2.0)]), [(2, 1)])
    assert len(pairs) == 3, "What was made and rejected is shown, each for itself."


def test_a_plain_sheet_shows_the_pixels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[Any] = []
    monkeypatch.setattr("synthloader.reports.preview.make_contact_sheet", lambda found, **_: pairs.extend(found))
    generated = make_generated(generator=Shade(), filters=[])
    size_hw = generated.source[0].size_hw
    for plain in (False, True):
        pairs.clear()
        preview_generated(generated, [(0, 0)], tile_hw=size_hw, plain=plain)
        ((left, right),) = pairs
        assert np.array_equal(left.image, generated.source[0].image) == plain
        made = generated.make(0, 0).sample
        assert made is not None
        assert np.array_equal(right.image, made.image) == plain
