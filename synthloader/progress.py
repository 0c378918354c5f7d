"""Progress on stderr: of `precompute` (rate, accepted, rejected by reason, time left), and of whatever counts steps.

A terminal gets a bar; a log file gets a line every half minute.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from synthloader.lifting import preserve_random_state

with preserve_random_state():  # One of its modules draws from Python's when it is imported.
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
    from rich.text import Text

__all__ = ["describe_rejections", "open_bar", "open_counter"]

_MOST_REASONS = 3
_LOG_EVERY_S = 30.0


@contextmanager
def open_bar(
    total: int = 0, /, *, console: Console | None = None, transient: bool = False
) -> Iterator[Callable[[Any], None]]:
    """A bar that lives as long as the block; gives the function that takes a `PrecomputeReport`.

    Args:
        total: Pairs to do, until the first report says it.
        console: Where it is shown; None for stderr.
        transient: Whether it vanishes at the end.
    """
    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield _Log(console)
        return
    bar = Progress(
        TextColumn("[bold]generate[/]"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[left]}"),
        console=console,
        auto_refresh=False,
    )
    task = bar.add_task("", total=total or None, rate="", left="")
    view = _View(bar, task)
    with Live(view, console=console, refresh_per_second=8, transient=transient):
        yield view.update


@contextmanager
def open_counter(label: str, total: int, /, *, console: Console | None = None) -> Iterator[Callable[[int, str], None]]:
    """A bar for so many steps, which vanishes at the end; gives the function that takes the steps done and a remark.

    Args:
        label: What is done: `"train"`.
        total: Number of steps.
        console: Where it is shown; None for stderr. Nothing is shown where that is no terminal.
    """
    console = Console(stderr=True) if console is None else console
    bar = Progress(
        TextColumn(f"[bold]{label}[/]"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[remark]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", total=total, remark="")
    with bar:
        yield lambda done, remark: bar.update(task, completed=done, remark=remark)


def describe_rejections(rejected: Mapping[str, int], /) -> str:
    """`12 rejected (MinBox: box too small 9, CopyPaste: no donor 3)`, the most frequent reasons first."""
    if not rejected:
        return "0 rejected"
    reasons = Counter(rejected).most_common()
    listing = ", ".join(f"{reason} {count}" for reason, count in reasons[:_MOST_REASONS])
    rest = sum(count for _, count in reasons[_MOST_REASONS:])
    return f"{sum(rejected.values())} rejected ({listing}{f', others {rest}' if rest else ''})"


class _View:
    """The bar, and below it what came of the candidates."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self._report: Any = None

    def update(self, report: Any) -> None:
        self._report = report
        rate = f"{report.done / report.seconds:.1f}/s" if report.seconds > 0 else ""
        self._bar.update(self._task, completed=report.done, total=report.total, rate=rate, left="left" if rate else "")

    def __rich__(self) -> Group:
        report = self._report
        if report is None:
            return Group(self._bar)
        found = f", {report.cached} from the cache" if report.cached else ""
        text = f"  {report.accepted} accepted{found}, {describe_rejections(report.rejected)}"
        return Group(self._bar, Text(text, style="dim", no_wrap=True, overflow="ellipsis"))


class _Log:
    """A line every half minute, and one at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = time.monotonic() + _LOG_EVERY_S

    def __call__(self, report: Any) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOG_EVERY_S
        rate = report.done / report.seconds if report.seconds > 0 else 0.0
        left = (report.total - report.done) / rate if rate else 0.0
        self._console.print(
            f"generate {report.done}/{report.total}, {rate:.1f}/s, {report.accepted} accepted, "
            f"{describe_rejections(report.rejected)}, {left:.0f} s left",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
