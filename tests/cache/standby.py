"""A process that stands by for tests: forked before anything is open, so that its calls fork nothing.

A fork closes every environment of this process, and would hide what a test is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lmdb

from synthloader.cache import LMDBCache
from synthloader.cache.layout import ENTRIES, VERDICTS
from synthloader.cache.scan import scan
from synthloader.cache.upkeep.merge import merge
from tests.cache.processes import other_process, receive, send_result
from tests.cache.samples import make_sample

Run = Callable[..., Any]


def _serve(connection: Connection) -> None:
    while (job := connection.recv()) is not None:
        function, arguments = job
        send_result(connection, function, *arguments)


@contextmanager
def standby() -> Iterator[Run]:
    """Give `run(function, *arguments)`: its result in the other process, or the words of its error."""
    with other_process(_serve) as (connection, _):

        def run(function: Callable[..., Any], *arguments: Any) -> Any:
            connection.send((function, arguments))
            return receive(connection)

        yield run
        connection.send(None)


def put(path: Path, *numbers: int, codec: str | None = None, size_hw: tuple[int, int] = (12, 10)) -> None:
    """Put the samples of these numbers in one commit."""
    with LMDBCache(path, codec=codec) as cache:
        cache.put_many((b"%d" % number, make_sample(number, size_hw=size_hw)) for number in numbers)


def put_big(path: Path, number: int) -> None:
    """Put a sample of this number of three megabytes."""
    put(path, number, size_hw=(1000, 1000))


def put_into_shard(path: Path, name: str | None, *numbers: int) -> str:
    """Put samples into a shard and give its name."""
    with LMDBCache(path) as cache, cache.open_shard(name) as shard:
        shard.put_many((b"%d" % number, make_sample(number)) for number in numbers)
        return shard.path.name


def merge_shards(path: Path) -> int:
    """Fold the shards of a cache; how many there were."""
    with LMDBCache(path) as cache:
        return merge(cache).num_shards


def delete(path: Path, *numbers: int) -> int:
    """Delete the samples of these numbers."""
    with LMDBCache(path) as cache:
        return cache.delete(b"%d" % number for number in numbers)


def churn(path: Path, turns: int) -> None:
    """Put and delete, so that every page that may be used again is."""
    with LMDBCache(path) as cache:
        for number in range(turns):
            cache.put(b"churn", make_sample(number, size_hw=(60, 60)))
            cache.delete([b"churn"])


def list_records(path: Path) -> dict[tuple[bytes, bytes], bytes]:
    """The bytes of all entries and verdicts in the folder itself, without its shards."""
    with LMDBCache(path) as cache:
        lease = cache.leases[0]
        return {(name, key): data for name in (ENTRIES, VERDICTS) for key, data in scan(lease, name, bytes)}


def change_record(path: Path, database: bytes | None, key: bytes, change: Callable[[bytes], bytes]) -> None:
    """Replace the bytes of a record, past the cache."""
    with lmdb.open(str(path), max_dbs=8) as raw:
        opened = raw.open_db(database, create=False) if database else None
        with raw.begin(write=True) as transaction:
            value = transaction.get(key, db=opened)
            assert value is not None
            transaction.put(key, change(bytes(value)), db=opened)
