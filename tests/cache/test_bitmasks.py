"""Masks survive packing, and packing takes only what is inside of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthloader.cache.bitmasks import check_packed, pack_masks, unpack_masks


@settings(deadline=None)
@given(st.tuples(st.integers(0, 4), st.integers(1, 20), st.integers(1, 20)).flatmap(lambda s: hnp.arrays(np.bool_, s)))
def test_masks_come_back(masks: np.ndarray) -> None:
    back = unpack_masks(*pack_masks(masks), size_hw=masks.shape[1:])
    assert back.dtype == np.bool_
    np.testing.assert_array_equal(back, masks)


def test_only_the_tight_extent_is_kept() -> None:
    masks = np.zeros((2, 100, 100), np.bool_)
    masks[0, 10:20, 30:46] = True
    extents, bits = pack_masks(masks)
    assert extents.tolist() == [[10, 30, 20, 46], [0, 0, 0, 0]]
    assert bits == b"\xff" * 20


@pytest.mark.parametrize(
    ("extents", "bits", "message"),
    [
        ([[0, 0, 2, 5]], b"\0\0", "a mask reaches out of its image"),
        ([[0, 2, 2, 1]], b"", "a mask reaches out of its image"),
        ([[-1, 0, 2, 2]], b"\0", "a mask reaches out of its image"),
        ([[0, 0, 4, 4]], b"\0", "a mask has too few bits"),
        ([[0, 0, 4, 4]], b"\0\0\0", "there are more bits than masks"),
    ],
)
def test_forged_extents_are_refused(extents: list[list[int]], bits: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_packed(np.array(extents, np.int32), len(bits), size_hw=(4, 4))


def test_extents_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^extents of masks are not \(N, 4\) int32$"):
        check_packed(np.zeros((1, 4), np.int64), 0, size_hw=(4, 4))


def test_masks_that_no_memory_holds_are_refused() -> None:
    message = "70000 masks of 500 x 500 pixels are more than 16 GiB: the masks of one sample must fit in that"
    with pytest.raises(ValueError, match=f"^{message}$"):
        pack_masks(np.broadcast_to(np.zeros((), np.bool_), (70_000, 500, 500)))
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_packed(np.zeros((70_000, 4), np.int32), 0, size_hw=(500, 500))
