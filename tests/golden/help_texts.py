"""What `--help` says of every command, as text: what is said, not how a terminal lays it out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

GOLDEN = Path(__file__).parent / "help_texts.txt"


def describe_parameter(parameter: Any) -> Iterator[str]:
    """Yield the lines for one argument or option."""
    names = ", ".join(name if name.startswith("-") else name.upper() for name in parameter.opts)
    default = parameter.default
    if parameter.required:
        yield f"    {names} [required]"
    elif default is None or callable(default):
        yield f"    {names}"
    else:
        yield f"    {names} [default: {default}]"
    if said := getattr(parameter, "help", None):
        yield f"        {' '.join(said.split())}"


def describe_command(name: str, command: Any) -> Iterator[str]:
    """Yield the lines for one command, and for those below it."""
    yield f"$ {name} --help"
    said = re.sub(r"\f.*", "", inspect.cleandoc(command.help or ""), flags=re.DOTALL)
    yield from (f"    {line}".rstrip() for line in said.splitlines())
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            yield from describe_parameter(parameter)
    yield ""
    for below, subcommand in sorted(getattr(command, "commands", {}).items()):
        yield from describe_command(f"{name} {below}", subcommand)


def describe_help() -> str:
    """Describe every command of the command line."""
    from synthloader.cli import app

    return "\n".join(describe_command("synthloader", typer.main.get_command(app))).rstrip() + "\n"
