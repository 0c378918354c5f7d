"""`MemoryCache`: entries in a dict of this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from synthloader.cache.keys import check_key
from synthloader.cache.record import decode_entry, decode_verdict, encode_entry, encode_verdict
from synthloader.checks import check_count, check_type
from synthloader.errors import CacheFullError
from synthloader.protocols import CacheEntry, Verdict
from synthloader.sample import Sample

__all__ = ["MemoryCache"]


class MemoryCache:
    """Keeps entries in memory, as the bytes that a file would hold: a hit is the same bits as after `LMDBCache`.

    Every process has its own copy: what a loader worker puts is not seen by others and ends with it. Pickling takes
    the content along.

    Args:
        max_size_bytes: Largest total size of entries and verdicts; None: no limit but the machine's.

    Example:
        >>> import numpy as np
        >>> cache = MemoryCache()
        >>> cache.put(b"key", Sample(np.zeros((4, 6, 3), np.uint8)))
        >>> cache.get(b"key").size_hw, cache.get(b"other"), len(cache)
        ((4, 6), None, 1)
    """

    def __init__(self, *, max_size_bytes: int | None = None) -> None:
        self.max_size_bytes = None if max_size_bytes is None else check_count("max_size_bytes", max_size_bytes)
        self._entries: dict[bytes, bytes] = {}
        self._verdicts: dict[tuple[bytes, str], bytes] = {}
        self._size_bytes = 0

    @property
    def persistent(self) -> bool:
        """False: entries end with the process."""
        return False

    @property
    def size_bytes(self) -> int:
        """Total size of entries and verdicts."""
        return self._size_bytes

    def get(self, key: bytes, /) -> CacheEntry | None:
        """The entry with arrays of its own, or None."""
        data = self._entries.get(check_key(key))
        return None if data is None else decode_entry(data, name=f"entry {key.hex()} of {self}")

    def put(self, key: bytes, entry: CacheEntry, /) -> None:
        """Keep an entry; a second one of the same key changes nothing.

        Raises:
            CacheFullError: It does not fit into `max_size_bytes`.
        """
        self.put_many([(key, entry)])

    def put_many(self, items: Iterable[tuple[bytes, CacheEntry]], /) -> None:
        """Keep several entries: all of them, or none where they do not fit.

        Raises:
            CacheFullError: They do not fit into `max_size_bytes`.
        """
        self.put_encoded([(key, self.encode(entry)) for key, entry in items])

    def encode(self, entry: CacheEntry, /) -> bytes:
        """The record of an entry; images are kept as they are."""
        return encode_entry(entry, codec="raw")

    def encode_verdict(self, verdict: Verdict, filters: str, /, *, of: Sample) -> bytes:
        """The record of a verdict."""
        return encode_verdict(verdict, filters, of=of, codec="raw")

    def decode(self, record: bytes, /) -> CacheEntry:
        """The entry of a record: what `get` gives back once it was put."""
        return decode_entry(record)

    def put_encoded(
        self, entries: Iterable[tuple[bytes, bytes]], verdicts: Iterable[tuple[bytes, str, bytes]] = (), /
    ) -> None:
        """Keep records of `encode` and `encode_verdict`: all of them, or none where they do not fit.

        Args:
            entries: Keys and records.
            verdicts: Keys, fingerprints of filters, and records.

        Raises:
            CacheFullError: They do not fit into `max_size_bytes`.
        """
        records = {check_key(key): record for key, record in entries}
        judged = {}
        for key, filters, record in verdicts:
            check_type("filters", filters, str)
            judged[check_key(key), filters] = record
        new = {key: record for key, record in records.items() if key not in self._entries}
        new_judged = {name: record for name, record in judged.items() if name not in self._verdicts}
        self._take_room(sum(map(len, new.values())) + sum(map(len, new_judged.values())))
        self._entries.update(new)
        self._verdicts.update(new_judged)

    def recode(self, entry: CacheEntry, /) -> CacheEntry:
        """What `get` would give back after `put`, without keeping it."""
        return self.decode(self.encode(entry))

    def get_verdict(self, key: bytes, filters: str, /, *, of: Sample) -> Verdict | None:
        """The verdict on entry `key` under this fingerprint of filters, or None."""
        check_type("filters", filters, str)
        data = self._verdicts.get((check_key(key), filters))
        return None if data is None else decode_verdict(data, of=of, name=f"a verdict on entry {key.hex()} of {self}")

    def put_verdict(self, key: bytes, filters: str, verdict: Verdict, /, *, of: Sample) -> None:
        """Keep a verdict; a second one of the same key and filters changes nothing.

        Raises:
            CacheFullError: It does not fit into `max_size_bytes`.
        """
        self.put_verdicts([(key, filters, verdict, of)])

    def put_verdicts(self, items: Iterable[tuple[bytes, str, Verdict, Sample]], /) -> None:
        """Keep several verdicts: all of them, or none where they do not fit.

        Args:
            items: For each its key, fingerprint of filters, verdict, and the sample that was judged.

        Raises:
            CacheFullError: They do not fit into `max_size_bytes`.
        """
        self.put_encoded(
            [], [(key, filters, self.encode_verdict(verdict, filters, of=of)) for key, filters, verdict, of in items]
        )

    def _take_room(self, size_bytes: int) -> None:
        limit = self.max_size_bytes
        if limit is not None and self._size_bytes + size_bytes > limit:
            raise CacheFullError(
                f"Writing to {self}",
                reason=f"{size_bytes} bytes are to be added to {self._size_bytes}",
                hint="raise max_size_bytes, or use LMDBCache",
            )
        self._size_bytes += size_bytes

    def __contains__(self, key: bytes, /) -> bool:
        """Whether there is an entry of this key."""
        return check_key(key) in self._entries

    def __iter__(self) -> Iterator[bytes]:
        """The keys of all entries, in their order."""
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def __repr__(self) -> str:
        return f"MemoryCache(max_size_bytes={self.max_size_bytes})"

    def close(self) -> None:
        """Nothing is open; the entries stay."""
