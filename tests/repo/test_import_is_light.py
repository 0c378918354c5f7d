"""`import synthloader` needs torch, NumPy and OpenCV, and is quick."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# Imported where they are used: they are large, or optional, or only for the command line.
HEAVY = {
    "accelerate",
    "controlnet_aux",
    "datasets",
    "diffusers",
    "lightning",
    "matplotlib",
    "onnxruntime",
    "pandas",
    "pycocotools",
    "pytorch_lightning",
    "ray",
    "rich",
    "scipy",
    "skimage",
    "sklearn",
    "timm",
    "torchdata",
    "transformers",
    "typer",
    "ultralytics",
    "umap",
}
# Processor time beyond torch, NumPy and OpenCV, the best of up to three. Far above what it takes, far below what one
# heavy package costs.
LIMIT_S = 0.8

PROBE = """
import json, sys, time
import torch, torch.utils.data, numpy, cv2
if {with_torchvision}: import torchvision.tv_tensors
before, start = set(sys.modules), time.process_time()
import {module}
print(json.dumps({{"seconds": time.process_time() - start, "modules": sorted(set(sys.modules) - before)}}))
"""


def probe(module: str, *, with_torchvision: bool = False) -> dict[str, Any]:
    """Import a module in a fresh interpreter; tell how long it took and what it loaded beyond torch, NumPy, OpenCV."""
    code = PROBE.format(module=module, with_torchvision=with_torchvision)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    return json.loads(done.stdout)


def find_heavy(modules: list[str]) -> list[str]:
    """Name the heavy packages among loaded modules."""
    return sorted({name.partition(".")[0] for name in modules} & HEAVY)


def test_importing_synthloader_loads_nothing_heavy() -> None:
    assert find_heavy(probe("synthloader")["modules"]) == []


def test_importing_synthloader_is_quick() -> None:
    # Torchvision is a requirement, and takes its time whoever imports it first.
    seconds: list[float] = []
    while len(seconds) < 3 and min(seconds, default=LIMIT_S) >= LIMIT_S:
        seconds.append(probe("synthloader", with_torchvision=True)["seconds"])
    assert min(seconds) < LIMIT_S, seconds


@pytest.mark.parametrize("module", ["rich.console", "typer"])
def test_a_heavy_import_would_be_seen(module: str) -> None:
    assert module.partition(".")[0] in find_heavy(probe(module)["modules"])
