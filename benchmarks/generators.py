"""Generators that need no model: milliseconds per picture at 640x480, beside peers and the floor of the arithmetic.

`python -m benchmarks.generators [--turns 15] [--samples 24] [--methods paste,poisson,...]`. One thread each; all get
the same photographs (BCCD's where `../shared/data` has them, else drawn ones) with 8 masks and boxes, take turns, and
are called through their public interfaces. The floor is what the method cannot do without: the copies, transforms and
blends that it consists of. Ratios are turn by turn, to the base that is named in the row.

Peers that are not installed are left out and named. albumentations asks for another OpenCV package than the one that
is here, and Ultralytics augments with it wherever it is installed, so it goes into a folder of its own:
`pip install --no-deps --target build/peers albumentations==2.0.8 albucore==0.0.24 stringzilla simsimd`, then
`PYTHONPATH=build/peers python -m benchmarks.generators`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks import _generator_peers as peers
from benchmarks._cache_samples import Item, load_photographs
from benchmarks.harness import Timing, compare, find_missing, interleave, list_versions, make_parser, write_results
from synthloader import ClassLabel, Instances, NothingToGenerate, Sample
from synthloader.seeds import make_rng

PEERS = ("albumentations", "albucore", "ultralytics", "skimage", "torchvision", "scipy")


@dataclass(frozen=True)
class Contender:
    """Something that makes a picture, or why it cannot."""

    name: str
    make: Callable[[], peers.Run | None]
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Aim:
    """Ours takes at most `most` times as long as each contender whose name begins like this."""

    most: float
    than: str


@dataclass(frozen=True)
class Method:
    """One line of the table: the first contender is ours, the last one the base of the ratios."""

    name: str
    contenders: tuple[Contender, ...]
    aims: tuple[Aim, ...]


class PhotographPool:
    """The photographs as a pool of donors and references."""

    identity = "photographs"

    def __init__(self, items: Sequence[Item]) -> None:
        self.samples = [
            Sample(item.image, Instances(class_ids=item.labels, boxes=item.boxes, masks=item.masks)) for item in items
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> Sample:
        return self.samples[index]

    def name(self, index: int, /) -> str:
        """Its position."""
        return str(index)

    def class_ids(self, index: int, /) -> np.ndarray:
        """The classes of its objects."""
        target = self.samples[index].target
        return target.class_ids if isinstance(target, Instances) else np.zeros(0, np.int64)


def run_ours(module: str, name: str, pool: PhotographPool, *, labelled: bool = False, **options: Any) -> peers.Run:
    """A generator of this library, bound to the pool; appearance generators get pictures with one class each."""
    generator = getattr(import_module(f"synthloader.generators.{module}"), name)(**options)
    if hasattr(generator, "bind"):
        generator = generator.bind(pool, classes=None)
    sources = pool.samples if labelled else [sample.replace(target=ClassLabel(0)) for sample in pool.samples]
    turn = 0

    def run(index: int) -> object:
        nonlocal turn
        turn += 1
        try:
            return generator.generate(sources[index], rng=make_rng(0, str(index), turn, 0))
        except NothingToGenerate:
            return None

    return run


def list_methods(items: Sequence[Item], pool: PhotographPool) -> dict[str, Method]:
    """All methods by their short names."""
    placed = peers.place_objects(items, np.random.default_rng(1))
    paste = {"num_range": (3, 3), "scale_range": (1, 1), "rotation_range": (0, 0), "flip": False, "labelled": True}

    def ours(module: str, name: str, label: str = "", **options: Any) -> Contender:
        return Contender(
            f"synthloader {name}{label}",
            lambda: run_ours(module, name, pool, **options),
            (f"synthloader.generators.{module}",),
        )

    def albumentations(name: str, label: str = "", **options: Any) -> Contender:
        return Contender(
            f"albumentations {name}{label}",
            lambda: peers.apply_albumentations(name, items, **options),
            ("albumentations",),
        )

    polygons, masks = (
        Contender(
            f"Ultralytics CopyPaste, {label}",
            lambda drawn=drawn: peers.paste_with_ultralytics(items, with_masks=drawn),  # type: ignore[misc]
            ("ultralytics",),
        )
        for label, drawn in (("polygons only", False), ("masks drawn", True))
    )
    dense = Contender("dense tensors, masks", lambda: peers.paste_dense_tensors(items), ("torchvision",))
    skimage = Contender("scikit-image match_histograms", lambda: peers.match_with_skimage(items), ("skimage",))
    in_lab = Contender("floor: Lab, statistics, 8-bit tables", lambda: peers.look_up_in_lab(items))
    return {
        "paste": Method(
            "paste 3 objects, update 8 masks and boxes",
            (
                ours("copy_paste", "CopyPaste", blend="hard", **paste),
                masks,
                polygons,
                dense,
                Contender("floor: copy, 3 blits, masks and boxes", lambda: peers.paste_plainly(items, placed)),
            ),
            (Aim(1.5, "floor"), Aim(0.5, masks.name), Aim(0.5, dense.name)),
        ),
        "poisson": Method(
            "the same, Poisson",
            (
                ours("copy_paste", "CopyPaste", ", poisson", blend="poisson", **paste),
                Contender("synthloader blend_into x 3, pixels only", lambda: peers.blend_poisson(items, placed)),
                Contender("OpenCV seamlessClone x 3, pixels only", lambda: peers.clone_seamlessly(items, placed)),
            ),
            (Aim(0.45, "OpenCV"),),
        ),
        "fourier": Method(
            "FourierDomainAdaptation",
            (
                ours("fourier_domain_adaptation", "FourierDomainAdaptation"),
                albumentations("FDA", references=True, beta_limit=(0.005, 0.015)),
                Contender("floor: rfft2 + irfft2", lambda: peers.transform_there_and_back(items)),
            ),
            (Aim(1.5, "floor"),),
        ),
        "fog": Method(
            "fog",
            (
                ours("fog", "Fog"),
                albumentations("RandomFog"),
                Contender("floor: one exponential, one blend", lambda: peers.blend_once(items)),
            ),
            (Aim(1.8, "floor"),),
        ),
        "rain": Method("rain", (ours("rain", "Rain"), albumentations("RandomRain")), (Aim(1, "albumentations"),)),
        "snow": Method(
            "snow",
            (
                ours("snow", "Snow"),
                albumentations("RandomSnow", ", textured", method="texture"),
                albumentations("RandomSnow", ", plain", method="bleach"),
            ),
            (Aim(1, "albumentations RandomSnow, plain"),),
        ),
        "histogram": Method(
            "histogram matching",
            (
                ours("color_transfer", "ColorTransfer", ", histogram", method="histogram"),
                albumentations("HistogramMatching", references=True, blend_ratio=(1, 1)),
                skimage,
                Contender("floor: Lab, histograms, 8-bit tables", lambda: peers.match_tables(items)),
            ),
            (Aim(1.1, "floor"),),
        ),
        "reinhard": Method(
            "Reinhard", (ours("color_transfer", "ColorTransfer", ", reinhard"), in_lab), (Aim(1.1, "floor"),)
        ),
    }


def measure(method: Method, num_items: int, turns: int, skipped: dict[str, str]) -> list[dict[str, Any]]:
    """Time the contenders that can run, and judge the aims."""
    runs: dict[str, peers.Run] = {}
    for contender in method.contenders:
        reason = find_missing(contender.requires)
        run = None
        if reason is None:
            run = contender.make()
            reason = None if run is not None else "none of the pictures suits it"
        if run is None:
            skipped[contender.name] = reason or ""
            print(f"skipped: {contender.name}: {reason}", flush=True)
            continue
        runs[contender.name] = run
    if len(runs) < 2 or method.contenders[0].name not in runs:
        return []
    timings = interleave({name: (lambda run=run: run_all(run, num_items)) for name, run in runs.items()}, turns=turns)
    ours, base = timings[method.contenders[0].name], list(timings)[-1]
    return [tabulate_one(method, timing, ours, timings[base]) for timing in timings.values()]


def run_all(run: peers.Run, num_items: int) -> int:
    """Each picture once; none is kept."""
    for index in range(num_items):
        run(index)
    return num_items


def tabulate_one(method: Method, timing: Timing, ours: Timing, base: Timing) -> dict[str, Any]:
    """One row: milliseconds with quartiles, the ratio to the base, ours to this one, and what is aimed at."""
    quarter, three_quarters = timing.quartiles
    share = compare(ours, timing)[1]
    aim = next((aim for aim in method.aims if timing is not ours and timing.name.startswith(aim.than)), None)
    return {
        "method": method.name,
        "what": timing.name,
        "ms": timing.median * 1e3,
        "ms from": quarter * 1e3,
        "ms to": three_quarters * 1e3,
        "ratio": compare(timing, base)[1],
        "ours / this": share,
        "aim": "" if aim is None else f"at most {aim.most:g}: {'met' if share <= aim.most else 'MISSED'}",
    }


def main() -> None:
    """Measure the methods asked for."""
    parser = make_parser(__doc__, turns=15)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--methods", default="all", help="comma-separated short names; all if not given")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ.update({"NO_ALBUMENTATIONS_UPDATE": "1", "YOLO_OFFLINE": "1"})  # nothing is fetched
    items = [photograph.item for photograph in load_photographs(arguments.samples)]
    methods = list_methods(items, PhotographPool(items))
    wanted = list(methods) if arguments.methods == "all" else arguments.methods.split(",")
    skipped: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for name in wanted:
        print(f"== {name}", flush=True)
        rows += measure(methods[name], len(items), arguments.turns, skipped)
    if not rows:
        raise SystemExit("Nothing to compare with: install the peers that were skipped, or ask for other methods.")
    path = write_results(
        "generators",
        rows,
        folder=arguments.results,
        samples=len(items),
        turns=arguments.turns,
        peers=list_versions(PEERS),
        skipped=skipped,
    )
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
