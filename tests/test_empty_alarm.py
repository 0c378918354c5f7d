"""A set that makes nothing at all is said aloud, once."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from synthloader.empty_alarm import ENOUGH
from synthloader.errors import NothingToGenerate
from synthloader.generated import GeneratedDataset
from synthloader.mixed import MixedDataset
from synthloader.plans import Add
from synthloader.sample import Sample
from tests.scenes import RejectBy, ScenesDataset, Shade

MESSAGE = (
    "Nothing could be generated at the first 32 positions of the set 'generated': Idle: no donor (32 times). Real items "
    "were served in their place. Look at what the generator and the filters ask for, in `synthloader preview` or with "
    "on_shortfall='error', before training goes on."
)


class Idle(Shade):
    """Makes nothing before the stated turn."""

    def __init__(self, first: int = 10_000) -> None:
        super().__init__()
        self.first = first
        self.turn = 0

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        self.turn += 1
        if self.turn < self.first:
            raise NothingToGenerate("no donor")
        return super().generate(source, rng=rng)


def make_mix(generator: Any, **options: Any) -> MixedDataset:
    real = ScenesDataset(4)
    return MixedDataset(real, GeneratedDataset(real, generator, attempts=1, **options), plan=Add(20.0))


def test_it_is_said_once_with_the_reasons() -> None:
    mixed = make_mix(Idle())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for index in range(4, 4 + ENOUGH - 1):
            mixed[index]
        assert not caught
        for index in range(4 + ENOUGH - 1, len(mixed)):
            mixed[index]
    assert [str(each.message) for each in caught] == [MESSAGE]


def test_filters_that_let_nothing_through_are_named() -> None:
    mixed = make_mix(Shade(), filters=[RejectBy(share=1.1)])
    with pytest.warns(UserWarning, match=r"of the set 'generated': RejectBy: first pixels \(32 times\)\. Real items"):
        for index in range(4, len(mixed)):
            mixed[index]


def test_a_set_that_makes_something_is_left_alone() -> None:
    for first in (1, ENOUGH - 1):
        mixed = make_mix(Idle(first))
        for index in range(4, len(mixed)):
            mixed[index]
