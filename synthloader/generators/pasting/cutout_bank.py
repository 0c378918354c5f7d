"""`CutoutBank`: cut-outs that the user has on disk, one class per folder."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from synthloader.checks import reject, suggest_name
from synthloader.errors import LabelContractError
from synthloader.generators.pasting.cut_out import CutOut
from synthloader.generators.pasting.cutout_files import list_folder, list_mapping, read_cutout
from synthloader.keys import StampBook, hash_content

__all__ = ["CutoutBank", "CutoutsLike"]

FileOrPair: TypeAlias = "str | os.PathLike[str] | tuple[str | os.PathLike[str], str | os.PathLike[str]]"
CutoutsLike: TypeAlias = (
    "str | os.PathLike[str] | Mapping[str, Sequence[FileOrPair]] | Mapping[int, Sequence[FileOrPair]]"
)

MEMORY_BYTES = 64 << 20
"""Decoded cut-outs that a process keeps at most: hundreds of the usual size."""


class CutoutBank:
    """Cut-outs on disk, of classes that folders or a mapping name.

    A cut-out is an RGBA file, whose alpha is the mask, or an image with a mask file. The mask is binary: alpha of at
    least 128 is the object, and softer edges are the business of blending. Several separate parts in a file are one
    object. What lies outside the tight box of the mask is cut away.

    Args:
        cutouts: A folder with one sub-folder per class, named after the class or its id, that holds RGBA files or
            images with masks (`apple.jpg` and `apple_mask.png`); a folder with `images/<class>/` and `masks/<class>/`;
            or a mapping from class name or id to a list of files or (image, mask) pairs. One file of each class is
            decoded to see whether it is a cut-out, the others when they are drawn.

    Raises:
        FileNotFoundError: A file or folder is missing.
        ValueError: There are no cut-outs, files are not sorted into classes, or one has no mask.
        TypeError: It is something else.

    Example:
        >>> import tempfile, cv2
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "apple").mkdir()
        >>> pixels = np.zeros((20, 30, 4), np.uint8)
        >>> pixels[5:15, 10:20] = 255
        >>> _ = cv2.imwrite(str(folder / "apple" / "1.png"), pixels)
        >>> bank = CutoutBank(folder).bind({"pear": 1, "apple": 2})
        >>> bank.class_ids, bank.read(0).mask.shape, bank.read(0).name
        ((2,), (10, 10), 'apple/1.png')
    """

    def __init__(self, cutouts: CutoutsLike, /) -> None:
        remedy = "Name the folder that holds one sub-folder per class, or map each class to a list of files."
        if not isinstance(cutouts, str | os.PathLike | Mapping):
            reject("cutouts", "be a folder or a mapping from class to files", cutouts, remedy, error=TypeError)
        self._files = tuple(list_mapping(cutouts) if isinstance(cutouts, Mapping) else list_folder(Path(cutouts)))
        self._class_ids: tuple[int, ...] | None = None
        self._memory = _Memory()
        for first in {file.class_name: file for file in reversed(self._files)}.values():
            read_cutout(first)

    @property
    def stamp(self) -> str:
        """Hash of names, classes and contents; reads every file once."""
        return self._stamp

    @cached_property
    def _stamp(self) -> str:
        book = StampBook()
        return hash_content(
            [
                [file.name, str(file.class_name), *(book.stamp(path) for path in (file.image, file.mask) if path)]
                for file in self._files
            ]
        ).hex()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes as they are written, each once, sorted."""
        return tuple(sorted({str(file.class_name) for file in self._files}))

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Class id of each cut-out.

        Raises:
            LabelContractError: The bank is not bound to a table of classes yet.
        """
        if self._class_ids is None:
            raise LabelContractError(
                "cutouts must be bound to the dataset's classes before they are pasted, got a bank that is not bound. "
                "Pass the generator to GeneratedDataset, or call bind first."
            )
        return self._class_ids

    @property
    def class_table(self) -> dict[str, int] | None:
        """Class as written to its id; None before `bind`. Another table makes other labels of the same files."""
        if self._class_ids is None:
            return None
        return {str(file.class_name): class_id for file, class_id in zip(self._files, self._class_ids, strict=True)}

    def bind(self, classes: Mapping[str, int] | None, /) -> CutoutBank:
        """A copy whose classes are ids.

        Args:
            classes: Class name to id; None where the dataset has no names. A name of digits that is not in the table
                is an id itself.

        Raises:
            LabelContractError: A class is not in the table, or there is no table and it is no id.
        """
        ids = {file.class_name: _find_id(file.class_name, classes) for file in self._files}
        bound = copy.copy(self)
        bound._class_ids = tuple(ids[file.class_name] for file in self._files)
        return bound

    def __len__(self) -> int:
        """Number of cut-outs."""
        return len(self._files)

    def name(self, index: int, /) -> str:
        """Path of a cut-out relative to the common folder."""
        return self._files[index].name

    def find(self, class_ids: frozenset[int] | None, /) -> np.ndarray:
        """(M,) int64 positions of the cut-outs of these classes; None: of all."""
        if class_ids is None:
            return np.arange(len(self._files))
        return np.flatnonzero(np.isin(self.class_ids, sorted(class_ids)))

    def read(self, index: int, /) -> CutOut:
        """Decode one cut-out; its arrays are shared between calls and read-only.

        Raises:
            ValueError: The file is no cut-out.
        """
        class_id = self.class_ids[index]
        found = self._memory.get(index)
        if found is None:
            found = read_cutout(self._files[index])
            for array in found:
                array.flags.writeable = False
            self._memory.put(index, found)
        return CutOut(name=self._files[index].name, class_id=class_id, image=found[0], mask=found[1])

    def __repr__(self) -> str:
        """How many there are."""
        return f"CutoutBank(<{len(self)} cut-outs of {len(self.class_names)} classes>)"


class _Memory:
    """Decoded cut-outs by position, the oldest forgotten first; other processes start with an empty one."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._size_bytes = 0
        self._lock = threading.Lock()

    def get(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        return self._kept.get(index)

    def put(self, index: int, arrays: tuple[np.ndarray, np.ndarray]) -> None:
        size_bytes = sum(array.nbytes for array in arrays)
        with self._lock:
            if index in self._kept or size_bytes > MEMORY_BYTES:
                return
            self._kept[index] = arrays
            self._size_bytes += size_bytes
            while self._size_bytes > MEMORY_BYTES:
                oldest = self._kept.pop(next(iter(self._kept)))
                self._size_bytes -= sum(array.nbytes for array in oldest)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Memory, ()


def _find_id(name: str | int, classes: Mapping[str, int] | None) -> int:
    if isinstance(name, str) and classes is not None and name in classes:
        return classes[name]
    is_id = isinstance(name, int) or (name.isascii() and name.isdigit())
    if is_id and (classes is None or int(name) in classes.values()):
        return int(name)
    if classes is None:
        raise LabelContractError(
            f"cutouts must have class ids where the dataset has no table of class names, got class {name!r}. Name the "
            f"folder after the class's id, or give a mapping from ids to files."
        )
    raise LabelContractError(
        f"cutouts must be of classes that the dataset has, got class {name!r}. {suggest_name(str(name), classes)}"
    )
