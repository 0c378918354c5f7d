"""`LMDBCache`: entries in a folder, for many readers and one writer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from synthloader.cache.keys import check_key, make_verdict_key
from synthloader.cache.layout import ENTRIES, VERDICTS
from synthloader.cache.lease import Lease
from synthloader.cache.record import decode_entry, decode_verdict, encode_entry, encode_verdict
from synthloader.checks import check_choice, check_int, check_type
from synthloader.errors import CacheError
from synthloader.protocols import CacheEntry, Verdict
from synthloader.sample import Sample

__all__ = ["LMDBCache", "open_cache"]

_KEYS_AT_ONCE = 1000


class LMDBCache:
    """Keeps entries in a folder, where they outlive the process.

    What `put` has returned from survives a kill of the process at any moment. Processes and threads may read while one
    process writes. Forked workers, and those that a cache is pickled to, open the folder for themselves. Nothing is
    opened before it is needed.

    Args:
        path: A folder, made with its parents at the first `put`.
        map_size_bytes: Room that the file has at first. It grows by itself, up to the disk's.
        codec: How images are stored: `"raw"`, as they are.
        readonly: Refuse to write; the folder may then lie on read-only media.

    Raises:
        CacheError: The path is no folder, or cannot be written.

    Example:
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = LMDBCache(folder)
        ...     cache.put(b"key", Sample(np.zeros((4, 6, 3), np.uint8)))
        ...     print(cache.get(b"key").size_hw, b"other" in cache, len(cache))
        ...     cache.close()
        (4, 6) False 1
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        map_size_bytes: int = 1 << 30,
        codec: str = "raw",
        readonly: bool = False,
    ) -> None:
        check_type("path", path, (str, os.PathLike))
        check_type("readonly", readonly, bool)
        self.path = Path(os.path.abspath(path))
        self.map_size_bytes = check_int("map_size_bytes", map_size_bytes, minimum=1 << 16)
        self.codec = check_choice("codec", codec, ["raw"])
        self.readonly = readonly
        self._lease = Lease(self.path, map_size_bytes=self.map_size_bytes, owner=self)
        _check_folder(self.path, readonly=readonly)

    @property
    def persistent(self) -> bool:
        """True: entries outlive the process."""
        return True

    @property
    def stamps_path(self) -> Path:
        """File beside the entries in which the stamps of source files are remembered (`synthloader.keys.StampBook`)."""
        return self.path / "stamps.jsonl"

    def get(self, key: bytes, /) -> CacheEntry | None:
        """The entry with arrays of its own, or None.

        Raises:
            CacheCorruptError: The bytes are not what was written.
            CacheVersionError: A newer version of synthloader wrote them.
        """
        check_key(key)
        with self._lease.read() as snapshot:
            view = None if snapshot is None else snapshot.get(ENTRIES, key)
            if view is None:
                return None
            try:
                return decode_entry(view)
            except CacheError:
                data = bytes(view)
        # Worded over a copy: an error keeps what it was raised over, and no view may outlive the snapshot.
        return decode_entry(data, name=f"entry {key.hex()} of the cache {self.path}")

    def put(self, key: bytes, entry: CacheEntry, /) -> None:
        """Keep an entry; a second one of the same key changes nothing, unless the first is broken.

        From the first `put` to `close`, no other process can write.

        Raises:
            CacheFullError: The disk is full; what was put before is kept.
            CacheLockedError: Another process writes.
            CacheError: The cache is read-only, or the folder holds other things.
        """
        self.put_many([(key, entry)])

    def put_many(self, items: Iterable[tuple[bytes, CacheEntry]], /) -> None:
        """Keep several entries at the price of one commit: all of them, or none where an error is raised.

        Raises:
            CacheFullError: The disk is full; what was put before is kept.
            CacheLockedError: Another process writes.
            CacheError: The cache is read-only, or the folder holds other things.
        """
        self._write([(ENTRIES, check_key(key), encode_entry(entry)) for key, entry in items])

    def recode(self, entry: CacheEntry, /) -> CacheEntry:
        """What `get` would give back after `put`, without keeping it."""
        return decode_entry(encode_entry(entry))

    def get_verdict(self, key: bytes, filters: str, /, *, of: Sample) -> Verdict | None:
        """The verdict on entry `key` under this fingerprint of filters, or None.

        Raises:
            CacheCorruptError: The bytes are not what was written.
            CacheVersionError: A newer version of synthloader wrote them.
        """
        verdict_key = make_verdict_key(key, filters)
        with self._lease.read() as snapshot:
            view = None if snapshot is None else snapshot.get(VERDICTS, verdict_key)
            if view is None:
                return None
            try:
                return decode_verdict(view, of=of)
            except CacheError:
                data = bytes(view)
        return decode_verdict(data, of=of, name=f"a verdict on entry {key.hex()} of the cache {self.path}")

    def put_verdict(self, key: bytes, filters: str, verdict: Verdict, /, *, of: Sample) -> None:
        """Keep a verdict beside its entry; a second one of the same key and filters changes nothing.

        Raises:
            CacheFullError, CacheLockedError, CacheError: As `put`.
        """
        self.put_verdicts([(key, filters, verdict, of)])

    def put_verdicts(self, items: Iterable[tuple[bytes, str, Verdict, Sample]], /) -> None:
        """Keep several verdicts at the price of one commit.

        Args:
            items: For each its key, fingerprint of filters, verdict, and the sample that was judged.

        Raises:
            CacheFullError, CacheLockedError, CacheError: As `put`.
        """
        self._write(
            [
                (VERDICTS, make_verdict_key(key, filters), encode_verdict(verdict, filters, of=of))
                for key, filters, verdict, of in items
            ]
        )

    def __contains__(self, key: bytes, /) -> bool:
        """Whether there is an entry of this key."""
        check_key(key)
        with self._lease.read() as snapshot:
            return snapshot is not None and snapshot.get(ENTRIES, key) is not None

    def __iter__(self) -> Iterator[bytes]:
        """The keys of all entries, in their order; those put meanwhile may be among them."""
        last = b""
        while True:
            with self._lease.read() as snapshot:
                keys = [] if snapshot is None else snapshot.list_keys(ENTRIES, after=last, limit=_KEYS_AT_ONCE)
            if not keys:
                return
            yield from keys
            last = keys[-1]

    def __len__(self) -> int:
        """Number of entries."""
        with self._lease.read() as snapshot:
            return 0 if snapshot is None else snapshot.count(ENTRIES)

    def close(self) -> None:
        """Close the files and let other processes write; the next use opens them again."""
        self._lease.release()

    def __enter__(self) -> LMDBCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LMDBCache({str(self.path)!r}{', readonly=True' if self.readonly else ''})"

    def __getstate__(self) -> dict[str, Any]:
        """Travel as path and options."""
        return {name: value for name, value in self.__dict__.items() if name != "_lease"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive with nothing open."""
        self.__dict__.update(state)
        self._lease = Lease(self.path, map_size_bytes=self.map_size_bytes, owner=self)

    def _write(self, records: list[tuple[bytes, bytes, bytes]]) -> None:
        if self.readonly:
            raise CacheError(
                f"Writing to the cache {self.path}",
                reason="it was opened with readonly=True",
                hint="open it without, or choose another folder",
            )
        if records:
            self._lease.write(records)


def open_cache(path: str | os.PathLike[str], **options: Any) -> LMDBCache:
    """The cache at a path.

    Args:
        path: Its folder.
        **options: Those of `LMDBCache`.

    Example:
        >>> cache = open_cache("cache/train", readonly=True)  # doctest: +SKIP
    """
    return LMDBCache(path, **options)


def _check_folder(path: Path, *, readonly: bool) -> None:
    """Say at once what the first `put` or `get` would say, without leaving a trace."""
    what = f"Opening the cache {path}"
    if readonly:
        if not path.is_dir():
            raise CacheError(what, reason="there is no such folder", hint="fill it first, or correct the path")
        return
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    if not nearest.is_dir():
        raise CacheError(what, reason=f"{nearest} is a file", hint="choose a folder")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise CacheError(
            what,
            reason=f"{nearest} cannot be written: {error.strerror}",
            hint="choose another folder, or pass readonly=True to read what is there",
        ) from error
