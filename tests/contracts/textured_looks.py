"""Pictures of fine grain, of even and odd sides: where everything is and was can be seen in them under any weather."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthloader.sample import Sample
from tests.contracts.appearance_contract import check_nothing_moved, check_objects_are_seen
from tests.contracts.generator_contract import bind, generate
from tests.contracts.generator_scenes import make_textured_scene

if TYPE_CHECKING:
    from tests.contracts.generator_contract import Case

SIZES_HW = ((160, 200), (97, 131), (64, 75), (45, 36))
"""Even and odd heights with even and odd widths, down to what is hardly larger than one block that is looked for."""


@dataclass(frozen=True)
class Looks:
    """What became of one picture.

    Args:
        source: The picture.
        made: What was made of it.
    """

    source: Sample
    made: Sample

    def check(self) -> int:
        """Nothing moved, and every object is there. Returns how many objects were looked for."""
        check_nothing_moved(self.source.image, self.made.image)
        return check_objects_are_seen(self.source, self.made)


def make_looks(case: Case, seed: int) -> list[Looks]:
    """What a generator makes of pictures of all sizes; what it pasted into is left out."""
    found = []
    for size_hw in SIZES_HW:
        source, pool = make_textured_scene(seed, size_hw=size_hw)
        made = generate(bind(case.make(), pool), source, seed)
        if made is not None and made.origin is not None and made.origin.edited is None:
            found.append(Looks(source, made))
    return found
