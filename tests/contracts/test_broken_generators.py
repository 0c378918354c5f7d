"""The contract of generators fails every generator that is broken, and passes them when nothing is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import tests.contracts.broken_generators as broken
from synthloader import GeneratedDataset
from synthloader.errors import LabelContractError
from synthloader.generators.blend import Blend
from synthloader.generators.cached import Cached
from synthloader.generators.chain import Chain
from synthloader.generators.color_transfer import ColorTransfer
from synthloader.generators.copy_paste import CopyPaste
from synthloader.generators.fog import Fog
from synthloader.generators.one_of import OneOf
from synthloader.generators.sometimes import Sometimes
from synthloader.generators.tile import Tile
from synthloader.seeds import make_rng
from tests.contracts.appearance_contract import MIN_BLOCK
from tests.contracts.broken_generators import BrokenFog, BrokenTile, KeepsClasses, Mutant
from tests.contracts.flat_pasting import check_flat
from tests.contracts.generator_cases import APPEARANCE
from tests.contracts.generator_contract import Case, check_generator, check_sample, generate
from tests.contracts.generator_scenes import make_scene
from tests.contracts.textured_looks import make_looks
from tests.generators.pictures import make_classified, make_picture, make_segmented
from tests.scenes import ScenesDataset


@dataclass(frozen=True)
class Broken:
    """A broken generator, and where its fault shows.

    Args:
        make: Makes it.
        label: What the label of its sources says, one of `LABELS`.
        least: In how many of six scenes it must be noticed.
        says: A part of what the contract says of it: a fault must not be noticed by chance.
        keypoints: How many each instance of the scenes has; None: there are none.
        crowds: Share of the instances that are crowds.
        maps: Whether the pictures have maps.
    """

    make: Callable[[], Any]
    label: str = "masks"
    least: int = 4
    says: str = ""
    keypoints: int | None = None
    crowds: float = 0
    maps: bool = False

    @property
    def case(self) -> Case:
        """The case that the generator pretends to be."""
        inner = self.make().inner
        kind: dict[type, dict[str, Any]] = {Tile: {"tiles": True}, Fog: {}, BrokenFog: {}}
        return Case(self.make, **kind.get(type(inner), {"pastes": True, "exact": True}))


def make_close_up(change: broken.Change) -> BrokenTile:
    """Close-ups of single objects, scaled, and broken."""
    return BrokenTile(change, Tile(size_hw=(32, 40), centred=True, drop="instances"))


def make_wide_close_up(change: broken.Change) -> BrokenTile:
    """Close-ups that show more of what lies around, which is cut at the border."""
    return BrokenTile(change, Tile(size_hw=(32, 40), centred=True, drop="instances", object_range=(0.2, 0.4)))


SOUND = {
    "nothing broken": Broken(Mutant),
    "nothing broken, boxes": Broken(Mutant, label="boxes"),
    "nothing broken, regions": Broken(Mutant, label="regions"),
    "nothing broken, keypoints": Broken(Mutant, keypoints=3),
    "nothing broken, tile": Broken(BrokenTile),
    "nothing broken, tile of boxes": Broken(BrokenTile, label="boxes"),
    "nothing broken, close-up": Broken(lambda: make_close_up(broken.same)),
    "nothing broken, close-up of boxes": Broken(lambda: make_close_up(broken.same), label="boxes"),
    "nothing broken, close-up of all there is": Broken(
        lambda: make_close_up(broken.same), keypoints=3, crowds=0.4, maps=True
    ),
    "nothing broken, fog": Broken(BrokenFog),
}

BROKEN = {
    "phantom box": Broken(lambda: Mutant(broken.add_a_phantom_box), says="overlap"),
    "phantom box among boxes": Broken(
        lambda: Mutant(broken.add_a_phantom_box), label="boxes", says="nobody has pasted"
    ),
    "loose box": Broken(lambda: Mutant(broken.loosen_the_box), says="tight box"),
    "loose box among boxes": Broken(lambda: Mutant(broken.loosen_the_box), label="boxes", says="tight box"),
    "off-by-one mask": Broken(lambda: Mutant(broken.shift_the_pasted_mask)),
    "wide mask": Broken(lambda: Mutant(broken.widen_the_pasted_mask)),
    "swapped class": Broken(lambda: Mutant(broken.swap_the_class), says="donor's class"),
    "swapped class among boxes": Broken(lambda: Mutant(broken.swap_the_class), label="boxes", says="donor's class"),
    "uncovered mask": Broken(lambda: Mutant(broken.leave_masks_whole_under_the_paste)),
    "forgotten label": Broken(lambda: Mutant(broken.forget_a_label), says="lost its label"),
    "forgotten label among boxes": Broken(lambda: Mutant(broken.forget_a_label), label="boxes", says="lost its label"),
    "pixel elsewhere": Broken(lambda: Mutant(broken.change_a_pixel_elsewhere), says="outside"),
    "small edited region": Broken(lambda: Mutant(broken.shrink_the_edited_region), says="edited region"),
    "wide blend": Broken(lambda: Mutant(broken.blur_around_the_paste), says="outside"),
    "wandering attribute": Broken(lambda: Mutant(broken.mix_up_an_attribute), says="Attributes"),
    "unnamed donor": Broken(lambda: Mutant(broken.name_another_donor), says="name every donor"),
    "cropped image": Broken(lambda: Mutant(broken.crop_the_image)),
    "visible keypoints under a paste": Broken(
        lambda: Mutant(broken.show_covered_keypoints), keypoints=12, says="eypoints"
    ),
    "visible keypoints beside the mask": Broken(
        lambda: Mutant(broken.show_keypoints_beside_the_mask), keypoints=6, says="eypoint"
    ),
    "left and right exchanged": Broken(lambda: Mutant(broken.swap_left_and_right), keypoints=2, least=3, says="pixels"),
    "mirrored with its keypoints": Broken(lambda: broken.MirrorsKeypoints(), keypoints=6, says="change their names"),
    "forgotten pixels": Broken(lambda: Mutant(broken.forget_pixels), label="regions", says="no class"),
    "wide class": Broken(lambda: Mutant(broken.widen_the_class), label="regions", says="where nothing was pasted"),
    "modified source": Broken(lambda: broken.WritesOnTheSource(), says="modified"),
    "modified boxes of the source": Broken(lambda: broken.MovesTheSourcesBoxes(), says="modified"),
    "the source's memory": Broken(lambda: broken.ReturnsTheSourcesMemory(), says="would change the source"),
    "global randomness": Broken(lambda: broken.DrawsFromTheGlobalState(), says="global random state"),
    "randomness of OpenCV": Broken(lambda: broken.DrawsFromOpenCV(), says="same rng"),
    "hidden randomness": Broken(lambda: broken.DrawsFromNowhere(), says="same rng"),
    "count of calls": Broken(lambda: broken.CountsItsCalls(), says="same rng"),
    "memory of the last call": Broken(lambda: broken.RemembersTheLast(), says="same rng"),
    "one picture again and again": Broken(lambda: broken.HandsOutOneBuffer(), least=6, says="changed"),
    "one array of boxes again and again": Broken(lambda: broken.HandsOutOneLabel(), least=6, says="changed"),
    "fog, one picture again and again": Broken(
        lambda: broken.HandsOutOneBuffer(inner=Fog(depth_map=None)), least=6, says="changed"
    ),
    "tile, boxes not moved": Broken(lambda: BrokenTile(broken.keep_the_box_of_the_source)),
    "tile of boxes, boxes not moved": Broken(lambda: BrokenTile(broken.keep_the_box_of_the_source), label="boxes"),
    "tile, forgotten labels": Broken(
        lambda: BrokenTile(broken.drop_half_of_the_instances), least=2, says="lost its label"
    ),
    "tile, moved picture": Broken(lambda: BrokenTile(broken.move_the_picture)),
    "tile, labels beside the objects": Broken(lambda: BrokenTile(broken.move_masks_and_boxes)),
    "close-up, labels beside the objects": Broken(lambda: make_close_up(broken.move_masks_and_boxes)),
    "close-up of boxes, boxes not moved": Broken(
        lambda: make_close_up(broken.keep_the_box_of_the_source), label="boxes", says="Boxes follow"
    ),
    "close-up, labels a pixel beside": Broken(
        lambda: make_close_up(partial(broken.move_masks_and_boxes, by=1)), says="mask"
    ),
    "close-up, labels two pixels beside": Broken(
        lambda: make_close_up(partial(broken.move_masks_and_boxes, by=2)), least=6, says="mask"
    ),
    "close-up, forgotten crowds": Broken(lambda: make_close_up(broken.forget_the_crowds), crowds=0.4, says="crowd"),
    "close-up, wandering attribute": Broken(lambda: make_wide_close_up(broken.mix_up_an_attribute), says="Attributes"),
    "close-up, all visible": Broken(lambda: make_wide_close_up(broken.call_all_visible), says="visible"),
    "close-up of boxes, all visible": Broken(
        lambda: make_wide_close_up(broken.call_all_visible), label="boxes", says="visible"
    ),
    "close-up, empty maps": Broken(lambda: make_close_up(broken.empty_the_maps), maps=True, says="Maps"),
    "close-up of regions, empty maps": Broken(
        lambda: make_close_up(broken.empty_the_maps), label="regions", maps=True, says="Maps"
    ),
    "close-up, mirrored picture": Broken(lambda: make_close_up(broken.mirror_the_picture), says="no scaled part"),
    "tile, loose box": Broken(lambda: BrokenTile(broken.loosen_the_box)),
    "fog, moved label": Broken(lambda: BrokenFog(broken.move_a_label)),
    "fog, cropped image": Broken(lambda: BrokenFog(broken.crop_the_image)),
    "fog, phantom box": Broken(lambda: BrokenFog(broken.add_a_phantom_box), says="Only the image may change"),
    "fog, modified source": Broken(lambda: broken.WritesOnTheSource(inner=BrokenFog()), says="modified"),
}


def find_faults(wrong: Broken) -> list[str]:
    """What the contract says of a generator in six scenes."""
    faults = []
    for seed in range(6):
        source, pool = make_scene(
            seed, label=wrong.label, share_crowd=wrong.crowds, num_keypoints=wrong.keypoints, with_maps=wrong.maps
        )
        try:
            check_sample(wrong.case, pool, source, seed)
        except AssertionError as fault:
            faults.append(str(fault))
    return faults


@pytest.mark.parametrize("name", SOUND)
def test_nothing_broken_is_noticed(name: str) -> None:
    assert find_faults(SOUND[name]) == []


@pytest.mark.uses_global_rng
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_noticed(name: str) -> None:
    faults = find_faults(BROKEN[name])
    assert len(faults) >= BROKEN[name].least
    assert any(BROKEN[name].says in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("change", "label"),
    [
        (broken.widen_the_pasted_mask, "masks"),
        (broken.shift_the_pasted_mask, "masks"),
        (broken.swap_the_class, "masks"),
        (broken.add_a_phantom_box, "masks"),
        (broken.loosen_the_box, "boxes"),
        (broken.swap_the_class, "boxes"),
        (broken.add_a_phantom_box, "boxes in the pool too"),
        (broken.loosen_the_box, "boxes in the pool too"),
        (broken.show_keypoints_beside_the_mask, "keypoints in boxes"),
        (broken.forget_pixels, "regions"),
        (broken.widen_the_class, "regions"),
        (broken.shrink_the_edited_region, "regions"),
    ],
)
def test_what_is_broken_is_noticed_of_objects_that_were_scaled_and_turned(change: broken.Change, label: str) -> None:
    noticed = tried = 0
    for seed in range(6):
        case = Case(lambda: Mutant(change, CopyPaste(rotation_range=(-40, 40))), pastes=True)
        assert check_flat(replace(case, make=lambda: CopyPaste(rotation_range=(-40, 40))), seed, label) is not None
        tried += 1
        try:
            check_flat(case, seed, label)
        except AssertionError:
            noticed += 1
    assert noticed == tried


@pytest.mark.parametrize("name", APPEARANCE)
def test_a_picture_that_moved_under_its_labels_is_noticed(name: str) -> None:
    looks = make_looks(APPEARANCE[name], 0)
    assert looks
    for each in looks:
        each.check()
        changes = [broken.move_the_picture, broken.mirror_the_picture, broken.move_a_corner]
        if min(each.made.size_hw) < 4 * MIN_BLOCK:
            changes.remove(broken.move_a_corner)  # for its blocks are larger than that
        for change in changes:
            with pytest.raises(AssertionError, match=r"moved by|can be recognised"):
                replace(each, made=change(each.made)).check()


@pytest.mark.parametrize("name", APPEARANCE)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (broken.move_pictures_of_odd_width, "moved by"),
        (broken.paint_over_an_object, "cannot be seen any more"),
    ],
)
def test_what_is_broken_in_some_pictures_is_noticed(change: broken.Change, says: str, name: str) -> None:
    faults = []
    for each in make_looks(APPEARANCE[name], 1):
        try:
            replace(each, made=change(each.made)).check()
        except AssertionError as fault:
            faults.append(str(fault))
    assert len(faults) >= 2
    assert all(says in fault for fault in faults), faults


def test_a_fingerprint_that_forgets_a_parameter_is_noticed() -> None:
    with pytest.raises(AssertionError, match="Other parameters, same fingerprint"):
        check_generator(Case(CopyPaste, changes=[lambda: CopyPaste(num_range=(1, 3))]))


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "Chain": lambda inner: Chain([ColorTransfer(references=[make_classified(3)]), inner]),
    "Chain, first": lambda inner: Chain([inner, ColorTransfer(references=[make_classified(3)])]),
    "OneOf": lambda inner: OneOf({0.1: inner, 0.9: ColorTransfer(references=[make_classified(3)])}),
    "Sometimes": lambda inner: Sometimes(inner, probability=0.1),
    "Cached": Cached,
    "Blend": Blend,
    "Chain in Chain": lambda inner: Chain([Chain([Sometimes(inner)])]),
}


class TestAGeneratorThatKeepsClassesOnly:
    """One that declares `keeps = {ClassLabel}` never gets to see an instance, even where it would not refuse itself."""

    @pytest.mark.parametrize("name", WRAPPERS)
    def test_compositions_refuse_other_targets(self, name: str) -> None:
        composed = WRAPPERS[name](KeepsClasses())
        for source in (make_picture(0), make_segmented(0)):
            for seed in range(5):
                with pytest.raises(LabelContractError):
                    composed.generate(source, rng=make_rng(seed, "a", 0, 0))
        composed_makes = [generate(composed, make_classified(1), seed) for seed in range(40)]
        assert any(made is not None for made in composed_makes)

    @pytest.mark.parametrize("name", [None, *WRAPPERS])
    def test_generated_datasets_refuse_other_targets(self, name: str | None) -> None:
        generator = KeepsClasses() if name is None else WRAPPERS[name](KeepsClasses())
        for with_masks in (True, False):
            generated = GeneratedDataset(ScenesDataset(4, with_masks=with_masks), generator, variants=1)
            with pytest.raises(LabelContractError):
                generated[0]

    def test_classes_pass(self) -> None:
        source = make_classified(2)
        made = generate(KeepsClasses(), source, 0)
        assert made is not None
        assert np.array_equal(made.image, source.image[::-1])
