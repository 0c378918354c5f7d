"""What every generator promises, as checks that take any generator; `test_generators.py` runs them on all of them.

A check raises `AssertionError`. Pasting generators are followed pixel by pixel: sources and donors carry an attribute
`row` that names every instance once, and the pictures of `tests/generators/pictures.py` name every pixel.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthloader.errors import NothingToGenerate
from synthloader.keys import hash_content
from synthloader.protocols import Bindable, Generator
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.generators.pictures import ListPool, locate, tight_box
from tests.guards import GlobalRandomState


@dataclass(frozen=True)
class Case:
    """A generator under test.

    Args:
        make: Makes it, with the parameters under test.
        changes: Makes it with other parameters: each fingerprint must differ from all others.
        pastes: Whether it pastes objects; None where it may or may not.
        exact: Whether pasted pixels are the donor's own (no scaling, no change of colours afterwards).
        covers_all: Whether it changes pixels outside of what it pastes.
        min_visible: The bound that it was made with.
    """

    make: Callable[[], Any]
    changes: Sequence[Callable[[], Any]] = field(default_factory=tuple)
    pastes: bool | None = False
    exact: bool = False
    covers_all: bool = False
    min_visible: float = 0.2


def bind(generator: Any, pool: ListPool) -> Any:
    """Bind what wants a pool."""
    return generator.bind(pool, classes=None) if isinstance(generator, Bindable) else generator


def generate(generator: Any, source: Sample, seed: int) -> Sample | None:
    """Generate with a fresh rng; None where there is nothing to generate."""
    try:
        made = generator.generate(source, rng=make_rng(seed, "source", 0, 0))
    except NothingToGenerate:
        return None
    assert isinstance(made, Sample)
    return made


def describe(sample: Sample | None) -> bytes:
    """Hash every bit of a sample."""
    if sample is None:
        return b""
    target: Any = sample.target
    content: list[Any]
    match target:
        case Instances():
            content = [target.class_ids, target.boxes, target.masks, target.keypoints, target.crowd]
            content.append(dict(target.attributes))
        case SemanticMask():
            content = [target.mask, target.ignore_index]
        case ClassLabel():
            content = [target.class_id]
        case _:
            content = [None]
    origin = sample.origin
    drawn = [] if origin is None else [origin.source, list(origin.drawn), origin.edited, origin.prompt, origin.model]
    return hash_content(
        [sample.image, type(target).__name__, content, drawn, dict(sample.metadata), dict(sample.maps), sample.fields]
    )


def check_generator(case: Case) -> None:
    """Promises that need no sample: the protocol, the fingerprint, pickling."""
    generator = case.make()
    assert isinstance(generator, Generator)
    assert generator.keeps
    assert generator.keeps <= {ClassLabel, Instances, SemanticMask}
    assert case.make().fingerprint == generator.fingerprint, "Equal parameters must give equal fingerprints."
    assert pickle.loads(pickle.dumps(generator)).fingerprint == generator.fingerprint
    assert type(generator).__name__ in generator.fingerprint
    fingerprints = [generator.fingerprint, *(change().fingerprint for change in case.changes)]
    assert len(set(fingerprints)) == len(fingerprints), f"Other parameters, same fingerprint: {fingerprints}"
    assert repr(generator)


def check_sample(case: Case, pool: ListPool, source: Sample, seed: int) -> Sample | None:
    """All promises about one sample. Returns what was made."""
    generator = bind(case.make(), pool)
    before = [describe(source), *map(describe, pool.samples)]
    random_states = GlobalRandomState.read()
    made = generate(generator, source, seed)
    assert not random_states.differences(GlobalRandomState.read()), "The global random state was changed."
    assert [describe(source), *map(describe, pool.samples)] == before, "The source or a donor was modified."

    bits = describe(made)
    assert describe(generate(generator, source, seed)) == bits, "The same rng must give the same bits."
    copied = pickle.loads(pickle.dumps(generator))
    assert describe(generate(copied, source, seed)) == bits, "A pickled generator must give the same bits."
    fresh = bind(case.make(), pool)
    assert describe(generate(fresh, source, seed)) == bits, "What was generated before must not matter."
    if made is not None:
        check_made(case, pool, source, made)
    return made


def check_made(case: Case, pool: ListPool, source: Sample, made: Sample) -> None:
    """Promises about what was made from a source."""
    assert made is not source
    assert made.image.shape == source.image.shape, "The image size must not change."
    assert type(made.target) is type(source.target)
    assert dict(made.metadata) == dict(source.metadata)
    assert made.fields == source.fields
    assert made.maps.keys() == source.maps.keys()
    assert made.origin is not None
    assert all(name.partition("#")[0] in pool.names or name.startswith("references") for name in made.origin.drawn)
    if isinstance(made.target, Instances) and isinstance(source.target, Instances):
        pasted = _find_pasted(source.target, made.target)
        assert case.pastes is not True or pasted.any(), "Nothing was pasted, and nothing was said."
        assert case.pastes is not False or not pasted.any(), "An instance appeared."
        if pasted.any():
            check_pasted(case, pool, source, made, pasted)
            return
    check_appearance(source, made)


def check_appearance(source: Sample, made: Sample) -> None:
    """Nothing moved: target, maps and edited region are as before."""
    assert describe(source.replace(image=made.image)) == describe(made.replace(origin=source.origin)), (
        "Only the image may change."
    )
    assert made.origin is not None
    assert made.origin.edited is None


def check_pasted(case: Case, pool: ListPool, source: Sample, made: Sample, pasted: np.ndarray) -> None:
    """Pixels and labels agree, instance by instance."""
    before: Any = source.target
    after: Any = made.target
    union = after.masks[pasted].any(axis=0)
    assert np.array_equal(union, after.masks[pasted].sum(axis=0) == 1), "Pasted masks must not overlap."
    if not case.covers_all:
        assert made.origin is not None
        assert made.origin.edited is not None
        assert np.array_equal(made.origin.edited, union), "The edited region must be the union of the pasted masks."
        assert np.array_equal(made.image[~union], source.image[~union]), "A pixel outside the pasted masks changed."
    for name, values in source.maps.items():
        assert made.maps[name].dtype == values.dtype
        assert np.array_equal(made.maps[name][~union], values[~union]), "A map changed outside the pasted masks."

    _check_kept(case, before, after, union)
    donors: dict[int, tuple[Any, int]] = {
        int(row): (sample.target, at)
        for sample in pool.samples
        if isinstance(sample.target, Instances)
        for at, row in enumerate(sample.target.attributes["row"])
    }
    for row in np.flatnonzero(pasted):
        donor, at = donors[int(after.attributes["row"][row])]
        assert after.class_ids[row] == donor.class_ids[at], "A pasted instance must have its donor's class."
        assert not donor.crowd[at], "A crowd is no donor."
        assert not after.crowd[row]
        assert after.masks[row].any(), "No instance without visible pixels."
        assert after.boxes[row].tolist() == tight_box(after.masks[row]), "The box must be the tight box of the mask."
        assert after.attributes["visible"][row] >= case.min_visible - 1e-4, "Too little of it is visible."
        if case.exact:
            _check_exact(pool, made, after, donor, at, int(row), union)


def _find_pasted(before: Instances, after: Instances) -> np.ndarray:
    generated = after.attributes.get("generated")
    return np.zeros(len(after), bool) if generated is None else generated


def _check_kept(case: Case, before: Any, after: Any, union: np.ndarray) -> None:
    """The source's own instances lose exactly the covered pixels, and stay the same otherwise."""
    kept = np.flatnonzero(~after.attributes["generated"])
    places = {int(row): int(place) for place, row in zip(kept, after.attributes["row"][kept], strict=True)}
    assert len(places) == len(kept), "An instance is there twice."
    known = {int(row) for row in before.attributes["row"]} if len(before) else set()
    assert places.keys() <= known, "An instance appeared that was never pasted."
    for row in range(len(before)):
        left = before.masks[row] & ~union
        place = places.get(int(before.attributes["row"][row]))
        if place is None:
            assert case.min_visible == 0
            assert before.masks[row].any(), "An instance without mask pixels cannot have been covered."
            assert not left.any(), "A visible instance lost its label."
            continue
        assert np.array_equal(after.masks[place], left), "An instance must lose exactly the covered pixels."
        changed = left.sum() < before.masks[row].sum()
        if changed:
            assert left.any(), "No instance without visible pixels."
            assert left.sum() >= case.min_visible * before.masks[row].sum() - 1e-6, "Too little of it is visible."
        box = tight_box(left) if changed else before.boxes[row].tolist()
        assert after.boxes[place].tolist() == box, "Boxes follow the visible mask, or stay as they were."
        assert after.class_ids[place] == before.class_ids[row]
        assert after.crowd[place] == before.crowd[row]
        for name, column in before.attributes.items():
            assert after.attributes[name][place] == column[row], "Attributes follow their instance."
        if before.keypoints is not None and after.keypoints is not None:
            _check_keypoints(before.keypoints[row], after.keypoints[place], union)


def _check_keypoints(before: np.ndarray, after: np.ndarray, union: np.ndarray) -> None:
    expected = before.copy()
    for point in expected:
        x, y = int(point[0]), int(point[1])
        if point[2] == 2 and y < union.shape[0] and x < union.shape[1] and union[y, x]:
            point[2] = 1
    assert np.array_equal(after, expected), "Covered keypoints become hidden, the others stay."


def _check_exact(pool: ListPool, made: Sample, after: Any, donor: Any, at: int, row: int, union: np.ndarray) -> None:
    """Every pasted pixel is one of the donor's, all at one distance, and none is missing."""
    places = np.argwhere(after.masks[row])
    found = locate(made.image[after.masks[row]])
    number = int(after.attributes["row"][row]) // 100
    assert (found[:, 0] == number).all(), "A pixel inside the mask is not the donor's."
    shifts = np.unique(places - found[:, 1:], axis=0)
    assert len(shifts) == 1, "The donor's pixels must stay together."
    own = donor.masks[at]
    assert own[found[:, 1], found[:, 2]].all(), "A pasted pixel lies outside the donor's mask."
    # The rest of the donor lies outside the image, under later pastes, or behind smaller objects of its own picture.
    in_front = np.zeros_like(own)
    for other in range(len(donor)):
        if other != at and donor.masks[other].sum() < own.sum():
            in_front |= donor.masks[other]
    rest = np.argwhere(own & ~in_front) + shifts[0]
    inside = ((rest >= 0) & (rest < union.shape)).all(axis=1)
    assert union[tuple(rest[inside].T)].all(), "A part of the donor was not pasted."
    for name, values in made.maps.items():
        drawn = pool.samples[_find_sample(pool, donor)].maps[name]
        assert np.array_equal(values[after.masks[row]], drawn[found[:, 1], found[:, 2]]), "Maps follow the paste."


def _find_sample(pool: ListPool, donor: Instances) -> int:
    return next(at for at, sample in enumerate(pool.samples) if sample.target is donor)
