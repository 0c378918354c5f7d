"""`CopyPaste`: objects of other pictures, cut out along their masks and pasted at random places."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from synthloader.checks import check_count, check_fraction, check_int, check_range, check_type, reject, suggest_name
from synthloader.class_table import find_contradiction
from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators.canvas import Canvas
from synthloader.generators.cut_out import CutOut
from synthloader.generators.donors import Donors
from synthloader.generators.label_contract import check_kept
from synthloader.keys import make_fingerprint
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import Instances, Target

__all__ = ["CopyPaste"]


class CopyPaste:
    """Paste objects of the pool onto the source, with labels that follow.

    A picture is drawn from the pool, then as many of its objects as are wanted, then the next picture; the source
    itself may be drawn, its objects then appear twice. Each object is scaled, mirrored and pasted with hard edges; its
    centre is uniform over the image, so that the border may cut it.

    What happens to the labels:

    * A pasted instance's mask is exactly its visible pixels. Covered instances lose the covered pixels, crowds too. The
      box of an instance whose mask changed is the tight box of what is left; all others keep box and mask as they were.
    * Nothing stays visible without its label: where the pasted object, or one that it covers, would show less than
      `min_visible` of its own pixels (counted from the real picture, through several pastes), another place is tried,
      `max_tries` in all, and at last the object is not pasted. With `min_visible=0` an instance that is covered
      completely is dropped with its label. Nothing is pasted over the box of an instance whose mask is empty.
    * Where masks overlap in the donor's picture, a smaller object is taken to lie in front, and its pixels are left
      out of the larger one.
    * Keypoints under a paste become hidden (2 to 1); those of the pasted object move with it, and outside the image
      become (0, 0, 0). An object with keypoints is not mirrored: left and right would have to change names.
    * Attributes follow, and two columns are added: `generated` (bool) and `visible` (float32, share of the object's
      own pixels), unless the dataset uses these names for something else.
    * Maps (depth) take the donor's values inside the mask, as they are. A donor that lacks one of the source's maps is
      not used: there would be no true value. Metadata and fields stay the source's.

    Args:
        num_range: Least and largest number of objects, drawn uniformly; at least 1.
        scale_range: Least and largest factor, 0.01 to 10; its logarithm is drawn uniformly.
        flip: Whether half of the objects are mirrored.
        min_visible: Smallest share of an object's own pixels that may stay visible, 0..1.
        classes: Paste only these, names or ids; None for all. Names are looked up in the dataset's table by `bind`.
        max_tries: Places tried for each object.

    Raises:
        ValueError: An argument is out of its bounds.
        TypeError: An argument has another type.

    Source:
        Dwibedi, Misra, Hebert 2017, "Cut, paste and learn"; Ghiasi et al. 2021, "Simple copy-paste is a strong data
        augmentation method for instance segmentation". Ours pastes single objects instead of a random subset of one
        picture, leaves the scale of the source alone, and adds `min_visible`.

    Example:
        >>> CopyPaste(num_range=(1, 2), classes=["fig"]).fingerprint  # doctest: +NORMALIZE_WHITESPACE
        'CopyPaste/1(aim=null, classes=["fig"], flip=true, max_tries=10, min_visible=0.2, num_range=[1, 2],
        scale_range=[0.8, 1.25])'
    """

    keeps: frozenset[type[Target]] = frozenset({Instances})
    uses_pool = True

    def __init__(
        self,
        *,
        num_range: tuple[int, int] = (1, 3),
        scale_range: tuple[float, float] = (0.8, 1.25),
        flip: bool = True,
        min_visible: float = 0.2,
        classes: Sequence[str | int] | None = None,
        max_tries: int = 10,
    ) -> None:
        low, high = check_range("num_range", num_range, minimum=1, whole=True)
        self._num_range = (int(low), int(high))
        low, high = check_range("scale_range", scale_range, minimum=0.01, maximum=10)
        self._scale_range = (float(low), float(high))
        check_type("flip", flip, bool)
        self._flip = flip
        self._min_visible = check_fraction("min_visible", min_visible)
        self._max_tries = check_count("max_tries", max_tries)
        self._classes = _check_classes(classes)
        self._aim: int | None = None
        self._donors: Donors | None = None

    @property
    def fingerprint(self) -> str:
        """Name, version and every parameter; the class that is aimed at; ids instead of names once bound."""
        return make_fingerprint(
            "CopyPaste",
            1,
            num_range=self._num_range,
            scale_range=self._scale_range,
            flip=self._flip,
            min_visible=self._min_visible,
            classes=self._classes,
            max_tries=self._max_tries,
            aim=self._aim,
        )

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> CopyPaste:
        """A copy that takes its donors from this pool.

        Args:
            pool: Samples with `Instances` and masks.
            classes: Class names to ids; None where the dataset has no table.

        Raises:
            LabelContractError: A name in `classes=` is not in the table, or there is none; or the pool has a table that
                gives the same class another number.
        """
        found = find_contradiction(classes or {}, getattr(pool, "classes", None) or {})
        if found is not None:
            subject, source_says, pool_says = found
            raise LabelContractError(
                f"{subject} is {source_says} in the sources and {pool_says} in the pool, from which CopyPaste pastes. "
                f"Give both one table of classes, or renumber one of them."
            )
        bound = copy.copy(self)
        bound._donors = Donors(pool)
        if self._classes is not None:
            bound._classes = tuple(sorted({_find_class(name, classes) for name in self._classes}))
        if self._aim is not None:
            bound._check_aim(self._aim)
        return bound

    def aim(self, class_id: int, /) -> CopyPaste:
        """A copy that pastes objects of this class only.

        Raises:
            ValueError: `classes=` leaves this class out.
        """
        aimed = copy.copy(self)  # what is remembered of the pool is shared
        aimed._aim = check_int("class_id", class_id, minimum=0)
        aimed._check_aim(aimed._aim)
        return aimed

    def check_source(self, source: Sample, /) -> None:
        """Refuse a source without masks.

        Raises:
            LabelContractError: It has none, or another kind of target.
        """
        _check_source(source)

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Paste onto a copy of the source.

        Args:
            source: A sample with `Instances` and masks; one without instances needs no masks.
            rng: Every draw comes from here.

        Returns:
            The new sample; its origin names the donors as `picture#row` and holds the pasted region.

        Raises:
            LabelContractError: The source or a donor has no masks, or another kind of target.
            NothingToGenerate: There is no donor, or no free place.
        """
        target = _check_source(source)
        if self._donors is None:
            reject("pool", "be bound before generate", None, "Pass CopyPaste to GeneratedDataset, or call bind first.")
        low, high = self._num_range
        donors = self._donors.draw(
            int(rng.integers(low, high + 1)),
            rng=rng,
            class_ids=self._wanted,
            maps=source.maps,
            min_visible=self._min_visible,
        )
        if not donors:
            raise NothingToGenerate("no donor")
        canvas = Canvas(source, target, capacity=len(donors), min_visible=self._min_visible)
        for donor in donors:
            self._place(donor, canvas, source.size_hw, rng)
        if not canvas.num_pasted:
            raise NothingToGenerate("no free place")
        return canvas.finish()

    def _place(self, donor: CutOut, canvas: Canvas, size_hw: tuple[int, int], rng: np.random.Generator) -> None:
        low, high = self._scale_range
        factor = math.exp(rng.uniform(math.log(low), math.log(high)))
        flipped = rng.random() < 0.5
        image_height, image_width = size_hw
        if donor.area * factor**2 * self._min_visible > 2 * image_height * image_width:
            return  # too large for any place; the factor 2 leaves room for rounding
        donor = donor.resize(factor)
        if self._flip and flipped and not donor.has_keypoints:
            donor = donor.flip()
        height, width = donor.mask.shape
        for _ in range(self._max_tries):
            centre_y, centre_x = int(rng.integers(image_height)), int(rng.integers(image_width))
            if canvas.paste(donor, left=centre_x - width // 2, top=centre_y - height // 2):
                return

    @property
    def _wanted(self) -> frozenset[int] | None:
        if self._aim is not None:
            return frozenset({self._aim})
        if self._classes is None:
            return None
        return frozenset(class_id for class_id in self._classes if isinstance(class_id, int))

    def _check_aim(self, class_id: int) -> None:
        known = self._classes is not None and all(isinstance(name, int) for name in self._classes)
        if known and self._classes is not None and class_id not in self._classes:
            reject(
                "class_id", f"be among classes={list(self._classes)}", class_id, "Add it to classes=, or leave it out."
            )

    def __repr__(self) -> str:
        """The fingerprint, without its version."""
        return self.fingerprint.replace("CopyPaste/1", "CopyPaste")


def _check_classes(classes: Any) -> tuple[str | int, ...] | None:
    if classes is None:
        return None
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        reject(
            "classes", "be a list of class names or ids", classes, "Write [...] around a single one.", error=TypeError
        )
    if not classes:
        reject("classes", "name at least one class", classes, "Leave it out to paste objects of all classes.")
    checked: set[str | int] = {
        name if isinstance(name, str) else check_int(f"classes[{at}]", name, minimum=0)
        for at, name in enumerate(classes)
    }
    return tuple(sorted(checked, key=lambda name: (isinstance(name, str), name)))


def _find_class(name: str | int, table: Mapping[str, int] | None) -> int:
    if isinstance(name, int):
        return name
    if table is None:
        reject(
            "classes",
            "be ids where the dataset has no table of class names",
            name,
            "Give the numbers that stand in the labels.",
            error=LabelContractError,
        )
    if name not in table:
        reject(
            "classes", "be names of the dataset's classes", name, suggest_name(name, table), error=LabelContractError
        )
    return int(table[name])


def _check_source(source: Sample) -> Instances:
    check_kept("CopyPaste", CopyPaste.keeps, source)
    target = source.target
    if not isinstance(target, Instances):
        raise LabelContractError(
            "CopyPaste keeps Instances true, got a source without a target. Give an image that is known to show no "
            "object a target of no instances, or use a generator that needs no label, such as ColorTransfer."
        )
    if target.masks is None and len(target):
        raise LabelContractError(
            "CopyPaste needs instance masks, got a source with boxes only: what a paste would cover of an object "
            "cannot be told from its box. Add segmentation to the annotations, make masks from the boxes, or use "
            "ColorTransfer, which needs none."
        )
    return target
