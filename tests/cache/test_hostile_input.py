"""Whatever lies in the folder: an error that says so, soon, in little memory, and never the end of the interpreter."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64

from synthloader.cache import LMDBCache
from synthloader.cache.codecs import CODECS
from synthloader.cache.record import decode_entry, decode_verdict, encode_entry, encode_verdict, take_apart
from synthloader.cache.upkeep.verify import verify
from synthloader.errors import CacheCorruptError, CacheError, CacheVersionError
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.cache.processes import other_process, receive
from tests.cache.samples import assert_same, make_sample
from tests.cache.standby import put, put_into_shard

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

ENOUGH_BYTES = 256 << 20
ENOUGH_SECONDS = 5.0


def limit_memory() -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + ENOUGH_BYTES + (2 << 30), resource.RLIM_INFINITY))


def try_all(function: Callable[[Any], Any], cases: list[Any]) -> list[Any]:
    """What a function makes of each case, in another process; which case ended it, or took too long, is an error."""

    def work(connection: Connection) -> None:
        for case in cases:
            connection.send("next")
            connection.send(function(case))

    results: list[Any] = []
    with other_process(work) as (connection, process):
        for number, _ in enumerate(cases):
            began = time.monotonic()
            try:
                assert receive(connection) == "next"
                results.append(receive(connection))
            except EOFError:
                process.join()
                pytest.fail(f"case {number} ended the interpreter with {process.exitcode}")
            assert time.monotonic() - began < ENOUGH_SECONDS, f"case {number} took too long"
        process.join()
        assert process.exitcode == 0
    return results


# ------------------------------------------------------------------------------------------------ files


def use_everything(path: Path) -> list[str]:
    """The kinds of error that come of every use."""

    def look(cache: LMDBCache) -> None:
        with cache.view(b"3") as entry:
            assert entry is None or isinstance(entry, Sample)

    uses: list[Callable[[LMDBCache], Any]] = [
        lambda cache: cache.get(b"1"), look, list, len, lambda cache: b"2" in cache, verify,
        lambda cache: cache.get_verdict(b"1", "f", of=make_sample(1)), lambda cache: cache.put(b"new", make_sample(1)),
        lambda cache: cache.delete([b"1"]), lambda cache: [cache.get(key) for key in cache],
    ]  # fmt: skip
    kinds = []
    for readonly in (True, False):
        with LMDBCache(path, readonly=readonly) as cache:
            for use in uses:
                try:
                    use(cache)
                    kinds.append("fine")
                except CacheError as error:
                    kinds.append(type(error).__name__)
    return kinds


def copy_with(template: Path, path: Path, data: bytes) -> Path:
    shutil.copytree(template, path)
    (path / "data.mdb").write_bytes(data)
    return path


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template"
    put(path, *range(8), codec="raw", size_hw=(12, 10))
    put(path, *range(100, 104), size_hw=(60, 60))
    for file in ("lock.mdb", "writer.lock", "readers.lock"):
        (path / file).unlink()
    return path


def test_files_that_were_cut_off_anywhere(tmp_path: Path, template: Path) -> None:
    data = (template / "data.mdb").read_bytes()
    rng = np.random.Generator(np.random.Philox(key=1))
    sizes = [*range(0, len(data), 4096), *rng.integers(1, len(data), 40).tolist(), 1, 15, 16, 40, 100, 8191, 8193]

    def cut(size: int) -> list[str]:
        return use_everything(copy_with(template, tmp_path / f"cut{size}", data[:size]))

    for size, kinds in zip(sizes, try_all(cut, sizes), strict=True):
        # An empty file is one whose first writer was killed; and what is cut off behind the last page is no loss.
        refused = {kind for kind in kinds if kind != "fine"}
        assert refused == ({"CacheError"} if size == 0 else {"CacheCorruptError", "CacheError"} & refused), size
        assert size == 0 or kinds.count("fine") <= 2, size  # verify reports


def test_files_that_are_something_else(tmp_path: Path, template: Path) -> None:
    rng = np.random.Generator(np.random.Philox(key=2))
    data = (template / "data.mdb").read_bytes()
    cases = [rng.bytes(size) for size in (1, 16, 100, 4096, 8192, 100_000)]
    cases += [bytes(size) for size in (1, 100, 8192, 50_000)]
    cases += [data[:24] + rng.bytes(len(data) - 24), rng.bytes(4096) + data[4096:], data[::-1], data[4096:]]
    cases += [data + rng.bytes(10_000), data + bytes(4096)]  # Longer is no harm.

    def replace(number: int) -> list[str]:
        return use_everything(copy_with(template, tmp_path / f"other{number}", cases[number]))

    results = try_all(replace, list(range(len(cases))))
    for kinds in results[:-2]:
        assert kinds.count("fine") <= 2  # verify reports
    for kinds in results[-2:]:
        assert kinds.count("fine") == len(kinds) - 2  # A readonly cache does not write.


def test_a_broken_shard_does_not_hide_what_is_wrong(tmp_path: Path) -> None:
    put(tmp_path / "cache", 1)
    put_into_shard(tmp_path / "cache", "s", 2)
    os.truncate(tmp_path / "cache" / "s" / "data.mdb", 9000)
    with LMDBCache(tmp_path / "cache") as cache:
        assert_same(cache.get(b"1"), make_sample(1))
        with pytest.raises(CacheCorruptError, match=r"^Opening the cache .*/s: .*cut off"):
            cache.get(b"2")
        (finding,) = verify(cache).findings
        assert (finding.kind, finding.folder) == ("environment", tmp_path / "cache" / "s")


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb", "writer.lock", "readers.lock"])
def test_folders_and_links_where_files_should_be(tmp_path: Path, name: str) -> None:
    path = tmp_path / "cache"
    put(path, 1)
    (path / name).unlink()
    (path / name).mkdir()

    def use(_: int) -> list[str]:
        return use_everything(path)

    (kinds,) = try_all(use, [0])
    assert kinds.count("fine") <= 2 or name != "data.mdb"


# ------------------------------------------------------------------------------------------------ records


def assemble(kind: int, tree: Any, blobs: list[bytes], /, *, version: int = 1, **counts: Any) -> bytes:
    """A record with a right checksum, whatever it says."""
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    lengths = counts.get("lengths", [len(blob) for blob in blobs])
    body = struct.pack("<II", counts.get("text", len(text)), counts.get("blobs", len(lengths)))
    body += struct.pack(f"<{len(lengths)}Q", *lengths)
    for piece in (text, *blobs):
        body += piece + bytes(-len(piece) % 8)
    head = struct.pack("<4sBBBB", b"SLRC", version, kind, 0, 0)
    return head + struct.pack("<Q", xxh3_64(head + body).intdigest()) + body


def disassemble(record: bytes) -> tuple[int, Any, list[bytes]]:
    kind, tree, reader = take_apart(record, "a record")
    return kind, tree, [bytes(reader.blob(place)) for place in range(reader.num_blobs)]


def check_again(entry: Any) -> None:
    """Have everything checked by the constructors, and unpacked."""
    match entry:
        case Sample():
            for part in (entry.target, entry.origin):
                check_again(part)
            Sample(**{each.name: getattr(entry, each.name) for each in fields(entry)})
        case Instances() | Origin() | SemanticMask() | ClassLabel() | Rejected():
            type(entry)(**{each.name: getattr(entry, each.name) for each in fields(entry)})
        case Verdict():
            check_again(entry.sample)


OF = make_sample(2)
RECORDS = [
    *(encode_entry(make_sample(2), codec=codec) for codec in CODECS),
    encode_entry(make_sample(2).replace(target=SemanticMask(np.arange(120, dtype=np.int32).reshape(12, 10)))),
    encode_entry(make_sample(2).replace(target=ClassLabel(3), maps={}, origin=None)),
    encode_entry(make_sample(2).replace(maps={}, target=None)),
    encode_entry(Sample(make_sample(2).image, make_sample(2).target.select(np.array([0, 1])))),  # type: ignore[union-attr]
    encode_entry(Rejected("why", Origin(source="a"))),
    encode_verdict(Verdict(True, 0.5, "why", OF.replace(metadata={"a": 1})), "f", of=OF),
    encode_verdict(Verdict(False, None, "", OF.replace(image=255 - OF.image)), "f", of=OF, codec="jpeg"),
]


def decode(record: bytes) -> Any:
    """The entry or verdict, checked; the name of a `CacheError`."""
    try:
        entry = decode_verdict(record, of=OF) if record[5] == 3 else decode_entry(record)
        check_again(entry)
        if record[5] != 3:
            decode_entry(record, view=True)
        return entry
    except CacheError as error:
        return type(error).__name__ if len(str(error)) < 1000 else "a long message"


NODES = (
    st.none() | st.booleans() | st.integers(-3, 70) | st.sampled_from([-1, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30])
    | st.floats() | st.sampled_from(["", "=", "raw", "zstd", "jpeg", "instances", "semantic_mask", "class_label", "up", "x" * 50])
    | st.sampled_from([
        [], {}, [[]], {"d": {}}, {"t": []}, {"D": [[[1], 2]]}, {"a": ["<f4", [0], 0]}, {"a": ["|u1", [3], 0]},
        {"a": ["<f4", [2**62, 0], 0]}, {"g": ["<f8", 0]}, {"i": "f" * 30}, {"i": "x"}, {"f": "nan"}, {"f": "x"},
        {"s": 0}, {"b": 0}, {"u": [1]}, {"y": 0}, {"x": 0}, {"d": {}, "t": []}, {"d": []}, {"t": {"a": 1}},
    ])
)  # fmt: skip


def list_places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, each in items:
        yield from list_places(each, (*at, name))


def replace_node(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    tree = copy.deepcopy(tree)
    parent = tree
    for name in place[:-1]:
        parent = parent[name]
    parent[place[-1]] = value
    return tree


@settings(max_examples=400)
@given(st.data())
def test_forged_trees_with_right_checksums_are_refused_or_say_something_true(data: st.DataObject) -> None:
    kind, tree, blobs = disassemble(data.draw(st.sampled_from(RECORDS)))
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(list(list_places(tree))))
        tree = replace_node(tree, place, data.draw(NODES))
    decode(assemble(kind, tree, blobs))


@settings(max_examples=200)
@given(st.data())
def test_forged_blobs_with_right_checksums_are_refused_or_say_something_true(data: st.DataObject) -> None:
    kind, tree, blobs = disassemble(data.draw(st.sampled_from(RECORDS)))
    place = data.draw(st.integers(0, max(0, len(blobs) - 1)))
    if blobs:
        blob = bytearray(blobs[place])
        for _ in range(data.draw(st.integers(1, 4))):
            if blob:
                blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(blob)) | st.just(len(blob)))
        blobs[place] = bytes(blob[:cut]) + data.draw(st.binary(max_size=3))
    decode(assemble(kind, tree, blobs))


def make_absurd() -> dict[str, bytes]:
    """Records with right checksums that ask for the world."""
    kind, tree, blobs = disassemble(RECORDS[0])
    found: dict[str, bytes] = {}
    for number in (2**32 - 1, 2**31, 10_000):
        found[f"{number} blobs"] = assemble(kind, tree, blobs, blobs=number)
        found[f"a tree of {number}"] = assemble(kind, tree, blobs, text=number)
    for length in (2**63, 2**64 - 1, 2**64 - 8, 2**40):
        for place in range(len(blobs)):
            lengths = [len(blob) for blob in blobs]
            lengths[place] = length
            found[f"blob {place} of {length}"] = assemble(kind, tree, blobs, lengths=lengths)
    for record in RECORDS[:4]:
        kind, tree, blobs = disassemble(record)
        name = tree["image"]["codec"]
        for size_hw in (
            [2**31, 2**31],
            [1, 2**40],
            [2**62, 4],
            [60_000, 60_000],
            [0, 0],
            [-1, -120],
            [True, 120],
            [1e9, 1],
            "ab",
        ):
            found[f"{name} of {size_hw}"] = assemble(kind, replace_node(tree, ("image", "size_hw"), size_hw), blobs)
        for channels in (0, 2, 4, 2**31, True, None, 1.0):
            found[f"{name} with {channels} channels"] = assemble(
                kind, replace_node(tree, ("image", "channels"), channels), blobs
            )
    kind, tree, blobs = disassemble(RECORDS[1])
    place = tree["image"]["blob"]
    huge = zstandard.ZstdCompressor(level=19).compress(bytes(64 << 20))
    for height, width in ((12, 10), (8192, 8192), (4096, 5461), (2**20, 2**20)):
        bomb = replace_node(tree, ("image", "size_hw"), [height, width])
        found[f"a zstd bomb of {height} x {width}"] = assemble(kind, bomb, [*blobs[:place], huge, *blobs[place + 1 :]])
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True, write_content_size=False)
    )
    found["zstd with a window of 2 GiB"] = assemble(
        kind, tree, [*blobs[:place], wide.compress(bytes(360)), *blobs[place + 1 :]]
    )
    # A frame that announces what it does not hold.
    frame = struct.pack("<IBQ", 0xFD2FB528, 0xE0, 12 * 10 * 3) + b"\x01\x00\x00"
    found["zstd of an empty block"] = assemble(kind, tree, [*blobs[:place], frame, *blobs[place + 1 :]])
    kind, tree, blobs = disassemble(RECORDS[2])
    place = tree["image"]["blob"]
    jpeg = bytearray(blobs[place])
    at = jpeg.index(b"\xff\xc0") + 5
    for height, width in ((65500, 65500), (12, 65500), (1, 1), (0, 10), (24, 20)):
        jpeg[at : at + 4] = struct.pack(">HH", height, width)
        for said in ([12, 10], [height, width]):
            forged = replace_node(tree, ("image", "size_hw"), said)
            found[f"a JPEG of {height} x {width} that is said to be {said}"] = assemble(
                kind, forged, [*blobs[:place], bytes(jpeg), *blobs[place + 1 :]]
            )
    for end in (2, 20, 200, len(jpeg) // 2, len(jpeg) - 3):
        found[f"a JPEG cut at {end}"] = assemble(kind, tree, [*blobs[:place], blobs[place][:end], *blobs[place + 1 :]])
    for name in ("extents", "bits"):
        at_masks = tree["target"]["masks"][name]
        for blob in (
            b"",
            bytes(16),
            struct.pack("<4i", 0, 0, 2**31 - 1, 2**31 - 1) * 3,
            b"\xff" * 48,
            bytes(16 * 2**16),
        ):
            found[f"{name} of masks: {len(blob)} bytes, {blob[:4]!r}"] = assemble(
                kind, tree, [*blobs[:at_masks], blob, *blobs[at_masks + 1 :]]
            )
    texts = {
        "deep": b"[" * 200_000, "deep dicts": b'{"d":' * 100_000, "a number": b"9" * 100_000, "nothing": b"",
        "no UTF-8": b"\xff\xfe", "a string": b'"' + b"a" * 1000 + b'"', "two": b"{}{}", "null": b"null",
        "many digits": b'{"i": "' + b"f" * 1_000_000 + b'"}',
    }  # fmt: skip
    for name, text in texts.items():
        found[f"a tree that is {name}"] = assemble(1, text, [])
    dtypes = [
        "[" + "(" * 9000,
        "[" + "-" * 9900 + "1]",
        "[" + "1+" * 4900 + "1]",
        "[" * 9999,
        "[" + "{" * 9000,
        "<U9999999",
        "[('a','O')]",
        "[('a','<f4',(99999,99999))]",
        "O",
        "[None]",
        "<m8[" + "9" * 20 + "s]",
    ]
    values: list[Any] = [{"a": [dtype, [0], 0]} for dtype in dtypes]
    values += [
        {"a": ["<f4", shape, 0]}
        for shape in ([0] * 100, [0, 2**62], [2**64], [-1], [2**31, 2**31, 0], "ab", None, [[1]])
    ]
    values += [{"i": "f" * 2_000_000}, {"f": "1" * 2_000_000}, {"D": [[{}, 1]]}, {"D": 3}, {"t": 3}, {"u": {"u": "a"}}]
    for number, value in enumerate(values):
        kind, tree, blobs = disassemble(RECORDS[0])
        found[f"value {number}"] = assemble(kind, {**tree, "metadata": {"d": {"a": value}}}, blobs)
        found[f"value {number} in fields"] = assemble(
            kind, replace_node(tree, ("fields", "stored"), [["a", value]]), blobs
        )
    found["many masks of a large empty image"] = assemble(*_make_many_masks())
    for version in (0, 2, 255):
        found[f"version {version}"] = assemble(kind, tree, blobs, version=version)
    for each in (0, 4, 5, 255):
        found[f"kind {each}"] = assemble(each, tree, blobs)
    return found


def _make_many_masks() -> tuple[int, Any, list[bytes]]:
    """A small record whose masks would fill the memory if anybody asked for them."""
    image = np.zeros((4000, 4000, 3), np.uint8)
    kind, tree, blobs = disassemble(
        encode_entry(
            Sample(
                image,
                Instances(
                    np.zeros(1, np.int64), np.zeros((1, 4), np.float32), masks=np.zeros((1, 4000, 4000), np.bool_)
                ),
            )
        )
    )
    count = 1000
    for name, size in (("class_ids", 8), ("boxes", 16), ("crowd", 1)):
        blobs[tree["target"][name]] = bytes(size * count)
    blobs[tree["target"]["masks"]["extents"]] = bytes(16 * count)
    return kind, tree, blobs


def test_absurd_records_are_refused_soon_and_in_little_memory(tmp_path: Path) -> None:
    absurd = make_absurd()
    cases = list(absurd.items())
    with LMDBCache(tmp_path, codec="raw") as cache:
        cache.put_encoded([(b"%d" % number, record) for number, (_, record) in enumerate(cases)])

    def read(number: int) -> tuple[str, float]:
        import tracemalloc

        limit_memory()
        tracemalloc.start()
        outcomes = []
        with LMDBCache(tmp_path) as cache:
            for use in (cache.get, cache.view):
                try:
                    with ExitStack() as stack:
                        found = use(b"%d" % number)
                        entry = found if isinstance(found, Sample | Rejected) else stack.enter_context(found)  # type: ignore[arg-type]
                        outcomes.append(f"read {type(entry).__name__}")
                except CacheError as error:
                    outcomes.append(type(error).__name__ if len(str(error)) < 1000 else "a long message")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return outcomes[0] if len(set(outcomes)) == 1 else str(outcomes), peak

    results = try_all(read, list(range(len(cases))))
    read_ones = set()
    for (name, record), (outcome, peak) in zip(cases, results, strict=True):
        if outcome.startswith("read"):
            read_ones.add(name)
        else:
            assert outcome in ("CacheCorruptError", "CacheVersionError"), name
            # The error copies the record; and what decoding takes at most is in proportion.
            assert peak < 12 * len(record) + (8 << 20), (name, peak)
    assert {name for name in read_ones if not name.startswith(("value", "zstd", "a zstd bomb", "version 0"))} <= {
        "many masks of a large empty image",
        *(f"bits of masks: {size} bytes, {text!r}" for size in (16, 48) for text in (bytes(4), b"\xff" * 4)),
    }, read_ones


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(key=6))
    records = [rng.bytes(size) for size in [0, 1, 7, 8, 15, 16, 23, 24, *rng.integers(1, 3000, 100).tolist()]]
    records += [b"SLRC" + record for record in records]
    records += [RECORDS[0][:size] for size in range(0, len(RECORDS[0]), 97)]
    with LMDBCache(tmp_path) as cache:
        cache.put_encoded(
            [(b"%d" % number, record) for number, record in enumerate(records)],
            [(b"%d" % number, "f", record) for number, record in enumerate(records)],
        )
        for number in range(len(records)):
            key = b"%d" % number
            for use in (
                cache.get,
                lambda key: cache.get_verdict(key, "f", of=OF),
                lambda key: cache.view(key).__enter__(),
            ):
                with pytest.raises((CacheCorruptError, CacheVersionError), match=f"entry {key.hex()} of the cache"):
                    use(key)
        report = verify(cache)
        assert (report.num_entries, report.num_verdicts, report.num_broken) == (
            len(records),
            len(records),
            2 * len(records),
        )
        assert cache.delete(list(cache)) == len(records)
