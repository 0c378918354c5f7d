"""Which positions of an epoch are generated: `Add`, `Replace`, `Only`, `Balance`, `Schedule`. Pure arithmetic.

A plan is a small description; `bind` turns it into a `synthloader.layout.Layout` for one dataset.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np

from synthloader.checks import (
    check_choice,
    check_count,
    check_fraction,
    check_int,
    check_number,
    check_type,
    reject,
    suggest_name,
)
from synthloader.class_table import share_out, share_uses
from synthloader.layout import (
    AppendLayout,
    Cell,
    Draw,
    Layout,
    PlanContext,
    ReplaceLayout,
    SetShape,
    make_cells,
)
from synthloader.rationing import mark_barren, ration_donors

__all__ = ["Add", "Balance", "Only", "Plan", "Replace", "Schedule"]


@runtime_checkable
class Plan(Protocol):
    """What `MixedDataset(plan=...)` takes."""

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plan out for one dataset; raises `ValueError` where it cannot be."""
        ...


@dataclass(frozen=True)
class Add:
    """All real items, and `round(ratio * n)` generated ones after them.

    Index i < n is real item i in every epoch. Which sources and variants the other indices carry changes with the
    epoch; each source is used floor or ceil of m / n times, and no (source, variant) twice in an epoch.

    Args:
        ratio: Generated samples per real sample, at least 0; or one ratio for each generated set by name. A plain
            number is divided equally among several sets.

    Example:
        >>> from synthloader.layout import PlanContext, SetShape
        >>> layout = Add(0.5).bind(PlanContext(num_real=10, sets=(SetShape("generated", 10, 4),)))
        >>> layout.length, layout.count_generated(0)
        (15, 5)
    """

    ratio: float | Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", _check_ratio("ratio", self.ratio))

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plan out for one dataset."""
        if isinstance(self.ratio, Mapping):
            counts = [round(ratio * context.num_real) for ratio in _match_names("ratio", self.ratio, context)]
        else:
            counts = _divide(round(self.ratio * context.num_real), len(context.sets))
        cells: list[Cell] = []
        for at, (shape, count) in enumerate(zip(context.sets, counts, strict=True)):
            if count:
                _check_sources(shape)
                cells += make_cells(shape, count, set_index=at, seed=context.seed)
        return AppendLayout(context.num_real, cells, names=[shape.name for shape in context.sets])


@dataclass(frozen=True)
class Replace:
    """As many items as before; a share ratio / (1 + ratio) of the indices carries a variant of its own real item.

    Which indices these are changes with the epoch.

    Args:
        ratio: Generated samples per real sample, at least 0; or one ratio for each generated set by name.

    Example:
        >>> Replace.share(0.5).bind(PlanContext(num_real=10, sets=(SetShape("generated", 10, 4),))).count_generated(0)
        5
    """

    ratio: float | Mapping[str, float]
    _share: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self._share is None:
            object.__setattr__(self, "ratio", _check_ratio("ratio", self.ratio))

    @classmethod
    def share(cls, share: float, /) -> Replace:
        """The same, said as the share of generated indices in 0..1: `Replace.share(0.5)` is `Replace(1.0)`."""
        share = check_fraction("share", share)
        return cls(share / (1 - share) if share < 1 else float("inf"), share)

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plan out for one dataset."""
        size = context.num_real
        if isinstance(self.ratio, Mapping):
            ratios = [_exact(ratio) for ratio in _match_names("ratio", self.ratio, context)]
            counts = _round_together([ratio * size / (1 + sum(ratios)) for ratio in ratios])
        elif self._share is not None:
            counts = _divide(round(size * self._share), len(context.sets))
        else:
            ratio = _exact(self.ratio)
            counts = _divide(round(ratio * size / (1 + ratio)), len(context.sets))
        return _bind_in_place(self, context, counts)


@dataclass(frozen=True)
class Only:
    """Generated items only: n indices, each a variant of its own real item. The same as `Replace.share(1.0)`.

    Example:
        >>> Only().bind(PlanContext(num_real=10, sets=(SetShape("generated", 10, 4),))).count_generated(0)
        10
    """

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plan out for one dataset."""
        return _bind_in_place(self, context, _divide(context.num_real, len(context.sets)))


@dataclass(frozen=True)
class Balance:
    """Generated items for the classes that have too few. Indices as in `Add`; each generated one has a target class.

    Args:
        to: What every class is raised to: an int is a count, a float a share of the largest class.
        count: What is counted: `"images"` that hold the class, or `"instances"`. A generated index counts as one of
            its target class, the least that it gains; what it gains beyond that is in the report.
        classes: Class ids or names that are raised; None for all that occur.
        cap: Most uses of one source image in an epoch, and of one donor where objects of the wanted class are pasted
            (`CopyPaste`): no cut-out of a raised class is repeated oftener. None for no limit.

    Example:
        >>> from synthloader.class_table import ClassTable
        >>> table = ClassTable([[0], [0], [0], [1]])
        >>> shape = SetShape("generated", 4, None, find_classes=lambda: table)
        >>> layout = Balance(1.0).bind(PlanContext(num_real=4, sets=(shape,), find_classes=lambda: table))
        >>> [layout.draw(0, index).target_class for index in range(4, layout.length)]
        [1, 1]
    """

    to: int | float
    count: str = "images"
    classes: tuple[int | str, ...] | None = None
    cap: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.to, int | np.integer) and not isinstance(self.to, bool):
            to: int | float = check_int("to", self.to, minimum=1)
        else:
            to = check_number("to", self.to, minimum=0.0)
            if to == 0:
                reject("to", "be above 0", self.to, "An int is a count, a float a share of the largest class.")
        object.__setattr__(self, "to", to)
        check_choice("count", self.count, ("images", "instances"))
        if self.cap is not None:
            check_count("cap", self.cap)
        if self.classes is not None:
            check_type("classes", self.classes, (tuple, list))
            classes = (
                name if isinstance(name, str) else check_int(f"classes[{at}]", name, minimum=0)
                for at, name in enumerate(self.classes)
            )
            object.__setattr__(self, "classes", tuple(classes))

    def count_needed(self, context: PlanContext, /) -> dict[int, int]:
        """Class id to the number of generated indices, for the classes that need any."""
        table = context.find_classes()
        if table is None:
            reject(
                "plan",
                "have class counts of the real dataset",
                self,
                "Its annotations cannot be read without decoding images; give the dataset `targets`, or use Add.",
            )
        counts = table.count(self.count)
        largest = max(counts.values(), default=0)
        goal = self.to if isinstance(self.to, int) else round(self.to * largest)
        wanted = sorted(counts) if self.classes is None else [_find_class(name, context) for name in self.classes]
        needed = {class_id: goal - counts.get(class_id, 0) for class_id in wanted}
        return {class_id: need for class_id, need in needed.items() if need > 0}

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plan out for one dataset."""
        needed = self.count_needed(context)
        num_sets = len(context.sets)
        cells: list[Cell] = []
        for at, shape in enumerate(context.sets):
            shares = {class_id: _divide(need, num_sets)[at] for class_id, need in sorted(needed.items())}
            shares = {class_id: share for class_id, share in shares.items() if share}
            if shares:
                _check_sources(shape)
                for class_id in shares:
                    shape.check_aim(class_id)
                make = self._make_aimed_cells if shape.can_aim else self._make_holders_cells
                cells += make(shape, shares, set_index=at, seed=context.seed)
        return AppendLayout(
            context.num_real,
            mark_barren(cells, context) if self.cap is None else ration_donors(cells, context, self.cap),
            names=[shape.name for shape in context.sets],
            cap=self.cap,
            class_names={class_id: name for name, class_id in (context.class_to_idx or {}).items()},
        )

    def _make_aimed_cells(self, shape: SetShape, shares: dict[int, int], *, set_index: int, seed: int) -> list[Cell]:
        """Any source serves any class: the classes take turns over all of them, and get their shares of too few."""
        count = sum(shares.values())
        if self.cap is None or count <= self.cap * shape.num_sources:
            return make_cells(shape, count, set_index=set_index, seed=seed, classes=shares)
        uses = np.full(shape.num_sources, min(self.cap, shape.num_variants or self.cap))
        cells: list[Cell] = []
        room = share_out(np.array(list(shares.values()), np.int64), int(uses.sum())).tolist()
        served = {class_id: part for class_id, part in zip(shares, room, strict=True) if part}
        lacking = {class_id: share - served.get(class_id, 0) for class_id, share in shares.items()}
        lacking = {class_id: part for class_id, part in lacking.items() if part}
        for classes, left in ((served, uses), (lacking, np.zeros_like(uses))):
            total = sum(classes.values())
            cells += make_cells(shape, total, set_index=set_index, seed=seed, classes=classes, laps_left=left)
        return cells

    def _make_holders_cells(self, shape: SetShape, shares: dict[int, int], *, set_index: int, seed: int) -> list[Cell]:
        """Each class is served by the sources that hold it, which share out their uses where these are limited."""
        holders = {class_id: self._find_holders(shape, class_id) for class_id in shares}
        limits = [limit for limit in (self.cap, shape.num_variants) if limit is not None]
        left: dict[int, np.ndarray] = {}
        if limits:
            left = share_uses(holders, shares, num_items=shape.num_sources, limit=min(limits))
        used = np.zeros(shape.num_sources, np.int64)
        cells: list[Cell] = []
        for class_id, share in shares.items():
            rows = holders[class_id]
            cells += make_cells(
                shape,
                share,
                set_index=set_index,
                seed=seed,
                sources=rows,
                classes={class_id: share},
                laps_left=left.get(class_id),
                first_lap=used[rows],
            )
            used[rows] += left.get(class_id, -(-share // len(rows)))
        return cells

    def _find_holders(self, shape: SetShape, class_id: int) -> np.ndarray:
        table = shape.find_classes()
        holders = np.zeros(0, np.int64) if table is None else table.find_holders(class_id)
        if not len(holders):
            reject(
                "plan",
                f"raise classes that the sources of set {shape.name!r} hold; none holds class {class_id}",
                self,
                "Leave it out with classes=, or use a generator that can be aimed (CopyPaste).",
            )
        return holders


@dataclass(frozen=True)
class Schedule:
    """Another plan from some epochs on: `Schedule({0: Only(), 20: Add(0)})` is generated first, then real.

    Args:
        plans: First epoch to plan; epoch 0 is required. All plans must have one length, because samplers and
            learning-rate schedules fix it early.

    Example:
        >>> plan = Schedule({0: Only(), 20: Add(0)})
        >>> layout = plan.bind(PlanContext(num_real=10, sets=(SetShape("generated", 10, 4),)))
        >>> layout.count_generated(19), layout.count_generated(20)
        (10, 0)
    """

    plans: Mapping[int, Plan]

    def __post_init__(self) -> None:
        check_type("plans", self.plans, Mapping, "Write Schedule({0: Only(), 20: Add(0)}).")
        for epoch, plan in self.plans.items():
            check_int("an epoch of plans", epoch, minimum=0)
            if isinstance(plan, type) or not isinstance(plan, Plan) or isinstance(plan, Schedule):
                reject(f"plans[{epoch}]", "be Add, Replace, Only or Balance", plan, error=TypeError)
        object.__setattr__(self, "plans", {int(epoch): plan for epoch, plan in self.plans.items()})
        if 0 not in self.plans:
            reject(
                "plans", "have a plan for epoch 0", sorted(self.plans), "Epochs before the first key would have none."
            )

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plans out for one dataset."""
        starts = sorted(self.plans)
        layouts = [self.plans[start].bind(context) for start in starts]
        for start, layout in zip(starts, layouts, strict=True):
            if layout.length != layouts[0].length:
                raise ValueError(
                    f"plans must have one length, got {layouts[0].length} from epoch 0 ({self.plans[0]}) and "
                    f"{layout.length} from epoch {start} ({self.plans[start]}). Replace and Only keep the length of "
                    f"the real dataset; Add(r) gives (1 + r) times as many."
                )
        return _ScheduleLayout(starts, layouts)


class _ScheduleLayout:
    """One layout for each part of the run, versions numbered on through all of them."""

    def __init__(self, starts: list[int], layouts: list[Layout]) -> None:
        self._starts = starts
        self._layouts = layouts
        self.length = layouts[0].length
        self.num_laps = max(layout.num_laps for layout in layouts)
        for layout in layouts:
            layout.num_laps = self.num_laps
        # The same plan at several epochs lacks the same several times.
        self.shortfalls = list(dict.fromkeys(item for layout in layouts for item in layout.shortfalls))

    def _at(self, epoch: int) -> Layout:
        return self._layouts[bisect_right(self._starts, epoch) - 1]

    def count_generated(self, epoch: int, /) -> int:
        return self._at(epoch).count_generated(epoch)

    def count_by_set(self, epoch: int, /) -> list[int]:
        return self._at(epoch).count_by_set(epoch)

    def draw(self, epoch: int, index: int, /) -> Draw | None:
        return self._at(epoch).draw(epoch, index)

    def draw_next(self, epoch: int, index: int, /, *, limit: int) -> Iterator[Draw]:
        return self._at(epoch).draw_next(epoch, index, limit=limit)

    def list_rationed(self) -> list[Draw]:
        return list(dict.fromkeys(draw for layout in self._layouts for draw in layout.list_rationed()))

    def find_generated(self, epoch: int, position: int, /) -> int:
        return self._at(epoch).find_generated(epoch, position)

    def find_real(self, epoch: int, position: int, /) -> int:
        return self._at(epoch).find_real(epoch, position)

    def find_real_source(self, epoch: int, index: int, /) -> int:
        return self._at(epoch).find_real_source(epoch, index)


def _check_ratio(name: str, ratio: object) -> float | dict[str, float]:
    remedy = "It is the number of generated samples per real sample: 0.5 adds one for every two."
    if isinstance(ratio, Mapping):
        return {
            key: check_number(f"{name}[{key!r}]", value, minimum=0.0, remedy=remedy) for key, value in ratio.items()
        }
    return check_number(name, ratio, minimum=0.0, remedy=remedy)


def _bind_in_place(plan: Plan, context: PlanContext, counts: Sequence[int]) -> ReplaceLayout:
    for shape, count in zip(context.sets, counts, strict=True):
        if count and not shape.own:
            reject(
                "plan",
                f"be Add or Balance for the set {shape.name!r}, which does not come from the real items",
                plan,
                f"{type(plan).__name__} puts a version of an item in its place, which a foreign set does not have: "
                "use Add.",
            )
    return ReplaceLayout(context.num_real, counts, sets=context.sets, seed=context.seed)


def _check_sources(shape: SetShape) -> None:
    if not shape.num_sources:
        reject("generated", f"have sources, and the set {shape.name!r} is empty", 0, "Give it a dataset with items.")


def _match_names(name: str, ratios: Mapping[str, float], context: PlanContext) -> list[float]:
    names = [shape.name for shape in context.sets]
    for key in ratios:
        if key not in names:
            reject(name, "name the generated sets", key, suggest_name(str(key), names))
    for key in names:
        if key not in ratios:
            reject(
                name,
                f"give a ratio for every generated set, and {key!r} has none",
                dict(ratios),
                "Write 0 for a set that rests.",
            )
    return [ratios[key] for key in names]


def _find_class(name: int | str, context: PlanContext) -> int:
    if isinstance(name, str):
        table = context.class_to_idx or {}
        if name not in table:
            reject(
                "classes",
                "be known to the dataset",
                name,
                suggest_name(name, table) if table else "Give ids: it has no class names.",
            )
        return table[name]
    if context.class_to_idx and name not in context.class_to_idx.values():
        known = ", ".join(f"{number} ({text})" for text, number in context.class_to_idx.items())
        reject("classes", "be known to the dataset", name, f"Its classes are {known}.")
    return name


def _divide(total: int, parts: int) -> list[int]:
    """Equal integers that add up to `total`; the first ones take the rest."""
    return [total // parts + (at < total % parts) for at in range(parts)] if parts else []


def _round_together(exact: list[Fraction]) -> list[int]:
    """Integers nearest to the shares that add up to the rounded total (largest remainders)."""
    floors = [int(share) for share in exact]
    rest = round(sum(exact)) - sum(floors)
    for at in sorted(range(len(exact)), key=lambda at: (floors[at] - exact[at], at))[:rest]:
        floors[at] += 1
    return floors


def _exact(ratio: float) -> Fraction:
    """The decimal number that the user wrote, not its nearest binary fraction."""
    return Fraction(repr(ratio))
