"""Items that are tuples or lists with an image first, its label second, and perhaps more behind."""

from __future__ import annotations

from typing import Any, TypeVar

from synthloader.adapters.items.carried import give_back
from synthloader.adapters.items.channel_order import from_tensor, to_tensor
from synthloader.adapters.items.images import is_image, write_image
from synthloader.checks import reject
from synthloader.errors import LabelContractError
from synthloader.registry import describe_item
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

__all__ = ["check_pair", "check_target", "is_pair", "name_extras", "write_pair"]

TargetKind = TypeVar("TargetKind", ClassLabel, Instances, SemanticMask)


def is_pair(item: Any, /) -> bool:
    """Whether an item is a plain tuple or list with an image first and something behind it."""
    return type(item) in (tuple, list) and len(item) >= 2 and is_image(item[0])


def check_pair(item: Any, name: str, requirement: str, /) -> None:
    """Refuse an item of another form.

    Args:
        item: The item.
        name: What it is called in messages: `dataset[17]`.
        requirement: `"be (image, mask)"`.
    """
    if not is_pair(item):
        reject(f"the form of {name}", requirement, describe_item(item), error=TypeError)


def name_extras(item: Any, /) -> dict[str, Any]:
    """What stands behind image and label, by place."""
    return {str(place): item[place] for place in range(2, len(item))}


def write_pair(sample: Sample, label: Any, /, *, like: Any) -> Any:
    """A native item: the sample's image, this label, and what the source had behind them.

    Raises:
        LabelContractError: The sample comes from items of another length.
    """
    image = from_tensor(
        write_image(sample.image, like=to_tensor(like[0]), axes=sample.fields.get("axes")), like=like[0]
    )
    extras = [give_back(sample, str(place), like=like[place]) for place in range(2, len(like))]
    return type(like)([image, label, *extras])


def check_target(sample: Sample, kind: type[TargetKind], /) -> TargetKind:
    """The target of a sample, which must be of the kind that the dataset has.

    Raises:
        LabelContractError: It is another one.
    """
    if not isinstance(sample.target, kind):
        raise LabelContractError(
            f"a generated sample must have a target of the kind {kind.__name__}, as the real dataset has, got "
            f"{type(sample.target).__name__}. Mix in samples that were generated from the same kind of dataset."
        )
    return sample.target
