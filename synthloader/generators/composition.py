"""What `Chain` and `OneOf` have in common: how the properties of a generator follow from those of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from synthloader.checks import reject
from synthloader.protocols import Bindable, Demanding, Generator, Pool
from synthloader.sample import Sample
from synthloader.targets import Target

__all__ = ["bind_part", "check_part_source", "check_parts", "draws_from_pool", "find_aim", "find_kept"]


def check_parts(parts: Sequence[object], /) -> tuple[Generator, ...]:
    """Refuse what is no generator.

    Raises:
        TypeError: A part lacks `generate`, `keeps` or `fingerprint`.
        ValueError: There are none.
    """
    if not parts:
        reject("generators", "hold at least one generator", parts)
    checked = []
    for at, part in enumerate(parts):
        # A class has all the attributes of its instances: CopyPaste where CopyPaste() was meant.
        if isinstance(part, type) or not isinstance(part, Generator):
            reject(f"generators[{at}]", "have generate, keeps and fingerprint", part, error=TypeError)
        checked.append(part)
    return tuple(checked)


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
