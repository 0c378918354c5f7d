"""What the compositions have in common: how the properties of a generator follow from those of its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from synthloader.checks import reject
from synthloader.errors import NothingToGenerate
from synthloader.protocols import Bindable, Demanding, Generator, Pool
from synthloader.sample import Sample
from synthloader.targets import Target

__all__ = [
    "aims_within_source",
    "bind_part",
    "check_part_source",
    "check_parts",
    "draws_from_pool",
    "find_aim",
    "find_budget",
    "find_kept",
    "pass_through",
    "pastes_donors",
    "refuse_unchanged",
    "walk_parts",
    "with_single_polygons",
]


def check_parts(parts: Sequence[object], /) -> tuple[Generator, ...]:
    """Refuse what is no generator.

    Raises:
        TypeError: A part lacks `generate`, `keeps` or `fingerprint`.
        ValueError: There are none.
    """
    if not parts:
        reject("generators", "hold at least one generator", parts)
    return tuple(check_part(f"generators[{at}]", part) for at, part in enumerate(parts))


def check_part(name: str, part: object, /) -> Generator:
    """Refuse what is no generator.

    Raises:
        TypeError: It lacks `generate`, `keeps` or `fingerprint`.
    """
    # A class has all the attributes of its instances: CopyPaste where CopyPaste() was meant.
    if isinstance(part, type) or not isinstance(part, Generator):
        reject(name, "have generate, keeps and fingerprint", part, error=TypeError)
    return part


def find_kept(parts: Sequence[Generator], /) -> frozenset[type[Target]]:
    """The target kinds that all parts keep.

    Raises:
        ValueError: They have none in common.
    """
    kept = frozenset.intersection(*(part.keeps for part in parts))
    if not kept:
        names = [f"{type(part).__name__} ({', '.join(sorted(kind.__name__ for kind in part.keeps))})" for part in parts]
        reject("generators", "keep a kind of target in common", names, error=ValueError)
    return kept


def draws_from_pool(part: Generator, /) -> bool:
    """Whether a generator's samples depend on the pool."""
    return isinstance(part, Bindable) and bool(getattr(part, "uses_pool", True))


def bind_part(part: Generator, pool: Pool, classes: Mapping[str, int] | None, /) -> Generator:
    """The part bound to the pool, if it wants one."""
    return part.bind(pool, classes=classes) if isinstance(part, Bindable) else part


def check_part_source(part: Generator, source: Sample, /) -> None:
    """Let a part refuse a source, if it is one that does."""
    if isinstance(part, Demanding):
        part.check_source(source)


def find_aim(part: Generator, /) -> Callable[[int], Generator] | None:
    """The part's `aim`, if it can be told which class is wanted."""
    aim: Callable[[int], Generator] | None = getattr(part, "aim", None)
    return aim if callable(aim) else None


def aims_within_source(part: Generator, /) -> bool:
    """Whether an aimed generator finds the class in its source instead of adding it: the source must hold it then."""
    return bool(getattr(part, "aims_within_source", False))


def find_budget(part: object, /) -> Any:
    """The part itself, if a plan can bound how often it uses each donor (`Budgeted`); None elsewhere.

    Asked of the attributes and not of the protocol: a composition has them by its parts.
    """
    return part if all(hasattr(part, name) for name in ("max_donors", "list_donors", "use_donors")) else None


def pastes_donors(part: Generator, /) -> bool:
    """Whether it, or anything that it is composed of, uses donors that a plan with a cap would have to count."""
    return any(find_budget(each) is not None for each in walk_parts(part))


def with_single_polygons(part: Generator, /) -> Generator:
    """The part as it makes only masks that one polygon can say, if it can be told that."""
    keep: Any = getattr(part, "keep_single_polygons", None)
    kept: Generator = part if keep is None else keep()
    return kept


def pass_through(part: Generator, source: Sample, rng: np.random.Generator, /) -> Sample:
    """What a part of a composition makes of a sample, or that sample itself where the part leaves it alone.

    A generator never hands its source back; inside a chain that is what `Sometimes` is for. Compositions have a method
    `generate_or_pass` for it.
    """
    generate: Callable[..., Sample] = getattr(part, "generate_or_pass", part.generate)
    return generate(source, rng=rng)


def refuse_unchanged(made: Sample, source: Sample, /) -> Sample:
    """What was made, unless nothing was.

    Raises:
        NothingToGenerate: It is the source itself.
    """
    if made is source:
        raise NothingToGenerate("unchanged")
    return made


def walk_parts(generator: object, /) -> Iterator[object]:
    """A generator and everything that it is composed of, wrappers included."""
    yield generator
    parts = getattr(generator, "generators", None)
    if not isinstance(parts, list | tuple):
        parts = [getattr(generator, "generator", None)]
    for part in parts:
        if hasattr(part, "generate"):
            yield from walk_parts(part)
