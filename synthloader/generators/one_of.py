"""`OneOf`: one of several generators, drawn by weight."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from synthloader.checks import check_number, reject
from synthloader.generators.cached import refuse_marks
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
    refuse_unchanged,
    with_single_polygons,
)
from synthloader.generators.composing.output_size import find_common_size
from synthloader.generators.labelling.contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.protocols import Generator, Pool
from synthloader.sample import Sample
from synthloader.targets import Target

__all__ = ["OneOf"]


class OneOf:
    """Draw one generator for each sample, by weight; `one_of` in a recipe.

    It keeps what all of them keep. Aimed at a class, all parts are; it can be aimed only if all can.

    Args:
        choices: Weight to generator, or pairs (weight, generator) where weights are equal. Weights are positive; only
            their ratios count.

    Raises:
        ValueError: There is none, a weight is not positive, they keep no kind of target in common, or one is `Cached`.
        TypeError: One is no generator.

    Example:
        >>> from synthloader.generators.color_transfer import ColorTransfer
        >>> from synthloader.generators.copy_paste import CopyPaste
        >>> OneOf({3: CopyPaste(), 1: ColorTransfer()}).weights
        (0.75, 0.25)
    """

    @overload
    def __init__(self, choices: Mapping[Any, Generator], /) -> None: ...

    @overload
    def __init__(self, choices: Iterable[tuple[float, Generator]], /) -> None: ...

    def __init__(self, choices: Mapping[Any, Generator] | Iterable[tuple[float, Generator]], /) -> None:
        pairs = _read_pairs(choices)
        self.generators = check_parts([part for _, part in pairs])
        refuse_marks("OneOf", self.generators)
        weights = [check_number(f"weights[{at}]", weight, minimum=0) for at, (weight, _) in enumerate(pairs)]
        for at, weight in enumerate(weights):
            if weight == 0:
                reject(f"weights[{at}]", "be above 0", weight, "Leave out what is never to be drawn.")
        self.weights = tuple(weight / sum(weights) for weight in weights)
        self.keeps: frozenset[type[Target]] = find_kept(self.generators)

    @property
    def fingerprint(self) -> str:
        """The weights and the fingerprints of the parts, in order."""
        choices = [[weight, part.fingerprint] for weight, part in zip(self.weights, self.generators, strict=True)]
        return make_fingerprint("OneOf", 1, choices=choices)

    @property
    def uses_pool(self) -> bool:
        """Whether any part draws from the pool."""
        return any(draws_from_pool(part) for part in self.generators)

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> OneOf:
        """A copy whose parts are bound."""
        return self._replace([bind_part(part, pool, classes) for part in self.generators])

    def check_source(self, source: Sample, /) -> None:
        """Let every part refuse a source."""
        for part in self.generators:
            check_part_source(part, source)

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int] | None:
        """Height and width of what is made, where all parts agree; None elsewhere."""
        return find_common_size(self.generators, source_hw)

    def keep_single_polygons(self) -> OneOf:
        """A copy that makes only masks that one polygon can say, as far as its parts can be told that."""
        return self._replace(with_single_polygons(part) for part in self.generators)

    @property
    def aim(self) -> Callable[[int], OneOf]:
        """A method: `aim(class_id)` gives a copy whose parts are all aimed at this class.

        Raises:
            AttributeError: A part cannot be aimed.
        """
        if any(find_aim(part) is None for part in self.generators):
            raise AttributeError("aim: not every generator of this OneOf can be told which class is wanted.")
        return self._aim

    def _aim(self, class_id: int, /) -> OneOf:
        aims = [find_aim(part) for part in self.generators]
        return self._replace([aim(class_id) for aim in aims if aim is not None])

    @property
    def aims_within_source(self) -> bool:
        """Whether any part finds the class that it is aimed at in its source instead of adding it."""
        return any(aims_within_source(part) for part in self.generators)

    @property
    def max_donors(self) -> int:
        """Most donors of any part in one sample (see `Budgeted`); missing where a part has no such bound."""
        return max(int(part.max_donors) for part in self._find_budgeted("max_donors"))

    @property
    def list_donors(self) -> Callable[[int], Sequence[str]]:
        """A method: the donors of a class, which must be the same for all parts (see `Budgeted`)."""
        self._find_budgeted("list_donors")
        return self._list_donors

    @property
    def use_donors(self) -> Callable[[Sequence[int]], OneOf]:
        """A method: a copy whose parts all use these donors only (see `Budgeted`)."""
        self._find_budgeted("use_donors")
        return self._use_donors

    def _list_donors(self, class_id: int, /) -> Sequence[str]:
        first, *others = (part.list_donors(class_id) for part in self._find_budgeted("list_donors"))
        if any(donors != first and list(donors) != list(first) for donors in others):
            reject(
                "generators",
                f"draw from the same donors of class {class_id} where a plan has a cap",
                [type(part).__name__ for part in self.generators],
                "Make a set of each, MixedDataset(real, {'one': ..., 'other': ...}), or leave the cap out.",
            )
        donors: Sequence[str] = first
        return donors

    def _use_donors(self, donors: Sequence[int], /) -> OneOf:
        changed = copy.copy(self)  # not checked again: this is done for every sample of a plan with a cap
        changed.generators = tuple(part.use_donors(donors) for part in self._find_budgeted("use_donors"))
        return changed

    def _find_budgeted(self, name: str) -> list[Any]:
        parts = [find_budget(part) for part in self.generators]
        if any(part is None for part in parts):
            raise AttributeError(f"{name}: not every generator of this OneOf can be told which donors to use.")
        return parts

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Draw one part and let it generate.

        Args:
            source: A sample whose kind of target all parts keep.
            rng: Draws the part, then serves it.

        Raises:
            LabelContractError: Not all parts keep the source's kind of target.
            NothingToGenerate: The drawn part can make nothing.
        """
        return refuse_unchanged(self.generate_or_pass(source, rng=rng), source)

    def generate_or_pass(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """The same, but gives the source back where the drawn part leaves it alone: for use within a chain."""
        check_kept("OneOf", self.keeps, source)
        drawn = int(np.searchsorted(np.cumsum(self.weights)[:-1], rng.random(), side="right"))
        return pass_through(self.generators[drawn], source, rng)

    def _replace(self, parts: Iterable[Generator]) -> OneOf:
        return OneOf(list(zip(self.weights, parts, strict=True)))

    def __repr__(self) -> str:
        """The parts with their shares."""
        return f"OneOf({list(zip(self.weights, self.generators, strict=True))!r})"


def _read_pairs(choices: object) -> list[tuple[object, object]]:
    if isinstance(choices, Mapping):
        return list(choices.items())
    if not isinstance(choices, Iterable) or isinstance(choices, str):
        reject("choices", "be a dict of weight to generator, or pairs", choices, error=TypeError)
    pairs = []
    for at, pair in enumerate(choices):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            reject(f"choices[{at}]", "be a pair (weight, generator)", pair, error=TypeError)
        pairs.append((pair[0], pair[1]))
    return pairs
