"""Sizes in `get_data_info`, by which mmdet groups batches by aspect ratio: those of the items that are served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

pytest.importorskip("mmengine")

from mmengine.dataset import BaseDataset

from synthloader.adapters.mmengine import SynthDataset
from synthloader.generators import ColorTransfer, OneOf
from synthloader.generators.tile import Tile
from tests.shapes import write_coco_shapes

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*MMLogger"),
    pytest.mark.uses_global_rng,  # BaseDataset draws from it
]


class Boxes(BaseDataset):
    METAINFO = {"classes": ("box", "disc", "wedge")}  # noqa: RUF012 - mmengine's own way

    def load_data_list(self) -> list[dict[str, Any]]:
        content = json.loads(Path(str(self.ann_file)).read_text())
        found: dict[int, dict[str, Any]] = {
            image["id"]: {
                "img_path": str(Path(self.data_prefix["img_path"]) / image["file_name"]), "img_id": image["id"],
                "height": image["height"], "width": image["width"], "instances": [],
            }
            for image in content["images"]
        }  # fmt: skip
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            box, label = [x, y, x + width, y + height], annotation["category_id"] - 1
            found[annotation["image_id"]]["instances"].append({"bbox": box, "bbox_label": label, "ignore_flag": 0})
        return list(found.values())


class LoadImageFromFile:  # the name by which OpenMMLab's loading transforms are known
    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        results["img"] = cv2.imread(results["img_path"])
        return results


def make_dataset(folder: Path, generator: Any) -> SynthDataset:
    images, file = write_coco_shapes(folder / "coco", 6)
    real = Boxes(ann_file=str(file), data_prefix={"img_path": str(images)}, pipeline=[LoadImageFromFile()])
    return SynthDataset(real, generator=generator, ratio=1.0)


def test_the_size_of_a_tile_is_told_and_served(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, Tile(size_hw=(30, 50), drop="instances", keep_empty=True))
    told = [(info["height"], info["width"]) for info in map(dataset.get_data_info, range(len(dataset)))]
    assert [dataset[index]["img"].shape[:2] for index in range(len(dataset))] == told
    assert told[-1] == (30, 50)


def test_a_size_that_is_drawn_is_not_told(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, OneOf([(1, Tile(size_hw=30)), (1, ColorTransfer())]))
    assert "height" in dataset.get_data_info(0)
    assert set(dataset.get_data_info(6)) == {"img_id", "sample_idx"}
