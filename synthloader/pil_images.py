"""Opening image files with PIL, whatever other packages of the process have made of it."""

from __future__ import annotations

import os

import PIL.Image

__all__ = ["open_image"]


def open_image(path: str | os.PathLike[str], /) -> PIL.Image.Image:
    """Open an image file; nothing is decoded yet.

    Ultralytics replaces `PIL.Image.open` by a function that imports another package for a file that PIL does not know,
    and fails for want of that package instead of saying what is wrong with the file.

    Raises:
        OSError: There is no such file, or it is no image.
    """
    try:
        return PIL.Image.open(path)
    except ImportError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise OSError(f"cannot open the image {os.fspath(path)}: {error}") from error
