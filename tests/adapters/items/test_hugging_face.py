"""Rows of Hugging Face `datasets`: objects as columns or dicts, in several formats, and rows with a class or a mask."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from synthloader.adapters import DictAdapter, HuggingFaceAdapter
from synthloader.errors import LabelContractError
from synthloader.generated import GeneratedDataset
from synthloader.generators import ColorTransfer, CopyPaste
from synthloader.mixed import MixedDataset
from synthloader.registry import find_adapter
from synthloader.targets import Instances
from tests.scenes import Shade
from tests.shapes import Redraw, assert_boxes_true, assert_mask_true, draw_numbered

SIZE_HW = (48, 96)


def draw_row(
    number: int, *, fields: tuple[str, ...] = ("id", "area", "bbox", "category", "occluded")
) -> dict[str, Any]:
    """A row as `cppe-5` has it."""
    drawn = draw_numbered(number, size_hw=SIZE_HW, num_shapes=2)
    x1, y1, x2, y2 = drawn.boxes.T
    columns: dict[str, Any] = {
        "id": [number * 10 + row for row in range(2)],
        "area": [int(mask.sum()) for mask in drawn.masks],
        "bbox": np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).tolist(),
        "category": drawn.class_ids.tolist(),
        "occluded": [False, True],
    }
    return {
        "image_id": number,
        "image": PIL.Image.fromarray(drawn.image),
        "width": SIZE_HW[1],
        "height": SIZE_HW[0],
        "objects": {field: columns[field] for field in fields},
    }


def make_table(*, as_list: bool, count: int = 6) -> Any:
    datasets = pytest.importorskip("datasets")
    kind = {
        "id": datasets.Value("int64"), "area": datasets.Value("int64"),
        "bbox": datasets.Sequence(datasets.Value("float32"), 4),
        "category": datasets.ClassLabel(names=["box", "disc", "wedge"]), "occluded": datasets.Value("bool"),
    }  # fmt: skip
    features = datasets.Features(
        {
            "image_id": datasets.Value("int64"), "image": datasets.Image(), "width": datasets.Value("int32"),
            "height": datasets.Value("int32"),
            "objects": datasets.List(kind) if as_list else datasets.Sequence(kind),
        }
    )  # fmt: skip
    rows = [draw_row(number) for number in range(count)]
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    if as_list:
        columns["objects"] = [to_list(objects) for objects in columns["objects"]]
    return datasets.Dataset.from_dict(columns, features=features)


def to_list(objects: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(objects, entries, strict=True)) for entries in zip(*objects.values(), strict=True)]


def read_boxes(objects: Any) -> tuple[np.ndarray, list[int]]:
    parts = objects if isinstance(objects, list) else to_list(objects)
    boxes = np.array([part["bbox"] for part in parts], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, [int(part["category"]) for part in parts]


@pytest.mark.parametrize("as_list", [False, True], ids=["columns", "dicts"])
class TestRowsOfDatasets:
    def test_an_untouched_row_comes_back(self, as_list: bool) -> None:
        table = make_table(as_list=as_list)
        adapter = find_adapter(table, [table[0], table[1]])
        assert isinstance(adapter, HuggingFaceAdapter)
        for index in range(6):
            row = table[index]
            back = adapter.from_sample(adapter.to_sample(row, index=index), like=table[0])
            assert list(back) == list(row)
            assert back["image"].tobytes() == row["image"].tobytes()
            assert {**back, "image": None} == {**row, "image": None}
            assert repr(back["objects"]) == repr(row["objects"])  # numbers of the same types

    def test_labels_of_generated_rows_are_true_on_their_pixels(self, as_list: bool) -> None:
        table = make_table(as_list=as_list)
        mix = MixedDataset(table, GeneratedDataset(table, Redraw()), ratio=1.0)
        for index in range(len(mix)):
            row = mix[index]
            boxes, class_ids = read_boxes(row["objects"])
            assert_boxes_true(np.asarray(row["image"]), boxes, np.array(class_ids))
            assert mix.is_generated(index) is (index >= 6)
        assert mix.report().realised_ratio == 1.0

    def test_pasted_rows_have_every_column_for_every_object(self, as_list: bool) -> None:
        table = make_table(as_list=as_list)
        masked = [{**row, "objects": add_outlines(row, as_list=as_list)} for row in table]
        mix = MixedDataset(masked, GeneratedDataset(masked, CopyPaste(num_range=(2, 2))), ratio=1.0)
        more = 0
        for index in range(6, 12):
            row = mix[index]
            parts = row["objects"] if as_list else to_list(row["objects"])
            columns = masked[0]["objects"][0] if as_list else masked[0]["objects"]
            assert all(list(part) == list(columns) for part in parts)
            boxes, class_ids = read_boxes(row["objects"])
            assert_boxes_true(np.asarray(row["image"]), boxes, np.array(class_ids), slack=3.0)
            more += len(parts) - 2
        assert more > 0


def add_outlines(row: dict[str, Any], *, as_list: bool) -> Any:
    """The objects with polygons around their shapes, which copy-paste needs."""
    from synthloader.polygons import trace_outline

    drawn = draw_numbered(row["image_id"], size_hw=SIZE_HW, num_shapes=2)
    outlines = [[trace_outline(mask).reshape(-1).tolist()] for mask in drawn.masks]
    if as_list:
        return [{**part, "segmentation": outline} for part, outline in zip(row["objects"], outlines, strict=True)]
    return {**row["objects"], "segmentation": outlines}


@pytest.mark.parametrize("form", ["numpy", "torch"])
def test_rows_with_a_format_come_back_with_it(form: str) -> None:
    table = make_table(as_list=False).with_format(form)
    row = table[0]
    adapter = find_adapter(table, [row])
    back = adapter.from_sample(adapter.to_sample(row, index=0), like=row)
    assert list(back) == list(row)
    assert type(back["image"]) is type(row["image"])
    assert bool((back["image"] == row["image"]).all())
    for name, entries in row["objects"].items():
        assert (type(back["objects"][name]), back["objects"][name].dtype) == (type(entries), entries.dtype)
        assert bool((back["objects"][name] == entries).all())


@pytest.mark.parametrize("boxes", ["xyxy", "cxcywh", "xyxy_normalized"])
def test_boxes_of_a_stated_format_come_back_in_it(boxes: str) -> None:
    row = draw_row(0)
    native = np.array(row["objects"]["bbox"])
    if boxes != "xywh":
        native[:, 2:] += native[:, :2]
    if boxes == "cxcywh":
        native = np.concatenate([(native[:, :2] + native[:, 2:]) / 2, native[:, 2:] - native[:, :2]], axis=1)
    if boxes == "xyxy_normalized":
        native = native / np.array([SIZE_HW[1], SIZE_HW[0]] * 2)
    row["objects"]["bbox"] = native.tolist()
    adapter = HuggingFaceAdapter(boxes=boxes)
    sample = adapter.to_sample(row, index=0)
    assert isinstance(sample.target, Instances)
    np.testing.assert_allclose(sample.target.boxes, draw_numbered(0, size_hw=SIZE_HW, num_shapes=2).boxes, atol=1e-4)
    assert adapter.from_sample(sample, like=row)["objects"] == row["objects"]
    moved = sample.replace(target=sample.target.replace(boxes=sample.target.boxes + np.float32(0.5)))
    again = adapter.to_sample(adapter.from_sample(moved, like=row), index=0)
    np.testing.assert_allclose(again.target.boxes, sample.target.boxes + 0.5, atol=1e-4)


def test_boxes_that_fit_only_in_another_format_are_refused_with_it() -> None:
    row = {"image": PIL.Image.new("RGB", (96, 48)), "objects": {"bbox": [[50, 20, 90, 40]], "category": [1]}}
    message = (
        "the boxes of dataset[3]['objects'] must lie inside the image of height 48 and width 96 when read as xywh, got "
        "the boxes of dataset[3]['objects']=[[50.0, 20.0, 90.0, 40.0]]. They fit as xyxy: if that is their format, pass "
        "adapter=HuggingFaceAdapter(boxes='xyxy')."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        HuggingFaceAdapter().to_sample(row, index=3)


@pytest.mark.parametrize("bad_boxes", ["error", "drop"])
def test_normalised_boxes_are_refused_with_the_formats_that_there_are(bad_boxes: str) -> None:
    row = {"image": PIL.Image.new("RGB", (96, 48)), "objects": {"bbox": [[0.5, 0.25, 0.5, 0.5]], "category": [1]}}
    message = (
        "the boxes of dataset[3]['objects'] must be in pixels when read as xywh, got the boxes of "
        "dataset[3]['objects']=[[0.5, 0.25, 0.5, 0.5]]. If they are shares of the image's width and height, pass "
        "adapter=HuggingFaceAdapter(boxes='xywh_normalized'), or 'cxcywh_normalized', or 'xyxy_normalized'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        HuggingFaceAdapter(bad_boxes=bad_boxes).to_sample(row, index=3)
    sample = HuggingFaceAdapter(boxes="cxcywh_normalized").to_sample(row, index=3)
    assert isinstance(sample.target, Instances)
    assert sample.target.boxes.tolist() == [[24, 0, 72, 24]]


def test_boxes_that_fit_only_on_the_image_before_it_was_turned_are_refused_with_its_orientation(
    tmp_path: Path,
) -> None:
    datasets = pytest.importorskip("datasets")
    exif = PIL.Image.Exif()
    exif[0x112] = 6
    PIL.Image.new("RGB", (96, 48)).save(tmp_path / "a.jpg", exif=exif)
    rows = {"image": [str(tmp_path / "a.jpg")], "objects": [{"bbox": [[60.0, 5.0, 30.0, 20.0]], "category": [1]}]}
    table = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    assert table[0]["image"].size == (48, 96)
    message = (
        "the boxes of dataset[0]['objects'] must lie inside the image of height 96 and width 48, got the boxes of "
        "dataset[0]['objects']=[[60.0, 5.0, 30.0, 20.0]]. They fit if height and width are exchanged: where the image's "
        "EXIF has an orientation, 'datasets' turns it when decoding. Turn the boxes of such images too, or store the "
        "images without orientation."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        HuggingFaceAdapter().to_sample(table[0], index=0)


@pytest.mark.parametrize("as_list", [False, True])
def test_classes_that_are_names_are_refused_with_the_column(as_list: bool) -> None:
    objects: Any = {"bbox": [[5, 5, 9, 9], [9, 9, 9, 9]], "category": ["disc", "box"]}
    row = {"image": PIL.Image.new("RGB", (96, 48)), "objects": to_list(objects) if as_list else objects}
    message = (
        "dataset[2]['objects'][0]['category'] must be an integer, got dataset[2]['objects'][0]['category']='disc'. Make "
        "ids of names: cast the column 'category' in 'objects' to datasets.ClassLabel (cast_column), or map it with a "
        "dict of names and ids."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        HuggingFaceAdapter().to_sample(row, index=2)
    with pytest.raises(TypeError, match=r"must be an integer"):
        HuggingFaceAdapter().read_class_ids(row)


def test_bad_boxes_are_refused_or_dropped() -> None:
    row = {
        "image": PIL.Image.new("RGB", (96, 48)),
        "objects": {"bbox": [[5, 5, 0, 4], [5, 5, 9, 9]], "category": [1, 2]},
    }
    message = "dataset[0]['objects'][0]['bbox'] must have "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as caught:
        HuggingFaceAdapter().to_sample(row, index=0)
    assert "HuggingFaceAdapter(bad_boxes='drop')" in str(caught.value)
    dropping = HuggingFaceAdapter(bad_boxes="drop")
    assert dropping.from_sample(dropping.to_sample(row, index=0), like=row)["objects"] == {
        "bbox": [[5, 5, 9, 9]],
        "category": [2],
    }


def test_columns_of_different_lengths_are_refused() -> None:
    row = {"image": PIL.Image.new("RGB", (9, 9)), "objects": {"bbox": [[1, 1, 2, 2]], "category": []}}
    message = (
        "objects must have as many entries in every column, got objects={'bbox': 1, 'category': 0}. Correct the "
        "annotation."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        HuggingFaceAdapter().to_sample(row, index=0)


def test_whole_numbers_stay_whole_when_a_box_moves() -> None:
    row = {"image": PIL.Image.new("RGB", (96, 48)), "objects": {"bbox": [[5, 5, 9, 9]], "area": [81], "category": [1]}}
    adapter = HuggingFaceAdapter()
    sample = adapter.to_sample(row, index=0)
    moved = sample.replace(target=sample.target.replace(boxes=np.array([[6.2, 6, 15, 14]], np.float32)))
    objects = adapter.from_sample(moved, like=row)["objects"]
    assert repr(objects) == "{'bbox': [[6, 6, 9, 8]], 'area': [70], 'category': [1]}"


def test_a_new_object_without_a_column_is_refused() -> None:
    row = draw_row(0)
    adapter = HuggingFaceAdapter()
    sample = adapter.to_sample(row, index=0)
    target = Instances(sample.target.class_ids, sample.target.boxes)
    message = (
        "attributes must keep 'occluded', which the dataset has for every object, got attributes=[]. Carry the "
        "attributes of Instances on in the generator."
    )
    with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
        adapter.from_sample(sample.replace(target=target), like=row)


def test_rows_without_objects_mix_with_others() -> None:
    empty = {**draw_row(1), "objects": {name: [] for name in draw_row(1)["objects"]}}
    adapter = find_adapter(object(), [draw_row(0), empty])
    sample = adapter.to_sample(empty, index=1)
    assert len(sample.target) == 0
    assert adapter.from_sample(sample, like=draw_row(0))["objects"] == empty["objects"]


def test_sizes_are_those_of_the_image_that_is_served() -> None:
    row = draw_row(0)
    adapter = HuggingFaceAdapter()
    sample = adapter.to_sample(row, index=0)
    larger = sample.replace(image=np.zeros((60, 100, 3), np.uint8), target=sample.target.replace(masks=None))
    back = adapter.from_sample(larger, like=row)
    assert (back["width"], back["height"], back["image"].size, back["image_id"]) == (100, 60, (100, 60), 0)


class TestClassesAndMasks:
    def test_rows_with_a_class(self) -> None:
        datasets = pytest.importorskip("datasets")
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
        images = [PIL.Image.fromarray(draw_numbered(number, size_hw=SIZE_HW).image) for number in range(4)]
        table = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0, 1]}, features=features)
        mix = MixedDataset(table, GeneratedDataset(table, Shade()), ratio=1.0)
        for index in range(4, 8):
            draw = mix.draw(index)
            assert draw is not None
            assert list(mix[index]) == ["image", "label"]
            assert mix[index]["label"] == table[draw.source]["label"]
        assert isinstance(mix.source.adapter, DictAdapter)

    @pytest.mark.parametrize("name", ["annotation", "label"])
    def test_rows_with_a_mask(self, name: str) -> None:
        datasets = pytest.importorskip("datasets")
        drawn = [draw_numbered(number, size_hw=SIZE_HW) for number in range(4)]
        columns = {
            "image": [PIL.Image.fromarray(one.image) for one in drawn],
            name: [PIL.Image.fromarray(one.id_mask.astype(np.uint8)) for one in drawn],
            "scene_category": [3, 3, 1, 0],
        }
        kinds = {"image": datasets.Image(), name: datasets.Image(), "scene_category": datasets.Value("int64")}
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
        mix = MixedDataset(table, GeneratedDataset(table, Redraw()), ratio=1.0)
        for index in range(8):
            row = mix[index]
            assert list(row) == ["image", name, "scene_category"]
            assert_mask_true(np.asarray(row["image"]), np.asarray(row[name]))
        assert mix.report().generated == 4

    def test_a_transform_of_batches_sees_generated_rows(self) -> None:
        table = make_table(as_list=False)
        table.set_transform(lambda batch: {"pixels": [np.asarray(image).shape for image in batch["image"]]})
        mix = MixedDataset(table, GeneratedDataset(table, ColorTransfer()), ratio=1.0)
        assert mix[0] == mix[11] == {"pixels": (*SIZE_HW, 3)}
        assert torch.utils.data.default_collate([mix[1], mix[10]])["pixels"][0].tolist() == [48, 48]
