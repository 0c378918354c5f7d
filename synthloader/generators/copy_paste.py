"""`CopyPaste`: objects cut out along their masks and pasted at other places."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from synthloader.checks import check_type, reject
from synthloader.class_table import find_contradiction
from synthloader.errors import LabelContractError, NothingToGenerate
from synthloader.generators.labelling.class_choice import ClassChoice
from synthloader.generators.labelling.contract import check_kept
from synthloader.generators.pasting.backgrounds import (
    Backgrounds,
    BackgroundsLike,
    warn_of_classes,
    warn_of_own_images,
)
from synthloader.generators.pasting.bank_donors import BankDonors
from synthloader.generators.pasting.canvas import Canvas
from synthloader.generators.pasting.cut_out import CutOut
from synthloader.generators.pasting.cutout_bank import CutoutBank, CutoutsLike
from synthloader.generators.pasting.donors import Donors
from synthloader.generators.pasting.ground import lay_ground
from synthloader.generators.pasting.labels import label_instances, label_pixels
from synthloader.generators.pasting.options import PasteOptions
from synthloader.generators.pasting.place_object import place_object
from synthloader.generators.pasting.placement import MeasuredPlaces, measure_places
from synthloader.keys import make_fingerprint
from synthloader.protocols import Pool
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["CopyPaste"]


class CopyPaste:
    """Paste objects onto the source, or onto other backgrounds, with labels that follow.

    Where the objects come from: the pool (the dataset itself, or `pool=`), of which a picture is drawn, then as many of
    its objects as are wanted, then the next picture; or `cutouts`. Instances are cut out along their masks. Of a
    dataset with boxes only, upright or rotated, GrabCut finds the masks; boxes in which it finds no good one give no
    donor. Of semantic masks, connected parts are taken.

    Where they go: onto the source, whose own objects stay, or onto `backgrounds`, of which a window of the source's
    size is taken. Each object is scaled, mirrored, turned, perhaps bent, and put at a place; the border may cut it.

    What happens to the labels:

    * A pasted instance's mask is exactly its visible pixels. Covered instances lose the covered pixels, crowds too. The
      box of an instance whose mask changed is the tight box of what is left; all others keep box and mask as they were.
      In a semantic mask the pixels get the pasted class. In classification the class that is pasted is the source's.
    * Nothing stays visible without its label: where the pasted object, or one that it covers, would show less than
      `min_visible` of its own pixels (counted from the real picture, through several pastes), another place is tried,
      `max_tries` in all, and at last the object is not pasted. With `min_visible=0` an instance that is covered
      completely is dropped with its label. Nothing is pasted over the box of an instance whose mask is empty.
    * Of a source with boxes only, upright or rotated, a paste may cover at most 0.5 x (1 - `min_visible`) of each box,
      so that enough stays visible whichever pixels of the box are the object's; rows and columns of a box that are
      wholly covered are cut off from it.
    * Where masks overlap in the donor's picture, a smaller object is taken to lie in front, and its pixels are left
      out of the larger one.
    * Keypoints under a paste become hidden (2 to 1); those of the pasted object move with it, and outside the image
      become (0, 0, 0). An object with keypoints is neither mirrored, since left and right would have to change names,
      nor bent.
    * Attributes follow, and two columns are added: `generated` (bool) and `visible` (float32, share of the object's
      own pixels), unless the dataset uses these names for something else.
    * Maps (depth) take the donor's values inside the mask, as they are. A donor that lacks one of the source's maps is
      not used: there would be no true value. Metadata and fields stay the source's.

    Args:
        num_range: Least and largest number of objects, drawn uniformly; at least 1.
        scale_range: Donors of the pool: least and largest factor, 0.01 to 10, (0.8, 1.25) where not given. Cut-outs:
            longer side as a share of the image's shorter side, (0.1, 0.4) where not given, in classification (0.4,
            0.9). The logarithm is drawn uniformly.
        rotation_range: Least and largest angle in degrees, counter-clockwise. Small, so that what stands upright does.
        flip: Whether half of the objects are mirrored.
        placement: `"free"`: the centre is uniform over the image. `"non_overlapping"`: likewise, but no object is
            covered; after `max_tries` places the object is not pasted. `"measured"`: box area and bottom edge are those
            of a real object of the class in the pool, with some noise, so that objects stand on the ground of the
            scene, smaller where it is farther away.
        blend: `"hard"`, `"gaussian"` (feathered inwards), `"poisson"` (the object takes on the light of the place) or
            `"multiband"`; only the last changes pixels outside of the mask, in a margin that `Origin.edited` includes.
        min_visible: Smallest share of an object's own pixels that may stay visible, 0..1; in classification at least
            0.6 of what is pasted.
        classes: Paste only these, names or ids; None for all. Names are looked up in the dataset's table by `bind`.
        max_tries: Places tried for each object.
        cutouts: Cut-outs to paste instead of the pool's objects: a folder with one sub-folder per class that holds RGBA
            files, or images with masks; or a mapping from class to files (see `cutout_bank`).
        backgrounds: Images to paste onto instead of the source: a folder, a list of files, or samples. Images without
            labels must show no object of the dataset's classes.
        allow_blank_backgrounds: Whether backgrounds of one colour, and such windows of them, are accepted, with a
            warning. A detector trained on cut-outs on blank ground falls from 0.42 to 0.01.
        detector: Looks for pasted classes in backgrounds, which are then warned of: image (H, W, 3) uint8 RGB to the
            class ids or names that it finds. It changes nothing else.
        elastic_range: Least and largest displacement of a smooth random field that bends outline and pixels, as a share
            of the object's shorter side, 0..0.5; for defects and other things without a form of their own.
        bottom_range: The bottom edge as a share of the image's height is drawn uniformly from this interval; None: the
            placement decides.

    Raises:
        ValueError: An argument is out of its bounds, or a background is blank.
        TypeError: An argument has another type.
        FileNotFoundError: A folder or file does not exist.

    Source:
        Dwibedi, Misra, Hebert 2017, "Cut, paste and learn"; Ghiasi et al. 2021, "Simple copy-paste is a strong data
        augmentation method for instance segmentation". Ours pastes single objects instead of a random subset of one
        picture, leaves the scale of the source alone, and adds `min_visible`. GrabCut: Rother, Kolmogorov, Blake 2004.

    Example:
        >>> generator = CopyPaste(num_range=(1, 2), classes=["fig"], blend="gaussian")
        >>> generator
        CopyPaste(num_range=(1, 2), blend='gaussian', classes=['fig'])
    """

    NOT_IN_RECIPES = ("detector",)

    def __init__(
        self,
        *,
        num_range: tuple[int, int] = (1, 3),
        scale_range: tuple[float, float] | None = None,
        rotation_range: tuple[float, float] = (-10.0, 10.0),
        flip: bool = True,
        placement: str = "free",
        blend: str = "hard",
        min_visible: float = 0.2,
        classes: Sequence[str | int] | None = None,
        max_tries: int = 10,
        cutouts: CutoutsLike | CutoutBank | None = None,
        backgrounds: BackgroundsLike | Backgrounds | None = None,
        allow_blank_backgrounds: bool = False,
        detector: Callable[[np.ndarray], Iterable[int | str]] | None = None,
        elastic_range: tuple[float, float] = (0.0, 0.0),
        bottom_range: tuple[float, float] | None = None,
    ) -> None:
        self._given = _list_given(locals())
        self._options = PasteOptions(
            num_range=num_range,
            scale_range=scale_range,
            rotation_range=rotation_range,
            flip=flip,
            placement=placement,
            blend=blend,
            min_visible=min_visible,
            max_tries=max_tries,
            elastic_range=elastic_range,
            bottom_range=bottom_range,
            is_share=cutouts is not None,
        )
        self._choice = ClassChoice.read(classes, purpose="paste")
        self._bank = cutouts if cutouts is None or isinstance(cutouts, CutoutBank) else CutoutBank(cutouts)
        check_type("allow_blank_backgrounds", allow_blank_backgrounds, bool)
        if backgrounds is None and allow_blank_backgrounds:
            reject("allow_blank_backgrounds", "come with backgrounds=", True, "Leave it out: sources are never blank.")
        self._backgrounds = (
            backgrounds
            if backgrounds is None or isinstance(backgrounds, Backgrounds)
            else Backgrounds(backgrounds, allow_blank=allow_blank_backgrounds)
        )
        if detector is not None and (backgrounds is None or not callable(detector)):
            reject("detector", "be callable and come with backgrounds=", detector, "It looks at backgrounds only.")
        self._detector = detector
        kinds: set[type[Target]] = (
            {Instances, SemanticMask} if cutouts is None else {Instances, SemanticMask, ClassLabel}
        )
        self.keeps: frozenset[type[Target]] = frozenset(kinds)
        self._chosen: tuple[int, ...] | None = None
        self._in_one_piece = False
        self._donors: Donors | BankDonors | None = None
        self._places: MeasuredPlaces | None = None

    @property
    def uses_pool(self) -> bool:
        """Whether another pool would give other samples."""
        return self._bank is None or self._options.placement == "measured"

    @property
    def fingerprint(self) -> str:
        """Name, version and every parameter; the class that is aimed at; ids instead of names once bound."""
        return make_fingerprint(
            "CopyPaste",
            3,
            **self._options.list_parameters(),
            classes=self._choice.classes,
            cutouts=None if self._bank is None else [self._bank.stamp, self._bank.class_table],
            backgrounds=None if self._backgrounds is None else self._backgrounds.stamp,
            in_one_piece=self._in_one_piece,
            aim=self._choice.aim,
        )

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> CopyPaste:
        """A copy that takes its donors from this pool.

        Args:
            pool: Samples with `Instances` or a `SemanticMask`; with cut-outs, any.
            classes: Class names to ids; None where the dataset has no table.

        Raises:
            LabelContractError: A class of `classes=` or `cutouts=` is not in the table, or there is none; there is no
                cut-out of a class of `classes=`; the pool has a table that gives the same class another number; or
                places are to be measured and there are no boxes.
        """
        found = find_contradiction(classes or {}, getattr(pool, "classes", None) or {})
        if found is not None and self.uses_pool:
            subject, source_says, pool_says = found
            raise LabelContractError(
                f"{subject} is {source_says} in the sources and {pool_says} in the pool, from which CopyPaste pastes. "
                f"Give both one table of classes, or renumber one of them."
            )
        bound = copy.copy(self)
        self._refuse_foreign_classes(classes, getattr(pool, "classes", None))
        donors = Donors(pool)
        bound._bank = None if self._bank is None else self._bank.bind(classes)
        bound._donors = donors if bound._bank is None else BankDonors(bound._bank)
        bound._choice = self._choice.bind(classes)
        if bound._bank is not None:
            _check_bank(bound._bank, bound._choice.classes, classes)
        if self._options.placement == "measured":
            bound._places = measure_places(len(pool), donors.list_boxes)
            if not len(bound._places):
                raise LabelContractError(
                    "placement='measured' needs a pool of objects with boxes or masks, got one without. Use "
                    "placement='free', or give a pool that says where objects lie (pool=)."
                )
        if self._backgrounds is not None:
            warn_of_own_images(self._backgrounds, pool)
        bound._warn_of_classes(classes)
        # It has said what it has to say, and need not travel to workers.
        bound._detector, bound._given = None, {key: value for key, value in self._given.items() if key != "detector"}
        return bound

    def replace(self, **options: Any) -> CopyPaste:
        """A copy with other options, bound to the same pool where this one is.

        Args:
            **options: Options of the constructor.
        """
        opened: dict[str, Any] = {"cutouts": self._bank}  # What was read once is not read again.
        if "allow_blank_backgrounds" not in options:
            opened["backgrounds"] = self._backgrounds
        merged = {**self._given, **options}
        made = CopyPaste(
            **{**merged, **{name: found for name, found in opened.items() if name in self._given.keys() - options}}
        )
        made._given = merged
        if self._donors is not None and isinstance(self._donors, BankDonors) == (made._bank is not None):
            made._donors, made._places = self._donors, self._places
            if "classes" not in options:
                made._choice = self._choice
        if self._choice.aim is not None:
            made._choice = made._choice.aim_at(self._choice.aim)
        made._chosen, made._in_one_piece = self._chosen, self._in_one_piece
        return made

    def keep_single_polygons(self) -> CopyPaste:
        """A copy that tries elsewhere where a mask would get holes or fall apart, for labels that hold one polygon."""
        made = copy.copy(self)
        made._in_one_piece = True
        return made

    def aim(self, class_id: int, /) -> CopyPaste:
        """A copy that pastes objects of this class only.

        Raises:
            ValueError: `classes=` leaves this class out.
        """
        aimed = copy.copy(self)  # what is remembered of the pool is shared
        aimed._choice = self._choice.aim_at(class_id)
        return aimed

    @property
    def max_donors(self) -> int:
        """Most objects that a sample gets."""
        return self._options.num_range[1]

    def list_donors(self, class_id: int, /) -> Sequence[str]:
        """Names of the objects of a class that can be pasted, as `Origin.drawn` has them (see `Donors.list_names`)."""
        return self._bound_donors.list_names(class_id)

    def use_donors(self, donors: Sequence[int], /) -> CopyPaste:
        """A copy, of one that is aimed at a class, that takes these objects only, each once.

        Args:
            donors: Their positions in `list_donors`.
        """
        chosen = copy.copy(self)
        chosen._chosen = tuple(donors)
        return chosen

    def check_source(self, source: Sample, /) -> None:
        """Refuse a source that nothing can be pasted onto.

        Raises:
            LabelContractError: It has no target, is of classification while there are no cut-outs, or has maps that
                cut-outs lack.
        """
        if isinstance(source.target, ClassLabel) and self._bank is None:
            raise LabelContractError(
                "CopyPaste needs cut-outs for classification, got a source with a ClassLabel: nothing says which "
                "pixels of an image are its object. Give cutouts= (one folder per class), or use a generator that "
                "pastes nothing, such as ColorTransfer."
            )
        check_kept("CopyPaste", self.keeps, source)
        if source.target is None:
            raise LabelContractError(
                "CopyPaste keeps Instances true, got a source without a target. Read images that are known to show no "
                "object with BackgroundsDataset (format: backgrounds), which says so and names the classes, or use a "
                "generator that needs no label, such as ColorTransfer."
            )
        if self._bank is not None and source.maps:
            raise LabelContractError(
                f"CopyPaste with cutouts= needs sources without maps, got {sorted(source.maps)}: there is no true "
                f"value for the pixels of a cut-out. Leave the maps out, or paste objects of the dataset."
            )

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Paste onto a copy of the source, or onto a background of its size.

        Args:
            source: A sample with a target.
            rng: Every draw comes from here.

        Returns:
            The new sample; its origin names the background and the donors (`picture#row`, the file of a cut-out) and
            holds the pasted region.

        Raises:
            LabelContractError: The source, a donor or a background lacks what the labels need.
            NothingToGenerate: There is no donor, or no free place.
        """
        self.check_source(source)
        low, high = self._options.num_range
        count = int(rng.integers(low, high + 1))
        ground, names = source, tuple[str, ...]()
        if self._backgrounds is not None:
            drawn = int(rng.integers(len(self._backgrounds)))
            names = (self._backgrounds.name(drawn),)
            ground = lay_ground(
                self._backgrounds.read(drawn, source.size_hw, rng, min_visible=self._options.min_visible),
                source,
                name=names[0],
            )
        donors = self._draw_donors(count, source.target, ground, rng)
        if not donors:
            raise NothingToGenerate("no donor")
        names_image = isinstance(source.target, ClassLabel)
        canvas = Canvas(
            ground,
            capacity=len(donors),
            min_visible=self._options.find_min_visible(names_image=names_image),
            blend=self._options.blend,
            in_one_piece=self._in_one_piece,
            apart=self._options.placement == "non_overlapping",
        )
        for donor in donors:
            place_object(
                donor,
                canvas,
                self._options,
                places=self._places,
                names_image=names_image,
                in_one_piece=self._in_one_piece,
                rng=rng,
            )
        if not canvas.layers:
            raise NothingToGenerate("no free place")
        return source.edit(
            image=canvas.image,
            target=_label(canvas, ground.target),
            edited=canvas.edited if self._backgrounds is None else None,
            drawn=(*names, *(layer.donor.name for layer in canvas.layers)),
            maps=canvas.maps,
        )

    def _draw_donors(self, count: int, target: Target | None, ground: Sample, rng: np.random.Generator) -> list[CutOut]:
        donors, wanted = self._bound_donors, self._choice.wanted
        if self._chosen is not None and self._choice.aim is not None:
            if isinstance(target, ClassLabel) and target.class_id != self._choice.aim:
                return []  # another source stands in, and the donors are not of its class
            return donors.take(
                self._choice.aim, self._chosen, count, maps=ground.maps, min_visible=self._options.min_visible
            )
        if isinstance(target, ClassLabel):
            own = frozenset({target.class_id})
            wanted = own if wanted is None else own & wanted
        return donors.draw(count, rng=rng, class_ids=wanted, maps=ground.maps, min_visible=self._options.min_visible)

    @property
    def _bound_donors(self) -> Donors | BankDonors:
        if self._donors is None:
            reject("pool", "be bound before generate", None, "Pass CopyPaste to GeneratedDataset, or call bind first.")
        return self._donors

    def _refuse_foreign_classes(self, mine: Mapping[str, int] | None, theirs: Mapping[str, int] | None) -> None:
        """Refuse a pool with classes that the sources do not know, unless these are not pasted."""
        if self._bank is not None or self._choice.classes is not None or not mine or not theirs:
            return
        foreign = sorted(theirs.keys() - mine.keys())
        if foreign:
            raise LabelContractError(
                f"the pool of CopyPaste must have classes that the sources have, got {', '.join(map(repr, foreign))} "
                f"besides. Say which are pasted: classes={sorted(mine.keys() & theirs.keys())}."
            )

    def _warn_of_classes(self, table: Mapping[str, int] | None) -> None:
        """Warn where backgrounds show what is pasted: it would stand there without, or with a second, label."""
        if self._backgrounds is None:
            return
        pasted = self._choice.wanted if self._choice.wanted is not None else self._bound_donors.list_classes()
        names = {class_id: name for name, class_id in (table or {}).items()}
        warn_of_classes(self._backgrounds, pasted, names, self._detector)

    def __repr__(self) -> str:
        """The options that were given."""
        options = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"CopyPaste({options})"


def _check_bank(bank: CutoutBank, chosen: Sequence[str | int] | None, table: Mapping[str, int] | None) -> None:
    """Refuse a choice of classes of which the bank has no cut-out: nothing would ever be pasted of them."""
    names: dict[str | int, str] = {class_id: repr(name) for name, class_id in (table or {}).items()}
    lacking = sorted(set(chosen or ()) - set(bank.class_ids), key=str)
    if lacking:
        told = ", ".join(names.get(each, str(each)) for each in lacking)
        raise LabelContractError(
            f"cutouts must hold the classes that are pasted, got none of {told}. Add some, or leave these out of "
            f"classes=."
        )


def _label(canvas: Canvas, target: Target | None) -> Target | None:
    if isinstance(target, Instances):
        return label_instances(canvas, target)
    return label_pixels(canvas, target) if isinstance(target, SemanticMask) else target


def _list_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from their defaults."""
    known = inspect.signature(CopyPaste).parameters
    return {name: options[name] for name, option in known.items() if options[name] != option.default}
