"""Reference images that a generator works towards: a folder, files, or samples."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeAlias

import cv2
import numpy as np

from synthloader.checks import reject
from synthloader.keys import StampBook, hash_content
from synthloader.sample import Sample

__all__ = ["FileReferences", "References", "ReferencesLike", "SampleReferences", "open_references", "read_image"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

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
    """

    def __init__(self, files: Sequence[Path], root: Path) -> None:
        self._files = tuple(files)
        self._root = root

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
        return read_image(self._files[index])


class SampleReferences:
    """Samples that are in memory, or decoded when asked for."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

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
        return f"references[{index}]"

    def read(self, index: int, /) -> np.ndarray:
        """The image of one sample."""
        return self._samples[index].image


def open_references(references: ReferencesLike, /) -> References:
    """Find reference images; nothing is decoded yet.

    Args:
        references: A folder (with the folders in it), a list of image files, or samples.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: There are none.
        TypeError: It is something else.
    """
    if isinstance(references, str | os.PathLike):
        return _open_folder(Path(references))
    if not isinstance(references, Sequence):
        reject("references", "be a folder, a list of image files, or samples", references, error=TypeError)
    if not len(references):
        reject("references", "hold at least one image", references, "Leave it out to draw from the dataset itself.")
    first = references[0]
    if isinstance(first, Sample):
        return SampleReferences([_check_sample(at, sample) for at, sample in enumerate(references)])
    return _open_files(references)


def read_image(file: Path, /) -> np.ndarray:
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
        reject("references", "be whole images", str(file), "It is cut short, or of a format that OpenCV cannot read.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _open_folder(folder: Path) -> FileReferences:
    if folder.is_file():
        return FileReferences([folder], folder.parent)
    if not folder.is_dir():
        reject("references", "exist", str(folder), "Check the path.", error=FileNotFoundError)
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        reject("references", "hold at least one image", str(folder), f"It looks for {', '.join(IMAGE_SUFFIXES)}.")
    return FileReferences(files, folder)


def _open_files(files: Iterable[object]) -> FileReferences:
    paths = []
    for at, file in enumerate(files):
        if not isinstance(file, str | os.PathLike):
            reject(f"references[{at}]", "be an image file", file, "Give files only, or samples only.", error=TypeError)
        path = Path(os.path.abspath(file))
        if not path.is_file():
            reject(f"references[{at}]", "exist", str(file), "Check the path.", error=FileNotFoundError)
        paths.append(path)
    return FileReferences(paths, Path(os.path.commonpath([path.parent for path in paths])))


def _check_sample(at: int, sample: object) -> Sample:
    if not isinstance(sample, Sample):
        reject(f"references[{at}]", "be a Sample", sample, "Give files only, or samples only.", error=TypeError)
    return sample
