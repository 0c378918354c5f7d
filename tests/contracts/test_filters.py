"""What every filter promises."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthloader.filters
from synthloader.filters import MinBox, SinglePolygon
from synthloader.protocols import Filter, Verdict
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.contracts.generator_contract import describe
from tests.generators.pictures import KINDS, make_classified, make_picture, make_segmented
from tests.guards import GlobalRandomState


@dataclass(frozen=True)
class Case:
    """A filter under test, and the same with other parameters."""

    make: Callable[[], Any]
    changes: Sequence[Callable[[], Any]] = field(default_factory=tuple)


CASES = {
    "MinBox": Case(
        MinBox,
        changes=[lambda: MinBox(min_side=6), lambda: MinBox(min_area=11), lambda: MinBox(drop="samples")],
    ),
    "MinBox, samples": Case(lambda: MinBox(min_side=2, drop="samples")),
    "SinglePolygon": Case(SinglePolygon),
}


def check_verdict(judge: Any, generated: Sample, source: Sample) -> Verdict:
    """All promises about one verdict."""
    before = describe(generated), describe(source)
    random_states = GlobalRandomState.read()
    verdict = judge.judge(generated, source)
    assert not random_states.differences(GlobalRandomState.read()), "The global random state was changed."
    assert (describe(generated), describe(source)) == before, "A sample was modified."
    assert isinstance(verdict, Verdict)
    assert verdict.accepted or verdict.reason, "A rejection must say why."
    assert verdict.accepted or verdict.sample is None

    again = pickle.loads(pickle.dumps(judge)).judge(generated, source)
    assert (again.accepted, again.score, again.reason) == (verdict.accepted, verdict.score, verdict.reason)
    assert (again.sample is None) == (verdict.sample is None)
    if verdict.sample is not None and again.sample is not None:
        assert describe(again.sample) == describe(verdict.sample)
        assert verdict.sample.image.shape == generated.image.shape
        assert verdict.sample.metadata == generated.metadata
        if isinstance(generated.target, Instances):
            left: Any = verdict.sample.target
            assert 0 < len(left) < len(generated.target)
            assert set(left.attributes["row"]) < set(generated.target.attributes["row"])
    return verdict


def test_no_filter_is_missing_from_the_list() -> None:
    assert {name.partition(",")[0] for name in CASES} == set(synthloader.filters.__all__)


@pytest.mark.parametrize("name", CASES)
class TestFilterContract:
    def test_protocol_fingerprint_and_pickling(self, name: str) -> None:
        case = CASES[name]
        judge = case.make()
        assert isinstance(judge, Filter)
        assert judge.fingerprint == case.make().fingerprint == pickle.loads(pickle.dumps(judge)).fingerprint
        assert type(judge).__name__ in judge.fingerprint
        fingerprints = [judge.fingerprint, *(change().fingerprint for change in case.changes)]
        assert len(set(fingerprints)) == len(fingerprints)

    @settings(deadline=None, max_examples=50)
    @given(
        seed=st.integers(0, 10**6),
        size_hw=st.tuples(st.integers(1, 60), st.integers(1, 60)),
        num_objects=st.integers(0, 12),
        kind=st.sampled_from(KINDS),
    )
    def test_any_picture(self, name: str, seed: int, size_hw: tuple[int, int], num_objects: int, kind: str) -> None:
        generated = make_picture(1, seed=seed, size_hw=size_hw, num_objects=num_objects, kind=kind, num_keypoints=2)
        check_verdict(CASES[name].make(), generated, make_picture(0))

    def test_other_kinds_of_target(self, name: str) -> None:
        for sample in (make_classified(1), make_segmented(1), make_classified(1).replace(target=None)):
            check_verdict(CASES[name].make(), sample, sample)
