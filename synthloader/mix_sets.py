"""The generated sets of a mix: a `GeneratedDataset`, or any other dataset with the same items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from synthloader.checks import check_type, reject
from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.layout import Draw, SetShape
from synthloader.lifting import find_base
from synthloader.sample import Origin
from synthloader.sources import Source

__all__ = ["GeneratedSet", "PlainSet", "Served", "find_source", "keep_together", "make_sets", "refuse_mix"]


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
            self.name,
            len(source),
            self.dataset.variants,
            own=self.own,
            aimable=self.dataset.can_aim,
            find_groups=source.find_groups,
            find_classes=source.find_classes,
        )

    def serve(self, draw: Draw, index: int) -> Served:
        """Make what the position carries."""
        outcome = self.dataset.make(draw.source, draw.variant or 0, target_class=draw.target_class, index=index)
        served = Served(
            hits=outcome.hits,
            misses=outcome.misses,
            source_reads=outcome.source_reads,
            rejections=outcome.rejections,
            judged=outcome.judged,
        )
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
            real,
            made.given_generator,
            adapter=made.adapter,
            filters=made.filters,
            cache=made.cache,
            variants=made.variants,
            attempts=made.attempts,
            seed=made.seed,
            pool=None if made.pool is made.source else made.pool,
            version=made.source.version,
            license=made.license,
        )


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
            self.name,
            len(source),
            1,
            own=False,
            find_groups=source.find_groups,
            find_classes=source.find_classes,
        )

    def serve(self, draw: Draw, index: int) -> Served:
        """Read what the position carries."""
        item = self.dataset[draw.source]
        origin = Origin(source=self.source.name(draw.source), fingerprint=type(self.dataset).__name__)
        return Served(item=item, is_generated=True, origin=origin, class_ids=self.source.read_class_ids(item))

    def restrict(self, real: Any) -> Any:
        """A foreign set cannot be split by the real one's sources."""
        raise TypeError("a set from foreign sources cannot be split with the real dataset")


def find_source(real: Any, generated: Any) -> Source:
    """The real dataset as a pool of samples, shared with a set that is made from it."""
    parts = generated.values() if isinstance(generated, Mapping) else [generated]
    for part in parts:
        if isinstance(part, GeneratedDataset) and part.dataset is real:
            return part.source
    return Source(real, look=False)


def make_sets(source: Source, generated: Any) -> list[GeneratedSet | PlainSet]:
    """The sets of a mix, by name; a single one is called `generated`."""
    named = generated if isinstance(generated, Mapping) else {"generated": generated}
    if not named:
        reject("generated", "have at least one set", generated, "Pass a GeneratedDataset, or ratio=0 beside one.")
    sets: list[GeneratedSet | PlainSet] = []
    for name, part in named.items():
        check_type("a name of generated", name, str)
        refuse_mix("generated", part)
        if isinstance(part, GeneratedDataset):
            sets.append(GeneratedSet(name, part, source))
        elif hasattr(part, "__getitem__") and hasattr(part, "__len__"):
            sets.append(PlainSet(name, part))
        else:
            reject("generated", "be a GeneratedDataset, a map-style dataset, or several by name", part, error=TypeError)
    return sets


@contextmanager
def keep_together(sets: Iterable[GeneratedSet | PlainSet]) -> Iterator[None]:
    """Keep what is generated in the block at the price of one commit for each cache."""
    with ExitStack() as stack:
        for part in sets:
            if isinstance(part, GeneratedSet) and part.dataset.store is not None:
                stack.enter_context(part.dataset.store.batch())
        yield


def refuse_mix(name: str, dataset: Any) -> None:
    """Refuse a dataset that is mixed already, also one that hides in a `Subset`."""
    base = dataset
    if (
        hasattr(dataset, "__len__")
        and hasattr(dataset, "__getitem__")
        and not isinstance(dataset, Mapping)
        and len(dataset)
    ):
        base = find_base(dataset, 0)[0]
    if getattr(base, "_is_mix", False):
        reject(
            name,
            "not be mixed already",
            type(dataset).__name__,
            "Make the mix once, outside of functions that are called again, or pass its real dataset: train.real.",
            error=TypeError,
        )
