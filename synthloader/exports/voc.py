"""Pascal VOC: `JPEGImages/`, `Annotations/`, `ImageSets/`, and masks in `SegmentationClass/`, `SegmentationObject/`.

* Boxes are whole pixels counted from 1, both ends included, as in VOC: the box that covers the pixels of columns 0 to 3
  has `xmin` 1 and `xmax` 4. Readers that take 1 from `xmin` and `ymin` alone get our x1 y1 x2 y2. Boxes of whole
  pixels come back exactly, others to within half a pixel; many readers take whole numbers only, so there are no others.
  A sample with a box of which no whole pixel is left after rounding is left out.
* `difficult` and `truncated` are 0: nothing is known of either. VOC has no crowds (readers take a `difficult` object
  for one single object that is hard to see), so a sample with a crowd is left out.
* Masks are PNGs with VOC's palette: in `SegmentationClass/` 0 is background and class k the k-th class in the order of
  the dataset's own ids, from 1 on, as `classes` in `export.json` lists them; in `SegmentationObject/` object k is the
  k-th of the XML file, from 1 on. Where numbers overlap stands 255, VOC's mark of pixels that count for nothing.
  An image of more than 254 objects has a 16-bit PNG for these instead, in which that mark is 65535.
  `ImageSets/Segmentation/` lists the images with masks; keypoints and attributes have no place here.
* torchvision's `VOCDetection` wants the suffix `.jpg`, so `image_format="jpeg"`, and the folder
  `<root>/VOCdevkit/VOC2012`.
"""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import PIL.Image

from synthloader.checks import reject
from synthloader.exports.folder import ExportFolder
from synthloader.exports.pixels import encode_id_map, encode_image, find_suffix
from synthloader.exports.target_kinds import require_classes, require_target
from synthloader.exports.writer import ExportOptions, LeftOutError
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["VocWriter"]

MAX_IDS = 254
"""Most ids in a PNG with a palette: 0 is background, 255 stands for no object."""

_MAIN, _SEGMENTATION = "ImageSets/Main/train.txt", "ImageSets/Segmentation/train.txt"
_NO_XML = re.compile("[\x00-\x1f\x7f\ufffe\uffff]")


class VocWriter:
    """Writes Pascal VOC.

    Args:
        folder: Where to.
        options: Classes and image format.

    Raises:
        ValueError: XML cannot hold the name of a class.
    """

    fixed_files: tuple[str, ...] = (_MAIN, _SEGMENTATION)

    def __init__(self, folder: ExportFolder, options: ExportOptions) -> None:
        for class_id, name in options.class_names.items():
            if name != name.strip() or _NO_XML.search(name):
                reject(
                    f"class_names[{class_id}]",
                    "have no control characters, and no spaces at its ends, to be written as 'voc'",
                    name,
                    "Rename the class.",
                )
        self._folder = folder
        self._options = options
        self._numbers = {class_id: number for number, class_id in enumerate(options.class_names, start=1)}
        self._written: dict[str, bool] = {}
        self._waiting: list[tuple[str, tuple[int, int]]] = []

    def add(self, name: str, sample: Sample, /) -> dict[str, str]:
        """Write the image, its annotation, and its masks.

        Whether an image without objects has masks is said by the others: these are written at the end.
        """
        target = require_target(sample, Instances, format="voc")
        require_classes(name, target.class_ids.tolist(), self._options.class_names)
        if target.crowd is not None and target.crowd.any():
            raise LeftOutError("crowd region")
        corners = _round_boxes(target.boxes)
        if (corners[:, 2:] < corners[:, :2]).any():
            raise LeftOutError("box too thin for whole pixels")
        if target.masks is not None and len(target):
            self._write_masks(name, target.class_ids, target.masks)
        file = f"JPEGImages/{self._name_image(name)}"
        self._folder.write(file, encode_image(sample.image, self._options.image_format))
        if target.masks is not None and len(target) == 0:
            self._waiting.append((name, sample.size_hw))
            self._written[name] = False
        else:
            self._write_annotation(name, sample.size_hw, target.class_ids, corners, target.masks is not None)
        return {"file": file}

    def finish(self) -> None:
        """Write the images without objects, and the lists of images."""
        has_masks = any(self._written.values())
        for name, size_hw in self._waiting:
            if has_masks:
                self._write_masks(name, np.zeros(0, np.int64), np.zeros((0, *size_hw), np.bool_))
            self._write_annotation(name, size_hw, np.zeros(0, np.int64), np.zeros((0, 4), np.int64), has_masks)
        self._write_list(_MAIN, list(self._written))
        if has_masks:
            self._write_list(_SEGMENTATION, [name for name, is_segmented in self._written.items() if is_segmented])

    def _name_image(self, name: str) -> str:
        return f"{name}{find_suffix(self._options.image_format)}"

    def _write_list(self, file: str, names: list[str]) -> None:
        self._folder.write(file, "".join(f"{name}\n" for name in names).encode("ascii"))

    def _write_annotation(
        self, name: str, size_hw: tuple[int, int], class_ids: np.ndarray, corners: np.ndarray, is_segmented: bool
    ) -> None:
        self._written[name] = is_segmented
        root = ElementTree.Element("annotation")
        _add(root, folder="JPEGImages", filename=self._name_image(name))
        _add(ElementTree.SubElement(root, "source"), database="synthloader")
        _add(ElementTree.SubElement(root, "size"), width=str(size_hw[1]), height=str(size_hw[0]), depth="3")
        _add(root, segmented=str(int(is_segmented)))
        for class_id, corner in zip(class_ids.tolist(), corners.tolist(), strict=True):
            thing = ElementTree.SubElement(root, "object")
            _add(thing, name=self._options.class_names[class_id], pose="Unspecified", truncated="0", difficult="0")
            edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), map(str, corner), strict=True))
            _add(ElementTree.SubElement(thing, "bndbox"), **edges)
        ElementTree.indent(root, "\t")
        text: bytes = ElementTree.tostring(root, encoding="utf-8")
        self._folder.write(f"Annotations/{name}.xml", text + b"\n")

    def _write_masks(self, name: str, class_ids: np.ndarray, masks: np.ndarray) -> None:
        if len(self._numbers) > MAX_IDS:
            reject(
                "class_names",
                f"have at most {MAX_IDS} classes for the masks of 'voc'",
                self._options.class_names,
                "Export as 'coco', or leave the masks out.",
            )
        numbers = np.array([self._numbers[class_id] for class_id in class_ids.tolist()], np.int64)
        self._folder.write(f"SegmentationClass/{name}.png", _encode_with_palette(_paint(masks, numbers, np.uint8)))
        numbers = np.arange(1, len(masks) + 1)
        is_narrow = len(masks) <= MAX_IDS
        encode = _encode_with_palette if is_narrow else encode_id_map
        self._folder.write(
            f"SegmentationObject/{name}.png", encode(_paint(masks, numbers, np.uint8 if is_narrow else np.uint16))
        )


def _round_boxes(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) int64, the first and the last pixel in x and y, counted from 1; halves are rounded up."""
    whole = np.floor(boxes.astype(np.float64) + 0.5).astype(np.int64)
    whole[:, :2] += 1
    return whole


def _paint(masks: np.ndarray, numbers: np.ndarray, dtype: type[np.uint8 | np.uint16]) -> np.ndarray:
    """(H, W), the number of the mask that covers a pixel; the type's largest under masks of different numbers."""
    canvas = np.zeros(masks.shape[1:], dtype)
    is_void = np.zeros(masks.shape[1:], np.bool_)
    for mask, number in zip(masks, numbers.tolist(), strict=True):
        is_void |= mask & (canvas != 0) & (canvas != number)
        canvas[mask] = number
    canvas[is_void] = np.iinfo(dtype).max
    return canvas


def _encode_with_palette(ids: np.ndarray) -> bytes:
    picture = PIL.Image.fromarray(ids)
    picture.putpalette(_make_palette().tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _make_palette() -> np.ndarray:
    """(256, 3) uint8, VOC's colours: the bits of the number dealt out to red, green and blue, the highest first."""
    numbers = np.arange(256)[:, None] >> np.arange(0, 24, 3)  # three bits at a time
    bits = (numbers[:, :, None] >> np.arange(3)) & 1
    palette: np.ndarray = (bits << (7 - np.arange(8))[:, None]).sum(axis=1).astype(np.uint8)
    return palette


def _add(parent: ElementTree.Element, **texts: str) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = text
