"""Raw items of `VOCDetection`: strings come back as they were, moved objects are written anew."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from torch.utils.data import Subset
from torchvision.datasets import VOCDetection

from synthloader.adapters import VocAdapter
from synthloader.errors import LabelContractError
from synthloader.exports import export_samples
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.registry import find_adapter
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.contracts.torchvision_forms import make_voc_annotation
from tests.shapes import NAMES, ShiftClasses, assert_boxes_true, is_generated_ground, write_voc

IMAGE = PIL.Image.fromarray(np.zeros((12, 16, 3), np.uint8))


def make_item(**changes: Any) -> Any:
    annotation = make_voc_annotation()
    for path, value in changes.items():
        annotation["object"][0]["bndbox"][path] = value
    return IMAGE, {"annotation": annotation}


def write_birds(folder: Path) -> Path:
    """A VOC data set whose classes are among VOC's own."""
    root = write_voc(folder / "birds", 4)
    for file in root.rglob("*.xml"):
        text = file.read_text()
        for name, other in zip(NAMES, ("bird", "cat", "dog"), strict=True):
            text = text.replace(f"<name>{name}</name>", f"<name>{other}</name>")
        file.write_text(text)
    return root


class TestReading:
    def test_pixels_are_counted_from_1_with_both_ends(self) -> None:
        target = VocAdapter().to_sample(make_item(), index=0).target
        assert isinstance(target, Instances)
        assert target.boxes.tolist() == [[2, 1, 7, 5], [8.25, 6, 15, 9.5]]
        assert target.class_ids.tolist() == [3, 1]

    def test_edges_are_taken_as_they_stand_on_request(self) -> None:
        target = VocAdapter(coordinates="edges").to_sample(make_item(), index=0).target
        assert isinstance(target, Instances)
        assert target.boxes[0].tolist() == [3, 2, 7, 5]

    def test_an_exported_data_set_is_read_back_box_for_box(self, tmp_path: Path) -> None:
        boxes = np.array([[0, 0, 4, 3], [2, 5, 16, 12]], np.float32)
        sample = Sample(np.zeros((12, 16, 3), np.uint8), Instances(np.array([4, 9]), boxes))
        folder = tmp_path / "VOCdevkit" / "VOC2012"
        names = {4: "fig", 9: "date"}
        export_samples([("a", sample)], folder, format="voc", class_names=names, image_format="jpeg")
        dataset = VOCDetection(str(tmp_path), "2012")
        adapter = VocAdapter(classes={"fig": 4, "date": 9})
        target = adapter.to_sample(dataset[0], index=0).target
        assert isinstance(target, Instances)
        assert target.boxes.tolist() == boxes.tolist()
        assert target.class_ids.tolist() == [4, 9]


class TestClasses:
    def test_vocs_own_classes_have_torchvisions_numbers(self, tmp_path: Path) -> None:
        adapter: Any = find_adapter(dataset := VOCDetection(str(write_birds(tmp_path)), "2012"), [dataset[0]])
        assert {name: adapter.class_to_idx[name] for name in ("bird", "cat", "dog")} == {"bird": 3, "cat": 8, "dog": 12}

    def test_other_classes_are_those_of_all_files_in_the_alphabets_order(self, tmp_path: Path) -> None:
        dataset = VOCDetection(str(write_voc(tmp_path, 6)), "2012")
        for look in (dataset, Subset(dataset, [2, 1])):
            adapter: Any = find_adapter(look, [look[0]])
            assert adapter.class_to_idx == {"box": 1, "disc": 2, "wedge": 3}
        assert adapter.fingerprint == (
            'VocAdapter/1(bad_boxes="error", classes={"box": 1, "disc": 2, "wedge": 3}, coordinates="pixels")'
        )

    def test_a_dataset_that_lists_no_files_needs_them(self) -> None:
        item = make_item()
        item[1]["annotation"]["object"][1]["name"] = "drone"
        with pytest.raises(ValueError, match="drone") as caught:
            find_adapter([item], [item])
        assert str(caught.value) == (
            "the classes of the dataset must be known, got the classes of the dataset=['bird', 'drone']. Pass "
            "adapter=VocAdapter(classes=['bird', 'drone']), with all other names that there are."
        )
        target = VocAdapter(classes=["drone", "bird"]).to_sample(item, index=0).target
        assert isinstance(target, Instances)
        assert target.class_ids.tolist() == [2, 1]

    def test_a_name_outside_the_table_is_refused(self) -> None:
        with pytest.raises(ValueError, match="bird") as caught:
            VocAdapter(classes=["aeroplane"]).to_sample(make_item(), index=4)
        assert str(caught.value) == (
            "dataset[4][1]['annotation']['object'][0]['name'] must be one of the classes aeroplane, got "
            "dataset[4][1]['annotation']['object'][0]['name']='bird'. Pass adapter=VocAdapter(classes=[...]) with all "
            "names."
        )

    def test_a_class_without_a_name_is_refused_when_it_is_written(self) -> None:
        adapter, item = VocAdapter(classes=["bird", "aeroplane"]), make_item()
        sample = adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        changed = sample.replace(target=sample.target.replace(class_ids=np.array([1, 7])))
        message = (
            "class 7 of object 1 must have a name to be written, got classes={'bird': 1, 'aeroplane': 2}. Give the "
            "adapter all names: VocAdapter(classes=[...])."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            adapter.from_sample(changed, like=item)


class TestWriting:
    adapter = VocAdapter()

    def change(self, **changes: Any) -> dict[str, Any]:
        item = make_item()
        sample = self.adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        made = sample.replace(target=sample.target.replace(**changes))
        annotation: dict[str, Any] = self.adapter.from_sample(made, like=item)[1]["annotation"]
        return annotation

    def test_a_moved_object_has_a_new_box_and_nothing_that_says_where_it_was(self) -> None:
        annotation = self.change(boxes=np.array([[0, 0, 4.6, 3], [8.25, 6, 15, 9.5]], np.float32))
        first, second = annotation["object"]
        assert first == {
            "name": "bird", "pose": "Unspecified", "truncated": "0", "difficult": "1",
            "bndbox": {"xmax": "5", "xmin": "1", "ymax": "3", "ymin": "1"},
        }  # fmt: skip
        assert list(first["bndbox"]) == ["xmax", "xmin", "ymax", "ymin"]
        assert second == make_voc_annotation()["object"][1]
        assert annotation["segmented"] == "0"
        assert annotation["size"] == make_voc_annotation()["size"]

    def test_another_class_is_written_by_its_name(self) -> None:
        annotation = self.change(class_ids=np.array([20, 1]))
        assert [thing["name"] for thing in annotation["object"]] == ["tvmonitor", "aeroplane"]
        assert annotation["object"][0]["bndbox"] == make_voc_annotation()["object"][0]["bndbox"]

    def test_a_thin_box_keeps_one_pixel_inside_the_image(self) -> None:
        annotation = self.change(boxes=np.array([[15.8, 3, 15.9, 3.2], [8.25, 6, 15, 9.5]], np.float32))
        assert annotation["object"][0]["bndbox"] == {"xmin": "16", "ymin": "4", "xmax": "16", "ymax": "4"}

    def test_a_new_object_has_vocs_usual_fields(self) -> None:
        item = make_item()
        sample = self.adapter.to_sample(item, index=0)
        drawn = Instances(np.array([8]), np.array([[0, 0, 2, 3]], np.float32))
        annotation = self.adapter.from_sample(sample.replace(target=drawn), like=item)[1]["annotation"]
        assert annotation["object"] == [
            {
                "name": "cat", "pose": "Unspecified", "truncated": "0", "difficult": "0",
                "bndbox": {"xmin": "1", "ymin": "1", "xmax": "2", "ymax": "3"},
            }
        ]  # fmt: skip
        assert list(annotation) == list(make_voc_annotation())

    def test_the_size_is_that_of_the_image_served(self) -> None:
        item = make_item()
        sample = self.adapter.to_sample(item, index=0)
        assert isinstance(sample.target, Instances)
        boxes = sample.target.boxes / 2
        smaller = Sample(np.zeros((6, 8, 3), np.uint8), Instances(np.array([3, 1]), boxes), fields=sample.fields)
        annotation = self.adapter.from_sample(smaller, like=item)[1]["annotation"]
        assert annotation["size"] == {"width": "8", "height": "6", "depth": "3"}

    def test_a_sample_from_elsewhere_gets_an_annotation_of_its_objects_alone(self) -> None:
        drawn = Sample(np.zeros((12, 16, 3), np.uint8), Instances(np.array([8]), np.array([[0, 0, 2, 3]], np.float32)))
        annotation = self.adapter.from_sample(drawn, like=make_item())[1]["annotation"]
        assert list(annotation) == ["object"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"xmin": "9"},
            "dataset[2][1]['annotation']['object'][0]['bndbox'], as x1 y1 x2 y2, must have x1 < x2 and y1 < y2, got "
            "dataset[2][1]['annotation']['object'][0]['bndbox'], as x1 y1 x2 y2,=[8.0, 1.0, 7.0, 5.0]. Correct the "
            "annotation, or pass adapter=VocAdapter(bad_boxes='drop'), which clips boxes to the image and drops those "
            "without area.",
        ),
        (
            {"xmin": "left"},
            "dataset[2][1]['annotation']['object'][0]['bndbox'] must have the numbers xmin, ymin, xmax and ymax, got "
            "dataset[2][1]['annotation']['object'][0]['bndbox']={'xmax': '7', 'xmin': 'left', 'ymax': '5', 'ymin': "
            "'2'}. Correct the annotation.",
        ),
    ],
    ids=["turned", "text"],
)
def test_wrong_boxes_are_refused_with_place_and_remedy(change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match="bndbox") as caught:
        VocAdapter().to_sample(make_item(**change), index=2)
    assert str(caught.value) == message


def test_bad_boxes_are_dropped_on_request() -> None:
    adapter = VocAdapter(bad_boxes="drop")
    item = make_item(xmin="9")
    sample = adapter.to_sample(item, index=0)
    assert adapter.from_sample(sample, like=item)[1]["annotation"]["object"] == make_voc_annotation()["object"][1:]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"classes": "cat"},
            TypeError,
            "classes must be a list or tuple or Mapping, got classes='cat'. Give a list of names, or a dict of names and ids.",
        ),
        (
            {"classes": ["cat", "cat"]},
            ValueError,
            "classes must be different names, at least one, got classes=['cat', 'cat']. Give a list of names, or a dict "
            "of names and ids.",
        ),
        (
            {"classes": {"cat": 1, "dog": 1}},
            ValueError,
            "classes must have a number of its own for each name, got classes={'cat': 1, 'dog': 1}.",
        ),
        ({"coordinates": "corners"}, ValueError, "coordinates must be one of 'pixels', 'edges', got coordinates='corners'."),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        VocAdapter(**options)
    assert str(caught.value) == message


def test_other_items_are_left_to_other_adapters() -> None:
    annotation = make_voc_annotation()
    for item in ((IMAGE, annotation), (IMAGE, {"annotation": annotation, "labels": [1]}), (IMAGE, {"annotation": 3})):
        assert VocAdapter.recognize(object(), [item]) is None
    with pytest.raises(TypeError) as caught:
        VocAdapter().to_sample((IMAGE, 3), index=5)
    assert str(caught.value) == (
        "the form of dataset[5] must be (image, {'annotation': ...}), got the form of dataset[5]='(Image, int)'."
    )


def test_every_box_of_a_redrawn_image_is_true_on_its_pixels(tmp_path: Path) -> None:
    real = VOCDetection(str(write_voc(tmp_path, 5)), "2012")
    before = copy.deepcopy([item[1] for item in (real[index] for index in range(5))])
    train = MixedDataset(real, GeneratedDataset(real, ShiftClasses(1)), ratio=1.0)
    for index in range(10):
        image, target = train[index]
        things = target["annotation"]["object"]
        edges = [[int(thing["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")] for thing in things]
        boxes = np.array(edges, np.float64) - [1, 1, 0, 0]
        class_ids = np.array([NAMES.index(thing["name"]) for thing in things])
        assert is_generated_ground(np.asarray(image)) == (index >= 5)
        assert_boxes_true(np.asarray(image), boxes, class_ids, slack=2.0)
        if index < 5:
            assert target == before[index]
