"""`MixedStream`: the ratio of every window, the samples, epochs, sharing out, going on, and what is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ChainDataset, DataLoader, IterableDataset, get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from synthloader.errors import LabelContractError, NothingToGenerate, ShortfallError
from synthloader.generated import GeneratedDataset
from synthloader.generators import ColorTransfer, CopyPaste
from synthloader.mixed import MixedDataset
from synthloader.sample import Sample
from synthloader.streams import MixedStream, mix_stream
from synthloader.streams.clock import find_phase
from synthloader.targets import ClassLabel
from tests.scenes import RejectBy, ScenesDataset, Shade, describe, draw_scene, keep_items
from tests.shapes import Redraw, assert_boxes_true, draw_numbered, is_generated_ground

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:.set_vital. is deprecated"),  # torchdata calls it
]


class Shapes(IterableDataset[Any]):
    """A stream of detection items; `splits` says whether it shares out among workers itself."""

    def __init__(self, count: int, *, splits: bool = False) -> None:
        self.count, self.splits = count, splits
        self.classes = ["box", "disc", "wedge"]

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if self.splits and info is not None else (0, 1)
        for number in range(first, self.count, step):
            yield make_item(number)

    def shuffle(self) -> Shapes:
        return self


class StatefulShapes(Shapes):
    """A stream whose iterator says and sets its place, and counts what was read of it."""

    reads = 0

    def __iter__(self) -> Iterator[Any]:
        return _StatefulIterator(self)


class _StatefulIterator(Iterator[Any]):
    def __init__(self, stream: StatefulShapes) -> None:
        self.stream, self.at = stream, 0

    def __next__(self) -> Any:
        if self.at >= self.stream.count:
            raise StopIteration
        self.at += 1
        StatefulShapes.reads += 1
        return make_item(self.at - 1)

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


def make_item(number: int) -> tuple[torch.Tensor, dict[str, Any]]:
    drawn = draw_numbered(number, size_hw=(32, 72))
    target = {"boxes": torch.from_numpy(drawn.boxes), "labels": torch.from_numpy(drawn.class_ids), "image_id": number}
    return torch.from_numpy(drawn.image).permute(2, 0, 1).contiguous(), target


def to_pixels(image: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def is_made(item: Any) -> bool:
    """Judged on pixels alone."""
    return is_generated_ground(to_pixels(item[0]))


def read_all(stream: Any, num_workers: int = 0, *, num_epochs: int = 1, **options: Any) -> list[list[Any]]:
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=num_workers,
        generator=torch.Generator(),
        persistent_workers=options.pop("persistent_workers", False),
        **options,
    )
    return [list(loader) for _ in range(num_epochs)]


class TestTheRatio:
    @pytest.mark.parametrize("ratio", [0.0, 0.13, 0.29, 0.5, 1.0, 1.7, 4.0])
    def test_every_window_holds_its_share_to_within_one_item(self, ratio: float) -> None:
        flags = np.array([is_made(item) for item in MixedStream(Shapes(40), Redraw(), ratio)])
        assert (~flags).sum() == 40
        assert flags.sum() == floor(40 * Fraction(repr(ratio)) + Fraction(1, 2))
        places = np.flatnonzero(~flags)
        bounds = [*places.tolist(), len(flags)]
        for first in range(40):
            for last in range(first + 1, 41):
                window = flags[bounds[first] : bounds[last]].sum()
                assert abs(window - (last - first) * ratio) < 1 + 1e-9

    def test_real_items_come_untouched_and_in_their_order(self) -> None:
        items = [make_item(number) for number in range(9)]
        before = copy.deepcopy(items)
        served = [item for item in MixedStream(items, Redraw(), 1.5) if not is_made(item)]
        assert all(mine is given for mine, given in zip(served, items, strict=True))
        assert [describe(item) for item in items] == [describe(item) for item in before]

    def test_each_generated_item_follows_its_source_and_variants_differ(self) -> None:
        stream = list(MixedStream(Shapes(6), Redraw(), 2.0))
        assert [target["image_id"] for _, target in stream] == [number for number in range(6) for _ in range(3)]
        assert len({describe(item) for item in stream}) == 18

    def test_labels_are_true_on_pixels(self) -> None:
        stream = list(MixedStream(Shapes(10), Redraw(), 1.0))
        assert sum(map(is_made, stream)) == 10
        for image, target in stream:
            assert_boxes_true(to_pixels(image), target["boxes"].numpy(), target["labels"].numpy())

    def test_what_follows_in_the_pipeline_may_change_items_in_place(self) -> None:
        wanted = [describe(item) for item in MixedStream(Shapes(5), Shade(), 1.0) if item[1]["image_id"] >= 0]
        served = []
        for image, target in MixedStream(Shapes(5), Shade(), 1.0):
            served.append(describe((image.clone(), dict(target))))
            image.zero_()
            target["boxes"] += 1000
            target["labels"] = None
        assert served == wanted

    @pytest.mark.uses_global_rng  # the stream's own draws
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_at_ratio_0_batches_are_bit_for_bit_those_of_the_stream(self, num_workers: int) -> None:
        class Drawing(Shapes):
            def __iter__(self) -> Iterator[Any]:
                for image, target in super().__iter__():
                    yield image + torch.randint(0, 9, image.shape, dtype=torch.uint8), target

        def read(stream: Any) -> list[Any]:
            torch.manual_seed(3)
            loader = DataLoader(stream, batch_size=4, num_workers=num_workers, collate_fn=keep_items)
            return [[describe(item) for item in batch] for _ in range(2) for batch in loader]

        assert read(MixedStream(Drawing(9, splits=True), Redraw(), 0, split=False)) == read(Drawing(9, splits=True))


class TestSamples:
    def test_they_follow_from_seed_name_variant_and_not_from_the_order(self) -> None:
        items = [make_item(number) for number in range(8)]

        def read(items: list[Any], **options: Any) -> dict[int, Any]:
            stream = MixedStream(items, Redraw(), 1.0, **options)
            return {item[1]["image_id"]: describe(item) for item in stream if is_made(item)}

        named = read(items, name="image_id")
        assert read(items[::-1], name="image_id") == named
        assert read(items, name=lambda item: item[1]["image_id"]) == named
        assert read(items) == named, "positions are the image ids here"
        assert read(items[::-1]) != named
        assert read(items, name="image_id", seed=1) != named

    def test_they_are_those_of_a_generated_dataset(self) -> None:
        real = ScenesDataset(5)
        made = GeneratedDataset(real, Shade(), filters=[RejectBy(share=0.4)], attempts=20, seed=7, variants=2)
        stream = MixedStream(
            [real[index] for index in range(5)], Shade(), 2.0, filters=[RejectBy(share=0.4)], attempts=20, seed=7
        )
        served = list(stream)
        groups = [served[at + 1 : at + 3] for at in range(0, 15, 3)]
        assert [[describe(item) for item in group] for group in groups] == [
            [describe(made[2 * source + variant]) for variant in range(2)] for source in range(5)
        ]

    def test_generators_that_draw_take_donors_from_the_pool(self) -> None:
        pool = ScenesDataset(6)
        stream = MixedStream([pool[index] for index in range(6)], CopyPaste(), 1.0, pool=pool)
        map_style = GeneratedDataset(pool, CopyPaste(), variants=1)
        assert [describe(item) for item in list(stream)[1::2]] == [describe(map_style[index]) for index in range(6)]

    def test_the_first_items_are_not_lost_by_recognition(self) -> None:
        for count in (1, 2, 5, 6, 7):
            stream = list(MixedStream(Shapes(count), Redraw(), 1.0))
            assert [target["image_id"] for _, target in stream] == [number for number in range(count) for _ in "ab"]

    def test_a_field_that_happens_to_have_as_many_rows_as_the_first_item_has_boxes_is_told_apart(self) -> None:
        def with_size(number: int, num_boxes: int) -> Any:
            scene = draw_scene(number, num_objects=num_boxes)
            target = {"boxes": torch.from_numpy(scene["boxes"]), "labels": torch.from_numpy(scene["labels"])}
            return torch.from_numpy(scene["image"]).permute(2, 0, 1), {**target, "camera": [1.0, 2.0, 3.0]}

        items = [with_size(0, 3), with_size(1, 3), with_size(2, 2)]
        assert [target["camera"] for _, target in MixedStream(items, Shade(), 1.0)] == [[1.0, 2.0, 3.0]] * 6

    def test_transforms_mark_and_weight_reach_every_item(self) -> None:
        def flip(image: torch.Tensor, target: dict[str, Any]) -> Any:
            return image.flip(-1), {**target, "flipped": True}

        plain = list(MixedStream(Shapes(4), Redraw(), 0.5))
        stream = list(MixedStream(Shapes(4), Redraw(), 0.5, transforms=flip, mark="made", weight=0.25))
        assert [bool(target["made"]) for _, target in stream] == [is_made(item) for item in plain]
        assert [float(target["weight"]) for _, target in stream] == [0.25 if is_made(item) else 1.0 for item in plain]
        assert all(torch.equal(image.flip(-1), other) for (image, _), (other, _) in zip(stream, plain, strict=True))


class TestEpochs:
    def test_every_pass_is_the_next_epoch_unless_one_was_set(self) -> None:
        stream = MixedStream(Shapes(4), Redraw(), 1.0)
        first, second = ([describe(item) for item in stream] for _ in range(2))
        assert first[::2] == second[::2]
        assert not set(first[1::2]) & set(second[1::2])
        stream.set_epoch(0)
        assert [describe(item) for item in stream] == first
        assert [describe(item) for item in stream] == second
        assert stream.epoch == 1

    @pytest.mark.parametrize(("start_method", "persistent"), [("fork", False), ("fork", True), ("spawn", True)])
    def test_workers_go_on_with_the_epochs(self, start_method: str, persistent: bool) -> None:
        options = {"num_workers": 2, "persistent_workers": persistent, "multiprocessing_context": start_method}
        stream = MixedStream(Shapes(6), Redraw(), 1.0, split=True)
        epochs = read_all(stream, num_epochs=2 if start_method == "spawn" else 3, **options)
        alone = MixedStream(Shapes(6), Redraw(), 1.0)
        for served in epochs:
            assert sorted(map(describe, served)) == sorted(map(describe, alone))

    def test_an_epoch_that_is_set_reaches_persistent_workers(self) -> None:
        stream = MixedStream(Shapes(4), Redraw(), 1.0, split=True)
        loader = DataLoader(
            stream, batch_size=None, num_workers=2, persistent_workers=True, generator=torch.Generator()
        )
        served = []
        for epoch in (5, 5, 2):
            stream.set_epoch(epoch)
            served.append(sorted(map(describe, loader)))
        assert served[0] == served[1] != served[2]
        alone = MixedStream(Shapes(4), Redraw(), 1.0)
        alone.set_epoch(5)
        assert sorted(map(describe, alone)) == served[0]

    def test_a_stream_that_shuffles_by_epochs_is_told_only_where_somebody_set_one(self) -> None:
        class Told(Shapes):
            told: tuple[int, ...] = ()

            def set_epoch(self, epoch: int) -> None:
                self.told += (epoch,)

        real = Told(2)
        stream = MixedStream(real, Redraw(), 1.0)
        list(stream)
        assert real.told == ()
        stream.set_epoch(4)
        assert (len(list(stream)), len(list(stream)), real.told) == (4, 4, (4, 5))

    def test_two_passes_at_once_do_not_disturb_each_other(self) -> None:
        stream = MixedStream(Shapes(5), Redraw(), 1.0)
        wanted = [[describe(item) for item in stream] for _ in range(2)]
        stream.set_epoch(0)
        pairs = list(zip(stream, stream, strict=True))
        assert [[describe(pair[at]) for pair in pairs] for at in (0, 1)] == wanted


class TestSharingOut:
    @pytest.mark.parametrize("count", [7, 12])
    @pytest.mark.parametrize("num_workers", [0, 2, 3])
    def test_split_gives_every_item_to_one_worker(self, count: int, num_workers: int) -> None:
        stream = MixedStream(Shapes(count), Redraw(), 0.5, split=True)
        (served,) = read_all(stream, num_workers)
        assert sorted(item[1]["image_id"] for item in served if not is_made(item)) == list(range(count))
        num_made = sum(map(is_made, served))
        assert abs(num_made - count / 2) <= (0.5 if count % max(1, num_workers) == 0 else 1)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_stream_that_splits_itself_is_left_alone(self, num_workers: int) -> None:
        (served,) = read_all(MixedStream(Shapes(10, splits=True), Redraw(), 0.5, split=False), num_workers)
        assert sorted(item[1]["image_id"] for item in served if not is_made(item)) == list(range(10))
        assert abs(sum(map(is_made, served)) - 5) <= 1

    def test_the_ratio_of_each_worker_is_within_one_item(self) -> None:
        stream = MixedStream(Shapes(22), Redraw(), 0.5, split=True)
        loader = DataLoader(stream, batch_size=100, num_workers=2, collate_fn=keep_items, generator=torch.Generator())
        shares = [[is_made(item) for item in batch] for batch in loader]
        assert [(len(share) - sum(share), abs(sum(share) - 5.5) <= 1) for share in shares] == [(11, True), (11, True)]
        assert sum(map(sum, shares)) == 11

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_ranks_get_different_items_and_equally_many(self, num_workers: int) -> None:
        parts = []
        for rank in range(3):
            stream = MixedStream(Shapes(14), Redraw(), 0.5, split=True, num_replicas=3, rank=rank)
            parts.append(read_all(stream, num_workers)[0])
        numbers = [[item[1]["image_id"] for item in part if not is_made(item)] for part in parts]
        assert sorted(number for part in numbers for number in part) == list(range(12)), (
            "what does not fill the last round is left out"
        )
        assert {(len(part), sum(map(is_made, part))) for part in parts} == {(6, 2)}

    def test_samples_are_the_same_for_any_number_of_workers_and_ranks(self) -> None:
        def read(num_workers: int, num_replicas: int) -> set[Any]:
            served: list[Any] = []
            for rank in range(num_replicas):
                stream = MixedStream(Shapes(12), Redraw(), 1.0, split=True, num_replicas=num_replicas, rank=rank)
                served += read_all(stream, num_workers)[0]
            return {describe(item) for item in served}

        assert read(0, 1) == read(2, 1) == read(3, 1) == read(2, 2) == read(0, 3)

    def test_several_readers_of_a_stream_that_may_not_split_are_warned_of(self) -> None:
        stream = MixedStream(Shapes(2), Redraw(), 1.0, num_replicas=2, rank=0)
        with pytest.warns(UserWarning) as caught:
            iter(stream)
        assert [str(warning.message) for warning in caught] == [
            "2 processes read this Shapes, and nothing shows that it shares its items out among them: if it does not, "
            "each serves all of them. Pass split=True to let them take turns, or split=False if it shares out by itself."
        ]
        iter(MixedStream(Shapes(2), Redraw(), 1.0, num_replicas=2, rank=1))
        iter(MixedStream(Shapes(2), Redraw(), 1.0, num_replicas=2, rank=0, split=False))

    def test_without_a_choice_the_stream_is_read_as_it_would_be_unwrapped(self) -> None:
        stream = MixedStream(Shapes(3), Redraw(), 0.0)
        stream.split = None
        with pytest.warns(UserWarning):
            ranked = list(MixedStream(Shapes(3), Redraw(), 0.0, num_replicas=2, rank=0))
        assert [target["image_id"] for _, target in ranked] == [0, 1, 2]

    def test_phases_lie_evenly(self) -> None:
        for num_workers in range(1, 17):
            phases = sorted(find_phase(worker, num_workers) for worker in range(num_workers))
            assert phases == [Fraction(2 * at + 1, 2 * num_workers) for at in range(num_workers)]

    def test_workers_that_take_turns_are_together_within_two_items_of_the_ratio(self) -> None:
        for num_workers in range(1, 17):
            for ratio in (Fraction(1, 2), Fraction(13, 100), Fraction(7, 10), Fraction(29, 13)):
                for count in range(6 * num_workers):
                    made = sum(
                        floor(len(range(worker, count, num_workers)) * ratio + find_phase(worker, num_workers))
                        for worker in range(num_workers)
                    )
                    assert abs(made - count * ratio) <= (Fraction(1, 2) if count % num_workers == 0 else 2)


class TestGoingOn:
    @pytest.mark.parametrize("kind", [Shapes, StatefulShapes])
    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("until", [1, 3, 4])
    def test_a_loader_goes_on_where_it_stopped(self, kind: type[Shapes], num_workers: int, until: int) -> None:
        def make() -> Any:
            stream = MixedStream(kind(10), Redraw(), 1.5, split=True)
            return StatefulDataLoader(
                stream, batch_size=3, num_workers=num_workers, collate_fn=keep_items, generator=torch.Generator()
            )

        whole = make()
        wanted = [[describe(item) for item in batch] for _ in range(3) for batch in whole]
        length = len(wanted) // 3
        broken = make()
        for _ in broken:  # one epoch is over when it breaks
            pass
        served = []
        for number, batch in enumerate(broken, start=1):
            served.append([describe(item) for item in batch])
            if number == until:
                state = broken.state_dict()
                break
        resumed = make()
        resumed.load_state_dict(pickle.loads(pickle.dumps(state)))
        served += [[describe(item) for item in batch] for batch in resumed]
        served += [[describe(item) for item in batch] for batch in resumed]
        assert served == wanted[length:]

    @pytest.mark.parametrize("stop", range(26))
    @pytest.mark.parametrize("kind", [Shapes, StatefulShapes])
    def test_an_iterator_goes_on_after_any_item(self, kind: type[Shapes], stop: int) -> None:
        def make() -> MixedStream:
            return MixedStream(kind(10), Redraw(), 1.5)

        wanted = [describe(item) for item in make()]
        first = iter(make())
        served = [describe(next(first)) for _ in range(stop)]
        state: Any = first
        other: Any = iter(make())
        other.load_state_dict(state.state_dict())
        assert served + [describe(item) for item in other] == wanted

    def test_a_stream_with_a_state_is_not_read_again(self) -> None:
        stream = MixedStream(StatefulShapes(50), Redraw(), 1.0)
        first: Any = iter(stream)
        for _ in range(80):
            next(first)
        StatefulShapes.reads = 0
        other: Any = iter(stream)
        other.load_state_dict(first.state_dict())
        assert next(other)[1]["image_id"] == 40
        assert StatefulShapes.reads == 1


class TestLength:
    def test_it_is_known_where_the_streams_is(self) -> None:
        items = [make_item(number) for number in range(5)]
        stream = MixedStream(items, Redraw(), 0.5)
        assert len(stream) == len(list(stream)) == 8
        assert isinstance(stream, MixedStream)
        assert len(pickle.loads(pickle.dumps(stream))) == 8
        part = MixedStream(items, Redraw(), 0.5, split=True, num_replicas=2, rank=1)
        assert len(part) == len(list(part)) == 3
        assert not hasattr(MixedStream(Shapes(5), Redraw(), 0.5), "__len__")

    def test_one_that_a_stream_refuses_to_say_is_not_asked_for(self) -> None:
        chain = ChainDataset([Shapes(3), Shapes(5)])  # Has __len__, which raises TypeError.
        assert len(list(MixedStream(chain, Redraw(), 0.5))) == 12

    def test_plain_attributes_are_the_streams_and_its_methods_are_refused(self) -> None:
        stream = MixedStream(Shapes(2), Redraw(), 1.0)
        assert stream.classes == ["box", "disc", "wedge"]
        with pytest.raises(AttributeError) as caught:
            stream.shuffle()
        assert str(caught.value) == (
            "shuffle of the wrapped Shapes would leave the generated items out. Call it before mixing: "
            "MixedStream(stream.shuffle(...), ...)."
        )
        assert not hasattr(stream, "nothing_of_this_name")


class Nothing:
    """A generator that can make nothing of some images."""

    keeps = Redraw.keeps
    fingerprint = "Nothing/1"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        if source.fields["target"]["image_id"] % 2:
            raise NothingToGenerate("odd")
        return Redraw().generate(source, rng=rng)


class TestShortfall:
    def test_the_source_is_served_in_its_place_as_a_copy_and_counted(self) -> None:
        items = [make_item(number) for number in range(6)]
        stream = MixedStream(items, Nothing(), 1.0, attempts=2)
        served = list(stream)
        assert [is_made(item) for item in served] == [False, True, False, False] * 3
        assert describe(served[2]) == describe(served[3])
        assert served[3][0] is not served[2][0]
        report = stream.report()
        counts = report.sets["generated"]
        assert (counts.asked, counts.generated, counts.real_instead) == (6, 3, 3)
        assert (report.real, report.generated, report.planned) == (9, 3, {"real": 6, "generated": 6})
        assert (report.asked_ratio, report.realised_ratio) == (1.0, 1 / 3)
        assert report.rejected == {"Nothing: odd": 6}

    def test_or_an_error_says_why(self) -> None:
        stream = MixedStream(Shapes(4), Nothing(), 1.0, on_shortfall="error")
        with pytest.raises(ShortfallError) as caught:
            list(stream)
        assert str(caught.value) == (
            "nothing could be generated from item 1 (1) of epoch 0 (Nothing: odd). Raise attempts=, loosen the "
            "filters, or pass on_shortfall='real'."
        )

    def test_counts_come_from_workers_and_ranks_too(self) -> None:
        stream = MixedStream(Shapes(8), Shade(), 1.0, filters=[RejectBy(share=0.5)], attempts=1, split=True)
        read_all(stream, 2)
        report = stream.report()
        judged = report.filters["RejectBy"]
        assert judged["accepted"] + judged["rejected"] == 8
        assert report.generated == judged["accepted"]
        assert report.real == 16 - judged["accepted"]
        assert sum(report.classes["real"].values()) == 3 * report.real
        assert report.to_dict()["sets"]["generated"]["real_instead"] == judged["rejected"]


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            (
                {"real": ScenesDataset(2)},
                TypeError,
                "real must be iterable and not map-style, got real=<tests.scenes.ScenesDataset object>. MixedDataset is for what can be indexed.",
            ),
            (
                {"real": iter([1])},
                TypeError,
                "real must be iterable anew for every epoch, got real='list_iterator'. Pass the object whose iterator this is: it would be empty after the first pass.",
            ),
            ({"real": 5}, TypeError, "real must be iterable (an IterableDataset, a pipeline), got real=5."),
            ({"ratio": -1}, ValueError, "ratio must be at least 0, got ratio=-1."),
            (
                {"generator": CopyPaste()},
                ValueError,
                "pool must be given, because CopyPaste draws from one and a stream cannot be indexed, got pool=None. Pass a map-style dataset with the same classes: pool=CocoDataset(...).",
            ),
            ({"generator": ColorTransfer(), "pool": 3}, TypeError, "pool must be a map-style dataset or a Pool, got pool=3."),
            (
                {"generator": Redraw},
                TypeError,
                "generator must have generate, keeps and fingerprint, got generator=<class 'tests.shapes.Redraw'>. Pass an instance, not the class.",
            ),
            ({"on_shortfall": "last"}, ValueError, "on_shortfall must be one of 'real', 'error', got on_shortfall='last'."),
            ({"rank": 1}, ValueError, "rank must be given together with num_replicas, got rank=1. Leave both out: torch.distributed knows them."),
            ({"rank": 2, "num_replicas": 2}, ValueError, "rank must be below num_replicas=2, got rank=2."),
            ({"split": 1}, TypeError, "split must be a bool, got split=1."),
            ({"name": 3}, TypeError, "name must be a str, got name=3. Name a field of the items, or pass a function from item to name."),
        ],
    )  # fmt: skip
    def test_wrong_arguments(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        arguments = {"real": [make_item(0)], "generator": Redraw(), "ratio": 0.5, **options}
        with pytest.raises(error) as caught:
            MixedStream(arguments.pop("real"), arguments.pop("generator"), arguments.pop("ratio"), **arguments)
        text = str(caught.value)
        assert text.split(" at 0x")[0] + ">." + text.split(">.")[-1] == message if " at 0x" in text else text == message

    def test_what_is_mixed_already(self) -> None:
        stream = MixedStream([make_item(0)], Redraw(), 0.5)
        with pytest.raises(TypeError, match=r"^real must not be mixed already"):
            MixedStream(stream, Redraw(), 0.5)
        real = ScenesDataset(2)
        with pytest.raises(TypeError, match=r"^real must not be mixed already"):
            MixedStream(MixedDataset(real, GeneratedDataset(real, Shade()), ratio=1.0), Redraw(), 0.5)

    @pytest.mark.parametrize(
        ("item", "message"),
        [
            (
                {"__key__": "0001", "jpg": b"\xff\xd8", "json": b"{}"},
                "items must be decoded before they are mixed, got bytes in 'jpg' of dict with '__key__', 'jpg', 'json'. Decode first: WebDataset(...).decode('pil').to_tuple('jpg', 'json').",
            ),
            (
                (b"\xff\xd8", {"boxes": []}),
                "items must be decoded before they are mixed, got bytes in part 0 of (bytes, dict with 'boxes'). Decode first: WebDataset(...).decode('pil').to_tuple('jpg', 'json').",
            ),
        ],
    )  # fmt: skip
    def test_items_that_nobody_decoded(self, item: Any, message: str) -> None:
        with pytest.raises(TypeError) as caught:
            list(MixedStream([item, item], Redraw(), 1.0))
        assert str(caught.value) == message

    def test_one_undecoded_item_alone(self) -> None:
        with pytest.raises(TypeError, match=r"^items must be decoded"):
            list(MixedStream([{"__key__": "1", "jpg": b"\xff"}], Redraw(), 1.0))

    def test_a_generator_that_does_not_keep_the_target(self) -> None:
        class OnlyClasses(Redraw):
            keeps = frozenset({ClassLabel})

        with pytest.raises(LabelContractError, match=r"^OnlyClasses does not keep Instances true, which item 0 "):
            list(MixedStream(Shapes(1), OnlyClasses(), 1.0))

    def test_a_mark_on_items_that_hold_no_dict(self) -> None:
        with pytest.raises(TypeError) as caught:
            list(MixedStream([(torch.zeros(3, 4, 4), 1)], Redraw(), 0.0, mark="made"))
        assert str(caught.value) == (
            "mark must be used with items that are a dict or end in one, got mark='made'. Items are (Tensor, "
            "int) here: make them dicts by transforms=."
        )

    def test_a_name_that_items_do_not_have(self) -> None:
        with pytest.raises(ValueError) as caught:
            list(MixedStream(Shapes(1), Redraw(), 1.0, name="__key__"))
        assert str(caught.value) == (
            "name must be a field of the items, got name='__key__'. Or pass a function from item to name."
        )

    def test_a_wrong_annotation_is_named_by_its_place_in_the_stream(self) -> None:
        image, target = make_item(3)
        wrong = (image, {**target, "boxes": target["boxes"] + 1000})
        with pytest.raises(ValueError, match=r"^dataset\[3\]\[1\]\['boxes'\]\[0\]") as caught:
            list(MixedStream([*(make_item(number) for number in range(3)), wrong], Redraw(), 1.0))
        assert caught.value.__notes__ == ["while reading item 3 of list"]


def test_a_stage_mixes_what_comes_and_begins_a_new_epoch_each_time() -> None:
    stage = mix_stream(Redraw(), 0.5)
    first, second = ([describe(item) for item in stage(iter(Shapes(6)))] for _ in range(2))
    stream = MixedStream(Shapes(6), Redraw(), 0.5)
    assert [first, second] == [[describe(item) for item in stream] for _ in range(2)]
    assert (stage.epoch, stage.report().generated) == (1, 6)
