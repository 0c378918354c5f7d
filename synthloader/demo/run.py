"""The demo from end to end: generate into a cache, mix, train, measure, and write down what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from synthloader.checks import check_count, check_int, check_number
from synthloader.demo.items import Prepare
from synthloader.demo.own_recipe import write_recipe
from synthloader.demo.photographs import Photographs, find_coco, find_installed
from synthloader.demo.results import collect_results, write_summary
from synthloader.demo.throughput import measure_throughput
from synthloader.demo.training import MODEL, train
from synthloader.mixed import MixedDataset
from synthloader.precompute import PrecomputeReport, precompute
from synthloader.progress import describe_rejections, open_bar, open_counter
from synthloader.recipe import Recipe, load_recipe
from synthloader.reports import preview_generated

__all__ = ["run_demo"]

NUM_VARIANTS = 4
BATCH_SIZE = 4
NUM_MEASURED_BATCHES = 30
NUM_PREVIEWED = 8


def run_demo(
    out: Path,
    /,
    *,
    data: Path | None = None,
    ratio: float = 0.5,
    num_steps: int = 40,
    num_workers: int = 2,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    shows_progress: bool = False,
) -> dict[str, Any]:
    """Run the demo; a second run goes on with the cache of the first.

    Args:
        out: Folder for the recipe, the cache, `preview.png`, `report.json` and `summary.md`.
        data: COCO folder, or annotation file; None for photographs that scikit-image installs.
        ratio: Generated samples per real sample.
        num_steps: Steps of training.
        num_workers: Processes that generate, and processes of each loader.
        seed: Seed of everything.
        say: Called with a line for each thing done.
        shows_progress: Whether bars are shown on stderr.

    Returns:
        The content of `report.json`.

    Raises:
        MissingExtraError: scikit-image is not installed and `data` is None.
        FileNotFoundError, ValueError: An argument or the data is wrong; the message says which and what to do.
    """
    job = _Job(
        out,
        ratio=check_number("ratio", ratio, minimum=0.0),
        num_steps=check_count("num_steps", num_steps),
        num_workers=check_int("num_workers", num_workers, minimum=0),
        seed=check_int("seed", seed),
        say=say,
        shows_progress=shows_progress,
    )
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    recipe = job.write_recipe(find_installed(out) if data is None else find_coco(data, out), is_own=data is not None)
    made = job.generate(recipe)
    mixed = job.mix(recipe)
    losses = job.train(mixed)
    rates = job.measure(recipe)
    results = collect_results(recipe, mixed, made, losses, rates, asked_ratio=ratio, model=MODEL, batch_size=BATCH_SIZE)
    results["seconds"] = round(time.perf_counter() - started, 1)
    (out / "report.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    write_summary(out / "summary.md", results, is_own=data is not None)
    recipe.generated().cache.close()  # type: ignore[union-attr]
    return results


@dataclass(frozen=True)
class _Job:
    """The steps of one run and what they share."""

    out: Path
    ratio: float
    num_steps: int
    num_workers: int
    seed: int
    say: Callable[[str], None]
    shows_progress: bool

    def write_recipe(self, photographs: Photographs, *, is_own: bool) -> Recipe:
        """Write the recipe that the rest of the demo follows, and say what it is about."""
        path = self.out / "recipe.yaml"
        write = partial(write_recipe, path, photographs, ratio=self.ratio, variants=NUM_VARIANTS, seed=self.seed)
        real = write(with_masks=False).source()
        recipe = write(with_masks=bool(real.has_masks))
        num_objects = sum(len(found) for found in real.coco.imgToAnns.values())
        what = "images of your own" if is_own else "photographs that scikit-image installs"
        number = f"{len(real)} of {photographs.num_found}" if len(real) < photographs.num_found else f"{len(real)}"
        self.say(f"Data      {number} {what}: {num_objects} objects of {len(real.classes)} classes")
        if not real.has_masks:
            self.say("          Boxes without masks: nothing can be cut out and pasted, so colours only.")
        return recipe

    def generate(self, recipe: Recipe) -> PrecomputeReport:
        """Fill the cache and draw the preview."""
        generated = recipe.generated()
        with self._show(lambda: open_bar(len(generated), transient=True)) as show:
            made = precompute(generated, num_workers=self.num_workers, progress=show or False)
        found = ", all found in the cache" if made.cached and not made.generated else ""
        self.say(
            f"Generate  {made.accepted} samples, {NUM_VARIANTS} versions of each image{found},\n"
            f"          in {made.seconds:.1f} s; {describe_rejections(made.rejected)}"
        )
        sheet = preview_generated(generated, count=NUM_PREVIEWED)
        cv2.imwrite(str(self.out / "preview.png"), sheet[:, :, ::-1])
        return made

    def mix(self, recipe: Recipe) -> MixedDataset:
        """The dataset to train on."""
        mixed = recipe.mixed(transforms=Prepare(recipe.source().class_to_idx.values()))
        num_generated = mixed.count_generated(0)
        self.say(
            f"Mix       ratio {self.ratio:g}: {num_generated} generated and {len(mixed) - num_generated} real samples "
            "in every epoch"
        )
        return mixed

    def train(self, mixed: MixedDataset) -> list[float]:
        """Train the detector on the mix."""
        started = time.perf_counter()
        with self._show(lambda: open_counter("train", self.num_steps)) as show:
            losses = train(
                mixed,
                1 + len(mixed.real.classes),
                num_steps=self.num_steps,
                batch_size=BATCH_SIZE,
                num_workers=self.num_workers,
                seed=self.seed,
                show=show or (lambda done, remark: None),
            )
        self.say(
            f"Train     {len(losses)} steps of {MODEL} from scratch\n"
            f"          in {time.perf_counter() - started:.0f} s; the loss went from "
            f"{losses[0]:.1f} to {losses[-1]:.1f}"
        )
        return losses

    def measure(self, recipe: Recipe) -> dict[str, Any]:
        """Compare the loader of the mix with that of the real dataset; both are opened anew, to count nothing twice."""
        again = load_recipe(recipe.path)
        real = load_recipe(recipe.path).source()
        real.transforms = Prepare(real.class_to_idx.values())
        mixed = again.mixed(transforms=real.transforms)
        with self._show(lambda: open_counter("measure", 8)) as show:
            rates = measure_throughput(
                real,
                mixed,
                num_batches=NUM_MEASURED_BATCHES,
                batch_size=BATCH_SIZE,
                num_workers=self.num_workers,
                seed=self.seed,
                show=show or (lambda done, remark: None),
            )
        again.generated().cache.close()  # type: ignore[union-attr]
        self.say(
            f"Measure   the loader gives {rates['real_only']['samples_per_second']:.0f} samples per second, real only; "
            f"{rates['mixed']['samples_per_second']:.0f} mixed"
        )
        return rates

    def _show(self, open_it: Callable[[], AbstractContextManager[Any]]) -> AbstractContextManager[Any]:
        return open_it() if self.shows_progress else nullcontext()
