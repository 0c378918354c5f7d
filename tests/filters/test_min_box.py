from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from synthloader.filters import MinBox
from synthloader.registry import find_plugin
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.generators.pictures import make_classified, make_segmented


def make_sample(*boxes: tuple[float, float, float, float], masks: np.ndarray | None = None) -> Sample:
    count = len(boxes)
    target = Instances(
        np.arange(count),
        np.array(boxes, np.float32).reshape(-1, 4),
        masks,
        attributes={"id": 10 + np.arange(count)},
    )
    return Sample(np.zeros((40, 60, 3), np.uint8), target, metadata={"weather": "fog"})


def judge(sample: Sample, **options: Any) -> Any:
    return MinBox(**options).judge(sample, sample)


@pytest.mark.parametrize("side", [5, 5.001])
def test_a_side_of_the_bound_itself_is_too_small(side: float) -> None:
    verdict = judge(make_sample((0, 0, side, 30), (0, 0, 20, 20)))
    assert verdict.accepted
    assert (verdict.sample is None) == (side > 5)
    assert verdict.score == pytest.approx(side)


@pytest.mark.parametrize("side", [10, 10.5])
def test_an_area_of_the_bound_itself_is_too_small(side: float) -> None:
    verdict = judge(make_sample((0, 0, side, 10), (0, 0, 20, 20)), min_side=0, min_area=100)
    assert (verdict.sample is None) == (side > 10)


def test_the_area_of_a_mask_is_that_of_its_pixels() -> None:
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 0, :10] = True
    masks[1, :20, :20] = True
    verdict = judge(make_sample((0, 0, 20, 20), (0, 0, 20, 20), masks=masks))
    assert verdict.sample.target.class_ids.tolist() == [1]
    assert verdict.sample.target.masks.shape == (1, 40, 60)


def test_small_instances_go_with_all_that_is_known_of_them() -> None:
    sample = make_sample((0, 0, 20, 20), (3, 3, 6, 30), (10, 10, 30, 30))
    verdict = judge(sample)
    assert verdict.accepted
    assert verdict.score == 3
    assert verdict.sample.target.class_ids.tolist() == [0, 2]
    assert verdict.sample.target.attributes["id"].tolist() == [10, 12]
    assert verdict.sample.image is sample.image
    assert verdict.sample.metadata == {"weather": "fog"}
    assert len(sample.target) == 3  # type: ignore[arg-type]


def test_a_sample_is_rejected_when_none_is_left() -> None:
    verdict = judge(make_sample((0, 0, 2, 2), (3, 3, 6, 30)))
    assert (verdict.accepted, verdict.score, verdict.reason, verdict.sample) == (False, 2, "box too small", None)


def test_a_sample_is_rejected_for_one_where_samples_are_dropped() -> None:
    verdict = judge(make_sample((0, 0, 20, 20), (3, 3, 6, 30)), drop="samples")
    assert (verdict.accepted, verdict.score, verdict.reason, verdict.sample) == (False, 3, "box too small", None)


def test_large_boxes_pass_as_they_are() -> None:
    verdict = judge(make_sample((0, 0, 20, 20), (3, 3, 16, 30)), drop="samples")
    assert (verdict.accepted, verdict.score, verdict.reason, verdict.sample) == (True, 13, "", None)


@pytest.mark.parametrize("sample", [make_sample(), make_classified(0), make_segmented(0), make_classified(0).replace(target=None)])  # fmt: skip
def test_samples_without_boxes_are_accepted(sample: Sample) -> None:
    verdict = judge(sample)
    assert (verdict.accepted, verdict.score, verdict.sample) == (True, None, None)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"min_side": -1}, ValueError, "min_side must be at least 0, got min_side=-1."),
        ({"min_area": "5"}, TypeError, "min_area must be a number, got min_area='5'."),
        (
            {"drop": "sample"},
            ValueError,
            "drop must be one of 'instances', 'samples', got drop='sample'. Did you mean 'samples'?",
        ),
    ],
)
def test_wrong_arguments(options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        MinBox(**options)


def test_recipes_know_it_by_name() -> None:
    assert find_plugin("filters", "min_box") is MinBox
    assert repr(MinBox()) == 'MinBox(drop="instances", min_area=10.0, min_side=5.0)'
