"""`verify`: reads every record of a cache, and can take out those that are broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synthloader.cache.keys import list_verdict_keys, make_verdict_key
from synthloader.cache.layout import ENTRIES, VERDICTS
from synthloader.cache.lease import Lease
from synthloader.cache.lmdb_cache import LMDBCache
from synthloader.cache.record import MALFORMED, decode_entry, decode_verdict, refuse_malformed, take_apart
from synthloader.cache.record_head import look_at_verdict, read_verdict_head
from synthloader.cache.scan import scan
from synthloader.cache.upkeep.filter_chains import judge_again, list_steps
from synthloader.cache.upkeep.quarantine import move_out
from synthloader.errors import CacheCorruptError, CacheError, CacheFullError, CacheLockedError, CacheVersionError
from synthloader.protocols import Verdict
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["Finding", "VerifyReport", "verify"]

_HASH_BYTES = len(make_verdict_key(b"k", "")) - 1
_BLANK = Sample(np.zeros((1, 1, 3), np.uint8))


@dataclass(frozen=True, slots=True)
class Finding:
    """One record that is bad, or an environment that cannot be read.

    Attributes:
        folder: Folder of the environment.
        kind: `"entry"`, `"verdict"` or `"environment"`.
        key: Key of the record; empty for an environment.
        reason: What is wrong.
        is_newer: Whether a newer version of synthloader may read it: it is not broken, and never taken out.
        file: Where its bytes lie now, where it was taken out.
    """

    folder: Path
    kind: str
    key: bytes
    reason: str
    is_newer: bool = False
    file: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "key": self.key.hex(),
            "reason": self.reason,
            "is_newer": self.is_newer,
            "file": None if self.file is None else str(self.file),
        }


@dataclass
class VerifyReport:
    """What `verify` read and found.

    Attributes:
        num_entries: Entries that were read, bad ones included.
        num_verdicts: Verdicts that were read.
        num_bytes: Bytes of both.
        num_environments: The cache's folder and its shards, as far as they hold anything.
        findings: What is bad.
    """

    num_entries: int = 0
    num_verdicts: int = 0
    num_bytes: int = 0
    num_environments: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def num_broken(self) -> int:
        """Broken records and environments; newer ones are not broken."""
        return sum(not finding.is_newer for finding in self.findings)

    @property
    def num_newer(self) -> int:
        """Records and environments of a newer format."""
        return len(self.findings) - self.num_broken

    @property
    def num_moved(self) -> int:
        """Broken records that were taken out."""
        return sum(finding.file is not None for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = ("num_environments", "num_entries", "num_verdicts", "num_bytes", "num_broken", "num_newer", "num_moved")
        return {name: getattr(self, name) for name in names} | {"findings": [each.to_dict() for each in self.findings]}


def verify(
    cache: LMDBCache, /, *, quarantine: bool = False, progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Read every entry and verdict of the folder and its shards, with all pixels, masks and checksums.

    An environment that cannot be read is reported, and the others are read all the same. A verdict whose entry is
    missing is checked as far as it says something by itself. Records of a newer format are reported, never taken out.

    Args:
        cache: The cache; with `quarantine`, not a read-only one.
        quarantine: Move what is broken to the folder `quarantine` of its environment. Entries are then generated again
            when they are asked for. Nothing is lost: the files hold the bytes as they were found.
        progress: Called with the number of records read and of all.

    Raises:
        CacheLockedError: Something is to be taken out of an environment that another process writes to.
        CacheFullError: There is no room for what is to be taken out, which then stays where it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, LMDBCache(folder) as cache:
        ...     cache.put(b"key", Sample(np.zeros((4, 6, 3), np.uint8)))
        ...     report = verify(cache)
        >>> report.num_entries, report.findings
        (1, [])
    """
    if quarantine and cache.readonly:
        raise CacheError(
            f"Taking broken records out of the cache {cache.path}",
            reason="it was opened with readonly=True",
            hint="open it without readonly",
        )
    return _Verification(cache, quarantine, progress).run()


class _Verification:
    """One run over a cache."""

    def __init__(self, cache: LMDBCache, quarantine: bool, progress: Callable[[int, int], None] | None) -> None:
        self._leases = cache.leases
        self._quarantine = quarantine
        self._progress = progress
        self._report = VerifyReport()
        self._done = self._total = 0

    def run(self) -> VerifyReport:
        readable = [lease for lease in self._leases if self._count(lease)]
        for lease in readable:
            try:
                for key, data in scan(lease, ENTRIES, bytes):
                    self._report.num_entries += 1
                    self._check(lease, ENTRIES, key, data, _check_entry)
                for key, data in scan(lease, VERDICTS, bytes):
                    self._report.num_verdicts += 1
                    self._check(lease, VERDICTS, key, data, self._check_verdict)
            except (CacheLockedError, CacheFullError):
                raise
            except CacheError as error:
                self._add_environment(lease, error)
        return self._report

    def _count(self, lease: Lease) -> bool:
        """Open an environment; whether it can be read."""
        try:
            with lease.read() as snapshot:
                if snapshot is None:
                    return False
                self._report.num_environments += 1
                self._total += snapshot.count(ENTRIES) + snapshot.count(VERDICTS)
        except CacheError as error:
            self._report.num_environments += 1
            self._add_environment(lease, error)
            return False
        return True

    def _add_environment(self, lease: Lease, error: CacheError) -> None:
        is_newer = isinstance(error, CacheVersionError)
        self._report.findings.append(Finding(lease.folder, "environment", b"", error.reason, is_newer))

    def _check(
        self, lease: Lease, database: bytes, key: bytes, data: bytes, check: Callable[[bytes, bytes], None]
    ) -> None:
        kind = "entry" if database == ENTRIES else "verdict"
        try:
            check(key, data)
        except CacheVersionError as error:
            self._report.findings.append(Finding(lease.folder, kind, key, error.reason, is_newer=True))
        except CacheCorruptError as error:
            file = move_out(lease, database, key, data) if self._quarantine else None
            self._report.findings.append(Finding(lease.folder, kind, key, error.reason, file=file))
        self._report.num_bytes += len(data)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))

    def _check_verdict(self, verdict_key: bytes, data: bytes) -> None:
        take_apart(data, "a record")
        head, key = read_verdict_head(data), verdict_key[:-_HASH_BYTES]
        if not key or make_verdict_key(key, head.filters) != verdict_key:
            raise CacheCorruptError("", reason="it does not stand under the key of its filters")
        judged: Sample | None = _BLANK
        if head.changes:  # Most have no sample, and then the entry need not be decoded again.
            judged = self._find_judged(key, head.filters) or (_BLANK if "image" in head.changes else None)
        if judged is not None:
            _ask_for_everything(decode_verdict(data, of=judged).sample)

    def _find_judged(self, key: bytes, filters: str) -> Sample | None:
        """What the last of these filters judged: the entry, or what the filters before it made of it; None: unknown."""
        entry = self._find(ENTRIES, key, decode_entry)
        if not isinstance(entry, Sample):
            return None
        known = {text for lease in self._leases for text in _list_filters(lease, key)}

        def get_verdict(step: str, of: Sample) -> Verdict | None:
            verdict: Verdict | None = self._find(
                VERDICTS, make_verdict_key(key, step), lambda data: decode_verdict(data, of=of)
            )
            return verdict

        judged = judge_again(entry, list_steps(filters, known)[:-1], get_verdict)
        return judged if isinstance(judged, Sample) else None

    def _find(self, database: bytes, key: bytes, decode: Callable[[bytes], Any]) -> Any:
        """The first record of this key that can be read."""
        for lease in self._leases:
            try:
                data = lease.look_up(database, key, bytes)
                if data is not None:
                    return decode(data)
            except CacheError:
                continue
        return None


def _list_filters(lease: Lease, key: bytes) -> list[str]:
    try:
        with lease.read() as snapshot:
            keys = [] if snapshot is None else list_verdict_keys(snapshot, key)
        heads = [look_at_verdict(lease, each) for each in keys]
    except CacheError:  # It is reported when its turn comes.
        return []
    return [head.filters for head in heads if head is not None]


def _check_entry(key: bytes, data: bytes) -> None:
    entry = decode_entry(data)
    _ask_for_everything(entry if isinstance(entry, Sample) else None)


def _ask_for_everything(sample: Sample | None) -> None:
    """Have unpacked what is unpacked when it is asked for; a wrong one raises what its record would."""
    if sample is None:
        return
    try:
        if isinstance(sample.target, Instances):
            _ = sample.target.masks
        if sample.origin is not None:
            _ = sample.origin.edited
    except MALFORMED as error:
        refuse_malformed("a record", error)
