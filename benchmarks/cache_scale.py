"""How the time of `LMDBCache.get`, the time to open and the memory of a reader grow with the number of entries.

`python -m benchmarks.cache_scale [--sizes 1000,100000,1000000] [--turns 15] [--gets 2000]`. Entries are 8x8 images
with a class, keys are hashes, so that neighbours in time are no neighbours in the file. Bare LMDB holds the very same
records under the same keys and hands out a copy of the bytes; it takes turns with ours. Memory is that of a process of
its own that opens the store and gets a random choice of keys: what it holds alone (`anonymous`), its resident size, and
its proportional share of it (`/proc/self/smaps_rollup`), each as growth since before opening. Aims: growth from the
smallest to the largest, as a factor, at most 1.2 times that of bare LMDB; time to open flat.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from benchmarks._cache_contenders import measure_disk, use_one_thread
from benchmarks.harness import Timing, interleave, make_parser, tabulate, write_results
from synthloader import ClassLabel, LMDBCache, Sample

AIM = 1.2
BATCH = 20_000
OURS, BARE = "synthloader", "bare LMDB"


def make_key(number: int) -> bytes:
    """16 bytes, as `synthloader.keys.make_key` makes them."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


def make_entry(number: int) -> Sample:
    """A small sample, another one for each number."""
    pixels = np.frombuffer(hashlib.blake2b(number.to_bytes(8, "big")).digest() * 3, np.uint8).reshape(8, 8, 3)
    return Sample(pixels, ClassLabel(number % 1000))


def build(folder: Path, size: int) -> float:
    """Fill both stores with the same records; returns the seconds."""
    start = time.perf_counter()
    environment: Any = open_bare(folder / BARE, write=True)
    with LMDBCache(folder / OURS, codec="raw") as cache:
        for first in range(0, size, BATCH):
            numbers = range(first, min(first + BATCH, size))
            records = [(make_key(number), cache.encode(make_entry(number))) for number in numbers]
            cache.put_encoded(records)
            with environment.begin(write=True) as transaction:
                for key, record in sorted(records):
                    transaction.put(key, record)
    environment.close()
    return time.perf_counter() - start


def open_bare(path: Path, *, write: bool = False) -> Any:
    """An LMDB environment as it is by default, with the readers' locks that ours has too."""
    return lmdb.open(str(path), map_size=1 << 34, readonly=not write, max_readers=1024)


def get_ours(cache: LMDBCache, keys: Sequence[bytes]) -> int:
    for key in keys:
        cache.get(key)
    return len(keys)


def get_bare(environment: Any, keys: Sequence[bytes]) -> int:
    for key in keys:
        with environment.begin() as transaction:
            transaction.get(key)
    return len(keys)


def open_and_get_ours(path: Path, keys: Iterator[bytes]) -> int:
    with LMDBCache(path, readonly=True) as cache:
        cache.get(next(keys))
    return 1


def open_and_get_bare(path: Path, keys: Iterator[bytes]) -> int:
    environment = open_bare(path)
    with environment.begin() as transaction:
        transaction.get(next(keys))
    environment.close()
    return 1


def choose_keys(size: int, count: int, *, seed: int) -> list[bytes]:
    """A random choice of keys that are there."""
    return [make_key(int(number)) for number in np.random.default_rng(seed).integers(0, size, count)]


def measure_time(folder: Path, sizes: Sequence[int], turns: int, gets: int) -> dict[str, dict[str, Timing]]:
    """Gets, and opening with the first get, at all sizes in one run."""
    caches = {size: LMDBCache(folder / str(size) / OURS, readonly=True) for size in sizes}
    environments = {size: open_bare(folder / str(size) / BARE) for size in sizes}
    contenders: dict[str, Callable[[], int]] = {}
    for size in sizes:
        keys = choose_keys(size, gets, seed=4)
        contenders[f"{OURS}, {size}"] = partial(get_ours, caches[size], keys)
        contenders[f"{BARE}, {size}"] = partial(get_bare, environments[size], keys)
    reads = interleave(contenders, turns=turns)
    for size in sizes:
        caches[size].close()
        environments[size].close()
    contenders = {}
    for size in sizes:
        keys = choose_keys(size, 20 * (turns + 2), seed=5)
        contenders[f"{OURS}, {size}"] = partial(open_and_get_ours, folder / str(size) / OURS, iter(keys))
        contenders[f"{BARE}, {size}"] = partial(open_and_get_bare, folder / str(size) / BARE, iter(keys))
    opens = interleave(contenders, turns=10 * turns)
    return {"get": reads, "open and get": opens}


def compute_growth(timings: dict[str, Timing], sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """How much longer the largest size takes than the smallest: as a factor and in microseconds, medians over turns.

    Both are given because bare LMDB has next to no fixed cost, so that the same microseconds are a larger factor of it.
    """
    growth = {}
    for name in (OURS, BARE):
        small, large = (np.array(timings[f"{name}, {size}"].turns) for size in (sizes[0], sizes[-1]))
        growth[name] = {
            "factor": float(np.median(large / small)),
            "added us": float(np.median(large - small)) * 1e6,
        }
    return growth


def measure_memory(folder: Path, sizes: Sequence[int], gets: int) -> list[dict[str, Any]]:
    """What a reader of its own takes, in kB, per store and size."""
    rows = []
    for size in sizes:
        for name in (OURS, BARE):
            command = [sys.executable, "-m", "benchmarks.cache_scale", "--reader", name]
            command += ["--sizes", str(size), "--gets", str(gets), "--folder", str(folder / str(size) / name)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
            rows.append({"what": name, "entries": size, **json.loads(done.stdout)})
    return rows


def be_reader(name: str, folder: Path, size: int, gets: int) -> None:
    """Read in this process, and print how much more memory it then has than before it opened the store."""
    use_one_thread()
    keys = choose_keys(size, gets, seed=6)
    warm = make_entry(0)
    LMDBCache(folder.parent / "warm", codec="raw").recode(warm)
    before = read_memory()
    if name == OURS:
        cache = LMDBCache(folder, readonly=True)
        get_ours(cache, keys)
    else:
        environment = open_bare(folder)
        get_bare(environment, keys)
    after = read_memory()
    print(json.dumps({f"{kind} kB": after[kind] - before[kind] for kind in after}))
    if name == OURS:
        cache.close()
    else:
        environment.close()


def read_memory() -> dict[str, int]:
    """Resident, proportional and anonymous size of this process in kB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"anonymous": sizes["Anonymous"], "resident": sizes["Rss"], "proportional": sizes["Pss"]}


def main() -> None:
    """Build, measure, and say how growth compares."""
    parser = make_parser(__doc__, turns=15)
    parser.add_argument("--sizes", default="1000,100000,1000000", help="numbers of entries, comma-separated")
    parser.add_argument("--gets", type=int, default=2000, help="gets per turn")
    parser.add_argument("--reader", choices=(OURS, BARE), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = sorted(int(size) for size in arguments.sizes.split(","))
    if arguments.reader:
        be_reader(arguments.reader, arguments.folder, sizes[0], arguments.gets)
        return
    use_one_thread()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        built = {}
        for size in sizes:
            (folder / str(size) / BARE).mkdir(parents=True)
            built[str(size)] = {
                "s": build(folder / str(size), size),
                **{f"{name}, bytes per entry": measure_disk(folder / str(size) / name) / size for name in (OURS, BARE)},
            }
            print(f"built: {size} entries in {built[str(size)]['s']:.0f} s", flush=True)
        os.sync()
        timings = measure_time(folder, sizes, arguments.turns, arguments.gets)
        memory = measure_memory(folder, sizes, 5 * arguments.gets)
    rows = [
        {**row, "grown": row["us"] / (group[f"{row['what'].split(',')[0]}, {sizes[0]}"].median * 1e6)}
        for measured, group in timings.items()
        for row in tabulate(group, group[f"{BARE}, {sizes[0]}"], measured=measured)
    ]
    growth = {measured: compute_growth(group, sizes) for measured, group in timings.items()}
    path = write_results(
        "cache_scale",
        rows,
        folder=arguments.results,
        turns=arguments.turns,
        gets=arguments.gets,
        built=built,
        memory=memory,
        growth=growth,
    )
    print()
    for row in memory:
        print("  ".join(f"{name}: {value}" for name, value in row.items()))
    print()
    for measured, parts in growth.items():
        ratio = parts[OURS]["factor"] / parts[BARE]["factor"]
        verdict = f"aim {AIM}: {'met' if ratio <= AIM else 'MISSED'}" if measured == "get" else "aim: flat"
        told = [
            f"{name} takes {part['factor']:.2f} times as long ({part['added us']:+.2f} us)"
            for name, part in parts.items()
        ]
        print(f"{measured}: from {sizes[0]} to {sizes[-1]} entries {', '.join(told)}: {ratio:.2f} ({verdict})")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
