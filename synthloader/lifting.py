"""Items before their transforms, for the datasets that are known to keep these in an attribute.

Generated samples are made from untransformed items and get the dataset's own transforms afterwards, like every real
item. That is possible only where the transforms are known to stand last; a class of somebody's own is left alone, and
its items are taken as they come.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset

__all__ = [
    "apply_transforms",
    "find_base",
    "has_lifted_transforms",
    "is_plain_reader",
    "preserve_random_state",
    "read_bare",
]


def find_base(dataset: Any, index: int, /) -> tuple[Any, int, str]:
    """Look through `Subset` and `ConcatDataset`: the dataset that holds the item, its index there, the way to it."""
    way = ""
    while True:
        if isinstance(dataset, Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        elif isinstance(dataset, ConcatDataset):
            part = int(np.searchsorted(dataset.cumulative_sizes, index, side="right"))
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset, way = dataset.datasets[part], f"{way}{part}/"
        else:
            return dataset, index, way


def read_bare(dataset: Any, index: int, /) -> Any:
    """The item before the transforms that `apply_transforms` applies."""
    base, at, _ = find_base(dataset, index)
    names = _find_lifted(base)
    if not names:
        return base[at]
    bare = copy.copy(base)
    for name in names:
        setattr(bare, name, None)
    return bare[at]


def apply_transforms(dataset: Any, index: int, item: Any, /) -> Any:
    """The dataset's own transforms, read as they are now, on an item that stands at `index`."""
    base, _, _ = find_base(dataset, index)
    names = _find_lifted(base)
    if not names:
        return item
    if "_transforms" in names:
        return base._transforms(*item)
    if "transforms" in names and _reads(base, "transforms"):
        return base.transforms(*item)
    first, *rest = item
    if base.transform is not None:
        first = base.transform(first)
    if rest and base.target_transform is not None:
        rest[0] = base.target_transform(rest[0])
    return (first, *rest)


def has_lifted_transforms(dataset: Any, /) -> bool:
    """Whether the first item has transforms that `read_bare` leaves out."""
    return bool(_find_lifted(find_base(dataset, 0)[0]))


def is_plain_reader(dataset: Any, /) -> bool:
    """Whether reading a bare item is known to draw nothing at random: torchvision's own classes and synthloader's."""
    base = find_base(dataset, 0)[0]
    return _is_known_reader(type(base)) or "_transforms" in _find_lifted(base)


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Whatever is drawn inside from the global random states of Python, numpy and torch is undone at the end."""
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


def _find_lifted(base: Any) -> tuple[str, ...]:
    """Names of the attributes that hold transforms now; empty where the class is not known to apply them last."""
    kinds = type(base).__mro__
    is_vision = any(kind.__module__.startswith("torchvision.") and kind.__name__ == "VisionDataset" for kind in kinds)
    if is_vision and vars(base).get("_transforms") is not None:
        return ("_transforms",)  # torchvision's references and DETR
    if not is_vision and not hasattr(type(base), "lifts_transforms"):
        return ()
    if is_vision and not _is_known_reader(type(base)):
        return ()
    names = ("transforms", "transform", "target_transform")
    return tuple(name for name in names if getattr(base, name, None) is not None)


def _is_known_reader(kind: type) -> bool:
    reader = getattr(kind, "__getitem__", None)
    module = getattr(reader, "__module__", "") or ""
    return module.startswith("torchvision.") or module.startswith("synthloader.")


def _reads(base: Any, attribute: str) -> bool:
    """Whether `__getitem__` itself reads this attribute: `CocoDetection` reads transforms, `ImageFolder` transform."""
    code = getattr(type(base).__getitem__, "__code__", None)
    return code is None or attribute in code.co_names
