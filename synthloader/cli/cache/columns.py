"""Text in columns for terminals of any width: facts with their names, and tables whose last column wraps."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["find_width", "shorten_path", "show_value", "write_facts", "write_table"]

_MOST_COLUMNS = 110
_GAP = "  "


def find_width() -> int:
    """Columns of the terminal, or 80; never so many that lines are hard to read."""
    return max(40, min(shutil.get_terminal_size().columns, _MOST_COLUMNS))


def write_facts(facts: Iterable[tuple[str, str]], /, *, width: int) -> str:
    """Lines of a name and what it is, without those that are empty.

    Example:
        >>> print(write_facts([("codec", "zstd"), ("seed", ""), ("shards", "3")], width=40))
        codec   zstd
        shards  3
    """
    told = [(name, text) for name, text in facts if text]
    indent = max((len(name) for name, _ in told), default=0) + len(_GAP)
    return "\n".join(_wrap(text, name.ljust(indent), " " * indent, width) for name, text in told)


def write_table(header: Sequence[str], rows: Iterable[Sequence[Any]], /, *, width: int, most: int = 0) -> str:
    """A table: numbers to the right, and a last column of text that wraps.

    Args:
        header: Names of the columns.
        rows: Numbers and texts.
        width: Most columns of the terminal.
        most: Rows that are shown, the others are counted; 0 shows all.

    Example:
        >>> print(write_table(["samples", "class"], [[1200, "fig"], [7, "date"]], width=40))
          samples  class
            1,200  fig
                7  date
    """
    every = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    shown = every[:most] if most else every
    widths = [max(map(len, column)) for column in zip(header, *shown, strict=True)][:-1]
    lines = []
    for row in (header, *shown):
        start = _GAP + "".join(cell.rjust(size) + _GAP for cell, size in zip(row, widths, strict=False))
        lines.append(_wrap(row[-1], start, " " * len(start), width))
    if len(shown) < len(every):
        lines.append(f"{_GAP}... and {len(every) - len(shown):,} more (--json lists all)")
    return "\n".join(lines)


def shorten_path(path: Path, /) -> str:
    """The path relative to the working directory where it lies below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def show_value(value: object, /) -> str:
    """A value on one line, short; nothing in it can move the cursor."""
    text = "".join(sign if sign.isprintable() else " " for sign in " ".join(str(value).split()))
    return text if len(text) <= 200 else text[:197] + "..."


def _wrap(text: str, start: str, indent: str, width: int) -> str:
    plain = "".join(sign if sign.isprintable() else "?" for sign in text)
    room = max(width, len(indent) + 20)
    return (
        textwrap.fill(
            plain, room, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False, break_long_words=True
        )
        or start.rstrip()
    )
