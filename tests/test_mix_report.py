"""The report says what was asked in the user's words, what it comes to, and what its numbers hide."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from synthloader.mix_report import MixReport, build_report, describe_plan
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Balance, Only, Plan, Replace, Schedule
from tests.scenes import ScenesDataset


def make_report(counts: dict[str, int], **changes: Any) -> MixReport:
    options: dict[str, Any] = {
        "epoch": 0,
        "planned_real": 9,
        "planned_generated": 4,
        "set_names": ["generated"],
        "repeated_epochs": (),
        "ranks": 1,
        "notes": (),
    }
    return build_report(Counter(counts), **{**options, **changes})


SERVED = {"real": 9, "generated": 4, "set/generated/asked": 4, "set/generated/generated": 4}
COUNTED = {**SERVED, "class/real/1": 12, "class/generated/1": 3, "class/generated/2": 5}


class TestWhatWasAsked:
    @pytest.mark.parametrize(
        ("plan", "said"),
        [
            (Add(0.5), "0.5 generated per real"),
            (Add({"paste": 0.3, "edit": 0.2}), "0.3 paste and 0.2 edit per real"),
            (Replace(1.0), "1 generated per real, in its place"),
            (Replace.share(0.5), "a share of 0.5 generated"),
            (Replace.share(1.0), "a share of 1 generated"),
            (Only(), "generated items only"),
            (Balance(0.8), "classes raised to 0.8 times the largest"),
            (Balance(40, count="instances"), "classes raised to 40 instances"),
        ],
    )
    def test_it_is_said_as_it_was_written(self, plan: Plan, said: str) -> None:
        assert describe_plan(plan) == said

    def test_a_schedule_says_what_holds_in_the_epoch(self) -> None:
        plan = Schedule({0: Only(), 20: Replace(0.0)})
        said = [describe_plan(plan, epoch=epoch) for epoch in (0, 19, 20, 50)]
        assert said == ["generated items only"] * 2 + ["0 generated per real, in its place"] * 2

    def test_what_it_comes_to_follows(self) -> None:
        assert str(make_report(SERVED, plan=Add(0.5))).splitlines()[0] == (
            "epoch 0: asked 0.5 generated per real, 4 for 9 real items; realised 0.4444 (4 generated and 9 real items "
            "served)"
        )

    def test_generated_items_alone_have_no_ratio(self) -> None:
        counts = {"generated": 4, "set/generated/asked": 4, "set/generated/generated": 4}
        line = str(make_report(counts, plan=Only(), planned_real=0)).splitlines()[0]
        assert line == (
            "epoch 0: asked generated items only, 4 for 0 real items; realised generated only (4 generated and 0 real "
            "items served)"
        )

    def test_later_epochs_are_counted_with_those_before(self) -> None:
        first = str(make_report(SERVED, epoch=2)).splitlines()[0]
        assert first.startswith("up to epoch 2: ratio asked 0.4444, realised 0.4444 (4 generated and 9 real")


class TestClasses:
    def test_names_stand_for_ids_where_there_are_any(self) -> None:
        lines = str(make_report(COUNTED, class_to_idx={"apple": 1}, planned_real=10)).splitlines()
        assert lines[2:] == ["  labels by class, real: apple: 12", "  labels by class, generated: apple: 3, 2: 5"]

    def test_classes_that_no_real_item_has_are_noted(self) -> None:
        report = make_report(COUNTED, class_to_idx={"apple": 1})
        assert report.notes == (
            "generated items have class 2, which no real item served has (these have apple): if both sides mean the "
            "same classes, give them one table of classes",
        )
        assert str(report).splitlines()[-1] == f"  {report.notes[0]}"

    def test_nothing_is_noted_before_all_real_items_were_seen(self) -> None:
        assert make_report({**COUNTED, "real": 8}).notes == ()

    def test_items_numbered_from_one_beside_items_numbered_from_zero(self) -> None:
        real = ScenesDataset(8)
        from_zero = [(image, shift(target)) for image, target in real]
        mix = MixedDataset(real, from_zero, ratio=1.0)
        for index in range(len(mix)):
            mix[index]
        (note,) = mix.report().notes
        assert note.startswith("generated items have class 0, which no real item served has (these have ")

    def test_a_side_without_classes_is_explained(self) -> None:
        report = make_report({**SERVED, "class/generated/1": 3})
        assert report.notes == (
            "labels by class, real: none counted; either these items have none, or a transform hides them",
        )
        assert make_report(SERVED).notes == ()


class TestFetchedMoreThanOnce:
    def test_a_few_more_than_an_epoch_has_are_noted(self) -> None:
        report = make_report({**SERVED, "generated": 7})
        assert report.notes == (
            "3 more than one epoch has: some items were fetched again, to look at them or to fill a last batch",
        )

    def test_later_epochs_have_as_many_each(self) -> None:
        twice = {**SERVED, "real": 18, "generated": 9}
        assert make_report(twice, epoch=2).notes == ()
        assert make_report(twice, epoch=1).notes[0].startswith("1 more than the 2 epochs so far have: ")

    def test_nothing_is_said_twice(self) -> None:
        assert make_report({**SERVED, "generated": 17}, repeated_epochs=(0,)).notes == ()


def shift(target: dict[str, Any]) -> dict[str, Any]:
    return {**target, "labels": target["labels"] - 1}
