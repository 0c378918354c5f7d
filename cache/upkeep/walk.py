"""`walk`: every key that some environments hold, once, with those that hold it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from operator import itemgetter

from synthloader.cache.lease import Lease
from synthloader.cache.scan import list_keys

__all__ = ["walk"]


def walk(leases: Sequence[Lease], database: bytes, /) -> Iterator[tuple[bytes, list[Lease]]]:
    """Key, and the environments that hold it in the order of `leases`, for every key of one database in their order.

    No transaction stays open, and what is put or taken away meanwhile may or may not be seen.
    """
    streams = [zip(list_keys(lease, database), itertools.repeat(place)) for place, lease in enumerate(leases)]
    for key, held in itertools.groupby(heapq.merge(*streams), key=itemgetter(0)):
        yield key, [leases[place] for _, place in held]
