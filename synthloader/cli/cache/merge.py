"""`synthloader cache merge`: unites caches, and folds shards."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from synthloader.cache.upkeep.merge import MergeReport

__all__ = ["merge"]


def merge(
    into: Annotated[Path, typer.Argument(help="Folder of the cache that all is united in; made where it is missing.")],
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Folders of other caches, which stay as they are.", show_default=False)
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out broken records that no cache has intact.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Unite caches in one, and fold its shards (what loader workers and ranks wrote) into it.

    Without sources only the shards are folded; each is removed once everything of it is on the disk. The outcome does
    not depend on the order. Where two records of one key differ, nothing happens. Ctrl-C stops it, and the same
    command goes on.

    Example: synthloader cache merge cache/all cache/machine-1 cache/machine-2
    """
    from synthloader.cache.lmdb_cache import LMDBCache
    from synthloader.cache.upkeep.existing import open_existing
    from synthloader.cache.upkeep.merge import merge
    from synthloader.cli.cache.counter import count_steps

    with ExitStack() as stack:
        others = [stack.enter_context(open_existing(source)) for source in sources or ()]
        target = stack.enter_context(LMDBCache(into) if others else open_existing(into, readonly=False))
        progress = stack.enter_context(count_steps("merge"))
        report = merge(target, others, skip_broken=skip_broken, progress=progress)
        num_entries = len(target)
    if as_json:
        typer.echo(json.dumps({**report.to_dict(), "into": str(target.path), "num_entries_now": num_entries}, indent=2))
    else:
        typer.echo(_describe(into, report, num_entries, has_sources=bool(others)))


def _describe(into: Path, report: MergeReport, num_entries: int, *, has_sources: bool) -> str:
    from synthloader.cache.upkeep.card_text import format_bytes, format_count

    now = f"{into} has {format_count(num_entries, 'entry', 'entries')} now."
    if not has_sources and not report.num_shards:
        return f"Nothing to do: there are no shards. {now}"
    came = (
        f"{format_count(report.num_entries, 'entry', 'entries')} and {format_count(report.num_verdicts, 'verdict')} "
        f"came in ({format_bytes(report.num_bytes)})."
    )
    known = f" {report.num_known:,} were there already." if report.num_known else ""
    folded = f" {format_count(report.num_shards, 'shard')} folded and removed." if report.num_shards else ""
    broken = f" {format_count(report.num_broken, 'broken record')} left out." if report.num_broken else ""
    return f"{came}{known}{folded}{broken}\n{now}"
