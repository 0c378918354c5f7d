"""What all suites share: interleaved timing, medians with their spread, and a result file that says where it was made.

Contenders take turns, so that a machine that gets slower meanwhile slows all of them; what counts are the ratios
within one run, taken turn by turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import import_module
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import cv2
import torch

RESULTS = Path(__file__).parent / "results"
SHARED = Path(os.environ.get("SYNTHLOADER_SHARED") or Path(__file__).parents[2] / "shared")


@dataclass(frozen=True)
class Timing:
    """Seconds per item of one contender, over all turns."""

    name: str
    turns: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle turn."""
        return statistics.median(self.turns)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The turns that a quarter and three quarters stay below."""
        low, _, high = statistics.quantiles(self.turns, n=4)
        return low, high


def interleave(
    contenders: Mapping[str, Callable[[], int]],
    *,
    turns: int,
    warm_up: int = 1,
    before: Callable[[str], object] | None = None,
) -> dict[str, Timing]:
    """Time every contender `turns` times, taking turns; each call returns how many items it handled.

    `before` is called with the contender's name ahead of each of its turns, untimed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(-warm_up, turns):
        for name in names if turn % 2 else reversed(names):
            if before is not None:
                before(name)
            start = time.perf_counter()
            count = contenders[name]()
            elapsed = (time.perf_counter() - start) / count
            if turn >= 0:
                seconds[name].append(elapsed)
    return {name: Timing(name, tuple(values)) for name, values in seconds.items()}


def compare(timing: Timing, base: Timing) -> tuple[float, float, float]:
    """Median and quartiles of the turn-by-turn ratio to another contender."""
    ratios = [mine / other for mine, other in zip(timing.turns, base.turns, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return low, middle, high


def tabulate(timings: Mapping[str, Timing], base: Timing, **labels: str) -> list[dict[str, Any]]:
    """A row for each: microseconds per item with quartiles, and the turn-by-turn ratio to `base` with quartiles."""
    rows = []
    for name, timing in timings.items():
        low, middle, high = compare(timing, base)
        quarter, three_quarters = timing.quartiles
        rows.append(
            {
                **labels,
                "what": name,
                "us": timing.median * 1e6,
                "us from": quarter * 1e6,
                "us to": three_quarters * 1e6,
                "ratio": middle,
                "ratio from": low,
                "ratio to": high,
            }
        )
    return rows


def find_missing(modules: Iterable[str]) -> str | None:
    """Why a contender cannot run, or None: the first of its modules that cannot be imported."""
    for module in modules:
        try:
            import_module(module)
        except (ImportError, OSError) as error:  # OSError: a shared library of its own is not there.
            return f"{type(error).__name__}: {error}"
    return None


def list_versions(modules: Iterable[str]) -> dict[str, str]:
    """The versions of the packages that bring these modules, where they are installed."""
    packages = packages_distributions()
    return {name: version(name) for module in modules for name in packages.get(module, ())[:1]}


def make_parser(description: str | None, *, turns: int) -> argparse.ArgumentParser:
    """The options that all suites have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=turns, help=f"at least 2; {turns} if not given")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    return parser


def describe_run() -> dict[str, Any]:
    """Date, commit, versions, device and threads."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit or None,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch_threads": torch.get_num_threads(),
        "opencv_threads": cv2.getNumThreads(),
        "versions": {
            name: version(name) for name in ("synthloader", "torch", "torchvision", "numpy", "opencv-python", "lmdb")
        },
    }


def write_results(suite: str, rows: list[dict[str, Any]], *, folder: Path = RESULTS, **notes: Any) -> Path:
    """Write `results/<suite>.json` and print the rows as a table."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{suite}.json"
    path.write_text(json.dumps({"suite": suite, **describe_run(), **notes, "rows": rows}, indent=1) + "\n")
    print_table(rows)
    return path


def print_table(rows: list[dict[str, Any]]) -> None:
    """A plain table on stdout."""
    columns = list(rows[0])
    texts = [
        [f"{row[column]:.4g}" if isinstance(row[column], float) else str(row[column]) for column in columns]
        for row in rows
    ]
    widths = [max(len(column), *(len(line[at]) for line in texts)) for at, column in enumerate(columns)]
    for line in [columns, *texts]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
