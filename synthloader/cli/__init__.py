"""The command line, one command per file. Progress goes to stderr, results to stdout.

Nothing here is imported that takes long: each command imports what it needs when it runs.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Annotated

import typer

from synthloader.cli.cache import commands as cache_commands
from synthloader.cli.demo import demo
from synthloader.cli.exit_status import Commands, say_warning
from synthloader.cli.list_parts import list_parts
from synthloader.cli.precompute import precompute
from synthloader.cli.preview import preview
from synthloader.cli.yolo import yolo

__all__ = ["app", "main"]

app = typer.Typer(
    name="synthloader",
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command("list")(list_parts)
app.command()(precompute)
app.command()(preview)
app.command()(yolo)
app.add_typer(cache_commands)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"synthloader {version('synthloader')}")
        raise typer.Exit


@app.callback()
def _synthloader(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and exit.")
    ] = False,
) -> None:
    """Mix generated images into the dataset you already have, at a stated ratio, with labels that stay true.

    Start with: synthloader demo
    """


def main() -> None:
    """What the command `synthloader` runs; ends the process with 0, 1, 2 or 130."""
    warnings.showwarning = say_warning
    app()
