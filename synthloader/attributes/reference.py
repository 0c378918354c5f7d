"""What was measured of a real set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from synthloader.attributes.measure import measure, scale_values
from synthloader.keys import hash_content
from synthloader.sample import Sample

__all__ = ["Reference", "SampleSequence"]


class SampleSequence(Protocol):
    """A list of samples, or whatever gives them by position."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


class Reference:
    """All attributes of a set, measured when first asked for; then the samples are let go.

    Args:
        samples: The set, at least one.
        most: How many of them are measured, evenly from first to last.
    """

    def __init__(self, samples: SampleSequence, most: int) -> None:
        self._samples: SampleSequence | None = samples
        self._most = most
        self._values: dict[str, np.ndarray] = {}

    @property
    def values(self) -> dict[str, np.ndarray]:
        """Attribute to values in its own unit, as `measure` gives them."""
        samples = self._samples
        if samples is not None:
            places = np.linspace(0, len(samples) - 1, min(len(samples), self._most)).round().astype(int)
            self._values = measure(samples[at] for at in places.tolist())
            self._samples = None
        return self._values

    def hash(self, names: Sequence[str], /) -> str:
        """Hash of the values of some attributes; in single precision, on which other machines agree."""
        return hash_content([[name, self.values[name].astype(np.float32)] for name in names]).hex()

    def scale(self, name: str, /) -> np.ndarray:
        """Values on the attribute's scale, without NaN."""
        return scale_values(name, self.values[name], like=self.values[name])
