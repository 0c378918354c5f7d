"""Blank pictures: what counts as one, where they are looked for, and what is done about them."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from synthloader.checks import check_type, reject

__all__ = ["BLANK", "BlankPolicy", "is_blank", "is_blank_file", "list_suspects", "spread"]

BLANK = "blank background"
"""Why nothing is generated on a blank background."""

MIN_DEVIATION = 4.0
"""Standard deviation in 8-bit levels below which a channel of Lab counts as constant: noise and JPEG stay below it,
a wall or a cloudless sky with its gradient above."""
OUTLIERS = 0.01
"""Share of the pixels that is ignored: dust, a time stamp."""
MAX_MEASURED = 1 << 16
"""Pixels of a picture that its deviation is measured on."""
MAX_GLANCED = 1 << 10
"""Pixels of a picture that a first glance takes in."""
MIN_SPAN = 32
"""Levels between the 5th and the 95th percentile from which on a glance is enough: with a tenth of the values this far
apart, whatever the others are, the deviation is above `MIN_DEVIATION`."""
MAX_CHECKED = 64
"""Pictures that are looked at before a run begins, evenly spread."""
NUM_SMALLEST = 8
"""Files that are looked at besides: the smallest, for nothing is stored in as few bytes as a blank picture."""


def is_blank(image: np.ndarray, /) -> bool:
    """Whether lightness and colour of a picture (H, W, 3) are nearly constant.

    Most pictures are told from blank ones at a glance (0.04 ms); only where little varies are more pixels measured.

    Args:
        image: (H, W, 3) uint8, RGB; may be a view.

    Example:
        >>> is_blank(np.full((60, 80, 3), 200, np.uint8))
        True
    """
    glance = _take_lab(image, MAX_GLANCED)
    count = glance.shape[1]
    tail = min(math.ceil(count / 20), (count - 1) // 2)
    ends = np.partition(glance, (tail, count - 1 - tail))[:, [tail, count - 1 - tail]].tolist()
    if any(high - low >= MIN_SPAN for low, high in ends):
        return False
    return all(_find_deviation(channel) < MIN_DEVIATION for channel in _take_lab(image, MAX_MEASURED))


def is_blank_file(file: str | os.PathLike[str], read: Callable[[], np.ndarray], /) -> bool:
    """Whether an image file is blank; most are only decoded at an eighth of their size.

    Args:
        file: The image.
        read: Decodes it whole: (H, W, 3) uint8, RGB.
    """
    try:
        small = cv2.imread(os.fspath(file), cv2.IMREAD_REDUCED_COLOR_8)
    except cv2.error:  # An eighth of a few pixels is none.
        small = None
    if small is not None and not is_blank(cv2.cvtColor(small, cv2.COLOR_BGR2RGB)):
        return False
    return is_blank(read())  # Averaging hides texture, and never adds any.


def list_suspects(count: int, files: Sequence[Path] = (), /) -> list[int]:
    """Positions of the pictures to look at before a run begins: up to 64 evenly spread, and the 8 smallest files.

    Args:
        count: How many pictures there are.
        files: Their files, where they are files.
    """
    smallest = sorted(range(len(files)), key=lambda at: _measure_file(files[at]))[:NUM_SMALLEST]
    return sorted({*spread(count, MAX_CHECKED), *smallest})


def spread(count: int, most: int, /) -> list[int]:
    """At most `most` positions of `count`, evenly spread, first and last among them."""
    return sorted({int(each) for each in np.linspace(0, count - 1, min(count, most)).round()})


class BlankPolicy:
    """What is done about blank pictures: refused before a run begins; warned of once where found later, or allowed.

    In a published comparison, objects pasted onto blank backgrounds took a detector from 0.42 to 0.01 average
    precision, because nothing in them had to be told from an object.

    Args:
        argument: What the user calls the pictures, for messages.
        allow: Whether to warn of them once instead of refusing them.
        fate: What becomes of one that is found in a run, for the warning: `"is passed over"`.
    """

    def __init__(self, argument: str, /, *, allow: bool, fate: str) -> None:
        check_type("allow_blank_backgrounds", allow, bool)
        self.allow = allow
        self.has_warned = False
        self._argument = argument
        self._fate = fate

    def refuse(self, name: str, /) -> None:
        """Say that a picture is blank, before a run begins.

        Raises:
            ValueError: Blank ones are not allowed.
        """
        if not self.allow:
            reject(
                self._argument,
                "show something: a detector learns nothing on a blank or one-coloured background",
                name,
                "Remove it, or pass allow_blank_backgrounds=True.",
            )
        self.warn(name)

    def warn(self, name: str, /) -> None:
        """Say that a picture is blank, in the middle of a run, which goes on; once in each process."""
        if self.has_warned:
            return
        self.has_warned = True
        message = (
            f"{self._argument} hold blank or one-coloured pictures, such as {name!r}: detectors trained on such a set "
            f"have failed on real pictures. Use photographs of the place of use."
            if self.allow
            else f"{self._argument} hold a blank or one-coloured picture, {name!r}, which was found in the run and "
            f"{self._fate}. Remove it, and others like it, or pass allow_blank_backgrounds=True."
        )
        warnings.warn(message, stacklevel=4)


def _measure_file(file: Path) -> float:
    try:
        return os.path.getsize(file)
    except OSError:
        return math.inf  # Said with all its words when it is read.


def _take_lab(image: np.ndarray, most: int) -> np.ndarray:
    """(3, N) uint8 in CIE Lab: pixels on an even grid, about `most` of them."""
    step = max(1, math.ceil(math.sqrt(image.shape[0] * image.shape[1] / most)))
    lab = cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_RGB2LAB)
    return np.ascontiguousarray(lab.reshape(-1, 3).T)


def _find_deviation(channel: np.ndarray) -> float:
    """Standard deviation of 8-bit values, without the one per cent that lies farthest from their median."""
    counts, levels = np.bincount(channel, minlength=256), np.arange(256.0)
    until, total = counts.cumsum(), len(channel)
    median = np.searchsorted(until, [(total - 1) // 2, total // 2], side="right").mean()
    distances = np.abs(levels - median)
    nearest = distances.argsort()
    rank = (total - 1) * (1 - OUTLIERS)
    ends = np.searchsorted(counts[nearest].cumsum(), [math.floor(rank), math.ceil(rank)], side="right")
    low, high = distances[nearest[ends]]
    kept = counts * (distances <= low + (high - low) * (rank % 1))
    mean = kept @ levels / kept.sum()
    return math.sqrt(kept @ (levels - mean) ** 2 / kept.sum())
