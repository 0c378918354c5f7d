"""Filters that follow each other: which verdicts stand on one sample, in which order, and what they make of it.

Verdicts stand under the fingerprints of all filters up to the one that judged, joined by ` | `. So those of a recipe
with two filters are `MinBox/1(...)` and `MinBox/1(...) | Sharpness/1(...)`, and the second is on what the first made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from synthloader.protocols import Verdict
from synthloader.sample import Sample

__all__ = ["JOINT", "apply_verdict", "find_chains", "judge_again", "list_steps", "name_filter"]

JOINT = " | "
"""What lies between the fingerprints of two filters."""


def list_steps(filters: str, known: Collection[str], /) -> list[str]:
    """The texts under which the verdicts of a chain stand, in order, the chain itself last.

    Args:
        filters: The whole chain.
        known: Texts of all verdicts that there are. A parameter may hold the joint, so no text is taken apart.

    Example:
        >>> list_steps("A | B | C", ["A", "A | B", "B", "A | C"])
        ['A', 'A | B', 'A | B | C']
    """
    return [*sorted({text for text in known if filters.startswith(text + JOINT)}, key=len), filters]


def find_chains(known: Collection[str], /) -> list[str]:
    """The texts that no other goes on from: each is what somebody filtered with.

    Example:
        >>> find_chains(["A", "A | B", "B"])
        ['A | B', 'B']
    """
    return sorted(text for text in known if not any(other.startswith(text + JOINT) for other in known))


def name_filter(step: str, before: str = "", /) -> str:
    """The name of the filter that a chain ends with, under which its score stands in `Origin.scores`.

    Example:
        >>> name_filter("MinBox/1(min_side=5) | Sharpness/2()", "MinBox/1(min_side=5)")
        'Sharpness'
    """
    own = step[len(before) + len(JOINT) :] if before else step
    return own.partition("/")[0]


def apply_verdict(sample: Sample, verdict: Verdict, name: str, /) -> Sample:
    """The sample that goes on after a filter of this name, as `GeneratedDataset` serves it: changed, with a score."""
    sample = sample if verdict.sample is None else verdict.sample
    if verdict.score is None or sample.origin is None:
        return sample
    return sample.replace(origin=sample.origin.replace(scores={**sample.origin.scores, name: verdict.score}))


def judge_again(
    sample: Sample, steps: list[str], get_verdict: Callable[[str, Sample], Verdict | None], /
) -> Sample | Verdict | None:
    """What the verdicts of a chain make of a sample.

    Args:
        sample: That of the entry.
        steps: As `list_steps` gives them.
        get_verdict: Gives the verdict under a text on a sample.

    Returns:
        The sample to use; the verdict that rejected it; or None where one is missing.
    """
    before = ""
    for step in steps:
        verdict = get_verdict(step, sample)
        if verdict is None or not verdict.accepted:
            return verdict
        sample, before = apply_verdict(sample, verdict, name_filter(step, before)), step
    return sample
