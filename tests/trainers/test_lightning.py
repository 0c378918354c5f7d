"""Lightning: real runs on the CPU, counted and judged in `training_step`."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

from synthloader.adapters import lightning as adapter
from synthloader.adapters.lightning import EpochCallback, MixedDataModule
from synthloader.batches import EpochSampler, MixedBatchSampler
from synthloader.errors import MissingExtraError
from synthloader.mixed import MixedDataset
from tests.trainers.drawn import DrawnDetection, check_detection, hash_image, mix_detection, read_epochs, stack

pytestmark = [
    pytest.mark.uses_global_rng,  # a Trainer draws from the global states
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*number of training batches .* smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.+ is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:You have overridden `.*` in both"),
    pytest.mark.filterwarnings("ignore:.*is not allowed to directly fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]


class Tiny(pl.LightningModule):
    """Records what every step is given: epoch, marks, images."""

    def __init__(self, *, with_val: bool = False) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.steps: list[dict[str, Any]] = []
        self.validated: list[str] = []
        if not with_val:
            self.validation_step = None  # type: ignore[assignment]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        batch = batch[0] if isinstance(batch, list) else batch
        check_detection(batch)
        marks = batch["is_generated"].tolist() if "is_generated" in batch else None
        images = [hash_image(image) for image in batch["images"]]
        self.steps.append({"epoch": self.current_epoch, "step": batch_idx, "marks": marks, "images": images})
        losses = self.layer(batch["images"].float().mean(dim=(2, 3)) / 255).squeeze(1) ** 2
        return (losses * batch["weight"]).mean() if "weight" in batch else losses.mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated += [hash_image(image) for image in batch["images"]]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def read_epoch(self, epoch: int) -> list[str]:
        return [image for step in self.steps if step["epoch"] == epoch for image in step["images"]]


def make_trainer(folder: Path, **options: Any) -> pl.Trainer:
    defaults: Any = {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "logger": False}
    defaults |= {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(default_root_dir=folder, **(defaults | options))


def make_options(num_workers: int) -> dict[str, Any]:
    return {"num_workers": num_workers, "multiprocessing_context": "fork" if num_workers else None, "collate_fn": stack}


def make_loader(train: MixedDataset, kind: str, num_workers: int) -> Any:
    options = make_options(num_workers)
    if kind == "epochs":
        return DataLoader(train, 4, sampler=EpochSampler(torch.utils.data.RandomSampler(train), train), **options)
    if kind == "batches":
        return DataLoader(train, batch_sampler=MixedBatchSampler(train, 4), **options)
    if kind == "subset":
        return DataLoader(Subset(train, range(len(train))), 4, shuffle=True, **options)
    loader = DataLoader(train, 4, shuffle=True, **options)
    return [loader] if kind == "several" else loader


class TestMixedDataModule:
    @pytest.mark.parametrize(("num_workers", "persistent"), [(0, False), (2, False), (2, True)])
    @pytest.mark.parametrize("reload", [0, 1])
    def test_every_batch_holds_the_ratio_and_every_epoch_is_another(
        self, tmp_path: Path, num_workers: int, persistent: bool, reload: int
    ) -> None:
        train = mix_detection(0.5)
        options = make_options(num_workers) | {"persistent_workers": persistent}
        data, model = MixedDataModule(train, 4, **options), Tiny()
        make_trainer(tmp_path, reload_dataloaders_every_n_epochs=reload).fit(model, datamodule=data)
        assert [(step["epoch"], len(step["marks"])) for step in model.steps] == [
            (e, n) for e in (0, 1) for n in (4, 4, 4, 3)
        ]
        assert all(sum(step["marks"]) in (1, 2) for step in model.steps)
        expected = read_epochs(2)
        assert [sorted(model.read_epoch(epoch)) for epoch in (0, 1)] == expected
        report = train.report()
        assert (report.real, report.generated, report.repeated_epochs) == (20, 10, ())

    @pytest.mark.parametrize(
        ("after_steps", "num_workers"),
        [
            *((after_steps, 0) for after_steps in (1, 3, 4, 5, 8, 9)),
            *((after_steps, 2) for after_steps in (1, 4)),
            *(pytest.param(after_steps, 2, marks=pytest.mark.slow) for after_steps in (3, 5, 8, 9)),
        ],
    )
    def test_a_resumed_run_goes_on_with_the_next_batch(
        self, tmp_path: Path, num_workers: int, after_steps: int
    ) -> None:
        """Four batches an epoch: within the first, at its end, within the second, at its end, within the third."""

        def run(*callbacks: Any, **fit: Any) -> list[list[str]]:
            data, model = MixedDataModule(mix_detection(0.5), 4, **make_options(num_workers)), Tiny()
            checkpoints = {"enable_checkpointing": True, "callbacks": list(callbacks), "max_epochs": 3}
            make_trainer(tmp_path, **checkpoints).fit(model, datamodule=data, **fit)
            return [step["images"] for step in model.steps]

        saving = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
        whole = run(saving)
        resumed = run(pl.callbacks.ModelCheckpoint(tmp_path / "other"), ckpt_path=tmp_path / f"step={after_steps}.ckpt")
        assert resumed == whole[after_steps:]

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_run_is_resumed_after_its_validation(self, tmp_path: Path, num_workers: int) -> None:
        """What Lightning's own checkpoints are: written when validation ends, before the epoch is counted."""

        def run(max_epochs: int, folder: str, **fit: Any) -> Tiny:
            options = make_options(num_workers)
            data = MixedDataModule(mix_detection(0.5), 4, val=DrawnDetection(3), **options)
            saving = pl.callbacks.ModelCheckpoint(tmp_path / folder, "{epoch}", save_top_k=-1)
            model, trainer = Tiny(with_val=True), {"enable_checkpointing": True, "num_sanity_val_steps": 0}
            make_trainer(tmp_path, callbacks=[saving], max_epochs=max_epochs, **trainer).fit(model, data, **fit)
            return model

        whole = run(4, "whole")
        resumed = run(4, "resumed", ckpt_path=tmp_path / "whole" / "epoch=1.ckpt")
        assert [step["images"] for step in resumed.steps] == [step["images"] for step in whole.steps[8:]]

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_run_is_resumed_at_the_end_of_an_epoch(self, tmp_path: Path, num_workers: int) -> None:
        def run(max_epochs: int, **fit: Any) -> list[list[str]]:
            data, model = MixedDataModule(mix_detection(0.5), 4, **make_options(num_workers)), Tiny()
            trainer = make_trainer(tmp_path, max_epochs=max_epochs)
            trainer.fit(model, datamodule=data, **fit)
            trainer.save_checkpoint(tmp_path / f"{max_epochs}.ckpt")
            return [step["images"] for step in model.steps]

        first, whole = run(2), run(4)
        assert whole[:8] == first
        assert run(4, ckpt_path=tmp_path / "2.ckpt") == whole[8:]

    def test_a_checkpoint_of_another_plan_is_refused(self, tmp_path: Path) -> None:
        trainer = make_trainer(tmp_path, max_epochs=1)
        trainer.fit(Tiny(), datamodule=MixedDataModule(mix_detection(0.5), 4, collate_fn=stack))
        trainer.save_checkpoint(tmp_path / "half.ckpt")
        data = MixedDataModule(mix_detection(1.0), 4, collate_fn=stack)
        with pytest.raises(ValueError, match=r"^state\['plan'\] must be this dataset's Add\("):
            make_trainer(tmp_path).fit(Tiny(), datamodule=data, ckpt_path=tmp_path / "half.ckpt")

    def test_weights_reach_the_step(self, tmp_path: Path) -> None:
        model = Tiny()
        seen: list[Any] = []
        step = model.training_step
        model.training_step = lambda batch, batch_idx: (seen.append(batch), step(batch, batch_idx))[1]  # type: ignore[method-assign]
        data = MixedDataModule(mix_detection(0.5, weight=0.25), 4, collate_fn=stack)
        make_trainer(tmp_path, max_epochs=1).fit(model, datamodule=data)
        for batch in seen:
            assert torch.equal(batch["weight"], torch.where(batch["is_generated"], 0.25, 1.0))

    def test_validation_is_the_real_set_in_its_order(self, tmp_path: Path) -> None:
        val, model = DrawnDetection(5), Tiny(with_val=True)
        data = MixedDataModule(mix_detection(0.5), 4, val=val, collate_fn=stack)
        make_trainer(tmp_path, num_sanity_val_steps=0).fit(model, datamodule=data)
        assert model.validated == 2 * [hash_image(val[index][0]) for index in range(5)]

    def test_at_ratio_0_items_are_the_real_ones_bit_for_bit(self, tmp_path: Path) -> None:
        model, real = Tiny(), DrawnDetection(10)
        make_trainer(tmp_path).fit(model, datamodule=MixedDataModule(mix_detection(0), 4, collate_fn=stack))
        batches = MixedBatchSampler(mix_detection(0), 4)
        expected = [[hash_image(real[index][0]) for index in batch] for _ in range(2) for batch in batches]
        assert [step["images"] for step in model.steps] == expected

    @pytest.mark.filterwarnings("ignore:You requested to overfit but enabled train dataloader shuffling")
    def test_overfitting_takes_the_first_items_again_and_again(self, tmp_path: Path) -> None:
        model, real = Tiny(), DrawnDetection(10)
        data = MixedDataModule(mix_detection(0.5), 4, collate_fn=stack)
        with pytest.warns(UserWarning, match="^More items of epoch 0 were fetched than it has"):
            make_trainer(tmp_path, overfit_batches=2, max_epochs=3).fit(model, datamodule=data)
        first = [hash_image(real[index][0]) for index in range(8)]
        assert [model.read_epoch(epoch) for epoch in (0, 1, 2)] == [first, first, first]

    def test_loaders_can_be_asked_for_without_a_trainer_and_more_than_once(self) -> None:
        data = MixedDataModule(mix_detection(0.5), 4, collate_fn=stack, drop_last=True, generator=torch.Generator())
        epochs = []
        for epoch in (0, 1):
            data.train.set_epoch(epoch)
            epochs.append([hash_image(image) for batch in data.train_dataloader() for image in batch["images"]])
        assert [len(epoch) for epoch in epochs] == [12, 12]
        assert epochs[0] != epochs[1]
        assert data.train_dataloader().dataset is data.train

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (
                {"train": [1, 2]},
                TypeError,
                "train must be a MixedDataset, got train=[1, 2]. Mix first: MixedDataset(real, generated, ratio=0.5).",
            ),
            ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got batch_size=0."),
            ({"num_workers": -1}, ValueError, "num_workers must be at least 0, got num_workers=-1."),
            (
                {"sampler": [3, 1]},
                ValueError,
                "sampler must be left to the data module, got sampler=[3, 1]. Make the DataLoader yourself to choose it, and add EpochCallback(train) to the trainer.",
            ),
        ],
    )
    def test_wrong_arguments(self, change: dict[str, Any], error: type[Exception], message: str) -> None:
        arguments: Any = {"train": mix_detection(), "batch_size": 4} | change
        with pytest.raises(error) as caught:
            MixedDataModule(**arguments)
        assert str(caught.value) == message

    def test_a_stream_is_refused(self) -> None:
        class Stream(IterableDataset[int]):
            def __iter__(self) -> Any:
                return iter([1, 2])

            def __repr__(self) -> str:
                return "Stream()"

        with pytest.raises(TypeError) as caught:
            MixedDataModule(Stream(), 4)
        assert str(caught.value) == (
            "train must be a MixedDataset, got train=Stream(). Mix first: MixedDataset(real, generated, ratio=0.5)."
        )

    @pytest.mark.parametrize("hide", [lambda mix: mix, lambda mix: Subset(mix, [0]), lambda mix: ConcatDataset([mix])])
    def test_a_mix_is_refused_for_validation(self, hide: Any) -> None:
        val = hide(mix_detection())
        with pytest.raises(TypeError) as caught:
            MixedDataModule(mix_detection(), 4, val=val)
        assert str(caught.value) == (
            f"val must hold real items only, got val={type(val).__name__!r}. Pass the dataset that is not mixed: "
            "train.split([0.8, 0.2])[1].real, or a validation set of its own."
        )


class TestEpochCallback:
    """Loaders of one's own."""

    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("kind", ["shuffle", "epochs", "batches", "subset", "several"])
    def test_every_epoch_is_another_and_exact(self, tmp_path: Path, num_workers: int, kind: str) -> None:
        train, model = mix_detection(0.5), Tiny()
        make_trainer(tmp_path, callbacks=[EpochCallback()]).fit(model, make_loader(train, kind, num_workers))
        assert [sorted(model.read_epoch(epoch)) for epoch in (0, 1)] == read_epochs(2)
        assert train.report().repeated_epochs == ()

    def test_without_it_the_repetition_is_noticed(self, tmp_path: Path) -> None:
        train = mix_detection(0.5)
        with pytest.warns(UserWarning, match="^More items of epoch 0 were fetched than it has"):
            make_trainer(tmp_path).fit(Tiny(), make_loader(train, "shuffle", 0))

    @pytest.mark.parametrize(
        ("kind", "num_workers"),
        [
            ("shuffle", 0),
            ("batches", 2),
            pytest.param("shuffle", 2, marks=pytest.mark.slow),
            pytest.param("epochs", 2, marks=pytest.mark.slow),
            pytest.param("epochs", 0, marks=pytest.mark.slow),
            pytest.param("batches", 0, marks=pytest.mark.slow),
        ],
    )
    @pytest.mark.parametrize("saved", ["epoch", "step", "validation"])
    def test_a_resumed_run_goes_on_with_its_epoch(
        self, tmp_path: Path, kind: str, num_workers: int, saved: str
    ) -> None:
        """Also where the checkpoint was written by the last step or by validation, before the epoch was counted."""

        def run(*callbacks: Any, max_epochs: int, **fit: Any) -> Tiny:
            train, model = mix_detection(0.5), Tiny(with_val=saved == "validation")
            options = {"enable_checkpointing": True, "max_epochs": max_epochs, "num_sanity_val_steps": 0}
            trainer = make_trainer(tmp_path, callbacks=[*callbacks, EpochCallback(train)], **options)
            val = DataLoader(DrawnDetection(3), 4, collate_fn=stack) if saved == "validation" else None
            trainer.fit(model, make_loader(train, kind, num_workers), val, **fit)
            return model

        often: Any = {"every_n_train_steps": 4} if saved == "step" else {}
        saving = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", **often)
        run(saving, max_epochs=2)
        other = pl.callbacks.ModelCheckpoint(tmp_path / "other")
        model = run(other, max_epochs=4, ckpt_path=tmp_path / "step=8.ckpt")
        assert sorted({step["epoch"] for step in model.steps}) == [2, 3]
        assert [sorted(model.read_epoch(epoch)) for epoch in (2, 3)] == read_epochs(4)[2:]

    def test_resuming_with_workers_asks_for_the_mix(self, tmp_path: Path) -> None:
        trainer = make_trainer(tmp_path, max_epochs=1, callbacks=[EpochCallback()])
        trainer.fit(Tiny(), make_loader(mix_detection(), "shuffle", 2))
        trainer.save_checkpoint(tmp_path / "one.ckpt")
        trainer = make_trainer(tmp_path, callbacks=[EpochCallback()])
        with pytest.raises(ValueError) as caught:
            trainer.fit(Tiny(), make_loader(mix_detection(), "shuffle", 2), ckpt_path=tmp_path / "one.ckpt")
        assert str(caught.value) == (
            "EpochCallback's train must be given to resume in epoch 1 with loader workers, got EpochCallback's "
            "train=None. They have read items of another epoch already. Pass EpochCallback(train), or use "
            "MixedDataModule."
        )

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_at_ratio_0_batches_are_those_of_the_unwrapped_run(self, tmp_path: Path, num_workers: int) -> None:
        def run(dataset: Any, *callbacks: Any) -> list[list[str]]:
            pl.seed_everything(3, verbose=False)
            model = Tiny()
            loader = DataLoader(dataset, 4, shuffle=True, **make_options(num_workers))
            make_trainer(tmp_path, callbacks=list(callbacks)).fit(model, loader)
            return [step["images"] for step in model.steps]

        assert run(mix_detection(0), EpochCallback()) == run(DrawnDetection(10))

    def test_a_run_without_a_mix_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError) as caught:
            make_trainer(tmp_path, callbacks=[EpochCallback()]).fit(
                Tiny(), DataLoader(DrawnDetection(), 4, collate_fn=stack)
            )
        assert str(caught.value) == (
            "EpochCallback's train must be given where the training loaders show no MixedDataset, got EpochCallback's "
            "train=None. Pass EpochCallback(train), or leave the callback out where nothing is mixed."
        )
        with pytest.raises(TypeError) as caught_type:
            EpochCallback([1])  # type: ignore[arg-type]
        assert str(caught_type.value) == (
            "train must be a MixedDataset, got train=[1]. Mix first: MixedDataset(real, generated, ratio=0.5)."
        )


class Ranks(Tiny):
    """Writes what each rank was given."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_train_end(self) -> None:
        (self.folder / f"rank{self.global_rank}.json").write_text(json.dumps(self.steps))


@pytest.mark.parametrize("use_distributed_sampler", [True, False])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_two_ranks_share_every_epoch(tmp_path: Path, use_distributed_sampler: bool, num_workers: int) -> None:
    data = MixedDataModule(mix_detection(0.5), 4, **make_options(num_workers))
    options: Any = {"devices": 2, "strategy": "ddp_fork", "use_distributed_sampler": use_distributed_sampler}
    make_trainer(tmp_path, **options).fit(Ranks(tmp_path), datamodule=data)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    for steps in ranks:  # 15 items: 8 on each rank, one of them twice
        assert [(step["epoch"], len(step["marks"])) for step in steps] == [(0, 4), (0, 4), (1, 4), (1, 4)]
        assert all(sum(step["marks"]) in (1, 2) for step in steps)
    for epoch, expected in enumerate(read_epochs(2)):
        images = [name for steps in ranks for step in steps if step["epoch"] == epoch for name in step["images"]]
        assert len(images) == 16
        assert sorted(set(images)) == expected


def test_two_ranks_with_a_loader_of_ones_own(tmp_path: Path) -> None:
    train = mix_detection(0.5)
    options: Any = {"devices": 2, "strategy": "ddp_fork", "callbacks": [EpochCallback(train)]}
    make_trainer(tmp_path, **options).fit(Ranks(tmp_path), make_loader(train, "shuffle", 0))
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    for epoch, expected in enumerate(read_epochs(2)):
        images = {name for steps in ranks for step in steps if step["epoch"] == epoch for name in step["images"]}
        assert sorted(images) == expected


class TestWhichPackage:
    def find(self, **modules: Any) -> Any:
        changed = {name.replace("_dot_", "."): module for name, module in modules.items()}
        with mock.patch.dict(sys.modules, changed):
            for name in [name for name, module in changed.items() if module is ...]:
                del sys.modules[name]
            return adapter._import_lightning()

    def test_the_imported_one_is_taken(self) -> None:
        other = types.ModuleType("pytorch_lightning")
        assert self.find(pytorch_lightning=other, lightning_dot_pytorch=...) is other
        assert self.find(pytorch_lightning=other) is pl
        assert self.find(pytorch_lightning=...) is pl

    def test_the_extra_is_named_where_there_is_none(self) -> None:
        with pytest.raises(MissingExtraError) as caught:
            self.find(pytorch_lightning=None, lightning_dot_pytorch=None)
        assert str(caught.value) == "synthloader.adapters.lightning needs lightning. Install synthloader[trainers]."
