"""`ration_donors`: a plan with a cap tells every position which donors it may use, so that none is used oftener.

`mark_barren`: without a cap, a plan looks only for classes of which there are no donors at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from synthloader.budget import DonorList, Ration, share_budget
from synthloader.cells import Cell
from synthloader.checks import reject
from synthloader.layout import PlanContext
from synthloader.seeds import hash_numbers

__all__ = ["mark_barren", "ration_donors"]


def ration_donors(cells: Sequence[Cell], context: PlanContext, cap: int, /) -> list[Cell]:
    """The same cells, with turns at the donors of their classes where a set's generator can be told which to use.

    Sets that draw from the same donors share the uses of these.

    Args:
        cells: Those of all sets.
        context: What the plan is bound to.
        cap: Most uses of a donor in an epoch.

    Raises:
        ValueError: Two sets have some donors in common, but not all.
    """
    members: dict[int, dict[int, DonorList]] = {}  # class, set
    for cell in cells:
        shape = context.sets[cell.set_index]
        for class_id in cell.classes or ():
            lists = members.setdefault(class_id, {})
            if cell.set_index not in lists:
                donors = shape.find_donors(class_id)
                if donors is not None:
                    lists[cell.set_index] = donors
    rations: dict[int, dict[int, Ration]] = {}  # cell, class
    for class_id, lists in members.items():
        for sets in _group(class_id, lists, context):
            runs = [
                (at, cell.count_usable(class_id, run))
                for at, cell in enumerate(cells)
                for found, run in cell.list_runs()
                if cell.set_index in sets and found == class_id
            ]
            shared = DonorList(lists[sets[0]].names, min(lists[at].most for at in sets))
            key = hash_numbers(context.seed, sets[0], class_id)
            shares = share_budget([room for _, room in runs], shared, cap=cap, key=key)
            for (at, _), ration in zip(runs, shares, strict=True):
                rations.setdefault(at, {})[class_id] = ration
    ends = [most for at in rations if (most := cells[at].most_rounds) is not None]
    num_rounds = min(ends, default=None)
    return [
        replace(cell, rations=rations[at], num_rounds=num_rounds) if at in rations else cell
        for at, cell in enumerate(cells)
    ]


def mark_barren(cells: Sequence[Cell], context: PlanContext, /) -> list[Cell]:
    """The same cells, with the classes marked of which a set that pastes has no donors.

    Args:
        cells: Those of all sets.
        context: What the plan is bound to.
    """
    known: dict[tuple[int, int], bool] = {}
    marked = []
    for cell in cells:
        shape = context.sets[cell.set_index]
        classes = (cell.classes or ()) if shape.can_aim else ()
        for class_id in classes:
            place = cell.set_index, class_id
            if place not in known:
                known[place] = shape.has_donors(class_id)
        barren = frozenset(class_id for class_id in classes if not known[cell.set_index, class_id])
        marked.append(replace(cell, barren=barren) if barren else cell)
    return marked


def _group(class_id: int, lists: Mapping[int, DonorList], context: PlanContext) -> list[list[int]]:
    """Sets with the same donors."""
    groups: list[list[int]] = []
    for at, donors in lists.items():
        for group in groups:
            others = lists[group[0]].names
            if list(others) == list(donors.names):
                group.append(at)
                break
            if not set(others).isdisjoint(donors.names):
                names = [context.sets[each].name for each in (group[0], at)]
                reject(
                    "generated",
                    f"draw from the same donors of class {class_id}, or from none in common, where a plan has a cap",
                    names,
                    "Give these sets one pool, or leave the cap out.",
                )
        else:
            groups.append([at])
    return groups
