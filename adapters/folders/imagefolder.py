"""Classification from disk, as recipes and the command line read it: `ImageFolderDataset`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from synthloader.adapters.folders.image_files import list_image_files, read_image_file, read_image_size, show_path
from synthloader.checks import check_int, reject
from synthloader.registry import register_plugin
from synthloader.sources import ItemFacts

__all__ = ["ImageFolderDataset"]


class ImageFolderDataset(Dataset[tuple[Any, Any]]):
    """A folder for each class, named after it, with its images: `root/cat/1.jpg`, `root/dog/more/2.png`.

    An item is `(image, class_id)`: a uint8 tensor (3, H, W), RGB, and an int. As in torchvision's `ImageFolder`,
    classes are numbered from 0 by the alphabet of the folders, and images come class by class in the order of their
    paths; a class without images keeps its number. Hidden files are no images. torchvision counts hidden folders
    (`.ipynb_checkpoints`) as classes, which moves the number of every other one: they are refused, unless `names` says
    the numbers.

    Args:
        root: The folder of folders.
        names: Names of the folders in the order of the class ids; None: the alphabet's. What stands in another order
            or lacks a class (an export, a rendered set) gets the numbers of the real data so.
        transform: Called with the image; lifted by `MixedDataset`, which applies it after mixing.
        target_transform: Called with the class id, likewise.
        apply_orientation: Whether images are turned as EXIF says, as Ultralytics does, and torchvision does not.

    Attributes:
        root: The folder.
        classes: Class names, in the order of their ids.
        class_to_idx: Class name to id.
        samples: (path, class id) of every image.
        targets: The class id of every image.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has no folders of classes, or no images.
    """

    lifts_transforms = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        names: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        apply_orientation: bool = False,
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self.transform = transform
        self.target_transform = target_transform
        self.apply_orientation = apply_orientation
        self.classes = _list_classes(self.root, names)
        self.class_to_idx: dict[str, int] = {name: class_id for class_id, name in enumerate(self.classes)}
        files = list_image_files(self.root, name="root")
        found = [(file, self.class_to_idx.get(file.relative_to(self.root).parts[0])) for file in files]
        if stray := [file for file, class_id in found if class_id is None and file.parent == self.root]:
            remedy = "Move it into the folder of its class; a folder without classes is read as format 'images'."
            reject("root", "hold images in folders of classes only", str(stray[0]), remedy)
        self.samples = sorted(
            ((str(file), class_id) for file, class_id in found if class_id is not None),
            key=lambda pair: pair[1],
        )
        self.targets = [class_id for _, class_id in self.samples]
        self._sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Number of images."""
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Image and class id.

        Raises:
            OSError: The file is cut short or no image.
            ValueError: The image has more than 8 bit.
        """
        file, class_id = self.samples[self._check_index(index)]
        image: Any = torch.from_numpy(read_image_file(file, apply_orientation=self.apply_orientation)).permute(2, 0, 1)
        label: Any = class_id
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return image, label

    def get_height_and_width(self, index: int, /) -> tuple[int, int]:
        """Size of an image, from the header of its file."""
        place = self._check_index(index)
        if place not in self._sizes:
            self._sizes[place] = read_image_size(self.samples[place][0], apply_orientation=self.apply_orientation)
        return self._sizes[place]

    def read_facts(self, index: int, /) -> ItemFacts:
        """What is known of an item without decoding its image."""
        place = self._check_index(index)
        file, class_id = self.samples[place]
        annotation = [class_id, self.apply_orientation]
        return ItemFacts(show_path(file, self.root), file, annotation, self.get_height_and_width(place), [class_id])

    def __repr__(self) -> str:
        return f"ImageFolderDataset({len(self)} images, {len(self.classes)} classes, root={str(self.root)!r})"

    def _check_index(self, index: int) -> int:
        place = check_int("index", index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"index must lie in a dataset of {len(self)} images, got index={index}.")
        return place % len(self)


def _list_classes(root: Path, names: Sequence[str] | None) -> list[str]:
    if not root.is_dir():
        reject("root", "name an existing folder", str(root), error=FileNotFoundError)
    every = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    found = [name for name in every if not name.startswith(".")]
    if not found:
        remedy = "A folder without classes is read as format 'images'."
        reject("root", "hold a folder for each class", str(root), remedy)
    if names is None:
        if hidden := [name for name in every if name.startswith(".")]:
            reject(
                "root",
                "hold no hidden folders, which torchvision's ImageFolder counts as classes",
                str(root / hidden[0]),
                f"Remove it, or state the numbers of the classes: names={found}.",
            )
        return found
    stated = [str(name) for name in names]
    if len(set(stated)) != len(stated):
        reject("names", "be different for each class", stated)
    if hidden := [name for name in stated if name.startswith(".")]:
        reject("names", "be folders that are not hidden", stated, f"Rename {hidden[0]!r}.")
    if unknown := [name for name in found if name not in stated]:
        reject("names", f"have {unknown[0]!r}, a folder in {root}", stated, "Add it.")
    return stated


register_plugin("formats", ImageFolderDataset, name="imagefolder")
