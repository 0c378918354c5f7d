"""The notes that lie beside the entries, `pools.json` and `stamps.jsonl`, united when caches are."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["replace_file", "unite_notes"]

_LOGGER = logging.getLogger("synthloader.cache")
_POOLS, _STAMPS = "pools.json", "stamps.jsonl"

Stamp = tuple[int, int, str]


def unite_notes(into: Path, sources: Iterable[Path], /) -> None:
    """Add to a folder's notes what those of other folders say besides; what cannot be read is left out, and said.

    `pools.json` names the samples of every pool that was drawn from (`synthloader.precompute`). `stamps.jsonl` has
    hashes of files by size and time (`synthloader.keys.StampBook`); of two, the one of the later change counts.
    """
    folders = [folder for folder in dict.fromkeys(sources) if folder != into]
    _unite_pools(into / _POOLS, [folder / _POOLS for folder in folders])
    _unite_stamps(into / _STAMPS, [folder / _STAMPS for folder in folders])


def replace_file(file: Path, content: str, /) -> None:
    """Write a file so that nobody ever sees a part of it."""
    written = file.with_name(f"{file.stem}.new")
    try:
        with open(written, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        written.replace(file)
    except OSError:
        written.unlink(missing_ok=True)
        raise


def _unite_pools(into: Path, files: list[Path]) -> None:
    ours = _read_pools(into)
    if ours is None:  # Broken: whoever looks after it must see it as it is.
        return
    united = dict(ours)
    for file in files:
        for identity, pool in (_read_pools(file) or {}).items():
            united[identity] = min(united.get(identity, pool), pool, key=lambda each: json.dumps(each, sort_keys=True))
    if united != ours:
        replace_file(into, json.dumps(dict(sorted(united.items())), indent=1))


def _read_pools(file: Path) -> dict[str, Any] | None:
    try:
        pools = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(pools, dict):
            return pools
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        pass
    _LOGGER.warning("%s cannot be read and is left out", file)
    return None


def _unite_stamps(into: Path, files: list[Path]) -> None:
    known = _read_stamps(into)
    new: dict[str, Stamp] = {}
    for file in files:
        for name, stamp in _read_stamps(file).items():
            best = max(new.get(name, stamp), stamp)
            if name not in known or known[name] < best:
                new[name] = best
    if new:
        with open(into, "a", encoding="utf-8") as stream:  # Somebody else may append at the same time.
            stream.write(
                "".join(
                    f"\n{json.dumps([name, size, changed_ns, hashed])}"
                    for name, (changed_ns, size, hashed) in sorted(new.items())
                )
            )


def _read_stamps(file: Path) -> dict[str, Stamp]:
    """Name of a file to its time, size and hash; the last line counts."""
    stamps: dict[str, Stamp] = {}
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            name, size, changed_ns, hashed = json.loads(line)
            stamps[str(name)] = int(changed_ns), int(size), str(hashed)
        except (ValueError, TypeError, OverflowError, RecursionError):
            continue  # A line cut short by a kill.
    return stamps
