"""Generators on a GPU in forked workers: CUDA cannot be used there, and says so in words that do not help."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from torch.utils.data import get_worker_info

from synthloader.errors import GenerationError

__all__ = ["explain_cuda_error", "is_forked_worker", "make_cuda_error", "needs_cuda"]

_IMPORTED_IN = os.getpid()
_TORCH_SAYS = "CUDA in forked subprocess"


def is_forked_worker() -> bool:
    """Whether this is a loader's worker that was forked: a spawned one has imported this module for itself."""
    return get_worker_info() is not None and os.getpid() != _IMPORTED_IN


def needs_cuda(generator: Any, /) -> bool:
    """Whether a generator, or a part of it, says in an attribute `device` that it runs on a GPU."""
    return any(str(getattr(part, "device", "")).startswith("cuda") for part in _walk(generator))


def make_cuda_error(generator: Any, /) -> GenerationError:
    """The error that names the ways out."""
    return GenerationError(
        f"{type(generator).__name__} runs on a GPU, which a forked loader worker cannot use. Fill a cache beforehand "
        f"(synthloader.precompute), or pass num_workers=0 or multiprocessing_context='spawn' to the DataLoader.",
        fingerprint=generator.fingerprint,
    )


def explain_cuda_error(generator: Any, error: BaseException, /) -> GenerationError | None:
    """That error where torch has complained of it; None where `error` says something else."""
    return make_cuda_error(generator) if _TORCH_SAYS in str(error) else None


def _walk(generator: Any) -> Iterator[Any]:
    yield generator
    for part in getattr(generator, "generators", None) or ():
        yield from _walk(part)
