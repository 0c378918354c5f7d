"""`synthloader cache compact`: writes the files anew without unused pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["compact"]


def compact(
    path: Annotated[Path, typer.Argument(help="Folder of the cache.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Give the room of deleted records back to the disk. Nobody else may have the cache open meanwhile.

    The file and those of the shards are written anew, one after another, each needing room for a second one.

    Example: synthloader cache compact cache/train
    """
    from synthloader.cache.upkeep.card_text import format_bytes
    from synthloader.cache.upkeep.compact import compact
    from synthloader.cache.upkeep.existing import open_existing
    from synthloader.cli.cache.columns import shorten_path
    from synthloader.cli.cache.counter import count_steps

    with open_existing(path, readonly=False) as cache, count_steps("compact") as progress:
        done = compact(cache, progress=progress)
    before, after = sum(each.before for each in done), sum(each.after for each in done)
    if as_json:
        files = [{"folder": str(each.folder), "before": each.before, "after": each.after} for each in done]
        typer.echo(json.dumps({"path": str(cache.path), "before": before, "after": after, "files": files}, indent=2))
        return
    for each in done if len(done) > 1 else ():
        typer.echo(f"{shorten_path(each.folder)}: {format_bytes(each.before)} -> {format_bytes(each.after)}")
    typer.echo(f"{path}: {format_bytes(before)} before, {format_bytes(after)} now.")
