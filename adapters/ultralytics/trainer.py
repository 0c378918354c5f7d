"""What a made trainer does besides its base: builds mixed training data, hands over epochs, reports at the end."""

from __future__ import annotations

from typing import Any, ClassVar

from synthloader.adapters.ultralytics.classify_dataset import SynthClassificationDataset
from synthloader.adapters.ultralytics.epochs import EpochHand
from synthloader.adapters.ultralytics.mix import MixOptions
from synthloader.adapters.ultralytics.processes import hand_over
from synthloader.adapters.ultralytics.yolo_dataset import SynthYOLODataset
from synthloader.errors import import_extra

__all__ = ["SynthTrainer"]

_utils: Any = import_extra("ultralytics.utils", extra="yolo", user="synthloader.adapters.ultralytics")


class SynthTrainer:
    """Stands before an Ultralytics trainer in the order of its bases; `synth_trainer` makes such classes.

    Attributes:
        synth_options: What is mixed in.
        synth_base: The trainer that this one extends.
    """

    synth_options: ClassVar[MixOptions]
    synth_base: ClassVar[type]
    _hand: EpochHand | None = None
    _makes_loader = False

    @property
    def mix(self) -> Any:
        """The mix of the training data: `trainer.mix.report()`; None at ratio 0 and before training begins."""
        loader = getattr(self, "train_loader", None)
        return None if loader is None else getattr(loader.dataset, "mix", None)

    def build_dataset(self, img_path: Any, mode: str = "train", batch: Any = None) -> Any:
        """The base's dataset; for training, with generated images in it."""
        base: Any = super()
        dataset = base.build_dataset(img_path, mode, batch)
        if mode != "train" or self.synth_options.is_real_only:
            return dataset
        arguments = self.args  # type: ignore[attr-defined]
        options = self.synth_options
        if arguments.task == "classify":
            mixed: Any = SynthClassificationDataset.adopt(dataset, options)
        else:
            mixed = SynthYOLODataset.adopt(dataset, options, task=arguments.task, classes=arguments.classes)
        # Loaders of older releases have their workers begin at once, before the epoch can be handed over.
        mixed.counts_items = not self._makes_loader
        return mixed

    def get_dataloader(self, *arguments: Any, **options: Any) -> Any:
        """The base's loader, in which every index carries its epoch."""
        base: Any = super()
        self._makes_loader = True
        try:
            loader = base.get_dataloader(*arguments, **options)
        finally:
            self._makes_loader = False
        if getattr(loader.dataset, "mix", None) is not None:
            self._hand = EpochHand(loader)
        return loader

    def run_callbacks(self, event: str) -> None:
        """The base's callbacks; the epoch is handed over before, and the report said after them."""
        base: Any = super()
        if event == "on_train_epoch_start" and self._hand is not None:
            self._hand.begin(self.epoch)  # type: ignore[attr-defined]
        base.run_callbacks(event)
        if event == "on_train_end" and self.mix is not None:
            _utils.LOGGER.info(f"synthloader, {self.mix.report()}")

    def train(self) -> Any:
        """Train; the processes of a run on several devices learn how to make this class again."""
        base: Any = super()
        with hand_over(self):
            return base.train()

    def _close_dataloader_mosaic(self) -> None:
        """The base's; what the loader makes anew afterwards is this epoch, and not the next."""
        base: Any = super()
        base._close_dataloader_mosaic()
        if self._hand is not None:
            self._hand.rewind(getattr(self, "epoch", getattr(self, "start_epoch", 0)))
