"""What holds where objects are pasted: pixels and labels agree, object by object.

Pictures are painted so that every pixel names its place (`tests/generators/pictures.py`), and an attribute `row` names
every instance once. So which pixels were pasted, and of which object, is read from the picture and not from the label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from synthloader.polygons import is_one_polygon
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.contracts.exact_pasting import check_exact, find_visible_parts, hide
from tests.generators.pictures import NEAR, ListPool, locate, locate_far, tight_box

if TYPE_CHECKING:
    from tests.contracts.generator_contract import Case


@dataclass(frozen=True, eq=False)
class Pasted:
    """What was made, and of what.

    Args:
        case: The generator under test.
        pool: Where donors come from.
        ground: What was pasted onto, with its labels.
        made: What was made.
        region: (H, W) bool, the pixels of all pasted objects.
    """

    case: Case
    pool: ListPool
    ground: Sample
    made: Sample
    region: np.ndarray

    @property
    def far(self) -> bool:
        """Whether the pictures are painted with `paint_far`."""
        return max(max(sample.size_hw) for sample in (self.ground, *self.pool.samples)) > NEAR

    def find_donor(self, row: int) -> tuple[Sample, int]:
        """Picture and row of a pasted instance."""
        target: Any = self.made.target
        for sample in self.pool.samples:
            own = sample.target
            if isinstance(own, Instances):
                found = np.flatnonzero(own.attributes["row"] == target.attributes["row"][row])
                if len(found):
                    return sample, int(found[0])
        raise AssertionError("A pasted instance that is of no picture of the pool.")

    def find_name(self, row: int) -> str:
        """What the origin calls the donor of a pasted instance."""
        sample, at = self.find_donor(row)
        return f"{next(name for name, each in self._named if each is sample)}#{at}"

    @property
    def _named(self) -> Iterator[tuple[str, Sample]]:
        return zip(self.pool.names, self.pool.samples, strict=True)

    def locate(self) -> np.ndarray:
        """(M, 3) int: picture, row and column in it, of all pixels of the region in row order."""
        return (locate_far if self.far else locate)(self.made.image[self.region])


def find_pasted(case: Case, source: Sample, made: Sample) -> bool:
    """Whether a generated sample says that objects were pasted into it."""
    target = made.target
    if case.backgrounds:
        return True
    if isinstance(target, Instances):
        generated = target.attributes.get("generated")
        return generated is not None and bool(generated.any())
    if isinstance(target, SemanticMask) and isinstance(source.target, SemanticMask):
        return not np.array_equal(target.mask, source.target.mask) or _has_edited(made)
    return _has_edited(made)


def _has_edited(made: Sample) -> bool:
    return made.origin is not None and made.origin.edited is not None


def check_pasted(case: Case, pool: ListPool, source: Sample, made: Sample) -> None:
    """Pixels and labels agree; onto backgrounds, as far as these have the source's size and are not scaled."""
    ground = _find_ground(case, source, made)
    if ground is None:
        return
    target: Any = made.target
    assert made.origin is not None
    edited = made.origin.edited
    if isinstance(target, Instances) and target.masks is not None:
        masks = target.masks[target.attributes["generated"]]
        region = masks.any(axis=0)
        assert np.array_equal(region, masks.sum(axis=0) == 1), "Pasted masks must not overlap."
    elif case.covers_all or case.margin:
        check_unknown_region(case, ground, made)
        return
    else:
        region = (made.image != ground.image).any(axis=2) if edited is None else edited
    pasted = Pasted(case, pool, ground, made, region)
    check_region(pasted)
    if isinstance(target, Instances):
        check_drawn(pasted, source)
    match target:
        case Instances() if target.masks is not None:
            check_kept_masks(pasted)
            check_new_instances(pasted)
        case Instances():
            check_kept_boxes(pasted)
            check_new_boxes(pasted)
        case SemanticMask():
            check_classes(pasted)
        case ClassLabel():
            check_class(pasted)


def _find_ground(case: Case, source: Sample, made: Sample) -> Sample | None:
    """What was pasted onto: the source, or a background with labels of the source's form."""
    if not case.backgrounds:
        return source
    assert made.origin is not None
    known = 0 if source.origin is None else len(source.origin.drawn)
    at = int(made.origin.drawn[known].removeprefix("backgrounds[").removesuffix("]"))
    ground = case.backgrounds[at]
    if ground.size_hw != source.size_hw:
        return None
    target: Any = source.target
    if isinstance(target, Instances) and not isinstance(ground.target, Instances):
        target = target.select(np.zeros(0, np.int64))
    elif isinstance(target, SemanticMask) and not isinstance(ground.target, SemanticMask):
        target = SemanticMask(np.zeros(source.size_hw, np.int32), target.ignore_index)
    elif isinstance(target, Instances | SemanticMask):
        target = ground.target
    return source.replace(image=ground.image, target=target)


def _check_points(after: Any, row: int, mask: np.ndarray) -> None:
    """A visible keypoint of what was pasted is seen: it lies on a pixel (H, W) that may be the object's."""
    if after.keypoints is None:
        return
    points = after.keypoints[row].copy()
    hide(points, ~mask)
    assert np.array_equal(points, after.keypoints[row]), "A keypoint is visible where no pixel of its object is."


def check_unknown_region(case: Case, ground: Sample, made: Sample) -> None:
    """What can be said where neither masks nor the picture tell which pixels were pasted."""
    target: Any = made.target
    assert made.origin is not None
    edited = made.origin.edited
    around = np.zeros(made.size_hw, bool)
    if isinstance(target, Instances):
        for x1, y1, x2, y2 in target.boxes[target.attributes["generated"]].astype(int).tolist():
            around[y1:y2, x1:x2] = True
    elif isinstance(target, SemanticMask) and isinstance(ground.target, SemanticMask):
        changed = target.mask != ground.target.mask
        assert not set(np.unique(target.mask[changed]).tolist()) & {0, target.ignore_index}, "A pixel lost its class."
        assert edited is None or not (changed & ~edited).any(), "The label changed where nothing was pasted."
    if case.covers_all:
        assert edited is None
        return
    assert edited is not None, "The edited region must be told."
    assert np.array_equal(made.image[~edited], ground.image[~edited]), "A pixel changed outside the edited region."
    if isinstance(target, Instances):
        assert not (edited & ~grow(around, case.margin)).any(), "What was edited is not near any pasted object."


def check_region(pasted: Pasted) -> None:
    """What changed is what was pasted, and the margin of the blend that is declared; nothing else."""
    case, made, ground, region = pasted.case, pasted.made, pasted.ground, pasted.region
    for name, values in ground.maps.items():
        assert made.maps[name].dtype == values.dtype
        assert np.array_equal(made.maps[name][~region], values[~region]), "A map changed outside the pasted masks."
    if case.covers_all:
        return
    assert made.origin is not None
    edited = made.origin.edited
    changed = (made.image != ground.image).any(axis=2)
    near = grow(region, case.margin)
    assert not (changed & ~near).any(), "A pixel outside the pasted masks changed."
    if case.backgrounds:
        assert edited is None, "All of another ground is new."
    else:
        assert edited is not None, "The edited region must be told."
        assert not (changed & ~edited).any(), "A pixel changed outside the edited region."
        assert edited[region].all(), "The edited region must hold the pasted masks."
        assert not (edited & ~near).any(), "The edited region is larger than what was pasted and the declared margin."
    if case.exact:
        assert np.array_equal(changed, region), "A pasted pixel is not in the picture."


def grow(region: np.ndarray, margin: int) -> np.ndarray:
    """(H, W) bool: all pixels within so many rows and columns of a region."""
    if not margin:
        return region
    square = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    return cv2.dilate(region.view(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=(0,)).astype(bool)


def check_kept_masks(pasted: Pasted) -> None:
    """The ground's own instances lose exactly the covered pixels, and stay the same otherwise."""
    before: Any = pasted.ground.target
    after: Any = pasted.made.target
    case, region = pasted.case, pasted.region
    for row, place in _match_kept(before, after).items():
        left = before.masks[row] & ~region
        share = _find_share(before, row)
        if place is None:
            assert case.min_visible == 0, "A visible instance lost its label."
            assert before.masks[row].any(), "An instance without mask pixels cannot have been covered."
            assert not left.any(), "A visible instance lost its label."
            continue
        assert np.array_equal(after.masks[place], left), "An instance must lose exactly the covered pixels."
        area, left_area = int(before.masks[row].sum()), int(left.sum())
        if left_area < area:
            assert not case.apart, "An object was covered."
            assert left_area, "No instance without visible pixels."
            assert left_area >= case.min_visible * area / share - 1e-4, "Too little of it is visible."
            assert not case.single or is_one_polygon(left), "One polygon cannot say what is left of it."
            assert after.boxes[place].tolist() == tight_box(left), "Boxes follow the visible mask."
            assert abs(after.attributes["visible"][place] - left_area * share / area) < 1e-5
        else:
            assert np.array_equal(after.boxes[place], before.boxes[row]), "An instance that was not covered stays."
            assert abs(after.attributes["visible"][place] - share) < 1e-6
        _check_columns(pasted, row, place)


def check_kept_boxes(pasted: Pasted) -> None:
    """Of boxes without masks, only rows and columns that are wholly covered are lost, and never too much."""
    before: Any = pasted.ground.target
    after: Any = pasted.made.target
    least = 0.5 * (1 + pasted.case.min_visible)
    for row, place in _match_kept(before, after).items():
        assert place is not None, "A visible instance lost its label."
        x1, y1, x2, y2 = _round_out(before.boxes[row], pasted.region.shape)
        left = ~pasted.region[y1:y2, x1:x2]
        box = before.boxes[row].tolist()
        if not left.all():
            assert not pasted.case.apart, "An object was covered."
            if pasted.case.twice:
                continue
            assert left.sum() >= least * left.size - 1e-4, "Too little of it may be visible."
            tight = tight_box(left)
            lost = [tight[0], tight[1], left.shape[1] - tight[2], left.shape[0] - tight[3]]
            edges = [x1 + tight[0], y1 + tight[1], x1 + tight[2], y1 + tight[3]]
            box = [edge if gone else old for edge, gone, old in zip(edges, lost, box, strict=True)]
        assert after.boxes[place].tolist() == box, "Boxes lose what is wholly covered, and nothing else."
        _check_columns(pasted, row, place)


def _match_kept(before: Any, after: Any) -> dict[int, int | None]:
    """Where each row of the ground is now."""
    kept = np.flatnonzero(~after.attributes["generated"])
    places = {int(row): int(place) for place, row in zip(kept, after.attributes["row"][kept], strict=True)}
    assert len(places) == len(kept), "An instance is there twice."
    known = [int(row) for row in before.attributes["row"]] if len(before) else []
    assert places.keys() <= set(known), "An instance appeared that was never pasted."
    return {row: places.get(name) for row, name in enumerate(known)}


def _check_columns(pasted: Pasted, row: int, place: int) -> None:
    before: Any = pasted.ground.target
    after: Any = pasted.made.target
    assert after.class_ids[place] == before.class_ids[row]
    assert after.crowd[place] == before.crowd[row]
    for name, column in before.attributes.items():
        is_same = np.array_equal(after.attributes[name][place], column[row])
        assert name == "visible" or is_same, "Attributes follow their instance."
    if before.keypoints is None:
        return
    expected = before.keypoints[row].copy()
    hide(expected, pasted.region)
    assert np.array_equal(after.keypoints[place], expected), "Covered keypoints become hidden, the others stay."


def _find_share(target: Any, row: int) -> float:
    stated = target.attributes.get("visible")
    return 1.0 if stated is None else float(stated[row])


def _round_out(box: np.ndarray, size_hw: tuple[int, ...]) -> tuple[int, int, int, int]:
    x1, y1 = np.floor(box[:2]).astype(int).tolist()
    x2, y2 = np.ceil(box[2:]).astype(int).tolist()
    return x1, y1, min(x2, size_hw[1]), min(y2, size_hw[0])


def _list_new(pasted: Pasted) -> list[int]:
    after: Any = pasted.made.target
    rows: list[int] = np.flatnonzero(after.attributes["generated"]).tolist()
    return rows


def check_drawn(pasted: Pasted, source: Sample) -> None:
    """Every object that the origin names has one label, and no other was added."""
    origin = pasted.made.origin
    assert origin is not None
    known = () if source.origin is None else source.origin.drawn
    drawn = [name for name in origin.drawn[len(known) :] if "#" in name or name in pasted.case.cutouts]
    count = len(_list_new(pasted))
    assert count <= len(drawn), "An object has a label that nobody has pasted."
    assert count == len(drawn) or pasted.case.min_visible == 0, "A pasted object has no label."
    if not pasted.case.cutouts:
        found = Counter(pasted.find_name(row) for row in _list_new(pasted))
        assert not found - Counter(drawn), "The origin must name every donor."


def _check_label(pasted: Pasted, row: int) -> None:
    """What is said of a pasted instance, whatever its pixels are."""
    after: Any = pasted.made.target
    assert not after.crowd[row], "Nothing that was pasted is a crowd."
    assert after.attributes["visible"][row] >= pasted.case.min_visible - 1e-4, "Too little of it is visible."
    assert pasted.made.origin is not None
    drawn = pasted.made.origin.drawn
    if pasted.case.cutouts:
        classes = {pasted.case.cutouts[name] for name in drawn if name in pasted.case.cutouts}
        assert int(after.class_ids[row]) in classes, "A pasted instance must have its cut-out's class."
        return
    sample, at = pasted.find_donor(row)
    donor: Any = sample.target
    assert after.class_ids[row] == donor.class_ids[at], "A pasted instance must have its donor's class."
    assert not donor.crowd[at], "A crowd is no donor."
    for name in set(donor.attributes) - {"visible", "generated"}:
        is_same = np.array_equal(after.attributes[name][row], donor.attributes[name][at])
        assert is_same, "Attributes come with their instance."


def check_new_instances(pasted: Pasted) -> None:
    """Each pasted instance with a mask."""
    after: Any = pasted.made.target
    for row in _list_new(pasted):
        _check_label(pasted, row)
        assert after.masks[row].any(), "No instance without visible pixels."
        assert after.boxes[row].tolist() == tight_box(after.masks[row]), "The box must be the tight box of the mask."
        _check_points(after, row, after.masks[row])
        assert not pasted.case.single or is_one_polygon(after.masks[row]), "One polygon cannot say what it is."
        if pasted.case.exact:
            check_exact(pasted, row)


def check_new_boxes(pasted: Pasted) -> None:
    """Each pasted instance of a data set with boxes only: the box is that of its pixels, which the picture tells."""
    after: Any = pasted.made.target
    inside = np.zeros_like(pasted.region)
    for row in _list_new(pasted):
        _check_label(pasted, row)
        x1, y1, x2, y2 = after.boxes[row].astype(int).tolist()
        assert after.boxes[row].tolist() == [x1, y1, x2, y2], "The box of pixels has whole numbers."
        inside[y1:y2, x1:x2] = True
        shown = np.zeros_like(pasted.region)
        shown[y1:y2, x1:x2] = pasted.region[y1:y2, x1:x2]
        _check_points(after, row, shown)
        window = pasted.region[y1:y2, x1:x2]
        assert window.any(), "No instance without visible pixels."
        if pasted.case.twice:
            continue
        assert tight_box(window) == [0, 0, x2 - x1, y2 - y1], "The box must be the tight box of what was pasted."
        if pasted.case.exact:
            parts = [part for part in find_visible_parts(pasted, row) if after.boxes[row].tolist() == tight_box(part)]
            assert parts, "The box must be the tight box of the object's pixels."
            _check_points(after, row, np.any(parts, axis=0))
    assert inside[pasted.region].all(), "A pasted pixel lies in no box."


def check_classes(pasted: Pasted) -> None:
    """A semantic mask has the pasted class where something was pasted, and stays the same elsewhere."""
    before: Any = pasted.ground.target
    after: Any = pasted.made.target
    region = pasted.region
    assert after.ignore_index == before.ignore_index
    assert np.array_equal(after.mask[~region], before.mask[~region]), "The label changed where nothing was pasted."
    found = set(np.unique(after.mask[region]).tolist())
    assert not found & {0, after.ignore_index}, "A pasted pixel has no class."
    if pasted.case.cutouts:
        assert found <= set(pasted.case.cutouts.values())
        return
    known: set[int] = set()
    for sample in pasted.pool.samples:
        target = sample.target
        if isinstance(target, SemanticMask):
            known |= set(np.unique(target.mask).tolist())
        elif isinstance(target, Instances):
            known |= set(target.class_ids.tolist())
    assert found <= known, "Every class must have been in the donors."
    if pasted.case.exact:
        places = pasted.locate()
        drawn: list[Any] = [pasted.pool.samples[number].target for number in places[:, 0].tolist()]
        classes = [target.mask[row, column] for target, (_, row, column) in zip(drawn, places, strict=True)]
        assert after.mask[region].tolist() == classes, "Every pasted pixel has the class that it had in its picture."


def check_class(pasted: Pasted) -> None:
    """In classification what is pasted is of the class that the picture has."""
    before: Any = pasted.ground.target
    after: Any = pasted.made.target
    assert after.class_id == before.class_id
    assert pasted.made.origin is not None
    drawn = [pasted.case.cutouts[name] for name in pasted.made.origin.drawn if name in pasted.case.cutouts]
    assert drawn, "The origin must name every donor."
    assert set(drawn) == {after.class_id}, "An object of another class was pasted."
