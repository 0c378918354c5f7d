"""What every generator checks of its source before it begins."""

from __future__ import annotations

from synthloader.errors import LabelContractError
from synthloader.sample import Sample
from synthloader.targets import Target

__all__ = ["check_kept"]


def check_kept(name: str, keeps: frozenset[type[Target]], source: Sample, /) -> None:
    """Refuse a source whose kind of target would not stay true; a source without a target has none to lose.

    Args:
        name: The generator, as the user knows it.
        keeps: The kinds that stay true.
        source: The sample.

    Raises:
        LabelContractError: The kind is not kept.
    """
    if source.target is None or type(source.target) in keeps:
        return
    kinds = ", ".join(sorted(kind.__name__ for kind in keeps))
    raise LabelContractError(
        f"{name} keeps {kinds} true, got a source with a {type(source.target).__name__}. "
        f"Use a generator that keeps this kind of target (see its `keeps`), such as ColorTransfer."
    )
