"""How many samples a second a loader gives, for the real dataset alone and for the mix."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import BatchSampler, SequentialSampler

from synthloader.batches import MixedBatchSampler
from synthloader.demo.items import BatchStream, make_loader
from synthloader.mixed import MixedDataset

__all__ = ["measure_throughput"]

NUM_PASSES = 3


def measure_throughput(
    real: Any,
    mixed: MixedDataset,
    /,
    *,
    num_batches: int,
    batch_size: int,
    num_workers: int,
    seed: int,
    show: Callable[[int, str], None] = lambda done, remark: None,
) -> dict[str, Any]:
    """Passes over both in turn, with the same settings, after one pass of each that is not counted.

    Args:
        real: The dataset alone, with the transforms of the mix.
        mixed: The mix.
        num_batches: Batches of one pass.
        batch_size: Items per batch.
        num_workers: Processes of each loader.
        seed: Seed of the order.
        show: Called after each pass with the number done and a remark.

    Returns:
        Samples per second, the median of the passes and each of them, by `"real_only"` and `"mixed"`.
    """
    samplers = {
        "real_only": BatchSampler(SequentialSampler(real), batch_size, drop_last=False),
        "mixed": MixedBatchSampler(mixed, batch_size, seed=seed),
    }
    loaders = {
        name: make_loader(dataset, BatchStream(samplers[name], num_batches), num_workers=num_workers, seed=seed)
        for name, dataset in (("real_only", real), ("mixed", mixed))
    }
    rates: Mapping[str, list[float]] = {name: [] for name in loaders}
    for turn in range(1 + NUM_PASSES):
        for name, loader in loaders.items():
            started = time.perf_counter()
            num_samples = sum(len(images) for images, _ in loader)
            rate = num_samples / (time.perf_counter() - started)
            if turn:
                rates[name].append(rate)
            show(2 * turn + list(loaders).index(name) + 1, f"{rate:.0f} samples/s")
    return {
        name: {"samples_per_second": round(statistics.median(found), 1), "passes": [round(rate, 1) for rate in found]}
        for name, found in rates.items()
    } | {"num_batches": num_batches, "batch_size": batch_size, "num_workers": num_workers}
