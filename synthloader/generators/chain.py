"""`Chain`: several generators, one after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from synthloader.checks import check_type, reject
from synthloader.generators.cached import check_marks
from synthloader.generators.composing.composition import (
    aims_within_source,
    bind_part,
    check_part_source,
    check_parts,
    draws_from_pool,
    find_aim,
    find_budget,
    find_kept,
    pass_through,
    pastes_donors,
    refuse_unchanged,
    with_single_polygons,
)
from synthloader.generators.composing.output_size import find_chained_size
from synthloader.generators.labelling.contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.protocols import Generator, Pool
from synthloader.sample import Sample
from synthloader.targets import Target

__all__ = ["Chain"]


class Chain:
    """Apply generators in order, each to what the one before made; a list in a recipe.

    It keeps what all of them keep. All draw from one rng, in turn. Where one of them has nothing to generate, the chain
    has nothing either; nor has it where every part is a `Sometimes` that left the sample alone. Aimed at a class, the
    last of its parts that can be aimed is. `Cached` around a part marks how far a cache reaches.

    Args:
        generators: At least one.

    Raises:
        ValueError: There is none, they keep no kind of target in common, or two are `Cached`.
        TypeError: One is no generator.

    Example:
        >>> from synthloader.generators.color_transfer import ColorTransfer
        >>> from synthloader.generators.copy_paste import CopyPaste
        >>> Chain([CopyPaste(), ColorTransfer()]).keeps == CopyPaste().keeps & ColorTransfer().keeps
        True
    """

    def __init__(self, generators: Sequence[Generator], /) -> None:
        check_type("generators", generators, (list, tuple))
        self.generators = check_parts(generators)
        check_marks(self.generators)
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

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int] | None:
        """Height and width of what is made, part after part; None where they depend on what is drawn."""
        return find_chained_size(self.generators, source_hw)

    def keep_single_polygons(self) -> Chain:
        """A copy that makes only masks that one polygon can say, as far as its parts can be told that."""
        return Chain([with_single_polygons(part) for part in self.generators])

    @property
    def aim(self) -> Callable[[int], Chain]:
        """A method: `aim(class_id)` gives a copy whose last part that can be aimed is aimed at this class.

        Raises:
            AttributeError: No part can be aimed.
        """
        if self._aimable is None:
            raise AttributeError("aim: no generator of this Chain can be told which class is wanted.")
        return self._aim

    @property
    def aims_within_source(self) -> bool:
        """Whether the part that is aimed finds the class in its source instead of adding it."""
        return self._aimable is not None and aims_within_source(self.generators[self._aimable])

    @property
    def max_donors(self) -> int:
        """Most donors of the part that is aimed, in one sample (see `Budgeted`); missing where it has no such bound."""
        return int(self._find_budgeted("max_donors").max_donors)

    @property
    def list_donors(self) -> Callable[[int], Sequence[str]]:
        """A method: the donors of a class that the part that is aimed has (see `Budgeted`)."""
        self._find_budgeted("list_donors")
        return self._list_donors

    @property
    def use_donors(self) -> Callable[[Sequence[int]], Chain]:
        """A method: a copy whose aimed part uses these donors only (see `Budgeted`)."""
        self._find_budgeted("use_donors")
        return self._use_donors

    def _aim(self, class_id: int, /) -> Chain:
        return self._replace_aimable(lambda part: part.aim(class_id))

    def _list_donors(self, class_id: int, /) -> Sequence[str]:
        if sum(pastes_donors(part) for part in self.generators) > 1:
            reject(
                "generators",
                "hold one generator that pastes where a plan has a cap",
                [type(part).__name__ for part in self.generators],
                "Only the last one is aimed, and what the others paste of the same donors would not be counted: leave "
                "the cap out, or one of them.",
            )
        donors: Sequence[str] = self._find_budgeted("list_donors").list_donors(class_id)
        return donors

    def _use_donors(self, donors: Sequence[int], /) -> Chain:
        return self._replace_aimable(lambda part: part.use_donors(donors))

    @property
    def _aimable(self) -> int | None:
        """The place of the last part that can be aimed."""
        places = [at for at, part in enumerate(self.generators) if find_aim(part) is not None]
        return places[-1] if places else None

    def _find_budgeted(self, name: str) -> Any:
        part = None if self._aimable is None else find_budget(self.generators[self._aimable])
        if part is None:
            raise AttributeError(f"{name}: no generator of this Chain can be told which donors to use.")
        return part

    def _replace_aimable(self, change: Callable[[Any], Generator]) -> Chain:
        at = self._aimable
        changed = copy.copy(self)  # not checked again: this is done for every sample of a plan with a cap
        changed.generators = tuple(change(part) if place == at else part for place, part in enumerate(self.generators))
        return changed

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Apply all parts.

        Args:
            source: A sample whose kind of target all parts keep.
            rng: Handed to every part in turn.

        Raises:
            LabelContractError: A part does not keep the source's kind of target.
            NothingToGenerate: A part can make nothing, or all leave the source alone.
        """
        return refuse_unchanged(self.generate_or_pass(source, rng=rng), source)

    def generate_or_pass(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """The same, but gives the source back where every part leaves it alone: for a chain within a chain."""
        check_kept("Chain", self.keeps, source)
        made = source
        for part in self.generators:
            made = pass_through(part, made, rng)
        return made

    def __repr__(self) -> str:
        """The parts, in order."""
        return f"Chain({list(self.generators)!r})"
