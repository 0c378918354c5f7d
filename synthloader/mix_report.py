"""What was asked of a mix and what it served: `MixReport`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["MixReport", "SetReport"]


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

    def __str__(self) -> str:
        """A few lines to read; `to_dict` has everything."""
        lines = [
            f"epoch {self.epoch}: ratio asked {_show(self.asked_ratio)}, realised {_show(self.realised_ratio)} "
            f"({self.generated} generated and {self.real} real items served)"
        ]
        for name, part in self.sets.items():
            short = f", {part.real_instead} real instead" if part.real_instead else ""
            short += f", {part.repeated} repeated" if part.repeated else ""
            cached = part.cache_hits + part.cache_misses
            hits = f", cache hits {part.cache_hits} of {cached}" if cached else ""
            lines.append(f"  set {name}: {part.generated} of {part.asked}{short}{hits}")
        for side, table in self.classes.items():
            if table:
                lines.append(
                    f"  objects by class, {side}: " + ", ".join(f"{key}: {count}" for key, count in table.items())
                )
        lines += [f"  rejected by {reason}: {count}" for reason, count in self.rejected.items()]
        if self.repeated_epochs:
            lines.append(f"  fetched more than once, set_epoch was not called: epochs {list(self.repeated_epochs)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, for JSON."""
        return asdict(self)


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
) -> MixReport:
    """Sort the flat counts of a `Tally` into a report. The names are those that `MixedDataset` counts under."""
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
    return MixReport(
        epoch=epoch,
        planned={"real": planned_real, "generated": planned_generated},
        asked_ratio=planned_generated / planned_real if planned_real else None,
        real=counts["real"],
        generated=counts["generated"],
        realised_ratio=counts["generated"] / counts["real"] if counts["real"] else None,
        padding=counts["padding"],
        sets=sets,
        classes={side: dict(sorted(table.items())) for side, table in classes.items()},
        filters=filters,
        rejected=rejected,
        repeated_epochs=repeated_epochs,
        ranks=ranks,
        notes=notes,
    )
