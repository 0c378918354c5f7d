"""Image files to pixels: whole or not at all."""

from __future__ import annotations

import os

import cv2
import numpy as np
import PIL.Image

__all__ = ["read_image_file"]

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def read_image_file(path: str | os.PathLike[str], /) -> np.ndarray:
    """Decode an image file.

    As in PIL and torchvision, the orientation that a camera noted in EXIF is not applied (annotations are drawn on the
    stored pixels), an alpha channel is left out, and grey images get three equal channels.

    Args:
        path: A JPEG, a PNG, or what else PIL reads.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        OSError: The file is cut short or no image; never are its readable parts returned.
        ValueError: It has more than 8 bit per channel.
    """
    with open(path, "rb") as stream:
        content = stream.read()
    is_png = content.startswith(_PNG_START)
    if is_png and content[24:25] == b"\x10":
        _refuse_depth(path, "16-bit PNG")
    # OpenCV returns the readable part of a file that is cut short, so it gets only files that have their end mark.
    # Files that carry something behind it, as some cameras write, go the slower way.
    if (content.startswith(_JPEG_START) and content.endswith(_JPEG_END)) or (is_png and content.endswith(_PNG_END)):
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None:
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    try:
        with PIL.Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                _refuse_depth(path, f"image of mode {image.mode}")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        name = os.fspath(path)
        raise OSError(f"cannot read the image {name}: {error} (replace the file, or leave it out)") from error


def _refuse_depth(path: str | os.PathLike[str], kind: str) -> None:
    raise ValueError(
        f"images must have 8 bit per channel, got a {kind}: {os.fspath(path)}. Convert it first: how its range is "
        "mapped to 8 bit is your choice."
    )
