"""`make_card`, `save_card`: count what is inside of a cache, from the heads of its records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from synthloader.cache.layout import DISK_FULL, ENTRIES, VERDICTS
from synthloader.cache.lease import Lease
from synthloader.cache.lmdb_cache import LMDBCache
from synthloader.cache.record_head import EntryHead, look_at_entry, look_at_verdict
from synthloader.cache.scan import find_time
from synthloader.cache.upkeep.card import CacheCard, ClassCount, GeneratorCount, VerdictCount
from synthloader.cache.upkeep.notes import replace_file
from synthloader.cache.upkeep.walk import walk
from synthloader.errors import CacheError, CacheFullError

__all__ = ["make_card", "name_codec", "save_card", "write_card"]


def make_card(cache: LMDBCache, /, *, progress: Callable[[int, int], None] | None = None) -> CacheCard:
    """Look at every record of a cache, without its pixels: a few seconds for a hundred thousand.

    Another process may write meanwhile. Records that cannot be read are counted, and do not stop it.

    Args:
        cache: The cache.
        progress: Called with the number of records looked at and of all.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from synthloader.sample import Origin, Sample
        >>> with tempfile.TemporaryDirectory() as folder, LMDBCache(folder) as cache:
        ...     cache.put(b"key", Sample(np.zeros((4, 6, 3), np.uint8), origin=Origin(model="sd", license="CC0")))
        ...     card = make_card(cache)
        >>> card.num_samples, card.licenses, card.models
        (1, Counter({'CC0': 1}), Counter({('sd', ''): 1}))
    """
    return _Counting(cache, progress).run()


def write_card(cache: LMDBCache, /) -> CacheCard:
    """Make the card, and write `card.json` and `card.md` into the cache's folder.

    Raises:
        CacheFullError, CacheError: They cannot be written.
    """
    card = make_card(cache)
    save_card(card)
    return card


def save_card(card: CacheCard, /) -> list[Path]:
    """Write `card.json` and `card.md` into the cache's folder, each whole or not at all; the files.

    Raises:
        CacheFullError, CacheError: They cannot be written.
    """
    files = [card.path / "card.json", card.path / "card.md"]
    try:
        for file, content in zip(files, (json.dumps(card.to_dict(), indent=1) + "\n", card.to_markdown()), strict=True):
            replace_file(file, content)
    except OSError as error:
        kind = CacheFullError if error.errno in DISK_FULL else CacheError
        what = f"Writing the card of the cache {card.path}"
        raise kind(what, reason=str(error.strerror), hint="check the folder and its permissions") from error
    return files


class _Counting:
    """One look at a cache."""

    def __init__(self, cache: LMDBCache, progress: Callable[[int, int], None] | None) -> None:
        self._card = CacheCard(cache.path)
        self._leases = [lease for lease in cache.leases if self._count(lease)]
        self._progress = progress
        self._sources: set[str] = set()
        self._drawn: set[str] = set()
        self._done = self._total = 0

    def run(self) -> CacheCard:
        card = self._card
        for lease in self._leases:
            with lease.read() as snapshot:
                counts = (0, 0) if snapshot is None else (snapshot.count(ENTRIES), snapshot.count(VERDICTS))
            card.shards["." if lease.folder == card.path else lease.folder.name] = counts[0]
            self._total += sum(counts)
            card.file_bytes += (lease.folder / "data.mdb").stat().st_size
        for key, holders in walk(self._leases, ENTRIES):
            head = self._look(look_at_entry, holders, key)
            if head is not None:
                self._add(head)
                self._add_time(find_time(lease, key) for lease in holders)
        for key, holders in walk(self._leases, VERDICTS):
            verdict = self._look(look_at_verdict, holders, key)
            if verdict is not None:
                count = card.verdicts.setdefault(verdict.filters, VerdictCount())
                card.num_bytes += verdict.num_bytes
                count.accepted += verdict.accepted
                if not verdict.accepted:
                    count.reasons[verdict.reason or "no reason given"] += 1
        card.num_sources, card.num_drawn = len(self._sources), len(self._drawn)
        return card

    def _count(self, lease: Lease) -> bool:
        """Whether there is something to read in this environment."""
        try:
            with lease.read() as snapshot:
                return snapshot is not None
        except CacheError as error:
            self._card.unreadable[f"{lease.folder}: {error.reason}"] += 1
            return False

    def _look(self, look: Callable[[Lease, bytes], Any], holders: list[Lease], key: bytes) -> Any:
        """The head of the first record that can be read."""
        self._done += len(holders)
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))
        reason = ""
        for lease in holders:
            try:
                if (head := look(lease, key)) is not None:
                    return head
            except CacheError as error:
                reason = error.reason
        if reason:
            self._card.unreadable[reason] += 1
        return None

    def _add(self, head: EntryHead) -> None:
        card, origin = self._card, head.origin
        card.num_bytes += head.num_bytes
        generator = card.generators.setdefault("" if origin is None else origin.fingerprint, GeneratorCount())
        generator.num_bytes += head.num_bytes
        if origin is not None:
            card.seeds[origin.seed] += 1
            self._sources.add(origin.source)
            self._drawn.update(origin.drawn)
        if head.kind == "rejected":
            card.rejected[head.reason or "no reason given"] += 1
            generator.rejected += 1
            return
        card.num_samples += 1
        generator.samples += 1
        card.codecs[name_codec(head)] += 1
        card.targets[head.target or "none"] += 1
        height, width = head.image["size_hw"]
        card.sizes_hw[height, width] += 1
        for class_id, count in Counter(head.class_ids).items():
            each = card.classes.setdefault(class_id, ClassCount())
            each.samples += 1
            each.instances += count if head.target == "instances" else 0
        if origin is None or not origin.license:
            card.num_unlicensed += 1
        if origin is None:
            return
        for class_id, name in origin.class_names.items():
            card.classes.setdefault(class_id, ClassCount()).names.add(name)
        if origin.license:
            card.licenses[origin.license] += 1
        if origin.model is not None or origin.weights is not None:
            card.models[origin.model or "", origin.weights or ""] += 1
        if origin.prompt is not None:
            card.prompts[origin.prompt] += 1

    def _add_time(self, times: Iterable[int | None]) -> None:
        known = [each for each in times if each is not None]
        if known:
            first, last = self._card.time_range_ms or (min(known), min(known))
            self._card.time_range_ms = min(first, min(known)), max(last, min(known))


def name_codec(head: EntryHead, /) -> str:
    """How the image is stored: `jpeg, quality 95, 4:2:0`."""
    image = head.image
    if image["codec"] != "jpeg":
        return str(image["codec"])
    subsampling = {"420": "4:2:0", "444": "4:4:4", "Gray": "gray"}.get(image["subsampling"], image["subsampling"])
    return f"jpeg, quality {image['quality']}, {subsampling}"
