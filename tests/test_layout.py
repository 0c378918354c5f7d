"""What plans are laid out with: cells that share their positions out fairly, quickly also for very many groups."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloader.class_table import ClassTable, share_out, share_uses
from synthloader.layout import AppendLayout, Cell, Draw, PlanContext, ReplaceLayout, SetShape, Shortfall, make_cells
from synthloader.plans import Add, Balance, Only, Replace

rooms = st.lists(st.integers(0, 9), min_size=1, max_size=12)


def make_shape(num_sources: int, groups: Any = None, **more: Any) -> SetShape:
    return SetShape("generated", num_sources, more.pop("num_variants", None), find_groups=lambda: groups, **more)


# ---- sharing out


@given(room=rooms, data=st.data())
def test_a_total_is_shared_out_exactly_and_in_proportion(room: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(room)))
    shares = share_out(np.array(room), total)
    assert shares.sum() == total
    assert shares.dtype == np.int64
    for share, most in zip(shares.tolist(), room, strict=True):
        assert 0 <= share <= most
        if total:
            assert abs(share - most * total / sum(room)) < 1


@given(scale=st.integers(2**28, 2**40), room=rooms)
def test_large_totals_are_shared_out_exactly_too(scale: int, room: list[int]) -> None:
    many = np.array(room, np.int64) * scale
    shares = share_out(many, int(many.sum()) // 3)
    assert int(shares.sum()) == int(many.sum()) // 3
    assert (shares <= many).all()
    assert (shares >= 0).all()


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    count=st.integers(1, 40),
    limits=st.none() | st.lists(st.integers(0, 4), min_size=30, max_size=30),
)
def test_cells_hold_every_source_once_and_all_positions(sizes: list[int], count: int, limits: list[int] | None) -> None:
    groups = np.repeat(np.arange(len(sizes)) * 7 - 3, sizes)
    left = None if limits is None else np.array(limits[: len(groups)])
    cells = make_cells(make_shape(len(groups), groups), count, set_index=0, seed=1, laps_left=left)
    assert sum(cell.count for cell in cells) == count
    seen = [source for cell in cells for source in cell.sources.tolist()]  # type: ignore[union-attr]
    assert len(set(seen)) == len(seen)
    for cell in cells:
        assert len(set(groups[cell.sources])) == 1
        assert cell.num_sources == len(cell.sources) == np.count_nonzero(groups == groups[cell.sources[0]])  # type: ignore[arg-type,index]
    if left is not None:
        available = sum(min(cell.count, int(left[cell.sources].sum())) for cell in cells)
        assert sum(cell.room for cell in cells) == available == min(count, int(left.sum()))


@given(
    needs=st.dictionaries(st.integers(0, 5), st.integers(1, 9), min_size=1),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
)
def test_several_classes_are_spread_over_the_groups(needs: dict[int, int], sizes: list[int]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    count = sum(needs.values())
    cells = make_cells(make_shape(len(groups), groups), count, set_index=0, seed=1, classes=needs)
    layout = AppendLayout(3, cells, names=["generated"])
    draws = [layout.draw(5, index) for index in range(3, 3 + count)]
    assert Counter(draw.target_class for draw in draws if draw) == needs
    uses = Counter(draw.source for draw in draws if draw)
    counts = [uses[source] for source in range(len(groups))]
    assert max(counts) - min(counts) <= 1


def test_a_source_is_not_used_oftener_than_it_may_be() -> None:
    left = np.array([0, 3, 1])
    (cell,) = make_cells(make_shape(3), 6, set_index=0, seed=1, laps_left=left)
    for epoch in range(20):
        draws = [cell.draw(epoch, position, num_laps=9) for position in range(6)]
        assert Counter(draw.source for draw in draws if draw.variant is not None) == {1: 3, 2: 1}
        assert sum(draw.variant is None for draw in draws) == 2


def test_versions_of_other_cells_are_left_alone() -> None:
    cell = Cell(0, 3, 6, key=1, first_lap=np.array([0, 2, 4]))
    assert cell.num_laps == 6
    draws = [cell.draw(2, position, num_laps=10) for position in range(6)]
    assert {(draw.source, draw.variant) for draw in draws} == {
        (0, 20), (0, 21), (1, 22), (1, 23), (2, 24), (2, 25),
    }  # fmt: skip


def test_a_layout_without_cells_is_all_real() -> None:
    layout = AppendLayout(4, [], names=["generated"])
    assert [layout.draw(0, index) for index in range(4)] == [None] * 4
    assert (layout.length, layout.num_laps, layout.count_by_set(0), layout.shortfalls) == (4, 1, [0], [])


def test_shortfalls_are_one_for_each_set_and_class() -> None:
    cells = [
        Cell(0, 2, 5, key=1, num_variants=1),
        Cell(0, 3, 7, key=2, num_variants=1),
        Cell(1, 2, 5, key=3, num_variants=1, classes={4: 1, 6: 4}),
        Cell(1, 9, 5, key=4, num_variants=1, classes={6: 5}),
    ]
    assert AppendLayout(1, cells, names=["paste", "edit"]).shortfalls == [
        Shortfall("paste", 12, 5, None),
        Shortfall("edit", 9, 6, 6),
    ]


def test_what_follows_a_position_stays_in_its_class() -> None:
    layout = AppendLayout(0, [Cell(0, 20, 12, key=1, classes={3: 5, 4: 1, 8: 6})], names=["generated"])
    for index, (first, end) in enumerate([(0, 5)] * 5 + [(5, 6)] + [(6, 12)] * 6):
        others = list(layout.draw_next(0, index, limit=16))
        mine = {layout.draw(0, at) for at in range(first, end)} - {layout.draw(0, index)}
        assert set(others) == mine
        assert len(others) == len(mine)


def test_what_follows_in_place_begins_with_the_next_of_the_permutation() -> None:
    layout = ReplaceLayout(50, [20], sets=[make_shape(50)], seed=3)
    order = [layout.find_generated(4, position) for position in range(20)]
    for place, index in enumerate(order):
        expected = [order[(place + step) % 20] for step in range(1, 17)]
        assert [draw.source for draw in layout.draw_next(4, index, limit=16)] == expected


def test_a_draw_is_plain_numbers() -> None:
    groups = np.zeros(5, np.int64)
    context = PlanContext(5, (make_shape(5, groups, num_variants=3),))
    for plan in (Add(1.0), Replace(1.0)):
        for index in range(5, 10) if isinstance(plan, Add) else range(5):
            draw = plan.bind(context).draw(0, index)
            assert draw is None or [type(part) for part in draw[:3]] == [int, int, int]
            assert draw is None or draw[3:] == (None, None)
    assert Draw(0, 1, 2, 3, (4, 0))._asdict() == {
        "set_index": 0, "source": 1, "variant": 2, "target_class": 3, "donors": (4, 0)
    }  # fmt: skip


# ---- large tables


def time_to_bind(plan: Any, context: PlanContext) -> tuple[Any, float]:
    start = time.perf_counter()
    layout = plan.bind(context)
    return layout, time.perf_counter() - start


@pytest.mark.parametrize("plan", [Add(0.5), Only()], ids=repr)
def test_as_many_groups_as_photographs_have_sizes_are_no_burden(plan: Any) -> None:
    size = 200_000
    groups = np.arange(size) // 4
    layout, passed_s = time_to_bind(plan, PlanContext(size, (make_shape(size, groups, num_variants=4),)))
    assert passed_s < 20
    assert layout.count_generated(0) == (100_000 if isinstance(plan, Add) else size)
    index = layout.find_generated(3, 777)
    assert len({int(groups[layout.draw(epoch, index).source]) for epoch in range(5) if layout.draw(epoch, index)}) == 1


def make_large_classes() -> ClassTable:
    """A hundred thousand images with some of eighty classes, the later ones ever rarer."""
    rng = np.random.Generator(np.random.Philox(5))
    weights = 0.9 ** np.arange(80)
    ids = rng.choice(80, size=300_000, p=weights / weights.sum())
    return ClassTable(np.split(ids, np.sort(rng.integers(0, len(ids), 99_999))))


@pytest.mark.slow
@pytest.mark.parametrize("aimable", [False, True])
@pytest.mark.parametrize("num_variants", [None, 4])
def test_a_large_dataset_is_balanced_in_seconds(aimable: bool, num_variants: int | None) -> None:
    table = make_large_classes()
    shape = make_shape(100_000, aimable=aimable, num_variants=num_variants, find_classes=lambda: table)
    context = PlanContext(100_000, (shape,), find_classes=lambda: table)
    tracemalloc.start()
    layout, passed_s = time_to_bind(Balance(0.1, count="instances"), context)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert passed_s < 60
    assert peak < 300e6
    assert not layout.shortfalls or not aimable
    needed = Balance(0.1, count="instances").count_needed(context)
    draws = [layout.draw(0, index) for index in range(100_000, layout.length)]
    assert Counter(draw.target_class for draw in draws) == needed


def test_uses_of_many_items_are_divided_in_time() -> None:
    rng = np.random.Generator(np.random.Philox(7))
    holders = {class_id: np.flatnonzero(rng.random(50_000) < 0.02) for class_id in range(60)}
    needed = {class_id: 300 + 8 * class_id for class_id in range(60)}
    start = time.perf_counter()
    shares = share_uses(holders, needed, num_items=50_000, limit=1)
    assert time.perf_counter() - start < 20
    assert all(int(shares[class_id].sum()) >= need for class_id, need in needed.items())
    totals = np.zeros(50_000, np.int64)
    for class_id, share in shares.items():
        totals[holders[class_id]] += share
    assert totals.max() == 1
