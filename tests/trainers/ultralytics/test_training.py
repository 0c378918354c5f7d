"""Ultralytics' own options keep working in a mixed training; at ratio 0 nothing changes; epochs are handed over."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from synthloader import Add, EpochSampler, Only, Replace, Schedule
from synthloader.adapters.ultralytics import synth_trainer
from synthloader.epoch_index import EpochIndex
from tests.shapes import Redraw
from tests.trainers.ultralytics.runs import (
    MODELS,
    PLAIN,
    build_loader,
    get_trainer,
    hash_batches,
    make_arguments,
    make_redraw,
    train,
    write_data,
)


def run(folder: Path, task: str = "detect", *, count: int = 8, data: Any = None, **options: Any) -> Any:
    names = ("ratio", "plan", "seed", "generator", "mark", "weight")
    kind = {name: options.pop(name) for name in names if name in options}
    if "plan" not in kind:
        kind.setdefault("ratio", 0.5)
    made = synth_trainer(get_trainer(task), **{"generator": make_redraw(task), "mark": "made", **kind})
    return train(made, task, folder, data or write_data(folder, task, count), **options)


def list_marks(trainer: Any, epoch: int) -> list[float]:
    return [float(mark) for at, batch in trainer.seen if at == epoch for mark in batch["made"]]


# ---- ratio 0


@pytest.mark.parametrize("task", MODELS)
def test_at_ratio_0_batches_are_those_of_the_bare_trainer_bit_for_bit(task: str, tmp_path: Path) -> None:
    data = write_data(tmp_path, task)
    kinds = [get_trainer(task), synth_trainer(get_trainer(task), ratio=0.0, generator=make_redraw(task))]
    found = []
    # In some releases the first build in a process draws otherwise than all later ones, bare trainers too.
    build_loader(kinds[0], task, tmp_path, data, seed=3)
    for kind in kinds:
        loader, trainer = build_loader(kind, task, tmp_path, data, seed=3, mosaic=1.0, hsv_h=0.1)
        found.append(hash_batches(loader, 2))
    assert found[0] == found[1]
    assert len(found[0]) == 4
    assert trainer.mix is None


def test_at_ratio_0_a_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect")
    weights = []
    for kind in (get_trainer("detect"), synth_trainer(get_trainer("detect"), plan=Replace(0), generator=Redraw())):
        trainer = train(kind, "detect", tmp_path, data, mosaic=1.0)
        weights.append([value.clone() for value in trainer.model.state_dict().values()])
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))


def test_validation_stays_real(tmp_path: Path) -> None:
    seen = []

    def keep(validator: Any) -> None:
        seen.append(validator.dataloader.dataset)

    from ultralytics import YOLO

    data = write_data(tmp_path, "detect")
    model = YOLO(MODELS["detect"])
    model.add_callback("on_val_start", keep)
    kind = synth_trainer(get_trainer("detect"), plan=Only(), generator=Redraw())
    arguments = make_arguments("detect", tmp_path, data, val=True)
    del arguments["model"]
    model.train(trainer=kind, **arguments)
    assert seen
    assert {type(dataset).__name__ for dataset in seen} == {"YOLODataset"}
    assert {len(dataset) for dataset in seen} == {2}


# ---- Ultralytics' options


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("detect", {"rect": True, "cache": "ram"}),
        ("segment", {"cache": "disk", "copy_paste": 1.0}),
        pytest.param("segment", {"copy_paste": 1.0, "copy_paste_mode": "mixup"}, marks=pytest.mark.slow),
        ("detect", {"mixup": 1.0, "cutmix": 1.0}),
        ("detect", {"fraction": 0.5}),
        ("detect", {"classes": [0, 2], "single_cls": True}),
        ("detect", {"plots": True, "val": True, "save": True}),
        pytest.param("pose", {"plots": True, "flipud": 0.5, "degrees": 10.0}, marks=pytest.mark.slow),
        pytest.param("obb", {"degrees": 45.0}, marks=pytest.mark.slow),
        ("classify", {"cache": "disk", "fraction": 0.5}),
        pytest.param("classify", {"plots": True, "val": True}, marks=pytest.mark.slow),
        ("detect", {"multi_scale": True}),
        ("detect", {"cls_pw": 0.5}),
        ("detect", {"workers": 2}),
    ],
    ids=str,
)
def test_options_of_ultralytics_keep_working(task: str, changes: dict[str, Any], tmp_path: Path) -> None:
    import ultralytics

    if "cls_pw" in changes and "cls_pw" not in vars(ultralytics.utils.DEFAULT_CFG):
        pytest.skip("This release of Ultralytics has no cls_pw.")
    if changes.get("multi_scale") and isinstance(ultralytics.utils.DEFAULT_CFG.multi_scale, float):
        changes = {"multi_scale": 0.25}
    trainer = run(tmp_path, task, epochs=2, close_mosaic=1, **changes)
    num_real = 4 if "fraction" in changes else 8
    for epoch in range(2):
        assert len(list_marks(trainer, epoch)) == num_real * 3 // 2
    report = trainer.mix.report()
    assert report.generated >= num_real  # workers may have begun a third epoch
    assert report.realised_ratio == pytest.approx(0.5, abs=0.25 if "workers" in changes else 0)
    if changes.get("plots"):
        assert (trainer.save_dir / "train_batch0.jpg").is_file()


def test_finished_pools_listed_under_train_are_dropped_by_fraction_and_ours_is_not(tmp_path: Path) -> None:
    import yaml

    data = write_data(tmp_path, "detect")
    pool = write_data(tmp_path / "zzz", "detect")
    content = yaml.safe_load(data.read_text())
    content["train"] = [content["train"], str(pool.parent / "images" / "train")]
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(content))
    loader, _ = build_loader(get_trainer("detect"), "detect", tmp_path, tmp_path / "both.yaml", fraction=0.5)
    assert not any("zzz" in file for file in loader.dataset.im_files)
    kind = synth_trainer(get_trainer("detect"), ratio=1.0, generator=Redraw())
    loader, _ = build_loader(kind, "detect", tmp_path, data, fraction=0.5)
    assert (len(loader.dataset), loader.dataset.mix.count_generated(0)) == (8, 4)


def test_the_report_is_logged_when_training_ends(tmp_path: Path) -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Keep()
    logger = logging.getLogger("ultralytics")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)  # the tests run Ultralytics quietly
    try:
        trainer = run(tmp_path)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert lines.count(f"synthloader, {trainer.mix.report()}") == 1
    assert (
        "synthloader, epoch 0: asked 0.5 generated per real, 4 for 8 real items; realised 0.5 (4 generated and 8 real items served)"
        in "\n".join(lines)
    )


# ---- mark and weight


@pytest.mark.parametrize("task", ["detect", "segment", "classify"])
def test_batches_carry_mark_and_weight(task: str, tmp_path: Path) -> None:
    trainer = run(tmp_path, task, mark="made", weight=0.25, **PLAIN)
    for _, batch in trainer.seen:
        assert batch["made"].shape == batch["weight"].shape == (len(batch["img"]),)
        assert batch["made"].dtype == batch["weight"].dtype == torch.float32
        torch.testing.assert_close(batch["weight"], 1 - 0.75 * batch["made"])
    assert sorted(list_marks(trainer, 0)) == [0.0] * 8 + [1.0] * 4


def test_without_mark_and_weight_batches_have_ultralytics_own_fields(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect")
    fields = []
    for kind in (get_trainer("detect"), synth_trainer(get_trainer("detect"), ratio=1.0, generator=Redraw())):
        loader, _ = build_loader(kind, "detect", tmp_path, data)
        fields.append(list(next(iter(loader))))
    assert fields[0] == fields[1]


# ---- epochs


def keep_epochs(loader: Any, passes: int) -> list[list[tuple[int, bytes]]]:
    """Position and image of every item of some passes, without augmentation."""
    return [
        [
            (at, image.tobytes())
            for batch in loader
            for at, image in zip(batch["im_file"], batch["img"].numpy(), strict=True)
        ]
        for _ in range(passes)
    ]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_every_pass_is_the_next_epoch_also_for_workers_that_run_ahead(workers: int, tmp_path: Path) -> None:
    kind = synth_trainer(get_trainer("detect"), ratio=1.0, generator=Redraw())
    data = write_data(tmp_path, "detect")
    changes = {"fliplr": 0.0, "mosaic": 0.0, "scale": 0.0, "translate": 0.0, "batch": 2, "workers": workers}
    loader, _ = build_loader(kind, "detect", tmp_path, data, **changes)
    dataset = loader.dataset
    assert loader.num_workers == workers
    passes = keep_epochs(loader, 3)
    loader.iterator = None
    for epoch, found in enumerate(passes):
        wanted = sorted(dataset[EpochIndex(at, epoch=epoch)]["img"].numpy().tobytes() for at in range(16))
        assert sorted(image for _, image in found) == wanted


def test_an_epoch_that_is_not_the_next_one_starts_the_loader_anew(tmp_path: Path) -> None:
    kind = synth_trainer(get_trainer("detect"), ratio=1.0, generator=Redraw())
    loader, trainer = build_loader(kind, "detect", tmp_path, write_data(tmp_path, "detect"), fliplr=0.0, **PLAIN)
    dataset = loader.dataset

    def take(epoch: int) -> list[bytes]:
        trainer.epoch = epoch
        trainer.run_callbacks("on_train_epoch_start")
        return sorted(image for _, image in keep_epochs(loader, 1)[0])

    for epoch in (0, 1, 1, 5, 6, 2):  # an epoch that is done again, a resumed run
        assert take(epoch) == sorted(dataset[EpochIndex(at, epoch=epoch)]["img"].numpy().tobytes() for at in range(16))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_closing_the_mosaic_goes_on_in_the_right_epoch(workers: int, tmp_path: Path) -> None:
    trainer = run(
        tmp_path,
        plan=Schedule({0: Add(1.0), 2: Add(1.0)}),
        epochs=4,
        close_mosaic=2,
        workers=workers,
        **(PLAIN | {"mosaic": 1.0}),
        fliplr=0.0,
    )
    dataset = trainer.train_loader.dataset
    for epoch in (2, 3):  # whole images again
        seen = sorted(
            image.tobytes()
            for at, batch in trainer.seen
            if at == epoch
            for image in (batch["img"] * 255).round().byte().numpy()
        )
        wanted = sorted(dataset[EpochIndex(at, epoch=epoch)]["img"].numpy().tobytes() for at in range(16))
        assert seen == wanted


def test_a_schedule_changes_with_the_epoch_of_the_trainer(tmp_path: Path) -> None:
    trainer = run(tmp_path, plan=Schedule({0: Only(), 2: Replace(0)}), epochs=3, **PLAIN)
    assert [sum(list_marks(trainer, epoch)) for epoch in range(3)] == [8.0, 8.0, 0.0]


def test_a_resumed_run_goes_on_in_its_epoch(tmp_path: Path) -> None:
    from ultralytics import YOLO

    data = write_data(tmp_path, "detect")

    class StopError(Exception):
        pass

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise StopError

    kind = synth_trainer(get_trainer("detect"), plan=Replace(1.0), generator=Redraw(), mark="made")
    arguments = make_arguments("detect", tmp_path / "runs", data, epochs=3, save=True, fliplr=0.0, **PLAIN)
    model = YOLO(arguments.pop("model"))
    model.add_callback("on_train_epoch_start", stop)
    with pytest.raises(StopError):
        model.train(trainer=kind, **arguments)
    last = next(tmp_path.rglob("last.pt"))
    again = YOLO(str(last))
    again.train(trainer=kind, resume=True, device="cpu")
    trainer = again.trainer
    assert [epoch for epoch, _ in trainer.seen] == [1, 1, 2, 2]
    dataset = trainer.train_loader.dataset
    for epoch in (1, 2):
        seen = sorted(
            image.tobytes()
            for at, batch in trainer.seen
            if at == epoch
            for image in (batch["img"] * 255).round().byte().numpy()
        )
        assert seen == sorted(dataset[EpochIndex(at, epoch=epoch)]["img"].numpy().tobytes() for at in range(8))


def test_every_rank_has_its_share_of_one_plan(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect")
    epochs: list[dict[int, list[int]]] = [{}, {}]
    for rank in (0, 1):
        kind = synth_trainer(get_trainer("detect"), ratio=0.5, generator=Redraw(), mark="made")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
            patch.setattr(torch.distributed, "get_rank", lambda *_, rank=rank: rank)
            patch.setattr(torch.distributed, "is_available", lambda: True)
            patch.setattr(torch.distributed, "barrier", lambda **_: None)
            loader, _ = build_loader(kind, "detect", tmp_path, data, rank=rank)
        sampler = loader.batch_sampler.sampler.sampler
        assert isinstance(sampler, EpochSampler)
        assert isinstance(loader.sampler, torch.utils.data.DistributedSampler)
        for epoch in range(2):
            loader.sampler.set_epoch(99)  # as Ultralytics does in the midst of what workers make ahead
            indices = list(sampler)
            assert {index.epoch for index in indices} == {epoch}
            epochs[epoch][rank] = [int(index) for index in indices]
    for shares in epochs:
        assert len(shares[0]) == len(shares[1]) == 6
        assert sorted(shares[0] + shares[1]) == list(range(12))
    assert epochs[0] != epochs[1]
