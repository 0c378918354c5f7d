"""Loader mechanics: several items at once, nesting, and epochs that reach workers which run ahead."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, RandomSampler, Subset, random_split
from torchdata.stateful_dataloader import StatefulDataLoader

from synthloader.batches import EpochSampler, MixedBatchSampler
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Plan, Replace
from tests.scenes import ScenesDataset, Shade, describe, keep_items

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:.set_vital. is deprecated"),  # torchdata calls it
]

DOUBLE = Add(1.0)


def make_mix(plan: Plan = DOUBLE, *, real: Any = None, **options: Any) -> MixedDataset:
    real = ScenesDataset(8) if real is None else real
    return MixedDataset(real, GeneratedDataset(real, Shade(), variants=4), plan=plan, mark="made", **options)


def load(dataset: Any, num_workers: int = 0, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        num_workers=num_workers,
        collate_fn=keep_items,
        generator=torch.Generator(),
        multiprocessing_context="fork" if num_workers else None,
        **options,
    )


def count_made(loader: Any) -> tuple[int, int]:
    marks = [bool(item[1]["made"]) for batch in loader for item in batch]
    return sum(marks), len(marks)


class TestSeveralAtOnce:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_mix_of_a_subset_serves_generated_items(self, num_workers: int) -> None:
        train = make_mix(real=Subset(ScenesDataset(12), [1, 3, 5, 7]))
        assert count_made(load(train, num_workers, batch_size=3)) == (4, 8)

    @pytest.mark.filterwarnings("ignore:More items of epoch")  # read once by a loader, and once to compare
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_every_nesting_of_a_mix_serves_generated_items(self, num_workers: int) -> None:
        train = make_mix()
        halves = random_split(train, [8, 8], generator=torch.Generator().manual_seed(1))
        nestings: list[tuple[Dataset[Any], int]] = [
            (Subset(train, [0, 9, 12, 15]), 3),
            (Subset(Subset(train, list(range(8, 16))), [0, 1, 2]), 3),
            (ConcatDataset([train, Subset(train, [8])]), 9),
            (Subset(ConcatDataset([train, train]), [0, 8, 24]), 2),
            (ConcatDataset(halves), 8),
        ]
        for dataset, expected in nestings:
            served = [item for batch in load(dataset, num_workers, batch_size=3) for item in batch]
            assert sum(bool(item[1]["made"]) for item in served) == expected
            assert [describe(item) for item in served] == [describe(dataset[at]) for at in range(len(served))]
            train.set_epoch(train.epoch + 1)

    def test_the_wrapped_datasets_own_getitems_reads_real_items_and_only_these(self) -> None:
        asked: list[list[int]] = []

        class Together(ScenesDataset):
            def __getitems__(self, indices: list[int]) -> list[Any]:
                asked.append(indices)
                return [self[index] for index in indices]

        train = make_mix(real=Together(8))
        items = train.__getitems__([3, 9, 0, 15])
        assert asked == [[3, 0]]
        assert all(type(index) is int for index in asked[0])
        assert [describe(item) for item in items] == [describe(train[index]) for index in (3, 9, 0, 15)]
        train.__getitems__([8, 9])
        assert len(asked) == 1

    def test_counts_are_the_same_as_one_by_one(self) -> None:
        together, alone = make_mix(real=Subset(ScenesDataset(8), range(8))), make_mix()
        together.__getitems__(list(range(16)))
        for index in range(16):
            alone[index]
        assert together.report().to_dict() == alone.report().to_dict()

    def test_splitting_before_mixing_keeps_versions_on_one_side(self) -> None:
        parts = make_mix().split([0.5, 0.5], torch.Generator().manual_seed(0))
        assert [count_made(load(part, batch_size=4)) for part in parts] == [(4, 8), (4, 8)]
        for part in parts:
            part.set_epoch(1)
        sources = [{item[1]["image_id"] for batch in load(part, batch_size=4) for item in batch} for part in parts]
        assert not sources[0] & sources[1]


class TestEpochs:
    @pytest.mark.parametrize("kind", ["batches", "indices"])
    def test_workers_that_run_ahead_over_the_border_serve_the_epoch_of_the_index(self, kind: str) -> None:
        """Both passes are open at once, so that workers have indices of the next epoch while the last one is read."""
        train, alone = make_mix(Replace(1.0)), make_mix(Replace(1.0))
        sampler: Any = MixedBatchSampler(train, 2) if kind == "batches" else EpochSampler(range(8), train)
        options: dict[str, Any] = (
            {"batch_sampler": sampler} if kind == "batches" else {"sampler": sampler, "batch_size": 2}
        )
        first = iter(load(train, 2, prefetch_factor=4, **options))
        head = [next(first)]
        second = iter(load(train, 2, prefetch_factor=4, **options))
        next_head = [next(second)]
        assert train.epoch == 1
        passes = [[*head, *first], [*next_head, *second]]
        again: Any = MixedBatchSampler(alone, 2) if kind == "batches" else EpochSampler(range(8), alone)
        for epoch, served in enumerate(passes):
            indices = list(again)
            flat = [index for batch in indices for index in batch] if kind == "batches" else indices
            assert {index.epoch for index in flat} == {epoch}
            alone.set_epoch(5)
            expected = [describe(alone[index]) for index in flat]
            assert [describe(item) for batch in served for item in batch] == expected
            alone.set_epoch(epoch)

    @pytest.mark.parametrize("kind", ["batches", "indices"])
    def test_persistent_prefetching_workers_serve_each_epoch_exactly(self, kind: str) -> None:
        train, alone = make_mix(), make_mix()

        def make(mix: MixedDataset, num_workers: int) -> DataLoader[Any]:
            if kind == "batches":
                return load(mix, num_workers, batch_sampler=MixedBatchSampler(mix, 3), **more(num_workers))
            order = EpochSampler(RandomSampler(mix, generator=torch.Generator().manual_seed(1)), mix)
            return load(mix, num_workers, sampler=order, batch_size=3, **more(num_workers))

        def more(num_workers: int) -> dict[str, Any]:
            return {"persistent_workers": True, "prefetch_factor": 4} if num_workers else {}

        ahead, here = make(train, 2), make(alone, 0)
        for epoch in range(3):
            served = [describe(item) for batch in ahead for item in batch]
            assert served == [describe(item) for batch in here for item in batch]
            assert (train.epoch, alone.epoch) == (epoch, epoch)

    @pytest.mark.parametrize("wrap", [lambda mix: Subset(mix, range(16)), lambda mix: ConcatDataset([mix])])
    def test_under_subset_and_concat_shared_memory_tells_persistent_workers(self, wrap: Any) -> None:
        train, alone = make_mix(), make_mix()
        sampler = EpochSampler(range(16), train)
        loader = load(wrap(train), 2, sampler=sampler, batch_size=4, persistent_workers=True)
        for epoch in range(3):
            served = [describe(item) for batch in loader for item in batch]
            alone.set_epoch(epoch)
            assert served == [describe(alone[index]) for index in range(16)]


class TestResume:
    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("kind", ["batches", "seeded", "global"])
    @pytest.mark.uses_global_rng
    def test_a_stateful_loader_goes_on_in_the_middle_of_an_epoch(self, kind: str, num_workers: int) -> None:
        def make() -> StatefulDataLoader[Any]:
            train = make_mix()
            options: dict[str, Any]
            if kind == "batches":
                options = {"batch_sampler": MixedBatchSampler(train, 3)}
            else:
                generator = torch.Generator().manual_seed(4) if kind == "seeded" else None
                order = EpochSampler(RandomSampler(train, generator=generator), train)
                options = {"sampler": order, "batch_size": 3}
            return StatefulDataLoader(
                train,
                num_workers=num_workers,
                collate_fn=keep_items,
                generator=torch.Generator(),
                multiprocessing_context="fork" if num_workers else None,
                persistent_workers=num_workers > 0,
                **options,
            )

        torch.manual_seed(8)
        loader = make()
        list(loader)
        running = iter(loader)
        head = [describe(item) for _ in range(2) for item in next(running)]
        state = loader.state_dict()
        rest = [describe(item) for batch in running for item in batch]
        torch.manual_seed(99)
        resumed = make()
        resumed.load_state_dict(pickle.loads(pickle.dumps(state)))
        assert [describe(item) for batch in resumed for item in batch] == rest
        assert len(head) + len(rest) == 16


class TestAttributesThatLoadersProbe:
    @pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda mix: pickle.loads(pickle.dumps(mix))])
    def test_copies_serve_the_same(self, travel: Any) -> None:
        train = make_mix()
        assert describe(travel(train)[9]) == describe(train[9])

    def test_a_half_made_mix_has_no_attributes(self) -> None:
        bare = object.__new__(MixedDataset)
        for name in ("real", "classes", "__setstate_cython__", "__len_hint__", "_length"):
            assert not hasattr(bare, name)

    def test_names_that_frameworks_ask_for_are_not_invented(self) -> None:
        train = make_mix()
        for name in ("n_shards", "num_shards", "total_length", "generator", "set_loader_cfg", "__pl_saved_args"):
            assert not hasattr(train, name)
