"""Batches of 32 full samples through a loader: our cache, plain and under `GeneratedDataset`, and peers' own loaders.

`python -m benchmarks.loader_throughput [--turns 7] [--samples 192] [--workers 0,1,2] [--targets boxes,masks]`.
Everybody loads the same images and targets from files in the page cache, shuffled, and collates them into tensors: with
boxes and labels, and with masks too, of which a batch has three times the bytes of the images. The first epoch, with
the start of workers, is not counted. FFCV uses threads, one at least, and gives out memory that it uses again.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._cache_contenders import PEERS, choose, use_one_thread
from benchmarks._cache_loaders import LOADERS, Loader, check_batch
from benchmarks._cache_samples import Photograph, load_photographs
from benchmarks.harness import interleave, list_versions, make_parser, tabulate, write_results

BASE = "synthloader, LMDBCache, jpeg"


def drain(loader: Iterable[Any], batch_size: int, expected: int, with_masks: bool) -> int:
    """Load one epoch; nobody may leave out a sample."""
    count = sum(check_batch(batch, batch_size, with_masks=with_masks) for batch in loader)
    if count != expected:
        raise ValueError(f"{count} of {expected} samples were loaded")
    return count


def measure(
    loaders: Sequence[Loader], photographs: Sequence[Photograph], options: argparse.Namespace, *, targets: str
) -> list[dict[str, Any]]:
    """Write all sets, and load them with each number of workers, in turns."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        places = [Path(temporary) / str(number) for number in range(len(loaders))]
        for loader, place in zip(loaders, places, strict=True):
            place.mkdir()
            loader.write(place, photographs)
            print(f"ready: {loader.name}, {targets}", flush=True)
        for num_workers in map(int, options.workers.split(",")):
            contenders = {}
            for loader, place in zip(loaders, places, strict=True):
                opened = loader.open(place, batch_size=options.batch_size, num_workers=num_workers)
                with_masks = targets == "masks"
                contenders[loader.name] = partial(drain, opened, options.batch_size, len(photographs), with_masks)
            timings = interleave(contenders, turns=options.turns)
            labels = {"targets": targets, "workers": str(num_workers)}
            rows += [{**row, "images per s": 1e6 / row["us"]} for row in tabulate(timings, timings[BASE], **labels)]
            contenders.clear()
            del opened
            gc.collect()  # Workers end with their loader.
            print(f"done: {num_workers} workers, {targets}", flush=True)
    return rows


def main() -> None:
    """Measure with each kind of targets."""
    parser = make_parser(__doc__, turns=7)
    parser.add_argument("--samples", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", default="0,1,2", help="numbers of workers, comma-separated")
    parser.add_argument("--targets", default="boxes,masks", help="comma-separated: boxes, masks")
    options = parser.parse_args()
    use_one_thread()
    # Some peers hand out arrays that may not be written to, which torch tells once per process.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    skipped: dict[str, str] = {}
    loaders = choose(LOADERS, skipped)
    whole = load_photographs(options.samples)
    rows = []
    for targets in options.targets.split(","):
        photographs = whole if targets == "masks" else [photograph.strip() for photograph in whole]
        rows += measure(loaders, photographs, options, targets=targets)
    path = write_results(
        "loader_throughput",
        rows,
        folder=options.results,
        samples=options.samples,
        batch_size=options.batch_size,
        turns=options.turns,
        peers=list_versions(PEERS),
        skipped=skipped,
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
