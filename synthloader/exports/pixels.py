"""Images and maps of ids to the bytes of image files."""

from __future__ import annotations

import cv2
import numpy as np

from synthloader.checks import reject

__all__ = ["IMAGE_FORMATS", "encode_id_map", "encode_image", "find_suffix"]

IMAGE_FORMATS = ("png", "jpeg")
JPEG_QUALITY = 95

_SUFFIXES = {"png": ".png", "jpeg": ".jpg"}


def find_suffix(image_format: str, /) -> str:
    """`.png` or `.jpg`."""
    return _SUFFIXES[image_format]


def encode_image(image: np.ndarray, image_format: str, /) -> bytes:
    """The bytes of an image file.

    Args:
        image: (H, W, 3) uint8, RGB.
        image_format: `"png"`, without loss, or `"jpeg"`, of quality 95.

    Raises:
        ValueError: The format cannot hold an image of this size.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if image_format == "jpeg" else []
    return _encode(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), find_suffix(image_format), options)


def encode_id_map(ids: np.ndarray, /) -> bytes:
    """The bytes of a PNG of one channel.

    Args:
        ids: (H, W) uint8 or uint16.
    """
    return _encode(ids, ".png", [])


def _encode(pixels: np.ndarray, suffix: str, options: list[int]) -> bytes:
    try:
        done, content = cv2.imencode(suffix, pixels, options)
    except cv2.error:
        done, content = False, np.zeros(0, np.uint8)
    if not done:
        reject("the image", f"have a size that {suffix} files can hold", pixels.shape, "Choose image_format='png'.")
    return content.tobytes()
