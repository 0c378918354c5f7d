from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloader.generators.referring import reinhard


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**20), st.integers(1, 4000))
def test_it_measures_what_opencv_does(height: int, width: int, seed: int, strip: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reinhard, "STRIP_PIXELS", strip)
        found = reinhard.measure(image)
    assert np.allclose(found, np.stack(cv2.meanStdDev(image))[..., 0], rtol=0, atol=1e-6)


def test_large_sums_are_exact() -> None:
    image = np.full((2000, 2000, 3), 255, np.uint8)
    assert reinhard.measure(image).tolist() == [[255] * 3, [0] * 3]


def test_a_table_moves_the_mean_and_stretches_the_rest() -> None:
    table = reinhard.make_table(np.array([[100.0], [10.0]]), np.array([[120.0], [20.0]]))[:, 0]
    assert table[[100, 101, 110, 90]].tolist() == [120, 122, 140, 100]
    assert table[[0, 39, 255]].tolist() == [0, 0, 255]
    flat = reinhard.make_table(np.array([[100.0], [0.5]]), np.array([[120.0], [20.0]]))[:, 0]
    assert flat[[100, 101]].tolist() == [120, 121], "Rounding is not stretched."
