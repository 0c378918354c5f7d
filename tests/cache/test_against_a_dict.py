"""`LMDBCache` beside a plain dict: whatever is done to both, they say the same."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from synthloader.cache import LMDBCache
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Sample
from tests.cache.samples import assert_same, make_sample

KEYS = st.sampled_from([b"a", b"b", b"ab", b"\x00", b"\xff" * 255, b"key"])
ENTRIES = st.builds(make_sample, st.integers(0, 5)) | st.text(max_size=3).map(Rejected)
BIG = st.builds(make_sample, st.integers(0, 5), size_hw=st.just((150, 150)))
FILTERS = st.sampled_from(["MinBox/1()", "Sharpness/1(minimum=3)"])


def make_verdict(accepted: bool, changed: bool, of: Sample) -> Verdict:
    return Verdict(accepted, 0.5, "why", of.replace(metadata={"changed": 1}) if changed else None)


class CacheBesideADict(RuleBasedStateMachine):
    """Several caches of one folder; the dict knows what is in it."""

    caches = Bundle("caches")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.entries: dict[bytes, Sample | Rejected] = {}
        self.verdicts: dict[tuple[bytes, str], Verdict] = {}
        self.judged = make_sample()
        self.made: list[LMDBCache] = []

    def keep(self, cache: LMDBCache) -> LMDBCache:
        self.made.append(cache)
        return cache

    @initialize(target=caches)
    def first(self) -> LMDBCache:
        return self.keep(LMDBCache(self.folder / "cache", map_size_bytes=1 << 16))

    @rule(target=caches)
    def another(self) -> LMDBCache:
        return self.keep(LMDBCache(self.folder / "cache", map_size_bytes=1 << 16))

    @rule(target=caches, cache=caches)
    def copied(self, cache: LMDBCache) -> LMDBCache:
        return self.keep(pickle.loads(pickle.dumps(cache)))

    @rule(cache=caches)
    def close(self, cache: LMDBCache) -> None:
        cache.close()

    @rule(cache=caches, key=KEYS, entry=ENTRIES | BIG)
    def put(self, cache: LMDBCache, key: bytes, entry: Sample | Rejected) -> None:
        cache.put(key, entry)
        self.entries.setdefault(key, entry)

    @rule(cache=caches, items=st.dictionaries(KEYS, ENTRIES, max_size=4))
    def put_many(self, cache: LMDBCache, items: dict[bytes, Sample | Rejected]) -> None:
        cache.put_many(items.items())
        self.entries = {**items, **self.entries}

    @rule(cache=caches, key=KEYS, filters=FILTERS, accepted=st.booleans(), changed=st.booleans())
    def judge(self, cache: LMDBCache, key: bytes, filters: str, accepted: bool, changed: bool) -> None:
        verdict = make_verdict(accepted, changed, self.judged)
        cache.put_verdict(key, filters, verdict, of=self.judged)
        self.verdicts.setdefault((key, filters), verdict)

    @rule(cache=caches, key=KEYS)
    def get(self, cache: LMDBCache, key: bytes) -> None:
        assert_same(cache.get(key), self.entries.get(key))
        assert (key in cache) == (key in self.entries)

    @rule(cache=caches, key=KEYS, filters=FILTERS)
    def get_verdict(self, cache: LMDBCache, key: bytes, filters: str) -> None:
        assert_same(cache.get_verdict(key, filters, of=self.judged), self.verdicts.get((key, filters)))

    @rule(cache=caches)
    def read_in_a_fork(self, cache: LMDBCache) -> None:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if list(cache) == sorted(self.entries) else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0

    @rule()
    def close_all(self) -> None:
        for cache in self.made:
            cache.close()

    @invariant()
    def keys_are_those_of_the_dict(self) -> None:
        for cache in self.made[:1]:
            assert list(cache) == sorted(self.entries)
            assert len(cache) == len(self.entries)

    def teardown(self) -> None:
        for cache in self.made:
            cache.close()
        shutil.rmtree(self.folder)


TestCacheBesideADict = CacheBesideADict.TestCase
TestCacheBesideADict.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
