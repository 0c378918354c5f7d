"""`ReferencePool`: what a generator draws its reference images from, each of them measured once in a process."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from synthloader.errors import NothingToGenerate
from synthloader.generators.referring.references import References, ReferencesLike, open_references
from synthloader.protocols import Pool

__all__ = ["MAX_REMEMBERED_BYTES", "PoolReferences", "ReferencePool"]

MAX_DRAWS = 8
"""References drawn in search of one that is not the source itself."""

MAX_REMEMBERED_BYTES = 64 * 2**20
"""Measurements kept in one process; beyond it the oldest are taken anew, which costs time and changes nothing."""

_ENTRY_BYTES = 400
"""What an entry takes besides its numbers: the key, the array's head, its place in the dict."""

Measure: TypeAlias = Callable[..., np.ndarray]


@dataclass(frozen=True)
class PoolReferences:
    """The pictures of a pool as references."""

    pool: Pool

    @property
    def stamp(self) -> str:
        """The pool's identity."""
        return self.pool.identity

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pool)

    def name(self, index: int, /) -> str:
        """The pool's name for it."""
        return self.pool.name(index)

    def read(self, index: int, /) -> np.ndarray:
        """Decode one image."""
        return self.pool[index].image


class ReferencePool:
    """The references of a generator: given, bound, or still missing; and what was measured of them.

    Args:
        user: The generator, as the user knows it.
        references: A folder, a list of image files, or samples; None: those of a pool that is bound later.
        measure: From an image (H, W, 3) uint8, and settings, to what the generator needs of it. A function of a module,
            so that it can be pickled.

    Raises:
        FileNotFoundError: A file or the folder does not exist.
        ValueError: There are no images.
    """

    def __init__(self, user: str, references: ReferencesLike | None, measure: Measure) -> None:
        self.user = user
        self.uses_pool = references is None
        self._references: References | None = None if references is None else open_references(references)
        self._measure = measure
        self._forget()

    @property
    def stamp(self) -> str | None:
        """Hash of the names and contents of given references; None where they come from a pool."""
        return None if self._references is None or self.uses_pool else self._references.stamp

    def bind(self, pool: Pool, /) -> ReferencePool:
        """The references of this pool, unless others were given."""
        if not self.uses_pool:
            return self
        bound = ReferencePool(self.user, None, self._measure)
        bound._references = PoolReferences(pool)
        return bound

    def measure_by(self, measure: Measure, /) -> ReferencePool:
        """The same references, given or bound, of which something else is measured."""
        if measure is self._measure:
            return self
        made = copy.copy(self)  # Begins with an empty memory, as a pickle does.
        made._measure = measure
        return made

    def __len__(self) -> int:
        """Number of references; 0 where none are bound."""
        return 0 if self._references is None else len(self._references)

    def name(self, index: int, /) -> str:
        """The name that `Origin.drawn` records."""
        return self._open().name(index)

    def read(self, index: int, /, *settings: Any) -> np.ndarray:
        """What `measure(image, *settings)` says of one reference; remembered, so not to be modified."""
        key = (index, *settings)
        found = self._known.get(key)
        if found is None:
            found = self._measure(self._open().read(index), *settings)
            with self._lock:
                if self._known.setdefault(key, found) is found:
                    self._num_bytes += found.nbytes + _ENTRY_BYTES
                while self._num_bytes > MAX_REMEMBERED_BYTES:
                    self._num_bytes -= self._known.pop(next(iter(self._known))).nbytes + _ENTRY_BYTES
        return found

    def draw(self, rng: np.random.Generator, /, is_own: Callable[[int], bool]) -> int:
        """Draw a reference.

        Args:
            rng: Draws.
            is_own: Whether a reference is the source itself, or as good as that: it is passed over.

        Raises:
            NothingToGenerate: There is no other one.
            ValueError: Neither were references given nor is a pool bound.
        """
        count = len(self._open())
        for _ in range(MAX_DRAWS if count > 1 else count):
            drawn = int(rng.integers(count))
            if not is_own(drawn):
                return drawn
        raise NothingToGenerate("no other reference")

    def _open(self) -> References:
        if self._references is None:
            raise ValueError(
                "references must be given, or a pool be bound before generate, got references=None. "
                f"Pass {self.user} to GeneratedDataset, call bind first, or give references=."
            )
        return self._references

    def _forget(self) -> None:
        self._known: dict[tuple[Any, ...], np.ndarray] = {}
        self._num_bytes = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Travel to other processes without what they can measure themselves."""
        return {name: value for name, value in vars(self).items() if name not in ("_known", "_num_bytes", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with an empty memory."""
        self.__dict__.update(state)
        self._forget()

    def __repr__(self) -> str:
        """As it stands in the arguments of a generator; empty where the pool is used."""
        return "" if self.uses_pool else f"references=<{len(self)} images>"
