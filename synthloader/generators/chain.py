"""`Chain`: several generators, applied in order."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from synthloader.checks import check_type, reject
from synthloader.protocols import Bindable, Generator, Pool
from synthloader.sample import Sample
from synthloader.targets import Target

__all__ = ["Chain"]


class Chain:
    """Each generator works on what the one before made; recipes write a list.

    It keeps what all of them keep. All draw from one `rng`, in order.

    Args:
        generators: At least one.

    Example:
        >>> from synthloader.generators import ColorTransfer, CopyPaste
        >>> sorted(kind.__name__ for kind in Chain([CopyPaste(), ColorTransfer()]).keeps)
        ['Instances']
    """

    def __init__(self, generators: Sequence[Generator], /) -> None:
        check_type("generators", generators, (list, tuple))
        if not generators:
            reject("generators", "hold at least one generator", generators)
        for at, generator in enumerate(generators):
            if isinstance(generator, type) or not isinstance(generator, Generator):
                reject(f"generators[{at}]", "have generate, keeps and fingerprint", generator, error=TypeError)
        self.generators = tuple(generators)

    @property
    def keeps(self) -> frozenset[type[Target]]:
        """What all of them keep true."""
        return reduce(frozenset.intersection, (generator.keeps for generator in self.generators))

    @property
    def fingerprint(self) -> str:
        """The fingerprints in order."""
        return " > ".join(generator.fingerprint for generator in self.generators)

    @property
    def uses_pool(self) -> bool:
        """Whether any of them draws from the pool."""
        return any(isinstance(part, Bindable) and getattr(part, "uses_pool", True) for part in self.generators)

    def __getattr__(self, name: str) -> object:
        """`aim` is there only when one of the generators has it."""
        if name == "aim" and any(hasattr(part, "aim") for part in self.__dict__.get("generators", ())):
            return self._aim
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> Chain:
        """A copy whose generators are bound."""
        return self._with(
            [part.bind(pool, classes=classes) if isinstance(part, Bindable) else part for part in self.generators]
        )

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Apply all of them.

        Raises:
            NothingToGenerate: One of them can make nothing.
        """
        for generator in self.generators:
            source = generator.generate(source, rng=rng)
        return source

    def __repr__(self) -> str:
        """The generators in order."""
        return f"Chain([{', '.join(map(repr, self.generators))}])"

    def _aim(self, class_id: int, /) -> Chain:
        last = max(at for at, part in enumerate(self.generators) if hasattr(part, "aim"))
        parts = [part.aim(class_id) if at == last else part for at, part in enumerate(self.generators)]  # type: ignore[attr-defined]
        return self._with(parts)

    def _with(self, parts: list[Generator]) -> Chain:
        made = copy.copy(self)
        made.generators = tuple(parts)
        return made
