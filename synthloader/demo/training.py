"""A few steps of a real detector, from scratch, on the mixed loader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from synthloader.batches import MixedBatchSampler
from synthloader.demo.items import make_loader
from synthloader.mixed import MixedDataset

__all__ = ["MODEL", "fork_random_state", "make_model", "train"]

MODEL = "ssdlite320_mobilenet_v3_large"

LEARNING_RATE = 1e-3
NUM_WARM_UP_STEPS = 5
MAX_GRADIENT = 10.0


def make_model(num_classes: int, /) -> torch.nn.Module:
    """The detector with random weights; nothing is downloaded."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large  # type: ignore[import-untyped]

    model: torch.nn.Module = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
    return model


def train(
    mixed: MixedDataset,
    num_classes: int,
    /,
    *,
    num_steps: int,
    batch_size: int,
    num_workers: int,
    seed: int,
    show: Callable[[int, str], None] = lambda done, remark: None,
) -> list[float]:
    """Train for some steps, over as many epochs as it takes.

    Args:
        mixed: What is trained on.
        num_classes: Number of classes, the background included.
        num_steps: Batches.
        batch_size: Items per batch.
        num_workers: Processes of the loader.
        seed: Seed of the weights and of the order; the global random state is left as it was.
        show: Called after each step with the number done and the loss.

    Returns:
        The loss of every step.
    """
    losses: list[float] = []
    sampler = MixedBatchSampler(mixed, batch_size, seed=seed)
    loader = make_loader(mixed, sampler, num_workers=num_workers, seed=seed)
    with fork_random_state(seed), leave_processors(num_workers):
        model = make_model(num_classes).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        while len(losses) < num_steps:
            for images, targets in loader:
                for group in optimizer.param_groups:
                    group["lr"] = find_learning_rate(len(losses), num_steps)
                losses.append(_step(model, optimizer, images, targets))
                show(len(losses), f"loss {losses[-1]:.2f}")
                if len(losses) == num_steps:
                    break
    return losses


def find_learning_rate(step: int, num_steps: int, /) -> float:
    """A short warm-up, then half a cosine."""
    warm_up = min(1.0, (step + 1) / NUM_WARM_UP_STEPS)
    return LEARNING_RATE * warm_up * (0.1 + 0.9 * (1 + math.cos(math.pi * step / num_steps)) / 2)


@contextmanager
def fork_random_state(seed: int, /) -> Iterator[None]:
    """Torch's global random state starts from a seed inside, and is what it was outside."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        yield


@contextmanager
def leave_processors(num_workers: int, /) -> Iterator[None]:
    """Torch computes on the processors that the loader's workers leave; more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - num_workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, images: Any, targets: Any) -> float:
    losses: dict[str, torch.Tensor] = model(list(images), list(targets))
    loss = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT)
    optimizer.step()
    return float(loss.detach())
