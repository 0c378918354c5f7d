from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

from synthloader.errors import LabelContractError
from synthloader.generators.pasting import cutout_bank
from synthloader.generators.pasting.cutout_bank import CutoutBank

TABLE = {"apple": 3, "pear": 5}
FORMS = "RGBA files whose alpha is the mask, or images with masks (apple.jpg and apple_mask.png)"


def make_pixels(seed: int = 0) -> np.ndarray:
    """(20, 30, 4) uint8: the object is rows 4 to 14, columns 6 to 16, and a speck at row 2, column 25."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    pixels[..., 3] = 0
    pixels[4:15, 6:17, 3] = 255
    pixels[2, 25, 3] = 128
    pixels[0, 0, 3] = 127
    return pixels


def make_mask() -> np.ndarray:
    return (make_pixels()[..., 3] >= 128).astype(np.uint8) * 255


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = PIL.Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def make_folder(folder: Path) -> Path:
    save(folder / "apple" / "1.png", make_pixels(1))
    save(folder / "apple" / "old" / "2.PNG", make_pixels(2))
    save(folder / "pear" / "3.png", make_pixels(3)[..., :3])
    save(folder / "pear" / "3_mask.png", make_mask())
    (folder / "README.txt").write_text("not an image")
    save(folder / ".thumbnails" / "x.png", make_pixels(4))
    save(folder / "pear" / ".x.png", make_pixels(4))
    return folder


def check_cutout(bank: CutoutBank, index: int, seed: int) -> None:
    cutout = bank.read(index)
    assert cutout.mask.shape == (13, 20)  # rows 2 to 14, columns 6 to 25
    assert np.array_equal(cutout.mask, make_mask()[2:15, 6:26] > 0)
    assert np.array_equal(cutout.image[cutout.mask], make_pixels(seed)[2:15, 6:26, :3][cutout.mask])
    assert (cutout.share, cutout.keypoints, dict(cutout.maps), dict(cutout.attributes)) == (1.0, None, {}, {})


def refuse(kind: type[Exception], message: str, cutouts: Any) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        CutoutBank(cutouts)


def test_a_folder_gives_its_cutouts_in_the_order_of_classes_and_names(tmp_path: Path) -> None:
    bank = CutoutBank(make_folder(tmp_path)).bind(TABLE)
    assert len(bank) == 3
    assert [bank.read(index).name for index in range(3)] == ["apple/1.png", "apple/old/2.PNG", "pear/3.png"]
    assert bank.class_names == ("apple", "pear")
    assert bank.class_ids == (3, 3, 5)
    assert [bank.read(index).class_id for index in range(3)] == [3, 3, 5]
    for index in range(3):
        check_cutout(bank, index, index + 1)


def test_images_and_masks_may_lie_in_two_trees(tmp_path: Path) -> None:
    save(tmp_path / "images" / "apple" / "1.png", make_pixels(1)[..., :3])
    save(tmp_path / "masks" / "apple" / "1.bmp", make_mask())
    save(tmp_path / "images" / "pear" / "2.png", make_pixels(2))
    bank = CutoutBank(tmp_path).bind(TABLE)
    assert (bank.class_ids, bank.name(0)) == ((3, 5), "images/apple/1.png")
    check_cutout(bank, 0, 1)
    check_cutout(bank, 1, 2)


def test_a_mapping_gives_names_or_ids(tmp_path: Path) -> None:
    make_folder(tmp_path)
    pair = (tmp_path / "pear" / "3.png", str(tmp_path / "pear" / "3_mask.png"))
    by_name = CutoutBank({"pear": [pair], "apple": [str(tmp_path / "apple" / "1.png")]}).bind(TABLE)
    assert (by_name.class_ids, [by_name.name(at) for at in range(2)]) == ((3, 5), ["apple/1.png", "pear/3.png"])
    by_id = CutoutBank({5: [pair], 3: [tmp_path / "apple" / "1.png"]})
    assert by_id.bind(None).class_ids == by_id.bind(TABLE).class_ids == (3, 5)
    check_cutout(by_id.bind(TABLE), 1, 3)


@pytest.mark.parametrize("mask_form", ["0/1", "0/255", "three channels", "opaque alpha", "1 bit", "palette", "16 bit"])
def test_every_usual_form_of_mask_is_read(tmp_path: Path, mask_form: str) -> None:
    mask, path = make_mask(), tmp_path / "apple" / "1_mask.png"
    save(tmp_path / "apple" / "1.png", make_pixels(7)[..., :3])
    if mask_form == "0/1":
        save(path, mask // 255)
    elif mask_form == "0/255":
        save(path, mask)
    elif mask_form == "three channels":
        save(path, np.repeat(mask[..., None], 3, axis=2))
    elif mask_form == "opaque alpha":
        save(path, np.dstack([mask, mask, mask, np.full_like(mask, 255)]))
    elif mask_form == "1 bit":
        save(path, mask, "1")
    elif mask_form == "16 bit":
        save(path, mask.astype(np.uint16) * 257)
    else:
        image = PIL.Image.fromarray(mask // 255).convert("P")
        image.putpalette([0, 0, 0, 128, 0, 0])  # as annotation tools write class 1
        image.save(path)
    check_cutout(CutoutBank(tmp_path).bind(TABLE), 0, 7)


def test_palette_grey_and_deep_images_are_read(tmp_path: Path) -> None:
    pixels = make_pixels(1)
    save(tmp_path / "apple" / "grey_alpha.png", pixels[..., [0, 3]])
    cv2.imwrite(str(tmp_path / "apple" / "deep.png"), pixels[..., [2, 1, 0, 3]].astype(np.uint16) * 257)
    palette = PIL.Image.fromarray((pixels[..., 3] >= 128).astype(np.uint8)).convert("P")
    palette.putpalette([9, 9, 9, 10, 20, 30])
    palette.save(tmp_path / "apple" / "palette.png", transparency=0)
    deep_grey = save(tmp_path / "apple" / "x.png", pixels[..., 0].astype(np.uint16) * 257)
    save(tmp_path / "apple" / "x_mask.png", make_mask())
    bank = CutoutBank(tmp_path).bind(TABLE)
    found = {Path(bank.name(index)).name: bank.read(index) for index in range(len(bank))}
    assert all(np.array_equal(cutout.mask, make_mask()[2:15, 6:26] > 0) for cutout in found.values())
    grey = np.repeat(pixels[2:15, 6:26, :1], 3, axis=2)
    wanted = {"grey_alpha.png": grey, "deep.png": pixels[2:15, 6:26, :3], deep_grey.name: grey}
    for name, image in wanted.items():
        assert np.array_equal(found[name].image[found[name].mask], image[found[name].mask])
    assert (found["palette.png"].image[found["palette.png"].mask] == [10, 20, 30]).all()


def test_arrays_are_read_only_and_serve_resize_and_flip(tmp_path: Path) -> None:
    cutout = CutoutBank(make_folder(tmp_path)).bind(TABLE).read(0)
    with pytest.raises(ValueError, match="read-only"):
        cutout.image[0, 0] = 0
    assert cutout.resize(2.0).flip().mask.shape == (26, 40)


def test_the_stamp_follows_content_names_and_classes_and_not_the_place(tmp_path: Path) -> None:
    here = CutoutBank(make_folder(tmp_path / "here"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    there = CutoutBank(tmp_path / "there")
    assert here.stamp == there.stamp == here.bind(TABLE).stamp
    save(tmp_path / "there" / "pear" / "3_mask.png", 255 - make_mask())
    assert CutoutBank(tmp_path / "there").stamp != here.stamp
    files = [tmp_path / "here" / "apple" / "1.png"]
    assert CutoutBank({"apple": files}).stamp != CutoutBank({"pear": files}).stamp


def test_classes_are_found_by_id(tmp_path: Path) -> None:
    bank = CutoutBank(make_folder(tmp_path)).bind(TABLE)
    assert bank.find(frozenset({3})).tolist() == [0, 1]
    assert bank.find(frozenset({5, 77})).tolist() == [2]
    assert bank.find(frozenset()).tolist() == []
    assert bank.find(None).tolist() == [0, 1, 2]


def test_pickling_leaves_the_decoded_pictures_behind(tmp_path: Path) -> None:
    bank = CutoutBank(make_folder(tmp_path)).bind(TABLE)
    size = len(pickle.dumps(bank))
    first = bank.read(0)
    assert bank.read(0).image is first.image
    copied = pickle.loads(pickle.dumps(bank))
    assert len(pickle.dumps(bank)) == size
    assert np.array_equal(copied.read(0).image, first.image)
    assert copied.class_ids == bank.class_ids


def test_the_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutout_bank, "MEMORY_BYTES", 2 * 13 * 20 * 4)
    bank = CutoutBank(make_folder(tmp_path)).bind(TABLE)
    for _ in range(2):
        for index in range(3):
            check_cutout(bank, index, index + 1)
            assert bank._memory._size_bytes <= 2 * 13 * 20 * 4


class TestClasses:
    def test_folders_may_be_named_by_ids(self, tmp_path: Path) -> None:
        save(tmp_path / "7" / "a.png", make_pixels())
        assert CutoutBank(tmp_path).bind(None).class_ids == (7,)
        assert CutoutBank(tmp_path).bind({"apple": 7}).class_ids == (7,)
        assert CutoutBank(tmp_path).bind({"7": 2, "apple": 7}).class_ids == (2,)

    def test_an_unknown_name_is_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "aple" / "a.png", make_pixels())
        message = (
            "cutouts must be of classes that the dataset has, got class 'aple'. "
            "Did you mean 'apple'? Allowed: apple, pear."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            CutoutBank(tmp_path).bind(TABLE)

    def test_an_id_that_the_dataset_has_not_is_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "9" / "a.png", make_pixels())
        message = "cutouts must be of classes that the dataset has, got class '9'. Allowed: apple, pear."
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            CutoutBank(tmp_path).bind(TABLE)

    def test_names_without_a_table_are_refused(self, tmp_path: Path) -> None:
        message = (
            "cutouts must have class ids where the dataset has no table of class names, got class 'apple'. "
            "Name the folder after the class's id, or give a mapping from ids to files."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            CutoutBank(make_folder(tmp_path)).bind(None)

    def test_ids_before_binding_are_refused(self, tmp_path: Path) -> None:
        message = (
            "cutouts must be bound to the dataset's classes before they are pasted, got a bank that is not bound. "
            "Pass the generator to GeneratedDataset, or call bind first."
        )
        with pytest.raises(LabelContractError, match=f"^{re.escape(message)}$"):
            CutoutBank(make_folder(tmp_path)).read(0)


class TestErrors:
    def test_no_such_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "no"
        message = (
            f"cutouts must be a folder that exists, got cutouts={str(path)!r}. "
            f"Give a folder with one sub-folder per class that holds {FORMS}."
        )
        refuse(FileNotFoundError, message, path)

    def test_no_class_folder(self, tmp_path: Path) -> None:
        message = (
            f"cutouts must have one sub-folder per class, got cutouts={str(tmp_path)!r}. "
            f"Put the files into one sub-folder per class: {FORMS}."
        )
        refuse(ValueError, message, tmp_path)

    def test_files_outside_of_class_folders(self, tmp_path: Path) -> None:
        save(make_folder(tmp_path) / "stray.png", make_pixels())
        message = (
            f"cutouts must have all files in sub-folders, one per class, got cutouts={str(tmp_path)!r}. "
            f"Put stray.png into a sub-folder named after its class."
        )
        refuse(ValueError, message, str(tmp_path))

    def test_an_empty_class(self, tmp_path: Path) -> None:
        (make_folder(tmp_path) / "zebra").mkdir()
        message = (
            f"a class folder of cutouts must hold at least one file, got a class folder of "
            f"cutouts={str(tmp_path / 'zebra')!r}. It looks for .jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp, .ppm, "
            f".pgm; remove the folder where the class has no cut-outs."
        )
        refuse(ValueError, message, tmp_path)

    def test_a_photograph(self, tmp_path: Path) -> None:
        remedy = "Cut the object out (alpha 0 around it), or add a mask: 1_mask.png beside it."
        for name, pixels, requirement in (
            ("1.jpg", make_pixels()[..., :3], "be RGBA or have a mask"),
            ("1.png", make_pixels()[..., :3], "be RGBA or have a mask"),
            ("1.webp", make_pixels() | 255, "have a transparent background, not be fully opaque"),
        ):
            shutil.rmtree(tmp_path / "apple", ignore_errors=True)
            file = save(tmp_path / "apple" / name, pixels)
            if name == "1.webp":  # some encoders leave an opaque alpha out
                file = file.rename(file.with_suffix(".png"))
                save(file, pixels)
            message = f"a file of cutouts must {requirement}, got a file of cutouts={str(file)!r}. {remedy}"
            refuse(ValueError, message, tmp_path)
            refuse(ValueError, message, {"apple": [file]})

    def test_nothing_but_transparency(self, tmp_path: Path) -> None:
        pixels = make_pixels()
        pixels[..., 3] = 127
        file = save(tmp_path / "apple" / "1.png", pixels)
        message = (
            f"a cut-out must have at least one pixel of the object, got a cut-out={str(file)!r}. "
            f"Alpha of at least 128 is the object."
        )
        refuse(ValueError, message, tmp_path)

    def test_an_empty_mask(self, tmp_path: Path) -> None:
        image = save(tmp_path / "apple" / "1.png", make_pixels())
        mask = save(tmp_path / "apple" / "1_mask.png", make_mask() // 255 * 3)
        message = (
            f"a cut-out must have at least one pixel of the object, got a cut-out={str(mask)!r}. "
            f"The object is 255, or 1 of 0 and 1."
        )
        refuse(ValueError, message, tmp_path)
        refuse(ValueError, message, {"apple": [(image, mask)]})

    def test_a_mask_of_another_size(self, tmp_path: Path) -> None:
        image = save(tmp_path / "apple" / "1.png", make_pixels())
        mask = save(tmp_path / "apple" / "1_mask.png", make_mask()[1:])
        message = (
            f"a mask of cutouts must be as large as its image, got a mask of cutouts={f'{mask}: 30 x 19'!r}. "
            f"The image {str(image)!r} is 30 x 20 pixels: draw the mask on the same pixels."
        )
        refuse(ValueError, message, tmp_path)

    @pytest.mark.parametrize("kind", ["colours", "alpha"])
    def test_a_mask_that_says_more_than_where_the_object_is(self, tmp_path: Path, kind: str) -> None:
        save(tmp_path / "apple" / "1.png", make_pixels())
        mask = save(tmp_path / "apple" / "1_mask.png", make_pixels()[..., : 3 if kind == "colours" else 4] | 1)
        message = (
            f"a mask of cutouts must have one channel, or three equal ones, got a mask of cutouts={str(mask)!r}. "
            f"Save the mask with one channel, 255 on the object and 0 around it."
        )
        refuse(ValueError, message, tmp_path)

    def test_a_mask_without_an_image(self, tmp_path: Path) -> None:
        mask = save(make_folder(tmp_path) / "pear" / "9_mask.png", make_mask())
        message = (
            f"a mask of cutouts must have an image, got a mask of cutouts={str(mask)!r}. "
            f"Bring the image of the same name, or remove the mask."
        )
        refuse(FileNotFoundError, message, tmp_path)

    def test_a_turned_image_with_a_mask(self, tmp_path: Path) -> None:
        file = tmp_path / "apple" / "1.jpg"
        save(tmp_path / "apple" / "1_mask.png", make_mask())
        exif = PIL.Image.Exif()
        exif[0x0112] = 3
        PIL.Image.fromarray(make_pixels()[..., :3].copy()).save(file, exif=exif)
        message = (
            f"an image of cutouts must not be marked as turned (EXIF), got an image of cutouts={str(file)!r}. "
            f"Save it upright, so that there is no doubt how its mask lies."
        )
        refuse(ValueError, message, tmp_path)

    @pytest.mark.parametrize("content", [b"", b"no image", "cut"])
    def test_a_broken_file(self, tmp_path: Path, content: bytes | str) -> None:
        file = save(tmp_path / "apple" / "1.png", make_pixels())
        file.write_bytes(file.read_bytes()[:600] if isinstance(content, str) else content)
        message = (
            f"a file of cutouts must be a whole image, got a file of cutouts={str(file)!r}. "
            f"It is cut short, or of a format that PIL cannot read."
        )
        refuse(ValueError, message, tmp_path)

    def test_mappings_of_something_else(self, tmp_path: Path) -> None:
        refuse(
            TypeError,
            "cutouts must be a folder or a mapping from class to files, got cutouts=3. "
            "Name the folder that holds one sub-folder per class, or map each class to a list of files.",
            3,
        )
        refuse(
            ValueError,
            "cutouts must hold at least one class, got cutouts={}. Map names of classes to lists of files.",
            {},
        )
        message = "cutouts['apple'] must hold at least one file, got cutouts['apple']=[]. Leave the class out."
        refuse(ValueError, message, {"apple": []})
        message = "cutouts['apple'] must be a list of files or of (image, mask) pairs, got cutouts['apple']='1.png'."
        refuse(TypeError, message, {"apple": "1.png"})
        message = "cutouts[3][0] must be a file or a pair (image, mask), got cutouts[3][0]=5."
        refuse(TypeError, message, {3: [5]})
        missing = str(tmp_path / "no.png")
        message = f"cutouts['apple'][0] must exist, got cutouts['apple'][0]={missing!r}. Check the path."
        refuse(FileNotFoundError, message, {"apple": [missing]})


def test_what_is_hidden_under_transparency_does_not_mix_into_the_rim(tmp_path: Path) -> None:
    pixels = np.full((40, 40, 4), 255, np.uint8)
    pixels[..., 3] = 0
    rows, columns = np.mgrid[:40, :40]
    disc = (rows - 20) ** 2 + (columns - 20) ** 2 < 200
    pixels[disc] = (200, 0, 0, 255)
    (tmp_path / "apple").mkdir()
    cv2.imwrite(str(tmp_path / "apple" / "1.png"), cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA))
    cutout = CutoutBank(tmp_path).bind({"apple": 1}).read(0)
    for factor in (0.4, 0.7, 1.6):
        made = cutout.resize(factor)
        assert np.unique(made.image[made.mask], axis=0).tolist() == [[200, 0, 0]]
