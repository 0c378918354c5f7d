"""A recipe: the dataset, the generators, the filters, the plan and the cache, written down in YAML.

```yaml
source:                       # what is mixed into
  format: coco
  images: data/train
  annotations: data/train.json
# sources: / pool:            # where generated samples start from, and where donors come from; `source` when absent
generator:                    # one entry, a list applied in order, or one_of with weights
  - copy_paste: {num_range: [1, 4]}
  - color_transfer: {references: data/target}
filters:
  - min_box: {min_side: 5, min_area: 10}
plan: {add: 0.5}              # add, replace, only, balance, schedule
variants: 4
cache: cache/train
seed: 0
```

Paths are relative to the recipe. Names are the snake_case of class names; packages register their own through entry
points (`synthloader.generators`, `synthloader.filters`, `synthloader.formats`). A recipe can never name code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

from synthloader.cache import LMDBCache
from synthloader.cells import Draw
from synthloader.checks import check_choice, check_count, check_int, check_type, show_value
from synthloader.errors import RecipeError
from synthloader.generated import GeneratedDataset
from synthloader.layout import PlanContext
from synthloader.mixed import MixedDataset
from synthloader.plans import Balance, Plan, Schedule
from synthloader.protocols import Filter, Generator
from synthloader.recipe_document import Place, read_document
from synthloader.recipe_plans import read_plan
from synthloader.recipe_plugins import build, read_dataset, read_filters, read_generator, read_options, resolve_path

__all__ = ["Recipe", "load_recipe"]

_KEYS = (
    "source",
    "sources",
    "pool",
    "generator",
    "filters",
    "plan",
    "variants",
    "attempts",
    "seed",
    "on_shortfall",
    "version",
    "license",
    "cache",
)


def load_recipe(path: str | os.PathLike[str], /) -> Recipe:
    r"""Read and check a recipe. Datasets and caches are opened when they are first asked for.

    Args:
        path: The YAML file.

    Raises:
        FileNotFoundError: There is no such file.
        RecipeError: A key, a name, a value or a path is wrong; the message says the line and what is allowed.

    Example:
        >>> lines = ["source: {format: coco, images: ., annotations: train.json}", "generator: color_transfer"]
        >>> _ = Path("recipe.yaml").write_text("\n".join([*lines, "plan: {add: 0.5}"]))
        >>> _ = Path("train.json").write_text("{}")  # read when the dataset is first asked for
        >>> load_recipe("recipe.yaml").plan
        Add(ratio=0.5)
    """
    document = read_document(Path(path))
    document.refuse_others(_KEYS, "key")
    keys = document.entries("keys")
    for name in ("source", "generator"):
        if name not in keys:
            document.fail(f"the recipe needs the key {name!r}. Allowed: {', '.join(sorted(_KEYS))}.")
    return Recipe(
        path=Path(path),
        generator=read_generator(keys["generator"]),
        filters=read_filters(keys["filters"]) if "filters" in keys else (),
        plan=read_plan(keys["plan"]) if "plan" in keys else None,
        variants=_read(keys, "variants", partial(check_count, "variants")),
        attempts=_read(keys, "attempts", partial(check_count, "attempts"), 3),
        seed=_read(keys, "seed", partial(check_int, "seed"), 0),
        on_shortfall=_read(keys, "on_shortfall", _check_policy, "real"),
        version=_read(keys, "version", partial(_check_text, "version")),
        license=_read(keys, "license", partial(_check_text, "license")),
        _datasets={name: read_dataset(keys[name]) for name in ("source", "sources", "pool") if name in keys},
        _cache=_read_cache(keys["cache"]) if "cache" in keys else None,
        _places=keys,
    )


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a recipe says, and the datasets that it describes.

    Attributes:
        path: The file.
        generator: One generator; a `Chain` where the recipe has a list.
        filters: The filters, in order.
        plan: Which positions are generated; None where the recipe has no plan.
        variants: Versions of each source; None for as many as the plan asks for.
        attempts: Most candidates for one (source, variant).
        seed: Seed of the samples and of the plan.
        on_shortfall: What is served where every candidate failed.
        version: Stands for the content of a dataset that names no files.
        license: Under which terms the images and models may be used; every generated sample carries it.
    """

    path: Path
    generator: Generator
    filters: tuple[Filter, ...]
    plan: Plan | None
    variants: int | None
    attempts: int
    seed: int
    on_shortfall: str
    version: str | None
    license: str | None
    _datasets: dict[str, Callable[[], Any]] = field(repr=False)
    _cache: Callable[[], LMDBCache] | None = field(repr=False)
    _places: dict[str, Place] = field(repr=False)

    @property
    def has_cache(self) -> bool:
        """Whether the recipe names a cache."""
        return self._cache is not None

    def source(self) -> Any:
        """The dataset that is mixed into.

        Raises:
            RecipeError: A file is missing, or the annotations are wrong.
        """
        return self._source

    def generated(self) -> GeneratedDataset:
        """The generated versions; the same object each time.

        Raises:
            RecipeError: A file is missing, or what the recipe says does not go together.
        """
        return self._generated

    def mixed(self, transforms: Callable[..., Any] | None = None) -> MixedDataset:
        """The dataset to train on.

        Args:
            transforms: Applied to real and generated items alike.

        Raises:
            RecipeError: The recipe has no plan, or it cannot be worked out for this dataset.
        """
        if self.plan is None:
            self.refuse("plan", "to mix", "plan: {add: 0.5}")
        plan = self.plan
        mixed: MixedDataset = self._build(
            "plan",
            lambda: MixedDataset(
                self._source,
                self._generated,
                plan=plan,
                seed=self.seed,
                on_shortfall=self.on_shortfall,
                transforms=transforms,
            ),
        )
        return mixed

    def target_classes(self) -> tuple[int, ...]:
        """The class ids that a `Balance` plan aims at: what `precompute(target_classes=...)` takes. Mostly none.

        Where the plan has a cap, `list_rationed` says it.

        Raises:
            RecipeError: The plan cannot be worked out for this dataset.
        """
        plans = self.plan.plans.values() if isinstance(self.plan, Schedule) else [self.plan]
        balances = [plan for plan in plans if isinstance(plan, Balance)]
        if self._is_rationed:
            balances = [plan for plan in balances if plan.cap is None]
        if not balances:
            return ()
        source = self.mixed().source
        context = PlanContext(
            num_real=len(source),
            sets=(),
            seed=self.seed,
            find_classes=lambda: source.class_table,
            class_to_idx=source.classes,
        )
        return tuple(sorted({class_id for plan in balances for class_id in plan.count_needed(context)}))

    def list_rationed(self) -> list[Draw]:
        """What a `Balance` plan with a cap asks the cache for: what `precompute(draws=...)` takes. Mostly nothing.

        Raises:
            RecipeError: The plan cannot be worked out for this dataset.
        """
        return self.mixed().list_rationed() if self._is_rationed else []

    @property
    def _is_rationed(self) -> bool:
        """Whether a plan with a cap chooses the donors."""
        plans = self.plan.plans.values() if isinstance(self.plan, Schedule) else [self.plan]
        if all(not isinstance(plan, Balance) or plan.cap is None for plan in plans):
            return False
        return self.generated().can_be_told

    def refuse(self, key: str, purpose: str, example: str) -> NoReturn:
        """Say that a key is missing for what is asked.

        Raises:
            RecipeError: Always.
        """
        raise RecipeError(f"{self.path}: the recipe needs the key {key!r} {purpose}. Add, for example, `{example}`.")

    @cached_property
    def _source(self) -> Any:
        return self._datasets["source"]()

    @cached_property
    def _generated(self) -> GeneratedDataset:
        sources = self._datasets["sources"]() if "sources" in self._datasets else self._source
        pool = self._datasets["pool"]() if "pool" in self._datasets else None
        cache = self._cache() if self._cache is not None else None
        generated: GeneratedDataset = self._build(
            "generator",
            lambda: GeneratedDataset(
                sources,
                self.generator,
                filters=self.filters,
                cache=cache,
                variants=self.variants,
                attempts=self.attempts,
                seed=self.seed,
                pool=pool,
                version=self.version,
                license=self.license,
            ),
        )
        return generated

    def _build(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` returns; a complaint about one of the recipe's keys gets that key's line."""
        places = {name: place for name, place in self._places.items() if name != key}
        return build(Place(self.path, self._places[key].node), make, options=places)


def _read(keys: dict[str, Place], name: str, check: Callable[[Any], Any], default: Any = None) -> Any:
    return keys[name].convert(check) if name in keys else default


def _check_policy(value: object) -> str:
    return check_choice("on_shortfall", value, ("real", "repeat", "error"))


def _check_text(name: str, value: object) -> str:
    check_type(name, value, str, "Write it in quotes.")
    return str(value)


def _read_cache(place: Place) -> Callable[[], LMDBCache]:
    """A path, or `{path: ..., codec: ...}`; opened later."""
    if not place.is_mapping:
        if not isinstance(place.value, str):
            place.fail(f"cache must be a path or a mapping with a path, got {show_value(place.value)}.")
        path = resolve_path(place)
        return lambda: LMDBCache(path)
    options = place.entries("options")
    values = read_options(place, options, LMDBCache)
    return lambda: build(place, lambda: LMDBCache(**values), options=options)
