"""What an Ultralytics dataset asks of the mix: the options of a trainer, and samples for the positions of an epoch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthloader.checks import check_choice, check_count, check_int, check_number, check_type, reject
from synthloader.generated import GeneratedDataset
from synthloader.mix_sets import GeneratedSet
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Plan, Replace
from synthloader.protocols import Cache, Filter, Generator
from synthloader.sample import Sample

__all__ = ["Load", "MixOptions", "TileMix"]

RESERVED = frozenset(
    {"batch_idx", "bboxes", "cls", "im_file", "img", "keypoints", "masks", "ori_shape", "ratio_pad"}
    | {"rect_shape", "resized_shape", "segments", "sem_masks", "semantic_mask", "texts", "weight"}
)
"""What batches of Ultralytics hold already, and the name of `weight=`."""

_COMPARED = 8
"""So many images of a recipe are compared with those that are trained on."""


@dataclass(frozen=True)
class MixOptions:
    """What is mixed into the training images; checked on construction.

    Args:
        generator: Makes a sample from a sample.
        plan: Which positions of an epoch are generated.
        filters: As of `GeneratedDataset`, like the following.
        cache: Where candidates are kept.
        variants: Versions of each source.
        attempts: Most candidates for one (source, variant).
        on_shortfall: As of `MixedDataset`.
        seed: Seed of the samples and of the plan.
        mark: Name of a field of the batch: the generated share of each image.
        weight: Weight of a generated tile; batches get the field `weight`.
        pool: What generators draw from; None: the training images.
        version: Stands for the content of a pool that names no files.
        license: Under which terms images and models may be used.
        sources: Where generated samples start from; None: the training images.
        known: The generated dataset of a recipe, whose source must be the training images.
    """

    generator: Any
    plan: Any
    filters: Any = ()
    cache: Any = None
    variants: int | None = None
    attempts: int = 3
    on_shortfall: str = "real"
    seed: int = 0
    mark: str | None = None
    weight: float | None = None
    pool: Any = None
    version: str | None = None
    license: str | None = None
    sources: Any = None
    known: GeneratedDataset | None = None

    def __post_init__(self) -> None:
        if isinstance(self.generator, type) or not isinstance(self.generator, Generator):
            remedy = "Pass an instance, such as generator=CopyPaste()." if isinstance(self.generator, type) else ""
            wanted = "have generate, keeps and fingerprint"
            reject("generator", wanted, self.generator, remedy or "Pass generator=, or recipe=.", error=TypeError)
        if isinstance(self.plan, type) or not isinstance(self.plan, Plan):
            reject("plan", "be Add, Replace, Only, Balance or Schedule", self.plan, error=TypeError)
        if isinstance(self.filters, str) or not isinstance(self.filters, Sequence):
            reject("filters", "be a list of filters", self.filters, "Write filters=[MinBox()].", error=TypeError)
        object.__setattr__(self, "filters", tuple(self.filters))
        for at, judge in enumerate(self.filters):
            if isinstance(judge, type) or not isinstance(judge, Filter):
                reject(f"filters[{at}]", "have judge and fingerprint", judge, error=TypeError)
        if isinstance(self.cache, str | os.PathLike):
            remedy = f"Write cache=LMDBCache({os.fspath(self.cache)!r})."
            reject("cache", "be a cache", self.cache, remedy, error=TypeError)
        if self.cache is not None and not isinstance(self.cache, Cache):
            reject("cache", "have get, put, in, iter, len and close", self.cache, error=TypeError)
        if self.variants is not None:
            check_count("variants", self.variants)
        if self.cache is not None and self.cache.persistent and self.variants is None:
            remedy = "variants=None makes fresh samples for ever, which no cache can hold: pass variants=4, say."
            reject("variants", "be given with a persistent cache", None, remedy)
        check_count("attempts", self.attempts)
        check_int("seed", self.seed)
        check_choice("on_shortfall", self.on_shortfall, ("real", "repeat", "error"))
        if self.mark is not None:
            check_type("mark", self.mark, str)
            if self.mark in RESERVED:
                reject("mark", "be a name that batches do not use", self.mark, "Write mark='is_generated'.")
        if self.weight is not None:
            object.__setattr__(self, "weight", check_number("weight", self.weight, minimum=0.0))

    @classmethod
    def from_recipe(cls, recipe: Any, /, *, mark: str | None, weight: float | None) -> MixOptions:
        """What a loaded recipe says; its `source` is read, to be compared with the training images."""
        if not hasattr(recipe, "generated") or not hasattr(recipe, "plan"):
            remedy = "Write recipe=load_recipe('recipe.yaml')."
            reject("recipe", "be what load_recipe returns", recipe, remedy, error=TypeError)
        if recipe.plan is None:
            recipe.refuse("plan", "to mix", "plan: {add: 0.5}")
        made: GeneratedDataset = recipe.generated()
        foreign = made.dataset is not recipe.source()
        return cls(
            generator=made.given_generator,
            plan=recipe.plan,
            filters=made.filters,
            cache=made.cache,
            variants=made.variants,
            attempts=made.attempts,
            on_shortfall=recipe.on_shortfall,
            seed=made.seed,
            mark=mark,
            weight=weight,
            pool=None if made.pool is made.source else made.pool,
            version=recipe.version,
            license=made.license,
            sources=made.dataset if foreign else None,
            known=None if foreign else made,
        )

    @property
    def is_real_only(self) -> bool:
        """Whether nothing is ever generated and nothing marked: then the trainer is left as it is."""
        if self.mark is not None or self.weight is not None or not isinstance(self.plan, Add | Replace):
            return False
        ratio = self.plan.ratio
        return not any(ratio.values()) if isinstance(ratio, dict) else not ratio

    def make_mix(self, view: Any, /, *, filters: Sequence[Any] = ()) -> TileMix:
        """The mix over the real images.

        Args:
            view: The training images, as items that an adapter knows, in the order of their files.
            filters: What the trainer asks for besides; none twice.
        """
        kinds = {type(judge) for judge in self.filters}
        generated = GeneratedDataset(
            view if self.sources is None else self.sources,
            self.generator,
            filters=(*self.filters, *(judge for judge in filters if type(judge) not in kinds)),
            cache=self.cache,
            variants=self.variants,
            attempts=self.attempts,
            seed=self.seed,
            pool=self.pool,
            version=self.version,
            license=self.license,
        )
        if self.known is not None:
            _check_same_images(self.known.source, generated.source)
        return TileMix(view, generated, plan=self.plan, seed=self.seed, on_shortfall=self.on_shortfall)

    def drop_known(self) -> MixOptions:
        """The same without what was needed for a comparison only: what other processes get."""
        return replace(self, known=None)


@dataclass(frozen=True, slots=True)
class Load:
    """What one position of an epoch carries.

    Args:
        place: The real item that is served, or that the plan means a sample to start from; -1 where that is foreign.
        sample: The generated sample; None where a real item is served.
        counts: (name, amount) of what happened on the way, for the report.
    """

    place: int
    sample: Sample | None = None
    counts: tuple[tuple[str, int], ...] = ()


class TileMix(MixedDataset):
    """A mix that hands out samples, and counts a position when it is served and not when a mosaic takes a tile of it.

    Epochs are told by the indices, so nothing warns of an epoch that was fetched twice: closing the mosaic starts one
    anew, on purpose.
    """

    def __init__(self, real: Any, generated: Any, **options: Any) -> None:
        super().__init__(real, generated, **options)
        as_samples: Any = _AsSamples(real)
        self.sets = [GeneratedSet(part.name, part.dataset, as_samples) for part in self.sets]

    def load(self, at: int, epoch: int, /) -> Load:
        """What position `at` of an epoch carries. Nothing is counted.

        Raises:
            ShortfallError: `on_shortfall="error"`, and every candidate failed.
        """
        draw = self._layout.draw(epoch, at)
        if draw is None:
            return Load(at)
        tally, recorder = self._tally, _Recorder()
        self._tally: Any = recorder
        try:
            served = self._find_served(draw, epoch, at, count=True)
        except BaseException:
            self._tally = tally
            recorder.write(tally)
            raise
        self._tally = tally
        own = self.sets[draw.set_index].own
        counts = tuple(recorder.counts)
        if served.is_generated:
            return Load(draw.source if own else -1, served.item, counts)
        return Load(draw.source if own else self._layout.find_real_source(epoch, at), None, counts)

    def count_served(
        self,
        index: Any,
        epoch: int,
        counts: Sequence[tuple[str, int]],
        class_ids: list[int],
        /,
        *,
        is_generated: bool,
    ) -> None:
        """Count that a position was served."""
        for name, amount in counts:
            self._tally.add(name, amount)
        self._count(index, epoch, is_generated, class_ids)

    def find_place(self, epoch: int, at: int, /) -> int:
        """The real item that position `at` carries or starts from; one that stands in for it where it is foreign."""
        draw = self._layout.draw(epoch, at)
        if draw is None:
            return at
        return draw.source if self.sets[draw.set_index].own else self._layout.find_real_source(epoch, at)

    def find_first(self) -> tuple[int, int] | None:
        """Epoch and index of the first generated position; None where there is none in a thousand epochs."""
        for epoch in range(1000):  # a Schedule may begin with real epochs
            if self.count_generated(epoch):
                return epoch, self.find_generated(epoch, 0)
        return None

    def find_own_source(self, sample: Sample, /) -> int:
        """The real item that a sample names as its source; -1 where it is none of these."""
        if self._places is None:
            self._places = {self.source.name(place): place for place in range(len(self.source))}
        origin = sample.origin
        return self._places.get(origin.source, -1) if origin is not None else -1

    _places: dict[str, int] | None = None

    def _warn_if_repeated(self, *, at_least: bool = False) -> None:
        """Never: see the class."""


class _Recorder:
    """Takes counts in the place of a `Tally`, to be written when the position is served."""

    def __init__(self) -> None:
        self.counts: list[tuple[str, int]] = []

    def add(self, name: str, amount: int = 1, /) -> None:
        self.counts.append((name, amount))

    def write(self, tally: Any) -> None:
        for name, amount in self.counts:
            tally.add(name, amount)


class _AsSamples:
    """Stands for the real dataset where items are made of samples: leaves these as they are."""

    like = None

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.adapter = self

    def __len__(self) -> int:
        return len(self.dataset)

    def from_sample(self, sample: Sample, /, *, like: Any) -> Sample:
        return sample

    def transform(self, index: int, item: Sample, /) -> Sample:
        return item

    def read_class_ids(self, item: Sample, /) -> list[int]:
        return []  # counted by the dataset, after `classes=` and `single_cls`


def _check_same_images(theirs: Any, mine: Any) -> None:
    """Refuse a recipe whose source is not what is trained on: what it made beforehand would never be found."""
    for option in ("task", "apply_orientation"):
        wanted, stated = (getattr(each.dataset, option, None) for each in (mine, theirs))
        if wanted != stated:
            remedy = "Write it into the recipe, below source."
            reject(f"{option} of the recipe's source", f"be {str(wanted).lower()}, as the trainer's is", stated, remedy)
    names = {theirs.name(place) for place in range(len(theirs))}
    if not any(mine.name(place) in names for place in range(len(mine))):
        reject(
            "the recipe's source",
            f"be the images that are trained on, {mine.name(0)} and others",
            theirs.name(0),
            "Give the trainer and the recipe the same data.yaml.",
        )
    _warn_of_other_images(theirs, mine)


def _warn_of_other_images(theirs: Any, mine: Any) -> None:
    """Say that images of one name are not one image; a copy of the data set in another folder is as good."""
    places = {theirs.name(place): place for place in range(len(theirs))}
    shared = [place for place in range(len(mine)) if mine.name(place) in places]
    for place in shared[:_COMPARED]:
        files = [each.facts(at).file for each, at in ((theirs, places[mine.name(place)]), (mine, place))]
        if None in files or os.path.realpath(files[0]) == os.path.realpath(files[1]):
            continue
        if theirs.stamps.stamp(files[0]) != mine.stamps.stamp(files[1]):
            warnings.warn(
                f"The recipe's source and data= are not the same images: {files[0]} is another picture than {files[1]} "
                "in the training data. What was generated beforehand from the recipe's source is not used. Give the "
                "trainer and the recipe the same data.yaml.",
                UserWarning,
                stacklevel=2,
            )
            return
