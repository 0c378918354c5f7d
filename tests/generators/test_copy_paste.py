from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest

from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators import CopyPaste
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances
from tests.generators.pictures import ListPool, make_classified, make_picture, paint, tight_box


def draw(
    size_hw: tuple[int, int], *boxes: tuple[int, int, int, int], class_ids: Any = None, **fields: Any
) -> Instances:
    """Rectangles as instances."""
    masks = np.zeros((len(boxes), *size_hw), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    ids = np.arange(1, len(boxes) + 1) if class_ids is None else np.array(class_ids, np.int64)
    return Instances(ids, np.array(boxes, np.float32).reshape(-1, 4), masks, **fields)


def make_pool(*boxes: tuple[int, int, int, int], size_hw: tuple[int, int] = (20, 30), **fields: Any) -> ListPool:
    """One donor picture with rectangles."""
    return ListPool([Sample(paint(0, size_hw), draw(size_hw, *boxes, **fields))], ["donors.png"])


def make_empty(size_hw: tuple[int, int] = (20, 30), number: int = 5) -> Sample:
    return Sample(paint(number, size_hw), draw(size_hw))


def plain(**options: Any) -> CopyPaste:
    """Neither scaled nor mirrored, one object."""
    return CopyPaste(**{"num_range": (1, 1), "scale_range": (1, 1), "rotation_range": (0, 0), "flip": False, **options})


def generate(generator: CopyPaste, pool: ListPool, source: Sample, seed: int = 0) -> Sample:
    return generator.bind(pool, classes=None).generate(source, rng=make_rng(seed, "s", 0, 0))


def instances(sample: Sample) -> Any:
    return sample.target


class TestWhatIsPasted:
    def test_the_origin_names_the_donors_and_holds_the_region(self) -> None:
        made = generate(plain(), make_pool((2, 3, 8, 9)), make_empty())
        assert made.origin is not None
        assert made.origin.drawn == ("donors.png#0",)
        assert made.origin.edited is not None
        assert np.array_equal(made.origin.edited, instances(made).masks[0])

    def test_a_source_without_instances_needs_no_masks(self) -> None:
        source = make_empty().replace(target=Instances(np.zeros(0, np.int64), np.zeros((0, 4), np.float32)))
        made = generate(plain(), make_pool((2, 3, 8, 9)), source)
        assert instances(made).masks.shape == (1, 20, 30)

    def test_the_number_is_drawn_from_the_range(self) -> None:
        generator = plain(num_range=(2, 4), min_visible=0.01)
        pool = make_pool(*[(x, y, x + 2, y + 2) for x in range(0, 20, 4) for y in range(0, 12, 4)])
        counts = {len(instances(generate(generator, pool, make_empty(), seed))) for seed in range(40)}
        assert counts == {2, 3, 4}

    def test_scales_lie_in_the_range_and_their_logarithm_is_uniform(self) -> None:
        bound = plain(scale_range=(0.5, 2), min_visible=1.0, max_tries=99).bind(make_pool((0, 0, 20, 20)), classes=None)
        source, sides = make_empty((90, 90)), []
        for seed in range(200):
            x1, y1, x2, y2 = instances(bound.generate(source, rng=make_rng(seed, "", 0, 0))).boxes[0]
            assert x2 - x1 == y2 - y1
            sides.append(x2 - x1)
        assert min(sides) >= 10
        assert max(sides) <= 40
        assert 0.4 < np.mean(np.array(sides) < 20) < 0.6

    def test_half_of_the_objects_are_mirrored(self) -> None:
        pool = make_pool((0, 0, 6, 6))
        mirrored = []
        for seed in range(200):
            made = generate(plain(flip=True, min_visible=1.0), pool, make_empty(), seed)
            red = made.image[..., 0][instances(made).masks[0]].reshape(6, 6)[0].tolist()
            assert red in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0])
            mirrored.append(red[0] == 5)
        assert 0.4 < np.mean(mirrored) < 0.6

    def test_the_border_may_cut_it_as_far_as_min_visible(self) -> None:
        pool = make_pool((0, 0, 8, 8))
        shares = [
            float(instances(generate(plain(min_visible=0.5), pool, make_empty(), seed)).attributes["visible"][0])
            for seed in range(200)
        ]
        assert min(shares) >= 0.5
        assert min(shares) < 0.75
        assert max(shares) == 1

    def test_the_source_itself_may_give_donors(self) -> None:
        source = Sample(paint(0, (40, 40)), draw((40, 40), (5, 5, 10, 10)))
        made = generate(plain(), ListPool([source]), source)
        assert instances(made).class_ids.tolist() == [1, 1]

    def test_only_the_classes_asked_for_are_pasted(self) -> None:
        pool = make_pool((0, 0, 4, 4), (6, 0, 10, 4), (12, 0, 16, 4), class_ids=[1, 2, 3])
        bound = plain(num_range=(3, 3), classes=["fig", 3]).bind(pool, classes={"date": 1, "fig": 2, "nut": 3})
        pasted = [
            class_id
            for seed in range(20)
            for class_id in instances(bound.generate(make_empty(), rng=make_rng(seed, "", 0, 0))).class_ids.tolist()
        ]
        assert set(pasted) == {2, 3}

    def test_aimed_at_a_class_it_pastes_this_class_only(self) -> None:
        pool = make_pool((0, 0, 4, 4), (6, 0, 10, 4), class_ids=[1, 2])
        aimed = plain().bind(pool, classes=None).aim(2)
        for seed in range(10):
            made = aimed.generate(make_empty(), rng=make_rng(seed, "", 0, 0))
            assert instances(made).class_ids.tolist() == [2]

    def test_it_can_be_aimed_before_it_is_bound(self) -> None:
        pool = make_pool((0, 0, 4, 4), (6, 0, 10, 4), class_ids=[1, 2])
        made = generate(plain().aim(2), pool, make_empty())
        assert instances(made).class_ids.tolist() == [2]

    def test_crowds_and_empty_masks_are_no_donors(self) -> None:
        target = draw((20, 30), (0, 0, 4, 4), (6, 0, 10, 4), (0, 0, 0, 0), crowd=np.array([True, False, False]))
        pool = ListPool([Sample(paint(0, (20, 30)), target)])
        for seed in range(10):
            assert instances(generate(plain(), pool, make_empty(), seed)).class_ids.tolist() == [2]

    def test_a_smaller_object_in_front_is_left_out_of_the_larger_one(self) -> None:
        pool = make_pool((0, 0, 10, 10), (3, 3, 6, 6), class_ids=[1, 2])
        bound = plain(min_visible=0.9).bind(pool, classes=None)
        plate = bound.aim(1).generate(make_empty((200, 200)), rng=make_rng(0, "", 0, 0))
        apple = bound.aim(2).generate(make_empty((200, 200)), rng=make_rng(0, "", 0, 0))
        assert instances(plate).masks.sum() == 100 - 9
        assert instances(apple).masks.sum() == 9

    def test_an_object_hidden_behind_smaller_ones_is_no_donor(self) -> None:
        pool = make_pool((0, 0, 10, 10), (0, 0, 10, 9), class_ids=[1, 2])
        with pytest.raises(NothingToGenerate, match=r"^no donor$"):
            plain().aim(1).bind(pool, classes=None).generate(make_empty(), rng=make_rng(0, "", 0, 0))

    def test_an_object_larger_than_the_image_is_not_pasted(self) -> None:
        pool = make_pool((0, 0, 200, 200), size_hw=(200, 200))
        with pytest.raises(NothingToGenerate, match=r"^no free place$"):
            generate(plain(), pool, make_empty())


class TestWhatIsCovered:
    def test_covered_pixels_leave_the_mask_and_the_box_follows(self) -> None:
        source = Sample(paint(5, (20, 30)), draw((20, 30), (0, 0, 30, 20)))
        made = instances(generate(plain(), make_pool((0, 0, 9, 9)), source))
        assert made.masks[0].sum() == 600 - made.masks[1].sum()
        assert not (made.masks[0] & made.masks[1]).any()
        assert made.boxes[0].tolist() == tight_box(made.masks[0])
        assert made.attributes["visible"][0] == pytest.approx(made.masks[0].sum() / 600)
        assert made.attributes["generated"].tolist() == [False, True]

    def test_an_untouched_instance_keeps_a_loose_box(self) -> None:
        target = draw((20, 60), (0, 0, 3, 3)).replace(boxes=np.array([[0, 0, 4.5, 4.25]], np.float32))
        source = Sample(paint(5, (20, 60)), target)
        bound = plain(min_visible=1.0).bind(make_pool((0, 0, 2, 2)), classes=None)
        for seed in range(10):
            made = instances(bound.generate(source, rng=make_rng(seed, "", 0, 0)))
            assert made.boxes[0].tolist() == [0, 0, 4.5, 4.25]

    def test_covering_adds_up_over_several_pastes(self) -> None:
        source = Sample(paint(5, (12, 12)), draw((12, 12), (0, 0, 12, 12)))
        pool = make_pool((0, 0, 5, 5))
        made = instances(generate(plain(num_range=(30, 30), min_visible=0.5), pool, source))
        assert made.masks[0].sum() >= 72
        assert len(made) >= 2

    def test_covering_adds_up_over_several_generators(self) -> None:
        sample = Sample(paint(5, (12, 12)), draw((12, 12), (0, 0, 12, 12)))
        bound = plain(min_visible=0.5).bind(make_pool((0, 0, 5, 5)), classes=None)
        pasted = 0
        for step in range(30):
            try:
                sample = bound.generate(sample, rng=make_rng(step, "", 0, 0))
            except NothingToGenerate:
                continue
            pasted += 1
        made = instances(sample)
        assert 0 < pasted < 10
        assert made.masks[0].sum() >= 72
        assert made.attributes["visible"][0] == pytest.approx(made.masks[0].sum() / 144)
        pasted_areas = np.count_nonzero(made.masks[1:], axis=(1, 2))
        assert np.allclose(made.attributes["visible"][1:], pasted_areas / 25)

    def test_crowds_lose_covered_pixels_too(self) -> None:
        source = Sample(paint(5, (20, 30)), draw((20, 30), (0, 0, 30, 20), crowd=np.array([True])))
        made = instances(generate(plain(), make_pool((0, 0, 9, 9)), source))
        assert made.crowd.tolist() == [True, False]
        assert not (made.masks[0] & made.masks[1]).any()

    def test_what_would_hide_an_instance_is_not_pasted(self) -> None:
        source = Sample(paint(5, (4, 4)), draw((4, 4), (0, 0, 4, 4)))
        with pytest.raises(NothingToGenerate, match=r"^no free place$"):
            generate(plain(min_visible=0.9), make_pool((0, 0, 9, 9)), source)

    def test_without_min_visible_a_covered_instance_goes_with_its_label(self) -> None:
        source = Sample(paint(5, (3, 3)), draw((3, 3), (1, 1, 2, 2), class_ids=[7]))
        made = instances(generate(plain(min_visible=0), make_pool((0, 0, 9, 9)), source))
        assert made.class_ids.tolist() == [1]
        assert made.attributes["generated"].tolist() == [True]

    def test_nothing_is_pasted_over_the_box_of_an_empty_mask(self) -> None:
        target = draw((20, 30), (0, 0, 0, 0)).replace(boxes=np.array([[0, 0, 30, 12]], np.float32))
        source = Sample(paint(5, (20, 30)), target)
        for seed in range(20):
            made = instances(generate(plain(max_tries=50), make_pool((0, 0, 3, 3)), source, seed))
            assert made.boxes[0].tolist() == [0, 0, 30, 12]
            assert not made.masks[0].any()
            assert made.boxes[1, 1] >= 12

    def test_a_mask_outside_its_box_is_followed_too(self) -> None:
        target = draw((20, 30), (0, 0, 30, 20)).replace(boxes=np.array([[3, 3, 9, 9]], np.float32))
        made = instances(generate(plain(), make_pool((0, 0, 9, 9)), Sample(paint(5, (20, 30)), target)))
        assert made.boxes[0].tolist() == tight_box(made.masks[0])


class TestKeypoints:
    def test_covered_ones_become_hidden_and_the_donors_move_along(self) -> None:
        donor = draw((20, 30), (2, 4, 12, 14), keypoints=np.array([[[3, 5, 2], [12.5, 13, 1], [0, 0, 0]]], np.float32))
        pool = ListPool([Sample(paint(0, (20, 30)), donor)])
        points = np.array([[[x, 9.5, 2] for x in (1, 15, 29)]], np.float32)
        source = Sample(paint(5, (20, 30)), draw((20, 30), (0, 9, 30, 10), keypoints=points))
        seen = set()
        for seed in range(30):
            made = instances(generate(plain(), pool, source, seed))
            for at, (x, y, _) in enumerate(points[0]):
                covered = bool(made.masks[1][int(y), int(x)])
                assert made.keypoints[0, at].tolist() == [x, y, 1 if covered else 2]
                seen.add(covered)
            left, top = np.argwhere(made.masks[1]).min(axis=0)[::-1]
            if made.masks[1].sum() == 100:
                assert made.keypoints[1, 0].tolist() == [left + 1, top + 1, 2]
            assert made.keypoints[1, 2].tolist() == [0, 0, 0]
        assert seen == {True, False}

    def test_outside_the_image_they_are_not_labelled(self) -> None:
        donor = draw((20, 30), (0, 0, 10, 10), keypoints=np.array([[[9, 5, 2]]], np.float32))
        pool = ListPool([Sample(paint(0, (20, 30)), donor)])
        made = [instances(generate(plain(), pool, make_empty(), seed)) for seed in range(60)]
        cut = [target for target in made if target.boxes[0, 2] == 30 and target.masks[0].any(axis=0).sum() < 9]
        assert cut
        assert all(target.keypoints[0].tolist() == [[0, 0, 0]] for target in cut)

    def test_an_object_with_keypoints_is_not_mirrored(self) -> None:
        donor = draw((20, 30), (0, 0, 6, 6), keypoints=np.array([[[1, 1, 2]]], np.float32))
        pool = ListPool([Sample(paint(0, (20, 30)), donor)])
        for seed in range(20):
            made = generate(plain(flip=True, min_visible=1.0), pool, make_empty(), seed)
            assert made.image[..., 0][instances(made).masks[0]][:6].tolist() == [0, 1, 2, 3, 4, 5]

    def test_they_scale_with_the_object(self) -> None:
        donor = draw((40, 40), (10, 10, 20, 20), keypoints=np.array([[[15, 12, 2]]], np.float32))
        pool = ListPool([Sample(paint(0, (40, 40)), donor)])
        generator = plain(scale_range=(2, 2), min_visible=1.0)
        made = instances(generate(generator, pool, make_empty((60, 60))))
        assert (made.keypoints[0, 0, :2] - made.boxes[0, :2]).tolist() == [10, 4]

    def test_a_source_without_any_gets_rows_of_unlabelled_ones(self) -> None:
        donor = draw((20, 30), (0, 0, 6, 6), keypoints=np.array([[[1, 1, 2]]], np.float32))
        pool = ListPool([Sample(paint(0, (20, 30)), donor)])
        source = Sample(paint(5, (20, 30)), draw((20, 30), (0, 0, 4, 4)))
        made = instances(generate(plain(min_visible=1.0), pool, source))
        assert made.keypoints[0].tolist() == [[0, 0, 0]]
        assert made.keypoints[1, 0, 2] == 2


class TestAttributesAndMaps:
    def test_attributes_follow_and_missing_ones_are_filled(self) -> None:
        pool = make_pool((0, 0, 4, 4), attributes={"id": np.array([7]), "tag": np.array(["ripe"])})
        source = Sample(
            paint(5, (40, 40)), draw((40, 40), (0, 0, 4, 4), attributes={"id": np.array([3]), "depth": np.array([1.5])})
        )
        made = instances(generate(plain(), pool, source)).attributes
        assert list(made) == ["id", "depth", "tag", "generated", "visible"]
        assert made["id"].tolist() == [3, 7]
        assert made["depth"][0] == 1.5
        assert np.isnan(made["depth"][1])
        assert made["tag"].tolist() == ["", "ripe"]
        assert made["visible"].dtype == np.float32

    def test_columns_of_the_same_names_with_another_meaning_are_left_alone(self) -> None:
        attributes = {"visible": np.array(["yes"]), "generated": np.array([2020])}
        pool = make_pool((0, 0, 9, 9), attributes={"visible": np.array(["no"]), "generated": np.array([2021])})
        source = Sample(paint(5, (20, 30)), draw((20, 30), (0, 0, 30, 20), attributes=attributes))
        made = instances(generate(plain(), pool, source)).attributes
        assert made["visible"].tolist() == ["yes", "no"]
        assert made["generated"].tolist() == [2020, 2021]

    def test_a_share_that_only_the_donor_states_does_not_make_the_others_unknown(self) -> None:
        pool = make_pool((0, 0, 4, 4), attributes={"visible": np.array([0.5], np.float32)})
        source = Sample(paint(5, (40, 40)), draw((40, 40), (0, 0, 4, 4)))
        made = instances(generate(plain(min_visible=0.5), pool, source)).attributes
        assert made["visible"].tolist() == [1, 0.5]

    def test_maps_take_the_donors_values_and_metadata_stay(self) -> None:
        pool = ListPool(
            [pool.replace(maps={"depth": np.full((20, 30), 2.0)}) for pool in make_pool((0, 0, 4, 4)).samples]
        )
        source = make_empty().replace(
            maps={"depth": np.full((20, 30), 9.0)}, metadata={"weather": "fog"}, fields={"a": 1}
        )
        made = generate(plain(), pool, source)
        assert np.array_equal(made.maps["depth"] == 2.0, instances(made).masks[0])
        assert made.metadata == {"weather": "fog"}
        assert made.fields == {"a": 1}

    @pytest.mark.parametrize("maps", [{}, {"depth": np.zeros((20, 30), np.float32)}, {"depth": np.zeros((20, 30, 2))}])
    def test_a_donor_without_the_sources_maps_is_not_used(self, maps: dict[str, np.ndarray]) -> None:
        pool = ListPool([make_pool((0, 0, 4, 4)).samples[0].replace(maps=maps)])
        with pytest.raises(NothingToGenerate, match=r"^no donor$"):
            generate(plain(), pool, make_empty().replace(maps={"depth": np.zeros((20, 30))}))


class TestDecoding:
    def test_one_picture_gives_as_many_donors_as_it_has(self) -> None:
        pool = ListPool([make_picture(at, num_objects=12, kind="separate", seed=2) for at in range(3)])
        generate(plain(num_range=(3, 3)), pool, make_empty())
        assert len(pool.decoded) == 1
        assert pool.labels_read == 0

    def test_only_holders_of_the_class_are_decoded_and_labels_are_read_once(self) -> None:
        pictures = [Sample(paint(at, (20, 30)), draw((20, 30), (0, 0, 4, 4), class_ids=[at])) for at in range(5)]
        pool = ListPool(pictures)
        bound = plain().bind(pool, classes=None)
        for seed in range(5):
            bound.aim(3).generate(make_empty(), rng=make_rng(seed, "", 0, 0))
        assert set(pool.decoded) == {3}
        assert pool.labels_read == 5

    def test_a_class_that_nobody_holds_decodes_nothing(self) -> None:
        pool = make_pool((0, 0, 4, 4))
        with pytest.raises(NothingToGenerate, match=r"^no donor$"):
            plain().bind(pool, classes=None).aim(9).generate(make_empty(), rng=make_rng(0, "", 0, 0))
        assert pool.decoded == []

    def test_the_one_donor_among_many_empty_pictures_is_found_each_time(self) -> None:
        pictures = [make_empty(number=at % 5) for at in range(300)]
        pictures[123] = make_pool((0, 0, 4, 4)).samples[0]
        pool = ListPool(pictures)
        bound = plain().bind(pool, classes=None)
        for seed in range(20):
            made = bound.generate(make_empty(), rng=make_rng(seed, "", 0, 0))
            assert made.origin is not None
            assert made.origin.drawn == ("123.png#0",)
        empty = [at for at in pool.decoded if at != 123]
        assert len(empty) == len(set(empty)), "A picture that is known to be empty was decoded again."

    def test_what_is_remembered_of_the_pool_does_not_change_the_draws(self) -> None:
        pictures = [make_empty(number=at % 5) for at in range(12)]
        pictures[4] = make_pool((0, 0, 4, 4), (8, 8, 12, 14)).samples[0]
        used = plain().bind(ListPool(pictures), classes=None)
        for seed in range(30):
            fresh = plain().bind(ListPool(pictures), classes=None)
            first, second = (g.generate(make_empty(), rng=make_rng(seed, "", 0, 0)) for g in (used, fresh))
            assert np.array_equal(first.image, second.image)

    @pytest.mark.parametrize("pictures", [[], [Sample(paint(0, (4, 4)))], [make_empty()]])
    def test_a_pool_without_objects_gives_nothing(self, pictures: list[Sample]) -> None:
        with pytest.raises(NothingToGenerate, match=r"^no donor$"):
            generate(plain(), ListPool(pictures), make_empty())

    def test_pickled_it_forgets_what_it_remembered(self) -> None:
        pool = make_pool((0, 0, 4, 4))
        bound = plain().bind(pool, classes=None).aim(1)
        bound.generate(make_empty(), rng=make_rng(0, "", 0, 0))
        copied = pickle.loads(pickle.dumps(bound))
        assert copied._donors._holders == {}
        assert copied.fingerprint == bound.fingerprint


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"num_range": (0, 3)}, ValueError, "num_range must be at least 1, got num_range=0."),
            ({"num_range": (3, 1)}, ValueError, "num_range must have low <= high, got num_range=(3, 1). Exchange the two numbers."),
            ({"num_range": (1.0, 3)}, TypeError, "num_range must be an integer, got num_range=1.0."),
            ({"num_range": 3}, TypeError, "num_range must be a pair (low, high), got num_range=3."),
            ({"scale_range": (0, 1)}, ValueError, "scale_range must be at least 0.01, got scale_range=0."),
            ({"scale_range": (1, 11)}, ValueError, "scale_range must be at most 10, got scale_range=11."),
            ({"flip": 1}, TypeError, "flip must be a bool, got flip=1."),
            ({"min_visible": 1.5}, ValueError, "min_visible must be at most 1, got min_visible=1.5."),
            ({"max_tries": 0}, ValueError, "max_tries must be at least 1, got max_tries=0."),
            (
                {"classes": "fig"},
                TypeError,
                "classes must be a list of class names or ids, got classes='fig'. Write [...] around a single one.",
            ),
            (
                {"classes": []},
                ValueError,
                "classes must name at least one class, got classes=[]. Leave it out to paste objects of all classes.",
            ),
            ({"classes": [1.5]}, TypeError, "classes[0] must be an integer, got classes[0]=1.5."),
        ],
    )  # fmt: skip
    def test_wrong_arguments(self, options: Any, kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            CopyPaste(**options)

    def test_an_unknown_class_name(self) -> None:
        message = "classes must be names of the dataset's classes, got classes='figg'. Did you mean 'fig'? Allowed: date, fig."
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            CopyPaste(classes=["figg"]).bind(make_pool((0, 0, 4, 4)), classes={"date": 1, "fig": 2})

    def test_a_class_name_without_a_table(self) -> None:
        message = (
            "classes must be ids where the dataset has no table of class names, got classes='fig'. "
            "Give the numbers that stand in the labels."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            CopyPaste(classes=["fig"]).bind(make_pool((0, 0, 4, 4)), classes=None)

    @pytest.mark.parametrize("first", ["bind", "aim"])
    def test_a_class_that_is_left_out(self, first: str) -> None:
        message = "class_id must be among classes=[2], got class_id=1. Add it to classes=, or leave it out."
        table, pool = {"date": 1, "fig": 2}, make_pool((0, 0, 4, 4))
        generator = CopyPaste(classes=["fig"])
        generator = generator.bind(pool, classes=table) if first == "bind" else generator.aim(1)
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            generator.aim(1) if first == "bind" else generator.bind(pool, classes=table)

    def test_donors_of_another_kind(self) -> None:
        message = (
            "donors of CopyPaste must have Instances or a SemanticMask, got ClassLabel in '0.png'. "
            "Give it cut-outs (cutouts=), or a pool of instance segmentation (pool=)."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            generate(plain(), ListPool([Sample(paint(0, (4, 4)), ClassLabel(1))]), make_empty())

    def test_classification_without_cut_outs(self) -> None:
        message = (
            "CopyPaste needs cut-outs for classification, got a source with a ClassLabel: nothing says which pixels of "
            "an image are its object. Give cutouts= (one folder per class), or use a generator that pastes nothing, "
            "such as ColorTransfer."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            generate(plain(), make_pool((0, 0, 4, 4)), make_classified(1))

    def test_a_source_without_a_target(self) -> None:
        message = (
            "CopyPaste keeps Instances true, got a source without a target. Read images that are known to show no "
            "object with BackgroundsDataset (format: backgrounds), which says so and names the classes, or use a "
            "generator that needs no label, such as ColorTransfer."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            generate(plain(), make_pool((0, 0, 4, 4)), make_empty().replace(target=None))

    def test_generating_before_binding(self) -> None:
        message = (
            "pool must be bound before generate, got pool=None. Pass CopyPaste to GeneratedDataset, or call bind first."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            CopyPaste().generate(make_empty(), rng=make_rng(0, "", 0, 0))


def test_bound_names_and_ids_have_one_fingerprint() -> None:
    pool, table = make_pool((0, 0, 4, 4)), {"date": 1, "fig": 2}
    by_name = CopyPaste(classes=["fig", "date"]).bind(pool, classes=table)
    by_id = CopyPaste(classes=[1, 2]).bind(pool, classes=table)
    assert by_name.fingerprint == by_id.fingerprint
    assert repr(CopyPaste()) == "CopyPaste()"
    assert repr(CopyPaste(flip=False, classes=[2])) == "CopyPaste(flip=False, classes=[2])"
