"""Draws the before/after pictures of the pages in this folder: `python docs/generators/draw.py [PAGE ...]`.

A page names its scene in its first line (`<!-- scene: china -->`), and its block of Python ends with the `generator`
that the picture shows. Scenes are photographs that scikit-image and scikit-learn install (see README.md for whose they
are); objects are labelled as in the demo.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from synthloader.demo.photographs import find_installed
from synthloader.protocols import Bindable
from synthloader.registry import find_plugin
from synthloader.reports.drawing import draw_sample
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from synthloader.sources import Source

FOLDER = Path(__file__).parent
HEIGHT = 360
GAP = 12


def open_scenes(out: Path) -> Source:
    """The labelled photographs of the demo."""
    found = find_installed(out)
    return Source(find_plugin("formats", "coco")(images=str(found.images), annotations=str(found.annotations)))


def read_scene(name: str, scenes: Source) -> Sample:
    """A photograph, with labels where the demo has any."""
    if name in ("china", "flower"):
        return Sample(np.ascontiguousarray(load_sample_image(f"{name}.jpg")))
    place = next(at for at in range(len(scenes)) if Path(scenes.name(at)).stem == name)
    sample: Sample = scenes[place]
    return sample


def read_page(page: Path) -> tuple[str, str, int]:
    """Scene, code and seed of a page."""
    text = page.read_text()
    opening = re.match(r"<!-- scene: (\w+)(?:, seed: (\d+))? -->", text)
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    if opening is None or code is None:
        raise SystemExit(f"{page.name}: the first line must name the scene, and there must be a block of Python.")
    return opening[1], code[1], int(opening[2] or 0)


def draw_page(page: Path, scenes: Source) -> np.ndarray:
    """Source and result side by side, labels drawn in where there are any."""
    scene, code, seed = read_page(page)
    source, names = read_scene(scene, scenes), {number: name for name, number in (scenes.classes or {}).items()}
    namespace: dict[str, Any] = {}
    exec(compile(code, str(page), "exec"), namespace)
    generator = namespace["generator"]
    if isinstance(generator, Bindable):
        generator = generator.bind(scenes, classes=scenes.classes)
    made = generator.generate(source, rng=make_rng(seed, scene, 0, 0))
    return np.hstack([_fit(draw_sample(source, names)), *_space(), _fit(draw_sample(made, names))])


def _fit(image: np.ndarray) -> np.ndarray:
    width = round(image.shape[1] * HEIGHT / image.shape[0])
    return cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA)


def _space() -> list[np.ndarray]:
    return [np.full((HEIGHT, GAP, 3), 255, np.uint8)]


def main(names: list[str]) -> None:
    """Draw the pages of these names, or all."""
    pages = [FOLDER / f"{name}.md" for name in names] or [
        page for page in sorted(FOLDER.glob("*.md")) if page.name != "README.md"
    ]
    with tempfile.TemporaryDirectory() as folder:
        scenes = open_scenes(Path(folder))
        for page in pages:
            target = page.with_suffix(".jpg")
            Image.fromarray(draw_page(page, scenes)).save(target, quality=85)
            print(target.relative_to(FOLDER.parents[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
