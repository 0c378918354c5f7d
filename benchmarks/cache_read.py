"""Random access to a full sample: 640x480 photograph, 8 boxes, 8 labels, 8 masks; against the floor and against peers.

`python -m benchmarks.cache_read [--turns 15] [--samples 100] [--settings same,native,pixels]`. The floor is what no
cache can beat: the same JPEG bytes and packed masks in memory, decoded by the fastest decoders. Three settings:

* `same`: every peer stores the same bytes and decodes with the same decoders;
* `native`: every peer stores its own types and decodes with its own decoders;
* `pixels`: our lossless codecs and views beside one copy of the pixels in memory.

All files are in the page cache; `benchmarks.cache_readahead` measures the other case. Every contender is checked
first: what it gives back is what was stored. Aims: at most 1.1 times the floor, ahead of every peer, and `raw` at half
of the speed of the copy or better.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._cache_contenders import PEERS, choose, prepare, read_all, use_one_thread
from benchmarks._cache_native import NATIVE
from benchmarks._cache_ours import Floor, Ours, fill
from benchmarks._cache_samples import SIZE_HW, Photograph, encode_fields, load_photographs
from benchmarks._cache_stores import STORES
from benchmarks.harness import interleave, list_versions, make_parser, tabulate, write_results
from synthloader import LMDBCache, Sample

SETTINGS = ("same", "native", "pixels")
AIM = 1.1
FLOOR = Floor(own_arrays=False)


def measure_same(photographs: Sequence[Photograph], turns: int, skipped: dict[str, str]) -> list[dict[str, Any]]:
    """All peers with the same bytes and decoders."""
    fields = [encode_fields(photograph) for photograph in photographs]
    ours = [FLOOR, Floor(own_arrays=True), Ours("jpeg"), Ours("jpeg", with_masks=False)]
    contenders: list[tuple[Any, Any]] = [(contender, photographs) for contender in ours]
    contenders += [(store, fields) for store in choose(STORES, skipped)]
    return measure(contenders, photographs, turns, setting="same bytes")


def measure_native(photographs: Sequence[Photograph], turns: int, skipped: dict[str, str]) -> list[dict[str, Any]]:
    """All peers with types and decoders of their own; ours with each codec."""
    ours = [FLOOR, Ours("jpeg"), Ours("jpeg-444"), Ours("zstd"), Ours("raw")]
    contenders = [(contender, photographs) for contender in [*ours, *choose(NATIVE, skipped)]]
    return measure(contenders, photographs, turns, setting="native types")


def measure(
    contenders: Sequence[tuple[Any, Sequence[Any]]], photographs: Sequence[Photograph], turns: int, *, setting: str
) -> list[dict[str, Any]]:
    """Fill, check and time contenders in one run, all in the same random order of positions."""
    order = np.random.default_rng(2).permutation(len(photographs)).tolist()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        reads, facts = prepare(contenders, photographs, Path(folder), stack)
        timings = interleave({name: partial(read_all, read, order) for name, read in reads.items()}, turns=turns)
    rows = tabulate(timings, timings[FLOOR.name], setting=setting)
    return [{**row, **facts[row["what"]]} for row in rows]


def measure_pixels(photographs: Sequence[Photograph], turns: int, _: dict[str, str]) -> list[dict[str, Any]]:
    """Our codecs `raw` and `zstd`, with and without the target, beside a copy of the pixels in memory."""
    order = np.random.default_rng(3).permutation(len(photographs)).tolist()
    keys = [photographs[index].key for index in order]
    images = [photographs[index].item.image for index in order]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        caches = {}
        for codec in ("raw", "zstd"):
            fill(Path(folder) / codec, codec, photographs)
            caches[codec] = stack.enter_context(LMDBCache(Path(folder) / codec, codec=codec, readonly=True))
            with LMDBCache(Path(folder) / f"{codec}-image", codec=codec) as cache:
                cache.put_many((photograph.key, Sample(photograph.item.image)) for photograph in photographs)
            name = f"{codec}, image only"
            caches[name] = stack.enter_context(LMDBCache(Path(folder) / f"{codec}-image", codec=codec, readonly=True))
        for cache in caches.values():
            for key, image in zip(keys, images, strict=True):
                found = cache.get(key)
                if not isinstance(found, Sample) or not np.array_equal(found.image, image):
                    raise ValueError(f"{cache} gave back other pixels")
        contenders: dict[str, Callable[[], int]] = {
            "copy in memory, into one buffer": partial(copy_into_one, images),
            "copy in memory, into arrays of their own": partial(copy_each, images),
        }
        contenders |= {f"get, {name}": partial(get_all, cache, keys) for name, cache in caches.items()}
        contenders |= {f"view, {name}": partial(view_all, caches[name], keys) for name in ("raw", "raw, image only")}
        timings = interleave(contenders, turns=turns, warm_up=2)
    rows = tabulate(timings, timings["copy in memory, into one buffer"], setting="pixels")
    return [{**row, "kB on disk": "", "pixels": "exact"} for row in rows]


def copy_into_one(images: Sequence[np.ndarray]) -> int:
    """Copy each into the same buffer."""
    buffer = np.empty((*SIZE_HW, 3), np.uint8)
    for image in images:
        np.copyto(buffer, image)
    return len(images)


def copy_each(images: Sequence[np.ndarray]) -> int:
    """Copy each into a new array, and let go of it."""
    for image in images:
        image.copy()
    return len(images)


def get_all(cache: LMDBCache, keys: Sequence[bytes]) -> int:
    """Get each sample and its pixels."""
    for key in keys:
        sample: Any = cache.get(key)
        sample.image.shape  # noqa: B018
    return len(keys)


def view_all(cache: LMDBCache, keys: Sequence[bytes]) -> int:
    """Look at one pixel of each where it lies."""
    for key in keys:
        sample: Any
        with cache.view(key) as sample:
            sample.image[240, 320, 0]
    return len(keys)


def judge(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Each aim with what was measured, met or missed."""
    lines = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        group = {row["what"]: row for row in rows if row["setting"] == setting}
        if setting == "pixels":
            for name in ("get, raw", "get, raw, image only"):
                lines.append(_word(name, group[name]["ratio"], 2.0, "a copy of the pixels"))
            continue
        lines.append(f"{setting}: {_word('jpeg', group['synthloader, jpeg']['ratio'], AIM, 'the floor')}")
        for codec in ("jpeg", "raw"):
            if (ours := group.get(f"synthloader, {codec}")) is None:
                continue
            ahead = [
                f"{name} ({row['us']:.0f} us)"
                for name, row in group.items()
                if not name.startswith(("synthloader", "floor")) and row["us"] < ours["us"]
            ]
            lines.append(f"{setting}: peers ahead of {codec} ({ours['us']:.0f} us): {', '.join(ahead) or 'none'}")
    return lines


def _word(what: str, ratio: float, aim: float, base: str) -> str:
    return f"{what}: {ratio:.3f} times {base}, aim {aim:g}: {'met' if ratio <= aim else 'MISSED'}"


def main() -> None:
    """Measure the settings asked for."""
    parser = make_parser(__doc__, turns=15)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--settings", default=",".join(SETTINGS), help="comma-separated: " + ", ".join(SETTINGS))
    arguments = parser.parse_args()
    use_one_thread()
    measures = {"same": measure_same, "native": measure_native, "pixels": measure_pixels}
    photographs = load_photographs(arguments.samples)
    skipped: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for setting in arguments.settings.split(","):
        rows += measures[setting](photographs, arguments.turns, skipped)
    verdicts = judge(rows)
    path = write_results(
        "cache_read",
        rows,
        folder=arguments.results,
        samples=arguments.samples,
        turns=arguments.turns,
        peers=list_versions(PEERS),
        skipped=skipped,
        verdicts=verdicts,
    )
    print("\n" + "\n".join(verdicts) + f"\nwritten to {path}")


if __name__ == "__main__":
    main()
