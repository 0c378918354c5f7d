"""Every format of a recipe, from the folder to mixed items whose labels are true on pixels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader.errors import RecipeError
from synthloader.recipe import Recipe, load_recipe
from synthloader.registry import list_plugins, register_plugin
from tests import shapes
from tests.formats import FORMATS

each_format = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture(autouse=True)
def redraw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators of shapes that recipes can name, and a folder to work in."""
    from synthloader import registry

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_PLUGINS", {group: dict(known) for group, known in registry._PLUGINS.items()})
    register_plugin("generators", shapes.Redraw, name="redraw")
    register_plugin("generators", shapes.ShiftClasses, name="shift_classes")


def load(source: str, generator: str = "redraw", more: str = "plan: {add: 0.5}") -> Recipe:
    Path("recipe.yaml").write_text(f"source: {source}\ngenerator: {generator}\n{more}\n")
    return load_recipe("recipe.yaml")


def assert_true(name: str, item: Any, classes: list[str]) -> None:
    """The label of an item is what its pixels show."""
    image = item[0].permute(1, 2, 0).numpy()
    label: Any = item[1]
    if isinstance(label, int):
        assert shapes.find_color(image, shapes.NAMES.index(classes[label])).any()
    elif isinstance(label, dict):
        first = {"coco": 1, "voc": 1}.get(name, 0)
        numbers = label["labels"].numpy() - first
        ids = np.array([shapes.NAMES.index(classes[number]) for number in numbers.tolist()], np.int64)
        shapes.assert_boxes_true(image, label["boxes"].numpy(), ids)
        if "masks" in label and name != "yolo obb":
            for mask, class_id in zip(label["masks"].numpy().astype(bool), ids.tolist(), strict=True):
                assert (shapes.find_color(image, class_id) & mask).sum() == mask.sum()
        if "keypoints" in label:
            corners = label["boxes"].numpy()[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
            assert np.abs(label["keypoints"].numpy()[..., :2] - corners).max() < 0.02
    else:
        shapes.assert_mask_true(image, label.numpy(), most_wrong=0)


@each_format
def test_items_of_the_mix_are_true_on_pixels(name: str) -> None:
    source, write = FORMATS[name]
    write(Path("data").absolute())
    recipe = load(source, "{shift_classes: {first: 1}}" if name == "coco" else "redraw")
    if name == "voc":  # numbered by the alphabet, which is the order of the drawn classes: from 1
        recipe = load(source, "{shift_classes: {first: 1}}")
    train = recipe.mixed()
    assert len(train) == 12
    classes = list(recipe.source().classes)
    generated = []
    for index in range(12):
        item = train[index]
        assert_true(name, item, [each for each in classes if each != "ground"])
        generated.append(shapes.is_generated_ground(item[0].permute(1, 2, 0).numpy()))
    assert generated == [train.is_generated(index) for index in range(12)]
    assert sum(generated) == 4


@each_format
def test_sizes_and_classes_are_known_without_decoding(name: str) -> None:
    source, write = FORMATS[name]
    write(Path("data").absolute())
    train = load(source).mixed()
    assert train.get_height_and_width(9) == shapes.SIZE_HW
    classes = train.source.classes
    assert classes is not None
    assert set(classes) - {"ground"} == set(shapes.NAMES)
    if name != "masks":  # the classes of a mask are in its pixels
        assert train.source.facts(0).class_ids is not None


def test_images_without_labels_serve_as_pool() -> None:
    shapes.write_coco_shapes(Path("data").absolute())
    shapes.write_imagefolder(Path("more").absolute())
    recipe = load(
        FORMATS["coco"][0],
        "color_transfer",
        "pool: {format: images, images: [more/train, more/val]}\nplan: {add: 0.5}",
    )
    origin = recipe.mixed().origin(9)
    assert origin is not None
    assert origin.drawn[0].startswith(("train/", "val/"))


def test_every_format_is_tried() -> None:
    assert {name.split()[0] for name in FORMATS} | {"backgrounds", "images"} == set(list_plugins("formats"))


class TestErrors:
    def fail(self, source: str, said: str) -> None:
        with pytest.raises(RecipeError, match="^" + re.escape(f"recipe.yaml, line 1: {said}") + "$"):
            load(source).source()

    def test_a_path_of_a_list_that_is_not_there(self, tmp_path: Path) -> None:
        self.fail(
            "{format: images, images: [., none]}",
            f"source.images must exist, got 'none', which is {tmp_path}/none. Paths are relative to the recipe.",
        )

    def test_an_option_of_another_format(self) -> None:
        self.fail(
            "{format: imagefolder, root: ., masks: .}",
            "source has no option 'masks'. Allowed: apply_orientation, format, names, root.",
        )

    def test_a_wrong_label_is_named_with_file_and_line(self, tmp_path: Path) -> None:
        shapes.write_yolo(tmp_path / "data", 2)
        file = tmp_path / "data/labels/train/0000.txt"
        file.write_text("7 0.5 0.5 0.1 0.1\n")
        self.fail(
            "{format: yolo, data: data/data.yaml}",
            f"source: {file}:1 must begin with a class id below the number of names, 3, got {file}:1=7. Class ids "
            "count from 0. Correct the label file, or add the name.",
        )

    def test_a_task_that_there_is_not(self, tmp_path: Path) -> None:
        shapes.write_yolo(tmp_path / "data", 2)
        self.fail(
            "{format: yolo, data: data/data.yaml, task: segmentation}",
            "source: task must be one of 'detect', 'segment', 'pose', 'obb', 'classify', got "
            "task='segmentation'. Did you mean 'segment'?",
        )
