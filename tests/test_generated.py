"""`GeneratedDataset`: what is made, from what, how often it is tried, and what a cache may change: nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from synthloader.adapters import CocoDataset
from synthloader.cache import LMDBCache, MemoryCache
from synthloader.errors import (
    CacheCorruptError,
    GenerationError,
    LabelContractError,
    NothingToGenerate,
    ShortfallError,
)
from synthloader.filters import SinglePolygon
from synthloader.generated import GeneratedDataset
from synthloader.generators import ColorTransfer, CopyPaste
from synthloader.mixed import MixedDataset
from synthloader.plans import Balance
from synthloader.protocols import Verdict
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances
from tests.scenes import RejectBy, ScenesDataset, Shade, describe, write_coco

KNOWN = (
    "ClassificationAdapter",
    "DetectionAdapter",
    "DictAdapter",
    "HuggingFaceAdapter",
    "SemanticAdapter",
    "UnlabelledAdapter",
    "VocAdapter",
)


class Counting(Shade):
    """Counts what it generates and, by the source's kind, what it was asked for."""

    calls = 0

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        Counting.calls += 1
        return super().generate(source, rng=rng)


class Camera:
    """Something in an item that no cache can hold."""

    def __init__(self, number: int) -> None:
        self.number = number


class Failing:
    keeps = frozenset({Instances})
    fingerprint = "Failing/1()"

    def __init__(self, result: Any) -> None:
        self.result = result

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result(source)


@pytest.fixture
def coco(tmp_path: Path) -> CocoDataset:
    return CocoDataset(*write_coco(tmp_path / "coco", 6))


class TestWhatIsMade:
    def test_it_is_a_dataset_of_native_items(self) -> None:
        real = ScenesDataset(5)
        generated = GeneratedDataset(real, Shade(), variants=3)
        assert len(generated) == 15
        assert generated[7][1].keys() == real[2][1].keys()
        assert describe(generated[-1]) == describe(generated[14])
        with pytest.raises(IndexError, match=r"^index 15 is out of range for 15 generated items$"):
            generated[15]

    def test_a_sample_names_its_origin(self) -> None:
        sample = GeneratedDataset(ScenesDataset(5), CopyPaste(), variants=3, seed=9).sample(7)
        assert sample.origin is not None
        assert (sample.origin.source, sample.origin.variant, sample.origin.seed) == ("2", 1, 9)
        assert sample.origin.fingerprint.startswith("CopyPaste/")
        assert sample.origin.drawn
        assert sample.origin.edited is not None

    def test_names_are_paths_below_the_root(self, coco: CocoDataset) -> None:
        origin = GeneratedDataset(Subset(coco, [4, 2]), Shade(), variants=2).sample(3).origin
        assert origin is not None
        assert origin.source == "scene_002.png"

    def test_a_sample_is_a_function_of_seed_source_and_variant(self) -> None:
        real = ScenesDataset(5)
        first, second = (
            GeneratedDataset(real, Shade(), variants=3, seed=1),
            GeneratedDataset(real, Shade(), variants=3, seed=1),
        )
        forwards = [describe(first[index]) for index in range(15)]
        backwards = [describe(second[index]) for index in reversed(range(15))]
        assert forwards == backwards[::-1]
        assert len(set(forwards)) == 15
        assert describe(GeneratedDataset(real, Shade(), variants=3, seed=2)[0]) != forwards[0]

    def test_a_subset_makes_the_same_versions_of_the_same_sources(self) -> None:
        real = ScenesDataset(5)
        whole, part = (
            GeneratedDataset(real, Shade(), variants=2),
            GeneratedDataset(Subset(real, [3, 1]), Shade(), variants=2),
        )
        assert [describe(part[index]) for index in range(4)] == [describe(whole[index]) for index in (6, 7, 2, 3)]

    def test_variants_none_is_fresh_for_ever(self) -> None:
        real = ScenesDataset(3)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=1.0)
        seen = set()
        for epoch in range(5):
            train.set_epoch(epoch)
            seen |= {describe(train[index]) for index in range(3, 6)}
        assert len(seen) == 15

    def test_the_pool_is_what_is_drawn_from(self) -> None:
        generated = GeneratedDataset(ScenesDataset(3), CopyPaste(), variants=4, pool=Subset(ScenesDataset(9), [7, 8]))
        drawn = {
            name.partition("#")[0] for index in range(12) for name in (generated.sample(index).origin or _no()).drawn
        }
        assert drawn <= {"7", "8"}


class TestAttempts:
    def test_the_next_attempt_is_another_candidate(self) -> None:
        generated = GeneratedDataset(ScenesDataset(10), Shade(), filters=[RejectBy(share=0.5)], variants=2, attempts=8)
        origins = [generated.sample(index).origin for index in range(20)]
        assert {origin.attempt for origin in origins if origin} > {0}
        assert all(origin is not None and origin.scores["RejectBy"] >= 0.5 for origin in origins)

    def test_when_all_fail_the_error_says_why_and_what_to_do(self) -> None:
        generated = GeneratedDataset(ScenesDataset(3), Shade(), filters=[RejectBy(share=2.0)], variants=2, attempts=2)
        with pytest.raises(ShortfallError) as caught:
            generated[3]
        assert str(caught.value) == (
            "item 3 (source '1', variant 1) has no accepted candidate in 2 attempts (RejectBy: first pixels). Raise "
            "attempts=, loosen the filters, or mix it with on_shortfall='real'."
        )

    def test_nothing_to_generate_counts_like_a_rejection(self) -> None:
        outcome = GeneratedDataset(ScenesDataset(3), Failing(NothingToGenerate("no donor")), attempts=2).make(0, 0)
        assert outcome.sample is None
        assert outcome.rejections == [("Failing", "no donor")] * 2

    @pytest.mark.parametrize(
        "result", [lambda source: source, lambda source: source.edit(image=source.image.copy(), target=source.target)]
    )
    def test_an_unchanged_source_is_never_counted_as_generated(self, result: Any) -> None:
        outcome = GeneratedDataset(ScenesDataset(3), Failing(result)).make(0, 0)
        assert outcome.sample is None
        assert outcome.rejections[0] == ("Failing", "unchanged")


class TestTheContract:
    def test_a_target_that_is_not_kept_is_refused(self) -> None:
        class Labels(Shade):
            keeps = frozenset({ClassLabel})

        with pytest.raises(LabelContractError) as caught:
            GeneratedDataset(ScenesDataset(3), Labels())[0]
        assert str(caught.value) == (
            "Labels does not keep Instances true, which item 0 (0) has. It keeps ClassLabel: use a generator that keeps "
            "Instances, or another dataset."
        )

    def test_another_kind_of_target_is_refused(self) -> None:
        with pytest.raises(
            LabelContractError, match=r"^Failing must return the kind of target that it was given, got ClassLabel"
        ):
            GeneratedDataset(ScenesDataset(3), Failing(lambda source: source.replace(target=ClassLabel(1))))[0]

    def test_what_is_no_sample_is_a_generation_error(self) -> None:
        with pytest.raises(GenerationError) as caught:
            GeneratedDataset(ScenesDataset(3), Failing(lambda source: source.image), seed=4)[1]
        assert str(caught.value) == "Failing.generate must return a Sample, got ndarray at index 1."
        assert (caught.value.index, caught.value.fingerprint, caught.value.seed) == (1, "Failing/1()", 4)

    def test_a_foreign_exception_keeps_its_type_and_gains_a_note(self) -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            GeneratedDataset(ScenesDataset(3), Failing(ZeroDivisionError()), variants=5, seed=3)[12]
        assert "while generating index 12 with Failing(seed=3)" in caught.value.__notes__

    def test_one_class_for_an_image_is_refused_by_copy_paste_with_a_remedy(self) -> None:
        pictures = [(torch.zeros(3, 8, 8, dtype=torch.uint8), number) for number in range(3)]
        with pytest.raises(LabelContractError, match=r"^CopyPaste needs cut-outs for classification.*Give cutouts="):
            GeneratedDataset(pictures, CopyPaste())[0]


class Aimed(Shade):
    """Can be told which class is wanted."""

    def aim(self, class_id: int, /) -> Aimed:
        return Aimed(strength=100 + class_id)


class Outlining(Shade):
    """Can be told that masks are written as polygons."""

    def keep_single_polygons(self) -> Outlining:
        return Outlining(strength=77)


class TestWhatTheGeneratorIsTold:
    def test_a_class_where_objects_can_be_added(self) -> None:
        generated = GeneratedDataset(ScenesDataset(4), Aimed(), version="1")
        assert generated.can_aim
        sample = generated.make(0, 0, target_class=2).sample
        assert sample is not None
        assert sample.origin is not None
        assert sample.origin.fingerprint == "Shade/1(strength=102)"
        assert not GeneratedDataset(ScenesDataset(4), Shade(), version="1").can_aim

    @pytest.mark.parametrize("kind", ["plain items", "image folder"])
    def test_no_class_where_the_source_itself_says_the_class(self, kind: str, tmp_path: Path) -> None:
        image = torch.zeros(3, 8, 8, dtype=torch.uint8)
        real: Any = [(image + 9 * at, at % 2) for at in range(6)]
        if kind == "image folder":
            for at in range(6):
                (tmp_path / "ab"[at % 2]).mkdir(exist_ok=True)
                cv2.imwrite(str(tmp_path / "ab"[at % 2] / f"{at}.png"), np.full((8, 8, 3), 9 * at, np.uint8))
            real = ImageFolder(str(tmp_path))
        generated = GeneratedDataset(real, Aimed(), version="1")
        assert not generated.can_aim
        mixed = MixedDataset(real, generated, plan=Balance(7, classes=(1,)))
        for index in range(6, len(mixed)):
            draw, origin = mixed.draw(index), mixed.origin(index)
            assert draw is not None
            assert origin is not None
            assert origin.fingerprint == "Shade/1(strength=20)"
            assert real[draw.source][1] == mixed[index][1] == 1

    def test_that_masks_are_written_as_polygons_where_a_filter_asks_for_it(self) -> None:
        real = ScenesDataset(2)
        for filters, strength in (([], 20), ([RejectBy(share=0)], 20), ([RejectBy(share=0), SinglePolygon()], 77)):
            sample = GeneratedDataset(real, Outlining(), filters=filters, version="1").sample(0)
            assert sample.origin is not None
            assert sample.origin.fingerprint == f"Shade/1(strength={strength})"


class TestCache:
    @pytest.mark.parametrize("kind", ["memory", "lmdb"])
    def test_hit_and_miss_are_the_same_bits(self, kind: str, tmp_path: Path, coco: CocoDataset) -> None:
        cache = MemoryCache() if kind == "memory" else LMDBCache(tmp_path / "cache")
        options: dict[str, Any] = {"filters": [RejectBy(share=0.5)], "variants": 2, "attempts": 4}
        plain = [_try(GeneratedDataset(coco, CopyPaste(), **options), index) for index in range(12)]
        cached = GeneratedDataset(coco, CopyPaste(), cache=cache, **options)
        assert [_try(cached, index) for index in range(12)] == plain
        outcomes = [cached.make(index // 2, index % 2) for index in range(12)]
        assert sum(outcome.misses for outcome in outcomes) == 0
        assert [_try(cached, index) for index in range(12)] == plain
        cache.close()

    def test_a_hit_never_decodes_the_source(self, tmp_path: Path, coco: CocoDataset) -> None:
        cache = LMDBCache(tmp_path / "cache")
        filters = [RejectBy(share=0.3)]
        first = GeneratedDataset(coco, Shade(), filters=filters, cache=cache, variants=1, attempts=4)
        expected = [_try(first, index) for index in range(6)]
        again = GeneratedDataset(coco, Shade(), filters=filters, cache=cache, variants=1, attempts=4)
        like = again.source.like
        assert like is not None

        def explode(index: int) -> Any:
            raise RuntimeError(f"item {index} was decoded")

        again.source.read = explode  # type: ignore[method-assign, assignment]
        assert [_try(again, index) for index in range(6)] == expected
        cache.close()

    def test_a_threshold_can_be_changed_without_generating_again(self) -> None:
        real, cache = ScenesDataset(6), MemoryCache()
        Counting.calls = 0
        for share in (0.2, 0.6, 0.2):
            generated = GeneratedDataset(
                real, Counting(), filters=[RejectBy(share=share)], cache=cache, variants=2, attempts=1
            )
            accepted = [generated.make(index // 2, index % 2).sample is not None for index in range(12)]
            alone = GeneratedDataset(real, Shade(), filters=[RejectBy(share=share)], variants=2, attempts=1)
            assert accepted == [alone.make(index // 2, index % 2).sample is not None for index in range(12)]
        assert Counting.calls == 12

    def test_a_verdict_is_asked_once(self) -> None:
        class Slow(RejectBy):
            asked = 0

            def judge(self, generated: Sample, source: Sample, /) -> Verdict:
                Slow.asked += 1
                return super().judge(generated, source)

        cache = MemoryCache()
        for first in (0.1, 0.1, 0.2):
            filters = [Slow(share=0.0), RejectBy(share=first)]
            GeneratedDataset(ScenesDataset(2), Shade(), filters=filters, cache=cache, variants=1, attempts=1).make(0, 0)
        assert Slow.asked == 1

    def test_a_changed_file_is_another_key_and_a_copy_elsewhere_is_not(self, tmp_path: Path, coco: CocoDataset) -> None:
        def key(dataset: CocoDataset) -> bytes:
            cache = LMDBCache(tmp_path / "cache")
            return GeneratedDataset(dataset, Shade(), cache=cache, variants=1).make_cache_key(2, 0)

        before = key(coco)
        assert key(CocoDataset(*write_coco(tmp_path / "elsewhere", 6))) == before
        cv2.imwrite(str(tmp_path / "coco" / "images" / "scene_002.png"), np.zeros((40, 40, 3), np.uint8))
        assert key(coco) != before

    def test_a_changed_annotation_is_another_key(self, tmp_path: Path, coco: CocoDataset) -> None:
        def key() -> bytes:
            return GeneratedDataset(coco, Shade(), cache=LMDBCache(tmp_path / "cache"), variants=1).make_cache_key(2, 0)

        before = key()
        coco.coco.imgToAnns[coco.ids[2]][0]["category_id"] = 1
        assert key() != before

    def test_a_changed_pool_is_another_key_only_where_it_is_drawn_from(self, tmp_path: Path, coco: CocoDataset) -> None:
        def key(generator: Any, pool: Any) -> bytes:
            cache = LMDBCache(tmp_path / "cache")
            return GeneratedDataset(coco, generator, cache=cache, variants=1, pool=pool).make_cache_key(2, 0)

        small = Subset(coco, [0, 1])
        assert key(CopyPaste(), None) != key(CopyPaste(), small)
        assert key(Shade(), None) == key(Shade(), small)

    def test_a_miss_of_a_cache_that_is_only_read_is_served_and_not_kept(
        self, tmp_path: Path, coco: CocoDataset
    ) -> None:
        with LMDBCache(tmp_path / "cache") as writable:
            first = GeneratedDataset(coco, Shade(), filters=[RejectBy(share=0.0)], cache=writable, variants=1)
            served = [describe(first[index]) for index in range(3)]
        with LMDBCache(tmp_path / "cache", readonly=True) as cache:
            generated = GeneratedDataset(coco, Shade(), filters=[RejectBy(share=0.0)], cache=cache, variants=1)
            plain = GeneratedDataset(coco, Shade(), variants=1)
            assert [describe(generated[index]) for index in range(3)] == served
            assert describe(generated[4]) == describe(plain[4])
            assert len(cache) == 3

    def test_the_pool_is_hashed_once_before_any_worker_starts(self, tmp_path: Path, coco: CocoDataset) -> None:
        generated = GeneratedDataset(coco, CopyPaste(), cache=LMDBCache(tmp_path / "cache"), variants=1)
        generated.source.stamp = _no  # type: ignore[method-assign, assignment]
        assert len(generated.pool.identity) == 32

    def test_everything_that_determines_a_sample_is_in_its_key(self) -> None:
        real = ScenesDataset(3)

        def key(source: int = 1, variant: int = 1, attempt: int = 0, *, generator: Any = None, **options: Any) -> bytes:
            generated = GeneratedDataset(real, generator or Shade(), cache=MemoryCache(), variants=3, **options)
            return generated.make_cache_key(source, variant, attempt)

        keys = [key(), key(2), key(1, 2), key(1, 1, 1), key(seed=1), key(generator=Shade(strength=3))]
        assert len(set(keys)) == len(keys)
        assert key(filters=[RejectBy(share=0.1)]) == key()

    def test_a_persistent_cache_needs_variants_and_a_version(self, tmp_path: Path) -> None:
        cache = LMDBCache(tmp_path / "cache")
        with pytest.raises(
            ValueError, match=r"^variants must be given with a persistent cache, got variants=None\. .*pass variants=4"
        ):
            GeneratedDataset(ScenesDataset(3), Shade(), cache=cache)
        with pytest.raises(
            ValueError, match=r"^version must be given for a persistent cache, because ScenesDataset does not name"
        ):
            GeneratedDataset(ScenesDataset(3), Shade(), cache=cache, variants=2)
        made = GeneratedDataset(ScenesDataset(3), Shade(), cache=cache, variants=2, version="1")
        assert made.make_cache_key(0, 0) != GeneratedDataset(
            ScenesDataset(3), Shade(), cache=cache, variants=2, version="2"
        ).make_cache_key(0, 0)

    def test_a_field_that_cannot_be_stored_is_read_from_the_source_on_a_hit(self) -> None:
        class Odd(ScenesDataset):
            def __getitem__(self, index: int) -> Any:
                image, target = super().__getitem__(index)
                return image, {**target, "camera": Camera(index)}

        real = Odd(3)
        generated = GeneratedDataset(real, Shade(), cache=MemoryCache(), variants=1)
        for _ in range(2):
            assert [generated[index][1]["camera"].number for index in range(3)] == [0, 1, 2]
        assert generated.make(1, 0).source_reads == 1
        train = MixedDataset(real, generated, ratio=1.0)
        for index in range(3, 6):
            train[index]
        assert train.report().sets["generated"].source_reads_on_hit == 3

    @pytest.mark.parametrize("on_corrupt", ["error", "regenerate"])
    def test_a_broken_record_stops_or_is_generated_anew_as_was_asked(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, on_corrupt: str
    ) -> None:
        real = ScenesDataset(3)
        made = GeneratedDataset(real, Shade(), cache=LMDBCache(tmp_path / "a"), variants=1, version="1")
        keys = [made.make_cache_key(source, 0) for source in range(3)]
        fresh = describe(made[0])
        with LMDBCache(tmp_path / "b") as other:  # The place of one record, and the bytes of another, broken.
            record = bytearray(other.encode(made.sample(0)))
            record[-20] ^= 1
            other.put_encoded([(keys[0], bytes(record))])
        again = GeneratedDataset(
            real, Shade(), cache=LMDBCache(tmp_path / "b", on_corrupt=on_corrupt), variants=1, version="1"
        )
        if on_corrupt == "error":
            with pytest.raises(CacheCorruptError, match=f"^Reading entry {keys[0].hex()} of the cache "):
                again[0]
        else:
            with caplog.at_level(logging.WARNING, "synthloader"):
                assert describe(again[0]) == fresh
            assert f"generated anew: Reading entry {keys[0].hex()} of the cache" in caplog.text
            caplog.clear()
            assert describe(again[0]) == fresh
            assert caplog.text == ""
        for each in (made, again):
            each.cache.close()  # type: ignore[union-attr]


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            (
                {"generator": Shade},
                TypeError,
                "generator must have generate, keeps and fingerprint, got generator=<class 'tests.scenes.Shade'>. Pass an instance, not the class.",
            ),
            ({"variants": 0}, ValueError, "variants must be at least 1, got variants=0."),
            ({"attempts": 0}, ValueError, "attempts must be at least 1, got attempts=0."),
            ({"seed": 1.5}, TypeError, "seed must be an integer, got seed=1.5."),
            (
                {"cache": "cache/x"},
                TypeError,
                "cache must be a cache, got cache='cache/x'. Write cache=LMDBCache('cache/x').",
            ),
            ({"filters": [3]}, TypeError, "filters[0] must have judge and fingerprint, got filters[0]=3."),
            (
                {"real": []},
                ValueError,
                "real must have at least one item, got real=0. The dataset is empty: check its paths and annotations.",
            ),
        ],
    )
    def test_arguments(self, options: dict[str, Any], kind: type[Exception], message: str) -> None:
        with pytest.raises(kind) as caught:
            GeneratedDataset(**{"real": ScenesDataset(3), "generator": Shade(), **options})
        assert str(caught.value) == message

    def test_a_filter_that_is_not_in_a_list(self) -> None:
        with pytest.raises(
            TypeError, match=r"^filters must be a list of filters, got .* Write filters=\[MinBox\(\)\]\.$"
        ):
            GeneratedDataset(ScenesDataset(3), Shade(), filters=RejectBy(share=0.5))  # type: ignore[arg-type]

    def test_a_format_that_no_adapter_knows(self) -> None:
        with pytest.raises(TypeError) as caught:
            GeneratedDataset([{"picture": torch.zeros(3)}], Shade())[0]
        assert str(caught.value) == (
            "items of list must have a format that an adapter knows, got dict with 'picture'. Pass adapter=, an object "
            f"with to_sample and from_sample, or return items that one of these knows: {', '.join(KNOWN)}."
        )

    def test_an_iterable_dataset(self) -> None:
        with pytest.raises(TypeError, match=r"^dataset must have __getitem__ and __len__ \(a map-style dataset\)"):
            GeneratedDataset(iter([1, 2]), Shade())

    def test_a_missing_image_and_a_truncated_one_are_named(self, tmp_path: Path, coco: CocoDataset) -> None:
        generated = GeneratedDataset(coco, ColorTransfer(), variants=1)
        file = tmp_path / "coco" / "images" / "scene_002.png"
        file.write_bytes(file.read_bytes()[:200])
        with pytest.raises(Exception, match=r"scene_002\.png"):
            generated[2]
        file.unlink()
        with pytest.raises(FileNotFoundError, match=r"scene_002\.png"):
            generated[2]


def _try(generated: GeneratedDataset, index: int) -> Any:
    try:
        return describe(generated[index])
    except ShortfallError as error:
        return str(error)


def _no() -> Any:
    raise AssertionError("a generated sample has an origin")
