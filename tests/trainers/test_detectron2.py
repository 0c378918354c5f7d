"""Detectron2, against stand-ins with its documented interfaces: the package cannot be installed from an index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from synthloader.adapters.detectron2 import MixedDicts, MixedTrainingSampler, mix_dataset_dicts
from synthloader.errors import LabelContractError, MissingExtraError
from synthloader.generators import ColorTransfer, CopyPaste
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.shapes import Redraw, assert_boxes_true, find_color, is_generated_ground, write_coco_shapes
from tests.trainers import detectron2_stand_in as stand_in

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(autouse=True)
def _as_if_installed() -> Iterator[None]:
    with stand_in.installed():
        yield


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_coco_shapes(tmp_path_factory.mktemp("coco"), 6, first_class=0)


def make_dicts(
    coco: tuple[Path, Path], *, mode: int = 1, runs: bool = False, points: bool = False
) -> list[dict[str, Any]]:
    """What `load_coco_json` gives."""
    content = json.loads(coco[1].read_text())
    dicts = []
    for image in content["images"]:
        annotations = []
        for each in content["annotations"]:
            if each["image_id"] != image["id"]:
                continue
            x, y, width, height = each["bbox"]
            segmentation: Any = each["segmentation"]
            if runs:
                segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, image["height"], image["width"]))
            annotation = {"bbox": [x, y, width, height] if mode else [x, y, x + width, y + height],
                          "bbox_mode": stand_in.BoxMode(mode), "category_id": each["category_id"],
                          "segmentation": segmentation, "iscrowd": 0}  # fmt: skip
            if points:
                annotation["keypoints"] = [x, y, 2, x + width, y, 2, x + width, y + height, 2, x, y + height, 2]
            annotations.append(annotation)
        dicts.append({"file_name": str(coco[0] / image["file_name"]), "height": image["height"],
                      "width": image["width"], "image_id": image["id"], "annotations": annotations})  # fmt: skip
    return dicts


def to_pixels(item: dict[str, Any]) -> np.ndarray:
    return np.ascontiguousarray(item["image"].permute(1, 2, 0).numpy()[:, :, ::-1])


def assert_true(item: dict[str, Any]) -> None:
    image, instances = to_pixels(item), item["instances"]
    classes = instances["gt_classes"].numpy()
    assert_boxes_true(image, instances["gt_boxes"].numpy(), classes)
    for class_id in range(3):
        drawn = instances["gt_masks"][classes == class_id].any(axis=0)
        assert (drawn != find_color(image, class_id)).sum() <= 12


def train(dataset: Any, steps: int, *, num_workers: int = 0, sampler: Any = None, flip: bool = False) -> list[Any]:
    """Batches of two, through a loss."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(1)
    loader = stand_in.build_detection_train_loader(
        dataset, mapper=stand_in.DatasetMapper(flip=flip), sampler=sampler, total_batch_size=2, num_workers=num_workers
    )
    weights = torch.zeros(3, requires_grad=True)
    seen = []
    for batch in islice(loader, steps):
        loss = sum((item["image"].float().mean((1, 2)) * weights).sum() for item in batch)
        loss.backward()
        seen += batch
    torch.set_rng_state(torch_state)
    return seen


@pytest.mark.parametrize("num_workers", [0, 2])
def test_generated_images_reach_the_loss_at_the_asked_share_with_true_labels(
    coco: tuple[Path, Path], num_workers: int
) -> None:
    mixed = mix_dataset_dicts(make_dicts(coco), Redraw(), ratio=0.5, mark="is_generated")
    sampler = MixedTrainingSampler(stand_in.TrainingSampler(len(mixed)), mixed)
    seen = train(mixed, 9, num_workers=num_workers, sampler=sampler, flip=True)
    made = [is_generated_ground(to_pixels(item)) for item in seen]
    assert (len(mixed), len(seen), sum(made)) == (9, 18, 6), "two passes"
    assert made == [bool(item["is_generated"]) for item in seen]
    for item in seen:
        assert_true(item)
    images = [to_pixels(item) for item, flag in zip(seen, made, strict=True) if flag]
    assert len({frozenset((image.tobytes(), image[:, ::-1].tobytes())) for image in images}) == 6
    report = mixed.report()
    assert (report.generated, report.real) >= (6, 12), "workers fetch ahead"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_at_ratio_0_batches_are_bit_for_bit_the_same(coco: tuple[Path, Path], num_workers: int) -> None:
    dicts = make_dicts(coco)
    mixed = mix_dataset_dicts(dicts, CopyPaste(), ratio=0.0)
    bare = train(dicts, 8, num_workers=num_workers, flip=True)
    sampler = MixedTrainingSampler(stand_in.TrainingSampler(len(mixed)), mixed)
    wrapped = train(mixed, 8, num_workers=num_workers, sampler=sampler, flip=True)
    for one, other in zip(bare, wrapped, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["instances"]["gt_boxes"], other["instances"]["gt_boxes"])
        assert [key for key in one] == [key for key in other]
        assert one["file_name"] == other["file_name"]


def test_real_dicts_are_those_that_were_given(coco: tuple[Path, Path]) -> None:
    dicts = make_dicts(coco)
    mixed = mix_dataset_dicts(dicts, Redraw(), ratio=1.0)
    assert [mixed[index] for index in range(6)] == dicts == make_dicts(coco)
    assert [mixed.is_generated(index) for index in (0, 6, 12, 18)] == [False, True, False, True]


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("runs", [False, True])
def test_the_forms_of_boxes_and_masks_are_the_sources(coco: tuple[Path, Path], mode: int, runs: bool) -> None:
    mixed = mix_dataset_dicts(make_dicts(coco, mode=mode, runs=runs, points=True), Redraw(), ratio=1.0)
    for index in range(6, 12):
        item = mixed[index]
        assert item["file_name"].startswith("synthloader://0/")
        for annotation in item["annotations"]:
            assert annotation["bbox_mode"] is stand_in.BoxMode(mode)
            assert isinstance(annotation["segmentation"], dict if runs else list)
            x1, y1 = annotation["bbox"][:2]
            assert annotation["keypoints"][:3] == [x1, y1, 2]
        assert_true(stand_in.DatasetMapper()(item))


def test_what_a_generator_leaves_alone_comes_back_as_it_was(coco: tuple[Path, Path]) -> None:
    dicts = make_dicts(coco)
    mixed = mix_dataset_dicts(dicts, ColorTransfer(), ratio=1.0)
    for index in range(6, 12):
        item, source = mixed[index], dicts[mixed.mix.draw(index).source]
        assert item["annotations"] == source["annotations"]
        assert item["image_id"] == source["image_id"]


def test_an_index_of_a_later_pass_is_that_of_its_epoch(coco: tuple[Path, Path]) -> None:
    mixed = mix_dataset_dicts(make_dicts(coco), Redraw(), ratio=1.0)
    later = [mixed[7 + 12 * epoch]["file_name"] for epoch in range(3)]
    assert len(set(later)) == 3
    for epoch in range(3):
        mixed.set_epoch(epoch)
        assert mixed[7]["file_name"] == later[epoch]


def test_the_sampler_counts_the_passes_of_all_ranks(coco: tuple[Path, Path]) -> None:
    mixed = mix_dataset_dicts(make_dicts(coco), Redraw(), ratio=1.0)
    parts = []
    for rank in range(2):
        inner = stand_in.TrainingSampler(12, rank=rank, world_size=2)
        parts.append(list(islice(MixedTrainingSampler(inner, mixed, num_replicas=2, rank=rank), 18)))
    served = sorted(parts[0] + parts[1])
    assert served == list(range(36))
    assert sorted(parts[0][:6] + parts[1][:6]) == list(range(12))


def test_an_image_that_another_process_made_is_not_confused_with_a_file(coco: tuple[Path, Path]) -> None:
    mixed = mix_dataset_dicts(make_dicts(coco), Redraw(), ratio=1.0)
    item = mixed[6]
    with pytest.raises(FileNotFoundError):
        Path(item["file_name"]).read_bytes()
    with pytest.raises(FileNotFoundError, match=r"is not, or no more, in the memory of this process$"):
        stand_in.read_image(item["file_name"].replace("/0/0/", "/0/9/"))


class Punch:
    """A generator whose masks have holes."""

    keeps = Redraw.keeps
    fingerprint = "Punch/1"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        made = Redraw().generate(source, rng=rng)
        target = made.target
        assert isinstance(target, Instances)
        masks = target.masks.copy()
        for mask, box in zip(masks, target.boxes.astype(int), strict=True):
            mask[(box[1] + box[3]) // 2, (box[0] + box[2]) // 2] = False
        return made.replace(target=target.replace(masks=masks))


def test_a_mask_with_a_hole_is_refused_as_a_polygon_and_exact_as_run_lengths(coco: tuple[Path, Path]) -> None:
    with pytest.raises(LabelContractError) as caught:
        mix_dataset_dicts(make_dicts(coco), Punch(), ratio=1.0)[6]
    assert str(caught.value) == (
        "a generated mask must be one polygon, as the masks of its source are, got an object with holes. Pass "
        "filters=[SinglePolygon()], or use run lengths: INPUT.MASK_FORMAT='bitmask'."
    )
    item = stand_in.DatasetMapper()(mix_dataset_dicts(make_dicts(coco, runs=True), Punch(), ratio=1.0)[6])
    for mask, box in zip(item["instances"]["gt_masks"], item["instances"]["gt_boxes"].int().tolist(), strict=True):
        assert not mask[(box[1] + box[3]) // 2, (box[0] + box[2]) // 2]
        assert mask.sum() > 50


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sem_seg_file_name": "a.png"}, ValueError,
         "dataset_dicts[1] must have no labels but 'annotations', got dataset_dicts[1]=['sem_seg_file_name']. They would be the source's on a generated image: leave them out where the model does without."),
        ({"annotations": None}, ValueError,
         "dataset_dicts[1] must have 'file_name' and 'annotations', got dataset_dicts[1]=['file_name', 'height', 'width', 'image_id']."),
    ],
)  # fmt: skip
def test_what_would_lie_is_refused(
    coco: tuple[Path, Path], change: dict[str, Any], error: type[Exception], message: str
) -> None:
    dicts = make_dicts(coco)
    dicts[1] = {key: value for key, value in (dicts[1] | change).items() if value is not None}
    with pytest.raises(error) as caught:
        mix_dataset_dicts(dicts, Redraw(), ratio=1.0)
    assert str(caught.value) == message


def test_other_boxes_are_refused(coco: tuple[Path, Path]) -> None:
    dicts = make_dicts(coco)
    for annotation in dicts[0]["annotations"]:
        annotation["bbox_mode"] = 4  # XYWHA_ABS
    with pytest.raises(ValueError, match=r"^bbox_mode of dataset_dicts\[0\]\['annotations'\] must be BoxMode.XYXY_ABS"):
        mix_dataset_dicts(dicts, Redraw(), ratio=1.0).mix.source[0]
    with pytest.raises(TypeError) as caught:
        MixedTrainingSampler(iter([1]), dicts)
    assert str(caught.value).startswith("train must be a MixedDicts, got train=[{")


def test_without_detectron2_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "detectron2.utils.file_io", None)
    with pytest.raises(MissingExtraError) as caught:
        mix_dataset_dicts([], Redraw(), ratio=1.0)
    assert str(caught.value) == (
        "mix_dataset_dicts needs detectron2. Install it as its own page says: it is on no package index."
    )
    assert MixedDicts.__doc__
