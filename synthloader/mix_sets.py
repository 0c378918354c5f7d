"""The generated sets of a mix: a `GeneratedDataset`, or any other dataset with the same items."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, Subset

from synthloader.budget import DonorList
from synthloader.checks import check_type, reject
from synthloader.class_table import find_contradiction
from synthloader.errors import LabelContractError, note_error
from synthloader.forked_workers import explain_cuda_error, is_forked_worker, make_cuda_error, needs_cuda
from synthloader.generated import GeneratedDataset, Outcome
from synthloader.generators.composing.composition import (
    aims_within_source,
    find_aim,
    find_budget,
    pastes_donors,
)
from synthloader.generators.composing.output_size import find_output_size
from synthloader.item_forms import find_difference
from synthloader.layout import Draw, SetShape
from synthloader.lifting import find_base, list_bases, preserve_random_state
from synthloader.protocols import Demanding
from synthloader.row_tables import apply_batch_transform
from synthloader.sample import Origin
from synthloader.sources import Source

__all__ = [
    "GeneratedSet",
    "PlainSet",
    "Served",
    "check_classes",
    "find_source",
    "keep_together",
    "make_sets",
    "refuse_mix",
    "transform_together",
    "warn_of_leak",
]


@dataclass
class Served:
    """What a set gives for one position: an item, or why there is none; `is_bare`: its transform is still to come."""

    item: Any = None
    is_generated: bool = False
    origin: Origin | None = None
    class_ids: list[int] = field(default_factory=list)
    hits: int = 0
    misses: int = 0
    source_reads: int = 0
    rejections: list[tuple[str, str]] = field(default_factory=list)
    judged: list[tuple[str, bool]] = field(default_factory=list)
    is_bare: bool = False


class GeneratedSet:
    """A `GeneratedDataset` in a mix; items take the form and the transforms of the real dataset."""

    def __init__(self, name: str, dataset: GeneratedDataset, real: Source) -> None:
        self.name = name
        self.dataset = dataset
        self.source = dataset.source
        self.real = real
        self.own = dataset.dataset is real.dataset
        self._warned = False

    def shape(self) -> SetShape:
        """What a plan must know of it."""
        source, generator = self.source, self.dataset.given_generator
        return SetShape(
            self.name,
            len(source),
            self.dataset.variants,
            own=self.own,
            aimable=find_aim(generator) is not None and not aims_within_source(generator),
            confirm_aim=self.confirm_aim,
            check_aim=self.check_aim,
            has_donors=self.has_donors,
            find_groups=self.find_groups,
            find_classes=source.find_classes,
            find_donors=self.find_donors,
        )

    def confirm_aim(self) -> bool:
        """Whether these sources leave it open which class is added."""
        return self.dataset.can_aim

    def check_aim(self, class_id: int, /) -> None:
        """Let the generator refuse a class now, and not in a worker.

        Raises:
            ValueError: It cannot be aimed at this class.
        """
        aim = find_aim(self.dataset.generator) if self.dataset.can_aim else None
        if aim is None:
            return
        try:
            aim(class_id)
        except ValueError as error:
            names = {at: repr(name) for name, at in (self.real.classes or {}).items()}
            raise ValueError(
                f"The plan raises class {names.get(class_id, class_id)}, which the generator of set {self.name!r} "
                f"refuses: {error} Or choose the classes that the plan raises, with its own classes=."
            ) from error

    def has_donors(self, class_id: int, /) -> bool:
        """Whether there are donors of a class, as far as the generator can say that."""
        generator = find_budget(self.dataset.generator)
        if generator is None:
            return True
        with preserve_random_state():
            try:
                return bool(generator.list_donors(class_id))
            except ValueError:  # parts with donors of their own: what only a cap forbids
                return True

    def find_donors(self, class_id: int, /) -> DonorList | None:
        """The donors of a class, by their names; None where the generator cannot be told which to use.

        Raises:
            ValueError: Several parts of the generator draw from donors of their own.
        """
        generator = find_budget(self.dataset.generator)
        if generator is None:
            self._warn_of_uncounted_donors()
            return None
        with preserve_random_state():
            return DonorList(tuple(generator.list_donors(class_id)), generator.max_donors)

    def _warn_of_uncounted_donors(self) -> None:
        given = self.dataset.given_generator
        if self._warned or not pastes_donors(given):
            return
        self._warned = True
        warnings.warn(
            f"The plan's cap bounds how often a source image of the set {self.name!r} is used, and not how often a "
            f"donor is pasted: {given!r} cannot be told which donors to use, because it pastes some of the time. Paste "
            f"always (take CopyPaste out of Sometimes or OneOf), or leave cap= out.",
            UserWarning,
            stacklevel=2,
        )

    @cached_property
    def sizes_hw(self) -> np.ndarray | None:
        """(S, 2) int32 heights and widths of what is made from each source; None where they are not known."""
        sizes = self.source.sizes_hw
        if sizes is None:
            return None
        each, places = np.unique(sizes, axis=0, return_inverse=True)
        made = [self.find_size_hw((int(height), int(width))) for height, width in each]
        return None if None in made else np.array(made, np.int32)[places.reshape(-1)]

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int] | None:
        """Height and width of what is made from a source of this size; None where they depend on what is drawn."""
        return find_output_size(self.dataset.given_generator, source_hw)

    @cached_property
    def resizes(self) -> bool:
        """Whether what is made may have another size than its source."""
        sizes = self.source.sizes_hw
        return sizes is not None and (self.sizes_hw is None or not np.array_equal(self.sizes_hw, sizes))

    def find_groups(self) -> np.ndarray | None:
        """(S,) numbers, equal for sources from which items of one size and class are made."""
        return self._groups if self.resizes else self.source.groups

    @cached_property
    def _groups(self) -> np.ndarray | None:
        return self.source.group(self.sizes_hw)

    def check(self) -> None:
        """Refuse what could not be served, as far as it is known without a random draw.

        That is a generator that does not keep the sources' targets or cannot be bound to them, and sources that lack
        what the real items have.
        """
        generator = self.dataset.generator
        sample = self.source.peek_sample()
        if sample is None or sample.target is None:
            return
        if isinstance(generator, Demanding):
            generator.check_source(sample)  # Which says best what is missing.
        if type(sample.target) not in generator.keeps:
            kind, kept = type(sample.target).__name__, ", ".join(sorted(kind.__name__ for kind in generator.keeps))
            raise LabelContractError(
                f"{type(generator).__name__} does not keep {kind} true, which item 0 ({self.source.name(0)}) has. It "
                f"keeps {kept or 'nothing'}: use a generator that keeps {kind}, or another dataset."
            )
        if not self.own and self.real.peek_sample() is not None:
            try:
                self.real.adapter.from_sample(sample, like=self.real.like)
            except LabelContractError as error:
                note_error(error, f"set {self.name!r}, item 0 ({self.source.name(0)}), beside {self.real.name(0)}")
                raise

    def serve(self, draw: Draw, index: int, *, epoch: int = 0, bare: bool = False) -> Served:
        """Make what the position carries; `bare`: without the transforms of the real dataset."""
        outcome = self._make(draw, index, epoch)
        served = Served(
            hits=outcome.hits,
            misses=outcome.misses,
            source_reads=outcome.source_reads,
            rejections=outcome.rejections,
            judged=outcome.judged,
        )
        sample = outcome.sample
        if sample is None:
            return served
        if sample.target is None:
            raise LabelContractError(
                f"index {index} came out without a label, from source {self.source.name(draw.source)!r} of set "
                f"{self.name!r}. Mixing it in would teach that the image holds nothing: use a generator that labels."
            )
        place = draw.source if self.own else index % len(self.real)
        item = self.real.adapter.from_sample(sample, like=self.real.like)
        served.item, served.is_bare = (item if bare else self.real.transform(place, item)), bare
        served.class_ids = self.real.read_class_ids(item)
        served.is_generated, served.origin = True, sample.origin
        return served

    def follow(self, change: Callable[[Any], Any], real: Any, *, keeps_form: bool) -> GeneratedDataset:
        """The set of a mix whose real dataset was changed; `keeps_form`: its untransformed items stay as they were."""
        return self.restrict(real, keeps_form=keeps_form) if self.own else self.dataset

    def restrict(self, real: Any, *, keeps_form: bool = True) -> GeneratedDataset:
        """The same generator and cache over other sources: fewer, or the same with other transforms."""
        made = self.dataset
        return GeneratedDataset(
            real,
            made.given_generator,
            adapter=made.adapter if keeps_form else made.source.given_adapter,
            filters=made.filters,
            cache=made.cache,
            variants=made.variants,
            attempts=made.attempts,
            seed=made.seed,
            pool=None if made.pool is made.source else made.pool,
            version=made.source.version,
            license=made.license,
        )

    def _make(self, draw: Draw, index: int, epoch: int) -> Outcome:
        made = self.dataset
        if made.cache is None and is_forked_worker() and needs_cuda(made.given_generator):
            raise make_cuda_error(made.given_generator)
        try:
            return made.make(
                draw.source,
                draw.variant or 0,
                target_class=draw.target_class,
                donors=draw.donors,
                epoch=epoch,
                index=index,
            )
        except RuntimeError as error:
            clearer = explain_cuda_error(made.given_generator, error)
            if clearer is None:
                raise
            raise clearer from error


class PlainSet:
    """Any dataset with the real one's items: a rendered set, an older export. Each item is served as it is."""

    own = False

    def __init__(self, name: str, dataset: Any, real: Source) -> None:
        self.name = name
        self.dataset = dataset
        self.source = Source(dataset, look=False)
        self.real = real
        self._is_checked = False

    @property
    def sizes_hw(self) -> np.ndarray | None:
        """(S, 2) int32 heights and widths of its items; None where they are not known."""
        return self.source.sizes_hw

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int] | None:
        """The same height and width."""
        return source_hw

    @property
    def resizes(self) -> bool:
        """Never: its items are served as they are."""
        return False

    def shape(self) -> SetShape:
        """What a plan must know of it."""
        source = self.source
        return SetShape(
            self.name,
            len(source),
            1,
            own=False,
            find_groups=source.find_groups,
            find_classes=source.find_classes,
        )

    def check(self) -> None:
        """Refuse items of another form than the real ones, where both are known without a random draw."""
        mine, theirs = self.real.peek(), self.source.peek()
        if mine is not None and theirs is not None:
            self._compare([mine], [theirs])

    def serve(self, draw: Draw, index: int, *, epoch: int = 0, bare: bool = False) -> Served:
        """Read what the position carries; its own transforms are applied in any case."""
        item = self.dataset[draw.source]
        if not self._is_checked:
            with preserve_random_state():
                real = [self.real.dataset[place] for place in self.real.probes]
            self._compare(real, [item])
        origin = Origin(source=self.source.name(draw.source), fingerprint=type(self.dataset).__name__)
        return Served(item=item, is_generated=True, origin=origin, class_ids=self.source.read_class_ids(item))

    def _compare(self, real: list[Any], others: list[Any]) -> None:
        difference = find_difference(real, others)
        if difference is not None:
            raise LabelContractError(
                f"the generated set {self.name!r} cannot stand beside the real items: its {difference}. Give "
                f"{type(self.dataset).__name__} items of the form of {type(self.real.dataset).__name__}, transforms "
                f"included, or make samples from it by a generator: GeneratedDataset(...)."
            )
        self._is_checked = True

    def follow(self, change: Callable[[Any], Any], real: Any, *, keeps_form: bool) -> Any:
        """The set with the same change as the real dataset: its items are served as they come."""
        return change(self.dataset)

    def restrict(self, real: Any) -> Any:
        """A foreign set cannot be split by the real one's sources."""
        raise TypeError("a set from foreign sources cannot be split with the real dataset")


def find_source(real: Any, generated: Any) -> Source:
    """The real dataset as a pool of samples, shared with a set that is made from it."""
    parts = generated.values() if isinstance(generated, Mapping) else [generated]
    for part in parts:
        if isinstance(part, GeneratedDataset) and part.dataset is real:
            return part.source
    return Source(real, look=False)


def make_sets(source: Source, generated: Any) -> list[GeneratedSet | PlainSet]:
    """The sets of a mix, by name; a single one is called `generated`."""
    named = generated if isinstance(generated, Mapping) else {"generated": generated}
    if not named:
        reject("generated", "have at least one set", generated, "Pass a GeneratedDataset, or ratio=0 beside one.")
    sets: list[GeneratedSet | PlainSet] = []
    for name, part in named.items():
        check_type("a name of generated", name, str)
        refuse_mix("generated", part)
        if isinstance(part, GeneratedDataset):
            sets.append(GeneratedSet(name, part, source))
        elif hasattr(part, "__getitem__") and hasattr(part, "__len__"):
            sets.append(PlainSet(name, part, source))
        else:
            reject("generated", "be a GeneratedDataset, a map-style dataset, or several by name", part, error=TypeError)
    return sets


def check_classes(real: Source, sets: Iterable[GeneratedSet | PlainSet], /) -> None:
    """Refuse a set that gives the same class another number.

    Raises:
        LabelContractError: The tables of classes contradict each other.
    """
    foreign = [part for part in sets if not part.own]
    mine = real.classes or {} if foreign else {}
    for part in foreign:
        found = find_contradiction(mine, part.source.classes or {})
        if found is not None:
            subject, real_says, set_says = found
            raise LabelContractError(
                f"{subject} is {real_says} in the real dataset and {set_says} in the generated set {part.name!r}. Give "
                f"both one table of classes, or renumber one of them."
            )


def warn_of_leak(real: Source, sets: Iterable[GeneratedSet | PlainSet], /) -> None:
    """Warn where a part of a dataset is real and versions of the whole dataset are mixed in."""
    if not isinstance(real.dataset, Subset):
        return
    bases = {id(base) for base in list_bases(real.dataset)}
    for part in sets:
        whole = part.source.dataset
        if isinstance(part, GeneratedSet) and id(whole) in bases and len(real) < len(whole):
            warnings.warn(
                f"The set {part.name!r} is made from all {len(whole)} items of {type(whole).__name__}, of which the "
                f"real dataset is {len(real)}: versions of the others, perhaps of your validation images, are mixed "
                f"in. Pass the same Subset to GeneratedDataset, or use train.split(...).",
                stacklevel=3,
            )


def transform_together(table: Any, batch: Iterable[Served], /) -> None:
    """Apply the transform of a table of rows to all bare rows of a batch at once."""
    bare = [served for served in batch if served.is_bare]
    for served, item in zip(bare, apply_batch_transform(table, [served.item for served in bare]), strict=True):
        served.item, served.is_bare = item, False


@contextmanager
def keep_together(sets: Iterable[GeneratedSet | PlainSet]) -> Iterator[None]:
    """Keep what is generated in the block at the price of one commit for each cache."""
    with ExitStack() as stack:
        for part in sets:
            if isinstance(part, GeneratedSet) and part.dataset.store is not None:
                stack.enter_context(part.dataset.store.batch())
        yield


def refuse_mix(name: str, dataset: Any) -> None:
    """Refuse a dataset that is mixed already, also one that hides in a `Subset`."""
    base = dataset
    if (
        hasattr(dataset, "__len__")
        and hasattr(dataset, "__getitem__")
        and not isinstance(dataset, Mapping | IterableDataset)  # ChainDataset has a length, and may refuse to say it.
        and len(dataset)
    ):
        base = find_base(dataset, 0)[0]
    if getattr(base, "_is_mix", False):
        reject(
            name,
            "not be mixed already",
            type(dataset).__name__,
            "Make the mix once, outside of functions that are called again, or pass its real dataset: train.real.",
            error=TypeError,
        )
