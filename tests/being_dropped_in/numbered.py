"""A small mix whose items say which source they are of, and a rank of Accelerate that reads it; importable by ranks."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch.utils.data import DataLoader, RandomSampler

from synthloader.batches import EpochSampler, MixedBatchSampler
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from tests.scenes import Shade

NUM_REAL, BATCH = 12, 4


class Numbers(torch.utils.data.Dataset[Any]):
    """Detection items that carry their number."""

    def __len__(self) -> int:
        return NUM_REAL

    def __getitem__(self, index: int) -> Any:
        image = torch.full((3, 8, 8), index, dtype=torch.uint8)
        return image, {"boxes": torch.tensor([[1.0, 1, 5, 5]]), "labels": torch.tensor([1]), "source": index}


def collate(items: list[Any]) -> dict[str, torch.Tensor]:
    """(made, source) of each item as tensors, which every framework can move."""
    return {
        "made": torch.stack([target["made"] for _, target in items]),
        "source": torch.tensor([int(target["source"]) for _, target in items]),
    }


def make_mix() -> MixedDataset:
    real = Numbers()
    return MixedDataset(real, GeneratedDataset(real, Shade()), ratio=1.0, mark="made")


def make_loader(train: MixedDataset, kind: str, num_workers: int = 0) -> DataLoader[Any]:
    options: dict[str, Any] = {"collate_fn": collate, "num_workers": num_workers}
    if num_workers:
        options |= {"persistent_workers": True, "multiprocessing_context": "fork"}
    if kind == "batches":
        return DataLoader(train, batch_sampler=MixedBatchSampler(train, BATCH), **options)
    if kind == "indices":
        return DataLoader(train, BATCH, sampler=EpochSampler(RandomSampler(train), train), **options)
    return DataLoader(train, BATCH, shuffle=True, **options)


def read(loader: Any) -> list[list[Any]]:
    """[made, source] of each item, batch by batch."""
    return [list(zip(batch["made"].tolist(), batch["source"].tolist(), strict=True)) for batch in loader]


def run_accelerate(rank: int, folder: str, cases: dict[str, dict[str, Any]]) -> None:
    """One of two ranks: two epochs of every case, written to a file."""
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)  # as scripts do that add the rank to their seed
    told = {}
    for case, options in cases.items():
        configuration = DataLoaderConfiguration(**{name: value for name, value in options.items() if name != "kind"})
        train = make_mix()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loader = Accelerator(cpu=True, dataloader_config=configuration).prepare(make_loader(train, options["kind"]))
            epochs = [read(loader) for _ in range(2)]
            repeated = list(train.report().repeated_epochs)
        said = [str(warning.message) for warning in caught if "EpochSampler" in str(warning.message)]
        told[case] = {"epochs": epochs, "epoch": train.epoch, "repeated": repeated, "said": said}
    Path(folder, f"{rank}.json").write_text(json.dumps(told))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
