"""What an export wrote and what it left out: `ExportReport`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ExportReport"]


@dataclass
class ExportReport:
    """What `export_samples` wrote.

    Args:
        folder: Where it lies.
        format: The format.
        num_written: Number of samples in it.
        left_out: Why samples are not in it: reason to number of samples. Each is counted once, by the first reason.

    Example:
        >>> report = ExportReport(Path("out"), "voc", num_written=7, left_out=Counter({"crowd region": 2}))
        >>> report.num_left_out
        2
    """

    folder: Path
    format: str
    num_written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def num_left_out(self) -> int:
        """Number of samples that the format cannot hold."""
        return sum(self.left_out.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "folder": str(self.folder),
            "format": self.format,
            "num_written": self.num_written,
            "num_left_out": self.num_left_out,
            "left_out": dict(sorted(self.left_out.items())),
        }
