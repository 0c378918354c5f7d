"""Hugging Face Trainer: a callback that tells a mix its epoch.

Without one, Accelerate's loaders tell it in the plain case, and forget it when a run is resumed within an epoch or is
distributed with a seedable sampler.
"""

from __future__ import annotations

from typing import Any

from synthloader.adapters.mixes import check_mix, find_mixes
from synthloader.checks import reject
from synthloader.errors import import_extra
from synthloader.mixed import MixedDataset

__all__ = ["EpochCallback"]

_TrainerCallback: Any = import_extra(
    "transformers", extra="trainers", user="synthloader.adapters.transformers"
).TrainerCallback


class EpochCallback(_TrainerCallback):  # type: ignore[misc]
    """Tells mixes their epoch: `Trainer(..., train_dataset=train, callbacks=[EpochCallback()])`.

    Args:
        train: The mix. None: every mix under the trainer's training loader, through `Subset` and `ConcatDataset`.

    Raises:
        TypeError: `train` is not a mix.
        ValueError: When an epoch begins: there is no mix to tell.

    Example:
        >>> EpochCallback().train is None
        True
    """

    def __init__(self, train: MixedDataset | None = None) -> None:
        self.train = None if train is None else check_mix("train", train)
        self._next: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget an earlier run."""
        del args, state, control, kwargs
        self._next = None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        """Tell the epoch that begins, before its loader starts."""
        del args, control, kwargs
        # The state's epoch is a fraction, and stays one where an epoch was cut short; so it is read only once.
        epoch = int(state.epoch or 0) if self._next is None else self._next
        self._next = epoch + 1
        mixes = [self.train] if self.train is not None else find_mixes(train_dataloader)
        if not mixes:
            reject(
                "EpochCallback's train",
                "be given where the training loader shows no MixedDataset",
                self.train,
                "Pass EpochCallback(train), or leave the callback out where nothing is mixed.",
            )
        for mix in mixes:
            if mix.epoch != epoch:
                mix.set_epoch(epoch)
