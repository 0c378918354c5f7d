"""Generators that search for their options before their first sample: the commands say so, and what it brought."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from synthloader.attributes import AlignmentReport
    from synthloader.generators.metadata_alignment import MetadataAlignment

__all__ = ["report_searches", "run_searches"]


def run_searches(generator: object, /, *, quiet: bool = False) -> None:
    """Let the parts of a bound generator search now, once, and not in every worker; a line on stderr for each.

    Args:
        generator: Bound to its pool.
        quiet: Whether nothing is said.
    """
    for part in _find_searching(generator):
        if not quiet:
            typer.echo(f"searching options for {type(part).__name__} ...", err=True, nl=False)
        started = time.monotonic()
        try:
            part.prepare()
        finally:
            if not quiet:
                typer.echo(f" {time.monotonic() - started:.1f} s", err=True)


def report_searches(generator: object, /) -> list[tuple[str, AlignmentReport]]:
    """The report of each part that searched, and the part's name; none of those that found nothing."""
    from synthloader.errors import NothingToGenerate

    reports = []
    for part in _find_searching(generator):
        try:
            reports.append((type(part).__name__, part.report()))
        except NothingToGenerate:
            continue  # The reason is in the sheet.
    return reports


def _find_searching(generator: object) -> Iterator[MetadataAlignment]:
    """The parts of a composition that search."""
    from synthloader.generators.metadata_alignment import MetadataAlignment

    if isinstance(generator, MetadataAlignment):
        yield generator
        return
    for part in getattr(generator, "generators", ()):
        yield from _find_searching(part)
