"""Every generator keeps the contract of `generator_contract.py`."""

from __future__ import annotations

import inspect
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
from hypothesis import HealthCheck, given, settings

import synthloader.generators
from synthloader.errors import LabelContractError
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.contracts.appearance_contract import check_nothing_moved
from tests.contracts.changed_options import find_changed
from tests.contracts.flat_pasting import LABELS_OF_FLAT, check_flat
from tests.contracts.generator_cases import CASES, FLAT
from tests.contracts.generator_contract import Case, bind, check_generator, check_sample, describe, generate
from tests.contracts.generator_scenes import (
    LABELS,
    has_objects,
    labelled_scenes,
    make_scene,
    make_textured_scene,
    relabel,
    scenes,
)
from tests.contracts.textured_looks import SIZES_HW, make_looks
from tests.generators.pictures import (
    REAL_SETS,
    ListPool,
    make_classified,
    make_grey,
    make_picture,
    make_segmented,
)

__all__ = ["CASES", "make_scene", "scenes"]

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


ONE_EACH = [name for name in CASES if "," not in name]
"""Every generator as it is when nothing is said, for what takes long."""

CANNOT = {
    "CopyPaste, nothing may be covered": ("real",),  # crowded pictures
    "CopyPaste, apart": ("real",),
    "CopyPaste, one class": ("masks", "boxes", "regions", "real"),  # there may be none of it
    "CopyPaste, labelled backgrounds": ("regions",),  # labelled with instances
    "Tile": ("boxes",),  # blood cells lie so close that a small tile cuts one of them to a scrap
    "Tile, close-ups": ("real",),  # of what fills the picture
}
"""Labels onto which a generator may make nothing, and be right."""

REAL_LABELS = {
    "dried fruit, polygons": "masks",
    "nuclei, masks": "masks",
    "nuclei, classes": "regions",
    "blood cells, boxes": "boxes",
}


def check_or_refuse(case: Case, pool: ListPool, source: Sample, seed: int) -> Sample | None:
    """Check one sample; what cannot be true is refused, and never made."""
    try:
        generator = bind(case.make(), pool)
    except LabelContractError:
        assert not has_objects(pool), "A pool with objects was refused."
        return None
    keeps = source.target is None or type(source.target) in generator.keeps
    # Without a label nobody knows what is covered; there is no true depth of a cut-out or another ground; and labels of
    # backgrounds are of one kind.
    may_refuse = source.target is None or (bool(source.maps) and bool(case.cutouts or case.backgrounds))
    may_refuse |= any(
        each.target is not None and type(each.target) is not type(source.target) for each in case.backgrounds
    )
    if keeps and not may_refuse:
        return check_sample(case, pool, source, seed)
    try:
        made = check_sample(case, pool, source, seed)
    except LabelContractError:
        return None
    assert keeps or made is None, "A kind of target that is not kept must be refused."
    return made


def simplify(case: Case) -> Case:
    """The same where pixels do not name their places."""
    return replace(case, exact=False)


def test_no_generator_is_missing_from_the_list() -> None:
    assert {name.partition(",")[0] for name in CASES} == set(synthloader.generators.__all__)


@pytest.mark.parametrize("name", ONE_EACH)
def test_no_option_is_missing_from_the_changes(name: str) -> None:
    case = CASES[name]
    kind = type(case.make())
    options = set(inspect.signature(kind).parameters)
    changed = find_changed(kind, case.make, case.changes)
    assert changed == options - case.inert, f"`changes` of {name} must vary {options - case.inert - changed}."


@pytest.mark.parametrize("name", CASES)
class TestGeneratorContract:
    def test_protocol_fingerprint_and_pickling(self, name: str) -> None:
        check_generator(CASES[name])

    @settings(PATIENT, max_examples=12)
    @given(scene=labelled_scenes())
    def test_any_picture(self, name: str, scene: tuple[Sample, ListPool, int]) -> None:
        source, pool, seed = scene
        check_or_refuse(CASES[name], pool, source, seed)

    @pytest.mark.slow
    @settings(PATIENT, max_examples=300)
    @given(scene=labelled_scenes(max_side=200))
    def test_any_picture_at_length(self, name: str, scene: tuple[Sample, ListPool, int]) -> None:
        source, pool, seed = scene
        check_or_refuse(CASES[name], pool, source, seed)

    @pytest.mark.slow
    @settings(PATIENT, max_examples=8)
    @given(scene=labelled_scenes(max_side=2000, min_side=300))
    def test_large_pictures(self, name: str, scene: tuple[Sample, ListPool, int]) -> None:
        source, pool, seed = scene
        check_or_refuse(CASES[name], pool, source, seed)

    def test_ordinary_pictures_give_samples(self, name: str) -> None:
        for label in ("masks", "boxes", "boxes in the pool too", "regions", "class"):
            scenes_by_seed = [make_scene(seed, label=label) for seed in range(6 if label == "masks" else 3)]
            made = [check_or_refuse(CASES[name], pool, source, at) for at, (source, pool) in enumerate(scenes_by_seed)]
            kind = {"regions": SemanticMask, "class": ClassLabel}.get(label, Instances)
            # GrabCut finds no objects in pictures whose pixels are numbers.
            if kind in CASES[name].make().keeps and label not in ("boxes in the pool too", *CANNOT.get(name, ())):
                assert sum(sample is not None for sample in made) >= len(made) // 2, label

    def test_grey_pictures(self, name: str) -> None:
        source, pool = make_scene(3)
        if CASES[name].cutouts or CASES[name].backgrounds:
            pytest.skip("What it pastes, or pastes onto, is coloured.")
        pool = ListPool([make_grey(sample) for sample in pool.samples])
        made = check_sample(simplify(CASES[name]), pool, make_grey(source), 5)
        assert made is None or (made.image == made.image[..., :1]).all()

    def test_a_picture_of_one_pixel(self, name: str) -> None:
        one, same = (make_picture(number, size_hw=(1, 1), num_objects=1, share_crowd=0) for number in (1, 2))
        for label in LABELS:
            source, pool = relabel(one, ListPool([make_picture(0, num_objects=1), same]), label, 0)
            check_or_refuse(CASES[name], pool, source, 0)

    def test_kinds_of_target_that_it_does_not_keep_are_refused(self, name: str) -> None:
        pool = ListPool([make_picture(0), make_picture(1)])
        generator = bind(CASES[name].make(), pool)
        sources = {Instances: make_picture(2), ClassLabel: make_classified(2), SemanticMask: make_segmented(2)}
        for kind, source in sources.items():
            if kind not in generator.keeps:
                with pytest.raises(LabelContractError):
                    generate(generator, source, 0)

    def test_the_number_of_threads_does_not_matter(self, name: str) -> None:
        source, pool = make_scene(2)
        large = make_picture(3, size_hw=(300, 400), num_objects=5, share_crowd=0)
        generator = bind(CASES[name].make(), ListPool([*pool.samples, make_picture(4, size_hw=(200, 200))]))
        before = cv2.getNumThreads()
        made = []
        try:
            for count in (1, 4):
                cv2.setNumThreads(count)
                made.append([describe(generate(generator, each, 7)) for each in (source, large)])
        finally:
            cv2.setNumThreads(before)
        assert made[0] == made[1]


def check_real(name: str, data: str, folder: Path) -> None:
    """A real data set, onto whose first picture something is made within a few seeds."""
    pool = REAL_SETS[data](folder, 2)
    case = simplify(CASES[name])
    tries = (check_or_refuse(case, pool, pool.samples[0], seed) for seed in range(4))
    made = next((sample for sample in tries if sample is not None), None)
    cannot = CANNOT.get(name, ())
    label = REAL_LABELS[data]
    assert made is not None or label in cannot or "real" in cannot or not keeps_label(name, label)


@pytest.mark.parametrize("name", ["CopyPaste, exact", "Tile, instances dropped", "Fog"])
def test_a_large_picture(name: str) -> None:
    """Of 2000 x 1500 pixels; of more generators in the slow tests."""
    source = make_picture(2, size_hw=(2000, 1500), num_objects=6, num_keypoints=3, far=True)
    pool = ListPool([make_picture(at, size_hw=(700, 900), num_objects=4, num_keypoints=3, far=True) for at in range(2)])
    assert check_sample(CASES[name], pool, source, 4) is not None


def keeps_label(name: str, label: str) -> bool:
    """Whether a generator takes sources with this label."""
    return (SemanticMask if label == "regions" else Instances) in CASES[name].make().keeps


@pytest.mark.parametrize("label", ["masks", "boxes", "regions"])
@pytest.mark.parametrize("name", [name for name in ONE_EACH if hasattr(CASES[name].make(), "aim")])
def test_the_class_that_is_aimed_at_is_there(name: str, label: str) -> None:
    if not keeps_label(name, label):
        pytest.skip("It does not keep this kind of target.")
    made = 0
    for seed in range(4):
        source, pool = make_scene(seed, label=label, share_crowd=0)
        for class_id in (1, 2, 3, 4):
            sample = generate(bind(CASES[name].make(), pool).aim(class_id), source, seed)
            if sample is None:
                continue
            made += 1
            target: Any = sample.target
            if isinstance(target, SemanticMask):
                assert (target.mask == class_id).any()
            elif CASES[name].tiles:
                assert class_id in target.class_ids
            else:
                assert set(target.class_ids[target.attributes["generated"]].tolist()) == {class_id}
    assert made >= (0 if label in CANNOT.get(name, ()) else 4)


@pytest.mark.parametrize("label", ["masks", "boxes", "regions"])
@pytest.mark.parametrize("name", [name for name in CASES if hasattr(CASES[name].make(), "list_donors")])
def test_donors_that_a_plan_chose_are_used_and_no_others(name: str, label: str) -> None:
    if CASES[name].tiles or label in CANNOT.get(name, ()) or not keeps_label(name, label):
        pytest.skip("There are none.")
    source, pool = make_scene(4, label=label, share_crowd=0)
    if "two pastes" in name:
        with pytest.raises(ValueError, match="hold one generator that pastes where a plan has a cap"):
            bind(CASES[name].make(), pool).aim(1).list_donors(1)
        return
    aimed = bind(CASES[name].make(), pool).aim(2)
    donors = list(aimed.list_donors(2))
    assert len(set(donors)) == len(donors)
    for at, donor in enumerate(donors):
        chosen = aimed.use_donors([at])
        assert chosen.fingerprint == aimed.fingerprint, "The plan's choice stands beside the fingerprint."
        for seed in range(3):
            made: Any = generate(chosen, source, seed)
            if made is not None:
                named = [each for each in made.origin.drawn if "#" in each or each in CASES[name].cutouts]
                assert named == [donor], "Each at most once, and no other."


@pytest.mark.parametrize("data", REAL_SETS)
@pytest.mark.parametrize("name", ONE_EACH)
def test_real_pictures(name: str, data: str, shared_data: Path) -> None:
    check_real(name, data, shared_data)


@pytest.mark.slow
@pytest.mark.parametrize("data", REAL_SETS)
@pytest.mark.parametrize("name", [name for name in CASES if name not in ONE_EACH])
def test_real_pictures_in_other_ways(name: str, data: str, shared_data: Path) -> None:
    check_real(name, data, shared_data)


@pytest.mark.parametrize("name", FLAT)
def test_objects_of_one_colour_have_the_labels_of_their_pixels(name: str) -> None:
    for label in LABELS_OF_FLAT:
        made = [check_flat(FLAT[name], seed, label) for seed in range(6)]
        least = 0 if label == "class" and not FLAT[name].cutouts else 3
        assert sum(sample is not None for sample in made) >= least, label


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].pastes is not True and not CASES[name].tiles])
def test_nothing_moves_and_no_object_is_lost(name: str) -> None:
    looks = [each for seed in range(3) for each in make_looks(CASES[name], seed)]
    objects = sum(each.check() for each in looks)
    assert {each.made.size_hw for each in looks} == (set() if name == "MetadataAlignment" else set(SIZES_HW))
    assert objects >= len(looks)


def test_nothing_moves_behind_what_was_pasted() -> None:
    for seed in range(3):
        source, pool = make_textured_scene(seed)
        pool = ListPool([*pool.samples, make_picture(1, seed=seed, share_crowd=0)])
        made: Any = generate(bind(CASES["Chain"].make(), pool), source, seed)
        pasted = made.target.masks[made.target.attributes["generated"]].any(axis=0)
        check_nothing_moved(source.image, made.image, except_for=pasted)


def hash_in_another_process(names: list[str]) -> list[bytes]:
    """What each generator makes of a few scenes; runs in a process of its own."""
    hashes = []
    for name in names:
        for seed in range(3):
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
