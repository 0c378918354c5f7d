"""The stream of a seed is one stream: for any number of workers, either start method, two ranks, and after a resume."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from synthloader.batches import EpochSampler, MixedBatchSampler
from synthloader.generated import GeneratedDataset
from synthloader.generators import CopyPaste
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Balance, Plan, Replace
from tests.scenes import RejectBy, ScenesDataset, Shade, describe, keep_items

# The machine that tests may have fewer cores than the loader has workers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:.set_vital. is deprecated"),  # torchdata calls it
]

PLANS = [Add(0.7), Replace(1.0), Balance(9)]


def make_mix(plan: Plan = PLANS[0], *, generator: Any = None, on_shortfall: str = "repeat") -> MixedDataset:
    real = ScenesDataset(8)
    made = GeneratedDataset(real, generator or Shade(), filters=[RejectBy(share=0.4)], variants=3, attempts=1, seed=5)
    return MixedDataset(real, made, plan=plan, mark="is_generated", on_shortfall=on_shortfall, seed=2)


def read_stream(
    train: MixedDataset, *, num_workers: int = 0, start_method: str | None = None, num_epochs: int = 2, **ranks: int
) -> list[list[list[Any]]]:
    """Every batch of every epoch, fully described."""
    loader = DataLoader(
        train,
        batch_sampler=MixedBatchSampler(train, 4, **ranks),
        num_workers=num_workers,
        multiprocessing_context=start_method,
        persistent_workers=num_workers > 0,
        collate_fn=keep_items,
        generator=torch.Generator(),
    )
    return [[[describe(item) for item in batch] for batch in loader] for _ in range(num_epochs)]


@pytest.mark.parametrize("plan", PLANS, ids=repr)
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_forked_workers_give_the_stream_of_the_main_process(plan: Plan, num_workers: int) -> None:
    assert read_stream(make_mix(plan), num_workers=num_workers, start_method="fork") == read_stream(make_mix(plan))


@pytest.mark.parametrize(
    "num_workers", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_spawned_workers_give_the_stream_of_the_main_process(num_workers: int) -> None:
    train = make_mix(generator=CopyPaste(num_range=(1, 2)))
    alone = read_stream(make_mix(generator=CopyPaste(num_range=(1, 2))))
    assert read_stream(train, num_workers=num_workers, start_method="spawn") == alone


@pytest.mark.parametrize("plan", PLANS, ids=repr)
def test_two_ranks_together_fetch_what_one_does(plan: Plan) -> None:
    alone = read_stream(make_mix(plan))
    ranks = [
        read_stream(make_mix(plan), num_workers=2, start_method="fork", num_replicas=2, rank=rank) for rank in (0, 1)
    ]
    for epoch, batches in enumerate(alone):
        items = [item for batch in batches for item in batch]
        served = [item for rank in ranks for batch in rank[epoch] for item in batch]
        assert len(served) - len(items) == len(items) % 2
        assert sorted(set(served)) == sorted(set(items))
        assert [len(batch) for batch in ranks[0][epoch]] == [len(batch) for batch in ranks[1][epoch]]


def test_a_distributed_sampler_on_two_ranks_gives_the_union_too() -> None:
    def read(**ranks: int) -> list[Any]:
        train = make_mix()
        inner = DistributedSampler(train, **ranks)
        loader = DataLoader(
            train, sampler=EpochSampler(inner, train), collate_fn=keep_items, generator=torch.Generator()
        )
        return [describe(item) for _ in range(2) for batch in loader for item in batch]

    alone = read(num_replicas=1, rank=0)
    together = read(num_replicas=2, rank=0) + read(num_replicas=2, rank=1)
    assert set(alone) == set(together)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_stateful_loader_goes_on_in_the_middle_of_an_epoch(num_workers: int, stop: int) -> None:
    def make_loader() -> StatefulDataLoader[Any]:
        train = make_mix()
        return StatefulDataLoader(
            train,
            batch_sampler=MixedBatchSampler(train, 4),
            num_workers=num_workers,
            collate_fn=keep_items,
            multiprocessing_context="fork" if num_workers else None,
            generator=torch.Generator(),
        )

    def read(loader: Any) -> list[Any]:
        return [[describe(item) for item in batch] for batch in loader]

    whole = make_loader()
    expected = [read(whole) for _ in range(3)]
    first = make_loader()
    assert read(first) == expected[0]
    running = iter(first)
    head = [[describe(item) for item in next(running)] for _ in range(stop)]
    state = first.state_dict()
    del running, first
    second = make_loader()
    second.load_state_dict(state)
    assert head + read(second) == expected[1]
    assert read(second) == expected[2]


def test_an_epoch_sampler_goes_on_in_the_middle_of_an_epoch() -> None:
    def make_sampler() -> EpochSampler:
        train = make_mix()
        return EpochSampler(range(len(train)), train)

    sampler = make_sampler()
    list(sampler)
    running = iter(sampler)
    head = [next(running) for _ in range(5)]
    states = sampler.state_dict(), running.state_dict()  # type: ignore[attr-defined]
    other = make_sampler()
    other.load_state_dict(states[0])
    resumed = iter(other)
    resumed.load_state_dict(states[1])  # type: ignore[attr-defined]
    rest = list(resumed)
    assert [*map(int, head), *map(int, rest)] == list(range(len(sampler)))
    assert {index.epoch for index in (*head, *rest)} == {1}  # type: ignore[attr-defined]


def test_set_epoch_reaches_persistent_workers() -> None:
    train, alone = make_mix(), make_mix()
    loader = DataLoader(
        train,
        4,
        shuffle=False,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="fork",
        collate_fn=keep_items,
        generator=torch.Generator(),
    )
    for epoch in (0, 1, 7):
        train.set_epoch(epoch)
        alone.set_epoch(epoch)
        served = [describe(item) for batch in loader for item in batch]
        assert served == [describe(alone[index]) for index in range(len(alone))]


def test_what_is_served_depends_on_the_seeds_and_the_epoch() -> None:
    def read(seed: int, epoch: int) -> list[Any]:
        real = ScenesDataset(8)
        train = MixedDataset(real, GeneratedDataset(real, Shade(), variants=3, seed=seed), ratio=1.0, seed=seed)
        train.set_epoch(epoch)
        return [describe(train[index]) for index in range(len(train))]

    first = read(0, 0)
    assert read(0, 0) == first
    assert read(1, 0)[8:] != first[8:]
    assert read(0, 1)[8:] != first[8:]
    assert read(0, 1)[:8] == first[:8]


def test_workers_that_run_ahead_serve_the_epoch_of_the_index() -> None:
    train = make_mix()
    sampler = EpochSampler(RandomSampler(train, generator=torch.Generator()), train)
    batches = [list(sampler) for _ in range(2)]
    train.set_epoch(9)  # whatever the shared epoch says meanwhile
    served = [describe(train[index]) for index in batches[1]]
    alone = make_mix()
    alone.set_epoch(1)
    assert served == [describe(alone[int(index)]) for index in batches[1]]
