"""`ColorTransfer`: the colours of a reference image, by the mean and spread of each channel in Lab."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from synthloader.checks import reject
from synthloader.errors import NothingToGenerate
from synthloader.keys import StampBook, hash_content, make_fingerprint
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["ColorTransfer"]

_VERSION = 1
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_LEVELS = np.arange(256, dtype=np.float64)


class ColorTransfer:
    """Gives the source the mean and standard deviation of a reference image, channel by channel in Lab.

    Nothing moves, so every kind of target stays true. An image of three equal channels (one channel in the dataset)
    keeps them equal: its grey levels take the reference's.

    Args:
        references: Where reference images come from: a folder, a list of files, or samples; None for the pool.

    Raises:
        FileNotFoundError: A reference does not exist.
        ValueError: A folder holds no image, or a file cannot be decoded.

    Source:
        Reinhard et al. 2001, "Color Transfer between Images". Ours works in OpenCV's 8-bit CIE Lab instead of the
        paper's l-alpha-beta, and leaves a channel without spread at its distance from the mean.
    """

    keeps: frozenset[type[Target]] = frozenset({ClassLabel, Instances, SemanticMask})

    def __init__(self, *, references: str | os.PathLike[str] | Sequence[Any] | None = None) -> None:
        self.references = references
        self._files: list[Path] | None = None
        self._samples: list[Sample] | None = None
        self._pool: Pool | None = None
        if isinstance(references, str | os.PathLike):
            self._files = _list_images(Path(references))
        elif references is not None:
            self._read_list(references)

    @property
    def uses_pool(self) -> bool:
        """Whether references are drawn from the pool."""
        return self.references is None

    @cached_property
    def fingerprint(self) -> str:
        """Name, version, and the content of the references that were given."""
        return make_fingerprint("ColorTransfer", _VERSION, references=self._hash_references())

    def __repr__(self) -> str:
        """The fingerprint."""
        return self.fingerprint

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> ColorTransfer:
        """A copy that draws reference images from this pool, unless references were given."""
        bound = copy.copy(self)
        bound._pool = pool
        return bound

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Transfer the colours of one reference drawn by `rng`.

        Raises:
            NothingToGenerate: There is no reference besides the source itself.
        """
        reference, name = self._draw_reference(source, rng)
        return source.edit(image=_transfer(source.image, reference), target=source.target, drawn=(name,))

    def _draw_reference(self, source: Sample, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        count = self._count()
        start = int(rng.integers(count)) if count else 0
        for step in range(min(count, 3)):
            image, name = self._read((start + step) % count)
            if image.shape != source.image.shape or not np.array_equal(image, source.image):
                return image, name
        raise NothingToGenerate("no other reference")

    def _count(self) -> int:
        if self._files is not None:
            return len(self._files)
        if self._samples is not None:
            return len(self._samples)
        if self._pool is None:
            reject("references", "be given, or the generator bound to a pool", None,
                   "GeneratedDataset binds it; else call bind(pool, classes=None).")  # fmt: skip
        return len(self._pool)

    def _read(self, index: int) -> tuple[np.ndarray, str]:
        if self._files is not None:
            return _read_image(self._files[index]), self._files[index].name
        if self._samples is not None:
            return self._samples[index].image, f"reference {index}"
        if self._pool is None:
            raise NothingToGenerate("no other reference")
        return self._pool[index].image, self._pool.name(index)

    def _read_list(self, references: Sequence[Any]) -> None:
        if isinstance(references, Sequence) and references and all(isinstance(entry, Sample) for entry in references):
            self._samples = list(references)
        elif (
            isinstance(references, Sequence)
            and references
            and all(isinstance(e, str | os.PathLike) for e in references)
        ):
            self._files = [_check_file(Path(entry)) for entry in references]
        else:
            reject("references", "be a folder, a list of files, or a list of samples", references, error=TypeError)

    def _hash_references(self) -> list[str] | None:
        if self._files is not None:
            stamps = StampBook()
            return [stamps.stamp(file) for file in self._files]
        if self._samples is not None:
            return [hash_content(sample.image).hex() for sample in self._samples]
        return None


def _transfer(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    if _is_grey(image):
        grey = cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY)
        level = np.ascontiguousarray(image[:, :, 0])
        return cv2.cvtColor(cv2.LUT(level, _make_table(level, grey)), cv2.COLOR_GRAY2RGB)
    lab, goal = cv2.cvtColor(image, cv2.COLOR_RGB2LAB), cv2.cvtColor(reference, cv2.COLOR_RGB2LAB)
    return cv2.cvtColor(cv2.LUT(lab, _make_table(lab, goal)), cv2.COLOR_LAB2RGB)


def _make_table(values: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """(256, 1, C) uint8: what each level of each channel becomes."""
    mean, spread = cv2.meanStdDev(values)
    goal_mean, goal_spread = cv2.meanStdDev(goal)
    factor = np.where(spread > 0, goal_spread / np.where(spread > 0, spread, 1), 1.0)
    table = (_LEVELS[None, :] - mean) * factor + goal_mean
    made: np.ndarray = np.clip(np.rint(table), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(made.T[:, None, :])


def _is_grey(image: np.ndarray) -> bool:
    return np.array_equal(image[:, :, 0], image[:, :, 1]) and np.array_equal(image[:, :, 0], image[:, :, 2])


def _list_images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"references must be a folder of images, and there is no folder {folder}.")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not files:
        reject(
            "references", "hold at least one image", str(folder), f"Image files end in {', '.join(sorted(_SUFFIXES))}."
        )
    return files


def _check_file(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"references names {file}, which does not exist.")
    return file


def _read_image(file: Path) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(_check_file(file).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"the reference image {file} cannot be decoded. Replace or remove it.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
