"""`classes=` of generators: names and ids of the classes that they are limited to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthloader.checks import check_int, reject, suggest_name
from synthloader.errors import LabelContractError

__all__ = ["check_classes", "find_class"]


def check_classes(classes: Any, /, *, purpose: str) -> tuple[str | int, ...] | None:
    """Names and ids, each once, in order; None for all classes.

    Args:
        classes: What the user gave.
        purpose: What is done with objects of these classes (`"paste"`), for the error.

    Raises:
        ValueError: There are none.
        TypeError: It is no list, or one is neither a name nor an integer.
    """
    if classes is None:
        return None
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        reject(
            "classes", "be a list of class names or ids", classes, "Write [...] around a single one.", error=TypeError
        )
    if not classes:
        reject("classes", "name at least one class", classes, f"Leave it out to {purpose} objects of all classes.")
    checked: set[str | int] = {
        name if isinstance(name, str) else check_int(f"classes[{at}]", name, minimum=0)
        for at, name in enumerate(classes)
    }
    return tuple(sorted(checked, key=lambda name: (isinstance(name, str), name)))


def find_class(name: str | int, table: Mapping[str, int] | None, /) -> int:
    """The id of a class.

    Raises:
        LabelContractError: The table does not know the name, or there is none.
    """
    if isinstance(name, int):
        return name
    if table is None:
        reject(
            "classes",
            "be ids where the dataset has no table of class names",
            name,
            "Give the numbers that stand in the labels.",
            error=LabelContractError,
        )
    if name not in table:
        reject(
            "classes", "be names of the dataset's classes", name, suggest_name(name, table), error=LabelContractError
        )
    return int(table[name])
