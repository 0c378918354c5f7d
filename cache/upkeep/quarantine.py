"""The folder `quarantine`: where the bytes of broken records go when they are taken out, so that nothing is lost."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from synthloader.cache.changes import Change
from synthloader.cache.layout import DISK_FULL, ENTRIES
from synthloader.cache.lease import Lease
from synthloader.errors import CacheError, CacheFullError
from synthloader.keys import hash_content

__all__ = ["FOLDER", "keep_file", "move_out", "name_file", "sync_folder"]

FOLDER = "quarantine"
"""Name of the folder beside `data.mdb`."""

_LONGEST_KEY = 96


def move_out(lease: Lease, database: bytes, key: bytes, data: bytes, /) -> Path | None:
    """Write the bytes of a record to a file, to the disk, and then take the record out of the environment.

    Args:
        lease: Of the environment.
        database: Name of the database.
        key: Key of the record.
        data: Its bytes, as they were found.

    Returns:
        The file; None where the record has changed or gone meanwhile, which is then left as it is.

    Raises:
        CacheLockedError: Another process writes to this environment.
        CacheFullError: The disk is full; the record is then where it was.
    """
    lease.claim()
    if lease.look_up(database, key, lambda view: bytes(view) == data) is not True:
        return None
    file = keep_file(lease.folder / FOLDER, name_file(database, key), data)
    lease.write([Change(database, key, None)])
    return file


def keep_file(folder: Path, name: str, data: bytes, /) -> Path:
    """Write a file that outlives a crash of the machine, beside those of this name that hold something else.

    Raises:
        CacheFullError: The disk is full.
        CacheError: It cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        file = next(file for number in itertools.count() if _holds(file := _number(folder / name, number), data))
        sync_folder(folder)
        sync_folder(folder.parent)
    except OSError as error:
        kind = CacheFullError if error.errno in DISK_FULL else CacheError
        reason, hint = f"{folder / name}: {error.strerror}", "the record is still in the cache"
        raise kind("Taking a record out of the cache", reason=reason, hint=hint) from error
    return file


def name_file(database: bytes, key: bytes, /) -> str:
    """`<key>.entry` or `<key>.verdict`; the key in hexadecimal, cut where no file may have such a name."""
    text = key.hex() if len(key) <= _LONGEST_KEY else f"{key[:64].hex()}-{hash_content(key).hex()}"
    return f"{text}.{'entry' if database == ENTRIES else 'verdict'}"


def _number(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.{number}") if number else file


def _holds(file: Path, data: bytes) -> bool:
    """Write a file that is not there yet; whether it holds these bytes now."""
    try:
        with open(file, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        return True
    except FileExistsError:
        return file.read_bytes() == data
    except OSError:
        file.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path, /) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
