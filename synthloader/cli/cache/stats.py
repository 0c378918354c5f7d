"""`synthloader cache stats`: what is inside of a cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from synthloader.cache.upkeep.card import CacheCard

__all__ = ["stats"]

_MOST_ROWS = 20


def stats(
    path: Annotated[Path, typer.Argument(help="Folder of the cache.")],
    save: Annotated[bool, typer.Option("--save", help="Write card.json and card.md into the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Say what is inside: samples, generators, models, prompts, terms of use, classes, verdicts.

    No pixels are decoded, and another process may write to the cache meanwhile.

    Example: synthloader cache stats cache/train
    """
    from synthloader.cache.upkeep.existing import open_existing
    from synthloader.cache.upkeep.make_card import make_card, save_card
    from synthloader.cli.cache.columns import shorten_path
    from synthloader.cli.cache.counter import count_steps

    with open_existing(path) as cache:
        with count_steps("read") as progress:
            card = make_card(cache, progress=progress)
        files = save_card(card) if save else []
    if as_json:
        typer.echo(json.dumps(card.to_dict(), indent=2))
        return
    typer.echo(describe_card(card))
    if files:
        typer.echo(f"\nSaved as {' and '.join(shorten_path(file) for file in files)}.")


def describe_card(card: CacheCard, /) -> str:
    """The card for a terminal."""
    from synthloader.cache.upkeep.card_text import format_bytes, format_count
    from synthloader.cli.cache.columns import find_width, shorten_path, write_facts, write_table

    width, content = find_width(), card.to_dict(num_prompts=3)
    shown = f"{format_count(card.num_samples, 'sample')}, {format_bytes(card.num_bytes)}"
    blocks = [f"{shorten_path(card.path)}: {shown}", write_facts(_list_facts(card, content), width=width)]
    for title, header, rows in _list_tables(content):
        if rows:
            blocks.append(f"{title}\n{write_table(header, rows, width=width, most=_MOST_ROWS)}")
    return "\n\n".join(blocks)


def _list_facts(card: CacheCard, content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from synthloader.cache.upkeep.card_text import format_bytes, format_count, format_time

    yield (
        "not made",
        f"{format_count(card.num_rejected, 'candidate')}: {_join(content['rejected'])}" if card.rejected else "",
    )
    yield (
        "files",
        f"{format_bytes(card.file_bytes)} on disk"
        + (f", in {len(card.shards)} environments" if len(card.shards) > 1 else ""),
    )
    yield "images", _join(content["codecs"])
    if sizes := card.size_range_hw:
        low, middle, high = sizes["min"], sizes["median"], sizes["max"]
        heights = f"height {low[0]} to {high[0]} (median {middle[0]})" if low[0] < high[0] else f"height {low[0]}"
        widths = f"width {low[1]} to {high[1]} (median {middle[1]})" if low[1] < high[1] else f"width {low[1]}"
        yield "pixels", f"{heights}, {widths}"
    yield "labels", _join({name.replace("_", " "): count for name, count in content["targets"].items()})
    drawn = f", {format_count(card.num_drawn, 'donor or reference', 'donors and references')}" if card.num_drawn else ""
    yield "sources", f"{card.num_sources:,}{drawn}"
    yield "seeds", _join(content["seeds"])
    terms = dict(content["licenses"])
    if card.num_unlicensed:
        terms["not said"] = card.num_unlicensed
    yield "terms", _join(terms)
    if card.time_range_ms:
        yield "made", " to ".join(dict.fromkeys(map(format_time, card.time_range_ms)))


def _list_tables(content: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    from synthloader.cache.upkeep.card_text import format_bytes

    yield (
        "Generators",
        ["samples", "not made", "size", "generator"],
        [
            [each["samples"], each["rejected"], format_bytes(each["num_bytes"]), name or "(not said)"]
            for name, each in content["generators"].items()
        ],
    )
    yield (
        "Models",
        ["samples", "model and hash of its weights"],
        [[each["samples"], f"{each['model']} {each['weights'] or ''}".strip()] for each in content["models"]],
    )
    prompts = [[count, prompt] for prompt, count in content["prompts"].items()]
    if (others := content["num_prompts"] - len(prompts)) > 0:
        prompts.append(["", f"... and {others:,} other prompts"])
    yield f"Prompts ({content['num_prompts']:,})", ["samples", "prompt"], prompts
    yield (
        "Classes",
        ["samples", "instances", "class"],
        [
            [each["samples"] or "masks", each["instances"], f"{each['id']} {' / '.join(each['names'])}".strip()]
            for each in content["classes"]
        ],
    )
    yield (
        "Verdicts",
        ["accepted", "rejected", "filters"],
        [
            [
                each["accepted"],
                each["rejected"],
                each["filters"] + (f": {_join(each['reasons'])}" if each["reasons"] else ""),
            ]
            for each in content["verdicts"]
        ],
    )
    yield "Cannot be read", ["records", "why"], [[count, why] for why, count in content["unreadable"].items()]


def _join(counts: Mapping[str, int]) -> str:
    """`zstd 12, raw 3`; the name alone where there is only one."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
