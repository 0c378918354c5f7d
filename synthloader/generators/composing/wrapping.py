"""`WrappingGenerator`: what `Sometimes` and `Cached` hand through to the one generator that they hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from synthloader.generators.composing.composition import (
    aims_within_source,
    bind_part,
    check_part,
    check_part_source,
    draws_from_pool,
    find_aim,
    find_budget,
    refuse_unchanged,
    with_single_polygons,
)
from synthloader.protocols import Generator, Pool
from synthloader.sample import Sample
from synthloader.targets import Target

__all__ = ["WrappingGenerator"]

Self = TypeVar("Self", bound="WrappingGenerator")


class WrappingGenerator:
    """A generator around another one, which can do what that one can."""

    def __init__(self, generator: Generator) -> None:
        self.generator = check_part("generator", generator)
        self.keeps: frozenset[type[Target]] = self.generator.keeps

    def _wrap(self: Self, generator: Generator) -> Self:
        """A copy around another version of the generator; it is not checked again."""
        wrapped = copy.copy(self)
        wrapped.generator, wrapped.keeps = generator, generator.keeps
        return wrapped

    @property
    def generators(self) -> tuple[Generator, ...]:
        """The one generator that it holds, as compositions show theirs."""
        return (self.generator,)

    @property
    def uses_pool(self) -> bool:
        """Whether it draws from the pool."""
        return draws_from_pool(self.generator)

    def bind(self: Self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> Self:
        """A copy that is bound."""
        return self._wrap(bind_part(self.generator, pool, classes))

    def check_source(self, source: Sample, /) -> None:
        """Let it refuse a source."""
        check_part_source(self.generator, source)

    def keep_single_polygons(self: Self) -> Self:
        """A copy that makes only masks that one polygon can say, as far as it can be told that."""
        return self._wrap(with_single_polygons(self.generator))

    @property
    def _can_be_told(self) -> bool:
        """Whether what its generator is told (the wanted class, the donors) holds for every sample that is made."""
        return True

    @property
    def aim(self: Self) -> Callable[[int], Self]:
        """A method: `aim(class_id)` gives a copy that is aimed at this class; missing where it cannot be."""
        aim = find_aim(self.generator) if self._can_be_told else None
        if aim is None:
            raise AttributeError(f"aim: the generator of this {type(self).__name__} cannot be told which is wanted.")
        return lambda class_id: self._wrap(aim(class_id))

    @property
    def aims_within_source(self) -> bool:
        """Whether it finds the class that it is aimed at in its source instead of adding it."""
        return aims_within_source(self.generator)

    @property
    def max_donors(self) -> int:
        """Most donors in one sample (see `Budgeted`); missing where there is no such bound."""
        return int(self._find_budgeted("max_donors").max_donors)

    @property
    def list_donors(self) -> Callable[[int], Sequence[str]]:
        """A method: the donors of a class (see `Budgeted`)."""
        listed: Callable[[int], Sequence[str]] = self._find_budgeted("list_donors").list_donors
        return listed

    @property
    def use_donors(self: Self) -> Callable[[Sequence[int]], Self]:
        """A method: a copy that uses these donors only (see `Budgeted`)."""
        part = self._find_budgeted("use_donors")
        return lambda donors: self._wrap(part.use_donors(donors))

    def _find_budgeted(self, name: str) -> Any:
        part = find_budget(self.generator) if self._can_be_told else None
        if part is None:
            raise AttributeError(f"{name}: the generator of this {type(self).__name__} cannot be told which to use.")
        return part

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Make one sample.

        Args:
            source: A sample whose kind of target is kept.
            rng: Every draw comes from here.

        Raises:
            LabelContractError: The kind of target is not kept.
            NothingToGenerate: Nothing can be made, or the source is left alone.
        """
        return refuse_unchanged(self.generate_or_pass(source, rng=rng), source)

    def generate_or_pass(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """The same, but gives the source back where it is left alone: for use within a chain."""
        raise NotImplementedError
