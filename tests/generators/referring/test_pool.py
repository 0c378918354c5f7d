from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest

from synthloader.errors import NothingToGenerate
from synthloader.generators.referring import pool as reference_pool
from synthloader.generators.referring.pool import ReferencePool
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from tests.generators.pictures import ListPool


def measure(image: np.ndarray, factor: int = 1) -> np.ndarray:
    return image.reshape(-1, 3).mean(axis=0) * factor


def make_pool(count: int = 5) -> ListPool:
    return ListPool([Sample(np.full((2, 3, 3), level, np.uint8)) for level in range(count)])


def never(index: int) -> bool:
    return False


def test_each_reference_is_measured_once_for_each_setting() -> None:
    pool = make_pool()
    references = ReferencePool("Any", None, measure).bind(pool)
    for _ in range(3):
        for factor in (1, 2):
            assert [references.read(at, factor)[0] for at in range(5)] == [at * factor for at in range(5)]
    assert sorted(pool.decoded) == sorted(list(range(5)) * 2)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_pool, "MAX_REMEMBERED_BYTES", 2 * (24 + 400))
    pool = make_pool()
    references = ReferencePool("Any", None, measure).bind(pool)
    for _ in range(2):
        for at in range(5):
            assert references.read(at)[0] == at
            assert len(references._known) <= 2
    assert references._num_bytes == 2 * (24 + 400)
    assert pool.decoded == [0, 1, 2, 3, 4] * 2
    references.read(4)
    assert len(pool.decoded) == 10


def test_threads_may_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_pool, "MAX_REMEMBERED_BYTES", 3 * (24 + 400))
    references = ReferencePool("Any", None, measure).bind(make_pool(9))
    wrong: list[int] = []

    def read(seed: int) -> None:
        for at in np.random.default_rng(seed).integers(9, size=300).tolist():
            if references.read(at)[0] != at:
                wrong.append(at)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert references._num_bytes == len(references._known) * (24 + 400)


def test_measurements_do_not_travel() -> None:
    pool = make_pool()
    references = ReferencePool("Any", None, measure).bind(pool)
    references.read(3)
    copied = pickle.loads(pickle.dumps(references))
    assert copied._known == {}
    assert copied.read(3)[0] == 3
    assert copied.name(3) == "3.png"


def test_all_references_are_drawn_but_the_own_one() -> None:
    references = ReferencePool("Any", None, measure).bind(make_pool())
    drawn = {references.draw(make_rng(seed, "", 0, 0), lambda index: index == 2) for seed in range(60)}
    assert drawn == {0, 1, 3, 4}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_may_be_none_but_the_own_one(count: int) -> None:
    references = ReferencePool("Any", None, measure).bind(make_pool(count))
    with pytest.raises(NothingToGenerate, match=r"^no other reference$"):
        references.draw(make_rng(0, "", 0, 0), lambda index: True)


def test_given_references_are_not_replaced_by_a_pool() -> None:
    given = ReferencePool("Any", [Sample(np.full((2, 3, 3), 9, np.uint8))], measure)
    bound = given.bind(make_pool())
    assert (bound.uses_pool, bound.stamp, bound.name(0), len(bound)) == (False, given.stamp, "references[0]", 1)
    assert given.stamp is not None
    free = ReferencePool("Any", None, measure)
    assert (free.uses_pool, free.stamp, free.bind(make_pool()).stamp) == (True, None, None)


@pytest.mark.parametrize("use", [lambda it: it.draw(make_rng(0, "", 0, 0), never), lambda it: it.read(0)])
def test_without_references_it_says_what_to_do(use: Any) -> None:
    message = (
        r"^references must be given, or a pool be bound before generate, got references=None\. "
        r"Pass Any to GeneratedDataset, call bind first, or give references=\.$"
    )
    with pytest.raises(ValueError, match=message):
        use(ReferencePool("Any", None, measure))
