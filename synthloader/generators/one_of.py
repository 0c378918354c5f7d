"""`OneOf`: one of several generators, drawn by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import numpy as np

from synthloader.checks import check_number, reject
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

__all__ = ["OneOf"]


class OneOf:
    """Draw one generator for each sample, by weight; `one_of` in a recipe.

    It keeps what all of them keep. Aimed at a class, all parts are; it can be aimed only if all can.

    Args:
        choices: Weight to generator, or pairs (weight, generator) where weights are equal. Weights are positive; only
            their ratios count.

    Raises:
        ValueError: There is none, a weight is not positive, or they keep no kind of target in common.
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

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Draw one part and let it generate.

        Args:
            source: A sample whose kind of target all parts keep.
            rng: Draws the part, then serves it.

        Raises:
            LabelContractError: Not all parts keep the source's kind of target.
            NothingToGenerate: The drawn part can make nothing.
        """
        check_kept("OneOf", self.keeps, source)
        drawn = int(np.searchsorted(np.cumsum(self.weights)[:-1], rng.random(), side="right"))
        return self.generators[drawn].generate(source, rng=rng)

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
