"""The card of a cache as a page of Markdown, and how sizes, counts and times are written for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

__all__ = ["format_bytes", "format_count", "format_time", "write_markdown"]


def format_bytes(num_bytes: int, /) -> str:
    """Bytes in the unit in which they are short.

    Example:
        >>> format_bytes(900), format_bytes(12_345_678), format_bytes(3_400_000_000)
        ('900 B', '12.3 MB', '3.4 GB')
    """
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"


def format_count(count: int, noun: str, plural: str = "", /) -> str:
    """`1 sample`, `12,000 samples`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def format_time(time_ms: int, /) -> str:
    """A time of the log, in UTC.

    Example:
        >>> format_time(1_700_000_000_123)
        '2023-11-14T22:13:20Z'
    """
    return datetime.fromtimestamp(time_ms // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_markdown(card: Mapping[str, Any], /) -> str:
    """The page of a card that `CacheCard.to_dict` gave."""
    lines = ["# Generated samples", "", *_table(["", ""], _list_facts(card)), ""]
    for title, header, rows in (
        (
            "Generators",
            ["generator", "samples", "could not be made", "bytes"],
            [
                [_code(name or "not said"), each["samples"], each["rejected"], format_bytes(each["num_bytes"])]
                for name, each in card["generators"].items()
            ],
        ),
        (
            "Models",
            ["model", "hash of its weights", "samples"],
            [[_text(each["model"]), _code(each["weights"]), each["samples"]] for each in card["models"]],
        ),
        (
            f"Prompts, the most frequent of {card['num_prompts']:,}",
            ["prompt", "samples"],
            [[_text(prompt), count] for prompt, count in card["prompts"].items()],
        ),
        (
            "Terms of use",
            ["terms", "samples"],
            [
                *([_text(name), count] for name, count in card["licenses"].items()),
                *([["not said", card["num_unlicensed"]]] if card["num_unlicensed"] else []),
            ],
        ),
        (
            "Classes",
            ["id", "name", "samples", "instances"],
            [
                [each["id"], _text(" / ".join(each["names"])), each["samples"] or "in masks", each["instances"]]
                for each in card["classes"]
            ],
        ),
        (
            "Verdicts",
            ["filters, up to the last one named", "accepted", "rejected", "reasons"],
            [
                [_code(each["filters"]), each["accepted"], each["rejected"], _text(_join(each["reasons"]))]
                for each in card["verdicts"]
            ],
        ),
        (
            "Candidates that could not be made",
            ["reason", "candidates"],
            [[_text(name), count] for name, count in card["rejected"].items()],
        ),
        ("Cannot be read", ["why", "records"], [[_text(name), count] for name, count in card["unreadable"].items()]),
    ):
        if rows:
            lines += [f"## {title}", "", *_table(header, rows), ""]
    return "\n".join(lines)


def _list_facts(card: Mapping[str, Any]) -> Iterable[list[Any]]:
    yield ["samples", card["num_samples"]]
    yield ["candidates that could not be made", card["num_rejected"]]
    yield ["bytes", f"{format_bytes(card['num_bytes'])}, in files of {format_bytes(card['file_bytes'])}"]
    yield ["images stored as", _join(card["codecs"])]
    yield ["labels", _join({name.replace("_", " "): count for name, count in card["targets"].items()})]
    if sizes := card["sizes_hw"]:
        yield ["height x width", ", ".join(f"{name} {height} x {width}" for name, (height, width) in sizes.items())]
    yield ["sources", card["num_sources"]]
    yield ["donors and references drawn", card["num_drawn"]]
    yield ["seeds", _join(card["seeds"])]
    if len(card["shards"]) > 1:
        yield ["shards", len(card["shards"])]
    if times := card["time_range_ms"]:
        yield ["made", f"{format_time(times[0])} to {format_time(times[1])}"]


def _join(counts: Mapping[str, int]) -> str:
    """`zstd (12), raw (3)`; the name alone where there is only one."""
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    written = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(row)} |" for row in written),
    ]


def _text(text: Any) -> str:
    """What somebody wrote, on one line and without the marks of Markdown."""
    plain = " ".join(str(text or "").split())
    return "".join(f"\\{sign}" if sign in r"\`*_{}[]<>#|~" else sign for sign in plain)


def _code(text: Any) -> str:
    """A fingerprint, as code: bars and backticks would end the cell."""
    plain = " ".join(str(text or "").split()).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`" if plain else ""
