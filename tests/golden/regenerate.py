"""Record the golden files anew: `python -m tests.golden.regenerate`. Then look at the difference, and commit it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.golden import fingerprints, help_texts, public_surface


def list_golden_files() -> dict[Path, Callable[[], str]]:
    """Give every golden text file, and the function that writes its text."""
    return {
        public_surface.GOLDEN: public_surface.describe_surface,
        help_texts.GOLDEN: help_texts.describe_help,
        fingerprints.GOLDEN: fingerprints.describe_fingerprints,
    }


def main() -> None:
    """Write every golden file, and say which ones changed."""
    for path, describe in list_golden_files().items():
        before, after = path.read_text(encoding="utf-8") if path.is_file() else None, describe()
        path.write_text(after, encoding="utf-8")
        print(f"{path.name}: {'as it was' if before == after else 'changed'}")


if __name__ == "__main__":
    main()
