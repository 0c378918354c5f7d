"""A small generator that pastes one square, and whose options move what is measured of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthloader.errors import NothingToGenerate
from synthloader.keys import make_fingerprint
from synthloader.sample import Sample
from synthloader.targets import Instances


class Squares:
    """Paste one square of a drawn side, with its lower edge at a drawn height. `calls` counts samples of all copies."""

    keeps = frozenset({Instances})

    def __init__(
        self,
        *,
        side_range: tuple[float, float] = (0.2, 0.3),
        bottom_range: tuple[float, float] = (0.3, 1.0),
        failures: float = 0.0,
        class_id: int = 1,
    ) -> None:
        if side_range[0] > 1:
            raise ValueError("too large")
        self.options: dict[str, Any] = {
            "side_range": side_range,
            "bottom_range": bottom_range,
            "failures": failures,
            "class_id": class_id,
        }
        self.calls = [0]

    @property
    def fingerprint(self) -> str:
        return make_fingerprint("Squares", 1, **self.options)

    def replace(self, **options: Any) -> Squares:
        made = Squares(**{**self.options, **options})
        made.calls = self.calls
        return made

    def aim(self, class_id: int, /) -> Squares:
        return self.replace(class_id=class_id)

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        self.calls[0] += 1
        height, width = source.size_hw
        share = np.exp(rng.uniform(*np.log(self.options["side_range"])))
        bottom = rng.uniform(*self.options["bottom_range"])
        left, chance = rng.uniform(), rng.random()
        if chance < self.options["failures"]:
            raise NothingToGenerate("bad luck")
        side = min(max(1, round(share * min(height, width))), height, width)
        y2 = int(np.clip(round(bottom * height), side, height))
        x1 = round(left * (width - side))
        image = source.image.copy()
        image[y2 - side : y2, x1 : x1 + side] = 255
        target: Any = source.target
        mask = np.zeros((1, height, width), bool)
        mask[0, y2 - side : y2, x1 : x1 + side] = True
        made = Instances(
            np.append(target.class_ids, self.options["class_id"]),
            np.concatenate([target.boxes, np.array([[x1, y2 - side, x1 + side, y2]], np.float32)]),
            None if target.masks is None else np.concatenate([target.masks, mask]),
            attributes={"generated": np.append(np.zeros(len(target), bool), True)},
        )
        return source.edit(image=image, target=made, edited=mask[0])

    def __repr__(self) -> str:
        return "Squares()"


def make_street(seed: int, count: int = 60, *, size: int = 100) -> list[Sample]:
    """Pictures in which far things are small and high (two thirds), and near ones large and low."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        boxes = []
        for _ in range(3):
            near = rng.random() < 1 / 3
            side = size * np.exp(rng.normal(np.log(0.4 if near else 0.08), 0.08))
            bottom = size * rng.normal(0.85 if near else 0.4, 0.03)
            left = rng.uniform(0, size - side)
            boxes.append([left, max(0, bottom - side), left + side, min(size, bottom)])
        samples.append(
            Sample(np.zeros((size, size, 3), np.uint8), Instances(np.ones(3, np.int64), np.array(boxes, np.float32)))
        )
    return samples


def make_empty(count: int = 10, *, size: int = 100) -> list[Sample]:
    """Pictures without objects."""
    nothing = Instances(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros((0, size, size), bool))
    return [Sample(np.full((size, size, 3), at % 250, np.uint8), nothing) for at in range(count)]
