"""What an entry of a cache is found by: one test for each part of its key, and one for each thing that is no part."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from torch.utils.data import Subset

import synthloader
from synthloader import keys
from synthloader.adapters import CocoDataset, DetectionAdapter
from synthloader.cache import LMDBCache
from synthloader.filters import MinBox
from synthloader.generated import GeneratedDataset
from synthloader.generators import CopyPaste
from synthloader.precompute import precompute
from synthloader.protocols import Rejected
from synthloader.sample import Sample
from tests.golden import fingerprints
from tests.scenes import RejectBy, ScenesDataset, Shade, write_coco

ROOT = Path(synthloader.__file__).resolve().parents[1]


class Weighted(Shade):
    """A generator with weights, whose hash is in its fingerprint."""

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.fingerprint = f"Weighted/1(weights={weights})"


class World:
    """A data set on disk and a cache that was filled from it."""

    def __init__(self, folder: Path, generator: Any = None) -> None:
        self.folder = folder
        self.images = folder / "data" / "images"
        write_coco(folder / "data", 4)
        self.options: dict[str, Any] = {"generator": generator or Shade(), "variants": 2, "seed": 0, "attempts": 1}
        self.root = folder / "data"

    def open(self, **changes: Any) -> GeneratedDataset:
        options = {**self.options, **changes}
        dataset = options.pop("dataset", None) or CocoDataset(self.root / "images", self.root / "annotations.json")
        options.setdefault("cache", LMDBCache(self.folder / "cache"))
        return GeneratedDataset(dataset, **options)

    def fill(self) -> None:
        generated = self.open()
        assert precompute(generated, progress=False).generated == 8
        generated.cache.close()  # type: ignore[union-attr]

    def count_misses(self, source: int = 2, variant: int = 1, **changes: Any) -> int:
        generated = self.open(**changes)
        outcome = generated.make(source, variant, collect=True)
        generated.cache.close()  # type: ignore[union-attr]
        assert outcome.hits + outcome.misses == 1
        return outcome.misses


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.fill()
    assert made.count_misses() == 0
    return made


class TestAnotherPartOfTheKeyIsAnotherEntry:
    def test_the_generator_s_parameters(self, world: World) -> None:
        assert world.count_misses(generator=Shade(strength=21)) == 1

    def test_the_generator_s_weights(self, tmp_path: Path) -> None:
        world = World(tmp_path, Weighted("aa"))
        world.fill()
        assert world.count_misses(generator=Weighted("aa")) == 0
        assert world.count_misses(generator=Weighted("ab")) == 1

    def test_the_adapter(self, world: World) -> None:
        assert world.count_misses(adapter=DetectionAdapter(bad_boxes="drop")) == 1

    def test_the_source_s_name(self, world: World) -> None:
        (world.images / "scene_002.png").rename(world.images / "renamed.png")
        file = world.root / "annotations.json"
        file.write_text(file.read_text().replace("scene_002.png", "renamed.png"))
        assert world.count_misses() == 1
        assert world.count_misses(source=1) == 0

    def test_the_source_s_image(self, world: World) -> None:
        image = cv2.imread(str(world.images / "scene_002.png"))
        image[0, 0] ^= 1
        cv2.imwrite(str(world.images / "scene_002.png"), image)
        assert world.count_misses() == 1
        assert world.count_misses(source=1) == 0

    def test_the_source_s_annotation(self, world: World) -> None:
        file = world.root / "annotations.json"
        annotations = json.loads(file.read_text())
        for each in annotations["annotations"]:
            if each["image_id"] == 102:
                each["category_id"] = 1 + each["category_id"] % 3
        file.write_text(json.dumps(annotations))
        assert world.count_misses() == 1
        assert world.count_misses(source=1) == 0

    def test_the_pool_where_the_generator_draws_from_it(self, tmp_path: Path) -> None:
        world = World(tmp_path, CopyPaste(num_range=(1, 1)))
        world.options["attempts"] = 1
        precompute(world.open(), progress=False)
        assert world.count_misses() == 0
        dataset = CocoDataset(world.images, world.root / "annotations.json")
        assert world.count_misses(pool=Subset(dataset, [0, 1])) == 1

    def test_the_variant(self, world: World) -> None:
        assert world.count_misses(variants=3, variant=2) == 1

    def test_the_attempt(self, world: World) -> None:
        generated = world.open(attempts=2, filters=[RejectBy(share=1.1)])
        outcome = generated.make(2, 1, collect=True)
        assert (outcome.hits, outcome.misses) == (1, 1)

    def test_the_seed(self, world: World) -> None:
        assert world.count_misses(seed=1) == 1

    def test_the_version_of_the_recipe_of_keys(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keys, "KEY_VERSION", keys.KEY_VERSION + 1)
        assert world.count_misses() == 1

    def test_the_version_of_a_data_set_that_names_no_files(self, tmp_path: Path) -> None:
        def count(version: str) -> int:
            with LMDBCache(tmp_path / "cache") as cache:
                generated = GeneratedDataset(ScenesDataset(2), Shade(), cache=cache, variants=1, version=version)
                return generated.make(0, 0).misses

        assert [count("1"), count("1"), count("2")] == [1, 0, 1]


class TestNothingElseIsPartOfTheKey:
    @pytest.mark.parametrize(
        "changes",
        [
            {"filters": [RejectBy(share=0.0)]},
            {"filters": [MinBox(min_side=2)]},
            {"attempts": 5},
            {"variants": 7},
            {"license": "CC0"},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_options_of_the_data_set(self, world: World, changes: dict[str, Any]) -> None:
        assert world.count_misses(**changes) == 0

    def test_a_filter_s_threshold(self, world: World) -> None:
        for share in (0.0, 0.2, 0.9):
            assert world.count_misses(filters=[RejectBy(share=share)]) == 0

    def test_the_path_of_the_data_set_s_root(self, world: World) -> None:
        shutil.copytree(world.root, world.folder / "elsewhere" / "deeper")
        shutil.rmtree(world.root)
        world.root = world.folder / "elsewhere" / "deeper"
        assert world.count_misses() == 0

    def test_a_file_s_time(self, world: World) -> None:
        os.utime(world.images / "scene_002.png", (1, 1))
        assert world.count_misses() == 0

    def test_the_notes_about_files(self, world: World) -> None:
        (world.folder / "cache" / "stamps.jsonl").unlink(missing_ok=True)  # Files of this very moment have no note.
        assert world.count_misses() == 0

    @pytest.mark.parametrize("codec", ["raw", "jpeg", "jpeg-444"])
    def test_the_codec_of_another_cache(self, world: World, codec: str) -> None:
        with LMDBCache(world.folder / "other", codec=codec) as other:
            generated = world.open(cache=other)
            precompute(generated, progress=False)
            with LMDBCache(world.folder / "cache") as cache:
                assert list(other) == list(cache)

    def test_what_else_is_in_the_data_set(self, world: World) -> None:
        dataset = CocoDataset(world.images, world.root / "annotations.json")
        assert world.count_misses(dataset=Subset(dataset, [3, 2]), source=1) == 0

    def test_another_pool_where_nothing_is_drawn_from_it(self, world: World) -> None:
        dataset = CocoDataset(world.images, world.root / "annotations.json")
        assert world.count_misses(pool=Subset(dataset, [0])) == 0

    def test_the_place_of_the_cache(self, world: World) -> None:
        (world.folder / "cache").rename(world.folder / "moved")
        assert world.count_misses(cache=LMDBCache(world.folder / "moved")) == 0


class TestVerdicts:
    def test_rejections_stand_beside_the_records_and_are_not_tried_again(self, world: World) -> None:
        judged: list[str] = []

        class Asked(RejectBy):
            def judge(self, generated: Sample, source: Sample, /) -> Any:
                judged.append(generated.origin.source if generated.origin else "")
                return super().judge(generated, source)

        def run(share: float) -> tuple[int, int]:
            judged.clear()
            generated = world.open(filters=[Asked(share=share)], attempts=3)
            report = precompute(generated, progress=False)
            generated.cache.close()  # type: ignore[union-attr]
            return report.generated, len(judged)

        first = run(0.6)
        assert first[0] > 0  # Further attempts where the first was rejected.
        assert run(0.6) == (0, 0)
        assert run(0.5)[0] == 0  # Judged anew, nothing generated.
        assert run(0.6) == (0, 0)

    def test_scores_stand_with_the_verdicts_and_not_in_the_record(self, world: World) -> None:
        generated = world.open(filters=[RejectBy(share=0.0)])
        served = generated.sample(5)
        assert served.origin is not None
        assert set(served.origin.scores) == {"RejectBy"}
        with LMDBCache(world.folder / "cache") as cache:
            kept = cache.get(generated.make_cache_key(2, 1))
            assert isinstance(kept, Sample)
            assert kept.origin is not None
            assert kept.origin.scores == {}
            verdict = cache.get_verdict(generated.make_cache_key(2, 1), RejectBy(share=0.0).fingerprint, of=kept)
            assert verdict is not None
            assert verdict.score == served.origin.scores["RejectBy"]


class TestProvenance:
    def test_a_record_says_where_its_sample_came_from(self, tmp_path: Path) -> None:
        class Edit(Shade):
            def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
                made = super().generate(source, rng=rng)
                return source.edit(image=made.image, target=made.target, prompt="fog", model="m/1", weights="aa00")

        world = World(tmp_path, Edit())
        world.options["license"] = "images CC0, model OpenRAIL"
        world.fill()
        generated = world.open()
        with LMDBCache(tmp_path / "cache") as cache:
            sample = cache.get(generated.make_cache_key(2, 1))
        assert isinstance(sample, Sample)
        origin = sample.origin
        assert origin is not None
        assert (origin.source, origin.fingerprint, origin.variant, origin.attempt, origin.seed) == (
            "scene_002.png", "Shade/1(strength=20)", 1, 0, 0,
        )  # fmt: skip
        assert (origin.prompt, origin.model, origin.weights) == ("fog", "m/1", "aa00")
        assert origin.license == "images CC0, model OpenRAIL"
        names = {1: "disc", 2: "coin", 3: "cell"}
        assert origin.class_names == {each: names[each] for each in sorted(set(sample.target.class_ids.tolist()))}  # type: ignore[union-attr]

    def test_a_rejected_candidate_says_so_too(self, tmp_path: Path) -> None:
        class Nothing(Shade):
            def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
                raise synthloader.NothingToGenerate("no donor")

        world = World(tmp_path, Nothing())
        world.fill()
        generated = world.open()
        with LMDBCache(tmp_path / "cache") as cache:
            entry = cache.get(generated.make_cache_key(3, 0))
        assert isinstance(entry, Rejected)
        assert entry.reason == "no donor"
        assert entry.origin is not None
        assert (entry.origin.source, entry.origin.fingerprint, entry.origin.variant) == (
            "scene_003.png", "Shade/1(strength=20)", 0,
        )  # fmt: skip


def test_fingerprints_and_keys_are_the_same_in_every_process_and_for_every_hash_seed() -> None:
    texts = set()
    for hash_seed in ("0", "4242"):
        run = subprocess.run(
            [sys.executable, "-m", "tests.golden.fingerprints"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        texts.add(run.stdout)
    assert texts == {fingerprints.GOLDEN.read_text(encoding="utf-8")}
