"""`Stages`: a generator in two, what a cache keeps of its work and what is drawn anew each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from synthloader.generators.cached import Cached, holds_mark, refuse_marks
from synthloader.generators.chain import Chain
from synthloader.generators.composing.composition import find_aim, walk_parts
from synthloader.protocols import Generator

__all__ = ["Stages", "check_reach", "split_stages"]


class Stages(NamedTuple):
    """A generator, divided where `Cached` marks it; without a mark, all of it is kept.

    Attributes:
        whole: The generator.
        kept: What is found by source, variant and attempt; without the mark.
        fresh: What follows; None where everything is kept.
    """

    whole: Generator
    kept: Generator
    fresh: Generator | None

    @property
    def is_aimed_later(self) -> bool:
        """Whether the part that is aimed follows what is kept, which is the same for all classes then."""
        return self.fresh is not None and find_aim(self.fresh) is not None

    def use_donors(self, donors: Sequence[int], /) -> Stages:
        """The same, with the aimed part told which donors to use (see `Budgeted`)."""
        if self.is_aimed_later:
            return self._replace(fresh=self.fresh.use_donors(donors))  # type: ignore[union-attr]
        return self._replace(kept=self.kept.use_donors(donors))  # type: ignore[attr-defined]


def split_stages(generator: Generator, /) -> Stages:
    """Divide a generator.

    Example:
        >>> from synthloader.generators.color_transfer import ColorTransfer
        >>> from synthloader.generators.copy_paste import CopyPaste
        >>> stages = split_stages(Chain([Cached(CopyPaste()), ColorTransfer()]))
        >>> type(stages.kept).__name__, type(stages.fresh).__name__
        ('CopyPaste', 'ColorTransfer')
    """
    kept, fresh = _split(generator)
    return Stages(generator, _join(kept), _join(fresh) if fresh else None)


def check_reach(generator: Generator, /) -> None:
    """Refuse a mark that no chain leads to: one inside of a generator that wraps another.

    Raises:
        ValueError: There is one.
    """
    kept, fresh = _split(generator)
    for part in [*kept, *fresh]:
        if holds_mark(part):
            owner = next(each for each in walk_parts(part) if not isinstance(each, Chain))
            refuse_marks(type(owner).__name__, [part])


def _split(generator: Generator) -> tuple[list[Generator], list[Generator]]:
    """The parts that are kept, and those that are not; chains within chains are opened as far as the mark lies."""
    if isinstance(generator, Cached):
        return [generator.generator], []
    if isinstance(generator, Chain) and holds_mark(generator):
        parts = list(generator.generators)
        at = next(at for at, part in enumerate(parts) if holds_mark(part))
        kept, fresh = _split(parts[at])
        return [*parts[:at], *kept], [*fresh, *parts[at + 1 :]]
    return [generator], []


def _join(parts: list[Generator]) -> Generator:
    return parts[0] if len(parts) == 1 else Chain(parts)
