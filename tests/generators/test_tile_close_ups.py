"""Close-ups of objects: pictures in which interpolation keeps the place say where everything must lie."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthloader.generators.tile import Tile
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import Instances, SemanticMask
from tests.contracts.generator_contract import generate
from tests.generators.cut_contract import check_rest, paint_places
from tests.generators.pictures import make_picture, tight_box

PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def paint_ramp(size_hw: tuple[int, int]) -> np.ndarray:
    """A picture of at most 250 px a side in which interpolation keeps the place: column and row as brightness."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.ascontiguousarray(np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8))


def read_window(made: Sample) -> tuple[float, float, float, float]:
    """Left, top, columns and rows of the source per column and row of a tile of `paint_ramp`, by a line through all."""
    found = []
    for channel, length in enumerate(made.size_hw[::-1]):
        ramp = made.image[..., channel].astype(float).mean(axis=channel)
        inner = slice(1, -1) if length > 4 else slice(None)
        step, start = np.polyfit(np.arange(length)[inner] + 0.5, ramp[inner] + 0.5, 1)
        found.append((start, step))
    return found[0][0], found[1][0], found[0][1], found[1][1]


class TestCloseUps:
    @settings(PATIENT)
    @given(
        seed=st.integers(0, 2**20),
        size_hw=st.tuples(st.integers(60, 240), st.integers(60, 240)),
        tile_hw=st.tuples(st.integers(40, 100), st.integers(40, 100)),
        masks=st.booleans(),
        share=st.sampled_from([0.3, 0.6, 1.0]),
    )
    def test_labels_lie_where_the_pixels_say(
        self, seed: int, size_hw: tuple[int, int], tile_hw: tuple[int, int], masks: bool, share: float
    ) -> None:
        source = make_picture(0, seed=seed, size_hw=size_hw, num_objects=4, num_keypoints=2, with_maps=True)
        source = source.replace(image=paint_ramp(size_hw))
        before: Any = source.target
        if not masks:
            before = before.replace(masks=None)
            source = source.replace(target=before)
        tile = Tile(
            size_hw=tile_hw, centred=True, object_range=(share, share), max_zoom=4, min_visible=0, drop="instances"
        )
        made = generate(tile, source, seed)
        if made is None:
            return
        after: Any = made.target
        left, top, across, down = read_window(made)
        assert made.size_hw == (min(tile_hw[0], size_hw[0]), min(tile_hw[1], size_hw[1]))
        rows = {int(row): at for at, row in enumerate(before.attributes["row"])}
        near = 1.5 + max(across, down)
        for at in range(len(after)):
            row = rows[int(after.attributes["row"][at])]
            assert after.class_ids[at] == before.class_ids[row]
            x1, y1, x2, y2 = after.boxes[at].tolist()
            mapped = np.array([x1 * across + left, y1 * down + top, x2 * across + left, y2 * down + top])
            edges = [left, top, left + across * made.size_hw[1], top + down * made.size_hw[0]]
            inside = np.clip(before.boxes[row], [*edges[:2]] * 2, [*edges[2:]] * 2)
            if masks and before.masks[row].any():
                assert after.boxes[at].tolist() == tight_box(after.masks[at])
                assert (mapped[:2] > inside[:2] - near).all()
                assert (mapped[2:] < inside[2:] + near).all()
                ys, xs = np.nonzero(after.masks[at])
                source_x = np.clip(np.rint((xs + 0.5) * across + left - 0.5), 0, size_hw[1] - 1).astype(int)
                source_y = np.clip(np.rint((ys + 0.5) * down + top - 0.5), 0, size_hw[0] - 1).astype(int)
                around = np.zeros(len(xs), bool)
                reach = int(np.ceil(max(across, down)))
                for dy, dx in itertools.product(range(-reach, reach + 1), repeat=2):
                    around |= before.masks[row][
                        np.clip(source_y + dy, 0, size_hw[0] - 1), np.clip(source_x + dx, 0, size_hw[1] - 1)
                    ]
                assert around.all(), "A pixel of the mask is not the object's."
            else:
                np.testing.assert_allclose(mapped, inside, atol=near)
            for point, old in zip(after.keypoints[at], before.keypoints[row], strict=True):
                if point[2]:
                    assert point[2] == old[2]
                    assert abs(point[0] * across + left - old[0]) < near
                    assert abs(point[1] * down + top - old[1]) < near
        depth = made.maps["depth"]
        assert np.isin(depth, source.maps["depth"]).all()

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
    def test_the_object_takes_up_its_share_and_lies_in_the_middle(self, share: float) -> None:
        one = Instances(np.array([1]), np.array([[100, 110, 140, 130]], np.float32))
        source = Sample(paint_ramp((240, 240)), one)
        made: Any = Tile(size_hw=(100, 120), centred=True, object_range=(share, share), max_zoom=10).generate(
            source, rng=make_rng(0, "", 0, 0)
        )
        x1, y1, x2, y2 = made.target.boxes[0].tolist()
        assert abs((x2 - x1) - share * 100) < 3
        assert abs((x1 + x2) / 2 - 60) < 2
        assert abs((y1 + y2) / 2 - 50) < 2

    def test_small_objects_are_not_magnified_beyond_the_bound(self) -> None:
        one = Instances(np.array([1]), np.array([[100, 110, 104, 114]], np.float32))
        made: Any = Tile(size_hw=100, centred=True, max_zoom=2).generate(
            Sample(paint_ramp((240, 240)), one), rng=make_rng(0, "", 0, 0)
        )
        x1, _, x2, _ = made.target.boxes[0].tolist()
        assert x2 - x1 == 8

    def test_a_large_object_is_shown_whole_in_a_small_tile(self) -> None:
        """What random tiles cut to pieces: the cure for detections in fragments."""
        one = Instances(np.array([1]), np.array([[10, 20, 230, 220]], np.float32))
        made: Any = Tile(size_hw=64, centred=True, object_range=(0.5, 0.9)).generate(
            Sample(paint_ramp((250, 240)), one), rng=make_rng(0, "", 0, 0)
        )
        assert made.size_hw == (64, 64)
        assert made.target.attributes["visible"].tolist() == [1.0]

    def test_a_source_of_the_tile_s_size_is_looked_at_more_closely(self) -> None:
        one = Instances(np.array([1]), np.array([[10, 20, 30, 40]], np.float32))
        source = Sample(paint_ramp((100, 100)), one)
        made = Tile(size_hw=100, centred=True).generate(source, rng=make_rng(0, "", 0, 0))
        assert made.size_hw == (100, 100)
        assert not np.array_equal(made.image, source.image)
        whole = Instances(np.array([1]), np.array([[0, 0, 100, 100]], np.float32))
        assert generate(Tile(size_hw=100, centred=True), source.replace(target=whole), 0) is None

    def test_what_shrinking_makes_too_small_is_tried_elsewhere(self) -> None:
        large = [20, 20, 220, 220]
        both = Instances(np.array([1, 2]), np.array([large, [100, 100, 110, 110]], np.float32))
        source = Sample(paint_ramp((240, 240)), both)
        tile = {"size_hw": 50, "centred": True, "classes": [1]}
        assert generate(Tile(**tile), source, 0) is None  # the small one would be 2 pixels wide
        made: Any = generate(Tile(**tile, drop="instances"), source, 0)
        assert made.target.class_ids.tolist() == [1]


class TestSemanticMasks:
    @settings(PATIENT)
    @given(
        seed=st.integers(0, 999),
        size_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
        tile_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
        keep_empty=st.booleans(),
        wanted=st.sampled_from([None, [3]]),
    )
    def test_random_tiles(
        self,
        seed: int,
        size_hw: tuple[int, int],
        tile_hw: tuple[int, int],
        keep_empty: bool,
        wanted: list[int] | None,
    ) -> None:
        mask = np.kron(np.random.default_rng(seed).choice([0, 0, 0, 3, 4, 9], (40, 40)), np.ones((8, 8), int))
        mask = np.ascontiguousarray(mask[: size_hw[0], : size_hw[1]].astype(np.int32))
        source = Sample(paint_places(size_hw), SemanticMask(mask, 9))
        made = generate(Tile(size_hw=tile_hw, keep_empty=keep_empty, classes=wanted), source, seed)
        if made is not None:
            check_rest(source, made)
            target: Any = made.target
            assert keep_empty or np.isin(target.mask, [3, 4]).any()
            assert wanted is None or (target.mask == 3).any()

    @pytest.mark.parametrize("ignore_index", [255, -1, 10**9])
    def test_close_ups_are_made_of_regions(self, ignore_index: int) -> None:
        mask = np.zeros((200, 200), np.int32)
        mask[20:40, 30:60], mask[150:152, 150:152], mask[:10] = 5, 6, ignore_index
        source = Sample(paint_ramp((200, 200)), SemanticMask(mask, ignore_index))
        tile = Tile(size_hw=100, centred=True, object_range=(0.6, 0.6))
        for seed in range(10):
            made: Any = generate(tile, source, seed)
            assert 60 * 36 < (made.target.mask == 5).sum() < 60 * 44  # never the speck of class 6
            left, top, across, down = read_window(made)
            ys, xs = np.nonzero(made.target.mask == 5)
            assert abs(xs.min() * across + left - 30) < 1
            assert abs(ys.min() * down + top - 20) < 1
        assert generate(tile.aim(6), source, 0) is None
        assert generate(Tile(size_hw=100, centred=True, min_side=2, min_area=4).aim(6), source, 0) is not None
