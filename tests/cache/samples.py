"""Samples to put into caches, a strict comparison of entries, and what Hypothesis makes them of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthloader.protocols import Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.seeds import make_rng
from synthloader.targets import ClassLabel, Instances, SemanticMask

SIDES = st.integers(1, 9)


def make_sample(number: int = 0, *, size_hw: tuple[int, int] = (12, 10)) -> Sample:
    """A sample with a bit of everything, that depends on nothing but its number."""
    rng = make_rng(number, "test", 0, 0)
    height, width = size_hw
    masks = np.zeros((3, height, width), np.bool_)
    masks[0, 1:4, 2:5] = True
    masks[1, 0, -1] = True
    boxes = np.array([[2, 1, 5, 4], [width - 1, 0, width, 1], [0, 0, 0, 0]], np.float32)
    return Sample(
        rng.integers(0, 256, (height, width, 3), np.uint8),
        Instances(
            class_ids=np.array([1, 2, number]),
            boxes=boxes,
            masks=masks,
            keypoints=rng.random((3, 2, 3), np.float32),
            crowd=np.array([False, True, False]),
            attributes={"occlusion": np.array(["none", "half", "ganz verdeckt ü"]), "depth": rng.random(3)},
        ),
        Origin(
            source=f"images/{number}.jpg",
            fingerprint="CopyPaste/1(num_range=[1, 3])",
            variant=1,
            attempt=2,
            seed=number,
            drawn=("a.jpg", "b.jpg"),
            scores={"sharpness": 0.25},
            prompt="fog",
            edited=masks[0],
        ),
        {"weather": "fog", "temperature": 3.5},
        {"depth": rng.random((height, width), np.float32)},
        {"image_id": number, "size": (height, width), "area": np.array([9.0, 1.0, 0.0]), "nested": {"a": [1, None]}},
    )


def assert_same(left: Any, right: Any, at: str = "entry") -> None:
    """The same types, values, orders and bits, all the way down."""
    assert type(left) is type(right), at
    if isinstance(left, np.ndarray):
        assert left.dtype == right.dtype, at
        assert left.shape == right.shape, at
        assert left.tobytes() == right.tobytes(), at
    elif isinstance(left, np.generic) and not isinstance(left, str | bytes):
        assert left.dtype == right.dtype, at
        assert left.tobytes() == right.tobytes(), at
    elif is_dataclass(left):
        for field in fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name), f"{at}.{field.name}")
    elif isinstance(left, Mapping):
        assert_same(list(left), list(right), f"keys of {at}")
        for key in left:
            assert_same(left[key], right[key], f"{at}[{key!r}]")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), at
        for position, pair in enumerate(zip(left, right, strict=True)):
            assert_same(*pair, f"{at}[{position}]")
    elif isinstance(left, float):
        assert repr(left) == repr(right), at
    else:
        assert left == right, at


def dtypes() -> st.SearchStrategy[np.dtype[Any]]:
    """Every type of array that a record takes."""
    plain = (
        hnp.scalar_dtypes()
        | hnp.unicode_string_dtypes(min_len=1, max_len=5)
        | hnp.byte_string_dtypes(min_len=1, max_len=5)
    )
    return plain | hnp.array_dtypes(plain, max_size=3)


def arrays(shape: Any) -> st.SearchStrategy[np.ndarray]:
    """Arrays of any type in this shape."""
    return dtypes().flatmap(lambda dtype: hnp.arrays(dtype.base, shape))


def trees() -> st.SearchStrategy[Any]:
    """What fields are made of."""
    texts = st.text(st.characters(), max_size=8)  # With surrogates, as in names of files.
    keys = texts | st.integers() | st.booleans() | st.none() | st.binary(max_size=3) | st.tuples(st.integers())
    leaves = (
        st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats() | texts
        | st.binary(max_size=20) | arrays(hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3))
        | arrays(()).map(lambda array: array[()]) | texts.map(np.str_) | st.binary(max_size=4).map(np.bytes_)
    )  # fmt: skip
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(texts, inner, max_size=3)
            | st.dictionaries(keys, inner, max_size=3)
        ),
        max_leaves=6,
    )


@st.composite
def instances(draw: st.DrawFn, size_hw: tuple[int, int]) -> Instances:
    """Instances inside of an image."""
    height, width = size_hw
    count = draw(st.integers(0, 4))
    corners = draw(hnp.arrays(np.float32, (count, 2, 2), elements=st.floats(0, 1, width=32)))
    corners = np.sort(corners, axis=1) * np.float32([width, height])
    return Instances(
        class_ids=draw(hnp.arrays(np.int64, count)),
        boxes=corners.reshape(count, 4),
        masks=draw(st.none() | hnp.arrays(np.bool_, (count, height, width))),
        keypoints=draw(st.none() | hnp.arrays(np.float32, (count, draw(st.integers(0, 3)), 3))),
        crowd=draw(st.none() | hnp.arrays(np.bool_, count)),
        attributes={
            name: draw(arrays((count, *draw(hnp.array_shapes(min_dims=0, max_dims=1, max_side=3)))))
            for name in draw(st.lists(st.text(max_size=4), max_size=2, unique=True))
        },
    )


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Samples of every kind of target."""
    size_hw = draw(st.tuples(SIDES, SIDES))
    semantic = st.builds(SemanticMask, hnp.arrays(np.int32, size_hw), st.integers(-(2**31), 2**31))
    small = hnp.arrays(np.int32, size_hw, elements=st.integers(0, 255)).map(SemanticMask)
    labels = st.integers(0, 2**70).map(ClassLabel)
    target = draw(st.none() | labels | semantic | small | instances(size_hw))
    numbers = st.integers(0, 2**64)
    origin = st.builds(
        Origin,
        source=st.text(st.characters()), fingerprint=st.text(), variant=numbers, attempt=numbers, seed=numbers,
        drawn=st.lists(st.text(), max_size=3).map(tuple), scores=st.dictionaries(st.text(), st.floats(), max_size=2),
        prompt=st.none() | st.text(), model=st.none() | st.text(),
        edited=st.none() | hnp.arrays(np.bool_, size_hw),
    )  # fmt: skip
    values = st.integers() | st.floats() | st.text() | st.booleans()
    return Sample(
        draw(hnp.arrays(np.uint8, (*size_hw, 3))),
        target,
        draw(st.none() | origin),
        draw(st.dictionaries(st.text(max_size=5), values, max_size=3)),
        {name: draw(arrays(size_hw)) for name in draw(st.lists(st.text(max_size=4), max_size=2, unique=True))},
        draw(st.dictionaries(st.text(max_size=5), trees(), max_size=4)),
    )


def entries() -> st.SearchStrategy[Sample | Rejected]:
    """Whatever a cache keeps."""
    return samples() | st.text().map(Rejected)


@st.composite
def verdicts(draw: st.DrawFn, of: Sample) -> Verdict:
    """Verdicts on a sample, with and without a changed one."""
    part = draw(st.sampled_from(["image", "metadata", "fields", "origin"]))
    other = draw(samples())
    changed = of.replace(image=of.image.copy()) if part == "image" else of.replace(**{part: {"a": 1}}) \
        if part != "origin" else of.replace(origin=None)  # fmt: skip
    return Verdict(
        draw(st.booleans()),
        draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        draw(st.text()),
        draw(st.sampled_from([None, of, changed, other])),
    )
