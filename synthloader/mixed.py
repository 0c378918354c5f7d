"""`MixedDataset`: the dataset you have, with generated items mixed in at a stated ratio."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from torch.utils.data import Dataset, Sampler, Subset, get_worker_info

from synthloader.checks import check_choice, check_int, check_number, check_type, reject
from synthloader.empty_alarm import EmptyAlarm
from synthloader.epoch_index import EpochIndex
from synthloader.errors import ShortfallError
from synthloader.item_forms import add_field, check_takes_fields
from synthloader.layout import Draw, PlanContext
from synthloader.lifting import find_batch_table, read_several
from synthloader.mix_report import MixReport, build_report
from synthloader.mix_sets import (
    Served,
    check_classes,
    find_source,
    keep_together,
    make_sets,
    refuse_mix,
    transform_together,
    warn_of_leak,
)
from synthloader.pass_through import find_attribute, set_transform_of
from synthloader.plans import Add, Plan
from synthloader.sample import Origin
from synthloader.tally import Tally

__all__ = ["MixedDataset"]

_MOST_REPEATS = 16
_TRANSFORMS = ("transform", "target_transform")


class MixedDataset(Dataset[Any]):
    """Real items and generated ones, as items of the real dataset's own form.

    Which indices are generated, and what they carry, follows from (seed, epoch, index) alone: never from the worker,
    the order of calls or the state of a cache. A real item comes back exactly as `real[i]` gives it.

    Args:
        real: The dataset that you train on now.
        generated: A `GeneratedDataset`, any other dataset with the same items, or several by name.
        ratio: Generated samples per real sample; short for `plan=Add(ratio)`.
        plan: `Add`, `Replace`, `Only`, `Balance` or `Schedule`.
        seed: Seed of the plan's choices.
        on_shortfall: What is served where every candidate failed: `"real"`, the source itself; `"repeat"`, the
            candidate of a following position (at most 16 are tried), then the source; `"error"` raises. A real item
            that stands in has its own size, also where `get_height_and_width` told that of a tile.
        transforms: Applied to real and generated items alike, as `transforms(*item)` for tuples.
        mark: Name of a field that every item gets: whether it is generated. Items must be dicts or end in one.
        weight: Weight of a generated item; every item gets the field `weight`, 1.0 for real ones.

    Raises:
        ValueError: An argument is out of range, or the plan cannot be worked out for these datasets.
        LabelContractError: A generated set numbers the same classes differently.
        ShortfallError: `on_shortfall="error"`, and the plan asks for more different samples than there can be.

    Example:
        >>> from synthloader import ColorTransfer, GeneratedDataset, MixedDataset
        >>> boxes = torch.tensor([[1.0, 1, 5, 5]])
        >>> images = [torch.arange(192, dtype=torch.uint8).reshape(3, 8, 8) // (i + 1) for i in range(4)]
        >>> real = [(image, {"boxes": boxes, "labels": torch.tensor([1])}) for image in images]
        >>> train = MixedDataset(real, GeneratedDataset(real, ColorTransfer()), ratio=0.5)
        >>> len(train), train[0] is real[0], train.is_generated(5)
        (6, True, True)
    """

    _is_mix = True

    def __init__(
        self,
        real: Any,
        generated: Any,
        ratio: float | Mapping[str, float] | None = None,
        *,
        plan: Plan | None = None,
        seed: int = 0,
        on_shortfall: str = "real",
        transforms: Callable[..., Any] | None = None,
        mark: str | None = None,
        weight: float | None = None,
    ) -> None:
        refuse_mix("real", real)
        if not hasattr(real, "__getitem__") or not hasattr(real, "__len__"):
            reject("real", "have __getitem__ and __len__ (a map-style dataset)", real, error=TypeError)
        if not len(real):
            reject("real", "have at least one item", 0, "The dataset is empty: check its paths and annotations.")
        if (ratio is None) == (plan is None):
            reject("ratio", "be given, or plan=, and not both", ratio, "ratio=0.5 is short for plan=Add(0.5).")
        chosen: Any = Add(ratio) if ratio is not None else plan
        if isinstance(chosen, type) or not isinstance(chosen, Plan):
            reject("plan", "be Add, Replace, Only, Balance or Schedule", plan, error=TypeError)
        self.real = real
        self.plan: Plan = chosen
        self.seed = check_int("seed", seed)
        self._alarm = EmptyAlarm()
        self.on_shortfall = check_choice("on_shortfall", on_shortfall, ("real", "repeat", "error"))
        self.transforms = transforms
        if mark is not None:
            check_type("mark", mark, str)
        self.mark = mark
        self.weight = None if weight is None else check_number("weight", weight, minimum=0.0)
        self.source = find_source(real, generated)
        self.sets = make_sets(self.source, generated)
        context = PlanContext(
            num_real=len(real),
            sets=tuple(part.shape() for part in self.sets),
            seed=self.seed,
            find_classes=self.source.find_classes,
            class_to_idx=self.source.classes if isinstance(plan, Plan) and not isinstance(plan, Add) else None,
        )
        self._layout = self.plan.bind(context)
        check_classes(self.source, self.sets)
        warn_of_leak(self.source, self.sets)
        if self._layout.count_generated(0):
            for part in self.sets:
                part.check()
        if self.transforms is None and (mark is not None or weight is not None):
            check_takes_fields(self.source)
        self._say_shortfalls()
        self._tally = Tally()
        self._length = self._layout.length
        self._repeated: set[int] = set()

    # ---- items

    def __len__(self) -> int:
        """Number of indices of an epoch."""
        if get_worker_info() is None and self._is_sampler_starting():
            self._warn_if_repeated(at_least=True)
        return self._length

    def __getitem__(self, index: Any) -> Any:
        """The item at `index` of the current epoch, or of the epoch that an `EpochIndex` carries.

        Raises:
            IndexError: There is no such index.
            ShortfallError: `on_shortfall="error"`, and every candidate failed.
        """
        at, epoch = self._resolve(index)
        draw = self._layout.draw(epoch, at)
        if draw is None:
            return self._finish(self.real[at], None, index, epoch)
        served = self._serve(draw, epoch, at)
        return self._finish(served.item, served, index, epoch)

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:
        """Several items at once, as loaders ask for them; what is generated is kept in one commit.

        Where the wrapped dataset reads several at once itself, it is asked for the real ones so, and a transform of
        whole batches gets real and generated items in one batch.
        """
        self._tally.note_batch(len(indices))
        with keep_together(self.sets):
            if not callable(getattr(self.real, "__getitems__", None)):
                return [self[index] for index in indices]
            return self._read_together(indices)

    def is_generated(self, index: Any, /) -> bool:
        """Whether the plan has a generated item at `index` of the current epoch."""
        at, epoch = self._resolve(index)
        return self._layout.draw(epoch, at) is not None

    def draw(self, index: Any, /) -> Draw | None:
        """Set, source and variant that the plan has at `index` of the current epoch; None for a real item."""
        at, epoch = self._resolve(index)
        return self._layout.draw(epoch, at)

    def origin(self, index: Any, /) -> Origin | None:
        """Where the generated item at `index` came from; None where a real item is served. Makes the item."""
        at, epoch = self._resolve(index)
        draw = self._layout.draw(epoch, at)
        return None if draw is None else self._find_served(draw, epoch, at).origin

    @property
    def epoch(self) -> int:
        """The current epoch, also in persistent workers."""
        return self._tally.epoch

    def set_epoch(self, epoch: int, /) -> None:
        """Start an epoch: other sources, variants and places. Reaches workers that are already running."""
        epoch = check_int("epoch", epoch, minimum=0)
        self._warn_if_repeated()
        self._tally.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Seed, plan and epoch; never counts, so that loading it in every worker is harmless."""
        return {"seed": self.seed, "plan": repr(self.plan), "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Go on in the epoch of a saved state.

        Raises:
            ValueError: The state belongs to another seed or plan.
        """
        for name, mine in (("seed", self.seed), ("plan", repr(self.plan))):
            if state.get(name) != mine:
                reject(
                    f"state[{name!r}]",
                    f"be this dataset's {mine}",
                    state.get(name),
                    "The state was saved with other arguments: an epoch would go on with other samples.",
                )
        self._tally.epoch = check_int("state['epoch']", state["epoch"], minimum=0)

    def report(self, *, reduce: bool = False) -> MixReport:
        """What was asked and what was served so far.

        Args:
            reduce: Sum the ranks of a distributed run; every rank must call it.
        """
        self._warn_if_repeated()
        counts, repeated, ranks = self._tally.read(), set(self._repeated), 1
        if reduce and torch.distributed.is_available() and torch.distributed.is_initialized():
            ranks = torch.distributed.get_world_size()
            gathered: list[Any] = [None] * ranks
            torch.distributed.all_gather_object(gathered, (dict(counts), sorted(repeated)))
            counts = sum((Counter(part) for part, _ in gathered), Counter())
            repeated = {epoch for _, part in gathered for epoch in part}
        planned = self._layout.count_generated(self.epoch)
        return build_report(
            counts,
            epoch=self.epoch,
            planned_real=self._length - planned,
            planned_generated=planned,
            set_names=[part.name for part in self.sets],
            repeated_epochs=tuple(sorted(repeated)),
            ranks=ranks,
            notes=tuple(short.describe() for short in self._layout.shortfalls),
            plan=self.plan,
            class_to_idx=self.source.classes,
        )

    def list_rationed(self) -> list[Draw]:
        """What a `Balance` plan with a cap asks a cache for, in all epochs: what `precompute(draws=...)` takes.

        Its samples depend on the donors that the plan chose for them. Empty for other plans, for generators that cannot
        be told which donors to use, and where versions never end.
        """
        return self._layout.list_rationed()

    def count_generated(self, epoch: int | None = None, /) -> int:
        """How many indices of an epoch (default: the current one) are generated."""
        return self._layout.count_generated(self.epoch if epoch is None else epoch)

    def find_generated(self, epoch: int, position: int, /) -> int:
        """The index of generated item number `position` of an epoch; what samplers arrange batches with."""
        return self._layout.find_generated(epoch, position)

    def find_real(self, epoch: int, position: int, /) -> int:
        """The index of real item number `position` of an epoch."""
        return self._layout.find_real(epoch, position)

    def split(self, lengths: Sequence[float], generator: torch.Generator | None = None) -> list[MixedDataset]:
        """Split the sources, then mix each part: no variant of one part's sources reaches another.

        `torch.utils.data.random_split` over the mix would put versions of one photograph on both sides, and cannot be
        noticed. For validation take the real part alone: `train.split([0.8, 0.2])[1].real`.

        Args:
            lengths: As of `random_split`: counts of real items, or fractions.
            generator: Random generator of the split.
        """
        sizes: Any = range(len(self.real))
        parts = torch.utils.data.random_split(sizes, lengths, generator=generator)
        foreign = [part.name for part in self.sets if not part.own]
        if foreign:
            reject("split", "be of sets made from the real items", foreign, "Split the datasets before mixing them.")
        return [self._restrict([int(at) for at in part.indices]) for part in parts]

    # ---- what the wrapped dataset has besides

    def __getattr__(self, name: str) -> Any:
        """The wrapped dataset's attributes, unless they would lie about the mix."""
        if name.startswith("_") or "real" not in self.__dict__ or "_length" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return find_attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a transform that the mix itself has no use for is the wrapped dataset's."""
        if name in _TRANSFORMS:
            set_transform_of(self, name, value)
        else:
            super().__setattr__(name, value)

    # ---- inside

    def _resolve(self, index: Any) -> tuple[int, int]:
        """Position and epoch of an index of any integer kind."""
        if type(index) is EpochIndex:
            at, epoch = int(index), index.epoch  # the wrapped dataset gets a plain int, as ever
        else:
            at, epoch = index if type(index) is int else _to_int(index), self._tally.epoch
        length = self._length
        if at < 0:
            at += length
        if not 0 <= at < length:
            raise IndexError(f"index {int(index)} is out of range for {length} items")
        return at, epoch

    def _read_together(self, indices: Sequence[Any]) -> list[Any]:
        """`self[index]` for each, the real ones read together, and all transformed as the wrapped dataset does it."""
        places = [self._resolve(index) for index in indices]
        draws = [self._layout.draw(epoch, at) for at, epoch in places]
        real = [at for (at, _), draw in zip(places, draws, strict=True) if draw is None]
        table = find_batch_table(self.real) if len(real) < len(places) else None
        read = iter(read_several(self.real, real, table))
        batch = [
            Served(next(read), is_bare=table is not None)
            if draw is None
            else self._serve(draw, epoch, at, bare=table is not None)
            for (at, epoch), draw in zip(places, draws, strict=True)
        ]
        if table is not None:
            transform_together(table, batch)
        return [
            self._finish(served.item, served, index, epoch)
            for served, index, (_, epoch) in zip(batch, indices, places, strict=True)
        ]

    def _finish(self, item: Any, served: Served | None, index: Any, epoch: int) -> Any:
        """What is done to every item, real or generated, after the wrapped dataset's own transforms."""
        is_generated = served is not None and served.is_generated
        class_ids = served.class_ids if served is not None and is_generated else self.source.read_class_ids(item)
        if self.transforms is not None:
            item = self.transforms(*item) if isinstance(item, tuple) else self.transforms(item)
        if self.mark is not None:
            item = add_field(item, "mark", self.mark, torch.tensor(is_generated))
        if self.weight is not None:
            item = add_field(item, "weight", "weight", torch.tensor(self.weight if is_generated else 1.0))
        self._count(index, epoch, is_generated, class_ids)
        return item

    def _serve(self, draw: Draw, epoch: int, at: int, *, bare: bool = False) -> Served:
        """What a generated position gets: a generated item, or a real one in its place; `bare`: not yet transformed."""
        served = self._find_served(draw, epoch, at, count=True, bare=bare)
        if not served.is_generated:
            place = draw.source if self.sets[draw.set_index].own else self._layout.find_real_source(epoch, at)
            served.item, served.is_bare = (self.source.read(place) if bare else self.real[place]), bare
        return served

    def _find_served(self, draw: Draw, epoch: int, at: int, *, count: bool = False, bare: bool = False) -> Served:
        """The first candidate that is accepted: the position's own, then, with `repeat`, those that follow."""
        name = self.sets[draw.set_index].name
        add = self._tally.add if count else _ignore
        add(f"set/{name}/asked")
        reasons: list[str] = []
        for turn, candidate in enumerate(self._candidates(draw, epoch, at)):
            if candidate.variant is None:
                reasons.append("no variant left")
                continue
            part = self.sets[candidate.set_index]
            served = part.serve(candidate, at, epoch=epoch, bare=bare)
            self._count_outcome(part.name, served, add)
            if served.is_generated:
                self._alarm.note_made(name)
                add(f"set/{name}/generated")
                if turn:
                    add(f"set/{name}/repeated")
                return served
            reasons += [f"{who}: {reason}" for who, reason in served.rejections]
        if self.on_shortfall == "error":
            add(f"set/{name}/failed")
            raise ShortfallError(
                f"nothing could be generated at index {at} of epoch {epoch} from source {draw.source} of set "
                f"{name!r} ({', '.join(sorted(set(reasons)))}). Raise attempts=, loosen the filters, or pass "
                f"on_shortfall='real'."
            )
        add(f"set/{name}/real_instead")
        self._alarm.note_failed(name, reasons)
        return Served()

    def _candidates(self, draw: Draw, epoch: int, at: int) -> Iterator[Draw]:
        yield draw
        if self.on_shortfall == "repeat":
            yield from self._layout.draw_next(epoch, at, limit=_MOST_REPEATS)

    def _count_outcome(self, name: str, served: Served, add: Callable[..., None]) -> None:
        for key, amount in (
            ("cache_hits", served.hits),
            ("cache_misses", served.misses),
            ("source_reads_on_hit", served.source_reads),
        ):
            if amount:
                add(f"set/{name}/{key}", amount)
        for who, accepted in served.judged:
            add(f"filter/{who}/{'accepted' if accepted else 'rejected'}")
        for who, reason in served.rejections:
            add(f"rejected/{who}: {reason}")

    def _count(self, index: Any, epoch: int, is_generated: bool, class_ids: list[int]) -> None:
        tally = self._tally
        if type(index) is EpochIndex and index.is_padding:
            tally.add("padding")
            return
        side = "generated" if is_generated else "real"
        tally.add(side)
        counts: dict[int, int] = {}
        for class_id in class_ids:
            counts[class_id] = counts.get(class_id, 0) + 1
        for class_id, amount in counts.items():
            tally.add(f"class/{side}/{class_id}", amount)
        if tally.add_fetch(epoch) > self._share():
            self._warn_if_repeated()

    def _warn_if_repeated(self, *, at_least: bool = False) -> None:
        """Say once, in the main process, that an epoch is fetched a second time."""
        epoch = self.epoch
        if self._repeated or get_worker_info() is not None or not self._layout.count_generated(epoch):
            return
        if self._tally.count_fetched(epoch) > (self._share() if not at_least else self._count_share() - 1):
            self._repeated.add(epoch)
            warnings.warn(
                f"More items of epoch {epoch} were fetched than it has: the same generated items are served again. Add "
                f"`train.set_epoch(epoch)` at the start of every epoch, or pass `sampler=EpochSampler(sampler, train)` "
                f"to the DataLoader.",
                UserWarning,
                stacklevel=3,
            )

    def _share(self) -> int:
        """How many positions of an epoch this rank fetches at most: one batch may be padding, or a look beforehand."""
        return self._count_share() + self._tally.largest_batch

    def _count_share(self) -> int:
        """How many positions of an epoch are this rank's."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return -(-self._length // torch.distributed.get_world_size())
        return self._length

    def _is_sampler_starting(self) -> bool:
        """Whether `len` was asked by a torch sampler that begins to iterate: a new pass over the dataset."""
        frame = sys._getframe(2)
        return frame.f_code.co_name == "__iter__" and isinstance(frame.f_locals.get("self"), Sampler)

    def _say_shortfalls(self) -> None:
        for short in self._layout.shortfalls:
            message = short.describe()
            if self.on_shortfall == "error":
                raise ShortfallError(message)
            warnings.warn(message, UserWarning, stacklevel=3)

    def _restrict(self, indices: list[int]) -> MixedDataset:
        real = Subset(self.real, indices)
        return self._make_again(real, {part.name: part.restrict(real) for part in self.sets})

    def _change_real(self, change: Callable[[Any], Any], *, keeps_form: bool) -> MixedDataset:
        """The same mix over a changed dataset: another transform, another format of its rows."""
        real = change(self.real)
        sets = {part.name: part.follow(change, real, keeps_form=keeps_form) for part in self.sets}
        mix = self._make_again(real, sets)
        mix._tally.epoch = self.epoch
        return mix

    def _make_again(self, real: Any, generated: Mapping[str, Any]) -> MixedDataset:
        return MixedDataset(
            real,
            generated,
            plan=self.plan,
            seed=self.seed,
            on_shortfall=self.on_shortfall,
            transforms=self.transforms,
            mark=self.mark,
            weight=self.weight,
        )


def _to_int(index: Any) -> int:
    if isinstance(index, list):
        reject(
            "index", "be an integer", index, "Pass a batch sampler as DataLoader(batch_sampler=...).", error=TypeError
        )
    if isinstance(index, bool) or (getattr(index, "ndim", 0) != 0):
        reject("index", "be an integer", index, error=TypeError)
    try:
        return int(index.__index__())
    except (AttributeError, TypeError):
        reject("index", "be an integer", index, error=TypeError)


def _ignore(name: str, amount: int = 1, /) -> None:
    """Count nothing."""
