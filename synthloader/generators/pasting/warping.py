"""Turning and bending cut-outs: image, mask, maps and keypoints by one displacement."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from synthloader.generators.pasting.cut_out import CutOut, find_tight_box

__all__ = ["bend", "rotate"]

GRID = 4
"""Points of the coarse field of displacements along each side."""


def rotate(donor: CutOut, degrees: float, /) -> CutOut | None:
    """The object turned about its centre, counter-clockwise as it is seen.

    Args:
        donor: The object.
        degrees: The angle.

    Returns:
        A copy in the tight box of its turned mask; None where not a pixel is left of a thin one.
    """
    if degrees == 0:
        return donor
    height, width = donor.mask.shape
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    new_height = math.ceil(abs(cosine) * height + abs(sine) * width - 1e-6)
    new_width = math.ceil(abs(sine) * height + abs(cosine) * width - 1e-6)
    # Where each pixel of the new picture comes from; the centre of pixel i lies at i in OpenCV, at i + 0.5 in a label.
    x = np.arange(new_width, dtype=np.float32) - (new_width - 1) / 2
    y = (np.arange(new_height, dtype=np.float32) - (new_height - 1) / 2)[:, None]
    from_x = np.float32(cosine) * x - np.float32(sine) * y + np.float32((width - 1) / 2)
    from_y = np.float32(sine) * x + np.float32(cosine) * y + np.float32((height - 1) / 2)
    keypoints = donor.keypoints
    if keypoints is not None:
        keypoints = keypoints.copy()
        offset = keypoints[:, :2] - np.array([width / 2, height / 2], np.float32)
        turned = offset @ np.array([[cosine, -sine], [sine, cosine]], np.float32)
        keypoints[:, :2] = turned + np.array([new_width / 2, new_height / 2], np.float32)
        keypoints[donor.keypoints[:, 2] == 0] = 0  # type: ignore[index]
    return _resample(replace(donor, keypoints=keypoints), from_x.astype(np.float32), from_y.astype(np.float32))


def bend(donor: CutOut, amplitude: float, /, *, rng: np.random.Generator) -> CutOut | None:
    """The object with its outline and its pixels displaced by a smooth random field.

    Keypoints are not moved: `CopyPaste` does not bend what has keypoints.

    Args:
        donor: The object.
        amplitude: Largest displacement along x and along y as a share of the shorter side of its box, 0..1.
        rng: Draws the field.

    Returns:
        A copy in the tight box of its bent mask; None where not a pixel is left.

    Source:
        Simard, Steinkraus, Platt 2003, "Best practices for convolutional neural networks applied to visual document
        analysis" (elastic distortions). Ours draws displacements on a coarse grid and interpolates, instead of blurring
        one for every pixel.
    """
    height, width = donor.mask.shape
    reach = amplitude * min(height, width)
    pad = math.ceil(reach)
    size_wh = (width + 2 * pad, height + 2 * pad)
    coarse = rng.uniform(-reach, reach, (2, GRID, GRID)).astype(np.float32)
    field_x, field_y = (cv2.resize(part, size_wh, interpolation=cv2.INTER_LINEAR) for part in coarse)
    from_x = field_x + (np.arange(size_wh[0], dtype=np.float32) - pad)
    from_y = field_y + (np.arange(size_wh[1], dtype=np.float32) - pad)[:, None]
    return _resample(donor, from_x, from_y, keep_keypoints=False)


def _resample(donor: CutOut, from_x: np.ndarray, from_y: np.ndarray, *, keep_keypoints: bool = True) -> CutOut | None:
    """The object read at these places (h, w), cut to the tight box of its new mask."""
    soft = cv2.remap(donor.mask.view(np.uint8) * np.uint8(255), from_x, from_y, cv2.INTER_LINEAR)
    mask = soft > 127
    left, top, right, bottom = find_tight_box(mask, near=(0, 0, 0, 0))
    if right == left:
        return None
    window = (slice(top, bottom), slice(left, right))
    from_x, from_y = np.ascontiguousarray(from_x[window]), np.ascontiguousarray(from_y[window])
    image = cv2.remap(
        np.ascontiguousarray(donor.image), from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    maps = dict(donor.maps)
    if maps:  # The nearest value, so that no depth or number appears that was not there.
        height, width = donor.mask.shape
        rows = np.clip(np.rint(from_y), 0, height - 1).astype(np.intp)
        columns = np.clip(np.rint(from_x), 0, width - 1).astype(np.intp)
        maps = {name: values[rows, columns] for name, values in maps.items()}
    keypoints = donor.keypoints
    if keypoints is not None and keep_keypoints:
        keypoints = keypoints - np.array([left, top, 0], np.float32)
        keypoints[keypoints[:, 2] == 0] = 0
    return replace(donor, image=image, mask=np.ascontiguousarray(mask[window]), keypoints=keypoints, maps=maps)
