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
from collections.abc import Sequence
from typing import Any, NoReturn

from xxhash import xxh3_64

from synthloader.cache.codecs import DEFAULT_CODEC, UnknownCodecError
from synthloader.cache.parts import (
    AS_JUDGED,
    PARTS,
    UNSTORED_FIELDS,
    UnknownTargetError,
    encode_tree,
    is_same_part,
    read_origin,
    read_sample,
    write_origin,
    write_part,
    write_strictly,
)
from synthloader.cache.tree import TreeReader, TreeWriter
from synthloader.checks import check_type
from synthloader.errors import CacheCorruptError, CacheVersionError
from synthloader.protocols import CacheEntry, Rejected, Verdict
from synthloader.sample import Sample

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

_MAGIC = b"SLRC"
_HEAD = struct.Struct("<4sBBBBQ")
_COUNTS = struct.Struct("<II")
_SAMPLE, _REJECTED, _VERDICT, _LAYER = 1, 2, 3, 4
KIND_NAMES = {_SAMPLE: "sample", _REJECTED: "rejected", _VERDICT: "verdict", _LAYER: "layer"}
"""Number of a kind of record to its name."""

_AGAIN = "open the cache with on_corrupt='regenerate', or take it out: synthloader cache verify PATH --quarantine"
_UPDATE = "update synthloader: pip install -U synthloader"

_decode_tree = json.JSONDecoder().raw_decode

MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error)
"""What reading a tree that `TreeWriter` did not make can raise."""


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
        >>> import numpy as np
        >>> from synthloader.targets import ClassLabel
        >>> record = encode_entry(Sample(np.zeros((4, 6, 3), np.uint8), ClassLabel(3)))
        >>> decode_entry(record).target
        ClassLabel(class_id=3)
    """
    check_type("entry", entry, (Sample, Rejected))
    writer = TreeWriter()
    if isinstance(entry, Rejected):
        tree = {
            "reason": write_strictly(writer, "reason", entry.reason),
            "origin": write_origin(writer, entry.origin and entry.origin.replace(edited=None)),  # There is no image.
        }
        return _assemble(_REJECTED, tree, writer)
    return _assemble(_SAMPLE, {part: write_part(writer, entry, part, codec=codec) for part in PARTS}, writer)


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
            return read_sample(reader, tree, None)
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
        "filters": write_strictly(writer, "filters", filters),
        "accepted": verdict.accepted,
        "score": write_strictly(writer, "score", verdict.score),
        "reason": write_strictly(writer, "reason", verdict.reason),
        "sample": None,
    }
    if (sample := verdict.sample) is not None:
        tree["sample"] = {
            part: AS_JUDGED if is_same_part(sample, of, part) else write_part(writer, sample, part, codec=codec)
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
        sample = None if tree["sample"] is None else read_sample(reader, tree["sample"], of)
        return Verdict(tree["accepted"], reader.read(tree["score"]), reader.read(tree["reason"]), sample)
    except MALFORMED as error:
        refuse_malformed(name, error)


def is_intact(data: bytes | memoryview, /) -> bool:
    """Whether these are the bytes of a record of any version, as they were written."""
    if len(data) < _HEAD.size:
        return False
    digest = xxh3_64(data[:8])
    digest.update(data[_HEAD.size :])
    magic, *_, checksum = _HEAD.unpack_from(data)
    return bool(magic == _MAGIC and digest.intdigest() == checksum)


def _assemble(kind: int, tree: dict[str, Any], writer: TreeWriter) -> bytes:
    text = encode_tree(tree)
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
    if len(data) < _HEAD.size + _COUNTS.size:
        raise CacheCorruptError(f"Reading {name}", reason=f"{len(data)} bytes are too few for a record", hint=_AGAIN)
    magic, version, kind, flags, _, _ = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise CacheCorruptError(f"Reading {name}", reason=f"it begins with {magic!r}, not with {_MAGIC!r}", hint=_AGAIN)
    if checks_bytes and not is_intact(data):
        raise CacheCorruptError(f"Reading {name}", reason="its bytes do not match its checksum", hint=_AGAIN)
    if version > RECORD_VERSION:
        reason = f"it has format {version}, and this version of synthloader reads formats up to {RECORD_VERSION}"
        raise CacheVersionError(f"Reading {name}", reason=reason, hint=_UPDATE)
    if kind not in (_SAMPLE, _REJECTED, _VERDICT):
        reason = f"it is of kind {kind} ({KIND_NAMES.get(kind, 'unknown')}), which this version does not read"
        raise CacheVersionError(f"Reading {name}", reason=reason, hint=_UPDATE)
    if flags:
        raise CacheVersionError(
            f"Reading {name}", reason=f"it has flags {flags:#x}, which this version does not know", hint=_UPDATE
        )
    try:
        length, num_blobs = _COUNTS.unpack_from(data, _HEAD.size)
        start = _HEAD.size + _COUNTS.size + 8 * num_blobs
        places = []
        position = start + ((length + 7) & -8)
        for size in struct.unpack_from(f"<{num_blobs}Q", data, _HEAD.size + _COUNTS.size):
            places.append((position, position + size))
            position += (size + 7) & -8
        if position != len(data):
            raise ValueError(f"{len(data)} bytes where {position} were announced")
        text = str(data[start : start + length], "utf-8")
        tree, end = _decode_tree(text)
        if end != len(text):
            raise ValueError(f"{len(text) - end} characters too many")
    except MALFORMED as error:
        refuse_malformed(name, error)
    return kind, tree, TreeReader(data, places, view=view)


def refuse_malformed(name: str, error: Exception, /) -> NoReturn:
    """Raise the error that one of `MALFORMED` becomes."""
    if isinstance(error, UnknownCodecError | UnknownTargetError):
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
