"""Adapters are found by the shape of items, plug-ins by their names, third parties' through entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
import torch

from synthloader import registry
from synthloader.registry import (
    describe_item,
    find_adapter,
    find_plugin,
    list_plugins,
    register_adapter,
    register_plugin,
    to_snake_case,
)


class PairAdapter:
    """Knows pairs."""

    @classmethod
    def recognize(cls, dataset: Any, items: Any) -> Any:
        return cls() if all(isinstance(item, tuple) and len(item) == 2 for item in items) else None


class AnythingAdapter:
    """Knows everything."""

    @classmethod
    def recognize(cls, dataset: Any, items: Any) -> Any:
        return cls()


class SharpenEdges:
    """A plug-in."""


class Format:
    """A plug-in that is an object and reads data itself."""

    __name__ = "Format"

    def load(self) -> str:
        raise AssertionError("the plug-in was taken for an entry point")


@pytest.fixture(autouse=True)
def _empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ADAPTERS", [])
    monkeypatch.setattr(registry, "_PLUGINS", {})
    monkeypatch.setattr(registry, "entry_points", lambda *, group: EntryPoints([]))


def announce(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    def find(*, group: str) -> EntryPoints:
        return EntryPoints(EntryPoint(name, value, group) for name, value in values.items()).select(group=group)

    monkeypatch.setattr(registry, "entry_points", find)


def test_the_first_adapter_that_knows_the_items_is_taken() -> None:
    assert register_adapter(PairAdapter) is PairAdapter
    register_adapter(AnythingAdapter)
    register_adapter(PairAdapter)
    assert type(find_adapter([], [(1, 2)])) is PairAdapter
    assert type(find_adapter([], [1])) is AnythingAdapter


def test_an_unknown_format_is_refused_with_what_to_do() -> None:
    register_adapter(PairAdapter)
    with pytest.raises(TypeError) as caught:
        find_adapter([], [{"image": 1, "x": 2}])
    assert str(caught.value) == (
        "items of list must have a format that an adapter knows, got dict with 'image', 'x'. Pass adapter=, an object "
        "with to_sample and from_sample, or return items that one of these knows: PairAdapter."
    )


def test_adapters_of_third_parties_come_after_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, anything=f"{__name__}:AnythingAdapter")
    monkeypatch.setattr(EntryPoint, "load", lambda self: AnythingAdapter)
    register_adapter(PairAdapter)
    assert type(find_adapter([], [(1, 2)])) is PairAdapter
    assert type(find_adapter([], [1])) is AnythingAdapter


def test_a_plug_in_is_found_by_the_snake_case_of_its_name() -> None:
    assert register_plugin("generators", SharpenEdges) is SharpenEdges
    assert find_plugin("generators", "sharpen_edges") is SharpenEdges
    assert list_plugins("filters") == {}


def test_a_plug_in_may_have_another_name() -> None:
    register_plugin("filters", SharpenEdges, name="sharp")
    assert list_plugins("filters") == {"sharp": SharpenEdges}


def test_an_unknown_name_is_refused_and_the_nearest_suggested() -> None:
    register_plugin("generators", SharpenEdges)
    register_plugin("generators", PairAdapter)
    with pytest.raises(ValueError) as caught:
        find_plugin("generators", "sharpen_edge")
    assert str(caught.value) == (
        "generator must be known, got generator='sharpen_edge'. Did you mean 'sharpen_edges'? Allowed: pair_adapter, "
        "sharpen_edges."
    )


def test_a_plug_in_that_can_load_something_is_not_taken_for_an_entry_point() -> None:
    plugin = Format()
    register_plugin("formats", plugin, name="mine")
    assert find_plugin("formats", "mine") is plugin


def test_plug_ins_of_third_parties_are_loaded_when_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, counter="collections:Counter", absent="no_such_module:Thing")
    assert sorted(list_plugins("generators")) == ["absent", "counter"]
    from collections import Counter

    assert find_plugin("generators", "counter") is Counter


def test_a_third_party_cannot_take_a_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, sharpen_edges="collections:Counter")
    register_plugin("generators", SharpenEdges)
    assert find_plugin("generators", "sharpen_edges") is SharpenEdges


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("CopyPaste", "copy_paste"),
        ("LMDBCache", "lmdb_cache"),
        ("MinBox", "min_box"),
        ("Fog", "fog"),
        ("SDXLInpaint", "sdxl_inpaint"),
        ("Poisson2D", "poisson2_d"),
        ("already_snake", "already_snake"),
        ("ColorTransferLAB", "color_transfer_lab"),
    ],
)
def test_names_are_turned_into_snake_case(name: str, snake: str) -> None:
    assert to_snake_case(name) == snake


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (3, "int"),
        ((torch.zeros(1), {"boxes": 1, "labels": 2}), "(Tensor, dict with 'boxes', 'labels')"),
        ([1, "a"], "(int, str)"),
        ((1, 2, 3, 4, 5), "(int, int, int, int, ...)"),
        ({number: 0 for number in range(20)}, "dict with 0, 1, 2, 3, 4, 5, 6, 7"),
        ((), "()"),
        (None, "NoneType"),
    ],
)
def test_items_are_described_by_their_shape(item: Any, text: str) -> None:
    assert describe_item(item) == text
