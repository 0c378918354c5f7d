"""`ColorTransfer`: the colours of a reference picture, by mean and standard deviation in Lab."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from synthloader.errors import NothingToGenerate
from synthloader.generators.label_contract import check_kept
from synthloader.generators.references import References, ReferencesLike, open_references
from synthloader.keys import make_fingerprint
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["ColorTransfer"]

MAX_DRAWS = 8
"""References drawn in search of one that is not the source itself."""


class ColorTransfer:
    """Give the source the colours of a reference picture; nothing moves, so every label stays true.

    In Lab, each channel is shifted and stretched to the reference's mean and standard deviation. A channel of the
    source that varies by less than one 8-bit level is only shifted: there is nothing to stretch but rounding. A
    one-channel picture (three equal channels) stays one: only its lightness is changed.

    A reference with the source's own statistics (the source itself, in most cases) is passed over for another one.

    Args:
        references: What to draw references from: a folder, a list of image files, or samples. They are read when first
            drawn. None: the bound pool, the dataset itself.

    Raises:
        FileNotFoundError: A file or the folder does not exist.
        ValueError: There are no images.

    Source:
        Reinhard, Ashikhmin, Gooch, Shirley 2001, "Color transfer between images". Theirs works in the l-alpha-beta
        space of Ruderman, ours in CIE Lab (D65) as OpenCV has it, in 8 bits, which is several times faster.

    Example:
        >>> dark, light = Sample(np.full((2, 2, 3), 40, np.uint8)), Sample(np.full((2, 2, 3), 200, np.uint8))
        >>> from synthloader.seeds import make_rng
        >>> ColorTransfer(references=[light]).generate(dark, rng=make_rng(0, "dark.png", 0, 0)).image[0, 0].tolist()
        [200, 200, 200]
    """

    keeps: frozenset[type[Target]] = frozenset({ClassLabel, Instances, SemanticMask})

    def __init__(self, *, references: ReferencesLike | None = None) -> None:
        self._statistics: _Statistics | None = None
        self.uses_pool = references is None
        if references is not None:
            self._statistics = _Statistics(open_references(references))

    @property
    def fingerprint(self) -> str:
        """Name, version, and a hash of the references' names and contents; the pool's identity is not in it."""
        given = self._statistics.references.stamp if self._statistics is not None and not self.uses_pool else None
        return make_fingerprint("ColorTransfer", 1, references=given)

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> ColorTransfer:
        """A copy that draws its references from this pool, unless references were given."""
        bound = copy.copy(self)
        if self.uses_pool:
            bound._statistics = _Statistics(_PoolReferences(pool))
        return bound

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Transfer the colours of one reference.

        Args:
            source: Any sample.
            rng: Draws the reference, whose name the origin records.

        Returns:
            The sample with another image; target, maps and metadata are the source's own objects.

        Raises:
            NothingToGenerate: There is no reference other than the source itself.
        """
        check_kept("ColorTransfer", self.keeps, source)
        if self._statistics is None:
            raise ValueError(
                "references must be given, or a pool be bound before generate, got references=None. "
                "Pass ColorTransfer to GeneratedDataset, call bind first, or give references=."
            )
        lab = cv2.cvtColor(source.image, cv2.COLOR_RGB2LAB)
        before = _measure(lab)
        is_grey = _is_grey(source.image)
        drawn = self._draw(before[:, :1] if is_grey else before, rng)
        after = self._statistics.read(drawn)
        image = _transfer_grey(source.image, before, after) if is_grey else _transfer(lab, before, after)
        return source.edit(image=image, target=source.target, drawn=(self._statistics.references.name(drawn),))

    def _draw(self, own: np.ndarray, rng: np.random.Generator) -> int:
        """A reference whose statistics (2, C) are others than the source's own."""
        statistics = self._statistics
        count = 0 if statistics is None else len(statistics.references)
        for _ in range(MAX_DRAWS if count > 1 else count):
            drawn = int(rng.integers(count))
            if statistics is not None and not np.array_equal(statistics.read(drawn)[:, : own.shape[1]], own):
                return drawn
        raise NothingToGenerate("no other reference")

    def __repr__(self) -> str:
        """What it draws from."""
        if self.uses_pool or self._statistics is None:
            return "ColorTransfer()"
        return f"ColorTransfer(references=<{len(self._statistics.references)} images>)"


@dataclass(eq=False)
class _Statistics:
    """Mean and standard deviation of references, measured once in each process."""

    references: References
    known: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def read(self, index: int) -> np.ndarray:
        """(2, 3) float64: means and standard deviations of L, a and b in 8-bit levels."""
        if index not in self.known:
            self.known[index] = _measure(cv2.cvtColor(self.references.read(index), cv2.COLOR_RGB2LAB))
        return self.known[index]

    def __getstate__(self) -> dict[str, Any]:
        """Travel to other processes without what they can measure themselves."""
        return {"references": self.references, "known": {}}


@dataclass(frozen=True)
class _PoolReferences:
    """The pictures of a pool as references."""

    pool: Pool

    @property
    def stamp(self) -> str:
        return self.pool.identity

    def __len__(self) -> int:
        return len(self.pool)

    def name(self, index: int, /) -> str:
        return self.pool.name(index)

    def read(self, index: int, /) -> np.ndarray:
        return self.pool[index].image


def _is_grey(image: np.ndarray) -> bool:
    # One row decides in nearly every colour picture.
    return all(
        np.array_equal(part[..., 0], part[..., 1]) and np.array_equal(part[..., 0], part[..., 2])
        for part in (image[:1], image)
    )


def _measure(lab: np.ndarray) -> np.ndarray:
    mean, deviation = cv2.meanStdDev(lab)
    return np.stack([mean[:, 0], deviation[:, 0]])


def _make_table(levels: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """New levels (L, C) of the channels: `(level - mean) * ratio + mean of the reference`, unrounded."""
    ratio = np.where(before[1] < 1, 1, after[1] / np.maximum(before[1], 1))
    table: np.ndarray = np.clip((levels[:, None] - before[0]) * ratio + after[0], 0, 255)
    return table


def _transfer(lab: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    table = np.rint(_make_table(np.arange(256.0), before, after)).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(lab, table[None]), cv2.COLOR_LAB2RGB)


def _transfer_grey(image: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The same for three equal channels, by one table from grey to grey, which keeps them equal."""
    greys = np.repeat(np.arange(256, dtype=np.float32)[None, :, None] / 255, 3, axis=2)
    lightness = cv2.cvtColor(greys, cv2.COLOR_RGB2LAB)[0, :, 0] * 2.55
    lab = np.zeros((1, 256, 3), np.float32)
    lab[0, :, 0] = _make_table(lightness, before[:, :1], after[:, :1])[:, 0] / 2.55
    new_greys = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)[0, :, 1]
    return cv2.LUT(image, np.rint(np.clip(new_greys, 0, 1) * 255).astype(np.uint8))
