"""`synthloader precompute`: fills the cache that a recipe names."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from synthloader.mixed import MixedDataset
    from synthloader.recipe import Recipe

__all__ = ["count_workers", "precompute"]

_MOST_WORKERS = 8


def precompute(
    recipe: Annotated[Path, typer.Argument(help="YAML file with the keys cache and variants.")],
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that generate; 0 for none besides this one. Default: one per CPU, at most 8."
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Make the k-th of n equal parts, into a shard of its own: one command for each process or machine.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Fill the cache of a recipe with all variants of all sources.

    What is there already is kept. Ctrl-C stops it, and the same command goes on where it was, to exactly the same set.

    Example: synthloader precompute recipe.yaml --workers 4

    On two machines that share the folder: --part 1/2 on one, --part 2/2 on the other.
    """
    from synthloader.cli.searches import run_searches
    from synthloader.precompute import PrecomputeReport, precompute
    from synthloader.progress import open_bar
    from synthloader.recipe import load_recipe

    pair = _read_part(part)
    loaded = load_recipe(recipe)
    _check(loaded)
    generated, targets, draws = loaded.generated(), loaded.target_classes(), loaded.list_rationed()
    latest = PrecomputeReport()
    run_searches(generated.generator, quiet=quiet)
    with nullcontext() if quiet else open_bar() as show:

        def follow(report: PrecomputeReport) -> None:
            nonlocal latest
            latest = report
            if show is not None:
                show(report)

        try:
            precompute(
                generated,
                num_workers=count_workers(workers),
                progress=follow,
                target_classes=targets,
                draws=draws,
                part=pair,
            )
        except KeyboardInterrupt:
            if as_json:
                _say_json(latest, generated.cache)
            raise
    if as_json:
        _say_json(latest, generated.cache)
    else:
        typer.echo(_describe(latest, generated.cache))
        if (targets or draws) and (shortage := _describe_shortage(loaded.mixed())):
            typer.echo(shortage)


def count_workers(asked: int | None, /) -> int:
    """The number of processes that was asked for, or one for each CPU that this process may use, at most 8."""
    if asked is not None:
        return asked
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if usable == 1 else min(usable, _MOST_WORKERS)


def _read_part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit()):
        raise typer.BadParameter(f"write the second of four parts as 2/4, not {text!r}.", param_hint="--part")
    return int(number), int(count)


def _check(recipe: Recipe) -> None:
    if not recipe.has_cache:
        recipe.refuse("cache", "to fill one", "cache: cache/train")
    if recipe.variants is None:
        recipe.refuse("variants", "to fill a cache", "variants: 4")


def _describe(report: Any, cache: Any) -> str:
    from synthloader.progress import describe_rejections

    rate = f", {report.done / report.seconds:.1f} per second" if report.seconds > 0 else ""
    failed = f"; for {report.failed} no candidate was accepted" if report.failed else ""
    return (
        f"{report.accepted} of {report.total} samples are ready in {_shorten(cache.path)}{failed}.\n"
        f"{report.generated} generated, {report.cached} found in the cache, {describe_rejections(report.rejected)}; "
        f"{report.seconds:.1f} s{rate}."
    )


def _describe_shortage(mixed: MixedDataset) -> str:
    """What the cache cannot hold, because there are too few versions, sources or donors for it."""
    if not mixed.report().notes:
        return ""
    asked = mixed.count_generated(0)
    draws = (mixed.draw(mixed.find_generated(0, position)) for position in range(asked))
    possible = sum(draw is not None and draw.variant is not None for draw in draws)
    return f"The plan asks for {asked} samples in an epoch, of which it can have {possible}: see the warnings."


def _say_json(report: Any, cache: Any) -> None:
    typer.echo(json.dumps({**report.to_dict(), "cache": str(cache.path)}, indent=2))


def _shorten(path: Path) -> str:
    """The path relative to the working directory where it lies below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
