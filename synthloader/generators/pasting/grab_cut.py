"""`cut_from_box`: the mask of an object of which only the box is known, by GrabCut, or a word on why there is none."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from synthloader.generators.pasting.cut_out import find_tight_box

__all__ = ["BoxCut", "cut_from_box", "find_window"]

MIN_SIDE = 10
"""Shortest side of a box in pixels: below that, an outline that is one pixel off is off by a third of the area."""
CONTEXT = 0.25
"""How far the crop reaches beyond the box, in its longer sides: enough background to learn its colours."""
MIN_CONTEXT = 6
"""The same in pixels, for small boxes."""
MAX_CROP_SIDE = 112
"""Longer side of the crop that is cut, in pixels: with 144 it takes half as long again, and outlines gain nothing."""
MIN_BACKGROUND = 0.1
"""Trusted background, in areas of the box: with less, its colours are a guess."""
NUM_COMPONENTS = 5
"""Gaussians in each mixture, as in the paper."""
NUM_CUTS = 3
"""Rounds of learning and cutting at most: a fourth changes next to nothing."""
COLOR_NOISE = 6.0
"""Variance that each Gaussian has at least, in squared 8-bit levels: sensor noise and JPEG."""
MAX_FRONT = 0.5
"""An overlapping box of less than this share of the area is taken to lie in front, whole: a tie on a shirt."""
CORE = 0.7
"""Radius of the ellipse that is taken for the object before the first cut, in half sides of the box."""

SMOOTHING = 0.05
"""Radius of the disc that must fit into the mask everywhere, as a share of the object's size: thin spurs go."""
MIN_SHARE = 0.25
"""Smallest mask as a share of its box: what fills less is a scrap of an object."""
MIN_LARGEST = 0.9
"""Share of the mask that its largest part must hold: an object in pieces was cut apart, or others came along."""
MAX_HOLE = 0.02
"""Holes up to this share of the mask are filled (glare, a spot); a larger one means that something was missed."""
MIN_BOX_IOU = 0.75
"""Overlap of the mask's tight box and the given one: the box is all that is known of the object's extent, and the box
of what is pasted should be the one that an annotator would have drawn."""
MAX_MARGIN = 0.05
"""Margin between object and box that is the annotator's hand and counts for nothing, as a share of a side."""
MAX_MARGIN_PIXELS = 2.0
"""The same in pixels of the image."""
MAX_BORDER = 0.5
"""Share of the box's border that the mask may touch: a round object touches a quarter, a leak nearly all."""
MIN_BORDER_EDGE = 0.95
"""Share of the outline that must lie on an edge where it touches more: a book, a sign or a screen fills its box."""
EDGE_REACH = 0.08
"""How far from the outline colours are compared, as a share of the object's size."""
MIN_EDGE_REACH = 2
"""The same in pixels of the crop: the width of a blurred edge."""
MIN_CONTRAST = 8.0
"""Colour step across the outline in Lab (8-bit levels) that counts as an edge that a person would see."""
MIN_EDGE = 0.8
"""Share of the outline that must lie on such an edge."""


class BoxCut(NamedTuple):
    """What was cut out of a box.

    Args:
        mask: (h, w) bool over the window; None where the cut was refused.
        box: x1 y1 x2 y2 of the window in the image: the given box, in whole pixels.
        reason: Why it was refused (`"too small"`, `"no contrast"`, ...), a few constant words; empty where it is good.
    """

    mask: np.ndarray | None
    box: tuple[int, int, int, int]
    reason: str


def cut_from_box(image: np.ndarray, box: np.ndarray, /, *, others: np.ndarray | None = None) -> BoxCut:
    """Cut an object out of its box; refuse where the result is doubtful.

    The colours of the background are learned around the box, those of the object from the middle of the box, and a
    minimum cut divides the box between them; the object's colours are then learned from what was cut, until nothing
    changes. No random numbers are drawn: equal arguments give equal bits.

    Args:
        image: (H, W, 3) uint8, RGB.
        box: (4,) x1 y1 x2 y2 of the object in pixels.
        others: (N, 4) boxes of the other objects. What lies in them is not taken for background, and where they
            overlap this box, what is nearer to their middle is taken for theirs.

    Returns:
        The mask over the box, or the reason for which there is none: `"too small"`, `"no background"`, `"no object"`,
        `"in pieces"`, `"has holes"`, `"too little"` (of the box), `"another box"` (the mask's extent is not the box's),
        `"leaves the box"`, `"no contrast"` (its outline is no edge in the picture).

    Source:
        Rother, Kolmogorov, Blake 2004, "GrabCut: interactive foreground extraction using iterated graph cuts"; the cut
        is OpenCV's. Ours makes the mixtures by splitting clusters across their principal axis (Orchard and Bouman 1991,
        "Color quantization of images"), where OpenCV draws random numbers; learns the background outside of the box
        only, so that pale parts of an object do not become background; and judges the result.

    Example:
        >>> image = np.full((60, 60, 3), 200, np.uint8)
        >>> _ = cv2.circle(image, (30, 30), 15, (180, 30, 30), -1)
        >>> cut = cut_from_box(image, np.array([15, 15, 46, 46]))
        >>> cut.reason, cut.box, cut.mask[15, 15], cut.mask[0, 0]
        ('', (15, 15, 46, 46), np.True_, np.False_)
    """
    window = find_window(image, box)
    x1, y1, x2, y2 = window
    if min(x2 - x1, y2 - y1) < MIN_SIDE:
        return BoxCut(None, window, "too small")
    crop = _Crop(image, window, np.zeros((0, 4), np.float32) if others is None else others)
    if crop.is_background.sum() < MIN_BACKGROUND * crop.is_inside.sum():
        return BoxCut(None, window, "no background")
    mask = crop.cut()
    if mask is None:
        return BoxCut(None, window, "no object")
    mask, reason = _clean(mask & crop.is_inside)
    reason = reason or _judge(mask, crop)
    if reason:
        return BoxCut(None, window, reason)
    return BoxCut(_enlarge(mask[crop.inner], window), window, "")


def find_window(image: np.ndarray, box: np.ndarray) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of the pixels that a box touches."""
    height, width = image.shape[:2]
    x1, y1 = (int(value) for value in np.floor(box[:2]))
    x2, y2 = (int(value) for value in np.ceil(box[2:]))
    return max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)


class _Crop:
    """The surroundings of a box, at most `MAX_CROP_SIDE` pixels large."""

    def __init__(self, image: np.ndarray, window: tuple[int, int, int, int], others: np.ndarray) -> None:
        x1, y1, x2, y2 = window
        margin = max(MIN_CONTEXT, round(CONTEXT * max(x2 - x1, y2 - y1)))
        left, top = max(x1 - margin, 0), max(y1 - margin, 0)
        part = image[top : y2 + margin, left : x2 + margin]
        height, width = part.shape[:2]
        factor = self.factor = min(1.0, MAX_CROP_SIDE / max(height, width))
        size_wh = max(1, round(width * factor)), max(1, round(height * factor))
        scale = np.array([size_wh[0] / width, size_wh[1] / height] * 2)
        offset = np.array([left, top] * 2)
        self.image = (
            cv2.resize(part, size_wh, interpolation=cv2.INTER_AREA) if factor < 1 else np.ascontiguousarray(part)
        )
        self.lab = cv2.cvtColor(self.image, cv2.COLOR_RGB2LAB)
        self.box = (np.array(window) - offset) * scale
        inner = np.rint(self.box).astype(int)
        self.inner = (slice(inner[1], inner[3]), slice(inner[0], inner[2]))
        self.is_inside: np.ndarray = np.zeros(self.image.shape[:2], np.bool_)
        self.is_inside[self.inner] = True
        own = self._measure_distance(self.box)
        self.is_core = self.is_inside & (own <= CORE**2)
        self.is_foreign = np.zeros_like(self.is_inside)
        is_trusted = np.ones_like(self.is_inside)
        for other in (others - offset) * scale:
            is_near = (other[:2] < size_wh).all() and (other[2:] > 0).all()
            if not is_near or (other[2:] <= other[:2]).any():
                continue
            ox1, oy1 = np.maximum(np.floor(other[:2]), 0).astype(int)
            ox2, oy2 = np.ceil(other[2:]).astype(int)
            is_trusted[oy1:oy2, ox1:ox2] = False
            distance = self._measure_distance(other)
            is_in_front = np.prod(other[2:] - other[:2]) < MAX_FRONT * np.prod(self.box[2:] - self.box[:2])
            self.is_foreign |= (distance <= 1) & ((distance < own) | is_in_front)
        self.is_background = ~self.is_inside & is_trusted

    def _measure_distance(self, box: np.ndarray) -> np.ndarray:
        """(h, w) squared distance from the middle of a box, 1 on the ellipse that touches its sides."""
        x = (np.arange(self.is_inside.shape[1]) + 0.5 - (box[0] + box[2]) / 2) / ((box[2] - box[0]) / 2)
        y = (np.arange(self.is_inside.shape[0]) + 0.5 - (box[1] + box[3]) / 2) / ((box[3] - box[1]) / 2)
        distance: np.ndarray = y[:, None] ** 2 + x**2
        return distance

    def cut(self) -> np.ndarray | None:
        """(h, w) bool, the object; None where nothing of it is left."""
        is_open = self.is_inside & ~self.is_foreign
        labels = is_open * np.uint8(cv2.GC_PR_FGD)  # GC_BGD is 0.
        is_object = self.is_core & ~self.is_foreign
        background = _learn_mixture(self.image[self.is_background])
        mask = None
        for _ in range(NUM_CUTS):
            if is_object.sum() < NUM_COMPONENTS:
                return None
            cut, model = labels.copy(), _learn_mixture(self.image[is_object])
            # With models that are given and frozen it draws no random numbers; its own first ones come from k-means.
            cv2.grabCut(self.image, cut, (0, 0, 1, 1), background, model, 1, cv2.GC_EVAL_FREEZE_MODEL)
            new = (cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD)
            if mask is not None and np.array_equal(new, mask):
                break
            mask = new
            is_object = _fill_holes(mask)
        return mask


def _learn_mixture(pixels: np.ndarray) -> np.ndarray:
    """(1, 65) float64: weights, means and covariances of Gaussians, as `cv2.grabCut` wants them.

    The cluster that varies most along any direction is split across that direction at its mean, until there are enough.
    """
    clusters = [_Cluster(pixels.astype(np.float64))]
    while len(clusters) < NUM_COMPONENTS:
        widest = max(range(len(clusters)), key=lambda at: clusters[at].spread)
        parts = clusters[widest].split()
        if parts is None:
            break
        clusters[widest : widest + 1] = parts
    model = np.zeros((1, 13 * NUM_COMPONENTS))
    weights, means, covariances = _split_mixture(model)
    covariances[:] = np.eye(3)
    for at, cluster in enumerate(clusters):
        weights[at] = len(cluster.pixels) / len(pixels)
        means[at] = cluster.mean
        covariances[at] = cluster.covariance + COLOR_NOISE * np.eye(3)
    return model


def _split_mixture(model: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views of the weights (5,), means (5, 3) and covariances (5, 3, 3) of a mixture."""
    weights, means, covariances = np.split(model[0], [NUM_COMPONENTS, 4 * NUM_COMPONENTS])
    return weights, means.reshape(-1, 3), covariances.reshape(-1, 3, 3)


class _Cluster:
    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.mean = pixels.mean(axis=0)
        centred = pixels - self.mean
        self.covariance = centred.T @ centred / len(pixels)
        values, vectors = np.linalg.eigh(self.covariance)
        self.spread = float(values[-1]) * len(pixels)
        self.axis = vectors[:, -1]

    def split(self) -> tuple[_Cluster, _Cluster] | None:
        is_beyond = (self.pixels - self.mean) @ self.axis > 0
        count = int(is_beyond.sum())
        if count < 2 or len(is_beyond) - count < 2:
            return None
        return _Cluster(self.pixels[is_beyond]), _Cluster(self.pixels[~is_beyond])


def _clean(mask: np.ndarray) -> tuple[np.ndarray, str]:
    """Leave the largest part without spurs and small holes; or say why there is none."""
    area = cv2.countNonZero(mask.view(np.uint8))
    radius = max(1, round(SMOOTHING * np.sqrt(area)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    values = cv2.copyMakeBorder(mask.view(np.uint8), radius, radius, radius, radius, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(values, cv2.MORPH_OPEN, disc)[radius:-radius, radius:-radius]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return mask, "no object"
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = int(areas.argmax())
    if areas[largest] < MIN_LARGEST * area:
        return mask, "in pieces"
    filled = _fill_holes(labels == largest + 1)
    if filled.sum() > (1 + MAX_HOLE) * areas[largest]:
        return mask, "has holes"
    return filled, ""


def _judge(mask: np.ndarray, crop: _Crop) -> str:
    """Why a mask is not to be trusted; empty where it is."""
    inside = mask[crop.inner]
    height, width = inside.shape
    if inside.mean() < MIN_SHARE:
        return "too little"
    if (mask & crop.is_foreign).any():
        return "has holes"
    x1, y1, x2, y2 = find_tight_box(inside, near=np.array([0, 0, width, height]))
    margins = np.minimum(MAX_MARGIN * np.array([height, width]), MAX_MARGIN_PIXELS * crop.factor)
    overlap = np.minimum(np.array([y2 - y1, x2 - x1]) / (np.array([height, width]) - 2 * margins), 1)
    if overlap.prod() < MIN_BOX_IOU:
        return "another box"
    border = np.concatenate([inside[0], inside[-1], inside[1:-1, 0], inside[1:-1, -1]])
    edge = _measure_edge(crop.lab, mask)
    if border.mean() > MAX_BORDER and edge < MIN_BORDER_EDGE:
        return "leaves the box"
    return "no contrast" if edge < MIN_EDGE else ""


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    padded = cv2.copyMakeBorder((~mask).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels = cv2.connectedComponents(padded, connectivity=4)
    filled: np.ndarray = (labels != labels[0, 0])[1:-1, 1:-1]
    return filled


def _measure_edge(lab: np.ndarray, mask: np.ndarray) -> float:
    """Share of the outline across which the colour steps by `MIN_CONTRAST`.

    Args:
        lab: (h, w, 3) uint8, the crop.
        mask: (h, w) bool, of the crop.
    """
    side = 2 * max(MIN_EDGE_REACH, round(EDGE_REACH * np.sqrt(mask.sum()))) + 1
    inside = mask.astype(np.float32)
    colors = lab.astype(np.float32)
    means = []
    for part in (inside, 1 - inside):
        weight = cv2.blur(part, (side, side))
        means.append(cv2.blur(colors * part[..., None], (side, side)) / np.maximum(weight, 1e-6)[..., None])
    step = np.sqrt(((means[0] - means[1]) ** 2).sum(axis=2))
    outline = mask & ~cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)
    return float((step[outline] >= MIN_CONTRAST).mean()) if outline.any() else 0.0


def _enlarge(mask: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    size_wh = window[2] - window[0], window[3] - window[1]
    if mask.shape == (size_wh[1], size_wh[0]):
        return mask
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(soft, size_wh, interpolation=cv2.INTER_LINEAR) > 0.5
