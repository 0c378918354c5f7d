"""What a generated dataset keeps, in one commit for a batch, and from whichever process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from synthloader import store as store_module
from synthloader.cache import LMDBCache, MemoryCache
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.protocols import Rejected
from synthloader.store import Puts, Store
from tests.cache.processes import other_process, receive
from tests.scenes import RejectBy, ScenesDataset, Shade, describe, keep_items


class Counted(LMDBCache):
    """Counts its commits."""

    commits = 0

    def put_encoded(self, entries: Any, verdicts: Any = (), /) -> None:
        super().put_encoded(entries, verdicts)
        self.commits += 1


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Counted]:
    made = Counted(tmp_path / "cache")
    yield made
    made.close()


def make(cache: Any, **options: Any) -> GeneratedDataset:
    return GeneratedDataset(ScenesDataset(8), Shade(), cache=cache, variants=2, version="1", **options)


def test_a_batch_is_one_commit_with_its_verdicts(cache: Counted) -> None:
    generated = make(cache, filters=[RejectBy(share=0.0)])
    generated.__getitems__([0, 1, 2])
    assert (len(cache), cache.commits) == (3, 1)
    train = MixedDataset(generated.dataset, generated, ratio=1.0)
    train.__getitems__(range(16))
    assert cache.commits == 2
    generated[15]
    assert cache.commits <= 3


def test_a_batch_that_takes_long_commits_meanwhile(cache: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MOST_SECONDS", 0.0)
    make(cache).__getitems__([0, 1, 2])
    assert cache.commits == 3


def test_what_was_made_before_an_error_is_kept(cache: Counted) -> None:
    class Failing(Shade):
        def generate(self, source: Any, /, *, rng: Any) -> Any:
            if source.fields["form"] is not None and self.left == 0:
                raise RuntimeError("out of memory")
            self.left -= 1
            return super().generate(source, rng=rng)

        left = 2

    generated = GeneratedDataset(ScenesDataset(8), Failing(), cache=cache, variants=1, version="1")
    with pytest.raises(RuntimeError, match=r"^out of memory"):
        generated.__getitems__([0, 1, 2, 3])
    assert len(cache) == 2


@pytest.mark.parametrize(
    ("method", "codec"),
    [("fork", "zstd"), ("fork", "jpeg"), ("spawn", "jpeg"), pytest.param("spawn", "zstd", marks=pytest.mark.slow)],
)
def test_workers_write_to_shards_and_serve_what_the_codec_gives_back(tmp_path: Path, method: str, codec: str) -> None:
    workers = 2
    cache = LMDBCache(tmp_path / "cache", codec=codec)
    generated = make(cache)

    def run(hits: int, misses: int) -> list[Any]:
        train = MixedDataset(generated.dataset, generated, ratio=1.0)
        loader = DataLoader(
            train,
            batch_size=4,
            num_workers=workers,
            multiprocessing_context=method,
            collate_fn=keep_items,
            generator=torch.Generator(),
        )
        items = [describe(item) for batch in loader for item in batch]
        report = train.report().sets["generated"]
        assert (report.cache_hits, report.cache_misses) == (hits, misses)
        return items

    missed = run(0, 8)
    shards = [folder for folder in (tmp_path / "cache").iterdir() if folder.is_dir()]
    assert 1 <= len(shards) <= workers
    assert not (tmp_path / "cache" / "data.mdb").exists()
    assert run(8, 0) == missed
    assert [folder for folder in (tmp_path / "cache").iterdir() if folder.is_dir()] == shards
    assert len(cache) == 8
    cache.close()


def hold(connection: Any, folder: Path) -> None:
    with LMDBCache(folder) as cache:
        cache.put(b"key", Rejected())
        connection.send("held")
        connection.recv()


def test_where_another_process_fills_the_cache_a_shard_takes_what_is_made(tmp_path: Path) -> None:
    with other_process(hold, tmp_path / "cache") as (connection, _):
        assert receive(connection) == "held"
        cache = LMDBCache(tmp_path / "cache")
        generated = make(cache)
        first = [describe(generated[index]) for index in range(3)]
        assert len(cache) == 4
        assert generated.make(0, 0).hits == 1
        assert [describe(generated[index]) for index in range(3)] == first
        assert len([folder for folder in (tmp_path / "cache").iterdir() if folder.is_dir()]) == 1
        connection.send("done")
    cache.close()


def test_training_goes_on_where_nothing_can_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = LMDBCache(tmp_path / "cache")
    generated = make(cache)

    def refuse(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "put_encoded", refuse)
    plain = make(None)
    with caplog.at_level(logging.WARNING, "synthloader"):
        assert [describe(generated[index]) for index in range(3)] == [describe(plain[index]) for index in range(3)]
    assert caplog.text.count("not kept in the cache: [Errno 28] No space left on device") == 1


def test_a_cache_of_somebody_else_needs_the_protocol_only() -> None:
    class Plain:
        """Only what the protocol asks for."""

        persistent = False

        def __init__(self) -> None:
            self._inner = MemoryCache()

        def get(self, key: bytes, /) -> Any:
            return self._inner.get(key)

        def put(self, key: bytes, entry: Any, /) -> None:
            self._inner.put(key, entry)

        def recode(self, entry: Any, /) -> Any:
            return self._inner.recode(entry)

        def get_verdict(self, key: bytes, filters: str, /, *, of: Any) -> Any:
            return self._inner.get_verdict(key, filters, of=of)

        def put_verdict(self, key: bytes, filters: str, verdict: Any, /, *, of: Any) -> None:
            self._inner.put_verdict(key, filters, verdict, of=of)

        def __contains__(self, key: bytes, /) -> bool:
            return key in self._inner

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._inner)

        def __len__(self) -> int:
            return len(self._inner)

        def close(self) -> None:
            self._inner.close()

    cache = Plain()
    generated = GeneratedDataset(ScenesDataset(3), Shade(), cache=cache, variants=1, filters=[RejectBy(share=0.0)])
    first = [describe(generated[index]) for index in range(3)]
    assert generated.make(0, 0).hits == 1
    assert [describe(generated[index]) for index in range(3)] == first
    puts = Puts()
    assert Store(cache).add_entry(puts, b"key", Rejected("why")) == Rejected("why")
    assert len(puts) == 1
