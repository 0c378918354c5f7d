"""`parse_bytes`: sizes as people write them, `10GB`."""

from __future__ import annotations

import re

from synthloader.checks import reject

__all__ = ["parse_bytes"]

_UNITS = {
    **{"b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12},
    **{"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
}


def parse_bytes(text: str, /) -> int:
    """The number of bytes that a text says.

    Raises:
        ValueError: It says none.

    Example:
        >>> parse_bytes("10GB"), parse_bytes("1.5 MiB"), parse_bytes("700 B")
        (10000000000, 1572864, 700)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", "0B" if text == "0" else text)
    if found is None or found[2].lower() not in _UNITS:
        reject("max_size", "be a number with a unit", text, "Write 10GB, 500MB, 2GiB.")
    return int(float(found[1]) * _UNITS[found[2].lower()])
