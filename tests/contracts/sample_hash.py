"""Every bit of a sample in one hash."""

from __future__ import annotations

from typing import Any

from synthloader.keys import hash_content
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask


def describe(sample: Sample | None) -> bytes:
    """Hash every bit of a sample."""
    if sample is None:
        return b""
    target: Any = sample.target
    content: list[Any]
    match target:
        case Instances():
            content = [target.class_ids, target.boxes, target.masks, target.keypoints, target.crowd]
            content.append(dict(target.attributes))
        case SemanticMask():
            content = [target.mask, target.ignore_index]
        case ClassLabel():
            content = [target.class_id]
        case _:
            content = [None]
    origin = sample.origin
    drawn = [] if origin is None else [origin.source, list(origin.drawn), origin.edited, origin.prompt, origin.model]
    return hash_content(
        [sample.image, type(target).__name__, content, drawn, dict(sample.metadata), dict(sample.maps), sample.fields]
    )
