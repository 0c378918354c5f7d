"""`EntryHead` and `VerdictHead`: what a record says of itself, read without its pixels.

Only the JSON tree is read, and the small arrays that are asked for; a record of a megabyte costs some 30 microseconds.
The checksum is not compared, for that would read all of it: `synthloader.cache.upkeep.verify` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from synthloader.cache.layout import ENTRIES, VERDICTS
from synthloader.cache.lease import Lease
from synthloader.cache.record import KIND_NAMES, MALFORMED, read_origin, refuse_malformed, take_apart
from synthloader.cache.tree import TreeReader
from synthloader.errors import CacheCorruptError, CacheError
from synthloader.sample import Origin

__all__ = ["EntryHead", "VerdictHead", "look_at_entry", "look_at_verdict", "read_entry_head", "read_verdict_head"]

Head = TypeVar("Head")


@dataclass(frozen=True, slots=True)
class EntryHead:
    """What an entry says of itself.

    Attributes:
        kind: `"sample"`, or `"rejected"` for a candidate that the generator could not make.
        num_bytes: Length of the record.
        image: Codec and parameters; empty where it was rejected.
        target: `"class_label"`, `"instances"`, `"semantic_mask"`; None for an unlabelled image and a rejected one.
        class_ids: Those of the label or of all instances; empty for masks, which would have to be read.
        has_masks: Whether the instances have masks.
        origin: Where it came from, without the edited region.
        has_edited: Whether only a region of it was generated.
        reason: Why it was rejected.
        metadata: Name to number or string.
        maps: Names of the maps.
        fields: Names of the fields that it holds.
        unstored: Names of the fields that could not be stored.
    """

    kind: str
    num_bytes: int
    image: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    class_ids: tuple[int, ...] = ()
    has_masks: bool = False
    origin: Origin | None = None
    has_edited: bool = False
    reason: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    maps: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    unstored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerdictHead:
    """What a verdict says.

    Attributes:
        num_bytes: Length of the record.
        filters: Fingerprint of the filters: of all up to the one that judged, joined by ` | `.
        accepted: Whether the sample may be used.
        score: The number that decided.
        reason: Why it was rejected.
        changes: The parts of the sample that the filter changed: `("target",)`.
    """

    num_bytes: int
    filters: str
    accepted: bool
    score: float | None
    reason: str
    changes: tuple[str, ...]


def look_at_entry(lease: Lease, key: bytes, /) -> EntryHead | None:
    """The head of an entry, or None where this environment has none.

    Raises:
        CacheCorruptError: It is not made as records are.
        CacheVersionError: A newer version of synthloader wrote it.
    """
    return _look_at(lease, ENTRIES, key, read_entry_head, f"entry {key.hex()} of the cache {lease.folder}")


def look_at_verdict(lease: Lease, verdict_key: bytes, /) -> VerdictHead | None:
    """The head of a verdict, or None where this environment has none.

    Raises:
        CacheCorruptError: It is not made as records are.
        CacheVersionError: A newer version of synthloader wrote it.
    """
    return _look_at(
        lease, VERDICTS, verdict_key, read_verdict_head, f"verdict {verdict_key.hex()} of the cache {lease.folder}"
    )


def read_entry_head(data: bytes | memoryview, /, *, name: str = "a record") -> EntryHead:
    """The head of an entry; it shares no memory with the record.

    Args:
        data: A whole record.
        name: What errors call it.

    Example:
        >>> import numpy as np
        >>> from synthloader.cache.record import encode_entry
        >>> from synthloader.sample import Sample
        >>> head = read_entry_head(encode_entry(Sample(np.zeros((4, 6, 3), np.uint8), origin=Origin(source="a.jpg"))))
        >>> head.kind, head.image["size_hw"], head.origin.source
        ('sample', [4, 6], 'a.jpg')
    """
    kind, tree, reader = take_apart(data, name, checks_bytes=False)
    try:
        match KIND_NAMES[kind]:
            case "rejected":
                return _read_rejected(len(data), tree, reader)
            case "sample":
                return _read_sample(len(data), tree, reader)
    except MALFORMED as error:
        refuse_malformed(name, error)
    raise CacheCorruptError(f"Reading {name}", reason=f"it is a {KIND_NAMES[kind]}, not a sample")


def read_verdict_head(data: bytes | memoryview, /, *, name: str = "a record") -> VerdictHead:
    """The head of a verdict; arguments and errors as `read_entry_head`."""
    kind, tree, reader = take_apart(data, name, checks_bytes=False)
    if KIND_NAMES[kind] != "verdict":
        raise CacheCorruptError(f"Reading {name}", reason=f"it is a {KIND_NAMES[kind]}, not a verdict")
    try:
        parts = tree["sample"] or {}
        return VerdictHead(
            num_bytes=len(data),
            filters=str(reader.read(tree["filters"])),
            accepted=bool(tree["accepted"]),
            score=reader.read(tree["score"]),
            reason=str(reader.read(tree["reason"])),
            changes=tuple(part for part, node in parts.items() if node != "="),
        )
    except MALFORMED as error:
        refuse_malformed(name, error)


def _read_rejected(num_bytes: int, tree: Any, reader: TreeReader) -> EntryHead:
    return EntryHead(
        kind="rejected",
        num_bytes=num_bytes,
        origin=_read_origin(reader, tree["origin"]),
        reason=str(reader.read(tree["reason"])),
    )


def _read_sample(num_bytes: int, tree: Any, reader: TreeReader) -> EntryHead:
    target, origin, fields = tree["target"] or {}, tree["origin"], tree["fields"]
    kind = target.get("kind")
    class_ids: list[int] = []
    if kind == "class_label":
        class_ids = [reader.read(target["class_id"])]
    elif kind == "instances":
        class_ids = reader.read_flat("<i8", target["class_ids"]).tolist()
    return EntryHead(
        kind="sample",
        num_bytes=num_bytes,
        image={name: value for name, value in tree["image"].items() if name != "blob"},
        target=kind,
        class_ids=tuple(class_ids),
        has_masks=kind == "instances" and target["masks"] is not None,
        origin=_read_origin(reader, origin),
        has_edited=origin is not None and "edited" in origin,
        metadata=dict(reader.read(tree["metadata"])),
        maps=tuple(_read_names(reader, tree["maps"])),
        fields=tuple(str(reader.read(name)) for name, _ in fields["stored"]),
        unstored=tuple(reader.read(fields["unstored"])),
    )


def _read_origin(reader: TreeReader, node: Any) -> Origin | None:
    if node is None:
        return None
    return read_origin(reader, {name: value for name, value in node.items() if name != "edited"}, (0, 0))


def _read_names(reader: TreeReader, node: Any) -> list[str]:
    """The names of a dict, whose values are not read."""
    ((tag, content),) = node.items()
    return list(content) if tag == "d" else [reader.read(name) for name, _ in content]


def _look_at(lease: Lease, database: bytes, key: bytes, read: Callable[..., Head], name: str, /) -> Head | None:
    def read_or_copy(view: memoryview) -> Head | bytes:
        try:
            return read(view)
        except CacheError:
            return bytes(view)

    found = lease.look_up(database, key, read_or_copy)
    return read(found, name=name) if isinstance(found, bytes) else found  # Worded over a copy: no view lives on.
