"""A reader of cache folders, written from docs/cache-format.md alone: it imports nothing from synthloader."""

import ast
import hashlib
import io
import json
import struct
from collections.abc import Callable, Iterable
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import lmdb
import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray
from PIL import Image

Node = Any  # What `json.loads` returns.
Blobs = list[bytes]

TABLES = ("entries", "verdicts", "log")
KINDS = {1: "sample", 2: "rejected", 3: "verdict"}
PARTS = ("image", "target", "origin", "metadata", "maps", "fields")
# What a name of an origin stands for where it is missing.
ORIGIN_DEFAULTS: dict[str, Any] = {
    "source": "",
    "fingerprint": "",
    "variant": 0,
    "attempt": 0,
    "seed": 0,
    "drawn": (),
    "scores": {},
    "prompt": None,
    "model": None,
    "weights": None,
    "license": None,
    "class_names": {},
}


class FormatError(ValueError):
    """The bytes are not as the page says."""


def check(condition: bool, what: str) -> None:
    if not condition:
        raise FormatError(what)


# --- The folder


def read_cache(folder: Path) -> dict[str, Any]:
    """Read a folder and its shards: `codec`, `entries`, `verdicts` by entry's key and hash, `log`."""
    environments = ([folder] if (folder / "data.mdb").is_file() else []) + list_shards(folder)
    check(bool(environments), f"{folder} holds no cache")
    parts = [read_environment(each) for each in environments]
    raw: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
    for part in reversed(parts):  # What comes first goes over what comes later.
        for table in TABLES:
            raw[table] |= part[table]
    entries = {check_key(key): read_record(record, {"sample", "rejected"}) for key, record in raw["entries"].items()}
    verdicts = read_verdicts(raw["verdicts"], entries)
    log = {check_key(key): read_time(time) for key, time in raw["log"].items()}
    return {"codec": parts[0]["codec"], "entries": entries, "verdicts": verdicts, "log": log}


def list_shards(folder: Path) -> list[Path]:
    """List the shards of a folder, in the order of names. A shard has none of its own."""
    folders = (each for each in folder.iterdir() if each.name != "quarantine" and (each / "data.mdb").is_file())
    return sorted(folders, key=lambda path: path.name)


def read_environment(folder: Path) -> dict[str, Any]:
    """Read one environment's codec and tables, whose records stay bytes."""
    environment = lmdb.open(str(folder), readonly=True, lock=False, max_dbs=len(TABLES), create=False)
    try:
        databases = {name: environment.open_db(name.encode(), create=False) for name in TABLES}
        with environment.begin() as transaction:
            tables = {name: dict(transaction.cursor(db=database)) for name, database in databases.items()}
            return {"codec": read_meta(transaction.get(b"meta"))["codec"], **tables}
    finally:
        environment.close()


def check_key(key: bytes) -> bytes:
    check(1 <= len(key) <= 255, "an entry's key has 1 to 255 bytes")
    return key


def read_time(time: bytes) -> int:
    check(len(time) == 8, "a time has 8 bytes")
    return int.from_bytes(time, "little")


def read_verdicts(
    records: dict[bytes, bytes], entries: dict[bytes, dict[str, Any]]
) -> dict[tuple[bytes, bytes], dict[str, Any]]:
    """Read all verdicts, by entry's key and hash of the filters."""
    verdicts = {}
    left: dict[tuple[bytes, str], dict[str, Any]] = {}  # The sample behind each filter.
    # Short texts first: what a filter judges is what the filters before it left.
    for filters, key, record in sorted((read_filters(record), key, record) for key, record in records.items()):
        entry = check_key(key[:-16])
        check(key[-16:] == hash_value(filters), "a verdict stands under another's filters")
        check(entries.get(entry, {}).get("kind") != "rejected", "a verdict on what is no sample")
        before = [text for one, text in left if one == entry and filters.startswith(f"{text} | ")]
        judged = left[entry, max(before, key=len)] if before else entries.get(entry, {})
        verdict = read_record(record, {"verdict"}, judged)
        verdicts[entry, key[-16:]] = verdict
        left[entry, filters] = verdict["sample"] or judged
    return verdicts


def read_meta(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise FormatError("the environment has no meta")
    meta = parse_json(value)
    check(isinstance(meta, dict) and meta.get("application") == "synthloader cache", "another application's")
    check(meta.get("version") == 1, "another version of the folder's layout")
    check(isinstance(meta.get("codec"), str), "meta names no codec")
    return dict(meta)


# --- A record


def read_record(record: bytes, kinds: Iterable[str], judged: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a record of one of these kinds; `judged` is the sample that a verdict is about."""
    kind, tree, blobs = split_record(record)
    check(kind in kinds, f"a record of kind {kind} stands in the wrong table")
    if kind == "sample":
        return {"kind": kind, **read_sample(tree, blobs)}
    if kind == "rejected":
        return {"kind": kind, **read_rejected(tree, blobs)}
    return {"kind": kind, **read_verdict(tree, blobs, judged or {})}


def read_filters(record: bytes) -> str:
    kind, tree, blobs = split_record(record)
    check(kind == "verdict" and "filters" in tree, f"a record of kind {kind} stands among the verdicts")
    return read_string(tree["filters"], blobs)


def split_record(record: bytes) -> tuple[str, Node, Blobs]:
    """Check a record's frame, and return its kind, tree and blobs."""
    check(len(record) >= 24, "a record is too short")
    magic, version, number, flags, zero, checksum, tree_length, blob_count = struct.unpack_from("<4sBBBBQII", record)
    check(magic == b"SLRC", "another magic")
    check(xxhash.xxh3_64_intdigest(record[:8] + record[16:]) == checksum, "the checksum differs")
    check(version == 1, f"unknown version {version}")
    check(number in KINDS, f"unknown kind {number}")
    check(flags == 0, f"unknown flags {flags}")
    check(zero == 0, "byte 7 is not 0")
    check(24 + 8 * blob_count + tree_length <= len(record), "the record is cut short")
    lengths = struct.unpack_from(f"<{blob_count}Q", record, 24)
    end = 24 + 8 * blob_count + tree_length
    tree = parse_json(record[end - tree_length : end])
    blobs = []
    for length in lengths:
        start = (end + 7) // 8 * 8
        check(start + length <= len(record), "a blob reaches beyond the record")
        check(not any(record[end:start]), "the padding is not 0")
        end = start + length
        blobs.append(record[start:end])
    check(len(record) == (end + 7) // 8 * 8, "bytes follow the last blob")
    check(not any(record[end:]), "the padding at the end is not 0")
    return KINDS[number], tree, blobs


def parse_json(text: bytes) -> Node:
    def refuse_constant(name: str) -> NoReturn:
        raise FormatError(f"{name} is no JSON")

    def make_object(pairs: list[tuple[str, Node]]) -> dict[str, Node]:
        check(len(dict(pairs)) == len(pairs), "a name stands twice in an object")
        return dict(pairs)

    try:
        return json.loads(text.decode("utf-8"), parse_constant=refuse_constant, object_pairs_hook=make_object)
    except ValueError as error:
        raise FormatError(f"no JSON in UTF-8: {error}") from error


def take(node: Node, *names: str) -> list[Node]:
    """Return the nodes of an object that has exactly these names."""
    check(isinstance(node, dict) and set(node) == set(names), f"not an object of {names}: {node!r}")
    return [node[name] for name in names]


def get_blob(node: Node, blobs: Blobs) -> bytes:
    check(type(node) is int and 0 <= node < len(blobs), f"no position of a blob: {node!r}")
    return blobs[node]


# --- Values


def read_value(node: Node, blobs: Blobs) -> Any:
    if isinstance(node, list):
        return [read_value(each, blobs) for each in node]
    if not isinstance(node, dict):
        return node
    check(len(node) == 1, f"a value's object has one name: {sorted(node)}")
    ((name, inner),) = node.items()
    check(name in VALUES, f"an unknown kind of value: {name}")
    return VALUES[name](inner, blobs)


def read_float(text: Node, blobs: Blobs) -> float:
    check(text in ("nan", "inf", "-inf"), f"no special number: {text!r}")
    return float(text)


def read_string(node: Node, blobs: Blobs) -> str:
    text = node if isinstance(node, str) else read_value(node, blobs)
    check(isinstance(text, str), f"no string: {text!r}")
    return str(text)


def read_dtype(node: Node) -> np.dtype[Any]:
    """Read NumPy's short text, or, as .npy files have it, the text of a Python list of fields."""
    check(isinstance(node, str), f"no dtype: {node!r}")
    try:
        dtype = np.lib.format.descr_to_dtype(ast.literal_eval(node) if node.startswith("[") else node)
    except (ValueError, TypeError, SyntaxError) as error:
        raise FormatError(f"no dtype: {node!r}") from error
    check(not dtype.hasobject, "a dtype of objects")
    return dtype


def read_array(node: Node, blobs: Blobs) -> NDArray[Any]:
    check(isinstance(node, list) and len(node) == 3, "an array is dtype, shape, blob")
    dtype, shape, data = read_dtype(node[0]), node[1], get_blob(node[2], blobs)
    check(all(type(size) is int and size >= 0 for size in shape), f"no shape: {shape!r}")
    check(prod(shape) * dtype.itemsize == len(data), "an array's blob has another length")
    array: NDArray[Any] = np.ndarray(tuple(shape), dtype, buffer=data)
    return array


def read_scalar(node: Node, blobs: Blobs) -> Any:
    check(isinstance(node, list) and len(node) == 2, "a scalar is dtype, blob")
    return read_array([node[0], [], node[1]], blobs)[()]


VALUES: dict[str, Callable[[Node, Blobs], Any]] = {
    "t": lambda node, blobs: tuple(read_value(each, blobs) for each in node),
    "d": lambda node, blobs: {name: read_value(each, blobs) for name, each in node.items()},
    "D": lambda node, blobs: {read_value(key, blobs): read_value(each, blobs) for key, each in node},
    "i": lambda node, blobs: int(node, 16),
    "f": read_float,
    "s": lambda node, blobs: get_blob(node, blobs).decode("utf-8", "surrogatepass"),
    "b": get_blob,
    "a": read_array,
    "g": read_scalar,
    "u": lambda node, blobs: np.str_(read_string(node, blobs)),
    "y": lambda node, blobs: np.bytes_(get_blob(node, blobs)),
}


def read_rows(node: Node, blobs: Blobs, dtype: str, *shape: int) -> NDArray[Any]:
    """Read a bare blob of N rows."""
    data = get_blob(node, blobs)
    size = np.dtype(dtype).itemsize * prod(shape)
    check(len(data) % size == 0, "a blob is no whole number of rows")
    return np.frombuffer(data, dtype).reshape(-1, *shape)


# --- The kinds of records


def read_sample(tree: Node, blobs: Blobs) -> dict[str, Any]:
    return read_parts(dict(zip(PARTS, take(tree, *PARTS), strict=True)), blobs, None)


def read_changed(tree: Node, blobs: Blobs, judged: dict[str, Any]) -> dict[str, Any]:
    """Read the parts that are written out, and take the others from what was judged, as far as that is known."""
    parts = {name: part for name, part in zip(PARTS, take(tree, *PARTS), strict=True) if part != "="}
    same = {name: judged[name] for name in ("codec", *PARTS) if name in judged}
    return same | read_parts(parts, blobs, judged["image"].shape[:2] if "image" in judged else None)


def read_parts(parts: dict[str, Node], blobs: Blobs, size_hw: tuple[int, ...] | None) -> dict[str, Any]:
    sample: dict[str, Any] = {}
    if "image" in parts:
        sample["codec"], sample["image"] = read_image(parts["image"], blobs)
        size_hw = sample["image"].shape[:2]
    readers: dict[str, Callable[[Node], Any]] = {
        "target": lambda part: read_target(part, blobs, size_hw),
        "origin": lambda part: read_origin(part, blobs, size_hw),
        "metadata": lambda part: read_value(part, blobs),
        "maps": lambda part: read_value(part, blobs),
        "fields": lambda part: read_fields(part, blobs),
    }
    return sample | {name: reader(parts[name]) for name, reader in readers.items() if name in parts}


def read_rejected(tree: Node, blobs: Blobs) -> dict[str, Any]:
    reason, origin = take(tree, "reason", "origin")
    return {"reason": read_value(reason, blobs), "origin": read_origin(origin, blobs, None)}


def read_verdict(tree: Node, blobs: Blobs, judged: dict[str, Any]) -> dict[str, Any]:
    filters, accepted, score, reason, sample = take(tree, "filters", "accepted", "score", "reason", "sample")
    check(isinstance(accepted, bool), "accepted is a truth value")
    return {
        "filters": read_string(filters, blobs),
        "accepted": accepted,
        "score": read_value(score, blobs),
        "reason": read_value(reason, blobs),
        "sample": None if sample is None else read_changed(sample, blobs, judged),
    }


def read_fields(node: Node, blobs: Blobs) -> dict[str, Any]:
    stored, unstored = take(node, "stored", "unstored")
    return {
        "stored": {read_value(name, blobs): read_value(each, blobs) for name, each in stored},
        "unstored": [read_value(name, blobs) for name in unstored],
    }


def read_origin(node: Node, blobs: Blobs, size_hw: tuple[int, ...] | None) -> dict[str, Any] | None:
    if node is None:
        return None
    check(isinstance(node, dict), "an origin is null or an object")
    unknown = set(node) - set(ORIGIN_DEFAULTS) - {"edited"}
    check(not unknown, f"unknown names in an origin: {sorted(unknown)}")
    origin = ORIGIN_DEFAULTS | {name: read_value(each, blobs) for name, each in node.items() if name != "edited"}
    edited = None
    if "edited" in node:
        edited = read_masks(node["edited"], blobs, size_hw)
        check(len(edited) == 1, "an origin has one region")
    return {**origin, "edited": None if edited is None else edited[0]}


# --- Targets


def read_target(node: Node, blobs: Blobs, size_hw: tuple[int, ...] | None) -> dict[str, Any] | None:
    if node is None:
        return None
    kind = node.get("kind") if isinstance(node, dict) else None
    if kind == "class_label":
        _, class_id = take(node, "kind", "class_id")
        check(type(class_id) is int, "a class is a whole number")
        return {"kind": kind, "class_id": class_id}
    if kind == "semantic_mask":
        _, mask_node, ignore_index = take(node, "kind", "mask", "ignore_index")
        mask = read_value(mask_node, blobs)
        check(mask.dtype in (np.dtype("u1"), np.dtype("<i2"), np.dtype("<i4")), f"a mask of {mask.dtype}")
        check(mask.ndim == 2 and size_hw in (None, mask.shape), "a mask of another size")
        return {"kind": kind, "mask": mask, "ignore_index": ignore_index}
    check(kind == "instances", f"unknown kind of target: {kind!r}")
    names = ("class_ids", "boxes", "crowd", "keypoints", "masks", "attributes")
    _, class_ids, boxes, crowd, keypoints, masks, attributes = take(node, "kind", *names)
    target = {
        "kind": kind,
        "class_ids": read_rows(class_ids, blobs, "<i8"),
        "boxes": read_rows(boxes, blobs, "<f4", 4),
        "crowd": read_rows(crowd, blobs, "?"),
        "keypoints": read_value(keypoints, blobs),
        "masks": None if masks is None else read_masks(masks, blobs, size_hw),
        "attributes": read_value(attributes, blobs),
    }
    counted = [target[name] for name in names[:5] if target[name] is not None] + list(target["attributes"].values())
    check(all(len(each) == len(target["class_ids"]) for each in counted), "the instances' numbers differ")
    return target


def read_masks(node: Node, blobs: Blobs, size_hw: tuple[int, ...] | None) -> NDArray[np.bool_] | list[Any]:
    """Read masks as (N, height, width), or, where the image's size is not known, as pairs of extent and crop."""
    extents_node, bits_node = take(node, "extents", "bits")
    extents, bits = read_rows(extents_node, blobs, "<i4", 4), get_blob(bits_node, blobs)
    sizes = [(bottom - top) * (right - left) for top, left, bottom, right in extents.tolist()]
    ends = np.cumsum([0] + [(size + 7) // 8 for size in sizes]).tolist()
    check(ends[-1] == len(bits), "the bits of masks have another length")
    crops = []
    for (start, end), size, (top, left, bottom, right) in zip(pairwise(ends), sizes, extents.tolist(), strict=True):
        valid = 0 <= top < bottom and 0 <= left < right
        check(valid or top == left == bottom == right == 0, "no extent of a mask")
        check(size_hw is None or (bottom <= size_hw[0] and right <= size_hw[1]), "a mask leaves the image")
        flat = np.unpackbits(np.frombuffer(bits[start:end], np.uint8)).astype(bool)
        check(not flat[size:].any(), "the padding of a mask is not 0")
        crop = flat[:size].reshape(bottom - top, right - left)
        edges = (crop[:1], crop[-1:], crop[:, :1], crop[:, -1:])
        check(size == 0 or all(edge.any() for edge in edges), "a mask's box is not tight")
        crops.append(crop)
    if size_hw is None:
        return list(zip(extents.tolist(), crops, strict=True))
    masks = np.zeros((len(crops), *size_hw), bool)
    for mask, crop, (top, left, bottom, right) in zip(masks, crops, extents.tolist(), strict=True):
        mask[top:bottom, left:right] = crop
    return masks


# --- Codecs


def read_image(node: Node, blobs: Blobs) -> tuple[str, NDArray[np.uint8]]:
    """Return the codec's name and the (height, width, 3) pixels."""
    check(isinstance(node, dict) and node.get("codec") in DECODERS, f"an unknown codec: {node!r}")
    further, decode = DECODERS[node["codec"]]
    take(node, "codec", "size_hw", "channels", "blob", *further)
    height, width = node["size_hw"]
    channels = node["channels"]
    check(channels in ((3,) if node["codec"] == "raw" else (1, 3)), f"{channels} channels")
    pixels = decode(node, get_blob(node["blob"], blobs), (height, width, channels))
    check(pixels.shape == (height, width, channels), "an image of another size")
    return node["codec"], np.repeat(pixels, 3, axis=2) if channels == 1 else pixels


def decode_raw(node: Node, data: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    check(len(data) == prod(shape), "an image's blob has another length")
    return np.frombuffer(data, np.uint8).reshape(shape)


def decode_zstd(node: Node, data: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    check(node["filter"] == "up", f"an unknown filter of rows: {node['filter']!r}")
    check(zstandard.frame_content_size(data) == prod(shape), "a frame of another size")
    decoder = zstandard.ZstdDecompressor().decompressobj()
    rows = decoder.decompress(data)
    check(decoder.eof and not decoder.unused_data and len(rows) == prod(shape), "not one zstd frame")
    return np.cumsum(np.frombuffer(rows, np.uint8).reshape(shape), axis=0, dtype=np.uint8)


def decode_jpeg(node: Node, data: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    check(type(node["quality"]) is int and 1 <= node["quality"] <= 100, f"no quality: {node['quality']!r}")
    subsamplings = ("Gray",) if shape[2] == 1 else ("420", "444")
    check(node["subsampling"] in subsamplings, f"an unknown subsampling: {node['subsampling']!r}")
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        check(image.mode == ("L" if shape[2] == 1 else "RGB"), f"a JPEG of mode {image.mode}")
        check(not image.info.get("progressive"), "no baseline JPEG")
        return np.asarray(image).reshape(image.height, image.width, -1)


# --- Keys


def hash_value(value: Any) -> bytes:
    return hashlib.blake2b(describe(value), digest_size=16).digest()


def describe(value: Any) -> bytes:
    """Write a value with its kind and length first."""
    if isinstance(value, list):
        return f"L{len(value)}:".encode() + b"".join(map(describe, value))
    check(type(value) in (str, int), f"nothing that a key holds: {value!r}")
    text = f"{type(value).__name__}{value!r}".encode()
    return f"S{len(text)}:".encode() + text


def make_key(
    *,
    generator: str,
    adapter: str,
    source: str,
    stamp: str,
    pool: str,
    variant: int,
    attempt: int,
    seed: int,
) -> bytes:
    return hash_value([1, generator, adapter, source, stamp, pool, variant, attempt, seed])


Decoder = Callable[[Node, bytes, tuple[int, int, int]], NDArray[np.uint8]]
DECODERS: dict[str, tuple[tuple[str, ...], Decoder]] = {
    "raw": ((), decode_raw),
    "zstd": (("filter",), decode_zstd),
    "jpeg": (("quality", "subsampling"), decode_jpeg),
}
