"""`synthloader cache prune`: takes out what nothing asks for any more, or what is oldest."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from synthloader.cache.lmdb_cache import LMDBCache
    from synthloader.cache.upkeep.prune import PrunePlan

__all__ = ["prune"]


def prune(
    path: Annotated[Path, typer.Argument(help="Folder of the cache.")],
    recipe: Annotated[
        list[Path] | None,
        typer.Option("--recipe", help="Keep what this recipe's generator made; can be given several times."),
    ] = None,
    fingerprint: Annotated[
        list[str] | None,
        typer.Option("--fingerprint", help="Keep what the generator of this fingerprint made (see `stats`)."),
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", help="Keep so much of the newest: 10GB, 500MB, 2GiB.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Take out what no recipe asks for any more, or the oldest entries. It says what goes, and asks.

    Entries of other generators than those that are named go, and then the oldest until the rest is small enough; the
    verdicts on them go with them. Entries that do not say who made them only go by their age.

    Example: synthloader cache prune cache/train --recipe recipe.yaml --max-size 10GB --dry-run
    """
    from synthloader.cache.upkeep.existing import open_existing
    from synthloader.cache.upkeep.prune import plan_prune, prune
    from synthloader.cli.cache.byte_sizes import parse_bytes
    from synthloader.cli.cache.counter import count_steps
    from synthloader.cli.cache.recipes import read_wanted
    from synthloader.errors import CacheError

    if not recipe and not fingerprint and max_size is None:
        raise typer.BadParameter("give one of them: nothing else says what goes", param_hint="--recipe, --max-size")
    try:
        max_bytes = None if max_size is None else parse_bytes(max_size)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--max-size") from None
    wanted = None
    with open_existing(path, readonly=dry_run) as cache:
        if recipe or fingerprint:
            wanted = set(fingerprint or ()).union(*(read_wanted(each).fingerprints for each in recipe or ()))
        with count_steps("read") as progress:
            plan = plan_prune(cache, fingerprints=wanted, max_size_bytes=max_bytes, progress=progress)
        if fingerprint and not recipe and not plan.has_wanted and plan.fingerprints:
            raise CacheError(
                f"Pruning the cache {cache.path}",
                reason=f"no entry has the fingerprint {fingerprint[0]!r}, so all would go",
                hint=f"it has entries of {', '.join(map(repr, sorted(plan.fingerprints)))}",
            )
        if not as_json:
            typer.echo(_describe(plan, dry_run=dry_run))
        num_removed = 0
        if not dry_run and not plan.is_empty:
            _confirm(cache, plan, yes=yes)
            with count_steps("prune") as progress:
                num_removed = prune(cache, plan, progress=progress)
    if as_json:
        typer.echo(json.dumps({**plan.to_dict(), "num_removed": num_removed, "dry_run": dry_run}, indent=2))
    elif not dry_run and not plan.is_empty:
        remedy = f"synthloader cache compact {shlex.quote(str(path))}"
        typer.echo(f"Removed. The file keeps its size, with room for new entries, until: {remedy}")


def _confirm(cache: LMDBCache, plan: PrunePlan, *, yes: bool) -> None:
    from synthloader.errors import CacheError

    if yes:
        return
    if not _can_ask():
        raise CacheError(
            f"Pruning the cache {cache.path}",
            reason="there is no terminal to ask for confirmation at, and nothing was removed",
            hint="look with --dry-run, then pass --yes",
        )
    if not typer.confirm(f"Remove {len(plan.keys):,} entries for good?", err=True):
        typer.echo("Nothing was removed.", err=True)
        raise typer.Exit(1)


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _describe(plan: PrunePlan, *, dry_run: bool) -> str:
    from synthloader.cache.upkeep.card_text import format_bytes, format_count, format_time
    from synthloader.cli.cache.columns import find_width, write_facts, write_table

    keeps = f"{format_count(plan.num_kept, 'entry', 'entries')}, {format_bytes(plan.num_kept_bytes)}"
    if plan.is_empty:
        return f"Nothing to remove; {keeps} are kept."
    goes = format_count(len(plan.keys), "entry", "entries")
    goes += f" ({format_count(plan.num_samples, 'sample')})" if plan.num_samples < len(plan.keys) else ""
    goes += f", {format_count(plan.num_verdicts, 'verdict')}, {format_bytes(plan.num_bytes)}"
    unknown = [f"{plan.num_unknown:,} do not say who made them"] if plan.num_unknown else []
    unknown += [f"{plan.num_unreadable:,} cannot be read" if plan.num_unreadable else ""]
    facts = [
        ("would go" if dry_run else "to go", goes),
        ("as the oldest", f"{plan.num_oldest:,} of them" if plan.num_oldest and plan.fingerprints else ""),
        ("made", " to ".join(dict.fromkeys(map(format_time, plan.time_range_ms or ())))),
        ("to stay", ", ".join([keeps, *filter(None, unknown)])),
        ("note", "" if plan.has_wanted else "no entry is of the generator that the recipe has now"),
    ]
    blocks = [write_facts(facts, width=find_width())]
    if plan.fingerprints:
        rows = [[count, name] for name, count in plan.fingerprints.most_common()]
        blocks.append(write_table(["entries", "generator that nothing asks for"], rows, width=find_width(), most=20))
    return "\n".join(blocks)
