"""Two real ranks: equal steps, the union of one, and a report that sums them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch.utils.data import DataLoader, DistributedSampler

from synthloader.batches import EpochSampler, MixedBatchSampler
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from tests.scenes import ScenesDataset, Shade, keep_items

pytestmark = pytest.mark.slow


def run_rank(rank: int, folder: str, with_sampler: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    real = ScenesDataset(9)
    train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5)
    options: Any = {"num_replicas": 2, "rank": rank}
    if with_sampler == "batches":
        loader = DataLoader(
            train, batch_sampler=MixedBatchSampler(train, 3, **options), num_workers=1, collate_fn=keep_items
        )
    else:
        sampler: Any = DistributedSampler(train, **options)
        sampler = EpochSampler(sampler, train) if with_sampler == "epochs" else sampler
        loader = DataLoader(train, 3, sampler=sampler, num_workers=1, collate_fn=keep_items)
    steps = [len(list(loader)) for _ in range(2)]
    own, together = train.report(), train.report(reduce=True)
    Path(folder, f"{rank}.json").write_text(
        json.dumps({"steps": steps, "own": own.to_dict(), "together": together.to_dict()})
    )
    torch.distributed.destroy_process_group()


def run(tmp_path: Path, with_sampler: str) -> list[dict[str, Any]]:
    torch.multiprocessing.spawn(run_rank, (str(tmp_path), with_sampler), nprocs=2)
    return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("with_sampler", ["batches", "epochs"])
def test_the_ranks_take_equal_steps_and_the_report_sums_them(tmp_path: Path, with_sampler: str) -> None:
    ranks = run(tmp_path, with_sampler)
    assert ranks[0]["steps"] == ranks[1]["steps"]
    for name in ("real", "generated", "padding"):
        assert ranks[0]["together"][name] == ranks[0]["own"][name] + ranks[1]["own"][name]
    assert ranks[0]["together"] == ranks[1]["together"]
    assert ranks[0]["together"]["ranks"] == 2
    assert ranks[0]["together"]["repeated_epochs"] == []
    total = ranks[0]["together"]
    assert total["real"] + total["generated"] + total["padding"] == 2 * 14
    if with_sampler == "batches":
        assert (total["real"], total["generated"], total["padding"]) == (18, 8, 2)


def test_a_rank_that_repeats_its_share_is_noticed(tmp_path: Path) -> None:
    ranks = run(tmp_path, "plain")
    assert [rank["own"]["repeated_epochs"] for rank in ranks] == [[0], [0]]
