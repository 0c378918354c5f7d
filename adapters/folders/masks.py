"""Semantic segmentation from disk, as recipes and the command line read it: `MasksDataset`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from synthloader.adapters.folders.image_files import list_image_files, read_image_file, read_image_size, show_path
from synthloader.adapters.folders.mask_files import MaskFile
from synthloader.checks import check_int, reject
from synthloader.registry import register_plugin
from synthloader.sources import ItemFacts

__all__ = ["MasksDataset"]

_WHITE = 255


class MasksDataset(Dataset[tuple[Any, Any]]):
    """A folder of images, and one of masks of the same names: `images/a/1.jpg`, `masks/a/1.png`.

    An item is `(image, mask)`: a uint8 tensor (3, H, W), RGB, and torchvision's `Mask` (H, W), int64, of class ids
    (torchvision's transforms turn and cut a `Mask` along with the image, and resize it without blending ids).

    Masks are PNGs of one channel, or with a palette. Pixels are never turned by EXIF: masks belong to stored pixels.

    Args:
        images: Folder of images.
        masks: Folder of masks. Every image must have one; masks without an image are left alone.
        names: Class names, a list that begins with the background (id 0), or a dict of ids and names; with them, masks
            with other ids are refused.
        ignore_index: The id of pixels that count for nothing.
        values: Pixel value to class id, for masks whose pixels are no ids: `{255: 1}` where the object is white. None:
            pixels are ids, and a mask of 0 and 255 alone is refused, because 255 would count for nothing; `{}`: they
            are, and such masks are right.
        transforms: Called with image and mask; lifted by `MixedDataset`, which applies it after mixing.

    Attributes:
        root: The folder of images.
        classes: Class names, in the order of their ids.
        class_to_idx: Class name to id.
        ignore_index: As given.

    Raises:
        FileNotFoundError: A folder does not exist, or an image has no mask.
        ValueError: There are no images.
    """

    lifts_transforms = True

    def __init__(
        self,
        images: str | os.PathLike[str],
        masks: str | os.PathLike[str],
        *,
        names: Sequence[str] | Mapping[int, str] | None = None,
        ignore_index: int = 255,
        values: Mapping[int, int] | None = None,
        transforms: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.root = Path(os.path.abspath(images))
        self.ignore_index = check_int("ignore_index", ignore_index)
        self.values = None if values is None else _read_values(values)
        self.transforms = transforms
        self._files = list_image_files(self.root, name="images")
        self._masks = _find_masks(self._files, self.root, Path(os.path.abspath(masks)))
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names or ())
        self.class_to_idx: dict[str, int] = {
            str(name): check_int("an id in names", class_id, minimum=0) for class_id, name in pairs
        }
        self.classes: list[str] = list(self.class_to_idx)
        self._known = np.array(sorted({0, self.ignore_index, *self.class_to_idx.values()}))
        self._sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Number of images."""
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Image and mask.

        Raises:
            OSError: A file is cut short or no image.
            ValueError: The mask has colours, another size, or an id without a name; the message has the file.
        """
        from torchvision import tv_tensors  # type: ignore[import-untyped, unused-ignore]

        place = self._check_index(index)
        pixels = read_image_file(self._files[place])
        ids = self._read_ids(self._masks[place], (pixels.shape[0], pixels.shape[1]))
        make_mask: Any = tv_tensors.Mask
        image, mask = torch.from_numpy(pixels).permute(2, 0, 1), make_mask(torch.from_numpy(ids.astype(np.int64)))
        return (image, mask) if self.transforms is None else self.transforms(image, mask)

    def get_height_and_width(self, index: int, /) -> tuple[int, int]:
        """Size of an image, from the header of its file."""
        place = self._check_index(index)
        if place not in self._sizes:
            self._sizes[place] = read_image_size(self._files[place])
        return self._sizes[place]

    def read_facts(self, index: int, /) -> ItemFacts:
        """What is known of an item without decoding it; the classes of a mask are not."""
        place = self._check_index(index)
        file = self._files[place]
        annotation: Any = self._masks[place].path
        if self.values is not None or self.ignore_index != _WHITE:
            annotation = [self._masks[place].stamp(), self.ignore_index, sorted((self.values or {}).items())]
        return ItemFacts(show_path(file, self.root), str(file), annotation, self.get_height_and_width(place), None)

    def __repr__(self) -> str:
        return f"MasksDataset({len(self)} images, {len(self.classes)} classes, root={str(self.root)!r})"

    def _check_index(self, index: int) -> int:
        place = check_int("index", index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"index must lie in a dataset of {len(self)} images, got index={index}.")
        return place % len(self)

    def _read_ids(self, file: MaskFile, size_hw: tuple[int, int]) -> np.ndarray:
        ids = stored = file.read(size_hw)
        for value, class_id in (self.values or {}).items():
            ids = np.where(stored == value, np.int32(class_id), ids)
        if self.values is None and self.ignore_index == _WHITE and _is_black_and_white(ids):
            reject(
                f"the ids in the mask {file.path}",
                "be others than 0 and the ignore_index",
                [0, _WHITE],
                "Pass values={255: 1} if the object is white, or values={} if these pixels count for nothing.",
            )
        if self.classes:
            unknown = np.setdiff1d(ids, self._known)
            if len(unknown):
                reject(
                    f"the ids in the mask {file.path}",
                    f"be in names, 0, or the ignore_index {self.ignore_index}",
                    unknown[:8].tolist(),
                    "Add the names, or correct the mask.",
                )
        return ids


def _is_black_and_white(ids: np.ndarray) -> bool:
    is_white = ids == _WHITE
    return bool(is_white.any() and not is_white.all() and not ids[~is_white].any())


def _read_values(values: Mapping[int, int]) -> dict[int, int]:
    if not isinstance(values, Mapping):
        reject("values", "be a dict of pixel values and class ids", values, "Write {255: 1}.", error=TypeError)
    return {check_int("values", value): check_int("values", class_id) for value, class_id in values.items()}


def _find_masks(files: Sequence[Path], images: Path, masks: Path) -> list[MaskFile]:
    by_stem: dict[Path, list[Path]] = {}
    for mask in list_image_files(masks, name="masks"):
        by_stem.setdefault(mask.relative_to(masks).with_suffix(""), []).append(mask)
    found = []
    for file in files:
        stem = file.relative_to(images).with_suffix("")
        fitting = by_stem.get(stem, [])
        if not fitting:
            what = f"hold a mask for {file}"
            reject("masks", what, str(masks), f"Bring {stem.as_posix()}.png.", error=FileNotFoundError)
        if len(fitting) > 1:
            reject("masks", f"hold one mask for {file}", [each.name for each in fitting], "Remove the others.")
        found.append(MaskFile(fitting[0]))
    return found


register_plugin("formats", MasksDataset, name="masks")
