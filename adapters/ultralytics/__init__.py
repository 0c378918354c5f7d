"""Ultralytics: `synth_trainer` makes a trainer class that mixes generated images into the training data.

```python
from synthloader import CopyPaste
from synthloader.adapters.ultralytics import synth_trainer
from ultralytics import YOLO
from ultralytics.models.yolo.segment import SegmentationTrainer

trainer = synth_trainer(SegmentationTrainer, ratio=0.5, generator=CopyPaste())
YOLO("yolo11n-seg.pt").train(data="data.yaml", trainer=trainer)
```
"""

from __future__ import annotations

import re
import uuid
import weakref
from collections.abc import Sequence
from typing import Any

from synthloader.adapters.ultralytics.mix import MixOptions
from synthloader.checks import check_type, reject
from synthloader.errors import MissingExtraError, import_extra
from synthloader.plans import Add, Plan
from synthloader.protocols import Cache, Filter, Generator

OLDEST = (8, 3, 129)
"""The oldest release of Ultralytics that this adapter is tested with."""


def check_release(version: str, /) -> None:
    """Refuse a release of Ultralytics that is too old.

    Raises:
        MissingExtraError: It is; the message says what to install.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise MissingExtraError(
            f"synthloader.adapters.ultralytics needs ultralytics {wanted} or newer, got {version}. Install "
            f"'ultralytics>={wanted}'.",
            name="ultralytics",
        )


_ultralytics: Any = import_extra("ultralytics", extra="yolo", user="synthloader.adapters.ultralytics")
check_release(_ultralytics.__version__)

from synthloader.adapters.ultralytics.classify_dataset import SynthClassificationDataset  # noqa: E402 - checked first
from synthloader.adapters.ultralytics.processes import read_handed  # noqa: E402
from synthloader.adapters.ultralytics.trainer import SynthTrainer  # noqa: E402
from synthloader.adapters.ultralytics.yolo_dataset import SynthYOLODataset  # noqa: E402

__all__ = ["SynthClassificationDataset", "SynthYOLODataset", "synth_trainer"]

_SUPPORTED = {
    "ultralytics.models.yolo.detect.train.DetectionTrainer",
    "ultralytics.models.yolo.segment.train.SegmentationTrainer",
    "ultralytics.models.yolo.pose.train.PoseTrainer",
    "ultralytics.models.yolo.obb.train.OBBTrainer",
    "ultralytics.models.yolo.classify.train.ClassificationTrainer",
}
_MADE: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
"""Found here by pickle as long as somebody has them: a class that nobody has keeps no cache open."""


def synth_trainer(
    base: type,
    /,
    *,
    plan: Plan | None = None,
    ratio: float | None = None,
    generator: Generator | None = None,
    filters: Sequence[Filter] = (),
    cache: Cache | None = None,
    variants: int | None = None,
    attempts: int = 3,
    on_shortfall: str = "real",
    seed: int = 0,
    recipe: Any = None,
    pool: Any = None,
    version: str | None = None,
    mark: str | None = None,
    weight: float | None = None,
) -> Any:
    """A trainer class for `YOLO(...).train(trainer=...)` that mixes generated images into the training data.

    Validation stays real, and at ratio 0 training is bit for bit that of `base`. Tiles of mosaics, mixup, cutmix and
    copy-paste are generated at the asked share as well. `trainer.mix.report()` says what was served, and is logged when
    training ends.

    Args:
        base: Ultralytics' `DetectionTrainer`, `SegmentationTrainer`, `PoseTrainer`, `OBBTrainer` or
            `ClassificationTrainer`, or your own subclass of one.
        plan: `Add`, `Replace`, `Only`, `Balance` or `Schedule`.
        ratio: Generated samples per real sample, after Ultralytics' `fraction`; short for `plan=Add(ratio)`.
        generator: Makes a sample from a sample.
        filters: Decide whether a candidate may be used. Where labels are polygons, `SinglePolygon` is among them.
        cache: Where candidates are kept; a persistent one needs `variants`.
        variants: Versions of each source.
        attempts: Most candidates for one (source, variant).
        on_shortfall: `"real"`, `"repeat"` or `"error"`, as of `MixedDataset`.
        seed: Seed of the samples and of the plan.
        recipe: Instead of all of the above: what `load_recipe` returns. Its source must be the training images.
        pool: What the generator draws from; None: the training images.
        version: Stands for the content of a pool that names no files.
        mark: Name of a field of the batch, (B,) float32: the share of each image's tiles that is generated.
        weight: Weight of a generated tile. The batch gets a field `weight`, (B,) float32: the mean over each image's
            tiles, real ones having 1.

    Raises:
        TypeError: `base` is no trainer class, or one of another kind.
        ValueError: There is no plan, or several; or an argument is out of range.

    Example (run on the page docs/trainers/ultralytics.md, because Ultralytics looks for the network when imported):
        trainer = synth_trainer(DetectionTrainer, ratio=0.5, generator=ColorTransfer())
        YOLO("yolo11n.pt").train(data="data.yaml", trainer=trainer)
    """
    _check_base(base)
    if recipe is not None:
        given = {"plan": plan, "ratio": ratio, "generator": generator, "cache": cache, "variants": variants}
        besides = [name for name, value in {**given, "pool": pool}.items() if value is not None]
        if besides or filters:
            twice = [*besides, *(["filters"] if filters else [])]
            reject("recipe", f"be given without {', '.join(twice)}", recipe, "The recipe says it: write it there.")
        options = MixOptions.from_recipe(recipe, mark=mark, weight=weight)
    else:
        if (ratio is None) == (plan is None):
            remedy = "ratio=0.5 is short for plan=Add(0.5)."
            reject("ratio", "be given, or plan=, or recipe=, and not several", ratio, remedy)
        if ratio is not None:
            check_type("ratio", ratio, (int, float))
        options = MixOptions(
            generator=generator,
            plan=Add(ratio) if ratio is not None else plan,
            filters=filters,
            cache=cache,
            variants=variants,
            attempts=attempts,
            on_shortfall=on_shortfall,
            seed=seed,
            mark=mark,
            weight=weight,
            pool=pool,
            version=version,
        )
    return _make_class(f"Synth{base.__name__}_{uuid.uuid4().hex}", base, options)


def _make_class(name: str, base: type, options: MixOptions) -> type:
    members = {"__module__": __name__, "__doc__": base.__doc__, "synth_options": options, "synth_base": base}
    made = type(name, (SynthTrainer, base), members)
    _MADE[name] = made
    return made


def _check_base(base: Any) -> None:
    names = ", ".join(sorted(each.rpartition(".")[2] for each in _SUPPORTED))
    if not isinstance(base, type):
        remedy = f"Pass one of Ultralytics' trainer classes: {names}."
        reject("base", "be a trainer class", base, remedy, error=TypeError)
    if issubclass(base, SynthTrainer):
        reject("base", "not be mixed already", base.__name__, f"Pass {base.synth_base.__name__}.", error=TypeError)
    nearest = next((kind for kind in base.__mro__ if kind.__module__.startswith("ultralytics.")), None)
    if nearest is None or f"{nearest.__module__}.{nearest.__qualname__}" not in _SUPPORTED:
        reject(
            "base",
            f"be {names}, or a subclass of your own",
            base,
            "Others read their data in their own way.",
            error=TypeError,
        )


def __getattr__(name: str) -> Any:
    """Classes that `synth_trainer` made: in this process, or in the one that started this one."""
    if name.startswith("Synth"):
        if name in _MADE:
            return _MADE[name]
        handed = read_handed(name)
        if handed is not None:
            return _make_class(name, *handed)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
