from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators.blend import Blend
from synthloader.generators.chain import Chain
from synthloader.generators.color_transfer import ColorTransfer
from synthloader.generators.copy_paste import CopyPaste
from synthloader.generators.one_of import OneOf
from synthloader.protocols import Aimable, Bindable
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.contracts.generator_contract import Case, check_generator, check_sample
from tests.generators.pictures import ListPool, make_classified, make_grey, make_picture, make_segmented

CASES = {
    "Blend": Case(
        lambda: Blend(ColorTransfer()),
        changes=[
            lambda: Blend(ColorTransfer(method="histogram")),
            lambda: Blend(ColorTransfer(), delta=(0.3, 0.6)),
            lambda: Blend(ColorTransfer(), delta=(0.2, 0.7)),
            lambda: Blend(ColorTransfer(), delta=0.5),
            lambda: Blend(ColorTransfer(), object_delta=0.2),
            lambda: Blend(ColorTransfer(), object_delta=0.3),
        ],
    ),
    "Blend, objects apart": Case(lambda: Blend(ColorTransfer(), object_delta=(0, 0.2))),
}


class Invert:
    """An appearance generator without a pool, whose edit is known; `change` breaks what it makes."""

    keeps = frozenset({ClassLabel, Instances, SemanticMask})
    fingerprint = "Invert/1()"

    def __init__(self, change: Callable[[Sample], Sample] = lambda made: made) -> None:
        self.change = change

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        return self.change(source.edit(image=255 - source.image, target=source.target, drawn=("a",), prompt="b"))

    def __repr__(self) -> str:
        return "Invert()"


class Demand(Invert):
    def check_source(self, source: Sample, /) -> None:
        raise LabelContractError("no")


class OnlyClasses(Invert):
    keeps = frozenset({ClassLabel})


def make_noise(target: Any = None, size_hw: tuple[int, int] = (60, 80)) -> Sample:
    """Dark, so that each pixel is far from its inverse."""
    image = np.random.default_rng(0).integers(0, 60, (*size_hw, 3), dtype=np.uint8)
    return Sample(image, target)


def make_target(kind: str) -> Any:
    """An object at rows 20..29, columns 30..49."""
    mask = np.zeros((60, 80), bool)
    mask[20:30, 30:50] = True
    boxes = np.array([[30, 20, 50, 30]], np.float32)
    match kind:
        case "masks":
            return Instances(np.ones(1, np.int64), boxes, mask[None])
        case "boxes":
            return Instances(np.ones(1, np.int64), boxes)
        case _:
            return SemanticMask(mask.astype(np.int32))


def generate(generator: Any, source: Sample, seed: int = 0) -> Sample:
    made = generator.generate(source, rng=make_rng(seed, "s", 0, 0))
    assert isinstance(made, Sample)
    return made


def read_deltas(made: Sample, source: Sample) -> np.ndarray:
    """(H, W): how far each pixel went towards its inverse."""
    deltas: np.ndarray = ((made.image.astype(float) - source.image) / (255.0 - 2.0 * source.image)).mean(axis=2)
    return deltas


@settings(deadline=None)
@given(st.floats(0.01, 1))
def test_it_is_the_source_plus_delta_times_the_difference(delta: float) -> None:
    source = make_noise()
    made = generate(Blend(Invert(), delta=delta), source)
    exact = source.image + delta * (255.0 - 2.0 * source.image)
    assert np.abs(made.image - exact).max() < 0.5001


def test_delta_1_is_the_edit() -> None:
    source = make_noise()
    assert np.array_equal(generate(Blend(Invert(), delta=1), source).image, 255 - source.image)


def test_deltas_are_drawn_from_the_whole_range() -> None:
    source = make_noise()
    blend = Blend(Invert(), delta=(0.2, 0.6))
    deltas = [float(np.median(read_deltas(generate(blend, source, seed), source))) for seed in range(60)]
    assert 0.19 < min(deltas) < 0.25
    assert 0.55 < max(deltas) < 0.61


def test_boxes_are_not_drawn_into_the_picture() -> None:
    source = make_noise(make_target("boxes"))
    deltas = read_deltas(generate(Blend(Invert(), delta=0.8, object_delta=0.2), source), source)
    outside = np.ones((60, 80), bool)
    outside[20:30, 30:50] = False
    assert np.abs(deltas[outside] - 0.8).max() < 0.01
    assert deltas[25, 40] == pytest.approx(0.2, abs=0.02)
    assert np.abs(deltas[[20, 29], 30:50] - 0.8).max() < 0.15
    assert np.abs(deltas[20:30, [30, 49]] - 0.8).max() < 0.15


@pytest.mark.parametrize("kind", ["masks", "semantic"])
def test_objects_stay_nearer_to_the_source_with_a_smooth_way_to_the_background(kind: str) -> None:
    source = make_noise(make_target(kind))
    made = generate(Blend(Invert(), delta=0.8, object_delta=0.2), source)
    deltas = read_deltas(made, source)
    outside = np.ones((60, 80), bool)
    outside[20:30, 30:50] = False
    assert np.abs(deltas[outside] - 0.8).max() < 0.01, "a halo of the old background"
    assert np.abs(deltas[23:27, 33:47] - 0.2).max() < 0.01
    rim = deltas[25, 30:33]
    assert (np.diff(rim) < 0.01).all()
    assert 0.2 < rim[0] < 0.79


@pytest.mark.parametrize("thickness", [1, 2, 3, 5, 12, 40, 150])
def test_the_middle_of_an_object_has_the_objects_delta_however_thin_it_is(thickness: int) -> None:
    mask = np.zeros((400, 400), np.int32)
    mask[100 : 100 + thickness, 100:300] = 1
    source = Sample(np.full((400, 400, 3), 40, np.uint8), SemanticMask(mask))
    deltas = read_deltas(generate(Blend(Invert(), delta=0.8, object_delta=0.2), source), source)
    row = deltas[:, 200]
    assert np.abs(row[mask[:, 200] == 0] - 0.8).max() < 0.01
    assert row[100 + thickness // 2] == pytest.approx(0.2, abs=0.01)
    assert (np.abs(row[mask[:, 200] == 1] - 0.2) < 0.01).mean() >= min(0.4, 1 / thickness)


def test_pixels_between_are_mixed_by_their_own_delta() -> None:
    source = make_noise(make_target("masks"))
    made = generate(Blend(Invert(), delta=0.8, object_delta=0.2), source).image.astype(float)
    low, high = (source.image + delta * (255.0 - 2.0 * source.image) for delta in (0.2, 0.8))
    assert (made >= np.minimum(low, high) - 0.51).all()
    assert (made <= np.maximum(low, high) + 0.51).all()


def test_objects_may_stay_as_they_are() -> None:
    source = make_noise(make_target("masks"))
    made = generate(Blend(Invert(), delta=0.8, object_delta=0), source)
    assert np.array_equal(made.image[23:27, 33:47], source.image[23:27, 33:47])


@pytest.mark.parametrize("target", [None, make_target("masks").select(np.zeros(0, int))])
def test_without_objects_all_is_background(target: Any) -> None:
    source = make_noise(target)
    made = generate(Blend(Invert(), delta=0.5, object_delta=0.1), source)
    assert np.abs(read_deltas(made, source) - 0.5).max() < 0.01


def test_what_leaves_nothing_of_the_edit_is_not_generated() -> None:
    whole = SemanticMask(np.ones((60, 80), np.int32))
    with pytest.raises(NothingToGenerate, match=r"^unchanged$"):
        generate(Blend(Invert(), delta=0.5, object_delta=0), make_noise(whole))
    with pytest.raises(NothingToGenerate, match=r"^unchanged$"):
        generate(Blend(Invert(), delta=0.001), make_noise())


def test_the_target_is_the_sources_own_and_the_origin_the_generators() -> None:
    source = make_noise(make_target("masks"))
    copying = Invert(lambda made: made.replace(target=copy.deepcopy(made.target)))
    made = generate(Blend(copying), source)
    assert made.target is source.target
    assert made.origin is not None
    assert (made.origin.drawn, made.origin.prompt) == (("a",), "b")


BROKEN: dict[str, Callable[[Sample], Sample]] = {
    "moved box": lambda made: made.replace(target=made.target.replace(boxes=made.target.boxes + 1)),  # type: ignore[union-attr]
    "lost object": lambda made: made.replace(target=made.target.select(np.zeros(0, int))),  # type: ignore[union-attr]
    "other class": lambda made: made.replace(target=made.target.replace(class_ids=made.target.class_ids + 1)),  # type: ignore[union-attr]
    "other kind": lambda made: made.replace(target=ClassLabel(1)),
    "no target": lambda made: made.replace(target=None),
}

REMEDY = (
    "Half of a pasted or moved object under a whole label would be a wrong label: "
    "blend only what changes the appearance, and put the other generator beside the blend in a list."
)


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_label_is_refused(name: str) -> None:
    message = f"Blend got another target than the source's from Invert(). {REMEDY}"
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        generate(Blend(Invert(BROKEN[name])), make_noise(make_target("masks")))


def test_another_size_is_refused() -> None:
    message = f"Blend got a picture of another size, (30, 80) from (60, 80), from Invert(). {REMEDY}"
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        generate(Blend(Invert(lambda made: Sample(made.image[:30].copy()))), make_noise())


@pytest.mark.parametrize("make", [CopyPaste, lambda: Chain([ColorTransfer(), CopyPaste()])])
def test_what_adds_objects_is_refused_at_once(make: Any) -> None:
    message = f"Blend wants a generator that adds no objects, got {make()!r}. {REMEDY}"
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        Blend(make())


def test_what_may_paste_is_refused_when_it_does() -> None:
    pool = ListPool([make_picture(0), make_picture(1)])
    sometimes = OneOf([(1, CopyPaste()), (1, ColorTransfer())])
    blend = Blend(sometimes).bind(pool, classes=None)
    refused = 0
    for seed in range(12):
        try:
            made = generate(blend, make_picture(2), seed)
            assert len(made.target) == 4  # type: ignore[arg-type]
        except LabelContractError:
            refused += 1
    assert 0 < refused < 12


def test_it_passes_on_what_it_wraps() -> None:
    pool = ListPool([make_picture(0), make_picture(1)])
    free = Blend(ColorTransfer(), delta=0.4, object_delta=0.1)
    assert isinstance(free, Bindable)
    assert not isinstance(free, Aimable)
    bound = free.bind(pool, classes=None)
    assert bound.fingerprint == free.fingerprint
    assert (bound.delta, bound.object_delta) == ((0.4, 0.4), (0.1, 0.1))
    assert generate(bound, make_picture(2)).origin.drawn[0] in pool.names  # type: ignore[union-attr]
    assert (free.uses_pool, Blend(Invert()).uses_pool) == (True, False)
    assert not Blend(ColorTransfer(references=[make_picture(3)])).uses_pool
    with pytest.raises(LabelContractError, match=r"^no$"):
        Blend(Demand()).check_source(make_picture(0))
    Blend(Invert()).check_source(make_picture(0))


def test_it_keeps_what_the_generator_keeps() -> None:
    assert Blend(Invert()).keeps == Invert.keeps
    assert Blend(OnlyClasses()).keeps == {ClassLabel}
    assert Blend(Invert(), object_delta=0).keeps == {Instances, SemanticMask}
    with pytest.raises(
        LabelContractError, match=r"^Blend keeps Instances, SemanticMask true, got a source with a Class"
    ):
        generate(Blend(Invert(), object_delta=0), make_classified(0))


def test_its_repr_and_its_pickle() -> None:
    assert repr(Blend(ColorTransfer())) == "Blend(ColorTransfer(method='reinhard'), delta=(0.3, 0.7))"
    both = Blend(ColorTransfer(), delta=1, object_delta=(0, 0.5))
    expected = "Blend(ColorTransfer(method='reinhard'), delta=(1.0, 1.0), object_delta=(0, 0.5))"
    assert repr(pickle.loads(pickle.dumps(both))) == repr(both) == expected
    assert Blend(ColorTransfer(), delta=0.5).fingerprint == Blend(ColorTransfer(), delta=(0.5, 0.5)).fingerprint


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (40, 56)])
def test_the_label_contract(name: str, size_hw: tuple[int, int]) -> None:
    check_generator(CASES[name])
    pool = ListPool([make_picture(at, size_hw=(20, 30)) for at in range(2)])
    sources = [make_picture(3, size_hw=size_hw, num_keypoints=2, with_maps=True), make_segmented(4, size_hw=size_hw)]
    made = None
    for source in sources:
        for each in (source, make_grey(source)):
            made = check_sample(CASES[name], pool, each, 0)
            if made is not None:
                grey = (each.image == each.image[..., :1]).all()
                assert not grey or (made.image == made.image[..., :1]).all()
    assert size_hw == (1, 1) or made is not None or name != "Blend"


class TestErrors:
    def check(self, kind: type[Exception], message: str, **options: Any) -> None:
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            Blend(options.pop("generator", Invert()), **options)

    def test_no_generator(self) -> None:
        message = "generator must have generate, keeps and fingerprint, got generator=3."
        self.check(TypeError, message, generator=3)

    def test_delta_0(self) -> None:
        message = (
            "delta must be above 0, got delta={}. At 0 nothing is generated: ask for fewer generated samples instead."
        )
        self.check(ValueError, message.format("0"), delta=0)
        self.check(ValueError, message.format("(0, 0)"), delta=(0, 0))
        assert Blend(Invert(), delta=(0, 0.5)).delta == (0, 0.5)

    def test_delta_above_1(self) -> None:
        message = "delta must be at most 1, got delta=1.5. Give a number, or a pair (low, high)."
        self.check(ValueError, message, delta=1.5)
        self.check(ValueError, "delta must be at most 1, got delta=1.5.", delta=(0.5, 1.5))

    def test_objects_further_away_than_the_background(self) -> None:
        message = (
            "object_delta must be at most the lowest delta, 0.3, got object_delta=0.5. "
            "Objects are kept nearer to the source than the background."
        )
        self.check(ValueError, message, object_delta=0.5)

    def test_a_source_that_does_not_say_where_its_object_is(self) -> None:
        source = Sample(np.zeros((4, 6, 3), np.uint8), ClassLabel(1))
        with pytest.raises(LabelContractError) as caught:
            Blend(ColorTransfer(), object_delta=0.1).check_source(source)
        assert str(caught.value) == (
            "Blend with object_delta= keeps labelled objects nearer to the source, got a source with a ClassLabel, which "
            "does not say where its object is. Leave object_delta= out."
        )

    def test_objects_of_classes(self) -> None:
        message = "object_delta must be None where the generator keeps ClassLabel only, got object_delta=0.1."
        self.check(ValueError, message, generator=OnlyClasses(), object_delta=0.1)
