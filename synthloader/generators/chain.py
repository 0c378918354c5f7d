"""`Chain`: several generators, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from synthloader.checks import check_type
from synthloader.generators.composition import (
    bind_part,
    check_part_source,
    check_parts,
    draws_from_pool,
    find_aim,
    find_kept,
)
from synthloader.generators.label_contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.protocols import Generator, Pool
from synthloader.sample import Sample
from synthloader.targets import Target

__all__ = ["Chain"]


class Chain:
    """Apply generators in order, each to what the one before made; a list in a recipe.

    It keeps what all of them keep. All draw from one rng, in turn. Where one of them has nothing to generate, the chain
    has nothing either. Aimed at a class, the last of its parts that can be aimed is.

    Args:
        generators: At least one.

    Raises:
        ValueError: There is none, or they keep no kind of target in common.
        TypeError: One is no generator.

    Example:
        >>> from synthloader.generators.color_transfer import ColorTransfer
        >>> from synthloader.generators.copy_paste import CopyPaste
        >>> [kind.__name__ for kind in Chain([CopyPaste(), ColorTransfer()]).keeps]
        ['Instances']
    """

    def __init__(self, generators: Sequence[Generator], /) -> None:
        check_type("generators", generators, (list, tuple))
        self.generators = check_parts(generators)
        self.keeps: frozenset[type[Target]] = find_kept(self.generators)

    @property
    def fingerprint(self) -> str:
        """The fingerprints of the parts, in order."""
        return make_fingerprint("Chain", 1, generators=[part.fingerprint for part in self.generators])

    @property
    def uses_pool(self) -> bool:
        """Whether any part draws from the pool."""
        return any(draws_from_pool(part) for part in self.generators)

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> Chain:
        """A copy whose parts are bound."""
        return Chain([bind_part(part, pool, classes) for part in self.generators])

    def check_source(self, source: Sample, /) -> None:
        """Let the first part refuse a source; the others get what it made."""
        check_part_source(self.generators[0], source)

    @property
    def aim(self) -> Callable[[int], Chain]:
        """A method: `aim(class_id)` gives a copy whose last part that can be aimed is aimed at this class.

        Raises:
            AttributeError: No part can be aimed.
        """
        if all(find_aim(part) is None for part in self.generators):
            raise AttributeError("aim: no generator of this Chain can be told which class is wanted.")
        return self._aim

    def _aim(self, class_id: int, /) -> Chain:
        parts = list(self.generators)
        for at in reversed(range(len(parts))):
            aim = find_aim(parts[at])
            if aim is not None:
                parts[at] = aim(class_id)
                break
        return Chain(parts)

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Apply all parts.

        Args:
            source: A sample whose kind of target all parts keep.
            rng: Handed to every part in turn.

        Raises:
            LabelContractError: A part does not keep the source's kind of target.
            NothingToGenerate: A part can make nothing.
        """
        check_kept("Chain", self.keeps, source)
        made = source
        for part in self.generators:
            made = part.generate(made, rng=rng)
        return made

    def __repr__(self) -> str:
        """The parts, in order."""
        return f"Chain({list(self.generators)!r})"
