"""Every format of a recipe through the commands: precompute, preview, and an export that the datasets read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from synthloader import registry
from synthloader.adapters import CocoDataset, ImageFolderDataset, MasksDataset, VocDataset, YoloDataset
from synthloader.cache import open_cache
from synthloader.cli import app
from synthloader.recipe import load_recipe
from synthloader.registry import register_plugin
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests import shapes
from tests.formats import FORMATS

READERS: dict[str, Callable[[Path], Any]] = {
    "coco": lambda out: CocoDataset(out / "images", out / "annotations.json"),
    "voc": lambda out: VocDataset(out, image_set="train"),
    "yolo-detect": lambda out: YoloDataset(out / "data.yaml"),
    "yolo-segment": lambda out: YoloDataset(out / "data.yaml", task="segment"),
    "imagefolder": lambda out: ImageFolderDataset(out),
    "masks": lambda out: MasksDataset(out / "images", out / "masks"),
}
FITTING = {
    "coco": ("coco", "voc", "yolo-segment"),
    "voc": ("voc", "yolo-detect"),
    "yolo detect": ("yolo-detect", "voc", "coco"),
    "yolo segment": ("yolo-segment", "coco", "voc"),
    "yolo pose": ("coco", "yolo-detect"),
    "yolo obb": ("coco", "yolo-segment"),
    "yolo folders": ("yolo-detect",),
    "yolo classify": ("imagefolder",),
    "imagefolder": ("imagefolder",),
    "masks": ("masks",),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_PLUGINS", {group: dict(known) for group, known in registry._PLUGINS.items()})
    register_plugin("generators", shapes.Redraw, name="redraw")
    register_plugin("generators", shapes.ShiftClasses, name="shift_classes")
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def write(name: str) -> None:
    source, make = FORMATS[name]
    make(Path("data").absolute())
    generator = "{shift_classes: {first: 1}}" if name in ("coco", "voc") else "redraw"
    Path("recipe.yaml").write_text(
        f"source: {source}\ngenerator: {generator}\nvariants: 1\ncache: {{path: cache, codec: raw}}\n"
    )


def assert_read_back(
    name: str, native: tuple[Any, Any], sample: Sample, classes: dict[int, str], shown: dict[int, str]
) -> None:
    """An exported item says what the sample in the cache says."""
    image = native[0].permute(1, 2, 0).numpy()
    assert name == "voc" or (image == sample.image).all()  # VOC's readers want JPEG
    label, target = native[1], sample.target
    match target:
        case ClassLabel():
            assert classes[label] == shown[target.class_id]
        case SemanticMask():
            assert (label.numpy() == target.mask).all()
        case Instances():
            found = [classes[number] for number in label["labels"].tolist()]
            assert found == [shown[class_id] for class_id in target.class_ids.tolist()]
            assert np.abs(label["boxes"].numpy() - target.boxes).max() < 0.02
            if "masks" in label and name != "voc":
                assert target.masks is not None
                assert (label["masks"].numpy().astype(bool) == target.masks).all()
            if "keypoints" in label:
                assert target.keypoints is not None
                assert np.abs(label["keypoints"].numpy() - target.keypoints).max() < 1e-3


def name_classes(dataset: Any) -> dict[int, str]:
    return {class_id: text for text, class_id in dataset.class_to_idx.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_a_recipe_is_precomputed_shown_exported_and_read_back(name: str) -> None:
    write(name)
    report = json.loads(run("precompute", "recipe.yaml", "--workers", "0", "--json"))
    assert (report["accepted"], report["total"], report["generated"]) == (8, 8, 8)
    report = json.loads(run("precompute", "recipe.yaml", "--workers", "0", "--json"))
    assert (report["generated"], report["cached"]) == (0, 8)

    run("preview", "recipe.yaml", "--out", "sheet.png", "--count", "2")
    sheet = cv2.imread("sheet.png")
    assert sheet is not None
    assert sheet.shape[0] > 300

    shown = name_classes(load_recipe("recipe.yaml").source())
    with open_cache("cache") as cache:
        samples = {key.hex(): cache.get(key) for key in cache}
    for format in FITTING[name]:
        run("cache", "export", "cache", f"out/{format}", "--format", format, "--json")
        dataset = READERS[format](Path("out", format))
        assert len(dataset) == 8
        for index in range(8):
            facts = dataset.read_facts(index) if hasattr(dataset, "read_facts") else None
            file = facts.name if facts is not None else dataset.coco.imgs[dataset.ids[index]]["file_name"]
            sample = samples[Path(file).stem]
            assert isinstance(sample, Sample)
            assert_read_back(format, dataset[index], sample, name_classes(dataset), shown)
