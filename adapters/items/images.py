"""Native images and the library's own: PIL images, CHW tensors and HWC arrays to uint8 (H, W, 3) RGB, and back.

8-bit images make the round trip bit for bit. Floats in 0..1 are rounded to 8 bit, so generated items carry at most 256
levels per channel; real items are not touched.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageFile
import torch

from synthloader.checks import reject

__all__ = ["is_image", "read_image", "write_image"]

_TWO_WAYS_OUT = (
    "Hand the normalisation over with transforms=, which is applied after mixing, or pass adapter=, an object that "
    "undoes and repeats it."
)
_NOT_8_BIT = (
    "Convert it to 8 bit in the dataset: how its range is mapped to 0..255 is your choice, and convert('RGB') would "
    "clip it."
)
_HALF_A_LEVEL = 0.5 / 255


def is_image(value: Any, /) -> bool:
    """Whether a value has the form of an image that `read_image` looks at: its content is not checked."""
    if isinstance(value, PIL.Image.Image):
        return True
    return isinstance(value, torch.Tensor | np.ndarray) and value.ndim in (2, 3)


def read_image(image: Any, /, *, name: str) -> tuple[np.ndarray, str]:
    """The pixels of a native image, and its axes.

    Args:
        image: PIL image (RGB or L), (3, H, W), (1, H, W) or (H, W) tensor, (H, W, 3), (H, W, 1) or (H, W) array; uint8
            or floats in 0..1.
        name: What the image is called in messages.

    Returns:
        uint8 (H, W, 3), RGB, C-contiguous; read-only where it may share memory with the item. And the axes: `"HW"`,
        `"HW1"` or `"HW3"`, which `write_image` wants back.

    Raises:
        TypeError: The image has another type or mode.
        ValueError: It has another shape, or values outside 0..1.
    """
    if isinstance(image, PIL.Image.Image):
        if image.mode not in ("RGB", "L"):
            is_deep = image.mode.startswith(("I", "F"))
            reject(
                f"the mode of {name}",
                "be 'RGB' or 'L'",
                image.mode,
                _NOT_8_BIT if is_deep else "Let the dataset return image.convert('RGB').",
            )
        pixels = np.asarray(image)
        axes = "HW3" if image.mode == "RGB" else "HW"
    elif isinstance(image, torch.Tensor):
        plain = image.detach().as_subclass(torch.Tensor).cpu()
        if plain.ndim not in (2, 3) or (plain.ndim == 3 and plain.shape[0] not in (1, 3)):
            reject(name, "have shape (3, H, W), (1, H, W) or (H, W)", image, _find_shape_remedy(plain.shape))
        axes = "HW" if plain.ndim == 2 else f"HW{plain.shape[0]}"
        pixels = _to_8_bit((plain.float() if plain.is_floating_point() else plain).numpy(), name)
        if axes == "HW3":
            last = pixels.transpose(1, 2, 0)
            pixels = last if last.flags.c_contiguous else cv2.merge([pixels[0], pixels[1], pixels[2]])
    elif isinstance(image, np.ndarray):
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            reject(name, "have shape (H, W, 3), (H, W, 1) or (H, W)", image, _find_shape_remedy(image.shape[::-1]))
        axes = "HW" if image.ndim == 2 else f"HW{image.shape[2]}"
        pixels = _to_8_bit(image, name)
    else:
        reject(name, "be a PIL image, a tensor or an array", image, error=TypeError)
    if pixels.size == 0:
        reject(name, "have at least one pixel", image)
    if axes != "HW3":
        if axes == "HW1":
            pixels = pixels[0] if isinstance(image, torch.Tensor) else pixels[..., 0]
        pixels = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_GRAY2RGB)
    pixels = np.ascontiguousarray(pixels).view()
    pixels.flags.writeable = False
    return pixels, axes


def write_image(pixels: np.ndarray, /, *, like: Any, axes: str | None) -> Any:
    """A native image of these pixels, in memory of its own.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        like: An image of the dataset: gives type, dtype, device and memory order.
        axes: Axes of the source's image as `read_image` gave them; None: those of `like`.
    """
    axes = axes or _find_axes(like)
    is_split = axes == "HW3" and isinstance(like, torch.Tensor) and like.is_contiguous()
    if axes != "HW3":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    elif not pixels.flags.writeable and not is_split:  # Splitting copies anyway.
        pixels = pixels.copy()
    if isinstance(like, PIL.Image.Image):
        image = PIL.Image.fromarray(pixels)
        if not isinstance(like, PIL.ImageFile.ImageFile):
            image.__class__ = type(like)  # somebody's own class of images: fastai's transforms go by it
        return image
    if isinstance(like, np.ndarray):
        shaped = pixels[..., None] if axes == "HW1" else pixels
        return shaped if like.dtype == np.uint8 else _to_floats(shaped, like.dtype)
    if is_split:
        planes = np.empty((3, *pixels.shape[:2]), np.uint8)
        cv2.split(pixels, [planes[0], planes[1], planes[2]])
        pixels = planes
    elif axes == "HW1":
        pixels = pixels[None]
    values = pixels
    if like.dtype != torch.uint8:
        values = _to_floats(pixels, np.dtype(np.float64 if like.dtype == torch.float64 else np.float32))
    tensor = torch.from_numpy(values)
    if axes == "HW3" and not like.is_contiguous():
        tensor = tensor.permute(2, 0, 1)
    tensor = tensor.to(device=like.device, dtype=like.dtype)
    return tensor if type(like) is torch.Tensor else tensor.as_subclass(type(like))


def _to_8_bit(values: np.ndarray, name: str) -> np.ndarray:
    """The 8-bit levels of an image; without torch, whose threads wait for each other on a busy machine."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        reject(name, "be uint8, or float in 0..1", values, "Convert it to uint8 in the dataset.", error=TypeError)
    if values.size == 0:
        return values.astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if not (low >= -_HALF_A_LEVEL and high <= 1 + _HALF_A_LEVEL):
        reject(f"the values of {name}", "lie in 0..1", [round(low, 4), round(high, 4)], _TWO_WAYS_OUT)
    levels: np.ndarray = np.multiply(values, 255, dtype=np.float32)
    np.rint(np.clip(levels, 0, 255, out=levels), out=levels)
    return levels.astype(np.uint8)


def _to_floats(pixels: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Levels in 0..1, the same that torchvision's `ToTensor` gives."""
    floats: np.ndarray = np.divide(pixels, 255, dtype=np.promote_types(dtype, np.float32))
    return floats.astype(dtype, copy=False)


def _find_shape_remedy(shape: tuple[int, ...]) -> str:
    """What to do about an image of this shape, channels first."""
    return "Leave the alpha channel out in the dataset." if len(shape) == 3 and shape[0] in (2, 4) else ""


def _find_axes(image: Any) -> str:
    if isinstance(image, PIL.Image.Image):
        return "HW" if image.mode == "L" else "HW3"
    if image.ndim == 2:
        return "HW"
    return f"HW{image.shape[0] if isinstance(image, torch.Tensor) else image.shape[2]}"
