"""Finding, measuring and decoding image files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from synthloader.adapters.folders.image_files import list_image_files, read_image_file, read_image_size, show_path

PIXELS = np.random.default_rng(3).integers(0, 256, (6, 10, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_the_orientation_is_applied_on_request_only(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a{suffix}"
    PIL.Image.fromarray(PIXELS).save(file, exif=exif)
    with PIL.Image.open(file) as image:
        stored, turned = np.array(image.convert("RGB")), np.array(PIL.ImageOps.exif_transpose(image).convert("RGB"))
    for wanted, apply in ((stored, False), (turned, True)):
        assert np.abs(read_image_file(file, apply_orientation=apply).astype(int) - wanted).max() <= 2
        assert read_image_size(file, apply_orientation=apply) == wanted.shape[:2]
    assert (turned.shape != stored.shape) == (orientation > 4 and suffix != ".tif")  # PIL always turns TIFF files


def test_a_file_that_is_no_image_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(OSError, match=r"^cannot read the image .*a\.png: .* \(replace the file, or leave it out\)$"):
        read_image_size(tmp_path / "a.png")


def test_images_are_listed_by_their_paths_and_hidden_ones_left_out(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a/._z.png", ".hidden/c.png", "note.txt", "a.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_image_files(tmp_path, name="images")]
    assert found == ["a.webp", "a/z.png", "b.JPG"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    said = f"images must name an existing folder, got images='{tmp_path}/none'."
    with pytest.raises(FileNotFoundError, match="^" + re.escape(said) + "$"):
        list_image_files(tmp_path / "none", name="images")


def test_names_are_paths_below_the_root(tmp_path: Path) -> None:
    assert show_path(tmp_path / "a/b.png", tmp_path) == "a/b.png"
    assert show_path(tmp_path / "b.png", tmp_path / "a") == (tmp_path / "b.png").as_posix()
