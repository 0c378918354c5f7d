"""What lies where in a cache's folder, and what is said where something else lies there.

| file | holds |
|---|---|
| `data.mdb`, `lock.mdb` | an LMDB environment: databases `entries`, `verdicts` and `log`, and the entry `meta` |
| `writer.lock` | the operating system's lock of the one process that writes, and its number |
| `readers.lock` | a lock that all share who have the environment open |
| `stamps.jsonl`, `pools.json` | notes of others about sources and pools |
| `card.json`, `card.md` | what is inside, from which models, under which terms |
| `quarantine` | broken records that were taken out |
| any other folder with a `data.mdb` | a shard: such a folder again |

An entry's key is the cache's, a verdict's is the entry's and a hash of the filters' fingerprint. Values are records
(`synthloader.cache.record`); in `log` it is the time of an entry. `meta` is JSON:
`{"application": "synthloader cache", "version": 1, "codec": "zstd"}`.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any, NoReturn

import lmdb

from synthloader.cache.codecs import CODECS
from synthloader.errors import CacheCorruptError, CacheError, CacheFullError, CacheVersionError

__all__ = [
    "DATABASES",
    "DISK_FULL",
    "ENTRIES",
    "LAYOUT_VERSION",
    "LOG",
    "OWN_FILES",
    "SHARD_MARK",
    "VERDICTS",
    "check_length",
    "check_meta",
    "claim_folder",
    "is_made_as_shard",
    "is_shard",
    "refuse",
    "refuse_caches_of_their_own",
    "refuse_others",
]

LAYOUT_VERSION = 1
"""Version of the folder and its databases; records have a version of their own."""

DATABASES = ENTRIES, VERDICTS, LOG = b"entries", b"verdicts", b"log"
"""Names of the databases."""

SHARD_MARK = "shard"
"""An empty file in folders that `open_shard` made: those may be folded into the cache around them, and pruned with it.
Other caches that lie in a cache's folder are read with it, and never changed."""

OWN_FILES = frozenset(
    {
        *("data.mdb", "lock.mdb", "writer.lock", "readers.lock", "stamps.jsonl", "stamps.new", "pools.json"),
        *("pools.new", "card.json", "card.md", "quarantine", "compacted", SHARD_MARK),
    }
)
"""Files that a cache's folder may hold; with others in it, a folder without `data.mdb` is somebody else's."""

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a full disk, a quota or a limit makes of a commit; the last is LMDB's word for a write that was cut short."""

_META = b"meta"
_APPLICATION = "synthloader cache"


def claim_folder(folder: Path, /) -> None:
    """Make the folder, or refuse one that holds other things.

    Raises:
        CacheError: It does, or it cannot be made.
    """
    what = f"Writing to the cache {folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            what, reason=f"{folder}: {error.strerror}", hint="choose a folder that can be written"
        ) from error
    refuse_others(what, folder)


def refuse_others(what: str, folder: Path, /) -> None:
    """Refuse a folder without a cache that holds other things.

    Raises:
        CacheError: It does, or it cannot be read.
    """
    try:
        names = {name for name in os.listdir(folder) if not name.startswith(".") and not _may_be_shard(folder / name)}
    except OSError as error:
        raise CacheError(
            what, reason=f"{folder}: {error.strerror}", hint="choose a folder that can be written"
        ) from error
    if "data.mdb" not in names and (others := names - OWN_FILES):
        reason = f"the folder holds {len(others)} other files, among them {min(others)}"
        raise CacheError(what, reason=reason, hint="choose a new or an empty folder")


def refuse_caches_of_their_own(what: str, folders: Iterable[Path], /, *, hint: str) -> None:
    """Refuse to change caches that lie in the folder of another, and that nobody made as its shards.

    Raises:
        CacheError: There are such.
    """
    names = [folder.name for folder in folders if not is_made_as_shard(folder)]
    if names:
        plural = "are caches of their own" if len(names) > 1 else "is a cache of its own"
        raise CacheError(what, reason=f"{', '.join(names)} in it {plural}", hint=hint)


def is_made_as_shard(folder: Path, /) -> bool:
    """Whether `open_shard` made the folder, or it has nothing but locks."""
    return (folder / SHARD_MARK).exists() or not (folder / "data.mdb").exists()


def is_shard(folder: Path, /) -> bool:
    """Whether it is a folder with an environment of its own, or one that is about to get it."""
    return (folder / "data.mdb").exists() or (folder / "writer.lock").exists()


def _may_be_shard(folder: Path) -> bool:
    """Whether it is a shard, or a folder that another process has just made for one, or is removing."""
    return is_shard(folder) or _is_empty(folder) or is_shard(folder)


def _is_empty(folder: Path) -> bool:
    try:
        return not os.listdir(folder)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def check_length(handle: Any, folder: Path, /) -> None:
    """Refuse a file that was cut off: pages that it lacks would kill the interpreter when they are read.

    Raises:
        CacheCorruptError: It was.
    """
    expected = (handle.info()["last_pgno"] + 1) * handle.stat()["psize"]
    found = os.stat(folder / "data.mdb").st_size
    if found < expected:
        _refuse_corrupt(f"Opening the cache {folder}", f"data.mdb has {found} bytes of {expected}: it was cut off")


def check_meta(handle: Any, folder: Path, /, *, codec: str | None) -> str | None:
    """How the cache in the environment stores images; None where there is no cache yet.

    Args:
        handle: LMDB's.
        folder: The environment's folder.
        codec: That of the cache which is made where there is none; None makes none.

    Raises:
        CacheVersionError: A newer version of synthloader made it.
        CacheCorruptError: Its entry `meta` cannot be read.
        CacheError: It is another program's.
    """
    what = f"Opening the cache {folder}"
    with handle.begin() as transaction:
        data = transaction.get(_META)
        is_empty = transaction.stat()["entries"] == 0
    if data is not None:
        try:
            meta = json.loads(data)
            application, version = str(meta["application"]), int(meta["version"])
            found = str(meta["codec"]) if version <= LAYOUT_VERSION else ""
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            _refuse_corrupt(what, "its entry `meta` is broken", error)
        reason = f"it has format {version} of {application}, and this version of synthloader reads formats up to "
        reason += str(LAYOUT_VERSION)
        if application == _APPLICATION and version <= LAYOUT_VERSION:
            if found in CODECS:
                return found
            reason = f"its images are stored with codec {found!r}, which this version of synthloader does not know"
        raise CacheVersionError(what, reason=reason, hint="update synthloader: pip install -U synthloader")
    if not is_empty:
        reason = "it holds an LMDB database that synthloader did not make"
        raise CacheError(what, reason=reason, hint="choose another folder")
    if codec is not None:
        meta = {"application": _APPLICATION, "version": LAYOUT_VERSION, "codec": codec}
        with handle.begin(write=True) as transaction:
            for name in DATABASES:
                handle.open_db(name, txn=transaction)
            transaction.put(_META, json.dumps(meta).encode())
    return codec


def refuse(what: str, error: Exception, /, *, full_codes: Set[int] = frozenset()) -> NoReturn:
    """Raise the error that LMDB's becomes.

    Args:
        what: What was tried.
        error: What LMDB raised.
        full_codes: Which of the system's error numbers say that the disk is full.
    """
    text = str(error)  # Older versions of the package give no number.
    code = next((code for code in errno.errorcode if text.endswith(os.strerror(code))), 0)
    reason = os.strerror(code) if code else text[max(text.find("MDB_"), 0) :]
    if isinstance(error, lmdb.DiskError) or code in full_codes:
        raise CacheFullError(what, reason=reason, hint="make room and go on: what was put before is kept") from error
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError | lmdb.PanicError):
        _refuse_corrupt(what, reason, error)
    hint = "check the folder and its permissions"
    if "already open in this process" in reason:
        hint = "close() the cache before the process is forked, or start workers with spawn"
    elif isinstance(error, lmdb.ReadersFullError):
        hint = "fewer processes can read at once"
    raise CacheError(what, reason=reason, hint=hint) from error


def _refuse_corrupt(what: str, reason: str, error: Exception | None = None) -> NoReturn:
    hint = "restore data.mdb from a copy, or delete it and fill the cache again"
    raise CacheCorruptError(what, reason=reason, hint=hint) from error
