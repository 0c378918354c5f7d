"""A rotated box is a box and no outline: of what is pasted, of what it covers, and of the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader import CopyPaste, GeneratedDataset, LMDBCache, MixedDataset, ShortfallError, Tile
from synthloader.exports import export_samples
from synthloader.generators.chain import Chain
from synthloader.generators.pasting.cut_out import MASK_IS_BOX
from synthloader.sources import Source
from synthloader.targets import Instances
from tests.generators.pasting.rotated_scenes import NAMES, Scene, draw_scene, find_hidden, read_fruit
from tests.generators.pictures import ListPool

MIN_VISIBLE = 0.2


@pytest.fixture
def drawn(tmp_path: Path) -> Scene:
    return draw_scene(tmp_path / "drawn")


def list_made(generated: GeneratedDataset) -> Any:
    """Picture, target and origin of all that can be made."""
    per_source = len(generated) // len(generated.source)
    for at in range(len(generated)):
        try:
            sample = generated.sample(at)
        except ShortfallError:
            continue
        assert isinstance(sample.target, Instances)
        yield at, at // per_source, sample


@pytest.mark.parametrize("kind", ["drawn", "fruit", "drawn chain", pytest.param("fruit chain", marks=pytest.mark.slow)])
def test_no_object_that_keeps_its_label_is_hidden(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    is_fruit = kind.startswith("fruit")
    scene = read_fruit(request.getfixturevalue("shared_data"), tmp_path, count=3) if is_fruit else draw_scene(tmp_path)
    generator: Any = CopyPaste(num_range=(4, 8), rotation_range=(-90, 90))
    if kind.endswith("chain"):
        generator = Chain([generator, CopyPaste(num_range=(4, 8))])
    generated = GeneratedDataset(scene.dataset, generator, variants=4)
    shares, pasted = [], 0
    for _, picture, sample in list_made(generated):
        assert sample.target.attributes[MASK_IS_BOX].sum() == len(scene.masks[picture]), "No label is lost."
        shares += find_hidden(scene, picture, sample.target, sample.origin.edited)
        pasted += int(sample.target.attributes["generated"].sum())
    assert pasted > 30
    assert min(shares) >= MIN_VISIBLE
    assert min(shares) < 0.75, "Some are covered in part."


def test_of_a_rotated_box_no_more_is_covered_than_of_an_upright_one(drawn: Scene) -> None:
    for min_visible in (0.0, 0.5, 1.0):
        generator = CopyPaste(num_range=(5, 5), min_visible=min_visible)
        least = 1.0
        for _, picture, sample in list_made(GeneratedDataset(drawn.dataset, generator, variants=2)):
            before = drawn.dataset[picture][1]["masks"].numpy().astype(bool)
            for row in np.flatnonzero(sample.target.attributes[MASK_IS_BOX]).tolist():
                left = sample.target.masks[row].sum() / before[row].sum()
                least = min(least, left)
                assert left >= 1 - 0.5 * (1 - min_visible) - 1e-6
                assert sample.target.attributes["visible"][row] == pytest.approx(left)
        assert least < 1 or min_visible == 1


def test_what_is_pasted_has_an_outline_and_is_no_box(drawn: Scene) -> None:
    generated = GeneratedDataset(drawn.dataset, CopyPaste(num_range=(3, 3)), variants=6)
    fills = []
    for _, _, sample in list_made(generated):
        target = sample.target
        assert np.array_equal(target.attributes[MASK_IS_BOX], ~target.attributes["generated"])
        for row in np.flatnonzero(target.attributes["generated"] & (target.class_ids == 1)):
            if target.attributes["visible"][row] > 0.99:
                rows, columns = np.nonzero(target.masks[row])
                inside = sample.image[rows, columns].astype(int)
                fills.append(float((np.abs(inside - (60, 170, 80)).max(axis=1) < 40).mean()))
    assert len(fills) > 5
    assert min(fills) > 0.9, "Of a green ellipse green pixels are pasted, and no corner of its rotated box."


def test_the_items_do_not_show_it_and_exports_do_not_write_it(drawn: Scene, tmp_path: Path) -> None:
    generated = GeneratedDataset(drawn.dataset, CopyPaste(), variants=2)
    mixed = MixedDataset(drawn.dataset, generated, ratio=1.0)
    fields = {tuple(mixed[at][1]) for at in range(len(mixed))}
    assert len(fields) == 1
    assert not any("box" in field and field != "boxes" for field in fields.pop())
    export_samples([("0", generated.sample(0))], tmp_path / "out", format="coco", class_names=dict(enumerate(NAMES)))
    assert "mask_is_box" not in (tmp_path / "out/annotations.json").read_text()


def test_tiles_and_caches_keep_it(drawn: Scene, tmp_path: Path) -> None:
    tiles = GeneratedDataset(drawn.dataset, Tile(size_hw=(120, 140)), variants=3)
    found = [sample.target.attributes[MASK_IS_BOX] for _, _, sample in list_made(tiles)]
    assert found
    assert all(column.all() for column in found)
    with LMDBCache(tmp_path / "cache") as cache:
        generator = Chain([Tile(size_hw=(140, 200)), CopyPaste(num_range=(2, 4))])
        generated = GeneratedDataset(drawn.dataset, generator, variants=3, cache=cache)
        first, again = (
            [sample.target.attributes[MASK_IS_BOX].tolist() for _, _, sample in list_made(generated)] for _ in range(2)
        )
        assert first == again
        assert any(True in column and False in column for column in first)
        items = {at: generated[at][1] for at, _, _ in list_made(generated)}
        plain = GeneratedDataset(drawn.dataset, generator, variants=3)
        for at, target in items.items():
            assert np.array_equal(target["keypoints"].numpy(), plain[at][1]["keypoints"].numpy())


def test_only_objects_that_can_be_cut_are_named(drawn: Scene) -> None:
    source = Source(drawn.dataset)
    image = source[0].image.copy()
    x1, y1, x2, y2 = source[0].target.boxes[1].astype(int)  # type: ignore[union-attr]
    image[y1:y2, x1:x2] = image[:1, :1]
    samples = [source[at].replace(image=image) if at == 0 else source[at] for at in range(len(source))]
    bound = CopyPaste().bind(ListPool(samples), classes=None)
    names = list(bound.list_donors(1))
    assert "0.png#1" not in names
    assert names
    donors = bound.aim(1).use_donors(range(len(names))).generate(samples[1], rng=np.random.default_rng(0))
    assert donors.origin is not None
    assert set(donors.origin.drawn) <= set(names)


def test_pictures_with_boxes_and_with_outlines_are_told_apart(drawn: Scene) -> None:
    """A pool of generated samples has both: pasted objects are cut along their masks, bit for bit."""
    generated = GeneratedDataset(drawn.dataset, CopyPaste(num_range=(3, 3)), variants=1)
    samples = [sample for _, _, sample in list_made(generated)]
    bound = CopyPaste(num_range=(3, 3)).bind(ListPool(samples), classes=None)
    made = bound.generate(Source(drawn.dataset)[0], rng=np.random.default_rng(2))
    target: Any = made.target
    assert made.origin is not None
    cut = [samples[int(name.split(".")[0])] for name in made.origin.drawn]
    assert len(cut) == int((target.attributes["generated"]).sum())
    assert not target.attributes[MASK_IS_BOX][len(drawn.masks[0]) :].any()
