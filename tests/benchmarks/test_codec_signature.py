"""The benchmark of codec signatures, on drawn images and with next to no training: does it measure what it says?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks._signature_network import make_network, make_residual_filters, score_patches
from benchmarks.codec_signature import (
    CONTROL,
    HISTORIES,
    VIEWS,
    Detection,
    Effort,
    copy_image,
    cut_patches,
    detect,
    draw_image,
    find_images,
    judge_codecs,
    measure_codecs,
    summarize_scores,
)
from synthloader.cache.codecs import CODECS, LOSSLESS_CODECS
from synthloader.seeds import make_rng

TINY = Effort(max_images=4, num_steps=2, num_pairs=2, num_test_patches=8, num_resamplings=50)


def draw_images(count: int) -> list[np.ndarray]:
    return [draw_image(make_rng(1, f"drawn/{number}", 0, 0)) for number in range(count)]


@pytest.mark.parametrize("codec", [*CODECS, CONTROL])
def test_copies_of_lossless_codecs_have_the_same_bytes_and_no_others_do(codec: str) -> None:
    image = draw_images(1)[0]
    copy = copy_image(image, codec)
    assert (copy.shape, copy.dtype) == (image.shape, image.dtype)
    assert (copy.tobytes() == image.tobytes()) == (codec in LOSSLESS_CODECS)


def test_every_codec_has_a_row_per_set_history_and_view() -> None:
    rows = list(measure_codecs({"drawn": draw_images(4)}, TINY, seed=0))
    found = [(row["codec"], row["set"], row["history"], row["view"]) for row in rows]
    assert sorted(found) == sorted(
        (codec, "drawn", history, view) for codec in (*CODECS, CONTROL) for history in HISTORIES for view in VIEWS
    )
    assert {row["codec"] for row in rows if row["identical"] == row["images"]} == set(LOSSLESS_CODECS)
    assert set(judge_codecs(rows)) == {*CODECS, CONTROL}


def test_the_control_is_told_apart_after_little_training_and_identical_copies_are_not() -> None:
    images = draw_images(8)
    effort = Effort(num_steps=16, num_pairs=8, num_test_patches=200, num_resamplings=200)
    controls = [copy_image(image, CONTROL) for image in images]
    assert detect(images, controls, view="plain", effort=effort, name="drawn", seed=0).auc > 0.9
    effort = replace(effort, num_steps=4)
    assert 0.4 < detect(images, images, view="plain", effort=effort, name="drawn", seed=0).auc < 0.6


def test_the_same_seed_gives_the_same_numbers_again() -> None:
    images = draw_images(4)
    copies = [copy_image(image, "jpeg") for image in images]
    first, second = (
        detect(images, copies, view="resized, flipped", effort=TINY, name="drawn", seed=3) for _ in range(2)
    )
    assert first == second


def test_without_shared_data_images_are_drawn(tmp_path: Path) -> None:
    sets = find_images(2, data=tmp_path)
    assert [(name, len(images)) for name, images in sets.items()] == [("drawn", 2)]


def test_a_patch_shows_original_and_copy_at_the_same_place() -> None:
    image = draw_images(1)[0]
    pair = np.concatenate([image, image], axis=2)
    patches = cut_patches([pair] * 8, "resized, flipped", make_rng(0, "patches", 0, 0))
    assert patches.shape == (8, 64, 64, 6)
    assert (patches[..., :3] == patches[..., 3:]).all()


def test_separate_scores_have_an_area_of_one_and_equal_scores_of_a_half() -> None:
    scores = np.arange(12.0).reshape(4, 3)
    rng = make_rng(0, "bootstrap", 0, 0)
    apart = summarize_scores(scores - 100, scores + 100, num_resamplings=50, rng=rng)
    assert apart == Detection(auc=1.0, low=1.0, high=1.0, accuracy=1.0)
    equal = summarize_scores(np.zeros((4, 3)), np.zeros((4, 3)), num_resamplings=50, rng=rng)
    assert equal == Detection(auc=0.5, low=0.5, high=0.5, accuracy=0.5)


def test_the_area_is_that_of_all_pairs_of_patches() -> None:
    rng = make_rng(0, "scores", 0, 0)
    originals, copies = rng.normal(size=(5, 7)), rng.normal(0.5, size=(5, 7))
    found = summarize_scores(originals, copies, num_resamplings=200, rng=rng)
    assert found.auc == pytest.approx((copies.reshape(-1, 1) > originals.reshape(1, -1)).mean())
    assert found.low < found.auc < found.high


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.48, 0.52, "near chance"), (0.48, 0.56, "undecided"), (0.51, 0.54, "near chance"), (0.51, 0.57, "told apart")],
)
def test_the_burden_of_proof_is_on_the_codec(low: float, high: float, verdict: str) -> None:
    assert Detection(auc=(low + high) / 2, low=low, high=high, accuracy=0.5).verdict == verdict


def test_residual_filters_are_blind_to_flat_colour() -> None:
    assert torch.allclose(make_residual_filters().sum((2, 3)), torch.zeros(18, 3), atol=1e-5)


def test_weights_come_from_the_generator_that_was_given() -> None:
    patches = np.stack([image[:64, :64] for image in draw_images(3)])
    first, second = (make_network(torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(mine, other) for mine, other in zip(first.parameters(), second.parameters(), strict=True))
    assert score_patches(first.eval(), patches).shape == (3,)
