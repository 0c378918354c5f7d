"""The library's source files, under the names that they are imported by."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Folder, and the package that it installs as. `package-dir` in pyproject.toml says the same (test_packaging.py).
FOLDERS = {"synthloader": "synthloader", "cache": "synthloader.cache", "adapters": "synthloader.adapters"}


@dataclass(frozen=True)
class Module:
    """One source file of the library."""

    name: str
    path: Path
    is_package: bool
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)

    @property
    def unit(self) -> str:
        """What the table of imports calls it: `generators` for `synthloader.generators.copy_paste`."""
        return [*self.name.split("."), ""][1]

    def at(self, node: ast.AST) -> str:
        """Give the place of a node, as an editor opens it."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


def find_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield module name and path of every source file, once: the links to the folders are not followed."""
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            inside = path.relative_to(root / folder)
            if any((root / folder / parent).is_symlink() for parent in inside.parents):
                continue
            parts = inside.with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path


def read_modules(root: Path) -> dict[str, Module]:
    """Read and parse every source file of the library."""
    modules = {}
    for name, path in find_files(root):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=str(path))
        modules[name] = Module(name, path.relative_to(root), path.stem == "__init__", text, tree)
    return modules


def write_tree(root: Path, **files: str) -> Path:
    """Write a little library for a test: `cache__lmdb="..."` is `cache/lmdb.py`. Every folder becomes a package."""
    for folder in FOLDERS:
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "__init__.py").touch()
    for name, text in files.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")
    for link in ("cache", "adapters"):
        if not (root / "synthloader" / link).exists():
            (root / "synthloader" / link).symlink_to(Path("..") / link)
    return root
