"""`CacheCard`: what is inside of a cache, made by which generators and models, under which terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthloader.cache.upkeep.card_text import write_markdown

__all__ = ["CacheCard", "ClassCount", "GeneratorCount", "VerdictCount"]


@dataclass
class GeneratorCount:
    """What one generator made, in entries."""

    samples: int = 0
    rejected: int = 0
    num_bytes: int = 0


@dataclass
class ClassCount:
    """Where one class occurs. Semantic masks are not read, so they count for none."""

    names: set[str] = field(default_factory=set)
    samples: int = 0
    instances: int = 0


@dataclass
class VerdictCount:
    """What the filters said: the number accepted, and the reasons of the rejected."""

    accepted: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass
class CacheCard:
    """What is inside of a cache. Entries that lie in several shards count once.

    Attributes:
        path: The folder.
        num_samples: Number of samples.
        rejected: Reason to number of candidates that a generator could not make.
        num_bytes: Bytes of all entries and verdicts.
        file_bytes: Bytes of the files that they lie in.
        codecs: Codec of the image to number of samples.
        targets: Kind of target to number of samples; `"none"` for unlabelled images.
        sizes_hw: (height, width) in pixels to number of samples.
        generators: Fingerprint to what the generator made; empty where an entry does not say it.
        models: (model, hash of its weights) to number of samples; without those that no model made.
        prompts: Prompt to number of samples; without those that had none.
        licenses: Terms to number of samples; without those that say none.
        num_unlicensed: Samples that say no terms.
        num_sources: Number of different sources.
        num_drawn: Number of different samples of pools that went into others.
        seeds: Seed to number of entries.
        classes: Class id to where it occurs.
        verdicts: Fingerprint of the filters, up to each, to what they said.
        shards: Folder to number of entries in it; `"."` is the cache's own.
        time_range_ms: When the first and the last entry were put, in milliseconds since 1970.
        unreadable: What is wrong to number of records that are broken or of a newer format.
    """

    path: Path
    num_samples: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    num_bytes: int = 0
    file_bytes: int = 0
    codecs: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    sizes_hw: Counter[tuple[int, int]] = field(default_factory=Counter)
    generators: dict[str, GeneratorCount] = field(default_factory=dict)
    models: Counter[tuple[str, str]] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    num_unlicensed: int = 0
    num_sources: int = 0
    num_drawn: int = 0
    seeds: Counter[int] = field(default_factory=Counter)
    classes: dict[int, ClassCount] = field(default_factory=dict)
    verdicts: dict[str, VerdictCount] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    time_range_ms: tuple[int, int] | None = None
    unreadable: Counter[str] = field(default_factory=Counter)

    @property
    def num_rejected(self) -> int:
        """Number of candidates that a generator could not make."""
        return sum(self.rejected.values())

    @property
    def size_range_hw(self) -> dict[str, tuple[int, int]]:
        """`min`, `median` and `max` of the heights, and of the widths; empty without samples."""
        if not self.sizes_hw:
            return {}
        sides = [sorted(counts.items()) for counts in _count_sides(self.sizes_hw)]
        places = {"min": 0, "median": (self.num_samples - 1) // 2, "max": self.num_samples - 1}
        return {name: (_pick(sides[0], place), _pick(sides[1], place)) for name, place in places.items()}

    def to_dict(self, *, num_prompts: int = 10) -> dict[str, Any]:
        """Plain values, for JSON; of the prompts the most frequent ones."""
        return {
            "name": self.path.name,
            "num_samples": self.num_samples,
            "num_rejected": self.num_rejected,
            "rejected": dict(self.rejected.most_common()),
            "num_bytes": self.num_bytes,
            "file_bytes": self.file_bytes,
            "codecs": dict(self.codecs.most_common()),
            "targets": dict(self.targets.most_common()),
            "sizes_hw": {name: list(size_hw) for name, size_hw in self.size_range_hw.items()},
            "generators": {name: vars(count) for name, count in _rank(self.generators, lambda each: each.samples)},
            "models": [
                {"model": model, "weights": weights or None, "samples": count}
                for (model, weights), count in self.models.most_common()
            ],
            "num_prompts": len(self.prompts),
            "prompts": dict(self.prompts.most_common(num_prompts)),
            "licenses": dict(self.licenses.most_common()),
            "num_unlicensed": self.num_unlicensed,
            "num_sources": self.num_sources,
            "num_drawn": self.num_drawn,
            "seeds": {str(seed): count for seed, count in self.seeds.most_common()},
            "classes": [
                {"id": class_id, "names": sorted(each.names), "samples": each.samples, "instances": each.instances}
                for class_id, each in sorted(self.classes.items())
            ],
            "verdicts": [
                {
                    "filters": filters,
                    "accepted": each.accepted,
                    "rejected": sum(each.reasons.values()),
                    "reasons": dict(each.reasons.most_common()),
                }
                for filters, each in sorted(self.verdicts.items())
            ],
            "shards": self.shards,
            "time_range_ms": None if self.time_range_ms is None else list(self.time_range_ms),
            "unreadable": dict(self.unreadable),
        }

    def to_markdown(self) -> str:
        """A page for people."""
        return write_markdown(self.to_dict())


def _count_sides(sizes_hw: Counter[tuple[int, int]]) -> tuple[Counter[int], Counter[int]]:
    heights: Counter[int] = Counter()
    widths: Counter[int] = Counter()
    for (height, width), count in sizes_hw.items():
        heights[height] += count
        widths[width] += count
    return heights, widths


def _pick(sides: list[tuple[int, int]], place: int) -> int:
    """The side at a place of all sides in their order."""
    for side, count in sides:
        place -= count
        if place < 0:
            return side
    return 0


def _rank(counts: dict[str, Any], rank: Callable[[Any], int]) -> list[tuple[str, Any]]:
    return sorted(counts.items(), key=lambda item: (-rank(item[1]), item[0]))
