"""Items before their transforms, for the datasets that are known to keep these in an attribute.

Generated samples are made from untransformed items and get the dataset's own transforms afterwards, like every real
item. That is possible only where the transforms are known to stand last; a class of somebody's own is left alone, and
its items are taken as they come.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset

from synthloader.checks import reject
from synthloader.row_tables import apply_batch_transform, has_batch_transform, is_row_table, read_rows

__all__ = [
    "apply_transforms",
    "find_base",
    "find_batch_table",
    "has_lifted_transforms",
    "is_known_reader",
    "is_plain_reader",
    "list_bases",
    "preserve_random_state",
    "read_bare",
    "read_several",
]

_BATCH = ("batch transform",)
_NAMES = ("transforms", "transform", "target_transform")


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


def list_bases(dataset: Any, /) -> list[Any]:
    """All datasets that `find_base` may find."""
    if isinstance(dataset, Subset):
        return list_bases(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return [base for part in dataset.datasets for base in list_bases(part)]
    return [dataset]


def find_batch_table(dataset: Any, /) -> Any:
    """The one table of rows behind a dataset whose transform works on batches now; None where there is no such."""
    bases = list_bases(dataset)
    return bases[0] if len(bases) == 1 and is_row_table(bases[0]) and has_batch_transform(bases[0]) else None


def read_bare(dataset: Any, index: int, /) -> Any:
    """The item before the transforms that `apply_transforms` applies."""
    base, at, _ = find_base(dataset, index)
    names = _find_lifted(base)
    if not names:
        return base[at]
    if names == _BATCH:
        return read_rows(base, [at])[0]
    bare = _copy_shallow(base)
    for name in names:
        setattr(bare, name, None)
    return bare[at]


def read_several(dataset: Any, places: Sequence[int], table: Any = None, /) -> Sequence[Any]:
    """Items at these places by the dataset's own `__getitems__`; with `table`, the bare rows of that table behind it.

    Raises:
        TypeError: `__getitems__` gave something else than one item for each.
    """
    if not places:
        return []
    if table is not None:
        return read_rows(table, [find_base(dataset, place)[1] for place in places])
    items: Any = dataset.__getitems__(list(places))
    if not isinstance(items, list | tuple) or len(items) != len(places):
        reject(
            f"{type(dataset).__name__}.__getitems__",
            "return a list of one item for each index",
            items,
            "A batch that is collated already cannot be mixed: leave that to collate_fn.",
            error=TypeError,
        )
    return items


def apply_transforms(dataset: Any, index: int, item: Any, /) -> Any:
    """The dataset's own transforms, read as they are now, on an item that stands at `index`."""
    base, _, _ = find_base(dataset, index)
    names = _find_lifted(base)
    if not names:
        return item
    if names == _BATCH:
        return apply_batch_transform(base, [item])[0]
    for joint in ("_transforms", "transforms"):
        if joint in names:
            return getattr(base, joint)(*item)
    first, *rest = item
    if "transform" in names:
        first = base.transform(first)
    if rest and "target_transform" in names and not _lacks_target(base, rest[0]):
        rest[0] = base.target_transform(rest[0])
    return (first, *rest)


def has_lifted_transforms(dataset: Any, /, *, image: bool = True) -> bool:
    """Whether the first item has transforms that `read_bare` leaves out; `image`: also such of the image alone."""
    names = set(_find_lifted(find_base(dataset, 0)[0]))
    return bool(names if image else names - {"transform"})


def is_known_reader(base: Any, /) -> bool:
    """Whether the items of a dataset are known to be those that its lists of files and annotations name.

    So it is where nobody overrode the reading of torchvision's, timm's or synthloader's classes. A class of somebody's
    own may leave items out, order them anew, or give classes other numbers, whatever it lists.
    """
    return _is_known_reader(type(base._dataset if _is_v2_wrapper(base) else base)) or is_row_table(base)


def is_plain_reader(dataset: Any, /) -> bool:
    """Whether reading a bare item is known to draw nothing at random.

    So it is with the classes of torchvision, timm and synthloader whose reading nobody overrode, and with row tables.
    """
    base = find_base(dataset, 0)[0]
    return is_known_reader(base) or "_transforms" in _find_lifted(base)


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
    if is_row_table(base):
        return _BATCH if has_batch_transform(base) else ()
    if getattr(type(base), "lifts_transforms", False):
        names: Sequence[str] = _NAMES
    elif _is_v2_wrapper(base):
        names = ("transforms",)  # the others are kept for pickling, and applied as a part of it
    elif _descends(base, "torchvision.", "VisionDataset"):
        if vars(base).get("_transforms") is not None:
            return ("_transforms",)  # torchvision's references and DETR
        names = _list_read(base) if _is_known_reader(type(base)) else ()
    elif _descends(base, "timm.", "ImageDataset"):
        names = _list_read(base) if _is_known_reader(type(base)) else ()
    else:
        return ()
    return tuple(name for name in names if getattr(base, name, None) is not None)


def _is_v2_wrapper(base: Any) -> bool:
    """Whether it is what `wrap_dataset_for_transforms_v2` makes: it takes the transforms off the dataset inside."""
    return _descends(base, "torchvision.", "VisionDatasetTVTensorWrapper")


def _descends(base: Any, package: str, name: str) -> bool:
    return any(kind.__name__ == name and kind.__module__.startswith(package) for kind in type(base).__mro__)


def _is_known_reader(kind: type) -> bool:
    reader = getattr(kind, "__getitem__", None)
    module = getattr(reader, "__module__", "") or ""
    return module.startswith(("torchvision.", "timm.", "synthloader."))


def _list_read(base: Any) -> list[str]:
    """The attributes that `__getitem__` itself reads: `CocoDetection` reads transforms, `ImageFolder` transform."""
    code = getattr(type(base).__getitem__, "__code__", None)
    return [name for name in _NAMES if code is None or name in code.co_names]


def _lacks_target(base: Any, target: Any) -> bool:
    """Whether it is the -1 that timm gives for an image without a label, and never transforms."""
    return isinstance(target, int) and target == -1 and _descends(base, "timm.", "ImageDataset")


def _copy_shallow(base: Any) -> Any:
    if not _is_v2_wrapper(base):
        return copy.copy(base)
    bare = object.__new__(type(base))  # its own copying wraps anew, and puts the transforms back
    bare.__dict__.update(base.__dict__)
    return bare
