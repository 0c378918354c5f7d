"""In the batches of the loss, labels agree with the pixels, and generated images are there at the asked share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthloader import Only, Replace
from synthloader.adapters.ultralytics import synth_trainer
from tests.trainers.ultralytics.runs import (
    BOX_TASKS,
    MODELS,
    PLAIN,
    assert_cut,
    assert_whole,
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
