"""`OneOf`: one of several generators, chosen by weight."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from functools import reduce

import numpy as np

from synthloader.checks import check_number, reject
from synthloader.protocols import Bindable, Generator, Pool
from synthloader.sample import Sample
from synthloader.targets import Target

__all__ = ["OneOf"]


class OneOf:
    """Chooses a generator for every sample, with a probability in proportion to its weight.

    It keeps what all of them keep.

    Args:
        choices: Pairs of weight and generator, or a mapping of these; weights are above 0 and need not add up to 1.

    Example:
        >>> from synthloader.generators import ColorTransfer, CopyPaste
        >>> OneOf([(3, CopyPaste()), (1, ColorTransfer())]).weights
        (0.75, 0.25)
    """

    def __init__(self, choices: Mapping[float, Generator] | Iterable[tuple[float, Generator]], /) -> None:
        pairs = list(choices.items() if isinstance(choices, Mapping) else choices)
        if not pairs:
            reject("choices", "hold at least one pair of weight and generator", choices)
        for at, (weight, generator) in enumerate(pairs):
            if check_number(f"weight {at} of choices", weight, minimum=0.0) == 0.0:
                reject(f"weight {at} of choices", "be above 0", weight, "Leave the generator out.")
            if isinstance(generator, type) or not isinstance(generator, Generator):
                reject(f"generator {at} of choices", "have generate, keeps and fingerprint", generator, error=TypeError)
        total = sum(float(weight) for weight, _ in pairs)
        self.weights = tuple(float(weight) / total for weight, _ in pairs)
        self.generators = tuple(generator for _, generator in pairs)

    @property
    def keeps(self) -> frozenset[type[Target]]:
        """What all of them keep true."""
        return reduce(frozenset.intersection, (generator.keeps for generator in self.generators))

    @property
    def fingerprint(self) -> str:
        """Weights and fingerprints."""
        parts = zip(self.weights, self.generators, strict=True)
        return f"OneOf({' | '.join(f'{weight:.6g}: {part.fingerprint}' for weight, part in parts)})"

    @property
    def uses_pool(self) -> bool:
        """Whether any of them draws from the pool."""
        return any(isinstance(part, Bindable) and getattr(part, "uses_pool", True) for part in self.generators)

    def __getattr__(self, name: str) -> object:
        """`aim` is there only when all of the generators have it."""
        parts = self.__dict__.get("generators", ())
        if name == "aim" and parts and all(hasattr(part, "aim") for part in parts):
            return self._aim
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> OneOf:
        """A copy whose generators are bound."""
        return self._with(
            [part.bind(pool, classes=classes) if isinstance(part, Bindable) else part for part in self.generators]
        )

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Choose one and apply it."""
        place = int(np.searchsorted(np.cumsum(self.weights), rng.random(), side="right"))
        return self.generators[min(place, len(self.generators) - 1)].generate(source, rng=rng)

    def __repr__(self) -> str:
        """Weights and generators."""
        parts = zip(self.weights, self.generators, strict=True)
        return f"OneOf([{', '.join(f'({weight:.6g}, {part!r})' for weight, part in parts)}])"

    def _aim(self, class_id: int, /) -> OneOf:
        return self._with([part.aim(class_id) for part in self.generators])  # type: ignore[attr-defined]

    def _with(self, parts: list[Generator]) -> OneOf:
        made = copy.copy(self)
        made.generators = tuple(parts)
        return made
