"""What the demo leaves: the numbers of `report.json`, and `summary.md`, which says them in words."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from synthloader.mixed import MixedDataset
from synthloader.precompute import PrecomputeReport
from synthloader.recipe import Recipe

__all__ = ["collect_results", "write_summary"]

_PACKAGES = ("synthloader", "torch", "torchvision", "numpy", "opencv-python")


def collect_results(
    recipe: Recipe,
    mixed: MixedDataset,
    made: PrecomputeReport,
    losses: list[float],
    rates: dict[str, Any],
    /,
    *,
    asked_ratio: float,
    model: str,
    batch_size: int,
) -> dict[str, Any]:
    """Everything that was counted and measured, as plain numbers.

    Args:
        recipe: What the demo followed.
        mixed: What was trained on; its report is read.
        made: What `precompute` said.
        losses: The loss of every step.
        rates: Samples per second.
        asked_ratio: The ratio that was asked for.
        model: Name of the detector.
        batch_size: Items per batch.
    """
    real, report = recipe.source(), mixed.report()
    part = report.sets["generated"]
    tail = max(1, len(losses) // 8)
    return {
        "data": {
            "images": len(real),
            "objects": sum(len(found) for found in real.coco.imgToAnns.values()),
            "has_masks": bool(real.has_masks),
        },
        "recipe": str(recipe.path),
        "generator": repr(recipe.generator),
        "ratio": {
            "asked": asked_ratio,
            "planned_per_epoch": dict(report.planned),
            "planned": _round(report.asked_ratio),
            "realised": _round(report.realised_ratio),
            "items_real": report.real,
            "items_generated": report.generated,
            "real_instead_of_generated": part.real_instead,
        },
        "objects_per_class": {
            name: {side: report.classes[side].get(class_id, 0) for side in ("real", "generated")}
            for name, class_id in real.class_to_idx.items()
        },
        "precompute": {**made.to_dict(), "seconds": round(made.seconds, 2)},
        "cache": {
            "hits": part.cache_hits,
            "misses": part.cache_misses,
            "entries": len(recipe.generated().cache or ()),
        },
        "samples_per_second": rates,
        "training": {
            "model": model,
            "steps": len(losses),
            "batch_size": batch_size,
            "loss_first": round(losses[0], 4),
            "loss_last": round(losses[-1], 4),
            "loss_mean_of_first": round(sum(losses[:tail]) / tail, 4),
            "loss_mean_of_last": round(sum(losses[-tail:]) / tail, 4),
            "losses": [round(loss, 4) for loss in losses],
        },
        "seed": recipe.seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def write_summary(path: Path, results: dict[str, Any], /, *, is_own: bool) -> None:
    """Write what was done, the numbers, and what to do next.

    Args:
        path: Markdown file.
        results: What `collect_results` gave, and the seconds in all.
        is_own: Whether the data was the user's own.
    """
    path.write_text("\n".join([*_tell(results, is_own), *_list_numbers(results), *_list_commands(is_own), ""]), "utf-8")


def _tell(results: dict[str, Any], is_own: bool) -> list[str]:
    data, training = results["data"], results["training"]
    what = "images of your own" if is_own else "photographs that scikit-image installs"
    how = (
        "by pasting objects of one image into others, some with the colours of another one"
        if data["has_masks"]
        else "by giving images the colours of others (the annotations have no masks, so nothing can be cut out)"
    )
    return [
        "# What the demo did",
        "",
        f"It took {data['images']} {what} ({data['objects']} labelled objects) and made "
        f"{results['precompute']['accepted']} generated samples {how}. They lie in `cache/`. It mixed them in at ratio "
        f"{results['ratio']['asked']:g} and trained {training['model']} from scratch for {training['steps']} steps of "
        f"{training['batch_size']} images on the mix: enough to see the loss fall, far too little to detect anything.",
        "",
        "![Sources beside what was generated from them](preview.png)",
        "",
    ]


def _list_numbers(results: dict[str, Any]) -> list[str]:
    ratio, cache, rates, training = (results[key] for key in ("ratio", "cache", "samples_per_second", "training"))
    per_epoch = ratio["planned_per_epoch"]
    rows = [
        ("ratio asked", f"{ratio['asked']:g} ({per_epoch['generated']} generated for {per_epoch['real']} real)"),
        ("ratio realised", f"{ratio['realised']} ({ratio['items_generated']} generated, {ratio['items_real']} real)"),
        ("read from the cache", f"{cache['hits']} of {cache['hits'] + cache['misses']}"),
        ("loss", f"{training['loss_mean_of_first']:.2f} at first, {training['loss_mean_of_last']:.2f} at the end"),
        ("samples/s, real only", f"{rates['real_only']['samples_per_second']:g}"),
        ("samples/s, mixed", f"{rates['mixed']['samples_per_second']:g}"),
        ("seconds in all", f"{results['seconds']:g}"),
    ]
    classes = [(name, *counts.values()) for name, counts in results["objects_per_class"].items()]
    return [
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        "Objects in the items that were served:",
        "",
        "| class | real | generated |",
        "|---|---|---|",
        *(f"| {name} | {real} | {generated} |" for name, real, generated in classes),
        "",
    ]


def _list_commands(is_own: bool) -> list[str]:
    own = [] if is_own else ["synthloader demo --data FOLDER       # the same on your own images: a COCO folder"]
    return [
        "Next, in this folder:",
        "",
        "```",
        "synthloader preview recipe.yaml      # change the recipe, and look at what it makes",
        "synthloader precompute recipe.yaml   # then fill its cache",
        *own,
        "```",
    ]


def _round(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 4)
