"""Filling, checking and timing of contenders that keep samples in folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import cv2
import torch

from benchmarks._cache_samples import Item, Photograph, describe_difference
from benchmarks.harness import find_missing

HINTS = {
    "streaming": "mosaicml-streaming 0.13 asks for numpy<2.2, xxhash<4 and transformers<5 but runs with newer ones: "
    "install it into an environment of its own, or with --no-deps and transformers, brotli, python-snappy, zstd and "
    "catalogue beside it",
    "ffcv": "ffcv 1.0 has no wheels: it is built against the development files of OpenCV 4 and libturbojpeg",
}
"""What to do about peers that the extra `bench` does not bring."""

PEERS = ("litdata", "streaming", "webdataset", "wids", "datasets", "ffcv", "h5py", "zarr", "lmdb", "pycocotools")

AnyContender = TypeVar("AnyContender", bound=Any)


def use_one_thread() -> None:
    """One thread for each library, so that contenders are compared and not thread pools; and nothing is fetched."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DO_NOT_TRACK": "1"})


def choose(contenders: Sequence[AnyContender], skipped: dict[str, str], /) -> list[AnyContender]:
    """Those whose packages are there; of the others it is printed, and noted in `skipped`, why not."""
    chosen = []
    for contender in contenders:
        reason = find_missing(contender.requires)
        if reason is None:
            chosen.append(contender)
            continue
        hint = next((HINTS[module] for module in contender.requires if module in HINTS), "install synthloader[bench]")
        skipped[contender.name] = f"{reason} ({hint})"
        print(f"skipped: {contender.name}: {skipped[contender.name]}", flush=True)
    return chosen


def prepare(
    contenders: Sequence[tuple[Any, Sequence[Any]]],
    photographs: Sequence[Photograph],
    folder: Path,
    stack: ExitStack,
    /,
) -> tuple[dict[str, Callable[[Sequence[int]], Any]], dict[str, dict[str, Any]]]:
    """Fill, open and check each contender.

    Args:
        contenders: Each with the records that it is given.
        photographs: What must come back.
        folder: Where they keep it.
        stack: Closes them.

    Returns:
        How to read from each, by name; and what is known of each: its size on the disk, how true the pixels are.
    """
    reads, facts = {}, {}
    for number, (contender, records) in enumerate(contenders):
        place = folder / str(number)
        place.mkdir()
        contender.write(place, records)
        read = stack.enter_context(contender.open(place))
        order = list(range(len(photographs)))
        worst = 0
        for photograph, item in zip(photographs, read(order), strict=True):
            worst = max(worst, describe_difference(_complete(item, photograph), photograph.item))
        reads[contender.name] = read
        facts[contender.name] = {
            "kB on disk": measure_disk(place) / len(photographs) / 1000,
            "pixels": "exact" if worst == 0 else f"differ by up to {worst}",
        }
        print(f"ready: {contender.name}", flush=True)
    return reads, facts


def read_all(read: Callable[[Sequence[int]], Any], order: Sequence[int], /) -> int:
    """Read these positions, one item after the other; none is kept."""
    count = 0
    for _ in read(order):
        count += 1
    return count


def measure_disk(folder: Path, /) -> int:
    """Bytes that the files of a folder take."""
    return sum(512 * file.stat().st_blocks for file in folder.rglob("*") if file.is_file())


def _complete(item: Item, photograph: Photograph) -> Item:
    return item if item.masks is not None else item._replace(masks=photograph.item.masks)
