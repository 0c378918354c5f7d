"""The extension points: what a generator, a filter, a cache, an adapter and a pool must have. Nothing is inherited.

A class that has these methods is one; the contract tests in `tests/contracts` say what the methods promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np

from synthloader.checks import check_number, check_type
from synthloader.sample import Origin, Sample
from synthloader.targets import Target

__all__ = [
    "Adapter",
    "Aimable",
    "BatchGenerator",
    "Bindable",
    "Budgeted",
    "Cache",
    "CacheEntry",
    "Demanding",
    "Filter",
    "Generator",
    "Outlined",
    "Pool",
    "Rejected",
    "Resizing",
    "Verdict",
]

Native = TypeVar("Native")


@runtime_checkable
class Pool(Protocol):
    """What a generator draws from: a sequence of samples, decoded when asked for, with an identity."""

    @property
    def identity(self) -> str:
        """Hash of the names and stamps of all samples: another pool gives other keys."""
        ...

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int, /) -> Sample:
        """Decode one sample."""
        ...

    def name(self, index: int, /) -> str:
        """The stable name of a sample, which `Origin.drawn` records."""
        ...

    def class_ids(self, index: int, /) -> np.ndarray:
        """(N,) int64 class ids of its objects, without decoding the image where the dataset allows it."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Makes a new sample from a real one.

    Attributes:
        keeps: Target kinds that stay true (possibly updated, as copy-paste does).
        fingerprint: Name, version, parameters, weights: changes when the output would.
    """

    @property
    def keeps(self) -> frozenset[type[Target]]: ...  # noqa: D102 - in the class docstring

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make one sample; `source` is not modified and every draw comes from `rng`.

        Raises:
            NothingToGenerate: Nothing can be made from this source.
        """
        ...


@runtime_checkable
class BatchGenerator(Protocol):
    """A generator that is faster with several sources at once: a model, one call per batch."""

    def generate_batch(self, sources: Sequence[Sample], /, *, rngs: Sequence[np.random.Generator]) -> list[Sample]:
        """Make one sample of each source; equal to `generate` one by one."""
        ...


@runtime_checkable
class Bindable(Protocol):
    """A generator that wants a pool of donors or reference images, or the table of classes.

    It may have an attribute `uses_pool`; False says that nothing is drawn from the pool (references were given), so
    that another pool does not change the keys.
    """

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> Generator:
        """A copy that draws from this pool. `classes` maps class names to ids; None where no table is known."""
        ...


@runtime_checkable
class Demanding(Protocol):
    """A generator that needs more of a source than its kind of target says: masks, for example."""

    def check_source(self, source: Sample, /) -> None:
        """Refuse a source that nothing can be made from; asked of one source when a mix is made.

        Raises:
            LabelContractError: The message says what it lacks.
        """
        ...


@runtime_checkable
class Aimable(Protocol):
    """A generator that can be told which class is wanted.

    It may have an attribute `aims_within_source`; True says that it finds the class in its source instead of adding it,
    so that plans give it sources that hold the class.
    """

    def aim(self, class_id: int, /) -> Generator:
        """A copy that adds objects of this class, or whose samples hold some of the source's."""
        ...


@runtime_checkable
class Budgeted(Protocol):
    """A generator that can be aimed, and told which donors to use: so a plan can bound how often each one is used.

    Compositions have these by their parts, so ask with `hasattr` and not with `isinstance`.
    """

    @property
    def max_donors(self) -> int:
        """Most donors that one sample uses; at least 1."""
        ...

    def list_donors(self, class_id: int, /) -> Sequence[str]:
        """The donors of a class that the bound generator draws from, each once, in a fixed order.

        They are named as `Origin.drawn` names them. No image is decoded for it, so some may turn out to be unusable.
        """
        ...

    def use_donors(self, donors: Sequence[int], /) -> Generator:
        """A copy of an aimed generator that uses these of its class's donors only, and each at most once in a sample.

        The fingerprint stays that of the aimed generator.

        Args:
            donors: 1 to `max_donors` different positions in what `list_donors` gives for the class.
        """
        ...


@runtime_checkable
class Outlined(Protocol):
    """A generator that can be told that a trainer writes every mask as one polygon."""

    def keep_single_polygons(self) -> Generator:
        """A copy that makes only masks that one polygon can say: in one part, without holes."""
        ...


@runtime_checkable
class Resizing(Protocol):
    """A generator whose pictures have another size than their sources; all others keep the size."""

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int] | None:
        """Height and width of what is made from a source of this height and width.

        A function of nothing else, so that sizes are known without generating; None where it depends on what is drawn.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a filter says of a generated sample.

    Args:
        accepted: Whether it may be used.
        score: The number that decided, where there is one.
        reason: A few words for a rejection; they are counted, so keep them few and constant (`"box too small"`).
        sample: The sample to use: None for the one that was judged. A filter may drop or black out single instances.
    """

    accepted: bool
    score: float | None = None
    reason: str = ""
    sample: Sample | None = None

    def __post_init__(self) -> None:
        check_type("accepted", self.accepted, bool)
        if self.score is not None:
            object.__setattr__(self, "score", check_number("score", self.score))


@runtime_checkable
class Filter(Protocol):
    """Decides whether a generated sample may be used."""

    @property
    def fingerprint(self) -> str:
        """Name, version and thresholds: changes when a verdict would."""
        ...

    def judge(self, generated: Sample, source: Sample, /) -> Verdict:
        """Judge one sample; neither is modified."""
        ...


@dataclass(frozen=True, slots=True)
class Rejected:
    """The entry of a candidate that the generator could not make; kept so that it is not tried again.

    Args:
        reason: A few words that name the cause.
        origin: Which generator, source, variant and attempt it was.
    """

    reason: str = ""
    origin: Origin | None = field(default=None, compare=False)


CacheEntry: TypeAlias = "Sample | Rejected"


@runtime_checkable
class Cache(Protocol):
    """Keeps generated samples under their keys, and verdicts beside them.

    Attributes:
        persistent: Whether entries outlive the process: their keys then need stamps of the sources.
    """

    @property
    def persistent(self) -> bool: ...  # noqa: D102

    def get(self, key: bytes, /) -> CacheEntry | None:
        """The entry with arrays of its own, or None.

        Raises:
            CacheCorruptError: The bytes are not what was written.
        """
        ...

    def put(self, key: bytes, entry: CacheEntry, /) -> None:
        """Keep an entry; equal keys have equal entries, so a second one changes nothing.

        Raises:
            CacheFullError: No room is left.
            CacheLockedError: Another process writes.
        """
        ...

    def recode(self, entry: CacheEntry, /) -> CacheEntry:
        """What `get` would give back after `put`, without keeping it: a miss and a hit are the same bits."""
        ...

    def get_verdict(self, key: bytes, filters: str, /, *, of: Sample) -> Verdict | None:
        """The verdict on entry `key` under this fingerprint of filters; `of` is the sample that was judged."""
        ...

    def put_verdict(self, key: bytes, filters: str, verdict: Verdict, /, *, of: Sample) -> None:
        """Keep a verdict beside its entry."""
        ...

    def __contains__(self, key: bytes, /) -> bool:
        """Whether there is an entry of this key."""
        ...

    def __iter__(self) -> Iterator[bytes]:
        """The keys of all entries, in their order; verdicts are not entries."""
        ...

    def __len__(self) -> int:
        """Number of entries."""
        ...

    def close(self) -> None:
        """Give back files and locks; the next use opens them again."""
        ...


@runtime_checkable
class Adapter(Protocol[Native]):
    """Turns the items of a dataset into samples and back.

    What some adapters have besides (each is used where it is there):

    * `recognize(dataset, items) -> adapter | None`, a class method: the adapter for these untransformed items, or None
      when the format is another (see `synthloader.registry`);
    * `read_class_ids(item) -> list[int]`: the classes of a native item, for the counts of the report;
    * `complete(items) -> adapter`: a copy that has learned what was left open from a few untransformed items.

    Attributes:
        fingerprint: Name, version and options: changes when the sample made from an item would.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def to_sample(self, item: Native, /, *, index: int) -> Sample:
        """The sample of one untransformed item.

        Raises:
            ValueError: The annotation is wrong; the message names the index and the remedy.
        """
        ...

    def from_sample(self, sample: Sample, /, *, like: Native) -> Native:
        """An item of the dataset's own format; `like` is any item of the dataset, for the form only."""
        ...


AnyAdapter: TypeAlias = Adapter[Any]
