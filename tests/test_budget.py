"""A plan with a cap: no donor of an epoch is used oftener, whatever the versions, the groups and the sets."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from synthloader.adapters import CocoDataset, ImageFolderDataset
from synthloader.budget import DonorList, share_budget
from synthloader.cache import LMDBCache, MemoryCache
from synthloader.class_table import ClassTable
from synthloader.epoch_index import EpochIndex
from synthloader.errors import NothingToGenerate, ShortfallError
from synthloader.generated import GeneratedDataset
from synthloader.generators import Cached, Chain, ColorTransfer, CopyPaste, OneOf, Sometimes
from synthloader.layout import Draw, Layout, PlanContext, SetShape
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Balance, Only, Schedule
from synthloader.precompute import precompute
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.scenes import RejectBy, Shade, write_coco

Names = Mapping[int, Sequence[str]]


def name_donors(rows: Sequence[Sequence[int]]) -> dict[int, list[str]]:
    """Class id to the names of its objects, one per object of the pool."""
    found: dict[int, list[str]] = {}
    for at, row in enumerate(rows):
        for place, class_id in enumerate(row):
            found.setdefault(class_id, []).append(f"{at}#{place}")
    return found


def make_shape(name: str, names: Names, most: int, **more: Any) -> SetShape:
    return SetShape(name, aimable=True, find_donors=lambda class_id: DonorList(names.get(class_id, []), most), **more)


@st.composite
def capped_mixes(draw: st.DrawFn) -> tuple[Balance, PlanContext, list[Names]]:
    rows = draw(st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=9))
    assume(any(rows))
    names = name_donors(rows)
    table = ClassTable(rows)
    groups = draw(st.none() | st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    shapes, lists = [], []
    for at in range(draw(st.integers(1, 2))):
        shared = draw(st.booleans())
        mine = names if shared else {key: [f"other {at} {name}" for name in found] for key, found in names.items()}
        lists.append(mine)
        shapes.append(
            make_shape(
                f"set {at}",
                mine,
                draw(st.integers(1, 4)),
                num_sources=len(rows),
                num_variants=draw(st.none() | st.integers(1, 5)),
                find_groups=lambda: None if groups is None else np.array(groups),
                find_classes=lambda: table,
            )
        )
    context = PlanContext(len(rows), tuple(shapes), draw(st.integers(0, 9)), find_classes=lambda: table)
    count = draw(st.sampled_from(["images", "instances"]))
    return Balance(draw(st.integers(1, 30)), count=count, cap=draw(st.integers(1, 6))), context, lists


def read_epoch(layout: Layout, context: PlanContext, epoch: int) -> list[Draw]:
    draws = [layout.draw(epoch, index) for index in range(context.num_real, layout.length)]
    return [draw for draw in draws if draw is not None]


@given(mix=capped_mixes(), epoch=st.integers(0, 10**6))
def test_no_donor_is_used_oftener_than_the_cap_in_any_epoch(
    mix: tuple[Balance, PlanContext, list[Names]], epoch: int
) -> None:
    plan, context, lists = mix
    layout = plan.bind(context)
    uses: Counter[str] = Counter()
    for draw in read_epoch(layout, context, epoch):
        assert (draw.variant is None) == (draw.donors is None)
        if draw.donors is not None:
            most = context.sets[draw.set_index].find_donors(draw.target_class).most  # type: ignore[union-attr,arg-type]
            assert 1 <= len(draw.donors) <= most
            assert len(set(draw.donors)) == len(draw.donors)
            uses.update(lists[draw.set_index][draw.target_class][donor] for donor in draw.donors)  # type: ignore[index]
    assert max(uses.values(), default=0) <= plan.cap  # type: ignore[operator]


@given(mix=capped_mixes(), epoch=st.integers(0, 10**6))
def test_what_is_asked_can_be_made_unless_it_is_said(mix: tuple[Balance, PlanContext, list[Names]], epoch: int) -> None:
    plan, context, _ = mix
    layout = plan.bind(context)
    asked: Counter[Any] = Counter()
    made: Counter[Any] = Counter()
    for draw in read_epoch(layout, context, epoch):
        place = context.sets[draw.set_index].name, draw.target_class
        asked[place] += 1
        made[place] += draw.variant is not None
    missing = {place: (count, made[place]) for place, count in asked.items() if made[place] < count}
    assert missing == {(short.name, short.target_class): (short.asked, short.available) for short in layout.shortfalls}


@given(mix=capped_mixes())
def test_a_class_with_enough_donors_and_versions_lacks_nothing(mix: tuple[Balance, PlanContext, list[Names]]) -> None:
    plan, context, lists = mix
    needed = plan.count_needed(context)
    total = sum(needed.values())
    assert plan.cap is not None
    assume(all(shape.num_variants is None for shape in context.sets))
    assume(total <= plan.cap * context.num_real)
    assume(all(need <= plan.cap * len(lists[0].get(class_id, [])) for class_id, need in needed.items()))
    assert not plan.bind(context).shortfalls


@given(mix=capped_mixes(), epoch=st.integers(0, 10**6))
def test_no_source_is_used_oftener_than_the_cap_and_no_version_twice(
    mix: tuple[Balance, PlanContext, list[Names]], epoch: int
) -> None:
    plan, context, _ = mix
    draws = [draw for draw in read_epoch(plan.bind(context), context, epoch) if draw.variant is not None]
    sources = Counter((draw.set_index, draw.source) for draw in draws)
    assert max(sources.values(), default=0) <= plan.cap  # type: ignore[operator]
    assert max(Counter(draw[:3] for draw in draws).values(), default=0) <= 1


@given(mix=capped_mixes(), epochs=st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_versions_that_end_come_round_with_their_donors_and_are_all_known_beforehand(
    mix: tuple[Balance, PlanContext, list[Names]], epochs: list[int]
) -> None:
    plan, context, _ = mix
    layout = plan.bind(context)
    known = layout.list_rationed()
    assert len(known) == len({draw[:3] for draw in known}), "One version, two contents."
    assert all(draw.variant < context.sets[draw.set_index].num_variants for draw in known)  # type: ignore[operator]
    for epoch in epochs:
        for draw in read_epoch(layout, context, epoch):
            ends = context.sets[draw.set_index].num_variants is not None
            assert draw.variant is None or (draw in known) == ends


@given(mix=capped_mixes(), epoch=st.integers(0, 99), limit=st.integers(1, 16))
def test_what_follows_a_position_is_made_with_the_positions_own_donors(
    mix: tuple[Balance, PlanContext, list[Names]], epoch: int, limit: int
) -> None:
    plan, context, _ = mix
    layout = plan.bind(context)
    for index in range(context.num_real, layout.length):
        draw = layout.draw(epoch, index)
        assert draw is not None
        for other in layout.draw_next(epoch, index, limit=limit):
            assert other.donors == draw.donors is not None
            assert other.target_class == draw.target_class


@given(rooms=st.lists(st.integers(0, 9), min_size=1, max_size=4), size=st.integers(0, 6), cap=st.integers(1, 5))
def test_all_uses_are_shared_out_where_there_are_too_few(rooms: list[int], size: int, cap: int) -> None:
    rations = share_budget(rooms, DonorList([str(at) for at in range(size)], 3), cap=cap, key=1)
    counts = [ration.count for ration in rations]
    assert sum(counts) == min(sum(rooms), size * cap)
    assert all(count <= room for count, room in zip(counts, rooms, strict=True))


def test_donors_change_from_epoch_to_epoch() -> None:
    names = {1: [str(at) for at in range(40)]}
    shape = make_shape("paste", names, 1, num_sources=50, num_variants=None, find_classes=lambda: table)
    table = ClassTable([[1]] * 40 + [[2]] * 10)
    layout = Balance(60, classes=(1,), cap=1).bind(PlanContext(50, (shape,), find_classes=lambda: table))
    used = [{draw.donors for draw in (layout.draw(epoch, at) for at in range(50, 70)) if draw} for epoch in range(3)]
    assert len(set(map(frozenset, used))) == 3


def test_two_sets_that_have_only_some_donors_in_common_are_refused() -> None:
    table = ClassTable([[1], [2], [2]])
    shapes = [
        make_shape(name, {1: donors}, 1, num_sources=3, num_variants=None, find_classes=lambda: table)
        for name, donors in (("paste", ["a", "b"]), ("blend", ["b", "c"]))
    ]
    message = (
        "generated must draw from the same donors of class 1, or from none in common, where a plan has a cap, got "
        "generated=['paste', 'blend']. Give these sets one pool, or leave the cap out."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Balance(5, cap=3).bind(PlanContext(3, tuple(shapes), find_classes=lambda: table))


# ---- with samples


class Rows(Dataset[Any]):
    """Detection items whose objects have the stated classes."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows = rows
        self.class_to_idx = {"common": 1, "rare": 2}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if not 0 <= index < len(self.rows):
            raise IndexError(index)
        labels = self.rows[index]
        boxes = torch.tensor([[at, 1.0, at + 3, 5] for at in range(len(labels))]).reshape(-1, 4)
        return torch.full((3, 8, 12), 7 * index % 200, dtype=torch.uint8), {
            "boxes": boxes,
            "labels": torch.tensor(labels, dtype=torch.int64),
        }


class Paste:
    """Stands for a generator that pastes: names its donors, and changes a pixel for each. Some donors are unusable."""

    keeps = frozenset({Instances})
    fingerprint = "Paste/1()"
    max_donors = 3

    def __init__(self, *, unusable: str = "") -> None:
        self.unusable = unusable
        self.pool: Pool | None = None
        self.class_id: int | None = None
        self.donors: tuple[int, ...] | None = None

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> Paste:
        bound = copy(self)
        bound.pool = pool
        return bound

    def aim(self, class_id: int, /) -> Paste:
        aimed = copy(self)
        aimed.class_id, aimed.fingerprint = class_id, f"Paste/1(aim={class_id})"
        return aimed

    def list_donors(self, class_id: int, /) -> list[str]:
        assert self.pool is not None
        return [
            f"{self.pool.name(at)}#{row}"
            for at in range(len(self.pool))
            for row, found in enumerate(self.pool.class_ids(at).tolist())
            if found == class_id
        ]

    def use_donors(self, donors: Sequence[int], /) -> Paste:
        told = copy(self)
        told.donors = tuple(donors)
        return told

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        assert self.class_id is not None
        names = self.list_donors(self.class_id)
        allowed = range(len(names)) if self.donors is None else self.donors
        drawn = [names[at] for at in allowed][: int(rng.integers(1, 4))]
        drawn = [name for name in drawn if name != self.unusable]
        if not drawn:
            raise NothingToGenerate("no donor")
        image = source.image.copy()
        image[:2, :4] ^= rng.integers(1, 200, (2, 4, 3), dtype=np.uint8)
        return source.edit(image=image, target=source.target, drawn=tuple(drawn))


ROWS = [[1, 1], [2], [1], [2, 2, 1], [1], [1], [1, 1], [1]]


def make_mix(generator: Any = None, *, plan: Any = None, **options: Any) -> MixedDataset:
    real = options.pop("real", None) or Rows(ROWS)
    how = {name: options.pop(name) for name in ("on_shortfall",) if name in options}
    generated = GeneratedDataset(real, generator or Paste(), version="1", **options)
    return MixedDataset(real, generated, plan=plan or Balance(20, classes=("rare",), cap=8), **how)


def count_uses(mixed: MixedDataset, epoch: int) -> Counter[str]:
    """How often each donor of the rare class went into the epoch."""
    mixed.set_epoch(epoch)
    origins = [mixed.origin(index) for index in range(len(mixed.real), len(mixed))]
    return Counter(name for origin in origins if origin is not None for name in origin.drawn)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"variants": 3},
    {"variants": 3, "cache": MemoryCache()},
    {"on_shortfall": "repeat", "filters": [RejectBy(share=0.5)]},
    {"variants": 4, "on_shortfall": "repeat", "filters": [RejectBy(share=0.5)], "cache": MemoryCache()},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ", ".join(options))
@pytest.mark.parametrize("unusable", ["", "3#1"])
def test_the_origins_of_an_epoch_name_no_donor_oftener_than_the_cap(options: dict[str, Any], unusable: str) -> None:
    mixed = make_mix(Paste(unusable=unusable), **options)
    assert mixed.count_generated(0) == 18
    for epoch in range(3):
        uses = count_uses(mixed, epoch)
        assert set(uses) <= {"1#0", "3#0", "3#1"}
        assert max(uses.values(), default=0) <= 8


def test_without_a_cap_the_same_donor_may_be_used_at_any_time() -> None:
    mixed = make_mix(plan=Balance(20, classes=("rare",)))
    assert max(count_uses(mixed, 0).values()) > 8
    draw = mixed.draw(8)
    assert draw is not None
    assert draw.donors is None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: Chain([Paste(), Shade()]),
        lambda: Chain([Cached(Paste()), Shade()]),
        lambda: Chain([Cached(Shade()), Paste()]),
        lambda: OneOf([(1, Paste()), (1, Paste())]),
        lambda: Sometimes(Paste(), probability=1),
        lambda: Chain([Sometimes(Shade()), Chain([Paste()])]),
    ],
    ids=["chain", "cached", "pasted after the cache", "one of", "sometimes", "nested"],
)
def test_compositions_keep_the_cap(wrap: Any) -> None:
    for options in OPTIONS[:1], OPTIONS[1:2], [{"variants": 3, "cache": MemoryCache()}]:
        mixed = make_mix(wrap(), **options[0])
        for epoch in range(4):
            uses = count_uses(mixed, epoch)
            assert uses
            assert max(uses.values()) <= 8


def test_two_sets_over_one_pool_share_the_uses_of_its_donors() -> None:
    real = Rows(ROWS)
    sets = {name: GeneratedDataset(real, Paste(), version="1") for name in ("paste", "again")}
    mixed = MixedDataset(real, sets, plan=Balance(25, classes=("rare",), cap=8))
    for epoch in range(4):
        uses = count_uses(mixed, epoch)
        assert sum(uses.values()) > 16
        assert max(uses.values()) <= 8


def test_too_few_donors_are_said_at_construction() -> None:
    message = (
        "The plan asks for 38 samples of class 'rare' of set 'generated' in an epoch, and 3 donors, each used at most "
        "8 times (cap), are enough for 24. Raise cap=, give the generator more donors (cutouts= or pool=), or lower to=."
    )
    plan = Balance(40, classes=("rare",), cap=8)
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        mixed = make_mix(plan=plan)
    assert mixed.report().notes == (message,)
    uses = count_uses(mixed, 0)
    assert sum(mixed.origin(index) is not None for index in range(8, len(mixed))) == 24
    assert max(uses.values()) <= 8
    with pytest.raises(ShortfallError, match=f"^{re.escape(message)}$"):
        make_mix(plan=plan, on_shortfall="error")


def test_too_few_sources_are_said_with_what_limits_them() -> None:
    said = (
        "The plan asks for 18 samples of class 'rare' of set 'generated' in an epoch, and 8 source images, each used "
    )
    plan = Balance(20, classes=("rare",), cap=1)
    with pytest.warns(UserWarning, match=r"The plan asks") as caught:
        make_mix(Aimed(), plan=plan, variants=4)
    assert [str(each.message) for each in caught] == [
        f"{said}at most once for all classes together (cap), are enough for 8. Raise cap=, add source images, or lower "
        "to=."
    ]
    with pytest.warns(UserWarning, match=r"The plan asks") as caught:
        make_mix(Aimed(), plan=Balance(20, classes=("rare",), cap=2), variants=2)
    assert [str(each.message) for each in caught] == [
        f"{said}at most 2 times for all classes together (cap), are enough for 16. Raise cap= and variants=, add "
        "source images, or lower to=."
    ]
    with pytest.warns(UserWarning, match=r"The plan asks") as caught:
        make_mix(Aimed(), plan=Balance(20, classes=("rare",), cap=2), variants=1)
    assert [str(each.message) for each in caught] == [
        "The plan asks for 18 different samples of class 'rare' of set 'generated' in an epoch, and its variants x "
        "sources give 8. Raise variants=, or lower to=."
    ]


@pytest.mark.parametrize("variants", [None, 4, 40])
def test_classes_share_source_images_that_are_too_few_for_all(variants: int | None) -> None:
    rows = [[1]] * 6 + [[2], [2], [1, 2]]
    with pytest.warns(UserWarning, match=r"The plan asks") as caught:
        mixed = make_mix(Aimed(), real=Rows(rows), plan=Balance(33, cap=5), variants=variants)
    assert len(caught) == 2
    draws = [mixed.draw(index) for index in range(len(rows), len(mixed))]
    made = Counter(draw.target_class for draw in draws if draw is not None and draw.variant is not None)
    assert made.total() == 9 * min(5, variants or 5)
    assert made[1] / 26 == pytest.approx(made[2] / 30, abs=0.07)
    uses = Counter(draw.source for draw in draws if draw is not None and draw.variant is not None)
    assert set(uses.values()) == {min(5, variants or 5)}


class Aimed(Shade):
    """Can be aimed, and has no donors to tell of."""

    def aim(self, class_id: int, /) -> Aimed:
        return copy(self)


@pytest.mark.parametrize("cap", [None, 8])
def test_a_class_without_donors_is_said_at_construction(cap: int | None) -> None:
    class Bare(Paste):
        def list_donors(self, class_id: int, /) -> list[str]:
            return [] if class_id == 2 else super().list_donors(class_id)

    message = (
        "The plan asks for 7 samples of class 'rare' of set 'generated' in an epoch, and its generator has no donors of "
        "this class that can be used. Give it some (cutouts= or pool=), or leave the class out with classes= of the "
        "plan."
    )
    plan = Balance(9, classes=("common", "rare"), cap=cap)
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        mixed = make_mix(Chain([Bare(), Shade()]), plan=plan, on_shortfall="repeat")
    assert mixed.report().notes == (message,)
    for index in range(len(ROWS), len(mixed)):
        draw = mixed.draw(index)
        assert draw is not None
        assert (draw.variant is None) == (draw.target_class == 2) == (mixed.origin(index) is None)
    with pytest.raises(ShortfallError, match=f"^{re.escape(message)}$"):
        make_mix(Bare(), plan=plan, on_shortfall="error")


@pytest.mark.parametrize("cap", [None, 8])
def test_a_class_that_the_generator_refuses_is_refused_at_construction(cap: int | None, tmp_path: Path) -> None:
    real = CocoDataset(*write_coco(tmp_path, 8))
    generated = GeneratedDataset(real, Chain([CopyPaste(classes=["coin"]), ColorTransfer()]))
    names = {class_id: name for name, class_id in generated.source.classes.items()}  # type: ignore[union-attr]
    other = next(name for name in names.values() if name != "coin")
    coin, wanted = generated.source.classes["coin"], generated.source.classes[other]  # type: ignore[index]
    message = (
        f"The plan raises class {other!r}, which the generator of set 'generated' refuses: class_id must be among "
        f"classes={[coin]}, got class_id={wanted}. Add it to classes=, or leave it out. Or choose the classes that the "
        "plan raises, with its own classes=."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MixedDataset(real, generated, plan=Balance(24, classes=(other,), cap=cap))
    assert MixedDataset(real, generated, plan=Balance(24, classes=("coin",), cap=cap)).count_generated(0)


def test_a_generator_that_is_left_out_at_times_is_given_sources_that_hold_the_class() -> None:
    for generator in (Sometimes(Paste()), OneOf([(1, Paste()), (1, Shade())])):
        chain = Chain([generator, Shade()])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mixed = make_mix(chain, plan=Balance(20, classes=("rare",), cap=9))
        assert [str(each.message) for each in caught] == [
            "The plan's cap bounds how often a source image of the set 'generated' is used, and not how often a donor is "
            f"pasted: {chain!r} cannot be told which donors to use, because it pastes some of the time. Paste always "
            "(take CopyPaste out of Sometimes or OneOf), or leave cap= out."
        ]
        for index in range(len(ROWS), len(mixed)):
            draw = mixed.draw(index)
            assert draw is not None
            assert draw.donors is None
            assert 2 in ROWS[draw.source]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Chain([Paste(), Paste()]),
        lambda: Chain([Sometimes(Paste()), Paste()]),
        lambda: Chain([Paste(), OneOf([(1, Paste()), (1, Shade())])]),
    ],
    ids=["twice", "and sometimes", "or something else"],
)
def test_a_chain_that_pastes_twice_is_refused_where_there_is_a_cap(make: Any) -> None:
    names = [type(part).__name__ for part in make().generators]
    message = (
        f"generators must hold one generator that pastes where a plan has a cap, got generators={names}. "
        "Only the last one is aimed, and what the others paste of the same donors would not be counted: leave the cap "
        "out, or one of them."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_mix(make())
    assert make_mix(make(), plan=Balance(20, classes=("rare",))).count_generated(0) == 18


def test_a_choice_between_other_donors_is_refused_where_there_is_a_cap() -> None:
    class Others(Paste):
        def list_donors(self, class_id: int, /) -> list[str]:
            return ["elsewhere"]

    message = (
        "generators must draw from the same donors of class 2 where a plan has a cap, got generators=['Paste', "
        "'Others']. Make a set of each, MixedDataset(real, {'one': ..., 'other': ...}), or leave the cap out."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_mix(OneOf([(1, Paste()), (1, Others())]))


def test_a_composition_has_no_budget_where_its_parts_have_none() -> None:
    class Aimed(Shade):
        def aim(self, class_id: int, /) -> Aimed:
            return self

    for composition in (Chain([Aimed()]), OneOf({1: Aimed()}), Cached(Aimed()), Sometimes(Paste())):
        assert not any(hasattr(composition, name) for name in ("max_donors", "list_donors", "use_donors"))
    for composition in (Chain([Paste()]), OneOf({1: Paste()}), Sometimes(Paste(), probability=1), Cached(Paste())):
        assert composition.max_donors == 3


def test_precomputed_draws_are_all_that_the_mix_asks_for(tmp_path: Path) -> None:
    with LMDBCache(tmp_path / "cache") as cache:
        mixed = make_mix(variants=4, cache=cache)
        draws = mixed.list_rationed()
        report = precompute(mixed.sets[0].dataset, draws=draws, progress=False)
        assert (report.total, report.accepted, report.failed) == (len(draws), len(draws), 0)
        assert len(cache) == len(draws)
        for epoch in range(5):
            mixed.set_epoch(epoch)
            for index in range(8, len(mixed)):
                mixed[index]
        counts = mixed.report().sets["generated"]
        assert (counts.cache_misses, len(cache)) == (0, len(draws))


def test_a_schedule_knows_the_draws_of_all_its_plans() -> None:
    balance = Balance(20, classes=("rare",), cap=8)
    schedule = Schedule({0: balance, 4: Add(18 / 8)})
    plain = make_mix(plan=balance, variants=4)
    assert make_mix(plan=schedule, variants=4).list_rationed() == plain.list_rationed() != []
    assert make_mix(plan=Only(), variants=4).list_rationed() == []


def read_drawn(mixed: MixedDataset, epoch: int) -> list[Any]:
    return [mixed.origin(EpochIndex(index, epoch=epoch)) for index in range(8, len(mixed))]


def test_the_cache_and_the_workers_cannot_be_seen_in_the_samples() -> None:
    plain, cached = make_mix(variants=3), make_mix(variants=3, cache=MemoryCache())
    for epoch in (0, 2, 1, 2):
        assert [origin.drawn for origin in read_drawn(plain, epoch)] == [
            origin.drawn for origin in read_drawn(cached, epoch)
        ]
    loader = DataLoader(plain, batch_size=None, num_workers=2, generator=torch.Generator())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same epoch was read above
        theirs = [item[0] for item in loader]
        mine = [cached[index][0] for index in range(len(cached))]
    assert all(torch.equal(one, other) for one, other in zip(theirs, mine, strict=True))


@pytest.mark.parametrize("options", [{}, {"variants": 8, "cache": MemoryCache()}], ids=["fresh", "cached"])
def test_copy_paste_keeps_the_cap(options: dict[str, Any], tmp_path: Path) -> None:
    images, file = write_coco(tmp_path, 8)
    real = CocoDataset(images, file)
    generated = GeneratedDataset(real, CopyPaste(num_range=(1, 2)), **options)
    names = generated.generator.list_donors(2)  # type: ignore[attr-defined]
    mixed = MixedDataset(real, generated, plan=Balance(24, classes=("coin",), cap=5))
    assert mixed.report().notes == ()
    for epoch in range(3):
        uses = count_uses(mixed, epoch)
        assert set(uses) == set(names)
        assert 1 < max(uses.values()) <= 5


def make_classified(folder: Path) -> tuple[ImageFolderDataset, Path]:
    """Two images of a rare class and ten of another; three cut-outs of either."""
    rng = np.random.default_rng(0)
    for name, count in (("rare", 2), ("common", 10)):
        for kind, number in (("images", count), ("cutouts", 3)):
            (folder / kind / name).mkdir(parents=True)
            for at in range(number):
                pixels = rng.integers(0, 255, (24, 32, 4), dtype=np.uint8)
                pixels[..., 3] = 255 * (np.hypot(*np.mgrid[-12:12, -16:16]) < 10)
                shown = pixels if kind == "cutouts" else np.ascontiguousarray(pixels[..., :3])
                cv2.imwrite(str(folder / kind / name / f"{at}.png"), shown)
    return ImageFolderDataset(folder / "images"), folder / "cutouts"


@pytest.mark.parametrize("on_shortfall", ["real", "repeat"])
@pytest.mark.parametrize("cached", [False, True])
def test_cut_outs_of_images_with_one_class_keep_the_cap_and_their_class(
    on_shortfall: str, cached: bool, tmp_path: Path
) -> None:
    real, cutouts = make_classified(tmp_path)
    options: dict[str, Any] = {"variants": 30, "cache": MemoryCache()} if cached else {}
    filters = [RejectBy(share=0.3)] if on_shortfall == "repeat" else []
    generated = GeneratedDataset(real, CopyPaste(cutouts=cutouts, num_range=(1, 2)), filters=filters, **options)
    mixed = MixedDataset(real, generated, plan=Balance(26, cap=14), on_shortfall=on_shortfall)
    assert mixed.report().notes == ()
    for epoch in range(2):
        mixed.set_epoch(epoch)
        made = [(mixed.origin(at), mixed[at][1]) for at in range(len(real), len(mixed))]
        uses = Counter(name for origin, _ in made if origin is not None for name in origin.drawn)
        assert 5 < max(uses.values()) <= 14
        for origin, class_id in made:
            assert origin is None or {Path(name).parent.name for name in origin.drawn} == {real.classes[int(class_id)]}


@pytest.mark.parametrize("to", [150, 260])
def test_boxes_of_real_cells_are_pasted_as_often_as_announced(to: int, shared_data: Path) -> None:
    root = shared_data / "bccd_blood_cells"
    real = CocoDataset(root / "JPEGImages", root / "coco/instances_train.json")
    generated = GeneratedDataset(real, CopyPaste(num_range=(1, 2)), variants=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mixed = MixedDataset(real, generated, plan=Balance(to, classes=("Platelets",), cap=3))
    draws = [mixed.draw(index) for index in range(len(real), len(mixed))]
    available = sum(draw is not None and draw.variant is not None for draw in draws)
    assert len(draws) == mixed.count_generated(0) == to - 117
    assert [str(each.message) for each in caught] == list(mixed.report().notes)
    assert len(caught) == (available < len(draws))
    uses = Counter[str]()
    made = 0
    for index in range(len(real), len(mixed)):
        origin = mixed.origin(index)
        made += origin is not None
        uses.update(() if origin is None else origin.drawn)
    assert made == available
    assert 1 < max(uses.values()) <= 3
