"""Masks of ids in image files: one channel, or a palette."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from synthloader.checks import reject
from synthloader.keys import hash_content
from synthloader.pil_images import open_image

__all__ = ["MaskFile"]

_HOW = "Convert colours to ids first: one channel, in which a number stands for a class."


class MaskFile:
    """A mask of ids on disk, read when it is asked for.

    Args:
        path: A PNG (or what else PIL reads without loss) with a palette or one channel of 1, 8 or 16 bit.

    Example:
        >>> import PIL.Image
        >>> PIL.Image.fromarray(np.array([[0, 2]], np.uint8)).save("mask.png")
        >>> MaskFile(Path("mask.png")).read((1, 2)).tolist()
        [[0, 2]]
    """

    __slots__ = ("_known", "path")

    def __init__(self, path: Path, /) -> None:
        self.path = path
        self._known: tuple[int, int, str] | None = None

    def read(self, size_hw: tuple[int, int], /) -> np.ndarray:
        """(H, W) int32 ids.

        Args:
            size_hw: Height and width of the image.

        Raises:
            OSError: The file is cut short or no image.
            ValueError: It has colours, or another size than the image.
        """
        try:
            with open_image(self.path) as image:
                if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
                    reject(f"the mode of the mask {self.path}", "be one channel or a palette", image.mode, _HOW)
                if image.format in ("JPEG", "MPO"):
                    remedy = "JPEG blurs ids into others: save masks as PNG."
                    reject(f"the format of the mask {self.path}", "be without loss", image.format, remedy)
                ids = np.array(image).astype(np.int32)
        except (OSError, SyntaxError) as error:
            raise OSError(f"cannot read the mask {self.path}: {error} (replace the file)") from error
        if ids.shape != size_hw:
            remedy = "Masks are drawn on the whole image."
            reject(f"the height and width of the mask {self.path}", f"be the image's, {size_hw}", ids.shape, remedy)
        return ids

    def stamp(self) -> str:
        """Hash of the file's content; remembered while its size and time stay the same."""
        state = os.stat(self.path)
        if self._known is None or self._known[:2] != (state.st_size, state.st_mtime_ns):
            self._known = (state.st_size, state.st_mtime_ns, hash_content(self.path.read_bytes()).hex())
        return self._known[2]
