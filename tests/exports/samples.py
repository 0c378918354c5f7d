"""Samples and pictures for the tests of exports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from synthloader.exports import ExportReport, export_samples
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

CLASS_NAMES = {7: "Größe", 2: "fig & date", 40: "a: yes"}
HUGE_NAMES = {class_id: f"class {class_id}" for class_id in (1, 300)}


def make_name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def make_image(number: int, size_hw: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def make_origin(number: int, **changes: Any) -> Origin:
    return Origin(
        **{
            "source": f"real/{number}.jpg",
            "fingerprint": "Shade/1()",
            "variant": number,
            "attempt": 1,
            "seed": 5,
            "drawn": ("a.png", "b.png"),
            "scores": {"MinBox": 0.5},
            "prompt": "a fig",
            "model": "m/1",
            **changes,
        }
    )


def make_sample(number: int, target: Target | None, *, size_hw: tuple[int, int] = (24, 32), **fields: Any) -> Sample:
    return Sample(make_image(number, size_hw), target, origin=make_origin(number), **fields)


def make_boxes(*boxes: list[float]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


def make_instances(*, size_hw: tuple[int, int] = (24, 32), **changes: Any) -> Instances:
    """Two rectangles with masks, of classes 7 and 2."""
    masks = np.zeros((2, *size_hw), np.bool_)
    masks[0, 2:8, 3:11] = True
    masks[1, 10:20, 12:30] = True
    parts: dict[str, Any] = {
        "class_ids": np.array([7, 2]),
        "boxes": make_boxes([3, 2, 11, 8], [12, 10, 30, 20]),
        "masks": masks,
        "attributes": {"occluded": np.array([True, False]), "shade": np.array([0.25, np.nan])},
    }
    return Instances(**{**parts, **changes})


def make_no_instances(size_hw: tuple[int, int] = (24, 32), *, with_masks: bool = True) -> Instances:
    masks = np.zeros((0, *size_hw), np.bool_) if with_masks else None
    return Instances(np.zeros(0, np.int64), make_boxes(), masks)


def make_labels(*class_ids: int) -> list[tuple[str, Sample]]:
    return name_samples(make_sample(place, ClassLabel(class_id)) for place, class_id in enumerate(class_ids))


def make_semantic(mask: Any, ignore_index: int = 255) -> SemanticMask:
    return SemanticMask(np.array(mask, np.int32), ignore_index)


def name_samples(samples: Iterable[Sample]) -> list[tuple[str, Sample]]:
    return [(make_name(number), sample) for number, sample in enumerate(samples)]


def export(samples: Iterable[Sample], folder: Path, **options: Any) -> ExportReport:
    return export_samples(name_samples(samples), folder, **{"class_names": CLASS_NAMES, **options})


def read_tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder: path to content."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def fail_after(samples: Iterable[tuple[str, Sample]]) -> Iterator[tuple[str, Sample]]:
    """These samples, and then an error."""
    yield from samples
    raise KeyboardInterrupt


@st.composite
def draw_instances(draw: st.DrawFn, *, with_masks: bool = True, whole: bool = False) -> Sample:
    """An image of any size with objects of any boxes; masks have holes and several parts."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, 6))
    x = np.sort(rng.uniform(0, width, (count, 2)), axis=1)
    y = np.sort(rng.uniform(0, height, (count, 2)), axis=1)
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    if whole:
        boxes[:, :2], boxes[:, 2:] = np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])
    boxes = np.minimum(boxes.astype(np.float32), np.array([width, height] * 2, np.float32))
    target = Instances(
        rng.choice(list(CLASS_NAMES), count).astype(np.int64),
        boxes,
        rng.random((count, height, width)) < rng.uniform(0, 1, (count, 1, 1)) if with_masks else None,
        attributes={
            "shade": rng.random(count).astype(np.float32),
            "name": np.array([f"é{row}" for row in range(count)], np.str_),
        },
    )
    return Sample(make_image(draw(st.integers(0, 99)), (height, width)), target)
