"""The demo from end to end, in small, and once as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from synthloader.demo import run, run_demo
from synthloader.demo.items import BatchStream, Prepare, collate
from synthloader.demo.training import find_learning_rate, fork_random_state, make_model
from synthloader.generators import ColorTransfer, OneOf
from synthloader.recipe import load_recipe
from tests.scenes import write_coco

COMMAND = [sys.executable, "-c", "from synthloader.cli import main; main()"]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(run, "NUM_MEASURED_BATCHES", 2)
    write_coco(tmp_path / "data", 8)
    return {"data": tmp_path / "data", "num_steps": 4, "num_workers": 0}


def test_it_leaves_numbers_a_picture_a_summary_and_a_recipe(tmp_path: Path, small: dict[str, Any]) -> None:
    out, lines = tmp_path / "out", list[str]()
    results = run_demo(out, ratio=0.5, say=lines.append, **small)
    assert json.loads((out / "report.json").read_text()) == results
    ratio = results["ratio"]
    assert (ratio["asked"], ratio["planned"], ratio["planned_per_epoch"]) == (0.5, 0.5, {"real": 8, "generated": 4})
    assert ratio["items_real"] + ratio["items_generated"] == 16
    assert 0.4 < ratio["realised"] < 0.7
    assert results["data"] == {"images": 8, "objects": 15, "has_masks": True}
    assert results["cache"]["misses"] == 0
    assert results["cache"]["hits"] >= ratio["items_generated"]
    assert set(results["objects_per_class"]) == {"disc", "coin", "cell"}
    assert len(results["training"]["losses"]) == 4
    assert results["samples_per_second"]["mixed"]["samples_per_second"] > 0
    assert cv2.imread(str(out / "preview.png")) is not None
    summary = (out / "summary.md").read_text()
    assert "| ratio asked | 0.5 (4 generated for 8 real) |" in summary
    assert "![Sources beside what was generated from them](preview.png)" in summary
    assert [line.split()[0] for line in lines] == ["Data", "Generate", "Mix", "Train", "Measure"]
    recipe = load_recipe(out / "recipe.yaml")
    assert isinstance(recipe.generator, OneOf)
    assert len(recipe.mixed()) == 12


def test_a_second_run_finds_everything_and_trains_the_same(tmp_path: Path, small: dict[str, Any]) -> None:
    first = run_demo(tmp_path / "out", **small)
    lines: list[str] = []
    second = run_demo(tmp_path / "out", say=lines.append, **small)
    assert first["precompute"]["cached"] == second["precompute"]["generated"] == 0
    assert second["precompute"]["cached"] == first["precompute"]["generated"]
    assert second["training"]["losses"] == pytest.approx(first["training"]["losses"], rel=0.02)
    assert ", all found in the cache" in lines[1]


def test_boxes_without_masks_get_colours_only_and_that_is_said(tmp_path: Path, small: dict[str, Any]) -> None:
    file = tmp_path / "data" / "annotations.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        del entry["segmentation"]
    file.write_text(json.dumps(content))
    lines: list[str] = []
    results = run_demo(tmp_path / "out", say=lines.append, **small)
    assert not results["data"]["has_masks"]
    assert lines[1].strip() == "Boxes without masks: nothing can be cut out and pasted, so colours only."
    recipe = load_recipe(tmp_path / "out" / "recipe.yaml")
    assert isinstance(recipe.generator, ColorTransfer)
    assert "the annotations have no masks" in (tmp_path / "out" / "summary.md").read_text()


def test_a_folder_whose_name_yaml_would_misread(tmp_path: Path, small: dict[str, Any]) -> None:
    odd = tmp_path / "images: #1 {Größe}"
    (tmp_path / "data").rename(odd)
    results = run_demo(tmp_path / "out", **{**small, "data": odd})
    assert results["data"]["images"] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": -1.0}, "ratio must be at least 0, got ratio=-1.0."),
        ({"num_steps": 0}, "num_steps must be at least 1, got num_steps=0."),
        ({"num_workers": -1}, "num_workers must be at least 0, got num_workers=-1."),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        run_demo(tmp_path / "out", **options)
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


def test_items_are_prepared_for_torchvision() -> None:
    target = {
        "boxes": torch.tensor([[0.0, 0, 4, 4], [1, 1, 1, 5], [0, 0, 9, 9]]),
        "labels": torch.tensor([7, 7, 90]),
        "iscrowd": torch.tensor([0, 0, 1]),
        "masks": torch.zeros(3, 9, 9),
    }
    image, prepared = Prepare([7, 90])(torch.full((3, 9, 9), 255, dtype=torch.uint8), target)
    assert (image.dtype, float(image.max())) == (torch.float32, 1.0)
    assert {name: value.tolist() for name, value in prepared.items()} == {"boxes": [[0, 0, 4, 4]], "labels": [1]}
    assert collate([(1, "a"), (2, "b")]) == ((1, 2), ("a", "b"))


def test_a_stream_goes_on_where_the_last_pass_ended() -> None:
    stream = BatchStream([[0], [1], [2]], 2)
    assert (len(stream), [list(stream) for _ in range(3)]) == (2, [[[0], [1]], [[2], [0]], [[1], [2]]])


def test_weights_follow_from_the_seed_and_the_global_random_state_stays() -> None:
    def read_weights(seed: int) -> torch.Tensor:
        with fork_random_state(seed):
            return torch.cat([part.flatten() for part in make_model(3).parameters()])

    before = torch.get_rng_state()
    one, again, other = (read_weights(seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [find_learning_rate(step, 40) for step in range(40)]
    assert rates[0] < rates[3] > rates[20] > rates[39] > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_command_as_a_newcomer_types_it(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    started = time.monotonic()
    done = subprocess.run(
        [*COMMAND, "demo", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=380, check=False
    )
    seconds = time.monotonic() - started
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    out = tmp_path / "demo-output"
    assert {path.name for path in out.iterdir()} == {
        "annotations.json", "cache", "preview.png", "recipe.yaml", "report.json", "summary.md",
    }  # fmt: skip
    assert results["ratio"]["realised"] == results["ratio"]["asked"] == 0.5
    assert (results["ratio"]["items_real"], results["ratio"]["items_generated"]) == (100, 50)
    assert results["cache"]["misses"] == 0
    assert results["training"]["loss_mean_of_last"] < 0.6 * results["training"]["loss_mean_of_first"]
    assert all(counts["generated"] for counts in results["objects_per_class"].values())
    assert seconds < 180


@pytest.mark.slow
def test_an_interrupted_demo_goes_on_with_its_cache(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    process = subprocess.Popen(
        [*COMMAND, "demo", "--steps", "400"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith("Mix"):
        assert line, process.communicate()
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "\nsynthloader: stopped; run the same command again to go on\n")
    results = run_demo(tmp_path / "demo-output", num_steps=2)
    assert results["precompute"]["generated"] == 0
