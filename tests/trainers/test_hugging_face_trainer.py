"""Hugging Face Trainer: real runs on the CPU, counted and judged inside the model's forward."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
from accelerate import debug_launcher
from torch.utils.data import Subset
from transformers import (
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    YolosConfig,
    YolosForObjectDetection,
)

from synthloader.adapters.transformers import EpochCallback
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from tests.shapes import NAMES, Redraw, draw_numbered, is_generated_ground
from tests.trainers.drawn import (
    SIZE_HW,
    DrawnDetection,
    check_class,
    check_detection,
    hash_image,
    mix_detection,
    read_epochs,
    to_pixels,
)

pytestmark = [
    pytest.mark.uses_global_rng,  # a Trainer seeds the global states
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found"),
]


class TinyForObjectDetection(YolosForObjectDetection):
    """Records what `forward` is given. Transformers finds the loss by the end of the name."""

    def __init__(self) -> None:
        size: Any = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        super().__init__(YolosConfig(image_size=SIZE_HW, patch_size=24, num_detection_tokens=4, num_labels=3, **size))
        self.batches: list[dict[str, Any]] = []

    def forward(self, pixel_values: torch.Tensor, labels: Any = None, is_generated: Any = None) -> Any:
        scale = torch.tensor([SIZE_HW[1], SIZE_HW[0]] * 2)
        targets = []
        for row, label in enumerate(labels):
            center, size = (label["boxes"] * scale).split(2, dim=1)
            boxes = torch.cat([center - size / 2, center + size / 2], dim=1)
            targets.append({"boxes": boxes, "labels": label["class_labels"] + 1})
            if is_generated is not None:
                targets[-1]["is_generated"] = is_generated[row]
        check_detection({"images": pixel_values, "targets": targets})
        marks = None if is_generated is None else is_generated.tolist()
        self.batches.append({"marks": marks, "images": [hash_image(image) for image in pixel_values]})
        return super().forward(pixel_values, labels)


def collate(items: list[Any]) -> dict[str, Any]:
    """What a fine-tuning script does with torchvision's detection items."""
    scale = torch.tensor([SIZE_HW[1], SIZE_HW[0]] * 2)
    labels = []
    for _, target in items:
        low, high = target["boxes"].split(2, dim=1)
        boxes = torch.cat([(low + high) / 2, high - low], dim=1) / scale
        labels.append({"class_labels": target["labels"] - 1, "boxes": boxes})
    batch = {"pixel_values": torch.stack([image for image, _ in items]) / 255, "labels": labels}
    if "is_generated" in items[0][1]:
        batch["is_generated"] = torch.stack([target["is_generated"] for _, target in items])
    return batch


def make_arguments(folder: Path, num_workers: int = 0, **options: Any) -> TrainingArguments:
    defaults: Any = {
        "output_dir": str(folder),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "dataloader_num_workers": num_workers,
        "dataloader_pin_memory": False,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return TrainingArguments(**(defaults | options))


def fit(train: Any, arguments: TrainingArguments, *callbacks: Any, **options: Any) -> list[dict[str, Any]]:
    model = TinyForObjectDetection()
    trainer = Trainer(model, arguments, train_dataset=train, data_collator=collate, callbacks=list(callbacks))
    trainer.train(**options)
    return model.batches


def list_epochs(batches: list[dict[str, Any]], steps: int = 4) -> list[list[str]]:
    return [
        sorted(image for batch in batches[start : start + steps] for image in batch["images"])
        for start in range(0, len(batches), steps)
    ]


def keep(mix: MixedDataset) -> MixedDataset:
    return mix


def hide_in_subset(mix: MixedDataset) -> Subset[Any]:
    return Subset(mix, range(len(mix)))


@pytest.mark.parametrize(
    ("hide", "num_workers", "persistent"),
    [
        (keep, 0, False),
        (keep, 2, False),
        (keep, 2, True),
        pytest.param(hide_in_subset, 0, False, marks=pytest.mark.slow),
        pytest.param(hide_in_subset, 2, False, marks=pytest.mark.slow),
        (hide_in_subset, 2, True),
    ],
)
def test_every_epoch_holds_the_asked_share_and_is_another(
    tmp_path: Path, hide: Callable[[MixedDataset], Any], num_workers: int, persistent: bool
) -> None:
    train = mix_detection(0.5)
    arguments = make_arguments(tmp_path, num_workers, dataloader_persistent_workers=persistent)
    batches = fit(hide(train), arguments, EpochCallback())
    assert [len(batch["marks"]) for batch in batches] == 2 * [4, 4, 4, 3]
    assert [sum(sum(batch["marks"]) for batch in batches[at : at + 4]) for at in (0, 4)] == [5, 5]
    assert list_epochs(batches) == read_epochs(2)
    report = train.report()
    assert (report.real, report.generated, report.repeated_epochs) == (20, 10, ())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_goes_on_with_the_next_batch(tmp_path: Path, num_workers: int) -> None:
    saving: Any = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 3, "num_workers": num_workers}
    train = mix_detection(0.5)
    whole = fit(train, make_arguments(tmp_path, **saving), EpochCallback())
    assert list_epochs(whole) == read_epochs(3)
    for after_steps in (2, 4, 6):  # within an epoch, at its end, within the next one
        resumed = fit(
            mix_detection(0.5),
            make_arguments(tmp_path, **saving | {"save_strategy": "no"}),
            EpochCallback(),
            resume_from_checkpoint=str(tmp_path / f"checkpoint-{after_steps}"),
        )
        assert [batch["images"] for batch in resumed] == [batch["images"] for batch in whole[after_steps:]]


def test_gradients_that_are_accumulated_leave_the_epoch_alone(tmp_path: Path) -> None:
    batches = fit(mix_detection(0.5), make_arguments(tmp_path, gradient_accumulation_steps=3), EpochCallback())
    assert list_epochs(batches) == read_epochs(2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_at_ratio_0_batches_are_those_of_the_unwrapped_run(tmp_path: Path, num_workers: int) -> None:
    arguments = make_arguments(tmp_path, num_workers)
    wrapped = fit(mix_detection(0), arguments, EpochCallback())
    bare = fit(DrawnDetection(10), arguments)
    assert [batch["images"] for batch in wrapped] == [batch["images"] for batch in bare]


def test_one_callback_serves_run_after_run(tmp_path: Path) -> None:
    callback = EpochCallback()
    for _ in range(2):
        assert list_epochs(fit(mix_detection(0.5), make_arguments(tmp_path), callback)) == read_epochs(2)


@pytest.mark.parametrize("seedable", [True, False])
def test_two_ranks_share_every_epoch(tmp_path: Path, seedable: bool) -> None:
    debug_launcher(run_rank, (tmp_path, seedable), num_processes=2)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for epoch, expected in enumerate(read_epochs(2)):
        images = [image for steps in ranks for step in steps[2 * epoch : 2 * epoch + 2] for image in step["images"]]
        assert len(images) == 16  # 15 items on two ranks in batches of 4
        assert sorted(set(images)) == expected


def run_rank(folder: Path, seedable: bool) -> None:
    torch.set_num_threads(1)
    arguments = make_arguments(folder, accelerator_config={"use_seedable_sampler": seedable})
    batches = fit(mix_detection(0.5), arguments, EpochCallback())
    (folder / f"{arguments.process_index}.json").write_text(json.dumps(batches))


class TinyForImageClassification(ViTForImageClassification):
    """Records what `forward` is given; has no argument for a mark."""

    def __init__(self) -> None:
        size: Any = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        super().__init__(ViTConfig(image_size=SIZE_HW, patch_size=24, num_labels=3, **size))
        self.batches: list[dict[str, Any]] = []

    def forward(self, pixel_values: torch.Tensor, labels: Any = None) -> Any:
        for image, label in zip(pixel_values, labels.tolist(), strict=True):
            check_class(image, label)
        marks = [is_generated_ground(to_pixels(image)) for image in pixel_values]
        self.batches.append({"marks": marks, "images": [hash_image(image) for image in pixel_values]})
        return super().forward(pixel_values, labels=labels)


def to_inputs(rows: dict[str, list[Any]]) -> dict[str, Any]:
    """What `with_transform` does in a script: a batch of images to the model's inputs."""
    pixels = [np.array(image.convert("RGB")).transpose(2, 0, 1) for image in rows["image"]]
    return {"pixel_values": [torch.from_numpy(image).float() / 255 for image in pixels], "labels": rows["label"]}


def make_table(count: int = 10) -> Any:
    drawn = [draw_numbered(number, size_hw=SIZE_HW, only_class=number % 3, num_shapes=1) for number in range(count)]
    columns = {
        "image": [PIL.Image.fromarray(one.image) for one in drawn],
        "label": [number % 3 for number in range(count)],
        "camera": ["north"] * count,
    }
    kinds = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=list(NAMES)),
        "camera": datasets.Value("string"),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds)).with_transform(to_inputs)


class TestRows:
    """Rows of the `datasets` package, transformed by `with_transform`."""

    def fit(self, train: Any, arguments: TrainingArguments, *callbacks: Any) -> list[dict[str, Any]]:
        model = TinyForImageClassification()
        Trainer(model, arguments, train_dataset=train, callbacks=list(callbacks)).train()
        return model.batches

    @pytest.mark.parametrize(
        ("num_workers", "remove_unused_columns"),
        [
            (0, False),
            (2, True),
            pytest.param(0, True, marks=pytest.mark.slow),
            pytest.param(2, False, marks=pytest.mark.slow),
        ],
    )
    def test_classes_are_true_and_the_share_is_exact(
        self, tmp_path: Path, num_workers: int, remove_unused_columns: bool
    ) -> None:
        """`remove_unused_columns` takes the transform's own columns from a bare table, and nothing from a mix."""
        real = make_table()
        train = MixedDataset(real, GeneratedDataset(real, Redraw()), ratio=0.5)
        arguments = make_arguments(tmp_path, num_workers, remove_unused_columns=remove_unused_columns)
        batches = self.fit(train, arguments, EpochCallback())
        assert [sum(sum(batch["marks"]) for batch in batches[at : at + 4]) for at in (0, 4)] == [5, 5]
        first, second = list_epochs(batches)
        assert len(set(first) & set(second)) == 10  # the real ones; what is generated is new

    def test_the_trainer_drops_a_mark_that_the_model_does_not_take(self, tmp_path: Path) -> None:
        real = make_table()
        train = MixedDataset(real, GeneratedDataset(real, Redraw()), ratio=0.5, mark="is_generated")
        assert len(self.fit(train, make_arguments(tmp_path), EpochCallback())) == 8
        with pytest.raises(TypeError, match="unexpected keyword argument 'is_generated'"):
            self.fit(train, make_arguments(tmp_path, remove_unused_columns=False), EpochCallback())

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_at_ratio_0_batches_are_those_of_the_unwrapped_run(self, tmp_path: Path, num_workers: int) -> None:
        arguments = make_arguments(tmp_path, num_workers, remove_unused_columns=False)
        real = make_table()
        wrapped = self.fit(MixedDataset(real, GeneratedDataset(real, Redraw()), ratio=0), arguments, EpochCallback())
        assert wrapped == self.fit(real, arguments)


def test_a_run_without_a_mix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        fit(DrawnDetection(10), make_arguments(tmp_path), EpochCallback())
    assert str(caught.value) == (
        "EpochCallback's train must be given where the training loader shows no MixedDataset, got EpochCallback's "
        "train=None. Pass EpochCallback(train), or leave the callback out where nothing is mixed."
    )
    with pytest.raises(TypeError) as caught_type:
        EpochCallback([1])  # type: ignore[arg-type]
    assert str(caught_type.value) == (
        "train must be a MixedDataset, got train=[1]. Mix first: MixedDataset(real, generated, ratio=0.5)."
    )
