"""Opening images: a file that is none is named, also where another package has replaced PIL's `open`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from synthloader.pil_images import open_image


def test_an_image_is_opened(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png")
    with open_image(tmp_path / "a.png") as image:
        assert image.size == (6, 4)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(PIL.UnidentifiedImageError, match=r"cannot identify image file .*a\.png"):
        open_image(tmp_path / "a.png")


def test_so_it_is_where_another_package_looks_for_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    known = PIL.Image.open

    def search_on(*args: Any, **options: Any) -> Any:
        try:
            return known(*args, **options)
        except PIL.UnidentifiedImageError:
            raise ModuleNotFoundError("No module named 'plugin'")  # noqa: B904 - as Ultralytics does

    monkeypatch.setattr(PIL.Image, "open", search_on)
    with pytest.raises(PIL.UnidentifiedImageError, match=r"cannot identify image file .*a\.png"):
        open_image(tmp_path / "a.png")

    def refuse(*_: Any, **__: Any) -> Any:
        raise ModuleNotFoundError("No module named 'plugin'")

    monkeypatch.setattr(PIL.Image, "open", refuse)
    with pytest.raises(OSError, match=r"^cannot open the image .*a\.png: No module named 'plugin'$"):
        open_image(tmp_path / "a.png")
