"""What Accelerate and Lightning put in the place of the user's samplers: the ratio stays exact, and epochs advance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader, skip_first_batches
from lightning.fabric.utilities.data import _replace_dunder_methods, _set_sampler_epoch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from lightning.pytorch.utilities.data import _get_dataloader_init_args_and_kwargs, _update_dataloader
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler

from synthloader.batches import MixedBatchSampler
from synthloader.epoch_index import EpochIndex
from synthloader.mixed import MixedDataset
from tests.being_dropped_in.numbered import BATCH, NUM_REAL, make_loader, make_mix, read, run_accelerate


@pytest.mark.uses_global_rng
class TestAccelerate:
    @pytest.mark.parametrize("num_workers", [0, 1])
    @pytest.mark.parametrize("kind", ["batches", "indices"])
    def test_a_prepared_loader_goes_from_epoch_to_epoch(self, kind: str, num_workers: int) -> None:
        train = make_mix()
        loader = Accelerator(cpu=True).prepare(make_loader(train, kind, num_workers))
        epochs = []
        for epoch in range(3):
            served = read(loader)
            assert sum(made for batch in served for made, _ in batch) == NUM_REAL
            assert train.epoch == epoch
            if kind == "batches":
                assert {sum(made for made, _ in batch) for batch in served} == {BATCH // 2}
            epochs.append(served)
        assert epochs[0] != epochs[1]
        loader.set_epoch(7)
        read(loader)
        assert train.epoch == 7
        assert train.report().repeated_epochs == ()

    def test_skipped_batches_are_those_of_the_same_epoch(self) -> None:
        accelerator = Accelerator(cpu=True)
        whole = read(accelerator.prepare(make_loader(make_mix(), "batches")))
        train = make_mix()
        assert read(skip_first_batches(accelerator.prepare(make_loader(train, "batches")), 2)) == whole[2:]

    @pytest.mark.parametrize("split_batches", [False, True])
    @pytest.mark.parametrize("even_batches", [False, True])
    def test_two_shards_are_the_batches_of_one_process(self, split_batches: bool, even_batches: bool) -> None:
        alone = [list(map(int, batch)) for batch in MixedBatchSampler(make_mix(), BATCH)]
        shards = [
            BatchSamplerShard(
                MixedBatchSampler(make_mix(), BATCH), 2, rank, split_batches=split_batches, even_batches=even_batches
            )
            for rank in (0, 1)
        ]
        both = [list(shard) for shard in shards]
        assert all(type(index) is EpochIndex for batches in both for batch in batches for index in batch)
        if split_batches:
            merged = [[int(index) for half in pair for index in half] for pair in zip(*both, strict=True)]
        else:
            merged = [[int(index) for index in batch] for pair in zip(*both, strict=True) for batch in pair]
        assert merged == alone

    @pytest.mark.parametrize("seedable", [False, True])
    def test_in_one_process_the_dataset_of_a_plain_loader_is_told(self, seedable: bool) -> None:
        train = make_mix()
        loader = prepare_data_loader(make_loader(train, "plain"), put_on_device=False, use_seedable_sampler=seedable)
        assert read(loader) != read(loader)
        assert (train.epoch, train.report().repeated_epochs) == (1, ())


CASES: dict[str, dict[str, Any]] = {
    "whole batches": {"kind": "batches"},
    "split batches": {"kind": "batches", "split_batches": True},
    "uneven": {"kind": "batches", "even_batches": False},
    "indices": {"kind": "indices"},
    "indices beside Accelerate's own sampler": {"kind": "indices", "use_seedable_sampler": True},
    "plain": {"kind": "plain"},
    "Accelerate's own sampler": {"kind": "plain", "use_seedable_sampler": True, "data_seed": 0},
}


@pytest.mark.slow
def test_two_processes_share_out_every_item_once_and_go_from_epoch_to_epoch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(run_accelerate, (str(tmp_path), CASES), nprocs=2)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for case in CASES:
        ranks = [rank[case] for rank in told]
        for epoch in range(2):
            items = [tuple(item) for rank in ranks for batch in rank["epochs"][epoch] for item in batch]
            expected = sorted((made, source) for made in (False, True) for source in range(NUM_REAL))
            assert sorted(items) == expected, case
        # Accelerate tells the epoch to its own sampler, and then not to the dataset: this is noticed, and said.
        repeats = case == "Accelerate's own sampler"
        expected_end: Any = (0, [0], 1) if repeats else (1, [], 0)
        assert [(rank["epoch"], rank["repeated"], len(rank["said"])) for rank in ranks] == [expected_end] * 2, case


class TestLightning:
    """Its own functions that make a loader anew with a distributed sampler, without a trainer around them."""

    def replace(self, train: MixedDataset, kind: str, rank: int, *, in_hook: bool) -> DataLoader[Any]:
        """What `Trainer(strategy="ddp")` makes of a loader; `in_hook`: one from `train_dataloader()`."""
        if in_hook:
            with _replace_dunder_methods(DataLoader, "dataset"), _replace_dunder_methods(BatchSampler):
                loader = make_loader(train, kind)
        else:
            loader = make_loader(train, kind)
        sampler: Any
        if kind == "indices":
            sampler = DistributedSamplerWrapper(loader.sampler, num_replicas=2, rank=rank)
        else:
            sampler = DistributedSampler(train, num_replicas=2, rank=rank, shuffle=kind == "plain")
        made: DataLoader[Any] = _update_dataloader(loader, sampler)
        return made

    @pytest.mark.uses_global_rng  # the loaders' base seeds
    def test_a_batch_sampler_of_a_hook_is_sharded_at_the_exact_ratio(self) -> None:
        ranks = [self.replace(make_mix(), "batches", rank, in_hook=True) for rank in (0, 1)]
        for epoch in range(2):
            served = []
            for loader in ranks:
                assert isinstance(loader.batch_sampler, MixedBatchSampler)
                assert (loader.batch_sampler.num_replicas, len(loader)) == (2, 3)
                _set_sampler_epoch(loader, epoch + 3)
                batches = read(loader)
                assert {sum(made for made, _ in batch) for batch in batches} == {BATCH // 2}
                assert loader.dataset.epoch == epoch + 3  # type: ignore[attr-defined]
                served += [item for batch in batches for item in batch]
            assert sorted(served) == sorted((made, source) for made in (False, True) for source in range(NUM_REAL))

    def test_what_the_user_said_of_ranks_is_kept(self) -> None:
        train = make_mix()
        sampler = DistributedSampler(train, num_replicas=4, rank=1)
        batches = MixedBatchSampler(train, 2, num_replicas=2, rank=0, sampler=sampler)
        assert (batches.num_replicas, batches.rank) == (2, 0)
        batches = MixedBatchSampler(train, 2, sampler=RandomSampler(train))
        assert (batches.num_replicas, batches.rank) == (1, 0)

    def test_outside_of_a_hook_the_ways_out_are_named(self) -> None:
        with pytest.raises(TypeError) as caught:
            self.replace(make_mix(), "batches", 0, in_hook=False)
        assert str(caught.value).endswith(
            "Lightning makes the batch sampler anew with a sampler of its own, and cannot where the loader is not made "
            "in train_dataloader(): make it there, or pass num_replicas= and rank=, and "
            "Trainer(use_distributed_sampler=False)."
        )

    @pytest.mark.parametrize("in_hook", [False, True])
    @pytest.mark.parametrize("kind", ["indices", "plain"])
    @pytest.mark.uses_global_rng
    def test_other_samplers_are_replaced_and_every_item_is_served_once(self, kind: str, in_hook: bool) -> None:
        served = []
        for rank in (0, 1):
            torch.manual_seed(5)  # Lightning's seed_everything: ranks draw one order
            train = make_mix()
            loader = self.replace(train, kind, rank, in_hook=in_hook)
            _set_sampler_epoch(loader, 2)
            if kind == "plain":
                train.set_epoch(2)
            served += [item for batch in read(loader) for item in batch]
            assert train.epoch == 2
        assert sorted(served) == sorted((made, source) for made in (False, True) for source in range(NUM_REAL))

    def test_its_probes_of_a_loader_do_not_stumble(self) -> None:
        train = make_mix()
        arguments, options = _get_dataloader_init_args_and_kwargs(make_loader(train, "plain"), RandomSampler(train))
        assert not arguments
        assert options["dataset"] is train
