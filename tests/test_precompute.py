"""`precompute`: fills, stops, resumes to the same set, and loses nothing that was committed."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import Subset

from synthloader.adapters import CocoDataset
from synthloader.cache import LMDBCache, MemoryCache
from synthloader.generated import GeneratedDataset
from synthloader.generators import CopyPaste
from synthloader.mixed import MixedDataset
from synthloader.plans import Balance
from synthloader.precompute import PrecomputeReport, precompute
from tests.scenes import RejectBy, ScenesDataset, Shade, describe, write_coco

SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_precompute import make_generated
from tests.scenes import Shade
from synthloader.precompute import precompute
class Slow(Shade):
    def generate(self, source, /, *, rng):
        time.sleep(0.05)
        return super().generate(source, rng=rng)
if __name__ == "__main__":
    generated = make_generated(Path({folder!r}), Slow())
    print("start", flush=True)
    precompute(generated, num_workers={workers}, progress=False)
"""


def make_generated(folder: Path, generator: Any = None, **options: Any) -> GeneratedDataset:
    images = folder.parent / "coco"
    if not images.exists():
        write_coco(images, 8)
    real = CocoDataset(images / "images", images / "annotations.json")
    options = {"filters": [RejectBy(share=0.4)], "variants": 3, "attempts": 2, **options}
    return GeneratedDataset(real, generator or Shade(), cache=LMDBCache(folder), **options)


def read_entries(folder: Path) -> dict[bytes, Any]:
    cache = LMDBCache(folder)
    entries: dict[bytes, Any] = {}
    for key in cache:
        entry = cache.get(key)
        entries[key] = entry.image.tobytes() if hasattr(entry, "image") else entry
    cache.close()
    return entries


@pytest.mark.parametrize("num_workers", [0, 2])
def test_it_fills_the_cache_and_the_second_run_makes_nothing(tmp_path: Path, num_workers: int) -> None:
    generated = make_generated(tmp_path / "cache")
    seen: list[int] = []
    first = precompute(generated, num_workers=num_workers, progress=lambda report: seen.append(report.done))
    assert (first.total, first.done, first.cached) == (24, 24, 0)
    assert first.accepted + first.failed == 24
    assert first.rejected["RejectBy: first pixels"] == first.generated - first.accepted
    assert seen == list(range(25))
    second = precompute(generated, num_workers=num_workers, progress=False)
    assert (second.generated, second.cached, second.accepted) == (0, first.generated, first.accepted)
    generated.cache.close()  # type: ignore[union-attr]


def test_training_then_finds_everything(tmp_path: Path) -> None:
    generated = make_generated(tmp_path / "cache", CopyPaste(num_range=(1, 2)), filters=())
    precompute(generated, progress=False)
    train = MixedDataset(generated.dataset, generated, ratio=1.0)
    plain = MixedDataset(
        generated.dataset, make_generated(tmp_path / "other", CopyPaste(num_range=(1, 2)), filters=()), ratio=1.0
    )
    for index in range(8, 16):
        assert describe(train[index]) == describe(plain[index])
    part = train.report().sets["generated"]
    assert part.cache_misses == 0
    assert part.cache_hits >= 8
    for made in (generated, plain.sets[0].dataset):
        made.cache.close()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_it_resumes_to_exactly_the_same_set(tmp_path: Path, num_workers: int, kill: int) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    expected = make_generated(whole)
    precompute(expected, progress=False)
    expected.cache.close()  # type: ignore[union-attr]
    root = Path(__file__).parents[1]
    code = SCRIPT.format(root=str(root), folder=str(stopped), workers=num_workers)
    (tmp_path / "run.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "start\n"
        time.sleep(1.0)
        os.killpg(process.pid, kill)
        process.wait(60)
    assert process.returncode != 0
    if kill == signal.SIGINT:
        assert 0 < len(read_entries(stopped)) < len(read_entries(whole))
    resumed = make_generated(stopped)
    report = precompute(resumed, progress=False)
    resumed.cache.close()  # type: ignore[union-attr]
    assert report.done == 24
    assert read_entries(stopped) == read_entries(whole)


def test_keyboard_interrupt_commits_what_is_finished(tmp_path: Path) -> None:
    generated = make_generated(tmp_path / "cache", filters=())
    reports: list[PrecomputeReport] = []

    def stop(report: PrecomputeReport) -> None:
        reports.append(report)
        if report.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        precompute(generated, progress=stop)
    assert reports[-1].interrupted
    assert len(generated.cache) == 7  # type: ignore[arg-type]
    generated.cache.close()  # type: ignore[union-attr]


def test_another_pool_is_said_before_any_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    generated = make_generated(tmp_path / "cache", CopyPaste(), filters=())
    precompute(generated, progress=False)
    other = make_generated(tmp_path / "cache", CopyPaste(), filters=(), pool=Subset(generated.dataset, [0, 1, 2]))
    stale = len(generated.cache)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "synthloader"):
        report = precompute(other, progress=False)
    assert report.stale_entries == stale
    assert caplog.messages == [
        f"{stale} entries of the cache were made with donors from another pool (another recipe's, or this one's before "
        "it changed): they stay for that pool, and are not used with this one"
    ]
    assert "scene_007.png" in (tmp_path / "cache" / "pools.json").read_text()
    generated.cache.close()  # type: ignore[union-attr]
    other.cache.close()  # type: ignore[union-attr]


def test_a_balance_plan_is_filled_for_each_class_it_aims_at(tmp_path: Path) -> None:
    generated = make_generated(tmp_path / "cache", CopyPaste(num_range=(1, 1)), filters=(), variants=4)
    plan = Balance(12, count="images")
    train = MixedDataset(generated.dataset, generated, plan=plan)
    report = precompute(generated, progress=False, target_classes=[1, 2, 3])
    assert report.total == 32 * 3
    for index in range(8, len(train)):
        train[index]
    assert train.report().sets["generated"].cache_misses == 0
    generated.cache.close()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"cache": None},
            "generated.cache must be given to be filled, got generated.cache=None. Pass cache=LMDBCache('cache/train') to GeneratedDataset.",
        ),
        (
            {"cache": MemoryCache(), "variants": None},
            "variants must be given to fill a cache, got variants=None. Pass variants=4, say, to GeneratedDataset.",
        ),
    ],
)
def test_what_it_needs(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_coco(tmp_path, 3)
    real = CocoDataset(tmp_path / "images", tmp_path / "annotations.json")
    with pytest.raises(ValueError) as caught:
        precompute(GeneratedDataset(real, Shade(), **options))
    assert str(caught.value) == message


def test_parts_fill_shards_that_together_are_the_whole(tmp_path: Path) -> None:
    whole = make_generated(tmp_path / "whole")
    precompute(whole, progress=False)
    parted = make_generated(tmp_path / "parted")
    totals = [precompute(parted, part=(number, 3), progress=False).total for number in (1, 2, 3)]
    assert totals == [8, 8, 8]
    assert sorted(folder.name for folder in (tmp_path / "parted").iterdir() if folder.is_dir()) == [
        "part-1-of-3", "part-2-of-3", "part-3-of-3",
    ]  # fmt: skip
    assert not (tmp_path / "parted" / "data.mdb").exists()
    assert read_entries(tmp_path / "parted") == read_entries(tmp_path / "whole")
    assert precompute(parted, progress=False).generated == 0
    for each in (whole, parted):
        each.cache.close()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("part", "kind", "message"),
    [
        (
            "2/4",
            TypeError,
            "part must be a pair (number, count), got part='2/4'. Write part=(2, 4) for the second of four.",
        ),
        ((0, 4), ValueError, "part[0] must be at least 1, got part[0]=0."),
        ((5, 4), ValueError, "part must have number <= count, got part=(5, 4). The last of 4 parts is (4, 4)."),
    ],
)
def test_parts_that_are_none_are_refused(tmp_path: Path, part: Any, kind: type[Exception], message: str) -> None:
    generated = make_generated(tmp_path / "cache")
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        precompute(generated, part=part, progress=False)


def test_a_cache_without_shards_has_no_parts() -> None:
    generated = GeneratedDataset(ScenesDataset(2), Shade(), cache=MemoryCache(), variants=1)
    message = r"^part must be None for a cache without shards, got part=\(1, 2\)\. Use LMDBCache, or leave part out\.$"
    with pytest.raises(ValueError, match=message):
        precompute(generated, part=(1, 2), progress=False)
