"""Short trainings of every task on drawn shapes, with all batches that the loss saw."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.shapes import BRIGHT, DARK, NAMES, Redraw, assert_boxes_true, assert_mask_true, find_color, write_yolo

MODELS = {
    "detect": "yolov8n.yaml",
    "segment": "yolov8n-seg.yaml",
    "pose": "yolov8n-pose.yaml",
    "obb": "yolov8n-obb.yaml",
    "classify": "yolov8n-cls.yaml",
}
BOX_TASKS = ("detect", "segment", "pose", "obb")
PLAIN: dict[str, Any] = {"mosaic": 0.0, "scale": 0.0, "translate": 0.0}
"""Every image is shown whole: nothing is cut, so that labels can be judged to the pixel."""


class RedrawBoxes(Redraw):
    """`Redraw` for rotated boxes: masks are what the four corners enclose, as in the samples of such data."""

    fingerprint = "RedrawBoxes/1"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        made = super().generate(source, rng=rng)
        assert isinstance(made.target, Instances)
        masks = np.zeros((len(made.target), *made.size_hw), np.bool_)
        for mask, (x1, y1, x2, y2) in zip(masks, made.target.boxes.astype(int), strict=True):
            mask[y1:y2, x1:x2] = True
        return made.replace(target=made.target.replace(masks=masks))


def make_redraw(task: str) -> Redraw:
    """The generator of drawings for a task."""
    return RedrawBoxes() if task == "obb" else Redraw()


@cache
def get_trainer(task: str) -> Any:
    """Ultralytics' own trainer, as a user's subclass that keeps the batches of the loss."""
    from ultralytics.models import yolo

    base: Any = {
        "detect": yolo.detect.DetectionTrainer,
        "segment": yolo.segment.SegmentationTrainer,
        "pose": yolo.pose.PoseTrainer,
        "obb": yolo.obb.OBBTrainer,
        "classify": yolo.classify.ClassificationTrainer,
    }[task]

    def preprocess_batch(self: Any, batch: dict[str, Any]) -> dict[str, Any]:
        ready: dict[str, Any] = base.preprocess_batch(self, batch)
        kept = {name: value.clone() if hasattr(value, "clone") else value for name, value in ready.items()}
        vars(self).setdefault("seen", []).append((getattr(self, "epoch", 0), kept))
        return ready

    return type(f"Keeping{base.__name__}", (base,), {"preprocess_batch": preprocess_batch, "__module__": __name__})


def __getattr__(name: str) -> Any:
    """The classes by name, so that they can be pickled."""
    for task in MODELS if name.startswith("Keeping") else ():
        if get_trainer(task).__name__ == name:
            return get_trainer(task)
    raise AttributeError(name)


def make_arguments(task: str, folder: Path, data: Any, **changes: Any) -> dict[str, Any]:
    """Arguments of a run of a second or two."""
    arguments: dict[str, Any] = {
        "task": task,
        "mode": "train",
        "model": MODELS[task],
        "data": str(data),
        "epochs": 1,
        "imgsz": 96,
        "batch": 4,
        "device": "cpu",
        "workers": 0,
        "amp": False,
        "plots": False,
        "val": False,
        "save": False,
        "verbose": False,
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": 0.0,
        "erasing": 0.0,
        "auto_augment": None,
        "project": str(folder),
        "exist_ok": True,
        "pretrained": False,
    }
    return arguments | changes


def train(kind: Any, task: str, folder: Path, data: Any, **changes: Any) -> Any:
    """Train as a user does; gives the trainer, with `seen`: (epoch, batch) of every step."""
    from ultralytics import YOLO

    arguments = make_arguments(task, folder / "runs", data, **changes)
    model = YOLO(arguments.pop("model"), task=task)
    workers = arguments["workers"]
    if workers:  # newer releases take them away on the CPU
        model.add_callback("on_pretrain_routine_start", lambda trainer: setattr(trainer.args, "workers", workers))
    model.train(trainer=kind, **arguments)
    return model.trainer


def build(kind: Any, task: str, folder: Path, data: Any, **changes: Any) -> Any:
    """A trainer whose training data can be built: model and stride are there, nothing is trained."""
    trainer = kind(overrides=make_arguments(task, folder / "runs", data, **changes))
    trainer.setup_model()
    trainer.set_model_attributes()
    trainer.stride = 32
    trainer.args.workers = changes.get("workers", 0)
    return trainer


def get_train_path(trainer: Any) -> Any:
    """Where the training images lie: newer and older releases keep it in different places."""
    return trainer.data["train"]


def build_dataset(kind: Any, task: str, folder: Path, data: Any, **changes: Any) -> Any:
    """The training dataset of a trainer."""
    trainer = build(kind, task, folder, data, **changes)
    return trainer.build_dataset(get_train_path(trainer), "train", trainer.batch_size)


def build_loader(kind: Any, task: str, folder: Path, data: Any, *, rank: int = -1, **changes: Any) -> Any:
    """The training loader of a trainer, and the trainer."""
    trainer = build(kind, task, folder, data, **changes)
    loader = trainer.get_dataloader(get_train_path(trainer), batch_size=trainer.batch_size, rank=rank, mode="train")
    return loader, trainer


def write_data(folder: Path, task: str, count: int = 8, **options: Any) -> Path:
    """A data set of drawn shapes for a task."""
    return write_yolo(folder / "data", count, task=task, **options)


# ---- what a batch shows


def list_images(batch: dict[str, Any]) -> list[np.ndarray]:
    """(H, W, 3) uint8 RGB of each image."""
    images = batch["img"].float()
    images = images if batch["img"].dtype == torch.uint8 else images * 255
    return [image.permute(1, 2, 0).round().clamp(0, 255).byte().numpy().copy() for image in images]


def list_rows(batch: dict[str, Any], at: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and classes of one image: (N, 4 or 5) in shares, (N,)."""
    rows = batch["batch_idx"].reshape(-1) == at
    return batch["bboxes"][rows].numpy(), batch["cls"][rows].reshape(-1).numpy().astype(int)


def list_boxes(batch: dict[str, Any], at: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes x1 y1 x2 y2 in pixels, and classes, of one image."""
    boxes, class_ids = list_rows(batch, at)
    height, width = batch["img"].shape[2:]
    scale = np.array([width, height, width, height])
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], axis=1)
    return corners * scale, class_ids


def paint_ids(batch: dict[str, Any], at: int) -> np.ndarray:
    """(h, w) the class + 1 of each pixel, from overlapped masks."""
    _, class_ids = list_rows(batch, at)
    places = batch["masks"][at].numpy().astype(int)
    return np.concatenate([[0], class_ids + 1])[places]


def is_bright(image: np.ndarray) -> bool:
    """Whether the ground is that of a generated image; padding of grey 114 lies between the two and counts for none."""
    spread = np.ptp(image.astype(int), axis=2)
    level = image.astype(int).mean(axis=2)
    grey = (spread < 12) & (np.abs(level - 114) > 6)
    return bool(np.mean(np.abs(level[grey] - BRIGHT) < np.abs(level[grey] - DARK)) > 0.5)


def share_bright(image: np.ndarray) -> float:
    """The share of bright ground in all ground of an image."""
    spread = np.ptp(image.astype(int), axis=2)
    level = image.astype(int).mean(axis=2)
    bright, dark = ((spread < 12) & (np.abs(level - ground) < 14) for ground in (BRIGHT, DARK))
    return float(bright.sum() / max(1, bright.sum() + dark.sum()))


def assert_whole(batch: dict[str, Any], task: str) -> None:
    """All labels of images that are shown whole agree with the pixels."""
    for at, image in enumerate(list_images(batch)):
        if task == "classify":
            counts = [find_color(image, class_id).sum() for class_id in range(len(NAMES))]
            assert int(np.argmax(counts)) == int(batch["cls"][at]), f"{counts} for class {int(batch['cls'][at])}"
            continue
        boxes, class_ids = list_boxes(batch, at)
        if task == "obb":
            angles = list_rows(batch, at)[0][:, 4]
            turned = np.abs(np.cos(angles)) < 0.5  # a box on its side: width and height are exchanged
            centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
            assert (np.minimum(np.abs(np.sin(angles)), np.abs(np.cos(angles))) < 0.12).all(), angles
            sides[turned] = sides[turned][:, ::-1]
            boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
        assert_boxes_true(image, boxes, class_ids, slack=2.5)
        if task == "segment":
            ids = paint_ids(batch, at)
            assert ids.shape == image.shape[:2], "mask_ratio=1 is needed to compare"
            assert_mask_true(image, ids, most_wrong=0.02)
        if task == "pose":
            rows = batch["batch_idx"].reshape(-1) == at
            points = batch["keypoints"][rows].numpy()[..., :2] * np.array(image.shape[1::-1])
            assert points.shape[1] == 4
            low, high = points.min(axis=1), points.max(axis=1)
            np.testing.assert_allclose(np.concatenate([low, high], axis=1), boxes, atol=1.5)


def assert_cut(batch: dict[str, Any], task: str, *, most_stray: int = 280) -> None:
    """All labels of mosaics and the like agree with the pixels.

    Ultralytics drops what is left of an object when less than a tenth is: of the largest shape, at imgsz 160 and
    without scaling, that is `most_stray` pixels; most shapes have more than a thousand.
    """
    for at, image in enumerate(list_images(batch)):
        boxes, class_ids = list_boxes(batch, at)
        if task == "segment":
            assert_mask_true(image, paint_ids(batch, at), most_wrong=0.03)
            continue
        explained = np.zeros((len(NAMES), *image.shape[:2]), np.bool_)
        for box, class_id in zip(boxes, class_ids, strict=True):
            x1, y1 = np.floor(box[:2] - 2).clip(0).astype(int)
            x2, y2 = np.ceil(box[2:] + 2).astype(int)
            explained[class_id, y1:y2, x1:x2] = True
            inner = find_color(image, class_id)[y1:y2, x1:x2]
            if (box[2:] - box[:2]).min() < 6:
                continue
            assert inner.sum() >= 4, f"no {NAMES[class_id]} in {box}"
            if class_id == 0:  # what is left of a rectangle is a rectangle
                rows, columns = np.nonzero(inner)
                extent = [columns.min() + x1, rows.min() + y1, columns.max() + x1 + 1, rows.max() + y1 + 1]
                assert np.abs(np.array(extent) - box).max() <= 4, f"{box} around {extent}"
        for class_id in range(len(NAMES)):
            stray = (find_color(image, class_id) & ~explained[class_id]).astype(np.uint8)
            sizes = cv2.connectedComponentsWithStats(stray)[2][1:, cv2.CC_STAT_AREA]
            assert not len(sizes) or sizes.max() <= most_stray, f"{sizes.max()} pixels of {NAMES[class_id]} unlabelled"


def hash_batches(loader: Any, num_passes: int = 1) -> list[Any]:
    """Everything in the batches of some passes, to be compared."""
    found = []
    for _ in range(num_passes):
        for batch in loader:
            found.append(
                {
                    name: value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value)
                    for name, value in batch.items()
                }
            )
    return found
