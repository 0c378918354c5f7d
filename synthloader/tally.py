"""Counts that survive worker processes: one row of shared memory for each process, names given on first use.

The main process reads the sum of all rows. A row is written by one process only, so nothing is locked and nothing
is counted twice.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np
import torch

__all__ = ["Tally"]

_NUM_ROWS = 65  # the main process and 64 workers; further ones share the last row
_NUM_NAMES = 1024
_NAME_BYTES = 64
_OWNER, _FETCH_EPOCH, _FETCHED, _NUM_HEADS = 0, 1, 2, 3
_OTHER = "other"


class Tally:
    """Named counters and the current epoch, shared with forked and spawned copies of this object.

    A plain pickle (not one made for a worker process) takes the counts along by value.

    Example:
        >>> tally = Tally()
        >>> tally.add("real")
        >>> tally.add("real", 2)
        >>> tally.read()["real"]
        3
    """

    def __init__(self) -> None:
        self._epoch = _share(torch.zeros(1, dtype=torch.int64))
        self._counts = _share(torch.zeros(_NUM_ROWS, _NUM_HEADS + _NUM_NAMES, dtype=torch.int64))
        self._names = _share(torch.zeros(_NUM_ROWS, _NUM_NAMES, _NAME_BYTES, dtype=torch.uint8))
        self._attach()

    @property
    def epoch(self) -> int:
        """The epoch that was set last, in whichever process."""
        return int(self._epoch_view[0])

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch_view[0] = value

    def add(self, name: str, amount: int = 1, /) -> None:
        """Count `amount` more of `name` in this process's row."""
        if self._pid != os.getpid():
            self._claim_row()
        column = self._columns.get(name)
        if column is None:
            column = self._name_column(name)
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

    def count_fetched(self, epoch: int, /) -> int:
        """How many positions of this epoch were fetched, by all processes."""
        rows = self._count_view
        return int(rows[rows[:, _FETCH_EPOCH] == epoch, _FETCHED].sum())

    def read(self) -> Counter[str]:
        """The sum of all processes' counts."""
        total: Counter[str] = Counter()
        for row, names in zip(self._count_view, self._name_view, strict=True):
            for column in np.flatnonzero(row[_NUM_HEADS:]):
                name = bytes(names[column]).rstrip(b"\0").decode("utf-8", "replace")
                total[name or _OTHER] += int(row[_NUM_HEADS + column])
        return total

    def _attach(self) -> None:
        self._epoch_view = self._epoch.numpy()
        self._count_view = self._counts.numpy()
        self._name_view = self._names.numpy()
        self._pid = -1
        self._columns: dict[str, int] = {}
        self._row = memoryview(self._count_view[0])  # a third of the time of numpy's own item access

    def _claim_row(self) -> None:
        """Row 0 is the main process's; a worker takes its own number's, or the next whose owner is gone."""
        self._pid = os.getpid()
        worker = torch.utils.data.get_worker_info()
        at = 0 if worker is None else 1 + worker.id % (_NUM_ROWS - 1)
        if worker is not None:
            for step in range(_NUM_ROWS - 1):
                candidate = 1 + (at - 1 + step) % (_NUM_ROWS - 1)
                owner = int(self._count_view[candidate, _OWNER])
                if owner in (0, self._pid) or not _is_alive(owner):
                    at = candidate
                    break
        self._row = memoryview(self._count_view[at])
        self._row[_OWNER] = self._pid
        taken = (bytes(name).rstrip(b"\0").decode("utf-8", "replace") for name in self._name_view[at])
        self._columns = {name: _NUM_HEADS + column for column, name in enumerate(taken) if name}
        self._row_names = self._name_view[at]

    def _name_column(self, name: str) -> int:
        """The column of a name that is new to this row; the last column takes what no room is left for."""
        encoded = name.encode()[:_NAME_BYTES].decode("utf-8", "ignore")
        known = self._columns.get(encoded)
        column = known if known is not None else _NUM_HEADS + min(len(set(self._columns.values())), _NUM_NAMES - 1)
        text = encoded if column < _NUM_HEADS + _NUM_NAMES - 1 else _OTHER
        self._row_names[column - _NUM_HEADS] = 0
        self._row_names[column - _NUM_HEADS, : len(text.encode())] = np.frombuffer(text.encode(), np.uint8)
        self._columns[name] = column
        return column

    def __getstate__(self) -> dict[str, Any]:
        """The shared memory itself for worker processes; its content for other pickles."""
        return {"epoch": self._epoch, "counts": self._counts, "names": self._names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attach to the memory that arrived, shared anew where it came by value."""
        self._epoch, self._counts, self._names = (_share(state[key]) for key in ("epoch", "counts", "names"))
        self._attach()


def _share(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.is_shared() else tensor.share_memory_()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
