"""Boolean masks as bits: each is cropped to its tight extent and packed, eight pixels to the byte.

They are not compressed further: against the pixels of the image, of which they are about a fiftieth, zlib saves one
part in a hundred and costs a quarter of the time to read a mask, and its bytes differ between zlib's builds.
"""

from __future__ import annotations

import numpy as np

__all__ = ["check_packed", "pack_masks", "unpack_masks"]

MAX_MASKS_BYTES = 1 << 34
"""Largest size of the unpacked masks of one sample: more is a mistake, or a forged record."""


def pack_masks(masks: np.ndarray, /) -> tuple[np.ndarray, bytes]:
    """Pack masks.

    Args:
        masks: (N, H, W) bool.

    Returns:
        (N, 4) int32 extents, top left bottom right in pixels, bottom and right exclusive, all 0 for an empty mask;
        and for each mask the bits of its crop, row by row, the first pixel in the highest bit, padded to whole bytes.

    Raises:
        ValueError: They are too large to be read back.

    Example:
        >>> mask = np.zeros((1, 4, 6), bool); mask[0, 1:3, 2:5] = True
        >>> extents, bits = pack_masks(mask)
        >>> extents.tolist(), bits.hex()
        ([[1, 2, 3, 5]], 'fc')
    """
    _check_size(masks.shape)
    extents = np.zeros((len(masks), 4), np.int32)
    packed = []
    for extent, mask in zip(extents, masks, strict=True):
        rows = np.flatnonzero(mask.any(axis=1))
        if len(rows) == 0:
            continue
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(mask[top:bottom].any(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        extent[:] = top, left, bottom, right
        packed.append(np.packbits(mask[top:bottom, left:right]).tobytes())
    return extents, b"".join(packed)


def unpack_masks(extents: np.ndarray, bits: bytes | memoryview, /, *, size_hw: tuple[int, int]) -> np.ndarray:
    """Unpack what `pack_masks` made, and `check_packed` has looked at.

    Args:
        extents: (N, 4) int32.
        bits: The bits of all crops.
        size_hw: Height and width of every mask, in pixels.

    Returns:
        (N, H, W) bool.
    """
    masks = np.zeros((len(extents), *size_hw), np.bool_)
    data = np.frombuffer(bits, np.uint8)
    position = 0
    for mask, (top, left, bottom, right) in zip(masks, extents.tolist(), strict=True):
        if count := (bottom - top) * (right - left):
            end = position + (count + 7) // 8
            crop = np.unpackbits(data[position:end], count=count).view(np.bool_)
            mask[top:bottom, left:right] = crop.reshape(bottom - top, right - left)
            position = end
    return masks


def check_packed(extents: np.ndarray, num_bytes: int, /, *, size_hw: tuple[int, int]) -> None:
    """Refuse what `pack_masks` cannot have made, without unpacking it.

    Raises:
        ValueError: The extents lie outside of the masks, or the bits are too few or too many.
    """
    if extents.ndim != 2 or extents.shape[1] != 4 or extents.dtype != np.int32:
        raise ValueError("extents of masks are not (N, 4) int32")
    height, width = size_hw
    _check_size((len(extents), height, width))
    expected = 0
    for top, left, bottom, right in extents.tolist():
        if not (0 <= top <= bottom <= height and 0 <= left <= right <= width):
            raise ValueError("a mask reaches out of its image")
        expected += ((bottom - top) * (right - left) + 7) // 8
    if num_bytes < expected:
        raise ValueError("a mask has too few bits")
    if num_bytes > expected:
        raise ValueError("there are more bits than masks")


def _check_size(shape: tuple[int, ...]) -> None:
    num_masks, height, width = shape
    if num_masks * height * width > MAX_MASKS_BYTES:
        raise ValueError(
            f"{num_masks} masks of {height} x {width} pixels are more than {MAX_MASKS_BYTES >> 30} GiB: "
            "the masks of one sample must fit in that"
        )
