"""The one place that turns an entry of a cache into bytes, and back.

```
offset  size
0       4     magic, b"SLRC"
4       1     format version, 1
5       1     kind: 1 sample, 2 rejected, 3 verdict, 4 set aside for layer
6       1     flags, 0
7       1     0
8       8     xxh3_64 of bytes 0-7 and of everything from byte 16 on
16      4     T, length of the tree
20      4     B, number of blobs
24      8 B   length of each blob
...     T     the tree: JSON in UTF-8 (`synthloader.cache.tree` says how values are written)
...           the blobs, in order
```

Numbers are little-endian. The tree and every blob begin at a multiple of 8; what lies between is 0. The first 16 bytes
and the checksum are the same in every version, so that a broken record and a newer one can be told apart.

A record holds nothing but the entry: no time, no machine. Equal entries have equal bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from functools import partial
from typing import Any, NoReturn, cast

import numpy as np
from xxhash import xxh3_64

from synthloader.cache.bitmasks import check_packed, pack_masks, unpack_masks
from synthloader.cache.codecs import DEFAULT_CODEC, UnknownCodecError, decode_image, encode_image
from synthloader.cache.tree import TreeReader, TreeWriter, UnstorableError
from synthloader.checks import check_type, reject
from synthloader.errors import CacheCorruptError, CacheVersionError
from synthloader.lazy import LazyArray
from synthloader.protocols import CacheEntry, Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = [
    "KIND_NAMES",
    "MALFORMED",
    "PARTS",
    "RECORD_VERSION",
    "UNSTORED_FIELDS",
    "decode_entry",
    "decode_verdict",
    "encode_entry",
    "encode_verdict",
    "is_intact",
    "is_same_part",
    "read_origin",
    "refuse_malformed",
    "take_apart",
]

RECORD_VERSION = 1
"""The newest format that this version reads, and the one that it writes."""

UNSTORED_FIELDS = "__unstored__"
"""Name in `Sample.fields` of a decoded sample under which the names of the fields that could not be stored are listed;
absent where all could."""

_MAGIC = b"SLRC"
_HEAD = struct.Struct("<4sBBBBQ")
_COUNTS = struct.Struct("<II")
_SAMPLE, _REJECTED, _VERDICT, _LAYER = 1, 2, 3, 4
KIND_NAMES = {_SAMPLE: "sample", _REJECTED: "rejected", _VERDICT: "verdict", _LAYER: "layer"}
"""Number of a kind of record to its name."""

_AGAIN = "open the cache with on_corrupt='regenerate', or take it out: synthloader cache verify PATH --quarantine"
_UPDATE = "update synthloader: pip install -U synthloader"
PARTS = ("image", "target", "origin", "metadata", "maps", "fields")
"""What a sample is made of."""

_AS_JUDGED = "="
_ORIGIN_DEFAULTS = {
    each.name: each.default if each.default is not MISSING else {} for each in fields(Origin) if each.name != "edited"
}

MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error)
"""What reading a tree that `TreeWriter` did not make can raise."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))


def encode_entry(entry: CacheEntry, /, *, codec: str = DEFAULT_CODEC) -> bytes:
    """The bytes of an entry.

    Args:
        entry: What is to be kept.
        codec: How its image is stored, one of `synthloader.cache.codecs.CODECS`.

    Fields of the sample that are not made of numbers, strings, bytes, arrays, lists, tuples and dicts are left out;
    the record names them (see `UNSTORED_FIELDS`).

    Raises:
        TypeError: It is no entry, or its metadata, origin, maps or attributes hold objects that cannot be stored.
        ValueError: Its masks are too large.

    Example:
        >>> record = encode_entry(Sample(np.zeros((4, 6, 3), np.uint8), ClassLabel(3)))
        >>> decode_entry(record).target
        ClassLabel(class_id=3)
    """
    check_type("entry", entry, (Sample, Rejected))
    writer = TreeWriter()
    if isinstance(entry, Rejected):
        tree = {
            "reason": _write_strictly(writer, "reason", entry.reason),
            "origin": _write_origin(writer, entry.origin),
        }
        return _assemble(_REJECTED, tree, writer)
    return _assemble(_SAMPLE, {part: _write_part(writer, entry, part, codec) for part in PARTS}, writer)


def decode_entry(data: bytes | memoryview, /, *, name: str = "a record", view: bool = False) -> CacheEntry:
    """The entry that some bytes hold, with arrays of its own; masks are unpacked when they are first asked for.

    Args:
        data: A whole record.
        name: What errors call it.
        view: Arrays share the memory of `data` where they are stored as they are, and nobody can write to them.

    Raises:
        CacheCorruptError: The bytes are not what was written.
        CacheVersionError: A newer version of synthloader wrote them.
    """
    kind, tree, reader = take_apart(data, name, view=view)
    try:
        if kind == _REJECTED:
            return Rejected(reader.read(tree["reason"]), read_origin(reader, tree["origin"], (0, 0)))
        if kind == _SAMPLE:
            return _read_sample(reader, tree, None)
    except MALFORMED as error:
        refuse_malformed(name, error)
    raise CacheCorruptError(f"Reading {name}", reason=f"it is a {KIND_NAMES[kind]}, not a sample", hint=_AGAIN)


def encode_verdict(verdict: Verdict, filters: str, /, *, of: Sample, codec: str = DEFAULT_CODEC) -> bytes:
    """The bytes of a verdict. Where it brings a sample, only what differs from the judged one is stored.

    Args:
        verdict: What the filters said.
        filters: Their fingerprint.
        of: The sample that was judged.
        codec: How a changed image is stored.
    """
    check_type("verdict", verdict, Verdict)
    writer = TreeWriter()
    tree: dict[str, Any] = {
        "filters": _write_strictly(writer, "filters", filters),
        "accepted": verdict.accepted,
        "score": _write_strictly(writer, "score", verdict.score),
        "reason": _write_strictly(writer, "reason", verdict.reason),
        "sample": None,
    }
    if (sample := verdict.sample) is not None:
        tree["sample"] = {
            part: _AS_JUDGED if is_same_part(sample, of, part) else _write_part(writer, sample, part, codec)
            for part in PARTS
        }
    return _assemble(_VERDICT, tree, writer)


def decode_verdict(data: bytes | memoryview, /, *, of: Sample, name: str = "a record") -> Verdict:
    """The verdict that some bytes hold.

    Args:
        data: A whole record.
        of: The sample that was judged; what is equal in the verdict's sample is shared with it.
        name: What errors call it.

    Raises:
        CacheCorruptError: The bytes are not what was written, or `of` is not the sample that was judged.
        CacheVersionError: A newer version of synthloader wrote them.
    """
    kind, tree, reader = take_apart(data, name)
    if kind != _VERDICT:
        raise CacheCorruptError(f"Reading {name}", reason=f"it is a {KIND_NAMES[kind]}, not a verdict", hint=_AGAIN)
    try:
        sample = None if tree["sample"] is None else _read_sample(reader, tree["sample"], of)
        return Verdict(tree["accepted"], reader.read(tree["score"]), reader.read(tree["reason"]), sample)
    except MALFORMED as error:
        refuse_malformed(name, error)


def is_intact(data: bytes | memoryview, /) -> bool:
    """Whether these are the bytes of a record of any version, as they were written."""
    if len(data) < _HEAD.size:
        return False
    magic, *_, checksum = _HEAD.unpack_from(data)
    return bool(magic == _MAGIC and _compute_checksum(data[:8], [data[_HEAD.size :]]) == checksum)


def _assemble(kind: int, tree: dict[str, Any], writer: TreeWriter) -> bytes:
    text = _ENCODER.encode(tree).encode()
    lengths = [len(blob) for blob in writer.blobs]
    body: list[bytes | memoryview] = [
        _COUNTS.pack(len(text), len(lengths)),
        struct.pack(f"<{len(lengths)}Q", *lengths),
        text,
        _pad(len(text)),
    ]
    for blob in writer.blobs:
        body += [blob, _pad(len(blob))]
    head = _HEAD.pack(_MAGIC, RECORD_VERSION, kind, 0, 0, 0)[:8]
    return b"".join([head, struct.pack("<Q", _compute_checksum(head, body)), *body])


def take_apart(
    data: bytes | memoryview, name: str, /, *, view: bool = False, checks_bytes: bool = True
) -> tuple[int, Any, TreeReader]:
    """Kind (one of `KIND_NAMES`), tree and blobs of a record.

    Args:
        data: A whole record.
        name: What errors call it.
        view: Arrays that are read share the memory of `data`.
        checks_bytes: Compare the checksum, for which all bytes are read. False reads the tree alone.

    Raises:
        CacheCorruptError: The bytes are not what was written.
        CacheVersionError: A newer version of synthloader wrote them.
    """
    data = memoryview(data)
    what = f"Reading {name}"
    if len(data) < _HEAD.size + _COUNTS.size:
        raise CacheCorruptError(what, reason=f"{len(data)} bytes are too few for a record", hint=_AGAIN)
    magic, version, kind, flags, _, _ = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise CacheCorruptError(what, reason=f"it begins with {magic!r}, not with {_MAGIC!r}", hint=_AGAIN)
    if checks_bytes and not is_intact(data):
        raise CacheCorruptError(what, reason="its bytes do not match its checksum", hint=_AGAIN)
    if version > RECORD_VERSION:
        reason = f"it has format {version}, and this version of synthloader reads formats up to {RECORD_VERSION}"
        raise CacheVersionError(what, reason=reason, hint=_UPDATE)
    if kind not in (_SAMPLE, _REJECTED, _VERDICT):
        reason = f"it is of kind {kind} ({KIND_NAMES.get(kind, 'unknown')}), which this version does not read"
        raise CacheVersionError(what, reason=reason, hint=_UPDATE)
    if flags:
        raise CacheVersionError(what, reason=f"it has flags {flags:#x}, which this version does not know", hint=_UPDATE)
    try:
        length, num_blobs = _COUNTS.unpack_from(data, _HEAD.size)
        position = _HEAD.size + _COUNTS.size
        lengths = struct.unpack_from(f"<{num_blobs}Q", data, position)
        position += 8 * num_blobs
        pieces = []
        for size in (length, *lengths):
            pieces.append(data[position : position + size])
            position += size + len(_pad(size))
        if position != len(data):
            raise ValueError(f"{len(data)} bytes where {position} were announced")
        tree = json.loads(str(pieces[0], "utf-8"))
    except MALFORMED as error:
        refuse_malformed(name, error)
    return kind, tree, TreeReader(pieces[1:], view=view)


class _UnknownTargetError(ValueError):
    """A whole record has a kind of target that a later version may have brought."""


def refuse_malformed(name: str, error: Exception, /) -> NoReturn:
    """Raise the error that one of `MALFORMED` becomes."""
    if isinstance(error, UnknownCodecError | _UnknownTargetError):
        raise CacheVersionError(f"Reading {name}", reason=f"it has {error}", hint=_UPDATE) from error
    text = f"{type(error).__name__}: {error}"[:200]
    raise CacheCorruptError(f"Reading {name}", reason=f"it is not made as records are: {text}", hint=_AGAIN) from error


def _compute_checksum(head: bytes | memoryview, body: Sequence[bytes | memoryview]) -> int:
    digest = xxh3_64(head)
    for piece in body:
        digest.update(piece)
    return digest.intdigest()


def _pad(length: int) -> bytes:
    return bytes(-length % 8)


def _write_part(writer: TreeWriter, sample: Sample, part: str, codec: str = "") -> Any:
    match part:
        case "image":
            parameters, data = encode_image(sample.image, codec)
            return {**parameters, "blob": writer.add_blob(data)}
        case "target":
            return _write_target(writer, sample.target)
        case "origin":
            return _write_origin(writer, sample.origin)
        case "fields":
            return _write_fields(writer, sample.fields)
        case _:
            return _write_arrays(writer, part, getattr(sample, part))


def _read_sample(reader: TreeReader, tree: Any, of: Sample | None) -> Sample:
    parts: dict[str, Any] = {}
    for part in PARTS:
        node = tree[part]
        parts[part] = (
            getattr(of, part) if of is not None and node == _AS_JUDGED else _read_part(reader, node, part, parts)
        )
    return Sample(**parts)


def _read_part(reader: TreeReader, node: Any, part: str, before: Mapping[str, Any]) -> Any:
    match part:
        case "image":
            return decode_image(node, reader.blob(node["blob"]), view=reader.view)
        case "target":
            return _read_target(reader, node, before["image"].shape[:2])
        case "origin":
            return read_origin(reader, node, before["image"].shape[:2])
        case "fields":
            return _read_fields(reader, node)
        case _:
            values = reader.read(node)
            if not isinstance(values, dict):
                raise ValueError(f"{part} is no dict")
            return values


def is_same_part(sample: Sample, other: Sample, part: str, /) -> bool:
    """Whether one of `PARTS` is the same, to the bit, in both."""
    ours, theirs = getattr(sample, part), getattr(other, part)
    if ours is theirs:
        return True
    if part == "image":
        return np.array_equal(ours, theirs)
    if type(ours) is not type(theirs) or sample.size_hw != other.size_hw:  # Empty masks of all sizes are written alike.
        return False
    writers = TreeWriter(), TreeWriter()
    nodes = [_write_part(writer, one, part) for writer, one in zip(writers, (sample, other), strict=True)]
    return _ENCODER.encode(nodes[0]) == _ENCODER.encode(nodes[1]) and writers[0].blobs == writers[1].blobs


def _write_target(writer: TreeWriter, target: Target | None) -> Any:
    match target:
        case None:
            return None
        case ClassLabel(class_id=class_id):
            return {"kind": "class_label", "class_id": writer.write(class_id)}
        case SemanticMask(mask=mask, ignore_index=ignore_index):
            # The narrowest type that holds all ids: a quarter of the bytes, nearly always.
            low, high = (int(mask.min()), int(mask.max())) if mask.size else (0, 0)
            narrow = next(kind for kind in ("u1", "i2", "i4") if _fits(kind, low) and _fits(kind, high))
            return {
                "kind": "semantic_mask",
                "mask": writer.write(mask.astype(f"<{narrow}")),
                "ignore_index": writer.write(ignore_index),
            }
        case Instances():
            return {
                "kind": "instances",
                "class_ids": writer.add_array(target.class_ids, "<i8"),
                "boxes": writer.add_array(target.boxes, "<f4"),
                "masks": None if target.masks is None else _write_masks(writer, target.masks),
                "keypoints": writer.write(target.keypoints),
                "crowd": writer.add_array(cast(np.ndarray, target.crowd), "|b1"),
                "attributes": _write_arrays(writer, "attributes", target.attributes),
            }


def _read_target(reader: TreeReader, node: Any, size_hw: tuple[int, int]) -> Target | None:
    if node is None:
        return None
    match node["kind"]:
        case "class_label":
            return ClassLabel(reader.read(node["class_id"]))
        case "semantic_mask":
            return SemanticMask(reader.read(node["mask"]).astype(np.int32), reader.read(node["ignore_index"]))
        case "instances":
            return Instances(
                class_ids=reader.read_flat("<i8", node["class_ids"]),
                boxes=reader.read_flat("<f4", node["boxes"]).reshape(-1, 4),
                masks=None if node["masks"] is None else cast(Any, _read_masks(reader, node["masks"], size_hw)),
                keypoints=reader.read(node["keypoints"]),
                crowd=reader.read_flat("|b1", node["crowd"]),
                attributes=reader.read(node["attributes"]),
            )
    raise _UnknownTargetError(f"a target of kind {node['kind']!r}, which this version does not know")


def _write_origin(writer: TreeWriter, origin: Origin | None) -> Any:
    """What differs from an `Origin()`."""
    if origin is None:
        return None
    values = {name: getattr(origin, name) for name in _ORIGIN_DEFAULTS}
    values["scores"], values["class_names"] = dict(origin.scores), dict(origin.class_names)
    told = {name: value for name, value in values.items() if value != _ORIGIN_DEFAULTS[name]}
    node = {name: _write_strictly(writer, f"origin.{name}", value) for name, value in told.items()}
    if origin.edited is not None:
        node["edited"] = _write_masks(writer, origin.edited[None])
    return node


def read_origin(reader: TreeReader, node: Any, size_hw: tuple[int, int], /) -> Origin | None:
    """The origin that a node holds, its edited region packed until it is asked for."""
    if node is None:
        return None
    values = {name: reader.read(value) for name, value in node.items() if name != "edited"}
    if not values.keys() <= _ORIGIN_DEFAULTS.keys():
        raise ValueError(f"an origin has no {min(values.keys() - _ORIGIN_DEFAULTS.keys())!r}")
    if "edited" in node:
        packed = _read_packed(reader, node["edited"], size_hw)
        values["edited"] = LazyArray(size_hw, partial(_unpack_one, *packed, size_hw=size_hw))
    return Origin(**values)


def _write_masks(writer: TreeWriter, masks: np.ndarray) -> Any:
    extents, bits = pack_masks(masks)
    return {"extents": writer.add_array(extents, "<i4"), "bits": writer.add_blob(bits)}


def _read_masks(reader: TreeReader, node: Any, size_hw: tuple[int, int]) -> LazyArray:
    extents, bits = _read_packed(reader, node, size_hw)
    return LazyArray((len(extents), *size_hw), partial(unpack_masks, extents, bits, size_hw=size_hw))


def _read_packed(reader: TreeReader, node: Any, size_hw: tuple[int, int]) -> tuple[np.ndarray, bytes]:
    """Checked now, unpacked when asked for; in bytes of their own, for by then the record may be gone."""
    extents = np.frombuffer(bytes(reader.blob(node["extents"])), "<i4").reshape(-1, 4)
    bits = bytes(reader.blob(node["bits"]))
    check_packed(extents, len(bits), size_hw=size_hw)
    return extents, bits


def _unpack_one(extents: np.ndarray, bits: bytes, *, size_hw: tuple[int, int]) -> np.ndarray:
    mask: np.ndarray = unpack_masks(extents, bits, size_hw=size_hw)[0]
    return mask


def _write_fields(writer: TreeWriter, values: Mapping[str, Any]) -> Any:
    stored = []
    unstored = list(values.get(UNSTORED_FIELDS, ()))  # Of a sample that came out of a cache.
    for name, value in values.items():
        if name == UNSTORED_FIELDS:
            continue
        try:
            stored.append(writer.write([name, value]))
        except UnstorableError:
            unstored.append(name)
    return {"stored": stored, "unstored": _write_strictly(writer, "fields", unstored)}


def _read_fields(reader: TreeReader, node: Any) -> dict[str, Any]:
    values = {reader.read(name): reader.read(value) for name, value in node["stored"]}
    if unstored := reader.read(node["unstored"]):
        values[UNSTORED_FIELDS] = list(unstored)
    return values


def _write_arrays(writer: TreeWriter, name: str, values: Mapping[str, Any]) -> Any:
    return {"d": {}} if not values else _write_strictly(writer, name, dict(values))


def _write_strictly(writer: TreeWriter, name: str, value: Any) -> Any:
    try:
        return writer.write(value)
    except UnstorableError as error:
        reject(name, f"be storable ({error})", value, "Put objects of your own into fields.", error=TypeError)


def _fits(kind: str, number: int) -> bool:
    limits = np.iinfo(kind)
    return bool(limits.min <= number <= limits.max)
