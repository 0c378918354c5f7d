"""What the golden caches hold, and how the one of a new format version is made: `python -m tests.golden.caches.content`.

It refuses to write over one that is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synthloader.cache import LMDBCache
from synthloader.cache.record import RECORD_VERSION
from synthloader.protocols import CacheEntry, Rejected, Verdict
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

FOLDER = Path(__file__).parent
FILTERS = "MinBox/1(min_side=3)", "MinBox/1(min_side=3) | Sharpness/1(minimum=0.2)"
CODECS = ("raw", "zstd", "jpeg", "jpeg-444")


def draw_image(height: int = 24, width: int = 32) -> np.ndarray:
    """(H, W, 3) uint8: three smooth slopes, which JPEG changes little."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 7 + columns, 255 - columns * 5, (rows + columns) * 3], axis=2).astype(np.uint8)


def list_entries() -> Iterator[tuple[bytes, CacheEntry]]:
    """Keys and entries, for every codec alike."""
    image, masks = draw_image(), np.zeros((3, 24, 32), np.bool_)
    masks[0, 2:9, 3:11] = True
    masks[0, 4, 5] = False  # A hole.
    masks[1, 20:24, 0:2] = masks[1, 20:24, 30:32] = True  # Two parts, at the border.
    instances = Instances(
        class_ids=np.array([1, 7, 1]),
        boxes=np.array([[3, 2, 11, 9], [0, 20, 32, 24], [5.5, 5.25, 5.5, 6]], np.float32),
        masks=masks,
        keypoints=np.arange(18, dtype=np.float32).reshape(3, 2, 3),
        crowd=np.array([False, True, False]),
        attributes={"id": np.array([11, 12, 13]), "occlusion": np.array(["none", "half", "ganz verdeckt"])},
    )
    origin = Origin(
        source="train/grüße.jpg",
        fingerprint="CopyPaste/1(num_range=[1, 3])",
        variant=2,
        attempt=1,
        seed=-5,
        drawn=("a.jpg", "b.jpg"),
        prompt="fog over a street",
        model="maker/model",
        weights="00ff",
        license="CC0",
        class_names={1: "disc", 7: "Münze"},
        edited=masks[0],
    )
    fields = {"image_id": 7, "big": 1 << 70, "nan": float("inf"), "raw": b"\0\1", "pair": (1, [2, {"a": None}]), 3: "x"}
    depth = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    yield (
        b"instances",
        Sample(image, instances, origin, {"weather": "fog", "temperature": -3.5}, {"depth": depth}, fields),
    )
    semantic = np.zeros((24, 32), np.int32)
    semantic[3:9], semantic[20:] = 300, 255
    yield b"semantic", Sample(image, SemanticMask(semantic, ignore_index=255))
    yield b"label", Sample(draw_image(1, 5), ClassLabel(4))
    yield b"gray", Sample(np.repeat(draw_image()[:, :, :1], 3, axis=2))
    yield b"empty", Sample(image, Instances(class_ids=np.zeros(0, np.int64), boxes=np.zeros((0, 4), np.float32)))
    yield b"rejected", Rejected("no donor", Origin(source="train/2.jpg", fingerprint="CopyPaste/1()", variant=1))


def list_verdicts(judged: Sample) -> Iterator[tuple[str, Verdict]]:
    """Fingerprints of filters and verdicts on the entry `instances`; the first changes the sample."""
    fewer = judged.replace(target=judged.target.select(np.array([0, 1])))  # type: ignore[union-attr]
    yield FILTERS[0], Verdict(True, 3.5, "", fewer)
    yield FILTERS[1], Verdict(False, 0.125, "blurred")


def write(folder: Path) -> None:
    """Make the golden cache of this version: a cache for each codec, the last with a shard."""
    for codec in CODECS:
        with LMDBCache(folder / codec, codec=codec) as cache:
            entries = list(list_entries())
            cache.put_many(entries if codec != "jpeg-444" else entries[:3])
            judged = cache.get(b"instances")
            if not isinstance(judged, Sample):
                raise TypeError("the first entry is a sample")
            cache.put_verdicts((b"instances", filters, verdict, judged) for filters, verdict in list_verdicts(judged))
            if codec == "jpeg-444":
                with cache.open_shard("part-1-of-1") as shard:
                    shard.put_many(entries[3:])
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "data.mdb":
            file.unlink()


if __name__ == "__main__":
    target = FOLDER / f"v{RECORD_VERSION}"
    if target.exists():
        raise SystemExit(f"{target.name} is there: a released format is never written again")
    write(target)
