"""`fit_to`: a picture scaled to cover a size and cut to a random window of it, with its labels."""

from __future__ import annotations

import numpy as np

from synthloader.errors import NothingToGenerate
from synthloader.generators.pasting.blankness import BLANK, is_blank
from synthloader.generators.pasting.cut_out import read_shares
from synthloader.generators.tiling.window import WindowShares, cut_window, scale_to
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["fit_to"]

MAX_WINDOWS = 10
"""Windows that are tried in search of one that shows something and cuts no labelled object to a scrap."""


def fit_to(
    sample: Sample,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    /,
    *,
    min_visible: float = 0.2,
    allow_blank: bool = False,
) -> Sample:
    """Scale a picture so that it just covers a size, and cut a random window of exactly that size.

    Labels follow. An object outside of the window is dropped; one of which the window would leave too little makes
    another window be tried, so that nothing stays visible without its label. So does a window that is blank: a picture
    may show something at one end only.

    Args:
        sample: Any sample; not modified. The result may share memory with it.
        size_hw: Height and width that are wanted.
        rng: Draws the window.
        min_visible: Smallest share of a labelled object that a window may leave.
        allow_blank: Whether a window may be blank.

    Raises:
        NothingToGenerate: Ten windows were tried, and each is blank or cuts an object to a scrap; or the only window
            there is, the whole picture, is blank.
    """
    height, width = size_hw
    factor = max(height / sample.size_hw[0], width / sample.size_hw[1])
    scaled = scale_to(
        sample, (max(height, round(sample.size_hw[0] * factor)), max(width, round(sample.size_hw[1] * factor)))
    )
    if scaled.size_hw == size_hw:
        if not allow_blank and is_blank(scaled.image):
            raise NothingToGenerate(BLANK)
        return scaled
    reason = "background cuts objects"
    measured = WindowShares(scaled.target) if isinstance(scaled.target, Instances) else None
    for _ in range(MAX_WINDOWS):
        top = int(rng.integers(scaled.size_hw[0] - height + 1))
        left = int(rng.integers(scaled.size_hw[1] - width + 1))
        shares = None if measured is None else measured.find(left=left, top=top, width=width, height=height)
        if shares is not None and _cuts_to_a_scrap(scaled.target, shares, min_visible):
            continue
        if allow_blank or not is_blank(scaled.image[top : top + height, left : left + width]):
            return cut_window(scaled, left, top, width, height, shares=shares)
        reason = BLANK
    raise NothingToGenerate(reason)


def _cuts_to_a_scrap(target: object, shares: np.ndarray, min_visible: float) -> bool:
    """Whether an object, no crowd, is cut to less than `min_visible` of itself."""
    if not isinstance(target, Instances):
        return False
    is_crowd = np.zeros(len(target), np.bool_) if target.crowd is None else target.crowd
    visible = read_shares(target)
    return bool(((shares > 0) & (shares < 1) & (shares * visible < min_visible) & ~is_crowd).any())
