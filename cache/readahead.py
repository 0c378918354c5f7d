"""Whether the operating system should read ahead in a file of records that are asked for in random order."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

__all__ = ["wants_readahead"]

_LIMIT = Path("/sys/fs/cgroup/memory.max")


def wants_readahead(file: Path, /) -> bool:
    """True for a file that fits in the machine's memory.

    There it halves the time of the first epoch, because what is read ahead is asked for soon; a larger file is four
    times faster without, because what is read ahead pushes out what is still needed
    (`python -m benchmarks.cache_readahead`).
    """
    try:
        return file.stat().st_size < _count_memory_bytes()
    except OSError:
        return True


@lru_cache(maxsize=1)
def _count_memory_bytes() -> int:
    """The machine's memory, or what a container may use of it."""
    count = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(count, int(_LIMIT.read_text()))
    except (OSError, ValueError):  # No container, or one without a limit ("max").
        return count
