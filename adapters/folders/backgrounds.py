"""`BackgroundsDataset`: images that show no object of any class, as detection items without objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from synthloader.adapters.folders.image_files import read_image_file, show_path
from synthloader.adapters.folders.images_folder import ImagesDataset
from synthloader.checks import check_int, check_type, reject
from synthloader.generators.pasting.blankness import BlankPolicy, is_blank, is_blank_file, list_suspects
from synthloader.registry import register_plugin
from synthloader.sources import ItemFacts

__all__ = ["BackgroundsDataset"]


class BackgroundsDataset(ImagesDataset):
    """The images of folders that are known to show no object of the classes; what is pasted onto them is all there is.

    An item is an image, uint8 (3, H, W), RGB, and a target of no objects in the form of torchvision's detectors:
    `boxes` (0, 4), `labels` (0,), `masks` (0, H, W), `area`, `iscrowd` and `image_id`, the place in the dataset. With
    `CopyPaste(cutouts=...)` and `Only()` it becomes a detection set of cut-outs on these images.

    Blank or one-coloured images are refused, as `CopyPaste(backgrounds=...)` refuses them: a detector that was trained
    on cut-outs on blank ground fell from 0.42 to 0.01 average precision. Up to 64 are looked at on construction, evenly
    spread, and the 8 smallest files. One that is found to be blank only when it is read is warned of, once in each
    process, and handed out: a dataset has no way to leave it out in the middle of a run.

    Args:
        images: A folder, or a list of folders.
        names: Class names, numbered from 1 in this order, or a dict of ids and names.
        transforms: Called with image and target; lifted by `MixedDataset`, which applies it after mixing.
        apply_orientation: Whether images are turned as EXIF says.
        allow_blank_backgrounds: Whether blank images are accepted, with a warning.

    Attributes:
        class_to_idx: Class names to ids.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no images, there are no names, or one of the images that are looked at is blank.
    """

    def __init__(
        self,
        images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        names: Sequence[str] | Mapping[int, str],
        *,
        transforms: Callable[..., Any] | None = None,
        apply_orientation: bool = False,
        allow_blank_backgrounds: bool = False,
    ) -> None:
        super().__init__(images, apply_orientation=apply_orientation)
        check_type("names", names, (list, tuple, Mapping), "Write the class names: [cat, dog].")
        if not names:
            reject("names", "name at least one class", names)
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names, start=1)
        self.class_to_idx = {str(name): check_int("an id in names", class_id, minimum=0) for class_id, name in pairs}
        self.classes = sorted(self.class_to_idx, key=self.class_to_idx.__getitem__)
        self.transforms = transforms
        self._policy = BlankPolicy("images", allow=allow_blank_backgrounds, fate="is handed out")
        for place in list_suspects(len(self), self._files):
            if self._is_blank_file(place):
                self._policy.refuse(show_path(self._files[place], self.root))

    def __getitem__(self, index: int) -> Any:
        """Image and target.

        Raises:
            OSError: The file is cut short or no image.
            ValueError: The image has more than 8 bit.
        """
        (image,) = super().__getitem__(index)
        place = self._check_index(index)
        if not self._policy.has_warned and is_blank(image.permute(1, 2, 0).numpy()):
            self._policy.warn(show_path(self._files[place], self.root))
        target = {
            "image_id": place,
            "boxes": torch.zeros((0, 4)),
            "labels": torch.zeros(0, dtype=torch.int64),
            "masks": torch.zeros((0, *image.shape[-2:]), dtype=torch.uint8),
            "area": torch.zeros(0),
            "iscrowd": torch.zeros(0, dtype=torch.int64),
        }
        return (image, target) if self.transforms is None else self.transforms(image, target)

    def read_facts(self, index: int, /) -> ItemFacts:
        """What is known of an item without decoding its image."""
        facts = super().read_facts(index)
        return facts._replace(annotation=[facts.annotation, sorted(self.class_to_idx.items())])

    def _is_blank_file(self, place: int) -> bool:
        file = self._files[place]
        try:
            return is_blank_file(file, lambda: read_image_file(file))
        except (OSError, ValueError):
            return False  # It is no whole image, which is said with all its words when it is asked for.

    def __repr__(self) -> str:
        return f"BackgroundsDataset({len(self)} images, {len(self.classes)} classes, root={str(self.root)!r})"


register_plugin("formats", BackgroundsDataset, name="backgrounds")
