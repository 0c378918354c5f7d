"""`LMDBCache` beside a plain dict: whatever is done to both, they say the same."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from synthloader.cache import LMDBCache
from synthloader.cache.upkeep.compact import compact
from synthloader.cache.upkeep.merge import merge
from synthloader.cache.upkeep.verify import verify
from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Sample
from tests.cache.samples import assert_same, make_sample

KEYS = st.sampled_from([b"a", b"b", b"ab", b"\x00", b"\xff" * 255, b"key"])
ENTRIES = st.builds(make_sample, st.integers(0, 5)) | st.text(max_size=3).map(Rejected)
BIG = st.builds(make_sample, st.integers(0, 5), size_hw=st.just((150, 150)))
ITEMS = st.dictionaries(KEYS, ENTRIES, max_size=4)
SHARDS = st.sampled_from(["s", "t"])
FILTERS = st.sampled_from(["MinBox/1()", "Sharpness/1(minimum=3)"])


def make_verdict(accepted: bool, changed: bool, of: Sample) -> Verdict:
    return Verdict(accepted, 0.5, "why", of.replace(metadata={"changed": 1}) if changed else None)


class CacheBesideADict(RuleBasedStateMachine):
    """Several caches of one folder and of shards in it; the dict knows what is in them together."""

    caches = Bundle("caches")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.entries: dict[bytes, Sample | Rejected] = {}
        self.verdicts: dict[tuple[bytes, str], Verdict] = {}
        self.in_folder: set[bytes] = set()  # Those that do not stand in shards alone.
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

    def choose(self, items: dict[bytes, Sample | Rejected]) -> dict[bytes, Sample | Rejected]:
        """What may be put where a key is not known: a key determines its entry, as everywhere."""
        return {key: self.entries.get(key, entry) for key, entry in items.items()}

    @rule(cache=caches, key=KEYS, entry=ENTRIES | BIG)
    def put(self, cache: LMDBCache, key: bytes, entry: Sample | Rejected) -> None:
        if key not in self.in_folder:
            entry = self.entries.setdefault(key, entry)
        cache.put(key, entry)  # A second one, even another one, changes nothing.
        self.in_folder.add(key)

    @rule(cache=caches, items=ITEMS)
    def put_many(self, cache: LMDBCache, items: dict[bytes, Sample | Rejected]) -> None:
        items = {key: items[key] if key in self.in_folder else entry for key, entry in self.choose(items).items()}
        cache.put_many(items.items())
        self.entries = {**items, **self.entries}
        self.in_folder |= items.keys()

    @rule(cache=caches, name=SHARDS, items=ITEMS)
    def put_into_a_shard(self, cache: LMDBCache, name: str, items: dict[bytes, Sample | Rejected]) -> None:
        items = self.choose(items)
        with cache.open_shard(name) as shard:
            shard.put_many(items.items())
            for key, entry in items.items():
                assert_same(shard.get(key), entry)
        self.entries = {**items, **self.entries}

    @rule(cache=caches, keys=st.lists(KEYS, max_size=3))
    def delete(self, cache: LMDBCache, keys: list[bytes]) -> None:
        assert cache.delete(keys) == len(set(keys) & self.entries.keys())
        for key in keys:
            self.entries.pop(key, None)
            self.in_folder.discard(key)
        self.verdicts = {name: verdict for name, verdict in self.verdicts.items() if name[0] not in keys}

    def close_others(self, cache: LMDBCache) -> None:
        """Nobody else may be the writer of a shard; `delete` makes one."""
        for other in self.made:
            if other is not cache:
                other.close()

    @rule(cache=caches)
    def merge_shards(self, cache: LMDBCache) -> None:
        self.close_others(cache)
        merge(cache)
        self.in_folder = set(self.entries)
        assert cache.leases == cache.leases[:1]

    @rule(cache=caches, items=ITEMS, verdict=st.none() | st.tuples(KEYS, FILTERS))
    def merge_another(
        self, cache: LMDBCache, items: dict[bytes, Sample | Rejected], verdict: tuple[bytes, str] | None
    ) -> None:
        items = self.choose(items)
        self.close_others(cache)
        with LMDBCache(self.folder / "other") as other:
            other.put_many(items.items())
            if verdict is not None:
                self.verdicts.setdefault(verdict, make_verdict(True, False, self.judged))
                other.put_verdict(*verdict, self.verdicts[verdict], of=self.judged)
            merge(cache, [other])
        shutil.rmtree(self.folder / "other", ignore_errors=True)
        self.entries = {**items, **self.entries}
        self.in_folder = set(self.entries)

    @rule(cache=caches)
    def compact(self, cache: LMDBCache) -> None:
        compact(cache)

    @rule(cache=caches, items=ITEMS, count=st.integers(0, 4))
    def kill_a_writer(self, cache: LMDBCache, items: dict[bytes, Sample | Rejected], count: int) -> None:
        """A child puts one after the other into a shard, says so, and is killed after `count` of them."""
        items = self.choose(items)
        self.close_all()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                shard = cache.open_shard("killed")
                for key, entry in items.items():
                    shard.put(key, entry)
                    os.write(writing, b".")
                os.write(writing, b"!" * (count + 1))
                signal.pause()
            finally:
                os._exit(1)
        os.close(writing)
        said = 0
        while said < count and said < len(items):
            assert os.read(reading, 1) == b"."
            said += 1
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        with open(reading, "rb") as rest:
            said += rest.read().count(b".")
        kept = dict(list(items.items())[:said])
        unsure = dict(list(items.items())[said : said + 1])
        kept |= {key: entry for key, entry in unsure.items() if key in cache}
        self.entries = {**kept, **self.entries}
        for key, entry in kept.items():
            assert_same(cache.get(key), entry)

    @rule(cache=caches, key=KEYS, filters=FILTERS, accepted=st.booleans(), changed=st.booleans())
    def judge(self, cache: LMDBCache, key: bytes, filters: str, accepted: bool, changed: bool) -> None:
        verdict = make_verdict(accepted, changed, self.judged)
        cache.put_verdict(key, filters, verdict, of=self.judged)
        self.verdicts.setdefault((key, filters), verdict)

    @rule(cache=caches, key=KEYS)
    def get(self, cache: LMDBCache, key: bytes) -> None:
        assert_same(cache.get(key), self.entries.get(key))
        assert (key in cache) == (key in self.entries)

    @rule(cache=caches, key=KEYS, other=KEYS)
    def view(self, cache: LMDBCache, key: bytes, other: bytes) -> None:
        with cache.view(key) as entry, cache.view(other) as another:
            assert_same(entry, self.entries.get(key))
            assert_same(another, self.entries.get(other))
            assert_same(cache.get(other), self.entries.get(other))

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
        for cache in self.made[:1]:
            assert verify(cache).findings == []
        for cache in self.made:
            cache.close()
        shutil.rmtree(self.folder)


TestCacheBesideADict = CacheBesideADict.TestCase
TestCacheBesideADict.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
