"""Images without labels: `ImagesDataset` reads a folder of them, `UnlabelledAdapter` knows its items."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch.utils.data import Dataset

from synthloader.adapters.folders.image_files import list_image_files, read_image_file, read_image_size, show_path
from synthloader.adapters.items.images import is_image, read_image, write_image
from synthloader.checks import check_int, reject
from synthloader.keys import make_fingerprint
from synthloader.registry import describe_item, register_adapter, register_plugin
from synthloader.sample import Sample
from synthloader.sources import ItemFacts

__all__ = ["ImagesDataset", "UnlabelledAdapter"]

_VERSION = 1


class ImagesDataset(Dataset[tuple[Any]]):
    """The images of one or several folders, and of the folders in them, without labels.

    An item is `(image,)`: a uint8 tensor (3, H, W), RGB. Good as `pool:` of reference images. Images that are
    known to show no object, to paste onto, are read by `BackgroundsDataset`.

    Args:
        images: A folder, or a list of folders.
        transform: Called with the image; lifted by `MixedDataset`, which applies it after mixing.
        apply_orientation: Whether images are turned as EXIF says.

    Attributes:
        root: The folder that names of images are relative to.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no images.
    """

    lifts_transforms = True

    def __init__(
        self,
        images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        transform: Callable[[Any], Any] | None = None,
        apply_orientation: bool = False,
    ) -> None:
        given: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
        folders: list[str] = [os.path.abspath(folder) for folder in given]
        if not folders:
            reject("images", "name at least one folder", images)
        self.root = Path(os.path.commonpath(folders))
        self.transform = transform
        self.target_transform = None
        self.apply_orientation = apply_orientation
        self._files = sorted({file for folder in folders for file in list_image_files(folder, name="images")})
        self._sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Number of images."""
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Any]:
        """The image.

        Raises:
            OSError: The file is cut short or no image.
            ValueError: The image has more than 8 bit.
        """
        file = self._files[self._check_index(index)]
        image = torch.from_numpy(read_image_file(file, apply_orientation=self.apply_orientation)).permute(2, 0, 1)
        return (image,) if self.transform is None else (self.transform(image),)

    def get_height_and_width(self, index: int, /) -> tuple[int, int]:
        """Size of an image, from the header of its file."""
        place = self._check_index(index)
        if place not in self._sizes:
            self._sizes[place] = read_image_size(self._files[place], apply_orientation=self.apply_orientation)
        return self._sizes[place]

    def read_facts(self, index: int, /) -> ItemFacts:
        """What is known of an item without decoding its image."""
        place = self._check_index(index)
        file = self._files[place]
        return ItemFacts(
            show_path(file, self.root), str(file), [self.apply_orientation], self.get_height_and_width(place), []
        )

    def __repr__(self) -> str:
        return f"ImagesDataset({len(self)} images, root={str(self.root)!r})"

    def _check_index(self, index: int) -> int:
        place = check_int("index", index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"index must lie in a dataset of {len(self)} images, got index={index}.")
        return place % len(self)


class UnlabelledAdapter:
    """Images without labels, alone or as the only part of a tuple or list.

    Example:
        >>> item = (torch.zeros(3, 4, 6, dtype=torch.uint8),)
        >>> sample = UnlabelledAdapter().to_sample(item, index=0)
        >>> sample.size_hw, sample.target
        ((4, 6), None)
    """

    @property
    def fingerprint(self) -> str:
        """Name and version."""
        return make_fingerprint("UnlabelledAdapter", _VERSION)

    @classmethod
    def recognize(cls, dataset: Any, items: Sequence[Any], /) -> UnlabelledAdapter | None:
        """The adapter for these untransformed items; None when they have another format.

        Bare arrays must have three axes here: a table of numbers is no image.
        """
        return cls() if items and all(_is_unlabelled(item) for item in items) else None

    def to_sample(self, item: Any, /, *, index: int) -> Sample:
        """The sample of one untransformed item, without a target.

        Raises:
            TypeError: The item has another format.
            ValueError: The image has another shape, or values outside 0..1.
        """
        if not _is_unlabelled(item):
            reject(f"the form of dataset[{index}]", "be (image,)", describe_item(item), error=TypeError)
        image = item[0] if isinstance(item, tuple | list) else item
        pixels, axes = read_image(image, name=f"dataset[{index}]")
        return Sample(pixels, fields={"form": {"axes": axes}})

    def from_sample(self, sample: Sample, /, *, like: Any) -> Any:
        """An item of the dataset's own form, in memory of its own.

        Args:
            sample: A sample that came from an item of this dataset, perhaps through a generator and a cache.
            like: Any item of the dataset, for the types only.
        """
        inner = like[0] if isinstance(like, tuple | list) else like
        image = write_image(sample.image, like=inner, axes=sample.fields.get("form", {}).get("axes"))
        return type(like)([image]) if isinstance(like, tuple | list) else image

    def read_class_ids(self, item: Any, /) -> list[int]:
        """None: there are no labels."""
        return []

    def __repr__(self) -> str:
        return self.fingerprint


def _is_unlabelled(item: Any) -> bool:
    if type(item) in (tuple, list):
        return len(item) == 1 and is_image(item[0])
    return isinstance(item, PIL.Image.Image) or (is_image(item) and item.ndim == 3)


register_adapter(UnlabelledAdapter)
register_plugin("formats", ImagesDataset, name="images")
