"""MMEngine and the OpenMMLab trainers on it: `SynthDataset`, `MixedEpochHook`, `MixedInfiniteSampler`.

```python
custom_imports = dict(imports=["synthloader.adapters.mmengine"])
train_dataloader["dataset"] = dict(
    type="SynthDataset", dataset=train_dataloader["dataset"], generator=dict(type="CopyPaste"), ratio=0.5
)
custom_hooks = [dict(type="MixedEpochHook")]
```
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from synthloader.adapters.mmengine_items import GAVE_UP, LoadedItems, ResultsAdapter
from synthloader.cache import LMDBCache
from synthloader.checks import check_count, check_type, reject
from synthloader.epoch_index import EpochIndex
from synthloader.errors import import_extra
from synthloader.generated import GeneratedDataset
from synthloader.generators import Chain
from synthloader.mix_report import MixReport
from synthloader.mixed import MixedDataset
from synthloader.plans import Plan
from synthloader.registry import find_plugin, to_snake_case

import_extra("mmengine", extra="trainers", user="synthloader.adapters.mmengine")

from mmengine.dataset import InfiniteSampler  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS  # noqa: E402

__all__ = ["MixedEpochHook", "MixedInfiniteSampler", "SynthDataset"]

_FACTS = ("height", "width", "img_id", "sample_idx")


@DATASETS.register_module()
class SynthDataset:
    """A dataset of OpenMMLab with generated items mixed in: a wrapper like `RepeatDataset`.

    Generated items enter the wrapped dataset's own pipeline behind its loading transforms, as these would have left
    them: `img`, `img_shape`, `ori_shape`, and what `LoadAnnotations` makes of the new `instances`. Real items are what
    the wrapped dataset gives. Transforms that ask for several images (`Mosaic`) belong into `MultiImageMixDataset`
    around this one; their partners are then generated at the asked share too.

    Args:
        dataset: A `BaseDataset`, or its config.
        generator: A generator, its config (`dict(type="CopyPaste", num_range=(1, 4))`), or a list of these, applied in
            order.
        ratio: Generated items per real item; short for `plan=Add(ratio)`.
        plan: `Add`, `Replace`, `Only`, `Balance` or `Schedule`.
        filters: Filters, or their configs.
        cache: A cache, or the folder of an `LMDBCache`; needs `variants`.
        variants: Versions of each source, the same in every epoch; None: fresh ones.
        attempts: Most candidates for one place.
        seed: Everything random in the samples and the plan follows from it.
        on_shortfall: `"real"`, `"repeat"` or `"error"`, as of `MixedDataset`.
        version: Stands for the content of a dataset that names no files.
        mark: Name of a field that every item gets, beside `inputs` and `data_samples`: whether it is generated.
        weight: Weight of a generated item; every item gets the field `weight`.
        num_loading: How many transforms of the pipeline load; None: those at its beginning called `Load...`.
        channel_order: Of `img`: `"bgr"`, as OpenMMLab loads it, or `"rgb"`.
        bad_boxes: `"error"` or `"drop"`, as of `DetectionAdapter`.
        max_refetch: How often another generated item is tried where the pipeline gives None.
        lazy_init: Whether annotations are read later, by `full_init`.

    Raises:
        TypeError: The wrapped dataset has no pipeline of its own.
        ValueError: An argument is out of range, or a transform of the pipeline loads behind others.
    """

    def __init__(
        self,
        dataset: Any,
        generator: Any,
        ratio: float | None = None,
        *,
        plan: Plan | None = None,
        filters: Sequence[Any] = (),
        cache: Any = None,
        variants: int | None = None,
        attempts: int = 3,
        seed: int = 0,
        on_shortfall: str = "real",
        version: str | None = None,
        mark: str | None = None,
        weight: float | None = None,
        num_loading: int | None = None,
        channel_order: str = "bgr",
        bad_boxes: str = "error",
        max_refetch: int = 1000,
        lazy_init: bool = False,
    ) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if not hasattr(self.dataset, "get_data_info") or not hasattr(self.dataset, "pipeline"):
            reject(
                "dataset",
                "be a BaseDataset with a pipeline of its own",
                type(self.dataset).__name__,
                "Wrap each dataset inside ConcatDataset or RepeatDataset by itself.",
                error=TypeError,
            )
        self.max_refetch = check_count("max_refetch", max_refetch)
        self._generated_options: dict[str, Any] = {
            "generator": _build_generator(generator),
            "filters": [_build("filters", judge) for judge in filters],
            "cache": LMDBCache(cache) if isinstance(cache, str) else cache,
            "variants": variants,
            "attempts": attempts,
            "seed": seed,
            "version": version,
        }
        self._mix_options: dict[str, Any] = {
            "ratio": ratio,
            "plan": plan,
            "seed": seed,
            "on_shortfall": on_shortfall,
            "mark": mark,
            "weight": weight,
        }
        self._item_options = (num_loading, channel_order, bad_boxes)
        self._metainfo = self.dataset.metainfo
        self._fully_initialized = False
        self._mix: MixedDataset | None = None
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Read the annotations, and plan the mix."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        num_loading, channel_order, bad_boxes = self._item_options
        real = LoadedItems(self.dataset, num_loading)
        adapter = ResultsAdapter(real.loading, channel_order=channel_order, bad_boxes=bad_boxes)
        self._mix = MixedDataset(
            real, GeneratedDataset(real, adapter=adapter, **self._generated_options), **self._mix_options
        )
        self._fully_initialized = True

    @property
    def mix(self) -> MixedDataset:
        """The mix, whose items are those of this dataset."""
        if self._mix is None:
            self.full_init()
        if self._mix is None:
            raise RuntimeError("full_init did not plan the mix")
        return self._mix

    @property
    def metainfo(self) -> dict[str, Any]:
        """The wrapped dataset's, classes and all."""
        return copy.deepcopy(self._metainfo)

    def __len__(self) -> int:
        """Items of an epoch, real and generated."""
        return len(self.mix)

    def __getitem__(self, index: int) -> Any:
        """An item behind the whole pipeline. Where that gives None, another generated one, as OpenMMLab does it."""
        mix = self.mix
        for _ in range(self.max_refetch + 1):
            item = mix[index]
            if not (isinstance(item, dict) and GAVE_UP in item):
                return item
            epoch = index.epoch if isinstance(index, EpochIndex) else mix.epoch
            place = int(np.random.randint(mix.count_generated(epoch)))  # noqa: NPY002 - as BaseDataset draws
            # The report has counted one item for this place already.
            index = EpochIndex(mix.find_generated(epoch, place), epoch=epoch, is_padding=True)
        reject("pipeline", "give an item", None, f"It gave None {self.max_refetch + 1} times: see its transforms.")

    def get_data_info(self, index: int) -> dict[str, Any]:
        """The annotation of a real item; of a generated one what is true of it: its size, and the id of its source."""
        draw = self.mix.draw(index)
        if draw is None:
            info: dict[str, Any] = self.dataset.get_data_info(int(index))
            return info
        source = self.dataset.get_data_info(draw.source)
        facts = {key: source[key] for key in _FACTS if key in source}
        if "height" in facts and "width" in facts:
            part = self.mix.sets[draw.set_index]
            size_hw = part.find_size_hw((int(facts["height"]), int(facts["width"])))
            if size_hw is None:
                del facts["height"], facts["width"]  # rather than a size that may be wrong
            else:
                facts["height"], facts["width"] = size_hw
        return facts

    def get_cat_ids(self, index: int) -> list[int]:
        """The classes of a real item; a generated one's are not known before it is made."""
        if self.mix.draw(index) is not None:
            raise NotImplementedError("Classes are balanced by SynthDataset(plan=Balance(...)), not around it.")
        ids: list[int] = self.dataset.get_cat_ids(int(index))
        return ids

    @property
    def epoch(self) -> int:
        """The current epoch, also in persistent workers."""
        return self.mix.epoch

    def set_epoch(self, epoch: int, /) -> None:
        """Start an epoch: other sources and variants. `MixedEpochHook` calls it."""
        self.mix.set_epoch(epoch)

    def report(self, *, reduce: bool = False) -> MixReport:
        """What was asked of the mix and what it served."""
        return self.mix.report(reduce=reduce)

    def get_subset_(self, indices: Any) -> None:
        """Not here: take the subset of the wrapped dataset, by its `indices=`."""
        raise NotImplementedError("Take the subset of the wrapped dataset: dict(..., indices=100).")

    def get_subset(self, indices: Any) -> None:
        """Not here either."""
        self.get_subset_(indices)


@HOOKS.register_module()
class MixedEpochHook(Hook):  # type: ignore[misc, unused-ignore]
    """Tells every `SynthDataset` of the training loader its epoch, and logs what was served at the end.

    The epoch is in shared memory before the loader asks for the first item of it, and an epoch-based loop asks for no
    item of the next one before: persistent workers get it exactly. Iteration-based loops use `MixedInfiniteSampler`.
    """

    priority = "NORMAL"

    def before_train_epoch(self, runner: Any) -> None:
        """Set the epoch."""
        for dataset in _find(runner.train_dataloader.dataset):
            dataset.set_epoch(runner.epoch)

    def after_train(self, runner: Any) -> None:
        """Log the report of this process."""
        for dataset in _find(runner.train_dataloader.dataset):
            runner.logger.info(str(dataset.report()))


@DATA_SAMPLERS.register_module()
class MixedInfiniteSampler(InfiniteSampler):  # type: ignore[misc, unused-ignore]
    """`InfiniteSampler` for a `SynthDataset`: its indices carry the epoch, which is as many items as the dataset has.

    Exact for workers that run ahead.
    """

    def __iter__(self) -> Iterator[int]:
        """Indices without end."""
        size = len(self.dataset)
        for position, index in enumerate(super().__iter__()):
            yield EpochIndex(int(index), epoch=(position * self.world_size + self.rank) // size)


def _find(dataset: Any) -> list[SynthDataset]:
    """Every `SynthDataset` in a dataset and what it wraps."""
    found, waiting = [], [dataset]
    while waiting:
        part = waiting.pop()
        if isinstance(part, SynthDataset):
            found.append(part)
            continue
        inside = vars(part) if hasattr(part, "__dict__") else {}
        waiting += [inside[name] for name in ("dataset", "_dataset") if inside.get(name) is not None]
        waiting += list(inside.get("datasets") or ())
    if not found:
        reject("train_dataloader", "have a SynthDataset", type(dataset).__name__, "Leave MixedEpochHook out.")
    return found


def _build_generator(given: Any) -> Any:
    if isinstance(given, list | tuple):
        return Chain([_build("generators", part) for part in given])
    return _build("generators", given)


def _build(group: str, given: Any) -> Any:
    """A plug-in from its config, by the name of its class; anything else as it is."""
    if not isinstance(given, Mapping):
        return given
    options = dict(given)
    kind = options.pop("type", None)
    check_type(f"type of {group.removesuffix('s')}", kind, str, "Write dict(type='CopyPaste', ...).")
    return find_plugin(group, to_snake_case(str(kind)))(**options)
