"""Pascal VOC from disk, as recipes and the command line read it: `VocDataset`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from synthloader.adapters.folders.image_files import IMAGE_SUFFIXES, read_image_file, read_image_size, show_path
from synthloader.adapters.folders.mask_files import MaskFile
from synthloader.adapters.items.voc_annotations import COORDINATES, VocRecord, list_class_names, read_voc_file
from synthloader.checks import check_choice, check_int, check_type, reject
from synthloader.registry import register_plugin
from synthloader.sources import ItemFacts

__all__ = ["VocDataset"]


class VocDataset(Dataset[tuple[Any, Any]]):
    """Images and Pascal VOC's XML files, as items of torchvision's detectors.

    An item is `(image, target)`: a uint8 tensor (3, H, W), RGB, and a dict of

    * `image_id`: the name of the image;
    * `boxes`: (N, 4) float32, x1 y1 x2 y2 in pixels; `area`: (N,) float32; `iscrowd`: zeros;
    * `labels`: (N,) int64, classes counted from 1, in the alphabet's order or that of `names`; 0 is the background;
    * `difficult`, `truncated`: (N,) int64, as in the files;
    * `masks`: (N, H, W) uint8, where `SegmentationObject/` has a PNG for every image.

    No image is opened at construction, but every annotation is read and checked.

    Args:
        root: The folder with `JPEGImages/`, `Annotations/` and `ImageSets/` (`VOCdevkit/VOC2012`).
        images: Folder of images; None: `JPEGImages/` in `root`.
        annotations: Folder of XML files; None: `Annotations/` in `root`.
        image_set: Which images: the name of a list in `ImageSets/Main/` (`train`), or of one with its folder
            (`Segmentation/train`), or several names, for the images of all of them. None: all that have an XML file;
            refused where a list names only some of them, for the others may be held out.
        names: Names of classes, numbered from 1 in this order, or a dict of ids and names; None: all that occur in any
            of the XML files, in the alphabet's order.
        coordinates: `"pixels"`: boxes are the first and the last pixel, counted from 1, as VOC says; `"edges"`: they
            are x1 y1 x2 y2 as they stand, which some tools for labelling write.
        bad_boxes: `"error"` refuses boxes without area, `"drop"` leaves them out.
        transforms: Called with image and target; lifted by `MixedDataset`, which applies it after mixing.

    Attributes:
        root: The folder that names of images are relative to.
        records: `VocRecord` of every image.
        classes: Class names, in the order of their ids.
        class_to_idx: Class name to id.
        instance_fields: Fields besides torchvision's that have a row per instance.
        has_masks: Whether items have masks.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: An annotation is wrong; the message has file, object and remedy.
    """

    lifts_transforms = True
    instance_fields = ("difficult", "truncated")

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        images: str | os.PathLike[str] | None = None,
        annotations: str | os.PathLike[str] | None = None,
        image_set: str | Sequence[str] | None = None,
        names: Sequence[str] | Mapping[int, str] | None = None,
        coordinates: str = "pixels",
        bad_boxes: str = "error",
        transforms: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        check_choice("coordinates", coordinates, COORDINATES)
        drop_bad = check_choice("bad_boxes", bad_boxes, ("error", "drop")) == "drop"
        self.root = _find_folder("images", images, root, "JPEGImages")
        folder = _find_folder("annotations", annotations, root, "Annotations")
        stems = _list_stems(root, image_set, folder)
        self.coordinates = coordinates
        self.transforms = transforms
        self.records = [
            read_voc_file(folder / f"{stem}.xml", coordinates=coordinates, drop_bad=drop_bad) for stem in stems
        ]
        self._files = _find_images(self.root, stems, self.records)
        self.class_to_idx = _number_classes(names, self.records, folder)
        self.classes: list[str] = list(self.class_to_idx)
        self._masks = _find_masks(root, stems)
        self.has_masks = self._masks is not None
        self._sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Number of images, those without objects included."""
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Image and target.

        Raises:
            OSError: The file is cut short or no image.
            ValueError: The image has another size than its annotation says, or more than 8 bit.
        """
        place = self._check_index(index)
        record, file = self.records[place], self._files[place]
        pixels = read_image_file(file)
        size_hw = (pixels.shape[0], pixels.shape[1])
        if record.size_hw not in (None, size_hw):
            raise ValueError(
                f"the image {file} must have the height and width {record.size_hw} that {record.file} says, got "
                f"{size_hw}. Correct the annotation, or restore the file that was annotated (annotations belong to the "
                "stored pixels, before any rotation by EXIF)."
            )
        image, target = torch.from_numpy(pixels).permute(2, 0, 1), self._read_target(place, size_hw)
        return (image, target) if self.transforms is None else self.transforms(image, target)

    def get_height_and_width(self, index: int, /) -> tuple[int, int]:
        """Size of an image as its annotation says, or the header of its file where that says nothing."""
        place = self._check_index(index)
        if place not in self._sizes:
            self._sizes[place] = self.records[place].size_hw or read_image_size(self._files[place])
        return self._sizes[place]

    def read_facts(self, index: int, /) -> ItemFacts:
        """What is known of an item without decoding its image."""
        place = self._check_index(index)
        record = self.records[place]
        labels = self._read_labels(record).tolist()
        columns = [column.tolist() for column in (record.boxes, record.difficult, record.truncated, record.places)]
        return ItemFacts(
            show_path(self._files[place], self.root),
            str(self._files[place]),
            [labels, *columns, None if self._masks is None else self._masks[place].stamp()],
            self.get_height_and_width(place),
            labels,
        )

    def __repr__(self) -> str:
        return f"VocDataset({len(self)} images, {len(self.classes)} classes, root={str(self.root)!r})"

    def _check_index(self, index: int) -> int:
        place = check_int("index", index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"index must lie in a dataset of {len(self)} images, got index={index}.")
        return place % len(self)

    def _read_labels(self, record: VocRecord) -> np.ndarray:
        return np.array([self.class_to_idx[name] for name in record.names], np.int64)

    def _read_target(self, place: int, size_hw: tuple[int, int]) -> dict[str, Any]:
        record = self.records[place]
        area = np.prod(record.boxes[:, 2:] - record.boxes[:, :2], axis=1)
        target: dict[str, Any] = {
            "image_id": show_path(self._files[place], self.root),
            "boxes": torch.from_numpy(record.boxes.copy()),
            "labels": torch.from_numpy(self._read_labels(record)),
            "area": torch.from_numpy(area),
            "iscrowd": torch.zeros(len(record.names), dtype=torch.int64),
            "difficult": torch.from_numpy(record.difficult.copy()),
            "truncated": torch.from_numpy(record.truncated.copy()),
        }
        if self._masks is not None:
            numbers = self._masks[place].read(size_hw)
            masks = numbers[None] == (record.places[:, None, None] + 1)
            target["masks"] = torch.from_numpy(masks.view(np.uint8))
            target["area"] = torch.from_numpy(masks.sum(axis=(1, 2)).astype(np.float32))
        return target


def _find_folder(name: str, given: Any, root: Any, usual: str) -> Path:
    if given is None and root is None:
        reject(name, f"be given, or root=, a folder with {usual}/", None)
    folder = Path(os.path.abspath(given if given is not None else Path(root) / usual))
    if not folder.is_dir():
        told = name if given is not None else "root"
        reject(told, f"have the folder {usual}/" if told == "root" else "name an existing folder", str(given or root))
    return folder


def _list_stems(root: Any, image_set: str | Sequence[str] | None, folder: Path) -> list[str]:
    """Names of images without suffix."""
    lists = Path(root if root is not None else folder.parent) / "ImageSets"
    if image_set is None:
        found = sorted(path.stem for path in folder.glob("*.xml") if not path.name.startswith("."))
        if not found:
            reject("annotations", "hold XML files", str(folder), "Look at the path.")
        _refuse_to_join(lists, found)
        return found
    check_type("image_set", image_set, (str, list, tuple))
    chosen = [image_set] if isinstance(image_set, str) else image_set
    stems = list(dict.fromkeys(stem for name in chosen for stem in _read_list(lists, name)))
    if not stems:
        reject("image_set", "list at least one image", image_set, f"Look into {lists}.")
    return stems


def _refuse_to_join(lists: Path, stems: Sequence[str]) -> None:
    """Refuse to take all annotated images where a list has only some: others may be those to validate with."""
    files = {path.stem: path for path in sorted((lists / "Main").glob("*.txt"))}
    files.update({f"Segmentation/{path.stem}": path for path in sorted((lists / "Segmentation").glob("*.txt"))})
    names = [name for name in files if "_" not in name or name.rpartition("_")[2] not in files]  # not `cat_train`
    if any(not set(stems) <= set(_read_list(lists, name)) for name in names):
        reject(
            "image_set",
            f"be chosen: {lists} has lists that leave annotated images out",
            None,
            f"Write image_set: {'train' if 'train' in names else names[0]}. Lists: {', '.join(names)}; several can be "
            "joined: [train, val].",
        )


def _read_list(lists: Path, name: str) -> list[str]:
    """The names that one list has."""
    file = lists / (f"{name}.txt" if "/" in name else f"Main/{name}.txt")
    if not file.is_file():
        known = sorted(path.stem for path in (lists / "Main").glob("*.txt"))
        listed = f"Lists in {lists / 'Main'}: {', '.join(known) or 'none'}."
        reject("image_set", "name a list of images", name, listed, error=FileNotFoundError)
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    stems = [words[0] for words in lines if words]
    for stem in stems:
        if os.path.isabs(stem) or os.pardir in Path(stem).parts:
            reject(f"a name in {file}", "stay below the folder of annotations", stem, "Correct the list.")
    return stems


def _find_images(folder: Path, stems: Sequence[str], records: Sequence[VocRecord]) -> list[Path]:
    """The image of each annotation: of the same name, or, where there is none, the one that it names."""
    listed: dict[str, dict[str, str]] = {}
    found = []
    for stem, record in zip(stems, records, strict=True):
        parent, name = os.path.split(stem)
        if parent not in listed:
            names = sorted(os.listdir(folder / parent)) if (folder / parent).is_dir() else []
            pairs = (os.path.splitext(each) for each in names if not each.startswith("."))
            listed[parent] = {base: suffix for base, suffix in pairs if suffix.lower() in IMAGE_SUFFIXES}
        stated = os.path.basename(record.image_name or "")  # Some tools write where the image lay on their disk.
        base, suffix = os.path.splitext(stated)
        if name in listed[parent]:
            base, suffix = name, listed[parent][name]
        elif listed[parent].get(base) != suffix:
            what = f"an image for {record.file}"
            reject("images", f"hold {what}", str(folder / parent), f"Bring {name}.*.", error=FileNotFoundError)
        found.append(folder / parent / f"{base}{suffix}")
    return found


def _number_classes(names: Any, records: Sequence[VocRecord], folder: Path) -> dict[str, int]:
    if names is None:
        # Those of all files, not only of this list: train and val number the same classes alike.
        every = (name for path in folder.rglob("*.xml") for name in list_class_names(path) if name)
        return {name: number for number, name in enumerate(sorted(set(every)), start=1)}
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names, start=1)
    table = {str(name): check_int("an id in names", class_id, minimum=0) for class_id, name in pairs}
    for record in records:
        for name in record.names:
            if name not in table:
                reject("names", f"have {name!r}, which occurs in {record.file}", list(table), "Add it.")
    return table


def _find_masks(root: Any, stems: Sequence[str]) -> list[MaskFile] | None:
    """The files of `SegmentationObject/`, if there is one for every image."""
    if root is None:
        return None
    files = [Path(root) / "SegmentationObject" / f"{stem}.png" for stem in stems]
    return [MaskFile(file) for file in files] if all(file.is_file() for file in files) else None


register_plugin("formats", VocDataset, name="voc")
