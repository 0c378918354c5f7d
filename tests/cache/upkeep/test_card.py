"""What is inside of a cache, counted without its pixels."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader.cache import LMDBCache
from synthloader.cache.layout import VERDICTS
from synthloader.cache.record import encode_entry
from synthloader.cache.record_head import read_entry_head
from synthloader.cache.upkeep.card_text import format_bytes, format_count, format_time
from synthloader.cache.upkeep.make_card import make_card, write_card
from synthloader.errors import CacheError
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.cache.samples import make_sample
from tests.cache.upkeep.stocks import BOX, damage, forge, name, put_raw


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[LMDBCache]:
    with LMDBCache(tmp_path / "cache") as made:
        yield made


def make_image(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def make_instances(*class_ids: int) -> Instances:
    return Instances(
        np.array(class_ids, np.int64), np.array([[0, 0, 2, 2]] * len(class_ids), np.float32).reshape(-1, 4)
    )


def fill_with_everything(cache: LMDBCache) -> None:
    paste, edit = "CopyPaste/1(num_range=[1, 3])", "InstructEdit/1(steps=20)"
    origins = [
        Origin("a.jpg", paste, drawn=("b.jpg",), license="CC0", class_names={1: "fig", 2: "date"}),
        Origin("a.jpg", paste, variant=1, drawn=("b.jpg", "c.jpg"), class_names={1: "fig"}),
        Origin("b.jpg", edit, seed=3, prompt="in fog", model="sd-3", weights="f00", license="OpenRAIL"),
        Origin("c.jpg", edit, seed=3, prompt="in fog", model="sd-3", weights="f00", license="OpenRAIL"),
        Origin("d.jpg", edit, seed=3, prompt="at night", model="sd-3", weights="bad"),
    ]
    targets = [
        make_instances(1, 1, 2),
        make_instances(1),
        ClassLabel(2),
        None,
        SemanticMask(np.zeros((9, 8), np.int32)),
    ]
    sizes = [(4, 6), (4, 6), (40, 60), (8, 6), (9, 8)]
    for number, (origin, target, size_hw) in enumerate(zip(origins, targets, sizes, strict=True)):
        sample = Sample(make_image(*size_hw), target, origin)
        put_raw(cache, name(number), encode_entry(sample), time_ms=1_700_000_000_000 + number * 60_000)
        verdict = Verdict(number != 1, score=number, reason="box too small" if number == 1 else "")
        cache.put_verdict(name(number), BOX, verdict, of=sample)
    put_raw(cache, name(7), encode_entry(Rejected("no donor", origins[0])), time_ms=1_700_000_100_000)


def test_everything_is_counted(cache: LMDBCache) -> None:
    fill_with_everything(cache)
    card = make_card(cache)
    content = card.to_dict()
    sizes = {part: content.pop(part) for part in ("num_bytes", "file_bytes")}
    assert 0 < sizes["num_bytes"] < sizes["file_bytes"] == (cache.path / "data.mdb").stat().st_size
    generators = content.pop("generators")
    assert {maker: (each["samples"], each["rejected"]) for maker, each in generators.items()} == {
        "InstructEdit/1(steps=20)": (3, 0),
        "CopyPaste/1(num_range=[1, 3])": (2, 1),
    }
    assert content == {
        "name": "cache",
        "num_samples": 5,
        "num_rejected": 1,
        "rejected": {"no donor": 1},
        "codecs": {"zstd": 5},
        "targets": {"instances": 2, "class_label": 1, "none": 1, "semantic_mask": 1},
        "sizes_hw": {"min": [4, 6], "median": [8, 6], "max": [40, 60]},
        "models": [
            {"model": "sd-3", "weights": "f00", "samples": 2},
            {"model": "sd-3", "weights": "bad", "samples": 1},
        ],
        "num_prompts": 2,
        "prompts": {"in fog": 2, "at night": 1},
        "licenses": {"OpenRAIL": 2, "CC0": 1},
        "num_unlicensed": 2,
        "num_sources": 4,
        "num_drawn": 2,
        "seeds": {"0": 3, "3": 3},
        "classes": [
            {"id": 1, "names": ["fig"], "samples": 2, "instances": 3},
            {"id": 2, "names": ["date"], "samples": 2, "instances": 1},
        ],
        "verdicts": [{"filters": BOX, "accepted": 4, "rejected": 1, "reasons": {"box too small": 1}}],
        "shards": {".": 6},
        "time_range_ms": [1_700_000_000_000, 1_700_000_240_000],
        "unreadable": {},
    }
    assert json.loads(json.dumps(card.to_dict())) == card.to_dict()


def test_what_lies_in_several_shards_counts_once(cache: LMDBCache) -> None:
    fill_with_everything(cache)
    with cache.open_shard("shard-a") as shard:
        fill_with_everything(shard)
        card = make_card(cache)
    assert card.num_samples == 5
    assert card.num_rejected == 1
    assert card.verdicts[BOX].accepted == 4
    assert card.shards == {".": 6, "shard-a": 6}


def test_codecs_are_told_apart(tmp_path: Path) -> None:
    wanted = {"raw": "raw", "jpeg": "jpeg, quality 95, 4:2:0", "jpeg-444": "jpeg, quality 95, 4:4:4"}
    for codec, text in wanted.items():
        with LMDBCache(tmp_path / codec, codec=codec) as cache:
            cache.put(name(1), make_sample(1))
            assert make_card(cache).codecs == {text: 1}


def test_what_cannot_be_read_is_counted_and_the_rest_too(cache: LMDBCache) -> None:
    fill_with_everything(cache)
    put_raw(cache, name(0), b"x")
    put_raw(cache, name(1), forge(encode_entry(make_sample(1)), version=2))
    put_raw(cache, name(0) + name(0), b"x", database=VERDICTS)
    with cache.open_shard("shard-a") as shard:
        shard.put(name(8), make_sample(1))
    cache.close()
    (cache.path / "shard-a" / "data.mdb").write_bytes(b"no database" * 1000)
    card = make_card(cache)
    assert card.num_samples == 3
    assert {re.sub(r"^.*shard-a: .*", "shard", reason): count for reason, count in card.unreadable.items()} == {
        "shard": 1,
        "1 bytes are too few for a record": 2,
        "it has format 2, and this version of synthloader reads formats up to 1": 1,
    }


def test_pixels_are_not_read() -> None:
    record = encode_entry(make_sample(1), codec="raw")
    assert read_entry_head(damage(record)).num_bytes == len(record)


def test_an_empty_cache_has_a_card(tmp_path: Path) -> None:
    card = make_card(LMDBCache(tmp_path))
    assert (card.num_samples, card.size_range_hw, card.time_range_ms) == (0, {}, None)
    assert "| samples | 0 |" in card.to_markdown()


def test_the_page_says_what_counts(cache: LMDBCache) -> None:
    fill_with_everything(cache)
    page = make_card(cache).to_markdown()
    for line in (
        "| samples | 5 |",
        "| height x width | min 4 x 6, median 8 x 6, max 40 x 60 |",
        "| made | 2023-11-14T22:13:20Z to 2023-11-14T22:17:20Z |",
        "| sd-3 | `f00` | 2 |",
        "| in fog | 2 |",
        "| OpenRAIL | 2 |",
        "| not said | 2 |",
        "| 1 | fig | 2 | 3 |",
        f"| `{BOX}` | 4 | 1 | box too small |",
        "| no donor | 1 |",
    ):
        assert line in page.splitlines()


def test_nobody_can_put_marks_into_the_page(cache: LMDBCache) -> None:
    evil = "a|b\n# <script> [x](y) `c`"
    origin = Origin("a.jpg", 'G/1(x="a | `b`")', prompt=evil, license=evil, model=evil)
    cache.put(name(1), Sample(make_image(4, 6), None, origin))
    page = make_card(cache).to_markdown()
    assert r"| a\|b \# \<script\> \[x\](y) \`c\` | 1 |" in page
    assert "| `G/1(x=\"a \\| 'b'\")` |" in page


def test_the_card_is_written_whole(cache: LMDBCache) -> None:
    fill_with_everything(cache)
    (cache.path / "card.md").write_text("old")
    card = write_card(cache)
    assert json.loads((cache.path / "card.json").read_text()) == card.to_dict()
    assert (cache.path / "card.md").read_text() == card.to_markdown()
    assert {file.name for file in cache.path.iterdir()} >= {"card.json", "card.md"}
    assert not list(cache.path.glob("*.new"))


def test_a_card_that_cannot_be_written_is_an_error(cache: LMDBCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    cache.put(name(1), make_sample(1))
    monkeypatch.setattr(sys.modules["synthloader.cache.upkeep.make_card"], "replace_file", fail)
    message = f"Writing the card of the cache {cache.path}: Permission denied (check the folder and its permissions)"
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        write_card(cache)


def test_sizes_counts_and_times_are_short() -> None:
    assert [format_bytes(size) for size in (0, 999, 1000, 99_949, 999_499, 10**9, 3 * 10**15)] == [
        "0 B", "999 B", "1.0 kB", "99.9 kB", "999 kB", "1.0 GB", "3000 TB",
    ]  # fmt: skip
    assert (format_count(1, "entry", "entries"), format_count(1200, "entry", "entries")) == ("1 entry", "1,200 entries")
    assert format_time(0) == "1970-01-01T00:00:00Z"
