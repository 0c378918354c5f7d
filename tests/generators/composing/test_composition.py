from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators import Chain, ColorTransfer, CopyPaste, OneOf
from synthloader.protocols import Bindable, Generator
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.generators.pictures import ListPool, make_classified, make_picture


class Stamp:
    """Writes one value into the first pixel and names it."""

    def __init__(self, value: int, keeps: Any = frozenset({ClassLabel, Instances, SemanticMask})) -> None:
        self.value = value
        self.keeps = keeps
        self.fingerprint = f"Stamp({value})"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        image = source.image.copy()
        image[0, 0] = self.value
        return source.edit(image=image, target=source.target, drawn=(f"{self.value}:{rng.integers(1000)}",))


class Nothing(Stamp):
    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        raise NothingToGenerate("no luck")


def run(generator: Any, source: Sample | None = None, seed: int = 0) -> Any:
    return generator.generate(source or make_picture(0), rng=make_rng(seed, "", 0, 0))


class TestChain:
    def test_parts_are_applied_in_order_with_one_rng(self) -> None:
        made = run(Chain([Stamp(3), Stamp(4)]))
        rng = make_rng(0, "", 0, 0)
        assert made.image[0, 0].tolist() == [4, 4, 4]
        assert made.origin.drawn == (f"3:{rng.integers(1000)}", f"4:{rng.integers(1000)}")

    def test_one_that_has_nothing_stops_the_chain(self) -> None:
        with pytest.raises(NothingToGenerate, match=r"^no luck$"):
            run(Chain([Stamp(3), Nothing(4)]))

    def test_it_keeps_what_all_keep(self) -> None:
        chain = Chain([Stamp(1), Stamp(2, frozenset({Instances, SemanticMask})), Stamp(3, frozenset({Instances}))])
        assert chain.keeps == {Instances}
        message = (
            "Chain keeps Instances true, got a source with a ClassLabel. "
            "Use a generator that keeps this kind of target (see its `keeps`), such as ColorTransfer."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            run(chain, make_classified(0))

    def test_the_fingerprint_is_made_of_the_parts(self) -> None:
        assert Chain([Stamp(3), Stamp(4)]).fingerprint == 'Chain/1(generators=["Stamp(3)", "Stamp(4)"])'
        assert Chain([Stamp(4), Stamp(3)]).fingerprint != Chain([Stamp(3), Stamp(4)]).fingerprint

    def test_binding_reaches_the_parts_that_want_a_pool(self) -> None:
        pool = ListPool([make_picture(1, seed=3)])
        chain = Chain([Stamp(3), CopyPaste(classes=["a", "b", "c", "d"])])
        bound = chain.bind(pool, classes={"a": 1, "b": 2, "c": 3, "d": 4})
        assert isinstance(chain, Bindable)
        assert run(bound).origin.drawn[1].startswith("0.png#")
        assert isinstance(bound, Generator)

    def test_the_pool_matters_where_it_matters_to_a_part(self) -> None:
        assert Chain([Stamp(3), CopyPaste()]).uses_pool
        assert not Chain([Stamp(3)]).uses_pool
        assert not Chain([ColorTransfer(references=[make_picture(1)])]).uses_pool

    def test_the_last_part_that_can_be_aimed_is(self) -> None:
        chain = Chain([CopyPaste(), CopyPaste(flip=False), ColorTransfer()])
        aimed = chain.aim(3)
        first, second, _ = aimed.generators
        assert "aim=null" in first.fingerprint
        assert "aim=3" in second.fingerprint
        assert aimed.fingerprint != chain.fingerprint

    def test_a_chain_that_cannot_be_aimed_has_no_aim(self) -> None:
        assert not hasattr(Chain([ColorTransfer()]), "aim")
        assert callable(Chain([CopyPaste()]).aim)

    @pytest.mark.parametrize(
        ("parts", "kind", "message"),
        [
            ([], ValueError, "generators must hold at least one generator, got generators=[]."),
            (3, TypeError, "generators must be a list or tuple, got generators=3."),
            (["fog"], TypeError, "generators[0] must have generate, keeps and fingerprint, got generators[0]='fog'."),
            (
                [CopyPaste],
                TypeError,
                "generators[0] must have generate, keeps and fingerprint, got "
                "generators[0]=<class 'synthloader.generators.copy_paste.CopyPaste'>.",
            ),
            (
                [Stamp(2, frozenset({Instances})), Stamp(1, frozenset({ClassLabel}))],
                ValueError,
                "generators must keep a kind of target in common, got "
                "generators=['Stamp (Instances)', 'Stamp (ClassLabel)'].",
            ),
        ],
    )
    def test_wrong_parts(self, parts: Any, kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            Chain(parts)

    def test_it_shows_its_parts(self) -> None:
        assert repr(Chain([ColorTransfer()])) == f"Chain([{ColorTransfer()!r}])"


class TestOneOf:
    def test_parts_are_drawn_by_weight(self) -> None:
        generator = OneOf({3: Stamp(1), 1: Stamp(2)})
        drawn = [run(generator, seed=seed).image[0, 0, 0] for seed in range(600)]
        assert generator.weights == (0.75, 0.25)
        assert set(drawn) == {1, 2}
        assert 0.69 < np.mean(np.array(drawn) == 1) < 0.81

    def test_equal_weights_are_given_as_pairs(self) -> None:
        generator = OneOf([(1, Stamp(1)), (1, Stamp(2))])
        assert generator.weights == (0.5, 0.5)
        assert {run(generator, seed=seed).image[0, 0, 0] for seed in range(20)} == {1, 2}

    def test_only_the_ratios_of_the_weights_count(self) -> None:
        parts = Stamp(1), Stamp(2)
        assert OneOf(zip((1, 3), parts)).fingerprint == OneOf(list(zip((0.25, 0.75), parts))).fingerprint  # noqa: B905

    def test_it_keeps_what_all_keep(self) -> None:
        generator = OneOf({1: Stamp(1, frozenset({Instances})), 2: Stamp(2)})
        assert generator.keeps == {Instances}
        with pytest.raises(LabelContractError, match=r"^OneOf keeps Instances true, got a source with a ClassLabel"):
            run(generator, make_classified(0))

    def test_binding_and_aiming_reach_the_parts(self) -> None:
        pool = ListPool([make_picture(1, seed=3)])
        generator = OneOf([(1, CopyPaste()), (1, CopyPaste(flip=False))])
        aimed = generator.bind(pool, classes=None).aim(2)
        assert all("aim=2" in part.fingerprint for part in aimed.generators)
        assert aimed.weights == (0.5, 0.5)
        assert aimed.uses_pool

    def test_it_can_be_aimed_only_if_all_can(self) -> None:
        assert not hasattr(OneOf({1: CopyPaste(), 2: ColorTransfer()}), "aim")
        assert callable(OneOf({1: CopyPaste()}).aim)

    def test_the_drawn_part_may_have_nothing(self) -> None:
        with pytest.raises(NothingToGenerate, match=r"^no luck$"):
            run(OneOf({1: Nothing(1)}))

    @pytest.mark.parametrize(
        ("choices", "kind", "message"),
        [
            ({}, ValueError, "generators must hold at least one generator, got generators=[]."),
            ({0: Stamp(1)}, ValueError, "weights[0] must be above 0, got weights[0]=0.0. Leave out what is never to be drawn."),
            ({-1: Stamp(1)}, ValueError, "weights[0] must be at least 0, got weights[0]=-1."),
            ({"a": Stamp(1)}, TypeError, "weights[0] must be a number, got weights[0]='a'."),
            (3, TypeError, "choices must be a dict of weight to generator, or pairs, got choices=3."),
            ([(1,)], TypeError, "choices[0] must be a pair (weight, generator), got choices[0]=(1,)."),
            ({1: "x"}, TypeError, "generators[0] must have generate, keeps and fingerprint, got generators[0]='x'."),
        ],
    )  # fmt: skip
    def test_wrong_choices(self, choices: Any, kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            OneOf(choices)

    def test_it_shows_its_parts(self) -> None:
        assert repr(OneOf({2: ColorTransfer()})) == f"OneOf([(1.0, {ColorTransfer()!r})])"


def test_recipes_know_the_generators_by_name() -> None:
    from synthloader.registry import find_plugin

    assert find_plugin("generators", "copy_paste") is CopyPaste
    assert find_plugin("generators", "color_transfer") is ColorTransfer
