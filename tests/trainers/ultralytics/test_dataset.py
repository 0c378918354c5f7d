"""`SynthYOLODataset`: the mosaic buffer, resizing, the caches of images, rectangles, and what labels look like."""

from __future__ import annotations

import copy
import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader import Add, LabelContractError, Replace
from synthloader.adapters.ultralytics import SynthYOLODataset, synth_trainer
from synthloader.adapters.ultralytics.yolo_dataset import _resize
from synthloader.epoch_index import EpochIndex
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.shapes import Redraw, ShiftClasses, is_generated_ground
from tests.trainers.ultralytics.runs import PLAIN, build_dataset, get_trainer, make_redraw, write_data


def make(folder: Path, task: str = "detect", *, count: int = 8, **options: Any) -> Any:
    names = ("ratio", "plan", "seed", "generator", "mark", "weight", "on_shortfall", "attempts", "filters")
    kind = {name: options.pop(name) for name in names if name in options}
    if "plan" not in kind:
        kind.setdefault("ratio", 0.5)
    kind.setdefault("generator", make_redraw(task))
    data = write_data(folder, task, count)
    return build_dataset(synth_trainer(get_trainer(task), **kind), task, folder, data, **options)


class Counting(Redraw):
    """`Redraw` that counts its calls."""

    calls = 0

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        type(self).calls += 1
        return super().generate(source, rng=rng)


class Refusing(Redraw):
    """Rejected by its own filter wherever the source's first pixel says so."""

    def judge(self, generated: Sample, source: Sample, /) -> Any:
        from synthloader.protocols import Verdict

        return Verdict(bool(source.image[0, 0, 0] % 2), reason="first pixel")


# ---- the buffer


@pytest.mark.parametrize("plan", [Add(1.0), Replace(1.0)], ids=str)
def test_every_loaded_position_is_in_the_buffer_once_and_leaves_it_in_turn(plan: Any, tmp_path: Path) -> None:
    dataset = make(tmp_path, plan=plan, count=12, batch=1)
    assert dataset.max_buffer_length == 8
    rng = np.random.default_rng(0)
    for epoch in range(3):
        for at in rng.permutation(len(dataset)).tolist():
            dataset[EpochIndex(at, epoch=epoch)]
            buffer = list(dataset.buffer)
            assert len(buffer) == len(set(buffer)) < dataset.max_buffer_length
            held = {place for place, image in enumerate(dataset.ims) if image is not None}
            assert not held & set(dataset._tiles)
            assert held | set(dataset._tiles) == set(buffer)
            for place, tile in dataset._tiles.items():
                assert dataset.mix.load(place, tile.epoch).sample is not None


def test_a_position_is_generated_once_while_it_lies_in_the_buffer(tmp_path: Path) -> None:
    dataset = make(tmp_path, generator=Counting(), mosaic=1.0)
    dataset.get_image_and_label(8)
    Counting.calls = 0
    for _ in range(5):
        dataset.get_image_and_label(8)
        dataset.load_image(8)
    assert Counting.calls == 0
    assert dataset.buffer.count(8) == 1


def test_tiles_belong_to_the_epoch_of_the_item_that_they_are_in(tmp_path: Path) -> None:
    dataset = make(tmp_path, mosaic=1.0)
    for at in range(12):
        dataset[EpochIndex(at, epoch=0)]
    before = {at: tile.image.copy() for at, tile in dataset._tiles.items()}
    dataset[EpochIndex(0, epoch=1)]  # a real one; its partners may be generated
    dataset._epoch = 1
    for at in before:
        image = dataset.load_image(at)[0]
        expected = dataset.mix.load(at, 1).sample.image
        np.testing.assert_array_equal(image, _resize(cv2.cvtColor(expected, cv2.COLOR_RGB2BGR), dataset.imgsz))
        assert not np.array_equal(image, before[at])
    assert len(dataset.buffer) == len(set(dataset.buffer))


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_partners_in_mosaics_are_generated_at_the_asked_share(ratio: float, tmp_path: Path) -> None:
    dataset = make(tmp_path, ratio=ratio, mosaic=1.0, mark="made", count=12)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - what Ultralytics draws from
    counts: Counter[str] = Counter()
    rng = np.random.default_rng(1)
    for epoch in range(12):
        for at in rng.permutation(len(dataset)).tolist():
            share = float(dataset[EpochIndex(at, epoch=epoch)]["made"])
            if epoch == 0:
                continue  # the buffer is filling
            generated = round(share * 4)
            counts["partners"] += 3
            counts["generated"] += generated - (at >= 12)
    asked = ratio / (1 + ratio)
    # Draws from the buffer are independent: a binomial, of which four standard deviations are allowed.
    deviation = (asked * (1 - asked) / counts["partners"]) ** 0.5
    assert abs(counts["generated"] / counts["partners"] - asked) < 4 * deviation


@pytest.mark.parametrize(
    "changes", [{"mixup": 1.0}, {"cutmix": 1.0}, {"copy_paste": 1.0, "copy_paste_mode": "mixup"}], ids=str
)
def test_partners_of_other_mixtures_are_generated_at_the_asked_share(changes: dict[str, Any], tmp_path: Path) -> None:
    dataset = make(tmp_path, "segment", ratio=1.0, mosaic=0.0, mark="made", count=8, **changes)
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    partners = []
    for epoch in range(12):
        for at in range(16):
            item = dataset[EpochIndex(at, epoch=epoch)]
            drawn = dataset._drawn
            assert drawn[0] == (at >= 8)
            partners += drawn[1:]
            assert float(item["made"]) == sum(drawn) / len(drawn)
    assert len(partners) >= 100
    assert abs(np.mean(partners) - 0.5) < 4 * (0.25 / len(partners)) ** 0.5


# ---- images


@pytest.mark.parametrize("imgsz", [64, 96, 128, 160])
@pytest.mark.parametrize("rect_mode", [True, False])
def test_a_generated_image_is_resized_as_load_image_resizes(imgsz: int, rect_mode: bool, tmp_path: Path) -> None:
    dataset = make(tmp_path, imgsz=imgsz)
    file = Path(dataset.im_files[0])
    sample = dataset.mix.load(8, 0).sample
    cv2.imwrite(str(file), sample.image[:, :, ::-1])  # the same pixels as a real image
    real, real_hw0, real_hw = dataset.load_image(0, rect_mode=rect_mode)
    made, made_hw0, made_hw = dataset.load_image(8, rect_mode=rect_mode)
    np.testing.assert_array_equal(made, real)
    assert (made.dtype, made.flags.c_contiguous, made_hw0, made_hw) == (real.dtype, True, real_hw0, real_hw)


def test_generated_images_are_bgr_and_items_rgb(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    sample = dataset.mix.load(8, 0).sample
    image = dataset.load_image(8)[0]
    np.testing.assert_array_equal(image, _resize(np.ascontiguousarray(sample.image[:, :, ::-1]), 96))


def test_what_is_done_to_an_item_never_reaches_the_buffer(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    label = dataset.get_image_and_label(8)
    before = dataset._tiles[8].image.copy()
    label["img"][:] = 0
    label["instances"].scale(2.0, 2.0)
    label["cls"][:] = 9
    again = dataset.get_image_and_label(8)
    np.testing.assert_array_equal(again["img"], before)
    assert again["cls"].max() < 3
    assert again["instances"].bboxes.max() <= 1


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_generated_images_stay_out_of_the_caches_of_images(cache: str, tmp_path: Path) -> None:
    dataset = make(tmp_path, ratio=1.0, cache=cache, mosaic=1.0, mixup=0.5, mark="made")
    files = sorted(tmp_path.rglob("*.npy"))
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    shares = [float(dataset[EpochIndex(at, epoch=epoch)]["made"]) for epoch in range(3) for at in range(16)]
    assert 0.2 < np.mean(shares) < 0.8
    assert sorted(tmp_path.rglob("*.npy")) == files
    assert len(files) == (8 if cache == "disk" else 0)
    for file in files:
        assert not is_generated_ground(np.load(file)[:, :, ::-1])
    if cache == "ram":
        for place in range(8):
            assert not is_generated_ground(np.ascontiguousarray(dataset.ims[place][:, :, ::-1]))


# ---- rectangles


def test_rectangles_hold_generated_images_beside_their_sources(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect", 8)
    rng = np.random.default_rng(0)
    for file in sorted((data.parent / "images" / "train").iterdir()):
        image = cv2.imread(str(file))
        cut = image[: int(rng.integers(60, 97)), : int(rng.integers(80, 129))]
        cv2.imwrite(str(file), cut)
        (data.parent / "labels" / "train" / f"{file.stem}.txt").unlink()
        (data.parent / "labels" / "train" / f"{file.stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    kind = synth_trainer(get_trainer("detect"), ratio=0.5, generator=Redraw())
    dataset = build_dataset(kind, "detect", tmp_path, data, rect=True, batch=3)
    assert sorted(dataset.order.tolist()) == list(range(12))
    assert dataset.batch[dataset.order].tolist() == [at // 3 for at in range(12)]
    for epoch in range(2):
        for at in range(12):
            item = dataset[EpochIndex(at, epoch=epoch)]
            assert list(item["img"].shape[1:]) == dataset.batch_shapes[dataset.batch[at]].tolist()
    # The rectangle of a batch is none larger than its largest image needs.
    assert dataset.batch_shapes.max() <= 128


def test_rect_does_not_change_what_is_generated(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect", 8)
    made = {}
    for rect in (False, True):
        kind = synth_trainer(get_trainer("detect"), ratio=0.5, generator=Redraw())
        dataset = build_dataset(kind, "detect", tmp_path, data, rect=rect)
        made[rect] = {dataset.mix.load(at, 0).sample.image.tobytes() for at in range(8, 12)}
        assert dataset.mix.sets[0].dataset.pool.identity == dataset.mix.source.identity
    assert made[False] == made[True]


# ---- labels


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_items_have_the_same_form_whether_real_or_generated(task: str, tmp_path: Path) -> None:
    dataset = make(tmp_path, task, mosaic=0.0)
    for stage in (dataset.get_image_and_label, lambda at: dataset[at]):
        real, made = stage(0), stage(8)
        assert list(real) == list(made)
        for name, value in real.items():
            assert type(value) is type(made[name]), name
            if hasattr(value, "dtype"):
                assert value.dtype == made[name].dtype, name
                assert value.ndim == made[name].ndim, name
    real, made = dataset.get_image_and_label(0)["instances"], dataset.get_image_and_label(8)["instances"]
    assert (real.segments.ndim, real.segments.dtype) == (made.segments.ndim, made.segments.dtype)
    assert (real.keypoints is None) == (made.keypoints is None)
    assert real.normalized == made.normalized


def test_detection_on_polygons_has_polygons_on_both_sides(tmp_path: Path) -> None:
    data = write_data(tmp_path, "segment")
    kind = synth_trainer(get_trainer("detect"), ratio=0.5, generator=Redraw())
    dataset = build_dataset(kind, "detect", tmp_path, data, mosaic=1.0, copy_paste=0.5)
    assert len(dataset.get_image_and_label(0)["instances"].segments) == 3
    assert len(dataset.get_image_and_label(8)["instances"].segments) == 3
    for at in range(12):
        dataset[at]


def test_labels_of_lists_and_counts_reach_to_the_length_of_the_mix(tmp_path: Path) -> None:
    dataset = make(tmp_path, ratio=0.5)
    assert len(dataset) == len(dataset.labels) == len(dataset.im_files) == dataset.ni == len(dataset.npy_files) == 12
    for at in range(8, 12):
        source = dataset.mix.find_place(0, at)
        assert dataset.labels[at]["im_file"] == dataset.im_files[source]
        np.testing.assert_array_equal(dataset.labels[at]["cls"], dataset.labels[source]["cls"])


def test_the_file_of_labels_knows_real_images_only(tmp_path: Path) -> None:
    dataset = make(tmp_path, ratio=2.0)
    cache = np.load(tmp_path / "data" / "labels" / "train.cache", allow_pickle=True).item()
    assert len(cache["labels"]) == 8
    assert len(dataset) == 24


def test_fraction_thins_the_real_images_and_the_ratio_follows(tmp_path: Path) -> None:
    dataset = make(tmp_path, ratio=1.0, fraction=0.5)
    assert (len(dataset.mix.real), len(dataset)) == (4, 8)
    assert [bool(dataset.mix.is_generated(at)) for at in range(8)] == [False] * 4 + [True] * 4


def test_classes_are_left_out_of_generated_labels_too(tmp_path: Path) -> None:
    dataset = make(tmp_path, ratio=2.0, classes=[1])
    seen = {int(value) for at in range(24) for value in dataset.get_image_and_label(at)["cls"].reshape(-1)}
    assert seen == {1}


def test_a_single_class_is_one_in_generated_labels_too(tmp_path: Path) -> None:
    dataset = make(tmp_path, ratio=2.0, single_cls=True)
    seen = {int(value) for at in range(24) for value in dataset.get_image_and_label(at)["cls"].reshape(-1)}
    assert seen == {0}


def test_a_class_beyond_the_names_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(LabelContractError) as caught:
        make(tmp_path, generator=ShiftClasses(5))
    assert str(caught.value).startswith(
        "class ids of generated samples must be below the number of names in data.yaml, 3, got "
    )
    assert str(caught.value).endswith("Ids count from 0 there: let the generator number classes as data.yaml does.")


def test_a_generator_without_masks_is_refused_where_labels_are_polygons(tmp_path: Path) -> None:
    class BoxesOnly(Redraw):
        def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
            made = super().generate(source, rng=rng)
            assert isinstance(made.target, Instances)
            return made.replace(target=made.target.replace(masks=None))

    with pytest.raises(LabelContractError) as caught:
        make(tmp_path, "segment", generator=BoxesOnly())
    assert str(caught.value) == (
        "generated samples must have masks, because the labels of this data set are polygons, got boxes only. Use a "
        "generator that keeps masks."
    )


def test_a_generator_that_cannot_serve_the_labels_is_refused_before_training(tmp_path: Path) -> None:
    from synthloader import CopyPaste

    with pytest.raises(LabelContractError, match=r"classes must be names of the dataset's classes"):
        make(tmp_path, "detect", generator=CopyPaste(classes=["no such class"]))


def test_an_object_that_is_cut_in_two_is_rejected_and_counted(tmp_path: Path) -> None:
    class Cut(Redraw):
        def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
            made = super().generate(source, rng=rng)
            assert isinstance(made.target, Instances)
            masks = np.array(made.target.masks)
            x1, _, x2, _ = made.target.boxes[0].astype(int)
            masks[0, :, (x1 + x2) // 2 - 1 : (x1 + x2) // 2 + 1] = False
            return made.replace(target=made.target.replace(masks=masks))

    dataset = make(tmp_path, "segment", generator=Cut(), attempts=2, **PLAIN)
    for at in range(12):
        label = dataset.get_image_and_label(at) if at < 8 else dataset[at]
        assert label["cls"].shape[0] == 3
    report = dataset.mix.report()
    assert report.rejected == {"SinglePolygon: object in several parts": 8}
    assert (report.generated, report.sets["generated"].real_instead) == (0, 4)


# ---- shortfall, pickling


def test_a_rejected_position_serves_its_source_and_is_counted_so(tmp_path: Path) -> None:
    dataset = make(tmp_path, ratio=1.0, filters=[Refusing()], mark="made", attempts=1, mosaic=0.0)
    marks = []
    for at in range(16):
        item = dataset[EpochIndex(at, epoch=0)]
        marks.append(float(item["made"]))
        if at >= 8 and not marks[-1]:
            assert item["im_file"] == dataset.im_files[dataset.mix.find_place(0, at)]
    report = dataset.mix.report()
    assert 0 < sum(marks) < 8
    assert sum(marks[:8]) == 0
    assert report.generated == sum(marks)
    assert report.sets["generated"].real_instead == 8 - sum(marks)
    assert report.sets["generated"].asked == 8
    assert report.real == 16 - sum(marks)


def test_the_policy_error_raises_where_nothing_can_be_generated(tmp_path: Path) -> None:
    from synthloader import ShortfallError

    dataset = make(tmp_path, ratio=1.0, filters=[Refusing()], on_shortfall="real", attempts=1)
    bad = next(at for at in range(8, 16) if dataset.mix.load(at, 0).sample is None)
    dataset.mix.on_shortfall = "error"
    with pytest.raises(ShortfallError):
        dataset[bad]


def test_a_copy_of_the_dataset_gives_the_same_items(tmp_path: Path) -> None:
    dataset = make(tmp_path, fliplr=0.0, mark="made", weight=0.25, **PLAIN)
    for other in (pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        assert type(other) is SynthYOLODataset
        for at in (0, 9):
            mine, theirs = dataset[EpochIndex(at, epoch=3)], other[EpochIndex(at, epoch=3)]
            assert list(mine) == list(theirs)
            assert all(bool((mine[name] == theirs[name]).all()) for name in ("img", "cls", "bboxes", "made", "weight"))
