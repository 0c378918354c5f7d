"""What a recipe asks a cache for: its generators, the chain of its filters, and which entries it is served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # The command line starts without the library.
    from collections.abc import Sequence

    from synthloader.cells import Draw
    from synthloader.generated import GeneratedDataset
    from synthloader.sample import Origin

__all__ = ["Wanted", "read_wanted"]


class Wanted(NamedTuple):
    """What the entries and verdicts of a recipe are found by.

    Attributes:
        fingerprints: Of the generator, and of the copies of it that a `Balance` plan aims at classes, as far as a cache
            keeps what they make.
        filters: Fingerprints of the filters, joined as verdicts have them; empty where they judge what is not kept.
        seed: Of the generated dataset.
        served: Tells which entries a training run of the recipe finds.
    """

    fingerprints: frozenset[str]
    filters: str
    seed: int
    served: Served


class Served:
    """Tells which entries of a cache a generated dataset finds: those whose key is made of what is there now.

    Other recipes leave entries with the same generator in one cache: of other labels, pools, images or variants.

    Args:
        generated: The dataset.
        aims: Fingerprint of the generator, or of its copy that is aimed at a class, to that class.
        draws: What a plan with a cap asks for besides.
    """

    def __init__(self, generated: GeneratedDataset, aims: dict[str, int | None], draws: Sequence[Draw]) -> None:
        self._generated = generated
        self._aims = aims
        self._keys = {
            generated.make_cache_key(
                draw.source, draw.variant or 0, attempt, target_class=draw.target_class, donors=draw.donors
            )
            for draw in draws
            for attempt in range(generated.attempts)
        }
        self._places = {generated.source.name(at): at for at in range(len(generated.source))}

    def __call__(self, key: bytes, origin: Origin) -> bool:
        """Whether the entry of this key is one of them."""
        if key in self._keys:
            return True
        made, place = self._generated, self._places.get(origin.source)
        if place is None or origin.fingerprint not in self._aims:
            return False
        if origin.attempt >= made.attempts or (made.variants is not None and origin.variant >= made.variants):
            return False
        target_class = self._aims[origin.fingerprint]
        return made.make_cache_key(place, origin.variant, origin.attempt, target_class=target_class) == key


def read_wanted(path: Path, /) -> Wanted:
    """Load a recipe with its dataset, which the generator may have to know.

    Raises:
        RecipeError: The recipe is wrong.
    """
    from synthloader.cache.upkeep.filter_chains import JOINT
    from synthloader.recipe import load_recipe

    recipe = load_recipe(path)
    generated = recipe.generated()
    aims: dict[str, int | None] = {generated.find_kept_fingerprint(): None}
    if generated.can_aim:
        aims |= {generated.find_kept_fingerprint(class_id): class_id for class_id in recipe.target_classes()}
    draws = recipe.list_rationed()
    told = {draw.target_class for draw in draws}
    fingerprints = {*aims, *(generated.find_kept_fingerprint(aim, told=True) for aim in told)}
    # What is finished anew each time is judged anew each time: of what is kept the filters have said nothing.
    filters = "" if generated.is_finished_fresh else JOINT.join(each.fingerprint for each in recipe.filters)
    return Wanted(frozenset(fingerprints), filters, recipe.seed, Served(generated, aims, draws))
