"""`find_keys`, `describe_entry`: all that a cache knows of one entry."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from synthloader.cache.keys import list_verdict_keys
from synthloader.cache.layout import ENTRIES
from synthloader.cache.lease import Lease
from synthloader.cache.lmdb_cache import LMDBCache
from synthloader.cache.record_head import EntryHead, VerdictHead, look_at_entry, look_at_verdict
from synthloader.cache.scan import find_time
from synthloader.cache.upkeep.card_text import format_time
from synthloader.cache.upkeep.make_card import name_codec
from synthloader.checks import reject
from synthloader.errors import CacheError
from synthloader.protocols import Rejected
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

__all__ = ["EntryReport", "describe_entry", "find_keys"]

_KEYS_AT_ONCE = 100


@dataclass(frozen=True)
class EntryReport:
    """One entry.

    Attributes:
        key: Its key.
        head: What the record says of itself.
        sample: The sample; None for a candidate that the generator could not make.
        shards: Folders that hold it, the first is the one that is read; `"."` is the cache's own.
        time_ms: When it was put, in milliseconds since 1970.
        verdicts: What filters said of it, each on what the one before left.
    """

    key: bytes
    head: EntryHead
    sample: Sample | None
    shards: tuple[str, ...]
    time_ms: int | None
    verdicts: tuple[VerdictHead, ...]

    @property
    def class_counts(self) -> dict[int, int]:
        """Class id to number of instances, or of pixels in a mask."""
        target = None if self.sample is None else self.sample.target
        match target:
            case ClassLabel(class_id=class_id):
                return {class_id: 1}
            case Instances(class_ids=class_ids):
                return dict(sorted(Counter(class_ids.tolist()).items()))
            case SemanticMask(mask=mask):
                ids, counts = np.unique(mask, return_counts=True)
                return dict(zip(ids.tolist(), counts.tolist(), strict=True))
        return {}

    @property
    def edited_share(self) -> float | None:
        """Share of the pixels that were generated; None where it is the whole image."""
        origin = None if self.sample is None else self.sample.origin
        return None if origin is None or origin.edited is None else float(origin.edited.mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        head, origin = self.head, self.head.origin
        names = {} if origin is None else origin.class_names
        size_hw = head.image.get("size_hw")
        return {
            "key": self.key.hex(),
            "kind": head.kind,
            "reason": head.reason,
            "num_bytes": head.num_bytes,
            "time": None if self.time_ms is None else format_time(self.time_ms),
            "shards": list(self.shards),
            "codec": name_codec(head) if head.image else None,
            "size_hw": None if size_hw is None else list(size_hw),
            "target": head.target,
            "has_masks": head.has_masks,
            "classes": [
                {"id": class_id, "name": names.get(class_id), "count": count}
                for class_id, count in self.class_counts.items()
            ],
            "origin": None if origin is None else _list_origin(origin),
            "edited_share": self.edited_share,
            "metadata": {name: _plain(value) for name, value in head.metadata.items()},
            "maps": list(head.maps),
            "fields": list(head.fields),
            "unstored": list(head.unstored),
            "verdicts": [
                {
                    "filters": each.filters,
                    "accepted": each.accepted,
                    "score": each.score,
                    "reason": each.reason,
                    "changes": list(each.changes),
                }
                for each in self.verdicts
            ],
        }


def find_keys(cache: LMDBCache, prefix: str, /, *, limit: int = 20) -> list[bytes]:
    """Keys of entries that begin so, in their order, at most `limit`.

    Args:
        cache: The cache.
        prefix: The first digits of the key in hexadecimal.
        limit: Most keys that are listed.

    Raises:
        ValueError: The prefix is not hexadecimal.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, LMDBCache(folder) as cache:
        ...     cache.put_many((key, Rejected("no donor")) for key in (b"ab", b"ac", b"b"))
        ...     find_keys(cache, "616"), find_keys(cache, "6162")
        ([b'ab', b'ac'], [b'ab'])
    """
    text = prefix.lower()
    try:
        whole = bytes.fromhex(text[: len(text) // 2 * 2])
        if len(text) % 2:
            int(text[-1], 16)
    except ValueError:
        reject("key", "be digits and letters a to f", prefix, "Keys are written in hexadecimal.")
    found: set[bytes] = set()
    for lease in cache.leases:
        found.update(itertools.islice(_list_keys(lease, whole, text), limit))
    return sorted(found)[:limit]


def _list_keys(lease: Lease, whole: bytes, text: str) -> Iterator[bytes]:
    """Keys from `whole` on whose digits begin with `text`, which `whole` is the bytes of."""
    if whole and lease.look_up(ENTRIES, whole, len) is not None and not len(text) % 2:
        yield whole
    last = whole
    while True:
        with lease.read() as snapshot:
            keys = [] if snapshot is None else snapshot.list_keys(ENTRIES, after=last, limit=_KEYS_AT_ONCE)
        for key in keys:
            if key.hex().startswith(text):
                yield key
            elif key.hex() > text:
                return
        if not keys:
            return
        last = keys[-1]


def describe_entry(cache: LMDBCache, key: bytes, /) -> EntryReport | None:
    """Everything of one entry, or None where there is none.

    Args:
        cache: The cache.
        key: Key of the entry.

    Raises:
        CacheCorruptError: The bytes are not what was written.
        CacheVersionError: A newer version of synthloader wrote them.
    """
    holders = [lease for lease in cache.leases if lease.look_up(ENTRIES, key, len)]
    entry = cache.get(key)
    if entry is None or not holders:
        return None
    head = _look(holders, key)
    verdicts: dict[str, VerdictHead] = {}
    for lease in cache.leases:
        with lease.read() as snapshot:
            keys = [] if snapshot is None else list_verdict_keys(snapshot, key)
        for each in keys:
            verdict = look_at_verdict(lease, each)
            if verdict is not None:
                verdicts.setdefault(verdict.filters, verdict)
    times = [find_time(lease, key) for lease in holders]
    return EntryReport(
        key=key,
        head=head,
        sample=None if isinstance(entry, Rejected) else entry,
        shards=tuple("." if lease.folder == cache.path else lease.folder.name for lease in holders),
        time_ms=min((each for each in times if each is not None), default=None),
        verdicts=tuple(verdicts[text] for text in sorted(verdicts)),
    )


def _look(holders: list[Lease], key: bytes) -> EntryHead:
    """The head of the first record that can be read, as `LMDBCache.get` reads it."""
    failure: CacheError | None = None
    for lease in holders:
        try:
            if (head := look_at_entry(lease, key)) is not None:
                return head
        except CacheError as error:
            failure = error
    raise failure or CacheError(f"Reading entry {key.hex()}", reason="it has just been taken away")


def _list_origin(origin: Origin) -> dict[str, Any]:
    values = {each.name: getattr(origin, each.name) for each in fields(origin) if each.name != "edited"}
    values["class_names"] = {str(class_id): name for class_id, name in sorted(origin.class_names.items())}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """As JSON has it; what it has not, in words."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
