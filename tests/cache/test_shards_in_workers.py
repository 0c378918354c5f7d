"""Loader workers and ranks that meet a miss: each writes to a shard of its own, and nobody can tell hit from miss."""

from __future__ import annotations

import os
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from torch.utils.data import DataLoader

from synthloader.batches import MixedBatchSampler
from synthloader.cache import LMDBCache
from synthloader.cache.codecs import CODECS
from synthloader.cache.upkeep.merge import merge
from synthloader.cache.upkeep.verify import verify
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.plans import Only
from synthloader.precompute import precompute
from tests.cache.processes import other_process, receive
from tests.cache.standby import list_records
from tests.scenes import RejectBy, ScenesDataset, Shade, describe, keep_items

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
    # Forked workers beside the threads of torch: what it says is not about us.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

COUNT = 16


def make_mix(folder: Path, *, codec: str | None = "jpeg", filters: Any = (), **options: Any) -> MixedDataset:
    real = ScenesDataset(COUNT)
    cache = LMDBCache(folder, codec=codec, **options)
    return MixedDataset(
        real, GeneratedDataset(real, Shade(), cache=cache, variants=1, version="1", filters=filters), plan=Only()
    )


def make_loader(train: MixedDataset, num_workers: int, method: str | None = None, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        train,
        2,
        num_workers=num_workers,
        multiprocessing_context=method if num_workers else None,
        collate_fn=keep_items,
        generator=torch.Generator(),
        timeout=60 if num_workers else 0,
        **options,
    )


def run_epoch(train: MixedDataset, loader: Any, epoch: int) -> dict[int, Any]:
    """What was served of each source."""
    train.set_epoch(epoch)
    return {item[1]["image_id"]: describe(item) for batch in loader for item in batch}


def count(train: MixedDataset) -> tuple[int, int]:
    part = train.report().sets["generated"]
    return part.cache_hits, part.cache_misses


def list_shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def close(train: MixedDataset) -> None:
    train.sets[0].dataset.cache.close()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("num_workers", "method", "is_persistent"),
    [
        (0, None, False),
        (1, "fork", False),
        (2, "fork", False),
        (2, "fork", True),
        pytest.param(4, "fork", False, marks=pytest.mark.slow),
        pytest.param(4, "fork", True, marks=pytest.mark.slow),
        pytest.param(1, "spawn", False, marks=pytest.mark.slow),
        pytest.param(2, "spawn", False, marks=pytest.mark.slow),
        pytest.param(2, "spawn", True, marks=pytest.mark.slow),
        pytest.param(2, "forkserver", False, marks=pytest.mark.slow),
    ],
)
def test_the_second_epoch_has_only_hits_and_the_same_bits(
    tmp_path: Path, num_workers: int, method: str | None, is_persistent: bool
) -> None:
    folder = tmp_path / "cache"
    train = make_mix(folder, filters=[RejectBy(share=0.3)])
    loader = make_loader(train, num_workers, method, persistent_workers=is_persistent)
    first = run_epoch(train, loader, 0)
    misses = count(train)[1]
    assert misses >= COUNT
    for epoch in (1, 2, 3):
        assert run_epoch(train, loader, epoch) == first
    assert count(train)[1] == misses
    del loader
    assert len(list_shards(folder)) <= num_workers
    with LMDBCache(folder) as cache:
        assert len(cache) == misses
        assert verify(cache).findings == []
        close(train)
        assert merge(cache).num_shards <= num_workers
        assert list_shards(folder) == []
    again = make_mix(folder, filters=[RejectBy(share=0.3)])
    assert run_epoch(again, make_loader(again, 0), 0) == first
    assert count(again)[1] == 0
    close(again)


@pytest.mark.parametrize("codec", CODECS)
def test_a_miss_serves_the_bits_of_a_hit_with_every_codec(tmp_path: Path, codec: str) -> None:
    train = make_mix(tmp_path / "cache", codec=codec)
    first = run_epoch(train, make_loader(train, 2, "fork"), 0)
    second = run_epoch(train, make_loader(train, 0), 1)
    assert count(train) == (COUNT, COUNT)
    assert first == second
    close(train)


def test_entries_have_the_bytes_that_precompute_writes(tmp_path: Path) -> None:
    train = make_mix(tmp_path / "workers", filters=[RejectBy(share=0.3)])
    run_epoch(train, make_loader(train, 2, "fork"), 0)
    with LMDBCache(tmp_path / "workers") as cache:
        merge(cache)
    plain = make_mix(tmp_path / "plain", filters=[RejectBy(share=0.3)])
    precompute(plain.sets[0].dataset, progress=False)  # type: ignore[arg-type]
    close(plain)
    assert list_records(tmp_path / "workers") == list_records(tmp_path / "plain")


def test_the_number_of_shards_stays_bounded_over_epochs(tmp_path: Path) -> None:
    train = make_mix(tmp_path / "cache")
    for epoch in range(5):
        with LMDBCache(tmp_path / "cache") as cache:
            cache.delete(list(cache)[: COUNT // 2])  # So that there is always something to be written.
        run_epoch(train, make_loader(train, 2, "fork"), epoch)
        assert len(list_shards(tmp_path / "cache")) <= 2
    close(train)


def test_workers_write_while_the_main_process_holds_the_cache(tmp_path: Path) -> None:
    train = make_mix(tmp_path / "cache")
    train.sets[0].dataset.sample(0)  # type: ignore[union-attr] # This process is now the writer of the folder itself.
    first = run_epoch(train, make_loader(train, 2, "fork"), 0)
    assert len(first) == COUNT
    assert 1 <= len(list_shards(tmp_path / "cache")) <= 2
    assert run_epoch(train, make_loader(train, 2, "fork"), 1) == first
    assert count(train)[1] == COUNT - 1
    close(train)


def test_shards_that_vanish_between_epochs_are_no_miss(tmp_path: Path) -> None:
    train = make_mix(tmp_path / "cache")
    loader = make_loader(train, 2, "fork", persistent_workers=True)
    first = run_epoch(train, loader, 0)
    del loader
    with LMDBCache(tmp_path / "cache") as cache:
        assert merge(cache).num_shards >= 1
    loader = make_loader(train, 2, "fork", persistent_workers=True)
    assert run_epoch(train, loader, 1) == first
    assert count(train)[1] == COUNT
    del loader
    close(train)


def test_what_is_served_is_writable_and_its_own(tmp_path: Path) -> None:
    train = make_mix(tmp_path / "cache", codec="raw")
    generated: GeneratedDataset = train.sets[0].dataset  # type: ignore[assignment]
    for _ in range(2):  # A miss, then a hit.
        for item in (train[0], generated[0]):
            image, target = item
            for tensor in (image, *(value for value in target.values() if isinstance(value, torch.Tensor))):
                tensor.zero_()
        sample = generated.sample(0)
        assert sample.image.flags.writeable
        sample.image[:] = 0
        assert sample.target.masks.flags.writeable  # type: ignore[union-attr]
        sample.target.masks[:] = True  # type: ignore[union-attr, index]
    expected = make_mix(tmp_path / "other", codec="raw")
    assert describe(train[0]) == describe(expected[0])
    maps = Path("/proc/self/maps").read_text()
    assert str(tmp_path / "cache" / "data.mdb") in maps  # It is open, and yet nothing below is a part of it.
    image = np.asarray(train[0][0])
    address = image.__array_interface__["data"][0]
    for line in maps.splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        assert not (line.endswith(".mdb") and start <= address < end)
    close(train)
    close(expected)
    image.copy()  # And it outlives the file.


# ------------------------------------------------------------------------------------------------ ranks


def run_rank(connection: Connection, rank: int, folder: Path, num_workers: int) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder.parent}/meet", rank=rank, world_size=2)
    train = make_mix(folder)
    sampler = MixedBatchSampler(train, 3, num_replicas=2, rank=rank)
    loader = DataLoader(
        train,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=keep_items,
        generator=torch.Generator(),
        timeout=60 if num_workers else 0,
    )
    served: list[dict[int, Any]] = []
    misses = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        served.append({item[1]["image_id"]: describe(item) for batch in loader for item in batch})
        torch.distributed.barrier()
        misses.append(count(train)[1])
    shards = list_shards(folder)
    torch.distributed.barrier()
    close(train)
    torch.distributed.destroy_process_group()
    connection.send((served, misses, shards))


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_ranks_write_to_shards_of_their_own(tmp_path: Path, num_workers: int) -> None:
    folder = tmp_path / "cache"
    with ExitStack() as stack:
        ranks = [stack.enter_context(other_process(run_rank, rank, folder, num_workers)) for rank in (0, 1)]
        results = [receive(connection) for connection, _ in ranks]
    union: dict[int, Any] = {}
    for served, misses, shards in results:
        for epoch in served:
            for source, item in epoch.items():
                assert union.setdefault(source, item) == item
        assert misses[0] == misses[1] == misses[2]
        assert len(shards) <= 2 * max(num_workers, 1)
    assert not (folder / "data.mdb").exists()
    assert len(union) == COUNT
    with LMDBCache(folder) as cache:
        assert len(cache) == COUNT
        assert verify(cache).findings == []
