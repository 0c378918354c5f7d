"""CopyPaste from files, boxes and semantic masks, onto backgrounds, and for classification."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators import CopyPaste
from synthloader.generators.pasting.blending import MARGINS
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.generators.pictures import ListPool, make_picture, paint, tight_box

TABLE = {"apple": 1, "pear": 2}
RED, BLUE = (250, 10, 10), (10, 10, 250)


def make_cutout(file: Path, color: tuple[int, int, int], size_hw: tuple[int, int] = (12, 8)) -> None:
    """A rectangle of one colour in a transparent picture."""
    height, width = size_hw
    pixels = np.zeros((height + 6, width + 10, 4), np.uint8)
    pixels[3 : 3 + height, 5 : 5 + width] = (*color, 255)
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA))


@pytest.fixture
def cutouts(tmp_path: Path) -> Path:
    for number in range(2):
        make_cutout(tmp_path / "cutouts" / "apple" / f"{number}.png", RED)
        make_cutout(tmp_path / "cutouts" / "pear" / f"{number}.png", BLUE)
    return tmp_path / "cutouts"


def make_field(size_hw: tuple[int, int] = (60, 80), target: Any = None) -> Sample:
    """A picture that is not blank and has neither red nor blue of the cut-outs."""
    height, width = size_hw
    rows, columns = np.mgrid[:height, :width]
    green = (60 + 120 * ((rows // 4 + columns // 4) % 2)).astype(np.uint8)
    return Sample(np.stack([green // 2, green, green // 2], axis=2), target)


def make_empty(size_hw: tuple[int, int] = (60, 80)) -> Sample:
    masks = np.zeros((0, *size_hw), bool)
    return make_field(size_hw, Instances(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), masks))


def generate(generator: CopyPaste, source: Sample, pool: ListPool | None = None, seed: int = 0) -> Sample:
    bound = generator.bind(pool or ListPool([source]), classes=TABLE)
    return bound.generate(source, rng=make_rng(seed, "s", 0, 0))


def find_color(sample: Sample, color: tuple[int, int, int]) -> np.ndarray:
    """Where a colour is, give or take what interpolation does."""
    return (np.abs(sample.image.astype(int) - color).max(axis=2) < 60).astype(bool)


def instances(sample: Sample) -> Any:
    return sample.target


class TestCutOutsOnDisk:
    def test_folders_are_classes_and_masks_are_what_is_seen(self, cutouts: Path) -> None:
        seen = set()
        for seed in range(12):
            made = generate(
                CopyPaste(cutouts=cutouts, num_range=(1, 1), rotation_range=(0, 0)), make_empty(), seed=seed
            )
            target = instances(made)
            color = {1: RED, 2: BLUE}[int(target.class_ids[0])]
            assert np.array_equal(target.masks[0], find_color(made, color))
            assert target.boxes[0].tolist() == tight_box(target.masks[0])
            seen.add(int(target.class_ids[0]))
            assert made.origin is not None
            assert re.fullmatch(r"(apple|pear)/[01]\.png", made.origin.drawn[0])
        assert seen == {1, 2}

    def test_the_longer_side_is_a_share_of_the_images_shorter_side(self, cutouts: Path) -> None:
        generator = CopyPaste(
            cutouts=cutouts,
            num_range=(1, 1),
            scale_range=(0.25, 0.5),
            rotation_range=(0, 0),
            min_visible=1.0,
            max_tries=99,
        )
        sides = []
        for seed in range(60):
            x1, y1, x2, y2 = instances(generate(generator, make_empty((60, 200)), seed=seed)).boxes[0]
            sides.append(max(x2 - x1, y2 - y1) / 60)
        assert min(sides) >= 0.25 - 1 / 60
        assert max(sides) <= 0.5 + 1 / 60
        assert np.ptp(sides) > 0.15

    def test_nothing_is_drawn_from_the_pool(self, cutouts: Path) -> None:
        pool = ListPool([make_picture(0)])
        generate(CopyPaste(cutouts=cutouts), make_empty(), pool)
        assert pool.decoded == []
        assert not CopyPaste(cutouts=cutouts).uses_pool

    def test_aimed_it_pastes_one_class(self, cutouts: Path) -> None:
        bound = CopyPaste(cutouts=cutouts, num_range=(3, 3)).bind(ListPool([make_empty()]), classes=TABLE).aim(2)
        made = bound.generate(make_empty(), rng=make_rng(0, "", 0, 0))
        assert set(instances(made).class_ids.tolist()) == {2}

    def test_the_budget_names_the_files_and_takes_those_it_is_told(self, cutouts: Path) -> None:
        bound = CopyPaste(cutouts=cutouts, num_range=(1, 2)).bind(ListPool([make_empty()]), classes=TABLE).aim(1)
        assert list(bound.list_donors(1)) == ["apple/0.png", "apple/1.png"]
        for seed in range(6):
            made = bound.use_donors((1,)).generate(make_empty(), rng=make_rng(seed, "", 0, 0))
            assert made.origin is not None
            assert made.origin.drawn == ("apple/1.png",)

    def test_a_folder_of_no_class(self, cutouts: Path) -> None:
        make_cutout(cutouts / "plum" / "0.png", RED)
        with pytest.raises(LabelContractError, match="plum"):
            generate(CopyPaste(cutouts=cutouts), make_empty())

    def test_sources_with_maps(self, cutouts: Path) -> None:
        source = make_empty().replace(maps={"depth": np.zeros((60, 80), np.float32)})
        message = (
            "CopyPaste with cutouts= needs sources without maps, got ['depth']: there is no true value for the pixels of "
            "a cut-out. Leave the maps out, or paste objects of the dataset."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            generate(CopyPaste(cutouts=cutouts), source)

    def test_a_bank_without_a_chosen_class_is_refused(self, cutouts: Path) -> None:
        with pytest.raises(LabelContractError) as caught:
            CopyPaste(cutouts=cutouts, classes=["pear", "nut"]).bind(
                ListPool([make_empty()]), classes={**TABLE, "nut": 9}
            )
        assert str(caught.value) == (
            "cutouts must hold the classes that are pasted, got none of 'nut'. Add some, or leave these out of classes=."
        )


class TestClassification:
    def test_a_cut_out_of_the_own_class_is_pasted_on_a_background(self, cutouts: Path) -> None:
        generator = CopyPaste(cutouts=cutouts, backgrounds=[make_field((90, 90)), make_field((50, 120))])
        for class_id, color, other in ((1, RED, BLUE), (2, BLUE, RED)):
            made = generate(generator, Sample(np.zeros((60, 80, 3), np.uint8), ClassLabel(class_id)))
            assert isinstance(made.target, ClassLabel)
            assert made.target.class_id == class_id
            assert made.image.shape == (60, 80, 3)
            assert find_color(made, color).any()
            assert not find_color(made, other).any()
            assert made.origin is not None
            assert made.origin.edited is None
            assert made.origin.drawn[0].startswith("backgrounds[")

    def test_a_class_without_cut_outs_gives_nothing(self, cutouts: Path) -> None:
        source = Sample(np.zeros((60, 80, 3), np.uint8), ClassLabel(7))
        with pytest.raises(NothingToGenerate, match=r"^no donor$"):
            generate(CopyPaste(cutouts=cutouts), source)

    def test_it_keeps_class_labels_only_with_cut_outs(self, cutouts: Path) -> None:
        assert ClassLabel not in CopyPaste().keeps
        assert ClassLabel in CopyPaste(cutouts=cutouts).keeps


class TestBackgrounds:
    def test_the_sources_own_objects_are_not_in_it(self) -> None:
        source = make_picture(3, size_hw=(40, 56))
        generator = CopyPaste(backgrounds=[make_field((90, 90))], num_range=(1, 1))
        made = generate(generator, source, ListPool([make_picture(0), make_picture(1)]))
        target = instances(made)
        assert target.attributes["generated"].all()
        assert made.image.shape == source.image.shape
        assert dict(made.metadata) == dict(source.metadata)
        assert made.fields == source.fields

    def test_labelled_objects_of_the_background_stay_labelled(self) -> None:
        field = make_field((40, 56))
        image, mask = field.image.copy(), np.zeros((1, 40, 56), bool)
        mask[0, 10:30, 20:40] = True
        image[mask[0]] = (200, 200, 10)
        label = Instances(np.array([2]), np.array([[20, 10, 40, 30]], np.float32), mask)
        background = Sample(image, label)
        with pytest.warns(UserWarning, match="backgrounds"):
            generator = CopyPaste(backgrounds=[background], num_range=(1, 1), min_visible=0.5).bind(
                ListPool([make_picture(0), make_picture(1)]), classes=TABLE
            )
        made = generator.generate(make_picture(3, size_hw=(40, 56)), rng=make_rng(0, "", 0, 0))
        target = instances(made)
        assert target.class_ids[0] == 2
        assert np.array_equal(target.masks[0], (made.image == (200, 200, 10)).all(axis=2))

    def test_a_background_of_another_kind(self) -> None:
        background = make_field((40, 56), SemanticMask(np.zeros((40, 56), np.int32)))
        message = (
            "the background 'backgrounds[0]' of CopyPaste must have Instances, got SemanticMask. Give backgrounds the kind "
            "of label that the dataset has, or none where they show no object."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            generate(CopyPaste(backgrounds=[background]), make_picture(3), ListPool([make_picture(0)]))

    def test_a_blank_background_is_refused(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "white.png"), np.full((50, 50, 3), 255, np.uint8))
        with pytest.raises(ValueError, match=r"white\.png.*allow_blank_backgrounds=True"):
            CopyPaste(backgrounds=tmp_path)

    def test_a_detector_tells_of_pasted_classes_and_does_not_travel(self) -> None:
        generator = CopyPaste(backgrounds=[make_field()], detector=lambda image: ["apple"])
        with pytest.warns(UserWarning, match="apple"):
            bound = generator.bind(ListPool([make_picture(0)]), classes=TABLE)
        assert pickle.loads(pickle.dumps(bound)).fingerprint == bound.fingerprint
        assert bound.fingerprint == CopyPaste(backgrounds=[make_field()]).fingerprint

    @pytest.mark.parametrize("options", [{"detector": len}, {"allow_blank_backgrounds": True}])
    def test_options_that_say_something_of_backgrounds_need_some(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="come with backgrounds="):
            CopyPaste(**options)


class TestSemanticMasks:
    @staticmethod
    def make_source(number: int) -> Sample:
        mask = np.zeros((60, 80), np.int32)
        mask[10:25, 10 + number : 30 + number] = 1
        mask[40:50, 50:60] = 2
        mask[:, 78:] = 255
        return Sample(paint(number, (60, 80)), SemanticMask(mask))

    def test_pixels_get_the_class_that_was_pasted(self) -> None:
        source, pool = self.make_source(0), ListPool([self.make_source(1)])
        for seed in range(10):
            made = generate(
                CopyPaste(num_range=(1, 1), scale_range=(1, 1), rotation_range=(0, 0)), source, pool, seed=seed
            )
            assert made.origin is not None
            edited, target = made.origin.edited, made.target
            assert edited is not None
            assert isinstance(target, SemanticMask)
            assert isinstance(source.target, SemanticMask)
            class_id = int(made.origin.drawn[0].partition("#")[2].partition("@")[0])
            assert (target.mask[edited] == class_id).all()
            assert np.array_equal(target.mask[~edited], source.target.mask[~edited])
            assert np.array_equal((made.image != source.image).any(axis=2) | edited, edited)

    def test_classes_limit_what_is_pasted(self) -> None:
        pool = ListPool([self.make_source(1)])
        made = generate(CopyPaste(classes=["pear"], num_range=(2, 2)), self.make_source(0), pool)
        assert made.origin is not None
        assert all(name.startswith("0.png#2@") for name in made.origin.drawn)

    def test_the_budget_names_parts(self) -> None:
        bound = CopyPaste(num_range=(1, 1)).bind(ListPool([self.make_source(1), self.make_source(2)]), classes=TABLE)
        assert list(bound.list_donors(1)) == ["0.png#1@11,10", "1.png#1@12,10"]
        made = bound.aim(1).use_donors((1,)).generate(self.make_source(0), rng=make_rng(0, "", 0, 0))
        assert made.origin is not None
        assert made.origin.drawn == ("1.png#1@12,10",)


class TestBoxesOnly:
    @staticmethod
    def make_source(*boxes: tuple[int, int, int, int], size_hw: tuple[int, int] = (100, 100)) -> Sample:
        ids = np.ones(len(boxes), np.int64)
        return make_field(size_hw, Instances(ids, np.array(boxes, np.float32).reshape(-1, 4)))

    @staticmethod
    def make_donors() -> ListPool:
        """A picture with one disc, of which only the box is known."""
        image = np.full((80, 80, 3), 230, np.uint8)
        cv2.circle(image, (40, 40), 20, RED, -1)
        label = Instances(np.array([2]), np.array([[20, 20, 61, 61]], np.float32))
        return ListPool([Sample(image, label)], ["disc.png"])

    def test_masks_are_found_in_boxes(self) -> None:
        made = generate(
            CopyPaste(num_range=(1, 1), scale_range=(1, 1), rotation_range=(0, 0)), self.make_source((0, 0, 10, 10)),
            self.make_donors(),
        )  # fmt: skip
        target = instances(made)
        assert target.masks is None
        assert target.class_ids.tolist() == [1, 2]
        pasted = find_color(made, RED)
        assert 0.9 < pasted.sum() / (np.pi * 20.5**2) < 1.1
        assert np.abs(target.boxes[1] - tight_box(pasted)).max() <= 1

    def test_no_box_is_covered_by_more_than_what_surely_leaves_enough(self) -> None:
        source = self.make_source((10, 10, 50, 50), (55, 20, 95, 60), (30, 55, 70, 95))
        generator = CopyPaste(num_range=(4, 4), min_visible=0.2, rotation_range=(0, 0))
        covered = []
        for seed in range(40):
            try:
                made = generate(generator, source, self.make_donors(), seed)
            except NothingToGenerate:
                continue
            assert made.origin is not None
            assert made.origin.edited is not None
            for x1, y1, x2, y2 in instances(source).boxes.astype(int):
                covered.append(made.origin.edited[y1:y2, x1:x2].mean())
        assert max(covered) <= 0.4 + 1e-6
        assert max(covered) > 0.2

    def test_rows_and_columns_that_are_wholly_covered_are_cut_off(self) -> None:
        image = np.full((40, 40, 3), 230, np.uint8)
        mask = np.zeros((1, 40, 40), bool)
        mask[0, 5:35, 5:15] = True
        pool = ListPool([Sample(image, Instances(np.array([2]), np.array([[5, 5, 15, 35]], np.float32), mask))])
        source = self.make_source((20, 20, 60, 45))
        generator = CopyPaste(
            num_range=(1, 1), scale_range=(1, 1), rotation_range=(0, 0), flip=False, bottom_range=(0.46, 0.5)
        )
        changed = 0
        for seed in range(80):
            made = generate(generator, source, pool, seed)
            assert made.origin is not None
            assert made.origin.edited is not None
            left = np.zeros((100, 100), bool)
            left[20:45, 20:60] = True
            box = tight_box(left & ~made.origin.edited)
            assert instances(made).boxes[0].tolist() == box
            changed += box != [20, 20, 60, 45]
        assert changed > 8

    def test_a_box_in_which_no_mask_is_found_gives_no_donor(self) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3)).astype(np.uint8)
        pool = ListPool([Sample(noise, Instances(np.array([2]), np.array([[20, 20, 60, 60]], np.float32)))])
        with pytest.raises(NothingToGenerate, match=r"^no donor$"):
            generate(CopyPaste(), self.make_source((0, 0, 10, 10)), pool)

    def test_blood_cells(self, shared_data: Path) -> None:
        from synthloader.registry import find_plugin
        from synthloader.sources import Source

        folder = shared_data / "bccd_blood_cells"
        cells = Source(
            find_plugin("formats", "coco")(
                images=str(folder / "JPEGImages"), annotations=str(folder / "coco" / "instances_train.json")
            )
        )
        bound = CopyPaste(num_range=(3, 3)).bind(cells, classes=cells.classes)
        pasted = 0
        for seed in range(6):
            source = cells[seed]
            made = bound.generate(source, rng=make_rng(seed, "", 0, 0))
            target, before = instances(made), instances(source)
            assert target.masks is None or before.masks is not None
            assert len(target) == len(before) + len(made.origin.drawn)  # type: ignore[union-attr]
            pasted += len(made.origin.drawn)  # type: ignore[union-attr]
        assert pasted >= 8


class TestPlacement:
    def test_non_overlapping_objects_cover_nothing(self) -> None:
        pool = ListPool([make_picture(0, kind="separate", share_crowd=0)])
        source = make_picture(3, size_hw=(120, 120), num_objects=5, share_crowd=0)
        for seed in range(12):
            try:
                made = generate(CopyPaste(placement="non_overlapping", num_range=(3, 3)), source, pool, seed)
            except NothingToGenerate:
                continue
            target, before = instances(made), instances(source)
            assert np.array_equal(target.masks[: len(before)], before.masks)
            assert target.masks[len(before) :].sum(axis=0).max() <= 1

    def test_where_there_is_no_free_place_it_gives_up(self) -> None:
        mask = np.ones((1, 60, 80), bool)
        source = make_field(target=Instances(np.array([1]), np.array([[0, 0, 80, 60]], np.float32), mask))
        with pytest.raises(NothingToGenerate, match=r"^no free place$"):
            generate(CopyPaste(placement="non_overlapping"), source, ListPool([make_picture(0, kind="separate")]))

    def test_measured_places_are_those_of_the_pool(self) -> None:
        """Objects far away are small and high up, near ones large and low down."""
        masks = np.zeros((2, 100, 100), bool)
        masks[0, 20:30, 40:50] = True
        masks[1, 50:90, 20:60] = True
        boxes = np.array([[40, 20, 50, 30], [20, 50, 60, 90]], np.float32)
        pool = ListPool([make_field((100, 100), Instances(np.array([1, 1]), boxes, masks))])
        source = make_empty((200, 200))
        generator = CopyPaste(
            placement="measured", num_range=(1, 1), rotation_range=(0, 0), min_visible=0.9, max_tries=50
        )
        small, large = [], []
        for seed in range(60):
            _, y1, _, y2 = instances(generate(generator, source, pool, seed)).boxes[0] / 200
            (small if y2 - y1 < 0.25 else large).append((y2 - y1, y2))
        assert len(small) > 15
        assert len(large) > 15
        assert np.abs(np.array(small) - (0.1, 0.3)).max() < 0.08
        assert np.abs(np.array(large) - (0.4, 0.9)).max() < 0.12

    def test_bottom_edges_are_drawn_from_the_range(self) -> None:
        generator = CopyPaste(
            bottom_range=(0.5, 0.6), num_range=(1, 1), scale_range=(0.5, 0.5), rotation_range=(0, 0), min_visible=1.0,
            max_tries=99,
        )  # fmt: skip
        bottoms = [
            instances(generate(generator, make_empty((200, 200)), ListPool([make_picture(0)]), seed)).boxes[0, 3]
            for seed in range(30)
        ]
        assert min(bottoms) >= 100
        assert max(bottoms) <= 120
        assert np.ptp(bottoms) > 8

    @pytest.mark.parametrize("options", [{"scale_range": (0.5, 1)}, {"bottom_range": (0.5, 1)}])
    def test_what_measured_places_leave_no_choice_of(self, options: dict[str, Any]) -> None:
        name, value = next(iter(options.items()))
        message = (
            f"{name} must be left out with placement='measured', got {name}={value!r}. "
            f"Sizes and heights are those of real objects."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            CopyPaste(placement="measured", **options)

    def test_a_pool_in_which_nothing_can_be_measured(self, cutouts: Path) -> None:
        source = Sample(np.zeros((60, 80, 3), np.uint8), ClassLabel(1))
        message = (
            "placement='measured' needs a pool of objects with boxes or masks, got one without. Use placement='free', or "
            "give a pool that says where objects lie (pool=)."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            generate(CopyPaste(cutouts=cutouts, placement="measured"), source)


class TestBlending:
    @pytest.mark.parametrize("blend", ["hard", "gaussian", "poisson", "multiband"])
    def test_what_changes_is_the_edited_region(self, blend: str) -> None:
        pool, source = ListPool([make_picture(0, kind="separate", share_crowd=0)]), make_picture(3, size_hw=(120, 120))
        for seed in range(8):
            made = generate(CopyPaste(blend=blend), source, pool, seed)
            assert made.origin is not None
            edited = made.origin.edited
            assert edited is not None
            assert np.array_equal(made.image[~edited], source.image[~edited])
            masks = instances(made).masks[instances(made).attributes["generated"]].any(axis=0)
            reach = 2 * MARGINS[blend] + 1
            assert not (masks & ~edited).any()
            assert not (
                edited & ~cv2.dilate(masks.view(np.uint8), np.ones((reach, reach), np.uint8)).astype(bool)
            ).any()


class TestOnePiece:
    def test_no_mask_gets_holes_or_falls_apart(self) -> None:
        from synthloader.filters import SinglePolygon

        pool, judge = ListPool([make_picture(0, kind="separate", share_crowd=0)]), SinglePolygon()
        source = make_picture(3, size_hw=(80, 80), num_objects=6, share_crowd=0)
        generator = CopyPaste(num_range=(3, 3), max_tries=30)
        rejected = accepted = 0
        for seed in range(25):
            rejected += not judge.judge(generate(generator, source, pool, seed), source).accepted
            try:
                made = generate(generator.keep_single_polygons(), source, pool, seed)
            except NothingToGenerate:
                continue
            assert judge.judge(made, source).accepted
            accepted += 1
        assert rejected > 3
        assert accepted > 10

    def test_it_has_another_fingerprint(self) -> None:
        assert CopyPaste().keep_single_polygons().fingerprint != CopyPaste().fingerprint


class TestOtherOptions:
    def test_a_copy_with_other_options_stays_bound(self) -> None:
        pool = ListPool([make_picture(0)])
        bound = CopyPaste(num_range=(1, 1)).bind(pool, classes=TABLE)
        made = bound.replace(flip=False).generate(make_empty(), rng=make_rng(0, "", 0, 0))
        assert made.origin is not None
        assert bound.replace(flip=False).fingerprint == CopyPaste(num_range=(1, 1), flip=False).fingerprint
        assert bound.replace().fingerprint == bound.fingerprint

    def test_angles_lie_in_the_range(self) -> None:
        """A long bar tells its angle."""
        masks = np.zeros((1, 40, 100), bool)
        masks[0, 18:22, 5:95] = True
        image = np.full((40, 100, 3), 250, np.uint8)
        pool = ListPool([Sample(image, Instances(np.array([1]), np.array([[5, 18, 95, 22]], np.float32), masks))])
        generator = CopyPaste(
            num_range=(1, 1), scale_range=(1, 1), rotation_range=(20, 40), flip=False, min_visible=0.95, max_tries=99
        )
        angles = []
        for seed in range(30):
            mask = instances(generate(generator, make_empty((160, 160)), pool, seed)).masks[0]
            y, x = np.nonzero(mask)
            angles.append(-np.degrees(np.arctan2(*np.polyfit(x, y, 1)[:1], 1)))
        assert min(angles) > 19
        assert max(angles) < 41
        assert np.ptp(angles) > 10

    def test_bending_changes_the_outline_and_the_mask_follows(self) -> None:
        masks = np.zeros((1, 60, 60), bool)
        masks[0, 10:50, 10:50] = True
        image = np.full((60, 60, 3), 120, np.uint8)
        image[masks[0]] = RED
        image[10:50, 10:50][::8] = BLUE
        pool = ListPool([Sample(image, Instances(np.array([1]), np.array([[10, 10, 50, 50]], np.float32), masks))])
        generator = CopyPaste(num_range=(1, 1), scale_range=(1, 1), rotation_range=(0, 0), elastic_range=(0.2, 0.2))
        made = generate(generator, make_empty((160, 160)), pool)
        mask = instances(made).masks[0]
        x1, y1, x2, y2 = instances(made).boxes[0].astype(int)
        assert not mask[y1:y2, x1:x2].all()
        edges = (find_color(made, RED) | find_color(made, BLUE)) & ~mask
        assert not edges.any()
