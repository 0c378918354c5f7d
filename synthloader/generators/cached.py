"""`Cached`: how far a cache reaches into a chain; what follows is drawn anew each time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthloader.checks import reject
from synthloader.generators.composing.composition import pass_through, walk_parts
from synthloader.generators.composing.output_size import find_output_size
from synthloader.generators.composing.wrapping import WrappingGenerator
from synthloader.generators.labelling.contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.protocols import Generator
from synthloader.sample import Sample

__all__ = ["Cached", "check_marks", "holds_mark", "refuse_marks"]


class Cached(WrappingGenerator):
    """Mark how far a cache reaches: what stands before this in a `Chain`, and the generator in it, is kept.

    What is dear is cached, what is cheap stays fresh: in `Chain([Cached(CopyPaste()), Fog()])` a cache keeps the pasted
    sample of each (source, variant), and the fog is drawn anew for every epoch and index of a mix, whatever the cache
    holds. (Fog frozen into a set is memorised; the same fog drawn anew helps.) Entries are found by what is kept alone,
    so that another fog finds the same ones.

    Filters judge the finished sample, each time anew. Without a mark, a cache keeps the finished sample; without a
    cache, the mark changes nothing but the random stream of what follows it.

    Args:
        generator: The last one of those that are kept.

    Raises:
        ValueError: There is a `Cached` in it already.
        TypeError: It is no generator.

    Example:
        >>> from synthloader.generators.chain import Chain
        >>> from synthloader.generators.color_transfer import ColorTransfer
        >>> from synthloader.generators.copy_paste import CopyPaste
        >>> [type(part).__name__ for part in Chain([Cached(CopyPaste()), ColorTransfer()]).generators]
        ['Cached', 'ColorTransfer']
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__(generator)
        refuse_marks("Cached", self.generators)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the generator, marked: what follows draws from another stream than without the mark."""
        return make_fingerprint("Cached", 1, generator=self.generator.fingerprint)

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int] | None:
        """Height and width of what is made; None where they depend on what is drawn."""
        return find_output_size(self.generator, source_hw)

    def generate_or_pass(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Let the generator generate; the mark speaks to `GeneratedDataset`."""
        check_kept("Cached", self.keeps, source)
        return pass_through(self.generator, source, rng)

    def __repr__(self) -> str:
        """The generator."""
        return f"Cached({self.generator!r})"


def check_marks(parts: Sequence[Generator], /) -> None:
    """Refuse a chain with two marks.

    Raises:
        ValueError: There are two.
    """
    marked = [part for part in parts if holds_mark(part)]
    if len(marked) > 1:
        reject(
            "generators",
            "hold at most one Cached",
            marked,
            "The cache reaches as far as the last one: leave the others out.",
        )


def refuse_marks(owner: str, parts: Sequence[Generator], /) -> None:
    """Refuse a mark where it means nothing: only chains are kept up to a point.

    Raises:
        ValueError: There is one.
    """
    for part in parts:
        if holds_mark(part):
            reject(
                "Cached",
                f"be a part of a chain, and not lie inside of {owner}",
                part,
                f"Write Chain([Cached({owner}(...)), ...]) to keep what {owner} makes.",
            )


def holds_mark(generator: Generator, /) -> bool:
    """Whether there is a `Cached` in it."""
    return any(isinstance(part, Cached) for part in walk_parts(generator))
