"""Compare built archives with the source tree: `python -m tests.repo.archives dist/*`."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tests.repo.sources import FOLDERS, ROOT, find_files


def list_entries(archive: Path) -> list[str]:
    """List the files in a wheel or a source archive, relative to where the packages lie."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return [name for name in wheel.namelist() if not name.endswith("/")]
    with tarfile.open(archive) as source:
        return [entry.name.partition("/")[2] for entry in source.getmembers() if not entry.isdir()]


def list_wanted(root: Path, *, installed: bool) -> set[str]:
    """List the library's files under their path in the repository, or under the one that they install as."""
    wanted = set()
    for name, path in find_files(root):
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        wanted.add(f"{package.replace('.', '/')}/{path.name}" if installed else str(path.relative_to(root)))
    return wanted | {"synthloader/py.typed"}


def compare(entries: Iterable[str], wanted: set[str]) -> list[str]:
    """Say which files an archive lacks, holds twice, or should not hold."""
    found = [entry for entry in entries if entry.endswith((".py", "py.typed"))]
    found = [entry for entry in found if entry.partition("/")[0] in FOLDERS]
    return [
        *(f"{entry} is missing" for entry in sorted(wanted - set(found))),
        *(f"{entry} should not be there" for entry in sorted(set(found) - wanted)),
        *(f"{entry} is there {found.count(entry)} times" for entry in sorted(set(found)) if found.count(entry) > 1),
    ]


def main(archives: list[str]) -> int:
    """Compare each archive with the source tree; 1 if any differs."""
    failed = 0
    for archive in map(Path, archives):
        wanted = list_wanted(ROOT, installed=archive.suffix == ".whl")
        wrong = compare(list_entries(archive), wanted)
        failed |= bool(wrong)
        print(f"{archive.name}: {len(wanted)} files" if not wrong else f"{archive.name}: {'; '.join(wrong)}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
