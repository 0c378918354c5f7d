"""`synthloader cache export`: the accepted samples as an ordinary data set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from synthloader.cache.upkeep.accepted import Selection
    from synthloader.exports import ExportReport
    from synthloader.sample import Sample

__all__ = ["export"]

_FORMATS = ("coco", "yolo-detect", "yolo-segment", "voc", "imagefolder", "masks", "webdataset")


def export(
    path: Annotated[Path, typer.Argument(help="Folder of the cache.")],
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    format: Annotated[str, typer.Option("--format", help=f"One of {', '.join(_FORMATS)}.", show_default=False)],
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Only what a training run of this recipe is served.")
    ] = None,
    filters: Annotated[
        str | None, typer.Option("--filters", help="Fingerprint of the filters that decide (see `stats`).")
    ] = None,
    image_format: Annotated[
        str | None,
        typer.Option("--image-format", help="png, without loss, or jpeg. Default: png, but jpeg for voc."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Write the accepted samples as a data set that other programs read, with their provenance and the cache's card.

    Accepted is what the filters accepted whose verdicts are in the cache; without any, every sample is. Of several
    attempts at one variant the first accepted one is written, as in training.

    Example: synthloader cache export cache/train out --format coco
    """
    from synthloader.cache.upkeep.accepted import select_accepted
    from synthloader.cache.upkeep.existing import open_existing
    from synthloader.cache.upkeep.make_card import make_card
    from synthloader.cli.cache.counter import count_steps
    from synthloader.cli.cache.recipes import read_wanted
    from synthloader.errors import CacheError
    from synthloader.exports import export_samples

    if format not in _FORMATS:
        raise typer.BadParameter(f"must be one of {', '.join(_FORMATS)}, got {format}", param_hint="--format")
    if image_format not in (None, "png", "jpeg"):
        raise typer.BadParameter(f"must be png or jpeg, got {image_format}", param_hint="--image-format")
    if out.resolve().is_relative_to(path.resolve()):
        raise typer.BadParameter("must lie outside of the cache", param_hint="OUT")
    with open_existing(path) as cache:
        wanted = None if recipe is None else read_wanted(recipe)
        chain = wanted.filters if wanted is not None and filters is None else filters
        with count_steps("select") as progress:
            selection = select_accepted(
                cache,
                filters=chain,
                fingerprints=None if wanted is None else wanted.fingerprints,
                seed=None if wanted is None else wanted.seed,
                serves=None if wanted is None else wanted.served,
                progress=progress,
            )
        if not len(selection):
            reason = f"no sample is accepted: {_count_others(selection) or 'there are no entries'}"
            raise CacheError(f"Exporting the cache {cache.path}", reason=reason, hint="fill it: synthloader precompute")
        names = _complete_names(selection)
        card = make_card(cache).to_dict()
        report = export_samples(
            _read(selection), out, format=format, class_names=names, image_format=image_format, force=force, card=card
        )
    if as_json:
        typer.echo(json.dumps({"export": report.to_dict(), "selection": selection.to_dict()}, indent=2))
    else:
        typer.echo(_describe(out, report, selection))


def _read(selection: Selection) -> Iterator[tuple[str, Sample]]:
    from synthloader.cli.cache.counter import count_steps

    with count_steps("export") as progress:
        for done, (key, sample) in enumerate(selection):
            progress(done, len(selection))
            yield key.hex(), sample


def _complete_names(selection: Selection) -> dict[int, str]:
    """A name for every class that occurs: where the data set had none, its number."""
    ids = {*selection.class_ids, *selection.list_mask_ids()}
    return {class_id: selection.class_names.get(class_id, str(class_id)) for class_id in ids} | selection.class_names


def _count_others(selection: Selection) -> str:
    counts = {
        "rejected": selection.num_rejected,
        "not judged by these filters": selection.num_unjudged,
        "could not be made": selection.num_not_made,
        "further ones of the same sources and variants (later attempts; without --recipe also other recipes)": (
            selection.num_superseded
        ),
        "made otherwise, or of what is no longer there": selection.num_others,
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _describe(out: Path, report: ExportReport, selection: Selection) -> str:
    from synthloader.cache.upkeep.card_text import format_count
    from synthloader.cli.cache.columns import find_width, write_facts

    left_out = ", ".join(f"{reason} {count:,}" for reason, count in report.left_out.most_common())
    facts = [
        ("accepted by", selection.filters),
        ("not accepted", _count_others(selection)),
        ("left out", f"{left_out} (the format cannot hold them)" if left_out else ""),
    ]
    unjudged = "" if selection.filters else " No filter has judged them."
    headline = f"{out}: {format_count(report.num_written, 'sample')} as {report.format}.{unjudged}"
    return "\n".join(filter(None, [headline, write_facts(facts, width=find_width())]))
