"""The folder that an export is written into: complete or absent, and nobody else's files are touched.

```
folder/
  images/...  annotations.json  provenance.jsonl    the export
  export.json                                       put in place last: its presence says that the export is complete
  .export-incomplete/                               only while an export is being written, or after it was killed
    files/...                                       what is written, until all of it is there
    publishing.json                                 which files are being replaced, while they are
```

Everything is written below `.export-incomplete/` first and moved to its place at the end, so that an export that fails
leaves what was there before.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO

from synthloader.checks import reject

__all__ = ["MANIFEST", "ExportFolder"]

MANIFEST = "export.json"
STAGING = ".export-incomplete"
_PUBLISHING = "publishing.json"
_WRITTEN_BY = "synthloader"

_REPLACE = "Pass force=True (--force on the command line) to replace it, or choose another folder."
_FOREIGN = (
    "Choose another folder, or move that file away: force=True (--force on the command line) replaces only files of an "
    "earlier export."
)


class ExportFolder:
    """A folder, from the first look to the last file. Used in a `with` block; left without `publish`, nothing was done.

    Args:
        path: The folder; made where it is missing.
        force: Whether an earlier export is replaced.

    Raises:
        FileExistsError: On entering, where an earlier export lies there without `force`, or another process writes
            there.
        NotADirectoryError: On entering, where it is a file.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path = path
        self.force = force
        self._staging = path / STAGING
        self._earlier: set[str] = set()
        self._reserved: list[str] = []
        self._staged: dict[str, None] = {}
        self._folders: set[str] = set()
        self._handle = -1
        self._was_made = False
        self._is_publishing = False
        self._open_files = ExitStack()

    def __enter__(self) -> ExportFolder:
        if self.path.exists() and not self.path.is_dir():
            reject("folder", "be a folder", str(self.path), "Choose another name.", error=NotADirectoryError)
        self._was_made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        self._handle = _lock(self.path)
        try:
            self._earlier = set(self._find_earlier())
            self._discard()  # What is left of an export that was killed: no reader ever saw it.
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._open_files.close()
            if not self._is_publishing:
                self._discard()
            if self._was_made:
                with suppress(OSError):
                    self.path.rmdir()  # Only where nothing is in it.
        finally:
            self._release()

    def reserve(self, files: Iterable[str], /) -> None:
        """Name files that will be written last, whatever the samples are; refused where somebody else's lie there."""
        self._reserved = [*files, MANIFEST]
        for file in self._reserved:
            self._refuse_foreign(file)

    def stage(self, file: str, /) -> Path:
        """Where to write a file until all of them are put in place.

        Args:
            file: Its place, relative to the folder, with `/`.

        Raises:
            FileExistsError: Somebody else's file lies there.
        """
        path = self._staging / "files" / file
        if file not in self._staged:
            self._refuse_foreign(file)
            self._staged[file] = None
            if (folder := str(PurePosixPath(file).parent)) not in self._folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(folder)
        return path

    def write(self, file: str, content: bytes, /) -> None:
        """Stage a file with this content."""
        self.stage(file).write_bytes(content)

    def open(self, file: str, /) -> BinaryIO:
        """Stage a file that is written piece by piece; it is closed with the folder at the latest."""
        return self._open_files.enter_context(self.stage(file).open("wb"))

    def publish(self, manifest: dict[str, Any], /) -> None:
        """Remove the earlier export, put all files in place, the reserved ones last, and write the manifest.

        A process that is killed meanwhile leaves no manifest, and `force` cleans up after it.

        Args:
            manifest: What the manifest says besides the list of files.
        """
        self._open_files.close()
        last = [file for file in self._reserved if file in self._staged]
        files = [*(file for file in self._staged if file not in set(last)), *last]
        self.write(MANIFEST, _dump({"written_by": _WRITTEN_BY, **manifest, "files": files}))
        for file in files:
            self._refuse_foreign(file)
        journal = self._staging / _PUBLISHING
        draft = journal.with_suffix(".draft")
        draft.write_bytes(_dump({"written_by": _WRITTEN_BY, "files": sorted({*self._earlier, *files})}))
        self._is_publishing = True
        draft.replace(journal)
        self._remove_earlier()
        for file in (*files, MANIFEST):
            place = self.path / file
            place.parent.mkdir(parents=True, exist_ok=True)
            (self._staging / "files" / file).replace(place)
        shutil.rmtree(self._staging)

    def _find_earlier(self) -> Sequence[str]:
        """The files of an earlier export, complete or not."""
        found: list[str] = []
        whole = _read_files(self.path / MANIFEST)
        broken = _read_files(self._staging / _PUBLISHING)
        if whole is not None:
            found += [*whole, MANIFEST]
        if broken is not None:
            found += [*broken, MANIFEST]
        if (whole is not None or broken is not None) and not self.force:
            kind = "no earlier export" if broken is None else "no export that was interrupted while it replaced files"
            reject("folder", f"hold {kind}", str(self.path), _REPLACE, error=FileExistsError)
        return found

    def _discard(self) -> None:
        """Remove staged files; the list of files that an earlier export was replacing when it was killed stays."""
        if (self._staging / "files").is_dir():
            shutil.rmtree(self._staging / "files")
        with suppress(OSError):
            self._staging.rmdir()

    def _refuse_foreign(self, file: str) -> None:
        for part in (PurePosixPath(file), *PurePosixPath(file).parents):
            place = self.path / part
            if str(part) in self._earlier or not os.path.lexists(place):
                continue
            if str(part) == file or not place.is_dir():
                reject(
                    "folder",
                    "hold no file of somebody else where the export writes",
                    str(place),
                    _FOREIGN,
                    error=FileExistsError,
                )
            return

    def _remove_earlier(self) -> None:
        """Remove the files of the earlier export, its manifest first, and the folders that are empty then."""
        emptied: set[Path] = set()
        for file in sorted(self._earlier, key=lambda file: (file != MANIFEST, "/" in file, file)):
            place = self.path / file
            with suppress(FileNotFoundError, NotADirectoryError):  # Somebody took it away, or its folder.
                place.unlink()
            emptied.update(place.parents[: len(PurePosixPath(file).parts) - 1])
        for folder in sorted(emptied, key=lambda folder: -len(folder.parts)):
            with suppress(OSError):
                folder.rmdir()

    def _release(self) -> None:
        if self._handle >= 0:
            fcntl.flock(self._handle, fcntl.LOCK_UN)  # Also for forked workers, which hold copies of the handle.
            os.close(self._handle)
            self._handle = -1


def _lock(folder: Path) -> int:
    """Hold the folder against another process that exports into it."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        reject(
            "folder",
            "not be written to by another process",
            str(folder),
            "Wait until that has ended, or choose another folder.",
            error=FileExistsError,
        )
    except OSError:  # A file system without locks.
        pass
    return handle


def _read_files(manifest: Path) -> list[str] | None:
    """The files that a manifest lists; None where there is none that an export wrote."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("written_by") != _WRITTEN_BY:
        return None
    files = content.get("files")
    if not isinstance(files, list) or not all(map(_is_inside, files)):
        reject(
            f"'files' of {manifest}",
            "list files below its folder",
            files,
            "Choose another folder: this manifest was changed.",
        )
    return files


def _is_inside(file: object) -> bool:
    if not isinstance(file, str) or not file or "\0" in file:
        return False
    path = PurePosixPath(file)
    return not path.is_absolute() and ".." not in path.parts and path.parts != ()


def _dump(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode("ascii") + b"\n"
