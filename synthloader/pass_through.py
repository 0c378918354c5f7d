"""What a mix shows of the dataset that it wraps: everything, unless it would lie about the mix.

* What belongs to the dataset as a whole (`classes`, `coco`, `features`) is passed on.
* What has an entry per item has the mixed length, or is refused with a hint.
* What gives another dataset is refused, or mixed again: a bare dataset would lose the generated items in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from synthloader.lifting import list_bases
from synthloader.mix_sets import GeneratedSet
from synthloader.plans import Add, Balance, Only
from synthloader.row_tables import is_row_table

__all__ = ["find_attribute", "set_transform_of"]

_Mix: TypeAlias = Any
"""A `MixedDataset`, whose module imports this one."""
_CLASS_LEVEL = {"classes", "categories", "class_names", "names"}
_DERIVING = {"select", "shuffle", "map", "filter", "train_test_split", "with_transform", "set_transform", "with_format"}
_REFORMATTING = {"with_transform", "with_format"}


def find_attribute(mix: _Mix, name: str, /) -> Any:
    """An attribute of the wrapped dataset, as the mix shows it.

    Raises:
        AttributeError: The dataset has none of this name, or it would lie; the message says where to read it instead.
    """
    if name == "get_height_and_width":
        _check_sizes(mix)
        return partial(_find_size, mix)
    if is_row_table(mix.real):
        return _find_of_table(mix, name)
    value = getattr(mix.real, name)
    if name in _DERIVING and callable(value):
        raise _make_deriving_error(mix, name)
    return _check_rows(mix, name, value)


def set_transform_of(mix: _Mix, name: str, value: Any, /) -> None:
    """Set a transform of the wrapped dataset, and of plain sets beside it, as timm's `create_loader` does.

    Raises:
        AttributeError: The wrapped dataset has no such attribute: nothing would ever call the transform.
    """
    bases = list_bases(mix.real)
    if not all(hasattr(base, name) for base in bases):
        raise AttributeError(
            f"{type(bases[0]).__name__} has no attribute {name}, so that it would be called for no item. Pass "
            f"MixedDataset(..., transforms=...), which is called as transforms(*item)."
        )
    plain = [base for part in mix.sets if not isinstance(part, GeneratedSet) for base in list_bases(part.dataset)]
    for base in (*bases, *(base for base in plain if hasattr(base, name))):
        setattr(base, name, value)


def _find_of_table(mix: _Mix, name: str) -> Any:
    """What a table of rows has: its description, but none of the many methods that see the real rows only."""
    if name in _REFORMATTING:
        return partial(_reformat, mix, name)
    if name == "set_transform":
        return partial(_set_batch_transform, mix)
    if name == "num_rows":
        return len(mix)
    if name == "shape":
        return (len(mix), *mix.real.shape[1:])
    value = getattr(mix.real, name)
    if callable(value):
        raise _make_deriving_error(mix, name)
    return value if name == "column_names" else _check_rows(mix, name, value)


def _reformat(mix: _Mix, name: str, /, *arguments: Any, **options: Any) -> _Mix:
    """A mix of the same plan over the dataset with another transform or format; caches are shared."""

    def change(dataset: Any) -> Any:
        if not is_row_table(dataset):
            raise TypeError(
                f"{name} must reach every generated set, and {type(dataset).__name__} has no such method. Call it "
                f"before mixing: MixedDataset(real.{name}(...), ...)."
            )
        return getattr(dataset, name)(*arguments, **options)

    return mix._change_real(change, keeps_form=name == "with_transform")


def _set_batch_transform(mix: _Mix, /, *arguments: Any, **options: Any) -> None:
    """Set the transform of the wrapped rows, and of plain sets of rows beside them, in place."""
    plain = [part.dataset for part in mix.sets if not isinstance(part, GeneratedSet)]
    for dataset in plain:
        if not is_row_table(dataset):
            raise TypeError(
                f"set_transform must reach every generated set, and {type(dataset).__name__} has no such method. Call "
                f"it before mixing."
            )
    for dataset in (mix.real, *plain):
        dataset.set_transform(*arguments, **options)


def _check_rows(mix: _Mix, name: str, value: Any) -> Any:
    serves_own_indices = len(mix) == len(mix.real)  # index i is real item i or a version of it, in every epoch
    if serves_own_indices or name in _CLASS_LEVEL or not _has_rows(value, len(mix.real)):
        return value
    if name == "targets" and all(part.source.labels is not None for part in (mix, *mix.sets)):
        return _like(value)(_find_targets(mix))
    raise AttributeError(
        f"{name} has one entry for each of the {len(mix.real)} real items, and this mix has {len(mix)} items. "
        f"Read it from the wrapped dataset: train.real.{name}."
    )


def _find_targets(mix: _Mix) -> list[int]:
    draws = [mix.draw(index) for index in range(len(mix))]
    sources = [
        (mix.source, at) if draw is None else (mix.sets[draw.set_index].source, draw.source)
        for at, draw in enumerate(draws)
    ]
    return [int(source.labels[place]) for source, place in sources if source.labels is not None]


def _check_sizes(mix: _Mix) -> None:
    """Refuse to tell sizes that are not known, or would be others in the next epoch."""
    if mix.source.sizes_hw is None or any(part.source.sizes_hw is None for part in mix.sets):
        raise AttributeError("sizes of the items are not known without decoding them")
    for part in mix.sets:
        if part.sizes_hw is None:
            raise AttributeError(
                f"sizes of the items of set {part.name!r} depend on what is drawn. They are known where every part of "
                f"its generator gives the same size: leave out Sometimes, or give all choices of OneOf one size_hw."
            )
        if part.resizes and not isinstance(mix.plan, Add | Balance | Only):
            raise AttributeError(
                f"sizes of the items change from epoch to epoch: set {part.name!r} has other sizes than its sources, "
                f"and {type(mix.plan).__name__} serves real and generated items at the same indices. Use Add, Balance "
                f"or Only."
            )


def _find_size(mix: _Mix, index: Any, /) -> tuple[int, int]:
    """Height and width of an item without decoding it."""
    draw = mix.draw(index)
    sizes, place = (
        (mix.source.sizes_hw, int(index) % len(mix))
        if draw is None
        else (mix.sets[draw.set_index].sizes_hw, draw.source)
    )
    if sizes is None:
        raise AttributeError("sizes of the items are not known without decoding them")
    return int(sizes[place, 0]), int(sizes[place, 1])


def _make_deriving_error(mix: _Mix, name: str) -> AttributeError:
    return AttributeError(
        f"{name} of the wrapped {type(mix.real).__name__} would give a dataset without the generated items. "
        f"Call it before mixing: MixedDataset(real.{name}(...), ...)."
    )


def _has_rows(value: Any, count: int) -> bool:
    return (
        not isinstance(value, str | bytes | Mapping)
        and hasattr(value, "__len__")
        and hasattr(value, "__getitem__")
        and len(value) == count
    )


def _like(value: Any) -> Callable[[list[int]], Any]:
    """What makes the labels of the mix the kind of array that the dataset's own are."""
    if isinstance(value, torch.Tensor):
        return partial(torch.tensor, dtype=value.dtype)
    return partial(np.array, dtype=value.dtype) if isinstance(value, np.ndarray) else list
