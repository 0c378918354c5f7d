"""How the pixels of a pasted object meet the picture."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloader.generators.pasting.blending import BLENDS, MARGINS, PADDING, blend_into
from synthloader.targets import Instances
from tests.generators.pictures import read_dried_fruit, read_nuclei

EXACT = [how for how in BLENDS if MARGINS[how] == 0]


def make_mask(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Scattered pixels, blobs with holes and several parts, or everything; at least one pixel."""
    mask = (rng.random(size_hw) < rng.choice([0.02, 0.5, 0.98, 1])).astype(np.uint8)
    if rng.random() < 0.6:
        cv2.ellipse(mask, (size_hw[1] // 2, size_hw[0] // 2), (size_hw[1] // 3, size_hw[0] // 3), 0, 0, 360, 1, -1)
        mask = cv2.erode(cv2.dilate(mask, np.ones((3, 3), np.uint8)), np.ones((2, 2), np.uint8))
    if not mask.any():
        mask[rng.integers(size_hw[0]), rng.integers(size_hw[1])] = 1
    return mask.astype(bool)


def paste(
    image: np.ndarray, donor: np.ndarray, mask: np.ndarray, *, top: int, left: int, how: str
) -> tuple[np.ndarray, np.ndarray]:
    """Blend a donor of the mask's size at this place, which may lie partly outside; the image and the full mask."""
    height, width = image.shape[:2]
    full = np.zeros((height, width), bool)
    pixels = np.zeros_like(image)
    rows = slice(max(top, 0), max(top + mask.shape[0], 0))
    columns = slice(max(left, 0), max(left + mask.shape[1], 0))
    part = np.s_[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    full[rows, columns], pixels[rows, columns] = mask[part], donor[part]
    image = image.copy()
    if full.any():
        grown = PADDING[how]
        y, x = np.flatnonzero(full.any(axis=1)), np.flatnonzero(full.any(axis=0))
        window = np.s_[max(y[0] - grown, 0) : y[-1] + 1 + grown, max(x[0] - grown, 0) : x[-1] + 1 + grown]
        blend_into(image[window], pixels[window], full[window], how=how)
    return image, full


def grow(mask: np.ndarray, margin: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8)).astype(bool)


def make_disc(side: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return rows**2 + columns**2 <= (side / 2) ** 2


def test_every_blend_has_a_margin_and_a_padding_that_shows_it() -> None:
    assert set(MARGINS) == set(PADDING) == set(BLENDS)
    assert all(PADDING[how] >= MARGINS[how] for how in BLENDS)


@pytest.mark.parametrize("how", BLENDS)
@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    top=st.integers(-20, 60),
    left=st.integers(-20, 60),
)
@settings(max_examples=60)
def test_no_pixel_changes_farther_from_the_mask_than_the_margin(
    how: str, seed: int, height: int, width: int, top: int, left: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = make_mask(rng, (height, width))
    image = rng.integers(0, 256, (64, 72, 3), dtype=np.uint8)
    donor = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    blended, full = paste(image, donor, mask, top=top, left=left, how=how)
    allowed = grow(full, MARGINS[how])
    assert np.array_equal(blended[~allowed], image[~allowed])


@pytest.mark.parametrize("how", BLENDS)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=40)
def test_what_the_donor_shows_outside_its_mask_does_not_count(how: str, seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask = make_mask(rng, (height, width))
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    donor = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    other = np.where(mask[..., None], donor, np.uint8(0))
    first, second = picture.copy(), picture.copy()
    blend_into(first, donor, mask, how=how)
    blend_into(second, other, mask, how=how)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("how", BLENDS)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 30), width=st.integers(1, 30))
@settings(max_examples=30)
def test_a_view_of_an_image_is_written_like_an_array_of_its_own(how: str, seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask = make_mask(rng, (height, width))
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    donors = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    masks = np.zeros((40, 50), bool)
    window = np.s_[5 : 5 + height, 7 : 7 + width]
    masks[window] = mask
    alone = image[window].copy()
    blend_into(alone, donors[window].copy(), mask, how=how)
    before = donors.copy(), masks.copy()
    blend_into(image[window], donors[window], masks[window], how=how)
    assert np.array_equal(image[window], alone)
    assert np.array_equal(donors, before[0])
    assert np.array_equal(masks, before[1])


@given(seed=st.integers(0, 10**6), height=st.integers(1, 30), width=st.integers(1, 30))
def test_hard_is_the_donor_inside_and_the_picture_outside(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask = make_mask(rng, (height, width))
    picture, donor = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    blended = picture.copy()
    blend_into(blended, donor, mask, how="hard")
    assert np.array_equal(blended, np.where(mask[..., None], donor, picture))


@given(seed=st.integers(0, 10**6), height=st.integers(1, 60), width=st.integers(1, 60))
def test_gaussian_leaves_every_pixel_of_the_mask_at_least_half_the_object(seed: int, height: int, width: int) -> None:
    mask = make_mask(np.random.default_rng(seed), (height, width))
    blended = np.zeros((height, width, 3), np.uint8)
    blend_into(blended, np.full_like(blended, 255), mask, how="gaussian")
    assert (blended[mask] >= 128).all()


def test_gaussian_is_soft_at_the_edge_and_the_object_itself_farther_in() -> None:
    blended, full = paste(
        np.zeros((140, 140, 3), np.uint8),
        np.full((100, 100, 3), 200, np.uint8),
        make_disc(100),
        top=20,
        left=20,
        how="gaussian",
    )
    inner = cv2.erode(full.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool)
    edge = full & ~cv2.erode(full.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert (blended[inner] == 200).all()
    assert 100 <= blended[edge].mean() < 140


@pytest.mark.parametrize("how", ["gaussian", "poisson"])
def test_where_the_image_cuts_the_object_off_nothing_of_it_fades(how: str) -> None:
    image, donor = np.full((60, 60, 3), 90, np.uint8), np.full((40, 40, 3), 90, np.uint8)
    donor[:, 25:] = 150  # the step that stays when the border is no edge of the object
    blended, full = paste(image, donor, np.ones((40, 40), bool), top=10, left=30, how=how)
    if how == "gaussian":
        assert (blended[20:40, 58:] == 150).all()
    else:
        column = blended[30, 30:, 0].astype(int)
        assert column[25] - column[24] > 30, "the step inside the object is kept"
        assert abs(column[-1] - column[-2]) <= 2, "the border of the image is a free end"
    assert np.array_equal(blended[~full], image[~full])


def test_poisson_pastes_the_picture_itself_without_a_change() -> None:
    rows, columns = np.mgrid[:90, :110]
    smooth = np.stack([60 + rows, 200 - columns, 100 + 40 * np.sin(rows / 30)], axis=2).astype(np.uint8)
    mask = make_disc(71)
    blended, _ = paste(smooth, smooth[5:76, 8:79], mask, top=5, left=8, how="poisson")
    assert np.abs(blended.astype(int) - smooth).max() <= 1


def test_poisson_takes_the_colour_of_the_picture_and_keeps_the_texture_of_the_object() -> None:
    rng = np.random.default_rng(0)
    texture = rng.integers(-20, 21, (81, 81, 3))
    donor = (60 + texture).astype(np.uint8)
    blended, full = paste(np.full((120, 120, 3), 180, np.uint8), donor, make_disc(81), top=20, left=20, how="poisson")
    inner = cv2.erode(full.astype(np.uint8), np.ones((25, 25), np.uint8)).astype(bool)
    change = blended[inner].astype(int) - (60 + texture)[inner[20:101, 20:101]]
    assert abs(change.mean() - 120) < 5
    assert change.std() < 5


def test_poisson_of_a_mask_without_an_outline_is_hard() -> None:
    rng = np.random.default_rng(1)
    picture, donor = rng.integers(0, 256, (2, 9, 11, 3), dtype=np.uint8)
    blend_into(picture, donor, np.ones((9, 11), bool), how="poisson")
    assert np.array_equal(picture, donor)


def test_multiband_has_a_softer_seam_than_hard_and_the_object_in_the_middle() -> None:
    image, donor = np.full((140, 140, 3), 40, np.uint8), np.full((80, 80, 3), 200, np.uint8)
    steps = {}
    for how in ("hard", "multiband"):
        blended, _ = paste(image, donor, make_disc(80), top=30, left=30, how=how)
        steps[how] = int(np.abs(np.diff(blended[70, :, 0].astype(int))).max())
        assert blended[70, 70].tolist() == [200, 200, 200]
    assert steps["hard"] == 160
    assert steps["multiband"] < 40


def test_multiband_keeps_fine_texture_up_to_the_seam() -> None:
    rng = np.random.default_rng(2)
    donor = rng.choice([60, 140], (80, 80, 1)).repeat(3, axis=2).astype(np.uint8)
    blended, full = paste(np.full((140, 140, 3), 100, np.uint8), donor, make_disc(80), top=30, left=30, how="multiband")
    rim = full & ~cv2.erode(full.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    assert blended[rim].std() > 20


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 30)])
def test_multiband_of_something_thinner_than_three_pixels_is_hard(shape: tuple[int, int]) -> None:
    image, donor = np.full((70, 70, 3), 40, np.uint8), np.full((*shape, 3), 200, np.uint8)
    blended, full = paste(image, donor, np.ones(shape, bool), top=20, left=20, how="multiband")
    assert (blended[full] == 200).all()
    assert (blended[~full] == 40).all()


def hash_blends(num_threads: int) -> list[str]:
    """A hash of what each blend makes of a large object in several parts."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(num_threads)
    try:
        rng = np.random.default_rng(7)
        mask = cv2.GaussianBlur(rng.random((297, 313)).astype(np.float32), (0, 0), 9) > 0.5
        hashes = []
        for how in BLENDS:
            picture, donor = rng.integers(0, 256, (2, 297, 313, 3), dtype=np.uint8)
            blend_into(picture, donor, mask, how=how)
            hashes.append(hashlib.sha256(picture.tobytes()).hexdigest())
    finally:
        cv2.setNumThreads(before)
    return hashes


def test_another_process_with_another_number_of_threads_gives_the_same_bits() -> None:
    script = "from tests.generators.pasting.test_blending import hash_blends; print(*hash_blends(4))"
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    ).stdout.split()
    assert told == hash_blends(1)


@pytest.mark.parametrize("name", ["dried_fruit_instances", "nuclei_dsb2018"])
def test_real_objects_change_their_own_pixels_only(shared_data: Path, name: str) -> None:
    pool = {"dried_fruit_instances": read_dried_fruit, "nuclei_dsb2018": read_nuclei}[name](shared_data / name, 2)
    source, other = pool[0], pool[1]
    assert isinstance(other.target, Instances)
    masks = other.target.masks
    assert masks is not None
    for row, how in enumerate(BLENDS):
        image = cv2.resize(source.image, masks[0].shape[::-1])
        blended, full = paste(image, other.image, masks[row], top=0, left=0, how=how)
        allowed = grow(full, MARGINS[how])
        assert np.array_equal(blended[~allowed], image[~allowed])
        assert not np.array_equal(blended[full], image[full])
