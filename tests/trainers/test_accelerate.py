"""Accelerate: `prepare` of loaders over a mix, in one process and in two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DataLoaderConfiguration, debug_launcher
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.utils.data import DataLoader, RandomSampler

from synthloader.batches import EpochSampler, MixedBatchSampler
from synthloader.mixed import MixedDataset
from tests.trainers.drawn import DrawnDetection, check_detection, hash_image, mix_detection, read_epochs, stack

pytestmark = [
    pytest.mark.uses_global_rng,  # a DataLoader draws its seed there
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]

KINDS = ["batches", "epochs", "shuffle"]


@pytest.fixture(autouse=True)
def forget_accelerators() -> Any:
    """Their settings are kept for the whole process."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()  # type: ignore[attr-defined]


def make_loader(train: Any, kind: str, num_workers: int = 0, **options: Any) -> DataLoader[Any]:
    options |= {"num_workers": num_workers, "collate_fn": stack}
    options |= {"multiprocessing_context": "fork"} if num_workers else {}
    if kind == "batches":
        return DataLoader(train, batch_sampler=MixedBatchSampler(train, 4), **options)
    if kind == "epochs":
        # Ranks must shuffle alike: Accelerate gives only samplers that it knows a common generator.
        shuffled = RandomSampler(train, generator=torch.Generator().manual_seed(0))
        return DataLoader(train, 4, sampler=EpochSampler(shuffled, train), **options)
    return DataLoader(train, 4, shuffle=True, **options)


def run(
    train: Any, kind: str, *, first_epoch: int = 0, num_skipped: int = 0, num_workers: int = 0, **options: Any
) -> list[list[dict[str, Any]]]:
    """The plain loop over two epochs, with what every step was given."""
    accelerator = Accelerator(cpu=True, **options)
    model = torch.nn.Linear(3, 1)
    model, optimizer, loader = accelerator.prepare(
        model, torch.optim.SGD(model.parameters(), lr=0.01), make_loader(train, kind, num_workers)
    )
    epochs = []
    for epoch in range(first_epoch, first_epoch + 2):
        loader.set_epoch(epoch)
        if kind == "shuffle" and isinstance(train, MixedDataset):
            train.set_epoch(epoch)  # ranks with a seedable sampler forget it
        skipping = num_skipped and epoch == first_epoch
        steps = []
        for batch in accelerator.skip_first_batches(loader, num_skipped) if skipping else loader:
            check_detection(batch)
            marks = batch["is_generated"].tolist() if "is_generated" in batch else []
            steps.append({"marks": marks, "images": [hash_image(image) for image in batch["images"]]})
            accelerator.backward(model(batch["images"].float().mean(dim=(2, 3)) / 255).square().mean())
            optimizer.step()
            optimizer.zero_grad()
        epochs.append(steps)
    return epochs


def list_images(steps: list[dict[str, Any]]) -> list[str]:
    return sorted(image for step in steps for image in step["images"])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("seedable", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_epoch_holds_the_asked_share_and_is_another(kind: str, seedable: bool, num_workers: int) -> None:
    train = mix_detection(0.5)
    config = DataLoaderConfiguration(use_seedable_sampler=seedable)
    epochs = run(train, kind, num_workers=num_workers, dataloader_config=config)
    assert [list_images(steps) for steps in epochs] == read_epochs(2)
    for steps in epochs:
        assert sum(sum(step["marks"]) for step in steps) == 5
        if kind == "batches":
            assert all(sum(step["marks"]) in (1, 2) for step in steps)
    assert train.report().repeated_epochs == ()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_that_starts_at_a_later_epoch_gets_that_epoch(kind: str, num_workers: int) -> None:
    """Accelerate counts epochs from 0, and would tell the dataset so."""
    epochs = run(mix_detection(0.5), kind, first_epoch=2, num_workers=num_workers)
    assert [list_images(steps) for steps in epochs] == read_epochs(4)[2:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_first_batches_are_skipped_of_their_own_epoch(num_workers: int) -> None:
    whole = run(mix_detection(0.5), "batches", first_epoch=1, num_workers=num_workers)
    resumed = run(mix_detection(0.5), "batches", first_epoch=1, num_skipped=3, num_workers=num_workers)
    assert resumed == [whole[0][3:], whole[1]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loop_that_says_nothing_still_gets_one_epoch_after_the_other(num_workers: int) -> None:
    loader = Accelerator(cpu=True).prepare(make_loader(train := mix_detection(0.5), "batches", num_workers))
    epochs = [sorted(hash_image(image) for batch in loader for image in batch["images"]) for _ in range(3)]
    assert epochs == read_epochs(3)
    assert train.report().repeated_epochs == ()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_at_ratio_0_batches_are_those_of_the_unwrapped_run(num_workers: int) -> None:
    epochs = []
    for dataset in (mix_detection(0), DrawnDetection(10)):
        torch.manual_seed(3)
        steps = run(dataset, "shuffle", num_workers=num_workers)
        epochs.append([[step["images"] for step in epoch] for epoch in steps])
    assert epochs[0] == epochs[1]


@pytest.mark.parametrize(
    ("seedable", "split"),
    [(False, False), (True, False), (False, True), pytest.param(True, True, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_share_every_epoch(tmp_path: Path, kind: str, seedable: bool, split: bool) -> None:
    debug_launcher(run_rank, (tmp_path, kind, seedable, split), num_processes=2)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for epoch, expected in enumerate(read_epochs(2)):
        steps = [step for rank in ranks for step in rank["epochs"][epoch]]
        assert sorted(set(list_images(steps))) == expected
        assert len({len(rank["epochs"][epoch]) for rank in ranks}) == 1
        if kind == "batches" and not split:
            assert all(sum(step["marks"]) in (1, 2) for step in steps)
    assert [rank["repeated"] for rank in ranks] == [[], []]


def run_rank(folder: Path, kind: str, seedable: bool, split: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(7)
    train: MixedDataset = mix_detection(0.5)
    config = DataLoaderConfiguration(use_seedable_sampler=seedable, split_batches=split)
    epochs = run(train, kind, dataloader_config=config)
    rank = torch.distributed.get_rank()
    report = {"epochs": epochs, "repeated": list(train.report().repeated_epochs)}
    (folder / f"{rank}.json").write_text(json.dumps(report))
