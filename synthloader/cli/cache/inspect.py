"""`synthloader cache inspect`: all that is known of one entry, and its picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from synthloader.cache.lmdb_cache import LMDBCache
    from synthloader.cache.upkeep.entry_report import EntryReport

__all__ = ["inspect"]

_MOST_KEYS = 20


def inspect(
    path: Annotated[Path, typer.Argument(help="Folder of the cache.")],
    key: Annotated[
        str, typer.Argument(help="Key of the entry, or its first digits. Without it, the first entries are listed.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Draw the sample with its label: .png, .jpg or .webp.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Say all that is known of one entry: image, label, where it came from, what filters said of it.

    Example: synthloader cache inspect cache/train 3f2a --out sample.png
    """
    from synthloader.cache.upkeep.entry_report import describe_entry, find_keys
    from synthloader.cache.upkeep.existing import open_existing
    from synthloader.cli.preview import SUFFIXES

    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"must end in one of {', '.join(SUFFIXES)}, got {out}", param_hint="--out")
    if out is not None and not key:
        raise typer.BadParameter("needs the key of the entry to draw", param_hint="--out")
    with open_existing(path) as cache:
        keys = find_keys(cache, key, limit=_MOST_KEYS + 1)
        if key and key.lower() in {each.hex() for each in keys}:
            keys = [bytes.fromhex(key)]
        if not key or len(keys) != 1:
            _list_candidates(path, cache, keys, key, as_json=as_json)
            return
        report = describe_entry(cache, keys[0])
    if report is None:
        _refuse(path, key)
    if out is not None:
        _draw(report, out)
    if as_json:
        typer.echo(json.dumps(report.to_dict() | ({} if out is None else {"out": str(out)}), indent=2))
        return
    typer.echo(_describe(report))
    if out is not None:
        typer.echo(f"\nDrawn as {out}.")


def _list_candidates(path: Path, cache: LMDBCache, keys: list[bytes], prefix: str, *, as_json: bool) -> None:
    """List entries where none was named; refuse where several or none have the key."""
    shown = [_summarise(cache, each) for each in keys[:_MOST_KEYS]]
    more = len(keys) > _MOST_KEYS
    if not prefix:
        if as_json:
            typer.echo(json.dumps({"entries": shown, "more": more}, indent=2))
            return
        lines = [f"{each['key']}  {each['summary']}" for each in shown]
        typer.echo("\n".join([*lines, *(["..."] if more else [])]) if lines else f"{path}: no entries.")
        return
    if not keys:
        _refuse(path, prefix)
    count = f"more than {_MOST_KEYS}" if more else str(len(keys))
    listing = "".join(f"\n  {each['key']}  {each['summary']}" for each in shown)
    typer.echo(
        f"synthloader: error: {count} entries of {path} begin with {prefix}. Give more digits:{listing}", err=True
    )
    raise typer.Exit(1)


def _refuse(path: Path, key: str) -> NoReturn:
    typer.echo(f"synthloader: error: no entry of {path} begins with {key}.", err=True)
    raise typer.Exit(1)


def _summarise(cache: LMDBCache, key: bytes) -> dict[str, str]:
    """An entry in a few words."""
    from synthloader.cache.record_head import look_at_entry
    from synthloader.cli.cache.columns import show_value
    from synthloader.errors import CacheError

    summary = "gone"
    for lease in cache.leases:
        try:
            head = look_at_entry(lease, key)
        except CacheError as error:
            summary = f"cannot be read: {error.reason}"
            continue
        if head is not None:
            origin = head.origin
            where = "" if origin is None else f" of {origin.source}, variant {origin.variant}, attempt {origin.attempt}"
            summary = f"{head.kind}{where}" + (f": {head.reason}" if head.reason else "")
            break
    return {"key": key.hex(), "summary": show_value(summary)}


def _draw(report: EntryReport, out: Path) -> None:
    from synthloader.cli.preview import write_image
    from synthloader.errors import CacheError
    from synthloader.reports.drawing import draw_sample

    if report.sample is None:
        reason = "the generator could not make it, so there is no picture"
        raise CacheError(f"Drawing entry {report.key.hex()}", reason=reason, hint="leave --out away")
    origin = report.sample.origin
    write_image(out, draw_sample(report.sample, {} if origin is None else origin.class_names))


def _describe(report: EntryReport) -> str:
    from synthloader.cli.cache.columns import find_width, write_facts

    blocks = [list(_list_facts(report)), list(_list_origin(report)), list(_list_rest(report))]
    names = max(len(name) for block in blocks for name, text in block if text)
    return "\n\n".join(
        write_facts([(name.ljust(names), text) for name, text in block], width=find_width())
        for block in blocks
        if any(text for _, text in block)
    )


def _list_facts(report: EntryReport) -> Iterator[tuple[str, str]]:
    from synthloader.cache.upkeep.card_text import format_bytes

    content = report.to_dict()
    yield "key", content["key"]
    yield "kind", content["kind"] + (f": {content['reason']}" if content["reason"] else "")
    yield "record", f"{format_bytes(content['num_bytes'])}, put {content['time'] or 'at an unknown time'}"
    yield "lies in", ", ".join("the cache's own file" if each == "." else each for each in content["shards"])
    if content["size_hw"]:
        yield "image", "{} x {} pixels (height x width), {}".format(*content["size_hw"], content["codec"])
    if content["kind"] == "sample":
        masks = " with masks" if content["has_masks"] else ""
        yield "label", (content["target"] or "none").replace("_", " ") + masks
    unit = " pixels" if content["target"] == "semantic_mask" else ""
    counts = [(f"{each['id']} {each['name'] or ''}".strip(), each["count"]) for each in content["classes"]]
    yield "classes", ", ".join(f"{name}: {count:,}{unit}" for name, count in counts)


def _list_origin(report: EntryReport) -> Iterator[tuple[str, str]]:
    from synthloader.cli.cache.columns import show_value

    origin = report.to_dict()["origin"]
    if origin is None:
        yield "origin", "not said"
        return
    yield "source", show_value(origin["source"])
    yield "generator", origin["fingerprint"]
    yield "place", f"variant {origin['variant']}, attempt {origin['attempt']}, seed {origin['seed']}"
    yield "drawn", ", ".join(map(show_value, origin["drawn"]))
    yield "prompt", "" if origin["prompt"] is None else show_value(origin["prompt"])
    yield "model", " ".join(str(each) for each in (origin["model"], origin["weights"]) if each)
    yield "terms", origin["license"] or "not said"
    yield "scores", ", ".join(f"{name} {score:.4g}" for name, score in origin["scores"].items())
    if report.edited_share is not None:
        yield "generated", f"{report.edited_share:.1%} of the pixels"


def _list_rest(report: EntryReport) -> Iterator[tuple[str, str]]:
    from synthloader.cli.cache.columns import show_value

    for each in report.verdicts:
        said = "accepted" if each.accepted else f"rejected: {each.reason or 'no reason given'}"
        score = "" if each.score is None else f", score {each.score:.4g}"
        changes = f", changed {' and '.join(each.changes)}" if each.changes else ""
        yield "verdict", f"{said}{score}{changes}, by {each.filters}"
    yield "metadata", ", ".join(f"{name} {show_value(value)}" for name, value in report.head.metadata.items())
    yield "maps", ", ".join(report.head.maps)
    yield "fields", ", ".join(map(show_value, report.head.fields))
    unstored = ", ".join(map(show_value, report.head.unstored))
    yield "unstored", f"{unstored} (read from the source on each hit)" if unstored else ""
