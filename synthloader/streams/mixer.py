"""What is mixed into a stream, and the counts of it: what `MixedStream` and `mix_stream` have in common."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import torch
import torch.distributed

from synthloader.checks import check_choice, check_number, check_type, reject
from synthloader.generated import GeneratedDataset
from synthloader.item_forms import add_field
from synthloader.mix_report import MixReport, build_report
from synthloader.mix_sets import GeneratedSet, Served
from synthloader.protocols import AnyAdapter, Bindable, Filter, Generator
from synthloader.registry import describe_item
from synthloader.streams.clock import PassClock, Share, find_ranks
from synthloader.streams.source import StreamSource
from synthloader.tally import Tally

__all__ = ["StreamMixer"]

_SET = "generated"


class StreamMixer:
    """What is mixed into a stream, and the counts of it; `MixedStream` and `mix_stream` say what the arguments mean."""

    _is_mix = True

    def __init__(
        self,
        generator: Generator,
        ratio: float,
        *,
        adapter: AnyAdapter | None,
        filters: Sequence[Filter],
        attempts: int,
        seed: int,
        on_shortfall: str,
        pool: Any,
        transforms: Callable[..., Any] | None,
        mark: str | None,
        weight: float | None,
        name: str | Callable[[Any], str] | None,
        stream: Any = None,
    ) -> None:
        self.ratio = check_number("ratio", ratio, minimum=0.0)
        self.exact_ratio = Fraction(repr(self.ratio))
        self.most_versions = max(1, ceil(self.exact_ratio))
        self.on_shortfall = check_choice("on_shortfall", on_shortfall, ("real", "error"))
        self.transforms = transforms
        if mark is not None:
            check_type("mark", mark, str)
        self.mark = mark
        self.weight = None if weight is None else check_number("weight", weight, minimum=0.0)
        if name is not None and not callable(name):
            check_type("name", name, str, "Name a field of the items, or pass a function from item to name.")
        self.name = name
        if pool is None and isinstance(generator, Bindable) and getattr(generator, "uses_pool", True):
            reject(
                "pool",
                f"be given, because {type(generator).__name__} draws from one and a stream cannot be indexed",
                None,
                "Pass a map-style dataset with the same classes: pool=CocoDataset(...).",
            )
        if pool is not None and (not hasattr(pool, "__getitem__") or not hasattr(pool, "__len__")):
            reject("pool", "be a map-style dataset or a Pool", pool, error=TypeError)
        self.given_adapter = adapter
        self.known_adapter: AnyAdapter | None = None
        source = StreamSource(stream, given=adapter, known=None)
        self._template = GeneratedDataset(
            source, generator, filters=filters, attempts=attempts, seed=seed, pool=pool, adapter=adapter
        )
        self._has_pool = pool is not None
        self._clock = PassClock()
        self._tally = Tally()
        self._given_ranks: tuple[int, int] | None = None
        self._carried_ranks: tuple[int, int] | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the last pass that began, or of the next if it was set since."""
        return self._clock.epoch

    def set_epoch(self, epoch: int, /) -> None:
        """The epoch of the next pass: other variants. Reaches workers that are already running."""
        self._clock.set_epoch(epoch)

    def report(self, *, reduce: bool = False) -> MixReport:
        """What was asked and what was served so far; `planned` is of the items served so far.

        Args:
            reduce: Sum the ranks of a distributed run; every rank must call it.
        """
        counts, ranks = self._tally.read(), 1
        if reduce and torch.distributed.is_available() and torch.distributed.is_initialized():
            ranks = torch.distributed.get_world_size()
            gathered: list[Any] = [None] * ranks
            torch.distributed.all_gather_object(gathered, dict(counts))
            counts = sum((Counter(part) for part in gathered), Counter())
        asked = counts[f"set/{_SET}/asked"]
        report = build_report(
            counts,
            epoch=self.epoch,
            planned_real=counts["real"] - counts[f"set/{_SET}/real_instead"],
            planned_generated=asked,
            set_names=[_SET],
            repeated_epochs=(),
            ranks=ranks,
            notes=(),
        )
        return replace(report, asked_ratio=self.ratio)

    # ---- what a pass asks for

    def find_share(self) -> Share:
        """Which of all readers this process is."""
        return Share.find(self._given_ranks or find_ranks() or self._carried_ranks or (0, 1))

    def make_set(self, stream: Any) -> tuple[StreamSource, GeneratedSet]:
        """A source of its own for a pass, and what makes versions of its items."""
        source = StreamSource(stream, given=self.given_adapter, known=self.known_adapter)
        if self.exact_ratio:
            _ = self._template.generator  # Bound once, and not for every pass.
        made = copy.copy(self._template)
        made.source, made.dataset = source, source.dataset
        if not self._has_pool:
            made.pool = source
        return source, GeneratedSet(_SET, made, source)

    def start_pass(self, share: Share, stream: Any) -> int:
        """Begin a pass; gives its epoch, which a stream that shuffles by epochs is told, if somebody set one."""
        epoch = self._clock.start(share)
        if self._clock.is_told and hasattr(stream, "set_epoch"):
            stream.set_epoch(epoch)
        return epoch

    def find_next_epoch(self, share: Share) -> int:
        """The epoch that a pass would have if it began now."""
        return self._clock.find_next(share)

    def resume_pass(self, share: Share, epoch: int, stream: Any) -> None:
        """Go on within a pass of this epoch."""
        self._clock.resume(share, epoch)
        if self._clock.is_told and hasattr(stream, "set_epoch"):
            stream.set_epoch(epoch)

    def name_item(self, item: Any) -> str:
        """What `name=` says of an item.

        Raises:
            ValueError: The item has no such field.
        """
        if callable(self.name):
            return str(self.name(item))
        for holder in (item, item[-1] if isinstance(item, tuple | list) and item else None):
            if isinstance(holder, dict) and self.name in holder:
                return str(holder[self.name])
        reject("name", "be a field of the items", self.name, "Or pass a function from item to name.")

    def count_served(self, served: Served) -> None:
        """Count what came of one generated place."""
        add = self._tally.add
        add(f"set/{_SET}/asked")
        failed = "failed" if self.on_shortfall == "error" else "real_instead"
        add(f"set/{_SET}/{'generated' if served.is_generated else failed}")
        for who, accepted in served.judged:
            add(f"filter/{who}/{'accepted' if accepted else 'rejected'}")
        for who, reason in served.rejections:
            add(f"rejected/{who}: {reason}")

    def finish(self, item: Any, side: str, class_ids: list[int]) -> Any:
        """An item as it is served: transformed, marked, counted."""
        self._tally.add(side)
        for class_id, amount in Counter(class_ids).items():
            self._tally.add(f"class/{side}/{class_id}", amount)
        if self.transforms is not None:
            item = self.transforms(*item) if isinstance(item, tuple) else self.transforms(item)
        is_generated = side == "generated"
        if self.mark is not None:
            item = self._add(item, "mark", self.mark, torch.tensor(is_generated))
        if self.weight is not None:
            item = self._add(item, "weight", "weight", torch.tensor(self.weight if is_generated else 1.0))
        return item

    def _add(self, item: Any, argument: str, name: str, value: torch.Tensor) -> Any:
        last = item[-1] if isinstance(item, tuple) and item else item
        if isinstance(last, Mapping):
            return add_field(item, argument, name, value)
        reject(
            argument,
            "be used with items that are a dict or end in one",
            name,
            f"Items are {describe_item(item)} here: make them dicts by transforms=.",
            error=TypeError,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Travel with the rank, which a spawned worker cannot ask torch for."""
        return {**self.__dict__, "_carried_ranks": find_ranks() or self._carried_ranks}
