"""Where an exported image came from: one line of JSON for each."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from synthloader.exports.plain_values import dump_json, read_metadata, to_plain
from synthloader.sample import Origin, Sample

__all__ = ["describe_origin", "make_provenance_line"]


def describe_origin(origin: Origin | None, /) -> dict[str, Any]:
    """Every field of an origin as plain values; `edited`, the generated region, as run lengths."""
    if origin is None:
        return {}
    return {field.name: to_plain(getattr(origin, field.name)) for field in fields(origin)}


def make_provenance_line(name: str, sample: Sample, where: dict[str, str], /) -> bytes:
    r"""A line of `provenance.jsonl`: where the image is, the name of its entry, its origin, and its metadata.

    A real sample has no origin, and so no `source`.

    Args:
        name: The entry's name.
        sample: The sample.
        where: `file` and perhaps `member`.

    Example:
        >>> import numpy as np
        >>> sample = Sample(np.zeros((4, 6, 3), np.uint8), origin=Origin(source="a.jpg", seed=3))
        >>> make_provenance_line("0f", sample, {"file": "images/0f.png"})[:64]
        b'{"file": "images/0f.png", "name": "0f", "source": "a.jpg", "fing'
    """
    line = {**where, "name": name, **describe_origin(sample.origin)}
    if metadata := read_metadata(sample.metadata):
        line["metadata"] = metadata
    return dump_json(line).encode("ascii") + b"\n"
