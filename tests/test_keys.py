"""Keys change with everything that determines a sample, and with nothing else; stamps are of content alone."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader import keys
from synthloader.keys import StampBook, hash_content, make_fingerprint, make_key

PARTS: dict[str, Any] = {
    "generator": "CopyPaste/1()",
    "adapter": "DetectionAdapter/1()",
    "source": "a/b.jpg",
    "stamp": "00ff",
    "pool": "",
    "variant": 0,
    "attempt": 0,
    "seed": 0,
}
text = st.text(max_size=8)
parts = st.fixed_dictionaries(
    {name: st.integers(-3, 2**65) if isinstance(value, int) else text for name, value in PARTS.items()}
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
contents = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=3), max_leaves=8
)


def spell(content: Any) -> Any:
    """The content with the kind of every part, in a form whose equality is identity of bits."""
    if isinstance(content, dict):
        return "dict", sorted((key, spell(value)) for key, value in content.items())
    if isinstance(content, list):
        return "list", [spell(value) for value in content]
    return type(content).__name__, repr(content)


def write(path: Path, content: bytes, *, changed_s: float = 1_000_000_000.0) -> Path:
    path.write_bytes(content)
    os.utime(path, (changed_s, changed_s))
    return path


def stamp_of(content: bytes, folder: Path) -> str:
    return StampBook().stamp(write(folder / "another", content))


# ---- keys


@given(one=parts, other=parts)
def test_keys_are_equal_exactly_where_all_parts_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert len(make_key(**one)) == 16
    assert make_key(**one) == make_key(**one)
    assert (make_key(**one) == make_key(**other)) == (one == other)


@given(base=parts, data=st.data(), name=st.sampled_from(sorted(PARTS)))
def test_a_change_of_any_part_changes_the_key(base: dict[str, Any], data: st.DataObject, name: str) -> None:
    kind = text if isinstance(base[name], str) else st.integers(-3, 2**65)
    changed = data.draw(kind.filter(lambda value: value != base[name]))
    assert make_key(**base) != make_key(**{**base, name: changed})


@given(whole=st.text(min_size=1, max_size=12), cut=st.integers(0, 12), other_cut=st.integers(0, 12))
def test_texts_that_read_the_same_in_a_row_are_other_keys(whole: str, cut: int, other_cut: int) -> None:
    def split(at: int) -> bytes:
        return make_key(**{**PARTS, "source": whole[:at], "stamp": whole[at:]})

    assert (split(cut) == split(other_cut)) == (min(cut, len(whole)) == min(other_cut, len(whole)))


def test_the_version_of_the_recipe_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_key(**PARTS)
    monkeypatch.setattr(keys, "KEY_VERSION", keys.KEY_VERSION + 1)
    assert make_key(**PARTS) != before


def test_numpy_integers_give_the_keys_of_plain_ones() -> None:
    assert make_key(**{**PARTS, "variant": np.int64(3), "seed": np.uint32(7)}) == make_key(
        **{**PARTS, "variant": 3, "seed": 7}
    )


@pytest.mark.slow
def test_a_key_is_the_same_in_every_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (key,) = pool.map(_make_key_of, [PARTS])
        pool.close()
        pool.join()
    assert key == make_key(**PARTS)


def _make_key_of(those: dict[str, Any]) -> bytes:
    return make_key(**those)


# ---- hashes of content


@given(one=contents, other=contents)
def test_contents_have_equal_hashes_exactly_where_they_are_equal(one: Any, other: Any) -> None:
    assert (hash_content(one) == hash_content(other)) == (spell(one) == spell(other))


@given(items=st.dictionaries(text, leaves, min_size=2, max_size=5))
def test_the_order_of_a_dict_does_not_count(items: dict[str, Any]) -> None:
    assert hash_content(items) == hash_content(dict(reversed(items.items())))


def test_the_order_of_a_dict_does_not_count_where_its_keys_look_alike() -> None:
    assert hash_content({1: "a", "1": "b"}) == hash_content({"1": "b", 1: "a"})


@pytest.mark.parametrize(
    "different",
    [
        [1, 1.0, True, "1", b"1", np.array(1), None, [1], [[1]], {"1": 1}, {1: 1}],
        [0.0, -0.0, math.nan, math.inf, "nan"],
        [[1, 2], [[1], 2], [1, [2]], [1, 2, None], "[1, 2]"],
        ["", b"", None, [], {}, [[]], [{}], [""]],
        [["a", "b"], ["ab"], ["ab", ""], ["", "ab"]],
        [{"a": 1}, ["a", 1], {"a": "1"}, {"a1": None}],
        [np.zeros(4, np.uint8), np.zeros((2, 2), np.uint8), np.zeros(1, np.int32), np.zeros(4, np.int8), b"\0\0\0\0"],
        [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(0)],
        [np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)],
    ],
)
def test_values_that_look_alike_have_other_hashes(different: list[Any]) -> None:
    assert len({hash_content(value) for value in different}) == len(different)


def test_values_that_mean_the_same_have_the_same_hash() -> None:
    assert hash_content((1, 2)) == hash_content([1, 2])
    assert hash_content(np.float32(0.5)) == hash_content(0.5)
    assert hash_content(np.int16(5)) == hash_content(5)
    assert hash_content(np.bool_(True)) == hash_content(True)
    image = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    assert hash_content(image[:, ::-1]) == hash_content(image[:, ::-1].copy())
    assert hash_content(np.asfortranarray(image)) == hash_content(image)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "cannot hash a object: only numbers, strings, arrays, lists and dicts"),
        ({1, 2}, "cannot hash a set: only numbers, strings, arrays, lists and dicts"),
        ([1, {"a": 1j}], "cannot hash a complex: only numbers, strings, arrays, lists and dicts"),
        # Its bytes are addresses: another key in every process.
        (np.array([["a"], None], object), "cannot hash an array of Python objects: only numbers and strings"),
    ],
)
def test_what_has_no_stable_bytes_is_refused(value: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        hash_content(value)
    assert str(caught.value) == message


def test_the_recorded_hashes_still_hold() -> None:
    # Whatever changes these makes every cache that anybody ever filled unreachable: raise KEY_VERSION with it.
    assert hash_content([1, "a", None, 0.5, {"b": b"c"}]).hex() == "5ae59b07b521a001a1698c4d69979b53"
    assert make_key(**PARTS).hex() == "47a34d3953336d7c7ef5671d1ca07210"


# ---- fingerprints


def test_a_fingerprint_reads_as_its_docstring_says() -> None:
    assert make_fingerprint("CopyPaste", 1, num_range=(1, 3), min_visible=0.2) == (
        "CopyPaste/1(min_visible=0.2, num_range=[1, 3])"
    )
    assert make_fingerprint("Shade", 2) == "Shade/2()"
    assert make_fingerprint("A", 1, path=Path("a/b"), flag=True, none=None, table={"b": 1, "a": [2]}) == (
        'A/1(flag=true, none=null, path="a/b", table={"a": [2], "b": 1})'
    )


@given(
    one=st.dictionaries(st.sampled_from("abc"), contents_json := st.integers() | text | st.lists(text, max_size=3)),
    other=st.dictionaries(st.sampled_from("abc"), contents_json),
)
def test_fingerprints_are_equal_exactly_where_the_parameters_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (make_fingerprint("A", 1, **one) == make_fingerprint("A", 1, **other)) == (one == other)


def test_name_version_and_arrays_change_the_fingerprint() -> None:
    array = np.arange(6)
    several = {
        make_fingerprint("A", 1),
        make_fingerprint("A", 11),
        make_fingerprint("B", 1),
        make_fingerprint("A", 1, a="1"),
        make_fingerprint("A", 1, a=1),
        make_fingerprint("A", 1, a=array),
        make_fingerprint("A", 1, a=array.reshape(2, 3)),
        make_fingerprint("A", 1, a=array + 1),
        make_fingerprint("A", 1, a=None),
        make_fingerprint("A", 1, a="x, b=1"),
        make_fingerprint("A", 1, a="x", b=1),
    }
    assert len(several) == 11


def test_sets_and_numpy_numbers_have_one_fingerprint_in_every_process() -> None:
    assert make_fingerprint("A", 1, classes={"b", "a"}) == 'A/1(classes=["a", "b"])'
    assert make_fingerprint("A", 1, size=np.int64(3), scale=np.float64(0.5)) == "A/1(scale=0.5, size=3)"


def test_a_parameter_that_cannot_be_written_down_is_refused() -> None:
    with pytest.raises(TypeError) as caught:
        make_fingerprint("A", 1, model=object())
    assert str(caught.value) == "a fingerprint must be made of numbers, strings, lists and dicts, got object"


# ---- stamps


def test_a_stamp_is_the_hash_of_the_content_alone(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jpg", b"content")
    copy = tmp_path / "elsewhere" / "two.png"
    copy.parent.mkdir()
    write(copy, b"content", changed_s=1.5e9)
    other = write(tmp_path / "other.jpg", b"Content")
    book = StampBook()
    assert book.stamp(one) == book.stamp(copy) == book.stamp(str(one))
    assert book.stamp(one) != book.stamp(other)
    assert len(book.stamp(one)) == 32


def test_a_large_file_is_read_to_its_end(tmp_path: Path) -> None:
    content = bytes(3_000_000)
    assert stamp_of(content + b"a", tmp_path) != stamp_of(content + b"b", tmp_path)
    assert stamp_of(content, tmp_path) != stamp_of(content + b"\0", tmp_path)


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.jpg", b"content")
    book = StampBook()
    stamp = book.stamp(file)
    monkeypatch.setattr("builtins.open", _refuse_to_open)
    assert book.stamp(file) == stamp


def _refuse_to_open(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError(f"opened {args[0]}")


@pytest.mark.parametrize(
    ("content", "changed_s"),
    [(b"changed, longer", 1e9), (b"changed", 1e9 + 0.001), (b"changed", 1e9 - 5)],
    ids=["size", "time", "an older copy"],
)
def test_a_changed_file_is_noticed(tmp_path: Path, content: bytes, changed_s: float) -> None:
    file = write(tmp_path / "a.jpg", b"content")
    book = StampBook()
    before = book.stamp(file)
    write(file, content, changed_s=changed_s)
    assert book.stamp(file) != before
    assert book.stamp(file) == stamp_of(content, tmp_path)


def test_a_file_that_is_changed_again_within_one_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    book, file = StampBook(), tmp_path / "a.jpg"
    for number in range(50):
        content = f"{number:04d}".encode()
        file.write_bytes(content)
        assert book.stamp(file) == stamp_of(content, tmp_path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        StampBook().stamp(tmp_path / "none.jpg")
    assert str(caught.value) == f"[Errno 2] No such file or directory: '{tmp_path}/none.jpg'"


def test_stamps_are_remembered_between_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write(tmp_path / f"{number}.jpg", b"%d" % number) for number in range(5)]
    book = StampBook(tmp_path / "notes" / "stamps")
    stamps = [book.stamp(file) for file in files]
    assert not (tmp_path / "notes").exists()
    book.save()
    book.save()
    again = StampBook(tmp_path / "notes" / "stamps")
    assert len((tmp_path / "notes" / "stamps").read_text().split("\n")) == 1 + 5
    monkeypatch.setattr(keys.hashlib, "blake2b", _refuse_to_open)
    assert [again.stamp(file) for file in files] == stamps


def test_a_book_without_a_path_saves_nothing(tmp_path: Path) -> None:
    book = StampBook()
    book.stamp(write(tmp_path / "a.jpg", b"a"))
    book.save()
    assert os.listdir(tmp_path) == ["a.jpg"]


@given(data=st.data())
def test_notes_that_were_cut_anywhere_cost_time_and_never_a_wrong_stamp(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        files = [write(folder / f"{number}.jpg", b"content %d" % number) for number in range(4)]
        book = StampBook(folder / "stamps")
        true = [book.stamp(file) for file in files]
        book.save()
        whole = (folder / "stamps").read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        (folder / "stamps").write_bytes(whole[:cut])
        second = StampBook(folder / "stamps")
        assert [second.stamp(file) for file in files] == true
        second.save()
        third = StampBook(folder / "stamps")
        assert [third.stamp(file) for file in files] == true
        third.save()
        # What stands behind a cut line is remembered, so that a later run reads nothing.
        fourth = StampBook(folder / "stamps")
        assert [fourth.stamp(file) for file in files] == true
        assert fourth._new == []


@pytest.mark.parametrize(
    "notes",
    [
        b"",
        b"\n\n",
        b"\xff\xfe\x00garbage\n",
        b'5\nnull\n[]\n{}\n[1]\n"abcd"\n',
        b'[["a"], 1, 1, "x"]\n[null, 1, 1, "x"]\n["a", null, 1, "x"]\n["a", [], 1, "x"]\n',
        b'["a", Infinity, 1, "x"]\n["a", NaN, 1, "x"]\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_broken_notes_cost_time_and_nothing_else(tmp_path: Path, notes: bytes) -> None:
    file = write(tmp_path / "a.jpg", b"content")
    (tmp_path / "stamps").write_bytes(notes)
    book = StampBook(tmp_path / "stamps")
    assert book.stamp(file) == StampBook().stamp(file)
    book.save()
    assert json.loads((tmp_path / "stamps").read_bytes().splitlines()[-1])[3] == book.stamp(file)


def test_the_last_note_of_a_file_counts(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jpg", b"old")
    first = StampBook(tmp_path / "stamps")
    first.stamp(file)
    first.save()
    write(file, b"new", changed_s=1.1e9)
    second = StampBook(tmp_path / "stamps")
    new = second.stamp(file)
    second.save()
    assert StampBook(tmp_path / "stamps").stamp(file) == new == stamp_of(b"new", tmp_path)


def test_names_of_any_kind_are_remembered(tmp_path: Path) -> None:
    names = ["a b.jpg", "ü.jpg", "line\nbreak.jpg", 'quo"te.jpg', "sep\u2028arated.jpg", os.fsdecode(b"\xff.jpg")]
    files = [write(tmp_path / name, name.encode("utf-8", "surrogatepass")) for name in names]
    book = StampBook(tmp_path / "stamps")
    stamps = [book.stamp(file) for file in files]
    book.save()
    again = StampBook(tmp_path / "stamps")
    assert [again.stamp(file) for file in files] == stamps
    assert again._new == []


def test_a_book_travels_in_a_pickle_with_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.jpg", b"content")
    book = StampBook(tmp_path / "stamps")
    stamp = book.stamp(file)
    copy = pickle.loads(pickle.dumps(book))
    copy.save()
    assert not (tmp_path / "stamps").exists()  # only the original has something to save
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", _refuse_to_open)
        assert copy.stamp(file) == stamp
    shutil.copy2(file, tmp_path / "b.jpg")
    assert copy.stamp(tmp_path / "b.jpg") == stamp
    copy.save()
    assert len((tmp_path / "stamps").read_text().split("\n")) == 1 + 1


def test_notes_that_cannot_be_written_cost_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "no folder").write_bytes(b"")
    book = StampBook(tmp_path / "no folder" / "stamps.jsonl")
    stamp = book.stamp(tmp_path / "file")
    book.save()
    assert StampBook().stamp(tmp_path / "file") == stamp
