"""How the pixels of a record are stored: `raw`, `zstd`, `jpeg` and `jpeg-444`.

| codec | pixels | stored as |
|---|---|---|
| `raw` | exact | rows of RGB bytes |
| `zstd` | exact | each row as its difference to the row above, modulo 256; zstd, level 1 |
| `jpeg` | changed | baseline JPEG, quality 95, chroma at half the height and width (4:2:0) |
| `jpeg-444` | changed | baseline JPEG, quality 95, chroma at full size (4:4:4) |

Both lossy codecs leave a signature: a small network tells copies by `jpeg` from their originals with an AUC of 0.97
to 1.00 where the originals had no such pass themselves, and copies by `jpeg-444` in every case measured (0.94 to
1.00), also after resizing and flipping. Mixed with real images, generated ones are then known by it. `raw` and `zstd`
stay at chance (`python -m benchmarks.codec_signature`).

Images whose three channels are equal are stored as one channel by all but `raw`. The JPEG library takes no sides of
more than 65500 pixels: such images are stored by `zstd`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
import zstandard

__all__ = ["CODECS", "DEFAULT_CODEC", "LOSSLESS_CODECS", "UnknownCodecError", "decode_image", "encode_image"]

CODECS = ("raw", "zstd", "jpeg", "jpeg-444")
"""What a cache can be told to store images by."""

LOSSLESS_CODECS = ("raw", "zstd")
"""Those that give back the very pixels."""

DEFAULT_CODEC = "zstd"
"""Lossless, so that generated images bear no mark by which a network could tell them from real ones."""

_JPEG_QUALITY = 95
_JPEG_MAX_SIDE = 65500
_SUBSAMPLINGS = {"jpeg": "420", "jpeg-444": "444"}
_ZSTD_LEVEL = 1

# What a byte can stand for at most: 4 bytes of zstd for a block of 128 KiB, 6 bits of JPEG for one of 64 pixels.
_ZSTD_MAX_RATIO = (128 << 10) // 4
_JPEG_MAX_PIXELS_PER_BYTE = 128
_SHORT_ROW_BYTES = 256

_local = threading.local()


class UnknownCodecError(ValueError):
    """A record names a codec that this version does not have."""


def encode_image(image: np.ndarray, codec: str, /) -> tuple[dict[str, Any], bytes | memoryview]:
    """What a record holds of an image.

    Args:
        image: (H, W, 3) uint8, RGB.
        codec: One of `CODECS`.

    Returns:
        The codec and its parameters, by name; and the bytes.

    Example:
        >>> image = np.full((480, 640, 3), 7, np.uint8)
        >>> parameters, data = encode_image(image, "zstd")
        >>> parameters, len(data) < 100
        ({'codec': 'zstd', 'size_hw': [480, 640], 'channels': 1, 'filter': 'up'}, True)
        >>> bool((decode_image(parameters, data) == image).all())
        True
    """
    size_hw = list(image.shape[:2])
    if codec == "raw":
        return {"codec": "raw", "size_hw": size_hw, "channels": 3}, image.data.cast("B")
    pixels = image[:, :, :1] if _is_gray(image) else image
    channels = pixels.shape[2]
    if codec == "zstd" or max(size_hw) > _JPEG_MAX_SIDE:
        rows = pixels.reshape(size_hw[0], -1)
        deltas = rows.copy()
        deltas[1:] -= rows[:-1]
        data = _get_compressor().compress(deltas)
        return {"codec": "zstd", "size_hw": size_hw, "channels": channels, "filter": "up"}, data
    subsampling = "Gray" if channels == 1 else _SUBSAMPLINGS[codec]
    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels),
        quality=_JPEG_QUALITY,
        colorspace="GRAY" if channels == 1 else "RGB",
        colorsubsampling=subsampling,
        fastdct=False,
    )
    return {
        "codec": "jpeg",
        "size_hw": size_hw,
        "channels": channels,
        "quality": _JPEG_QUALITY,
        "subsampling": subsampling,
    }, data


def decode_image(parameters: Any, data: bytes | memoryview, /, *, view: bool = False) -> np.ndarray:
    """The image that `encode_image` was given, or what JPEG made of it.

    Args:
        parameters: The codec and its parameters.
        data: The bytes.
        view: Raw pixels share the memory of `data`, and nobody can write to the image.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UnknownCodecError: There is no such codec.
        ValueError, TypeError, LookupError: The bytes are not what the parameters say.
    """
    if (codec := parameters["codec"]) not in ("raw", "zstd", "jpeg"):
        raise UnknownCodecError(f"an image of codec {codec!r}, which this version does not know")
    (height, width), channels = _check_shape(parameters)
    size_bytes = height * width * channels
    match codec:
        case "raw":
            if len(data) != size_bytes or channels != 3:
                raise ValueError(f"{len(data)} bytes are no image of {height} x {width} pixels")
            pixels: np.ndarray = np.ndarray((height, width, 3), np.uint8, buffer=data)
            return pixels if view else pixels.copy()
        case "zstd":
            if parameters["filter"] != "up":
                raise UnknownCodecError(f"an image filter {parameters['filter']!r}, which this version does not know")
            pixels = _decode_zstd(data, height, width, channels)
        case _:
            pixels = _decode_jpeg(data, height, width, channels)
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    pixels.flags.writeable = not view
    return pixels


def _check_shape(parameters: Any) -> tuple[Sequence[int], int]:
    size_hw, channels = parameters["size_hw"], parameters["channels"]
    if len(size_hw) != 2 or any(type(side) is not int or side < 1 for side in size_hw) or channels not in (1, 3):
        raise ValueError(f"an image cannot have {channels!r} channels of {size_hw!r} pixels")
    return size_hw, channels


def _decode_zstd(data: bytes | memoryview, height: int, width: int, channels: int) -> np.ndarray:
    size_bytes = height * width * channels
    try:
        if zstandard.frame_content_size(data) != size_bytes or size_bytes > len(data) * _ZSTD_MAX_RATIO:
            raise ValueError(f"{len(data)} bytes of zstd do not hold {height} x {width} pixels")
        rows = np.empty((height, width * channels), np.uint8)
        with _get_decompressor().stream_reader(data) as reader:
            left = rows.reshape(-1).data
            while left and (count := reader.readinto(left)):
                left = left[count:]
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if left:
        raise ValueError(f"zstd ends {len(left)} bytes early")
    if rows.shape[1] < _SHORT_ROW_BYTES:
        np.add.accumulate(rows, axis=0, dtype=np.uint8, out=rows)
    else:  # Row by row takes a tenth of that where rows are long.
        above = rows[0]
        for row in rows[1:]:
            np.add(row, above, out=row)
            above = row
    return rows.reshape(height, width, channels)


def _decode_jpeg(data: bytes | memoryview, height: int, width: int, channels: int) -> np.ndarray:
    if height * width > (len(data) + 1) * _JPEG_MAX_PIXELS_PER_BYTE:
        raise ValueError(f"{len(data)} bytes of JPEG do not hold {height} x {width} pixels")
    pixels = np.empty((height, width, channels), np.uint8)
    found = simplejpeg.decode_jpeg(  # Refuses a larger image: the buffer has no room for it.
        data, colorspace="GRAY" if channels == 1 else "RGB", fastdct=False, fastupsample=False, buffer=pixels
    )
    if found.shape != pixels.shape:
        raise ValueError(f"a JPEG of shape {found.shape} where {pixels.shape} was announced")
    return pixels


def _is_gray(image: np.ndarray) -> bool:
    """Whether all three channels are equal; a few pixels decide nearly always."""
    height, width = image.shape[:2]
    few = image[:: max(1, height // 8), :: max(1, width // 8)]
    return all((part[..., :1] == part[..., 1:]).all() for part in (few, image))


def _get_compressor() -> zstandard.ZstdCompressor:
    """This thread's own: they must not be shared."""
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=False, write_content_size=True)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor


def _get_decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _local.decompressor
    return decompressor
