"""The label contract end to end: data sets on disk, what is pasted into them, and what a reader of the result gets.

Polygons, run lengths and rotated boxes follow the rules of masks: what is written draws the visible pixels again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader import GeneratedDataset
from synthloader.adapters import CocoDataset, MasksDataset, VocDataset, YoloDataset
from synthloader.adapters.folders.yolo_labels import YoloRecord, make_record
from synthloader.errors import ShortfallError
from synthloader.exports import export_samples
from synthloader.filters import SinglePolygon
from synthloader.generators.copy_paste import CopyPaste
from synthloader.generators.pasting.cut_out import MASK_IS_BOX
from synthloader.generators.tile import Tile
from synthloader.polygons import is_one_polygon
from synthloader.sample import Sample
from synthloader.sources import Source
from synthloader.targets import Instances, SemanticMask
from tests.contracts.generator_contract import Case, check_sound, generate
from tests.contracts.pasting_contract import check_pasted
from tests.generators.pasting.rotated_scenes import check_rotated_box
from tests.generators.pictures import ListPool, make_picture, make_regions, paint, tight_box

NAMES = {class_id: f"class {class_id}" for class_id in range(1, 5)}

PASTE: dict[str, Any] = {"num_range": (2, 4), "scale_range": (1, 1)}


def write(folder: Path, samples: list[Sample], *, format: str) -> int:
    """Export samples under the names 0, 1, ...; gives how many the format could hold."""
    named = [(str(number), sample) for number, sample in enumerate(samples)]
    return export_samples(named, folder, format=format, class_names=NAMES, image_format="png").num_written


def list_made(generated: GeneratedDataset) -> Iterator[tuple[int, Sample, Any]]:
    """Number, sample and native item of everything that can be made."""
    for at in range(len(generated)):
        try:
            sample = generated.sample(at)
        except ShortfallError:
            continue
        yield at, sample, generated[at]


def drop_fields(sample: Sample) -> Sample:
    """The image and its label alone: exports and readers do not agree on the rest."""
    target: Any = sample.target
    if isinstance(target, Instances):
        target = target.replace(attributes={})
    return Sample(sample.image, target, origin=sample.origin)


def find_number(dataset: Any, at: int) -> int:
    """Under which number a picture was written."""
    return int(Path(dataset.read_facts(at).name).stem)


def read_masks(target: Any) -> np.ndarray:
    """(N, H, W) bool of a native item."""
    masks: np.ndarray = target["masks"].numpy().astype(bool)
    return masks


class TestCoco:
    def test_what_is_pasted_is_in_the_items_and_comes_back_from_a_file(self, tmp_path: Path) -> None:
        pictures = [
            make_picture(number, seed=number, num_keypoints=3, sloppy_boxes=False, kind="any") for number in range(5)
        ]
        pictures = [drop_empty(picture) for picture in pictures]
        assert write(tmp_path / "real", pictures, format="coco") == 5
        real = CocoDataset(tmp_path / "real/images", tmp_path / "real/annotations.json")
        generated = GeneratedDataset(real, CopyPaste(**PASTE), variants=2)
        pool = ListPool([generated.source[at] for at in range(5)], [generated.source.name(at) for at in range(5)])
        case = Case(CopyPaste, pastes=True)
        made = []
        for at, sample, (image, target) in list_made(generated):
            truth: Any = sample.target
            assert (image.permute(1, 2, 0).numpy() == sample.image).all()
            assert (read_masks(target) == truth.masks).all()
            assert target["boxes"].tolist() == truth.boxes.tolist()
            assert target["labels"].tolist() == truth.class_ids.tolist()
            assert target["iscrowd"].tolist() == truth.crowd.tolist()
            assert target["area"].tolist()[-1] == truth.masks[-1].sum()
            assert np.array_equal(target["keypoints"].numpy(), truth.keypoints)
            check_sound(case, pool, generated.source[at // 2], sample)
            made.append(drop_fields(sample))
        assert len(made) >= 8
        assert write(tmp_path / "out", made, format="coco") == len(made)
        again = CocoDataset(tmp_path / "out/images", tmp_path / "out/annotations.json")
        assert len(again) == len(made)
        for at in range(len(again)):
            image, target = again[at]
            sample = made[find_number(again, at)]
            truth = sample.target
            assert (image.permute(1, 2, 0).numpy() == sample.image).all()
            assert (read_masks(target) == truth.masks).all(), "Run lengths and polygons say what is visible."
            assert target["boxes"].tolist() == truth.boxes.tolist()
            assert target["labels"].tolist() == truth.class_ids.tolist()

    def test_masks_with_holes_and_in_parts_come_back(self, tmp_path: Path) -> None:
        """An object in the middle of another leaves a ring; a bar across one leaves two parts."""
        size_hw = (40, 60)
        masks = np.zeros((2, *size_hw), bool)
        masks[0, 4:36, 4:56] = True
        masks[1, 0:2, 0:2] = True
        below = label(paint(0, size_hw), masks, [1, 2])
        bar = np.zeros((1, *size_hw), bool)
        bar[0, :, 28:32] = True
        donor = label(paint(1, size_hw), bar, [3])
        write(tmp_path / "real", [below, donor], format="coco")
        real = CocoDataset(tmp_path / "real/images", tmp_path / "real/annotations.json")
        generator = CopyPaste(num_range=(1, 2), scale_range=(0.4, 1), rotation_range=(0, 90), classes=["class 3"])
        generated = GeneratedDataset(real, generator, variants=12)
        made = [drop_fields(sample) for at, sample, _ in list_made(generated) if at < 12]
        targets: list[Any] = [sample.target for sample in made]
        assert any(not is_one_polygon(target.masks[0]) for target in targets)
        write(tmp_path / "out", made, format="coco")
        again = CocoDataset(tmp_path / "out/images", tmp_path / "out/annotations.json")
        for at in range(len(again)):
            _, target = again[at]
            truth: Any = made[find_number(again, at)].target
            assert (read_masks(target) == truth.masks).all()


class TestYoloPolygons:
    def test_only_masks_that_one_polygon_says_are_made(self, tmp_path: Path) -> None:
        pictures = [keep_single(make_picture(number, seed=7, num_objects=8, share_crowd=0)) for number in range(4)]
        assert write(tmp_path / "real", pictures, format="yolo-segment") == 4
        real = YoloDataset(tmp_path / "real/data.yaml", task="segment", first_class=1)
        generated = GeneratedDataset(real, CopyPaste(**PASTE), filters=[SinglePolygon()], variants=3, attempts=3)
        made = []
        for _, sample, (_, target) in list_made(generated):
            truth: Any = sample.target
            assert all(is_one_polygon(mask) for mask in truth.masks)
            assert (read_masks(target) == truth.masks).all()
            made.append(drop_fields(sample))
        assert len(made) >= 10, "Places are tried elsewhere, so that next to nothing is lost."
        assert write(tmp_path / "out", made, format="yolo-segment") == len(made), "Nothing had to be left out."
        again = YoloDataset(tmp_path / "out/data.yaml", task="segment", first_class=1)
        for at in range(len(again)):
            image, target = again[at]
            sample = made[find_number(again, at)]
            truth = sample.target
            assert (image.permute(1, 2, 0).numpy() == sample.image).all()
            assert (read_masks(target) == truth.masks).all()
            assert np.abs(target["boxes"].numpy() - truth.boxes).max() < 0.02, (
                "The box of a polygon is that of its mask."
            )
            assert target["labels"].tolist() == truth.class_ids.tolist()


class TestYoloRotatedBoxes:
    def test_rotated_boxes_are_those_of_the_visible_pixels(self, tmp_path: Path) -> None:
        real = write_rotated(tmp_path / "real", count=5, with_objects=True)
        generator = CopyPaste(num_range=(2, 3), scale_range=(0.8, 1.25), rotation_range=(-30, 30))
        generated = GeneratedDataset(real, generator, variants=4)
        partly = pasted = 0
        for at, sample, (image, target) in list_made(generated):
            truth: Any = sample.target
            assert (image.permute(1, 2, 0).numpy() == sample.image).all()
            assert (read_masks(target) == truth.masks).all()
            record = make_record(truth, size_hw=sample.size_hw, task="obb")
            read = read_again(tmp_path / f"out{at}", sample.image, record)
            assert read["labels"].tolist() == truth.class_ids.tolist()
            for row, mask in enumerate(read_masks(read)):
                visible = truth.masks[row]
                corners = read["keypoints"][row, :, :2].numpy()
                check_rotated_box(corners, visible)
                share = truth.attributes["visible"][row]
                partly += share < 0.95
                if share > 0.999:
                    both, either = (mask & visible).sum(), (mask | visible).sum()
                    assert both > 0.6 * either, "What is whole fills its rotated box, or is an ellipse in it."
            new = truth.attributes["generated"]
            pasted += new.sum()
            turned = truth.keypoints[new][..., 2] > 0
            assert turned.any(axis=1).all(), "The corners of an object come with it."
        assert pasted > 20
        assert partly > 5, "Some are partly hidden or cut."

    def test_the_corners_move_with_the_pixels(self, tmp_path: Path) -> None:
        pictures = Source(write_rotated(tmp_path, count=4))
        samples = [with_rows(pictures[at], at) for at in range(4)]
        generator = CopyPaste(num_range=(1, 2), scale_range=(1, 1), rotation_range=(0, 0))
        for seed in range(24):
            source, others = samples[seed % 4], ListPool(samples[: seed % 4] + samples[seed % 4 + 1 :])
            made = generate(generator.bind(others, classes=None), source, seed)
            assert made is not None
            check_pasted(Case(CopyPaste, pastes=True, exact=True), others, source, made)


class TestOtherFormats:
    def test_masks_of_voc_do_not_overlap(self, tmp_path: Path) -> None:
        pictures = [drop_empty(make_picture(number, seed=3, kind="touching", share_crowd=0)) for number in range(4)]
        write(tmp_path / "real", pictures, format="voc")
        real = VocDataset(tmp_path / "real", names=list(NAMES.values()), image_set="train")
        generated = GeneratedDataset(real, CopyPaste(**PASTE), variants=2)
        made = []
        for _, sample, (_, target) in list_made(generated):
            truth: Any = sample.target
            assert (truth.masks.sum(axis=0) <= 1).all(), "In VOC every pixel has one number."
            assert (read_masks(target) == truth.masks).all()
            made.append(drop_fields(sample))
        assert made
        write(tmp_path / "out", made, format="voc")
        again = VocDataset(tmp_path / "out", names=list(NAMES.values()), image_set="train")
        for at in range(len(again)):
            _, target = again[at]
            truth = made[find_number(again, at)].target
            assert (read_masks(target) == truth.masks).all()
            assert target["boxes"].tolist() == truth.boxes.tolist()

    def test_boxes_of_yolo(self, tmp_path: Path) -> None:
        """Boxes alone: GrabCut cuts the objects out, and every label that is written is read again."""
        pictures = [draw_discs(number) for number in range(4)]
        write(tmp_path / "real", pictures, format="yolo-detect")
        real = YoloDataset(tmp_path / "real/data.yaml", first_class=1)
        generated = GeneratedDataset(real, CopyPaste(num_range=(1, 2)), variants=2)
        made = []
        for _, sample, (_, target) in list_made(generated):
            truth: Any = sample.target
            assert truth.masks is None
            assert np.abs(target["boxes"].numpy() - truth.boxes).max() < 1e-4
            made.append(drop_fields(sample))
        assert len(made) >= 6
        assert write(tmp_path / "out", made, format="yolo-detect") == len(made)
        again = YoloDataset(tmp_path / "out/data.yaml", first_class=1)
        for at in range(len(again)):
            _, target = again[at]
            truth = made[find_number(again, at)].target
            assert np.abs(target["boxes"].numpy() - truth.boxes).max() < 1e-3
            assert target["labels"].tolist() == truth.class_ids.tolist()

    def test_semantic_masks(self, tmp_path: Path) -> None:
        pictures = [make_regions(number, seed=4) for number in range(4)]
        names = {0: "ground", **NAMES}
        plain = [Sample(each.image, each.target) for each in pictures]
        named = [(str(number), sample) for number, sample in enumerate(plain)]
        export_samples(named, tmp_path / "real", format="masks", class_names=names)
        real = MasksDataset(tmp_path / "real/images", tmp_path / "real/masks", names=list(names.values()))
        generated = GeneratedDataset(real, CopyPaste(**PASTE), variants=2)
        count = 0
        for _, sample, (_, mask) in list_made(generated):
            assert isinstance(sample.target, SemanticMask)
            assert np.array_equal(np.asarray(mask), sample.target.mask)
            count += 1
        assert count >= 4

    @pytest.mark.parametrize("centred", [False, True])
    def test_tiles_of_coco(self, tmp_path: Path, centred: bool) -> None:
        pictures = [drop_empty(make_picture(number, seed=5, size_hw=(80, 100))) for number in range(3)]
        write(tmp_path / "real", pictures, format="coco")
        real = CocoDataset(tmp_path / "real/images", tmp_path / "real/annotations.json")
        generator = Tile(size_hw=(40, 50), centred=centred, drop="instances")
        generated = GeneratedDataset(real, generator, variants=3)
        count = 0
        for _, sample, (image, target) in list_made(generated):
            truth: Any = sample.target
            assert image.shape[1:] == (40, 50)
            assert (read_masks(target) == truth.masks).all()
            assert target["boxes"].tolist() == [tight_box(mask) for mask in truth.masks]
            count += 1
        assert count >= 5


def label(image: np.ndarray, masks: np.ndarray, class_ids: list[int]) -> Sample:
    boxes = np.array([tight_box(mask) for mask in masks], np.float32)
    return Sample(image, Instances(np.array(class_ids), boxes, masks))


def drop_empty(sample: Sample) -> Sample:
    """Without instances that have no pixel, which files cannot hold, and without what readers do not give back."""
    target: Any = sample.target
    kept = target.select(target.masks.any(axis=(1, 2))).replace(attributes={})
    return Sample(sample.image, kept)


def keep_single(sample: Sample) -> Sample:
    target: Any = drop_empty(sample).target
    return Sample(sample.image, target.select(np.array([is_one_polygon(mask) for mask in target.masks], bool)))


def draw_discs(number: int) -> Sample:
    """Two bright discs on dark grain, with boxes only."""
    rng = np.random.default_rng(number)
    image = rng.integers(10, 40, (60, 90, 3), dtype=np.uint8)
    masks = np.zeros((2, 60, 90), np.uint8)
    for at, mask in enumerate(masks):
        cv2.circle(mask, (22 + 44 * at, int(rng.integers(20, 40))), int(rng.integers(9, 14)), 1, -1)
        image[mask > 0] = [220, 60 + 80 * at, 90]
    boxes = np.array([tight_box(mask) for mask in masks], np.float32)
    return Sample(image, Instances(np.array([1 + number % 4, 2]), boxes))


def write_rotated(folder: Path, *, count: int, with_objects: bool = False) -> YoloDataset:
    """Pictures with rotated rectangles that do not touch; pixels tell their place, unless ellipses are drawn in."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    height, width = 80, 120
    for number in range(count):
        rng = np.random.default_rng(number)
        lines = []
        image = np.ascontiguousarray(paint(number, (height, width))[..., ::-1])
        if with_objects:
            image[:] = np.clip(rng.normal(130, 4, image.shape), 0, 255).astype(np.uint8)
        for at in range(2):
            center = (30 + 60 * at + float(rng.uniform(-4, 4)), float(rng.uniform(34, 46)))
            sides = (float(rng.uniform(26, 34)), float(rng.uniform(12, 16)))
            shape = (center, sides, float(rng.uniform(-80, 80)))
            corners = cv2.boxPoints(shape) / [width, height]
            if with_objects:
                cv2.ellipse(image, shape, (40, 60, 200 - 90 * at), -1)
            lines.append(" ".join([str(at), *(f"{value:.6f}" for value in corners.ravel())]))
        cv2.imwrite(str(folder / f"images/{number}.png"), image)
        (folder / f"labels/{number}.txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text("path: .\ntrain: images\nval: images\nnames: {0: long, 1: wide}\n")
    return YoloDataset(folder / "data.yaml", task="obb")


def read_again(folder: Path, image: np.ndarray, record: YoloRecord) -> Any:
    """The target that a trainer gets of a record; its corners may lie outside the image, where an object is cut off."""
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.ascontiguousarray(image[..., ::-1]))
    there = replace(record, image_file=folder / "0.png")
    return YoloDataset.from_records([there], root=folder, names={0: "long", 1: "wide"}, task="obb")[0][1]


def with_rows(sample: Sample, number: int) -> Sample:
    """The same with names for its instances, and masks that are taken for outlines."""
    target: Any = sample.target
    rows = 100 * number + np.arange(len(target))
    is_box = np.zeros(len(target), np.bool_)
    return sample.replace(target=target.replace(attributes={**target.attributes, "row": rows, MASK_IS_BOX: is_box}))
