"""How large a generator's pictures are, known from the size of the source alone."""

from __future__ import annotations

from collections.abc import Sequence

from synthloader.protocols import Generator, Resizing

__all__ = ["find_chained_size", "find_common_size", "find_output_size"]

SizeHW = tuple[int, int]


def find_output_size(generator: Generator, source_hw: SizeHW, /) -> SizeHW | None:
    """Height and width of what a generator makes from a source of this height and width.

    Most generators leave the size alone, and say nothing of it; those that do not have `find_size_hw` (see
    `synthloader.protocols.Resizing`).

    Args:
        generator: Any generator.
        source_hw: Height and width in pixels.

    Returns:
        Height and width; None where they depend on what is drawn.

    Example:
        >>> from synthloader.generators.tile import Tile
        >>> find_output_size(Tile(size_hw=(256, 320)), (480, 300))
        (256, 300)
    """
    return generator.find_size_hw(source_hw) if isinstance(generator, Resizing) else source_hw


def find_chained_size(generators: Sequence[Generator], source_hw: SizeHW, /) -> SizeHW | None:
    """The same for generators that work one after the other."""
    size: SizeHW | None = source_hw
    for part in generators:
        if size is None:
            return None
        size = find_output_size(part, size)
    return size


def find_common_size(generators: Sequence[Generator], source_hw: SizeHW, /) -> SizeHW | None:
    """The same for generators of which one is drawn: None unless all agree."""
    sizes = {find_output_size(part, source_hw) for part in generators}
    return sizes.pop() if len(sizes) == 1 else None
