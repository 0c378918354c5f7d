"""The mixes behind a trainer's loaders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from synthloader.checks import reject
from synthloader.mixed import MixedDataset

__all__ = ["check_mix", "check_real", "find_mixes"]


def find_mixes(loaders: Any, /) -> list[MixedDataset]:
    """Every mix under a loader, or a collection of them, through `Subset` and `ConcatDataset`; each once."""
    found: list[MixedDataset] = []
    for mix in _walk(loaders):
        if not any(mix is other for other in found):
            found.append(mix)
    return found


def check_mix(name: str, train: object, /) -> MixedDataset:
    """Refuse what is no mix."""
    if not isinstance(train, MixedDataset):
        reject(
            name, "be a MixedDataset", train, "Mix first: MixedDataset(real, generated, ratio=0.5).", error=TypeError
        )
    return train


def check_real(name: str, dataset: object, /) -> None:
    """Refuse generated items in a validation set."""
    if find_mixes(dataset):
        reject(
            name,
            "hold real items only",
            type(dataset).__name__,
            "Pass the dataset that is not mixed: train.split([0.8, 0.2])[1].real, or a validation set of its own.",
            error=TypeError,
        )


def _walk(part: Any) -> Iterator[MixedDataset]:
    if isinstance(part, MixedDataset):
        yield part
    elif isinstance(part, Subset):
        yield from _walk(part.dataset)
    elif isinstance(part, ConcatDataset):
        yield from _walk(part.datasets)
    elif isinstance(part, Mapping):
        yield from _walk(list(part.values()))
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _walk(inner)
    elif hasattr(part, "iterables"):  # Lightning's CombinedLoader
        yield from _walk(part.iterables)
    elif "dataset" in getattr(part, "__dict__", ()):
        yield from _walk(part.dataset)
    elif hasattr(part, "base_dataloader"):  # Accelerate's loaders
        yield from _walk(part.base_dataloader)
