"""Which files are cut-outs, of which class, and how one of them is read: RGBA, or an image with a mask."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps

from synthloader.checks import check_int, reject
from synthloader.generators.pasting.cut_out import find_tight_box
from synthloader.generators.referring.references import IMAGE_SUFFIXES
from synthloader.pil_images import open_image

__all__ = ["CutoutFile", "list_folder", "list_mapping", "read_cutout"]

MASK_ENDING = "_mask"
"""`apple_mask.png` is the mask of `apple.jpg`."""
SUFFIXES_WITHOUT_ALPHA = (".jpg", ".jpeg", ".ppm", ".pgm")
FORMS = "RGBA files whose alpha is the mask, or images with masks (apple.jpg and apple_mask.png)"
_ORIENTATION = 0x0112


class CutoutFile(NamedTuple):
    """One cut-out on disk.

    Args:
        class_name: Its class as the user wrote it: name of the folder, key of the mapping.
        name: Path of the image relative to the folder that holds all.
        image: The image file.
        mask: The mask file; None where the image's alpha is the mask.
    """

    class_name: str | int
    name: str
    image: Path
    mask: Path | None


def list_folder(folder: Path, /) -> list[CutoutFile]:
    """The cut-outs of a folder that has one sub-folder per class, in the order of their names.

    ```
    cutouts/apple/1.png              RGBA
    cutouts/apple/2.jpg, 2_mask.png  image and mask side by side
    cutouts/images/apple/3.jpg, cutouts/masks/apple/3.png
    ```

    Raises:
        FileNotFoundError: There is no such folder, or a mask or image of a pair is missing.
        ValueError: Files lie outside of the class folders, or there are none.
    """
    if not folder.is_dir():
        remedy = f"Give a folder with one sub-folder per class that holds {FORMS}."
        reject("cutouts", "be a folder that exists", str(folder), remedy, error=FileNotFoundError)
    images, masks = folder / "images", folder / "masks"
    if images.is_dir() and masks.is_dir():
        _refuse_stray_files(folder)
        return list(_list_classes(images, folder, masks))
    return list(_list_classes(folder, folder, None))


def list_mapping(cutouts: Mapping[Any, Any], /) -> list[CutoutFile]:
    """The cut-outs of a mapping from class to files, or to (image, mask) pairs, in the order of classes and names.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: There are none.
        TypeError: Something else stands in the mapping.
    """
    if not cutouts:
        reject("cutouts", "hold at least one class", cutouts, "Map names of classes to lists of files.")
    found: list[tuple[str | int, Path, Path | None]] = []
    for class_name, files in cutouts.items():
        key = class_name if isinstance(class_name, str) else check_int("class in cutouts", class_name, minimum=0)
        argument = f"cutouts[{class_name!r}]"
        if isinstance(files, str | bytes | os.PathLike) or not isinstance(files, Iterable):
            reject(argument, "be a list of files or of (image, mask) pairs", files, error=TypeError)
        entries = list(files)
        if not entries:
            reject(argument, "hold at least one file", entries, "Leave the class out.")
        found += [(key, *_read_entry(f"{argument}[{at}]", entry)) for at, entry in enumerate(entries)]
    root = Path(os.path.commonpath([image.parent for _, image, _ in found]))
    made = [CutoutFile(key, image.relative_to(root).as_posix(), image, mask) for key, image, mask in found]
    return sorted(made, key=lambda file: (str(file.class_name), file.name))


def read_cutout(file: CutoutFile, /) -> tuple[np.ndarray, np.ndarray]:
    """Decode one cut-out, trimmed to the tight box of its mask.

    Returns:
        (h, w, 3) uint8 RGB, outside the mask in the colours of its rim, and (h, w) bool: where alpha is at least 128,
        or the mask file is above 127 (above 0 where it holds only 0 and 1).

    Raises:
        ValueError: There is no mask, or an empty one, or one of another size; the message names the file.
    """
    image, alpha = _decode(file.image, with_mask=file.mask is not None)
    if file.mask is not None:
        mask = _read_mask(file.mask)
        if mask.shape != image.shape[:2]:
            remedy = f"The image {str(file.image)!r} is {_show_size(image)} pixels: draw the mask on the same pixels."
            reject("a mask of cutouts", "be as large as its image", f"{file.mask}: {_show_size(mask)}", remedy)
    elif alpha is None:
        _refuse_photograph(file.image, "be RGBA or have a mask")
    else:
        mask = alpha >= 128
        if mask.all():
            _refuse_photograph(file.image, "have a transparent background, not be fully opaque")
    x1, y1, x2, y2 = find_tight_box(mask, near=np.array([0, 0, mask.shape[1], mask.shape[0]]))
    if x1 == x2:
        remedy = "Alpha of at least 128 is the object." if file.mask is None else "The object is 255, or 1 of 0 and 1."
        reject("a cut-out", "have at least one pixel of the object", str(file.mask or file.image), remedy)
    mask = np.ascontiguousarray(mask[y1:y2, x1:x2])
    return _continue_colors(image[y1:y2, x1:x2], mask), mask


def _continue_colors(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with every pixel outside the mask in the colour of the nearest one inside.

    What is stored under full transparency (white, often) would otherwise mix into the rim where the cut-out is scaled.
    """
    outside = (~mask).view(np.uint8)
    labels: Any = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)[1]
    # Each pixel of the object has a label of its own, which need not be in any order.
    colors = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colors[labels[mask]] = image[mask]
    continued: np.ndarray = colors[labels]
    return continued


def _list_classes(folder: Path, root: Path, masks: Path | None) -> Iterator[CutoutFile]:
    _refuse_stray_files(folder)
    classes = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not classes:
        remedy = f"Put the files into one sub-folder per class: {FORMS}."
        reject("cutouts", "have one sub-folder per class", str(folder), remedy)
    for class_folder in classes:
        files = _list_images(class_folder)
        if masks is None:
            pairs = _pair_side_by_side(files)
        else:
            pairs = _pair_by_folder(files, class_folder, masks / class_folder.name)
        if not pairs:
            remedy = f"It looks for {', '.join(IMAGE_SUFFIXES)}; remove the folder where the class has no cut-outs."
            reject("a class folder of cutouts", "hold at least one file", str(class_folder), remedy)
        for image, mask in pairs:
            if mask is None and image.suffix.lower() in SUFFIXES_WITHOUT_ALPHA:
                _refuse_photograph(image, "be RGBA or have a mask")
            yield CutoutFile(class_folder.name, image.relative_to(root).as_posix(), image, mask)


def _list_images(folder: Path) -> list[Path]:
    """Image files of a folder and of those in it, without hidden ones."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found += _list_images(entry)
        elif entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file():
            found.append(entry)
    return found


def _pair_side_by_side(files: list[Path]) -> list[tuple[Path, Path | None]]:
    masks = {file.with_name(file.stem.removesuffix(MASK_ENDING)): file for file in files if _is_mask(file)}
    images = [file for file in files if not _is_mask(file)]
    _refuse_lonely(masks, {image.with_suffix("") for image in images})
    return [(image, masks.get(image.with_suffix(""))) for image in images]


def _pair_by_folder(files: list[Path], images: Path, folder: Path) -> list[tuple[Path, Path | None]]:
    found = _list_images(folder) if folder.is_dir() else []
    masks = {file.relative_to(folder).with_suffix(""): file for file in found}
    _refuse_lonely(masks, {file.relative_to(images).with_suffix("") for file in files})
    return [(file, masks.get(file.relative_to(images).with_suffix(""))) for file in files]


def _is_mask(file: Path) -> bool:
    return file.stem.endswith(MASK_ENDING)


def _refuse_lonely(masks: Mapping[Path, Path], images: set[Path]) -> None:
    for key, mask in masks.items():
        if key not in images:
            remedy = "Bring the image of the same name, or remove the mask."
            reject("a mask of cutouts", "have an image", str(mask), remedy, error=FileNotFoundError)


def _refuse_stray_files(folder: Path) -> None:
    stray = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
    if stray and not stray[0].name.startswith("."):
        remedy = f"Put {stray[0].name} into a sub-folder named after its class."
        reject("cutouts", "have all files in sub-folders, one per class", str(folder), remedy)


def _read_entry(argument: str, entry: Any) -> tuple[Path, Path | None]:
    parts = list(entry) if isinstance(entry, tuple | list) else [entry]
    if len(parts) > 2 or not all(isinstance(part, str | os.PathLike) for part in parts):
        reject(argument, "be a file or a pair (image, mask)", entry, error=TypeError)
    paths = [Path(os.path.abspath(part)) for part in parts]
    for path in paths:
        if not path.is_file():
            reject(argument, "exist", str(path), "Check the path.", error=FileNotFoundError)
    if len(paths) == 1 and paths[0].suffix.lower() in SUFFIXES_WITHOUT_ALPHA:
        _refuse_photograph(paths[0], "be RGBA or have a mask")
    return paths[0], paths[1] if len(paths) == 2 else None


def _refuse_photograph(file: Path, requirement: str) -> NoReturn:
    remedy = f"Cut the object out (alpha 0 around it), or add a mask: {file.stem}{MASK_ENDING}.png beside it."
    reject("a file of cutouts", requirement, str(file), remedy)


def _decode(file: Path, *, with_mask: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W, 3) uint8 and the alpha channel (H, W) uint8, where there is one."""
    with _open_whole(file) as image:
        is_turned = image.getexif().get(_ORIENTATION, 1) != 1
        if is_turned and with_mask:
            remedy = "Save it upright, so that there is no doubt how its mask lies."
            reject("an image of cutouts", "not be marked as turned (EXIF)", str(file), remedy)
        upright = PIL.ImageOps.exif_transpose(image) if is_turned else image
        if upright.mode.startswith("I;16"):
            grey = (np.asarray(upright) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2), None
        if upright.mode.startswith(("I", "F")):
            remedy = "Save it with 8 bit per channel."
            reject("a file of cutouts", "have 8 or 16 bit per channel", f"{file}: mode {upright.mode}", remedy)
        if _has_alpha(upright):
            values = np.asarray(upright.convert("RGBA"))
            return values[..., :3], values[..., 3]
        return np.array(upright.convert("RGB")), None


def _read_mask(file: Path) -> np.ndarray:
    """(H, W) bool."""
    with _open_whole(file) as image:
        values = np.asarray(image)
        if image.mode not in ("1", "L") and not image.mode.startswith(("I", "F")):
            colors = np.asarray(image.convert("RGBA"))
            if (colors[..., :3] == colors[..., :1]).all() and (colors[..., 3] == 255).all():
                values = colors[..., 0]
            elif image.mode != "P" or values.max() > 1:  # In a palette of colours the number is the class.
                remedy = "Save the mask with one channel, 255 on the object and 0 around it."
                reject("a mask of cutouts", "have one channel, or three equal ones", str(file), remedy)
        return values > (0 if values.max() <= 1 else 127)


def _open_whole(file: Path) -> PIL.Image.Image:
    image = None
    try:
        image = open_image(file)
        image.load()
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError):
        if image is not None:
            image.close()
        remedy = "It is cut short, or of a format that PIL cannot read."
        reject("a file of cutouts", "be a whole image", str(file), remedy)
    return image


def _has_alpha(image: PIL.Image.Image) -> bool:
    return bool({"A", "a"} & set(image.getbands())) or "transparency" in image.info


def _show_size(values: np.ndarray) -> str:
    return f"{values.shape[1]} x {values.shape[0]}"
