"""What every cache promises."""

from __future__ import annotations

import multiprocessing
import pickle
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synthloader.cache
from synthloader.cache import UNSTORED_FIELDS, LMDBCache, MemoryCache
from synthloader.protocols import Cache, Rejected, Verdict
from tests.cache.samples import assert_same, make_sample

CACHES: dict[str, Callable[[Path], Any]] = {
    "MemoryCache": lambda folder: MemoryCache(),
    "LMDBCache": lambda folder: LMDBCache(folder / "cache"),
}


def test_no_cache_is_missing_from_the_list() -> None:
    assert {name for name in synthloader.cache.__all__ if name.endswith("Cache")} == set(CACHES)


@pytest.fixture(params=CACHES)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = CACHES[request.param](tmp_path)
    yield made
    made.close()


class TestCacheContract:
    def test_it_is_a_cache(self, cache: Any) -> None:
        assert isinstance(cache, Cache)
        assert isinstance(cache.persistent, bool)

    def test_an_empty_one_has_nothing(self, cache: Any) -> None:
        assert cache.get(b"a") is None
        assert b"a" not in cache
        assert list(cache) == []
        assert len(cache) == 0

    @pytest.mark.parametrize(
        "entry", [make_sample(), Rejected("no donor"), Rejected()], ids=["sample", "why", "no why"]
    )
    def test_what_was_put_comes_back(self, cache: Any, entry: Any) -> None:
        cache.put(b"a", entry)
        assert_same(cache.get(b"a"), entry)
        assert b"a" in cache

    def test_several_can_be_put_at_once(self, cache: Any) -> None:
        cache.put_many((bytes([65 + number]), make_sample(number)) for number in range(3))
        cache.put_many([])
        assert list(cache) == [b"A", b"B", b"C"]
        assert_same(cache.get(b"C"), make_sample(2))

    def test_keys_come_in_their_order(self, cache: Any) -> None:
        keys = [b"b", b"a", b"\xff", b"\x00", b"ab", b"a\x00"]
        for key in keys:
            cache.put(key, Rejected())
        assert list(cache) == sorted(keys)
        assert len(cache) == len(keys)

    def test_a_second_put_changes_nothing(self, cache: Any) -> None:
        cache.put(b"a", Rejected("first"))
        cache.put(b"a", Rejected("second"))
        assert cache.get(b"a") == Rejected("first")
        assert len(cache) == 1

    def test_nothing_is_shared_with_what_was_put_or_got(self, cache: Any) -> None:
        sample = make_sample()
        cache.put(b"a", sample)
        sample.image[:] = 0
        got = cache.get(b"a")
        got.image[:] = 1
        got.target.masks[:] = True
        assert_same(cache.get(b"a"), make_sample())

    def test_recode_gives_what_get_will_give_and_keeps_nothing(self, cache: Any) -> None:
        sample = make_sample().replace(fields={"thing": object(), "a": (1, [2])})
        recoded = cache.recode(sample)
        assert len(cache) == 0
        cache.put(b"a", sample)
        assert_same(cache.get(b"a"), recoded)
        assert_same(recoded.fields, {"a": (1, [2]), UNSTORED_FIELDS: ["thing"]})
        assert_same(cache.recode(Rejected("a")), Rejected("a"))

    def test_an_entry_can_be_put_again_after_it_was_got(self, cache: Any) -> None:
        cache.put(b"a", make_sample().replace(fields={"thing": object()}))
        cache.put(b"b", cache.get(b"a"))
        assert_same(cache.get(b"b"), cache.get(b"a"))

    def test_verdicts_stand_beside_entries(self, cache: Any) -> None:
        sample = make_sample()
        cache.put(b"a", sample)
        cache.put_verdict(b"a", "MinBox/1()", Verdict(False, 0.5, "box too small"), of=sample)
        cache.put_verdict(b"b", "MinBox/1()", Verdict(True), of=sample)
        assert_same(cache.get_verdict(b"a", "MinBox/1()", of=sample), Verdict(False, 0.5, "box too small"))
        assert cache.get_verdict(b"a", "MinBox/2()", of=sample) is None
        assert cache.get_verdict(b"c", "MinBox/1()", of=sample) is None
        assert list(cache) == [b"a"]
        assert len(cache) == 1
        assert b"b" not in cache

    def test_a_verdict_can_bring_a_sample(self, cache: Any) -> None:
        judged = cache.recode(make_sample())
        fewer = judged.replace(target=judged.target.select(np.array([0, 2])))
        cache.put_verdict(b"a", "f", Verdict(True, sample=fewer), of=judged)
        assert_same(cache.get_verdict(b"a", "f", of=judged), Verdict(True, sample=fewer))

    def test_a_second_verdict_changes_nothing(self, cache: Any) -> None:
        cache.put_verdict(b"a", "f", Verdict(True), of=make_sample())
        cache.put_verdict(b"a", "f", Verdict(False), of=make_sample())
        assert_same(cache.get_verdict(b"a", "f", of=make_sample()), Verdict(True))

    def test_several_verdicts_can_be_put_at_once(self, cache: Any) -> None:
        cache.put_verdicts((b"a", f"f{number}", Verdict(number == 1), make_sample()) for number in range(3))
        cache.put_verdicts([])
        assert_same(cache.get_verdict(b"a", "f1", of=make_sample()), Verdict(True))
        assert_same(cache.get_verdict(b"a", "f2", of=make_sample()), Verdict(False))

    def test_fingerprints_of_filters_may_be_long(self, cache: Any) -> None:
        cache.put_verdict(b"a", "f" * 5000, Verdict(True), of=make_sample())
        assert_same(cache.get_verdict(b"a", "f" * 5000, of=make_sample()), Verdict(True))

    def test_it_goes_on_after_close(self, cache: Any) -> None:
        cache.put(b"a", make_sample())
        cache.close()
        cache.close()
        assert_same(cache.get(b"a"), make_sample())
        cache.put(b"b", Rejected())
        assert list(cache) == [b"a", b"b"]

    def test_it_can_be_changed_while_keys_are_read(self, cache: Any) -> None:
        cache.put_many([(b"a", Rejected()), (b"b", Rejected())])
        for key in cache:
            cache.put(key + b"x", Rejected())
            if len(cache) > 10:
                break
        assert b"ax" in cache

    def test_it_can_be_pickled_and_then_knows_the_same(self, cache: Any) -> None:
        cache.put(b"a", make_sample())
        copy = pickle.loads(pickle.dumps(cache))
        assert_same(copy.get(b"a"), make_sample())
        copy.close()

    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_a_forked_worker_reads_it(self, cache: Any) -> None:
        cache.put(b"a", make_sample())
        ours, theirs = multiprocessing.Pipe()
        worker = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(cache.get(b"a").image))
        worker.start()
        image = ours.recv()
        worker.join()
        worker.close()
        np.testing.assert_array_equal(image, make_sample().image)
        assert_same(cache.get(b"a"), make_sample())

    def test_threads_may_use_it(self, cache: Any) -> None:
        def work(number: int) -> None:
            cache.put(b"%d" % number, make_sample(number))
            assert_same(cache.get(b"%d" % number), make_sample(number))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(20)))
        assert len(cache) == 20

    @pytest.mark.parametrize(
        ("key", "kind", "message"),
        [
            ("a", TypeError, "key must be a bytes, got key='a'."),
            (b"", ValueError, "key must have 1 to 255 bytes, got key=b''. Make keys with synthloader.keys.make_key."),
        ],
    )
    def test_wrong_keys_are_refused(self, cache: Any, key: Any, kind: type[Exception], message: str) -> None:
        sample = make_sample()
        for use in (
            lambda: cache.get(key),
            lambda: cache.put(key, Rejected()),
            lambda: key in cache,
            lambda: cache.get_verdict(key, "f", of=sample),
            lambda: cache.put_verdict(key, "f", Verdict(True), of=sample),
        ):
            with pytest.raises(kind, match=f"^{re.escape(message)}$"):
                use()

    def test_what_is_no_entry_is_refused(self, cache: Any) -> None:
        with pytest.raises(TypeError, match=r"^entry must be a Sample or Rejected, got entry='x'\.$"):
            cache.put(b"a", "x")
        assert len(cache) == 0
