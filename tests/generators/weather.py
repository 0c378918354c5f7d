"""What the tests of Fog, Rain, Snow and Night share: sources of all kinds, and promises that all four make."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from synthloader.errors import NothingToGenerate
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from tests.contracts.generator_contract import Case, check_generator, check_sample
from tests.generators.pictures import ListPool, make_classified, make_grey, make_picture, make_segmented

SOURCES = [
    make_picture(1),
    make_classified(2),
    make_segmented(3),
    make_grey(make_picture(0, size_hw=(60, 90))),
    make_picture(5, num_objects=0),
    make_picture(1, with_maps=True),
]
SIZES_HW = [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (4, 1), (33, 64), (64, 2), (2000, 30), (90, 2000)]


def make_noise(seed: int = 0, size_hw: tuple[int, int] = (60, 80), low: int = 0, high: int = 256) -> Sample:
    """A picture without any structure."""
    return Sample(np.random.default_rng(seed).integers(low, high, (*size_hw, 3)).astype(np.uint8))


def make_flat(level: int, size_hw: tuple[int, int] = (60, 80)) -> Sample:
    """A picture of one grey level."""
    return Sample(np.full((*size_hw, 3), level, np.uint8))


def generate(generator: Any, source: Sample, seed: int = 0) -> Sample:
    """Generate with a fresh rng."""
    made = generator.generate(source, rng=make_rng(seed, "s", 0, 0))
    assert isinstance(made, Sample)
    return made


def check_contract(case: Case) -> None:
    """The contract of all generators, on sources of all kinds and sizes."""
    check_generator(case)
    for seed, source in enumerate(SOURCES):
        made = check_sample(case, ListPool([]), source, seed)
        assert made is not None
        assert made.target is source.target
        assert made.maps is source.maps
        assert made.metadata is source.metadata
        assert not np.shares_memory(made.image, source.image)
    for size_hw in SIZES_HW:
        check_sample(case, ListPool([]), make_noise(1, size_hw), 0)
        check_sample(case, ListPool([]), make_grey(make_noise(2, size_hw)), 0)


def check_grey(generator: Any) -> None:
    """A one-channel picture stays one, of every size, in every place."""
    for seed, size_hw in enumerate([*SIZES_HW, (60, 80), (120, 160)] * 2):
        source = make_grey(make_noise(seed, size_hw, 0, 200))
        made = generate(generator, source, seed).image
        assert (made == made[..., :1]).all()


def check_strengths(make: Callable[[tuple[float, float]], Any], source: Sample) -> None:
    """The stronger, the farther from the source, with all else drawn alike."""
    for seed in range(4):
        distances = [
            np.abs(generate(make((strength, strength)), source, seed).image.astype(int) - source.image).mean()
            for strength in (0.15, 0.3, 0.5, 0.7, 0.85, 1.0)
        ]
        assert distances == sorted(distances)
        assert distances[-1] > 2 * distances[0]


def check_no_strength(generator: Any) -> None:
    """Nothing is generated at strength 0."""
    with pytest.raises(NothingToGenerate, match=r"^strength is 0$"):
        generate(generator, make_noise())


def check_refused(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    """The whole message."""
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        make()
