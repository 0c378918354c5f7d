"""What a recipe asks a cache for: fingerprints of its generators, and the chain of its filters."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["Wanted", "read_wanted"]


class Wanted(NamedTuple):
    """What the entries and verdicts of a recipe are found by.

    Attributes:
        fingerprints: Of the generator, and of the copies of it that a `Balance` plan aims at classes.
        filters: Fingerprints of the filters, joined as verdicts have them.
        seed: Of the generated dataset.
    """

    fingerprints: frozenset[str]
    filters: str
    seed: int


def read_wanted(path: Path, /) -> Wanted:
    """Load a recipe with its dataset, which the generator may have to know.

    Raises:
        RecipeError: The recipe is wrong.
    """
    from synthloader.cache.upkeep.filter_chains import JOINT
    from synthloader.recipe import load_recipe

    recipe = load_recipe(path)
    generated = recipe.generated()
    fingerprints = {generated.generator.fingerprint}
    aim = getattr(generated.generator, "aim", None)
    if aim is not None:
        fingerprints |= {aim(class_id).fingerprint for class_id in recipe.target_classes()}
    return Wanted(frozenset(fingerprints), JOINT.join(each.fingerprint for each in recipe.filters), recipe.seed)
