"""In the batches of the loss, labels agree with the pixels, and generated images are there at the asked share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from synthloader import Only, Replace
from synthloader.adapters.ultralytics import synth_trainer
from synthloader.adapters.ultralytics.labels import LabelForm, _cut_at_border, write_labels
from synthloader.epoch_index import EpochIndex
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.shapes import Redraw
from tests.trainers.ultralytics.runs import (
    BOX_TASKS,
    MODELS,
    PLAIN,
    assert_cut,
    assert_whole,
    build_dataset,
    get_trainer,
    is_bright,
    list_images,
    make_redraw,
    share_bright,
    train,
    write_data,
)


def run(task: str, folder: Path, *, count: int = 8, **options: Any) -> Any:
    kind = {name: options.pop(name) for name in ("ratio", "plan", "seed") if name in options}
    made = synth_trainer(get_trainer(task), generator=make_redraw(task), mark="is_generated", **kind)
    return train(made, task, folder, write_data(folder, task, count), mask_ratio=1, **options)


@pytest.mark.parametrize("task", MODELS)
def test_labels_of_whole_images_are_true_and_the_share_is_exact(task: str, tmp_path: Path) -> None:
    trainer = run(task, tmp_path, ratio=0.5, epochs=2, **PLAIN)
    for epoch in range(2):
        batches = [batch for at, batch in trainer.seen if at == epoch]
        marks = [float(mark) for batch in batches for mark in batch["is_generated"]]
        assert (len(marks), sum(marks)) == (12, 4)
        for batch in batches:
            assert_whole(batch, task)
            assert [is_bright(image) for image in list_images(batch)] == [mark == 1 for mark in batch["is_generated"]]
    report = trainer.mix.report()
    assert (report.real, report.generated, report.sets["generated"].asked) == (16, 8, 8)


@pytest.mark.parametrize("task", BOX_TASKS)
def test_labels_are_true_in_mosaics_of_real_and_generated_tiles(task: str, tmp_path: Path) -> None:
    trainer = run(task, tmp_path, ratio=1.0, count=12, mosaic=1.0, scale=0.0, close_mosaic=0, imgsz=160)
    shares = []
    for _, batch in trainer.seen:
        if task != "obb":  # the corners of a rotated box that is cut are outside of the image
            assert_cut(batch, task)
        for image, mark in zip(list_images(batch), batch["is_generated"].tolist(), strict=True):
            assert mark in (0.0, 0.25, 0.5, 0.75, 1.0)
            shares.append(mark)
            if mark in (0.0, 1.0):
                assert share_bright(image) == pytest.approx(mark, abs=0.1)
    assert 0.3 < sum(shares) / len(shares) < 0.7
    assert len(set(shares)) > 2


def test_every_image_is_generated_with_only(tmp_path: Path) -> None:
    trainer = run("detect", tmp_path, plan=Only(), epochs=1, **PLAIN)
    assert [mark for _, batch in trainer.seen for mark in batch["is_generated"].tolist()] == [1.0] * 8
    for _, batch in trainer.seen:
        assert_whole(batch, "detect")


def test_replaced_images_keep_the_length_and_change_with_the_epoch(tmp_path: Path) -> None:
    trainer = run("detect", tmp_path, plan=Replace(1.0), epochs=3, **PLAIN)
    replaced = []
    for epoch in range(3):
        pairs = [
            (file, mark)
            for at, batch in trainer.seen
            if at == epoch
            for file, mark in zip(batch["im_file"], batch["is_generated"].tolist(), strict=True)
        ]
        assert len({file for file, _ in pairs}) == 8
        assert sum(mark for _, mark in pairs) == 4
        replaced.append({file for file, mark in pairs if mark})
    assert len(set(map(frozenset, replaced))) > 1
    for _, batch in trainer.seen:
        assert_whole(batch, "detect")


class Brighten:
    """Keeps every object as it is, so that its labels must be those of the real image."""

    keeps = Redraw.keeps
    fingerprint = "Brighten/1"

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        return source.edit(image=np.maximum(source.image, 120), target=source.target)


def list_pairs(task: str, folder: Path, labels: list[str], **more: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The real item and the generated one for each label file; images are 200 x 60."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for at, text in enumerate(labels):
            cv2.imwrite(str(folder / "images" / split / f"{at}.png"), np.full((60, 200, 3), 60, np.uint8))
            (folder / "labels" / split / f"{at}.txt").write_text(text)
    data = folder / "data.yaml"
    data.write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": ["a", "b"], **more}))
    made = synth_trainer(get_trainer(task), generator=Brighten(), ratio=1.0)
    dataset = build_dataset(made, task, folder, data, fliplr=0.0, **PLAIN)
    num_real, pairs = len(dataset) // 2, []
    for at in range(num_real, 2 * num_real):
        real = dataset[EpochIndex(dataset._real_places[dataset.mix.find_place(0, at)], epoch=0)]
        generated = dataset[EpochIndex(at, epoch=0)]
        assert (real["img"].float().min(), generated["img"].float().min()) == (60, 114)  # 114 is that of the padding
        pairs.append((real, generated))
    return pairs


RECTANGLE = cv2.boxPoints(((100, 30), (60, 16), 20.0))
POLYGONS = {
    "four corners": RECTANGLE,
    "five corners": np.vstack([RECTANGLE, (RECTANGLE[3] + RECTANGLE[0]) / 2]),
    "a trapezium": np.array([[40, 10], [150, 18], [140, 40], [70, 50]]),
    "a triangle": np.array([[40, 10], [170, 18], [60, 50]]),
    "a hexagon": np.array([[60, 12], [120, 8], [150, 20], [140, 44], [80, 52], [50, 36]]),
    "a hexagon at the border": np.array([[0, 30], [40, 4], [70, 0], [80, 12], [40, 40], [8, 56]]),
}


def test_an_unchanged_rotated_box_is_the_real_one_however_many_corners_it_has(tmp_path: Path) -> None:
    rows = [" ".join(["0", *(f"{v:.6f}" for v in (corners / [200, 60]).ravel())]) for corners in POLYGONS.values()]
    names: list[str] = []
    for real, generated in list_pairs("obb", tmp_path / "data", rows):
        name = list(POLYGONS)[int(Path(real["im_file"]).stem)]
        assert len(real["bboxes"]) == 1
        names.append(name)
        np.testing.assert_allclose(generated["bboxes"].numpy(), real["bboxes"].numpy(), atol=4e-3, err_msg=name)
    assert sorted(names) == sorted(POLYGONS)


@pytest.mark.parametrize("count", [2, 3])
def test_unchanged_keypoints_are_the_real_ones(count: int, tmp_path: Path) -> None:
    seen = [2, 1, 2]
    texts = ["0 0.5 0.5 0.4 0.6", "1 0.4 0.5 0.4 0.6"]
    points = [[0.4, 0.4], [0.5, 0.6], [0.6, 0.3]], [[0.3, 0.4], [-0.005 if count == 2 else 0.2, 0.5], [0.5, 0.3]]
    for at, rows in enumerate(points):
        for (x, y), visibility in zip(rows, seen, strict=True):
            texts[at] += f" {x} {y}" + (f" {visibility}" if count == 3 else "")
    hidden = []
    for real, generated in list_pairs("pose", tmp_path / "data", texts, kpt_shape=[3, count]):
        visibility = real["keypoints"][..., 2]
        assert visibility.tolist() == generated["keypoints"][..., 2].tolist()
        labelled = visibility > 0
        assert torch.allclose(real["keypoints"][labelled], generated["keypoints"][labelled], atol=1e-3)
        hidden.append(int((~labelled).sum()))
    # Old releases leave out an image with a coordinate below 0, whatever it is of.
    assert sorted(hidden) == ([0] if count == 2 and len(hidden) == 1 else [0, 3 - count])


def test_a_rotated_box_that_leaves_the_image_is_labelled_by_what_lies_inside(tmp_path: Path) -> None:
    polygon = POLYGONS["a hexagon at the border"].astype(np.float32)
    center, sides, angle = cv2.minAreaRect(polygon)
    corners = cv2.boxPoints((center, sides, angle))
    assert corners.min() < -5
    mask = np.zeros((60, 200), np.uint8)
    cv2.fillPoly(mask, [corners.astype(int)], 1)
    points = np.concatenate([corners, np.full((4, 1), 2)], axis=1)[None].astype(np.float32)
    box = np.array([[*corners.min(axis=0).clip(0), *corners.max(axis=0)]], np.float32)
    target = Instances(np.array([0]), box, mask[None].astype(bool), points)
    sample = Sample(np.zeros((60, 200, 3), np.uint8), target)
    form = LabelForm(task="obb", has_segments=True, num_classes=1)
    (segment,) = write_labels(sample, form, find_source=lambda _: None).segments or []
    assert segment.min() >= 0
    assert segment.max() <= 1
    found = cv2.minAreaRect(segment * np.array([200, 60], np.float32))
    np.testing.assert_allclose(np.concatenate([found[0], found[1], [found[2]]]), [*center, *sides, angle], atol=0.02)


@pytest.mark.parametrize("turn", range(4))
def test_a_rotated_box_with_a_side_on_the_border_is_cut_to_its_own_pixels(turn: int) -> None:
    """OpenCV's intersection gives the whole image there."""
    upright = np.array([[0, 20], [0, 60], [-6, 60], [-6, 20]], np.float32)
    partly = np.array([[-4, 20], [30, 20], [30, 60], [-4, 60]], np.float32)
    slanted = np.array([[0, 59], [-3.2, 43], [36, 35], [39, 51]], np.float32)
    for corners, wanted in ((partly, 30 * 40), (slanted, None), (upright, None)):
        turned = corners
        for _ in range(turn):
            turned = np.stack([80 - turned[:, 1], turned[:, 0]], axis=1)  # in a square of 80 x 80
        cut = _cut_at_border((turned / 80).astype(np.float32), (80, 80)) * 80
        area = cv2.contourArea(cut.astype(np.float32))
        assert area <= cv2.contourArea(corners) + 1e-3
        if wanted is not None:
            assert area == pytest.approx(wanted, rel=1e-4)
