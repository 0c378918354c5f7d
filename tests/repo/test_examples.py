"""Every example in a docstring of the library runs, and gives what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from synthloader.lifting import preserve_random_state
from tests.repo.sources import ROOT, find_files

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", [name for name, path in find_files(ROOT) if ">>>" in path.read_text(encoding="utf-8")])
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # An example may write files.
    with preserve_random_state():  # Importing some packages draws.
        module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0
