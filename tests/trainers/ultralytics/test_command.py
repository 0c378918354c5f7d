"""`synthloader yolo`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from synthloader.cli import app
from tests.trainers.ultralytics.runs import make_arguments, write_data


def write_recipe(folder: Path, data: Path, **changes: Any) -> str:
    content = {"source": {"format": "yolo", "data": str(data)}, "generator": "color_transfer", "plan": {"add": 0.5}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content | changes))
    return str(folder / "recipe.yaml")


def call(*words: str) -> Any:
    return CliRunner().invoke(app, ["yolo", *words])


def list_settings(folder: Path, data: Path, **changes: Any) -> list[str]:
    arguments = make_arguments("detect", folder / "runs", data, **changes)
    for name in ("task", "mode", "auto_augment"):
        del arguments[name]
    return [f"{name}={value}" for name, value in arguments.items()]


def test_a_model_is_trained_on_the_mix(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect")
    done = call(write_recipe(tmp_path, data), *list_settings(tmp_path, data, epochs=2), "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["report"]["generated"] == 8
    assert result["report"]["real"] == 16
    assert (Path(result["save_dir"]) / "weights" / "last.pt").is_file()
    assert "metrics/mAP50(B)" in result["metrics"]


def test_the_result_is_said_in_words(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect")
    done = call(write_recipe(tmp_path, data), *list_settings(tmp_path, data))
    assert done.exit_code == 0, done.output
    assert (
        "epoch 0: asked 0.5 generated per real, 4 for 8 real items; realised 0.5 (4 generated and 8 real items served)"
        in done.stdout
    )
    done = call(write_recipe(tmp_path, data, plan={"add": 0}), *list_settings(tmp_path, data))
    assert done.exit_code == 0, done.output
    assert "ratio 0: nothing was generated" in done.stdout


def test_other_images_of_the_same_names_are_warned_of(tmp_path: Path) -> None:
    mine, copy = write_data(tmp_path, "detect"), tmp_path / "copy"
    shutil.copytree(mine.parent, copy)
    data = yaml.safe_load(mine.read_text())
    (copy / "data.yaml").write_text(yaml.safe_dump({**data, "path": str(copy)}))
    recipe = write_recipe(tmp_path, mine)
    settings = list_settings(tmp_path, copy / "data.yaml", epochs=1)
    assert call(recipe, *settings).exit_code == 0  # a warning would be an error
    files = sorted((copy / "images/train").iterdir())
    for file, other in zip(files, [*files[1:], files[0]], strict=True):
        shutil.copy(mine.parent / "images/train" / other.name, file)
    said = (
        rf"not the same images: {mine.parent}/images/train/0000\.png is another picture than {copy}/images/train/0000"
    )
    with pytest.warns(UserWarning, match=said) as found:
        done = call(recipe, *settings)
    assert done.exit_code == 0, done.output
    assert len([each for each in found if "same images" in str(each.message)]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["epochs"], "write a setting as epochs=100, not 'epochs'."),
        (["data=data.yaml"], "model= is needed, for example model=yolo11n.pt."),
        (["model=yolov8n.yaml"], "data= is needed, for example data=data.yaml."),
        (["model=yolov8n.yaml", "data=x", "mode=val"], "leave mode= out. The command always trains."),
        (["model=yolov8n.yaml", "data=x", "epoch=3"], "'epoch' is not a valid YOLO argument."),
    ],
)
def test_wrong_settings_are_usage_errors(words: list[str], said: str, tmp_path: Path) -> None:
    done = call(write_recipe(tmp_path, write_data(tmp_path, "detect")), *words)
    assert done.exit_code == 2
    assert " ".join(said.split()) in " ".join(done.stderr.replace("│", " ").split())


def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect")
    settings = list_settings(tmp_path, data)
    for changes, said in (
        ({"generator": {"copy_paste": {"classes": ["nothing"]}}}, "classes must be names"),
        ({"plan": None}, "plan"),
    ):
        done = call(write_recipe(tmp_path, data, **changes), *settings)
        assert done.exit_code == 1, done.output
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    missing = [word for word in settings if not word.startswith("data=")] + [f"data={tmp_path / 'no.yaml'}"]
    done = call(write_recipe(tmp_path, data), *missing)
    assert done.exit_code == 1, done.output


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.models.yolo.detect import DetectionTrainer

    before = DetectionTrainer.preprocess_batch

    def stop(self: Any, batch: Any) -> Any:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return before(self, batch)

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", stop)
    data = write_data(tmp_path, "detect")
    recipe = write_recipe(tmp_path, data)
    done = call(recipe, *list_settings(tmp_path, data, epochs=2, save=True))
    assert done.exit_code == 130, done.output
    last = next(tmp_path.rglob("last.pt"))
    assert f"to go on, train with model={last} resume=True" in done.stderr
    monkeypatch.undo()
    done = call(recipe, f"model={last}", "resume=True", "device=cpu", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["report"]["generated"] == 4


def test_help_has_an_example() -> None:
    done = call("--help")
    assert done.exit_code == 0
    assert "synthloader yolo recipe.yaml model=yolo11n.pt data=data.yaml epochs=100" in " ".join(
        done.stdout.replace("│", " ").split()
    )
