from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from synthloader.generators.pasting.blankness import BlankPolicy, is_blank, is_blank_file, list_suspects, spread


def make_flat(size_hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    return np.full((*size_hw, 3), (90, 95, 85), np.uint8)


def measure_plainly(image: np.ndarray) -> bool:
    """What `is_blank` says, from every value of a picture that is small enough for it."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    for channel in lab.T.astype(np.float64):
        distance = np.abs(channel - np.median(channel))
        if channel[distance <= np.quantile(distance, 0.99)].std() >= 4:
            return False
    return True


class TestJudging:
    def test_two_colours_of_one_lightness_are_not_blank(self) -> None:
        lab = np.full((40, 40, 3), (150, 100, 128), np.uint8)
        lab[:, 20:, 1] = 156
        assert not is_blank(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))
        assert is_blank(make_flat())
        assert is_blank(np.zeros((1, 1, 3), np.uint8))

    def test_the_glance_agrees_with_all_pixels(self) -> None:
        rng = np.random.default_rng(0)
        found = []
        for _ in range(400):
            height, width = rng.integers(1, 90, 2).tolist()
            image = np.full((height, width, 3), rng.integers(0, 256, 3), np.float64)
            image += rng.normal(0, rng.uniform(0, 5), image.shape)
            image += np.linspace(0, rng.uniform(0, 30), width)[None, :, None]
            image[rng.random(image.shape[:2]) < rng.uniform(0, 0.03)] = rng.integers(0, 256, 3)
            picture = np.clip(image, 0, 255).astype(np.uint8)
            found.append(is_blank(picture))
            assert found[-1] == measure_plainly(picture)
        assert 50 < sum(found) < 350

    def test_a_window_of_a_picture_is_judged_as_its_copy(self) -> None:
        image = make_flat((100, 200))
        image[:, :50] = np.random.default_rng(0).integers(0, 256, (100, 50, 3))
        for left in (0, 20, 40, 60, 80):
            window = image[10:80, left : left + 90]
            assert is_blank(window) == is_blank(window.copy()) == (left >= 50)

    def test_a_file_that_only_the_reader_knows_is_read_whole(self, tmp_path: Path) -> None:
        (tmp_path / "a.xyz").write_bytes(b"anything")
        assert is_blank_file(tmp_path / "a.xyz", make_flat)
        assert not is_blank_file(tmp_path / "a.xyz", lambda: np.eye(50, dtype=np.uint8)[..., None].repeat(3, 2) * 255)

    def test_a_file_that_has_no_eighth_is_read_whole(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "a.png"), make_flat((5, 6)))
        assert is_blank_file(tmp_path / "a.png", lambda: make_flat((5, 6)))


class TestLooking:
    def test_few_pictures_are_all_looked_at(self) -> None:
        assert list_suspects(5) == [0, 1, 2, 3, 4]
        assert spread(100, 3) == [0, 50, 99]

    def test_the_smallest_files_are_looked_at_too_and_missing_ones_are_left_alone(self, tmp_path: Path) -> None:
        files = [tmp_path / f"{at}.png" for at in range(1000)]
        for at, file in enumerate(files):
            file.write_bytes(b"1" * (10 if at in (333, 700) else 100))
        os.unlink(files[500])
        chosen = list_suspects(len(files), files)
        assert {0, 333, 700, 999} <= set(chosen)
        assert len(chosen) <= 72


def test_the_option_is_true_or_false() -> None:
    message = r"^allow_blank_backgrounds must be a bool, got allow_blank_backgrounds=1\.$"
    with pytest.raises(TypeError, match=message):
        BlankPolicy("backgrounds", allow=1, fate="is passed over")  # type: ignore[arg-type]
