"""`synthloader demo`: the whole library on photographs that are already installed."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("demo-output"),
    data: Annotated[
        Path | None, typer.Option("--data", help="COCO folder of your own, or its annotation file.", show_default=False)
    ] = None,
    ratio: Annotated[float, typer.Option("--ratio", min=0.0, help="Generated samples per real sample.")] = 0.5,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of training.")] = 40,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that generate and load.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Generate, mix, train and measure on real photographs, without any download, in under three minutes.

    Writes preview.png, report.json, summary.md, the recipe and the cache. Ctrl-C stops it; a second run goes on with
    the cache.

    Example: synthloader demo --data my_coco_folder --ratio 1
    """
    from synthloader.demo import run_demo

    results = run_demo(
        out,
        data=data,
        ratio=ratio,
        num_steps=steps,
        num_workers=workers,
        seed=seed,
        say=(lambda line: None) if as_json else typer.echo,
        shows_progress=True,
    )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        typer.echo(_describe_files(out, results["seconds"]))


def _describe_files(out: Path, seconds: float) -> str:
    folder = shlex.quote(str(out))
    return (
        f"Done      in {seconds:.0f} s. Look at {os.path.join(folder, 'preview.png')} and "
        f"{os.path.join(folder, 'summary.md')}.\n"
        f"Next      synthloader preview {os.path.join(folder, 'recipe.yaml')} --out sheet.png"
    )
