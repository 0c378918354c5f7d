"""`MixedDataset`: real items untouched, the ratio exact, shortfalls counted, attributes that do not lie."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, RandomSampler, Subset
from torchvision.datasets import CocoDetection

from synthloader.adapters import CocoDataset
from synthloader.errors import LabelContractError, ShortfallError
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Balance, Only, Replace, Schedule
from tests.scenes import RejectBy, ScenesDataset, Shade, TwoClasses, describe, keep_items, write_coco

REPEATED = (
    "More items of epoch 0 were fetched than it has: the same generated items are served again. Add "
    "`train.set_epoch(epoch)` at the start of every epoch, or pass `sampler=EpochSampler(sampler, train)` "
    "to the DataLoader."
)


def make_mix(count: int = 8, *, filters: Any = (), variants: int | None = 3, **options: Any) -> MixedDataset:
    real = ScenesDataset(count)
    options.setdefault("plan", Add(0.5))
    return MixedDataset(real, GeneratedDataset(real, Shade(), filters=filters, variants=variants), **options)


class TestItems:
    def test_a_real_item_comes_back_as_the_wrapped_dataset_gives_it(self) -> None:
        class Remembering(ScenesDataset):
            given: Any = None

            def __getitem__(self, index: int) -> Any:
                self.given = super().__getitem__(index)
                return self.given

        real = Remembering(4)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=1.0)
        assert train[2] is real.given

    def test_a_generated_item_has_the_fields_and_types_of_a_real_one(self) -> None:
        train = make_mix()
        image, target = train[8]
        like_image, like = train[0]
        assert (image.dtype, image.ndim) == (like_image.dtype, like_image.ndim)
        assert {name: type(value) for name, value in target.items()} == {
            name: type(value) for name, value in like.items()
        }
        assert [value.dtype for value in target.values() if torch.is_tensor(value)] == [
            value.dtype for value in like.values() if torch.is_tensor(value)
        ]

    def test_unknown_fields_of_the_target_survive(self) -> None:
        train = make_mix()
        for index in range(8, 12):
            draw = train.draw(index)
            assert draw is not None
            _, target = train[index]
            _, source = train.real[draw.source]
            assert target["camera"] == "north"
            assert target["image_id"] == source["image_id"]
            assert torch.equal(target["confidence"], source["confidence"])

    @pytest.mark.parametrize("index", [np.int64(9), torch.tensor(9), -3, np.int32(-3)])
    def test_any_integer_is_an_index(self, index: Any) -> None:
        train = make_mix()
        assert describe(train[index]) == describe(train[9])

    @pytest.mark.parametrize("index", [12, -13, np.int64(12)])
    def test_beyond_the_end_is_an_index_error(self, index: Any) -> None:
        with pytest.raises(IndexError, match=rf"^index {int(index)} is out of range for 12 items$"):
            make_mix()[index]

    @pytest.mark.parametrize("index", [1.0, "3", True, torch.tensor([1, 2])])
    def test_what_is_no_integer_is_refused(self, index: Any) -> None:
        with pytest.raises(TypeError, match=r"^index must be an integer, got index="):
            make_mix()[index]

    def test_iterating_ends(self) -> None:
        train = make_mix()
        assert len(list(iter(train))) == len(train)  # type: ignore[call-overload]

    def test_a_mark_is_added_to_every_item_and_tells_the_truth(self) -> None:
        train = make_mix(mark="is_generated", weight=0.25, plan=Replace(1.0))
        targets = [train[index][1] for index in range(8)]
        marks = [bool(target["is_generated"]) for target in targets]
        weights = [float(target["weight"]) for target in targets]
        assert marks == [train.is_generated(index) for index in range(8)]
        assert weights == [0.25 if mark else 1.0 for mark in marks]
        assert "is_generated" not in train.real[0][1]

    def test_a_real_item_that_stands_in_is_marked_real(self) -> None:
        train = make_mix(mark="made", filters=[RejectBy(share=2.0)])
        assert not any(bool(train[index][1]["made"]) for index in range(len(train)))

    def test_a_mark_with_a_taken_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"^mark must be a name that items do not use, got mark='camera'\.$"):
            make_mix(mark="camera")[0]

    def test_transforms_are_applied_to_real_and_generated_alike(self) -> None:
        def halve(image: torch.Tensor, target: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
            return image / 510, {**target, "halved": True}

        train = make_mix(transforms=halve)
        for index in (0, 9):
            assert train[index][1]["halved"]
            assert train[index][0].max() <= 0.5

    def test_several_items_at_once_are_the_single_ones(self) -> None:
        train = make_mix()
        assert [describe(item) for item in train.__getitems__([0, 9, -1])] == [
            describe(train[index]) for index in (0, 9, -1)
        ]


class TestRatio:
    @pytest.mark.parametrize("ratio", [0, 0.13, 0.5, 1.0, 4.0])
    def test_add_holds_round_ratio_times_n_generated_items(self, ratio: float) -> None:
        train = make_mix(30, plan=Add(ratio), variants=None)
        for epoch in range(3):
            train.set_epoch(epoch)
            assert sum(train.is_generated(index) for index in range(len(train))) == round(ratio * 30)
            assert not any(train.is_generated(index) for index in range(30))
        assert len(train) == 30 + round(ratio * 30)

    @pytest.mark.parametrize("share", [0.0, 0.25, 1 / 3, 0.5, 1.0])
    def test_replace_holds_the_exact_share(self, share: float) -> None:
        train = make_mix(30, plan=Replace.share(share))
        places = []
        for epoch in range(4):
            train.set_epoch(epoch)
            places.append(tuple(train.is_generated(index) for index in range(30)))
            assert sum(places[-1]) == round(share * 30)
        assert len(train) == 30
        assert (len(set(places)) > 1) == (0 < share < 1)

    def test_replace_puts_a_variant_of_the_item_in_its_place(self) -> None:
        train = make_mix(plan=Only())
        for index in range(8):
            origin = train.origin(index)
            assert origin is not None
            assert origin.source == str(index)
            assert train[index][1]["image_id"] == index

    def test_several_sets_each_get_their_share(self) -> None:
        real = ScenesDataset(20)
        sets = {
            name: GeneratedDataset(real, Shade(strength=strength)) for name, strength in (("weak", 5), ("strong", 60))
        }
        train = MixedDataset(real, sets, plan=Add({"weak": 0.5, "strong": 0.25}))
        for index in range(len(train)):
            train[index]
        report = train.report()
        assert {name: part.generated for name, part in report.sets.items()} == {"weak": 10, "strong": 5}
        assert MixedDataset(real, sets, ratio=0.5).report().planned == {"real": 20, "generated": 10}

    def test_balance_raises_the_rare_class_without_decoding_more_than_labels(self) -> None:
        real = TwoClasses(40)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), plan=Balance(1.0))
        rare = [train[index][1]["labels"].tolist() for index in range(40, len(train))]
        assert rare == [[2]] * 32
        assert train.report().classes["generated"] == {2: 32}

    def test_balance_takes_class_names(self) -> None:
        real = TwoClasses(40)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), plan=Balance(10, classes=("rare",)))
        assert len(train) == 46

    def test_an_epoch_over_a_hundred_million_items_starts_at_once(self) -> None:
        class Vast(ScenesDataset):
            def __getitem__(self, index: int) -> Any:
                return super().__getitem__(index % 7)

            def __len__(self) -> int:
                return 10**8

        real = Vast(7)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5)
        assert len(train) == 15 * 10**7
        assert train.is_generated(10**8)
        train[10**8 + 12345]

    def test_a_foreign_dataset_is_drawn_without_replacement(self) -> None:
        real, rendered = ScenesDataset(10), ScenesDataset(6)
        train = MixedDataset(real, rendered, ratio=0.5)
        for epoch in range(3):
            train.set_epoch(epoch)
            drawn = [train[index][1]["image_id"] for index in range(10, 15)]
            assert len(set(drawn)) == 5
            assert max(drawn) < 6

    def test_a_foreign_dataset_cannot_replace(self) -> None:
        with pytest.raises(ValueError, match=r"Replace puts a version of an item in its place, .* use Add\.$"):
            MixedDataset(ScenesDataset(4), ScenesDataset(4), plan=Replace(1.0))

    def test_foreign_classes_with_other_numbers_are_refused(self) -> None:
        message = (
            "class 'common' is 1 in the real dataset and 2 in the generated set 'generated'. Give both one table of "
            "classes, or renumber one of them."
        )
        with pytest.raises(LabelContractError) as caught:
            MixedDataset(TwoClasses(10), TwoClasses(10, numbers=(2, 1)), ratio=0.5)
        assert str(caught.value) == message

    def test_foreign_classes_with_other_names_are_refused(self) -> None:
        class Fruit(TwoClasses):
            def __init__(self, count: int) -> None:
                super().__init__(count)
                self.class_to_idx = {"date": 1, "fig": 2}

        with pytest.raises(LabelContractError) as caught:
            MixedDataset(TwoClasses(10), Fruit(10), ratio=0.5)
        assert str(caught.value) == (
            "class 1 is 'common' in the real dataset and 'date' in the generated set 'generated'. Give both one table of "
            "classes, or renumber one of them."
        )

    def test_a_list_of_indices_names_the_batch_sampler(self) -> None:
        with pytest.raises(TypeError, match=r"Pass a batch sampler as DataLoader\(batch_sampler=\.\.\.\)\.$"):
            make_mix()[[0, 1]]


class TestShortfall:
    def test_the_source_itself_is_served_and_counted(self) -> None:
        train = make_mix(filters=[RejectBy(share=2.0)], on_shortfall="real")
        for index in range(8, 12):
            draw = train.draw(index)
            assert draw is not None
            assert describe(train[index]) == describe(train.real[draw.source])
            assert train.origin(index) is None
        report = train.report()
        assert (report.real, report.generated, report.realised_ratio) == (4, 0, 0.0)
        assert report.sets["generated"].real_instead == 4
        assert report.rejected == {"RejectBy: first pixels": 12}

    def test_repeat_serves_a_following_candidate_always_the_same(self) -> None:
        options: dict[str, Any] = {"filters": [RejectBy(share=0.5)], "on_shortfall": "repeat", "plan": Add(2.0)}
        train, again = make_mix(12, **options), make_mix(12, **options)
        order = list(range(len(train)))
        served = {index: describe(train[index]) for index in order}
        assert served == {index: describe(again[index]) for index in reversed(order)}
        part = train.report().sets["generated"]
        assert part.asked == 24
        assert part.generated + part.real_instead == 24
        assert part.generated > 24 * 0.8

    def test_error_names_the_place_the_reasons_and_the_ways_out(self) -> None:
        train = make_mix(filters=[RejectBy(share=2.0)], on_shortfall="error")
        draw = train.draw(8)
        assert draw is not None
        with pytest.raises(ShortfallError) as caught:
            train[8]
        assert str(caught.value) == (
            f"nothing could be generated at index 8 of epoch 0 from source {draw.source} of set 'generated' "
            f"(RejectBy: first pixels). Raise attempts=, loosen the filters, or pass on_shortfall='real'."
        )

    def test_too_few_variants_are_said_at_construction(self) -> None:
        message = (
            "The plan asks for 16 different samples of set 'generated' in an epoch, and its variants x sources give 8. "
            "Raise variants=, or lower the ratio."
        )
        with pytest.warns(UserWarning) as caught:
            train = make_mix(plan=Add(2.0), variants=1)
        assert [str(warning.message) for warning in caught] == [message]
        assert train.report().notes == (message,)
        with pytest.raises(ShortfallError) as raised:
            make_mix(plan=Add(2.0), variants=1, on_shortfall="error")
        assert str(raised.value) == message

    def test_what_arithmetic_lacks_is_served_real(self) -> None:
        with pytest.warns(UserWarning, match="variants x sources"):
            train = make_mix(plan=Add(2.0), variants=1)
        for index in range(len(train)):
            train[index]
        report = train.report()
        assert (report.real, report.generated) == (16, 8)


class TestReport:
    def test_counts_are_of_what_was_served_workers_included(self) -> None:
        train = make_mix(filters=[RejectBy(share=0.5)])
        loader = DataLoader(
            train, 4, num_workers=2, collate_fn=keep_items, generator=torch.Generator(), multiprocessing_context="fork"
        )
        items = [item for batch in loader for item in batch]
        report = train.report()
        part = report.sets["generated"]
        assert report.real + report.generated == len(items) == 12
        assert part.asked == 4
        assert part.generated == report.generated
        labels = [label for _, target in items for label in target["labels"].tolist()]
        counted = {
            name: report.classes["real"].get(name, 0) + report.classes["generated"].get(name, 0) for name in set(labels)
        }
        assert counted == {name: labels.count(name) for name in set(labels)}
        assert sum(report.filters["RejectBy"].values()) >= 4

    def test_a_second_pass_without_set_epoch_warns_once_and_is_reported(self) -> None:
        train = make_mix()
        for index in range(len(train)):
            train[index]
        with pytest.warns(UserWarning) as caught:
            for index in range(len(train)):
                train[index]
        assert [str(warning.message) for warning in caught] == [REPEATED]
        assert train.report().repeated_epochs == (0,)

    @pytest.mark.parametrize("shuffle", [False, True])
    def test_a_second_pass_of_a_loader_with_workers_warns_in_the_main_process(self, shuffle: bool) -> None:
        train = make_mix()
        generator = torch.Generator()
        sampler = RandomSampler(train, generator=generator) if shuffle else None
        loader = DataLoader(
            train,
            4,
            sampler=sampler,
            num_workers=2,
            persistent_workers=True,
            collate_fn=keep_items,
            generator=generator,
            multiprocessing_context="fork",
        )
        assert len(list(loader)) == 3
        with pytest.warns(UserWarning) as caught:
            list(loader)
        assert [str(warning.message) for warning in caught] == [REPEATED]

    def test_a_look_at_items_before_the_first_epoch_is_no_second_pass(self) -> None:
        train = make_mix()
        train[0], train[len(train) - 1]
        loader = DataLoader(train, 4, collate_fn=keep_items, generator=torch.Generator().manual_seed(0), shuffle=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for epoch in range(3):
                train.set_epoch(epoch)
                if epoch:
                    next(iter(loader))
                assert sum(len(batch) for batch in loader) == len(train)
            assert train.report().repeated_epochs == ()

    def test_nothing_warns_where_set_epoch_is_called(self) -> None:
        train = make_mix()
        loader = DataLoader(
            train, 4, num_workers=2, collate_fn=keep_items, generator=torch.Generator(), multiprocessing_context="fork"
        )
        for epoch in range(3):
            train.set_epoch(epoch)
            list(loader)
        assert train.report().repeated_epochs == ()

    def test_at_ratio_0_nothing_repeats_so_nothing_warns(self) -> None:
        train = make_mix(plan=Add(0))
        for _ in range(3):
            for index in range(len(train)):
                train[index]
        assert train.report().repeated_epochs == ()

    def test_it_reads_as_a_few_lines(self) -> None:
        train = make_mix(filters=[RejectBy(share=2.0)], plan=Replace(1.0))
        for index in range(8):
            train[index]
        lines = str(train.report()).splitlines()
        assert lines[0] == (
            "epoch 0: asked 1 generated per real, in its place, 4 for 4 real items; realised 0 (0 generated and 8 real "
            "items served)"
        )
        assert lines[1] == "  set generated: 0 of 4, 4 real instead"
        assert lines[-1] == "  rejected by RejectBy: first pixels: 12"

    def test_it_turns_into_json(self) -> None:
        import json

        train = make_mix()
        train[0]
        assert json.loads(json.dumps(train.report().to_dict()))["real"] == 1


class TestState:
    def test_it_holds_seed_plan_and_epoch_and_loads_twice(self) -> None:
        train = make_mix(seed=3)
        train.set_epoch(4)
        state = train.state_dict()
        assert state == {"seed": 3, "plan": "Add(ratio=0.5)", "epoch": 4}
        other = make_mix(seed=3)
        other.load_state_dict(state)
        other.load_state_dict(state)
        assert other.epoch == 4

    def test_a_state_of_another_plan_is_refused(self) -> None:
        state = make_mix().state_dict()
        with pytest.raises(ValueError, match=r"^state\['plan'\] must be this dataset's Replace\(ratio=1\.0\), got"):
            make_mix(plan=Replace(1.0)).load_state_dict(state)

    @pytest.mark.parametrize(
        "plan", [Add(0.5), Replace(1.0), Only(), Balance(9), Schedule({0: Only(), 5: Add(0)})], ids=repr
    )
    def test_pickled_copies_serve_the_same(self, plan: Any) -> None:
        train = make_mix(plan=plan)
        train.set_epoch(2)
        copies = [pickle.loads(pickle.dumps(train)), copy.deepcopy(train)]
        served = [describe(train[index]) for index in range(len(train))]
        for other in copies:
            assert other.epoch == 2
            assert [describe(other[index]) for index in range(len(train))] == served

    def test_it_works_inside_subset_and_concat(self) -> None:
        train, other = make_mix(), make_mix(seed=9)
        nested: Dataset[Any] = ConcatDataset([Subset(train, [0, 9, 11]), other])
        train.set_epoch(1)
        assert describe(nested[1]) == describe(train[9])
        assert describe(nested[3 + 9]) == describe(other[9])


class TestAttributes:
    def test_class_tables_pass_through(self) -> None:
        real = TwoClasses(10)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5)
        assert train.classes == ["common", "rare"]
        assert train.class_to_idx == {"common": 1, "rare": 2}

    def test_the_coco_index_passes_through_and_per_item_lists_do_not(self, tmp_path: Path) -> None:
        real = CocoDetection(*map(str, write_coco(tmp_path, 6)))
        train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5)
        assert train.coco is real.coco
        with pytest.raises(AttributeError) as caught:
            _ = train.ids
        assert str(caught.value) == (
            "ids has one entry for each of the 6 real items, and this mix has 9 items. Read it from the wrapped "
            "dataset: train.real.ids."
        )
        assert MixedDataset(real, GeneratedDataset(real, Shade()), plan=Replace(1.0)).ids == real.ids

    def test_an_unknown_attribute_is_an_attribute_error(self) -> None:
        assert not hasattr(make_mix(), "coco")
        assert not hasattr(make_mix(), "get_height_and_width")

    def test_methods_that_would_lose_the_mix_raise(self) -> None:
        class Selectable(ScenesDataset):
            def select(self, indices: list[int]) -> Subset[Any]:
                return Subset(self, indices)

        real = Selectable(4)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=0.5)
        with pytest.raises(AttributeError, match=r"^select of the wrapped Selectable would give a dataset without"):
            train.select([0])

    def test_sizes_are_true_in_every_epoch(self, tmp_path: Path) -> None:
        real = CocoDataset(*write_coco(tmp_path, 9))
        for dataset in (real, Subset(real, [0, 1, 3, 4, 5, 8])):
            train = MixedDataset(dataset, GeneratedDataset(dataset, Shade()), ratio=1.5)
            first = [train.get_height_and_width(index) for index in range(len(train))]
            for epoch in range(3):
                train.set_epoch(epoch)
                assert [train.get_height_and_width(index) for index in range(len(train))] == first
                assert [tuple(train[index][0].shape[-2:]) for index in range(len(train))] == first

    def test_targets_have_the_mixed_length_and_stay_true(self) -> None:
        class Labelled(TwoClasses):
            def __init__(self, count: int) -> None:
                super().__init__(count)
                self.targets = [2 if index % 10 == 0 else 1 for index in range(count)]

        real = Labelled(20)
        train = MixedDataset(real, GeneratedDataset(real, Shade()), ratio=1.0)
        for epoch in range(3):
            train.set_epoch(epoch)
            assert train.targets == [int(train[index][1]["labels"][0]) for index in range(len(train))]


class TestSplit:
    def test_no_version_of_a_source_reaches_another_part(self) -> None:
        train = make_mix(20, plan=Add(2.0))
        parts = train.split([0.75, 0.25], generator=torch.Generator().manual_seed(0))
        seen = [{part[index][1]["image_id"] for index in range(len(part))} for part in parts]
        assert [len(part.real) for part in parts] == [15, 5]
        assert not seen[0] & seen[1]


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"plan": None, "ratio": -0.5},
                "ratio must be at least 0, got ratio=-0.5. It is the number of generated samples per real sample: 0.5 adds one for every two.",
            ),
            (
                {"plan": None},
                "ratio must be given, or plan=, and not both, got ratio=None. ratio=0.5 is short for plan=Add(0.5).",
            ),
            (
                {"on_shortfall": "reel"},
                "on_shortfall must be one of 'real', 'repeat', 'error', got on_shortfall='reel'. Did you mean 'real'?",
            ),
            ({"weight": -1.0}, "weight must be at least 0, got weight=-1.0."),
        ],
    )
    def test_arguments(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError) as caught:
            make_mix(**options)
        assert str(caught.value) == message

    def test_an_empty_dataset(self) -> None:
        message = "real must have at least one item, got real=0. The dataset is empty: check its paths and annotations."
        with pytest.raises(ValueError) as caught:
            MixedDataset([], ScenesDataset(3), ratio=0.5)
        assert str(caught.value) == message

    def test_a_plan_that_is_a_class(self) -> None:
        with pytest.raises(TypeError, match=r"^plan must be Add, Replace, Only, Balance or Schedule, got plan="):
            make_mix(plan=Only)

    def test_wrapping_a_mix_again(self) -> None:
        train = make_mix()
        for mix in (train, Subset(train, [0, 1])):
            with pytest.raises(TypeError, match="must not be mixed already"):
                MixedDataset(mix, GeneratedDataset(train.real, Shade()), ratio=0.5)
        with pytest.raises(TypeError, match="must be the dataset before it was mixed"):
            GeneratedDataset(train, Shade())

    def test_a_negative_epoch(self) -> None:
        with pytest.raises(ValueError, match=r"^epoch must be at least 0, got epoch=-1\.$"):
            make_mix().set_epoch(-1)

    def test_an_unlabelled_generated_item_is_refused(self) -> None:
        class Unlabelled(ScenesDataset):
            pass

        class Bare:
            fingerprint = "bare/1"

            def to_sample(self, item: Any, *, index: int) -> Any:
                from synthloader.sample import Sample

                return Sample(np.ascontiguousarray(item[0].permute(1, 2, 0).numpy()))

            def from_sample(self, sample: Any, *, like: Any) -> Any:
                return like

        real = ScenesDataset(4)
        made = GeneratedDataset(Unlabelled(4), Shade(), adapter=Bare())
        with pytest.raises(LabelContractError, match="came out without a label"):
            MixedDataset(real, made, ratio=1.0)[5]


def test_the_mix_itself_warns_about_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train = make_mix()
        for index in range(len(train)):
            train[index]
