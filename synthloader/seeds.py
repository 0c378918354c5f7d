"""The one way to make a random generator: every draw is a function of names and numbers, never of time or order."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["hash_numbers", "make_rng"]


def make_rng(seed: int, source: str, variant: int, attempt: int, *, stream: str = "") -> np.random.Generator:
    """The random generator of one generated sample.

    The bit generator is Philox keyed by a 128-bit hash of the arguments, so that neighbouring seeds and variants
    give independent streams and nothing has to be drawn in order.

    Args:
        seed: Seed of the generated dataset.
        source: Name of the source sample.
        variant: Which generated version of the source.
        attempt: Which candidate at this place.
        stream: Name of a further stream of the same sample; the empty one belongs to the generator.

    Returns:
        A new generator; the global random state is neither read nor changed.

    Source:
        Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox); numpy's implementation.

    Example:
        >>> a, b = make_rng(0, "cat.jpg", 1, 0), make_rng(0, "cat.jpg", 1, 0)
        >>> a.integers(100, size=3).tolist() == b.integers(100, size=3).tolist()
        True
    """
    text = f"{seed}\0{variant}\0{attempt}\0{stream}\0{source}".encode("utf-8", "surrogatepass")
    key = int.from_bytes(hashlib.blake2b(text, digest_size=16, person=b"synthloader.rng").digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


def hash_numbers(*numbers: int) -> int:
    """A 64-bit hash of a few integers: keys of permutations, start points of cycles."""
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"synthloader.num").digest(), "little")
