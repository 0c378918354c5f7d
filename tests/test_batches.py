"""Samplers: the ratio in every batch, equal steps on all ranks, the epoch told."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset

from synthloader.batches import EpochSampler, MixedBatchSampler
from synthloader.epoch_index import EpochIndex
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Plan, Replace
from tests.scenes import ScenesDataset, Shade, describe, keep_items


def make_mix(count: int = 9, plan: Plan | None = None) -> MixedDataset:
    real = ScenesDataset(count)
    return MixedDataset(real, GeneratedDataset(real, Shade()), plan=plan or Add(0.5))


class TestMixedBatchSampler:
    @settings(max_examples=150, deadline=None)
    @given(
        count=st.integers(1, 60),
        ratio=st.floats(0, 5),
        batch_size=st.integers(1, 20),
        replicas=st.integers(1, 4),
        replace=st.booleans(),
        drop_last=st.booleans(),
        shuffle=st.booleans(),
        epoch=st.integers(0, 5),
    )
    def test_every_batch_of_every_rank_holds_the_ratio_to_within_one_item(
        self,
        count: int,
        ratio: float,
        batch_size: int,
        replicas: int,
        replace: bool,
        drop_last: bool,
        shuffle: bool,
        epoch: int,
    ) -> None:
        train = make_mix(count, Replace(ratio) if replace else Add(ratio))
        train.set_epoch(epoch)
        share = train.count_generated() / len(train)
        steps, fetched, padding = [], [], 0
        for rank in range(replicas):
            sampler = MixedBatchSampler(
                train, batch_size, num_replicas=replicas, rank=rank, drop_last=drop_last, shuffle=shuffle
            )
            sampler.set_epoch(epoch)
            batches = list(sampler)
            assert len(batches) == len(sampler)
            steps.append([len(batch) for batch in batches])
            for batch in batches:
                generated = sum(train.is_generated(index) for index in batch)
                assert math.floor(share * len(batch) - 1e-9) <= generated <= math.ceil(share * len(batch) + 1e-9)
                assert {index.epoch for index in batch} == {epoch}  # type: ignore[attr-defined]
                padding += sum(index.is_padding for index in batch)  # type: ignore[attr-defined]
                fetched += [int(index) for index in batch if not index.is_padding]  # type: ignore[attr-defined]
        assert all(step == steps[0] for step in steps)
        assert len(fetched) == len(set(fetched))
        if drop_last:
            assert padding == 0
            assert len(fetched) == len(train) // (batch_size * replicas) * batch_size * replicas
        else:
            assert sorted(fetched) == list(range(len(train)))
            assert padding == -len(train) % replicas

    def test_the_order_changes_with_the_epoch_and_the_seed_only(self) -> None:
        train = make_mix()

        def read(seed: int, epoch: int) -> list[list[int]]:
            sampler = MixedBatchSampler(train, 4, seed=seed)
            sampler.set_epoch(epoch)
            return [list(map(int, batch)) for batch in sampler]

        assert read(0, 0) == read(0, 0)
        assert read(0, 0) != read(0, 1)
        assert read(0, 0) != read(1, 0)

    def test_every_pass_is_the_next_epoch(self) -> None:
        train = make_mix()
        sampler = MixedBatchSampler(train, 4)
        assert [{index.epoch for batch in sampler for index in batch} for _ in range(3)] == [{0}, {1}, {2}]  # type: ignore[attr-defined]
        train.set_epoch(7)
        assert {index.epoch for batch in sampler for index in batch} == {7}  # type: ignore[attr-defined]
        sampler.set_epoch(3)
        assert {index.epoch for batch in sampler for index in batch} == {3}  # type: ignore[attr-defined]
        assert train.epoch == 3

    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("persistent", [False, True])
    def test_a_loader_asks_for_one_epoch_after_the_other_and_nothing_warns(
        self, num_workers: int, persistent: bool
    ) -> None:
        train = make_mix()
        loader = DataLoader(
            train,
            batch_sampler=MixedBatchSampler(train, 4),
            num_workers=num_workers,
            collate_fn=keep_items,
            persistent_workers=persistent and num_workers > 0,
            generator=torch.Generator(),
            multiprocessing_context="fork" if num_workers else None,
        )
        for epoch in range(3):
            list(loader)
            assert train.epoch == epoch
        assert train.report().repeated_epochs == ()

    def test_padding_is_counted_apart(self) -> None:
        train = make_mix(9, Add(0))
        for rank in (0, 1):
            for batch in MixedBatchSampler(train, 4, num_replicas=2, rank=rank):
                train.__getitems__(batch)
        assert (train.report().real, train.report().padding) == (9, 1)

    def test_its_state_goes_on_with_the_epoch(self) -> None:
        sampler = MixedBatchSampler(make_mix(), 4, seed=2)
        list(sampler)
        list(sampler)
        other = MixedBatchSampler(make_mix(), 4, seed=2)
        other.load_state_dict(sampler.state_dict())
        assert {index.epoch for batch in other for index in batch} == {1}  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match=r"^state\['seed'\] must be this sampler's 3, got"):
            MixedBatchSampler(make_mix(), 4, seed=3).load_state_dict(sampler.state_dict())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 0}, "batch_size must be at least 1, got batch_size=0."),
            (
                {"num_replicas": 2},
                "rank must be given together with num_replicas, got rank=None. Leave both out for global batches.",
            ),
            ({"num_replicas": 2, "rank": 2}, "rank must be below num_replicas=2, got rank=2."),
        ],
    )
    def test_wrong_arguments(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError) as caught:
            MixedBatchSampler(make_mix(), **{"batch_size": 4, **options})
        assert str(caught.value) == message

    def test_over_a_subset_it_says_what_to_use(self) -> None:
        with pytest.raises(TypeError, match=r"EpochSampler\(sampler, mix\)\.$"):
            MixedBatchSampler(Subset(make_mix(), [0, 1]), 2)  # type: ignore[arg-type]

    def test_a_hundred_million_items_start_at_once(self) -> None:
        class Vast(ScenesDataset):
            def __len__(self) -> int:
                return 10**8

        real = Vast(7)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5)
        batch = next(iter(MixedBatchSampler(train, 6)))
        assert sum(train.is_generated(index) for index in batch) == 2


class TestEpochSampler:
    def test_indices_are_the_inner_ones_with_the_epoch(self) -> None:
        train = make_mix()
        sampler = EpochSampler(range(len(train)), train)
        for epoch in range(3):
            indices = list(sampler)
            assert indices == list(range(len(train)))
            assert {index.epoch for index in indices} == {epoch}  # type: ignore[attr-defined]
        assert len(sampler) == len(train)

    def test_the_inner_sampler_is_told_too(self) -> None:
        train = make_mix()
        inner = torch.utils.data.DistributedSampler(train, num_replicas=1, rank=0)
        sampler = EpochSampler(inner, train)
        assert list(sampler) != list(sampler)
        assert inner.epoch == 1

    def test_under_subset_and_concat_the_shared_epoch_tells(self) -> None:
        train = make_mix()
        for nested in (Subset(train, list(range(len(train)))), ConcatDataset([train])):
            train.set_epoch(0)
            sampler = EpochSampler(RandomSampler(nested, generator=torch.Generator()), train)
            loader = DataLoader(
                nested,
                4,
                sampler=sampler,
                num_workers=2,
                collate_fn=keep_items,
                persistent_workers=True,
                generator=torch.Generator(),
                multiprocessing_context="fork",
            )
            alone = make_mix()
            for epoch in range(2):
                served = sorted(describe(item) for batch in loader for item in batch)
                alone.set_epoch(epoch)
                assert served == sorted(describe(alone[index]) for index in range(len(alone)))

    def test_what_is_no_sampler_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"^sampler must give indices and have a length, got sampler=3\."):
            EpochSampler(3, make_mix())  # type: ignore[arg-type]


def test_an_epoch_index_travels() -> None:
    index = pickle.loads(pickle.dumps(EpochIndex(4, epoch=2, is_padding=True)))
    assert (int(index), index.epoch, index.is_padding) == (4, 2, True)
