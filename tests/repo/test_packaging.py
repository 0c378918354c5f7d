"""What `pyproject.toml` says is on disk, and the other way round."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import synthloader
from tests.repo.archives import compare
from tests.repo.sources import FOLDERS, ROOT, find_files, write_tree

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


def read_project(root: Path) -> dict[str, Any]:
    """Read `pyproject.toml`."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def find_differences(root: Path, setuptools: Mapping[str, Any]) -> list[str]:
    """Compare the list of packages, the mapping of folders and the links with what is on disk."""
    listed, mapped = setuptools["packages"], setuptools["package-dir"]
    on_disk = {name for name, path in find_files(root) if path.name == "__init__.py"}
    found = [f"{name} is on disk, and not in `packages`." for name in sorted(on_disk - set(listed))]
    found += [f"{name} is in `packages`, and not on disk." for name in sorted(set(listed) - on_disk)]
    found += [f"{name} is in `packages` twice." for name in sorted(set(listed)) if listed.count(name) > 1]
    if mapped != (wanted := {package: folder for folder, package in FOLDERS.items()}):
        found.append(f"`package-dir` is {mapped}, and should be {wanted}.")
    for folder in sorted(set(FOLDERS) - {"synthloader"}):
        link = root / "synthloader" / folder
        if not link.is_symlink() or os.readlink(link) != f"../{folder}":
            found.append(f"synthloader/{folder} is not a link to ../{folder}.")
    for name, path in find_files(root):
        if name.rpartition(".")[0] not in (*on_disk, ""):
            found.append(f"{path.relative_to(root)} lies in a folder without __init__.py.")
    return found


def test_packages_mapping_links_and_folders_agree() -> None:
    assert find_differences(ROOT, read_project(ROOT)["tool"]["setuptools"]) == []


def test_a_forgotten_package_a_stale_one_a_missing_link_and_a_bare_folder_are_reported(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, synthloader__filters__a="", synthloader__bare__b="")
    (tree / "synthloader" / "bare" / "__init__.py").unlink()
    (tree / "synthloader" / "cache").unlink()
    stated = {
        "packages": ["synthloader", "synthloader.adapters", "synthloader.cache", "synthloader.gone"],
        "package-dir": {"synthloader": "synthloader", "synthloader.cache": "cache"},
    }
    assert find_differences(tree, stated) == [
        "synthloader.filters is on disk, and not in `packages`.",
        "synthloader.gone is in `packages`, and not on disk.",
        f"`package-dir` is {stated['package-dir']}, and should be "
        "{'synthloader': 'synthloader', 'synthloader.cache': 'cache', 'synthloader.adapters': 'adapters'}.",
        "synthloader/cache is not a link to ../cache.",
        "synthloader/bare/b.py lies in a folder without __init__.py.",
    ]


def test_an_archive_that_lacks_a_file_or_holds_one_twice_is_reported() -> None:
    wanted = {"synthloader/a.py", "synthloader/b.py", "synthloader/py.typed"}
    entries = ["synthloader/a.py", "synthloader/a.py", "cache/c.py", "synthloader/py.typed", "setup.cfg"]
    assert compare(entries, wanted) == [
        "synthloader/b.py is missing",
        "cache/c.py should not be there",
        "synthloader/a.py is there 2 times",
    ]


def test_the_type_marker_is_shipped() -> None:
    assert "py.typed" in read_project(ROOT)["tool"]["setuptools"]["package-data"]["synthloader"]
    assert (ROOT / "synthloader" / "py.typed").is_file()


def test_every_data_file_of_a_package_is_shipped() -> None:
    stated = read_project(ROOT)["tool"]["setuptools"]["package-data"]
    for name, path in find_files(ROOT):
        if path.name != "__init__.py":
            continue
        for file in path.parent.iterdir():
            if file.is_file() and file.suffix not in (".py", ".pyc", ".pyi"):
                patterns = stated.get(name, [])
                assert any(file.match(pattern) for pattern in patterns), f"{file} is in no pattern of package-data."


def test_the_version_is_said_once() -> None:
    stated = read_project(ROOT)["project"]["version"]
    assert stated == importlib.metadata.version("synthloader") == synthloader.__version__
    for name, path in find_files(ROOT):
        assert f'"{stated}"' not in path.read_text(encoding="utf-8"), f"{name} says the version a second time."


def test_the_command_of_the_readme_is_the_one_that_ci_runs() -> None:
    readme, ci = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", ".ci/run"))
    assert "make test\n" in readme
    assert "make test\n" in ci


def test_every_make_target_that_the_texts_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        named = re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)
        assert set(named) <= targets, f"{name} names a make target that does not exist."
