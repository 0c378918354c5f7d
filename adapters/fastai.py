"""fastai: a callback that tells a mix its epoch."""

from __future__ import annotations

from typing import Any

from synthloader.adapters.mixes import check_mix, find_mixes
from synthloader.checks import reject
from synthloader.epoch_index import EpochIndex
from synthloader.errors import import_extra
from synthloader.mixed import MixedDataset

__all__ = ["EpochCallback"]

_Callback: Any = import_extra("fastai.callback.core", extra="trainers", user="synthloader.adapters.fastai").Callback


class EpochCallback(_Callback):  # type: ignore[misc]
    """Tells mixes their epoch: `Learner(..., cbs=EpochCallback())`.

    fastai numbers the epochs of every `fit` from 0; here they count on, through `fine_tune`, `lr_find` and one `fit`
    after the other, so that no generated item is served twice.

    Args:
        train: The mix. None: every mix under `dls.train`, through `Subset` and `ConcatDataset`.

    Raises:
        TypeError: `train` is not a mix.
        ValueError: When `fit` begins: there is no mix to tell.
    """

    def __init__(self, train: MixedDataset | None = None) -> None:
        self.train_mix = None if train is None else check_mix("train", train)
        self.next_epoch = 0

    def before_fit(self) -> None:
        """Let the loader look at the form of an item now, where that is not counted as one that was trained on."""
        loader, mixes = self.learn.dls.train, self._find_mixes()
        if isinstance(getattr(type(loader), "n_inp", None), property):
            own = vars(loader).get("create_item")
            item = mixes[0][EpochIndex(0, epoch=mixes[0].epoch, is_padding=True)]
            loader.create_item = lambda _: item
            try:
                loader.n_inp  # noqa: B018 - a property that looks once, and remembers
            finally:
                del loader.create_item
                if own is not None:
                    loader.create_item = own

    def before_train(self) -> None:
        """Tell the epoch that begins, before its loader starts."""
        epoch = max(self.next_epoch, int(self.learn.epoch))  # `fit(start_epoch=...)` begins later
        self.next_epoch = epoch + 1
        for mix in self._find_mixes():
            if mix.epoch != epoch:
                mix.set_epoch(epoch)

    def _find_mixes(self) -> list[MixedDataset]:
        mixes = [self.train_mix] if self.train_mix is not None else find_mixes(self.learn.dls.train)
        if not mixes:
            reject(
                "EpochCallback's train",
                "be given where dls.train shows no MixedDataset",
                self.train_mix,
                "Pass EpochCallback(train), or leave the callback out where nothing is mixed.",
            )
        return mixes
