"""Aligned sampling brings sizes and places nearer to those of a real set, and says by how much."""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from synthloader.attributes import ATTRIBUTES, bhattacharyya_distance, measure, scale_values
from synthloader.errors import LabelContractError, MissingExtraError, NothingToGenerate
from synthloader.foreign_pool import ForeignPool
from synthloader.generators.chain import Chain
from synthloader.generators.color_transfer import ColorTransfer
from synthloader.generators.copy_paste import CopyPaste
from synthloader.generators.fog import Fog
from synthloader.generators.metadata_alignment import DEFAULT_PARAMETERS, MetadataAlignment
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import Instances, SemanticMask
from tests.attributes.squares import Squares, make_empty, make_street
from tests.contracts.generator_contract import Case, bind, check_generator, check_sample, describe, generate
from tests.contracts.test_generators import make_scene, scenes
from tests.generators.pictures import (
    REAL_DATA,
    ListPool,
    make_classified,
    make_grey,
    make_picture,
    make_regions,
    read_dried_fruit,
    read_nuclei,
)

GRID: dict[str, dict[str, list[Any]]] = {
    "box_area": {
        "side_range": [(side, side * spread) for side in np.geomspace(0.03, 0.6, 12).tolist() for spread in (1.3, 2.0)]
    },
    "box_bottom": {"bottom_range": list(DEFAULT_PARAMETERS["box_bottom"]["bottom_range"])},
}
QUICK: dict[str, Any] = {"parameters": GRID, "num_probes": 32, "max_components": 2}
"""The street has two modes; more components are tried in `test_mixture.py`."""
SMALL_GRID: dict[str, dict[str, list[Any]]] = {
    "box_area": {"scale_range": [(0.5, 0.6), (0.9, 1.1), (1.8, 2.0)]},
    "box_bottom": {"bottom_range": [(0.2, 0.5), (0.6, 0.9)]},
}


def align(*, seed: int = 0, pool: ListPool | None = None, **options: Any) -> MetadataAlignment:
    """Squares, aligned to a street."""
    reference = options.pop("reference", make_street(seed))
    generator = options.pop("generator", Squares())
    aligned = MetadataAlignment(generator, reference, **{**QUICK, **options})
    return aligned.bind(pool or ListPool(make_empty()), classes=None)


def make_copies(**options: Any) -> MetadataAlignment:
    """CopyPaste with a small grid and few probes."""
    return MetadataAlignment(CopyPaste(), **{"parameters": SMALL_GRID, "num_probes": 4, **options})


@pytest.fixture(scope="module")
def street_squares() -> MetadataAlignment:
    """Squares aligned to a street; the search is shared by the tests that only look."""
    aligned = align()
    aligned.report()
    return aligned


def make_many(generator: Any, sources: list[Sample], count: int = 200, seed: int = 77) -> list[Sample]:
    """Samples of fresh seeds, which no search has seen."""
    made = [generate(generator, sources[at % len(sources)], seed * 1000 + at) for at in range(count)]
    return [sample for sample in made if sample is not None]


def find_distance(name: str, made: list[Sample], reference: list[Sample]) -> float:
    like = measure(reference, [name])[name]
    values = measure(made, [name], generated_only=True)[name]
    return bhattacharyya_distance(*(scale_values(name, each, like=like) for each in (like, values)))


class TestAlignment:
    def test_aligned_attributes_come_at_least_four_times_nearer_on_fresh_seeds(
        self, street_squares: MetadataAlignment
    ) -> None:
        reference, empty = make_street(0), make_empty()
        plain, aligned = make_many(Squares(), empty), make_many(street_squares, empty)
        for name in ("box_area", "box_bottom"):
            before, after = find_distance(name, plain, reference), find_distance(name, aligned, reference)
            assert after < before / 4, (name, before, after)

    def test_both_modes_are_made_in_their_shares_and_together(self, street_squares: MetadataAlignment) -> None:
        found = measure(make_many(street_squares, make_empty(), 400), ["box_area", "box_bottom"], generated_only=True)
        near = found["box_area"] > 0.2**2
        assert near.mean() == pytest.approx(1 / 3, abs=0.08)
        assert (found["box_bottom"][near] > 0.65).mean() > 0.97
        assert (found["box_bottom"][~near] < 0.6).mean() > 0.97

    def test_one_attribute_alone_leaves_the_other_where_it_was(self) -> None:
        reference, empty = make_street(0), make_empty()
        only_area = align(attributes=["box_area"], parameters={"box_area": GRID["box_area"]})
        plain, aligned = make_many(Squares(), empty), make_many(only_area, empty)
        assert find_distance("box_area", aligned, reference) < find_distance("box_area", plain, reference) / 4
        assert find_distance("box_bottom", aligned, reference) == pytest.approx(
            find_distance("box_bottom", plain, reference), abs=0.25
        )
        assert all(set(found.options) <= {"side_range"} for found in only_area.configurations)

    def test_configurations_are_drawn_by_weight(self) -> None:
        aligned = align(attributes=["box_area"], parameters={"box_area": {"side_range": [(0.08, 0.08), (0.4, 0.4)]}})
        sides = [
            round(float(side) ** 0.5, 2)
            for side in measure(make_many(aligned, make_empty(), 600), ["box_area"], generated_only=True)["box_area"]
        ]
        drawn = Counter(sides)
        assert drawn.keys() == {0.08, 0.4}
        share = next(found.weight for found in aligned.configurations if found.options["side_range"] == (0.4, 0.4))
        near = measure(make_street(0), ["box_area"])["box_area"] > 0.2**2
        assert share == pytest.approx(near.mean(), abs=0.01)
        assert drawn[0.4] / len(sides) == pytest.approx(share, abs=0.06)

    def test_a_configuration_that_makes_less_is_drawn_more_often(self) -> None:
        grid = {"side_range": [(0.08, 0.08), (0.4, 0.4)]}

        class Shy(Squares):
            """Fails with two of five large squares."""

            def replace(self, **options: Any) -> Shy:
                failures = 0.4 if options.get("side_range") == (0.4, 0.4) else 0.0
                return Shy(**{**self.options, **options, "failures": failures})

        even, shy = (
            align(generator=each(), attributes=["box_area"], parameters={"box_area": grid}, num_probes=200)
            for each in (Squares, Shy)
        )
        areas = [
            measure(make_many(each, make_empty(), 600), ["box_area"], generated_only=True)["box_area"]
            for each in (even, shy)
        ]
        assert len(areas[1]) < 0.9 * len(areas[0])
        assert (areas[1] > 0.2**2).mean() == pytest.approx((areas[0] > 0.2**2).mean(), abs=0.05)

    def test_attributes_of_images_can_be_aligned_too(self) -> None:
        class Lamp:
            """Make a picture of one grey."""

            keeps = frozenset({Instances})

            def __init__(self, level: int = 0) -> None:
                self.level = level
                self.fingerprint = f"Lamp({level})"

            def replace(self, **options: Any) -> Lamp:
                return Lamp(**options)

            def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
                level = self.level + int(rng.integers(-3, 4))
                image = np.full_like(source.image, min(max(level, 0), 255))
                return source.edit(image=image, target=source.target)

        rng = np.random.default_rng(0)
        reference = [
            Sample(np.full((8, 8, 3), level, np.uint8))
            for level in np.concatenate([rng.integers(40, 50, 30), rng.integers(190, 200, 90)])
        ]
        aligned = MetadataAlignment(
            Lamp(), reference, ["brightness"], parameters={"brightness": {"level": list(range(5, 255, 5))}}
        ).bind(ListPool(make_empty(4, size=8)), classes=None)
        assert {found.options["level"]: round(found.weight, 2) for found in aligned.configurations} == {
            195: 0.75,
            45: 0.25,
        }
        assert aligned.report()["brightness"].after < 0.2 < 1 < aligned.report()["brightness"].before  # type: ignore[operator]

    def test_the_sources_own_objects_are_not_measured(self, street_squares: MetadataAlignment) -> None:
        pool = ListPool([sample.replace(image=np.zeros((200, 200, 3), np.uint8)) for sample in make_street(8, 10)])
        assert align(pool=pool).configurations == street_squares.configurations

    def test_the_pool_is_the_reference_where_none_is_given(self) -> None:
        street = make_street(0, 20)
        given, bound = (align(reference=each, pool=ListPool(street)) for each in (street, None))
        assert given.configurations == bound.configurations
        assert given.report() == bound.report()

    def test_the_sources_are_the_reference_where_donors_come_from_elsewhere(self) -> None:
        options: dict[str, Any] = {"attributes": ["box_area"], "parameters": {"box_area": GRID["box_area"]}}
        generator = MetadataAlignment(Squares(), **{**QUICK, **options})
        street, other = ListPool(make_street(0, 20)), ListPool(make_street(3, 20))
        alone = generator.bind(street, classes=None)
        beside = generator.bind(ForeignPool(other, street), classes=None)
        assert beside.configurations == alone.configurations
        assert beside.fingerprint != alone.fingerprint == generator.fingerprint
        changed = generator.bind(ForeignPool(other, ListPool(make_street(1, 20))), classes=None)
        assert changed.fingerprint != beside.fingerprint
        assert pickle.loads(pickle.dumps(beside)).fingerprint == beside.fingerprint

    def test_objects_without_an_orientation_do_not_hinder(self) -> None:
        parameters = {"box_area": GRID["box_area"], "orientation": {"bottom_range": [(0.2, 0.3)]}}
        aligned = align(attributes=["box_area", "orientation"], parameters=parameters)
        with pytest.raises(NothingToGenerate, match=r"^no objects to align to$"):
            aligned.configurations  # noqa: B018 - the street has no masks


class TestReport:
    def test_every_attribute_is_in_it_aligned_or_not(self, street_squares: MetadataAlignment) -> None:
        report = street_squares.report()
        assert [row.attribute for row in report.rows] == list(ATTRIBUTES)
        assert {row.attribute for row in report.rows if row.aligned} == {"box_area", "box_bottom"}
        assert report["box_area"].num_components == report["box_bottom"].num_components == 2
        assert report["orientation"].before is report["orientation"].after is None
        assert report["brightness"].before is not None
        for name in ("box_area", "box_bottom"):
            row = report[name]
            assert row.after is not None
            assert row.before is not None
            assert row.after < row.before / 3

    def test_it_is_a_table(self, street_squares: MetadataAlignment) -> None:
        lines = str(street_squares.report()).splitlines()
        assert lines[0] == "attribute     aligned  components  before   after"
        assert len(lines) == 1 + len(ATTRIBUTES)
        assert lines[1].startswith("box_area      yes               2  ")
        assert lines[5] == "orientation   no                -       -       -"

    def test_it_is_made_once(self) -> None:
        generator = Squares()
        aligned = align(generator=generator)
        first, calls = aligned.report(), generator.calls[0]
        assert aligned.report() is first
        assert aligned.configurations
        assert generator.calls[0] == calls


class TestSearchOnce:
    def test_nothing_is_read_or_searched_before_it_is_needed(self) -> None:
        generator, pool = Squares(), ListPool(make_empty())
        aligned = align(generator=generator, pool=pool, reference=None)
        assert aligned.fingerprint
        assert not pool.decoded
        assert not generator.calls[0]

    def test_the_search_is_shared_by_aimed_copies(self) -> None:
        generator = Squares()
        aligned = align(generator=generator)
        aimed = aligned.aim(7)
        made = make_many(aimed, make_empty(), 20)
        assert {int(sample.target.class_ids[-1]) for sample in made} == {7}  # type: ignore[union-attr]
        calls = generator.calls[0]
        assert aligned.configurations == aimed.configurations
        assert generator.calls[0] == calls

    def test_aimed_before_or_after_binding_is_the_same(self) -> None:
        pool = ListPool(make_empty())
        before = MetadataAlignment(Squares(), make_street(0), **QUICK).aim(7).bind(pool, classes=None)
        after = align(pool=pool).aim(7)
        assert before.fingerprint == after.fingerprint
        assert before.configurations == after.configurations
        assert describe(generate(before, make_empty()[0], 3)) == describe(generate(after, make_empty()[0], 3))

    def test_what_was_found_travels_and_the_reference_stays_behind(self) -> None:
        street = make_street(0)
        aligned = MetadataAlignment(Squares(), street, **QUICK)
        heavy = len(pickle.dumps(aligned))
        aligned = aligned.bind(ListPool(make_empty(1, size=8)), classes=None)
        report = aligned.report()
        copied = pickle.loads(pickle.dumps(aligned))
        assert len(pickle.dumps(aligned)) < heavy / 20
        copied.generator.calls[0] = 0
        assert copied.configurations == aligned.configurations
        assert copied.report() == report
        assert copied.fingerprint == aligned.fingerprint
        assert copied.generator.calls[0] == 0

    def test_preparing_searches_and_says_nothing_of_a_failure(self) -> None:
        for failures in (0.0, 1.0):
            generator = Squares(failures=failures)
            aligned = align(generator=generator)
            aligned.prepare()
            calls = generator.calls[0]
            assert calls
            generate(aligned, make_empty()[0], 0)
            assert generator.calls[0] - calls <= 1

    def test_it_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        aligned = align()
        with caplog.at_level("INFO", logger="synthloader"):
            aligned.prepare()
            aligned.prepare()
        first, second = (record.getMessage() for record in caplog.records)
        count = len(GRID["box_area"]["side_range"]) + len(GRID["box_bottom"]["bottom_range"])
        assert first == (
            f"searching options of Squares to align box_area, box_bottom: {count} configurations on up to 32 pictures"
        )
        assert second.startswith("searched for ")

    def test_pictures_are_decoded_once_while_it_searches_and_not_held_after(self) -> None:
        pool = ListPool([make_picture(at) for at in range(6)])
        aligned = MetadataAlignment(CopyPaste(), **{**QUICK, "parameters": SMALL_GRID}).bind(pool, classes=None)
        aligned.prepare()
        assert len(pool.decoded) <= 2 * len(pool)  # for the reference, and for the search
        pool.decoded.clear()
        generate(aligned, pool.samples[0], 0)
        generate(aligned, pool.samples[0], 0)
        assert len(pool.decoded) >= 2

    def test_failing_is_remembered(self) -> None:
        generator = Squares(failures=1.0)
        aligned = align(generator=generator)
        reasons = set()
        for at in range(3):
            with pytest.raises(NothingToGenerate) as caught:
                aligned.generate(make_empty()[0], rng=make_rng(at, "", 0, 0))
            reasons.add(str(caught.value))
            calls = generator.calls[0]
        assert reasons == {"no configuration makes objects"}
        assert generator.calls[0] == calls < 2000

    def test_two_searches_find_the_same(self, street_squares: MetadataAlignment) -> None:
        again = align()
        assert again.configurations == street_squares.configurations
        assert again.report() == street_squares.report()


class TestFingerprint:
    def test_it_follows_what_is_measured_of_the_reference(self) -> None:
        street = make_street(0)
        same = [sample.replace(image=sample.image + 9) for sample in street]
        assert align(reference=same).fingerprint == align(reference=street).fingerprint
        assert align(reference=street[1:]).fingerprint != align(reference=street).fingerprint
        assert align(reference=make_street(1)).fingerprint != align(reference=street).fingerprint

    def test_it_is_the_same_before_and_after_the_search(self, street_squares: MetadataAlignment) -> None:
        assert street_squares.fingerprint == align().fingerprint
        assert len(street_squares.fingerprint) < 600

    def test_it_changes_with_every_parameter(self) -> None:
        check_generator(CASE)


CASE = Case(
    make_copies,
    pastes=None,
    changes=[
        lambda: make_copies(reference=[make_picture(1)]),
        lambda: make_copies(reference=[make_picture(2)]),
        lambda: make_copies(attributes=["box_area"], parameters={"box_area": SMALL_GRID["box_area"]}),
        lambda: make_copies(parameters={**SMALL_GRID, "box_area": {"scale_range": [(0.5, 0.7)]}}),
        lambda: make_copies(parameters={**SMALL_GRID, "box_area": {"scale_range": [(0.5, 0.6)]}}),
        lambda: make_copies(parameters=None),
        lambda: make_copies(num_probes=5),
        lambda: make_copies(num_references=3),
        lambda: make_copies(max_components=2),
        lambda: make_copies(min_silhouette=0.8),
        lambda: MetadataAlignment(CopyPaste(flip=False), parameters=SMALL_GRID, num_probes=4),
        lambda: make_copies().aim(1),
        lambda: make_copies().aim(2),
    ],
)


class TestContract:
    @settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
    @given(scene=scenes())
    def test_any_picture(self, scene: tuple[Sample, ListPool, int]) -> None:
        source, pool, seed = scene
        check_sample(CASE, pool, source, seed)

    def test_ordinary_pictures_give_samples(self) -> None:
        made = [check_sample(CASE, pool, source, seed) for seed, (source, pool) in enumerate(map(make_scene, range(6)))]
        assert sum(sample is not None for sample in made) >= 4

    def test_grey_pictures(self) -> None:
        source, pool = make_scene(3)
        check_sample(CASE, ListPool([make_grey(sample) for sample in pool.samples]), make_grey(source), 5)

    def test_a_kind_of_target_that_is_not_kept_is_refused_without_a_search(self) -> None:
        generator = bind(CASE.make(), ListPool([make_picture(0)]))
        with pytest.raises(LabelContractError):
            generate(generator, make_classified(2), 0)
        assert generator._draws.alignment._found is None

    def test_semantic_masks_are_refused_with_what_to_do(self) -> None:
        pool = ListPool([make_regions(at) for at in range(3)])
        generator = bind(make_copies(), pool)
        with pytest.raises(LabelContractError) as caught:
            generator.check_source(pool.samples[0])
        assert str(caught.value) == (
            "MetadataAlignment aligns objects, got a source with a SemanticMask, which does not tell them apart. Use the "
            "generator without MetadataAlignment, or a dataset with boxes or instance masks; attributes of the image can "
            "be aligned for every target: brightness, contrast, sharpness, entropy."
        )
        with pytest.raises(LabelContractError, match="does not tell them apart"):
            generate(generator, pool.samples[0], 0)
        assert generator.keeps == {Instances}

    def test_attributes_of_the_image_are_aligned_with_semantic_masks_too(self) -> None:
        pool = ListPool([make_regions(at) for at in range(3)])
        grid = {"brightness": {"scale_range": [(0.5, 0.5), (1.5, 1.5)]}}
        aligned = make_copies(attributes=["brightness"], parameters=grid)
        assert aligned.keeps == CopyPaste().keeps
        bound = bind(aligned, pool)
        bound.check_source(pool.samples[0])
        assert any(generate(bound, sample, seed) is not None for seed, sample in enumerate(pool.samples))

    def test_a_generator_of_semantic_masks_alone_cannot_align_objects(self) -> None:
        class Regions(Squares):
            keeps = frozenset({SemanticMask})  # type: ignore[assignment]

        with pytest.raises(
            LabelContractError, match=r"^MetadataAlignment cannot align objects of Squares\(\)\. Use the"
        ):
            MetadataAlignment(Regions(), parameters=GRID)

    @pytest.mark.slow
    @pytest.mark.parametrize("data", REAL_DATA)
    def test_real_pictures(self, data: str, shared_data: Path) -> None:
        pool = REAL_DATA[data](shared_data / data, 3)
        assert check_sample(CASE, pool, pool.samples[0], 1) is not None


class TestCopyPaste:
    def test_donors_of_another_size_are_brought_to_the_size_of_the_reference(self, shared_data: Path) -> None:
        """Fruit pasted twice to three times too large, in the upper half: both are put right on fresh seeds."""
        pool = read_dried_fruit(shared_data / "dried_fruit_instances", 6)
        plain = CopyPaste(scale_range=(2, 3), bottom_range=(0.1, 0.5)).bind(pool, classes=None)
        parameters = {
            "box_area": {"scale_range": [(low, low * 1.5) for low in (0.2, 0.4, 0.8, 1.6, 3.2)]},
            "box_bottom": {"bottom_range": [(0.0, 0.3), (0.3, 0.6), (0.3, 1.0), (0.0, 1.0), (0.7, 1.0)]},
        }
        aligned = MetadataAlignment(
            CopyPaste(scale_range=(2, 3), bottom_range=(0.1, 0.5)), pool, parameters=parameters, num_probes=16
        ).bind(pool, classes=None)
        before, after = (make_many(generator, pool.samples, 60) for generator in (plain, aligned))
        for name in ("box_area", "box_bottom"):
            near, far = (find_distance(name, made, pool.samples) for made in (after, before))
            assert near < far / 3, (name, far, near)

    @pytest.mark.slow
    def test_nuclei_are_brought_to_the_sizes_of_fruit(self, shared_data: Path) -> None:
        fruit = read_dried_fruit(shared_data / "dried_fruit_instances", 6)
        # Of three domains: their sizes differ more than those of fruit, and one factor for all leaves that as it is.
        nuclei = read_nuclei(shared_data / "nuclei_dsb2018", 6)
        aligned = MetadataAlignment(CopyPaste(), fruit, ["box_area"], num_probes=16).bind(nuclei, classes=None)
        row = aligned.report()["box_area"]
        assert row.before is not None
        assert row.after is not None
        assert row.after < row.before / 2

    def test_most_donors_are_those_of_any_configuration(self) -> None:
        grid = {"count": {"num_range": [(1, 2), (1, 9)]}}
        assert MetadataAlignment(CopyPaste(), attributes=["count"], parameters=grid).max_donors == 9

    def test_default_options_are_those_that_it_takes(self, tmp_path: Path) -> None:
        folder = tmp_path / "fig"
        folder.mkdir()
        cutout = np.zeros((20, 20, 4), np.uint8)
        cutout[4:16, 4:16] = [30, 90, 200, 255]
        cv2.imwrite(str(folder / "0.png"), cutout)
        of_pool, of_files = (
            MetadataAlignment(generator)._parameters["box_area"]["scale_range"]
            for generator in (CopyPaste(), CopyPaste(cutouts=tmp_path))
        )
        assert max(high for _, high in of_files) <= 1 < 4 < max(high for _, high in of_pool)
        assert min(low for low, _ in of_files) == min(low for low, _ in of_pool)


class TestArguments:
    def test_without_scikit_learn_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
        with pytest.raises(MissingExtraError) as caught:
            align().generate(make_empty()[0], rng=make_rng(0, "", 0, 0))
        assert str(caught.value) == "MetadataAlignment needs sklearn. Install synthloader[alignment]."

    def test_a_generator_without_other_options_is_refused(self) -> None:
        with pytest.raises(TypeError) as caught:
            MetadataAlignment(Chain([ColorTransfer()]))
        assert str(caught.value) == (
            "generator must have replace(**options), which makes a copy with other options, got "
            f"generator={Chain([ColorTransfer()])!r}. Add the method to its class. In a chain, wrap the part whose options are "
            "searched: [MetadataAlignment(CopyPaste()), Fog()]."
        )

    def test_it_must_be_bound(self) -> None:
        with pytest.raises(ValueError) as caught:
            generate(MetadataAlignment(Squares(), parameters=GRID), make_empty()[0], 0)
        assert str(caught.value) == (
            "pool must be bound before generate, got pool=None. A dataset binds it: "
            "generated = GeneratedDataset(real, generator); print(generated.generator.report())."
        )

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            (
                {"attributes": "box_area"},
                TypeError,
                "attributes must be a list of names, got attributes='box_area'. Write [...] around a single one.",
            ),
            (
                {"attributes": []},
                ValueError,
                f"attributes must name at least one attribute, got attributes=[]. Allowed: {', '.join(ATTRIBUTES)}.",
            ),
            (
                {"attributes": ["box_area", "box_area"]},
                ValueError,
                "attributes must name each attribute once, got attributes=['box_area', 'box_area'].",
            ),
            (
                {"attributes": ["box_size"]},
                ValueError,
                f"attributes[0] must be one of {', '.join(map(repr, ATTRIBUTES))}, got attributes[0]='box_size'.",
            ),
            (
                {"attributes": ["sharpness"], "parameters": None},
                ValueError,
                "parameters must say which options of the generator move 'sharpness', got parameters=None. "
                "Write parameters={'sharpness': {option: [value, ...]}}.",
            ),
            (
                {"attributes": ["box_area"]},
                ValueError,
                "parameters must be of attributes=('box_area',), got parameters='box_bottom'. "
                "Add it there, or leave its options out.",
            ),
            (
                {"parameters": {"box_area": {"side_range": []}, "box_bottom": GRID["box_bottom"]}},
                ValueError,
                "parameters['box_area']['side_range'] must hold at least one value to try, got "
                "parameters['box_area']['side_range']=[].",
            ),
            (
                {"parameters": {"box_area": {"side_range": 0.3}, "box_bottom": GRID["box_bottom"]}},
                TypeError,
                "parameters['box_area']['side_range'] must be a list of values to try, got "
                "parameters['box_area']['side_range']=0.3.",
            ),
            (
                {"parameters": {"box_area": GRID["box_bottom"], "box_bottom": GRID["box_bottom"]}},
                ValueError,
                "parameters must give each option to one attribute, got parameters='bottom_range'. "
                "Search it for the one that it moves.",
            ),
            ({"num_probes": 1}, ValueError, "num_probes must be at least 2, got num_probes=1. A variance needs two values."),
            ({"reference": []}, ValueError, "reference must hold at least one sample, got reference=0."),
            (
                {"reference": "street"},
                TypeError,
                "reference must be samples: a list, or whatever has a length and gives a Sample by position, got "
                "reference='street'. Read a dataset with synthloader.sources.Source.",
            ),
        ],
    )  # fmt: skip
    def test_options_are_checked(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error) as caught:
            align(**options)
        assert str(caught.value).partition(" Did you mean")[0] == message

    def test_options_that_the_generator_refuses_are_named(self) -> None:
        with pytest.raises(ValueError, match="too large") as caught:
            align(parameters={**GRID, "box_area": {"side_range": [(0.1, 0.2), (2, 3)]}})
        with pytest.raises(TypeError, match="no_such_option") as unknown:
            align(parameters={**GRID, "box_area": {"no_such_option": [1]}})
        notes = [getattr(error.value, "__notes__", []) for error in (caught, unknown)]
        assert notes == [
            ["while MetadataAlignment tried {'side_range': (2, 3)} to align 'box_area'"],
            ["while MetadataAlignment tried {'no_such_option': 1} to align 'box_area'"],
        ]

    def test_a_generator_without_the_options_of_copy_paste_is_told_what_to_say(self) -> None:
        with pytest.raises(TypeError) as caught:
            MetadataAlignment(Fog())
        assert str(caught.value) == (
            "parameters must say which options of Fog move 'box_area', which refuses 'scale_range' (Fog.__init__() got "
            "an unexpected keyword argument 'scale_range'), got parameters=None. Write parameters={'box_area': {option: "
            "[value, ...]}}, or leave the attribute out of attributes=."
        )

    def test_what_is_no_sample_is_refused_when_it_is_read(self) -> None:
        aligned = align(reference=[1, 2])
        with pytest.raises(TypeError) as caught:
            aligned.fingerprint  # noqa: B018
        assert str(caught.value) == "samples[0] must be a Sample, got samples[0]=1."
