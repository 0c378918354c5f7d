"""Counts that survive worker processes: one row of shared memory for each process, one table of names for all.

The main process reads the sum of all rows. A row is written by one process only, so counting takes no lock and nothing
is counted twice; only to claim a row, or to enter a new name, do processes wait for each other.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch

if sys.platform != "win32":
    import fcntl

__all__ = ["Tally"]

_NUM_ROWS = 65  # the main process and 64 others; further ones share rows, and may lose counts to each other
_NUM_NAMES = 1024
_NAME_BYTES = 256
_OWNER, _FETCH_EPOCH, _FETCHED, _LARGEST_BATCH, _NUM_HEADS = 0, 1, 2, 3, 4
_OTHER = "other"


class Tally:
    """Named counters and the current epoch, shared with forked and spawned copies of this object.

    A plain pickle (not one made for another process) takes the counts along by value. A process that is no loader's
    worker, and reads or sets the epoch, is a main process of its own from then on: so are the ranks that
    `torch.multiprocessing.spawn` starts, each of which reports what it fetched itself.

    Example:
        >>> tally = Tally()
        >>> tally.add("real")
        >>> tally.add("real", 2)
        >>> tally.read()["real"]
        3
    """

    def __init__(self) -> None:
        self._epoch = _share(np.zeros(1, np.int64))
        self._counts = _share(np.zeros((_NUM_ROWS, _NUM_HEADS + _NUM_NAMES), np.int64))
        self._names = _share(np.zeros((_NUM_NAMES, _NAME_BYTES), np.uint8))
        self._home = os.getpid()
        self._attach()

    @property
    def epoch(self) -> int:
        """The epoch that was set last, in whichever process."""
        return int(self._epoch_view[0])

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._becomes_main()
        self._epoch_view[0] = value

    def add(self, name: str, amount: int = 1, /) -> None:
        """Count `amount` more of `name` in this process's row."""
        if self._pid != os.getpid():
            self._claim_row()
        column = self._columns.get(name)
        if column is None:
            column = self._enter_name(name)
        self._row[column] += amount

    def add_fetch(self, epoch: int, /) -> int:
        """Count one more position of this epoch that was fetched in this process; gives how many it were."""
        if self._pid != os.getpid():
            self._claim_row()
        row = self._row
        if row[_FETCH_EPOCH] != epoch:
            row[_FETCH_EPOCH] = epoch
            row[_FETCHED] = 0
        row[_FETCHED] += 1
        return row[_FETCHED]

    def note_batch(self, size: int, /) -> None:
        """Remember the largest batch that this process fetched: by so much may ranks pad an epoch."""
        if self._pid != os.getpid():
            self._claim_row()
        if size > self._row[_LARGEST_BATCH]:
            self._row[_LARGEST_BATCH] = size

    @property
    def largest_batch(self) -> int:
        """The largest batch that any process fetched; 0 where only single items were."""
        return int(self._count_view[:, _LARGEST_BATCH].max())

    def count_fetched(self, epoch: int, /) -> int:
        """How many positions of this epoch were fetched, by all processes."""
        self._becomes_main()
        return _sum_fetched(self._count_view, epoch)

    def read(self) -> Counter[str]:
        """The sum of all processes' counts."""
        self._becomes_main()
        totals = self._count_view[:, _NUM_HEADS:].sum(axis=0)
        counts: Counter[str] = Counter()
        for column in np.flatnonzero(totals).tolist():
            counts[_decode(self._name_view[column]) or _OTHER] += int(totals[column])
        return counts

    def _attach(self) -> None:
        self._epoch_view = self._epoch.numpy()
        self._count_view = self._counts.numpy()
        self._name_view = self._names.numpy()
        self._pid = -1
        self._columns: dict[str, int] = {}
        self._known: dict[bytes, int] = {}
        self._row = memoryview(self._count_view[0])  # a third of the time of numpy's own item access

    def _claim_row(self) -> None:
        """Row 0 is the main process's; another takes its worker's number, or the next whose owner is gone."""
        pid = os.getpid()
        at = 0
        if pid != self._home:
            worker = torch.utils.data.get_worker_info()
            first = 0 if worker is None else worker.id
            places = [1 + (first + step) % (_NUM_ROWS - 1) for step in range(_NUM_ROWS - 1)]
            with _take_turns():
                owners = self._count_view[:, _OWNER].tolist()
                free = (place for place in places if owners[place] in (0, pid) or not _is_alive(owners[place]))
                at = next(free, places[0])
                self._count_view[at, _OWNER] = pid
        self._row = memoryview(self._count_view[at])
        self._pid = pid

    def _becomes_main(self) -> bool:
        """Part from the process that made this object, with one's own counts and an epoch that no other rank sets.

        Not in that process itself, nor in loaders' workers.
        """
        pid = os.getpid()
        if pid == self._home or torch.utils.data.get_worker_info() is not None:
            return False
        counts = np.zeros_like(self._count_view)
        if self._pid == pid:
            counts[0] = self._row
            self._row[:] = memoryview(np.zeros_like(counts[0]))
        self._counts, self._names = _share(counts), _share(self._name_view)
        self._epoch = _share(self._epoch_view)
        self._home = pid
        self._attach()
        return True

    def _enter_name(self, name: str) -> int:
        """The column of a name that is new to this process; the last column takes what no room is left for."""
        encoded = _encode(name)
        with _take_turns():
            while len(self._known) < _NUM_NAMES - 1 and (
                known := bytes(self._name_view[len(self._known)]).rstrip(b"\0")
            ):
                self._known[known] = len(self._known)
            column = self._known.get(encoded, len(self._known))
            if column == len(self._known) < _NUM_NAMES - 1:
                self._name_view[column, : len(encoded)] = np.frombuffer(encoded, np.uint8)
                self._known[encoded] = column
        self._columns[name] = _NUM_HEADS + column
        return self._columns[name]

    def __getstate__(self) -> dict[str, Any]:
        """The shared memory itself for other processes; its content for other pickles."""
        return {"epoch": self._epoch, "counts": self._counts, "names": self._names, "home": self._home}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attach to the memory that arrived; where it came by value, its counts are this process's own."""
        self._epoch, self._counts, self._names = state["epoch"], state["counts"], state["names"]
        self._home = state["home"]
        if not self._counts.is_shared():
            self._home = os.getpid()
            rows = self._counts.numpy()
            epoch = int(self._epoch[0])
            totals = np.zeros_like(rows)
            totals[0] = rows.sum(axis=0)
            totals[0, :_NUM_HEADS] = 0, epoch, _sum_fetched(rows, epoch), rows[:, _LARGEST_BATCH].max()
            self._epoch, self._counts, self._names = map(_share, (self._epoch.numpy(), totals, self._names.numpy()))
        self._attach()


def _share(values: np.ndarray) -> torch.Tensor:
    """A copy in shared memory, made without torch's threads: these hang in a forked process that is no loader's."""
    like = torch.from_numpy(values)
    storage = torch.UntypedStorage._new_shared(values.nbytes)
    tensor: torch.Tensor = torch.empty(0, dtype=like.dtype).set_(storage, 0, like.size(), like.stride())
    tensor.numpy()[...] = values
    return tensor


def _sum_fetched(rows: np.ndarray, epoch: int) -> int:
    return int(rows[rows[:, _FETCH_EPOCH] == epoch, _FETCHED].sum())


def _encode(name: str) -> bytes:
    """The bytes of a name; a long one is cut and told from others by a hash."""
    encoded = (name or _OTHER).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace")
    if len(encoded) <= _NAME_BYTES:
        return encoded
    mark = f"…{hashlib.blake2b(encoded, digest_size=8).hexdigest()}".encode()
    return encoded[: _NAME_BYTES - len(mark)].decode("utf-8", "ignore").encode() + mark


def _decode(name: np.ndarray) -> str:
    return bytes(name).rstrip(b"\0").decode("utf-8", "replace")


@contextmanager
def _take_turns() -> Iterator[None]:
    """Let one process, and one thread of it, do this at a time: a lock that needs no object to be passed on.

    Locks of `multiprocessing` cannot be pickled but for a child, and would have to be made before anybody knows whether
    there will be one.
    """
    with ExitStack() as stack:
        if sys.platform != "win32":
            with suppress(OSError):  # Some file systems have no locks.
                file = stack.enter_context(open(__file__, "rb"))
                fcntl.flock(file, fcntl.LOCK_EX)
                # Said, and not left to the end of the file: a fork may have a copy of it meanwhile.
                stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
        yield


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
