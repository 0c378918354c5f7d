"""Which options of a constructor are varied by calls that make generators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any
from unittest import mock


def find_changed(kind: type, make: Callable[[], Any], changes: Iterable[Callable[[], Any]]) -> set[str]:
    """Options that a change gives another value than `make` does, while all others stay the same.

    Args:
        kind: The class of the generator.
        make: Makes the one that the others are compared with.
        changes: Make the others.
    """
    base = _record(kind, make)
    found = set()
    for change in changes:
        given = _record(kind, change)
        differing = {name for name in base if not _are_same(base[name], given[name])}
        if len(differing) == 1:
            found |= differing
    return found


def _record(kind: type, make: Callable[[], Any]) -> dict[str, Any]:
    """The options that a generator is made with, defaults included; of several of its class, of the last one."""
    signature = inspect.signature(kind)
    original: Any = kind.__init__  # type: ignore[misc]
    calls: list[dict[str, Any]] = []

    @functools.wraps(original)  # so that its signature stays what it is
    def record(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        original(self, *args, **kwargs)
        calls.append(dict(bound.arguments))

    with mock.patch.object(kind, "__init__", record):
        make()
    assert calls, f"No {kind.__name__} was made."
    return calls[-1]


def _are_same(one: Any, other: Any) -> bool:
    """Whether two values say the same; of generators, whether their fingerprints do."""
    if hasattr(one, "fingerprint") and hasattr(other, "fingerprint"):
        return bool(one.fingerprint == other.fingerprint)
    return one is other or repr(one) == repr(other)
