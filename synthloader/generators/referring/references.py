"""Reference images that a generator works towards: a folder, files, or samples."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeAlias

import cv2
import numpy as np
import PIL.Image

from synthloader.checks import reject
from synthloader.keys import StampBook, hash_content
from synthloader.pil_images import open_image
from synthloader.sample import Sample

__all__ = ["FileReferences", "References", "ReferencesLike", "SampleReferences", "open_references", "read_image"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

NUM_CHECKED = 64
"""Files of which the header is read at once, evenly spread: enough to find a folder of something else, and quick."""

ReferencesLike: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Sequence[Sample]"


class References(Protocol):
    """Images with names, read when asked for."""

    @property
    def stamp(self) -> str:
        """Hash of all names and contents."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def name(self, index: int, /) -> str:
        """The name that `Origin.drawn` records."""
        ...

    def read(self, index: int, /) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        ...


class FileReferences:
    """Image files; names are relative to the folder that holds them all, so that a copy elsewhere has the same stamp.

    Args:
        files: The files, at least one.
        root: The folder that names are relative to.
        argument: What the user calls them, for errors.
    """

    def __init__(self, files: Sequence[Path], root: Path, *, argument: str = "references") -> None:
        self._files = tuple(files)
        self._root = root
        self._argument = argument

    @property
    def stamp(self) -> str:
        """Hash of all names and contents; reads every file once."""
        return self._stamp

    @cached_property
    def _stamp(self) -> str:
        book = StampBook()
        return hash_content([[self.name(at), book.stamp(file)] for at, file in enumerate(self._files)]).hex()

    def __len__(self) -> int:
        """Number of images."""
        return len(self._files)

    def name(self, index: int, /) -> str:
        """Path relative to the common folder."""
        return self._files[index].relative_to(self._root).as_posix()

    def read(self, index: int, /) -> np.ndarray:
        """Decode one file."""
        return read_image(self._files[index], argument=self._argument)

    def file(self, index: int, /) -> Path:
        """The file itself."""
        return self._files[index]


class SampleReferences:
    """Samples that are in memory, or decoded when asked for.

    Args:
        samples: The samples.
        argument: What the user calls them, for names.
    """

    def __init__(self, samples: Sequence[Sample], *, argument: str = "references") -> None:
        self._samples = samples
        self._argument = argument

    @property
    def stamp(self) -> str:
        """Hash of all images."""
        return self._stamp

    @cached_property
    def _stamp(self) -> str:
        return hash_content([hash_content(self.read(at)) for at in range(len(self))]).hex()

    def __len__(self) -> int:
        """Number of images."""
        return len(self._samples)

    def name(self, index: int, /) -> str:
        """Position in the list."""
        return f"{self._argument}[{index}]"

    def read(self, index: int, /) -> np.ndarray:
        """The image of one sample."""
        return self._samples[index].image

    def sample(self, index: int, /) -> Sample:
        """The sample itself."""
        return self._samples[index]


def open_references(
    references: ReferencesLike, /, *, argument: str = "references"
) -> FileReferences | SampleReferences:
    """Find reference images, without hidden files; nothing is decoded yet, but headers of some are read.

    Args:
        references: A folder (with the folders in it), a list of image files, or samples.
        argument: What the user calls them, for errors and for names of samples.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: There are none, or a file is empty or no image (of many files, some are looked at).
        TypeError: It is something else.
    """
    if isinstance(references, str | os.PathLike):
        return _open_folder(Path(references), argument)
    if not isinstance(references, Sequence):
        reject(argument, "be a folder, a list of image files, or samples", references, error=TypeError)
    if not len(references):
        reject(argument, "hold at least one image", references, "Leave it out to draw from the dataset itself.")
    first = references[0]
    if isinstance(first, Sample):
        return SampleReferences(
            [_check_sample(f"{argument}[{at}]", sample) for at, sample in enumerate(references)], argument=argument
        )
    return _open_files(references, argument)


def read_image(file: Path, /, *, argument: str = "references") -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8, RGB.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a whole image.
    """
    content = file.read_bytes()
    # Older versions of OpenCV return the readable part of a JPEG that is cut short: no end mark after its last scan.
    is_cut = content.startswith(b"\xff\xd8") and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")
    image = None if is_cut or not content else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        reject(argument, "be whole images", str(file), "It is cut short, or of a format that OpenCV cannot read.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _open_folder(folder: Path, argument: str) -> FileReferences:
    if folder.is_file():
        _check_files([folder], argument)
        return FileReferences([folder], folder.parent, argument=argument)
    if not folder.is_dir():
        reject(argument, "exist", str(folder), "Check the path.", error=FileNotFoundError)
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(file, folder) and file.is_file()
    )
    if not files:
        reject(argument, "hold at least one image", str(folder), f"It looks for {', '.join(IMAGE_SUFFIXES)}.")
    _check_files(files, argument)
    return FileReferences(files, folder, argument=argument)


def _is_hidden(file: Path, folder: Path) -> bool:
    """Whether it, or a folder on the way to it, is hidden: `._a.png` holds no picture, thumbnails are no originals."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _check_files(files: Sequence[Path], argument: str) -> None:
    """Find what is no image now, and not when it is first drawn: empty files, and others by a look at some of them."""
    for file in files:
        if file.stat().st_size == 0:
            read_image(file, argument=argument)  # Raises.
    for at in np.unique(np.linspace(0, len(files) - 1, NUM_CHECKED).round().astype(int)).tolist():
        try:
            with open_image(files[at]):  # Reads the header alone.
                pass
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
            read_image(files[at], argument=argument)  # There are formats and sizes that OpenCV alone reads.


def _open_files(files: Iterable[object], argument: str) -> FileReferences:
    paths = []
    for at, file in enumerate(files):
        if not isinstance(file, str | os.PathLike):
            reject(f"{argument}[{at}]", "be an image file", file, "Give files only, or samples only.", error=TypeError)
        path = Path(os.path.abspath(file))
        if not path.is_file():
            reject(f"{argument}[{at}]", "exist", str(file), "Check the path.", error=FileNotFoundError)
        paths.append(path)
    _check_files(paths, argument)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    return FileReferences(paths, root, argument=argument)


def _check_sample(name: str, sample: object) -> Sample:
    if not isinstance(sample, Sample):
        reject(name, "be a Sample", sample, "Give files only, or samples only.", error=TypeError)
    return sample
