"""`Sometimes`: a generator that leaves some samples alone, at random."""

from __future__ import annotations

import numpy as np

from synthloader.checks import check_fraction, reject
from synthloader.generators.cached import refuse_marks
from synthloader.generators.composing.composition import aims_within_source, pass_through
from synthloader.generators.composing.output_size import find_output_size
from synthloader.generators.composing.wrapping import WrappingGenerator
from synthloader.generators.labelling.contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.protocols import Generator
from synthloader.sample import Sample

__all__ = ["Sometimes"]


class Sometimes(WrappingGenerator):
    """Apply a generator with a probability, and hand the sample on unchanged otherwise.

    It is a part of a chain in which something else changes the sample. Where nothing does, by itself or because every
    part of a chain leaves the sample alone, there is nothing to generate: an unchanged source is never counted as
    generated, and the next attempt draws again. It keeps what its generator keeps.

    It cannot be aimed at a class where its generator would add one (`CopyPaste`): the sample that it leaves alone lacks
    it. Plans then take sources that hold the class, and a cap bounds these and not the donors.

    Args:
        generator: What is applied.
        probability: In (0, 1]; how often.

    Raises:
        ValueError: The probability is out of its bounds, or the generator is `Cached`.
        TypeError: It is no generator.

    Example:
        >>> from synthloader.generators.color_transfer import ColorTransfer
        >>> sometimes = Sometimes(ColorTransfer(), probability=0.3)
        >>> sometimes.keeps == ColorTransfer().keeps
        True
    """

    def __init__(self, generator: Generator, *, probability: float = 0.5) -> None:
        super().__init__(generator)
        refuse_marks("Sometimes", self.generators)
        self.probability = check_fraction("probability", probability)
        if self.probability == 0:
            reject("probability", "be above 0", probability, "Leave out what is never to be applied.")

    @property
    def fingerprint(self) -> str:
        """The probability and the fingerprint of the generator."""
        return make_fingerprint("Sometimes", 1, generator=self.generator.fingerprint, probability=self.probability)

    @property
    def _can_be_told(self) -> bool:
        """Whether each sample has the class that is wanted: it is always applied, or finds the class in the source."""
        return self.probability == 1 or aims_within_source(self.generator)

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int] | None:
        """Height and width of what is made, where the generator leaves the size alone or is always applied."""
        size = find_output_size(self.generator, source_hw)
        return size if size == source_hw or self.probability == 1 else None

    def generate_or_pass(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Draw whether the generator is applied; where it is not, the source comes back: for use within a chain."""
        check_kept("Sometimes", self.keeps, source)
        return pass_through(self.generator, source, rng) if rng.random() < self.probability else source

    def __repr__(self) -> str:
        """The generator and the probability."""
        return f"Sometimes({self.generator!r}, probability={self.probability})"
