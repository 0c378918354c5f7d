"""The parts of a sample in the tree of a record: how each is written and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np

from synthloader.cache.bitmasks import check_packed, pack_masks, unpack_masks
from synthloader.cache.codecs import decode_image, encode_image
from synthloader.cache.tree import TreeReader, TreeWriter, UnstorableError
from synthloader.checks import reject
from synthloader.lazy import LazyArray
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = [
    "AS_JUDGED",
    "PARTS",
    "UNSTORED_FIELDS",
    "UnknownTargetError",
    "encode_tree",
    "is_same_part",
    "read_origin",
    "read_sample",
    "write_origin",
    "write_part",
    "write_strictly",
]

UNSTORED_FIELDS = "__unstored__"
"""Name in `Sample.fields` of a decoded sample under which the names of the fields that could not be stored are listed;
absent where all could."""

PARTS = ("image", "target", "origin", "metadata", "maps", "fields")
"""What a sample is made of."""

AS_JUDGED = "="
"""Stands in a verdict for a part that is the same in the sample that was judged."""

Value = TypeVar("Value")
_ORIGIN_DEFAULTS: dict[str, Any] = {
    each.name: each.default if each.default is not MISSING else {} for each in fields(Origin) if each.name != "edited"
}
_MANY_BOXES = 64
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))


class UnknownTargetError(ValueError):
    """A whole record has a kind of target that a later version may have brought."""


def encode_tree(tree: Any, /) -> bytes:
    """The bytes of a tree."""
    return _ENCODER.encode(tree).encode()


def write_part(writer: TreeWriter, sample: Sample, part: str, /, *, codec: str = "") -> Any:
    """The node of one of `PARTS`."""
    match part:
        case "image":
            parameters, data = encode_image(sample.image, codec)
            return {**parameters, "blob": writer.add_blob(data)}
        case "target":
            return _write_target(writer, sample.target)
        case "origin":
            return write_origin(writer, sample.origin)
        case "fields":
            return _write_fields(writer, sample.fields)
        case _:
            return _write_arrays(writer, part, getattr(sample, part))


def read_sample(reader: TreeReader, tree: Any, of: Sample | None, /) -> Sample:
    """The sample that a tree holds.

    Args:
        reader: Of the record.
        tree: One node for each of `PARTS`; `AS_JUDGED` for one that is the same in `of`.
        of: The sample that was judged, where the record is a verdict's.
    """
    parts: dict[str, Any] = {}
    for part in PARTS:
        node = tree[part]
        if of is not None and node == AS_JUDGED:
            parts[part] = getattr(of, part)
        elif part == "image":
            parts[part] = decode_image(node, reader.blob(node["blob"]), view=reader.view)
        elif part == "target":
            parts[part] = None if node is None else _read_target(reader, node, parts["image"].shape[:2])
        elif part == "origin":
            parts[part] = None if node is None else read_origin(reader, node, parts["image"].shape[:2])
        elif part == "fields":
            parts[part] = _read_fields(reader, node)
        else:
            parts[part] = values = reader.read(node)
            if type(values) is not dict:
                raise ValueError(f"{part} is no dict")
    # A target that was read was checked against this image; what a constructor would check besides is slow in a hit.
    if of is None and not parts["maps"]:
        return _put_together(Sample, parts)
    return Sample(**parts)


def _put_together(kind: type[Value], values: dict[str, Any], /) -> Value:
    """An object of a frozen data class whose values were checked here."""
    made = object.__new__(kind)
    made.__dict__.update(values)
    return made


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
    nodes = [write_part(writer, one, part) for writer, one in zip(writers, (sample, other), strict=True)]
    return encode_tree(nodes[0]) == encode_tree(nodes[1]) and writers[0].blobs == writers[1].blobs


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
            mask = reader.read(node["mask"]).astype(np.int32)
            mask.flags.writeable = not reader.view
            if mask.shape != size_hw:
                raise ValueError(f"a mask of {mask.shape} pixels on an image of {size_hw}")
            return SemanticMask(mask, reader.read(node["ignore_index"]))
        case "instances":
            return _read_instances(reader, node, size_hw)
    raise UnknownTargetError(f"a target of kind {node['kind']!r}, which this version does not know")


def _read_instances(reader: TreeReader, node: Any, size_hw: tuple[int, int]) -> Instances:
    masks, attributes = node["masks"], reader.read(node["attributes"])
    values = {
        "class_ids": reader.read_flat("<i8", node["class_ids"]),
        "boxes": reader.read_flat("<f4", node["boxes"]).reshape(-1, 4),
        "masks": None if masks is None else _read_masks(reader, masks, size_hw),
        "keypoints": reader.read(node["keypoints"]),
        "crowd": reader.read_flat("|b1", node["crowd"]),
        "attributes": attributes,
    }
    if not _lie_inside(values["boxes"], size_hw):
        raise ValueError("a box is none, or lies outside of its image")
    count = len(values["class_ids"])
    is_plain = (
        values["keypoints"] is None
        and type(attributes) is dict
        and (masks is None or values["masks"].shape[0] == count)
    )
    if not is_plain or not len(values["boxes"]) == len(values["crowd"]) == count:
        return Instances(**values)
    if any(type(column) is not np.ndarray or column.shape[:1] != (count,) for column in attributes.values()):
        return Instances(**values)
    return _put_together(Instances, values)


def _lie_inside(boxes: np.ndarray, size_hw: tuple[int, int]) -> bool:
    height, width = size_hw
    if len(boxes) > _MANY_BOXES:
        low, high = boxes[:, :2], boxes[:, 2:]
        return bool((low >= 0).all() and (high >= low).all() and (high <= (width, height)).all())
    return all(
        0 <= left <= right <= width and 0 <= top <= bottom <= height for left, top, right, bottom in boxes.tolist()
    )


def write_origin(writer: TreeWriter, origin: Origin | None, /) -> Any:
    """What differs from an `Origin()`."""
    if origin is None:
        return None
    values = {name: getattr(origin, name) for name in _ORIGIN_DEFAULTS}
    values["scores"], values["class_names"] = dict(origin.scores), dict(origin.class_names)
    told = {name: value for name, value in values.items() if value != _ORIGIN_DEFAULTS[name]}
    node = {name: write_strictly(writer, f"origin.{name}", value) for name, value in told.items()}
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
        unpack = partial(_unpack_one, *packed, size_hw=size_hw)
        values["edited"] = LazyArray(size_hw, partial(_make_readonly, unpack) if reader.view else unpack)
    return _put_together(Origin, {**_ORIGIN_DEFAULTS, "edited": None, **values})


def _write_masks(writer: TreeWriter, masks: np.ndarray) -> Any:
    extents, bits = pack_masks(masks)
    return {"extents": writer.add_array(extents, "<i4"), "bits": writer.add_blob(bits)}


def _read_masks(reader: TreeReader, node: Any, size_hw: tuple[int, int]) -> LazyArray:
    extents, bits = _read_packed(reader, node, size_hw)
    unpack = partial(unpack_masks, extents, bits, size_hw=size_hw)
    return LazyArray((len(extents), *size_hw), partial(_make_readonly, unpack) if reader.view else unpack)


def _read_packed(reader: TreeReader, node: Any, size_hw: tuple[int, int]) -> tuple[np.ndarray, bytes]:
    """Checked now, unpacked when asked for; in bytes of their own, for by then the record may be gone."""
    extents = np.frombuffer(bytes(reader.blob(node["extents"])), "<i4").reshape(-1, 4)
    bits = bytes(reader.blob(node["bits"]))
    check_packed(extents, len(bits), size_hw=size_hw)
    return extents, bits


def _unpack_one(extents: np.ndarray, bits: bytes, *, size_hw: tuple[int, int]) -> np.ndarray:
    mask: np.ndarray = unpack_masks(extents, bits, size_hw=size_hw)[0]
    return mask


def _make_readonly(unpack: Callable[[], np.ndarray]) -> np.ndarray:
    array = unpack()
    array.flags.writeable = False
    return array


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
    return {"stored": stored, "unstored": write_strictly(writer, "fields", unstored)}


def _read_fields(reader: TreeReader, node: Any) -> dict[str, Any]:
    values = {reader.read(name): reader.read(value) for name, value in node["stored"]}
    if unstored := reader.read(node["unstored"]):
        values[UNSTORED_FIELDS] = list(unstored)
    return values


def _write_arrays(writer: TreeWriter, name: str, values: Mapping[str, Any]) -> Any:
    return {"d": {}} if not values else write_strictly(writer, name, dict(values))


def write_strictly(writer: TreeWriter, name: str, value: Any, /) -> Any:
    """The node of a value that must be storable.

    Raises:
        TypeError: It is not.
    """
    try:
        return writer.write(value)
    except UnstorableError as error:
        reject(name, f"be storable ({error})", value, "Put objects of your own into fields.", error=TypeError)


def _fits(kind: str, number: int) -> bool:
    limits = np.iinfo(kind)
    return bool(limits.min <= number <= limits.max)
