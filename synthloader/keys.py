"""What a generated sample is found by: everything that determined it, hashed into one key."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["KEY_VERSION", "StampBook", "hash_content", "make_fingerprint", "make_key"]

KEY_VERSION = 1
"""Version of the recipe of keys (not of the record format). A new number makes every old entry unreachable."""

_STAMP_LENGTH = 16
_encode_sorted = json.JSONEncoder(sort_keys=True).encode  # json.dumps would make one for every parameter.
_CLOCK_TICK_NS = 20_000_000
"""Longest step of a file system's clock: a file changed as lately as this may change again without another time."""


def make_key(
    *,
    generator: str,
    adapter: str,
    source: str,
    stamp: str,
    pool: str,
    variant: int,
    attempt: int,
    seed: int,
    donors: Sequence[int] = (),
) -> bytes:
    """The 16-byte key of one cache entry.

    Args:
        generator: Fingerprint of the generator, weights included.
        adapter: Fingerprint of the adapter.
        source: Name of the source sample.
        stamp: Hash of the source's file and annotation.
        pool: Identity of the pool where the generator draws from one, else empty.
        variant: Which generated version of the source.
        attempt: Which candidate at this place.
        seed: Seed of the generated dataset.
        donors: The donors that a plan chose, by their position among those of the class; empty where none did.

    Example:
        >>> parts = dict(generator="g", adapter="a", source="s", stamp="t", pool="", variant=0, attempt=0, seed=0)
        >>> make_key(**parts) == make_key(**parts), make_key(**parts) == make_key(**{**parts, "seed": 1})
        (True, False)
    """
    chosen = [list(donors)] if donors else []  # Keys of samples without such a choice are as they always were.
    return hash_content([KEY_VERSION, generator, adapter, source, stamp, pool, variant, attempt, seed, *chosen])


def make_fingerprint(name: str, version: int, /, **parameters: Any) -> str:
    """A fingerprint that a person can read: `CopyPaste/1(min_visible=0.2, num_range=[1, 3])`.

    Args:
        name: Name of the class.
        version: Raised by hand whenever the output for equal parameters changes.
        **parameters: Numbers, strings, None, and lists, tuples and dicts of these.
    """
    listing = ", ".join(f"{key}={_encode_sorted(_plain(value))}" for key, value in sorted(parameters.items()))
    return f"{name}/{version}({listing})"


def hash_content(content: Any) -> bytes:
    """16 bytes that stand for a value made of numbers, strings, bytes, arrays, None, lists and dicts."""
    digest = hashlib.blake2b(digest_size=_STAMP_LENGTH)
    _feed(digest, content)
    return digest.digest()


class StampBook:
    """Hashes of files, remembered by path, size and time of change, so that each file is read once.

    The hash is of the content alone: a copy of the file on another machine has the same stamp.

    Args:
        path: File in which stamps are remembered between runs; None: in this process only. A missing or broken file
            costs time, never a wrong stamp.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._known: dict[str, tuple[int, int, str]] | None = None
        self._new: list[str] = []
        self._lock = threading.Lock()

    def stamp(self, file: str | os.PathLike[str], /) -> str:
        """Hash of the file's content.

        Raises:
            FileNotFoundError: There is no such file.
        """
        name = os.path.abspath(file)
        status = os.stat(name)
        known = self._load()
        found = known.get(name)
        if found is not None and found[:2] == (status.st_size, status.st_mtime_ns):
            return found[2]
        digest = hashlib.blake2b(digest_size=_STAMP_LENGTH)
        with open(name, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        stamp = digest.hexdigest()
        if abs(time.time_ns() - status.st_mtime_ns) < _CLOCK_TICK_NS:
            return stamp
        with self._lock:
            known[name] = (status.st_size, status.st_mtime_ns, stamp)
            self._new.append(json.dumps([name, status.st_size, status.st_mtime_ns, stamp]))
        return stamp

    def save(self) -> None:
        """Append what is new to the file, where there is one and it can be written; the notes only save time."""
        with self._lock:
            if self.path is None or not self._new:
                return
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with open(self.path, "a", encoding="utf-8") as stream:
                    # The line break comes first, so that a line cut short by a kill spoils none that follows.
                    stream.write("".join(f"\n{line}" for line in self._new))
            except OSError:
                return  # a read-only folder: the files are hashed again next time
            self._new.clear()

    def _load(self) -> dict[str, tuple[int, int, str]]:
        if self._known is None:
            known: dict[str, tuple[int, int, str]] = {}
            if self.path is not None and self.path.exists():
                for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                    try:
                        name, size, changed, stamp = json.loads(line)
                        known[name] = (int(size), int(changed), str(stamp))
                    except (ValueError, TypeError, OverflowError, RecursionError):
                        continue  # a line cut short by a kill, or damaged
            self._known = known
        return self._known

    def __getstate__(self) -> dict[str, Any]:
        """Travel to other processes without the lock and without what they can read from the file."""
        return {"path": self.path, "_known": self._known, "_new": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a fresh lock."""
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return hash_content(value).hex()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str | int | float | bool | None):
        return value
    raise TypeError(f"a fingerprint must be made of numbers, strings, lists and dicts, got {type(value).__name__}")


def _feed(digest: Any, value: Any) -> None:
    """Every value with its kind and length first, so that no two different values give the same bytes."""
    if type(value) is str or type(value) is int:  # Nearly all of a key.
        _feed_text(digest, value)
    elif isinstance(value, np.ndarray):
        if value.dtype.hasobject:  # Its bytes are addresses.
            raise TypeError("cannot hash an array of Python objects: only numbers and strings")
        head = f"A{value.dtype.str}{value.shape}:".encode()
        digest.update(head)
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        digest.update(f"D{len(value)}:".encode())
        for key in sorted(value, key=lambda key: (str(key), type(key).__name__)):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"L{len(value)}:".encode())
        for item in value:
            _feed(digest, item)
    elif isinstance(value, bytes):
        digest.update(f"B{len(value)}:".encode() + value)
    elif isinstance(value, np.generic):
        _feed(digest, value.item())
    elif isinstance(value, str | int | float | bool | None):
        _feed_text(digest, value)
    else:
        raise TypeError(f"cannot hash a {type(value).__name__}: only numbers, strings, arrays, lists and dicts")


def _feed_text(digest: Any, value: str | int | float | bool | None) -> None:
    text = f"{type(value).__name__}{value!r}".encode("utf-8", "surrogatepass")
    digest.update(b"S%d:%b" % (len(text), text))
