"""`synthloader yolo`: trains Ultralytics models on the mix that a recipe describes."""

from __future__ import annotations

import json
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["yolo"]

_OURS = {"mode": "The command always trains.", "trainer": "The recipe says what is mixed in."}


def yolo(
    recipe: Annotated[Path, typer.Argument(help="YAML file with the key plan; its source is what data= trains on.")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Ultralytics' own settings: model= and data= are needed, epochs=, imgsz= and all others as ever.",
        ),
    ],
    mark: Annotated[
        str | None,
        typer.Option(help="Name of a field of every batch: the generated share of each image."),
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of generated tiles, in the field weight of every batch."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Train an Ultralytics model on real images and the generated ones of a recipe.

    Detection, segmentation, pose, rotated boxes and classification. Only training is mixed: validation stays real.

    Example: synthloader yolo recipe.yaml model=yolo11n.pt data=data.yaml epochs=100 imgsz=640

    To go on after a stop: synthloader yolo recipe.yaml model=runs/detect/train/weights/last.pt resume=True
    """
    from synthloader.recipe import load_recipe

    with redirect_stdout(sys.stderr):  # what Ultralytics says on the way is progress
        from synthloader.adapters.ultralytics import synth_trainer

        given = _read_settings(settings)
        loaded = load_recipe(recipe)
        model = _open_model(given.pop("model"))
        kind = synth_trainer(model.task_map[model.task]["trainer"], recipe=loaded, mark=mark, weight=weight)
        try:
            results = _train(model, kind, given)
        except KeyboardInterrupt:
            last = getattr(model.trainer, "last", None)
            if last is not None and last.is_file():
                typer.echo(f"\nsynthloader: stopped; to go on, train with model={last} resume=True", err=True)
                raise typer.Exit(130) from None
            raise
        trainer = model.trainer
        report = None if trainer.mix is None else trainer.mix.report()
        metrics = {name: float(value) for name, value in getattr(results, "results_dict", {}).items()}
    if as_json:
        content = {
            "save_dir": str(trainer.save_dir),
            "report": None if report is None else report.to_dict(),
            "metrics": metrics,
        }
        typer.echo(json.dumps(content, indent=2))
        return
    typer.echo(f"results: {trainer.save_dir}")
    for name, value in metrics.items():
        typer.echo(f"  {name}: {value:.4g}")
    typer.echo("ratio 0: nothing was generated" if report is None else str(report))


def _read_settings(settings: list[str]) -> dict[str, Any]:
    """Ultralytics' settings by name, read as Ultralytics reads them."""
    from ultralytics.cfg import DEFAULT_CFG_DICT, check_dict_alignment, smart_value  # type: ignore[attr-defined, unused-ignore]

    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        name, value = name.strip(), value.strip()
        if not (name and equals and value):
            raise typer.BadParameter(f"write a setting as epochs=100, not {setting!r}.", param_hint="KEY=VALUE")
        if name in _OURS:
            raise typer.BadParameter(f"leave {name}= out. {_OURS[name]}", param_hint="KEY=VALUE")
        found[name] = smart_value(value)
    try:
        check_dict_alignment(DEFAULT_CFG_DICT, found)
    except SyntaxError as error:
        lines = [line.strip() for line in str(error).splitlines() if "is not a valid YOLO argument" in line]
        raise typer.BadParameter(_strip_colors(" ".join(lines) or str(error)), param_hint="KEY=VALUE") from None
    needed = ["model"] if found.get("resume") else ["model", "data"]
    for name in needed:
        if found.get(name) is None:
            example = {"model": "model=yolo11n.pt", "data": "data=data.yaml"}[name]
            raise typer.BadParameter(f"{name}= is needed, for example {example}.", param_hint="KEY=VALUE")
    return found


def _open_model(name: Any) -> Any:
    from ultralytics import YOLO  # type: ignore[attr-defined, unused-ignore]

    return YOLO(str(name))


def _train(model: Any, kind: Any, settings: dict[str, Any]) -> Any:
    try:
        return model.train(trainer=kind, **settings)
    except RuntimeError as error:
        if str(error).startswith("Dataset "):  # a data.yaml that Ultralytics cannot use
            raise ValueError(str(error)) from None
        raise


def _strip_colors(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
