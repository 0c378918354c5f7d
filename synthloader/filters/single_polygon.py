"""`SinglePolygon`: can every mask be written as one polygon?"""

from __future__ import annotations

import numpy as np

from synthloader.keys import make_fingerprint
from synthloader.polygons import NoOutlineError, trace_outline
from synthloader.protocols import Verdict
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["SinglePolygon"]


class SinglePolygon:
    """Reject samples with a mask that no single polygon can say: without visible pixels, with holes, in several parts.

    For trainers whose labels are one polygon per object, Ultralytics among them: an object that a paste cuts in two
    would get a label that is wrong between its parts. Masks that are the source's own, pixel by pixel, are accepted:
    their polygons are known.

    There is no score. Samples without masks are accepted.

    Example:
        >>> masks = np.zeros((1, 4, 6), bool)
        >>> masks[0, 1:3, [0, 1, 3, 4]] = True
        >>> cut = Instances(np.array([1]), np.array([[0, 1, 5, 3]], np.float32), masks)
        >>> whole = Sample(np.zeros((4, 6, 3), np.uint8))
        >>> SinglePolygon().judge(whole.replace(target=cut), whole).reason
        'object in several parts'
    """

    fingerprint = make_fingerprint("SinglePolygon", 1)

    def judge(self, generated: Sample, source: Sample, /) -> Verdict:
        """Trace the outline of every mask; those of the source are looked at where one cannot be traced."""
        target = generated.target
        if not isinstance(target, Instances) or target.masks is None:
            return Verdict(True)
        for mask in target.masks:
            try:
                trace_outline(mask)
            except NoOutlineError as error:
                if not _is_of(source, mask):
                    return Verdict(False, reason=str(error))
        return Verdict(True)

    def __repr__(self) -> str:
        return "SinglePolygon()"


def _is_of(source: Sample, mask: np.ndarray) -> bool:
    before = source.target
    if not isinstance(before, Instances) or before.masks is None or source.size_hw != mask.shape:
        return False
    return any(np.array_equal(mask, other) for other in before.masks)
