"""`plan_prune` and `prune`: take out what no recipe asks for any more, or what is oldest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from synthloader.cache.changes import Change
from synthloader.cache.layout import ENTRIES, VERDICTS, refuse_caches_of_their_own
from synthloader.cache.lease import Lease
from synthloader.cache.lmdb_cache import LMDBCache
from synthloader.cache.record_head import look_at_entry
from synthloader.cache.scan import find_time, list_keys, scan
from synthloader.cache.upkeep.walk import walk
from synthloader.checks import check_int, check_type, reject
from synthloader.errors import CacheError

__all__ = ["PrunePlan", "plan_prune", "prune"]

_KEYS_AT_ONCE = 500
_HASH_BYTES = 16  # A verdict's key is that of its entry and a hash.

_Judged: TypeAlias = dict[bytes, tuple[int, int]]


@dataclass
class PrunePlan:
    """What `prune` would take out, and what would stay.

    Attributes:
        keys: Keys of the entries that go, in their order.
        orphans: Keys of verdicts whose entry is gone already; they go too.
        num_samples: Samples among the entries that go; the others are candidates that the generator could not make.
        num_verdicts: Verdicts that go, orphans included.
        num_bytes: Bytes of all records that go.
        num_kept: Entries that stay.
        num_kept_bytes: Bytes of all records that stay.
        num_unknown: Entries among them that do not say which generator made them.
        num_unreadable: Entries among them that are broken or of a newer format.
        fingerprints: Fingerprint of a generator to the number of entries that go because nothing asks for it.
        num_oldest: Entries that go because they are the oldest.
        has_wanted: Whether any entry is of a generator that was named; where none is, look twice.
        time_range_ms: When the first and the last of those that go were put, in milliseconds since 1970.
    """

    keys: list[bytes] = field(default_factory=list)
    orphans: list[bytes] = field(default_factory=list)
    num_samples: int = 0
    num_verdicts: int = 0
    num_bytes: int = 0
    num_kept: int = 0
    num_kept_bytes: int = 0
    num_unknown: int = 0
    num_unreadable: int = 0
    fingerprints: Counter[str] = field(default_factory=Counter)
    num_oldest: int = 0
    has_wanted: bool = True
    time_range_ms: tuple[int, int] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing goes."""
        return not self.keys and not self.orphans

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; keys in hexadecimal."""
        return {
            **self.__dict__,
            "keys": [key.hex() for key in self.keys],
            "orphans": [key.hex() for key in self.orphans],
            "fingerprints": dict(self.fingerprints.most_common()),
            "num_entries": len(self.keys),
        }


class _Entry(NamedTuple):
    """What decides about one entry."""

    time_ms: int
    key: bytes
    num_bytes: int
    num_verdicts: int
    is_sample: bool


def plan_prune(
    cache: LMDBCache,
    /,
    *,
    fingerprints: Collection[str] | None = None,
    max_size_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PrunePlan:
    """Find out what would go. Nothing is changed.

    First go entries that another generator made, then the oldest, until what stays is small enough; their verdicts go
    with them. Verdicts under filters that nobody asks for stay: they take a few hundred bytes, and filters are often
    changed back. Entries that do not say who made them, and those that cannot be read, only go by their age.

    Args:
        cache: The cache.
        fingerprints: Those of the generators whose entries stay; None: of all.
        max_size_bytes: Most bytes of records that stay, entries and verdicts. The file is larger: pages are filled
            to three quarters or so, and it keeps its size until it is compacted. None: however many there are.
        progress: Called with the number of entries looked at and of all.

    Raises:
        ValueError: Neither is given.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from synthloader.sample import Origin, Sample
        >>> with tempfile.TemporaryDirectory() as folder, LMDBCache(folder) as cache:
        ...     for number, name in enumerate(["Fog/1()", "Fog/2()"]):
        ...         cache.put(b"%d" % number, Sample(np.zeros((4, 6, 3), np.uint8), origin=Origin(fingerprint=name)))
        ...     plan = plan_prune(cache, fingerprints=["Fog/2()"])
        ...     print(plan.keys, dict(plan.fingerprints), prune(cache, plan), len(cache))
        [b'0'] {'Fog/1()': 1} 1 1
    """
    if fingerprints is None and max_size_bytes is None:
        remedy = "Nothing would say what goes."
        reject("fingerprints", "be given where max_size_bytes is not", None, remedy)
    if fingerprints is not None:
        check_type("fingerprints", fingerprints, Collection)
        if isinstance(fingerprints, str):
            reject("fingerprints", "be several texts", fingerprints, "Write [fingerprint].", error=TypeError)
    if max_size_bytes is not None:
        max_size_bytes = check_int("max_size_bytes", max_size_bytes, minimum=0)
    plan = PrunePlan()
    leases = cache.leases
    refuse_caches_of_their_own(
        f"Pruning the cache {cache.path}", [lease.folder for lease in leases[1:]], hint="prune each by itself"
    )
    stay: list[_Entry] = []
    go: list[_Entry] = []
    found: set[str] = set()
    judged = _sum_verdicts(leases)
    total = sum(_count(lease) for lease in leases) if progress is not None else 0
    for done, (key, holders) in enumerate(walk(leases, ENTRIES), 1):
        fingerprint, is_sample = _read_fingerprint(plan, holders, key)
        entry = _measure(key, holders, judged, is_sample)
        if fingerprints is not None and fingerprint and fingerprint not in fingerprints:
            plan.fingerprints[fingerprint] += 1
            go.append(entry)
        else:
            stay.append(entry)
        found.add(fingerprint)
        if progress is not None:
            progress(done, max(done, total))
    if judged:  # What no entry has claimed.
        plan.orphans = [key for key, _ in walk(leases, VERDICTS) if key[:-_HASH_BYTES] in judged]
        plan.num_verdicts = len(plan.orphans)
        plan.num_bytes = sum(num_bytes for _, num_bytes in judged.values())
    plan.has_wanted = fingerprints is None or bool(found & set(fingerprints))
    kept_bytes = sum(entry.num_bytes for entry in stay)
    if max_size_bytes is not None and kept_bytes > max_size_bytes:
        stay.sort(key=lambda entry: (entry.time_ms, entry.key), reverse=True)
        while stay and kept_bytes > max_size_bytes:
            go.append(stay.pop())
            kept_bytes -= go[-1].num_bytes
            plan.num_oldest += 1
    go.sort(key=lambda entry: entry.key)
    plan.keys = [entry.key for entry in go]
    plan.num_verdicts += sum(entry.num_verdicts for entry in go)
    plan.num_bytes += sum(entry.num_bytes for entry in go)
    plan.num_samples = sum(entry.is_sample for entry in go)
    plan.num_kept, plan.num_kept_bytes = len(stay), kept_bytes
    if times := [entry.time_ms for entry in go if entry.time_ms]:
        plan.time_range_ms = min(times), max(times)
    return plan


def prune(cache: LMDBCache, plan: PrunePlan, /, *, progress: Callable[[int, int], None] | None = None) -> int:
    """Take out what a plan names; how many entries there were. The file keeps its size until it is compacted.

    Args:
        cache: The cache, not a read-only one.
        plan: Of `plan_prune`.
        progress: Called with the number of entries that are gone and of all that go.

    Raises:
        CacheLockedError: Another process writes where something is to be taken out; nothing happened.
        CacheError: The cache is read-only.
    """
    if cache.readonly:
        raise CacheError(
            f"Pruning the cache {cache.path}",
            reason="it was opened with readonly=True",
            hint="open it without readonly",
        )
    keys, orphans = frozenset(plan.keys), frozenset(plan.orphans)
    for lease in cache.leases:
        if any(key in keys for key in list_keys(lease, ENTRIES)) or any(
            key in orphans or key[:-_HASH_BYTES] in keys for key in list_keys(lease, VERDICTS)
        ):
            lease.claim()
    num_deleted = 0
    for start in range(0, len(plan.keys), _KEYS_AT_ONCE):
        num_deleted += cache.delete(plan.keys[start : start + _KEYS_AT_ONCE])
        if progress is not None:
            progress(min(start + _KEYS_AT_ONCE, len(plan.keys)), len(plan.keys))
    if orphans:
        for lease in cache.leases:
            changes = [Change(VERDICTS, key, None) for key in list_keys(lease, VERDICTS) if key in orphans]
            for start in range(0, len(changes), _KEYS_AT_ONCE):
                lease.write(changes[start : start + _KEYS_AT_ONCE])
    return num_deleted


def _read_fingerprint(plan: PrunePlan, holders: list[Lease], key: bytes) -> tuple[str, bool]:
    """The generator's fingerprint, empty where that is unknown; and whether it is a sample."""
    for lease in holders:
        try:
            head = look_at_entry(lease, key)
        except CacheError:
            continue
        if head is not None:
            fingerprint = "" if head.origin is None else head.origin.fingerprint
            plan.num_unknown += not fingerprint
            return fingerprint, head.kind == "sample"
    plan.num_unreadable += 1
    return "", True


def _measure(key: bytes, holders: list[Lease], judged: _Judged, is_sample: bool) -> _Entry:
    """The size of all copies of an entry and of the verdicts on it, and its earliest time."""
    num_verdicts, verdict_bytes = judged.pop(key, (0, 0))
    num_bytes = sum(lease.look_up(ENTRIES, key, len) or 0 for lease in holders)
    times = [find_time(lease, key) for lease in holders]
    time_ms = min((each for each in times if each is not None), default=0)
    return _Entry(time_ms, key, num_bytes + verdict_bytes, num_verdicts, is_sample)


def _sum_verdicts(leases: Sequence[Lease]) -> _Judged:
    """Number and bytes of the verdicts on each entry."""
    judged: _Judged = {}
    for lease in leases:
        for key, size in scan(lease, VERDICTS, len):
            count, num_bytes = judged.get(key[:-_HASH_BYTES], (0, 0))
            judged[key[:-_HASH_BYTES]] = count + 1, num_bytes + size
    return judged


def _count(lease: Lease) -> int:
    with lease.read() as snapshot:
        return 0 if snapshot is None else snapshot.count(ENTRIES)
