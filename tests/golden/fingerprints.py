"""What caches are found by, as text: fingerprints of what the library brings, stamps and keys.

A line that changes makes every cache that was filled with it unreachable: say so in the CHANGELOG, and raise the version
in the fingerprint or `KEY_VERSION`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "fingerprints.txt"


def list_lines() -> Iterator[str]:
    """Yield a line for each fingerprint, hash and key."""
    from synthloader import Chain, ColorTransfer, CopyPaste, MinBox, OneOf
    from synthloader.adapters import DetectionAdapter
    from synthloader.keys import hash_content, make_key

    parts = [
        CopyPaste(),
        CopyPaste(num_range=(1, 2), classes=["cell", "disc"]),
        ColorTransfer(),
        Chain([CopyPaste(), ColorTransfer()]),
        OneOf({3: CopyPaste(), 1: ColorTransfer()}),
        MinBox(),
        MinBox(min_side=3, drop="samples"),
        DetectionAdapter(),
    ]
    yield from (f"fingerprint {part.fingerprint}" for part in parts)
    for content in (None, "grüße", [1, 2.5, True], {"b": b"x", "a": (1,)}, np.arange(3, dtype="<i4")):
        yield f"hash of {content!r}: {hash_content(content).hex()}"
    key = make_key(
        generator=CopyPaste().fingerprint,
        adapter=DetectionAdapter().fingerprint,
        source="train/grüße.jpg",
        stamp="00ff",
        pool="",
        variant=1,
        attempt=2,
        seed=3,
    )
    yield f"key {key.hex()}"


def describe_fingerprints() -> str:
    """All lines as one text."""
    return "\n".join(list_lines()) + "\n"


if __name__ == "__main__":
    print(describe_fingerprints(), end="")
