"""One pass over a stream: workers that take turns serve what its length says, and what is served is what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import floor
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from synthloader.streams import MixedStream
from synthloader.streams.clock import Share
from synthloader.streams.stream_pass import StreamPass
from tests.scenes import RejectBy, ScenesDataset, Shade

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with fewer cores


class Chained:
    """Has `__len__`, as torch's ChainDataset has, and may not know it."""

    def __iter__(self) -> Iterator[Any]:
        return iter(make_items(6))

    def __len__(self) -> int:
        raise TypeError("object of type 'generator' has no len()")


def make_items(count: int) -> list[Any]:
    real = ScenesDataset(max(1, count))
    return [real[number] for number in range(count)]


def make_stream(real: Any, ratio: float, **options: Any) -> MixedStream:
    return MixedStream(real, Shade(), ratio, split=True, mark="is_generated", **options)


def read_all(stream: MixedStream, num_workers: int) -> list[bool]:
    loader = DataLoader(stream, batch_size=None, num_workers=num_workers, generator=torch.Generator())
    assert len(loader) == len(stream)  # From here on torch warns, which is an error here, where it is served more.
    return [bool(target["is_generated"]) for _, target in loader]


class TestTheLengthThatIsServed:
    @pytest.mark.parametrize(("count", "num_workers", "ratio"), [(7, 3, 0.5), (10, 4, 0.5), (8, 3, 1.7), (2, 3, 0.3)])
    def test_workers_that_take_turns_serve_as_many_as_it_says(self, count: int, num_workers: int, ratio: float) -> None:
        stream = make_stream(make_items(count), ratio)
        served = read_all(stream, num_workers)
        assert len(served) == len(stream) == count + floor(count * Fraction(repr(ratio)) + Fraction(1, 2))
        assert served.count(False) == count

    @pytest.mark.parametrize("num_workers", [1, 2, 3, 4, 7])
    @pytest.mark.parametrize("ratio", [0.13, 0.5, 0.7, 1.0, 2.23])
    def test_they_do_for_every_count_and_each_keeps_to_the_ratio(
        self, monkeypatch: pytest.MonkeyPatch, ratio: float, num_workers: int
    ) -> None:
        for count in range(4 * num_workers):
            stream = make_stream(range(count), ratio)
            total = 0
            for worker in range(num_workers):
                monkeypatch.setattr(stream, "find_share", lambda worker=worker: Share(0, 1, worker, num_workers, True))
                one, made = StreamPass(stream, stream.real, split=True), 0
                for number, row in enumerate(range(worker, count, num_workers)):
                    one._made = number
                    made += one._count_versions(row)
                    is_last_round = row >= count - count % num_workers
                    assert abs(made - (number + 1) * ratio) < (2 if is_last_round else 1)
                total += made
            monkeypatch.undo()
            assert count + total == len(stream)

    @pytest.mark.parametrize("rank", [0, 1])
    def test_ranks_with_workers_serve_as_many_as_it_says(self, rank: int) -> None:
        stream = make_stream(make_items(15), 0.5, num_replicas=2, rank=rank)
        assert len(read_all(stream, 3)) == len(stream) == 7 + 4

    def test_a_stream_that_says_no_length_when_asked_is_read(self) -> None:
        stream = make_stream(Chained(), 1.0)
        loader = DataLoader(stream, batch_size=None, num_workers=2, generator=torch.Generator())
        flags = [bool(target["is_generated"]) for _, target in loader]
        assert sorted(flags) == [False] * 6 + [True] * 6


class TestAPassThatIsStopped:
    @pytest.mark.parametrize("stop", range(1, 10))
    def test_what_was_made_and_not_served_is_not_counted(self, stop: int) -> None:
        stream = make_stream(make_items(6), 2.0)
        running = iter(stream)
        flags = [bool(next(running)[1]["is_generated"]) for _ in range(stop)]
        report = stream.report()
        assert (report.real, report.generated) == (flags.count(False), flags.count(True))
        part = report.sets["generated"]
        assert (part.asked, part.generated) == (report.generated, report.generated)
        assert report.planned == {"real": report.real, "generated": report.generated}

    @pytest.mark.parametrize("stop", range(1, 10))
    def test_nor_are_its_rejected_candidates_and_stand_ins(self, stop: int) -> None:
        stream = make_stream(make_items(6), 2.0, filters=[RejectBy(share=0.6)], attempts=1)
        running = iter(stream)
        flags = [bool(next(running)[1]["is_generated"]) for _ in range(stop)]
        report = stream.report()
        assert (report.real, report.generated) == (flags.count(False), flags.count(True))
        part, verdicts = report.sets["generated"], list(report.filters.values())
        assert part.asked == part.generated + part.real_instead
        assert part.generated == report.generated
        assert sum(counts["accepted"] for counts in verdicts) == part.generated
        assert sum(counts["rejected"] for counts in verdicts) == sum(report.rejected.values()) == part.real_instead

    def test_what_is_left_of_it_is_counted_once_where_it_goes_on(self) -> None:
        stream = make_stream(make_items(3), 2.0)
        first: Any = iter(stream)
        for _ in range(5):
            next(first)
        other: Any = iter(stream)
        other.load_state_dict(first.state_dict())
        assert len(list(other)) == 4
        report = stream.report()
        assert (report.real, report.generated, report.sets["generated"].asked) == (3, 6, 6)
