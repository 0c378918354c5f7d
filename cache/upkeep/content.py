"""Whether two records of one key say the same, however their bytes were packed; and which of them is kept.

Equal entries have equal bytes when one version of the software wrote them. Records of `raw` and of `zstd` differ in
bytes and not in pixels, and so may those of two builds of zstd. Under which terms a sample may be used
(`Origin.license`) is no part of its content: it is said by the recipe and not by the key.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from synthloader.cache.codecs import decode_image
from synthloader.cache.record import (
    KIND_NAMES,
    MALFORMED,
    PARTS,
    decode_entry,
    is_same_part,
    refuse_malformed,
    take_apart,
)
from synthloader.errors import CacheError
from synthloader.sample import Sample

__all__ = ["Content", "is_lossy", "list_differences", "rank_record", "read_content"]


class Content(NamedTuple):
    """What a record says, in a form in which equal records are equal.

    Attributes:
        kind: Number of the kind.
        tree: Name of a part to its JSON, without the license and with pixels in place of the codec.
        blobs: Blobs that the tree refers to, with pixels in place of what the codec made of them.
        codec: How the image is stored; None where there is none.
    """

    kind: int
    tree: dict[str, str]
    blobs: list[bytes]
    codec: str | None


def read_content(data: bytes, /, *, name: str = "a record") -> Content:
    """Read a record, and decode its image.

    Raises:
        CacheCorruptError: The bytes are not what was written.
        CacheVersionError: A newer version of synthloader wrote them, and only it can compare them.
    """
    kind, tree, reader = take_apart(data, name)
    try:
        blobs = [bytes(reader.blob(place)) for place in range(reader.num_blobs)]
        sample = tree["sample"] if KIND_NAMES[kind] == "verdict" else tree
        codec = None
        if sample is not None:
            image, origin = sample.get("image"), sample.get("origin")
            if isinstance(image, dict):
                codec = _name_codec(image)
                pixels = decode_image(image, reader.blob(image["blob"]))
                blobs[image["blob"]] = pixels.tobytes()
                sample["image"] = [*pixels.shape, image["blob"]]
            if isinstance(origin, dict):
                origin.pop("license", None)
        told = {f"sample.{part}" if sample is not tree else part: node for part, node in (sample or {}).items()}
        if sample is not tree:
            told |= {part: node for part, node in tree.items() if part != "sample"}
        return Content(kind, {part: json.dumps(node, sort_keys=True) for part, node in told.items()}, blobs, codec)
    except MALFORMED as error:
        refuse_malformed(name, error)


def list_differences(one: bytes, other: bytes, /, *, names: tuple[str, str] = ("a record", "a record")) -> list[str]:
    """In which parts two records of one key differ; none where they say the same.

    Args:
        one: A record.
        other: Another.
        names: What errors call them.

    Raises:
        CacheCorruptError: One of them is broken.
        CacheVersionError: A newer version of synthloader wrote one of them, and only it can compare them.

    Example:
        >>> import numpy as np
        >>> from synthloader.cache.record import encode_entry
        >>> light, dark = (Sample(np.full((40, 60, 3), shade, np.uint8)) for shade in (200, 20))
        >>> list_differences(encode_entry(light, codec="raw"), encode_entry(light, codec="zstd"))
        []
        >>> list_differences(encode_entry(light), encode_entry(dark))
        ['image']
    """
    if one == other:
        return []
    ours, theirs = read_content(one, name=names[0]), read_content(other, name=names[1])
    if ours.kind != theirs.kind:
        return ["kind"]
    if (ours.tree, ours.blobs) == (theirs.tree, theirs.blobs):
        return []
    found = [] if KIND_NAMES[ours.kind] == "verdict" else _compare_parts(one, other)
    if not found:
        found = [part for part in {**ours.tree, **theirs.tree} if ours.tree.get(part) != theirs.tree.get(part)]
    return found or ["arrays"]


def is_lossy(codec: str | None, /) -> bool:
    """Whether this codec changes pixels."""
    return codec is not None and codec.startswith("jpeg")


def rank_record(data: bytes, /) -> tuple[bool, int, bytes]:
    """Of records that say the same, the least by this is kept: one with a license, the shortest, the first by bytes.

    So the outcome does not depend on the order in which they were found.
    """
    try:
        _, tree, _ = take_apart(data, "a record", checks_bytes=False)
        has_license = bool((tree.get("origin") or {}).get("license"))
    except (CacheError, *MALFORMED):
        has_license = False
    return not has_license, len(data), data


def _name_codec(image: dict[str, Any]) -> str:
    return "jpeg-444" if image.get("subsampling") == "444" else str(image["codec"])


def _compare_parts(one: bytes, other: bytes) -> list[str]:
    """The parts in which two samples differ; of images of two sizes, nothing else is compared."""
    first, second = decode_entry(one), decode_entry(other)
    if not isinstance(first, Sample) or not isinstance(second, Sample):
        return []
    if first.size_hw != second.size_hw:
        return ["image"]
    first, second = _without_license(first), _without_license(second)
    return [part for part in PARTS if not is_same_part(first, second, part)]


def _without_license(sample: Sample) -> Sample:
    return sample if sample.origin is None else sample.replace(origin=sample.origin.replace(license=None))
