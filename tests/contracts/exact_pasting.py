"""What pasted pixels tell by themselves, where they are the donor's own: which object they are of, and how it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.contracts.pasting_contract import Pasted


def check_exact(pasted: Pasted, row: int) -> None:
    """Every pixel of a pasted mask is the donor's own, all lie as they lay there, and none is missing."""
    after: Any = pasted.made.target
    sample, at = pasted.find_donor(row)
    donor: Any = sample.target
    mask = after.masks[row]
    found = pasted.locate()[mask[pasted.region]]
    assert (found[:, 0] == int(donor.attributes["row"][at]) // 100).all(), "A pixel inside the mask is not the donor's."
    own = donor.masks[at]
    assert own[found[:, 1], found[:, 2]].all(), "A pasted pixel lies outside the donor's mask."
    in_front = find_objects_in_front(donor, at)
    ways = _find_shifts(np.argwhere(mask), found[:, 1:])
    assert ways, "The donor's pixels must stay together."
    whole = [way for way in ways if _is_whole(own & ~in_front, *way, pasted.region)]
    assert whole, "A part of the donor was not pasted."
    shift, mirrored = whole[0]
    points = donor.keypoints
    has_keypoints = points is not None and bool((points[at][:, 2] > 0).any())
    assert not (mirrored and has_keypoints), "Left and right would have to change their names."
    for name, values in pasted.made.maps.items():
        assert np.array_equal(values[mask], sample.maps[name][found[:, 1], found[:, 2]]), "Maps follow the paste."
    if points is not None and after.keypoints is not None:
        _check_keypoints(pasted, row, points[at].copy(), shift, has_keypoints=has_keypoints)


def find_objects_in_front(donor: Any, at: int) -> np.ndarray:
    """(H, W) bool: the pixels of smaller objects inside the mask of one: they lie in front of it."""
    own = donor.masks[at]
    in_front = np.zeros_like(own)
    for other in range(len(donor)):
        if other != at and donor.masks[other].sum() < own.sum():
            in_front |= donor.masks[other] & own
    return in_front


def find_visible_parts(pasted: Pasted, row: int) -> list[np.ndarray]:
    """(H, W) bool of all pixels that lie together as the pixels of an object's picture do; one for each way to lie."""
    sample, at = pasted.find_donor(row)
    donor: Any = sample.target
    if donor.masks is not None:
        own = donor.masks[at] & ~find_objects_in_front(donor, at)
    else:
        own = np.zeros(sample.size_hw, bool)
        x1, y1, x2, y2 = np.rint(donor.boxes[at]).astype(int).tolist()
        own[y1:y2, x1:x2] = True
    places, found = np.argwhere(pasted.region), pasted.locate()
    is_own = found[:, 0] == int(donor.attributes["row"][at]) // 100
    places, found = places[is_own], found[is_own, 1:]
    inside = own[found[:, 0], found[:, 1]]
    places, found = places[inside], found[inside]
    parts = []
    for sign in (1, -1):
        shifts = places - found * [1, sign]
        for shift in np.unique(shifts, axis=0):
            part = np.zeros_like(pasted.region)
            part[tuple(places[(shifts == shift).all(axis=1)].T)] = True
            parts.append(part)
    assert parts, "No pixel of the object is in the picture."
    return parts


def _find_shifts(places: np.ndarray, found: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """By how much rows and columns were moved, and whether mirrored; of what is one pixel wide, both may be."""
    ways = []
    for mirrored in (False, True):
        shifts = np.unique(places - found * [1, -1 if mirrored else 1], axis=0)
        if len(shifts) == 1:
            ways.append((shifts[0], mirrored))
    return ways


def _is_whole(own: np.ndarray, shift: np.ndarray, mirrored: bool, region: np.ndarray) -> bool:
    """Whether all pixels of an object were pasted, as far as they lie in the image."""
    rest = np.argwhere(own) * [1, -1 if mirrored else 1] + shift
    inside = ((rest >= 0) & (rest < region.shape)).all(axis=1)
    return bool(region[tuple(rest[inside].T)].all())


def _check_keypoints(pasted: Pasted, row: int, points: np.ndarray, shift: np.ndarray, *, has_keypoints: bool) -> None:
    """The donor's keypoints moved with its pixels; hidden where no pixel of it is seen, gone outside the image."""
    after: Any = pasted.made.target
    if not has_keypoints:
        assert not after.keypoints[row].any(), "Points appeared that nobody has labelled."
        return
    points[:, :2] += shift[::-1].astype(np.float32)
    height, width = pasted.region.shape
    for point in points:
        if point[2] == 0 or not (0 <= point[0] < width and 0 <= point[1] < height):
            point[:] = 0
    found = after.keypoints[row]
    np.testing.assert_allclose(found[:, :2], points[:, :2], atol=1e-3, rtol=0, err_msg="Keypoints follow the pixels.")
    points[:, :2] = found[:, :2]  # on which side of a pixel's border they lie may depend on the last bit
    hide(points, ~after.masks[row])
    assert np.array_equal(found[:, 2], points[:, 2]), "Keypoints are visible where a pixel of their object is."


def hide(points: np.ndarray, cover: np.ndarray) -> None:
    """Make visible keypoints (K, 3) hidden, in place, where a cover (H, W) lies on them."""
    for point in points:
        x, y = int(np.floor(point[0])), int(np.floor(point[1]))
        if point[2] == 2 and 0 <= y < cover.shape[0] and 0 <= x < cover.shape[1] and cover[y, x]:
            point[2] = 1
