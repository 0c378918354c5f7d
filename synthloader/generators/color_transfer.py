"""`ColorTransfer`: the colours of a reference picture, by mean and standard deviation or by the whole histogram."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import cv2
import numpy as np

from synthloader.checks import check_choice
from synthloader.errors import NothingToGenerate
from synthloader.generators.appearance.grey import is_grey
from synthloader.generators.composing.replacing import replace_options
from synthloader.generators.composing.same_pixels import are_same_pixels
from synthloader.generators.labelling.contract import check_kept
from synthloader.generators.referring import histogram_matching, reinhard
from synthloader.generators.referring.pool import ReferencePool
from synthloader.generators.referring.references import ReferencesLike
from synthloader.keys import make_fingerprint
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["ColorTransfer"]

STRIP_PIXELS = 1 << 16
"""Levels are looked up so many pixels at a time."""

_METHODS = {"reinhard": reinhard, "histogram": histogram_matching}


class ColorTransfer:
    """Give the source the colours of a reference picture; nothing moves, so every label stays true.

    * `"reinhard"`: in Lab, each channel is shifted and stretched to the reference's mean and standard deviation. A
      channel of the source that varies by less than one 8-bit level is only shifted: there is nothing to stretch but
      rounding. Smooth, and rarely wrong.
    * `"histogram"`: in YCrCb, each channel gets the reference's whole distribution, as exactly as a table from level to
      level can give it. It also carries over what a mean does not say (a bright lamp in a dark picture). For pictures
      of one kind only, with about the same share of objects in them: matched to a picture with few cells in it, most
      cells of a crowded one take the colour of the background and are labelled all the same. It can also break a
      smooth sky into patches.

    A one-channel picture (three equal channels) stays one: only its lightness is changed. A reference with the source's
    own statistics (the source itself, in most cases) is passed over for another one.

    Args:
        references: What to draw references from: a folder, a list of image files, or samples. They are read when first
            drawn. None: the bound pool, the dataset itself.
        method: `"reinhard"` or `"histogram"`.

    Raises:
        FileNotFoundError: A file or the folder does not exist.
        ValueError: There are no images, or the method is another.

    Source:
        Reinhard, Ashikhmin, Gooch, Shirley 2001, "Color transfer between images". Theirs works in the l-alpha-beta
        space of Ruderman, ours in CIE Lab (D65) as OpenCV has it, in 8 bits, which is several times faster.
        Histogram matching: Gonzalez and Woods, "Digital image processing", section 3.3. Theirs is for one channel; ours
        takes the middle of each level's ranks and not their end, so that a flat picture gets the reference's median.
        Ours works in YCrCb: channel by channel in RGB, as other libraries do it, colours come apart where the channels
        of the source are matched differently (yellow and violet clouds); Lab looks as good and takes three times as
        long.

    Example:
        >>> dark, light = Sample(np.full((2, 2, 3), 40, np.uint8)), Sample(np.full((2, 2, 3), 200, np.uint8))
        >>> from synthloader.seeds import make_rng
        >>> ColorTransfer(references=[light]).generate(dark, rng=make_rng(0, "dark.png", 0, 0)).image[0, 0].tolist()
        [200, 200, 200]
    """

    keeps: frozenset[type[Target]] = frozenset({ClassLabel, Instances, SemanticMask})

    def __init__(
        self, *, references: ReferencesLike | None = None, method: Literal["reinhard", "histogram"] = "reinhard"
    ) -> None:
        self.method = check_choice("method", method, _METHODS)
        self.references = references
        self._references = ReferencePool("ColorTransfer", references, _METHODS[self.method].measure_reference)

    @property
    def uses_pool(self) -> bool:
        """Whether references are drawn from the bound pool."""
        return self._references.uses_pool

    @property
    def fingerprint(self) -> str:
        """Name, version, and a hash of the references' names and contents; the pool's identity is not in it."""
        return make_fingerprint("ColorTransfer", 1, references=self._references.stamp, method=self.method)

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> ColorTransfer:
        """A copy that draws its references from this pool, unless references were given."""
        bound = copy.copy(self)
        bound._references = self._references.bind(pool)
        return bound

    def replace(self, **options: Any) -> ColorTransfer:
        """A copy with other options, bound to the same pool where this one is.

        Args:
            **options: Options of the constructor.
        """
        keeps_references = options.get("references", self.references) is self.references
        made = replace_options(self, {**options, "references": None} if keeps_references else options)
        if keeps_references:  # They are not opened again, and a pool stays bound.
            made.references = self.references
            made._references = self._references.measure_by(_METHODS[made.method].measure_reference)
        return made

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Transfer the colours of one reference.

        Args:
            source: Any sample.
            rng: Draws the reference, whose name the origin records.

        Returns:
            The sample with another image; target, maps and metadata are the source's own objects.

        Raises:
            NothingToGenerate: There is no reference other than the source itself, or nothing would change.
        """
        check_kept("ColorTransfer", self.keeps, source)
        method = _METHODS[self.method]
        channels = cv2.cvtColor(source.image, method.FROM_RGB)
        own = method.measure(channels)
        num_channels = 1 if is_grey(source.image) else 3
        drawn = self._references.draw(
            rng, lambda index: method.are_same(own[:, :num_channels], self._references.read(index)[:, :num_channels])
        )
        reference = self._references.read(drawn)
        if num_channels == 1:
            image = cv2.LUT(source.image, method.make_grey_table(own[:, :1], reference[:, :1]))
        else:
            image = _look_up(channels, method.make_table(own, reference), method.TO_RGB)
        if are_same_pixels(image, source.image):
            raise NothingToGenerate("unchanged")
        return source.edit(image=image, target=source.target, drawn=(self._references.name(drawn),))

    def __repr__(self) -> str:
        """What it draws from, and how it transfers."""
        return f"ColorTransfer({', '.join(filter(None, [repr(self._references), f'method={self.method!r}']))})"


def _look_up(channels: np.ndarray, table: np.ndarray, to_rgb: int) -> np.ndarray:
    """The RGB image of new levels, table (256, 3); strip by strip, so that what is intermediate stays in the cache."""
    tables = [np.ascontiguousarray(column) for column in table.T]
    num_rows = max(1, STRIP_PIXELS // channels.shape[1])
    image = np.empty_like(channels)
    for top in range(0, len(channels), num_rows):
        rows = slice(top, top + num_rows)
        # OpenCV looks up three planes faster than three channels, the splitting included.
        planes = [cv2.LUT(plane, each) for plane, each in zip(cv2.split(channels[rows]), tables, strict=True)]
        cv2.cvtColor(cv2.merge(planes), to_rgb, dst=image[rows])
    return image
