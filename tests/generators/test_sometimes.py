from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest

from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generated import GeneratedDataset
from synthloader.generators import Chain, ColorTransfer, CopyPaste, OneOf, Sometimes, Tile
from synthloader.generators.composing.output_size import find_output_size
from synthloader.protocols import Rejected
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances
from tests.contracts.generator_contract import Case, check_generator, check_sample
from tests.generators.composing.test_composition import Nothing, Stamp
from tests.generators.pictures import ListPool, make_classified, make_picture
from tests.scenes import ScenesDataset, Shade


class Halve(Stamp):
    """Half as high."""

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int] | None:
        return source_hw[0] // 2, source_hw[1]


def count_applied(generator: Any, times: int = 400) -> int:
    """How often something was made."""
    source, made = make_picture(0), 0
    for seed in range(times):
        rng = make_rng(seed, "", 0, 0)
        if generator.generate_or_pass(source, rng=make_rng(seed, "", 0, 0)) is source:
            with pytest.raises(NothingToGenerate, match=r"^unchanged$"):
                generator.generate(source, rng=rng)
        else:
            assert generator.generate(source, rng=rng) is not source
            made += 1
    return made


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_it_is_applied_with_its_probability(probability: float) -> None:
    made = count_applied(Sometimes(Stamp(3), probability=probability))
    assert abs(made / 400 - probability) < 4 * (probability * (1 - probability) / 400) ** 0.5


def test_it_is_always_applied_with_probability_1() -> None:
    assert count_applied(Sometimes(Stamp(3), probability=1)) == 400


def test_the_others_of_a_chain_go_on_where_it_leaves_the_sample_alone() -> None:
    chain = Chain([Sometimes(Stamp(3)), Stamp(4), Sometimes(Stamp(5))])
    seen = set()
    for seed in range(60):
        made = chain.generate(make_picture(0), rng=make_rng(seed, "", 0, 0))
        assert made.origin is not None
        seen.add(tuple(name.partition(":")[0] for name in made.origin.drawn))
    assert seen == {("4",), ("3", "4"), ("4", "5"), ("3", "4", "5")}


@pytest.mark.parametrize(
    "composition",
    [
        lambda: Chain([Sometimes(Stamp(3)), Sometimes(Stamp(4))]),
        lambda: Chain([Chain([Sometimes(Stamp(3))]), Sometimes(Stamp(4))]),
        lambda: Chain([Sometimes(Chain([Sometimes(Stamp(3), probability=1)])), Sometimes(Stamp(4))]),
        lambda: Chain([OneOf([(1, Sometimes(Stamp(3))), (1, Sometimes(Stamp(5)))]), Sometimes(Stamp(4))]),
    ],
    ids=["chain", "nested", "in sometimes", "one of"],
)
def test_a_chain_of_which_every_part_leaves_the_sample_alone_has_nothing_to_generate(composition: Any) -> None:
    assert 250 < count_applied(composition()) < 350  # three of four


def test_nothing_to_generate_is_nothing_to_generate() -> None:
    with pytest.raises(NothingToGenerate, match=r"^no luck$"):
        Sometimes(Nothing(3), probability=1).generate(make_picture(0), rng=make_rng(0, "", 0, 0))


@pytest.mark.parametrize("make", [Sometimes, lambda part: Chain([Sometimes(part), Sometimes(part)])])
def test_no_unchanged_source_is_counted_as_generated(make: Any) -> None:
    generated = GeneratedDataset(ScenesDataset(6), make(Shade()), version="1", variants=8, attempts=1)
    outcomes = [generated.make(source, variant, collect=True) for source in range(6) for variant in range(8)]
    for outcome in outcomes:
        (candidate,) = outcome.candidates
        if outcome.sample is None:
            assert isinstance(candidate, Rejected)
            assert candidate.reason == "unchanged"
        else:
            assert outcome.sample.origin is not None
            source = generated.source[int(outcome.sample.origin.source)]
            assert not np.array_equal(outcome.sample.image, source.image)
    assert 5 < sum(outcome.sample is None for outcome in outcomes) < 43


def test_it_keeps_what_its_generator_keeps() -> None:
    only_classes = Sometimes(Stamp(3, frozenset({ClassLabel})))
    assert only_classes.keeps == {ClassLabel}
    message = (
        "Sometimes keeps ClassLabel true, got a source with a Instances. "
        "Use a generator that keeps this kind of target (see its `keeps`), such as ColorTransfer."
    )
    for seed in range(4):  # whether it is applied or not
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            only_classes.generate(make_picture(0), rng=make_rng(seed, "", 0, 0))
    assert Sometimes(Stamp(3)).generate(make_classified(0), rng=make_rng(1, "", 0, 0)).target is not None


def test_its_size_is_known_where_it_cannot_change_by_chance() -> None:
    assert find_output_size(Sometimes(Stamp(3)), (8, 6)) == (8, 6)
    assert find_output_size(Sometimes(Halve(3)), (8, 6)) is None
    assert find_output_size(Sometimes(Halve(3), probability=1), (8, 6)) == (4, 6)
    assert find_output_size(Chain([Halve(3), Chain([Halve(3)])]), (8, 6)) == (2, 6)
    assert find_output_size(OneOf([(1, Halve(3)), (1, Stamp(3))]), (8, 6)) is None
    assert find_output_size(OneOf([(1, Halve(3)), (1, Halve(4))]), (8, 6)) == (4, 6)


def test_binding_and_aiming_reach_its_generator() -> None:
    bound = Sometimes(CopyPaste(), probability=1).bind(ListPool([make_picture(1, seed=3)]), classes=None)
    assert bound.uses_pool
    assert "aim=2" in bound.aim(2).fingerprint
    assert not hasattr(Sometimes(Stamp(3), probability=1), "aim")
    assert not Sometimes(Stamp(3)).uses_pool
    with pytest.raises(LabelContractError):
        bound.check_source(make_classified(0))


def test_what_adds_a_class_at_times_only_cannot_be_aimed() -> None:
    for name in ("aim", "max_donors", "list_donors", "use_donors"):
        assert hasattr(Sometimes(CopyPaste(), probability=1), name)
        assert not hasattr(Sometimes(CopyPaste(), probability=0.9), name)
        assert not hasattr(Chain([Sometimes(CopyPaste()), ColorTransfer()]), name)
    close_up = Sometimes(Tile(size_hw=20, centred=True), probability=0.5)
    assert close_up.aims_within_source, "Its sources hold the class, whether they are cut or not."
    assert "aim=2" in close_up.aim(2).fingerprint


class Outlining(Stamp):
    """Can be told that masks are written as polygons."""

    def keep_single_polygons(self) -> Outlining:
        return Outlining(self.value + 100)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: Sometimes(Outlining(1)), [101]),
        (lambda: Chain([Outlining(1), Stamp(2)]), [101, 2]),
        (lambda: OneOf([(1, Outlining(1)), (1, Stamp(2))]), [101, 2]),
    ],
)
def test_compositions_say_that_masks_are_written_as_polygons(make: Any, wanted: list[int]) -> None:
    assert [part.value for part in make().keep_single_polygons().generators] == wanted


def test_the_fingerprint_says_how_often_and_what() -> None:
    generator = Sometimes(Stamp(3), probability=0.25)
    assert generator.fingerprint == 'Sometimes/1(generator="Stamp(3)", probability=0.25)'
    assert pickle.loads(pickle.dumps(generator)).fingerprint == generator.fingerprint
    assert Sometimes(Stamp(3)).fingerprint != generator.fingerprint != Sometimes(Stamp(4), probability=0.25).fingerprint
    assert repr(Sometimes(Sometimes(CopyPaste()), probability=0.25)).endswith("probability=0.5), probability=0.25)")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Sometimes(3), TypeError, "generator must have generate, keeps and fingerprint, got generator=3."),
        (
            lambda: Sometimes(Stamp),
            TypeError,
            "generator must have generate, keeps and fingerprint, got "
            "generator=<class 'tests.generators.composing.test_composition.Stamp'>.",
        ),
        (
            lambda: Sometimes(Stamp(1), probability=0),
            ValueError,
            "probability must be above 0, got probability=0. Leave out what is never to be applied.",
        ),
        (
            lambda: Sometimes(Stamp(1), probability=1.5),
            ValueError,
            "probability must be at most 1, got probability=1.5.",
        ),
    ],
)
def test_wrong_arguments(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        make()


def test_the_sample_is_handed_on_as_it_is() -> None:
    source: Sample = make_picture(0)
    generator = Sometimes(Stamp(3), probability=0.01)
    assert generator.generate_or_pass(source, rng=make_rng(0, "", 0, 0)) is source
    assert isinstance(source.target, Instances)


def test_it_keeps_the_contract_of_generators() -> None:
    case = Case(
        lambda: Sometimes(CopyPaste(), probability=0.8),
        pastes=True,
        changes=[
            lambda: Sometimes(CopyPaste(), probability=0.7),
            lambda: Sometimes(CopyPaste(flip=False), probability=0.8),
        ],
    )
    check_generator(case)
    pool = ListPool([make_picture(1), make_picture(2)])
    made = [check_sample(case, pool, make_picture(0), seed) for seed in range(20)]
    assert any(sample is None for sample in made)
    assert sum(sample is not None for sample in made) >= 10
