"""The samples that every contender keeps: photographs of 640x480 with 8 boxes, 8 labels and 8 masks, as one JPEG each.

The photographs are BCCD's (`../shared/data`), else drawn ones. All are encoded once, so that every contender starts
from the same JPEG bytes and must give back the very pixels that these decode to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg

from benchmarks.harness import SHARED
from synthloader import Instances, Sample
from synthloader.cache.bitmasks import pack_masks, unpack_masks

SIZE_HW = (480, 640)
NUM_INSTANCES = 8
NUM_CLASSES = 3

Fields = dict[str, Any]
"""The parts of a sample as bytes, by name: what a store of bytes is given, and gives back."""


class Item(NamedTuple):
    """What a contender gives back: (H, W, 3) uint8, (8, 4) float32, (8,) int64, (8, H, W) bool or uint8 in 0..1."""

    image: Any
    boxes: Any
    labels: Any
    masks: Any


@dataclass(frozen=True)
class Photograph:
    """One sample: the picture before it was a JPEG, the JPEG, and what that decodes to with its targets."""

    key: bytes
    picture: np.ndarray
    jpeg: bytes
    item: Item

    @property
    def has_masks(self) -> bool:
        """Whether the masks are those of the image."""
        return bool(self.item.masks.shape[1:] == SIZE_HW)

    def strip(self) -> Photograph:
        """The same with masks of one pixel each: those who have a column for them keep it, at no cost."""
        return replace(self, item=self.item._replace(masks=np.zeros((NUM_INSTANCES, 1, 1), np.bool_)))

    def find_image(self, codec: str) -> np.ndarray:
        """The pixels that our cache is given: its codec `jpeg` makes the same JPEG of the picture, others keep them."""
        return self.picture if codec == "jpeg" else self.item.image

    def to_sample(self, *, codec: str) -> Sample:
        """What our cache is given."""
        masks = self.item.masks if self.has_masks else None
        return Sample(self.find_image(codec), Instances(class_ids=self.item.labels, boxes=self.item.boxes, masks=masks))


def load_photographs(count: int) -> list[Photograph]:
    """The first `count` photographs with their targets; beyond the last one they are mirrored."""
    rng = np.random.default_rng(0)
    pictures = _read_pictures(count)
    photographs = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        turns = number // len(pictures)
        if turns:
            picture = np.ascontiguousarray(np.roll(picture[:, ::-1] if turns % 2 else picture, 16 * turns, axis=1))
        jpeg = encode_jpeg(picture)
        masks = _draw_masks(rng)
        item = Item(decode_jpeg(jpeg), _find_boxes(masks), rng.integers(0, NUM_CLASSES, NUM_INSTANCES), masks)
        photographs.append(Photograph(number.to_bytes(16, "big"), picture, jpeg, item))
    return photographs


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """A JPEG of quality 95 and 4:2:0, as our codec `jpeg` makes it."""
    data: bytes = simplejpeg.encode_jpeg(pixels, quality=95, colorspace="RGB", colorsubsampling="420", fastdct=False)
    return data


def decode_jpeg(data: Any, buffer: np.ndarray | None = None) -> np.ndarray:
    """The pixels of a JPEG by the fastest decoder that gives the exact ones; into `buffer` where there is one."""
    pixels = np.empty((*SIZE_HW, 3), np.uint8) if buffer is None else buffer
    simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False, buffer=pixels)
    return pixels


def encode_fields(photograph: Photograph, *, anew: bool = False) -> Fields:
    """A sample as bytes; the JPEG is made anew where encoding is what is measured."""
    item = photograph.item
    extents, bits = pack_masks(item.masks)
    return {
        "jpeg": encode_jpeg(photograph.picture) if anew else photograph.jpeg,
        "boxes": item.boxes.tobytes(),
        "labels": item.labels.tobytes(),
        "extents": extents.tobytes(),
        "bits": bits,
    }


def decode_fields(fields: Fields) -> Item:
    """The sample that some bytes hold, with arrays of its own, by the same decoders for all."""
    extents = np.frombuffer(fields["extents"], np.int32).reshape(-1, 4)
    return Item(
        decode_jpeg(fields["jpeg"]),
        np.frombuffer(fields["boxes"], np.float32).reshape(-1, 4).copy(),
        np.frombuffer(fields["labels"], np.int64).copy(),
        unpack_masks(extents, fields["bits"], size_hw=SIZE_HW),
    )


FIELD_NAMES = ("jpeg", "boxes", "labels", "extents", "bits")


def join_fields(fields: Fields) -> bytes:
    """All fields in one piece, for stores that keep one value under a key."""
    lengths = np.array([len(fields[name]) for name in FIELD_NAMES], np.int64)
    return b"".join([lengths.tobytes(), *(fields[name] for name in FIELD_NAMES)])


def split_fields(data: Any) -> Fields:
    """What `join_fields` joined, without copying."""
    view = memoryview(data)
    fields, position = {}, 8 * len(FIELD_NAMES)
    for name, length in zip(FIELD_NAMES, np.frombuffer(view[:position], np.int64).tolist(), strict=True):
        fields[name] = view[position : position + length]
        position += length
    return fields


def describe_difference(found: Item, expected: Item) -> int:
    """The largest difference of a pixel, where boxes, labels and masks are equal.

    Raises:
        ValueError: They are not, or a shape or type is another.
    """
    for name in ("boxes", "labels", "masks"):
        ours, theirs = np.asarray(getattr(found, name)), getattr(expected, name)
        if ours.shape != theirs.shape or not np.array_equal(ours, theirs):
            raise ValueError(f"{name} came back as other ones")
    image = np.asarray(found.image)
    if image.shape != expected.image.shape or image.dtype != np.uint8:
        raise ValueError(f"the image came back as {image.dtype} of shape {image.shape}")
    return int(np.abs(image.astype(np.int16) - expected.image).max())


def _read_pictures(count: int) -> Sequence[np.ndarray]:
    folder = SHARED / "data" / "bccd_blood_cells" / "JPEGImages"
    files = sorted(folder.glob("*.jpg"))[:count]
    if files:
        pictures: list[Any] = [cv2.imread(str(file)) for file in files]
        return [cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in pictures if picture.shape[:2] == SIZE_HW]
    rng = np.random.default_rng(1)
    return [
        cv2.GaussianBlur(rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8), (9, 9), 3) for _ in range(min(count, 100))
    ]


def _draw_masks(rng: np.random.Generator) -> np.ndarray:
    """Filled ellipses of the size of cells, anywhere in the image, some cut by its edge."""
    masks = np.zeros((NUM_INSTANCES, *SIZE_HW), np.uint8)
    for mask in masks:
        center = (int(rng.integers(20, 620)), int(rng.integers(20, 460)))
        axes = (int(rng.integers(15, 60)), int(rng.integers(15, 60)))
        cv2.ellipse(mask, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
    return masks.view(np.bool_)


def _find_boxes(masks: np.ndarray) -> np.ndarray:
    boxes = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return np.array(boxes, np.float32)
