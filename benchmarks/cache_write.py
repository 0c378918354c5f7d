"""Writing full samples: 640x480 photograph, 8 boxes, 8 labels, 8 masks, encoded on the way; against peers.

`python -m benchmarks.cache_write [--turns 9] [--samples 100]`. Everybody starts from pixels and masks in memory and
encodes them (peers with the same encoders: JPEG of quality 95 and 4:2:0, packed masks), in batches of 32 where there
are any. A turn ends when what was written can be read; LMDB, and so our cache, has then brought it to the disk, the
others leave that to the system (column `synced`). The share of our time that is encoding is taken turn by turn: the
encoders alone, and whole records. Aim: at least 85 %.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._cache_contenders import PEERS, choose, use_one_thread
from benchmarks._cache_ours import fill
from benchmarks._cache_samples import Fields, Photograph, encode_fields, load_photographs
from benchmarks._cache_stores import STORES, Store
from benchmarks.harness import Timing, interleave, list_versions, make_parser, tabulate, write_results
from synthloader import LMDBCache
from synthloader.cache.bitmasks import pack_masks
from synthloader.cache.codecs import encode_image

CODECS = ("jpeg", "zstd", "raw")
AIM = 0.85


class EncodedWhenAsked(Sequence[Fields]):
    """The records of a store; each is encoded when the store comes to it."""

    def __init__(self, photographs: Sequence[Photograph]) -> None:
        self.photographs = photographs

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: Any) -> Any:
        return encode_fields(self.photographs[index], anew=True)


def encode_alone(photographs: Sequence[Photograph], codec: str) -> int:
    """What the encoders of our cache take, and nothing else."""
    for photograph in photographs:
        encode_image(photograph.find_image(codec), codec)
        pack_masks(photograph.item.masks)
    return len(photographs)


def encode_records(photographs: Sequence[Photograph], codec: str) -> int:
    """What the whole records of our cache take to make, without being written."""
    cache = LMDBCache(Path(tempfile.gettempdir()) / "never-made", codec=codec)
    for photograph in photographs:
        cache.encode(photograph.to_sample(codec=codec))
    return len(photographs)


def write_ours(folder: Path, photographs: Sequence[Photograph], codec: str) -> int:
    """Fill a new cache."""
    fill(folder, codec, photographs)
    return len(photographs)


def write_store(folder: Path, photographs: Sequence[Photograph], store: Store) -> int:
    """Fill a new store of a peer."""
    folder.mkdir()
    store.write(folder, EncodedWhenAsked(photographs))
    return len(photographs)


def measure(photographs: Sequence[Photograph], turns: int, skipped: dict[str, str]) -> dict[str, Timing]:
    """Everybody writes into a new folder, in every turn; what was written before is on the disk by then."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "written"
        contenders: dict[str, Callable[[], int]] = {}
        for codec in CODECS:
            contenders[f"synthloader, {codec}"] = partial(write_ours, folder, photographs, codec)
            contenders[f"{codec}, records encoded"] = partial(encode_records, photographs, codec)
            contenders[f"{codec}, encoders alone"] = partial(encode_alone, photographs, codec)
        for store in choose(STORES, skipped):
            contenders[store.name] = partial(write_store, folder, photographs, store)

        def clear(_: str) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            os.sync()

        return interleave(contenders, turns=turns, before=clear)


def compute_shares(timings: dict[str, Timing]) -> dict[str, dict[str, float]]:
    """For each codec the share of our time that the encoders, and the whole records, take."""
    return {
        codec: {
            part: statistics.median(
                alone / total
                for alone, total in zip(
                    timings[f"{codec}, {part}"].turns, timings[f"synthloader, {codec}"].turns, strict=True
                )
            )
            for part in ("encoders alone", "records encoded")
        }
        for codec in CODECS
    }


def main() -> None:
    """Measure, and say which share of our time is encoding."""
    parser = make_parser(__doc__, turns=9)
    parser.add_argument("--samples", type=int, default=100)
    arguments = parser.parse_args()
    use_one_thread()
    photographs = load_photographs(arguments.samples)
    skipped: dict[str, str] = {}
    timings = measure(photographs, arguments.turns, skipped)
    rows = [
        {
            **row,
            "samples per s": 1e6 / row["us"],
            "synced": "yes" if row["what"].startswith(("synthloader", "LMDB")) else "no",
        }
        for row in tabulate(timings, timings["synthloader, jpeg"])
    ]
    shares = compute_shares(timings)
    path = write_results(
        "cache_write",
        rows,
        folder=arguments.results,
        samples=arguments.samples,
        turns=arguments.turns,
        peers=list_versions(PEERS),
        skipped=skipped,
        share_of_encoding=shares,
    )
    print()
    for codec, parts in shares.items():
        for part, share in parts.items():
            verdict = ("met" if share >= AIM else "MISSED") if codec == "jpeg" else "no aim"
            print(f"{codec}: {part}: {share:.1%} of the time of put_many (aim {AIM:.0%}: {verdict})")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
