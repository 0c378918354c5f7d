"""Ctrl-C: what is finished is kept, nothing is said but one line, and the same command goes on to the same set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from synthloader.cache import LMDBCache
from synthloader.cache.record import encode_entry
from synthloader.cli import app
from synthloader.precompute import precompute
from synthloader.recipe import load_recipe
from tests.scenes import write_coco

RECIPE = """\
source: {{format: coco, images: data/images, annotations: data/annotations.json}}
generator: [{{copy_paste: {{num_range: [1, 3]}}}}, color_transfer]
filters: [{{min_box: {{min_side: 9, drop: samples}}}}]
variants: 75
cache: {cache}
"""
COMMAND = [sys.executable, "-c", "from synthloader.cli import main; main()"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_records(folder: Path) -> dict[bytes, bytes]:
    with LMDBCache(folder, readonly=True) as cache:
        found = {key: cache.get(key) for key in cache}
    return {key: encode_entry(entry) for key, entry in found.items() if entry is not None}


def wait_for_entries(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "pools.json").exists():
            with LMDBCache(folder, readonly=True) as cache:
                if len(cache) >= 64:
                    return
        time.sleep(0.02)


def test_an_interrupted_precompute_resumes_to_the_same_keys_and_bytes(tmp_path: Path) -> None:
    write_coco(tmp_path / "data", 4)
    for name in ("stopped", "whole"):
        (tmp_path / f"{name}.yaml").write_text(RECIPE.format(cache=name))
    process = start(tmp_path, "precompute", "stopped.yaml", "--workers", "2", "--json")
    wait_for_entries(tmp_path / "stopped", process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "\nsynthloader: stopped; run the same command again to go on\n"
    stopped = json.loads(out)
    assert stopped["interrupted"]
    assert stopped["done"] < stopped["total"] == 300
    kept = read_records(tmp_path / "stopped")
    assert 64 <= len(kept) <= stopped["generated"]

    result = CliRunner().invoke(app, ["precompute", str(tmp_path / "stopped.yaml"), "--workers", "2", "--json"])
    resumed = json.loads(result.stdout)
    assert resumed["cached"] == len(kept)
    whole = load_recipe(tmp_path / "whole.yaml").generated()
    precompute(whole, progress=False)
    whole.cache.close()  # type: ignore[union-attr]
    records = read_records(tmp_path / "stopped")
    assert records == read_records(tmp_path / "whole")
    assert len(records) == resumed["generated"] + len(kept)
    assert {key: records[key] for key in kept} == kept


def test_an_interrupt_anywhere_in_a_command_is_status_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path / "data", 2)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(cache="cache"))

    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("synthloader.reports.preview.draw_pairs", interrupt)
    result = CliRunner().invoke(app, ["preview", str(tmp_path / "recipe.yaml")])
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "\nsynthloader: stopped; run the same command again to go on\n"
