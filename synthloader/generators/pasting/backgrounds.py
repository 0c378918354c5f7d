"""`Backgrounds`: the pictures that objects are pasted onto instead of the source."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import cv2
import numpy as np

from synthloader.checks import reject
from synthloader.generators.pasting.fit import fit_to
from synthloader.generators.referring.references import (
    FileReferences,
    ReferencesLike,
    SampleReferences,
    open_references,
)
from synthloader.keys import hash_content
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

__all__ = [
    "BackgroundPool",
    "Backgrounds",
    "BackgroundsLike",
    "Detector",
    "fit_to",
    "is_blank",
    "warn_of_classes",
    "warn_of_own_images",
]

MIN_DEVIATION = 4.0
"""Standard deviation in 8-bit levels below which a channel of Lab counts as constant: noise and JPEG stay below it,
a wall or a cloudless sky with its gradient above."""
OUTLIERS = 0.01
"""Share of the pixels that is ignored: dust, a time stamp."""
MAX_CHECKED = 64
"""Backgrounds that are looked at on construction; the others when they are read."""
MAX_DETECTED = 32
"""Backgrounds that a detector looks at."""
MAX_MEASURED = 1 << 16
"""Pixels of a picture that its deviation is measured on."""


@runtime_checkable
class BackgroundPool(Protocol):
    """A map-style set of samples with names; a `Pool` is one."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int, /) -> Sample:
        """Decode one sample."""
        ...

    def name(self, index: int, /) -> str:
        """The stable name of a sample."""
        ...


BackgroundsLike: TypeAlias = "ReferencesLike | BackgroundPool"
Detector: TypeAlias = "Callable[[np.ndarray], Iterable[int | str]]"


class Backgrounds:
    """Pictures to paste onto, read when asked for and cut to the size that is wanted.

    A blank or one-coloured background is refused: in a published comparison, objects pasted onto blank backgrounds took
    a detector from 0.42 to 0.01 average precision, because nothing in them had to be told from an object. A picture
    counts as blank where lightness and both colours of CIE Lab deviate by less than 4 of 256 levels, one per cent of
    outliers aside.

    Args:
        backgrounds: A folder of images, a list of image files, samples (labelled or not), or a pool of samples.
        allow_blank: Warn of blank backgrounds once instead of refusing them.

    Raises:
        FileNotFoundError: A file or the folder does not exist.
        ValueError: There are no images, or one of the up to 64 that are looked at is blank.
        TypeError: It is something else.

    Example:
        >>> from synthloader.seeds import make_rng
        >>> ramp = np.ascontiguousarray(np.broadcast_to(np.arange(90, dtype=np.uint8)[None, :, None], (60, 90, 3)))
        >>> backgrounds = Backgrounds([Sample(ramp)])
        >>> backgrounds.read(0, (40, 40), make_rng(0, "a", 0, 0)).size_hw
        (40, 40)
    """

    def __init__(self, backgrounds: BackgroundsLike, /, *, allow_blank: bool = False) -> None:
        self._source = _open(backgrounds)
        self._allow_blank = allow_blank
        self._has_warned = False
        self._seen: set[int] = set()
        for index in _spread(len(self._source), MAX_CHECKED):
            self._check(index, self._source.read_small(index), may_be_coarse=True)

    @property
    def stamp(self) -> str:
        """Hash of all names and contents."""
        return self._source.stamp

    def __len__(self) -> int:
        """Number of backgrounds."""
        return len(self._source)

    def name(self, index: int, /) -> str:
        """The name that `Origin.drawn` records."""
        return self._source.name(index)

    def read(
        self, index: int, size_hw: tuple[int, int], rng: np.random.Generator, /, *, min_visible: float = 0.2
    ) -> Sample:
        """One background of exactly this size: scaled to cover it, then cut to a window drawn with `rng`.

        Args:
            index: Which background.
            size_hw: Height and width in pixels.
            rng: Draws the window.
            min_visible: Smallest share of a labelled object that the window may leave.

        Raises:
            ValueError: It is blank.
            NothingToGenerate: Every window that was tried cuts a labelled object to a scrap.
        """
        sample = self._source.read(index)
        self._check(index, sample.image)
        return fit_to(sample, size_hw, rng, min_visible=min_visible)

    def find_classes(self, index: int, /) -> set[int]:
        """Classes of the objects that are labelled on a background; empty where nothing is."""
        return self._source.find_classes(index)

    def list_files(self) -> list[Path]:
        """The image files, where backgrounds are files; unlabelled ones."""
        return self._source.list_files() if isinstance(self._source, _Files) else []

    def read_image(self, index: int, /) -> np.ndarray:
        """(H, W, 3) uint8, the background as it is."""
        return self._source.read(index).image

    def _check(self, index: int, image: np.ndarray, *, may_be_coarse: bool = False) -> None:
        if index in self._seen:
            return
        # Averaging hides texture, and never adds any: what is blank when small is looked at again.
        if is_blank(image) and (not may_be_coarse or is_blank(self._source.read(index).image)):
            if not self._allow_blank:
                reject(
                    "backgrounds",
                    "show something: a detector learns nothing on a blank or one-coloured background",
                    self.name(index),
                    "Remove it, or pass allow_blank_backgrounds=True.",
                )
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"backgrounds hold blank or one-coloured pictures, such as {self.name(index)!r}: detectors trained "
                    f"on such a set have failed on real pictures. Use photographs of the place of use.",
                    stacklevel=3,
                )
        self._seen.add(index)

    def __repr__(self) -> str:
        """How many there are."""
        return f"Backgrounds(<{len(self)} pictures>)"


def is_blank(image: np.ndarray, /) -> bool:
    """Whether lightness and colour of a picture (H, W, 3) are nearly constant."""
    step = max(1, int(np.ceil(np.sqrt(image.shape[0] * image.shape[1] / MAX_MEASURED))))
    lab = cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_RGB2LAB).reshape(-1, 3)
    for channel in lab.T.astype(np.float32):
        distance = np.abs(channel - np.median(channel))
        kept = channel[distance <= np.quantile(distance, 1 - OUTLIERS)]
        if kept.std() >= MIN_DEVIATION:
            return False
    return True


def warn_of_classes(
    backgrounds: Backgrounds,
    class_ids: Iterable[int],
    names: Mapping[int, str],
    detector: Detector | None = None,
    /,
) -> None:
    """Warn once where backgrounds show objects of the classes that are pasted: these would lack a label.

    Args:
        backgrounds: What is pasted onto.
        class_ids: The classes that are pasted.
        names: Class id to name, as far as there are names.
        detector: Called with (H, W, 3) uint8 RGB; gives the ids or names of the classes it finds. None: only the
            labels of the backgrounds tell. It looks at 32 of them, evenly spread.
    """
    pasted = set(class_ids)
    by_name = {name.casefold(): class_id for class_id, name in names.items()}
    looked_at = _spread(len(backgrounds), MAX_DETECTED)
    found: dict[int, int] = {}
    holders = 0
    for index in looked_at:
        classes = backgrounds.find_classes(index)
        if detector is not None:
            for each in detector(backgrounds.read_image(index)):
                classes.add(by_name.get(each.casefold(), -1) if isinstance(each, str) else int(each))
        classes &= pasted
        holders += bool(classes)
        for class_id in classes:
            found[class_id] = found.get(class_id, 0) + 1
    if not found:
        return
    listing = ", ".join(f"{names.get(class_id, class_id)} on {found[class_id]}" for class_id in sorted(found))
    remedy = "They keep their labels, and are more objects than were pasted: leave them out where that is not meant."
    if detector is not None:
        remedy = "Objects without a label teach a detector to overlook them: remove these, or give labelled ones."
    warnings.warn(
        f"backgrounds hold classes that are pasted: {holders} of the {len(looked_at)} that were looked at ({listing}). "
        f"{remedy}",
        stacklevel=3,
    )


def warn_of_own_images(backgrounds: Backgrounds, pool: object, /) -> None:
    """Warn where image files that are given as backgrounds are those of the dataset: what they show has no label there.

    Args:
        backgrounds: What is pasted onto.
        pool: The pool; one that knows its files has a method `facts`.
    """
    files, find_facts = backgrounds.list_files(), getattr(pool, "facts", None)
    if not files or not callable(find_facts):
        return
    own = {os.path.realpath(file) for index in range(len(pool)) if (file := find_facts(index).file)}  # type: ignore[arg-type]
    count = sum(os.path.realpath(file) in own for file in files)
    if count:
        warnings.warn(
            f"{count} of {len(files)} backgrounds are images of the dataset itself. Whatever objects they show would "
            f"stand there without a label: give images that show none, or paste onto the dataset (leave backgrounds "
            f"out).",
            stacklevel=3,
        )


class _Source(Protocol):
    @property
    def stamp(self) -> str: ...

    def __len__(self) -> int: ...

    def name(self, index: int, /) -> str: ...

    def read(self, index: int, /) -> Sample: ...

    def read_small(self, index: int, /) -> np.ndarray: ...

    def find_classes(self, index: int, /) -> set[int]: ...


class _Files:
    """Image files without labels."""

    def __init__(self, references: FileReferences) -> None:
        self._references = references

    @property
    def stamp(self) -> str:
        return self._references.stamp

    def __len__(self) -> int:
        return len(self._references)

    def name(self, index: int, /) -> str:
        return self._references.name(index)

    def read(self, index: int, /) -> Sample:
        return Sample(self._references.read(index))

    def read_small(self, index: int, /) -> np.ndarray:
        image = cv2.imread(str(self._references.file(index)), cv2.IMREAD_REDUCED_COLOR_8)
        return self._references.read(index) if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def find_classes(self, _index: int, /) -> set[int]:
        return set()

    def list_files(self) -> list[Path]:
        return [self._references.file(index) for index in range(len(self))]


class _Samples:
    """Samples of a list or a pool."""

    def __init__(self, samples: BackgroundPool) -> None:
        self._samples = samples

    @property
    def stamp(self) -> str:
        return self._stamp

    @cached_property
    def _stamp(self) -> str:
        identity = getattr(self._samples, "identity", None)
        if isinstance(identity, str):
            return identity
        return hash_content([[self.name(at), _describe(self.read(at))] for at in range(len(self))]).hex()

    def __len__(self) -> int:
        return len(self._samples)

    def name(self, index: int, /) -> str:
        return self._samples.name(index)

    def read(self, index: int, /) -> Sample:
        return self._samples[index]

    def read_small(self, index: int, /) -> np.ndarray:
        return self.read(index).image

    def find_classes(self, index: int, /) -> set[int]:
        find = getattr(self._samples, "class_ids", None)
        if callable(find):
            return {int(each) for each in np.asarray(find(index)).tolist()}
        return _find_target_classes(self.read(index))


class _NamedList:
    def __init__(self, references: SampleReferences) -> None:
        self._references = references

    def __len__(self) -> int:
        return len(self._references)

    def __getitem__(self, index: int, /) -> Sample:
        return self._references.sample(index)

    def name(self, index: int, /) -> str:
        return self._references.name(index)


def _open(backgrounds: Any) -> _Source:
    is_listed = isinstance(backgrounds, str | os.PathLike | list | tuple)
    if not is_listed and isinstance(backgrounds, BackgroundPool):
        if not len(backgrounds):
            reject("backgrounds", "hold at least one picture", backgrounds, "Leave it out to paste onto the sources.")
        return _Samples(backgrounds)
    references = open_references(backgrounds, argument="backgrounds")
    return _Files(references) if isinstance(references, FileReferences) else _Samples(_NamedList(references))


def _spread(count: int, most: int) -> list[int]:
    """At most `most` positions of `count`, evenly spread, first and last among them."""
    return sorted({int(each) for each in np.linspace(0, count - 1, min(count, most)).round()})


def _describe(sample: Sample) -> list[Any]:
    """What of a sample can show in a paste."""
    target, parts = sample.target, list[Any]()
    if isinstance(target, ClassLabel):
        parts = [target.class_id]
    elif isinstance(target, SemanticMask):
        parts = [target.mask, target.ignore_index]
    elif isinstance(target, Instances):
        parts = [target.class_ids, target.boxes, target.masks, target.keypoints, target.crowd, dict(target.attributes)]
    return [sample.image, type(target).__name__, parts, dict(sample.maps)]


def _find_target_classes(sample: Sample) -> set[int]:
    target = sample.target
    if isinstance(target, ClassLabel):
        return {target.class_id}
    if isinstance(target, Instances):
        return {int(each) for each in target.class_ids.tolist()}
    if isinstance(target, SemanticMask):
        return {int(each) for each in np.unique(target.mask).tolist()} - {0, target.ignore_index}
    return set()
