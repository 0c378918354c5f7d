"""`ClassChoice`: the classes that a generator is limited to (`classes=`), and the one that it is aimed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthloader.checks import check_int, reject, suggest_name
from synthloader.errors import LabelContractError

__all__ = ["ClassChoice"]


@dataclass(frozen=True, slots=True)
class ClassChoice:
    """Which classes are wanted.

    Args:
        classes: Names and ids, each once, in order; ids alone once they are bound; None for all.
        aim: The one that is wanted now; None for all of them.
    """

    classes: tuple[str | int, ...] | None = None
    aim: int | None = None

    @classmethod
    def read(cls, classes: Any, /, *, purpose: str) -> ClassChoice:
        """What the user gave as `classes=`.

        Args:
            classes: A list of names and ids, or None.
            purpose: What is done with objects of these classes (`"paste"`), for the error.

        Raises:
            ValueError: There are none.
            TypeError: It is no list, or one is neither a name nor an integer.
        """
        if classes is None:
            return cls()
        if isinstance(classes, str) or not isinstance(classes, Sequence):
            remedy = "Write [...] around a single one."
            reject("classes", "be a list of class names or ids", classes, remedy, error=TypeError)
        if not classes:
            reject("classes", "name at least one class", classes, f"Leave it out to {purpose} objects of all classes.")
        checked: set[str | int] = {
            name if isinstance(name, str) else check_int(f"classes[{at}]", name, minimum=0)
            for at, name in enumerate(classes)
        }
        return cls(tuple(sorted(checked, key=lambda name: (isinstance(name, str), name))))

    def bind(self, table: Mapping[str, int] | None, /) -> ClassChoice:
        """A copy with ids for names.

        Raises:
            LabelContractError: A name or an id is not in the table, or there is a name and no table.
            ValueError: The class that is aimed at is not among them.
        """
        if self.classes is None:
            return self
        bound = replace(self, classes=tuple(sorted({_find_id(name, table) for name in self.classes})))
        return bound if self.aim is None else bound.aim_at(self.aim)

    def aim_at(self, class_id: int, /) -> ClassChoice:
        """A copy that wants this class alone.

        Raises:
            ValueError: `classes=` leaves it out.
        """
        aim = check_int("class_id", class_id, minimum=0)
        if self.classes is not None and self._is_bound and aim not in self.classes:
            remedy = "Add it to classes=, or leave it out."
            reject("class_id", f"be among classes={list(self.classes)}", class_id, remedy)
        return replace(self, aim=aim)

    @property
    def wanted(self) -> frozenset[int] | None:
        """The ids; None for all classes.

        Raises:
            ValueError: A name has not been looked up yet.
        """
        if self.aim is not None:
            return frozenset({self.aim})
        if self.classes is None:
            return None
        ids = frozenset(name for name in self.classes if isinstance(name, int))
        if len(ids) < len(self.classes):
            remedy = "Pass the generator to GeneratedDataset, or call bind first."
            reject("classes", "be bound before generate", list(self.classes), remedy)
        return ids

    @property
    def _is_bound(self) -> bool:
        return self.classes is not None and all(isinstance(name, int) for name in self.classes)


def _find_id(name: str | int, table: Mapping[str, int] | None) -> int:
    if isinstance(name, int):
        if table and name not in table.values():
            known = ", ".join(f"{number} ({text})" for text, number in table.items())
            remedy = f"It has: {known}." if len(table) <= 20 else f"It has {len(table)} classes; give their names."
            reject("classes", "be ids of the dataset's classes", name, remedy, error=LabelContractError)
        return name
    if table is None:
        remedy = "Give the numbers that stand in the labels."
        requirement = "be ids where the dataset has no table of class names"
        reject("classes", requirement, name, remedy, error=LabelContractError)
    if name not in table:
        remedy = suggest_name(name, table)
        reject("classes", "be names of the dataset's classes", name, remedy, error=LabelContractError)
    return int(table[name])
