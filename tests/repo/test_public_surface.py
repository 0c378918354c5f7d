"""What the library offers and what its commands say does not change unnoticed."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import synthloader
from tests.golden.public_surface import list_public_modules
from tests.golden.regenerate import list_golden_files

# Packages that are imported for the first time may draw from the global random state.
pytestmark = pytest.mark.uses_global_rng

HINT = "Where that is meant, run `python -m tests.golden.regenerate` and look at the difference."


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in list_golden_files()])
def test_what_was_recorded_still_holds(path: Path) -> None:
    text = list_golden_files()[path]()
    assert path.is_file(), f"{path.name} was never recorded. {HINT}"
    assert text == path.read_text(encoding="utf-8"), HINT


def test_what_the_package_offers_its_folder_or_module_offers_too() -> None:
    for name in synthloader.__all__:
        thing = getattr(synthloader, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            home = ".".join(thing.__module__.split(".")[:2])
            assert name in importlib.import_module(home).__all__, f"{name} is missing in the __all__ of {home}."


def test_every_folder_says_what_is_public_in_it() -> None:
    assert [module.__name__ for module in list_public_modules() if not hasattr(module, "__all__")] == []


def test_every_public_name_exists_and_is_listed_once() -> None:
    for module in list_public_modules():
        names = module.__all__
        assert len(names) == len(set(names)), module.__name__
        assert [name for name in names if not hasattr(module, name)] == [], module.__name__
