"""The recipe that the demo follows, and leaves for its reader to change."""

from __future__ import annotations

import json
from pathlib import Path

from synthloader.demo.photographs import Photographs
from synthloader.recipe import Recipe, load_recipe

__all__ = ["write_recipe"]

_RECIPE = """\
# Written by `synthloader demo`. Change it, and look: synthloader preview recipe.yaml --out sheet.png
source:
  format: coco
  images: {images}
  annotations: {annotations}
generator:
{generator}
filters:
  - min_box: {{min_side: 3, min_area: 10}}
plan: {{add: {ratio}}}
variants: {variants}
cache: cache
seed: {seed}
"""

_WITH_MASKS = """\
  one_of:
    2:  # two of three: objects of other images pasted in
      - copy_paste: {num_range: [1, 3], scale_range: [0.3, 0.8]}
    1:  # one of three: and the colours of another image
      - copy_paste: {num_range: [1, 3], scale_range: [0.3, 0.8]}
      - color_transfer"""

_BOXES_ONLY = """\
  - color_transfer  # boxes do not say which pixels an object has: copy_paste needs masks"""


def write_recipe(
    path: Path, photographs: Photographs, /, *, with_masks: bool, ratio: float, variants: int, seed: int
) -> Recipe:
    """Write the recipe and read it back.

    Args:
        path: Where to; annotations in the same folder are named relative to it.
        photographs: What it is about.
        with_masks: Whether objects can be cut out.
        ratio: Generated samples per real sample.
        variants: Versions of each image.
        seed: Seed of everything.
    """
    images, annotations = str(photographs.images), str(photographs.annotations)
    if photographs.annotations.parent == path.parent:
        annotations = photographs.annotations.name
    text = _RECIPE.format(
        images=_quote(images),
        annotations=_quote(annotations),
        generator=_WITH_MASKS if with_masks else _BOXES_ONLY,
        ratio=ratio,
        variants=variants,
        seed=seed,
    )
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def _quote(text: str) -> str:
    """As YAML has it: bare where that is plain, else in double quotes."""
    is_plain = text.isascii() and text.replace("/", "").replace("_", "").replace("-", "").replace(".", "").isalnum()
    return text if is_plain else json.dumps(text)
