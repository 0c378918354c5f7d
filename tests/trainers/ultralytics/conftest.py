"""Ultralytics without a network, quiet, with settings of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import matplotlib
import pytest

HERE = Path(__file__).parent


def _make_settings() -> str:
    """A folder of settings, with a font where one would be fetched."""
    settings = Path(tempfile.mkdtemp(prefix="ultralytics-settings-"))
    atexit.register(shutil.rmtree, settings, ignore_errors=True)
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for folder in (settings, settings / "Ultralytics"):  # newer and older releases look in different places
        folder.mkdir(exist_ok=True)
        shutil.copy(font, folder / "Arial.ttf")
    return str(settings)


# Before anything imports Ultralytics, which looks at these once.
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_VERBOSE"] = "false"
os.environ["YOLO_CONFIG_DIR"] = _make_settings()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Training seeds the global random states; Ultralytics and torch warn of matters of their own."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("uses_global_rng")
            item.add_marker(pytest.mark.filterwarnings("ignore"))
