"""fastai: real runs on the CPU, counted and judged in the batch."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

with warnings.catch_warnings():  # what importing it warns of is its own matter
    warnings.simplefilter("ignore")
    from fastai.callback.core import Callback
    from fastai.callback.schedule import fine_tune, lr_find  # noqa: F401 - methods of Learner
    from fastai.data.core import DataLoaders, Datasets
    from fastai.data.transforms import Categorize, IntToFloatTensor, ToTensor, get_image_files, parent_label
    from fastai.learner import Learner
    from fastai.vision.core import PILImage

from synthloader.adapters.fastai import EpochCallback
from synthloader.adapters.items.images import write_image
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from tests.shapes import Redraw, is_generated_ground, write_imagefolder
from tests.trainers.drawn import DrawnPairs, check_class, hash_image, mix_pairs, to_pixels

pytestmark = [
    pytest.mark.uses_global_rng,  # fastai draws and seeds there
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]


class Watcher(Callback):
    """Checks every training batch, and keeps it by pass."""

    def __init__(self) -> None:
        self.passes: list[dict[str, Any]] = []

    def before_train(self) -> None:
        self.passes.append({"marks": [], "batches": []})

    def before_batch(self) -> None:
        images, classes = self.learn.xb[0], self.learn.yb[0]
        for image, class_id in zip(images, classes.tolist(), strict=True):
            check_class(image.as_subclass(torch.Tensor), class_id)
        if self.learn.training:
            marks = [is_generated_ground(to_pixels(image.as_subclass(torch.Tensor))) for image in images]
            self.passes[-1]["marks"] += marks
            self.passes[-1]["batches"].append([hash_image(image.as_subclass(torch.Tensor)) for image in images])
        else:
            assert not any(is_generated_ground(to_pixels(image.as_subclass(torch.Tensor))) for image in images)


def to_floats(part: torch.Tensor) -> torch.Tensor:
    return part / 255 if part.ndim == 4 else part


def make_learner(train: Any, num_workers: int = 0, callback: Any = None, val: Any = None, **options: Any) -> Any:
    defaults: Any = {"after_batch": to_floats, "drop_last": False}
    options = {"bs": 4, "num_workers": num_workers, "device": "cpu"} | defaults | options
    dls = DataLoaders.from_dsets(train, val or DrawnPairs(3), **options)
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3))
    callbacks = [Watcher(), *([] if callback is False else [callback or EpochCallback()])]
    learner = Learner(dls, model, loss_func=torch.nn.CrossEntropyLoss(), cbs=callbacks)
    learner.remove_cbs([one for one in learner.cbs if type(one).__name__ == "ProgressCallback"])
    learner.logger = lambda _: None
    return learner


def list_images(one_pass: dict[str, Any]) -> list[str]:
    return sorted(image for batch in one_pass["batches"] for image in batch)


def read_epochs(numbers: range) -> list[list[str]]:
    train = mix_pairs(0.5)
    epochs = []
    for epoch in numbers:
        train.set_epoch(epoch)
        epochs.append(sorted(hash_image(train[index][0]) for index in range(len(train))))
    return epochs


def fit(learner: Any, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
    learner.fit(*arguments, **options)
    return get_passes(learner)


def get_passes(learner: Any) -> list[dict[str, Any]]:
    passes: list[dict[str, Any]] = next(one for one in learner.cbs if isinstance(one, Watcher)).passes
    return passes


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("hide", [lambda mix: mix, lambda mix: Subset(mix, range(len(mix)))], ids=["mix", "subset"])
def test_every_epoch_holds_the_asked_share_and_is_another(num_workers: int, hide: Any) -> None:
    train = mix_pairs(0.5)
    passes = fit(make_learner(hide(train), num_workers), 2)
    assert [sum(one["marks"]) for one in passes] == [5, 5]
    assert [list_images(one) for one in passes] == read_epochs(range(2))
    report = train.report()
    assert (report.real, report.generated, report.repeated_epochs) == (20, 10, ())


def test_epochs_count_on_from_one_fit_to_the_next() -> None:
    learner = make_learner(mix_pairs(0.5))
    learner.fit(1)
    learner.fine_tune(1)
    assert [list_images(one) for one in get_passes(learner)] == read_epochs(range(3))


def test_epochs_count_on_behind_the_search_for_a_learning_rate(tmp_path: Path) -> None:
    learner = make_learner(mix_pairs(0.5))
    learner.path = tmp_path
    learner.lr_find(num_it=5, show_plot=False)  # four batches of one epoch and one of the next
    learner.fit(1)
    assert list_images(get_passes(learner)[-1]) == read_epochs(range(2, 3))[0]


def test_a_fit_that_starts_later_gets_the_later_epochs() -> None:
    passes = fit(make_learner(mix_pairs(0.5)), 4, start_epoch=2)
    assert [list_images(one) for one in passes] == read_epochs(range(2, 4))


def test_without_it_the_repetition_is_noticed() -> None:
    with pytest.warns(UserWarning, match="^More items of epoch 0 were fetched than it has"):
        make_learner(mix_pairs(0.5), callback=False).fit(2)


def test_looking_at_an_item_leaves_the_loader_as_it_was() -> None:
    learner = make_learner(mix_pairs(0.5))
    before = dict(vars(learner.dls.train))
    learner.fit(1)
    assert "create_item" not in vars(learner.dls.train)
    assert set(vars(learner.dls.train)) - set(before) <= {"_n_inp", "_types", "_DataLoader__idxs"}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_at_ratio_0_batches_are_those_of_the_unwrapped_run(num_workers: int) -> None:
    runs = []
    for dataset, callback in ((mix_pairs(0), None), (DrawnPairs(10), False)):
        random.seed(3)
        torch.manual_seed(3)
        runs.append(fit(make_learner(dataset, num_workers, callback=callback), 2))
    assert runs[0] == runs[1]


KEEPS_TYPES = type(
    write_image(np.zeros((2, 2, 3), np.uint8), like=PILImage.create(np.zeros((2, 2, 3), np.uint8)), axes=None)
)


@pytest.mark.skipif(KEEPS_TYPES is not PILImage, reason="generated images come back as PIL.Image.Image")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_items_of_fastai_itself(tmp_path: Path, num_workers: int) -> None:
    files = get_image_files(write_imagefolder(tmp_path / "data", 9) / "train").sorted()
    real = Datasets(files, [[PILImage.create], [parent_label, Categorize()]])
    generated = GeneratedDataset(real, Redraw())
    assert [type(part) for part in generated[0]] == [type(part) for part in real[0]]
    train = MixedDataset(real, generated, ratio=1.0)
    transforms = {"after_item": [ToTensor()], "after_batch": [IntToFloatTensor()]}
    passes = fit(make_learner(train, num_workers, val=real, **transforms), 2)
    assert [sum(one["marks"]) for one in passes] == [9, 9]


def test_a_run_without_a_mix_is_refused() -> None:
    learner = make_learner(DrawnPairs(5))
    with pytest.raises(ValueError) as caught:
        learner.fit(1)
    assert str(caught.value) == (  # the first line is fastai's
        "Exception occured in `EpochCallback` when calling event `before_fit`:\n\tEpochCallback's train must be given "
        "where dls.train shows no MixedDataset, got EpochCallback's train=None. Pass EpochCallback(train), or leave "
        "the callback out where nothing is mixed."
    )
    with pytest.raises(TypeError) as caught_type:
        EpochCallback([1])  # type: ignore[arg-type]
    assert str(caught_type.value) == (
        "train must be a MixedDataset, got train=[1]. Mix first: MixedDataset(real, generated, ratio=0.5)."
    )
