"""`FourierDomainAdaptation`: the low-frequency amplitudes of a reference picture under the source's own phase."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from synthloader.checks import check_range
from synthloader.errors import NothingToGenerate
from synthloader.generators.appearance.grey import is_grey
from synthloader.generators.composing.replacing import replace_options
from synthloader.generators.composing.same_pixels import are_same_pixels
from synthloader.generators.labelling.contract import check_kept
from synthloader.generators.referring.low_frequencies import add_low_frequencies, read_low_frequencies
from synthloader.generators.referring.pool import ReferencePool
from synthloader.generators.referring.references import ReferencesLike
from synthloader.keys import make_fingerprint
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["FourierDomainAdaptation"]

MIN_AMPLITUDE = 1e-4
"""Levels. What is weaker has no phase but that of rounding (single precision leaves 1e-5), and stays as it is."""

SAME_AMPLITUDE = 1e-2
"""Levels. Amplitudes that differ by less everywhere change no pixel that could be seen."""


class FourierDomainAdaptation:
    """Give the source the low-frequency amplitudes of a reference picture; nothing moves, so every label stays true.

    Phase says where things are, the amplitudes of low frequencies say what the light, the colours and the sensor are
    like: those inside a centred square of the spectrum, of half-width `floor(beta * min(H, W))`, are swapped, and all
    phases kept. A square of half-width 0 holds the mean of each channel alone. A one-channel picture (three equal
    channels) stays one.

    A reference of another size counts as stretched to the source's: frequencies are in cycles per image. Where it is so
    small that it does not reach the edge of the square, the square ends where its own frequencies do. Frequencies that
    the source does not hold (a flat picture has none) have no phase to keep and stay as they are.

    Args:
        references: What to draw references from: a folder, a list of image files, or samples. They are read when first
            drawn. None: the bound pool, the dataset itself.
        beta_range: Half-width of the square as a share of the source's shorter side, 0..0.5; drawn anew for each
            sample. Source and reference of one kind (streets and streets) bear the 0.01 to 0.09 of the paper. Others
            show coloured clouds as soon as the square holds more than the mean, from a half-width of 1 on: at 0.002
            that is with shorter sides from 500 pixels on.

    Raises:
        FileNotFoundError: A file or the folder does not exist.
        ValueError: There are no images, or the range is not within 0..0.5.

    Source:
        Yang and Soatto 2020, "FDA: Fourier domain adaptation for semantic segmentation". Theirs resizes the reference
        in pixels and transforms the whole picture back; ours reads the reference's square at its own size, once, and
        transforms back only what changes in the square: the same picture in a fraction of the time.

    Example:
        >>> dark, light = Sample(np.full((2, 2, 3), 40, np.uint8)), Sample(np.full((2, 2, 3), 200, np.uint8))
        >>> from synthloader.seeds import make_rng
        >>> adapt = FourierDomainAdaptation(references=[light])
        >>> adapt.generate(dark, rng=make_rng(0, "dark.png", 0, 0)).image[0, 0].tolist()
        [200, 200, 200]
    """

    keeps: frozenset[type[Target]] = frozenset({ClassLabel, Instances, SemanticMask})

    def __init__(
        self, *, references: ReferencesLike | None = None, beta_range: tuple[float, float] = (0.0, 0.002)
    ) -> None:
        self.beta_range = check_range("beta_range", beta_range, minimum=0, maximum=0.5)
        self.references = references
        self._references = ReferencePool("FourierDomainAdaptation", references, _measure_amplitudes)

    @property
    def uses_pool(self) -> bool:
        """Whether references are drawn from the bound pool."""
        return self._references.uses_pool

    @property
    def fingerprint(self) -> str:
        """Name, version, and a hash of the references' names and contents; the pool's identity is not in it."""
        return make_fingerprint(
            "FourierDomainAdaptation", 1, references=self._references.stamp, beta_range=self.beta_range
        )

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> FourierDomainAdaptation:
        """A copy that draws its references from this pool, unless references were given."""
        bound = copy.copy(self)
        bound._references = self._references.bind(pool)
        return bound

    def replace(self, **options: Any) -> FourierDomainAdaptation:
        """A copy with other options, bound to the same pool where this one is.

        Args:
            **options: Options of the constructor.
        """
        keeps_references = options.get("references", self.references) is self.references
        made = replace_options(self, {**options, "references": None} if keeps_references else options)
        if keeps_references:  # They are not opened again, and a pool stays bound.
            made.references = self.references
            made._references = self._references.measure_by(_measure_amplitudes)
        return made

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Swap the low-frequency amplitudes for those of one reference.

        Args:
            source: Any sample.
            rng: Draws beta, then the reference, whose name the origin records.

        Returns:
            The sample with another image; target, maps and metadata are the source's own objects.

        Raises:
            NothingToGenerate: There is no reference other than the source itself, or nothing would change.
        """
        check_kept("FourierDomainAdaptation", self.keeps, source)
        half_width = int(rng.uniform(*self.beta_range) * min(source.size_hw))
        grey = is_grey(source.image)
        image = source.image[..., :1] if grey else source.image
        square = read_low_frequencies(image, half_width)
        amplitudes = np.abs(square)

        def read(index: int) -> np.ndarray:
            # Powers of two, so that a reference is measured a few times at most, whatever the sources' sizes.
            return _cut(self._references.read(index, 1 << half_width.bit_length(), grey), half_width)

        drawn = self._references.draw(rng, lambda index: _are_same(amplitudes, read(index)))
        made = add_low_frequencies(image, _change_amplitudes(square, amplitudes, read(drawn)))
        if are_same_pixels(made, image):
            raise NothingToGenerate("unchanged")
        if grey:
            made = cv2.cvtColor(made, cv2.COLOR_GRAY2RGB)
        return source.edit(image=made, target=source.target, drawn=(self._references.name(drawn),))

    def __repr__(self) -> str:
        """What it draws from, and how far it goes."""
        arguments = filter(None, [repr(self._references), f"beta_range={self.beta_range}"])
        return f"FourierDomainAdaptation({', '.join(arguments)})"


def _measure_amplitudes(image: np.ndarray, half_width: int, grey: bool) -> np.ndarray:
    """(2 k + 1, k + 1, C) float32 amplitudes in levels, of the image or of its luma; k as far as the image goes."""
    if grey:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    amplitudes: np.ndarray = np.abs(read_low_frequencies(image, min(half_width, min(image.shape[:2]) // 2)))
    return amplitudes


def _cut(square: np.ndarray, half_width: int) -> np.ndarray:
    """The inner part of a square, of this half-width or of its own where that is smaller."""
    margin = max(0, square.shape[1] - 1 - half_width)
    return square[margin : len(square) - margin, : square.shape[1] - margin]


def _are_same(amplitudes: np.ndarray, reference: np.ndarray) -> bool:
    return float(np.abs(_cut(amplitudes, reference.shape[1] - 1) - reference).max()) < SAME_AMPLITUDE


def _change_amplitudes(square: np.ndarray, amplitudes: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """What must be added to a square for it to have the reference's amplitudes and its own phases."""
    half_width = reference.shape[1] - 1
    square, amplitudes = _cut(square, half_width), _cut(amplitudes, half_width)
    changes: np.ndarray = square * (reference / np.maximum(amplitudes, MIN_AMPLITUDE) - 1)
    changes[amplitudes < MIN_AMPLITUDE] = 0
    # The mean of a picture is never negative, so that its phase is known even where it is 0.
    changes[half_width, 0] = reference[half_width, 0] - amplitudes[half_width, 0]
    return changes
