"""Which positions of an epoch are generated: `Add`, `Replace`, `Only`, `Balance`, `Schedule`. Pure arithmetic.

A plan is a small description; `bind` turns it into a `synthloader.layout.Layout` for one dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np

from synthloader.checks import check_choice, check_count, check_fraction, check_int, check_number, check_type, reject, suggest_name
from synthloader.layout import AppendLayout, Cell, Draw, Layout, PlanContext, ReplaceLayout, SetShape, Shortfall, make_cells

__all__ = ["Add", "Balance", "Only", "Plan", "Replace", "Schedule"]

_NO_LIMIT = np.iinfo(np.int64).max


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
        _check_ratio("ratio", self.ratio)

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
        _check_ratio("ratio", self.ratio, infinite=self._share is not None)

    @classmethod
    def share(cls, share: float, /) -> Replace:
        """The same, said as the share of generated indices in 0..1: `Replace.share(0.5)` is `Replace(1.0)`."""
        share = check_fraction("share", share)
        return cls(share / (1 - share) if share < 1 else float("inf"), share)

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plan out for one dataset."""
        size = context.num_real
        if isinstance(self.ratio, Mapping):
            ratios = _match_names("ratio", self.ratio, context)
            whole = 1 + sum(map(_exact, ratios))
            counts = _round_together([_exact(ratio) * size / whole for ratio in ratios])
        else:
            share = self._share
            total = round(size * share) if share is not None else round(size * self.ratio / (1 + self.ratio))
            counts = _divide(total, len(context.sets))
        for shape, count in zip(context.sets, counts, strict=True):
            if count and not shape.own:
                reject("plan", f"be Add or Balance for the set {shape.name!r}, which does not come from the real items", self,
                       "Replace puts a version of an item in its place, which a foreign set does not have: use Add.")
        return ReplaceLayout(
            size, counts, num_variants=[shape.num_variants for shape in context.sets], seed=context.seed,
            find_groups=context.sets[0].find_groups if context.sets else lambda: None,
        )


@dataclass(frozen=True)
class Only:
    """Generated items only: n indices, each a variant of its own real item. The same as `Replace.share(1.0)`.

    Example:
        >>> Only().bind(PlanContext(num_real=10, sets=(SetShape("generated", 10, 4),))).count_generated(0)
        10
    """

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plan out for one dataset."""
        return Replace.share(1.0).bind(context)


@dataclass(frozen=True)
class Balance:
    """Generated items for the classes that have too few. Indices as in `Add`; each generated index has one target class.

    Args:
        to: What every class is raised to: an int is a count, a float a share of the largest class.
        count: What is counted: `"images"` that hold the class, or `"instances"`. A generated index counts as one of
            its target class, the least that it gains; what it gains beyond that is in the report.
        classes: Class ids or names that are raised; None for all that occur.
        cap: Most uses of one source image in an epoch; None for no limit.

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
        if isinstance(self.to, int) and not isinstance(self.to, bool):
            check_int("to", self.to, minimum=1)
        elif check_number("to", self.to, minimum=0.0) == 0.0:
            reject("to", "be above 0", self.to, "An int is a count, a float a share of the largest class.")
        check_choice("count", self.count, ("images", "instances"))
        if self.cap is not None:
            check_count("cap", self.cap)
        if self.classes is not None:
            check_type("classes", self.classes, (tuple, list))
            object.__setattr__(self, "classes", tuple(self.classes))

    def count_needed(self, context: PlanContext, /) -> dict[int, int]:
        """Class id to the number of generated indices, for the classes that need any."""
        table = context.find_classes()
        if table is None:
            reject("plan", "have class counts of the real dataset", self,
                   "Its annotations cannot be read without decoding images; give the dataset `targets`, or use Add.")
        counts = table.count(self.count)
        largest = max(counts.values(), default=0)
        goal = self.to if isinstance(self.to, int) else round(self.to * largest)
        wanted = sorted(counts) if self.classes is None else [_find_class(name, context) for name in self.classes]
        needed = {class_id: goal - counts.get(class_id, 0) for class_id in wanted}
        return {class_id: need for class_id, need in needed.items() if need > 0}

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plan out for one dataset; the rarest sources are given out first."""
        needed = self.count_needed(context)
        cells: list[Cell] = []
        shares = {class_id: _divide(need, len(context.sets)) for class_id, need in needed.items()}
        for at, shape in enumerate(context.sets):
            used = np.zeros(shape.num_sources, np.int64)
            limit = min(self.cap or _NO_LIMIT, shape.num_variants or _NO_LIMIT)
            found: dict[int, list[Cell]] = {}
            holders = {class_id: self._find_sources(shape, class_id) for class_id in needed if shares[class_id][at]}
            for class_id in sorted(holders, key=lambda class_id: (len(holders[class_id]), class_id)):
                left = None if limit == _NO_LIMIT else np.maximum(limit - used, 0)
                found[class_id] = make_cells(
                    shape, shares[class_id][at], set_index=at, seed=context.seed, sources=holders[class_id],
                    target_class=class_id, laps_left=left, first_lap=used.copy(),
                )
                for cell in found[class_id]:
                    laps = cell.num_laps_own
                    rows = holders[class_id] if cell.sources is None else cell.sources
                    used[rows] += laps if cell.laps_left is None else np.minimum(cell.laps_left, laps)
            cells += [cell for class_id in sorted(found) for cell in found[class_id]]
        return AppendLayout(context.num_real, cells, names=[shape.name for shape in context.sets])

    def _find_sources(self, shape: SetShape, class_id: int) -> np.ndarray:
        _check_sources(shape)
        if shape.aimable:
            return np.arange(shape.num_sources)
        table = shape.find_classes()
        holders = np.zeros(0, np.int64) if table is None else table.find_holders(class_id)
        if not len(holders):
            reject("plan", f"raise classes that the sources of set {shape.name!r} hold; none holds class {class_id}", self,
                   "Leave it out with classes=, or use a generator that can be aimed (CopyPaste).")
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
            if not isinstance(plan, Plan) or isinstance(plan, Schedule):
                reject(f"plans[{epoch}]", "be Add, Replace, Only or Balance", plan, error=TypeError)
        if 0 not in self.plans:
            reject("plans", "have a plan for epoch 0", sorted(self.plans), "Epochs before the first key would have none.")

    def bind(self, context: PlanContext, /) -> Layout:
        """Work the plans out for one dataset."""
        starts = sorted(self.plans)
        layouts = [self.plans[start].bind(context) for start in starts]
        for start, layout in zip(starts, layouts, strict=True):
            if layout.length != layouts[0].length:
                raise ValueError(
                    f"plans must have one length, got {layouts[0].length} from epoch 0 ({self.plans[0]}) and "
                    f"{layout.length} from epoch {start} ({self.plans[start]}). Replace and Only keep the length of the "
                    f"real dataset; Add(r) gives (1 + r) times as many."
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
        self.shortfalls: list[Shortfall] = [item for layout in layouts for item in layout.shortfalls]

    def _at(self, epoch: int) -> Layout:
        return self._layouts[int(np.searchsorted(self._starts, epoch, side="right")) - 1]

    def count_generated(self, epoch: int, /) -> int:
        return self._at(epoch).count_generated(epoch)

    def count_by_set(self, epoch: int, /) -> list[int]:
        return self._at(epoch).count_by_set(epoch)

    def draw(self, epoch: int, index: int, /) -> Draw | None:
        return self._at(epoch).draw(epoch, index)

    def draw_next(self, epoch: int, index: int, /, *, limit: int) -> Iterator[Draw]:
        return self._at(epoch).draw_next(epoch, index, limit=limit)

    def find_generated(self, epoch: int, position: int, /) -> int:
        return self._at(epoch).find_generated(epoch, position)

    def find_real(self, epoch: int, position: int, /) -> int:
        return self._at(epoch).find_real(epoch, position)

    def find_real_source(self, epoch: int, index: int, /) -> int:
        return self._at(epoch).find_real_source(epoch, index)


def _check_ratio(name: str, ratio: object, *, infinite: bool = False) -> None:
    remedy = "It is the number of generated samples per real sample: 0.5 adds one for every two."
    if isinstance(ratio, Mapping):
        for key, value in ratio.items():
            check_number(f"{name}[{key!r}]", value, minimum=0.0, remedy=remedy)
    elif not (infinite and ratio == float("inf")):
        check_number(name, ratio, minimum=0.0, remedy=remedy)


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
            reject(name, f"give a ratio for every generated set, and {key!r} has none", dict(ratios), "Write 0 for a set that rests.")
    return [ratios[key] for key in names]


def _find_class(name: int | str, context: PlanContext) -> int:
    if isinstance(name, str):
        table = context.class_to_idx or {}
        if name not in table:
            reject("classes", "be known to the dataset", name, suggest_name(name, table) if table else "Give ids: it has no class names.")
        return table[name]
    return check_int("classes", name, minimum=0)


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
    return Fraction(repr(float(ratio))) if not isinstance(ratio, int) else Fraction(ratio)
