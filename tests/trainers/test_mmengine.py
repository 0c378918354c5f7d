"""MMEngine: the real `Runner` on the CPU, with a user's dataset and pipeline as OpenMMLab's pages write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import nn

pytest.importorskip("mmengine")

from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from synthloader.adapters.mmengine import MixedEpochHook, MixedInfiniteSampler, SynthDataset
from synthloader.epoch_index import EpochIndex
from synthloader.errors import LabelContractError
from synthloader.generators import ColorTransfer, CopyPaste
from tests.shapes import (
    Redraw,
    assert_boxes_true,
    assert_mask_true,
    find_color,
    is_generated_ground,
    write_coco_shapes,
    write_imagefolder,
    write_masks,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:.*MMLogger"),
    pytest.mark.uses_global_rng,  # BaseDataset and the Runner draw from it
]


# ---- what a user has: written as in the pages of mmengine and mmdet, whose own transforms need a compiled mmcv


@DATASETS.register_module()
class TinyCoco(BaseDataset):
    METAINFO = {"classes": ("box", "disc", "wedge")}  # noqa: RUF012 - mmengine's own way

    def load_data_list(self) -> list[dict[str, Any]]:
        content = json.loads(Path(self.ann_file).read_text())
        found = []
        for image in content["images"]:
            instances = []
            for annotation in content["annotations"]:
                if annotation["image_id"] == image["id"]:
                    x, y, width, height = annotation["bbox"]
                    instances.append(
                        {
                            "bbox": [x, y, x + width, y + height],
                            "bbox_label": annotation["category_id"] - 1,
                            "ignore_flag": 0,
                            "mask": annotation["segmentation"],
                            "annotator": f"person {annotation['id']}",
                        }
                    )
            file = str(Path(self.data_prefix["img_path"]) / image["file_name"])
            found.append(
                {"img_path": file, "img_id": image["id"], "height": image["height"], "width": image["width"]}
                | {"instances": instances}
            )
        return found


@TRANSFORMS.register_module()
class LoadImageFromFile:
    def __init__(self, to_float32: bool = False) -> None:
        self.to_float32 = to_float32

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        image = cv2.imread(results["img_path"])
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadAnnotations:
    def __init__(self, with_mask: bool = False, poly2mask: bool = True, with_seg: bool = False) -> None:
        self.with_mask, self.poly2mask, self.with_seg = with_mask, poly2mask, with_seg

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        if self.with_seg:
            results["gt_seg_map"] = cv2.imread(results["seg_map_path"], cv2.IMREAD_UNCHANGED)
            return results
        instances = results["instances"]
        boxes = np.array([instance["bbox"] for instance in instances], np.float32).reshape(-1, 4)
        results["gt_bboxes"] = torch.from_numpy(boxes)
        results["gt_bboxes_labels"] = np.array([instance["bbox_label"] for instance in instances], np.int64)
        results["gt_ignore_flags"] = np.array([instance["ignore_flag"] for instance in instances], bool)
        if self.with_mask:
            height, width = results["ori_shape"]
            masks = []
            for instance in instances:
                given = instance["mask"]
                if isinstance(given, list):
                    runs = coco_mask.merge(coco_mask.frPyObjects(given, height, width))
                else:
                    assert self.poly2mask, "mmdet ignores such an object in silence"
                    runs = coco_mask.frPyObjects(given, height, width)
                masks.append(coco_mask.decode(runs))
            results["gt_masks"] = np.array(masks, np.uint8).reshape(-1, height, width)
        return results


@TRANSFORMS.register_module()
class FlipAtRandom:
    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        if np.random.rand() < 0.5:  # noqa: NPY002 - as OpenMMLab's transforms draw
            width = results["img_shape"][1]
            results["img"] = results["img"][:, ::-1]
            boxes = results["gt_bboxes"].clone()
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            results["gt_bboxes"] = boxes
            if "gt_masks" in results:
                results["gt_masks"] = results["gt_masks"][:, :, ::-1]
        return results


@TRANSFORMS.register_module()
class GiveUpOn:
    """As a crop that finds no object does; `share` of the items, by their pixels."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        return None if int(results["img"][:2].sum()) % 97 < 97 * self.share else results


@TRANSFORMS.register_module()
class Pack:
    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        image = torch.from_numpy(np.ascontiguousarray(results["img"].transpose(2, 0, 1)))
        sample = BaseDataElement(**{key: value for key, value in results.items() if key != "img"})
        return {"inputs": image, "data_samples": sample}


SEEN: list[tuple[np.ndarray, dict[str, Any], bool | None]] = []


@MODELS.register_module()
class TinyModel(BaseModel):
    """Counts what comes into its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3)

    def forward(self, inputs: Any, data_samples: Any, mode: str = "tensor", is_generated: Any = None) -> Any:
        assert mode == "loss"
        for at, (image, sample) in enumerate(zip(inputs, data_samples, strict=True)):
            pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[:, :, ::-1]).astype(np.uint8)
            SEEN.append((pixels, dict(sample.items()), None if is_generated is None else bool(is_generated[at])))
        return {"loss": torch.stack([self.conv(image[None].float() / 255).mean() for image in inputs]).mean()}


# ---- helpers


PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_mask": True},
    {"type": "FlipAtRandom"},
    {"type": "Pack"},
]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_coco_shapes(tmp_path_factory.mktemp("coco"), 8)


def make_config(coco: tuple[Path, Path], pipeline: list[Any] | None = None) -> dict[str, Any]:
    images, file = coco
    return {
        "type": "TinyCoco", "ann_file": str(file), "data_prefix": {"img_path": str(images)},
        "pipeline": PIPELINE if pipeline is None else pipeline,
    }  # fmt: skip


def make_dataset(coco: tuple[Path, Path], pipeline: list[Any] | None = None, **options: Any) -> SynthDataset:
    return SynthDataset(make_config(coco, pipeline), **{"generator": Redraw(), "ratio": 1.0, **options})


def train(
    folder: Path, dataset: dict[str, Any], *, num_workers: int = 0, loop: dict[str, Any] | None = None,
    sampler: dict[str, Any] | None = None, hooks: tuple[Any, ...] = ({"type": "MixedEpochHook"},),
) -> Runner:  # fmt: skip
    SEEN.clear()
    runner = Runner(
        model={"type": "TinyModel"},
        work_dir=str(folder),
        train_dataloader={
            "batch_size": 2, "num_workers": num_workers, "persistent_workers": num_workers > 0, "dataset": dataset,
            "sampler": sampler or {"type": "DefaultSampler", "shuffle": True},
        },
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
        train_cfg=loop or {"by_epoch": True, "max_epochs": 2},
        custom_hooks=list(hooks),
        default_hooks={"checkpoint": None},
        randomness={"seed": 3},
        default_scope="mmengine",
        experiment_name=f"{folder.name}{num_workers}",
        log_level="ERROR",
    )  # fmt: skip
    threads = torch.get_num_threads()
    runner.train()
    torch.set_num_threads(threads)
    vars(runner.train_loop).pop("dataloader_iterator", None)  # lets the workers go
    runner.train_dataloader._iterator = None
    return runner


def describe(seen: tuple[np.ndarray, dict[str, Any], Any]) -> tuple[Any, ...]:
    image, sample, _ = seen
    return image.tobytes(), sample["gt_bboxes"].numpy().tobytes(), sample["gt_bboxes_labels"].tobytes()


def assert_labels_true(image: np.ndarray, sample: dict[str, Any]) -> None:
    boxes, classes = np.asarray(sample["gt_bboxes"]), sample["gt_bboxes_labels"]
    assert_boxes_true(image, boxes, classes)
    for mask, class_id in zip(sample["gt_masks"], classes, strict=True):
        assert np.array_equal(mask > 0, find_color(image, class_id) & (mask > 0))
        assert mask.any()
    for class_id in range(3):
        drawn = sample["gt_masks"][classes == class_id].any(axis=0)
        assert (find_color(image, class_id) & ~drawn).sum() <= 12


class TestTraining:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_generated_items_reach_the_loss_at_the_asked_share_with_true_labels(
        self, coco: tuple[Path, Path], tmp_path: Path, num_workers: int
    ) -> None:
        dataset = {"type": "SynthDataset", "dataset": make_config(coco), "generator": Redraw(), "ratio": 0.5}
        runner = train(tmp_path, {**dataset, "mark": "is_generated"}, num_workers=num_workers)
        assert len(SEEN) == 24
        made = [is_generated_ground(image) for image, _, _ in SEEN]
        assert made == [mark for _, _, mark in SEEN]
        assert [sum(made[:12]), sum(made[12:])] == [4, 4]
        for image, sample, _ in SEEN:
            assert_labels_true(image, sample)
        generated = [{seen[0][:, ::step].tobytes() for seen, flag in pairs if flag}
                     for pairs in (list(zip(SEEN, made, strict=True))[:12], list(zip(SEEN, made, strict=True))[12:])
                     for step in (1, -1)]  # fmt: skip
        assert not (generated[0] | generated[1]) & (generated[2] | generated[3]), "another epoch has other variants"
        report = runner.train_dataloader.dataset.report()
        assert (report.generated, report.real) == (8, 16)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_at_ratio_0_the_loss_sees_the_same_bits(
        self, coco: tuple[Path, Path], tmp_path: Path, num_workers: int
    ) -> None:
        train(tmp_path / "bare", make_config(coco), num_workers=num_workers, hooks=())
        wanted = [describe(seen) for seen in SEEN]
        wrapped = {
            "type": "SynthDataset",
            "dataset": make_config(coco),
            "generator": {"type": "CopyPaste"},
            "ratio": 0.0,
        }
        train(tmp_path / "wrapped", wrapped, num_workers=num_workers)
        assert [describe(seen) for seen in SEEN] == wanted
        assert len(wanted) == 16

    def test_loops_by_iterations_get_their_epochs_from_the_sampler(
        self, coco: tuple[Path, Path], tmp_path: Path
    ) -> None:
        dataset = {"type": "SynthDataset", "dataset": make_config(coco), "generator": Redraw(), "ratio": 1.0}
        loop = {"by_epoch": False, "max_iters": 16}
        sampler = {"type": "MixedInfiniteSampler", "shuffle": True}
        train(tmp_path, dataset, loop=loop, sampler=sampler, num_workers=2, hooks=())
        made = [{seen[0].tobytes(), seen[0][:, ::-1].tobytes()} for seen in SEEN if is_generated_ground(seen[0])]
        assert len(made) == 16
        assert len(set().union(*made)) == 32, "two passes, no image twice"


class TestItems:
    def test_boxes_and_masks_are_true_on_pixels_for_copy_paste_too(self, coco: tuple[Path, Path]) -> None:
        dataset = make_dataset(coco, generator={"type": "CopyPaste"}, ratio=3.0)
        for index in range(8, 32):
            item = dataset[index]
            image = np.ascontiguousarray(item["inputs"].permute(1, 2, 0).numpy()[:, :, ::-1])
            sample = dict(item["data_samples"].items())
            classes = sample["gt_bboxes_labels"]
            for mask, class_id in zip(sample["gt_masks"], classes, strict=True):
                assert (find_color(image, class_id)[mask > 0]).mean() > 0.9
            assert len(sample["instances"]) == len(classes)

    def test_fields_are_what_loading_would_have_left(self, coco: tuple[Path, Path]) -> None:
        pipeline = [{"type": "LoadImageFromFile", "to_float32": True}, {"type": "LoadAnnotations"}]
        dataset = make_dataset(coco, pipeline, generator=ColorTransfer())
        real, made = dataset[3], dataset[8 + 3]
        source = dataset[dataset.mix.draw(11).source]
        assert list(made) == list(real) or set(made) == set(real)
        assert (made["img"].dtype, made["img"].shape) == (np.float32, real["img"].shape)
        assert [made[key] for key in ("img_shape", "ori_shape", "height", "img_id")] == [
            source[key] for key in ("img_shape", "ori_shape", "height", "img_id")
        ]
        assert made["instances"] == source["instances"], "a colour transfer leaves every object where it is"
        assert torch.equal(made["gt_bboxes"], source["gt_bboxes"])

    def test_an_object_that_was_pasted_keeps_the_fields_of_its_donor(self, coco: tuple[Path, Path]) -> None:
        dataset = make_dataset(coco, [*PIPELINE[:2]], generator=CopyPaste())
        people = {instance["annotator"] for index in range(8) for instance in dataset[index]["instances"]}
        for index in range(8, 16):
            assert {instance["annotator"] for instance in dataset[index]["instances"]} <= people

    def test_polygons_are_traced_where_the_pipeline_reads_nothing_else(self, coco: tuple[Path, Path]) -> None:
        dataset = make_dataset(coco, [PIPELINE[0], {"type": "LoadAnnotations", "with_mask": True, "poly2mask": False}])
        for index in range(8, 16):
            item = dataset[index]
            assert all(isinstance(instance["mask"], list) for instance in item["instances"])
            assert_labels_true(np.ascontiguousarray(item["img"][:, :, ::-1]), item)

    def test_a_pipeline_that_gives_up_gets_another_generated_item(self, coco: tuple[Path, Path]) -> None:
        pipeline = [*PIPELINE[:2], {"type": "GiveUpOn", "share": 0.5}, {"type": "Pack"}]
        dataset = make_dataset(coco, pipeline, mark="made", ratio=2.0)
        items = [dataset[index] for index in range(8, 24)]
        assert all(bool(item["made"]) for item in items)
        images = [np.ascontiguousarray(item["inputs"].permute(1, 2, 0).numpy()[:, :, ::-1]) for item in items]
        assert all(map(is_generated_ground, images))
        assert len({image.tobytes() for image in images}) < 16, "some were served twice, for others gave up"

    def test_semantic_masks_follow_their_images(self, tmp_path: Path) -> None:
        images, masks = write_masks(tmp_path, 6)

        class TinySegments(BaseDataset):
            METAINFO = {"classes": ("ground", "box", "disc", "wedge")}  # noqa: RUF012

            def load_data_list(self) -> list[dict[str, Any]]:
                for mask in masks.iterdir():  # ids, not colours
                    ids = np.asarray(__import__("PIL.Image").Image.open(mask))
                    cv2.imwrite(str(mask), ids)
                return [
                    {"img_path": str(file), "seg_map_path": str(masks / file.name), "seg_fields": ["gt_seg_map"]}
                    for file in sorted(images.iterdir())
                ]

        real = TinySegments(pipeline=[LoadImageFromFile(), LoadAnnotations(with_seg=True)])
        dataset = SynthDataset(real, Redraw(), 1.0)
        for index in range(12):
            item = dataset[index]
            image = np.ascontiguousarray(item["img"][:, :, ::-1])
            assert is_generated_ground(image) == (index >= 6)
            assert_mask_true(image, item["gt_seg_map"].astype(np.int64))
            assert (item["gt_seg_map"].dtype, item["seg_fields"]) == (np.uint8, ["gt_seg_map"])

    def test_classes_follow_their_images(self, tmp_path: Path) -> None:
        folder = write_imagefolder(tmp_path, 6) / "train"

        class TinyFolder(BaseDataset):
            METAINFO = {"classes": ("box", "disc", "wedge")}  # noqa: RUF012

            def load_data_list(self) -> list[dict[str, Any]]:
                names = self.METAINFO["classes"]
                return [
                    {"img_path": str(file), "gt_label": names.index(file.parent.name)} for file in folder.rglob("*.png")
                ]

        dataset = SynthDataset(TinyFolder(pipeline=[LoadImageFromFile()]), Redraw(), 1.0)
        for index in range(12):
            item = dataset[index]
            image = np.ascontiguousarray(item["img"][:, :, ::-1])
            assert is_generated_ground(image) == (index >= 6)
            assert find_color(image, item["gt_label"]).sum() > 50

    def test_a_cache_gives_the_same_items_again(self, coco: tuple[Path, Path], tmp_path: Path) -> None:
        options: dict[str, Any] = {"cache": str(tmp_path / "cache"), "variants": 1, "generator": Redraw()}
        first = make_dataset(coco, [*PIPELINE[:2]], **options)
        wanted = [first[index]["img"].tobytes() for index in range(8, 16)]
        second = make_dataset(coco, [*PIPELINE[:2]], **options)
        items = [second[index] for index in range(8, 16)]
        assert [item["img"].tobytes() for item in items] == wanted
        assert second.report().sets["generated"].cache_hits == 8
        for item in items:
            assert_labels_true(np.ascontiguousarray(item["img"][:, :, ::-1]), item)


class TestAsAWrapper:
    def test_it_has_what_mmengine_asks_of_wrappers(self, coco: tuple[Path, Path]) -> None:
        dataset = make_dataset(coco, lazy_init=True)
        assert dataset.metainfo["classes"] == ("box", "disc", "wedge")
        dataset.full_init()
        assert len(dataset) == 16
        assert dataset.get_data_info(2) == dataset.dataset.get_data_info(2)
        info = dataset.get_data_info(9)
        assert set(info) == {"height", "width", "img_id", "sample_idx"}
        assert info["sample_idx"] == dataset.mix.draw(9).source
        with pytest.raises(NotImplementedError, match=r"^Take the subset of the wrapped dataset"):
            dataset.get_subset(3)

    def test_repeated_and_concatenated_it_still_learns_its_epoch(self, coco: tuple[Path, Path]) -> None:
        inner = {
            "type": "SynthDataset",
            "dataset": make_config(coco),
            "generator": {"type": "ColorTransfer"},
            "ratio": 1.0,
        }
        outer = DATASETS.build({"type": "RepeatDataset", "dataset": inner, "times": 2})

        class FakeRunner:
            train_dataloader = torch.utils.data.DataLoader(outer)
            epoch = 7

        MixedEpochHook().before_train_epoch(FakeRunner())
        assert outer.dataset.epoch == 7

    def test_a_hook_without_a_mix_is_refused(self, coco: tuple[Path, Path]) -> None:
        class FakeRunner:
            train_dataloader = torch.utils.data.DataLoader(DATASETS.build(make_config(coco)))
            epoch = 0

        with pytest.raises(ValueError) as caught:
            MixedEpochHook().before_train_epoch(FakeRunner())
        assert str(caught.value) == (
            "train_dataloader must have a SynthDataset, got train_dataloader='TinyCoco'. Leave MixedEpochHook out."
        )

    def test_the_infinite_sampler_counts_passes(self, coco: tuple[Path, Path]) -> None:
        sampler = MixedInfiniteSampler(make_dataset(coco), shuffle=True, seed=0)
        indices = [index for index, _ in zip(sampler, range(48), strict=False)]
        assert all(type(index) is EpochIndex for index in indices)
        assert [index.epoch for index in indices] == [0] * 16 + [1] * 16 + [2] * 16
        assert [sorted(indices[at : at + 16]) for at in (0, 16, 32)] == [list(range(16))] * 3


class TestRefused:
    def test_a_transform_that_loads_behind_others(self, coco: tuple[Path, Path]) -> None:
        pipeline = [PIPELINE[0], {"type": "GiveUpOn", "share": 0.0}, PIPELINE[1]]
        with pytest.raises(ValueError) as caught:
            make_dataset(coco, pipeline)
        assert str(caught.value) == (
            "pipeline must load before it transforms, got pipeline=['LoadImageFromFile', 'GiveUpOn', "
            "'LoadAnnotations']. Put them first, or say how many load: num_loading=2."
        )

    def test_a_wrapper_without_a_pipeline(self, coco: tuple[Path, Path]) -> None:
        with pytest.raises(TypeError) as caught:
            SynthDataset({"type": "RepeatDataset", "dataset": make_config(coco), "times": 2}, Redraw(), 1.0)
        assert str(caught.value) == (
            "dataset must be a BaseDataset with a pipeline of its own, got dataset='RepeatDataset'. Wrap each dataset "
            "inside ConcatDataset or RepeatDataset by itself."
        )

    def test_labels_that_are_loaded_from_elsewhere(self, coco: tuple[Path, Path]) -> None:
        class LoadBoxesAside(LoadAnnotations):
            def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
                results["gt_bboxes"] = np.ones((2, 4))
                return results

        dataset = SynthDataset(
            TinyCoco(**{key: value for key, value in make_config(coco).items() if key not in ("type", "pipeline")},
                     pipeline=[LoadImageFromFile(), LoadBoxesAside()]), Redraw(), 1.0)  # fmt: skip
        with pytest.raises(LabelContractError) as caught:
            dataset[8]
        assert str(caught.value) == (
            "the loading transforms fill ['gt_bboxes'] from elsewhere than 'instances': a generated image would get "
            "the labels of its source. Write the annotation as OpenMMLab's 'instances'."
        )

    def test_a_loader_that_reads_the_image_again(self, coco: tuple[Path, Path]) -> None:
        class LoadEverything(LoadAnnotations):
            def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
                return super().__call__(LoadImageFromFile()(results))

        options = {key: value for key, value in make_config(coco).items() if key not in ("type", "pipeline")}
        dataset = SynthDataset(TinyCoco(**options, pipeline=[LoadEverything()]), Redraw(), 1.0)
        with pytest.raises(LabelContractError, match=r"^LoadEverything must load annotations from 'instances'"):
            dataset[8]

    def test_an_unknown_generator(self, coco: tuple[Path, Path]) -> None:
        with pytest.raises(ValueError, match=r"^generator must be known, got generator='copy_past'. Did you mean"):
            make_dataset(coco, generator={"type": "CopyPast"})
