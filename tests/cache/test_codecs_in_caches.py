"""Images of any size through a cache of every codec; labels are exact whatever becomes of the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.codecs import CODECS, LOSSLESS_CODECS
from synthloader.cache.upkeep.verify import verify
from synthloader.protocols import Verdict
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.cache.processes import run_elsewhere
from tests.cache.samples import assert_same, make_sample

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

SIZES_HW = [
    *((1, 1), (1, 2), (2, 1), (3, 5), (7, 7), (8, 8), (9, 17), (1, 1000), (1000, 1), (255, 257), (2, 85), (2, 86)),
    *((1, 65500), (65500, 1), (1, 65501), (65501, 1), (1, 65535), (1, 65536), (2, 70_001)),
]


def make_image(size_hw: tuple[int, int], *, is_gray: bool = False) -> np.ndarray:
    """Smooth, as photographs are."""
    height, width = size_hw
    rng = np.random.Generator(np.random.Philox(key=height * 7 + width))
    small = rng.integers(30, 220, (4, 4, 3), np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, 3)
    return np.repeat(image[:, :, :1], 3, axis=2) if is_gray else np.ascontiguousarray(image)


def make_targets(size_hw: tuple[int, int]) -> dict[str, Any]:
    height, width = size_hw
    rng = np.random.Generator(np.random.Philox(key=width))
    count = 3
    corners = np.sort(rng.random((count, 2, 2), np.float32), axis=1) * np.float32([width, height])
    return {
        "nothing": None,
        "a label": ClassLabel(2**40),
        "a semantic mask": SemanticMask(rng.integers(0, 300, size_hw, np.int32)),
        "instances": Instances(
            class_ids=np.array([3, 1, 2**50]),
            boxes=corners.reshape(count, 4),
            masks=rng.random((count, *size_hw)) < 0.3,
            keypoints=rng.random((count, 5, 3), np.float32),
            crowd=np.array([True, False, True]),
            attributes={"visible": rng.random(count), "who": np.array(["a", "bcd", "ü"]), "ids": np.arange(6).reshape(3, 2)},
        ),
        "no instances": Instances(class_ids=np.zeros(0, np.int64), boxes=np.zeros((0, 4), np.float32)),
    }  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size_hw", SIZES_HW, ids=lambda size_hw: "x".join(map(str, size_hw)))
@pytest.mark.parametrize("is_gray", [True, False])
def test_images_of_any_size(tmp_path: Path, codec: str, size_hw: tuple[int, int], is_gray: bool) -> None:
    image = make_image(size_hw, is_gray=is_gray)
    with LMDBCache(tmp_path, codec=codec) as cache:
        for name, target in make_targets(size_hw).items():
            sample = Sample(
                image, target, maps={"depth": np.arange(np.prod(size_hw), dtype=np.float32).reshape(size_hw)}
            )
            key = name.encode()
            cache.put(key, sample)
            found = cache.get(key)
            assert isinstance(found, Sample)
            assert_same(found.replace(image=image), sample)
            assert_same(cache.recode(sample), found)
            assert (found.image.shape, found.image.dtype) == (image.shape, np.uint8)
            assert found.image.flags.writeable
            assert found.image.flags.c_contiguous
            if codec in LOSSLESS_CODECS or max(size_hw) > 65500:
                assert found.image.tobytes() == image.tobytes()
            elif min(size_hw) >= 100:
                assert np.abs(found.image.astype(int) - image).mean() < 3
            if is_gray:
                assert (found.image == found.image[:, :, :1]).all()
            # What came out goes in again without another change of the labels, and a miss is as a hit.
            cache.put(key + b" again", found)
            assert_same(cache.get(key + b" again").replace(image=image), sample)  # type: ignore[union-attr]
            cache.put_verdict(key, "f", Verdict(True, 0.5, sample=found.replace(metadata={"a": 1})), of=found)
            assert_same(cache.get_verdict(key, "f", of=found).sample.image, found.image)  # type: ignore[union-attr]
        assert verify(cache).findings == []


@pytest.mark.parametrize("codec", CODECS)
def test_a_jpeg_cache_gives_the_same_bits_in_every_process(tmp_path: Path, codec: str) -> None:
    sample = make_sample(3, size_hw=(61, 47))
    with LMDBCache(tmp_path, codec=codec) as cache:
        cache.put(b"1", sample)
        here = cache.recode(sample)
        assert_same(cache.get(b"1"), here)
        assert_same(run_elsewhere(lambda: cache.recode(sample).image), here.image)  # type: ignore[union-attr]
        assert_same(run_elsewhere(lambda: cache.get(b"1").image), here.image)  # type: ignore[union-attr]


@pytest.mark.parametrize("codec", CODECS)
def test_a_cache_without_a_codec_takes_over_the_one_there_is(tmp_path: Path, codec: str) -> None:
    with LMDBCache(tmp_path, codec=codec) as cache:
        cache.put(b"1", make_sample(1))
        expected = cache.recode(make_sample(2))
    for readonly in (True, False):
        with LMDBCache(tmp_path, readonly=readonly) as cache:
            assert_same(cache.recode(make_sample(2)), expected)
            assert cache.codec == codec
    with LMDBCache(tmp_path) as cache:
        cache.put(b"2", make_sample(2))
        assert_same(cache.get(b"2"), expected)


def test_a_new_cache_without_a_codec_loses_nothing(tmp_path: Path) -> None:
    with LMDBCache(tmp_path) as cache:
        cache.put(b"1", make_sample(1))
        assert cache.codec == "zstd"
        assert_same(cache.get(b"1"), make_sample(1))
