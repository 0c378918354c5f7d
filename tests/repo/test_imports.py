"""Who may import whom: a module imports from its own line and from those above, never below.

The neighbours on one line, where a line has several groups, do not know each other. Imports inside functions, under
`TYPE_CHECKING`, and through `importlib.import_module("...")` count like all others: knowing is knowing.
`synthloader/__init__.py` gathers the public names and is exempt.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.repo.sources import FOLDERS, ROOT, Module, read_modules, write_tree

# The same table is drawn in CONTRIBUTING.md. A new module or folder of the library is entered here and there.
LINES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("errors", "checks"),),
    (
        (
            "lazy",
            "targets",
            "sample",
            "seeds",
            "keys",
            "permutation",
            "class_table",
            "epoch_index",
            "pil_images",
            "polygons",
        ),
    ),
    (("protocols", "pool_view", "attributes", "plans", "layout", "cells", "budget", "rationing", "registry", "tally"),),
    (("generators", "conditions"), ("filters", "features"), ("cache",), ("measures",)),
    (
        (
            "sources",
            "lifting",
            "pool_notes",
            "store",
            "candidates",
            "generated",
            "mix_sets",
            "mix_report",
            "empty_alarm",
            "foreign_pool",
            "mixed",
            "batches",
            "precompute",
            "progress",
            "streams",
            "forked_workers",
            "item_facts",
            "item_forms",
            "pass_through",
            "row_tables",
        ),
    ),
    (
        ("adapters",),
        ("recipe", "recipe_document", "recipe_plans", "recipe_plugins"),
        ("studies",),
        ("reports",),
        ("exports",),
    ),
    (("cli", "demo"),),
)
PLACES = {unit: (line, group) for line, groups in enumerate(LINES) for group in groups for unit in group}


def list_imports(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield every name that a module imports, wherever in the file: `a.b.c` for `from a.b import c`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from ((node, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node, first.value


def resolve(name: str, modules: Mapping[str, Module]) -> str:
    """Find the module of the library that an imported name is, or lies in."""
    while name not in modules and "." in name:
        name = name.rpartition(".")[0]
    return name


def check_import(module: Module, name: str, modules: Mapping[str, Module]) -> str | None:
    """Say what is wrong with one import, or nothing."""
    top = name.partition(".")[0]
    if name.startswith("."):
        return f"imports {name} relatively. Write the full name, from `synthloader.` on."
    if top in FOLDERS and top != "synthloader":
        return f"imports {name}. The folder {top}/ installs as synthloader.{top}: import that."
    if top != "synthloader":
        return None
    imported = resolve(name, modules)
    if imported == "synthloader":
        return f"imports {name} from the package itself. Import it from the module that defines it."
    unit = modules[imported].unit
    if unit not in PLACES or module.unit not in PLACES:
        return None  # A missing unit is reported by itself.
    (own_line, own_group), (line, group) = PLACES[module.unit], PLACES[unit]
    if line > own_line:
        return f"(line {own_line}) imports {imported} (line {line}). Imports go up the table, never down."
    if line == own_line and group != own_group:
        return f"imports {imported}. Neighbours on line {line} do not know each other."
    return None


def find_circle(edges: Mapping[str, set[str]]) -> list[str] | None:
    """Find one circle of modules that import each other, as a path that ends where it began."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for after in sorted(edges[name]):
                if circle := follow(after, [*path, name]):
                    return circle
            done.add(name)
        return None

    return next((circle for name in sorted(edges) if (circle := follow(name, []))), None)


def find_violations(root: Path) -> list[str]:
    """List everything in a tree that the table forbids."""
    modules = read_modules(root)
    found = []
    edges: dict[str, set[str]] = {name: set() for name in modules}
    for module in modules.values():
        if module.name == "synthloader":
            continue
        if module.unit not in PLACES:
            found.append(
                f"{module.path}:1: {module.name} has no place. Enter {module.unit!r} in LINES of "
                "tests/repo/test_imports.py and in the table of CONTRIBUTING.md."
            )
        for node, name in list_imports(module):
            if wrong := check_import(module, name, modules):
                found.append(f"{module.at(node)}: {module.name} {wrong}")
            imported = resolve(name, modules)
            if imported in modules and imported not in ("synthloader", module.name):
                edges[module.name].add(imported)
    if circle := find_circle(edges):
        found.append(f"Modules import each other in a circle: {' -> '.join(circle)}.")
    return found


def test_every_module_has_a_place_and_imports_only_what_it_may() -> None:
    violations = find_violations(ROOT)
    assert not violations, "\n".join(violations)


def test_the_table_in_the_contributors_guide_is_the_same() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = [line for line in text.splitlines() if line[:1].isdigit() and line[1:3] == "  "]
    wanted = [f"{i}  {' | '.join(', '.join(group) for group in groups)}" for i, groups in enumerate(LINES)]
    assert drawn == wanted


def test_imports_up_the_table_and_within_a_group_are_allowed(tmp_path: Path) -> None:
    tree = write_tree(
        tmp_path,
        synthloader__errors="import json\n",
        synthloader__checks="from synthloader.errors import SynthloaderError\n",
        synthloader__conditions__edges="from synthloader import errors\n",
        synthloader__generators__paste="from synthloader.conditions.edges import find\nimport synthloader.checks\n",
        cache__lmdb="from synthloader.checks import check\n",
        adapters__coco="from synthloader.cache.lmdb import open_cache\n",
    )
    (tree / "synthloader" / "__init__.py").write_text("from synthloader.adapters.folders.coco import Coco\n")
    assert find_violations(tree) == []


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (
            {"synthloader__errors": "from synthloader.targets import Target\n", "synthloader__targets": ""},
            "synthloader/errors.py:1: synthloader.errors (line 0) imports synthloader.targets (line 1). "
            "Imports go up the table, never down.",
        ),
        (
            {"cache__lmdb": "def f():\n    from synthloader.filters import x\n", "synthloader__filters__a": ""},
            "cache/lmdb.py:2: synthloader.cache.lmdb imports synthloader.filters. "
            "Neighbours on line 3 do not know each other.",
        ),
        (
            {"synthloader__keys": "import importlib\nimportlib.import_module('synthloader.cache.lmdb')\n"},
            "synthloader/keys.py:2: synthloader.keys (line 1) imports synthloader.cache (line 3). "
            "Imports go up the table, never down.",
        ),
        (
            {"synthloader__keys": "from . import errors\n"},
            "synthloader/keys.py:1: synthloader.keys imports ..errors relatively. "
            "Write the full name, from `synthloader.` on.",
        ),
        (
            {"adapters__coco": "from cache.lmdb import open_cache\n"},
            "adapters/coco.py:1: synthloader.adapters.coco imports cache.lmdb.open_cache. "
            "The folder cache/ installs as synthloader.cache: import that.",
        ),
        (
            {"synthloader__mixed": "from synthloader import Sample\n"},
            "synthloader/mixed.py:1: synthloader.mixed imports synthloader.Sample from the package itself. "
            "Import it from the module that defines it.",
        ),
        (
            {"synthloader__utils": ""},
            "synthloader/utils.py:1: synthloader.utils has no place. Enter 'utils' in LINES of "
            "tests/repo/test_imports.py and in the table of CONTRIBUTING.md.",
        ),
        (
            {
                "synthloader__seeds": "from synthloader import keys\n",
                "synthloader__keys": "def f():\n    import synthloader.seeds\n",
            },
            "Modules import each other in a circle: synthloader.keys -> synthloader.seeds -> synthloader.keys.",
        ),
        (
            {"cache__a": "from synthloader.cache import b\n", "cache__b": "from synthloader.cache.a import c\n"},
            "Modules import each other in a circle: synthloader.cache.a -> synthloader.cache.b -> synthloader.cache.a.",
        ),
    ],
)
def test_every_forbidden_import_is_reported(tmp_path: Path, files: dict[str, str], wanted: str) -> None:
    assert find_violations(write_tree(tmp_path, **files)) == [wanted]
