"""`merge`: unites caches in one, and the shards of a cache with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from synthloader.cache.changes import Change
from synthloader.cache.codecs import DEFAULT_CODEC
from synthloader.cache.layout import ENTRIES, LOG, VERDICTS, is_made_as_shard, refuse_caches_of_their_own
from synthloader.cache.lease import Lease
from synthloader.cache.lmdb_cache import LMDBCache
from synthloader.cache.record import is_intact
from synthloader.cache.scan import find_time
from synthloader.cache.upkeep.content import is_lossy, list_differences, rank_record, read_content
from synthloader.cache.upkeep.folding import claim_shard, remove_shard
from synthloader.cache.upkeep.notes import unite_notes
from synthloader.cache.upkeep.quarantine import FOLDER, keep_file, name_file, sync_folder
from synthloader.cache.upkeep.walk import walk
from synthloader.checks import check_type, reject
from synthloader.errors import CacheCorruptError, CacheError

__all__ = ["MergeReport", "merge"]

_COMMIT_EVERY_S = 0.5
_MOST_PENDING_BYTES = 16 << 20


@dataclass
class MergeReport:
    """What `merge` did.

    Attributes:
        num_entries: Entries that came in.
        num_verdicts: Verdicts that came in.
        num_bytes: Bytes of both.
        num_known: Records that were there already, or came twice.
        num_broken: Broken records that were left out, or for which an intact one was found elsewhere.
        num_shards: Shards that were folded into the cache and removed.
    """

    num_entries: int = 0
    num_verdicts: int = 0
    num_bytes: int = 0
    num_known: int = 0
    num_broken: int = 0
    num_shards: int = 0

    def to_dict(self) -> dict[str, int]:
        """Plain numbers, for JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def merge(
    into: LMDBCache,
    sources: Sequence[LMDBCache] = (),
    /,
    *,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Copy entries, verdicts, times and notes of other caches into one, and fold its own shards into it.

    Sources are never changed. The shards inside `into` are removed after everything of theirs is on the disk. The
    outcome is the same in whichever order caches are merged: of records that say the same in other bytes (another
    lossless codec) the shortest stays, and the earliest time counts.

    Everything is compared before anything is written: where two records of one key say different things, nothing
    happens. What is written is committed twice a second, so that a merge that was interrupted, killed, or stopped by a
    full disk goes on when it is called again.

    Args:
        into: The cache that all is united in; a new one takes the codec of the sources.
        sources: Others, in folders elsewhere. None: only the shards of `into` are folded.
        skip_broken: Leave out records whose bytes are not what was written, and of which no cache has an intact copy.
            Those of shards are kept in the folder `quarantine`. False: they raise.
        progress: Called with the number of records looked at and of all.

    Raises:
        CacheLockedError: Another process writes to `into` or to one of its shards; nothing happened.
        CacheCorruptError: Two records of one key differ, and nothing happened; or a record is broken.
        CacheFullError: The disk is full; what was committed stays, and so does everything that is merged.
        CacheError: The codecs of the caches do not go together.
        ValueError: A source is `into` itself, or a shard of it.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from synthloader.sample import Sample
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with LMDBCache(f"{folder}/one") as one, LMDBCache(f"{folder}/two") as two:
        ...         one.put(b"1", Sample(np.zeros((4, 6, 3), np.uint8)))
        ...         two.put(b"2", Sample(np.ones((4, 6, 3), np.uint8)))
        ...         print(merge(one, [two]).num_entries, len(one), len(two))
        1 2 1
    """
    check_type("into", into, LMDBCache)
    for place, source in enumerate(sources):
        check_type(f"sources[{place}]", source, LMDBCache)
    return _Merge(into, sources, skip_broken, progress).run()


class _Found(NamedTuple):
    """One record in one environment."""

    lease: Lease
    data: bytes


class _Merge:
    """One run."""

    def __init__(
        self,
        into: LMDBCache,
        sources: Sequence[LMDBCache],
        skip_broken: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._into = into
        self._main, *inside = into.leases
        self._shards = [lease for lease in inside if is_made_as_shard(lease.folder)]
        inside = [lease for lease in inside if lease not in self._shards and _holds_entries(lease)]
        if not sources and not self._shards:
            names = " ".join(str(lease.folder) for lease in inside)
            refuse_caches_of_their_own(
                f"Merging the shards of the cache {into.path}",
                [lease.folder for lease in inside],
                hint=f"to unite them, name another cache and them: synthloader cache merge OUT {names}",
            )
        self._others = [*self._shards, *(lease for source in sources for lease in source.leases)]
        self._folders = [source.path for source in sources]
        self._skip_broken = skip_broken
        self._progress = progress
        self._report = MergeReport()
        self._pending: list[Change] = []
        self._pending_bytes = 0
        self._committed = time.monotonic()

    def run(self) -> MergeReport:
        self._check_folders()
        self._settle_codec()
        self._claim()
        try:
            self._compare()
            self._copy()
        finally:
            self._commit()
        self._main.sync()
        sync_folder(self._into.path)
        unite_notes(self._into.path, [*self._folders, *(lease.folder for lease in self._others)])
        for shard in self._shards:
            remove_shard(shard.folder, self._into.path)
            self._report.num_shards += 1
        _ = self._into.leases  # Which notices that they are gone.
        return self._report

    def _check_folders(self) -> None:
        if self._into.readonly:
            raise CacheError(
                f"Merging into the cache {self._into.path}",
                reason="it was opened with readonly=True",
                hint="open it without readonly",
            )
        own = {lease.folder.resolve() for lease in (self._main, *self._shards)}
        for lease in self._others[len(self._shards) :]:
            if lease.folder.resolve() in own:
                remedy = "Its shards are folded into it without being named."
                reject("sources", "lie elsewhere than the cache that they are merged into", str(lease.folder), remedy)

    def _settle_codec(self) -> None:
        """Refuse what would make entries of one generator differ by whether the cache had them."""
        codecs: dict[str, Lease] = {}
        for lease in (self._main, *self._others):
            codec = lease.find_codec()
            if codec is not None and (lease is self._main or _holds_entries(lease)):
                codecs.setdefault(codec, lease)
        if self._into.codec is not None:
            codecs.setdefault(self._into.codec, self._main)
        if len(codecs) > 1 and any(map(is_lossy, codecs)):
            (one, first), (other, second) = sorted(codecs.items(), key=lambda item: not is_lossy(item[0]))[:2]
            raise CacheError(
                f"Merging into the cache {self._into.path}",
                reason=f"the images of {first.folder} are stored with codec {one!r}, those of {second.folder} with "
                f"codec {other!r}, and JPEG changes pixels",
                hint="merge caches of one codec: fill one of them again with the other's",
            )
        if self._main.find_codec() is None and self._main.codec is None:
            self._into.codec = self._main.codec = next(iter(codecs)) if len(codecs) == 1 else DEFAULT_CODEC

    def _claim(self) -> None:
        self._main.claim()
        for shard in self._shards:
            claim_shard(shard)

    def _compare(self) -> None:
        """Look at all that several have, before anything is written."""
        for database in (ENTRIES, VERDICTS):
            for key, holders in walk((self._main, *self._others), database):
                if len(holders) > 1:
                    self._choose(database, key, holders)

    def _copy(self) -> None:
        done, total = 0, sum(_count(lease) for lease in self._others)
        for database in (ENTRIES, VERDICTS):
            for key, holders in walk((self._main, *self._others), database):
                if holders == [self._main]:
                    continue
                self._unite(database, key, holders)
                done += sum(lease is not self._main for lease in holders)
                if self._progress is not None:
                    self._progress(done, max(done, total))

    def _unite(self, database: bytes, key: bytes, holders: list[Lease]) -> None:
        """Bring the record that stays into the cache, where it is not there already."""
        found = self._read(database, key, holders)
        intact = [each for each in found if is_intact(each.data)]
        self._report.num_broken += len(found) - len(intact)
        if not intact:
            self._leave_out(database, key, found)
            return
        best = self._agree(database, key, intact)
        held = next((each.data for each in found if each.lease is self._main), None)
        time_ms = None
        if database == ENTRIES:
            times = [find_time(each.lease, key) for each in found]
            time_ms = min((each for each in times if each is not None), default=None)
            if held == best and time_ms is not None and times[0] != time_ms:
                self._add(Change(LOG, key, time_ms.to_bytes(8, "little"), replace=True))
        if held != best:
            self._add(Change(database, key, best, replace=True, time_ms=time_ms))
            self._report.num_entries += database == ENTRIES and held is None
            self._report.num_verdicts += database == VERDICTS and held is None
            self._report.num_bytes += len(best)
        self._report.num_known += sum(each.lease is not self._main for each in intact) - (held is None)

    def _choose(self, database: bytes, key: bytes, holders: list[Lease]) -> None:
        intact = [each for each in self._read(database, key, holders) if is_intact(each.data)]
        if len(intact) > 1:
            self._agree(database, key, intact)

    def _read(self, database: bytes, key: bytes, holders: Iterable[Lease]) -> list[_Found]:
        found = [(lease, lease.look_up(database, key, bytes)) for lease in holders]
        return [_Found(lease, data) for lease, data in found if data is not None]

    def _agree(self, database: bytes, key: bytes, found: list[_Found]) -> bytes:
        """The record that stays of several that say the same."""
        best = (
            found[0] if len({each.data for each in found}) == 1 else min(found, key=lambda each: rank_record(each.data))
        )
        for each in found:
            names = _name(database, key, best.lease), _name(database, key, each.lease)
            if differences := list_differences(best.data, each.data, names=names):
                _refuse_conflict(database, key, best, each, differences)
        return best.data

    def _leave_out(self, database: bytes, key: bytes, found: list[_Found]) -> None:
        """Nobody has it intact."""
        for lease, data in found:
            if lease is self._main:
                continue
            if not self._skip_broken:
                raise CacheCorruptError(
                    f"Merging {_name(database, key, lease)}",
                    reason="its bytes do not match its checksum, and no other cache has it",
                    hint="leave broken records out: skip_broken=True, or --skip-broken on the command line",
                )
            if lease in self._shards:
                keep_file(self._into.path / FOLDER, name_file(database, key), data)

    def _add(self, change: Change) -> None:
        self._pending.append(change)
        self._pending_bytes += len(change.value or b"")
        if self._pending_bytes > _MOST_PENDING_BYTES or time.monotonic() - self._committed > _COMMIT_EVERY_S:
            self._commit()

    def _commit(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if pending:
            self._main.write(pending)
        self._committed = time.monotonic()


def _refuse_conflict(database: bytes, key: bytes, one: _Found, other: _Found, differences: list[str]) -> None:
    kind = "entry" if database == ENTRIES else "verdict"
    first, second = sorted((one, other), key=lambda each: str(each.lease.folder))
    codecs = [read_content(each.data).codec for each in (first, second)]
    reason = f"it is another one in {first.lease.folder} than in {second.lease.folder}: they differ in "
    reason += ", ".join(differences)
    hint = "look at both with `synthloader cache inspect`, and merge without the cache that is wrong"
    if codecs[0] != codecs[1] and any(map(is_lossy, codecs)):
        reason += f", which are stored with codecs {codecs[0]!r} and {codecs[1]!r}"
        hint = "JPEG changes pixels: merge caches of one codec, and fill one of them again with the other's"
    raise CacheCorruptError(f"Merging {kind} {key.hex()}", reason=reason, hint=hint)


def _name(database: bytes, key: bytes, lease: Lease) -> str:
    return f"{'entry' if database == ENTRIES else 'verdict'} {key.hex()} of the cache {lease.folder}"


def _holds_entries(lease: Lease) -> bool:
    with lease.read() as snapshot:
        return snapshot is not None and snapshot.count(ENTRIES) > 0


def _count(lease: Lease) -> int:
    with lease.read() as snapshot:
        return 0 if snapshot is None else snapshot.count(ENTRIES) + snapshot.count(VERDICTS)
