"""`GeneratedDataset`: generated versions of the items of a dataset, made on the fly or read from a cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from synthloader.cache.record import UNSTORED_FIELDS
from synthloader.checks import check_count, check_int, check_type, reject
from synthloader.errors import GenerationError, LabelContractError, NothingToGenerate, ShortfallError, note_error
from synthloader.keys import StampBook, make_key
from synthloader.pool_notes import count_stale, note_pool
from synthloader.protocols import AnyAdapter, Bindable, Cache, CacheEntry, Filter, Generator, Pool, Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.seeds import make_rng
from synthloader.sources import Source
from synthloader.store import Puts, Store
from synthloader.targets import ClassLabel, Instances, Target

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
    """

    sample: Sample | None = None
    hits: int = 0
    misses: int = 0
    rejections: list[tuple[str, str]] = field(default_factory=list)
    judged: list[tuple[str, bool]] = field(default_factory=list)
    source_reads: int = 0
    puts: Puts = field(default_factory=Puts)


class GeneratedDataset(Dataset[Any]):
    """Generated versions of every item of a dataset, as items of the same form.

    `len` is sources x variants, and item j is version j % variants of source j // variants. Every sample is a function
    of (seed, source, variant) alone, whoever asks for it and in whichever order: as long as the dataset reads an item
    twice the same. A `__getitem__` of your own that draws at random gives other samples each time, of which a cache
    keeps the first: draw in `MixedDataset(transforms=)` instead.

    Args:
        real: The sources: any map-style dataset.
        generator: Makes a sample from a sample, or a list of such, applied in order (`synthloader.generators.Chain`).
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
        generator: Generator,
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
        _check_protocol("generator", generator, Generator, "generate, keeps and fingerprint")
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
        self.given_generator = generator
        self._aimed: dict[int, Generator] = {}
        self.stale_entries = 0
        if cache is not None and cache.persistent:
            self.source.stamp(0)  # refused now, not in the middle of the night
            if self.draws_from_pool:
                # Once, here, and not again in every loader worker; before any work is lost on a pool that has changed.
                self.stale_entries = count_stale(cache, self.pool, fingerprints=self._list_fingerprints())

    @cached_property
    def generator(self) -> Generator:
        """The generator, bound to the pool and the table of classes."""
        given = self.given_generator
        return given.bind(self.pool, classes=self.source.classes) if isinstance(given, Bindable) else given

    @property
    def adapter(self) -> AnyAdapter:
        """What turns items into samples and back."""
        return self.source.adapter

    @property
    def can_aim(self) -> bool:
        """Whether the generator can be told which class is wanted."""
        return callable(getattr(self.given_generator, "aim", None))

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
        index: int | None = None,
        collect: bool = False,
    ) -> Outcome:
        """Candidates of one (source, variant) until one is accepted.

        Args:
            source: Position of the source.
            variant: Which version.
            target_class: The class that is wanted, for generators that can be aimed.
            index: The position that is being served, for error messages.
            collect: Leave what a cache should keep in `Outcome.puts` instead of storing it.
        """
        outcome = Outcome()
        try:
            self._try_candidates(self._aim(target_class), source, variant, index, outcome)
        finally:
            if self.store is not None and not collect:
                self.store.keep(outcome.puts)
        return outcome

    def make_cache_key(self, source: int, variant: int, attempt: int = 0, *, target_class: int | None = None) -> bytes:
        """The key of one candidate."""
        return self._make_key(self._aim(target_class), source, variant, attempt)

    def _try_candidates(
        self, generator: Generator, source: int, variant: int, index: int | None, outcome: Outcome
    ) -> None:
        lazy = _LazySource(self.source, source)
        for attempt in range(self.attempts):
            entry, key = self._find_candidate(generator, lazy, source, variant, attempt, outcome, index)
            if isinstance(entry, Rejected):
                outcome.rejections.append((_name_of(generator), entry.reason))
                continue
            entry = self._complete_fields(entry, lazy, outcome)
            outcome.sample = self._judge(entry, lazy, key, outcome)
            if outcome.sample is not None:
                return

    def _find_candidate(
        self,
        generator: Generator,
        lazy: _LazySource,
        source: int,
        variant: int,
        attempt: int,
        outcome: Outcome,
        index: int | None,
    ) -> tuple[CacheEntry, bytes]:
        key = b""
        if self.cache is not None:
            key = self._make_key(generator, source, variant, attempt)
            entry = self.cache.get(key)
            if entry is not None:
                outcome.hits += 1
                return entry, key
            outcome.misses += 1
        entry = self._generate(generator, lazy.sample, source, variant, attempt, index)
        if self.store is not None:
            entry = self.store.add_entry(outcome.puts, key, entry)
        return entry, key

    def _generate(
        self, generator: Generator, source: Sample, at: int, variant: int, attempt: int, index: int | None
    ) -> CacheEntry:
        name = self.source.name(at)
        kind = type(source.target)
        if source.target is not None and kind not in generator.keeps:
            raise LabelContractError(
                f"{_name_of(generator)} does not keep {kind.__name__} true, which item {at} ({name}) has. It keeps "
                f"{_join_kinds(generator.keeps)}: use a generator that keeps {kind.__name__}, or another dataset."
            )
        rng = make_rng(self.seed, name, variant, attempt)
        try:
            made = generator.generate(source, rng=rng)
        except NothingToGenerate as nothing:
            return Rejected(nothing.reason, self._complete_origin(Origin(), generator, name, variant, attempt))
        except Exception as error:
            where = at * (self.variants or 1) + variant if index is None else index
            note_error(error, f"while generating index {where} with {_name_of(generator)}(seed={self.seed})")
            raise
        self._check_made(made, source, generator, at if index is None else index)
        if made is source or (np.array_equal(made.image, source.image) and made.target is source.target):
            return Rejected("unchanged", self._complete_origin(Origin(), generator, name, variant, attempt))
        origin = self._complete_origin(made.origin or Origin(), generator, name, variant, attempt)
        return made.replace(origin=origin.replace(class_names=self._find_class_names(made.target)))

    def _complete_origin(self, origin: Origin, generator: Generator, name: str, variant: int, attempt: int) -> Origin:
        return origin.replace(
            source=name,
            fingerprint=generator.fingerprint,
            variant=variant,
            attempt=attempt,
            seed=self.seed,
            license=self.license,
        )

    def _find_class_names(self, target: Target | None) -> dict[int, str]:
        """What the classes of a target are called, where the dataset says so."""
        names = self._class_names
        match target:
            case Instances(class_ids=class_ids):
                return {class_id: names[class_id] for class_id in sorted(set(class_ids.tolist())) if class_id in names}
            case ClassLabel(class_id=class_id):
                return {class_id: names[class_id]} if class_id in names else {}
        return dict(names)

    @cached_property
    def _class_names(self) -> dict[int, str]:
        return {class_id: name for name, class_id in sorted((self.source.classes or {}).items(), reverse=True)}

    def _check_made(self, made: object, source: Sample, generator: Generator, index: int) -> None:
        if not isinstance(made, Sample):
            raise GenerationError(
                f"{_name_of(generator)}.generate must return a Sample, got {type(made).__name__} at index {index}.",
                index=index,
                fingerprint=generator.fingerprint,
                seed=self.seed,
            )
        if source.target is not None and type(made.target) is not type(source.target):
            raise LabelContractError(
                f"{_name_of(generator)} must return the kind of target that it was given, got "
                f"{type(made.target).__name__} for {type(source.target).__name__} at index {index}. "
                f"Return the source's target where it is still true."
            )

    def _complete_fields(self, sample: Sample, lazy: _LazySource, outcome: Outcome) -> Sample:
        """Read from the source what a record could not hold."""
        missing = sample.fields.get(UNSTORED_FIELDS)
        if missing is None:
            return sample
        outcome.source_reads = 1
        kept = {name: value for name, value in sample.fields.items() if name != UNSTORED_FIELDS}
        return sample.replace(fields={**kept, **{name: lazy.sample.fields[name] for name in missing}})

    def _judge(self, sample: Sample, lazy: _LazySource, key: bytes, outcome: Outcome) -> Sample | None:
        """The sample to use, or None when a filter rejects it. Verdicts are kept under the filters up to each."""
        until = ""
        for judge in self.filters:
            until = f"{until} | {judge.fingerprint}" if until else judge.fingerprint
            verdict = self.cache.get_verdict(key, until, of=sample) if self.cache is not None else None
            if verdict is None:
                verdict = self._ask(judge, sample, lazy.sample)
                if self.store is not None:
                    self.store.add_verdict(outcome.puts, key, until, verdict, of=sample)
            who = _name_of(judge)
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
            note_error(error, f"while {_name_of(judge)} judged a version of {sample.origin and sample.origin.source!r}")
            raise
        check_type(f"what {_name_of(judge)}.judge returns", verdict, Verdict)
        return verdict

    def _aim(self, target_class: int | None) -> Generator:
        if target_class is None or not self.can_aim:
            return self.generator
        if target_class not in self._aimed:
            self._aimed[target_class] = self.generator.aim(target_class)  # type: ignore[attr-defined]
        return self._aimed[target_class]

    def _make_key(self, generator: Generator, source: int, variant: int, attempt: int) -> bytes:
        persistent = self.cache is not None and self.cache.persistent
        name, stamp = self.source.identify(source) if persistent else (self.source.name(source), "")
        return make_key(
            generator=generator.fingerprint,
            adapter=self.adapter.fingerprint,
            source=name,
            stamp=stamp,
            pool=self.pool.identity if persistent and self.draws_from_pool else "",
            variant=variant,
            attempt=attempt,
            seed=self.seed,
        )

    @cached_property
    def draws_from_pool(self) -> bool:
        """Whether another pool would give other samples."""
        return isinstance(self.given_generator, Bindable) and getattr(self.given_generator, "uses_pool", True)

    def note_pool(self) -> None:
        """Keep the names of what is drawn from beside the cache."""
        if self.cache is not None and self.cache.persistent and self.draws_from_pool:
            note_pool(self.cache, self.pool, fingerprint=self.given_generator.fingerprint)

    def _list_fingerprints(self) -> set[str]:
        """Those that the entries of this generator can have."""
        aims = sorted((self.source.classes or {}).values()) if self.can_aim else []
        return {self.given_generator.fingerprint, *(self._aim(aim).fingerprint for aim in (None, *aims))}

    def __getstate__(self) -> dict[str, Any]:
        """Travel without aimed copies, which are made again."""
        return {**self.__dict__, "_aimed": {}}


class _LazySource:
    """The source sample, decoded when first needed: a hit never decodes it."""

    def __init__(self, source: Source, index: int) -> None:
        self._source = source
        self._index = index

    @cached_property
    def sample(self) -> Sample:
        sample: Sample = self._source[self._index]
        return sample


def _make_pool(pool: Any, adapter: AnyAdapter | None, version: str | None, stamps: StampBook) -> Pool:
    return pool if isinstance(pool, Pool) else Source(pool, adapter=adapter, version=version, stamps=stamps)


def _check_protocol(name: str, value: object, protocol: Any, members: str) -> None:
    if isinstance(value, type) or not isinstance(value, protocol):
        remedy = "Pass an instance, not the class." if isinstance(value, type) else ""
        reject(name, f"have {members}", value, remedy, error=TypeError)


def _name_of(part: object) -> str:
    return type(part).__name__


def _join_kinds(kinds: frozenset[type[Target]]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
