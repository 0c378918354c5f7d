"""What was asked of a mix and what it served: `MixReport`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from synthloader.plans import Add, Balance, Only, Plan, Replace, Schedule

__all__ = ["MixReport", "SetReport", "build_report", "describe_plan"]


@dataclass(frozen=True)
class SetReport:
    """Counts of one generated set.

    Attributes:
        asked: Served positions that the plan had meant for this set.
        generated: Those that got a generated sample, `repeated` ones included.
        repeated: Those that got the candidate of another position.
        real_instead: Those that got a real item because every candidate failed.
        failed: Those that raised `ShortfallError`.
        cache_hits: Candidates that the cache had.
        cache_misses: Candidates that were generated although there is a cache.
        source_reads_on_hit: Hits that read the source for fields that the cache cannot hold.
    """

    asked: int = 0
    generated: int = 0
    repeated: int = 0
    real_instead: int = 0
    failed: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    source_reads_on_hit: int = 0


@dataclass(frozen=True)
class MixReport:
    """What a mix has served since it was made, in this process and its workers.

    Items are counted where `__getitem__` returned: fetched, not trained on. A batch that was prefetched and then
    dropped by the loop is counted.

    Attributes:
        epoch: The current epoch.
        planned: {"real": ..., "generated": ...} indices of the current epoch.
        asked_ratio: Generated per real index in the plan of the current epoch; None where it has no real index.
        real: Real items served, those that stood in for a generated one included.
        generated: Generated items served.
        realised_ratio: `generated / real`; None while no real item was served.
        padding: Items that a sampler fetched twice to give all ranks equal steps; not in the other numbers.
        sets: Counts of each generated set by name.
        classes: {"real": {class id: objects}, "generated": {...}}: labelled objects in the items served.
        filters: Filter to {"accepted": n, "rejected": n}.
        rejected: {"who: reason": n} of all rejected candidates; who is a generator or a filter.
        repeated_epochs: Epochs of which more positions were fetched than they have: `set_epoch` was not called.
        ranks: Processes of a distributed run that are summed here.
        notes: What the numbers do not say by themselves, a sentence each.
        asked: The plan of the current epoch in words; empty where it is not known.
        class_names: {class id: name}, for those that the real dataset names.
    """

    epoch: int
    planned: Mapping[str, int]
    asked_ratio: float | None
    real: int
    generated: int
    realised_ratio: float | None
    padding: int
    sets: Mapping[str, SetReport]
    classes: Mapping[str, Mapping[int, int]]
    filters: Mapping[str, Mapping[str, int]]
    rejected: Mapping[str, int]
    repeated_epochs: tuple[int, ...] = ()
    ranks: int = 1
    notes: tuple[str, ...] = field(default=())
    asked: str = ""
    class_names: Mapping[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """A few lines to read; `to_dict` has everything."""
        when = f"up to epoch {self.epoch}" if self.epoch else "epoch 0"  # all that was served is counted
        lines = [f"{when}: {self._describe_ratio()}"]
        for name, part in self.sets.items():
            short = f", {part.real_instead} real instead" if part.real_instead else ""
            short += f", {part.repeated} repeated" if part.repeated else ""
            cached = part.cache_hits + part.cache_misses
            hits = f", cache hits {part.cache_hits} of {cached}" if cached else ""
            lines.append(f"  set {name}: {part.generated} of {part.asked}{short}{hits}")
        for side, table in self.classes.items():
            if table:
                shown = (f"{name_class(key, self.class_names)}: {count}" for key, count in table.items())
                lines.append(f"  labels by class, {side}: " + ", ".join(shown))
        lines += [f"  rejected by {reason}: {count}" for reason, count in self.rejected.items()]
        if self.repeated_epochs:
            lines.append(f"  fetched more than once, set_epoch was not called: epochs {list(self.repeated_epochs)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, for JSON."""
        return asdict(self)

    def _describe_ratio(self) -> str:
        served = f"{self.generated} generated and {self.real} real items served"
        realised = "generated only" if self.generated and not self.real else _show(self.realised_ratio)
        if not self.asked:
            return f"ratio asked {_show(self.asked_ratio)}, realised {realised} ({served})"
        planned = f"{self.planned['generated']} for {self.planned['real']} real items"
        return f"asked {self.asked}, {planned}; realised {realised} ({served})"


def describe_plan(plan: Plan, /, *, epoch: int = 0) -> str:
    """What a plan asks for in an epoch, in the words in which it was asked: `0.5 generated per real`."""
    match plan:
        case Schedule(plans=plans):
            return describe_plan(plans[max(start for start in plans if start <= epoch)])
        case Add(ratio=ratio):
            return _describe_ratios(ratio)
        case Replace(ratio, share):
            return f"{_describe_ratios(ratio)}, in its place" if share is None else f"a share of {share:g} generated"
        case Only():
            return "generated items only"
        case Balance(to=to, count=count):
            goal = f"{to} {count}" if isinstance(to, int) else f"{to:g} times the largest"
            return f"classes raised to {goal}"
        case _:
            return repr(plan)


def name_class(class_id: int, names: Mapping[int, str], /) -> str:
    """The name of a class where it has one, else its id."""
    return names.get(class_id, str(class_id))


def _describe_ratios(ratio: float | Mapping[str, float]) -> str:
    parts = ratio if isinstance(ratio, Mapping) else {"generated": ratio}
    return " and ".join(f"{value:g} {name}" for name, value in parts.items()) + " per real"


def _show(ratio: float | None) -> str:
    return "none" if ratio is None else f"{ratio:.4g}"


def build_report(
    counts: Counter[str],
    *,
    epoch: int,
    planned_real: int,
    planned_generated: int,
    set_names: list[str],
    repeated_epochs: tuple[int, ...],
    ranks: int,
    notes: tuple[str, ...],
    plan: Plan | None = None,
    class_to_idx: Mapping[str, int] | None = None,
) -> MixReport:
    """Sort the flat counts of a `Tally` into a report. The names are those that `MixedDataset` counts under."""
    class_names = {class_id: name for name, class_id in (class_to_idx or {}).items()}
    sets = {
        name: SetReport(**{key: counts[f"set/{name}/{key}"] for key in SetReport.__dataclass_fields__})
        for name in set_names
    }
    classes: dict[str, dict[int, int]] = {"real": {}, "generated": {}}
    filters: dict[str, dict[str, int]] = {}
    rejected: dict[str, int] = {}
    for name, count in sorted(counts.items()):
        kind, _, rest = name.partition("/")
        if kind == "class":
            side, _, class_id = rest.partition("/")
            classes[side][int(class_id)] = count
        elif kind == "filter":
            who, _, verdict = rest.rpartition("/")
            filters.setdefault(who, {"accepted": 0, "rejected": 0})[verdict] = count
        elif kind == "rejected":
            rejected[rest] = count
    classes = {side: dict(sorted(table.items())) for side, table in classes.items()}
    found = [_note_unknown_classes(counts, classes), _note_foreign_classes(counts, classes, planned_real, class_names)]
    if not repeated_epochs:
        found.append(_note_surplus(counts, epoch=epoch, length=planned_real + planned_generated))
    return MixReport(
        epoch=epoch,
        planned={"real": planned_real, "generated": planned_generated},
        asked_ratio=planned_generated / planned_real if planned_real else None,
        real=counts["real"],
        generated=counts["generated"],
        realised_ratio=counts["generated"] / counts["real"] if counts["real"] else None,
        padding=counts["padding"],
        sets=sets,
        classes=classes,
        filters=filters,
        rejected=rejected,
        repeated_epochs=repeated_epochs,
        ranks=ranks,
        notes=(*notes, *filter(None, found)),
        asked="" if plan is None else describe_plan(plan, epoch=epoch),
        class_names=class_names,
    )


def _note_unknown_classes(counts: Counter[str], classes: Mapping[str, Mapping[int, int]]) -> str:
    """Why one side has no line."""
    if not counts["real"] or classes["real"] or not classes["generated"]:
        return ""
    return "labels by class, real: none counted; either these items have none, or a transform hides them"


def _note_foreign_classes(
    counts: Counter[str], classes: Mapping[str, Mapping[int, int]], planned_real: int, names: Mapping[int, str]
) -> str:
    """Said when as many real items were seen as an epoch has: before, a rare class may only not have come yet."""
    foreign = [class_id for class_id in classes["generated"] if class_id not in classes["real"]]
    if not foreign or not classes["real"] or not planned_real or counts["real"] < planned_real:
        return ""
    shown = ", ".join(name_class(class_id, names) for class_id in foreign)
    have = ", ".join(name_class(class_id, names) for class_id in classes["real"])
    return (
        f"generated items have {'class' if len(foreign) == 1 else 'classes'} {shown}, which no real item served has "
        f"(these have {have}): if both sides mean the same classes, give them one table of classes"
    )


def _note_surplus(counts: Counter[str], *, epoch: int, length: int) -> str:
    """More was fetched than the epochs so far have; less than a batch of it does not warn."""
    surplus = counts["real"] + counts["generated"] - (epoch + 1) * length
    if surplus <= 0:
        return ""
    so_far = f"the {epoch + 1} epochs so far have" if epoch else "one epoch has"
    return f"{surplus} more than {so_far}: some items were fetched again, to look at them or to fill a last batch"
