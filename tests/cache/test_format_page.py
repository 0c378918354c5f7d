"""docs/cache-format.md says enough: a reader written from it alone reads what the library writes."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from synthloader.cache import LMDBCache
from synthloader.keys import make_key
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.cache import format_page_reader as page
from tests.golden.caches.content import CODECS, FOLDER, list_entries, list_verdicts

JPEG_TOLERANCE = 12
GOLDEN = sorted((FOLDER / "v1").iterdir())


def test_every_golden_cache_is_read() -> None:
    assert sorted(folder.name for folder in GOLDEN) == sorted(CODECS)


@pytest.fixture(params=GOLDEN, ids=lambda folder: folder.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / request.param.name
    shutil.copytree(request.param, folder)
    return page.read_cache(folder)


def test_the_golden_entries_are_what_was_put(golden: dict[str, Any]) -> None:
    expected = dict(list_entries())
    assert golden["entries"].keys() == expected.keys()
    for key, entry in expected.items():
        check_entry(golden["entries"][key], entry)


def test_the_golden_verdicts_are_what_was_put(golden: dict[str, Any]) -> None:
    judged = dict(list_entries())[b"instances"]
    assert isinstance(judged, Sample)
    expected = {(b"instances", page.hash_value(filters)): (filters, each) for filters, each in list_verdicts(judged)}
    assert golden["verdicts"].keys() == expected.keys()
    for key, (filters, verdict) in expected.items():
        check_verdict(golden["verdicts"][key], filters, verdict)


def test_the_golden_log_has_a_time_for_every_entry(golden: dict[str, Any]) -> None:
    assert golden["log"].keys() == golden["entries"].keys()
    year_2020, year_2100 = 1_577_836_800_000, 4_102_444_800_000
    assert all(year_2020 < time < year_2100 for time in golden["log"].values())


def test_the_golden_codec_is_that_of_the_folders_name(tmp_path: Path) -> None:
    for folder in GOLDEN:
        shutil.copytree(folder, tmp_path / folder.name)
        assert page.read_cache(tmp_path / folder.name)["codec"] == folder.name


@pytest.mark.parametrize("codec", CODECS)
def test_what_no_golden_cache_holds_is_read_too(codec: str, tmp_path: Path) -> None:
    image = next(entry.image for _, entry in list_entries() if isinstance(entry, Sample))
    region = np.zeros(image.shape[:2], bool)
    region[3:8, 2:13] = True
    structured = np.array([(1, (2.5, 3.5), "ä")], [("whole", "<i4"), ("pair", "<f4", (2,)), ("text", "<U2")])
    fields: dict[Any, Any] = {
        "surrogate": "caf\udce9.jpg",
        "bytes": b"\xff\0",
        "special": [float("nan"), float("-inf"), -0.0, 1e300],
        "integers": [2**63 - 1, -(2**63), 2**64, -(2**70)],
        "nested": {"t": (), ("a", 1): {"d": [None, True, {2: {"D": 1}}]}},
        "scalars": [np.float32(0.1), np.int64(-3), np.bool_(True), np.datetime64("2024-05-06", "D")],
        "texts": [np.str_("wörd"), np.bytes_(b"ab\xff")],
        "arrays": [np.arange(6, dtype=">i2").reshape(2, 3).T, np.zeros((0, 4), "u1"), np.array(3.5), structured],
        ("a", 2): "a name that is no string",
    }
    origin = Origin(source="s\udcff", scores={"clip": 0.5, "nan": float("nan")}, seed=2**63, edited=region)
    instances = Instances(
        class_ids=np.array([2]), boxes=np.array([[2, 3, 13, 8]], np.float32), crowd=np.array([True]), masks=region[None]
    )
    judged = Sample(image, instances, None, {}, {}, {"ok": 1, "no": object()})
    entries: dict[bytes, Sample | Rejected] = {
        b"fields": Sample(image, ClassLabel(3), origin, {"a": 1}, {"m": np.ones((24, 32, 2), np.uint16)}, fields),
        b"unstored": judged,
        b"mask": Sample(image, SemanticMask(np.full((24, 32), -70000, np.int32), ignore_index=-1)),
        b"\0" * 255: Rejected("", None),
    }
    cropped = Instances(
        class_ids=instances.class_ids, boxes=instances.boxes, crowd=instances.crowd, masks=region[None, :20]
    )
    smaller = Sample(image[:20], cropped, None, {}, {}, {"ok": 1})
    renamed = smaller.replace(
        target=Instances(class_ids=np.array([5]), boxes=cropped.boxes, crowd=cropped.crowd, masks=cropped.masks)
    )
    with LMDBCache(tmp_path / "cache", codec=codec) as cache:
        cache.put_many(list(entries.items()))
        verdicts = [
            ("A/1()", Verdict(True, 1.0, "", smaller), judged),
            ("A/1() | B'\"/1(ä)", Verdict(True, 1e300, "ok"), smaller),
            ("A/1() | B'\"/1(ä) | C/1()", Verdict(False, -0.5, "few", renamed), smaller),
            ("C/1()", Verdict(True, 0.0, "", judged.replace(origin=origin)), judged),
        ]
        cache.put_verdicts((b"unstored", *each) for each in verdicts)
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    found = page.read_cache(tmp_path / "copy")
    assert found["entries"].keys() == entries.keys() == found["log"].keys()
    assert found["entries"][b"unstored"]["fields"]["unstored"] == ["no"]
    for key, entry in entries.items():
        check_entry(found["entries"][key], entry)
    assert len(found["verdicts"]) == len(verdicts)
    for filters, verdict, _ in verdicts:
        check_verdict(found["verdicts"][b"unstored", page.hash_value(filters)], filters, verdict)


def test_the_folders_own_comes_before_its_shards_and_those_in_the_order_of_names(tmp_path: Path) -> None:
    with LMDBCache(tmp_path / "cache", codec="raw") as cache:
        cache.put_many([(b"a", Rejected("own"))])
        for name in ("second", "first"):
            with cache.open_shard(name) as shard:
                shard.put_many([(key, Rejected(name)) for key in (b"a", b"b")])
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    found = page.read_cache(tmp_path / "copy")
    assert {key: entry["reason"] for key, entry in found["entries"].items()} == {b"a": "own", b"b": "first"}
    (tmp_path / "copy/data.mdb").unlink()
    found = page.read_cache(tmp_path / "copy")
    assert {key: entry["reason"] for key, entry in found["entries"].items()} == {b"a": "first", b"b": "first"}


@pytest.mark.parametrize("generator", ["CopyPaste/1(num_range=[1, 3])", "", "a 'quoted' \"text\"", "line\nbreak\x7f"])
@pytest.mark.parametrize("source", ["train/grüße.jpg", "caf\udce9.jpg", "字"])
@pytest.mark.parametrize(("variant", "seed"), [(0, 0), (3, -5), (10**6, 2**63), (1, -(2**80))])
def test_a_key_is_made_as_the_page_says(generator: str, source: str, variant: int, seed: int) -> None:
    for pool in ("", "pool's"):
        values: dict[str, Any] = {
            "generator": generator,
            "adapter": "Folder/2()",
            "source": source,
            "stamp": "00ff",
            "pool": pool,
            "variant": variant,
            "attempt": 1,
            "seed": seed,
        }
        assert page.make_key(**values) == make_key(**values)


# --- What the page says that a reader refuses


def make_record(
    *,
    magic: bytes = b"SLRC",
    version: int = 1,
    kind: int = 2,
    flags: int = 0,
    zero: int = 0,
    tree: bytes = b'{"reason":{"b":0},"origin":null}',
    lengths: tuple[int, ...] = (3,),
    rest: bytes = b"abc\0\0\0\0\0",
    seal: Callable[[int], int] = lambda checksum: checksum,
) -> bytes:
    head = struct.pack("<4sBBBB", magic, version, kind, flags, zero)
    body = struct.pack(f"<II{len(lengths)}Q", len(tree), len(lengths), *lengths) + tree + rest
    return head + struct.pack("<Q", seal(xxhash.xxh3_64_intdigest(head + body))) + body


def test_a_record_made_by_hand_is_read() -> None:
    found = page.read_record(make_record(), {"rejected"})
    assert found == {"kind": "rejected", "reason": b"abc", "origin": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"SLRD"}, "magic"),
        ({"version": 2}, "unknown version 2"),
        ({"kind": 4}, "unknown kind 4"),
        ({"kind": 0}, "unknown kind 0"),
        ({"kind": 1}, "wrong table"),
        ({"flags": 1}, "unknown flags 1"),
        ({"zero": 1}, "byte 7"),
        ({"seal": lambda checksum: checksum ^ 1}, "checksum"),
        ({"rest": b"abc\0\0\1\0\0"}, "padding"),
        ({"tree": b'{"reason":{"b":0},"origin":null} ', "rest": b"\1" + b"\0" * 6 + b"abc\0\0\0\0\0"}, "padding"),
        ({"rest": b"abc"}, "follow the last blob"),
        ({"rest": b"abc" + b"\0" * 13}, "follow the last blob"),
        ({"lengths": (9,)}, "beyond the record"),
        ({"lengths": (2**64 - 1,)}, "beyond the record"),
        ({"lengths": ()}, "follow the last blob"),
        ({"tree": b'{"reason":{"b":1},"origin":null}'}, "no position of a blob"),
        ({"tree": b'{"reason":{"x":0},"origin":null}'}, "an unknown kind of value"),
        ({"tree": b'{"reason":NaN    ,"origin":null}'}, "NaN"),
        ({"tree": b'{"reason":{"b":0},"further":nul}'}, "no JSON"),
        ({"tree": b'{"reason":{"b":0},"original":""}'}, "not an object of"),
    ],
)
def test_a_record_that_is_not_as_the_page_says_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(page.FormatError, match=message):
        page.read_record(make_record(**changes), {"rejected"})


@pytest.mark.parametrize("length", [0, 8, 23, 31, 40, 63, 66])
def test_a_record_that_was_cut_short_is_refused(length: int) -> None:
    with pytest.raises(page.FormatError):
        page.read_record(make_record()[:length], {"rejected"})


@pytest.mark.parametrize(
    "meta",
    [
        None,
        b"{",
        b'{"application": "another", "version": 1, "codec": "zstd"}',
        b'{"application": "synthloader cache", "version": 2, "codec": "zstd"}',
    ],
)
def test_another_programs_environment_and_a_newer_one_are_refused(meta: bytes | None) -> None:
    with pytest.raises(page.FormatError):
        page.read_meta(meta)


# --- Comparing the plain dicts with the library's own values


def check_entry(found: dict[str, Any], entry: Sample | Rejected) -> None:
    if isinstance(entry, Rejected):
        assert (found["kind"], found["reason"]) == ("rejected", entry.reason)
        check_origin(found["origin"], entry.origin)
    else:
        assert found["kind"] == "sample"
        check_sample(found, entry)


def check_verdict(found: dict[str, Any], filters: str, verdict: Verdict) -> None:
    assert (found["kind"], found["filters"], found["accepted"]) == ("verdict", filters, verdict.accepted)
    assert (found["score"], found["reason"]) == (verdict.score, verdict.reason)
    if verdict.sample is None:
        assert found["sample"] is None
    else:
        check_sample(found["sample"], verdict.sample)


def check_sample(found: dict[str, Any], sample: Sample) -> None:
    assert found.keys() - {"kind", "codec"} == set(page.PARTS)
    check_image(found, sample.image)
    check_target(found["target"], sample.target)
    check_origin(found["origin"], sample.origin)
    check_equal(found["metadata"], dict(sample.metadata))
    check_equal(found["maps"], dict(sample.maps))
    stored, unstored = found["fields"]["stored"], found["fields"]["unstored"]
    check_equal(stored, {name: each for name, each in sample.fields.items() if name not in unstored})


def check_image(found: dict[str, Any], expected: np.ndarray) -> None:
    image = found["image"]
    assert (image.dtype, image.shape) == (np.uint8, expected.shape)
    tolerance = JPEG_TOLERANCE if found["codec"] == "jpeg" else 0
    assert np.abs(image.astype(int) - expected).max() <= tolerance


def check_target(found: dict[str, Any] | None, target: object) -> None:
    if found is None:
        assert target is None
    elif isinstance(target, ClassLabel):
        assert found == {"kind": "class_label", "class_id": target.class_id}
    elif isinstance(target, SemanticMask):
        assert (found["kind"], found["ignore_index"]) == ("semantic_mask", target.ignore_index)
        assert np.array_equal(found["mask"], target.mask)
    else:
        assert isinstance(target, Instances)
        assert found["kind"] == "instances"
        for name in ("class_ids", "boxes", "crowd", "keypoints", "masks"):
            check_equal(found[name], getattr(target, name))
        check_equal(found["attributes"], dict(target.attributes))


def check_origin(found: dict[str, Any] | None, origin: Origin | None) -> None:
    if origin is None:
        assert found is None
    else:
        assert found is not None
        for name, value in found.items():
            expected = getattr(origin, name)
            check_equal(value, dict(expected) if isinstance(value, dict) else expected)


def check_equal(found: Any, expected: Any) -> None:
    """Compare kinds, dtypes and values, nan being equal to nan."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            check_equal(value, expected[name])
    elif isinstance(found, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            check_equal(one, other)
    elif isinstance(found, np.ndarray):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    else:
        assert repr(found) == repr(expected)
