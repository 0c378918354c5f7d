"""Shuffles that are never written down: a keyed permutation of 0..size-1 in constant time and memory."""

from __future__ import annotations

import hashlib
from functools import lru_cache

__all__ = ["Permutation", "get_permutation"]

_ROUNDS = 6
_MASK = (1 << 64) - 1


class Permutation:
    """A pseudorandom one-to-one map of 0..size-1 onto itself.

    A Feistel network over the smallest power of two that holds `size`, its two halves alternately masked by a hash of
    the other; positions beyond `size` are walked on along their cycle, fewer than two steps on average.

    Args:
        size: At least 1.
        key: Any integer; another key gives another permutation.

    Source:
        Black and Rogaway 2002, "Ciphers with arbitrary finite domains" (cycle walking). Not for secrets.

    Example:
        >>> shuffle = Permutation(10, key=3)
        >>> sorted(shuffle(i) for i in range(10)) == list(range(10)), shuffle.inverse(shuffle(7))
        (True, 7)
    """

    __slots__ = ("_high_mask", "_keys", "_low_bits", "_low_mask", "_offset", "size")

    def __init__(self, size: int, *, key: int) -> None:
        # Halves of one and two bits would favour some pairs of images: 5 to 8 walk within 16.
        bits = 2 if size <= 4 else max(4, (size - 1).bit_length())
        self.size = size
        self._low_bits = bits - bits // 2
        self._low_mask = (1 << self._low_bits) - 1
        self._high_mask = (1 << bits // 2) - 1
        digest = hashlib.blake2b(str(key).encode(), digest_size=8 * (_ROUNDS + 1), person=b"synthloader.prm").digest()
        words = [int.from_bytes(digest[at : at + 8], "little") for at in range(0, len(digest), 8)]
        self._keys = tuple(words[:_ROUNDS])
        self._offset = words[_ROUNDS] % size

    def __call__(self, index: int, /) -> int:
        """Where `index` goes."""
        size = self.size
        at = index
        while True:
            at = self._encrypt(at)
            if at < size:
                at += self._offset
                return at - size if at >= size else at

    def inverse(self, index: int, /) -> int:
        """What comes to `index`."""
        at = index - self._offset
        if at < 0:
            at += self.size
        while True:
            at = self._decrypt(at)
            if at < self.size:
                return at

    def _encrypt(self, value: int) -> int:
        low, high = value & self._low_mask, value >> self._low_bits
        keys = self._keys
        for turn in range(0, _ROUNDS, 2):
            high ^= _mix(low, keys[turn]) & self._high_mask
            low ^= _mix(high, keys[turn + 1]) & self._low_mask
        return high << self._low_bits | low

    def _decrypt(self, value: int) -> int:
        low, high = value & self._low_mask, value >> self._low_bits
        keys = self._keys
        for turn in range(_ROUNDS - 2, -1, -2):
            low ^= _mix(high, keys[turn + 1]) & self._low_mask
            high ^= _mix(low, keys[turn]) & self._high_mask
        return high << self._low_bits | low


@lru_cache(maxsize=4096)
def get_permutation(size: int, key: int) -> Permutation:
    """The permutation of this size and key; the last few thousand are kept."""
    return Permutation(size, key=key)


def _mix(value: int, key: int) -> int:
    mixed = (value ^ key) * 0x9E3779B97F4A7C15 & _MASK
    mixed = (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9 & _MASK
    return mixed >> 32
