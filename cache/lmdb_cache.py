"""`LMDBCache`: entries in a folder, for many readers and one writer, with shards for writers of their own."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from synthloader.cache.changes import Change
from synthloader.cache.codecs import CODECS, DEFAULT_CODEC
from synthloader.cache.keys import check_key, list_verdict_keys, make_verdict_key
from synthloader.cache.layout import ENTRIES, OWN_FILES, SHARD_MARK, VERDICTS, refuse_caches_of_their_own, refuse_others
from synthloader.cache.lease import Lease
from synthloader.cache.record import decode_entry, decode_verdict, encode_entry, encode_verdict
from synthloader.cache.scan import list_keys
from synthloader.cache.shards import ShardList
from synthloader.checks import check_choice, check_int, check_type, reject
from synthloader.errors import CacheCorruptError, CacheError, CacheLockedError
from synthloader.protocols import CacheEntry, Verdict
from synthloader.sample import Sample

__all__ = ["LMDBCache", "open_cache"]

_LOGGER = logging.getLogger("synthloader.cache")
_MOST_SHARDS = 10_000


class LMDBCache:
    """Keeps entries in a folder, where they outlive the process.

    What `put` has returned from survives a kill of the process at any moment. Processes and threads may read while one
    process writes; others write to shards of their own, which are read with the rest (`open_shard`). Forked workers,
    and those that a cache is pickled to, open the folder for themselves. Nothing is opened before it is needed.

    Args:
        path: A folder, made with its parents at the first `put`; or one that holds folders of other caches, which are
            then its shards.
        map_size_bytes: Room that the file has at first. It grows by itself, up to the disk's.
        codec: How images are stored: `"raw"` and `"zstd"` give back the very pixels, `"jpeg"` and `"jpeg-444"` change
            them, and a network can tell such images from real ones. None: as the cache does already, and a new one by
            `"zstd"`. `docs/cache-format.md` says what each costs.
        readonly: Refuse to write; the folder may then lie on read-only media.
        on_corrupt: What a broken record does: `"error"` raises, `"regenerate"` warns and counts as missing, so that it
            is generated again and replaced.

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
        codec: str | None = None,
        readonly: bool = False,
        on_corrupt: str = "error",
    ) -> None:
        check_type("path", path, (str, os.PathLike))
        check_type("readonly", readonly, bool)
        self.path = Path(os.path.abspath(path))
        self.map_size_bytes = check_int("map_size_bytes", map_size_bytes, minimum=1 << 16)
        self.codec = None if codec is None else check_choice("codec", codec, CODECS)
        self.readonly = readonly
        self.on_corrupt = check_choice("on_corrupt", on_corrupt, ["error", "regenerate"])
        self._is_shard = False
        self._shards = self._make_shards()
        _check_folder(self.path, readonly=readonly)

    @property
    def persistent(self) -> bool:
        """True: entries outlive the process."""
        return True

    @property
    def stamps_path(self) -> Path:
        """File beside the entries in which the stamps of source files are remembered (`synthloader.keys.StampBook`)."""
        return self.path / "stamps.jsonl"

    @property
    def leases(self) -> tuple[Lease, ...]:
        """What the environments of the folder and of its shards are read by, for those who look after caches."""
        self._shards.refresh()
        return self._shards.leases

    def get(self, key: bytes, /) -> CacheEntry | None:
        """The entry with arrays of its own, or None.

        Raises:
            CacheCorruptError: The bytes are not what was written.
            CacheVersionError: A newer version of synthloader wrote them.
        """
        check_key(key)
        broken: CacheCorruptError | None = None
        for lease in self._look_through():
            entry = lease.look_up(ENTRIES, key, _decode_or_copy)
            if type(entry) is bytes:  # Worded over a copy: no view may live on in an error.
                broken = self._find_broken(entry, f"entry {key.hex()} of the cache {lease.folder}", decode_entry)
            elif entry is not None:
                return entry  # type: ignore[return-value]
        self._say_broken(broken)
        return None

    @contextmanager
    def view(self, key: bytes, /) -> Iterator[CacheEntry | None]:
        """The entry with views of the file instead of arrays of its own, for the block only; or None.

        Nothing in it can be written to, and raw pixels are not copied. Afterwards the memory belongs to others: **an
        array that is used behind the block reads other data or ends the interpreter**, so copy what is to stay. While
        the block lasts, this thread can neither write nor close a cache, and other threads wait with it.

        Raises:
            CacheCorruptError: The bytes are not what was written.
            CacheVersionError: A newer version of synthloader wrote them.

        Example:
            >>> import numpy as np
            >>> with tempfile.TemporaryDirectory() as folder, LMDBCache(folder, codec="raw") as cache:
            ...     cache.put(b"key", Sample(np.full((4, 6, 3), 7, np.uint8)))
            ...     with cache.view(b"key") as sample:
            ...         print(sample.image.mean(), sample.image.flags.writeable)
            7.0 False
        """
        check_key(key)
        for lease in self._look_through():
            name = f"entry {key.hex()} of the cache {lease.folder}"
            broken: bytes | None = None
            with lease.read() as snapshot:
                data = None if snapshot is None else snapshot.get(ENTRIES, key)
                if data is None:
                    continue
                try:
                    entry: CacheEntry | None = decode_entry(data, view=True)
                except CacheError:
                    broken = bytes(data)
                else:
                    try:
                        yield entry
                        return
                    finally:
                        entry = data = None
            if broken is not None:
                self._find_broken(broken, name, decode_entry)
        yield None

    def put(self, key: bytes, entry: CacheEntry, /) -> None:
        """Keep an entry; a second one of the same key changes nothing, unless the first is broken.

        From the first `put` to `close`, no other process can write to this folder.

        Raises:
            CacheFullError: The disk is full; what was put before is kept.
            CacheLockedError: Another process writes.
            CacheError: The cache is read-only, or the folder holds other things.
        """
        self.put_many([(key, entry)])

    def put_many(self, items: Iterable[tuple[bytes, CacheEntry]], /) -> None:
        """Keep several entries at the price of one commit: all of them, or none where an error is raised.

        Raises:
            CacheFullError, CacheLockedError, CacheError: As `put`.
        """
        self.put_encoded([(key, self.encode(entry)) for key, entry in items])

    def encode(self, entry: CacheEntry, /) -> bytes:
        """The record of an entry. Encoding takes most of the time of `put`, and any process may do it."""
        return encode_entry(entry, codec=self._settle_codec())

    def encode_verdict(self, verdict: Verdict, filters: str, /, *, of: Sample) -> bytes:
        """The record of a verdict."""
        return encode_verdict(verdict, filters, of=of, codec=self._settle_codec())

    def decode(self, record: bytes, /) -> CacheEntry:
        """The entry of a record: what `get` gives back once it was put."""
        return decode_entry(record)

    def put_encoded(
        self, entries: Iterable[tuple[bytes, bytes]], verdicts: Iterable[tuple[bytes, str, bytes]] = (), /
    ) -> None:
        """Keep records of `encode` and `encode_verdict` in one commit: all of them, or none where an error is raised.

        Args:
            entries: Keys and records.
            verdicts: Keys, fingerprints of filters, and records.

        Raises:
            CacheFullError, CacheLockedError, CacheError: As `put`.
        """
        changes = [Change(ENTRIES, check_key(key), record) for key, record in entries]
        changes += [Change(VERDICTS, make_verdict_key(key, filters), record) for key, filters, record in verdicts]
        self._refuse_readonly()
        if changes:
            self._shards.main.write(changes)

    def recode(self, entry: CacheEntry, /) -> CacheEntry:
        """What `get` would give back after `put`, without keeping it."""
        return self.decode(self.encode(entry))

    def get_verdict(self, key: bytes, filters: str, /, *, of: Sample) -> Verdict | None:
        """The verdict on entry `key` under this fingerprint of filters, or None.

        Raises:
            CacheCorruptError: The bytes are not what was written.
            CacheVersionError: A newer version of synthloader wrote them.
        """
        verdict_key = make_verdict_key(key, filters)
        broken: CacheCorruptError | None = None
        for lease in self._look_through():
            data = lease.look_up(VERDICTS, verdict_key, bytes)
            if data is None:
                continue
            name = f"a verdict on entry {key.hex()} of the cache {lease.folder}"
            try:
                return decode_verdict(data, of=of, name=name)
            except CacheCorruptError:
                broken = self._find_broken(data, name, partial(decode_verdict, of=of))
        self._say_broken(broken)
        return None

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
        records = []
        for key, filters, verdict, of in items:
            make_verdict_key(key, filters)  # Refused before anything is encoded.
            records.append((key, filters, self.encode_verdict(verdict, filters, of=of)))
        self.put_encoded([], records)

    def delete(self, keys: Iterable[bytes], /) -> int:
        """Take entries away, with their verdicts, from the folder and its shards; how many there were.

        Raises:
            CacheLockedError: Another process writes to the folder or to a shard that has one of them.
            CacheError: The cache is read-only.
        """
        wanted = [check_key(key) for key in keys]
        self._refuse_readonly()
        deleted = set()
        for lease in self.leases:
            changes: list[Change] = []
            with lease.read() as snapshot:
                for key in wanted:
                    if snapshot is None:
                        break
                    if snapshot.get(ENTRIES, key) is not None:
                        deleted.add(key)
                        changes.append(Change(ENTRIES, key, None))
                    changes += [Change(VERDICTS, each, None) for each in list_verdict_keys(snapshot, key)]
            if changes:
                if lease is not self._shards.main:
                    what = f"Deleting from the cache {self.path}"
                    refuse_caches_of_their_own(what, [lease.folder], hint="open that one and delete there")
                lease.write(changes)
        return len(deleted)

    def open_shard(self, name: str | None = None, /) -> LMDBCache:
        """A cache in a folder of this one, that this process alone writes to and that is read with the rest.

        It is locked at once, until it is closed or the process ends.

        Args:
            name: Of the folder; None: the first of this machine's shards that nobody writes to.

        Raises:
            CacheLockedError: Another process writes to the shard of this name.
            CacheError: The folder cannot be written.
        """
        if name is not None and (not re.fullmatch(r"[\w.-]+", name) or name.startswith(".")):
            reject("name", "be letters, digits, dots, dashes and underscores", name)
        if name in OWN_FILES:
            reject("name", "be none that a cache's folder has already", name, "Call it part-1, say.")
        if self._is_shard:
            raise CacheError(
                f"Opening a shard of the cache {self.path}",
                reason="it is a shard itself",
                hint="open one of the cache that it belongs to",
            )
        self._refuse_readonly()
        host = re.sub(r"[^\w-]", "-", socket.gethostname())
        for number in range(_MOST_SHARDS):
            try:
                shard = LMDBCache(
                    self.path / (name or f"shard-{host}-{number:03}"),
                    map_size_bytes=self.map_size_bytes,
                    codec=self._settle_codec(),
                    readonly=self.readonly,
                    on_corrupt=self.on_corrupt,
                )
                shard._shards.main.claim(mark=SHARD_MARK)
                return shard
            except CacheError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    continue  # A merge has just taken its folder away.
                if name is not None or not isinstance(error, CacheLockedError):
                    raise
        raise CacheError(f"Opening a shard of the cache {self.path}", reason=f"{_MOST_SHARDS} are in use", hint="")

    def flush(self) -> None:
        """Bring what was put to the disk, where a crash of the machine cannot undo it.

        A kill of the process cannot undo what `put` has returned from in any case.
        """
        self._shards.main.sync()

    def __contains__(self, key: bytes, /) -> bool:
        """Whether there is an entry of this key."""
        check_key(key)
        return any(lease.look_up(ENTRIES, key, _say_yes) for lease in self._look_through())

    def __iter__(self) -> Iterator[bytes]:
        """The keys of all entries, in their order; those put meanwhile may be among them."""
        keys = heapq.merge(*(list_keys(lease, ENTRIES) for lease in self.leases))
        for key, _ in itertools.groupby(keys):  # A generator of its own, so that the cache lives as long as this.
            yield key

    def __len__(self) -> int:
        """Number of entries. Where there are shards, all keys are read for it."""
        if len(self.leases) > 1:
            return sum(1 for _ in self)
        with self._shards.main.read() as snapshot:
            return 0 if snapshot is None else snapshot.count(ENTRIES)

    def close(self) -> None:
        """Close the files and let other processes write; the next use opens them again."""
        self._shards.release()

    def __enter__(self) -> LMDBCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LMDBCache({str(self.path)!r}{', readonly=True' if self.readonly else ''})"

    def __getstate__(self) -> dict[str, Any]:
        """Travel as path and options."""
        return {name: value for name, value in self.__dict__.items() if name != "_shards"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive with nothing open."""
        self.__dict__.update(state)
        self._shards = self._make_shards()

    def _make_shards(self) -> ShardList:
        size = self.map_size_bytes
        main = Lease(self.path, map_size_bytes=size, owner=self, codec=self.codec)
        return ShardList(self.path, main, lambda folder: Lease(folder, map_size_bytes=size, owner=main))

    def _look_through(self) -> Iterator[Lease]:
        """The environments; and where there are shards, once more those that there are now.

        Then the shards come first: a merge brings their records into the folder before it takes them away, so that
        whoever looks in this order always finds them in one or the other.
        """
        seen = self._shards.leases
        yield from seen
        self._shards.refresh()
        if self._shards.leases is not seen or len(seen) > 1:
            yield from reversed(self._shards.leases)

    def _refuse_readonly(self) -> None:
        if self.readonly:
            raise CacheError(
                f"Writing to the cache {self.path}",
                reason="it was opened with readonly=True",
                hint="open it without, or choose another folder",
            )

    def _settle_codec(self) -> str:
        """How images are stored from now on: as was asked, as the folder or its first shard does, or by default."""
        if self.codec is None:
            found = (lease.find_codec() for lease in self.leases)  # A folder of shards has them of one codec.
            self.codec = self._shards.main.codec = next((codec for codec in found if codec), DEFAULT_CODEC)
        return self.codec

    def _find_broken(self, data: bytes, name: str, decode: Callable[..., object]) -> CacheCorruptError:
        """Why a record cannot be read: raised, unless it shall be made again."""
        try:
            decode(data, name=name)
        except CacheCorruptError as error:
            if self.on_corrupt == "error":
                raise
            return error
        raise CacheCorruptError(f"Reading {name}", reason="it was broken a moment ago", hint="try again")

    def _say_broken(self, broken: CacheCorruptError | None) -> None:
        """Log that a record counts as missing, where no shard has an intact one."""
        if broken is not None:
            _LOGGER.warning("generated anew: %s: %s", broken.what, broken.reason)


def open_cache(path: str | os.PathLike[str], **options: Any) -> LMDBCache:
    """Open the cache that lies in a folder, or a folder of shards, or a new one.

    Args:
        path: The folder.
        **options: Those of `LMDBCache`.

    Example:
        >>> cache = open_cache("cache/train", readonly=True)  # doctest: +SKIP
    """
    return LMDBCache(path, **options)


def _decode_or_copy(view: memoryview) -> CacheEntry | bytes:
    try:
        return decode_entry(view)
    except CacheError:
        return bytes(view)


def _say_yes(view: memoryview) -> bool:
    return True


def _check_folder(path: Path, *, readonly: bool) -> None:
    """Say at once what the first `put` or `get` would say, without leaving a trace."""
    what = f"Opening the cache {path}"
    if readonly:
        if not path.is_dir():
            raise CacheError(what, reason="there is no such folder", hint="fill it first, or correct the path")
        return
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    if not nearest.is_dir() and nearest.exists():  # A shard's folder may have gone since.
        raise CacheError(what, reason=f"{nearest} is a file", hint="choose a folder")
    if nearest == path:
        refuse_others(what, path)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise CacheError(
            what,
            reason=f"{nearest} cannot be written: {error.strerror}",
            hint="choose another folder, or pass readonly=True to read what is there",
        ) from error
