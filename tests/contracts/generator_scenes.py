"""Sources and pools for the contract of generators: made by Hypothesis, by a seed, or of one colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.generators.pictures import (
    KINDS,
    NEAR,
    ListPool,
    drop_masks,
    make_classified,
    make_picture,
    make_regions,
    make_texture,
)

LABELS = ("masks", "boxes", "boxes in the pool too", "regions", "class", "nothing")
"""What the label of a picture says."""


@st.composite
def scenes(draw: st.DrawFn, max_side: int = 48, min_side: int = 1) -> tuple[Sample, ListPool, int]:
    """A source with masks (never in the pool), a pool of one to three pictures, and a seed."""
    far = max_side > NEAR
    shared: dict[str, Any] = {
        "num_keypoints": draw(st.sampled_from([None, 0, 3])),
        "with_maps": draw(st.booleans()),
        "sloppy_boxes": draw(st.booleans()),
        "share_crowd": draw(st.sampled_from([0.0, 0.3])),
        "far": far,
    }
    seed = draw(st.integers(0, 2**20))
    count = draw(st.integers(1, 2 if far else 3))
    sides = st.integers(min_side, max_side)
    pictures = []
    for number in range(count + 1):
        size_hw = draw(sides), draw(sides)
        most = min(100, 20_000_000 // (size_hw[0] * size_hw[1]))
        num_objects = draw(st.one_of(st.integers(0, min(12, most)), st.integers(0, most)))
        kind = draw(st.sampled_from(KINDS))
        pictures.append(make_picture(number, seed=seed, size_hw=size_hw, num_objects=num_objects, kind=kind, **shared))
    return pictures[-1], ListPool(pictures[:-1]), seed


@st.composite
def labelled_scenes(draw: st.DrawFn, max_side: int = 48, min_side: int = 1) -> tuple[Sample, ListPool, int]:
    """The same with labels of any kind."""
    source, pool, seed = draw(scenes(max_side=max_side, min_side=min_side))
    return *relabel(source, pool, draw(st.sampled_from(("masks", *LABELS))), seed), seed


def relabel(source: Sample, pool: ListPool, label: str, seed: int) -> tuple[Sample, ListPool]:
    """The same pictures with labels of another kind, one of `LABELS`."""

    def change(sample: Sample, *, is_source: bool) -> Sample:
        target: Any = sample.target
        if label == "boxes" and not is_source:
            return sample
        match label:
            case "boxes" | "boxes in the pool too":
                return drop_masks(sample)
            case "regions":
                number = int(sample.fields["image_id"])
                far = max(max(each.size_hw) for each in (source, *pool.samples)) > NEAR
                made = make_regions(
                    number, seed=seed, size_hw=sample.size_hw, num_objects=min(len(target), 12), far=far
                )
                return sample.replace(target=made.target)
            case "class":
                return sample.replace(target=make_classified(1 + seed % 4).target)
            case "nothing":
                return sample.replace(target=None) if is_source else sample
            case _:
                return sample

    samples = [change(sample, is_source=False) for sample in pool.samples]
    return change(source, is_source=True), ListPool(samples, pool.names)


def make_scene(seed: int, *, label: str = "masks", **options: Any) -> tuple[Sample, ListPool]:
    """An ordinary source and pool."""
    rng = np.random.default_rng(seed)
    pictures = [
        make_picture(
            number, seed=seed, size_hw=(int(rng.integers(40, 80)), int(rng.integers(40, 80))), kind="any", **options
        )
        for number in range(3)
    ]
    return relabel(pictures[-1], ListPool(pictures[:-1]), label, seed)


def make_textured_scene(seed: int, *, size_hw: tuple[int, int] = (160, 200)) -> tuple[Sample, ListPool]:
    """A source every part of which can be recognised, and pictures of other colours."""
    source = make_picture(0, seed=seed, size_hw=size_hw, share_crowd=0).replace(image=make_texture(seed, size_hw))
    return source, ListPool([Sample(make_texture(9 + at, (90, 120), (20 * at, 200))) for at in range(3)])


def has_objects(pool: ListPool) -> bool:
    """Whether anything in a pool has a place and a size."""
    for sample in pool.samples:
        target = sample.target
        if isinstance(target, Instances):
            sides = target.boxes[:, 2:] - target.boxes[:, :2]
            if ((sides > 0).all(axis=1) & ~np.asarray(target.crowd)).any():
                return True
    return False
