from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from synthloader.generators.referring.references import FileReferences, open_references

REMEDY = "It is cut short, or of a format that OpenCV cannot read."


def write_images(folder: Path, *names: str) -> None:
    for at, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((4, 6, 3), at, np.uint8))


def list_names(references: object) -> list[str]:
    assert isinstance(references, FileReferences)
    return [references.name(at) for at in range(len(references))]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / ".photographs"  # The folder itself was asked for.
    write_images(folder, "b.png", "in/a.jpg", ".hidden.png", ".thumbnails/c.png")
    (folder / "._b.png").write_bytes(b"Mac OS X")
    assert list_names(open_references(folder)) == ["b.png", "in/a.jpg"]
    assert list_names(open_references([folder / ".hidden.png"])) == [".hidden.png"]


@pytest.mark.parametrize("ask", [lambda folder: folder, lambda folder: [folder / "a.png", folder / "b.png"]])
def test_an_empty_file_is_named_before_it_is_drawn(ask: Callable[[Path], object], tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    (tmp_path / "b.png").touch()
    message = f"references must be whole images, got references={str(tmp_path / 'b.png')!r}. {REMEDY}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        open_references(ask(tmp_path))  # type: ignore[arg-type]


def test_an_empty_file_is_found_among_many(tmp_path: Path) -> None:
    for at in range(200):
        (tmp_path / f"{at:03}.png").write_bytes(b"x")
    write_images(tmp_path, *(f"{at:03}.png" for at in (0, 199)))
    (tmp_path / "101.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"101\.png'\. It is cut short"):
        open_references(tmp_path)


@pytest.mark.parametrize("single", [True, False])
def test_a_file_that_is_no_image_is_named_before_it_is_drawn(single: bool, tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    file = tmp_path / "b.png"
    file.write_bytes(b"no image")
    message = f"references must be whole images, got references={str(file)!r}. {REMEDY}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        open_references(file if single else tmp_path)


def test_images_that_opencv_alone_reads_are_taken(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.tif"), np.full((4, 6, 3), 300, np.uint16))
    assert open_references(tmp_path).read(0).shape == (4, 6, 3)
