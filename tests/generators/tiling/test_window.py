"""A window of a picture, and a picture at another size: compared with the plain way, row by row and pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthloader.generators.tiling.window import WindowShares, cut_window, scale_to
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.contracts.generator_contract import describe
from tests.generators.cut_contract import check_instances, check_rest, describe_cut, paint_places
from tests.generators.pictures import KINDS, REAL_DATA, make_picture, tight_box

PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def windows(draw: st.DrawFn, max_side: int = 60) -> tuple[Sample, dict[str, Any]]:
    """A picture with labels of any kind, and a window in it."""
    size_hw = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    most = min(100, 3_000_000 // (size_hw[0] * size_hw[1]))
    sample = make_picture(
        0,
        seed=draw(st.integers(0, 2**20)),
        size_hw=size_hw,
        num_objects=draw(st.integers(0, most)),
        kind=draw(st.sampled_from(KINDS)),
        num_keypoints=draw(st.sampled_from([None, 0, 3])),
        with_maps=draw(st.booleans()),
        sloppy_boxes=draw(st.booleans()),
        share_crowd=0.2,
    ).replace(image=paint_places(size_hw))
    target: Any = sample.target
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if draw(st.booleans()):
        target = target.replace(boxes=make_boxes(rng, len(target), size_hw), masks=None)
    if draw(st.booleans()):
        shares = rng.uniform(0.1, 1, len(target)).astype(np.float32)
        target = target.replace(attributes={**target.attributes, "visible": shares})
    width, height = draw(st.integers(1, size_hw[1])), draw(st.integers(1, size_hw[0]))
    left, top = draw(st.integers(0, size_hw[1] - width)), draw(st.integers(0, size_hw[0] - height))
    return sample.replace(target=target), {"left": left, "top": top, "width": width, "height": height}


def make_boxes(rng: np.random.Generator, count: int, size_hw: tuple[int, int]) -> np.ndarray:
    """(N, 4) float32 boxes between pixels, some of no width or height."""
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * [size_hw[1], size_hw[0]]
    corners[rng.random(count) < 0.2, 1, 0] = 0
    corners[:, 1] = np.maximum(corners[:, 0], corners[:, 1])
    return np.ascontiguousarray(
        np.minimum(corners.reshape(-1, 4).astype(np.float32), np.array([*size_hw[::-1]] * 2, np.float32))
    )


class TestCutWindow:
    @settings(PATIENT)
    @given(case=windows())
    def test_labels_say_of_the_window_what_they_said_of_the_picture(self, case: tuple[Sample, dict[str, Any]]) -> None:
        source, window = case
        before = describe(source)
        made = cut_window(source, **window)
        assert describe(source) == before
        assert not np.shares_memory(made.image, source.image)
        assert made.size_hw == (window["height"], window["width"])
        check_instances(source, made, [wanted for wanted in describe_cut(source, made) if wanted["share"] > 0])
        check_rest(source, made)

    @pytest.mark.slow
    @settings(PATIENT, max_examples=150)
    @given(case=windows(max_side=2000))
    def test_large_pictures(self, case: tuple[Sample, dict[str, Any]]) -> None:
        source, window = case
        made = cut_window(source, **window)
        check_instances(source, made, [wanted for wanted in describe_cut(source, made) if wanted["share"] > 0])
        check_rest(source, made)

    @settings(PATIENT)
    @given(case=windows())
    def test_shares_are_those_of_the_plain_count(self, case: tuple[Sample, dict[str, Any]]) -> None:
        source, window = case
        target: Any = source.target
        whole: Any = {"left": 0, "top": 0, "width": source.size_hw[1], "height": source.size_hw[0]}
        counted = WindowShares(target)
        for _ in range(2):  # what is remembered of the first window must not matter
            expected = [wanted["share"] for wanted in describe_cut(source, cut_window(source, **window))]
            np.testing.assert_allclose(counted.find(**window), expected, atol=1e-6)
            window = whole
        assert describe(cut_window(source, **window, shares=counted.find(**window))) == describe(
            cut_window(source, **window)
        )

    def test_the_whole_picture_stays_what_it_was(self) -> None:
        source = make_picture(0, num_objects=6, num_keypoints=2, with_maps=True, share_crowd=0)
        made = cut_window(source, left=0, top=0, width=56, height=40)
        before, after = source.target, made.target
        assert isinstance(before, Instances)
        assert isinstance(after, Instances)
        kept = np.flatnonzero(before.masks.any(axis=(1, 2)))  # type: ignore[union-attr]
        assert np.array_equal(after.boxes, before.boxes[kept])
        assert after.attributes["visible"].tolist() == [1.0] * len(kept)

    def test_a_mask_without_pixels_goes_by_its_box(self) -> None:
        one = Instances(np.array([1]), np.array([[2, 2, 6, 6]], np.float32), np.zeros((1, 8, 8), np.bool_))
        made: Any = cut_window(Sample(paint_places((8, 8)), one), left=4, top=0, width=4, height=8)
        assert made.target.boxes.tolist() == [[0, 2, 2, 6]]
        assert made.target.attributes["visible"].tolist() == [0.5]
        assert not made.target.masks.any()

    def test_a_column_named_visible_of_another_kind_is_left_alone(self) -> None:
        one = Instances(np.array([1]), np.array([[2, 2, 6, 6]], np.float32), attributes={"visible": np.array(["yes"])})
        made: Any = cut_window(Sample(paint_places((8, 8)), one), left=4, top=0, width=4, height=8)
        assert made.target.attributes["visible"].tolist() == ["yes"]

    def test_semantic_masks_are_cut_and_classes_of_pictures_stay(self) -> None:
        mask = np.arange(48, dtype=np.int32).reshape(6, 8)
        made = cut_window(Sample(paint_places((6, 8)), SemanticMask(mask, 7)), left=3, top=2, width=4, height=3)
        check_rest(Sample(paint_places((6, 8)), SemanticMask(mask, 7)), made)
        label = cut_window(Sample(paint_places((6, 8)), ClassLabel(3)), 3, 2, 4, 3).target
        assert isinstance(label, ClassLabel)
        assert label.class_id == 3

    def test_an_edited_region_does_not_survive(self) -> None:
        source = Sample(paint_places((6, 8)))
        edited = source.edit(image=source.image, target=None, edited=np.ones((6, 8), np.bool_), drawn=("a.png",))
        made = cut_window(edited, left=0, top=0, width=4, height=4)
        assert made.origin is not None
        assert made.origin.edited is None
        assert made.origin.drawn == ("a.png",)

    @pytest.mark.parametrize(
        ("window", "message"),
        [
            (
                (5, 0, 4, 2),
                "width must end inside the picture of height 6 and width 8, got width=4. The window begins at 5.",
            ),
            (
                (0, 5, 4, 2),
                "height must end inside the picture of height 6 and width 8, got height=2. The window begins at 5.",
            ),
            ((-1, 0, 4, 2), "left must be at least 0, got left=-1."),
            ((0, -1, 4, 2), "top must be at least 0, got top=-1."),
            ((0, 0, 0, 2), "width must be at least 1, got width=0."),
        ],
    )
    def test_windows_beyond_the_picture_are_refused(self, window: tuple[int, int, int, int], message: str) -> None:
        with pytest.raises(ValueError) as caught:
            cut_window(Sample(paint_places((6, 8))), *window)
        assert str(caught.value) == message

    @pytest.mark.parametrize("data", REAL_DATA)
    def test_real_pictures(self, data: str, shared_data: Path) -> None:
        for sample in REAL_DATA[data](shared_data / data, 2).samples:
            height, width = sample.size_hw
            source = sample.replace(image=paint_places((height, width)))
            made = cut_window(source, width // 3, height // 3, width // 2, height // 2)
            check_instances(source, made, [wanted for wanted in describe_cut(source, made) if wanted["share"] > 0])


def make_weights(old: int, new: int, *, averages: bool) -> np.ndarray:
    """(new, old): how much each old pixel counts in each new one, along one axis, as OpenCV documents it."""
    weights = np.zeros((new, old))
    for at in range(new):
        if averages:
            low, high = at * old / new, (at + 1) * old / new
            for place in range(old):
                weights[at, place] = max(0.0, min(high, place + 1) - max(low, place)) * new / old
        else:
            centre = min(max((at + 0.5) * old / new - 0.5, 0), old - 1)
            place = min(int(centre), max(old - 2, 0))
            weights[at, place] += 1 - (centre - place)
            weights[at, min(place + 1, old - 1)] += centre - place
    return weights


class TestScaleTo:
    @settings(PATIENT)
    @given(case=windows(max_side=40), new_height=st.integers(1, 80), new_width=st.integers(1, 80))
    def test_labels_follow(self, case: tuple[Sample, Any], new_height: int, new_width: int) -> None:
        source, _ = case
        before = describe(source)
        made = scale_to(source, (new_height, new_width))
        assert describe(source) == before
        old, new = source.target, made.target
        assert isinstance(old, Instances)
        assert isinstance(new, Instances)
        assert made.size_hw == (new_height, new_width)
        assert new.class_ids is old.class_ids
        height, width = source.size_hw
        factors = [new_width / width, new_height / height]
        if old.keypoints is not None and new.keypoints is not None:
            np.testing.assert_allclose(new.keypoints[..., :2], old.keypoints[..., :2] * factors, rtol=1e-5, atol=1e-4)
            assert np.array_equal(new.keypoints[..., 2], old.keypoints[..., 2])
        for row in range(len(old)):
            if old.masks is not None and new.masks is not None and old.masks[row].any():
                assert new.masks[row].any()
                if (new_height, new_width) != (height, width):
                    assert new.boxes[row].tolist() == tight_box(new.masks[row])
            else:
                np.testing.assert_allclose(new.boxes[row], old.boxes[row] * (factors * 2), rtol=1e-5, atol=1e-4)
        for name, values in source.maps.items():
            rows = [min(int((at + 0.5) * height / new_height), height - 1) for at in range(new_height)]
            columns = [min(int((at + 0.5) * width / new_width), width - 1) for at in range(new_width)]
            assert np.array_equal(made.maps[name], values[np.ix_(rows, columns)])

    @settings(PATIENT)
    @given(
        seed=st.integers(0, 999),
        size_hw=st.tuples(st.integers(2, 30), st.integers(2, 30)),
        new_hw=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    )
    def test_a_mask_takes_the_pixels_of_which_it_has_more_than_half(
        self, seed: int, size_hw: tuple[int, int], new_hw: tuple[int, int]
    ) -> None:
        source = make_picture(0, seed=seed, size_hw=size_hw, num_objects=3)
        old, new = source.target, scale_to(source, new_hw).target
        assert isinstance(old, Instances)
        assert isinstance(new, Instances)
        assert old.masks is not None
        assert new.masks is not None
        averages = new_hw[0] * new_hw[1] < 0.25 * size_hw[0] * size_hw[1]
        if averages and (new_hw[0] > size_hw[0] or new_hw[1] > size_hw[1]):
            return  # OpenCV averages only where both sides shrink
        if size_hw == new_hw:
            return
        down, right = (make_weights(a, b, averages=averages) for a, b in zip(size_hw, new_hw, strict=True))
        soft = down @ old.masks @ right.T
        is_seen = (soft > 0.52).any(axis=(1, 2))
        taken = new.masks[~is_seen].any(axis=0)  # by those that would vanish
        sure = (np.abs(soft - 0.5) > 0.02) & ~taken & is_seen[:, None, None]
        assert np.array_equal(new.masks[sure], soft[sure] > 0.5)

    @settings(PATIENT)
    @given(
        seed=st.integers(0, 999),
        size_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
        new_hw=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    )
    def test_masks_that_share_no_pixel_share_none_afterwards(
        self, seed: int, size_hw: tuple[int, int], new_hw: tuple[int, int]
    ) -> None:
        numbers = np.random.default_rng(seed).integers(0, 4, size_hw)
        masks = numbers[None] == np.arange(4)[:, None, None]
        boxes = np.array([tight_box(mask) for mask in masks], np.float32)
        target = scale_to(Sample(paint_places(size_hw), Instances(np.arange(4), boxes, masks)), new_hw).target
        assert isinstance(target, Instances)
        assert target.masks is not None
        was_empty = ~masks.any(axis=(1, 2))
        assert np.array_equal(~target.masks.any(axis=(1, 2)), was_empty)
        if new_hw[0] * new_hw[1] > 12:  # else there may be fewer pixels than masks that want one
            large = target.masks.sum(axis=(1, 2)) > 1
            assert (target.masks[large].sum(axis=0) <= 1).all()
        if new_hw[0] >= size_hw[0] and new_hw[1] >= size_hw[1]:
            assert (target.masks.sum(axis=0) <= 1).all()

    def test_classes_and_depths_are_never_mixed(self) -> None:
        mask = np.array([[1, 200]], np.int32)
        source = Sample(paint_places((1, 2)), SemanticMask(mask), maps={"depth": np.array([[1.5, 90.0]])})
        made = scale_to(source, (3, 7))
        assert isinstance(made.target, SemanticMask)
        assert np.unique(made.target.mask).tolist() == [1, 200]
        assert np.unique(made.maps["depth"]).tolist() == [1.5, 90.0]

    def test_a_thin_mask_keeps_a_pixel_where_it_is(self) -> None:
        masks = np.zeros((1, 400, 400), np.bool_)
        masks[0, 380, 20] = True
        one = Instances(np.array([1]), np.array([[20, 380, 21, 381]], np.float32), masks)
        made: Any = scale_to(Sample(paint_places((400, 400)), one), (10, 10)).target
        assert np.argwhere(made.masks[0]).tolist() == [[9, 0]]
        assert made.boxes.tolist() == [[0, 9, 1, 10]]

    def test_the_same_size_is_the_same_sample(self) -> None:
        source = make_picture(0)
        assert scale_to(source, source.size_hw) is source
