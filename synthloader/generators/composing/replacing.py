"""Copies of a generator with other options, which is what `MetadataAlignment` searches with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

__all__ = ["replace_options"]

GeneratorT = TypeVar("GeneratorT")


def replace_options(
    generator: GeneratorT, options: Mapping[str, Any], /, *, instead: Mapping[str, str] | None = None
) -> GeneratorT:
    """Make a generator of the same class, with the constructor options that it has and some that are others.

    Args:
        generator: Keeps each constructor option in an attribute of its name.
        options: Those that change. Whatever the constructor refuses is refused.
        instead: For an option, the one that takes its place where both are given: it is dropped where the first is
            among `options` without it, as that would change nothing otherwise.

    Raises:
        TypeError: There is no such option.
        ValueError: A value is out of its bounds.

    Example:
        >>> from synthloader.generators.fog import Fog
        >>> fog = replace_options(Fog(max_distance_m=60), {"strength_range": (0.1, 0.2)})
        >>> fog.max_distance_m, fog.strength_range
        (60.0, (0.1, 0.2))
    """
    made = type(generator)
    own = {name: getattr(generator, name) for name in inspect.signature(made).parameters}
    for option, other in (instead or {}).items():
        if option in options:
            own[other] = None
    return made(**{**own, **options})
