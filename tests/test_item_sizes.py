"""Sizes of generated items, told without generating: those that are served, in every epoch, or none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Subset

from synthloader.adapters import CocoDataset
from synthloader.class_table import ClassTable
from synthloader.generated import GeneratedDataset
from synthloader.generators import Chain, ColorTransfer, OneOf, Sometimes
from synthloader.generators.composing.output_size import find_output_size
from synthloader.generators.tile import Tile
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Balance, Only, Plan, Replace, Schedule
from synthloader.protocols import Resizing
from tests.scenes import RejectBy, Shade, write_coco


def open_coco(folder: Path, count: int = 9) -> CocoDataset:
    return CocoDataset(*write_coco(folder, count, num_objects=3))


def make_tile(**options: Any) -> Tile:
    """A tile that can be cut out of every scene."""
    return Tile(
        **{"size_hw": (40, 60), "drop": "instances", "keep_empty": True, "min_side": 0, "min_area": 0, **options}
    )


def mix_tiles(real: Any, plan: Plan, generator: Any = None, **options: Any) -> MixedDataset:
    return MixedDataset(real, GeneratedDataset(real, generator or make_tile()), plan=plan, **options)


def list_told(train: MixedDataset) -> list[tuple[int, int]]:
    return [train.get_height_and_width(index) for index in range(len(train))]


def list_served(train: MixedDataset) -> list[tuple[int, ...]]:
    return [tuple(train[index][0].shape[-2:]) for index in range(len(train))]


class TestOutputSizes:
    def test_most_generators_keep_the_size(self) -> None:
        assert not isinstance(ColorTransfer(), Resizing)
        assert find_output_size(ColorTransfer(), (30, 40)) == (30, 40)

    def test_a_tile_is_as_large_as_its_source_allows(self) -> None:
        tile = Tile(size_hw=(50, 70))
        assert [find_output_size(tile, size) for size in ((90, 90), (20, 90), (90, 60), (9, 9))] == [
            (50, 70), (20, 70), (50, 60), (9, 9)]  # fmt: skip

    def test_a_chain_hands_the_size_on(self) -> None:
        chain = Chain([Tile(size_hw=(50, 70)), ColorTransfer(), Tile(size_hw=(60, 20))])
        assert find_output_size(chain, (90, 90)) == (50, 20)

    def test_a_choice_tells_it_where_all_agree(self) -> None:
        same = OneOf([(1, Tile(size_hw=50)), (1, Tile(size_hw=50, centred=True))])
        other = OneOf([(1, Tile(size_hw=50)), (1, ColorTransfer())])
        assert find_output_size(same, (90, 90)) == (50, 50)
        assert find_output_size(other, (90, 90)) is None
        assert find_output_size(other, (50, 50)) == (50, 50)
        assert find_output_size(Chain([ColorTransfer(), other]), (90, 90)) is None
        assert find_output_size(Chain([other, Tile(size_hw=20)]), (90, 90)) is None

    def test_a_tile_now_and_then_has_no_size(self) -> None:
        assert find_output_size(Sometimes(Tile(size_hw=50)), (90, 90)) is None
        assert find_output_size(Sometimes(ColorTransfer()), (90, 90)) == (90, 90)


class TestMixes:
    @pytest.mark.parametrize("plan", [Add(1.5), Only(), Balance(12)])
    def test_the_size_told_is_the_size_served_in_every_epoch(self, plan: Plan, tmp_path: Path) -> None:
        real = open_coco(tmp_path)
        for dataset in (real, Subset(real, [0, 1, 3, 4, 5, 8])):
            train = mix_tiles(dataset, plan)
            first = list_told(train)
            assert (40, 60) in first
            assert pickle.loads(pickle.dumps(train)).get_height_and_width(len(train) - 1) == first[-1]
            for epoch in range(3):
                train.set_epoch(epoch)
                assert list_told(train) == first
                assert list_served(train) == first

    def test_sources_of_other_sizes_stand_in_for_each_other_where_their_tiles_are_alike(self, tmp_path: Path) -> None:
        real = open_coco(tmp_path)
        train = mix_tiles(real, Add(1.0), make_tile(size_hw=30))
        assert len({tuple(size) for size in train.source.sizes_hw}) > 1  # type: ignore[union-attr]
        assert len(np.unique(train.sets[0].shape().find_groups())) == 1  # type: ignore[arg-type]
        sources = set()
        for epoch in range(12):
            train.set_epoch(epoch)
            sources.add(train.draw(9).source)  # type: ignore[union-attr]
        assert len(sources) > 4

    def test_generators_that_keep_the_size_group_their_sources_as_before(self, tmp_path: Path) -> None:
        real = open_coco(tmp_path)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=1.0)
        assert train.sets[0].shape().find_groups() is train.sets[0].source.groups
        whole = mix_tiles(real, Add(1.0), Tile(size_hw=4000, centred=True))
        assert whole.sets[0].shape().find_groups() is whole.sets[0].source.groups

    @pytest.mark.parametrize("plan", [Replace(1.0), Schedule({0: Only(), 2: Add(0)})])
    def test_sizes_that_change_from_epoch_to_epoch_are_not_told(self, plan: Plan, tmp_path: Path) -> None:
        train = mix_tiles(open_coco(tmp_path), plan)
        assert not hasattr(train, "get_height_and_width")
        with pytest.raises(AttributeError) as caught:
            _ = train.get_height_and_width
        assert str(caught.value) == (
            f"sizes of the items change from epoch to epoch: set 'generated' has other sizes than its sources, and "
            f"{type(plan).__name__} serves real and generated items at the same indices. Use Add, Balance or Only."
        )
        same = mix_tiles(open_coco(tmp_path), plan, Shade())
        assert list_told(same) == list_served(same)

    def test_sizes_that_are_drawn_are_not_told(self, tmp_path: Path) -> None:
        train = mix_tiles(open_coco(tmp_path), Add(1.0), OneOf([(1, make_tile()), (1, make_tile(size_hw=20))]))
        with pytest.raises(AttributeError) as caught:
            _ = train.get_height_and_width
        assert str(caught.value) == (
            "sizes of the items of set 'generated' depend on what is drawn. They are known where every part of its "
            "generator gives the same size: leave out Sometimes, or give all choices of OneOf one size_hw."
        )
        assert train.sets[0].shape().find_groups() is None

    def test_a_real_item_that_stands_in_has_its_own_size(self, tmp_path: Path) -> None:
        """The size is told before it is known whether anything can be made."""
        real = open_coco(tmp_path, 3)
        train = MixedDataset(real, GeneratedDataset(real, Tile(size_hw=30), filters=[RejectBy(share=1.1)]), ratio=1.0)
        told, served = list_told(train), list_served(train)
        assert told[3:] == [(30, 30)] * 3
        assert served[3:] == [train.source.size_hw(train.draw(at).source) for at in range(3, 6)]  # type: ignore[union-attr]


class TestBalance:
    def test_tiles_are_cut_from_sources_that_hold_the_class(self, tmp_path: Path) -> None:
        """A tile cannot add a class: where the plan gave it any source, nearly nothing of a rare class came out."""
        real = CocoDataset(*write_coco(tmp_path, 12, num_objects=2))
        table: ClassTable = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0).source.class_table
        rare = min(table.count("images"), key=lambda class_id: table.count("images")[class_id])
        holders = set(table.find_holders(rare).tolist())
        assert len(holders) < 12
        for generator in (make_tile(size_hw=30), Chain([make_tile(size_hw=30, centred=True), ColorTransfer()])):
            train = mix_tiles(real, Balance(24, classes=(rare,)), generator)
            assert len(train) > 12
            for index in range(12, len(train)):
                draw: Any = train.draw(index)
                assert draw.source in holders
                assert draw.target_class == rare
                item = train[index]
                assert rare in item[1]["labels"].tolist()
            assert train.report().sets["generated"].generated == len(train) - 12
