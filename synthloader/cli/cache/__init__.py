"""`synthloader cache`: looks after caches, one command per file."""

from __future__ import annotations

import typer

from synthloader.cli.cache.compact import compact
from synthloader.cli.cache.export import export
from synthloader.cli.cache.inspect import inspect
from synthloader.cli.cache.merge import merge
from synthloader.cli.cache.prune import prune
from synthloader.cli.cache.stats import stats
from synthloader.cli.cache.verify import verify

__all__ = ["commands"]

commands = typer.Typer(
    name="cache",
    no_args_is_help=True,
    help="Look after caches: see what is inside, check, unite, clean and export them.\n\n"
    "Start with: synthloader cache stats cache/train",
)
for command in (stats, verify, inspect, merge, compact, export, prune):
    commands.command()(command)
