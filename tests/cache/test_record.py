"""An entry survives being written; nothing else is ever read as one."""

from __future__ import annotations

import json
import re
import struct
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64

from synthloader.cache.codecs import LOSSLESS_CODECS
from synthloader.cache.record import (
    UNSTORED_FIELDS,
    decode_entry,
    decode_verdict,
    encode_entry,
    encode_verdict,
    is_intact,
)
from synthloader.errors import CacheCorruptError, CacheError, CacheVersionError
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.cache.samples import assert_same, entries, make_sample, samples, trees, verdicts

SMALL = Sample(
    np.arange(12, dtype=np.uint8).reshape(2, 2, 3), ClassLabel(3), fields={"id": 7, "box": np.float32([1, 2])}
)
UPDATE = "(update synthloader: pip install -U synthloader)"
AGAIN = "(open the cache with on_corrupt='regenerate', or take it out: synthloader cache verify PATH --quarantine)"

# Machines that do other things besides are slow at times.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def split(record: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The tree and the blobs of a record, read as its docstring says and not by its code."""
    length, count = struct.unpack_from("<II", record, 16)
    position = 24 + 8 * count
    pieces = []
    for size in (length, *struct.unpack_from(f"<{count}Q", record, 24)):
        pieces.append(record[position : position + size])
        position += size + -size % 8
    return json.loads(pieces[0]), pieces[1:]


def seal(body: bytes, *, magic: bytes = b"SLRC", version: int = 1, kind: int = 1, flags: int = 0) -> bytes:
    """A record with a right checksum around any body."""
    head = struct.pack("<4sBBBB", magic, version, kind, flags, 0)
    return head + struct.pack("<Q", xxh3_64(head + body).intdigest()) + body


def join(tree: Any, blobs: list[bytes], **head: Any) -> bytes:
    """A record with a right checksum around any tree."""
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    body = struct.pack(f"<II{len(blobs)}Q", len(text), len(blobs), *map(len, blobs))
    return seal(body + b"".join(piece + bytes(-len(piece) % 8) for piece in (text, *blobs)), **head)


# ------------------------------------------------------------------------------------------------ there and back


@relaxed
@given(entries())
def test_every_entry_comes_back(entry: Sample | Rejected) -> None:
    for codec in LOSSLESS_CODECS:
        assert_same(decode_entry(encode_entry(entry, codec=codec)), entry)


@relaxed
@given(entries())
def test_jpeg_changes_nothing_but_the_image(entry: Sample | Rejected) -> None:
    for codec in ("jpeg", "jpeg-444"):
        back = decode_entry(encode_entry(entry, codec=codec))
        if isinstance(entry, Sample):
            assert isinstance(back, Sample)
            assert back.image.shape == entry.image.shape
            back = back.replace(image=entry.image)
        assert_same(back, entry)


def test_a_sample_with_a_bit_of_everything_comes_back() -> None:
    assert_same(decode_entry(encode_entry(make_sample(3))), make_sample(3))


@relaxed
@given(trees())
@example(np.str_("a\0"))
@example(np.bytes_(b"a\0"))
@example(-0.0)
@example("\ud800\udc00")
@example({"\ud800": 1, 1: (), "1": []})
def test_every_tree_of_fields_comes_back(value: Any) -> None:
    sample = SMALL.replace(fields={"value": value})
    assert_same(decode_entry(encode_entry(sample)).fields, {"value": value})


@relaxed
@given(st.data())
def test_every_verdict_comes_back(data: st.DataObject) -> None:
    of = data.draw(samples())
    verdict = data.draw(verdicts(of))
    assert_same(decode_verdict(encode_verdict(verdict, "MinBox/1()", of=of), of=of), verdict)


@relaxed
@given(entries())
def test_equal_entries_have_equal_bytes(entry: Sample | Rejected) -> None:
    record = encode_entry(entry)
    assert encode_entry(decode_entry(record)) == record


def test_a_view_of_the_bytes_reads_the_same() -> None:
    record = encode_entry(make_sample())
    assert_same(decode_entry(memoryview(b"x" + record)[1:]), make_sample())


def test_what_is_decoded_has_memory_of_its_own() -> None:
    record = bytearray(encode_entry(make_sample()))
    sample = decode_entry(memoryview(record))
    record[:] = bytes(len(record))
    assert_same(sample, make_sample())
    assert isinstance(sample.target, Instances)
    for array in (sample.image, sample.target.boxes, sample.target.masks, sample.maps["depth"], sample.fields["area"]):
        assert array.flags.writeable


def test_the_bytes_of_format_1_never_change() -> None:
    tree = (
        b'{"image":{"codec":"raw","size_hw":[2,2],"channels":3,"blob":0},"target":{"kind":"class_label","class_id":3},'
        b'"origin":null,"metadata":{"d":{}},"maps":{"d":{}},'
        b'"fields":{"stored":[["id",7],["box",{"a":["<f4",[2],1]}]],"unstored":[]}}'
    )
    blobs = bytes(range(12)) + bytes(4), b"\0\0\x80\x3f\0\0\0\x40"
    lengths = bytes([len(tree), 0, 0, 0, 2, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0])
    head = b"SLRC\1\1\0\0" + bytes.fromhex("6a2e3b9fa14aa939")
    assert encode_entry(SMALL, codec="raw") == head + lengths + tree + bytes(-len(tree) % 8) + b"".join(blobs)


def test_a_semantic_mask_takes_a_byte_for_each_pixel_where_that_is_enough() -> None:
    sample = Sample(np.zeros((40, 50, 3), np.uint8), SemanticMask(np.full((40, 50), 255, np.int32)))
    assert len(encode_entry(sample)) < 40 * 50 * 4 + 500


# ------------------------------------------------------------------------------------------------ fields


class Thing:
    pass


@pytest.mark.parametrize(
    "value",
    [Thing(), np.array([Thing()]), [1, {"a": Thing()}], {1, 2}, range(3), np.dtype("f4"), 1j, len],
    ids=lambda value: type(value).__name__,
)
def test_fields_that_cannot_be_stored_are_named(value: Any) -> None:
    sample = SMALL.replace(fields={"before": b"x", "thing": value, "after": np.ones(2)})
    back = decode_entry(encode_entry(sample))
    assert_same(back.fields, {"before": b"x", "after": np.ones(2), UNSTORED_FIELDS: ["thing"]})
    assert_same(decode_entry(encode_entry(back)), back)


def test_fields_in_a_circle_are_not_stored() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert decode_entry(encode_entry(SMALL.replace(fields={"a": circle}))).fields == {UNSTORED_FIELDS: ["a"]}


def test_a_class_that_looks_like_a_dict_is_not_stored_as_one() -> None:
    class Special(dict):  # type: ignore[type-arg]
        pass

    assert decode_entry(encode_entry(SMALL.replace(fields={"a": Special()}))).fields == {UNSTORED_FIELDS: ["a"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"camera": {1}}}, "metadata must be storable (a set cannot be stored), got metadata={'camera': {1}}. "
         "Put objects of your own into fields."),
        ({"maps": {"depth": np.full((2, 2), None)}}, "maps must be storable (arrays of object cannot be stored), got "
         "maps={'depth': array([[None, None],\n       [None, None]], dtype=object)}. Put objects of your own into fields."),
    ],
)  # fmt: skip
def test_objects_outside_of_fields_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        encode_entry(SMALL.replace(**change))


def test_what_is_no_entry_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^entry must be a Sample or Rejected, got entry=3\.$"):
        encode_entry(3)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ verdicts


def test_a_verdict_stores_only_what_differs() -> None:
    of = make_sample(size_hw=(200, 300))
    assert isinstance(of.target, Instances)
    fewer = of.replace(target=of.target.select(np.array([0])), image=of.image.copy())
    record = encode_verdict(Verdict(True, 0.5, "", fewer), "f", of=of)
    assert len(record) < 2000
    sample = decode_verdict(record, of=of).sample
    assert sample is not None
    assert sample.image is of.image
    assert_same(sample, fewer)


def test_a_verdict_stores_a_changed_image() -> None:
    of = make_sample()
    blackened = of.replace(image=np.zeros_like(of.image))
    assert_same(decode_verdict(encode_verdict(Verdict(True, sample=blackened), "f", of=of), of=of).sample, blackened)


def test_empty_masks_of_another_size_are_not_the_same() -> None:
    def make(side: int) -> Sample:
        return Sample(np.zeros((side, side, 3), np.uint8), origin=Origin(edited=np.zeros((side, side), np.bool_)))

    verdict = Verdict(True, sample=make(3))
    assert_same(decode_verdict(encode_verdict(verdict, "f", of=make(4)), of=make(4)), verdict)


def test_a_verdict_names_the_filters() -> None:
    tree, _ = split(encode_verdict(Verdict(False, reason="box too small"), "MinBox/1()", of=SMALL))
    assert tree == {
        "filters": "MinBox/1()",
        "accepted": False,
        "score": None,
        "reason": "box too small",
        "sample": None,
    }


def test_a_verdict_on_another_sample_is_refused() -> None:
    of = make_sample()
    record = encode_verdict(Verdict(True, sample=of.replace(metadata={"a": 1}, image=of.image[::-1])), "f", of=of)
    with pytest.raises(CacheCorruptError, match=r"^Reading it: it is not made as records are: ValueError: masks must "):
        decode_verdict(record, of=make_sample(size_hw=(30, 30)), name="it")


# ------------------------------------------------------------------------------------------------ damage


def check_refusal(record: bytes) -> None:
    with pytest.raises(CacheError) as caught:
        decode_entry(record, name="entry ab")
    assert str(caught.value).startswith("Reading entry ab: ")
    assert not is_intact(record)


def test_every_flipped_bit_is_noticed() -> None:
    record = encode_entry(SMALL)
    for position in range(len(record)):
        for bit in range(8):
            damaged = bytearray(record)
            damaged[position] ^= 1 << bit
            check_refusal(bytes(damaged))


def test_every_cut_and_every_addition_is_noticed() -> None:
    record = encode_entry(SMALL)
    for length in range(len(record)):
        check_refusal(record[:length])
    check_refusal(record + b"\0")


@relaxed
@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    check_refusal(data)
    check_refusal(b"SLRC" + data)


@settings(relaxed, max_examples=300)
@given(st.binary(max_size=200), st.integers(1, 3))
@example(struct.pack("<II", 0, 2**32 - 1), 1)
@example(struct.pack("<IIQ", 0, 1, 2**63), 1)
def test_forged_bodies_are_refused(body: bytes, kind: int) -> None:
    with pytest.raises(CacheCorruptError):
        decode_entry(seal(body, kind=kind))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("tdDifsbaguy"), inner, max_size=2),
    max_leaves=5,
)


def list_places(node: Any) -> list[tuple[Any, Any]]:
    """Every place of a tree where something else could stand."""
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [(node, key) for key, _ in items] + [place for _, inner in items for place in list_places(inner)]


@settings(relaxed, max_examples=300)
@given(st.data())
def test_forged_trees_are_refused_or_read_and_take_no_memory(data: st.DataObject) -> None:
    tree, blobs = split(encode_entry(make_sample()))
    for _ in range(data.draw(st.integers(1, 2))):
        node, key = data.draw(st.sampled_from(list_places(tree)))
        node[key] = data.draw(JSON)
    record = join(tree, blobs)
    tracemalloc.start()
    try:
        decode_entry(record)
    except CacheError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    "node",
    [
        {"a": ["<U1000000000", [0], 0]},
        {"a": ["|u1", [2**62, 0, 2**62], 0]},
        {"a": ["|u1", [2**40], 0]},
        {"a": ["O", [1], 0]},
        {"a": ["[('a', '|O')]", [0], 0]},
        {"a": ["[" * 5000, [0], 0]},
        {"a": ["[('a'", [0], 0]},
        {"a": ["__import__('os')", [0], 0]},
        {"a": ["[__import__('os')]", [0], 0]},
        {"b": -1},
        {"b": True},
        {"x": 1},
        {},
        {"i": "9" * 10_000, "f": "nan"},
        {"D": [[[], 1]]},
        {"f": "no number"},
        b"[" * 100_000,
        b"\xff",
        b'{"image": NaN',
    ],
    ids=lambda node: str(node)[:40],
)
def test_forged_values_are_refused(node: Any) -> None:
    tree, blobs = split(encode_entry(SMALL))
    tree["metadata"] = node
    with pytest.raises(CacheCorruptError):
        decode_entry(join(node if isinstance(node, bytes) else tree, [*blobs, b""]))


def test_a_forged_mask_of_another_size_than_the_image_is_refused() -> None:
    tree, blobs = split(encode_entry(Sample(np.zeros((4, 6, 3), np.uint8), SemanticMask(np.zeros((4, 6), np.int32)))))
    tree["target"]["mask"]["a"][1] = [6, 4]
    with pytest.raises(CacheCorruptError, match="a mask of"):
        decode_entry(join(tree, blobs))


def test_a_forged_box_outside_of_the_image_is_refused_beside_keypoints_too() -> None:
    entry = make_sample()
    assert isinstance(entry.target, Instances)
    assert entry.target.keypoints is not None
    tree, blobs = split(encode_entry(entry))
    position = tree["target"]["boxes"]
    forged = np.frombuffer(blobs[position], "<f4").copy()
    forged[2] = 1000
    with pytest.raises(CacheCorruptError, match="lies outside of its image"):
        decode_entry(join(tree, [*blobs[:position], forged.tobytes(), *blobs[position + 1 :]]))


def test_a_forged_number_of_masks_is_refused() -> None:
    many = make_sample()
    assert isinstance(many.target, Instances)
    tree, blobs = split(encode_entry(many))
    position = tree["target"]["masks"]["extents"]
    for forged in (blobs[position] + bytes(16), blobs[position][:-16], blobs[position] + b"?", bytes(16 << 20)):
        with pytest.raises(CacheCorruptError):
            decode_entry(join(tree, [*blobs[:position], forged, *blobs[position + 1 :]]))


@pytest.mark.parametrize(
    ("record", "kind", "message"),
    [
        (b"", CacheCorruptError, f"0 bytes are too few for a record {AGAIN}"),
        (b"\x80\x04" + bytes(40), CacheCorruptError, rf"it begins with b'\x80\x04\x00\x00', not with b'SLRC' {AGAIN}"),
        (encode_entry(SMALL)[:-1] + b"?", CacheCorruptError, f"its bytes do not match its checksum {AGAIN}"),
        (
            join({}, [], version=2),
            CacheVersionError,
            f"it has format 2, and this version of synthloader reads formats up to 1 {UPDATE}",
        ),
        (
            join({}, [], kind=4),
            CacheVersionError,
            f"it is of kind 4 (layer), which this version does not read {UPDATE}",
        ),
        (
            join({}, [], kind=77),
            CacheVersionError,
            f"it is of kind 77 (unknown), which this version does not read {UPDATE}",
        ),
        (join({}, [], flags=2), CacheVersionError, f"it has flags 0x2, which this version does not know {UPDATE}"),
        (join({}, [], kind=3), CacheCorruptError, f"it is a verdict, not a sample {AGAIN}"),
        (join({}, []), CacheCorruptError, f"it is not made as records are: KeyError: 'image' {AGAIN}"),
        (
            join({"image": {"codec": "jxl", "blob": 0}}, [b"x"]),
            CacheVersionError,
            f"it has an image of codec 'jxl', which this version does not know {UPDATE}",
        ),
        (
            join({**split(encode_entry(SMALL))[0], "target": {"kind": "cube"}}, split(encode_entry(SMALL))[1]),
            CacheVersionError,
            f"it has a target of kind 'cube', which this version does not know {UPDATE}",
        ),
    ],
)
def test_refusals_say_what_is_wrong_and_what_to_do(record: bytes, kind: type[CacheError], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(f'Reading entry ab: {message}')}$"):
        decode_entry(record, name="entry ab")


def test_an_entry_is_no_verdict() -> None:
    with pytest.raises(CacheCorruptError, match=f"^{re.escape(f'Reading it: it is a sample, not a verdict {AGAIN}')}$"):
        decode_verdict(encode_entry(SMALL), of=SMALL, name="it")


def test_an_origin_without_an_edited_region_comes_back_without() -> None:
    sample = make_sample()
    assert sample.origin is not None
    sample = sample.replace(origin=replace(sample.origin, edited=None))
    assert_same(decode_entry(encode_entry(sample)), sample)
