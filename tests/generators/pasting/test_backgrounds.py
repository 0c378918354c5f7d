from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloader import CopyPaste, GeneratedDataset
from synthloader.errors import NothingToGenerate
from synthloader.generators.pasting.backgrounds import Backgrounds, fit_to, warn_of_classes
from synthloader.generators.pasting.blankness import is_blank, list_suspects
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.generators.pictures import ListPool, locate, make_classified, make_picture, paint, tight_box


def make_rngs(seed: int = 0) -> np.random.Generator:
    return make_rng(seed, "s", 0, 0)


def make_scene(seed: int, size_hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3)).astype(np.uint8)


def make_flat(level: int = 90, size_hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    return np.full((*size_hw, 3), (level, level + 5, level - 5), np.uint8)


def write(folder: Path, **pictures: np.ndarray) -> Path:
    for name, image in pictures.items():
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
    return folder


def make_item(seed: int) -> Any:
    """An item of detection with one object."""
    masks = torch.zeros((1, 60, 80), dtype=torch.uint8)
    masks[0, 10:30, 20:50] = 1
    target = {"boxes": torch.tensor([[20.0, 10, 50, 30]]), "labels": torch.tensor([1]), "masks": masks}
    return torch.from_numpy(make_scene(seed)).permute(2, 0, 1), target


def one_object(size_hw: tuple[int, int], box: tuple[int, int, int, int], *, with_mask: bool) -> Sample:
    masks = None
    if with_mask:
        masks = np.zeros((1, *size_hw), bool)
        masks[0, box[1] : box[3], box[0] : box[2]] = True
    return Sample(paint(0, size_hw), Instances(np.array([4]), np.array([box], np.float32), masks))


class TestReading:
    def test_a_folder_is_read_in_the_size_that_is_asked_for(self, tmp_path: Path) -> None:
        write(tmp_path, a=make_scene(0), b=make_scene(1, (200, 90)))
        backgrounds = Backgrounds(tmp_path)
        assert (len(backgrounds), backgrounds.name(0), backgrounds.name(1)) == (2, "a.png", "b.png")
        for index in range(2):
            for size_hw in ((60, 80), (33, 47), (150, 99), (9, 12)):
                sample = backgrounds.read(index, size_hw, make_rngs())
                assert sample.size_hw == size_hw
                assert sample.target is None
        assert np.array_equal(backgrounds.read(0, (60, 80), make_rngs()).image, make_scene(0))
        assert backgrounds.find_classes(0) == set()

    def test_lists_of_files_and_of_samples_are_read(self, tmp_path: Path) -> None:
        write(tmp_path, a=make_scene(0))
        assert Backgrounds([tmp_path / "a.png"]).name(0) == "a.png"
        samples = Backgrounds([Sample(make_scene(0)), make_picture(1)])
        assert samples.name(1) == "backgrounds[1]"
        assert samples.find_classes(1) == set(make_picture(1).target.class_ids.tolist())  # type: ignore[union-attr]
        with_class = Backgrounds(
            [make_classified(3), Sample(make_scene(0), SemanticMask(np.eye(60, 80, dtype=np.int32)))]
        )
        assert (with_class.find_classes(0), with_class.find_classes(1)) == ({3}, {1})

    def test_a_pool_is_read_without_decoding_for_its_classes(self) -> None:
        pool = ListPool([make_picture(1), make_picture(2)])
        backgrounds = Backgrounds(pool)
        decoded = len(pool.decoded)
        assert backgrounds.find_classes(1) == set(make_picture(2).target.class_ids.tolist())  # type: ignore[union-attr]
        assert len(pool.decoded) == decoded
        assert backgrounds.name(1) == "1.png"
        again = ListPool(list(reversed(pool.samples)))
        assert backgrounds.stamp == Backgrounds(again).stamp, "A pool answers for its content with its identity."

    def test_the_window_is_drawn_and_the_same_rng_gives_the_same(self) -> None:
        backgrounds = Backgrounds([Sample(paint(0, (60, 200)))])
        made = [backgrounds.read(0, (60, 80), make_rngs(seed)).image for seed in range(20)]
        corners = {tuple(locate(image[:1, 0])[0].tolist()) for image in made}
        assert len(corners) > 10
        copied = pickle.loads(pickle.dumps(backgrounds))
        assert np.array_equal(copied.read(0, (60, 80), make_rngs(3)).image, made[3])

    def test_the_stamp_follows_content_and_labels_and_not_the_place(self, tmp_path: Path) -> None:
        here, there = write(tmp_path / "1", a=make_scene(0)), write(tmp_path / "2", a=make_scene(0))
        assert Backgrounds(here).stamp == Backgrounds(there).stamp
        assert Backgrounds(write(there, a=make_scene(1))).stamp != Backgrounds(here).stamp
        labelled = make_picture(1)
        stamps = {Backgrounds([each]).stamp for each in (labelled, labelled.replace(target=None), make_picture(2))}
        assert len(stamps) == 3

    def test_the_stamp_says_whether_windows_may_be_blank(self) -> None:
        pictures = [Sample(make_scene(0))]
        assert Backgrounds(pictures).stamp != Backgrounds(pictures, allow_blank=True).stamp

    @pytest.mark.parametrize("given", [3, None, {"a": 1}])
    def test_something_else_is_refused(self, given: Any) -> None:
        message = f"backgrounds must be a folder, a list of image files, or samples, got backgrounds={given!r}."
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            Backgrounds(given)

    def test_an_empty_pool_and_a_missing_folder_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match=r"^backgrounds must hold at least one picture, got .* Leave it out to paste"
        ):
            Backgrounds(ListPool([]))
        message = f"backgrounds must exist, got backgrounds={str(tmp_path / 'no')!r}. Check the path."
        with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
            Backgrounds(tmp_path / "no")


class TestBlankness:
    MESSAGE = (
        "backgrounds must show something: a detector learns nothing on a blank or one-coloured background, got "
        "backgrounds='b.png'. Remove it, or pass allow_blank_backgrounds=True."
    )

    @pytest.mark.parametrize("level", [5, 128, 250])
    @pytest.mark.parametrize("kind", ["flat", "noisy", "dusty"])
    def test_a_blank_file_is_refused(self, tmp_path: Path, level: int, kind: str) -> None:
        image = make_flat(level)
        if kind == "noisy":
            image = np.clip(image + np.random.default_rng(0).normal(0, 1.5, image.shape), 0, 255).astype(np.uint8)
        if kind == "dusty":
            image[5:10, 5:12] = 255 - level
        write(tmp_path, a=make_scene(0), b=image)
        with pytest.raises(ValueError, match=f"^{re.escape(self.MESSAGE)}$"):
            Backgrounds(tmp_path)

    def test_fine_texture_is_not_blank_though_it_averages_out(self, tmp_path: Path) -> None:
        checks = (128 + 30 * (np.indices((64, 64)).sum(axis=0) % 2 * 2 - 1)).astype(np.uint8)
        write(tmp_path, a=np.repeat(checks[..., None], 3, axis=2))
        assert len(Backgrounds(tmp_path)) == 1

    def test_a_blank_file_among_many_is_refused_because_it_is_small(self, tmp_path: Path) -> None:
        pictures = {f"{at:03d}": make_scene(at, (6, 8)) for at in range(200)}
        write(tmp_path, **{**pictures, "100": make_flat(90, (6, 8))})
        message = self.MESSAGE.replace("b.png", "100.png")
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Backgrounds(tmp_path)

    def test_one_that_is_found_in_the_run_is_passed_over_and_warned_of_once(self) -> None:
        pictures = [Sample(make_scene(at)) for at in range(200)]
        pictures[1], pictures[4] = Sample(make_flat()), Sample(make_flat(200))
        backgrounds = Backgrounds(pictures)
        message = (
            "backgrounds hold a blank or one-coloured picture, 'backgrounds[1]', which was found in the run and is "
            "passed over. Remove it, and others like it, or pass allow_blank_backgrounds=True."
        )
        with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
            for index in (1, 4, 1):
                with pytest.raises(NothingToGenerate, match=r"^blank background$"):
                    backgrounds.read(index, (60, 80), make_rngs())
        assert len(caught) == 1
        assert backgrounds.read(2, (60, 80), make_rngs()).size_hw == (60, 80)

    def test_a_run_goes_on_where_one_is_found(self) -> None:
        pictures = [Sample(make_scene(at)) for at in range(80)]
        late = min(set(range(80)) - set(list_suspects(80)))
        pictures[late] = Sample(make_flat())
        generated = GeneratedDataset(
            [make_item(at) for at in range(100)], CopyPaste(backgrounds=pictures), variants=4, attempts=1
        )
        with pytest.warns(UserWarning, match="^backgrounds hold a blank or one-coloured picture, ") as caught:
            outcomes = [generated.make(*generated.locate(index)) for index in range(len(generated))]
        assert len(caught) == 1
        count = sum(("CopyPaste", "blank background") in outcome.rejections for outcome in outcomes)
        assert 0 < count < 20
        samples = [outcome.sample for outcome in outcomes if outcome.sample is not None]
        assert len(samples) > 300
        assert all(sample.origin.drawn[0] != f"backgrounds[{late}]" for sample in samples if sample.origin is not None)

    def test_a_file_that_breaks_during_the_run_is_named(self, tmp_path: Path) -> None:
        backgrounds = Backgrounds(write(tmp_path, a=make_scene(0)))
        (tmp_path / "a.png").write_bytes(b"no picture")
        message = (
            f"backgrounds must be whole images, got backgrounds={str(tmp_path / 'a.png')!r}. It is cut short, or of a "
            f"format that OpenCV cannot read."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            backgrounds.read(0, (60, 80), make_rngs())

    def test_when_allowed_it_is_warned_of_once(self) -> None:
        pictures = [Sample(make_flat(level)) for level in (50, 100, 150)]
        message = (
            "backgrounds hold blank or one-coloured pictures, such as 'backgrounds[0]': detectors trained on such a set "
            "have failed on real pictures. Use photographs of the place of use."
        )
        with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
            backgrounds = Backgrounds(pictures, allow_blank=True)
            for index in range(3):
                backgrounds.read(index, (60, 80), make_rngs())
        assert len(caught) == 1
        assert caught[0].filename == __file__

    def test_when_allowed_blank_windows_are_warned_of_once(self) -> None:
        image = make_flat(90, (40, 400))
        image[:, :40] = make_scene(0, (40, 40))
        backgrounds = Backgrounds([Sample(image)], allow_blank=True)
        message = (
            "backgrounds hold blank or one-coloured pictures, such as 'backgrounds[0]': detectors trained on such a set "
            "have failed on real pictures. Use photographs of the place of use."
        )
        with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
            made = [backgrounds.read(0, (40, 50), make_rngs(seed)).image for seed in range(20)]
        assert len(caught) == 1
        assert any(is_blank(window) for window in made)


class TestFitting:
    def test_another_window_is_tried_where_one_is_blank(self) -> None:
        image = make_flat(90, (40, 400))
        image[:, :150] = make_scene(0, (40, 150))
        for seed in range(40):
            assert not is_blank(fit_to(Sample(image), (40, 150), make_rngs(seed)).image)
        windows = [fit_to(Sample(image), (40, 150), make_rngs(seed), allow_blank=True).image for seed in range(40)]
        assert any(is_blank(window) for window in windows)

    @pytest.mark.parametrize("size_hw", [(40, 50), (20, 400), (40, 400)])
    def test_where_every_window_is_blank_nothing_is_generated(self, size_hw: tuple[int, int]) -> None:
        with pytest.raises(NothingToGenerate, match=r"^blank background$"):
            fit_to(Sample(make_flat(90, (40, 400))), size_hw, make_rngs())

    def test_where_nothing_is_blank_the_first_window_is_taken(self) -> None:
        image, rng = make_scene(0, (60, 200)), make_rngs(5)
        left = int((rng.integers(1), rng.integers(121))[1])
        assert np.array_equal(fit_to(Sample(image), (60, 80), make_rngs(5)).image, image[:, left : left + 80])

    @settings(max_examples=60)
    @given(seed=st.integers(0, 10**6))
    def test_labels_of_a_window_without_scaling_are_those_of_its_pixels(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        source = make_picture(0, seed=seed, num_keypoints=3, with_maps=True, size_hw=(40, 56))
        size_hw = (40, int(rng.integers(1, 57)))
        try:
            made = fit_to(source, size_hw, rng)
        except NothingToGenerate:
            return
        before: Any = source.target
        after: Any = made.target
        _, top, left = locate(made.image[0, :1])[0]
        window = (slice(top, top + size_hw[0]), slice(left, left + size_hw[1]))
        assert np.array_equal(made.image, source.image[window])
        assert np.array_equal(made.maps["depth"], source.maps["depth"][window])
        rows = after.attributes["row"].tolist()
        for row, mask in enumerate(before.masks):
            kept = mask[window]
            if not mask.any():
                continue
            assert (row in rows) == kept.any(), "What is visible keeps its label, and nothing else has one."
            if row in rows:
                at = rows.index(row)
                assert np.array_equal(after.masks[at], kept)
                assert after.boxes[at].tolist() == tight_box(kept)
                assert after.class_ids[at] == before.class_ids[row]
                assert after.crowd[at] == before.crowd[row]
                assert before.crowd[row] or kept.sum() >= 0.2 * mask.sum()
                for old, new in zip(before.keypoints[row], after.keypoints[at], strict=True):
                    x, y = old[0] - left, old[1] - top
                    inside = 0 <= x < size_hw[1] and 0 <= y < size_hw[0] and old[2] > 0
                    assert np.allclose(new, [x, y, old[2]] if inside else 0, atol=1e-4)

    @settings(max_examples=60)
    @given(seed=st.integers(0, 10**6))
    def test_scaled_labels_hold_together(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        kind = str(rng.choice(["touching", "separate", "any"]))
        source = make_picture(0, seed=seed, size_hw=(40, 56), kind=kind, share_crowd=0)
        size_hw = (int(rng.integers(5, 120)), int(rng.integers(5, 120)))
        try:
            made = fit_to(source, size_hw, rng)
        except NothingToGenerate:
            return
        assert made.size_hw == size_hw
        after: Any = made.target
        if kind != "any":
            assert after.masks.sum(axis=0).max(initial=0) <= 1, "Masks that share no pixel share none when scaled."
        for box, mask, row in zip(after.boxes, after.masks, after.attributes["row"], strict=True):
            if source.target.masks[row].any():  # type: ignore[union-attr, index]
                assert mask.any()
                assert box.tolist() == tight_box(mask)

    def test_every_object_stays_where_all_is_shown(self) -> None:
        source = make_picture(3, size_hw=(80, 80), num_objects=12, kind="separate", share_crowd=0)
        for side in (20, 40, 79, 160):
            made = fit_to(source, (side, side), make_rngs())
            held = source.target.masks.any(axis=(1, 2))  # type: ignore[union-attr]
            assert made.target.masks.any(axis=(1, 2)).sum() == held.sum()  # type: ignore[union-attr]

    @pytest.mark.parametrize("with_mask", [True, False])
    def test_windows_that_leave_a_scrap_are_not_used(self, with_mask: bool) -> None:
        source = one_object((20, 200), (80, 5, 120, 15), with_mask=with_mask)
        for seed in range(60):
            made = fit_to(source, (20, 100), make_rngs(seed))
            boxes = made.target.boxes  # type: ignore[union-attr]
            assert len(boxes) == 0 or boxes[0, 2] - boxes[0, 0] >= 0.2 * 40

    @pytest.mark.parametrize("with_mask", [True, False])
    def test_where_every_window_leaves_a_scrap_nothing_is_generated(self, with_mask: bool) -> None:
        source = one_object((10, 100), (0, 2, 100, 8), with_mask=with_mask)
        with pytest.raises(NothingToGenerate, match=r"^background cuts objects$"):
            fit_to(source, (10, 10), make_rngs())

    def test_boxes_are_scaled_and_clipped(self) -> None:
        made = fit_to(one_object((20, 30), (3, 5, 10, 15), with_mask=False), (40, 60), make_rngs())
        assert made.target.boxes.tolist() == [[6, 10, 20, 30]]  # type: ignore[union-attr]

    def test_semantic_masks_and_class_labels_follow(self) -> None:
        mask = np.zeros((20, 30), np.int32)
        mask[5:10, 6:12] = 7
        made = fit_to(Sample(paint(0, (20, 30)), SemanticMask(mask, ignore_index=9)), (40, 60), make_rngs())
        expected = np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1)
        assert isinstance(made.target, SemanticMask)
        assert np.array_equal(made.target.mask, expected)
        assert made.target.ignore_index == 9
        label = fit_to(make_classified(3), (10, 10), make_rngs()).target
        assert isinstance(label, ClassLabel)
        assert label.class_id == 3

    def test_the_visible_share_follows(self) -> None:
        source = one_object((10, 100), (0, 0, 100, 10), with_mask=True)
        target: Any = source.target
        source = source.replace(target=target.replace(attributes={"visible": np.array([0.8], np.float32)}))
        made = fit_to(source, (10, 50), make_rngs())
        assert made.target.attributes["visible"].tolist() == pytest.approx([0.4])  # type: ignore[union-attr]

    def test_the_source_is_not_modified(self) -> None:
        source = make_picture(1, num_keypoints=2)
        before = pickle.dumps((source.image, source.target))
        fit_to(source, (30, 30), make_rngs())
        assert pickle.dumps((source.image, source.target)) == before


class TestPastedClasses:
    def test_labels_that_are_pasted_too_are_warned_of(self) -> None:
        samples = [one_object((60, 80), (3, 5, 10, 15), with_mask=False) for _ in range(40)]
        samples[2:] = [sample.replace(target=None) for sample in samples[2:]]
        message = (
            "backgrounds hold classes that are pasted: 2 of the 32 that were looked at (fig on 2). They keep their "
            "labels, and are more objects than were pasted: leave them out where that is not meant."
        )
        with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
            warn_of_classes(Backgrounds(samples), {4, 9}, {4: "fig"})
        assert len(caught) == 1

    def test_nothing_is_said_where_there_is_nothing(self) -> None:
        samples = [one_object((60, 80), (3, 5, 10, 15), with_mask=False)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_classes(Backgrounds(samples), {5}, {4: "fig"}, lambda _: ["dog", 4])

    def test_a_detector_is_heard(self, shared_weights: Path) -> None:
        data = pytest.importorskip("skimage.data")
        detect = CocoDetector(shared_weights)
        cat, coffee = data.chelsea(), data.coffee()
        assert "cat" in set(detect(cat))
        backgrounds = Backgrounds([Sample(cat), Sample(coffee)])
        message = (
            "backgrounds hold classes that are pasted: 1 of the 2 that were looked at (Cat on 1). Objects without a "
            "label teach a detector to overlook them: remove these, or give labelled ones."
        )
        with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
            warn_of_classes(backgrounds, {17}, {17: "Cat", 18: "dog"}, detect)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_classes(backgrounds, {18}, {17: "Cat", 18: "dog"}, detect)


class CocoDetector:
    """FastestDet over OpenCV's own network reader: names of the classes that it finds with some certainty."""

    def __init__(self, weights: Path) -> None:
        self._network = cv2.dnn.readNetFromONNX(str(weights / "fastestdet_coco_352.onnx"))
        self._names = (weights / "coco.names").read_text().split("\n")

    def __call__(self, image: np.ndarray, /) -> Iterable[str]:
        small = cv2.resize(image, (352, 352))
        self._network.setInput(np.ascontiguousarray(small[..., ::-1].transpose(2, 0, 1)[None], np.float32) / 255)
        cells = np.asarray(self._network.forward())[0].reshape(85, -1)
        scores = cells[0] ** 0.6 * cells[5:].max(axis=0) ** 0.4
        return {self._names[at] for at in cells[5:].argmax(axis=0)[scores > 0.65]}
