"""The plans are exact for all numbers, never repeat what they need not, and depend on (seed, epoch, index) alone."""

from __future__ import annotations

import math
import pickle
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from synthloader.class_table import ClassTable
from synthloader.layout import Draw, Layout, PlanContext, SetShape, Shortfall
from synthloader.plans import Add, Balance, Only, Plan, Replace, Schedule
from tests.test_class_table import find_most

NAMES = ("paste", "edit", "fog")
PER_REAL = "It is the number of generated samples per real sample: 0.5 adds one for every two."

ratios = st.sampled_from([0, 0.0, 0.001, 0.13, 0.5, 1, 1.0, 4, 4.0, Fraction(1, 3)]) | st.floats(0, 5)
sizes = st.integers(1, 24)
seeds = st.integers(-(2**63), 2**63)
variants = st.none() | st.integers(1, 5)


def make_shape(
    name: str = "generated", num_sources: int = 10, num_variants: int | None = None, **more: Any
) -> SetShape:
    groups = more.pop("groups", None)
    rows = more.pop("rows", None)
    if groups is not None:
        more["find_groups"] = lambda: np.array(groups)
    if rows is not None:
        more["find_classes"] = lambda: ClassTable(rows)
    return SetShape(name, num_sources, num_variants, **more)


def make_context(num_real: int = 10, *sets: SetShape, **more: Any) -> PlanContext:
    rows = more.pop("rows", None)
    if rows is not None:
        more["find_classes"] = lambda: ClassTable(rows)
    return PlanContext(num_real, sets or (make_shape(num_sources=num_real),), **more)


@st.composite
def draw_shapes(draw: st.DrawFn, name: str, num_real: int, *, only_own: bool = False) -> SetShape:
    own = only_own or draw(st.booleans())
    num_sources = num_real if own else draw(sizes)
    labels = st.lists(st.integers(0, 3), min_size=num_sources, max_size=num_sources)
    return make_shape(name, num_sources, draw(variants), own=own, groups=draw(st.none() | labels))


@st.composite
def draw_contexts(
    draw: st.DrawFn, *, only_own: bool = False, num_sets: st.SearchStrategy[int] | None = None
) -> PlanContext:
    num_real = draw(sizes)
    names = NAMES[: draw(num_sets if num_sets is not None else st.integers(1, 3))]
    shapes = [draw(draw_shapes(name, num_real, only_own=only_own)) for name in names]
    return make_context(num_real, *shapes, seed=draw(seeds))


@st.composite
def draw_bound(draw: st.DrawFn, kind: type[Add] | type[Replace]) -> tuple[Any, PlanContext]:
    context = draw(draw_contexts(only_own=kind is Replace))
    by_name = st.fixed_dictionaries({shape.name: ratios for shape in context.sets})
    return kind(draw(ratios | by_name)), context


adds = draw_bound(Add)
replaces = draw_bound(Replace)


def read_epoch(layout: Layout, epoch: int) -> list[Draw | None]:
    return [layout.draw(epoch, index) for index in range(layout.length)]


def read_generated(layout: Layout, epoch: int) -> list[Draw]:
    return [draw for draw in read_epoch(layout, epoch) if draw is not None]


def find_repeated(draws: Iterable[Draw]) -> list[tuple[int, int, int]]:
    """What occurs twice, of those that have a version."""
    counts = Counter((draw.set_index, draw.source, draw.variant) for draw in draws if draw.variant is not None)
    return [place for place, count in counts.items() if count > 1]  # type: ignore[misc]


def group_of(context: PlanContext, draw: Draw) -> int | None:
    groups = context.sets[draw.set_index].find_groups()
    return None if groups is None else int(groups[draw.source])


def check_enumeration(layout: Layout, epoch: int) -> None:
    """`find_generated` and `find_real` name every index of their kind once."""
    whole = read_epoch(layout, epoch)
    count = layout.count_generated(epoch)
    generated = [layout.find_generated(epoch, position) for position in range(count)]
    real = [layout.find_real(epoch, position) for position in range(layout.length - count)]
    assert sorted(generated) == [index for index, draw in enumerate(whole) if draw is not None]
    assert sorted(real) == [index for index, draw in enumerate(whole) if draw is None]


def check_next(layout: Layout, context: PlanContext, epoch: int, limit: int) -> None:
    """`draw_next` gives other draws of this epoch, of the same set, class and group, each once."""
    whole = read_generated(layout, epoch)
    for index, own in enumerate(read_epoch(layout, epoch)):
        if own is None:
            continue
        others = list(layout.draw_next(epoch, index, limit=limit))
        assert len(others) <= limit
        assert len(set(others)) == len(others)
        for other in others:
            assert other in whole
            assert (other.source, other.variant) != (own.source, own.variant)
            assert other.variant is not None
            assert other.set_index == own.set_index
            assert other.target_class == own.target_class
            assert group_of(context, other) == group_of(context, own)
        assert others == list(layout.draw_next(epoch, index, limit=limit))


# ---- Add


@given(bound=adds, epoch=st.integers(0, 10**6))
def test_add_generates_exactly_the_asked_share_of_every_set(bound: tuple[Add, PlanContext], epoch: int) -> None:
    plan, context = bound
    layout = plan.bind(context)
    counts = [sum(draw.set_index == at for draw in read_generated(layout, epoch)) for at in range(len(context.sets))]
    if isinstance(plan.ratio, dict):
        assert counts == [round(plan.ratio[shape.name] * context.num_real) for shape in context.sets]
    else:
        assert sum(counts) == round(plan.ratio * context.num_real)  # type: ignore[operator]
        assert max(counts) - min(counts) <= 1
        assert counts == sorted(counts, reverse=True)
    assert layout.count_by_set(epoch) == counts
    assert layout.count_generated(epoch) == sum(counts)
    assert layout.length == context.num_real + sum(counts)


@given(bound=adds, epoch=st.integers(0, 5))
def test_add_leaves_the_real_indices_real_in_every_epoch(bound: tuple[Add, PlanContext], epoch: int) -> None:
    plan, context = bound
    whole = read_epoch(plan.bind(context), epoch)
    assert [draw is None for draw in whole] == [index < context.num_real for index in range(len(whole))]


@given(bound=adds, epoch=st.integers(0, 5))
def test_add_uses_each_source_floor_or_ceil_of_the_mean(bound: tuple[Add, PlanContext], epoch: int) -> None:
    plan, context = bound
    draws = read_generated(plan.bind(context), epoch)
    for at, shape in enumerate(context.sets):
        uses = Counter(draw.source for draw in draws if draw.set_index == at)
        mean = Fraction(sum(uses.values()), shape.num_sources)
        assert set(uses) <= set(range(shape.num_sources))
        assert {uses[source] for source in range(shape.num_sources)} <= {math.floor(mean), math.ceil(mean)}


@given(bound=adds, epoch=st.integers(0, 10**9))
def test_add_repeats_no_version_as_long_as_there_are_others(bound: tuple[Add, PlanContext], epoch: int) -> None:
    plan, context = bound
    layout = plan.bind(context)
    draws = read_generated(layout, epoch)
    assert find_repeated(draws) == []
    missing = []
    for at, shape in enumerate(context.sets):
        mine = [draw.variant for draw in draws if draw.set_index == at]
        if shape.num_variants is None:
            assert None not in mine
            continue
        assert all(variant is None or 0 <= variant < shape.num_variants for variant in mine)
        available = shape.num_variants * shape.num_sources
        assert mine.count(None) == max(0, len(mine) - available)
        if len(mine) > available:
            missing.append(Shortfall(shape.name, len(mine), available, None))
    assert list(layout.shortfalls) == missing


@given(bound=adds, start=st.integers(0, 10**6))
def test_add_keeps_each_index_in_its_set_and_group_and_lets_the_rest_change(
    bound: tuple[Add, PlanContext], start: int
) -> None:
    plan, context = bound
    layout = plan.bind(context)
    seen = [
        [(draw.set_index, group_of(context, draw)) for draw in read_generated(layout, epoch)]
        for epoch in (0, 1, 2, start, start + 1)
    ]
    assert all(one == seen[0] for one in seen)


@given(bound=adds)
def test_add_numbers_fresh_versions_on_through_the_epochs(bound: tuple[Add, PlanContext]) -> None:
    plan, context = bound
    layout = plan.bind(context)
    draws = [draw for epoch in range(6) for draw in read_generated(layout, epoch)]
    assert find_repeated(draw for draw in draws if context.sets[draw.set_index].num_variants is None) == []


@given(bound=adds, start=st.integers(0, 50))
def test_every_version_of_a_source_that_is_always_used_comes_up(bound: tuple[Add, PlanContext], start: int) -> None:
    plan, context = bound
    layout = plan.bind(context)
    for at, shape in enumerate(context.sets):
        if shape.num_variants is None or layout.count_by_set(0)[at] < shape.num_sources:
            continue
        first = start * shape.num_variants
        draws = [
            draw for epoch in range(first, first + shape.num_variants) for draw in read_generated(layout, epoch)
            if draw.set_index == at
        ]  # fmt: skip
        seen = {(draw.source, draw.variant) for draw in draws if draw.variant is not None}
        assert len(seen) == shape.num_sources * shape.num_variants


@given(bound=adds, epoch=st.integers(0, 30))
def test_no_index_carries_the_same_twice_in_a_row_unless_it_must(bound: tuple[Add, PlanContext], epoch: int) -> None:
    plan, context = bound
    layout = plan.bind(context)
    assume(all(shape.num_variants != 1 for shape in context.sets))
    before, after = read_generated(layout, epoch), read_generated(layout, epoch + 1)
    short = {name for name, *_ in layout.shortfalls}
    for at, shape in enumerate(context.sets):
        if shape.name in short or layout.count_by_set(0)[at] > shape.num_sources:
            continue  # Several versions of a source are out at once: the same may come back elsewhere.
        pair = [{(draw.source, draw.variant) for draw in draws if draw.set_index == at} for draws in (before, after)]
        assert not pair[0] & pair[1]


@given(bound=adds, epoch=st.integers(0, 5))
def test_the_indices_of_add_are_enumerated_once(bound: tuple[Add, PlanContext], epoch: int) -> None:
    plan, context = bound
    check_enumeration(plan.bind(context), epoch)


@given(bound=adds, epoch=st.integers(0, 5), limit=st.sampled_from([0, 1, 3, 16]))
def test_what_follows_an_index_of_add_is_something_else_of_its_kind(
    bound: tuple[Add, PlanContext], epoch: int, limit: int
) -> None:
    plan, context = bound
    check_next(plan.bind(context), context, epoch, limit)


def test_what_follows_reaches_sixteen_others_where_there_are_as_many() -> None:
    layout = Add(1.0).bind(make_context(30))
    for index in range(30, 60):
        assert len(list(layout.draw_next(0, index, limit=16))) == 16


def test_an_index_without_a_version_left_can_still_get_anothers() -> None:
    context = make_context(4, make_shape(num_sources=4, num_variants=1))
    layout = Add(1.5).bind(context)
    for index in range(8, 10):
        assert layout.draw(3, index).variant is None  # type: ignore[union-attr]
        assert len(list(layout.draw_next(3, index, limit=16))) == 4


@given(bound=adds, epoch=st.integers(0, 5))
def test_the_draws_depend_on_nothing_but_seed_epoch_and_index(bound: tuple[Add, PlanContext], epoch: int) -> None:
    plan, context = bound
    layout = plan.bind(context)
    whole = read_epoch(layout, epoch)
    other = plan.bind(context)
    backwards = [other.draw(epoch, index) for index in reversed(range(other.length))]
    assert whole == backwards[::-1]
    read_epoch(layout, epoch + 1)
    assert read_epoch(layout, epoch) == whole


@pytest.mark.parametrize("plan", [Add(0.4), Replace(0.6), Add({"generated": 0.4})], ids=repr)
@pytest.mark.parametrize("groups", [None, [at % 2 for at in range(20)]], ids=["no groups", "groups"])
@pytest.mark.parametrize("num_variants", [1, 3])
def test_over_many_epochs_every_source_and_every_version_is_used_about_equally_often(
    plan: Plan, groups: list[int] | None, num_variants: int
) -> None:
    context = make_context(20, make_shape(num_sources=20, num_variants=num_variants, groups=groups), seed=3)
    layout = plan.bind(context)
    rounds = 900
    uses = Counter((draw.source, draw.variant) for epoch in range(rounds) for draw in read_generated(layout, epoch))
    assert len(uses) == 20 * num_variants
    expected = rounds * layout.count_generated(0) / (20 * num_variants)
    assert sum((count - expected) ** 2 / expected for count in uses.values()) < len(uses) + 8 * (2 * len(uses)) ** 0.5


def test_a_set_with_few_laps_beside_one_with_many_still_uses_all_its_versions() -> None:
    # The laps of all sets are numbered alike: four of "paste" must not hold "edit" to one version in four.
    context = make_context(10, make_shape("paste", 10, 4), make_shape("edit", 10, 4))
    layout = Add({"paste": 4.0, "edit": 1.0}).bind(context)
    for source in range(10):
        seen = {
            draw.variant for epoch in range(4) for draw in read_generated(layout, epoch)
            if (draw.set_index, draw.source) == (1, source)
        }  # fmt: skip
        assert seen == {0, 1, 2, 3}


def test_versions_are_used_evenly_where_the_last_lap_is_nearly_empty() -> None:
    layout = Add(1.1).bind(make_context(20, make_shape(num_sources=20, num_variants=2)))
    uses = Counter((draw.source, draw.variant) for epoch in range(100) for draw in read_generated(layout, epoch))
    assert len(uses) == 40
    assert max(uses.values()) < 1.5 * min(uses.values())


@pytest.mark.parametrize("plan", [Add(0.5), Replace(0.5), Add(2.3), Balance(20)], ids=repr)
def test_another_seed_is_another_plan(plan: Plan) -> None:
    rows = [[at % 3] for at in range(40)]
    contexts = [
        make_context(40, make_shape(num_sources=40, num_variants=4, rows=rows), seed=seed, rows=rows) for seed in (0, 1)
    ]
    one, other = (read_epoch(plan.bind(context), 0) for context in contexts)
    assert one != other


def test_two_sets_of_one_mix_are_shuffled_apart() -> None:
    context = make_context(40, make_shape("paste", 40), make_shape("edit", 40))
    draws = read_generated(Add(1.0).bind(context), 0)
    first, second = ([draw.source for draw in draws if draw.set_index == at] for at in (0, 1))
    assert first != second


def test_few_positions_are_spread_over_the_groups() -> None:
    # Not all to the groups that come first: those would be the classes with the lowest numbers.
    groups = [at // 2 for at in range(400)]
    draws = read_generated(Add(0.25).bind(make_context(400, make_shape(num_sources=400, groups=groups))), 0)
    used = sorted({groups[draw.source] for draw in draws})
    assert len(used) == 100
    assert 90 <= sum(used) / len(used) <= 110
    assert max(np.diff(used)) <= 3


@pytest.mark.parametrize("ratio", [np.float32(0.1), np.float64(0.1), 0.1, Fraction(1, 10)])
def test_a_ratio_of_any_kind_of_number_is_exact_for_large_sets(ratio: Any) -> None:
    size = 10**8 + 7
    context = make_context(size, make_shape(num_sources=size))
    assert Add(ratio).bind(context).count_generated(0) == round(float(ratio) * size)
    expected = Fraction(repr(float(ratio))) * size / (1 + Fraction(repr(float(ratio))))
    assert Replace(ratio).bind(context).count_generated(0) == round(expected)
    assert Replace({"generated": ratio}).bind(context).count_generated(0) == round(expected)


@pytest.mark.parametrize("foreign", [False, True])
def test_a_ratio_of_zero_is_the_identity(foreign: bool) -> None:
    for plan in (Add(0), Add(0.0), Add(0.04), Add({"generated": 0})):
        layout = plan.bind(make_context(10, make_shape(num_sources=0 if foreign else 10, own=not foreign)))
        assert layout.length == 10
        assert read_epoch(layout, 3) == [None] * 10
        assert layout.count_generated(0) == 0
        check_enumeration(layout, 0)


def test_a_foreign_set_of_finished_items_is_used_without_replacement() -> None:
    context = make_context(10, make_shape("rendered", 6, 1, own=False))
    for epoch in range(5):
        draws = read_generated(Add(0.6).bind(context), epoch)
        assert sorted(draw.source for draw in draws) == list(range(6))
    layout = Add(1.0).bind(context)
    assert list(layout.shortfalls) == [Shortfall("rendered", 10, 6, None)]
    assert sum(draw.variant is None for draw in read_generated(layout, 0)) == 4


def test_where_a_foreign_set_fails_real_items_are_served_in_turn() -> None:
    layout = Add(2.5).bind(make_context(4, make_shape("rendered", 99, 1, own=False)))
    assert [layout.find_real_source(0, index) for index in range(14)] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


# ---- Replace and Only


@given(bound=replaces, epoch=st.integers(0, 10**6))
def test_replace_generates_exactly_the_asked_share_of_the_indices(
    bound: tuple[Replace, PlanContext], epoch: int
) -> None:
    plan, context = bound
    layout = plan.bind(context)
    size = context.num_real
    counts = [sum(draw.set_index == at for draw in read_generated(layout, epoch)) for at in range(len(context.sets))]
    by_name = isinstance(plan.ratio, dict)
    shares = [plan.ratio[shape.name] for shape in context.sets] if by_name else [plan.ratio]  # type: ignore[index]
    exact = [Fraction(repr(float(share))) for share in shares]  # type: ignore[arg-type]
    total = sum(exact) * size / (1 + sum(exact))
    assert sum(counts) == round(total)
    if isinstance(plan.ratio, dict):
        for count, share in zip(counts, exact, strict=True):
            assert abs(count - share * size / (1 + sum(exact))) < 1
    else:
        assert max(counts) - min(counts) <= 1
    assert layout.length == size
    assert layout.count_by_set(epoch) == counts
    assert layout.count_generated(epoch) == sum(counts)
    assert list(layout.shortfalls) == []


@given(share=st.floats(0, 1), size=sizes, num_sets=st.integers(1, 3))
def test_a_share_is_exact_too(share: float, size: int, num_sets: int) -> None:
    context = make_context(size, *(make_shape(name, size, 2) for name in NAMES[:num_sets]))
    assert Replace.share(share).bind(context).count_generated(4) == round(size * share)


@given(bound=replaces, epoch=st.integers(0, 10**6))
def test_replace_puts_a_version_of_an_item_in_its_own_place(bound: tuple[Replace, PlanContext], epoch: int) -> None:
    plan, context = bound
    layout = plan.bind(context)
    for index, draw in enumerate(read_epoch(layout, epoch)):
        if draw is not None:
            versions = context.sets[draw.set_index].num_variants
            assert draw.source == index
            assert draw.variant is not None
            assert versions is None or 0 <= draw.variant < versions
            assert layout.find_real_source(epoch, index) == index


@given(bound=replaces)
def test_replace_numbers_fresh_versions_on_through_the_epochs(bound: tuple[Replace, PlanContext]) -> None:
    plan, context = bound
    layout = plan.bind(context)
    draws = [draw for epoch in range(8) for draw in read_generated(layout, epoch)]
    assert find_repeated(draw for draw in draws if context.sets[draw.set_index].num_variants is None) == []


@given(bound=replaces, epoch=st.integers(0, 5))
def test_the_indices_of_replace_are_enumerated_once(bound: tuple[Replace, PlanContext], epoch: int) -> None:
    plan, context = bound
    check_enumeration(plan.bind(context), epoch)


@given(bound=replaces, epoch=st.integers(0, 5), limit=st.sampled_from([0, 1, 3, 16]))
def test_what_follows_an_index_of_replace_is_something_else_of_its_kind(
    bound: tuple[Replace, PlanContext], epoch: int, limit: int
) -> None:
    plan, context = bound
    check_next(plan.bind(context), context, epoch, limit)


def test_which_indices_replace_takes_changes_with_the_epoch_and_is_fair() -> None:
    layout = Replace(0.5).bind(make_context(30, make_shape(num_sources=30, num_variants=2)))
    rounds = 600
    taken = [tuple(index for index, draw in enumerate(read_epoch(layout, epoch)) if draw) for epoch in range(rounds)]
    assert len(set(taken)) == rounds
    counts = Counter(index for indices in taken for index in indices)
    assert all(rounds / 3 - 80 < counts[index] < rounds / 3 + 80 for index in range(30))


@pytest.mark.parametrize("size", [1, 2, 7, 30])
@pytest.mark.parametrize("num_variants", [None, 1, 3])
def test_the_ways_to_say_the_same_give_the_same(size: int, num_variants: int | None) -> None:
    context = make_context(size, make_shape(num_sources=size, num_variants=num_variants), seed=9)

    def read(plan: Plan) -> list[Any]:
        return [read_epoch(plan.bind(context), epoch) for epoch in range(3)]

    assert read(Replace.share(0.5)) == read(Replace(1.0)) == read(Replace({"generated": 1}))
    assert read(Only()) == read(Replace.share(1.0)) == read(Replace.share(1))
    assert read(Replace.share(0)) == read(Replace(0)) == read(Add(0)) == [[None] * size] * 3
    assert None not in read(Only())[0]


def test_only_gives_every_item_once_and_another_version_in_every_epoch() -> None:
    layout = Only().bind(make_context(12, make_shape(num_sources=12, num_variants=4)))
    epochs = [read_generated(layout, epoch) for epoch in range(4)]
    assert all([draw.source for draw in draws] == list(range(12)) for draws in epochs)
    for source in range(12):
        assert {draws[source].variant for draws in epochs} == {0, 1, 2, 3}


def test_with_groups_in_several_sets_each_set_keeps_its_own() -> None:
    context = make_context(
        30, make_shape("paste", 30, groups=[0] * 30), make_shape("edit", 30, groups=[at % 2 for at in range(30)])
    )
    check_next(Only().bind(context), context, 0, 16)


# ---- Balance

CLASSES = (0, 1, 2, 7)
rows_of = st.lists(st.lists(st.sampled_from(CLASSES), max_size=4), min_size=1, max_size=9)


@st.composite
def draw_balances(draw: st.DrawFn) -> tuple[Balance, PlanContext]:
    rows = draw(rows_of)
    held = {one for row in rows for one in row}
    assume(held)
    shapes = []
    for name in NAMES[: draw(st.integers(1, 2))]:
        own = draw(st.booleans())
        # A foreign set must hold what it is asked for.
        theirs = rows if own else [*draw(rows_of), sorted(held)]
        labels = st.lists(st.integers(0, 1), min_size=len(theirs), max_size=len(theirs))
        shapes.append(
            make_shape(
                name, len(theirs), draw(variants), own=own, rows=theirs, aimable=draw(st.booleans()),
                groups=draw(st.none() | labels),
            )
        )  # fmt: skip
    plan = Balance(
        draw(st.integers(1, 12) | st.floats(0.05, 2)),
        count=draw(st.sampled_from(["images", "instances"])),
        classes=draw(st.none() | st.lists(st.sampled_from(sorted(held)), min_size=1).map(tuple)),
        cap=draw(st.none() | st.integers(1, 4)),
    )
    return plan, make_context(len(rows), *shapes, seed=draw(seeds), rows=rows)


def count_missing(plan: Balance, context: PlanContext) -> dict[int, int]:
    """By hand: how many generated indices each class needs."""
    table = context.find_classes()
    assert table is not None
    counts = table.count(plan.count)
    goal = plan.to if isinstance(plan.to, int) else round(plan.to * max(counts.values()))
    wanted = set(counts) if plan.classes is None else set(plan.classes)
    return {one: goal - counts[one] for one in sorted(wanted) if goal > counts[one]}  # type: ignore[index,misc]


def find_limit(plan: Balance, shape: SetShape) -> int | None:
    limits = [limit for limit in (plan.cap, shape.num_variants) if limit is not None]
    return min(limits) if limits else None


def find_allowed(shape: SetShape, class_id: int) -> set[int]:
    table = shape.find_classes()
    assert table is not None
    return set(range(shape.num_sources)) if shape.aimable else set(table.find_holders(class_id).tolist())


def divide(total: int, parts: int) -> list[int]:
    return [total // parts + (at < total % parts) for at in range(parts)]


@given(bound=draw_balances(), epoch=st.integers(0, 10**6))
def test_balance_gives_every_class_exactly_what_it_lacks(bound: tuple[Balance, PlanContext], epoch: int) -> None:
    plan, context = bound
    layout = plan.bind(context)
    missing = count_missing(plan, context)
    whole = read_epoch(layout, epoch)
    draws = read_generated(layout, epoch)
    assert whole[: context.num_real] == [None] * context.num_real
    assert len(draws) == layout.count_generated(epoch) == sum(missing.values())
    assert layout.length == context.num_real + len(draws)
    given_to = Counter((draw.target_class, draw.set_index) for draw in draws)
    for class_id, need in missing.items():
        for at, share in enumerate(divide(need, len(context.sets))):
            assert given_to[class_id, at] == share
    assert {draw.target_class for draw in draws} == set(missing)
    assert layout.count_by_set(epoch) == [
        sum(draw.set_index == at for draw in draws) for at in range(len(context.sets))
    ]
    assert plan.count_needed(context) == missing  # type: ignore[attr-defined]


@given(bound=draw_balances(), epoch=st.integers(0, 10**6))
def test_balance_draws_on_holders_only_and_no_oftener_than_the_cap(
    bound: tuple[Balance, PlanContext], epoch: int
) -> None:
    plan, context = bound
    draws = read_generated(plan.bind(context), epoch)
    assert find_repeated(draws) == []
    for at, shape in enumerate(context.sets):
        mine = [draw for draw in draws if draw.set_index == at]
        for draw in mine:
            assert draw.target_class is not None
            assert draw.source in find_allowed(shape, draw.target_class)
            assert draw.variant is None or shape.num_variants is None or 0 <= draw.variant < shape.num_variants
        uses = Counter(draw.source for draw in mine if draw.variant is not None)
        limit = find_limit(plan, shape)
        assert limit is None or all(count <= limit for count in uses.values())


@given(bound=draw_balances())
def test_balance_lacks_something_exactly_where_the_arithmetic_does(bound: tuple[Balance, PlanContext]) -> None:
    plan, context = bound
    layout = plan.bind(context)
    missing = count_missing(plan, context)
    draws = read_generated(layout, 3)
    lacking = 0
    for at, shape in enumerate(context.sets):
        shares = {one: divide(need, len(context.sets))[at] for one, need in missing.items()}
        shares = {one: share for one, share in shares.items() if share}
        asked, limit = sum(shares.values()), find_limit(plan, shape)
        if limit is not None:
            allowed = [find_allowed(shape, one) for one in shares]
            most = find_most(allowed, list(shares.values()), num_items=shape.num_sources, limit=limit)
            lacking += asked - most
            assert sum(draw.set_index == at and draw.variant is None for draw in draws) == asked - most
        else:
            assert not any(draw.set_index == at and draw.variant is None for draw in draws)
    assert sum(short.asked - short.available for short in layout.shortfalls) == lacking
    assert all(short.available < short.asked for short in layout.shortfalls)
    assert len({(short.name, short.target_class) for short in layout.shortfalls}) == len(layout.shortfalls)


@given(bound=draw_balances(), start=st.integers(0, 10**6))
def test_balance_keeps_each_index_in_its_set_class_and_group(bound: tuple[Balance, PlanContext], start: int) -> None:
    plan, context = bound
    layout = plan.bind(context)
    seen = [
        [(draw.set_index, draw.target_class, group_of(context, draw)) for draw in read_generated(layout, epoch)]
        for epoch in (0, 1, start)
    ]
    assert all(one == seen[0] for one in seen)
    check_enumeration(layout, start)


@given(bound=draw_balances())
def test_balance_numbers_fresh_versions_on_through_the_epochs(bound: tuple[Balance, PlanContext]) -> None:
    plan, context = bound
    layout = plan.bind(context)
    draws = [draw for epoch in range(4) for draw in read_generated(layout, epoch)]
    assert find_repeated(draw for draw in draws if context.sets[draw.set_index].num_variants is None) == []


@given(bound=draw_balances(), epoch=st.integers(0, 5), limit=st.sampled_from([0, 2, 16]))
def test_what_follows_an_index_of_balance_is_something_else_of_its_kind(
    bound: tuple[Balance, PlanContext], epoch: int, limit: int
) -> None:
    plan, context = bound
    check_next(plan.bind(context), context, epoch, limit)


@given(bound=draw_balances(), epoch=st.integers(0, 5))
def test_without_a_limit_balance_uses_the_holders_of_a_class_equally(
    bound: tuple[Balance, PlanContext], epoch: int
) -> None:
    plan, context = bound
    draws = read_generated(plan.bind(context), epoch)
    for at, shape in enumerate(context.sets):
        if find_limit(plan, shape) is not None:
            continue
        mine = [draw for draw in draws if draw.set_index == at]
        for class_id in count_missing(plan, context):
            # Where the generator can be aimed any source serves any class, and they are equal over all of them.
            uses = Counter(draw.source for draw in mine if shape.aimable or draw.target_class == class_id)
            counts = [uses[source] for source in find_allowed(shape, class_id)]
            assert max(counts) - min(counts) <= 1


def test_classes_that_share_their_images_share_them_under_a_cap() -> None:
    # Every image holds both classes and may be used once: a hundred images are enough for fifty of each.
    rows = [[1, 2]] * 100 + [[0]] * 150
    context = make_context(250, make_shape(num_sources=250, rows=rows), rows=rows)
    layout = Balance(150, cap=1).bind(context)
    assert list(layout.shortfalls) == []
    draws = read_generated(layout, 0)
    assert Counter(draw.target_class for draw in draws) == {1: 50, 2: 50}
    assert max(Counter(draw.source for draw in draws).values()) == 1


def test_a_class_with_few_images_gets_them_before_one_that_has_others() -> None:
    rows = [[1, 2], [1, 2], [1], [1], [0], [0], [0], [0], [0], [0]]
    context = make_context(10, make_shape(num_sources=10, num_variants=1, rows=rows), rows=rows)
    layout = Balance(4, classes=(2, 1)).bind(context)
    assert {draw.source for draw in read_generated(layout, 0) if draw.target_class == 2} == {0, 1}
    assert list(layout.shortfalls) == []


@pytest.mark.parametrize("cap", [None, 1, 3])
@pytest.mark.parametrize("num_variants", [None, 3])
def test_over_the_epochs_balance_uses_many_images_of_a_class(cap: int | None, num_variants: int | None) -> None:
    rows = [[1, 2]] * 40 + [[0]] * 60
    context = make_context(100, make_shape(num_sources=100, num_variants=num_variants, rows=rows), rows=rows)
    layout = Balance(50, cap=cap).bind(context)
    draws = [draw for epoch in range(60) for draw in read_generated(layout, epoch)]
    for class_id in (1, 2):
        used = {draw.source for draw in draws if draw.target_class == class_id}
        if cap == 1:  # Each image serves one class, or the other would be short.
            assert 18 <= len(used) <= 22
        else:
            assert len(used) == 40


def test_aimable_sets_use_every_image_for_every_class() -> None:
    rows = [[1], [0], [0], [0]]
    context = make_context(4, make_shape(num_sources=4, num_variants=2, rows=rows, aimable=True), rows=rows)
    draws = [draw for epoch in range(30) for draw in read_generated(Balance(1.0).bind(context), epoch)]
    assert {draw.source for draw in draws} == {0, 1, 2, 3}
    assert {draw.target_class for draw in draws} == {1}


def test_classes_are_named_by_id_or_name() -> None:
    rows = [[0], [0], [0], [1], [2]]
    context = make_context(
        5, make_shape(num_sources=5, rows=rows), rows=rows, class_to_idx={"sky": 0, "cat": 1, "dog": 2}
    )
    assert Balance(3).count_needed(context) == {1: 2, 2: 2}
    assert Balance(3, classes=("cat",)).count_needed(context) == {1: 2}
    assert Balance(3, classes=["cat", 2, "dog"]).count_needed(context) == {1: 2, 2: 2}  # type: ignore[arg-type]
    assert Balance(1.0, classes=(1, np.int64(2))).count_needed(context) == {1: 2, 2: 2}
    assert Balance(0.67).count_needed(context) == {1: 1, 2: 1}
    assert Balance(1).count_needed(context) == {}


def test_a_numpy_integer_is_a_count_and_a_float_a_share() -> None:
    rows = [[0]] * 8 + [[1]]
    context = make_context(9, make_shape(num_sources=9, rows=rows), rows=rows)
    assert Balance(np.int64(4)).count_needed(context) == Balance(4).count_needed(context) == {1: 3}  # type: ignore[arg-type]
    assert Balance(np.float32(0.5)).count_needed(context) == {1: 3}  # type: ignore[arg-type]
    assert Balance(2.0).count_needed(context) == {0: 8, 1: 15}


def test_instances_and_images_are_counted_apart() -> None:
    rows = [[0, 0, 0, 0], [0], [1, 1, 1]]
    context = make_context(3, make_shape(num_sources=3, rows=rows), rows=rows)
    assert Balance(1.0, count="images").count_needed(context) == {1: 1}
    assert Balance(1.0, count="instances").count_needed(context) == {1: 2}


def test_a_balance_that_needs_nothing_is_the_identity() -> None:
    rows = [[0], [1]]
    layout = Balance(1.0).bind(make_context(2, make_shape(num_sources=2, rows=rows), rows=rows))
    assert read_epoch(layout, 4) == [None, None]
    assert (layout.length, layout.count_generated(0), list(layout.shortfalls)) == (2, 0, [])


# ---- Schedule


@given(
    parts=st.lists(
        st.sampled_from([Only(), Add(0), Replace(0.5), Replace.share(0.13), Replace(4)]), min_size=1, max_size=4
    ),
    gaps=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    context=draw_contexts(only_own=True),
)
def test_a_schedule_gives_in_every_epoch_what_its_plan_gives(
    parts: list[Plan], gaps: list[int], context: PlanContext
) -> None:
    starts = [0, *np.cumsum(gaps).tolist()][: len(parts)]
    layout = Schedule(dict(zip(starts, parts, strict=True))).bind(context)
    for epoch in range(sum(gaps) + 2):
        plan = parts[max(at for at, start in enumerate(starts) if start <= epoch)]
        alone = plan.bind(context)
        mine = read_epoch(layout, epoch)
        assert [draw and draw[:2] for draw in mine] == [draw and draw[:2] for draw in read_epoch(alone, epoch)]
        assert layout.count_generated(epoch) == alone.count_generated(epoch)
        assert layout.count_by_set(epoch) == alone.count_by_set(epoch)
        check_enumeration(layout, epoch)
    check_next(layout, context, gaps[0], 16)
    assert [layout.find_real_source(0, index) for index in range(layout.length)] == [*range(layout.length)]
    assert layout.length == context.num_real


@given(
    sizes_of=st.lists(st.sampled_from([(3, 1), (0, 4), (4, 0), (2, 2)]), min_size=2, max_size=4),
    num_variants=variants,
    num_real=st.integers(1, 6),
)
def test_through_a_schedule_versions_are_numbered_on(
    sizes_of: list[tuple[int, int]], num_variants: int | None, num_real: int
) -> None:
    context = make_context(num_real, make_shape("paste", num_real), make_shape("edit", num_real, num_variants))
    plan = Schedule({2 * at: Add({"paste": paste, "edit": edit}) for at, (paste, edit) in enumerate(sizes_of)})
    layout = plan.bind(context)
    epochs = [read_generated(layout, epoch) for epoch in range(2 * len(sizes_of) + 2)]
    assert all(find_repeated(draws) == [] for draws in epochs)
    fresh = [draw for draws in epochs for draw in draws if draw.set_index == 0 or num_variants is None]
    assert find_repeated(fresh) == []


def test_a_schedule_changes_on_the_epoch_it_names() -> None:
    layout = Schedule({20: Add(0), 0: Only()}).bind(make_context(10))
    assert [layout.count_generated(epoch) for epoch in (0, 19, 20, 21, 10**6)] == [10, 10, 0, 0, 0]


def test_a_schedule_may_mix_plans_of_one_length() -> None:
    rows = [[0], [0], [0], [1]]
    context = make_context(4, make_shape(num_sources=4, rows=rows), rows=rows)
    layout = Schedule({0: Balance(3), 1: Add(0.5)}).bind(context)
    assert [draw.target_class for draw in read_generated(layout, 0)] == [1, 1]
    assert [draw.target_class for draw in read_generated(layout, 1)] == [None, None]


def test_a_shortfall_of_a_schedule_is_said_once() -> None:
    context = make_context(4, make_shape(num_sources=4, num_variants=1))
    layout = Schedule({0: Add(2.0), 3: Add({"generated": 2.0})}).bind(context)
    assert list(layout.shortfalls) == [Shortfall("generated", 8, 4, None)]


# ---- what is refused


def read_message(error: type[Exception], function: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args, **more)
    assert type(caught.value) is error
    return str(caught.value)


@pytest.mark.parametrize("kind", [Add, Replace])
@pytest.mark.parametrize(
    ("ratio", "error", "requirement"),
    [
        (-0.1, ValueError, "be at least 0"),
        (-1, ValueError, "be at least 0"),
        (math.nan, ValueError, "be finite"),
        (math.inf, ValueError, "be finite"),
        (-math.inf, ValueError, "be finite"),
        (True, TypeError, "be a number"),
        (np.True_, TypeError, "be a number"),
        ("0.5", TypeError, "be a number"),
        (None, TypeError, "be a number"),
        ([0.5], TypeError, "be a number"),
    ],
)
def test_a_ratio_that_is_none_is_refused(
    kind: type[Add] | type[Replace], ratio: Any, error: type[Exception], requirement: str
) -> None:
    assert read_message(error, kind, ratio) == f"ratio must {requirement}, got ratio={ratio!r}. {PER_REAL}"
    assert read_message(error, kind, {"a": 1, "b": ratio}) == (
        f"ratio['b'] must {requirement}, got ratio['b']={ratio!r}. {PER_REAL}"
    )


@pytest.mark.parametrize(
    ("share", "error", "message"),
    [
        (1.5, ValueError, "share must be at most 1, got share=1.5."),
        (-0.5, ValueError, "share must be at least 0, got share=-0.5."),
        (math.nan, ValueError, "share must be finite, got share=nan."),
        (True, TypeError, "share must be a number, got share=True."),
        ("half", TypeError, "share must be a number, got share='half'."),
    ],
)
def test_a_share_that_is_none_is_refused(share: Any, error: type[Exception], message: str) -> None:
    assert read_message(error, Replace.share, share) == message


@pytest.mark.parametrize("kind", [Add, Replace])
def test_names_of_sets_must_be_known_and_complete(kind: type[Add] | type[Replace]) -> None:
    context = make_context(10, make_shape("paste"), make_shape("edit"))
    assert read_message(ValueError, kind({"paste": 1, "edit": 1, "past": 1}).bind, context) == (
        "ratio must name the generated sets, got ratio='past'. Did you mean 'paste'? Allowed: edit, paste."
    )
    assert read_message(ValueError, kind({"paste": 1}).bind, context) == (
        "ratio must give a ratio for every generated set, and 'edit' has none, got ratio={'paste': 1.0}. "
        "Write 0 for a set that rests."
    )
    assert read_message(ValueError, kind({}).bind, context) == (
        "ratio must give a ratio for every generated set, and 'paste' has none, got ratio={}. "
        "Write 0 for a set that rests."
    )


@pytest.mark.parametrize("plan", [Replace(1.0), Replace.share(0.5), Only(), Replace({"paste": 0.0, "rendered": 1.0})])
def test_replace_refuses_foreign_sets_and_names_add(plan: Plan) -> None:
    context = make_context(10, make_shape("paste"), make_shape("rendered", own=False))
    assert read_message(ValueError, plan.bind, context) == (
        "plan must be Add or Balance for the set 'rendered', which does not come from the real items, got "
        f"plan={plan!r}. {type(plan).__name__} puts a version of an item in its place, which a foreign set does not "
        "have: use Add."
    )


def test_replace_takes_a_foreign_set_that_rests() -> None:
    context = make_context(10, make_shape("paste"), make_shape("rendered", own=False))
    assert Replace({"paste": 1.0, "rendered": 0}).bind(context).count_by_set(0) == [5, 0]


def test_plans_that_were_written_down_read_as_they_were_meant() -> None:
    assert repr(Add(1)) == repr(Add(np.float32(1))) == "Add(ratio=1.0)"  # type: ignore[arg-type]
    assert repr(Add({"a": 1})) == "Add(ratio={'a': 1.0})"
    assert repr(Replace.share(0.5)) == "Replace(ratio=1.0)"
    assert repr(Only()) == "Only()"
    assert Add(1) == Add(1.0)
    assert Add(0.5) != Replace(0.5)


def test_a_plan_does_not_change_with_the_dict_it_was_made_from() -> None:
    ratio = {"generated": 0.5}
    plans: dict[int, Plan] = {0: Add(ratio)}
    schedule = Schedule(plans)
    ratio["generated"] = 4.0
    plans[0] = Add(3.0)
    assert schedule.bind(make_context(10)).count_generated(0) == 5


@pytest.mark.parametrize("plan", [Add(0.5), Balance(9)])
def test_an_empty_set_is_refused(plan: Plan) -> None:
    rows = [[0], [1]]
    context = make_context(2, make_shape("rendered", 0, own=False, rows=[]), rows=rows)
    assert read_message(ValueError, plan.bind, context) == (
        "generated must have sources, and the set 'rendered' is empty, got generated=0. Give it a dataset with items."
    )


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"to": 0}, ValueError, "to must be at least 1, got to=0."),
        ({"to": -3}, ValueError, "to must be at least 1, got to=-3."),
        (
            {"to": 0.0},
            ValueError,
            "to must be above 0, got to=0.0. An int is a count, a float a share of the largest class.",
        ),
        ({"to": -0.5}, ValueError, "to must be at least 0, got to=-0.5."),
        ({"to": math.nan}, ValueError, "to must be finite, got to=nan."),
        ({"to": math.inf}, ValueError, "to must be finite, got to=inf."),
        ({"to": True}, TypeError, "to must be a number, got to=True."),
        ({"to": "all"}, TypeError, "to must be a number, got to='all'."),
        (
            {"count": "image"},
            ValueError,
            "count must be one of 'images', 'instances', got count='image'. Did you mean 'images'?",
        ),
        ({"cap": 0}, ValueError, "cap must be at least 1, got cap=0."),
        ({"cap": 1.5}, TypeError, "cap must be an integer, got cap=1.5."),
        ({"cap": True}, TypeError, "cap must be an integer, got cap=True."),
        ({"classes": "cat"}, TypeError, "classes must be a tuple or list, got classes='cat'."),
        ({"classes": {1: 2}}, TypeError, "classes must be a tuple or list, got classes={1: 2}."),
        ({"classes": (1, 2.5)}, TypeError, "classes[1] must be an integer, got classes[1]=2.5."),
        ({"classes": (True,)}, TypeError, "classes[0] must be an integer, got classes[0]=True."),
        ({"classes": (-1,)}, ValueError, "classes[0] must be at least 0, got classes[0]=-1."),
    ],
)
def test_a_balance_that_is_none_is_refused(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    assert read_message(error, Balance, **{"to": 1.0, **fields}) == message


def test_a_balance_without_class_counts_is_refused() -> None:
    assert read_message(ValueError, Balance(1.0).bind, make_context(10)) == (
        "plan must have class counts of the real dataset, got plan=Balance(to=1.0, count='images', classes=None, "
        "cap=None). Its annotations cannot be read without decoding images; give the dataset `targets`, or use Add."
    )


def test_a_class_that_nothing_holds_is_refused() -> None:
    rows = [[0], [0], [1]]
    context = make_context(3, make_shape("rendered", 1, own=False, rows=[[0]]), rows=rows)
    assert read_message(ValueError, Balance(2).bind, context) == (
        "plan must raise classes that the sources of set 'rendered' hold; none holds class 1, got plan=Balance(to=2, "
        "count='images', classes=None, cap=None). Leave it out with classes=, or use a generator that can be aimed "
        "(CopyPaste)."
    )


def test_a_class_name_that_nobody_knows_is_refused() -> None:
    rows = [[0], [1]]
    named = make_context(2, make_shape(num_sources=2, rows=rows), rows=rows, class_to_idx={"cat": 0, "dog": 1})
    assert read_message(ValueError, Balance(2, classes=("cats",)).bind, named) == (
        "classes must be known to the dataset, got classes='cats'. Did you mean 'cat'? Allowed: cat, dog."
    )
    assert read_message(ValueError, Balance(2, classes=(9,)).bind, named) == (
        "classes must be known to the dataset, got classes=9. Its classes are 0 (cat), 1 (dog)."
    )
    bare = make_context(2, make_shape(num_sources=2, rows=rows), rows=rows)
    assert read_message(ValueError, Balance(2, classes=("cat",)).bind, bare) == (
        "classes must be known to the dataset, got classes='cat'. Give ids: it has no class names."
    )


@pytest.mark.parametrize(
    ("plans", "error", "message"),
    [
        (
            [Only()],
            TypeError,
            "plans must be a Mapping, got plans=[Only()]. Write Schedule({0: Only(), 20: Add(0)}).",
        ),
        (
            {},
            ValueError,
            "plans must have a plan for epoch 0, got plans=[]. Epochs before the first key would have none.",
        ),
        (
            {3: Only(), 20: Add(0)},
            ValueError,
            "plans must have a plan for epoch 0, got plans=[3, 20]. Epochs before the first key would have none.",
        ),
        (
            {-1: Only(), 0: Only()},
            ValueError,
            "an epoch of plans must be at least 0, got an epoch of plans=-1.",
        ),
        (
            {"0": Only()},
            TypeError,
            "an epoch of plans must be an integer, got an epoch of plans='0'.",
        ),
        (
            {0: Schedule({0: Only()})},
            TypeError,
            "plans[0] must be Add, Replace, Only or Balance, got plans[0]=Schedule(plans={0: Only()}).",
        ),
        ({0: 0.5}, TypeError, "plans[0] must be Add, Replace, Only or Balance, got plans[0]=0.5."),
        (
            {0: Only},
            TypeError,
            "plans[0] must be Add, Replace, Only or Balance, got plans[0]=<class 'synthloader.plans.Only'>.",
        ),
    ],
)
def test_a_schedule_that_is_none_is_refused(plans: Any, error: type[Exception], message: str) -> None:
    assert read_message(error, Schedule, plans) == message


def test_a_schedule_of_unequal_lengths_is_refused_with_both() -> None:
    plan = Schedule({0: Only(), 5: Add(0), 20: Add(0.5)})
    assert read_message(ValueError, plan.bind, make_context(10)) == (
        "plans must have one length, got 10 from epoch 0 (Only()) and 15 from epoch 20 (Add(ratio=0.5)). Replace and "
        "Only keep the length of the real dataset; Add(r) gives (1 + r) times as many."
    )


# ---- very large datasets


@pytest.mark.parametrize(
    "plan",
    [Add(0.5), Add(4.0), Add({"paste": 0.5, "edit": 0.13}), Replace(1.0), Only(), Schedule({0: Only(), 20: Add(0)})],
    ids=repr,
)
@pytest.mark.parametrize("num_variants", [None, 4])
def test_an_epoch_over_hundreds_of_millions_starts_at_once(plan: Plan, num_variants: int | None) -> None:
    size = 3 * 10**8
    context = make_context(size, make_shape("paste", size, num_variants), make_shape("edit", size, num_variants))
    plan.bind(context).draw(0, 0)
    tracemalloc.start()
    start = time.perf_counter()
    layout = plan.bind(context)
    places: Sequence[int] = range(0, layout.length, layout.length // 500)
    draws = [layout.draw(epoch, index) for epoch in (0, 7) for index in places]
    count = layout.count_generated(7)
    found = [layout.draw(7, layout.find_generated(7, position)) for position in range(0, count, count // 100)]
    for index in places[-3:]:
        if layout.draw(7, index) is not None:
            list(layout.draw_next(7, index, limit=16))
    passed_s = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert None not in found
    assert any(draws)
    assert peak < 1_000_000
    assert passed_s / len(draws) < 1e-3  # with the memory watched; without, it takes some ten microseconds


def test_a_draw_takes_microseconds() -> None:
    size = 10**8
    layout = Add(0.5).bind(make_context(size, make_shape(num_sources=size, num_variants=4)))

    def time_one() -> float:
        start = time.perf_counter()
        for index in range(size + 10, size + 1010):
            layout.draw(3, index)
        return (time.perf_counter() - start) / 1000

    assert min(time_one() for _ in range(5)) < 100e-6


@pytest.mark.parametrize("plan", [Add({"a": 0.5}), Replace.share(1.0), Only(), Balance(3, classes=("a", 1)),
                                  Schedule({0: Only()})])  # fmt: skip
def test_plans_travel_in_pickles(plan: Plan) -> None:
    assert repr(pickle.loads(pickle.dumps(plan))) == repr(plan)
    assert pickle.loads(pickle.dumps(plan)) == plan


@pytest.mark.parametrize("plan", [Add(1.3), Only(), Balance(9, cap=2), Schedule({0: Only(), 2: Replace(1)})], ids=repr)
def test_a_bound_plan_gives_the_same_in_a_copy(plan: Plan) -> None:
    rows = [[at % 3] for at in range(12)]
    table, groups = ClassTable(rows), np.arange(12) % 2
    shape = SetShape("generated", 12, 4, find_groups=_Constant(groups), find_classes=_Constant(table))
    layout = plan.bind(PlanContext(12, (shape,), find_classes=_Constant(table)))
    copy = pickle.loads(pickle.dumps(layout))
    assert [read_epoch(copy, epoch) for epoch in range(3)] == [read_epoch(layout, epoch) for epoch in range(3)]


class _Constant:
    """A function that pickles."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> Any:
        return self.value
