from __future__ import annotations

import re
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from torchvision.transforms.v2 import functional

from synthloader.adapters.items.images import is_image, read_image, write_image

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@given(pixels=st_numpy.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]))))
def test_8_bit_images_make_the_way_there_and_back_bit_for_bit(pixels: np.ndarray) -> None:
    for native in (pixels, torch.from_numpy(pixels).permute(2, 0, 1).contiguous()):
        inside, axes = read_image(native, name="image")
        back = write_image(inside, like=native, axes=axes)
        assert (back == native).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_all_256_levels_of_float_images_are_told_apart(dtype: torch.dtype) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    native = functional.to_dtype(levels, dtype, scale=True)
    inside, _ = read_image(native, name="image")
    if dtype is not torch.bfloat16:  # Its 8 bits of precision cannot hold 256 levels.
        assert (inside[..., 0].ravel() == np.arange(256)).all()
    back = write_image(inside, like=native, axes="HW3")
    assert back.dtype == dtype
    assert (back - native).abs().max() <= 1 / 255


def test_to_tensor_floats_come_back_bit_for_bit() -> None:
    native = torch.from_numpy(PIXELS).permute(2, 0, 1).contiguous().float().div(255)
    inside, axes = read_image(native, name="image")
    assert torch.equal(write_image(inside, like=native, axes=axes), native)


def test_floats_a_rounding_error_beyond_the_range_are_taken() -> None:
    inside, _ = read_image(torch.tensor([[[1.0 + 1e-6, -1e-7]]]), name="image")
    assert inside[0, :, 0].tolist() == [255, 0]


def test_a_grey_image_in_a_dataset_of_colour_comes_back_grey() -> None:
    grey = PIL.Image.fromarray(PIXELS[..., 0])
    inside, axes = read_image(grey, name="image")
    assert (inside[..., 0] == inside[..., 2]).all()
    assert write_image(inside, like=PIL.Image.fromarray(PIXELS), axes=axes).mode == "L"


def test_a_colour_image_in_a_dataset_of_grey_comes_back_in_colour() -> None:
    inside, axes = read_image(torch.from_numpy(PIXELS).permute(2, 0, 1), name="image")
    like = torch.zeros(1, 2, 2, dtype=torch.uint8)
    assert write_image(inside, like=like, axes=axes).shape == (3, 6, 8)


def test_a_generator_that_colours_a_grey_image_gives_its_brightness() -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    assert write_image(red, like=torch.zeros(1, 2, 2, dtype=torch.uint8), axes="HW1").unique().tolist() == [76]


def test_without_known_axes_those_of_the_example_are_used() -> None:
    assert write_image(PIXELS, like=np.zeros((4, 4), np.uint8), axes=None).shape == (6, 8)
    assert write_image(PIXELS, like=PIL.Image.new("RGB", (4, 4)), axes=None).mode == "RGB"
    assert write_image(PIXELS, like=torch.zeros(1, 4, 4, dtype=torch.uint8), axes=None).shape == (1, 6, 8)


def test_pixels_that_share_memory_with_the_item_are_read_only() -> None:
    native = PIXELS.copy()
    inside, _ = read_image(native, name="image")
    assert np.shares_memory(inside, native)
    assert not inside.flags.writeable
    assert native.flags.writeable


def test_a_tensor_that_needs_gradients_is_read() -> None:
    inside, _ = read_image(torch.zeros(3, 2, 2, requires_grad=True), name="image")
    assert inside.max() == 0


@pytest.mark.parametrize(("value", "answer"), [(PIXELS, True), (PIXELS[0, 0], False), ("image.jpg", False)])
def test_images_are_known_by_their_form(value: Any, answer: bool) -> None:
    assert is_image(value) is answer


TWO_WAYS_OUT = (
    "Hand the normalisation over with transforms=, which is applied after mixing, or pass adapter=, an object that "
    "undoes and repeats it."
)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (
            torch.tensor([[[-2.0, 2.5]]]),
            ValueError,
            f"the values of dataset[3][0] must lie in 0..1, got the values of dataset[3][0]=[-2.0, 2.5]. {TWO_WAYS_OUT}",
        ),
        (
            np.full((2, 2, 3), 200.0),
            ValueError,
            f"the values of dataset[3][0] must lie in 0..1, got the values of dataset[3][0]=[200.0, 200.0]. {TWO_WAYS_OUT}",
        ),
        (
            torch.full((3, 2, 2), float("nan")),
            ValueError,
            f"the values of dataset[3][0] must lie in 0..1, got the values of dataset[3][0]=[nan, nan]. {TWO_WAYS_OUT}",
        ),
        (
            torch.zeros(3, 2, 2, dtype=torch.int64),
            TypeError,
            "dataset[3][0] must be uint8, or float in 0..1, got dataset[3][0]=<array of shape (3, 2, 2), int64>. "
            "Convert it to uint8 in the dataset.",
        ),
        (
            torch.zeros(4, 2, 2, dtype=torch.uint8),
            ValueError,
            "dataset[3][0] must have shape (3, H, W), (1, H, W) or (H, W), got "
            "dataset[3][0]=<tensor of shape (4, 2, 2), torch.uint8>. Leave the alpha channel out in the dataset.",
        ),
        (
            np.zeros((3, 8, 8), np.uint8),
            ValueError,
            "dataset[3][0] must have shape (H, W, 3), (H, W, 1) or (H, W), got "
            "dataset[3][0]=<array of shape (3, 8, 8), uint8>.",
        ),
        (
            np.zeros((3, 0, 3), np.uint8),
            ValueError,
            "dataset[3][0] must have at least one pixel, got dataset[3][0]=array([], shape=(3, 0, 3), dtype=uint8).",
        ),
        (
            PIL.Image.new("RGBA", (2, 2)),
            ValueError,
            "the mode of dataset[3][0] must be 'RGB' or 'L', got the mode of dataset[3][0]='RGBA'. Let the dataset "
            "return image.convert('RGB').",
        ),
        (
            PIL.Image.new("I;16", (2, 2)),
            ValueError,
            "the mode of dataset[3][0] must be 'RGB' or 'L', got the mode of dataset[3][0]='I;16'. Convert it to 8 bit "
            "in the dataset: how its range is mapped to 0..255 is your choice, and convert('RGB') would clip it.",
        ),
        (
            torch.zeros(3, 2, 2, dtype=torch.uint16),
            TypeError,
            "dataset[3][0] must be uint8, or float in 0..1, got dataset[3][0]=<array of shape (3, 2, 2), uint16>. "
            "Convert it to uint8 in the dataset.",
        ),
        ("a.jpg", TypeError, "dataset[3][0] must be a PIL image, a tensor or an array, got dataset[3][0]='a.jpg'."),
    ],
    ids=[
        "normalised",
        "0..255",
        "nan",
        "integers",
        "alpha",
        "CHW array",
        "empty",
        "PIL with alpha",
        "PIL, 16 bit",
        "16 bit",
        "a path",
    ],
)
def test_images_of_another_kind_are_refused(image: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        read_image(image, name="dataset[3][0]")
