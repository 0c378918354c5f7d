"""`synth_trainer`: what it takes and refuses, and how other processes get the class that it made."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ultralytics.models.yolo.detect import DetectionTrainer

import synthloader.adapters.ultralytics as module
from synthloader import Add, ColorTransfer, LMDBCache, MissingExtraError, load_recipe, precompute
from synthloader.adapters.ultralytics import check_release, synth_trainer
from synthloader.adapters.ultralytics.processes import VARIABLE, hand_over, write_handed
from tests.shapes import Redraw
from tests.trainers.ultralytics.runs import MODELS, build_dataset, get_trainer, make_redraw, train, write_data

ROOT = Path(__file__).parents[3]
NAMES = "ClassificationTrainer, DetectionTrainer, OBBTrainer, PoseTrainer, SegmentationTrainer"


def fail(*arguments: Any, error: type[Exception] = ValueError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        synth_trainer(*arguments, **options)
    return str(caught.value)


def write_recipe(folder: Path, data: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "source": {"format": "yolo", "data": str(data)},
        "generator": "color_transfer",
        "plan": {"add": 0.5},
        "variants": 2,
        "cache": str(folder / "cache"),
        "seed": 3,
    }
    content |= changes
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return file


# ---- refused early


def test_a_plan_is_needed_and_only_one() -> None:
    wanted = "ratio must be given, or plan=, or recipe=, and not several, got ratio={}. ratio=0.5 is short for plan=Add(0.5)."
    assert fail(DetectionTrainer, generator=Redraw()) == wanted.format(None)
    assert fail(DetectionTrainer, generator=Redraw(), ratio=0.5, plan=Add(0.5)) == wanted.format(0.5)


def test_a_recipe_stands_alone(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, write_data(tmp_path, "detect")))
    assert fail(DetectionTrainer, recipe=recipe, ratio=0.5, filters=[1]).startswith(
        "recipe must be given without ratio, filters, got recipe="
    )
    assert fail(DetectionTrainer, recipe="recipe.yaml", error=TypeError) == (
        "recipe must be what load_recipe returns, got recipe='recipe.yaml'. Write recipe=load_recipe('recipe.yaml')."
    )


def test_other_trainers_are_refused() -> None:
    from ultralytics.models.rtdetr.train import RTDETRTrainer
    from ultralytics.models.yolo.world import WorldTrainer

    for base in (RTDETRTrainer, WorldTrainer):
        assert fail(base, ratio=0.5, generator=Redraw(), error=TypeError) == (
            f"base must be {NAMES}, or a subclass of your own, got base={base!r}. Others read their data in their own "
            "way."
        )
    assert fail(int, ratio=0.5, generator=Redraw(), error=TypeError).startswith(f"base must be {NAMES}, or a subclass")
    assert fail("detect", ratio=0.5, generator=Redraw(), error=TypeError) == (
        f"base must be a trainer class, got base='detect'. Pass one of Ultralytics' trainer classes: {NAMES}."
    )
    made = synth_trainer(DetectionTrainer, ratio=0.5, generator=Redraw())
    assert fail(made, ratio=0.5, generator=Redraw(), error=TypeError) == (
        f"base must not be mixed already, got base={made.__name__!r}. Pass DetectionTrainer."
    )


def test_wrong_arguments_are_refused_when_the_class_is_made(tmp_path: Path) -> None:
    good: dict[str, Any] = {"ratio": 0.5, "generator": Redraw()}
    assert fail(DetectionTrainer, ratio=0.5, generator=ColorTransfer, error=TypeError).endswith(
        "Pass an instance, such as generator=CopyPaste()."
    )
    assert fail(DetectionTrainer, ratio=0.5, error=TypeError) == (
        "generator must have generate, keeps and fingerprint, got generator=None. Pass generator=, or recipe=."
    )
    assert fail(DetectionTrainer, **good, cache=LMDBCache(tmp_path / "cache")) == (
        "variants must be given with a persistent cache, got variants=None. variants=None makes fresh samples for ever, "
        "which no cache can hold: pass variants=4, say."
    )
    assert fail(DetectionTrainer, **good, cache="cache", error=TypeError) == (
        "cache must be a cache, got cache='cache'. Write cache=LMDBCache('cache')."
    )
    assert fail(DetectionTrainer, **good, mark="cls") == (
        "mark must be a name that batches do not use, got mark='cls'. Write mark='is_generated'."
    )
    assert fail(DetectionTrainer, **good, on_shortfall="stop").startswith("on_shortfall must be one of")
    assert fail(DetectionTrainer, **good, weight=-1.0) == "weight must be at least 0, got weight=-1.0."
    assert fail(DetectionTrainer, **good, attempts=0) == "attempts must be at least 1, got attempts=0."
    assert fail(DetectionTrainer, **good, filters="min_box", error=TypeError) == (
        "filters must be a list of filters, got filters='min_box'. Write filters=[MinBox()]."
    )
    assert fail(DetectionTrainer, generator=Redraw(), ratio=-1.0).startswith("ratio must be at least 0")


def test_old_releases_are_refused() -> None:
    check_release("8.3.129")
    check_release("8.4.0rc1")
    with pytest.raises(MissingExtraError) as caught:
        check_release("8.3.99")
    assert str(caught.value) == (
        "synthloader.adapters.ultralytics needs ultralytics 8.3.129 or newer, got 8.3.99. Install "
        "'ultralytics>=8.3.129'."
    )


def test_without_ultralytics_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['ultralytics'] = None\n"
        "try:\n    import synthloader.adapters.ultralytics\n"
        "except ImportError as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "MissingExtraError synthloader.adapters.ultralytics needs ultralytics. Install synthloader[yolo]."
    )


def test_a_dataset_of_somebody_elses_class_is_refused(tmp_path: Path) -> None:
    from ultralytics.data.dataset import YOLODataset

    class Own(YOLODataset):  # type: ignore[misc]
        pass

    class OwnTrainer(DetectionTrainer):  # type: ignore[misc]
        def build_dataset(self, img_path: Any, mode: str = "train", batch: Any = None) -> Any:
            made = super().build_dataset(img_path, mode, batch)
            made.__class__ = Own
            return made

    kind = synth_trainer(OwnTrainer, ratio=0.5, generator=Redraw())
    with pytest.raises(TypeError) as caught:
        build_dataset(kind, "detect", tmp_path, write_data(tmp_path, "detect"))
    assert str(caught.value) == (
        "the dataset of the trainer must be a YOLODataset, got the dataset of the trainer='Own'. Datasets of other "
        "classes make their items in their own way: mix with Ultralytics' own trainers."
    )


# ---- recipes and caches


@pytest.mark.parametrize(
    "task", ["detect", "segment", *(pytest.param(task, marks=pytest.mark.slow) for task in ("pose", "obb"))]
)
def test_what_precompute_made_is_found_by_the_trainer(task: str, tmp_path: Path) -> None:
    data = write_data(tmp_path, task)
    source = {"format": "yolo", "data": str(data), "task": task}
    filters = ["single_polygon"] if task == "segment" else None
    file = write_recipe(tmp_path, data, source=source, filters=filters)
    recipe = load_recipe(file)
    done = precompute(recipe.generated(), progress=False)
    assert (done.total, done.accepted) == (16, 16)
    recipe.generated().cache.close()
    trainer = train(synth_trainer(get_trainer(task), recipe=load_recipe(file)), task, tmp_path, data, epochs=3)
    part = trainer.mix.report().sets["generated"]
    assert (part.asked, part.generated, part.cache_hits, part.cache_misses) == (12, 12, 12, 0)
    assert len(trainer.mix.sets[0].dataset.cache) == 16
    trainer.mix.sets[0].dataset.cache.close()


def test_what_precompute_made_is_found_also_under_rect_and_single_cls(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect")
    recipe = load_recipe(write_recipe(tmp_path, data))
    precompute(recipe.generated(), progress=False)
    kind = synth_trainer(get_trainer("detect"), recipe=recipe)
    for changes in ({"rect": True}, {"single_cls": True}, {"classes": [1]}):
        dataset = build_dataset(kind, "detect", tmp_path, data, **changes)
        for at in range(8, 12):
            dataset[at]
        part = dataset.mix.report().sets["generated"]
        assert (part.cache_hits, part.cache_misses) == (4, 0), changes
    recipe.generated().cache.close()


def test_what_precompute_made_is_found_by_a_classifier(tmp_path: Path) -> None:
    data = write_data(tmp_path, "classify")
    source = {"format": "imagefolder", "root": str(data / "train"), "apply_orientation": True}
    file = write_recipe(tmp_path, data, source=source)
    recipe = load_recipe(file)
    precompute(recipe.generated(), progress=False)
    trainer = train(synth_trainer(get_trainer("classify"), recipe=recipe), "classify", tmp_path, data, epochs=2)
    part = trainer.mix.report().sets["generated"]
    assert (part.asked, part.cache_hits, part.cache_misses) == (8, 8, 0)
    recipe.generated().cache.close()


def test_a_recipe_for_other_images_or_another_task_is_refused(tmp_path: Path) -> None:
    data, other = write_data(tmp_path, "segment"), write_data(tmp_path / "other", "segment")
    recipe = load_recipe(write_recipe(tmp_path, data, cache=None))
    with pytest.raises(ValueError) as caught:
        build_dataset(synth_trainer(get_trainer("segment"), recipe=recipe), "segment", tmp_path, data)
    assert str(caught.value) == (
        "task of the recipe's source must be segment, as the trainer's is, got task of the recipe's source='detect'. "
        "Write it into the recipe, below source."
    )
    for file in (other.parent / "images" / "train").iterdir():
        file.rename(file.with_stem(f"x{file.stem}"))
    source = {"format": "yolo", "data": str(other), "task": "segment"}
    recipe = load_recipe(write_recipe(tmp_path, data, source=source, cache=None))
    with pytest.raises(ValueError) as caught:
        build_dataset(synth_trainer(get_trainer("segment"), recipe=recipe), "segment", tmp_path, data)
    assert str(caught.value).endswith("Give the trainer and the recipe the same data.yaml.")


# ---- other processes


@pytest.mark.parametrize("task", MODELS)
def test_a_made_class_is_found_by_module_and_name(task: str) -> None:
    made = synth_trainer(get_trainer(task), ratio=0.5, generator=make_redraw(task))
    assert (made.__module__, getattr(module, made.__name__)) == ("synthloader.adapters.ultralytics", made)
    assert pickle.loads(pickle.dumps(made)) is made
    with pytest.raises(AttributeError):
        getattr(module, "SynthNothing")  # noqa: B009 - the very thing that is tested


def test_a_fresh_process_makes_the_same_class_and_the_same_images(tmp_path: Path) -> None:
    data = write_data(tmp_path, "detect")
    made = synth_trainer(get_trainer("detect"), ratio=0.5, generator=Redraw(), seed=9, mark="made")
    dataset = build_dataset(made, "detect", tmp_path, data)
    mine = [dataset.mix.load(at, 2).sample.image.tobytes() for at in range(8, 12)]

    class Starting:
        """A trainer that is about to start processes."""

        ddp = True
        args = type("Args", (), {"device": "0,1"})

    trainer = type(made.__name__, (Starting,), {"synth_options": made.synth_options, "synth_base": made.synth_base})()
    code = (
        "import sys, hashlib\n"
        f"from {made.__module__} import {made.__name__} as made\n"
        "from tests.trainers.ultralytics.runs import build_dataset\n"
        "dataset = build_dataset(made, 'detect', __import__('pathlib').Path(sys.argv[1]), sys.argv[2])\n"
        "images = [dataset.mix.load(at, 2).sample.image.tobytes() for at in range(8, 12)]\n"
        "print('images', hashlib.sha256(b''.join(images)).hexdigest(), made.synth_options.mark, made.__mro__[2].__name__)\n"
    )
    with hand_over(trainer):
        file = os.environ[VARIABLE]
        assert os.stat(file).st_mode & 0o777 == 0o600
        arguments = [sys.executable, "-c", code, str(tmp_path), str(data)]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    import hashlib

    line = next(line for line in done.stdout.splitlines() if line.startswith("images"))
    assert line == f"images {hashlib.sha256(b''.join(mine)).hexdigest()} made KeepingDetectionTrainer"
    assert not os.path.exists(file)
    assert VARIABLE not in os.environ


@pytest.mark.slow
def test_ultralytics_own_file_for_several_devices_runs_the_class(tmp_path: Path) -> None:
    """The file that Ultralytics writes for each process, up to where it would need devices."""
    from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

    data = write_data(tmp_path, "detect")
    made = synth_trainer(get_trainer("detect"), ratio=0.5, generator=Redraw(), mark="made")
    from tests.trainers.ultralytics.runs import make_arguments

    trainer = made(overrides=make_arguments("detect", tmp_path / "runs", data, epochs=1))
    trainer.ddp = True
    trainer.args.device = "0,1"  # so that it hands over
    with hand_over(trainer):
        trainer.args.device = "cpu"
        file = generate_ddp_file(trainer)
        try:
            paths = f"{os.environ.get('PYTHONPATH', '')}:{ROOT}"
            environment = os.environ | {"PYTHONPATH": paths, "YOLO_VERBOSE": "true"}
            done = subprocess.run(
                [sys.executable, file], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
        finally:
            ddp_cleanup(trainer, file)
    assert done.returncode == 0, done.stderr
    assert (
        "asked 0.5 generated per real, 4 for 8 real items; realised 0.5 (4 generated and 8 real items served)"
        in done.stdout + done.stderr
    )


def test_nothing_is_written_for_one_device(tmp_path: Path) -> None:
    trainer = synth_trainer(get_trainer("detect"), ratio=0.5, generator=Redraw())(
        overrides={
            "device": "cpu",
            "data": str(write_data(tmp_path, "detect")),
            "model": "yolov8n.yaml",
            "project": str(tmp_path),
        }
    )
    with hand_over(trainer):
        assert VARIABLE not in os.environ


def test_what_cannot_be_handed_over_is_said_before_processes_start() -> None:
    import threading

    with pytest.raises(TypeError) as caught:
        write_handed({"name": "x", "options": threading.Lock()})
    assert str(caught.value).startswith(
        "generator, filters, pool and cache must be picklable for training on several devices, got generator, filters, "
        "pool and cache="
    )
    assert str(caught.value).endswith("Define their classes in a module, not in a function or a notebook.")
