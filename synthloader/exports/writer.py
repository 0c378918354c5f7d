"""What a format is to the export: `FormatWriter`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from synthloader.exports.folder import ExportFolder
from synthloader.sample import Sample

__all__ = ["ExportOptions", "FormatWriter", "LeftOutError", "WriterMaker"]


@dataclass(frozen=True)
class ExportOptions:
    """What all formats are told.

    Args:
        class_names: Class id to name, in the order of the ids.
        image_format: `"png"` or `"jpeg"`.
    """

    class_names: dict[int, str]
    image_format: str


class LeftOutError(Exception):
    """The format cannot hold this sample without saying something false; the export goes on with the next.

    Args:
        reason: A few words that name the cause. Reasons are counted, so keep them few.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FormatWriter(Protocol):
    """Writes the samples of one export in one format.

    Attributes:
        fixed_files: Files that do not belong to one sample. They are put in place last.
    """

    fixed_files: tuple[str, ...]

    def add(self, name: str, sample: Sample, /) -> dict[str, str]:
        """Write a sample; nothing of it where it is refused.

        Args:
            name: File name without suffix, safe and not used before.
            sample: The sample.

        Returns:
            Where its image lies: `file`, relative to the folder, and perhaps more.

        Raises:
            LeftOutError: The format cannot hold it.
            ValueError: It is of a kind that the format has no place for.
        """
        ...

    def finish(self) -> None:
        """Write what belongs to all samples."""
        ...


WriterMaker: TypeAlias = Callable[[ExportFolder, ExportOptions], FormatWriter]
