"""Whether the system should read ahead in a cache's file: random reads of full samples, cold and warm.

`python -m benchmarks.cache_readahead [--samples 8000] [--turns 5]`. The file is one that `LMDBCache` wrote with codec
`jpeg` (some 0.4 GB by default), opened with LMDB's `readahead` on and off, and read by position in a random order.
Three settings:

* `warm`: all pages are in memory;
* `first epoch`: none are, and all that are read can stay: the time of one pass over everything;
* `evicted`: none are, and after 32 samples all are gone again, as where the data is many times larger than the memory.

Pages are dropped by `posix_fadvise` while nobody has the file open, which touches no other program's memory. That they
are gone is checked; where the file system keeps them, the cold settings are left out.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from benchmarks._cache_contenders import use_one_thread
from benchmarks._cache_samples import load_photographs
from benchmarks.harness import Timing, interleave, make_parser, tabulate, write_results
from synthloader import LMDBCache

NUM_PHOTOGRAPHS = 100
NUM_PER_BATCH = 32
NUM_BATCHES = 8
READAHEAD = {"readahead": True, "no readahead": False}


def build(folder: Path, num_samples: int) -> list[bytes]:
    """A cache of so many samples, the same photographs again and again; returns its keys."""
    keys = [number.to_bytes(16, "little") for number in range(num_samples)]  # Not in the order of the file.
    with LMDBCache(folder, codec="jpeg") as cache:
        samples = [photograph.to_sample(codec="jpeg") for photograph in load_photographs(NUM_PHOTOGRAPHS)]
        records = [cache.encode(sample) for sample in samples]
        for start in range(0, num_samples, 1000):
            batch = range(start, min(start + 1000, num_samples))
            cache.put_encoded([(keys[number], records[number % NUM_PHOTOGRAPHS]) for number in batch])
    return keys


@contextmanager
def open_records(folder: Path, readahead: bool) -> Iterator[Any]:
    """How to get the bytes of a record, with the flag set: our cache leaves it as LMDB has it."""
    environment: Any = lmdb.open(str(folder), readonly=True, lock=False, max_dbs=8, readahead=readahead)
    entries = environment.open_db(b"entries", create=False)

    def get(key: bytes) -> bytes:
        with environment.begin() as transaction:
            data: bytes = transaction.get(key, db=entries)
            return data

    yield get
    environment.close()


def drop_pages(file: Path) -> None:
    """Let go of the file's pages in memory; nobody may have it mapped."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def measure_share_in_memory(file: Path) -> float:
    """Which share of some pages of the file is in memory, without bringing them there."""
    descriptor = os.open(file, os.O_RDONLY)
    offsets = range(0, os.fstat(descriptor).st_size - 4096, max(4096, os.fstat(descriptor).st_size // 500))
    present = 0
    for offset in offsets:
        try:
            present += os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            continue
    os.close(descriptor)
    return present / len(offsets)


def read_all(folder: Path, readahead: bool, keys: Sequence[bytes], decode: Any) -> int:
    """Open, and read and decode all of these."""
    with open_records(folder, readahead) as get:
        for key in keys:
            decode(get(key)).target.masks  # noqa: B018
    return len(keys)


def measure(folder: Path, keys: list[bytes], turns: int) -> tuple[dict[str, dict[str, Timing]], str | None]:
    """Time all settings; the reason why the cold ones are missing, where they are."""
    rng = np.random.default_rng(7)
    file = folder / "data.mdb"
    decode = LMDBCache(folder).decode
    order = [keys[number] for number in rng.permutation(len(keys))]
    some = order[: NUM_PER_BATCH * NUM_BATCHES]
    batches = {name: cycle(range(0, len(order) - NUM_PER_BATCH, NUM_PER_BATCH)) for name in READAHEAD}
    timings = {}

    def read_batch(name: str) -> int:
        start = next(batches[name])
        return read_all(folder, READAHEAD[name], order[start : start + NUM_PER_BATCH], decode)

    read_all(folder, True, order, decode)
    contenders = {name: partial(read_all, folder, flag, some, decode) for name, flag in READAHEAD.items()}
    timings["warm"] = interleave(contenders, turns=turns)
    drop_pages(file)
    left = measure_share_in_memory(file)
    if left > 0.05:
        return timings, f"{left:.0%} of the file's pages stay in memory though they were dropped"
    contenders = {name: partial(read_batch, name) for name in READAHEAD}
    timings["evicted"] = interleave(contenders, turns=NUM_BATCHES * turns, before=lambda _: drop_pages(file))
    contenders = {name: partial(read_all, folder, flag, order, decode) for name, flag in READAHEAD.items()}
    timings["first epoch"] = interleave(contenders, turns=turns, warm_up=0, before=lambda _: drop_pages(file))
    return timings, None


def main() -> None:
    """Build one file and read it in all ways."""
    parser = make_parser(__doc__, turns=5)
    parser.add_argument("--samples", type=int, default=8_000)
    arguments = parser.parse_args()
    use_one_thread()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "cache"
        keys = build(folder, arguments.samples)
        size = (folder / "data.mdb").stat().st_size
        print(f"built: {arguments.samples} samples, {size / 1e9:.2f} GB", flush=True)
        timings, reason = measure(folder, keys, arguments.turns)
    rows = [row for name, group in timings.items() for row in tabulate(group, group["readahead"], setting=name)]
    skipped = {} if reason is None else {"cold settings": reason}
    path = write_results(
        "cache_readahead",
        rows,
        folder=arguments.results,
        samples=arguments.samples,
        turns=arguments.turns,
        file_bytes=size,
        skipped=skipped,
    )
    print(f"\n{reason or ''}\nwritten to {path}")


if __name__ == "__main__":
    main()
