"""Hugging Face rows: the batch transform is lifted, facts come from the features, and no method loses the mix."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Features, List, Sequence, Value
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset

from synthloader.cache import LMDBCache
from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.keys import StampBook
from synthloader.lifting import preserve_random_state
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Balance, Replace
from synthloader.row_tables import make_row_stamp, read_row_class_ids, read_table_classes
from synthloader.sources import Source
from tests.scenes import keep_items
from tests.shapes import NAMES, Redraw, assert_boxes_true, draw_numbered

HALF = Add(0.5)


def make_rows(count: int = 8, *, names: tuple[str, ...] = NAMES, first: int = 0) -> datasets.Dataset:
    """Rows of an image and its objects, in memory."""
    drawn = [draw_numbered(first + number) for number in range(count)]
    objects = [
        {
            "bbox": [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in one.boxes.tolist()],
            "category": one.class_ids.tolist(),
        }
        for one in drawn
    ]
    features = Features(
        {
            "image": datasets.Image(),
            "image_id": Value("int64"),
            "objects": {"bbox": List(List(Value("float32"))), "category": List(ClassLabel(names=list(names)))},
        }
    )
    columns = {
        "image": [Image.fromarray(one.image) for one in drawn],
        "image_id": [first + number for number in range(count)],
        "objects": objects,
    }
    return datasets.Dataset.from_dict(columns, features=features)


def make_mix(rows: Any = None, plan: Any = HALF, **options: Any) -> MixedDataset:
    rows = make_rows() if rows is None else rows
    return MixedDataset(rows, GeneratedDataset(rows, Redraw(), variants=2), plan=plan, **options)


def to_arrays(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch transform as people write it: images to arrays, objects renamed, the other columns dropped."""
    return {
        "pixel_values": [np.asarray(image.convert("RGB")) for image in batch["image"]],
        "labels": batch["objects"],
    }


def add_noise(batch: dict[str, Any]) -> dict[str, Any]:
    """One draw for the batch and one for each image, from every global state."""
    shared = int(torch.randint(9, ())) + np.random.randint(9)  # noqa: NPY002
    images = [np.asarray(image) // 2 + shared + random.randrange(9) for image in batch["image"]]
    return {"pixel_values": images, "count": [len(objects["bbox"]) for objects in batch["objects"]]}


def describe_row(row: dict[str, Any]) -> Any:
    return {name: np.asarray(value).tobytes() for name, value in row.items() if name in ("pixel_values", "count")}


class TestBatchTransforms:
    def test_generated_rows_are_made_bare_and_transformed_like_real_ones(self) -> None:
        train = make_mix(make_rows().with_transform(to_arrays))
        for index in range(8, 12):
            row = train[index]
            assert list(row) == ["pixel_values", "labels"]
            boxes = np.array(row["labels"]["bbox"])
            boxes[:, 2:] += boxes[:, :2]
            assert_boxes_true(row["pixel_values"], boxes, np.array(row["labels"]["category"]))

    def test_it_is_read_as_it_is_now(self) -> None:
        rows = make_rows()
        train = make_mix(rows)
        assert "image" in train[8]
        rows.set_transform(to_arrays)
        assert list(train[8]) == list(train[0]) == ["pixel_values", "labels"]
        rows.reset_format()
        assert "image" in train[8]

    def test_a_batch_of_a_loader_is_transformed_as_one_batch(self) -> None:
        sizes: list[int] = []

        def note(batch: dict[str, Any]) -> dict[str, Any]:
            sizes.append(len(batch["image"]))
            return to_arrays(batch)

        train = make_mix(make_rows().with_transform(note))
        batch = train.__getitems__([0, 9, 3, 11])
        assert sizes == [4]
        train.real.set_transform(to_arrays)
        for row, index in zip(batch, [0, 9, 3, 11], strict=True):
            assert np.array_equal(row["pixel_values"], train[index]["pixel_values"])
            assert row["labels"] == train[index]["labels"]

    @pytest.mark.parametrize("all_columns", [False, True])
    def test_chosen_columns_are_those_of_the_table(self, all_columns: bool) -> None:
        rows = make_rows()

        def shrink(batch: dict[str, Any]) -> dict[str, Any]:
            assert list(batch) == ["image"]
            return {"image": [image.size for image in batch["image"]]}

        rows.set_transform(shrink, columns=["image"], output_all_columns=all_columns)
        train = make_mix(rows)
        assert list(train[9]) == list(train[0]) == (["image", "image_id", "objects"] if all_columns else ["image"])
        assert list(train.__getitems__([0, 9])[1]) == list(rows[0])

    def test_they_are_found_through_subset_and_concat(self) -> None:
        one, two = make_rows(4).with_transform(to_arrays), make_rows(4, first=4).with_transform(to_arrays)
        for real in (Subset(one, [0, 2]), ConcatDataset([one, two])):
            train = make_mix(real, plan=Add(1.0))
            rows = train.__getitems__(list(range(len(train))))
            assert {tuple(row) for row in rows} == {("pixel_values", "labels")}

    def test_a_transform_that_drops_rows_is_refused(self) -> None:
        train = make_mix(make_rows().with_transform(lambda batch: {"image": batch["image"][:1]}))
        with pytest.raises(TypeError) as caught:
            train.__getitems__([0, 9])
        assert str(caught.value) == (
            "what the transform of the rows returns must have one entry for each of the 2 rows, got what the transform "
            "of the rows returns={'image': 1}. A transform that makes several rows of one, or drops some, is applied "
            "with `map` before mixing."
        )

    def test_a_mark_is_on_every_row_whatever_the_transform_keeps(self) -> None:
        train = make_mix(make_rows().with_transform(to_arrays), mark="is_generated", weight=0.5)
        one_by_one = [train[index] for index in range(12)]
        train.set_epoch(1)
        for rows in (one_by_one, train.__getitems__(list(range(12)))):
            assert [bool(row["is_generated"]) for row in rows] == [False] * 8 + [True] * 4
            assert [float(row["weight"]) for row in rows] == [1.0] * 8 + [0.5] * 4


class TestRandomStates:
    @pytest.mark.uses_global_rng
    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("plan", [Add(0), Replace(0)], ids=repr)
    def test_at_ratio_0_every_batch_is_that_of_the_unwrapped_run(self, plan: Any, num_workers: int) -> None:
        def run(dataset: Any) -> Any:
            torch.manual_seed(3)
            random.seed(3)
            np.random.seed(3)  # noqa: NPY002
            loader = DataLoader(
                dataset,
                3,
                shuffle=True,
                num_workers=num_workers,
                collate_fn=keep_items,
                multiprocessing_context="fork" if num_workers else None,
            )
            batches = [[describe_row(row) for row in batch] for _ in range(2) for batch in loader]
            return batches, random.random(), torch.rand(3).tolist()

        rows = make_rows().with_transform(add_noise)
        assert run(make_mix(rows, plan)) == run(rows)

    @pytest.mark.uses_global_rng
    def test_looking_at_rows_draws_nothing(self) -> None:
        rows = make_rows().with_transform(add_noise)
        before = random.getstate(), torch.get_rng_state().tolist()
        train = make_mix(rows, plan=Balance(9))
        train.report()
        assert (random.getstate(), torch.get_rng_state().tolist()) == before
        with preserve_random_state():
            rows[0]
            expected = random.getstate()
        train[len(rows)]
        assert random.getstate() == expected


class TestFormats:
    @pytest.mark.parametrize(("form", "kind"), [("torch", torch.Tensor), ("numpy", np.ndarray)])
    def test_generated_rows_have_the_format_of_real_ones(self, form: str, kind: type) -> None:
        for train in (make_mix(make_rows().with_format(form)), make_mix().with_format(form)):
            real, made = train[0], train[9]
            assert type(real["image"]) is type(made["image"]) is kind
            assert made["image"].dtype == real["image"].dtype
            assert made["image"].shape == real["image"].shape
            assert type(made["objects"]["category"]) is type(real["objects"]["category"])
            image = np.asarray(made["image"])
            boxes = np.array(made["objects"]["bbox"])
            boxes[:, 2:] += boxes[:, :2]
            image = image.transpose(1, 2, 0) if form == "torch" else image
            assert_boxes_true(image, boxes, np.array(made["objects"]["category"]))


class TestFacts:
    @pytest.mark.parametrize(
        "feature",
        [
            {"category": List(ClassLabel(names=["a", "b"]))},
            Sequence({"category": ClassLabel(names=["a", "b"])}),
            List({"category": ClassLabel(names=["a", "b"])}),
        ],
        ids=["dict of lists", "Sequence of a dict", "list of dicts"],
    )
    def test_classes_are_found_in_nested_features(self, feature: Any) -> None:
        inside: Any = [{"category": 1}, {"category": 0}]
        if not isinstance(feature, List):
            inside = {"category": [1, 0]}
        rows = datasets.Dataset.from_dict({"objects": [inside, inside]}, features=Features({"objects": feature}))
        assert read_table_classes(rows) == {"a": 0, "b": 1}
        assert read_row_class_ids(rows, [1]) == [[1, 0]]
        assert read_row_class_ids(rows) == [[1, 0], [1, 0]]

    def test_a_label_column_is_preferred_to_other_enumerations(self) -> None:
        features = Features({"split": ClassLabel(names=["x"]), "label": ClassLabel(names=["cat", "dog"])})
        rows = datasets.Dataset.from_dict({"split": [0, 0, 0], "label": [1, -1, 0]}, features=features)
        assert read_table_classes(rows) == {"cat": 0, "dog": 1}
        assert read_row_class_ids(rows) == [[1], [], [0]]
        assert read_table_classes(rows.remove_columns("label")) == {"x": 0}
        assert read_table_classes(rows.remove_columns(["label", "split"])) is None

    def test_balance_counts_classes_without_decoding_images(self) -> None:
        rows = make_rows()
        source = Source(rows)
        assert source.classes == {name: place for place, name in enumerate(NAMES)}
        decoded = [sorted(row["objects"]["category"]) for row in rows]
        assert [sorted(source.class_ids(index).tolist()) for index in range(8)] == decoded
        image = datasets.Image(decode=False)
        broken = make_rows().map(
            lambda row: {"image": {"bytes": b"no image", "path": None}}, load_from_cache_file=False
        )
        assert broken.features["image"] == datasets.Image() != image
        assert [sorted(ids) for ids in read_row_class_ids(broken) or []] == decoded

    def test_ids_that_the_items_contradict_are_not_trusted(self) -> None:
        class Renumbered:
            fingerprint = "Renumbered/1"

            def read_class_ids(self, item: Any) -> list[int]:
                return [entry + 1 for entry in item["objects"]["category"]]

            to_sample = from_sample = None

        assert Source(make_rows(), adapter=Renumbered()).classes is None  # type: ignore[arg-type]

    def test_other_numbers_of_the_same_classes_are_refused(self) -> None:
        with pytest.raises(LabelContractError, match=r"^class 'disc' is 1 in the real dataset and 0 in the generated"):
            MixedDataset(make_rows(), make_rows(names=("disc", "box", "wedge")), ratio=0.5)

    def test_recognition_is_by_shape(self) -> None:
        class Renamed(datasets.Dataset):
            pass

        Renamed.__module__ = "somewhere.of.ones.own"
        rows = make_rows().with_transform(to_arrays)
        rows.__class__ = Renamed
        assert list(make_mix(rows)[9]) == ["pixel_values", "labels"]


class TestStamps:
    def test_they_are_of_the_content_and_of_nothing_else(self, tmp_path: Path) -> None:
        rows, book = make_rows(), StampBook()
        stamp = make_row_stamp(rows, 3, book)
        rows.save_to_disk(str(tmp_path / "table"))
        same = [
            make_rows(),
            rows.with_transform(to_arrays),
            rows.with_format("torch"),
            datasets.load_from_disk(str(tmp_path / "table")),
        ]
        assert [make_row_stamp(other, 3, book) for other in same] == [stamp] * 4
        assert make_row_stamp(rows.select([3]), 0, book) == stamp
        assert make_row_stamp(rows, 2, book) != stamp
        relabelled = rows.map(lambda row: {"objects": {**row["objects"], "category": [0]}}, load_from_cache_file=False)
        assert make_row_stamp(relabelled, 3, book) != stamp

    def test_a_file_that_a_row_names_is_part_of_it(self, tmp_path: Path) -> None:
        path = tmp_path / "one.png"
        rows = datasets.Dataset.from_dict({"image": [str(path)]}).cast_column("image", datasets.Image())
        stamps = []
        for number in (1, 2):
            buffer = io.BytesIO()
            Image.fromarray(draw_numbered(number).image).save(buffer, "PNG")
            path.write_bytes(buffer.getvalue())
            stamps.append(make_row_stamp(rows, 0, StampBook()))
        assert stamps[0] != stamps[1]

    def test_a_persistent_cache_needs_no_version_and_is_found_again(self, tmp_path: Path) -> None:
        def run() -> tuple[int, int]:
            rows = make_rows()
            with LMDBCache(tmp_path / "cache") as cache:
                train = MixedDataset(rows, GeneratedDataset(rows, Redraw(), cache=cache, variants=2), ratio=0.5)
                for index in range(8, 12):
                    train[index]
                part = train.report().sets["generated"]
            return part.cache_hits, part.cache_misses

        assert run() == (0, 4)
        assert run() == (4, 0)


DATASET_MAKERS = {
    name
    for name, value in inspect.getmembers(datasets.Dataset)
    if not name.startswith("_") and callable(value) and "Dataset" in str(inspect.signature(value).return_annotation)
} | {"with_format", "with_transform", "add_column", "add_item", "iter", "to_iterable_dataset"}


class TestMethods:
    def test_many_methods_give_datasets(self) -> None:
        assert {"select", "shuffle", "map", "filter", "train_test_split", "sort", "take", "cast"} <= DATASET_MAKERS
        assert len(DATASET_MAKERS) > 35

    @pytest.mark.parametrize("name", sorted(DATASET_MAKERS - {"with_format", "with_transform"}))
    def test_none_gives_the_bare_dataset(self, name: str) -> None:
        with pytest.raises(AttributeError) as caught:
            getattr(make_mix(make_rows(2)), name)
        assert str(caught.value) == (
            f"{name} of the wrapped Dataset would give a dataset without the generated items. Call it before mixing: "
            f"MixedDataset(real.{name}(...), ...)."
        )

    def test_with_transform_mixes_again_by_the_same_plan_and_cache(self, tmp_path: Path) -> None:
        rows = make_rows()
        with LMDBCache(tmp_path / "cache") as cache:
            generated = GeneratedDataset(rows, Redraw(), cache=cache, variants=2)
            bare = MixedDataset(rows, generated, ratio=0.5, seed=4, mark="made")
            bare.set_epoch(3)
            expected = [bare[index] for index in range(12)]
            train = bare.with_transform(to_arrays)
            assert type(train) is MixedDataset
            assert (train.epoch, train.plan, train.seed, len(train)) == (3, bare.plan, 4, 12)
            for index in range(12):
                assert train.draw(index) == bare.draw(index)
                row = train[index]
                assert np.array_equal(row["pixel_values"], np.asarray(expected[index]["image"]))
                assert bool(row["made"]) == (index >= 8)
            assert train.report().sets["generated"].cache_misses == 0
        assert "image" in expected[0]
        assert "image" in rows[0]

    def test_it_reaches_a_plain_set_of_rows_and_refuses_others(self) -> None:
        train = MixedDataset(make_rows(), make_rows(first=50), ratio=0.5).with_transform(to_arrays)
        assert {tuple(train[index]) for index in range(12)} == {("pixel_values", "labels")}
        listed = MixedDataset(make_rows(), list(make_rows(first=50)), ratio=0.5)
        for call in (listed.with_transform, listed.set_transform):
            with pytest.raises(TypeError, match=r"must reach every generated set, and list has no such method"):
                call(to_arrays)

    def test_set_transform_is_in_place(self) -> None:
        train = make_mix()
        assert train.set_transform(to_arrays) is None
        assert {tuple(train[index]) for index in range(12)} == {("pixel_values", "labels")}

    def test_counts_are_of_the_mix_and_descriptions_of_the_table(self) -> None:
        train = make_mix()
        assert (train.num_rows, train.shape) == (12, (12, 3))
        assert train.column_names == ["image", "image_id", "objects"]
        assert train.features == train.real.features

    @pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda mix: pickle.loads(pickle.dumps(mix))])
    def test_copies_serve_the_same(self, travel: Callable[[MixedDataset], MixedDataset]) -> None:
        train = make_mix(make_rows().with_transform(to_arrays))
        other = travel(train)
        assert np.array_equal(other[9]["pixel_values"], train[9]["pixel_values"])
        assert other.column_names == train.column_names
