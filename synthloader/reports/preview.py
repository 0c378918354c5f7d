"""What a generated dataset makes, rejected candidates included, on one sheet: `preview_generated`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from synthloader.checks import check_count
from synthloader.generated import GeneratedDataset
from synthloader.reports.contact_sheet import Tile, find_fit, make_contact_sheet
from synthloader.reports.drawing import Color, draw_sample
from synthloader.sample import Sample

__all__ = [
    "Candidate",
    "Position",
    "count_accepted",
    "draw_pairs",
    "list_candidates",
    "preview_generated",
    "spread_positions",
]

ACCEPTED: Color = (0, 120, 88)
REJECTED: Color = (190, 70, 0)


class Position(NamedTuple):
    """What is shown: what a plan carries somewhere, or a version of a source.

    Attributes:
        source: Position of the source.
        variant: Which version.
        target_class: The class that is wanted, for generators that can be aimed.
        donors: Those that a plan chose (see `synthloader.protocols.Budgeted`).
        epoch: The epoch, for what a cache does not keep.
        place: The index in the mix, likewise; None: the one in the generated dataset.
    """

    source: int
    variant: int
    target_class: int | None = None
    donors: tuple[int, ...] | None = None
    epoch: int = 0
    place: int | None = None


class Candidate(NamedTuple):
    """One try at a (source, variant).

    Attributes:
        attempt: Counted from 0.
        sample: What was made, as the filters left it; None where nothing could be.
        who: The generator or the filter that rejected it; empty if it was accepted.
        reason: Why.
    """

    attempt: int
    sample: Sample | None
    who: str
    reason: str


def preview_generated(
    generated: GeneratedDataset,
    positions: Sequence[tuple[Any, ...]] | None = None,
    /,
    *,
    count: int = 8,
    tile_hw: tuple[int, int] = (300, 400),
    plain: bool = False,
) -> np.ndarray:
    """A contact sheet: each source beside every candidate that was made of it, with the verdict.

    Attempts of which nothing was made for one reason share a picture. No sample is put into the dataset's cache.

    Args:
        generated: What makes the samples.
        positions: What to show, each a `Position` or the first entries of one: (source, variant, target class or None);
            None for `count` sources, evenly spread.
        count: How many.
        tile_hw: Height and width of every picture in pixels.
        plain: Draw no labels, to judge the pixels.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    chosen = spread_positions(len(generated.source), check_count("count", count)) if positions is None else positions
    return make_contact_sheet(draw_pairs(generated, chosen, tile_hw=tile_hw, plain=plain), tile_hw=tile_hw)


def draw_pairs(
    generated: GeneratedDataset,
    positions: Sequence[tuple[Any, ...]],
    /,
    *,
    tile_hw: tuple[int, int] = (300, 400),
    plain: bool = False,
) -> list[tuple[Tile, Tile]]:
    """The pictures of `preview_generated`: for each candidate its source and itself."""
    names = {class_id: name for name, class_id in (generated.source.classes or {}).items()}
    painter = _Painter(names, tile_hw, plain)
    pairs = []
    for position in (Position(*each) for each in positions):
        before = generated.source[position.source]
        left = Tile(painter.draw(before), generated.source.name(position.source), "source")
        source, variant, target_class, donors, epoch, index = position
        candidates = list_candidates(
            generated, source, variant, target_class=target_class, donors=donors, epoch=epoch, index=index
        )
        title = f"{_describe(generated.given_generator)}{painter.name_aim(target_class)}"
        for alike in _gather(candidates):
            pairs.append((left, painter.make_tile(alike, before, title, variant)))
    return pairs


def count_accepted(pairs: Sequence[tuple[Tile, Tile]], /) -> int:
    """How many of the candidates in `draw_pairs` were accepted."""
    return sum(candidate.color == ACCEPTED for _, candidate in pairs)


def spread_positions(size: int, count: int, /, *, variant: int = 0) -> list[tuple[Any, ...]]:
    """(source, variant, None) of `count` sources, evenly spread over all of them."""
    count = min(size, count)
    return [(at * size // count, variant, None) for at in range(count)]


def list_candidates(
    generated: GeneratedDataset,
    source: int,
    variant: int,
    /,
    *,
    target_class: int | None = None,
    donors: Sequence[int] | None = None,
    epoch: int = 0,
    index: int | None = None,
) -> list[Candidate]:
    """Every candidate of one (source, variant), the rejected ones too, until one is accepted.

    Args:
        generated: What makes them. Its cache is read and not written.
        source: Position of the source.
        variant: Which version.
        target_class: The class that is wanted, for generators that can be aimed.
        donors: Those that a plan chose (see `synthloader.protocols.Budgeted`).
        epoch: The epoch, for what a cache does not keep.
        index: The index in the mix, likewise; None: the one in the generated dataset.
    """
    outcome = generated.make(
        source, variant, target_class=target_class, donors=donors, epoch=epoch, index=index, collect=True
    )
    found = []
    for attempt, (who, reason) in enumerate(outcome.rejections):
        entry = outcome.candidates[attempt]
        found.append(Candidate(attempt, entry if isinstance(entry, Sample) else None, who, reason))
    if outcome.sample is not None:
        found.append(Candidate(len(found), outcome.sample, "", ""))
    return found


def _gather(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Candidates in order; those of which nothing was made for one reason come together."""
    gathered: list[list[Candidate]] = []
    for candidate in candidates:
        alike = (same for same in gathered if same[0].sample is None and same[0][1:] == candidate[1:])
        same = next(alike, None) if candidate.sample is None else None
        if same is None:
            gathered.append([candidate])
        else:
            same.append(candidate)
    return gathered


class _Painter(NamedTuple):
    """How the pictures of one sheet are drawn."""

    names: dict[int, str]
    tile_hw: tuple[int, int]
    plain: bool

    def draw(self, sample: Sample) -> np.ndarray:
        shown = sample.replace(target=None) if self.plain else sample
        return draw_sample(shown, self.names, size_hw=find_fit(sample.size_hw, self.tile_hw))

    def name_aim(self, target_class: int | None) -> str:
        return "" if target_class is None else f", for {self.names.get(target_class, target_class)}"

    def make_tile(self, alike: Sequence[Candidate], before: Sample, title: str, variant: int) -> Tile:
        """The picture of a candidate, or of several of which nothing was made for one reason."""
        attempt, sample, who, reason = alike[0]
        again = f", attempt {attempt + 1}" if attempt else ""
        again = f" (variant {variant}{f', {len(alike)} attempts' if len(alike) > 1 else again})"
        if sample is None:
            image = self.draw(before.replace(target=None))
            return Tile(image, title, f"nothing made: {reason}{again}", REJECTED, is_faded=True)
        image = self.draw(sample)
        if who:
            return Tile(image, title, f"rejected by {who}: {reason}{again}", REJECTED)
        return Tile(image, title, f"accepted{again}{_describe_scores(sample)}", ACCEPTED)


def _describe(generator: object) -> str:
    """The names of a generator's parts: `CopyPaste + ColorTransfer`, `CopyPaste or ColorTransfer`."""
    parts = getattr(generator, "generators", None)
    if not isinstance(parts, list | tuple):
        return type(generator).__name__
    joint = " or " if hasattr(generator, "weights") else " + "
    nested = [_describe(part) for part in parts]
    return joint.join(f"({text})" if len(parts) > 1 and joint not in text and " " in text else text for text in nested)


def _describe_scores(sample: Sample) -> str:
    scores = sample.origin.scores if sample.origin is not None else {}
    return "".join(f", {who} {score:.3g}" for who, score in scores.items())
