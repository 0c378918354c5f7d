"""The generated sets of a mix: a `GeneratedDataset`, or any other dataset with the same items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.layout import Draw, SetShape
from synthloader.sample import Origin
from synthloader.sources import Source

__all__ = ["GeneratedSet", "PlainSet", "Served"]


@dataclass
class Served:
    """What a set gives for one position: an item, or why there is none."""

    item: Any = None
    is_generated: bool = False
    origin: Origin | None = None
    class_ids: list[int] = field(default_factory=list)
    hits: int = 0
    misses: int = 0
    source_reads: int = 0
    rejections: list[tuple[str, str]] = field(default_factory=list)
    judged: list[tuple[str, bool]] = field(default_factory=list)


class GeneratedSet:
    """A `GeneratedDataset` in a mix; items take the form and the transforms of the real dataset."""

    def __init__(self, name: str, dataset: GeneratedDataset, real: Source) -> None:
        self.name = name
        self.dataset = dataset
        self.source = dataset.source
        self.real = real
        self.own = dataset.dataset is real.dataset

    def shape(self) -> SetShape:
        """What a plan must know of it."""
        source = self.source
        return SetShape(
            self.name, len(source), self.dataset.variants, own=self.own, aimable=self.dataset.can_aim,
            find_groups=lambda: source.groups, find_classes=lambda: source.class_table,
        )  # fmt: skip

    def serve(self, draw: Draw, index: int) -> Served:
        """Make what the position carries."""
        outcome = self.dataset.make(draw.source, draw.variant or 0, target_class=draw.target_class, index=index)
        served = Served(
            hits=outcome.hits, misses=outcome.misses, source_reads=outcome.source_reads,
            rejections=outcome.rejections, judged=outcome.judged,
        )  # fmt: skip
        sample = outcome.sample
        if sample is None:
            return served
        if sample.target is None:
            raise LabelContractError(
                f"index {index} came out without a label, from source {self.source.name(draw.source)!r} of set "
                f"{self.name!r}. Mixing it in would teach that the image holds nothing: use a generator that labels."
            )
        place = draw.source if self.own else index % len(self.real)
        item = self.real.adapter.from_sample(sample, like=self.real.like)
        served.item = self.real.transform(place, item)
        served.class_ids = self.real.read_class_ids(item)
        served.is_generated, served.origin = True, sample.origin
        return served

    def restrict(self, real: Any) -> GeneratedDataset:
        """The same generator and cache over fewer sources."""
        made = self.dataset
        return GeneratedDataset(
            real, made.given_generator, adapter=made.adapter, filters=made.filters, cache=made.cache,
            variants=made.variants, attempts=made.attempts, seed=made.seed, version=made.source.version,
        )  # fmt: skip


class PlainSet:
    """Any dataset with the real one's items: a rendered set, an older export. Each item is served as it is."""

    own = False

    def __init__(self, name: str, dataset: Any) -> None:
        self.name = name
        self.dataset = dataset
        self.source = Source(dataset, look=False)

    def shape(self) -> SetShape:
        """What a plan must know of it."""
        source = self.source
        return SetShape(
            self.name, len(source), 1, own=False,
            find_groups=lambda: source.groups, find_classes=lambda: source.class_table,
        )  # fmt: skip

    def serve(self, draw: Draw, index: int) -> Served:
        """Read what the position carries."""
        item = self.dataset[draw.source]
        origin = Origin(source=self.source.name(draw.source), fingerprint=type(self.dataset).__name__)
        return Served(item=item, is_generated=True, origin=origin, class_ids=self.source.read_class_ids(item))

    def restrict(self, real: Any) -> Any:
        """A foreign set cannot be split by the real one's sources."""
        raise TypeError("a set from foreign sources cannot be split with the real dataset")
