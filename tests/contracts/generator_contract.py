"""What every generator promises, as checks that take any generator; `test_generators.py` runs them on all of them.

A check raises `AssertionError`. What is promised of any sample stands here; of pixels and labels there are contracts by
what a generator does: `pasting_contract` (objects are added), `appearance_contract` (nothing moves) and
`tiling_contract` (a part of the picture is shown).
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from synthloader.errors import NothingToGenerate
from synthloader.protocols import Bindable, Generator, Resizing
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances, SemanticMask
from tests.contracts.appearance_contract import check_appearance
from tests.contracts.pasting_contract import check_pasted, find_pasted
from tests.contracts.sample_hash import describe
from tests.contracts.tiling_contract import check_tile
from tests.generators.pictures import ListPool, tight_box
from tests.guards import GlobalRandomState


@dataclass(frozen=True)
class Case:
    """A generator under test.

    Args:
        make: Makes it, with the parameters under test.
        changes: Makes it with other parameters: each fingerprint must differ from all others.
        pastes: Whether it pastes objects; None where it may or may not.
        exact: Whether pasted pixels are the donor's own (no scaling, no change of colours afterwards); they may be
            mirrored.
        covers_all: Whether it changes pixels outside of what it pastes.
        min_visible: The bound that it was made with.
        tiles: Whether it shows a part of the source.
        margin: How many pixels around what it pastes it may change.
        opaque: Whether a pasted pixel shows more of the donor than of what was there.
        apart: Whether it covers no object.
        twice: Whether objects may be pasted over pasted ones that are known by their boxes only.
        single: Whether every mask that it makes or changes is one polygon.
        cutouts: Names of the cut-outs that it pastes, and their classes; empty where donors come from the pool.
        backgrounds: What it pastes onto instead of the source.
        inert: Options that change no sample, and so not the fingerprint.
    """

    make: Callable[[], Any]
    changes: Sequence[Callable[[], Any]] = field(default_factory=tuple)
    pastes: bool | None = False
    exact: bool = False
    covers_all: bool = False
    min_visible: float = 0.2
    tiles: bool = False
    margin: int = 0
    opaque: bool = True
    apart: bool = False
    twice: bool = False
    single: bool = False
    cutouts: Mapping[str, int] = field(default_factory=dict)
    backgrounds: Sequence[Sample] = ()
    inert: frozenset[str] = frozenset()


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


@contextmanager
def other_random_states(seed: int) -> Iterator[None]:
    """The global random states of Python, NumPy, PyTorch and OpenCV as nobody expects them, put back afterwards.

    OpenCV's own cannot be read, and is left as it was seeded.
    """
    before = GlobalRandomState.read()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.random.default_generator.manual_seed(seed)
    cv2.setRNGSeed(seed)
    try:
        yield
    finally:
        before.restore()


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
    with other_random_states(seed % 1000 + 1):
        assert describe(generate(generator, source, seed)) == bits, "The same rng must give the same bits."
    copied = pickle.loads(pickle.dumps(generator))
    with other_random_states(seed % 1000 + 2):
        assert describe(generate(copied, source, seed)) == bits, "A pickled generator must give the same bits."
    fresh = bind(case.make(), pool)
    earlier = generate(fresh, source, seed + 1)
    earlier_bits = describe(earlier)
    later = generate(fresh, source, seed)
    assert describe(later) == bits, "What was generated before must not matter."
    assert describe(earlier) == earlier_bits, "What was made changed when another sample was made."
    another = generate(generator, _turn(source), seed + 1)
    assert describe(made) == bits, "What was made changed when another sample was made."
    lent = [source, *case.backgrounds]
    check_own_memory(earlier, later, lent)
    check_own_memory(made, another, lent)
    if made is not None:
        check_made(case, pool, source, made)
    return made


def _turn(source: Sample) -> Sample:
    """Another picture of the same size and label: upside down."""
    return source.replace(image=np.ascontiguousarray(source.image[::-1]))


def check_own_memory(one: Sample | None, other: Sample | None, lent: Sequence[Sample]) -> None:
    """Two samples share no memory but that of what both were made of: who changes one would change the other."""
    if one is None or other is None:
        return
    known = [values for sample in lent for values in list_arrays(sample).values()]
    others = list_arrays(other)
    for name, values in list_arrays(one).items():
        shared = [other_name for other_name, each in others.items() if np.shares_memory(values, each)]
        is_lent = bool(shared) and any(np.shares_memory(values, each) for each in known)
        assert not shared or is_lent, f"{name} of one sample is in the memory of another's {', '.join(shared)}."


def list_arrays(sample: Sample) -> dict[str, np.ndarray]:
    """Every array of a sample that holds something, by name."""
    target: Any = sample.target
    found: dict[str, Any] = {"image": sample.image, **sample.maps}
    match target:
        case Instances():
            columns = {"class_ids": target.class_ids, "boxes": target.boxes, "masks": target.masks}
            found |= {**columns, "keypoints": target.keypoints, "crowd": target.crowd, **target.attributes}
        case SemanticMask():
            found["mask"] = target.mask
    if sample.origin is not None:
        found["edited"] = sample.origin.edited
    return {name: values for name, values in found.items() if values is not None and values.size}


def check_made(case: Case, pool: ListPool, source: Sample, made: Sample) -> None:
    """Promises about what was made from a source."""
    assert made is not source
    assert not np.shares_memory(made.image, source.image), "Who changes the new image would change the source."
    assert describe(made.replace(origin=None)) != describe(source.replace(origin=None)), "Nothing was generated."
    assert type(made.target) is type(source.target)
    assert dict(made.metadata) == dict(source.metadata)
    assert made.fields == source.fields
    assert made.maps.keys() == source.maps.keys()
    check_origin(case, pool, source, made)
    check_sound(case, pool, source, made)
    generator = case.make()
    size_hw = generator.find_size_hw(source.size_hw) if isinstance(generator, Resizing) else source.size_hw
    assert size_hw is None or made.size_hw == size_hw, "Whoever asks for sizes beforehand was told another one."
    if case.tiles:
        check_tile(source, made)
        return
    assert made.size_hw == source.size_hw, "The image size must not change."
    pasted = find_pasted(case, source, made)
    assert case.pastes is not True or pasted, "Nothing was pasted, and nothing was said."
    assert case.pastes is not False or not pasted, "An object appeared."
    if pasted:
        check_pasted(case, pool, source, made)
    else:
        check_appearance(source, made)


def check_origin(case: Case, pool: ListPool, source: Sample, made: Sample) -> None:
    """The origin names what was drawn, after what was known before."""
    assert made.origin is not None
    known = () if source.origin is None else source.origin.drawn
    assert made.origin.drawn[: len(known)] == known, "What went into the source went into this too."
    for name in made.origin.drawn[len(known) :]:
        is_known = name.partition("#")[0] in pool.names or name in case.cutouts
        assert is_known or name.startswith(("references[", "backgrounds[")), f"{name} was never there."
    if case.backgrounds:
        assert made.origin.drawn[len(known)].startswith("backgrounds["), "The background comes first."


def check_sound(case: Case, pool: ListPool, source: Sample, made: Sample) -> None:
    """Labels that make sense by themselves, whatever was done: also for generators that nobody has thought of yet."""
    before, after = source.target, made.target
    donors = [each.target for each in (*pool.samples, *case.backgrounds)]
    known = set(case.cutouts.values()).union(*map(_list_classes, (before, *donors)))
    assert _list_classes(after) <= known, "Every class must have been in the source or in the donors."
    if not isinstance(after, Instances) or not isinstance(before, Instances):
        return
    count = len(after)
    columns: list[Any] = [after.boxes, after.crowd, *after.attributes.values()]
    columns += [column for column in (after.masks, after.keypoints) if column is not None]
    assert {len(column) for column in columns} == {count}, "All columns must have one length."
    height, width = made.size_hw
    boxes = after.boxes
    assert np.isfinite(boxes).all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    assert (boxes >= 0).all(), "A box begins before the image."
    assert (boxes[:, 2:] <= [width, height]).all(), "A box ends behind the image."
    if after.keypoints is not None and after.keypoints.size:
        assert set(np.unique(after.keypoints[..., 2])) <= {0, 1, 2}
    if after.masks is None:
        return
    assert after.masks.shape == (count, height, width)
    empty = ~after.masks.any(axis=(1, 2))
    grounds: list[Any] = [before, *(each.target for each in case.backgrounds)]
    were_empty = sum(int((~each.masks.any(axis=(1, 2))).sum()) for each in grounds if _has_masks(each))
    assert empty.sum() <= were_empty, "No instance without visible pixels."
    if all(_are_tight(each) for each in grounds if _has_masks(each)):
        assert _are_tight(after), "The box must be the tight box of the mask."
    if all((each.masks.sum(axis=0) <= 1).all() for each in grounds if _has_masks(each)):
        assert (after.masks.sum(axis=0) <= 1).all(), "Masks that shared no pixel overlap now."


def _has_masks(target: Any) -> bool:
    return isinstance(target, Instances) and target.masks is not None


def _are_tight(target: Any) -> bool:
    rows = zip(target.boxes, target.masks, strict=True)
    return all(box.tolist() == tight_box(mask) for box, mask in rows if mask.any())


def _list_classes(target: Any) -> set[int]:
    match target:
        case Instances():
            return set(target.class_ids.tolist())
        case ClassLabel():
            return {target.class_id}
        case SemanticMask():
            return set(np.unique(target.mask).tolist()) | {0, target.ignore_index}
        case _:
            return set()
