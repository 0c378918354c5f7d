"""Image files: which there are, how large they are, and their pixels, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import PIL.ImageOps

from synthloader.checks import reject
from synthloader.pil_images import open_image

__all__ = ["IMAGE_SUFFIXES", "list_image_files", "read_image_file", "read_image_size", "show_path"]

IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))

_ORIENTATION = 0x0112
"""The EXIF tag; 5 to 8 exchange height and width."""

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def list_image_files(folder: str | os.PathLike[str], /, *, name: str) -> list[Path]:
    """The images in a folder and the folders in it, in the order of their paths; hidden files are no images.

    Args:
        folder: Where to look.
        name: What the folder is called in messages.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no images.
    """
    root = Path(folder)
    if not root.is_dir():
        reject(name, "name an existing folder", str(folder), error=FileNotFoundError)
    found = []
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = [each for each in folders if not each.startswith(".")]
        names = (each for each in files if not each.startswith("."))
        found += [os.path.join(place, each) for each in names if os.path.splitext(each)[1].lower() in IMAGE_SUFFIXES]
    if not found:
        reject(name, f"hold images ({', '.join(sorted(IMAGE_SUFFIXES))})", str(folder), "Look at the path.")
    return [Path(each) for each in sorted(found)]


def show_path(path: str | os.PathLike[str], root: str | os.PathLike[str], /) -> str:
    """The stable name of a file: its path below the root, with `/`; the whole path where it lies elsewhere."""
    whole, top = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    return (whole.relative_to(top) if whole.is_relative_to(top) else whole).as_posix()


def read_image_size(path: str | os.PathLike[str], /, *, apply_orientation: bool = False) -> tuple[int, int]:
    """Height and width in pixels, from the file's header.

    Args:
        path: The image.
        apply_orientation: As of `read_image_file`.

    Raises:
        OSError: The file is no image.
    """
    try:
        with open_image(path) as image:
            is_tiff = image.format == "TIFF"
            if (apply_orientation or is_tiff) and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
                if not is_tiff:
                    return image.width, image.height
                image.load()  # PIL always turns these, and some versions say the size only then.
            return image.height, image.width
    except (OSError, SyntaxError) as error:
        raise OSError(
            f"cannot read the image {os.fspath(path)}: {error} (replace the file, or leave it out)"
        ) from error


def read_image_file(path: str | os.PathLike[str], /, *, apply_orientation: bool = False) -> np.ndarray:
    """Decode an image file.

    As in PIL and torchvision, the orientation that a camera noted in EXIF is not applied (annotations are drawn on the
    stored pixels), an alpha channel is left out, and grey images get three equal channels.

    Args:
        path: A JPEG, a PNG, or what else PIL reads.
        apply_orientation: Whether to turn the image as EXIF says: for annotations that were drawn on turned images,
            as those of YOLO are.

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
        flags = cv2.IMREAD_COLOR if apply_orientation else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if pixels is not None:
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    try:
        with open_image(path) as image:
            if image.mode.startswith(("I", "F")):
                _refuse_depth(path, f"image of mode {image.mode}")
            turned = PIL.ImageOps.exif_transpose(image) if apply_orientation else image
            return np.array(turned.convert("RGB"))
    except (OSError, SyntaxError) as error:
        name = os.fspath(path)
        raise OSError(f"cannot read the image {name}: {error} (replace the file, or leave it out)") from error


def _refuse_depth(path: str | os.PathLike[str], kind: str) -> None:
    raise ValueError(
        f"images must have 8 bit per channel, got a {kind}: {os.fspath(path)}. Convert it first: how its range is "
        "mapped to 8 bit is your choice."
    )
