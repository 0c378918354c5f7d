"""`synthloader preview`: a picture of what a recipe makes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

    from synthloader.mixed import MixedDataset
    from synthloader.recipe import Recipe
    from synthloader.reports.preview import Position

__all__ = ["preview", "write_image"]

MOST_SEARCHED = 4096
"""Positions of an epoch in which something to show is looked for, where the first choice has nothing."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def preview(
    recipe: Annotated[Path, typer.Argument(help="YAML file.")],
    out: Annotated[Path, typer.Option("--out", help="Image file to write: .png, .jpg or .webp.")] = Path("preview.png"),
    count: Annotated[int, typer.Option("--count", min=1, help="How many generated samples.")] = 8,
    epoch: Annotated[int, typer.Option("--epoch", min=0, help="Show what the plan serves from this epoch on.")] = 0,
    plain: Annotated[
        bool, typer.Option("--plain", help="Draw no labels, to judge the pixels: pictures and verdicts alone.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Draw sources beside what is generated from them: boxes, outlines, class names, verdicts.

    Rejected candidates are shown too, with the reason. No sample is put into the cache. Generators that search for
    their options (metadata_alignment) do so first, and what it brought is printed below.

    Example: synthloader preview recipe.yaml --out sheet.png --count 12
    """
    from synthloader.cli.searches import report_searches, run_searches
    from synthloader.recipe import load_recipe
    from synthloader.reports import make_contact_sheet
    from synthloader.reports.preview import count_accepted, draw_pairs

    if out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"must end in one of {', '.join(SUFFIXES)}, got {out}", param_hint="--out")
    loaded = load_recipe(recipe)
    positions = find_positions(loaded, count, epoch)
    generated = loaded.generated()
    run_searches(generated.generator)
    pairs = draw_pairs(generated, positions, plain=plain)
    sheet, num_made = make_contact_sheet(pairs), count_accepted(pairs)
    write_image(out, sheet)
    reports = report_searches(generated.generator)
    if as_json:
        found: dict[str, Any] = {
            "out": str(out),
            "count": len(positions),
            "accepted": num_made,
            "size_hw": sheet.shape[:2],
        }
        if reports:
            found["reports"] = [{"generator": name, "rows": report.to_dicts()} for name, report in reports]
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo(f"{out}: {_say_how_many(num_made, len(positions))}")
        for name, report in reports:
            typer.echo(f"\n{name}, distance to the reference:\n{report}")


def find_positions(recipe: Recipe, count: int, epoch: int) -> Sequence[tuple[Any, ...]]:
    """What the plan serves from an epoch on, evenly spread over each: what `preview_generated` takes.

    Without a plan, or where it generates nothing: sources evenly spread, with another variant each epoch.
    """
    from synthloader.errors import RecipeError
    from synthloader.reports.preview import spread_positions

    generated = recipe.generated()
    if recipe.plan is not None:
        mixed = recipe.mixed()
        found: list[Position] = []
        for later in range(epoch, epoch + count):
            chosen = [at for at, _, _ in spread_positions(mixed.count_generated(later), count - len(found))]
            found += _list_servable(mixed, later, chosen)
        if found:
            return found
        if size := mixed.count_generated(epoch):
            found = _list_servable(mixed, epoch, range(min(size, MOST_SEARCHED)))[:count]
            if not found:
                raise RecipeError(
                    f"{recipe.path}: none of the {size} samples that the plan asks for can be generated. The warning "
                    f"says what is lacking."
                )
            return found
    variant = epoch if generated.variants is None else epoch % generated.variants
    return spread_positions(len(generated.source), count, variant=variant)


def _list_servable(mixed: MixedDataset, epoch: int, numbers: Iterable[int]) -> list[Position]:
    """What the plan serves at generated items of these numbers, where it has something for them."""
    from synthloader.epoch_index import EpochIndex
    from synthloader.reports.preview import Position

    found = []
    for number in numbers:
        place = mixed.find_generated(epoch, number)
        draw = mixed.draw(EpochIndex(place, epoch=epoch))
        if draw is not None and draw.variant is not None:
            found.append(Position(draw.source, draw.variant, draw.target_class, draw.donors, epoch, place))
    return found


def _say_how_many(num_made: int, asked: int) -> str:
    if num_made == asked:
        return f"{asked} generated samples beside their sources"
    return f"{num_made} of {asked} samples were accepted; the captions say why the others were not"


def write_image(path: Path, image: np.ndarray, /) -> None:
    """Write an RGB image; the folder is made.

    Raises:
        OSError: The file cannot be written.
    """
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    done, content = cv2.imencode(path.suffix, image[:, :, ::-1])
    if not done:
        raise OSError(f"the image {path} cannot be encoded. Choose .png.")
    path.write_bytes(content.tobytes())
