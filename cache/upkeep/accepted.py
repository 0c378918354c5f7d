"""`select_accepted`: the samples of a cache that the filters accepted, as a training run would be served them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from synthloader.cache.keys import make_verdict_key
from synthloader.cache.layout import ENTRIES, VERDICTS
from synthloader.cache.lease import Lease
from synthloader.cache.lmdb_cache import LMDBCache
from synthloader.cache.record_head import look_at_entry, look_at_verdict
from synthloader.cache.scan import find_time
from synthloader.cache.upkeep.filter_chains import JOINT, find_chains, judge_again, list_steps
from synthloader.cache.upkeep.walk import walk
from synthloader.checks import check_type, reject
from synthloader.protocols import Verdict
from synthloader.sample import Origin, Sample
from synthloader.targets import SemanticMask

__all__ = ["Selection", "select_accepted"]


@dataclass
class Selection:
    """The accepted samples of a cache, and why the others are not among them.

    Attributes:
        cache: The cache.
        filters: Fingerprint of the filters that decided; empty where no filter was asked.
        keys: Keys of the accepted samples, by source, variant and generator.
        class_names: Class id to name, united over all of them; ids without a name are not in it.
        class_ids: Ids of the labels and instances that occur. Those of masks are not known before they are read.
        num_not_made: Candidates that the generator could not make.
        num_rejected: Samples that a filter rejected.
        num_unjudged: Samples on which these filters have said nothing.
        num_superseded: Accepted ones of which an earlier attempt was accepted too.
        num_others: Entries of other generators or seeds than were asked for, or not served to who asks.
        has_semantic_masks: Whether some of the labels are semantic masks.
        steps: Texts under which the verdicts of the filters stand, in order.
    """

    cache: LMDBCache
    filters: str = ""
    keys: list[bytes] = field(default_factory=list)
    class_names: dict[int, str] = field(default_factory=dict)
    class_ids: set[int] = field(default_factory=set)
    num_not_made: int = 0
    num_rejected: int = 0
    num_unjudged: int = 0
    num_superseded: int = 0
    num_others: int = 0
    has_semantic_masks: bool = False
    steps: list[str] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        """Number of accepted samples."""
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[bytes, Sample]]:
        """Key and sample, one after another, changed and with scores as a training run gets them."""
        for key in self.keys:
            entry = self.cache.get(key)
            if not isinstance(entry, Sample):
                continue  # Taken away meanwhile.
            sample = judge_again(entry, self.steps, partial(self._get_verdict, key))
            if isinstance(sample, Sample):
                yield key, sample

    def list_mask_ids(self) -> set[int]:
        """Class ids in the semantic masks of all accepted samples, for which each is decoded; without background."""
        found: set[int] = set()
        if self.has_semantic_masks:
            for _, sample in self:
                if isinstance(sample.target, SemanticMask):
                    found.update(set(np.unique(sample.target.mask).tolist()) - {0, sample.target.ignore_index})
        return found

    def _get_verdict(self, key: bytes, step: str, of: Sample) -> Verdict | None:
        return self.cache.get_verdict(key, step, of=of)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = ("num_not_made", "num_rejected", "num_unjudged", "num_superseded", "num_others")
        return {"filters": self.filters, "num_accepted": len(self), **{name: getattr(self, name) for name in names}}


def select_accepted(
    cache: LMDBCache,
    /,
    *,
    filters: str | None = None,
    fingerprints: Collection[str] | None = None,
    seed: int | None = None,
    serves: Callable[[bytes, Origin], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """Find the accepted samples. Nothing is decoded before they are iterated over.

    A sample is accepted when every filter of the chain accepted it. Of several attempts at one source and variant, the
    first accepted one counts, as in training. Where nothing was ever judged, all samples count.

    Args:
        cache: The cache.
        filters: Fingerprint of the chain: those of its filters, joined by ` | `; empty: ask no filter. None: the one
            that the cache has verdicts of.
        fingerprints: Of the generators; None: all.
        seed: Of the generated dataset; None: all.
        serves: Whether a training run is served the entry of this key and origin; None: any may be.
        progress: Called with the number of records looked at and of all.

    Raises:
        ValueError: The cache has verdicts of several chains, or none of the one that is asked for; or two samples give
            one class different names.
        CacheCorruptError: A record is not made as records are.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, LMDBCache(folder) as cache:
        ...     for name in ("a", "b"):
        ...         sample = Sample(np.zeros((4, 6, 3), np.uint8), origin=Origin(source=name))
        ...         cache.put(name.encode(), sample)
        ...         cache.put_verdict(name.encode(), "Sharp/1()", Verdict(name == "b", score=0.5), of=sample)
        ...     selection = select_accepted(cache)
        ...     [(key, sample.origin.scores) for key, sample in selection]
        ...     print(selection.filters, selection.num_rejected)
        [(b'b', {'Sharp': 0.5})]
        Sharp/1() 1
    """
    check_type("cache", cache, LMDBCache)
    return _Choice(Selection(cache), fingerprints, seed, serves, progress).run(filters)


@dataclass
class _Candidate:
    """One accepted attempt."""

    attempt: int
    time_ms: int
    key: bytes
    origin: Origin | None
    target: str | None
    class_ids: tuple[int, ...]


class _Choice:
    """One selection in the making."""

    def __init__(
        self,
        selection: Selection,
        fingerprints: Collection[str] | None,
        seed: int | None,
        serves: Callable[[bytes, Origin], bool] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._selection = selection
        self._leases = selection.cache.leases
        self._fingerprints = fingerprints
        self._seed = seed
        self._serves = serves
        self._progress = progress
        self._accepted: dict[bytes, bool] = {}

    def run(self, filters: str | None) -> Selection:
        selection = self._selection
        self._read_verdicts()
        selection.filters = self._settle_filters(filters)
        selection.steps = list_steps(selection.filters, self._texts) if selection.filters else []
        best: dict[tuple[Any, ...], _Candidate] = {}
        total = sum(_count(lease) for lease in self._leases) if self._progress is not None else 0
        for done, (key, holders) in enumerate(walk(self._leases, ENTRIES), 1):
            if self._progress is not None:
                self._progress(done, max(done, total))
            candidate = self._judge(key, holders)
            if candidate is None:
                continue
            place = _find_place(candidate)
            other = best.get(place)
            if other is not None:
                selection.num_superseded += 1
            if other is None or (candidate.attempt, -candidate.time_ms) < (other.attempt, -other.time_ms):
                best[place] = candidate
        for _, candidate in sorted(best.items(), key=lambda item: (len(item[0]), item[0])):
            self._take(candidate)
        return selection

    def _read_verdicts(self) -> None:
        texts: set[str] = set()
        for key, holders in walk(self._leases, VERDICTS):
            for lease in holders:
                head = look_at_verdict(lease, key)
                if head is not None:
                    self._accepted[key] = head.accepted
                    texts.add(head.filters)
                    break
        self._texts = texts

    def _settle_filters(self, asked: str | None) -> str:
        chains = find_chains(self._texts)
        listing = "".join(f"\n  {chain}" for chain in chains)
        if asked is None:
            if len(chains) > 1:
                remedy = f"Say by filters= (--filters or --recipe on the command line) which:{listing}"
                reject(
                    "filters", f"be given, for the cache has verdicts of {len(chains)} chains of filters", None, remedy
                )
            return chains[0] if chains else ""
        if asked and not any(_is_part(text, asked) or _is_part(asked, text) for text in self._texts):
            has = (
                f"It has those of:{listing}"
                if chains
                else "It has none at all: leave filters out to take every sample."
            )
            reject("filters", "be a chain that the cache has verdicts of", asked, has)
        return asked

    def _judge(self, key: bytes, holders: list[Lease]) -> _Candidate | None:
        """Count a candidate, and give it back where all filters accepted it."""
        selection = self._selection
        head = next((head for lease in holders if (head := look_at_entry(lease, key)) is not None), None)
        if head is None:
            return None
        origin = head.origin
        fingerprint, seed = ("", None) if origin is None else (origin.fingerprint, origin.seed)
        if (self._fingerprints is not None and fingerprint not in self._fingerprints) or (
            self._seed is not None and seed != self._seed
        ):
            selection.num_others += 1
            return None
        if self._serves is not None and (origin is None or not self._serves(key, origin)):
            selection.num_others += 1  # Of other labels, images, donors or variants.
            return None
        if head.kind == "rejected":
            selection.num_not_made += 1
            return None
        for step in selection.steps:
            accepted = self._accepted.get(make_verdict_key(key, step))
            if accepted is None:
                selection.num_unjudged += 1
                return None
            if not accepted:
                selection.num_rejected += 1
                return None
        time_ms = find_time(holders[0], key) or 0
        return _Candidate(0 if origin is None else origin.attempt, time_ms, key, origin, head.target, head.class_ids)

    def _take(self, candidate: _Candidate) -> None:
        selection = self._selection
        selection.keys.append(candidate.key)
        selection.has_semantic_masks |= candidate.target == "semantic_mask"
        selection.class_ids.update(candidate.class_ids)
        if candidate.origin is None:
            return
        for class_id, name in candidate.origin.class_names.items():
            before = selection.class_names.setdefault(class_id, name)
            if before != name:
                remedy = (
                    "Choose one generator by fingerprints= (--recipe on the command line): they are of two datasets."
                )
                reject(f"class {class_id}", f"have one name, but is called {before!r} elsewhere", name, remedy)


def _find_place(candidate: _Candidate) -> tuple[Any, ...]:
    """What several attempts are made for."""
    origin = candidate.origin
    if origin is None or not origin.source:  # Put by hand.
        return (candidate.key,)
    return origin.source, origin.variant, origin.fingerprint, origin.seed


def _is_part(chain: str, longer: str) -> bool:
    return chain == longer or longer.startswith(chain + JOINT)


def _count(lease: Lease) -> int:
    with lease.read() as snapshot:
        return 0 if snapshot is None else snapshot.count(ENTRIES)
