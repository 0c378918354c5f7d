"""Every generator keeps the contract of `generator_contract.py`, and broken ones are caught by it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import synthloader.generators
from synthloader.errors import LabelContractError
from synthloader.generators import Chain, ColorTransfer, CopyPaste, OneOf
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.contracts.generator_contract import (
    Case,
    bind,
    check_generator,
    check_made,
    check_sample,
    describe,
    generate,
)
from tests.generators.pictures import (
    KINDS,
    REAL_DATA,
    ListPool,
    make_classified,
    make_grey,
    make_picture,
    make_segmented,
)

CASES = {
    "CopyPaste": Case(
        CopyPaste,
        pastes=True,
        changes=[
            lambda: CopyPaste(num_range=(1, 4)),
            lambda: CopyPaste(num_range=(2, 3)),
            lambda: CopyPaste(scale_range=(0.8, 1.3)),
            lambda: CopyPaste(scale_range=(0.7, 1.25)),
            lambda: CopyPaste(flip=False),
            lambda: CopyPaste(min_visible=0.3),
            lambda: CopyPaste(classes=[1]),
            lambda: CopyPaste(classes=["date"]),
            lambda: CopyPaste(max_tries=11),
            lambda: CopyPaste().aim(1),
            lambda: CopyPaste().aim(2),
        ],
    ),
    "CopyPaste, exact": Case(
        lambda: CopyPaste(num_range=(1, 5), scale_range=(1, 1), flip=False), pastes=True, exact=True
    ),
    "CopyPaste, everything may be covered": Case(
        lambda: CopyPaste(num_range=(3, 8), scale_range=(1, 1), flip=False, min_visible=0.0),
        pastes=True,
        exact=True,
        min_visible=0.0,
    ),
    "CopyPaste, nothing may be covered": Case(lambda: CopyPaste(min_visible=1.0), pastes=True, min_visible=1.0),
    "CopyPaste, strong scales": Case(lambda: CopyPaste(num_range=(3, 3), scale_range=(0.05, 8)), pastes=True),
    "ColorTransfer": Case(
        ColorTransfer,
        pastes=False,
        changes=[
            lambda: ColorTransfer(references=[make_classified(1)]),
            lambda: ColorTransfer(references=[make_classified(2)]),
            lambda: ColorTransfer(references=[make_classified(1), make_classified(2)]),
        ],
    ),
    "ColorTransfer, references": Case(lambda: ColorTransfer(references=[make_classified(4), make_classified(5)])),
    "Chain": Case(
        lambda: Chain([CopyPaste(), ColorTransfer()]),
        pastes=True,
        covers_all=True,
        changes=[
            lambda: Chain([CopyPaste()]),
            lambda: Chain([ColorTransfer(), CopyPaste()]),
            lambda: Chain([CopyPaste(), CopyPaste()]),
            lambda: Chain([CopyPaste(flip=False), ColorTransfer()]),
        ],
    ),
    "Chain, two pastes": Case(
        lambda: Chain([CopyPaste(scale_range=(1, 1), flip=False), CopyPaste(scale_range=(1, 1), flip=False)]),
        pastes=True,
        exact=True,
    ),
    "Chain, colours": Case(lambda: Chain([ColorTransfer()])),
    "OneOf": Case(
        lambda: OneOf({0.7: CopyPaste(), 0.3: ColorTransfer()}),
        pastes=None,
        changes=[
            lambda: OneOf({0.6: CopyPaste(), 0.4: ColorTransfer()}),
            lambda: OneOf({0.7: ColorTransfer(), 0.3: CopyPaste()}),
            lambda: OneOf({0.7: CopyPaste(flip=False), 0.3: ColorTransfer()}),
        ],
    ),
}

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def scenes(draw: st.DrawFn, max_side: int = 48) -> tuple[Sample, ListPool, int]:
    """A source (never in the pool), a pool of one to three pictures, and a seed."""
    shared: dict[str, Any] = {
        "num_keypoints": draw(st.sampled_from([None, 0, 3])),
        "with_maps": draw(st.booleans()),
        "sloppy_boxes": draw(st.booleans()),
        "share_crowd": draw(st.sampled_from([0.0, 0.3])),
    }
    seed = draw(st.integers(0, 2**20))
    count = draw(st.integers(1, 3))
    pictures = [
        make_picture(
            number,
            seed=seed,
            size_hw=(draw(st.integers(1, max_side)), draw(st.integers(1, max_side))),
            num_objects=draw(st.integers(0, 12)),
            kind=draw(st.sampled_from(KINDS)),
            **shared,
        )
        for number in range(count + 1)
    ]
    return pictures[-1], ListPool(pictures[:-1]), seed


def make_scene(seed: int, **options: Any) -> tuple[Sample, ListPool]:
    """An ordinary source and pool."""
    rng = np.random.default_rng(seed)
    pictures = [
        make_picture(
            number, seed=seed, size_hw=(int(rng.integers(40, 80)), int(rng.integers(40, 80))), kind="any", **options
        )
        for number in range(3)
    ]
    return pictures[-1], ListPool(pictures[:-1])


def test_no_generator_is_missing_from_the_list() -> None:
    assert {name.partition(",")[0] for name in CASES} == set(synthloader.generators.__all__)


@pytest.mark.parametrize("name", CASES)
class TestGeneratorContract:
    def test_protocol_fingerprint_and_pickling(self, name: str) -> None:
        check_generator(CASES[name])

    @settings(PATIENT, max_examples=25)
    @given(scene=scenes())
    def test_any_picture(self, name: str, scene: tuple[Sample, ListPool, int]) -> None:
        source, pool, seed = scene
        check_sample(CASES[name], pool, source, seed)

    @pytest.mark.slow
    @settings(PATIENT, max_examples=400)
    @given(scene=scenes(max_side=300))
    def test_any_picture_at_length(self, name: str, scene: tuple[Sample, ListPool, int]) -> None:
        source, pool, seed = scene
        check_sample(CASES[name], pool, source, seed)

    def test_ordinary_pictures_give_samples(self, name: str) -> None:
        scenes_by_seed = [make_scene(seed) for seed in range(8)]
        made = [check_sample(CASES[name], pool, source, seed) for seed, (source, pool) in enumerate(scenes_by_seed)]
        assert sum(sample is not None for sample in made) >= 4

    def test_grey_pictures(self, name: str) -> None:
        source, pool = make_scene(3)
        pool = ListPool([make_grey(sample) for sample in pool.samples])
        case = CASES[name]
        made = check_sample(Case(case.make, pastes=case.pastes, covers_all=case.covers_all, min_visible=case.min_visible),
                            pool, make_grey(source), 5)  # fmt: skip
        assert made is None or (made.image == made.image[..., :1]).all()

    def test_a_picture_of_one_pixel(self, name: str) -> None:
        one = make_picture(0, size_hw=(1, 1), num_objects=1, share_crowd=0)
        check_sample(CASES[name], ListPool([one, make_picture(1)]), one, 0)

    def test_kinds_of_target_that_it_does_not_keep_are_refused(self, name: str) -> None:
        pool = ListPool([make_picture(0), make_picture(1)])
        generator = bind(CASES[name].make(), pool)
        sources = {Instances: make_picture(2), ClassLabel: make_classified(2), SemanticMask: make_segmented(2)}
        for kind, source in sources.items():
            if kind in generator.keeps:
                check_sample(CASES[name], pool, source, 0)
            else:
                with pytest.raises(LabelContractError):
                    generate(generator, source, 0)

    @pytest.mark.parametrize("data", REAL_DATA)
    def test_real_pictures(self, name: str, data: str, shared_data: Path) -> None:
        pool = REAL_DATA[data](shared_data / data, 3)
        case = CASES[name]
        case = Case(case.make, pastes=case.pastes, covers_all=case.covers_all, min_visible=case.min_visible)
        made = [check_sample(case, pool, pool.samples[0], seed) for seed in range(2)]
        assert any(sample is not None for sample in made) or case.min_visible == 1


def hash_in_another_process(names: list[str]) -> list[bytes]:
    """What each generator makes of a few scenes; runs in a process of its own."""
    hashes = []
    for name in names:
        for seed in range(4):
            source, pool = make_scene(seed)
            hashes.append(describe(generate(bind(CASES[name].make(), pool), source, seed)))
    return hashes


def test_another_process_gives_the_same_bits() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        theirs = workers.apply(hash_in_another_process, [list(CASES)])
        workers.close()
        workers.join()
    assert theirs == hash_in_another_process(list(CASES))
    assert len(set(theirs)) > len(CASES)


# What follows is broken on purpose: the contract must notice each of these.


def _edit(made: Sample, **changes: Any) -> Sample:
    assert isinstance(made.target, Instances)
    return made.replace(target=made.target.replace(**changes))


def add_a_phantom_box(made: Sample) -> Sample:
    target: Any = made.target
    grown = target.select(np.append(np.arange(len(target)), len(target) - 1))
    grown.masks[-1] = False
    return made.replace(target=grown)


def add_a_box_beside_the_paste(made: Sample) -> Sample:
    target: Any = made.target
    boxes = target.boxes.copy()
    boxes[-1, 2:] = np.minimum(boxes[-1, 2:] + 1, made.size_hw[::-1])
    boxes[-1, :2] = np.maximum(boxes[-1, :2] - 1, 0)
    return _edit(made, boxes=boxes)


def shift_the_pasted_mask(made: Sample) -> Sample:
    target: Any = made.target
    masks = target.masks.copy()
    masks[-1] = np.roll(masks[-1], 1, axis=1)
    return _edit(made, masks=masks)


def widen_the_pasted_mask(made: Sample) -> Sample:
    target: Any = made.target
    masks = target.masks.copy()
    masks[-1, :, 1:] |= masks[-1, :, :-1]
    return _edit(made, masks=masks)


def swap_the_class(made: Sample) -> Sample:
    target: Any = made.target
    class_ids = target.class_ids.copy()
    class_ids[-1] += 1
    return _edit(made, class_ids=class_ids)


def leave_masks_whole_under_the_paste(made: Sample) -> Sample:
    target: Any = made.target
    masks = target.masks.copy()
    masks[0] |= masks[-1]
    return _edit(made, masks=masks)


def forget_a_label(made: Sample) -> Sample:
    target: Any = made.target
    return made.replace(target=target.select(np.arange(1, len(target))))


def change_a_pixel_elsewhere(made: Sample) -> Sample:
    image, origin = made.image.copy(), made.origin
    assert origin is not None
    assert origin.edited is not None
    image[~origin.edited] ^= 1
    return made.replace(image=image)


def lose_an_attribute(made: Sample) -> Sample:
    target: Any = made.target
    names = np.roll(target.attributes["name"], 1)
    return _edit(made, attributes={**target.attributes, "name": names})


def crop_the_image(made: Sample) -> Sample:
    return Sample(np.ascontiguousarray(made.image[:-1]), origin=None)


class Mutant:
    """CopyPaste with something broken behind it."""

    uses_pool = True

    def __init__(self, mutate: Callable[[Sample], Sample], inner: Any = None) -> None:
        self.mutate = mutate
        self.inner = inner or CopyPaste(num_range=(2, 2), scale_range=(1, 1), flip=False)
        self.keeps = self.inner.keeps
        self.fingerprint = f"Mutant of {self.inner.fingerprint}"

    def bind(self, pool: Any, /, *, classes: Any) -> Any:
        return type(self)(self.mutate, self.inner.bind(pool, classes=classes))

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        return self.mutate(self.inner.generate(source, rng=rng))


class WritesOnTheSource(Mutant):
    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        made = super().generate(source, rng=rng)
        source.image[0, 0] ^= 1
        return made


class MovesTheSourcesBoxes(Mutant):
    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        made = super().generate(source, rng=rng)
        source.target.boxes[:, 0] = 0  # type: ignore[union-attr]
        return made


class DrawsFromTheGlobalState(Mutant):
    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        np.random.random()  # noqa: NPY002
        return super().generate(source, rng=rng)


class DrawsFromNowhere(Mutant):
    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        return super().generate(source, rng=np.random.default_rng())


class CountsItsCalls(Mutant):
    calls = 0

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        type(self).calls += 1
        return super().generate(source, rng=make_rng(self.calls, "", 0, 0))


def _same(made: Sample) -> Sample:
    return made


MUTANTS: dict[str, Callable[[], Any]] = {
    "nothing broken": lambda: Mutant(_same),
    "phantom box": lambda: Mutant(add_a_phantom_box),
    "loose box": lambda: Mutant(add_a_box_beside_the_paste),
    "off-by-one mask": lambda: Mutant(shift_the_pasted_mask),
    "wide mask": lambda: Mutant(widen_the_pasted_mask),
    "swapped class": lambda: Mutant(swap_the_class),
    "uncovered mask": lambda: Mutant(leave_masks_whole_under_the_paste),
    "forgotten label": lambda: Mutant(forget_a_label),
    "pixel elsewhere": lambda: Mutant(change_a_pixel_elsewhere),
    "wandering attribute": lambda: Mutant(lose_an_attribute),
    "cropped image": lambda: Mutant(crop_the_image),
    "modified source": lambda: WritesOnTheSource(_same),
    "modified boxes of the source": lambda: MovesTheSourcesBoxes(_same),
    "global randomness": lambda: DrawsFromTheGlobalState(_same),
    "hidden randomness": lambda: DrawsFromNowhere(_same),
    "memory of calls": lambda: CountsItsCalls(_same),
}


@pytest.mark.uses_global_rng
@pytest.mark.parametrize("name", MUTANTS)
def test_the_contract_notices_what_is_broken(name: str) -> None:
    noticed = 0
    for seed in range(6):
        source, pool = make_scene(seed, share_crowd=0)
        try:
            check_sample(Case(MUTANTS[name], pastes=True, exact=True), pool, source, seed)
        except AssertionError:
            noticed += 1
    assert noticed == 0 if name == "nothing broken" else noticed >= 4


def test_the_contract_notices_an_appearance_generator_that_moves_a_label() -> None:
    source, pool = make_scene(1)

    def move(made: Sample) -> Sample:
        target: Any = made.target
        return _edit(made, boxes=np.maximum(target.boxes - 1, 0))

    made = generate(bind(ColorTransfer(), pool), source, 0)
    assert made is not None
    check_made(Case(ColorTransfer), pool, source, made)
    with pytest.raises(AssertionError, match="Only the image may change"):
        check_made(Case(ColorTransfer), pool, source, move(made))


def test_the_contract_notices_a_fingerprint_that_forgets_a_parameter() -> None:
    with pytest.raises(AssertionError, match="Other parameters, same fingerprint"):
        check_generator(Case(CopyPaste, changes=[lambda: CopyPaste(num_range=(1, 3))]))
