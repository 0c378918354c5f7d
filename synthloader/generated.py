"""`GeneratedDataset`: generated versions of the items of a dataset, made on the fly or read from a cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from synthloader.cache.record import UNSTORED_FIELDS
from synthloader.candidates import UNCHANGED, CandidateMaker, LazySource, name_of
from synthloader.checks import check_count, check_int, check_type, reject
from synthloader.errors import ShortfallError, note_error
from synthloader.filters.single_polygon import SinglePolygon
from synthloader.foreign_pool import ForeignPool
from synthloader.generators.chain import Chain
from synthloader.generators.composing.composition import (
    draws_from_pool,
    find_aim,
    find_budget,
    with_single_polygons,
)
from synthloader.generators.composing.stages import Stages, check_reach, split_stages
from synthloader.keys import StampBook, make_key
from synthloader.lifting import preserve_random_state
from synthloader.pool_notes import count_stale, note_pool
from synthloader.protocols import AnyAdapter, Bindable, Cache, CacheEntry, Filter, Generator, Pool, Rejected, Verdict
from synthloader.sample import Sample
from synthloader.sources import Source
from synthloader.store import Puts, Store
from synthloader.targets import ClassLabel

__all__ = ["GeneratedDataset", "Outcome"]


@dataclass
class Outcome:
    """What came of one (source, variant).

    Attributes:
        sample: The accepted sample; None where every candidate failed.
        hits: Candidates that the cache had.
        misses: Candidates that were generated although there is a cache.
        rejections: (who, reason) of every candidate that failed; who is the generator's or the filter's name.
        judged: (filter's name, accepted) of every judgement.
        source_reads: 1 if a hit had to read the source for fields that the cache cannot hold.
        puts: What the cache should keep; filled by `GeneratedDataset.make(..., collect=True)`.
        candidates: Every candidate before the filters saw it, in order; filled likewise.
    """

    sample: Sample | None = None
    hits: int = 0
    misses: int = 0
    rejections: list[tuple[str, str]] = field(default_factory=list)
    judged: list[tuple[str, bool]] = field(default_factory=list)
    source_reads: int = 0
    puts: Puts = field(default_factory=Puts)
    candidates: list[CacheEntry] = field(default_factory=list)


class _Asked(NamedTuple):
    """What is asked for: a version of a source, and where it will be served."""

    stages: Stages
    lazy: LazySource
    variant: int
    donors: tuple[int, ...]
    epoch: int
    where: int
    only_kept: bool


class GeneratedDataset(Dataset[Any]):
    """Generated versions of every item of a dataset, as items of the same form.

    `len` is sources x variants, and item j is version j % variants of source j // variants. Every sample is a function
    of (seed, source, variant) alone, whoever asks for it and in whichever order: as long as the dataset reads an item
    twice the same. A `__getitem__` of your own that draws at random gives other samples each time, of which a cache
    keeps the first: draw in `MixedDataset(transforms=)` instead.

    Args:
        real: The sources: any map-style dataset.
        generator: Makes a sample from a sample, or a list of such, applied in order (`synthloader.generators.Chain`),
            of which `Cached` marks what a cache keeps.
        adapter: Turns items into samples and back; None: recognised from the first items.
        filters: Decide, in this order, whether a candidate may be used.
        cache: Where candidates and verdicts are kept. A persistent one needs `variants`.
        variants: Versions of each source, the same in every epoch; None: as many as a plan asks for, all fresh.
        attempts: Most candidates for one (source, variant) before it counts as a shortfall.
        seed: Everything random in the samples follows from it.
        pool: What the generator draws donors and reference images from; None: the sources.
        version: Stands for the content of a dataset that names no files, or whose class has a `__getitem__` of its own;
            change it when the data or the reading changes.
        license: Under which terms the images and models may be used; kept in the origin of every sample.

    Raises:
        ValueError: The dataset is empty, an argument is out of range, or a persistent cache lacks variants or version.
        TypeError: An argument has another type, or no adapter knows the items.

    Example:
        >>> import torch
        >>> from synthloader import ColorTransfer, GeneratedDataset
        >>> image, boxes = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.tensor([[1.0, 1, 5, 5]])
        >>> image[:, 2:6] = 200
        >>> real = [(image // (i + 1), {"boxes": boxes, "labels": torch.tensor([1])}) for i in range(4)]
        >>> generated = GeneratedDataset(real, ColorTransfer(), variants=2)
        >>> len(generated), generated.sample(3).origin.source
        (8, '1')
    """

    def __init__(
        self,
        real: Any,
        generator: Generator | Sequence[Generator],
        adapter: AnyAdapter | None = None,
        filters: Sequence[Filter] = (),
        cache: Cache | None = None,
        variants: int | None = None,
        attempts: int = 3,
        seed: int = 0,
        pool: Any = None,
        version: str | None = None,
        *,
        license: str | None = None,
    ) -> None:
        if isinstance(real, Dataset) and getattr(real, "_is_mix", False):
            reject(
                "real",
                "be the dataset before it was mixed",
                type(real).__name__,
                "Pass the wrapped dataset itself.",
                error=TypeError,
            )
        given: Any = generator
        if isinstance(generator, list | tuple):
            given = generator[0] if len(generator) == 1 else Chain(generator)
        _check_protocol("generator", given, Generator, "generate, keeps and fingerprint")
        if hasattr(filters, "judge"):
            reject("filters", "be a list of filters", filters, "Write filters=[MinBox()].", error=TypeError)
        for at, judge in enumerate(filters):
            _check_protocol(f"filters[{at}]", judge, Filter, "judge and fingerprint")
        if isinstance(cache, str | os.PathLike):
            reject("cache", "be a cache", cache, f"Write cache=LMDBCache({os.fspath(cache)!r}).", error=TypeError)
        if cache is not None:
            _check_protocol("cache", cache, Cache, "get, put, in, iter, len and close")
        if adapter is not None and not (hasattr(adapter, "to_sample") and hasattr(adapter, "from_sample")):
            reject("adapter", "have to_sample, from_sample and fingerprint", adapter, error=TypeError)
        self.variants = None if variants is None else check_count("variants", variants)
        self.attempts = check_count("attempts", attempts)
        self.seed = check_int("seed", seed)
        if version is not None:
            check_type("version", version, str)
        if license is not None:
            check_type("license", license, str)
        self.license = license
        if cache is not None and cache.persistent and variants is None:
            reject(
                "variants",
                "be given with a persistent cache",
                None,
                "variants=None makes fresh samples for ever, which no cache can hold: pass variants=4, say.",
            )
        stamps = StampBook(getattr(cache, "stamps_path", None))
        self.source = (
            real if isinstance(real, Source) else Source(real, adapter=adapter, version=version, stamps=stamps)
        )
        self.dataset = self.source.dataset
        if not len(self.source):
            reject("real", "have at least one item", 0, "The dataset is empty: check its paths and annotations.")
        self.pool = self.source if pool is None else _make_pool(pool, adapter, version, stamps)
        self.filters = tuple(filters)
        self.cache = cache
        self.store = None if cache is None else Store(cache, before_first=self.note_pool)
        check_reach(given)
        self.given_generator: Generator = given
        self._maker = CandidateMaker(self.source, seed=self.seed, license=license)
        self._aimed: dict[int | None, Stages] = {}
        self.stale_entries = 0
        if cache is not None and cache.persistent:
            self.source.stamp(0)  # refused now, not in the middle of the night
            if self.draws_from_pool:
                # Once, here, and not again in every loader worker; before any work is lost on a pool that has changed.
                self.stale_entries = count_stale(cache, self.pool, fingerprints=self._list_fingerprints())

    @cached_property
    def generator(self) -> Generator:
        """The generator, bound to the pool and the table of classes, and told what the filters ask of masks."""
        given = self.given_generator
        pool = self.pool if self.pool is self.source else ForeignPool(self.pool, self.source)
        bound = given.bind(pool, classes=self.source.classes) if isinstance(given, Bindable) else given
        return with_single_polygons(bound) if any(isinstance(each, SinglePolygon) for each in self.filters) else bound

    @property
    def adapter(self) -> AnyAdapter:
        """What turns items into samples and back."""
        return self.source.adapter

    @cached_property
    def can_aim(self) -> bool:
        """Whether the generator can be told which class is wanted: not where the source itself says the class.

        Asked only where a class is wanted: an item may have to be read for it.
        """
        if find_aim(self.given_generator) is None or self.source.labels is not None:
            return False
        sample = self.source.peek_sample()
        if sample is None:
            with preserve_random_state():
                try:
                    sample = self.source[0]
                except (OSError, TypeError, ValueError):
                    return True  # said with all its words when the item is asked for
        return not isinstance(sample.target, ClassLabel)

    @cached_property
    def can_be_told(self) -> bool:
        """Whether a plan with a cap can tell the generator which donors of a class to use."""
        return find_aim(self.given_generator) is not None and find_budget(self.given_generator) is not None

    @property
    def is_finished_fresh(self) -> bool:
        """Whether something follows what a cache keeps, drawn anew for every epoch and index."""
        return split_stages(self.given_generator).fresh is not None

    def __len__(self) -> int:
        """Sources x variants; the number of sources when `variants` is None."""
        return len(self.source) * (self.variants or 1)

    def locate(self, index: int, /) -> tuple[int, int]:
        """Source and variant of item `index`."""
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range for {size} generated items")
        return divmod(index % size, self.variants or 1)

    def __getitem__(self, index: int) -> Any:
        """An item of the wrapped dataset's own form, with its transforms applied.

        Raises:
            ShortfallError: Every candidate was rejected.
        """
        source, _ = self.locate(int(index))
        return self.source.transform(source, self.to_native(self.sample(int(index))))

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Several items at once, as loaders ask for them; what is generated is kept in one commit."""
        with nullcontext() if self.store is None else self.store.batch():
            return [self[index] for index in indices]

    def sample(self, index: int, /) -> Sample:
        """The `Sample` of item `index`, with its `Origin`.

        Raises:
            ShortfallError: Every candidate was rejected.
        """
        source, variant = self.locate(index)
        outcome = self.make(source, variant, index=index)
        if outcome.sample is None:
            reasons = ", ".join(sorted({f"{who}: {reason}" for who, reason in outcome.rejections}))
            raise ShortfallError(
                f"item {index} (source {self.source.name(source)!r}, variant {variant}) has no accepted candidate in "
                f"{self.attempts} attempts ({reasons}). Raise attempts=, loosen the filters, or mix it with "
                f"on_shortfall='real'."
            )
        return outcome.sample

    def to_native(self, sample: Sample, /) -> Any:
        """A native item, before the dataset's transforms."""
        return self.source.adapter.from_sample(sample, like=self.source.like)

    def make(
        self,
        source: int,
        variant: int,
        /,
        *,
        target_class: int | None = None,
        donors: Sequence[int] | None = None,
        epoch: int = 0,
        index: int | None = None,
        collect: bool = False,
        only_kept: bool = False,
    ) -> Outcome:
        """Candidates of one (source, variant) until one is accepted.

        The epoch and the index count for what follows a `Cached` alone, and are those of a mix; by itself a dataset is
        always in epoch 0.

        Args:
            source: Position of the source.
            variant: Which version.
            target_class: The class that is wanted, for generators that can be aimed.
            donors: Those of the class that may be used (see `synthloader.protocols.Budgeted`); None: any.
            epoch: The epoch that is being served.
            index: The position that is being served; None: that of this dataset.
            collect: Leave what a cache should keep in `Outcome.puts` instead of storing it, and the candidates in
                `Outcome.candidates`.
            only_kept: Make what a cache keeps, and leave out what follows it.
        """
        outcome = Outcome()
        stages = self._aim(target_class, told=donors is not None)
        if donors is not None:
            stages = stages.use_donors(donors)
        where = source * (self.variants or 1) + variant if index is None else index
        lazy = LazySource(self.source, source)
        asked = _Asked(stages, lazy, variant, _list_kept_donors(stages, donors), epoch, where, only_kept)
        try:
            self._try_candidates(asked, outcome, collect)
        finally:
            if self.store is not None and not collect:
                self.store.keep(outcome.puts)
        return outcome

    def make_cache_key(
        self,
        source: int,
        variant: int,
        attempt: int = 0,
        *,
        target_class: int | None = None,
        donors: Sequence[int] | None = None,
    ) -> bytes:
        """The key of one candidate."""
        stages = self._aim(target_class, told=donors is not None)
        return self._make_key(stages, source, variant, attempt, _list_kept_donors(stages, donors))

    def find_kept_fingerprint(self, target_class: int | None = None, /, *, told: bool = False) -> str:
        """The fingerprint of what a cache keeps: that of the generator, as far as no `Cached` divides it.

        Args:
            target_class: The class that is wanted.
            told: Whether a plan says which donors to use.
        """
        return self._aim(target_class, told=told).kept.fingerprint

    def _try_candidates(self, asked: _Asked, outcome: Outcome, collect: bool) -> None:
        stages, lazy = asked.stages, asked.lazy
        is_partial = stages.fresh is not None and asked.only_kept
        for attempt in range(self.attempts):
            entry, key = self._find_candidate(asked, attempt, outcome)
            if isinstance(entry, Sample):
                entry = self._complete_fields(entry, lazy, outcome)
            if is_partial:
                if isinstance(entry, Rejected) and entry.reason == UNCHANGED:
                    entry = lazy.sample  # what follows may still make something of it
            elif stages.fresh is not None:
                entry = self._maker.finish(
                    stages, entry, lazy, asked.variant, attempt, epoch=asked.epoch, index=asked.where
                )
            if collect:
                outcome.candidates.append(entry)
            if isinstance(entry, Rejected):
                outcome.rejections.append((name_of(stages.whole), entry.reason))
                continue
            # What is finished anew each time is judged anew each time.
            outcome.sample = (
                entry if is_partial else self._judge(entry, lazy, None if stages.fresh is not None else key, outcome)
            )
            if outcome.sample is not None:
                return

    def _find_candidate(self, asked: _Asked, attempt: int, outcome: Outcome) -> tuple[CacheEntry, bytes]:
        stages, lazy, variant = asked.stages, asked.lazy, asked.variant
        key = b""
        if self.cache is not None:
            key = self._make_key(stages, lazy.index, variant, attempt, asked.donors)
            entry = self.cache.get(key)
            if entry is not None:
                outcome.hits += 1
                return entry, key
            outcome.misses += 1
        entry = self._maker.make_kept(stages, lazy, variant, attempt, where=asked.where)
        if self.store is not None:
            entry = self.store.add_entry(outcome.puts, key, entry)
        return entry, key

    def _complete_fields(self, sample: Sample, lazy: LazySource, outcome: Outcome) -> Sample:
        """Read from the source what a record could not hold."""
        missing = sample.fields.get(UNSTORED_FIELDS)
        if missing is None:
            return sample
        outcome.source_reads = 1
        kept = {name: value for name, value in sample.fields.items() if name != UNSTORED_FIELDS}
        return sample.replace(fields={**kept, **{name: lazy.sample.fields[name] for name in missing}})

    def _judge(self, sample: Sample, lazy: LazySource, key: bytes | None, outcome: Outcome) -> Sample | None:
        """The sample to use, or None when a filter rejects it.

        Verdicts are kept under the filters up to each, beside the entry of this key; without one they are not.
        """
        until = ""
        for judge in self.filters:
            until = f"{until} | {judge.fingerprint}" if until else judge.fingerprint
            verdict = None if self.cache is None or key is None else self.cache.get_verdict(key, until, of=sample)
            if verdict is None:
                verdict = self._ask(judge, sample, lazy.sample)
                if self.store is not None and key is not None:
                    self.store.add_verdict(outcome.puts, key, until, verdict, of=sample)
            who = name_of(judge)
            outcome.judged.append((who, verdict.accepted))
            if not verdict.accepted:
                outcome.rejections.append((who, verdict.reason))
                return None
            sample = verdict.sample if verdict.sample is not None else sample
            if verdict.score is not None and sample.origin is not None:
                scores = {**sample.origin.scores, who: verdict.score}
                sample = sample.replace(origin=sample.origin.replace(scores=scores))
        return sample

    def _ask(self, judge: Filter, sample: Sample, source: Sample) -> Verdict:
        try:
            verdict = judge.judge(sample, source)
        except Exception as error:
            note_error(error, f"while {name_of(judge)} judged a version of {sample.origin and sample.origin.source!r}")
            raise
        check_type(f"what {name_of(judge)}.judge returns", verdict, Verdict)
        return verdict

    def _aim(self, target_class: int | None, *, told: bool = False) -> Stages:
        """The generator, aimed at a class where it can be, and divided where `Cached` marks it.

        One that is told its donors is aimed in classification too, where their class must be the source's own.
        """
        if target_class is not None and not self.can_aim and not told:
            target_class = None
        if target_class not in self._aimed:
            generator: Any = self.generator
            self._aimed[target_class] = split_stages(generator if target_class is None else generator.aim(target_class))
        return self._aimed[target_class]

    def _make_key(self, stages: Stages, source: int, variant: int, attempt: int, donors: tuple[int, ...]) -> bytes:
        persistent = self.cache is not None and self.cache.persistent
        name, stamp = self.source.identify(source) if persistent else (self.source.name(source), "")
        return make_key(
            generator=stages.kept.fingerprint,
            adapter=self.adapter.fingerprint,
            source=name,
            stamp=stamp,
            pool=self.pool.identity if persistent and self.draws_from_pool else "",
            variant=variant,
            attempt=attempt,
            seed=self.seed,
            donors=donors,
        )

    @cached_property
    def draws_from_pool(self) -> bool:
        """Whether another pool would give other entries of a cache."""
        return draws_from_pool(split_stages(self.given_generator).kept)

    def note_pool(self) -> None:
        """Keep the names of what is drawn from beside the cache."""
        if self.cache is not None and self.cache.persistent and self.draws_from_pool:
            note_pool(self.cache, self.pool, fingerprint=split_stages(self.given_generator).kept.fingerprint)

    def _list_fingerprints(self) -> set[str]:
        """Those that the entries of this generator can have."""
        aim = find_aim(self.generator)
        found = {split_stages(each).kept.fingerprint for each in (self.given_generator, self.generator)}
        for class_id in sorted((self.source.classes or {}).values()):
            with suppress(ValueError):  # a class that it leaves out
                found |= {split_stages(aim(class_id)).kept.fingerprint} if aim is not None else set()
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Travel without aimed copies, which are made again."""
        return {**self.__dict__, "_aimed": {}}


def _list_kept_donors(stages: Stages, donors: Sequence[int] | None) -> tuple[int, ...]:
    """The donors that determine what a cache keeps."""
    return () if donors is None or stages.is_aimed_later else tuple(donors)


def _make_pool(pool: Any, adapter: AnyAdapter | None, version: str | None, stamps: StampBook) -> Pool:
    return pool if isinstance(pool, Pool) else Source(pool, adapter=adapter, version=version, stamps=stamps)


def _check_protocol(name: str, value: object, protocol: Any, members: str) -> None:
    if isinstance(value, type) or not isinstance(value, protocol):
        remedy = "Pass an instance, not the class." if isinstance(value, type) else ""
        reject(name, f"have {members}", value, remedy, error=TypeError)
