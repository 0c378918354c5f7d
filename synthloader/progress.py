"""The progress bar of `precompute`: rate, accepted, rejected by reason, time left; on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["open_bar"]

_MOST_REASONS = 3


@contextmanager
def open_bar(total: int, /) -> Iterator[Callable[[Any], None]]:
    """A bar that lives as long as the block; gives the function that takes a `PrecomputeReport`."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("[bold]precompute[/]"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f}/s"),
        TextColumn("[green]{task.fields[accepted]} accepted[/]"),
        TextColumn("{task.fields[rejected]}", style="yellow"),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=total, rate=0.0, accepted=0, rejected="")

        def update(report: Any) -> None:
            rate = report.done / report.seconds if report.seconds > 0 else 0.0
            bar.update(
                task, completed=report.done, rate=rate, accepted=report.accepted, rejected=describe_rejections(report.rejected)
            )

        yield update


def describe_rejections(rejected: Any, /) -> str:
    """`12 rejected (MinBox: box too small 9, CopyPaste: no donor 3)`, the most frequent reasons first."""
    if not rejected:
        return "0 rejected"
    listing = ", ".join(f"{reason} {count}" for reason, count in rejected.most_common(_MOST_REASONS))
    return f"{sum(rejected.values())} rejected ({listing})"
