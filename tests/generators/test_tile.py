"""Tiles: every label is recomputed from the pixels, which name their places in the source."""

from __future__ import annotations

import itertools
import pickle
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators.composing.output_size import find_output_size
from synthloader.generators.tile import Tile
from synthloader.generators.tiling.window import cut_window
from synthloader.protocols import Aimable, Generator, Resizing
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import Instances, SemanticMask
from tests.contracts.generator_contract import Case, check_generator, check_sample, describe, generate
from tests.generators.cut_contract import (
    check_instances,
    check_rest,
    describe_cut,
    find_corner,
    find_shown,
    paint_places,
)
from tests.generators.pictures import (
    KINDS,
    REAL_DATA,
    ListPool,
    make_classified,
    make_grey,
    make_picture,
    read_rgb,
    tight_box,
)
from tests.guards import GlobalRandomState

PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

CASE = Case(
    lambda: Tile(size_hw=(24, 32)),
    tiles=True,
    changes=[
        Tile,
        lambda: Tile(size_hw=(32, 24)),
        lambda: Tile(size_hw=(24, 32), centred=True),
        lambda: Tile(size_hw=(24, 32), object_range=(0.4, 0.9)),
        lambda: Tile(size_hw=(24, 32), object_range=(0.3, 0.8)),
        lambda: Tile(size_hw=(24, 32), max_zoom=3),
        lambda: Tile(size_hw=(24, 32), classes=[1]),
        lambda: Tile(size_hw=(24, 32), classes=["date"]),
        lambda: Tile(size_hw=(24, 32), min_visible=0.3),
        lambda: Tile(size_hw=(24, 32), min_side=6),
        lambda: Tile(size_hw=(24, 32), min_area=11),
        lambda: Tile(size_hw=(24, 32), drop="instances"),
        lambda: Tile(size_hw=(24, 32), keep_empty=True),
        lambda: Tile(size_hw=(24, 32), max_tries=21),
        lambda: Tile(size_hw=(24, 32)).aim(1),
        lambda: Tile(size_hw=(24, 32)).aim(2),
        lambda: Tile(size_hw=(24, 32)).keep_single_polygons(),
    ],
)


@st.composite
def pictures(draw: st.DrawFn, max_side: int = 70) -> tuple[Sample, dict[str, Any], int]:
    """A picture whose pixels name their places, options of a tile, and a seed."""
    size_hw = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    most = min(100, 3_000_000 // (size_hw[0] * size_hw[1]))
    source = make_picture(
        0,
        seed=draw(st.integers(0, 2**20)),
        size_hw=size_hw,
        num_objects=draw(st.one_of(st.integers(0, min(6, most)), st.integers(0, most))),
        kind=draw(st.sampled_from(KINDS)),
        num_keypoints=draw(st.sampled_from([None, 3])),
        with_maps=draw(st.booleans()),
        sloppy_boxes=draw(st.booleans()),
        share_crowd=0.2,
    ).replace(image=paint_places(size_hw))
    if draw(st.booleans()):
        target: Any = source.target
        source = source.replace(target=target.replace(masks=None))
    options = {
        "size_hw": (draw(st.integers(1, max_side)), draw(st.integers(1, max_side))),
        "min_visible": draw(st.sampled_from([0.0, 0.2, 0.6, 1.0])),
        "min_side": draw(st.sampled_from([0, 3, 8])),
        "min_area": draw(st.sampled_from([0, 10, 60])),
        "drop": draw(st.sampled_from(["tiles", "instances"])),
        "keep_empty": draw(st.booleans()),
        "classes": draw(st.sampled_from([None, None, [1, 2]])),
    }
    return source, options, draw(st.integers(0, 99))


def find_bad(source: Sample, made: Sample, options: dict[str, Any]) -> list[int]:
    """Rows of the source that the tile cuts below what it must show of them, the plain way."""
    before: Any = source.target
    bad = []
    for wanted in describe_cut(source, made):
        if before.crowd[wanted["row"]] or not 0 < wanted["share"] < 1:
            continue
        x1, y1, x2, y2 = wanted["box"]
        area = (x2 - x1) * (y2 - y1)
        if wanted["mask"] is not None and wanted["mask"].any():
            area = wanted["mask"].sum()
        small = min(x2 - x1, y2 - y1) < options["min_side"] or area < options["min_area"]
        if small or wanted["visible"] < options["min_visible"] - 1e-5:
            bad.append(wanted["row"])
    return bad


def check_random_tile(source: Sample, made: Sample, options: dict[str, Any]) -> None:
    """Everything about a tile that was not scaled."""
    assert made.size_hw == Tile(size_hw=options["size_hw"]).find_size_hw(source.size_hw)
    check_rest(source, made)
    before: Any = source.target
    bad = find_bad(source, made, options)
    assert options["drop"] == "instances" or not bad, "Something stays visible without its label, or hardly visible."
    expected = [wanted for wanted in describe_cut(source, made) if wanted["share"] > 0 and wanted["row"] not in bad]
    check_instances(source, made, expected)
    singles = [wanted["row"] for wanted in expected if not before.crowd[wanted["row"]]]
    assert options["keep_empty"] or singles, "A tile without objects."
    if options.get("classes") is not None:
        assert {int(before.class_ids[row]) for row in singles} & set(options["classes"])


class TestContract:
    def test_protocols_fingerprints_and_pickling(self) -> None:
        check_generator(CASE)
        tile = Tile()
        assert isinstance(tile, Generator)
        assert isinstance(tile, Aimable)
        assert isinstance(tile, Resizing)
        assert tile.keeps == {Instances, SemanticMask}
        assert repr(Tile(size_hw=9)).startswith("Tile(aim=null, centred=false, classes=null, drop=")

    @settings(PATIENT)
    @given(case=pictures(), centred=st.booleans())
    def test_same_rng_same_bits_and_the_source_stays(
        self, case: tuple[Sample, dict[str, Any], int], centred: bool
    ) -> None:
        source, options, seed = case
        tile = Tile(**options, centred=centred)
        before, states = describe(source), GlobalRandomState.read()
        made = generate(tile, source, seed)
        assert not states.differences(GlobalRandomState.read())
        assert describe(source) == before
        bits = describe(made)
        for again in (tile, pickle.loads(pickle.dumps(tile)), Tile(**options, centred=centred)):
            assert describe(generate(again, source, seed)) == bits
        if made is not None:
            assert made.size_hw == find_output_size(tile, source.size_hw)
            assert not np.shares_memory(made.image, source.image)

    @settings(PATIENT)
    @given(
        case=pictures(), seed=st.integers(0, 99), centred=st.booleans(), drop=st.sampled_from(["tiles", "instances"])
    )
    def test_the_contract_of_all_generators(
        self, case: tuple[Sample, dict[str, Any], int], seed: int, centred: bool, drop: str
    ) -> None:
        source = make_picture(0, seed=case[2], size_hw=case[0].size_hw, num_objects=5, num_keypoints=2, with_maps=True)
        tile = Tile(size_hw=case[1]["size_hw"], centred=centred, drop=drop)
        if centred and min(tile.find_size_hw(source.size_hw)) < 32:
            return  # the contract reads the place from a ramp of brightness, which must be long enough
        check_sample(Case(lambda: tile, tiles=True), ListPool([make_picture(1)]), source, seed)

    def test_a_class_of_the_whole_picture_is_refused(self) -> None:
        with pytest.raises(LabelContractError) as caught:
            generate(Tile(size_hw=8), make_classified(1), 0)
        assert str(caught.value) == (
            "Tile keeps Instances, SemanticMask true, got a source with a ClassLabel. Use a generator that keeps this "
            "kind of target (see its `keeps`), such as ColorTransfer."
        )


class TestRandomTiles:
    @settings(PATIENT, max_examples=150)
    @given(case=pictures())
    def test_labels_are_those_of_the_pixels(self, case: tuple[Sample, dict[str, Any], int]) -> None:
        source, options, seed = case
        made = generate(Tile(**options), source, seed)
        if made is not None:
            check_random_tile(source, made, options)

    @pytest.mark.slow
    @settings(PATIENT, max_examples=150)
    @given(case=pictures(max_side=2000))
    def test_labels_are_those_of_the_pixels_of_large_pictures(self, case: tuple[Sample, dict[str, Any], int]) -> None:
        source, options, seed = case
        made = generate(Tile(**options), source, seed)
        if made is not None:
            check_random_tile(source, made, options)

    @settings(PATIENT)
    @given(seed=st.integers(0, 999), drop=st.sampled_from(["tiles", "instances"]), masks=st.booleans())
    def test_a_tile_is_found_wherever_there_is_one_and_nowhere_else(self, seed: int, drop: str, masks: bool) -> None:
        source = make_picture(0, seed=seed, size_hw=(9, 12), num_objects=3).replace(image=paint_places((9, 12)))
        target: Any = source.target
        source = source if masks else source.replace(target=target.replace(masks=None))
        options: dict[str, Any] = {"size_hw": (6, 8), "min_visible": 0.5, "min_side": 2, "min_area": 4, "drop": drop}
        usable = set()
        for top, left in itertools.product(range(4), range(5)):
            window = cut_window(source, left, top, 8, 6)
            bad = find_bad(source, window, options)
            left_over = [
                wanted["row"]
                for wanted in describe_cut(source, window)
                if wanted["share"] > 0 and wanted["row"] not in bad and not target.crowd[wanted["row"]]
            ]
            if left_over and (drop == "instances" or not bad):
                usable.add((top, left))
        made = [generate(Tile(**options, max_tries=300), source, draw) for draw in range(3)]
        assert all((sample is not None) == bool(usable) for sample in made)
        assert {find_corner(source, sample) for sample in made if sample is not None} <= usable

    def test_every_place_is_as_likely_as_the_others(self) -> None:
        source = Sample(paint_places((6, 7)))
        corners = [
            find_corner(source, Tile(size_hw=5).generate(source, rng=make_rng(0, "", at, 0))) for at in range(600)
        ]
        counts = {corner: corners.count(corner) for corner in set(corners)}
        assert set(counts) == set(itertools.product(range(2), range(3)))
        assert all(60 < count < 140 for count in counts.values())

    def test_the_bounds_on_what_is_cut(self) -> None:
        """A square of 10 at the left border: of a tile that begins at column 8 it fills two columns, a fifth of it."""
        one = Instances(np.array([1]), np.array([[0, 0, 10, 10]], np.float32))
        source = Sample(paint_places((10, 30)), one)
        limits: dict[str, Any] = {"min_side": 0, "min_area": 0, "max_tries": 500}
        seen = {
            least: max(
                find_corner(source, Tile(size_hw=10, min_visible=least, **limits).generate(source, rng=make_rng(0, "", at, 0)))[1]
                for at in range(100)
            )
            for least in (0.2, 0.21)
        }  # fmt: skip
        assert seen == {0.2: 8, 0.21: 7}
        for name, bound, furthest in (("min_side", 3, 7), ("min_area", 40, 6)):
            tile = Tile(size_hw=10, **{**limits, "min_visible": 0.0, name: bound})
            made = [tile.generate(source, rng=make_rng(0, "", at, 0)) for at in range(100)]
            assert max(find_corner(source, sample)[1] for sample in made) == furthest

    def test_what_a_tile_holds_whole_keeps_its_label_however_small(self) -> None:
        one = Instances(np.array([1]), np.array([[5, 5, 6, 6]], np.float32))
        made: Any = Tile(size_hw=8, max_tries=500).generate(
            Sample(paint_places((9, 9)), one), rng=make_rng(0, "", 0, 0)
        )
        assert len(made.target) == 1

    def test_crowds_are_cut_and_never_dropped(self) -> None:
        crowd = Instances(
            np.array([1, 2]), np.array([[0, 0, 20, 8], [2, 2, 6, 6]], np.float32), crowd=np.array([True, False])
        )
        source = Sample(paint_places((8, 20)), crowd)
        made: Any = Tile(size_hw=8, min_visible=1.0).generate(source, rng=make_rng(0, "", 0, 0))
        assert made.target.crowd.tolist() == [True, False]
        assert made.target.boxes[0].tolist() == [0, 0, 8, 8]
        assert made.target.attributes["visible"][0] == np.float32(0.4)

    def test_a_tile_of_crowds_alone_is_empty(self) -> None:
        crowd = Instances(np.array([1]), np.array([[0, 0, 20, 8]], np.float32), crowd=np.array([True]))
        source = Sample(paint_places((8, 20)), crowd)
        assert generate(Tile(size_hw=8), source, 0) is None
        assert generate(Tile(size_hw=8, keep_empty=True), source, 0) is not None

    @pytest.mark.parametrize(
        ("options", "source", "reason"),
        [
            ({"size_hw": 40}, make_picture(0, size_hw=(40, 39)), "source not larger than the tile"),
            ({"size_hw": 20}, make_picture(0, num_objects=0), "no object"),
            ({"size_hw": 20, "classes": [77]}, make_picture(0), "no object"),
            ({"size_hw": 20, "centred": True}, Sample(paint_places((40, 40))), "no object"),
            (
                {"size_hw": 20, "min_visible": 1.0},
                Sample(paint_places((22, 22)), Instances(np.array([1]), np.array([[0, 0, 22, 22]], np.float32))),
                "no tile that shows enough of its objects",
            ),
        ],
    )
    def test_reasons(self, options: dict[str, Any], source: Sample, reason: str) -> None:
        with pytest.raises(NothingToGenerate) as caught:
            Tile(**options).generate(source, rng=make_rng(0, "", 0, 0))
        assert caught.value.reason == reason

    def test_a_source_smaller_in_one_direction_gives_a_narrower_tile(self) -> None:
        source = make_picture(0, size_hw=(30, 90), num_objects=8).replace(image=paint_places((30, 90)))
        made = Tile(size_hw=50, drop="instances").generate(source, rng=make_rng(1, "", 0, 0))
        assert made.size_hw == (30, 50)

    def test_grey_pictures_stay_grey(self) -> None:
        made = generate(Tile(size_hw=20, drop="instances"), make_grey(make_picture(0)), 0)
        assert made is not None
        assert (made.image == made.image[..., :1]).all()

    def test_a_mask_that_one_polygon_cannot_say_is_tried_elsewhere(self) -> None:
        """A horseshoe open to the right: a tile of its right half shows two arms."""
        mask = np.zeros((1, 20, 40), np.bool_)
        mask[0, 2:18, 4:36] = True
        mask[0, 6:14, 8:36] = False
        shoe = Instances(np.array([1]), np.array([[4, 2, 36, 18]], np.float32), mask)
        source = Sample(paint_places((20, 40)), shoe)
        free, bound = Tile(size_hw=20, min_visible=0), Tile(size_hw=20, min_visible=0).keep_single_polygons()
        corners = [
            {find_corner(source, tile.generate(source, rng=make_rng(0, "", at, 0)))[1] for at in range(60)}
            for tile in (free, bound)
        ]
        assert max(corners[0]) > 8
        assert max(corners[1]) < 8


class TestAim:
    @settings(PATIENT)
    @given(case=pictures(), centred=st.booleans())
    def test_an_aimed_tile_holds_the_class(self, case: tuple[Sample, dict[str, Any], int], centred: bool) -> None:
        source, options, seed = case
        options = {**options, "classes": None, "keep_empty": True}
        made = generate(Tile(**options, centred=centred).aim(2), source, seed)
        if made is not None:
            target: Any = made.target
            assert 2 in target.class_ids[~target.crowd]

    def test_a_rare_object_is_found_at_once(self) -> None:
        boxes = np.array([[900, 700, 930, 720], *([[at, 0, at + 20, 20] for at in range(0, 600, 30)])], np.float32)
        source = Sample(paint_places((1000, 1000)), Instances(np.array([5] + 20 * [1]), boxes))
        tile = Tile(size_hw=100, max_tries=20).aim(5)
        for at in range(20):
            made: Any = tile.generate(source, rng=make_rng(0, "", at, 0))
            assert 5 in made.target.class_ids

    def test_a_class_that_is_left_out_is_refused(self) -> None:
        with pytest.raises(ValueError) as caught:
            Tile(classes=[1]).aim(2)
        assert str(caught.value) == (
            "class_id must be among classes=[1], got class_id=2. Add it to classes=, or leave it out."
        )

    def test_names_are_looked_up(self) -> None:
        pool = ListPool([make_picture(0)])
        bound = Tile(size_hw=20, classes=["date", "fig"]).bind(pool, classes={"fig": 2, "date": 1})
        assert bound.fingerprint == Tile(size_hw=20, classes=[1, 2]).fingerprint
        with pytest.raises(LabelContractError) as caught:
            Tile(classes=["dat"]).bind(pool, classes={"fig": 2, "date": 1})
        assert str(caught.value) == (
            "classes must be names of the dataset's classes, got classes='dat'. Did you mean 'date'? Allowed: date, fig."
        )
        with pytest.raises(ValueError) as unbound:
            Tile(size_hw=20, classes=["date"]).generate(make_picture(0), rng=make_rng(0, "", 0, 0))
        assert str(unbound.value) == (
            "classes must be bound before generate, got classes=['date']. Pass the generator to GeneratedDataset, or call bind first."
        )


class TestBrokenTiles:
    """What would go unnoticed if the checks above looked less closely."""

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda target: target.replace(boxes=np.maximum(target.boxes - 1, 0)),
            lambda target: target.replace(masks=np.roll(target.masks, 1, axis=2)),
            lambda target: target.select(np.arange(1, len(target))),
            lambda target: target.select(np.arange(len(target)).repeat(2)),
            lambda target: target.replace(class_ids=target.class_ids + 1),
            lambda target: target.replace(
                attributes={**target.attributes, "visible": target.attributes["visible"] / 2}
            ),
            lambda target: target.replace(keypoints=target.keypoints + np.float32(1)),
        ],
    )
    def test_a_wrong_label_is_noticed(self, spoil: Callable[[Any], Any]) -> None:
        source = make_picture(3, num_objects=5, num_keypoints=2, share_crowd=0, kind="separate")
        source = source.replace(image=paint_places(source.size_hw))
        options: dict[str, Any] = {"size_hw": 30, "min_visible": 0.2, "min_side": 2, "min_area": 4, "drop": "instances"}
        made: Any = generate(Tile(**options), source, 1)
        check_random_tile(source, made, {**options, "keep_empty": False})
        with pytest.raises(AssertionError):
            check_random_tile(source, made.replace(target=spoil(made.target)), {**options, "keep_empty": False})

    def test_a_tile_that_hides_most_of_an_object_is_noticed(self) -> None:
        one = Instances(np.array([1]), np.array([[0, 0, 20, 20]], np.float32))
        source = Sample(paint_places((20, 40)), one)
        assert find_shown(source, cut_window(source, 18, 0, 20, 20), min_visible=0.2) == [0]


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"size_hw": 0}, ValueError, "size_hw must be at least 1, got size_hw=0."),
            ({"size_hw": (5, 0)}, ValueError, "size_hw[1] must be at least 1, got size_hw[1]=0."),
            (
                {"size_hw": (5,)},
                TypeError,
                "size_hw must be a number or a pair (height, width), got size_hw=(5,).",
            ),
            ({"centred": 1}, TypeError, "centred must be a bool, got centred=1."),
            (
                {"object_range": (0, 1)},
                ValueError,
                "object_range must begin above 0, got object_range=(0, 1). An object of no size cannot be seen.",
            ),
            ({"object_range": (0.5, 3)}, ValueError, "object_range must be at most 2, got object_range=3."),
            ({"max_zoom": 0}, ValueError, "max_zoom must be at least 0.1, got max_zoom=0."),
            ({"min_visible": 2}, ValueError, "min_visible must be at most 1, got min_visible=2."),
            ({"min_side": -1}, ValueError, "min_side must be at least 0, got min_side=-1."),
            ({"min_area": -1}, ValueError, "min_area must be at least 0, got min_area=-1."),
            (
                {"drop": "instance"},
                ValueError,
                "drop must be one of 'tiles', 'instances', got drop='instance'. Did you mean 'instances'?",
            ),
            ({"keep_empty": 0}, TypeError, "keep_empty must be a bool, got keep_empty=0."),
            ({"max_tries": 0}, ValueError, "max_tries must be at least 1, got max_tries=0."),
            (
                {"classes": []},
                ValueError,
                "classes must name at least one class, got classes=[]. Leave it out to make tiles of objects of all "
                "classes.",
            ),
        ],
    )
    def test_bad_options_are_refused(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error) as caught:
            Tile(**options)
        assert str(caught.value) == message


def read_blood_cells(folder: Path, count: int) -> ListPool:
    """Pictures with boxes only, of three classes, drawn by hand."""
    samples = []
    for file in sorted((folder / "Annotations").glob("*.xml"))[:count]:
        root = ElementTree.parse(file).getroot()
        image = read_rgb(folder / "JPEGImages" / f"{file.stem}.jpg")
        boxes = []
        for thing in root.iter("object"):
            box: Any = thing.find("bndbox")
            boxes.append([float(box.findtext(name)) for name in ("xmin", "ymin", "xmax", "ymax")])
        corners = np.clip(
            np.array(boxes, np.float32).reshape(-1, 4), 0, np.array([*image.shape[1::-1]] * 2, np.float32)
        )
        names = [thing.findtext("name") for thing in root.iter("object")]
        ids = np.array([{"RBC": 1, "WBC": 2, "Platelets": 3}[str(name)] for name in names], np.int64)
        samples.append(Sample(image, Instances(ids, corners, attributes={"row": np.arange(len(ids))})))
    return ListPool(samples)


class TestRealPictures:
    @pytest.mark.parametrize("data", [*REAL_DATA, "bccd_blood_cells"])
    def test_random_tiles_and_close_ups(self, data: str, shared_data: Path) -> None:
        read = REAL_DATA.get(data, read_blood_cells)
        pool = read(shared_data / data, 3)
        made = 0
        for seed, sample in enumerate(pool.samples):
            source = sample.replace(image=paint_places(sample.size_hw))
            side = min(sample.size_hw) // 2
            options: dict[str, Any] = {
                "size_hw": side,
                "min_visible": 0.2,
                "min_side": 5,
                "min_area": 10,
                "keep_empty": False,
            }
            for drop in ("tiles", "instances"):
                tile = generate(Tile(**options, drop=drop, max_tries=50), source, seed)
                if tile is not None:
                    check_random_tile(source, tile, {**options, "drop": drop})
                    made += 1
            close: Any = generate(Tile(**options, centred=True), sample, seed)
            if close is not None:
                assert close.size_hw == (side, side)
                if close.target.masks is not None:
                    assert close.target.boxes.tolist() == [tight_box(mask) for mask in close.target.masks]
        assert made >= 3
