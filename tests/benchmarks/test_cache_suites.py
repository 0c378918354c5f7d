"""Every suite of the cache runs on a few samples, checks its contenders, and writes what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run_suite(suite: str, folder: Path, *options: str) -> dict[str, Any]:
    """Run it as a user does, with two turns, and return its result file."""
    command = [sys.executable, "-m", f"benchmarks.{suite}", "--turns", "2", "--results", str(folder), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **ONE_THREAD}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads((folder / f"{suite}.json").read_text())
    return result


def list_contenders(result: dict[str, Any], **labels: str) -> set[str]:
    return {row["what"] for row in result["rows"] if labels.items() <= row.items()}


@pytest.mark.slow
def test_reading_compares_floor_ours_and_every_peer_or_says_why_not(tmp_path: Path) -> None:
    result = run_suite("cache_read", tmp_path, "--samples", "3")
    ours = {"floor, into one buffer", "synthloader, jpeg"}
    assert list_contenders(result, setting="same bytes") >= {*ours, "LMDB by hand", "files"}
    assert list_contenders(result, setting="native types") >= {*ours, "synthloader, zstd", "JPEG files and COCO JSON"}
    assert list_contenders(result, setting="pixels") >= {"copy in memory, into one buffer", "get, raw", "view, raw"}
    assert len(result["verdicts"]) == 7
    peers = {
        "LitData",
        "MosaicML Streaming",
        "WebDataset (wids)",
        "Hugging Face datasets",
        "FFCV",
        "HDF5 (h5py)",
        "zarr",
    }
    assert peers <= list_contenders(result) | set(result["skipped"])
    assert all(result["skipped"].values())


def test_writing_tells_the_share_of_encoding(tmp_path: Path) -> None:
    result = run_suite("cache_write", tmp_path, "--samples", "3")
    assert list_contenders(result) >= {"synthloader, jpeg", "jpeg, encoders alone", "LMDB by hand", "files"}
    assert set(result["share_of_encoding"]) == {"jpeg", "zstd", "raw"}
    assert 0 < result["share_of_encoding"]["zstd"]["encoders alone"] < 1.5


@pytest.mark.slow
def test_scale_measures_time_and_memory_at_every_size(tmp_path: Path) -> None:
    result = run_suite("cache_scale", tmp_path, "--sizes", "50,500", "--gets", "20")
    names = {f"{name}, {size}" for name in ("synthloader", "bare LMDB") for size in (50, 500)}
    assert list_contenders(result, measured="get") == list_contenders(result, measured="open and get") == names
    assert [(row["what"], row["entries"]) for row in result["memory"]] == [
        ("synthloader", 50),
        ("bare LMDB", 50),
        ("synthloader", 500),
        ("bare LMDB", 500),
    ]
    assert set(result["growth"]["get"]) == {"synthloader", "bare LMDB"}


def test_readahead_is_measured_warm_and_where_pages_can_be_dropped_cold(tmp_path: Path) -> None:
    result = run_suite("cache_readahead", tmp_path, "--samples", "100")
    settings = {row["setting"] for row in result["rows"]}
    assert settings == ({"warm"} if result["skipped"] else {"warm", "evicted", "first epoch"})


@pytest.mark.slow
def test_loaders_load_every_sample_with_and_without_workers(tmp_path: Path) -> None:
    options = ("--samples", "6", "--batch-size", "2", "--workers", "0,2")
    result = run_suite("loader_throughput", tmp_path, *options)
    ours = {"synthloader, LMDBCache, jpeg", "synthloader, GeneratedDataset, jpeg", "CocoDetection"}
    for targets in ("boxes", "masks"):
        for workers in ("0", "2"):
            assert list_contenders(result, targets=targets, workers=workers) >= ours
