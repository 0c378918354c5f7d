"""`Backgrounds`: the pictures that objects are pasted onto instead of the source."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from synthloader.checks import reject
from synthloader.errors import NothingToGenerate
from synthloader.generators.pasting.blankness import (
    BLANK,
    BlankPolicy,
    is_blank,
    is_blank_file,
    list_suspects,
    spread,
)
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
    "warn_of_classes",
    "warn_of_own_images",
]

_VERSION = 2
"""Raised whenever the same pictures and options give other backgrounds."""
MAX_DETECTED = 32
"""Backgrounds that a detector looks at."""


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
    outliers aside. So does the window that is cut out of it. On construction up to 64 pictures are looked at, evenly
    spread, and the 8 smallest files; one that is found to be blank only when it is read is warned of once, and passed
    over.

    Args:
        backgrounds: A folder of images, a list of image files, samples (labelled or not), or a pool of samples.
        allow_blank: Warn of blank backgrounds once instead of refusing them.

    Raises:
        FileNotFoundError: A file or the folder does not exist.
        ValueError: There are no images, or one of those that are looked at is blank.
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
        self._policy = BlankPolicy("backgrounds", allow=allow_blank, fate="is passed over")
        self._verdicts: dict[int, bool] = {}
        for index in list_suspects(len(self._source), self.list_files()):
            self._verdicts[index] = self._source.is_blank(index)
            if self._verdicts[index]:
                self._policy.refuse(self.name(index))

    @property
    def stamp(self) -> str:
        """Hash of all names and contents, and of what they determine: whether a window may be blank."""
        return hash_content(["Backgrounds", _VERSION, self._source.stamp, self._policy.allow]).hex()

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
            ValueError: Its file is cut short or no image.
            NothingToGenerate: It is blank, or each window that was tried is blank or cuts a labelled object to a scrap.
        """
        sample = self._source.read(index)
        self._pass_over_blank(index, sample.image)
        made = fit_to(sample, size_hw, rng, min_visible=min_visible, allow_blank=self._policy.allow)
        if self._policy.allow and not self._policy.has_warned and is_blank(made.image):
            self._policy.warn(self.name(index))
        return made

    def find_classes(self, index: int, /) -> set[int]:
        """Classes of the objects that are labelled on a background; empty where nothing is."""
        return self._source.find_classes(index)

    def list_files(self) -> list[Path]:
        """The image files, where backgrounds are files; unlabelled ones."""
        return self._source.list_files() if isinstance(self._source, _Files) else []

    def read_image(self, index: int, /) -> np.ndarray:
        """(H, W, 3) uint8, the background as it is."""
        return self._source.read(index).image

    def _pass_over_blank(self, index: int, image: np.ndarray) -> None:
        if self._policy.allow:
            return
        if index not in self._verdicts:
            self._verdicts[index] = is_blank(image)
        if self._verdicts[index]:
            self._policy.warn(self.name(index))
            raise NothingToGenerate(BLANK)

    def __repr__(self) -> str:
        """How many there are."""
        return f"Backgrounds(<{len(self)} pictures>)"


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
    looked_at = spread(len(backgrounds), MAX_DETECTED)
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

    def is_blank(self, index: int, /) -> bool: ...

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

    def is_blank(self, index: int, /) -> bool:
        return is_blank_file(self._references.file(index), lambda: self._references.read(index))

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

    def is_blank(self, index: int, /) -> bool:
        return is_blank(self.read(index).image)

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
