"""What `MixedDataset` adds to an item: microseconds, and the share of the bare item; real and cached generated items.

`python -m benchmarks.mixing_overhead [--turns 15]`. Items are 640x480 JPEG photographs with boxes (BCCD where
`../shared/data` has it, else drawn ones). Aim: at most 15 microseconds per real item, and at most 2 % of the loader's
throughput.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.harness import SHARED, compare, interleave, write_results
from synthloader import CocoDataset, ColorTransfer, EpochSampler, GeneratedDataset, LMDBCache, MixedDataset, precompute

NUM_ITEMS = 200


class Ready(Dataset[Any]):
    """Items that cost nothing, so that only what the mix adds is left."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def find_photographs(folder: Path) -> CocoDataset:
    """BCCD's training images, or drawn ones of the same size and number of boxes."""
    root = SHARED / "data" / "bccd_blood_cells"
    if root.exists():
        return CocoDataset(root / "JPEGImages", root / "coco" / "instances_train.json")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(NUM_ITEMS):
        picture = cv2.GaussianBlur(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8), (9, 9), 3)
        cv2.imwrite(str(folder / f"{number}.jpg"), picture)
        images.append({"id": number, "file_name": f"{number}.jpg", "height": 480, "width": 640})
        for part in range(13):
            box = [40 * part + 5, 30 * part + 5, 60, 50]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": box,
                    "area": 3000,
                    "iscrowd": 0,
                }
            )
    file = folder / "annotations.json"
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]})
    )
    return CocoDataset(folder, file)


def read_all(dataset: Any, indices: list[int], epoch_of: MixedDataset | None) -> int:
    """Fetch every index once."""
    if epoch_of is not None:
        epoch_of.set_epoch(epoch_of.epoch + 1)
    for index in indices:
        dataset[index]
    return len(indices)


def drain(dataset: Any, train: MixedDataset | None, indices: list[int], num_workers: int) -> Any:
    """A function that reads these indices once through a loader that keeps its workers."""
    sampler: Any = indices if train is None else EpochSampler(indices, train)
    loader: Any = DataLoader(
        dataset,
        batch_size=8,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=list,
        generator=torch.Generator(),
        persistent_workers=num_workers > 0,
    )
    return lambda: sum(len(batch) for batch in loader)


def main() -> None:
    """Time items one by one, then through loaders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        photographs = find_photographs(Path(folder))
        real: Any = Subset(photographs, list(range(min(NUM_ITEMS, len(photographs)))))
        generated = GeneratedDataset(real, ColorTransfer(), cache=LMDBCache(Path(folder) / "cache"), variants=1)
        precompute(generated, progress=False)
        train = MixedDataset(real, generated, ratio=1.0)
        count = len(real)
        ready = Ready([real[index] for index in range(count)])
        mix_of_ready = MixedDataset(ready, GeneratedDataset(ready, ColorTransfer()), ratio=1.0)
        first, second = list(range(count)), list(range(count, 2 * count))
        contenders = {
            "ready item, bare": lambda: read_all(ready, first * 20, None),
            "ready item, mixed": lambda: read_all(mix_of_ready, first * 20, mix_of_ready),
            "JPEG item, bare": lambda: read_all(real, first, None),
            "JPEG item, mixed": lambda: read_all(train, first, train),
            "generated item, cached": lambda: read_all(train, second, train),
        }
        timings = interleave(contenders, turns=turns)
        bare, base = timings["JPEG item, bare"], timings["ready item, bare"]
        added = (timings["ready item, mixed"].median - base.median) * 1e6
        for name, timing in timings.items():
            low, middle, high = compare(timing, bare)
            rows.append(
                {
                    "what": name,
                    "workers": "none",
                    "us per item": timing.median * 1e6,
                    "ratio to bare": middle,
                    "from": low,
                    "to": high,
                }
            )
        for num_workers in (0, 2):
            loaders = {
                "loader, bare": drain(real, None, first * 4, num_workers),
                "loader, mixed, real items": drain(train, train, first * 4, num_workers),
                "loader, mixed, half generated": drain(train, train, (first + second) * 2, num_workers),
            }
            timings = interleave(loaders, turns=turns)
            for name, timing in timings.items():
                low, middle, high = compare(timing, timings["loader, bare"])
                rows.append(
                    {
                        "what": name,
                        "workers": str(num_workers),
                        "us per item": timing.median * 1e6,
                        "ratio to bare": middle,
                        "from": low,
                        "to": high,
                    }
                )
        path = write_results("mixing_overhead", rows, added_us_per_real_item=added, items=count)
    print(f"\nadded to a real item: {added:.1f} us (aim: at most 15)\nwritten to {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
